"""Rules for camera profiles that are well formed but make no sense, each with what to do."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

from skylake.cameras.chips import is_pattern
from skylake.cameras.header_values import MAX_NAME
from skylake.core.batch import is_plain_name
from skylake.core.camera import Camera, Gate
from skylake.core.reasons import GATE_REASONS

#: Whether a value is wrong, the key that holds it, and what to do about it.
Rule = tuple[bool, str, str]

#: Longest name of a band.
_MAX_BAND = 16
#: Smallest tile of the background; one of fewer pixels would follow the stars.
_MIN_MESH_PX = 4
#: Numbers that must be above zero if they are given.
_POSITIVE = {
    "header.exposure": "scale",
    "header.gain": "scale",
    "header.read_noise": "scale",
    "header.saturation": "scale",
    "header.temperature": "scale",
    "detector": "width_px height_px gain_e_per_adu saturation_adu linearity_adu reference_channels",
    "optics": "pixel_scale_arcsec plate_scale_arcsec_mm diameter_m",
    "extraction": "background_filter peak_sigma filter_fwhm_px threshold_sigma min_area_px deblend_levels "
    "clean_parameter max_pixels",
    "apertures": "kron_factor kron_minimum total_radius_px",
    "reduction": "validity_days",
    "reduction.bad_pixels": "hot_sigma dead_response least_response unstable_ratio",
    "reduction.cosmic_rays": "sigma neighbour_fraction object_limit psf_fwhm_px iterations",
    "reduction.sky": "within_minutes source_sigma",
    "calibration": "match_radius_arcsec min_stars max_mag_err colour_term_prior_err",
    "astrometry": "radius_deg pointing_arcsec seconds",
}
#: A number beyond these sizes makes no sense in any unit.
_LEAST, _LARGEST = 1e-15, 1e15
#: Least and largest value of keys with limits of their own.
_LIMITS = {
    "optics.pixel_scale_arcsec": (1e-3, 36_000.0),
    "optics.plate_scale_arcsec_mm": (1e-2, 1e6),
    "optics.diameter_m": (1e-4, 1e3),
    "detector.width_px": (1, 1_000_000),
    "detector.height_px": (1, 1_000_000),
    "detector.gain_e_per_adu": (1e-6, 1e6),
    "extraction.background_mesh_px": (_MIN_MESH_PX, 100_000),
    "extraction.threshold_sigma": (1e-3, 1e6),
    "apertures.total_radius_px": (1e-3, 10_000.0),
    "calibration.match_radius_arcsec": (1e-3, 36_000.0),
    "astrometry.seconds": (1e-3, 1e6),
}
#: Numbers that may be zero.
_NOT_NEGATIVE = {
    "header": "time_tolerance_s",
    "detector": "read_noise_e reference_border_px",
    "extraction": "deblend_contrast edge_margin_px",
    "reduction": "temperature_tolerance_c flat_temperature_tolerance_c exposure_tolerance",
    "reduction.sky": "grow_px",
    "clear_sky": "stars",
    "injection": "stars",
    "calibration": "max_crowding catalog_mag_err",
    "astrometry": "refine_above_px rotation_error_deg interpolated_targets",
}
#: Pairs of numbers of which the second is the larger one.
_RANGES = {"clear_sky": "mag_range", "calibration": "colour_range mag_range"}
#: Such pairs that count from zero on.
_RANGES_FROM_ZERO = {"detector": "trim_x trim_y overscan_x overscan_y", "apertures": "sky_annulus_px"}


def rules_of_profile(camera: Camera) -> Iterator[Rule]:
    """Return all rules that the values of a camera have to follow, those of single numbers first."""
    return itertools.chain(
        _rules_of_finite(camera),
        _rules_of_numbers(camera),
        _rules_of_sizes(camera),
        _rules_of_ranges(camera),
        _rules_of_apertures(camera),
        _rules_of_names(camera),
        _rules_of_detector_and_site(camera),
        _rules_of_gates(camera),
        _rules_of_reduction(camera),
        _rules_of_areas(camera),
    )


def _rules_of_finite(camera: Camera) -> Iterator[Rule]:
    for key, value in _fractions(camera, ""):
        yield not math.isfinite(value), key, "give a finite number"


def _rules_of_sizes(camera: Camera) -> Iterator[Rule]:
    for key, value in _fractions(camera, ""):
        absurd = value != 0.0 and not _LEAST <= abs(value) <= _LARGEST
        yield (
            absurd,
            key,
            f"{value:g} is out of range; give 0, or a number from {_LEAST:g} to {_LARGEST:g} in size",
        )


def _fractions(value: Any, key: str) -> Iterator[tuple[str, float]]:
    """Return each number with a fraction below a key, with its own."""
    if isinstance(value, float):
        yield key, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _fractions(getattr(value, field.name), f"{key}.{field.name}".lstrip("."))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _fractions(inner, f"{key}.{name}")
    elif isinstance(value, tuple):
        for inner in value:
            yield from _fractions(inner, key)


def _values(camera: Camera, keys: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Return the keys of a table, each with the camera's value where it has one."""
    for section, names in keys.items():
        inside = reduce(getattr, section.split("."), camera)
        for name in names.split():
            value = getattr(inside, name)
            if value is not None:
                yield f"{section}.{name}", value


def _rules_of_numbers(camera: Camera) -> Iterator[Rule]:
    for key, value in _values(camera, _POSITIVE):
        yield value <= 0, key, "give a number above 0"
    for key, value in _values(camera, _NOT_NEGATIVE):
        yield value < 0, key, "give 0 or a number above it"
    mesh = camera.extraction.background_mesh_px
    yield mesh < _MIN_MESH_PX, "extraction.background_mesh_px", f"give {_MIN_MESH_PX} pixels or more"
    for key, (least, largest) in _LIMITS.items():
        section, name = key.split(".")
        value = getattr(getattr(camera, section), name)
        off = value is not None and not least <= value <= largest
        yield off, key, f"{value} is out of range; give a number from {least:g} to {largest:g}"


def _rules_of_ranges(camera: Camera) -> Iterator[Rule]:
    for key, (first, last) in _values(camera, _RANGES | _RANGES_FROM_ZERO):
        yield first >= last, key, "give the smaller number first, then the larger one"
    for key, (first, _) in _values(camera, _RANGES_FROM_ZERO):
        yield first < 0, key, "it counts from 0 on"
    for name in ("exposure", "gain", "read_noise", "saturation", "temperature"):
        cards = getattr(camera.header, name)
        crossed = cards.minimum is not None and cards.maximum is not None and cards.minimum > cards.maximum
        yield crossed, f"header.{name}.minimum", "it is above the maximum; exchange them"


def _rules_of_apertures(camera: Camera) -> Iterator[Rule]:
    radii, flux = camera.apertures.radii_px, camera.apertures.flux
    yield not radii, "apertures.radii_px", "give one radius or more"
    yield min(radii, default=1.0) <= 0, "apertures.radii_px", "radii are positive"
    yield list(radii) != sorted(set(radii)), "apertures.radii_px", "radii grow"
    too_small = max(radii, default=0.0) >= camera.apertures.total_radius_px
    yield too_small, "apertures.total_radius_px", "it is larger than every radius of radii_px"
    annulus = camera.apertures.sky_annulus_px
    inside = annulus is not None and annulus[1] <= max(radii, default=0.0)
    yield (
        inside,
        "apertures.sky_annulus_px",
        "it lies inside the largest radius of radii_px; give larger radii",
    )
    known = (*camera.apertures.circles, "kron")
    yield flux not in known, "apertures.flux", f"{flux!r} is not one of {', '.join(known)}"


def _rules_of_names(camera: Camera) -> Iterator[Rule]:
    yield len(camera.name) > MAX_NAME, "name", f"at most {MAX_NAME} characters"
    yield not is_plain_name(camera.name), "name", "use letters, digits, '.', '_' and '-'"
    default = camera.default_filter
    unknown = default is not None and camera.filter_band(default) is None
    yield unknown, "default_filter", f"[filters.{default}] is missing"
    for name, known in camera.filters.items():
        yield (
            len(name) > MAX_NAME or len(known.band) > _MAX_BAND,
            f"filters.{name}",
            "shorten its name or band",
        )
    for (name, band), (other, beside) in itertools.combinations(camera.filters.items(), 2):
        both = sorted({*band.aliases} & {*beside.aliases} - camera.filters.keys())
        what = f"filters.{name} has the alias {both[0] if both else ''!r}, too; leave it to one of them"
        yield bool(both), f"filters.{other}.aliases", what


def _rules_of_detector_and_site(camera: Camera) -> Iterator[Rule]:
    site, linear, full = camera.site, camera.detector.linearity_adu, camera.detector.saturation_adu
    above = linear is not None and full is not None and linear > full
    yield above, "detector.linearity_adu", "it is above saturation_adu; exchange them, or leave it out"
    yield not -90.0 <= (site.latitude_deg or 0.0) <= 90.0, "site.latitude_deg", "give degrees from -90 to 90"
    off = not -180.0 <= (site.longitude_deg or 0.0) <= 360.0
    yield off, "site.longitude_deg", "give degrees from -180 to 360, east positive"
    yield not -500.0 <= site.height_m <= 9000.0, "site.height_m", "give metres above the sea"
    pressure, temperature = site.pressure_hpa, site.temperature_c
    yield (
        not (pressure is None or 200.0 <= pressure <= 1100.0),
        "site.pressure_hpa",
        "give hPa from 200 to 1100",
    )
    off = not (temperature is None or -90.0 <= temperature <= 60.0)
    yield off, "site.temperature_c", "give degrees Celsius from -90 to 60"
    plate, place = camera.optics.plate_scale_arcsec_mm, camera.place
    lengths = place.x_mm is not None or place.y_mm is not None
    yield lengths and plate is None, "optics.plate_scale_arcsec_mm", "place.x_mm and place.y_mm need it"
    yield (
        (place.card is None) != (place.value is None),
        "place.value",
        "place.card and place.value go together",
    )
    yield not is_pattern(place.file), "place.file", "it is no regular expression"


def _rules_of_gates(camera: Camera) -> Iterator[Rule]:
    for metric, gate in camera.gates.items():
        near = difflib.get_close_matches(metric, GATE_REASONS, 1)
        hint = f"did you mean gates.{near[0]}? " if near else ""
        what = f"there is no such gate; {hint}gates exist for {', '.join(GATE_REASONS)}"
        yield metric not in GATE_REASONS, f"gates.{metric}", what
        yield gate == Gate(action=gate.action), f"gates.{metric}", "give min or max"
        crossed = gate.min is not None and gate.max is not None and gate.min > gate.max
        yield (
            crossed,
            f"gates.{metric}",
            "nothing passes, since min is above max; exchange them or leave one out",
        )


#: Steps that must come before another one if both are used.
_BEFORE = {
    "overscan": ("bias", "dark", "linearity", "flat", "bayer"),
    "unlit": ("reference", "bias", "dark", "linearity", "flat", "bayer"),
    "reference": ("bias", "dark", "linearity", "flat", "bayer"),
    "bias": ("dark", "linearity", "flat", "bayer", "bad_pixels", "cosmic_rays", "sky"),
    "dark": ("linearity", "flat", "bayer", "bad_pixels", "cosmic_rays", "sky"),
    "linearity": ("flat", "bayer", "bad_pixels", "cosmic_rays", "sky"),
    "flat": ("bayer", "bad_pixels", "cosmic_rays", "sky"),
    "bad_pixels": ("bayer", "cosmic_rays", "sky"),
}


def _rules_of_reduction(camera: Camera) -> Iterator[Rule]:
    key, steps, detector = "reduction.steps", camera.reduction.steps, camera.detector
    yield len(set(steps)) < len(steps), key, "name each step once"
    for first, others in _BEFORE.items():
        for later in others:
            wrong = first in steps and later in steps and steps.index(first) > steps.index(later)
            yield wrong, key, f"{first} comes before {later}"
    yield "bayer" in steps and not detector.bayer_pattern, "detector.bayer_pattern", "the step bayer needs it"
    measured = "linearity" in camera.reduction.measured
    is_missing = "linearity" in steps and not detector.linearity and not measured
    yield (
        is_missing,
        "detector.linearity",
        "the step linearity needs it, or name linearity in reduction.measured",
    )
    unused = measured and "linearity" not in steps
    yield unused, "reduction.measured", "linearity is for the step linearity; add it to reduction.steps"
    unlit, two = "unlit" in steps, detector.overscan_x or detector.overscan_y
    yield unlit and not detector.unlit, "detector.unlit", "the step unlit needs areas"
    empty = any(x1 <= x0 or y1 <= y0 for x0, x1, y0, y1 in detector.unlit)
    yield empty, "detector.unlit", "an area is x from, x to, y from, y to, counted from 0"
    both = unlit and "overscan" in steps and two is not None
    yield both, key, "overscan and unlit areas both give the zero level; name one of these steps"
    no_border = "reference" in steps and detector.reference_border_px == 0
    yield no_border, "detector.reference_border_px", "the step reference needs a border of reference pixels"
    for kind in camera.reduction.use:
        # Without the step the key would have no effect.
        yield kind not in steps, f"reduction.use.{kind}", f"reduction.steps does not name the step {kind}"
        takes = kind in ("bias", "dark", "flat", "bad_pixels")
        yield not takes, f"reduction.use.{kind}", "only bias, dark, flat and bad_pixels take a master"
    sky = camera.reduction.sky
    relative = sky.file is not None and not Path(sky.file).is_absolute()
    yield relative, "reduction.sky.file", "give the absolute path, which all workers find"
    yield not 1 <= sky.min_frames <= sky.n_frames, "reduction.sky.min_frames", "from 1 to sky.n_frames"


def _rules_of_areas(camera: Camera) -> Iterator[Rule]:
    """Return the rules for areas of the detector."""
    detector, steps = camera.detector, camera.reduction.steps
    spans = {key: getattr(detector, key) for key in ("trim_x", "trim_y", "overscan_x", "overscan_y")}
    areas = [(key, span, key[-1]) for key, span in spans.items() if span is not None]
    for x0, x1, y0, y1 in detector.unlit:
        areas += [("unlit", (x0, x1), "x"), ("unlit", (y0, y1), "y")]
    for key, span, axis in areas:
        size = detector.width_px if axis == "x" else detector.height_px
        what = f"it ends beyond the {size} pixels of the detector; fix it, or detector.width_px and height_px"
        yield size is not None and span[1] > size, f"detector.{key}", what
    smallest = min(detector.width_px or math.inf, detector.height_px or math.inf)
    nothing = 2 * detector.reference_border_px >= smallest
    yield (
        nothing,
        "detector.reference_border_px",
        "it leaves nothing of the detector; fix it, or its size",
    )
    meets = {axis: _meet(spans[f"overscan_{axis}"], spans[f"trim_{axis}"]) for axis in "xy"}
    for axis, meet in meets.items():
        wrong = meet is True and False not in meets.values() and {"overscan", "trim"} <= set(steps)
        yield (
            wrong,
            f"detector.overscan_{axis}",
            f"trim_{axis} leaves a part of it in the image; fix one of them",
        )


def _meet(first: tuple[int, int] | None, second: tuple[int, int] | None) -> bool | None:
    """Return whether two ranges have pixels in common; None where one of them is not known."""
    if first is None or second is None:
        return None
    return first[0] < second[1] and second[0] < first[1]

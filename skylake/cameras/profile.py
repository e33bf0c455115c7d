"""Read, check and resolve camera profiles."""

from __future__ import annotations

import difflib
import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from skylake.cameras.chips import chip_blocks, is_pattern, of_chip
from skylake.cameras.reading import MAX_NAME
from skylake.cameras.skycontent import sky_checksums
from skylake.core.batch import is_plain_name
from skylake.core.camera import Camera, Gate
from skylake.core.ids import config_sha256
from skylake.core.reasons import GATE_REASONS
from skylake.declared import build
from skylake.errors import ConfigurationError

_FOLDER = Path(__file__).parent
#: Longest name of a band.
_MAX_BAND = 16
_PERIOD_KEYS = {"from", "until", "comment"}

#: Whether a value is wrong, the key that holds it, and what to do about it.
_Rule = tuple[bool, str, str]


@dataclass(frozen=True, slots=True)
class Period:
    """A dated block: the camera as it was from one instant to another (MJD, UTC)."""

    start: float
    end: float
    camera: Camera


@dataclass(frozen=True, slots=True)
class Profile:
    """A camera through its life.

    Attributes
    ----------
    base : Camera
        The camera outside every dated block.
    periods : tuple of Period
        Dated blocks in order; where two overlap the later one in the file wins.
    source : str
        Where the profile was read from.
    """

    base: Camera
    periods: tuple[Period, ...]
    source: str

    @property
    def name(self) -> str:
        """Name of the camera."""
        return self.base.name

    def at(self, mjd: float | None) -> Camera:
        """Return the camera as it was at an instant (MJD, UTC); None returns the base."""
        camera = self.base
        if mjd is not None:
            for period in self.periods:
                if period.start <= mjd < period.end:
                    camera = period.camera
        return camera

    @property
    def configuration(self) -> dict[str, Any]:
        """The profile with all its periods; cameras by their SHA-256, skies of files by that of the file."""
        periods = [(period.start, period.end, period.camera.sha256) for period in self.periods]
        skies = sky_checksums([self.base, *(period.camera for period in self.periods)])
        return {"base": self.base.sha256, "periods": periods} | ({"sky_files": skies} if skies else {})

    @property
    def configurations(self) -> list[dict[str, Any]]:
        """The profile, and the cameras that it names."""
        cameras = [self.base, *(period.camera for period in self.periods)]
        return [self.configuration, *(camera.configuration for camera in cameras)]

    @property
    def sha256(self) -> str:
        """SHA-256 of :attr:`configuration`."""
        return config_sha256(self.configuration)


def names() -> list[str]:
    """Return the names of the profiles that come with skylake."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load(name_or_path: str | Path) -> Profile:
    """Load a profile by the name of a shipped one or the path of a TOML file.

    One chip of a mosaic is named after a colon: ``prime.toml:C1``.

    Raises
    ------
    ConfigurationError
        If there is no such profile, it is one of several chips and none is named, or it holds a key or value that
        means nothing; the sentence names the file and the key.
    """
    found = load_chips(name_or_path)
    if len(found) > 1:
        raise ConfigurationError(
            f"{name_or_path}: this is a camera of {len(found)} chips, of which this command takes one; name it as "
            f"{name_or_path}:{found[0].base.place.chip}"
        )
    return found[0]


def load_chips(name_or_path: str | Path) -> tuple[Profile, ...]:
    """Load the profiles of all chips of a camera, in their order; of most cameras there is one.

    Raises
    ------
    ConfigurationError
        As :func:`load`.
    """
    name, wanted = str(name_or_path), ""
    if not Path(name).is_file():
        whole, _, chip = name.rpartition(":")
        name, wanted = (whole, chip) if whole else (name, "")
    path = _find(name)
    data = _resolve_like(path, ())
    chips = chip_blocks(data, str(path))
    if not chips and wanted:
        raise ConfigurationError(f"{path}: it has no [[chip]], so there is no chip {wanted!r}")
    if wanted and wanted not in chips:
        raise ConfigurationError(f"{path}: there is no chip {wanted!r}; there are {', '.join(chips)}")
    return tuple(_built(path, data, chip) for chip in chips or [""] if wanted in ("", chip))


def _built(path: Path, data: dict[str, Any], chip: str) -> Profile:
    """Return the profile of a camera, or of one of its chips."""
    base = _build(of_chip(data, {}, chip, _merge), path)
    periods = []
    for number, block in enumerate(data.get("period", []), start=1):
        where = f"[[period]] number {number}"
        start, end = _bounds(block, path, where)
        changes = {key: value for key, value in block.items() if key not in _PERIOD_KEYS}
        periods.append(Period(start, end, _build(of_chip(data, changes, chip, _merge), path, where)))
    return Profile(base, tuple(periods), f"{path}:{chip}" if chip else str(path))


def _find(name: str) -> Path:
    shipped = _FOLDER / f"{name}.toml"
    if is_plain_name(name) and shipped.is_file():
        return shipped
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix == ".toml" or "/" in name:
        raise ConfigurationError(f"{name}: there is no such camera profile file")
    near = difflib.get_close_matches(name, names(), 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known names are {', '.join(names())}"
    raise ConfigurationError(
        f"there is no camera profile {name!r}; {hint} (or give the path of a .toml file)"
    )


def _resolve_like(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise ConfigurationError(f"{path}: the key 'like' leads back to the same profile; remove it")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: the profile cannot be read: {error}") from error
    parent = data.pop("like", None)
    if parent is None:
        return data
    beside = path.parent / str(parent)
    try:
        found = beside if beside.suffix == ".toml" and beside.is_file() else _find(str(parent))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: like: {error}") from error
    return _merge(_resolve_like(found, (*seen, path)), data)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _bounds(block: Mapping[str, Any], path: Path, where: str) -> tuple[float, float]:
    if "from" not in block and "until" not in block:
        raise ConfigurationError(f"{path}: {where} has neither 'from' nor 'until'; give at least one date")
    start = _mjd(block.get("from"), -1e9, path, where)
    end = _mjd(block.get("until"), 1e9, path, where)
    if end <= start:
        raise ConfigurationError(f"{path}: {where} ends before it begins; mend 'from' and 'until'")
    return start, end


def _mjd(value: Any, default: float, path: Path, where: str) -> float:
    if value is None:
        return default
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, datetime):
        seconds = (value.replace(tzinfo=None) - datetime(1858, 11, 17)).total_seconds()
        offset = value.utcoffset()
        return (seconds - (offset.total_seconds() if offset else 0.0)) / 86400.0
    if isinstance(value, date):
        return float((value - date(1858, 11, 17)).days)
    raise ConfigurationError(f"{path}: {where}: 'from' and 'until' are dates such as 2013-02-01")


def _build(data: Mapping[str, Any], path: Path, where: str = "") -> Camera:
    place = f"{path}: {where}" if where else str(path)
    camera = build(Camera, data, place)
    _check(camera, place)
    return camera


def _check(camera: Camera, place: str) -> None:
    """Refuse values that are well formed and make no sense."""
    rules = (
        _rules_of_apertures,
        _rules_of_names,
        _rules_of_detector_and_site,
        _rules_of_gates,
        _rules_of_reduction,
    )
    for wrong, key, mend in itertools.chain.from_iterable(rule(camera) for rule in rules):
        if wrong:
            raise ConfigurationError(f"{place}: {key}: {mend}")


def _rules_of_apertures(camera: Camera) -> Iterator[_Rule]:
    radii, flux = camera.apertures.radii_px, camera.apertures.flux
    yield not 1 <= len(radii) <= 3, "apertures.radii_px", "give one, two or three radii"
    yield min(radii, default=1.0) <= 0, "apertures.radii_px", "radii are positive"
    yield list(radii) != sorted(radii), "apertures.radii_px", "radii grow"
    too_small = max(radii, default=0.0) >= camera.apertures.total_radius_px
    yield too_small, "apertures.total_radius_px", "it is larger than every radius of radii_px"
    missing = flux.startswith("aper") and int(flux[-1]) > len(radii)
    yield missing, "apertures.flux", f"there is no radius for {flux}"


def _rules_of_names(camera: Camera) -> Iterator[_Rule]:
    yield not is_plain_name(camera.name), "name", "use letters, digits, '.', '_' and '-'"
    yield len(camera.name) > MAX_NAME, "name", f"at most {MAX_NAME} characters"
    default = camera.default_filter
    unknown = default is not None and camera.filter_band(default) is None
    yield unknown, "default_filter", f"[filters.{default}] is missing"
    for name, known in camera.filters.items():
        yield (
            len(name) > MAX_NAME or len(known.band) > _MAX_BAND,
            f"filters.{name}",
            "shorten its name or band",
        )


def _rules_of_detector_and_site(camera: Camera) -> Iterator[_Rule]:
    yield camera.detector.gain_e_per_adu <= 0, "detector.gain_e_per_adu", "the gain is positive"
    scale, site = camera.optics.pixel_scale_arcsec, camera.site
    yield scale is not None and scale <= 0.0, "optics.pixel_scale_arcsec", "give seconds of arc per pixel"
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
    yield (
        plate is not None and plate <= 0.0,
        "optics.plate_scale_arcsec_mm",
        "give seconds of arc per millimetre",
    )
    yield lengths and plate is None, "optics.plate_scale_arcsec_mm", "place.x_mm and place.y_mm need it"
    yield (
        (place.card is None) != (place.value is None),
        "place.value",
        "place.card and place.value go together",
    )
    yield not is_pattern(place.file), "place.file", "it is no regular expression"


def _rules_of_gates(camera: Camera) -> Iterator[_Rule]:
    for metric, gate in camera.gates.items():
        near = difflib.get_close_matches(metric, GATE_REASONS, 1)
        hint = f"did you mean gates.{near[0]}? " if near else ""
        what = f"there is no such gate; {hint}gates exist for {', '.join(GATE_REASONS)}"
        yield metric not in GATE_REASONS, f"gates.{metric}", what
        yield gate == Gate(action=gate.action), f"gates.{metric}", "give min or max"


#: Steps that come before another one, where both are there.
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


def _rules_of_reduction(camera: Camera) -> Iterator[_Rule]:
    key, steps, detector = "reduction.steps", camera.reduction.steps, camera.detector
    yield len(set(steps)) < len(steps), key, "name each step once"
    for first, others in _BEFORE.items():
        for later in others:
            wrong = first in steps and later in steps and steps.index(first) > steps.index(later)
            yield wrong, key, f"{first} comes before {later}"
    yield "bayer" in steps and not detector.bayer_pattern, "detector.bayer_pattern", "the step bayer needs it"
    yield "linearity" in steps and not detector.linearity, "detector.linearity", "the step linearity needs it"
    unlit, two = "unlit" in steps, detector.overscan_x or detector.overscan_y
    yield unlit and not detector.unlit, "detector.unlit", "the step unlit needs areas"
    empty = any(x1 <= x0 or y1 <= y0 for x0, x1, y0, y1 in detector.unlit)
    yield empty, "detector.unlit", "an area is x from, x to, y from, y to, counted from 0"
    both = unlit and "overscan" in steps and two is not None
    yield both, key, "overscan and unlit areas both tell the zero level; name one of these steps"
    no_border = "reference" in steps and detector.reference_border_px < 1
    yield no_border, "detector.reference_border_px", "the step reference needs a border of reference pixels"
    yield detector.reference_channels < 1, "detector.reference_channels", "there is at least one"
    for kind in camera.reduction.use:
        # Without the step nothing would be done with it.
        yield kind not in steps, f"reduction.use.{kind}", f"reduction.steps does not name the step {kind}"
        takes = kind in ("bias", "dark", "flat", "bad_pixels")
        yield not takes, f"reduction.use.{kind}", "only bias, dark, flat and bad_pixels take a master"
    sky = camera.reduction.sky
    relative = sky.file is not None and not Path(sky.file).is_absolute()
    yield relative, "reduction.sky.file", "give the absolute path, which all workers find"
    yield not 1 <= sky.min_frames <= sky.n_frames, "reduction.sky.min_frames", "from 1 to sky.n_frames"

"""The rows of ``frames`` of a night that is made without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from archive.exposures import aperture_shares
from archive.night_plan import Fate, NightPlan
from archive.scenario import ArchiveScenario
from archive.season import season
from archive.verdict_columns import verdict_columns
from skylake.core.camera import Gate
from skylake.core.ephemeris import airmass, alt_az
from skylake.core.flags import FrameFlag, SourceFlag
from skylake.core.reasons import GATE_REASONS, Reason, Status
from skylake.core.sphere import ra_dec, separation_deg
from skylake.revision import VERSION
from skylake.simulate.optics import SimulatedPointing
from skylake.simulate.random_streams import generator

_Array = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]

_SECONDS_PER_DAY = 86400.0
#: Bright catalog stars that a WCS is checked against, and the part of them that is found if it is right.
_CHECK_STARS, _CHECK_FOUND = 50, 0.95
#: Points on each side of the outline of an image.
_EDGE_POINTS = 4
#: Stars behind the aperture corrections, at most, and the scatter of one of them.
_MOST_APCOR_STARS, _APCOR_SCATTER = 60, 0.015
_UNIFORM_KURTOSIS, _TRAILED_KURTOSIS = -1.2, 0.3

#: Status, reason and sentence of frames that are not good.
_VERDICTS: dict[int, tuple[Status, Reason, str]] = {
    Fate.TRAILED: (
        Status.REJECTED, Reason.TRAILED, "mean_ellipticity is above its limit: the stars are trailed one way"
    ),
    Fate.WRONG_WCS: (
        Status.REJECTED, Reason.BAD_WCS,
        "the brightest catalog stars are not where the WCS puts them; solve the frame anew",
    ),
    Fate.NO_WCS: (
        Status.REJECTED, Reason.NO_WCS,
        "the header has no celestial WCS (CTYPE1 and CTYPE2); solve the frame first",
    ),
    Fate.FAILED: (
        Status.FAILED, Reason.NO_VALID_PIXELS, "no pixel holds a valid number; the exposure was not read out"
    ),
}  # fmt: skip
#: Columns that need pixels, and those that need a WCS.
_OF_PIXELS = (
    "sky_adu",
    "sky_rms_adu",
    "n_",
    "threshold_",
    "fwhm_",
    "elongation",
    "mean_ellipticity",
    "ellipticity_",
    "sky_saturation",
    "streak_",
    "flux_limit",
    "theta_",
    "flux_max",
    "aper",
    "apcor",
)
_OF_WCS = ("ra_deg", "dec_deg", "pixel_scale", "rotation", "mirrored", "s_region", "wcs_source", "altitude", "azimuth",
           "airmass", "moon_separation")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Counts:
    """Detections of each frame: all, clean and saturated ones, and the brightest clean pixel; NaN for none."""

    detected: npt.NDArray[np.int64]
    clean: npt.NDArray[np.int64]
    saturated: npt.NDArray[np.int64]
    brightest_adu: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FrameRows:
    """The frames of a night; arrays of shape (frames,).

    Attributes
    ----------
    ids : ndarray of int64
    ok, placed : ndarray of bool
        Whether the frame is ok, and whether its detections have places on the sky.
    source_flags : ndarray of int32
        Bits that all its detections have.
    apcor, apcor_err : dict of str to ndarray
        Aperture corrections by flux; NaN for apertures that the camera does not have.
    columns : dict
        The columns of ``frames``.
    """

    ids: npt.NDArray[np.int64]
    ok: _Mask
    placed: _Mask
    source_flags: npt.NDArray[np.int32]
    apcor: dict[str, _Array]
    apcor_err: dict[str, _Array]
    columns: dict[str, Any]


def file_stem(camera: str, night: int, number: int) -> str:
    """Return the name of a frame's file without suffix."""
    return f"{camera}_{night:08d}_{number:04d}"


def frame_rows(
    scenario: ArchiveScenario, plan: NightPlan, ids: npt.NDArray[np.int64], counts: Counts
) -> FrameRows:
    """Return the rows of the frames of a night, in the order of time."""
    random = generator(scenario.seed, "frames", plan.night)
    columns = _header_columns(scenario, plan) | {"frame_id": ids}
    columns |= _pointing_columns(scenario, plan)
    apcor, apcor_err = _corrections(scenario, plan, counts, random)
    columns |= _metric_columns(scenario, plan, counts, random)
    for name in apcor:
        columns[f"apcor_{name}"], columns[f"apcor_{name}_err"] = apcor[name], apcor_err[name]
    columns |= verdict_columns(plan, counts.detected, counts.clean, columns, scenario.exposure_s, random)
    status = _verdicts(plan, columns)
    _leave_out(plan, columns)
    ok = np.array([one == Status.OK.value for one in status])
    rejected = ~ok & (plan.fate <= Fate.TRAILED)
    flags = np.where(rejected, np.int32(SourceFlag.FRAME_REJECTED), np.int32(0))
    return FrameRows(ids, ok, plan.fate <= Fate.TRAILED, flags, apcor, apcor_err, columns)


def _header_columns(scenario: ArchiveScenario, plan: NightPlan) -> dict[str, Any]:
    """Return what the header of each frame tells."""
    place, count, camera = season(scenario).observatory, len(plan), plan.camera
    name, known = place.profile.name, camera.site.known
    stems = [file_stem(name, plan.night, number) for number in plan.number.tolist()]
    height, width = place.shape
    level = camera.detector.saturation_adu
    cards = camera.header.time[0].cards if camera.header.time else ("DATE-OBS",)
    fields = season(scenario).fields
    same: dict[str, Any] = {
        "camera": name, "night": plan.night, "extension": 0, "time_source": " + ".join(cards),
        "night_source": "utc" if camera.site.longitude_deg is None else "site", "exposure_s": scenario.exposure_s,
        "filter": place.filter_name, "band": place.filter_band.band, "width_px": width, "height_px": height,
        "gain_e_per_adu": camera.detector.gain_e_per_adu, "read_noise_e": camera.detector.read_noise_e,
        "saturation_adu": scenario.detector.saturation_adu if level is None else level,
        "flags": int(FrameFlag(0) if known else FrameFlag.SITE_UNKNOWN),
        "file_bytes": 2880 * -(-(2 * height * width + 5760) // 2880),
        "config_sha256": camera.sha256, "software_version": VERSION,
    }  # fmt: skip
    # A file is written some seconds after its exposure; MJD 40587 is 1970-01-01.
    end = plan.mjd_start + scenario.exposure_s / _SECONDS_PER_DAY
    written = np.rint((end - 40587.0) * _SECONDS_PER_DAY + 4.0).astype(np.int64) * 1_000_000_000
    columns: dict[str, Any] = {key: [value] * count for key, value in same.items()}
    return columns | {
        "file": [f"simulated/{plan.night:08d}/{stem}.fits" for stem in stems],
        "file_modified_ns": written,
        "mjd_start": plan.mjd_start,
        "mjd_mid": plan.mjd_mid,
        "mjd_end": end,
        "object": [fields[field].name for field in plan.field.tolist()],
    }


def _pointing_columns(scenario: ArchiveScenario, plan: NightPlan) -> dict[str, Any]:
    """Return where frames point, and where that, Sun and Moon stand above the horizon."""
    place, site, count = season(scenario).observatory, plan.camera.site, len(plan)
    moon_ra, moon_dec = ra_dec(plan.sky.moon)
    columns: dict[str, Any] = {
        "ra_deg": plan.ra_deg,
        "dec_deg": plan.dec_deg,
        "pixel_scale_arcsec": np.full(count, place.scale_arcsec),
        "rotation_deg": plan.rotation_deg,
        "mirrored": [scenario.optics.mirrored] * count,
        "s_region": _outlines(scenario, plan),
        "wcs_source": ["header"] * count,
        "sun_altitude_deg": plan.sky.sun_altitude_deg,
        "moon_altitude_deg": plan.sky.moon_altitude_deg,
        "moon_phase": plan.sky.moon_phase,
        "moon_separation_deg": separation_deg(moon_ra, moon_dec, plan.ra_deg, plan.dec_deg),
    }
    if site.known:
        altitude, azimuth = alt_az(plan.ra_deg, plan.dec_deg, plan.mjd_mid, site)
        columns |= {"altitude_deg": altitude, "azimuth_deg": azimuth, "airmass": airmass(altitude)}
    return columns


def _outlines(scenario: ArchiveScenario, plan: NightPlan) -> list[str]:
    """Return the outline of each image as an STC-S polygon."""
    place, optics = season(scenario).observatory, scenario.optics
    height, width = place.shape
    step = np.arange(_EDGE_POINTS) / _EDGE_POINTS
    zero, one = np.zeros(_EDGE_POINTS), np.ones(_EDGE_POINTS)
    x = np.concatenate([step, one, 1 - step, zero]) * width - 0.5
    y = np.concatenate([zero, step, one, 1 - step]) * height - 0.5
    outlines = []
    for values in zip(plan.ra_deg.tolist(), plan.dec_deg.tolist(), plan.rotation_deg.tolist(), strict=True):
        pointing = SimulatedPointing(
            *values, place.scale_arcsec, place.shape, optics.distortion, optics.mirrored
        )
        ra, dec = pointing.pixel_to_sky(x, y)
        numbers = " ".join(f"{a:.6f} {d:.6f}" for a, d in zip(ra.tolist(), dec.tolist(), strict=True))
        outlines.append(f"POLYGON ICRS {numbers}")
    return outlines


def _corrections(
    scenario: ArchiveScenario, plan: NightPlan, counts: Counts, random: np.random.Generator
) -> tuple[dict[str, _Array], dict[str, _Array]]:
    """Return the factors from each aperture to total flux, as measured on some bright stars, and their errors."""
    share, _ = aperture_shares(plan.camera.apertures, plan.fwhm_px, scenario.optics.beta)
    error = _APCOR_SCATTER * (1.0 - np.minimum(share, 1.0) + 0.02) / np.sqrt(_apcor_stars(counts))
    noise = random.standard_normal(share.shape)
    factor = 1.0 / share * (1.0 + error * noise)
    names = plan.camera.apertures.fluxes
    return dict(zip(names, factor, strict=True)), dict(zip(names, factor * error, strict=True))


def _apcor_stars(counts: Counts) -> npt.NDArray[np.int64]:
    return np.clip(counts.clean // 10, 5, _MOST_APCOR_STARS)


def _metric_columns(
    scenario: ArchiveScenario, plan: NightPlan, counts: Counts, random: np.random.Generator
) -> dict[str, Any]:
    """Return the metrics of frames."""
    place, detector, count = season(scenario).observatory, plan.camera.detector, len(plan)
    sky = plan.sky_adu_per_s * scenario.exposure_s
    dark = scenario.detector.dark_e_per_s * scenario.exposure_s
    gain, trailed = detector.gain_e_per_adu, plan.fate == Fate.TRAILED
    noise = random.standard_normal((5, count))
    expected = np.minimum(_CHECK_STARS, counts.detected)
    wrong = plan.fate == Fate.WRONG_WCS
    columns: dict[str, Any] = {
        "sky_adu": sky + scenario.detector.pedestal_adu,
        "sky_rms_adu": np.sqrt(sky * gain + dark + detector.read_noise_e**2) / gain,
        "n_detected": counts.detected,
        "n_sources": counts.clean,
        "n_saturated": counts.saturated,
        "n_saturated_px": counts.saturated * 6,
        "n_masked_px": np.zeros(count, np.int64),
        "threshold_sigma": np.full(count, plan.camera.extraction.threshold),
        "fwhm_px": plan.fwhm_px * (1.0 + 0.003 * noise[0]),
        "elongation": np.where(trailed, 2.4, 1.08) + 0.01 * noise[1],
        "elongation_max": np.where(trailed, 4.0, 2.0) + 0.2 * np.abs(noise[2]),
        "theta_kurtosis": np.where(trailed, _TRAILED_KURTOSIS, _UNIFORM_KURTOSIS) + 0.03 * noise[3],
        "flux_max": counts.brightest_adu,
        "n_apcor": _apcor_stars(counts),
        "wcs_expected": expected,
        "wcs_matched": np.where(wrong, expected // 20, np.rint(_CHECK_FOUND * expected).astype(np.int64)),
        "wcs_offset_arcsec": place.scale_arcsec * (0.1 + 0.01 * np.abs(noise[4])),
    }
    apertures = plan.camera.apertures
    for name, radius in zip(apertures.circles, apertures.radii_px, strict=True):
        columns[f"{name}_radius_px"] = np.full(count, radius)
    return columns


def _verdicts(plan: NightPlan, columns: dict[str, Any]) -> list[str]:
    """Add status, reason and message of each frame, by what is wrong with it and by the gates; return the status."""
    gates = plan.camera.gates
    known = {name: np.asarray(columns[name], float).tolist() for name in gates if name in columns}
    few = gates.get("n_sources", Gate())
    status, reason, message, failed, warned = [], [], [], [], []
    for place, fate in enumerate(plan.fate.tolist()):
        missed = [name for name, values in known.items() if not gates[name].passes(values[place])]
        rejecting = [name for name in missed if gates[name].action == "reject"]
        verdict = _VERDICTS.get(fate)
        if fate <= Fate.TRAILED and rejecting and (verdict is None or "n_sources" in rejecting):
            name = "n_sources" if "n_sources" in rejecting and few.action == "reject" else rejecting[0]
            sentence = f"{name} is {known[name][place]:g}, beyond the limit of gates.{name} in the profile"
            verdict = (Status.REJECTED, GATE_REASONS[name], sentence)
        status.append(verdict[0].value if verdict else Status.OK.value)
        reason.append(verdict[1].value if verdict else None)
        message.append(verdict[2] if verdict else None)
        gone = fate == Fate.FAILED
        failed.append(None if gone else " ".join(missed) or None)
        warned.append(0 if gone or missed == rejecting else int(FrameFlag.GATE_WARNING))
    columns |= {"status": status, "reason": reason, "message": message, "gates_failed": failed}
    columns["flags"] = np.bitwise_or(np.asarray(columns["flags"], np.int32), np.array(warned, np.int32))
    return status


def _leave_out(plan: NightPlan, columns: dict[str, Any]) -> None:
    """Make null what frames without pixels or a WCS do not have."""
    without = {_OF_PIXELS: plan.fate == Fate.FAILED, _OF_WCS: plan.fate == Fate.NO_WCS}
    of_catalog = ("wcs_expected", "wcs_matched", "wcs_offset", "n_expected", "found_")
    without |= {of_catalog: np.isin(plan.fate, [Fate.NO_WCS, Fate.FAILED])}
    for prefixes, gone in without.items():
        for name in columns:
            if gone.any() and name.startswith(prefixes) and name not in ("n_masked_px", "n_saturated_px"):
                columns[name] = pa.array(columns[name], from_pandas=True, mask=gone)

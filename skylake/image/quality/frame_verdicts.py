"""The verdict on a frame: metrics beyond those of its sources, and the camera's gates, as columns of its row."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from skylake.core.camera import Camera, ClearSky
from skylake.core.flags import FrameFlag
from skylake.core.frame import Image
from skylake.core.reasons import Reason, Status
from skylake.errors import FrameRejected
from skylake.image.detection.background import Background
from skylake.image.quality.cloud_cover import Found, count_found
from skylake.image.quality.source_metrics import judge
from skylake.image.wcs.header_wcs import Pointing, StarFinder

#: From this share of saturated pixels on it is the sky that is saturated.
_FLOODED = 0.5
#: Under a clear sky a larger share of the brightest stars is found.
_CLEAR = 0.9
#: A star of so many standard deviations of the sky in the first aperture is surely found under a clear sky.
_SURELY_SEEN = 10.0
#: No sky is so many standard deviations of a pixel below zero.
_BELOW_ZERO = 3.0
#: Steps that take off more than there is if their master, or their area of the detector, is a wrong one.
_SUBTRACTED = ("overscan", "unlit", "reference", "bias", "dark")
#: A right WCS puts stars within this many pixels of their sources.
CHECK_RADIUS_PX = 5.0

_NOTHING = np.zeros(0)


def note_sky(row: dict[str, Any], image: Image, background: Background, saturation_adu: float | None) -> None:
    """Add level and noise of the background to the row, and how near they are to saturation.

    The level is that of the image before a sky was subtracted. It has neither bias nor dark current, and saturation is
    that of raw pixels, so these are left out of the ratio. Where most pixels are saturated there is no level, and
    the ratio is 1.
    """
    level = background.median_level + image.sky.level
    row.update(sky_adu=level, sky_rms_adu=background.median_rms)
    if image.sky.one_sided:
        row["flags"] |= FrameFlag.SKY_ONE_SIDED
    if _is_flooded(row):
        row["sky_saturation"] = 1.0
    elif saturation_adu:
        row["sky_saturation"] = level / saturation_adu


def drop_sky_of_flood(row: dict[str, Any]) -> None:
    """Leave level and noise of the sky unknown where most pixels are saturated: what is left of them tells neither."""
    if _is_flooded(row):
        row.update(sky_adu=None, sky_rms_adu=None)


def _is_flooded(row: dict[str, Any]) -> bool:
    n_valid = int(row["height_px"]) * int(row["width_px"]) - int(row["n_masked_px"])
    return bool(row["n_saturated_px"] > _FLOODED * n_valid)


def apply_gates(row: dict[str, Any], camera: Camera, found: Found | None = None) -> None:
    """Hold what is known of a frame against the gates of its camera, and file it accordingly.

    Parameters
    ----------
    row : dict
        The row of ``frames``.
    camera : Camera
    found : Found or None
        Which of the stars that a clear frame shows were found.
    """
    verdict = judge(row, camera.gates)
    row["flags"] |= verdict.flags
    row["gates_failed"] = " ".join(verdict.failed) or None
    if _is_below_zero(row):
        row["flags"] |= FrameFlag.SKY_BELOW_ZERO
    told = [row.get("message")]
    if verdict.rejection is not None:
        reason, sentence = _explained(row, camera, found, *verdict.rejection)
        row.update(status=Status.REJECTED.value, reason=str(reason))
        told = [sentence]
    # A frame may pass all gates, and its stars be well, and yet all that is above zero in it be wrong.
    row["message"] = "; ".join(part for part in (*told, _too_dark(row, camera)) if part) or None


def _is_below_zero(row: dict[str, Any]) -> bool:
    """Tell whether a sky is farther below zero than noise explains."""
    level, rms = row.get("sky_adu"), row.get("sky_rms_adu")
    return level is not None and rms is not None and level < -_BELOW_ZERO * rms


def _too_dark(row: dict[str, Any], camera: Camera) -> str:
    """Return what follows from a sky far below zero, which no gate is on: too much was taken off; else nothing."""
    detector, chosen = camera.detector, camera.reduction.steps
    has_overscan = detector.overscan_x is not None or detector.overscan_y is not None
    steps = [step for step in _SUBTRACTED if step in chosen and (step != "overscan" or has_overscan)]
    if not steps or not _is_below_zero(row):
        return ""
    scaled = ", or the exposure of the frame (header.exposure of the profile), by which a dark is scaled"
    return (
        f"its sky is at {row['sky_adu']:.5g} ADU, so the {' or '.join(steps)} is wrong"
        f"{scaled if 'dark' in steps else ''}"
    )


def _explained(
    row: dict[str, Any], camera: Camera, found: Found | None, reason: Reason, message: str
) -> tuple[Reason, str]:
    """Return why a frame is rejected: its sources are too few for clouds if it does not reach stars that it should."""
    gate = camera.gates.get("found_fraction")
    if reason != Reason.TOO_FEW_SOURCES or found is None or gate is None or gate.action != "reject":
        return reason, message
    limit = row.get("flux_limit")
    if limit is None or not found.fraction < _CLEAR or not found.too_faint(limit):
        return reason, message
    share = f"it shows {found.fraction:.0%} of the {found.n_expected} brightest stars of the catalog"
    return (
        Reason.CLOUDY,
        f"{message}, as too little light arrives: {share}, which clear_sky of the profile expects",
    )


def empty_frame(
    row: dict[str, Any],
    camera: Camera,
    pointing: Pointing | None,
    find_stars: StarFinder | None,
    why: FrameRejected,
) -> FrameRejected:
    """Return why a frame without detections is rejected: the gate that explains it, or what detection says.

    Twilight, a saturated sky and clouds leave nothing to be detected, or too much; their metrics are known even so.
    """
    row["n_detected"] = 0 if why.reason == Reason.NO_SOURCES else None
    if why.reason == Reason.NO_SOURCES and pointing is not None and find_stars is not None:
        shape = row["height_px"], row["width_px"]
        stars = find_stars(pointing.ra_deg, pointing.dec_deg, pointing.radius_deg, row["mjd_mid"])
        found = count_found(
            pointing, shape, _NOTHING, _NOTHING, _NOTHING, stars, 0.0, clear_sky_of(row, camera)
        )
        # An image without noise is that of a closed shutter, whatever the sky is like.
        known = found.n_expected > 0 and row["sky_rms_adu"] > 0.0
        row.update(n_expected=found.n_expected, found_fraction=0.0 if known else None)
    apply_gates(row, camera)
    if row["status"] == Status.OK:
        too_dark = _too_dark(row, camera)
        return FrameRejected(why.reason, f"{why}; {too_dark}") if too_dark else why
    return FrameRejected(Reason(row["reason"]), str(row["message"]))


def clear_sky_of(row: dict[str, Any], camera: Camera) -> ClearSky:
    """Return which stars a clear frame shows: none that the noise of the sky would hide however clear it is.

    Clouds take light of stars and leave the noise of the sky about as it is, so that in a field of few bright stars
    the zeropoint of a clear night and this noise tell how faint those are that count.

    Parameters
    ----------
    row : dict
        The row of ``frames``, which knows filter, exposure and noise of the sky.
    camera : Camera
    """
    band, clear = camera.filter_band(row.get("filter")), camera.clear_sky
    rms = row.get("sky_rms_adu")
    if band is None or band.clear_zeropoint is None or not rms or not rms > 0.0:
        return clear
    noise = rms * math.sqrt(math.pi) * camera.apertures.radii_px[0] / (row.get("exposure_s") or 1.0)
    faintest = band.clear_zeropoint - 2.5 * math.log10(_SURELY_SEEN * noise)
    low, high = clear.mag_range
    return replace(clear, mag_range=(low, min(high, faintest)))


def is_cloudy(row: dict[str, Any], camera: Camera) -> bool:
    """Tell whether clouds explain that a WCS is not confirmed: there are fewer detections than stars expected."""
    gate = camera.gates.get("found_fraction")
    if gate is None or gate.action != "reject" or gate.passes(row.get("found_fraction")):
        return False
    return bool(row["n_detected"] < row["n_expected"])


def check_radius_arcsec(camera: Camera, pixel_scale_arcsec: float) -> float:
    """Return how far a star may be from its source: the profile's match radius, or some pixels where it gives none."""
    given = camera.calibration.match_radius_arcsec
    return CHECK_RADIUS_PX * pixel_scale_arcsec if given is None else given

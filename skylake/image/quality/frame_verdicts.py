"""The verdict on a frame as columns: its metrics and limits, and the verdict of the gates of its camera."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import cast

import numpy as np

from skylake.core.camera import Camera, ClearSky
from skylake.core.flags import UNUSABLE_PIXEL, FrameFlag, PixelFlag, SourceFlag
from skylake.core.frame import Image
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import Notes, Refused, RowPart, joined, with_part
from skylake.core.reasons import Reason, Status
from skylake.errors import FrameRejected
from skylake.image.detection.background import Background
from skylake.image.detection.mask_bits import count_bits
from skylake.image.photometry.growth_curves import ApertureCorrections, apcor_row
from skylake.image.quality.cloud_cover import ExpectedStars, FoundStars, count_found
from skylake.image.quality.field_cells import cell_columns
from skylake.image.quality.limiting_magnitudes import flux_limits
from skylake.image.quality.source_metrics import judge, source_metrics
from skylake.image.quality.star_injection import Frame
from skylake.image.wcs.header_wcs import Pointing, StarFinder

#: Cosmic rays hit a few pixels in ten thousand; where a larger share seems hit, stars or noise are taken for them.
_MANY_HIT = 0.005
#: From this share of pixels without a value on they may be why a frame is not good enough.
_MANY_INVALID = 0.05
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


def count_pixels(image: Image) -> RowPart:
    """Return the size of an image, how many of its pixels are of no use, and sentences on those."""
    height, width = image.pixels.shape
    bits = UNUSABLE_PIXEL, PixelFlag.SATURATED, PixelFlag.INVALID, PixelFlag.COSMIC_RAY
    n_masked, n_saturated, n_invalid, n_hit = count_bits(image.mask, np.array(bits, np.uint8)).tolist()
    flags = FrameFlag.NAN_PIXELS if n_invalid else FrameFlag(0)
    if n_hit > _MANY_HIT * image.mask.size:
        flags |= FrameFlag.MANY_COSMIC_RAYS
    many_invalid = n_invalid > _MANY_INVALID * image.mask.size
    columns: FrameRow = {
        "width_px": width,
        "height_px": height,
        "n_masked_px": n_masked,
        "n_saturated_px": n_saturated,
        "flags": flags,
    }
    notes = Notes(
        always=() if image.unread is None else (str(image.unread),),
        if_refused=(_without_value(image, n_invalid),) if many_invalid else (),
    )
    return RowPart(columns, notes=notes)


def _without_value(image: Image, n_invalid: int) -> str:
    """Return how many pixels have no value, and which rows and columns have none at all."""
    invalid = (image.mask & np.uint8(PixelFlag.INVALID)) != 0
    whole = [
        f"{count} of the {lines.size} {name}"
        for name, lines in (("rows", invalid.all(axis=1)), ("columns", invalid.all(axis=0)))
        if (count := int(np.count_nonzero(lines)))
    ]
    where = f", {' and '.join(whole)} among them" if whole else ""
    share = f"{100.0 * n_invalid / invalid.size:.2g}%"
    return f"{n_invalid} pixels ({share}) hold no valid number, as NaN{where}; see how the file was written"


def sky_columns(
    row: FrameRow, image: Image, background: Background, saturation_adu: float | None
) -> FrameRow:
    """Return level and noise of the background, and how near they are to saturation, as columns of ``frames``.

    The level is that of the image before a sky was subtracted. It has neither bias nor dark current, and saturation is
    that of raw pixels, so these are left out of the ratio. Where most pixels are saturated there is no level, and
    the ratio is 1.

    Parameters
    ----------
    row : FrameRow
        With the numbers of pixels.
    image : Image
    background : Background
    saturation_adu : float or None
        Level at which a raw pixel is saturated, ADU.
    """
    level = background.median_level + image.sky.level
    columns: FrameRow = {
        "sky_adu": level,
        "sky_rms_adu": background.median_rms,
        "flags": FrameFlag.SKY_ONE_SIDED if image.sky.one_sided else FrameFlag(0),
    }
    if _is_flooded(row):
        columns["sky_saturation"] = 1.0
    elif saturation_adu:
        columns["sky_saturation"] = level / saturation_adu
    return columns


def sky_of_flood(row: FrameRow) -> FrameRow:
    """Return that level and noise of the sky are unknown where most pixels are saturated; else nothing."""
    return {"sky_adu": None, "sky_rms_adu": None} if _is_flooded(row) else {}


def _is_flooded(row: FrameRow) -> bool:
    height, width = shape_of(row)
    n_masked, n_saturated = row["n_masked_px"], row["n_saturated_px"]
    assert n_masked is not None and n_saturated is not None
    return n_saturated > _FLOODED * (height * width - n_masked)


def shape_of(row: FrameRow) -> tuple[int, int]:
    """Return height and width of the image of a frame whose pixels are counted."""
    height, width = row["height_px"], row["width_px"]
    assert height is not None and width is not None
    return height, width


def time_of(row: FrameRow) -> float:
    """Return the middle of the exposure of a frame whose header was read, MJD (UTC)."""
    mjd = row["mjd_mid"]
    assert mjd is not None
    return mjd


def apply_gates(row: FrameRow, camera: Camera, found: FoundStars | None = None) -> RowPart:
    """Hold what is known of a frame against the gates of its camera, and return the verdict.

    Parameters
    ----------
    row : FrameRow
        The row of ``frames`` so far.
    camera : Camera
    found : FoundStars or None
        Which of the stars that a clear frame shows were found.
    """
    verdict = judge(row, camera.gates)
    columns: FrameRow = {"gates_failed": " ".join(verdict.failed) or None, "flags": verdict.flags}
    if _is_below_zero(row):
        columns["flags"] |= FrameFlag.SKY_BELOW_ZERO
    sentence = row.get("message")
    if verdict.rejection is not None:
        rejection = _explained(row, camera, found, verdict.rejection)
        sentence = str(rejection)
        columns |= {"status": rejection.status, "reason": rejection.reason}
    # A frame may pass all gates, and its stars be well, and yet all that is above zero in it be wrong.
    columns["message"] = "; ".join(part for part in (sentence, _too_dark(row, camera)) if part) or None
    return RowPart(columns)


def judge_frame(
    row: FrameRow, frame: Frame, corrections: ApertureCorrections, found: FoundStars | None
) -> RowPart:
    """Return the limits of a frame, its metrics, and the verdict of the gates of its camera.

    Parameters
    ----------
    row : FrameRow
        The row of ``frames`` so far.
    frame : Frame
        With the aperture corrections of its sources.
    corrections : ApertureCorrections
    found : FoundStars or None
        Which of the stars that a clear frame shows were found.
    """
    measured, camera = frame.measured, frame.camera
    assumed: FrameRow = {"flags": FrameFlag.APCOR_ASSUMED if corrections.assumed else FrameFlag(0)}
    metrics = cast("FrameRow", asdict(source_metrics(measured)))
    known = joined(
        RowPart(flux_limits(row["frame_id"], frame)),
        RowPart(cell_columns(measured, frame.image.pixels.shape)),
        RowPart(apcor_row(camera.apertures, corrections) | assumed),
        RowPart(metrics),
    )
    return joined(known, apply_gates(with_part(row, known), camera, found))


def flags_of_all(row: FrameRow) -> SourceFlag:
    """Return the flags that all sources of a frame have."""
    rejected = SourceFlag(0) if row["status"] == Status.OK else SourceFlag.FRAME_REJECTED
    between = row["flags"] & FrameFlag.WCS_INTERPOLATED
    return rejected | (SourceFlag.WCS_INTERPOLATED if between else SourceFlag(0))


def _is_below_zero(row: FrameRow) -> bool:
    """Return whether a sky is farther below zero than noise explains."""
    level, rms = row.get("sky_adu"), row.get("sky_rms_adu")
    return level is not None and rms is not None and level < -_BELOW_ZERO * rms


def _too_dark(row: FrameRow, camera: Camera) -> str:
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
    row: FrameRow, camera: Camera, found: FoundStars | None, rejection: FrameRejected
) -> FrameRejected:
    """Return why a frame is rejected: its sources are too few for clouds if it does not reach stars that it should."""
    gate = camera.gates.get("found_fraction")
    if rejection.reason != Reason.TOO_FEW_SOURCES or found is None or gate is None or gate.action != "reject":
        return rejection
    limit = row.get("flux_limit")
    if limit is None or not found.fraction < _CLEAR or not found.too_faint(limit):
        return rejection
    share = f"it shows {found.fraction:.0%} of the {found.n_expected} brightest stars of the catalog"
    return FrameRejected(
        Reason.CLOUDY,
        f"{rejection}, as too little light arrives: {share}, which clear_sky of the profile expects",
    )


def empty_frame(
    row: FrameRow,
    camera: Camera,
    pointing: Pointing | None,
    find_stars: StarFinder | None,
    why: FrameRejected,
) -> Refused:
    """Return why a frame without detections is rejected: the gate that explains it, or what detection says.

    Twilight, a saturated sky and clouds leave nothing to be detected, or too much; their metrics are known even so.
    """
    counts: FrameRow = {"n_detected": 0 if why.reason == Reason.NO_SOURCES else None}
    if why.reason == Reason.NO_SOURCES and pointing is not None and find_stars is not None:
        stars = find_stars(pointing.ra_deg, pointing.dec_deg, pointing.radius_deg, time_of(row))
        field = ExpectedStars(pointing, shape_of(row), stars, clear_sky_of(row, camera))
        found = count_found(field, _NOTHING, _NOTHING, _NOTHING, 0.0)
        # An image without noise is that of a closed shutter, whatever the sky is like.
        known = found.n_expected > 0 and (row["sky_rms_adu"] or 0.0) > 0.0
        counts |= {"n_expected": found.n_expected, "found_fraction": 0.0 if known else None}
    part = RowPart(counts)
    part = joined(part, apply_gates(with_part(row, part), camera))
    if part.columns.get("status", row["status"]) == Status.OK:
        too_dark = _too_dark(row, camera)
        return Refused(FrameRejected(why.reason, f"{why}; {too_dark}") if too_dark else why, part)
    return Refused(rejection_of(with_part(row, part)), part)


def rejection_of(row: FrameRow) -> FrameRejected:
    """Return the rejection that the gates wrote into a row: its reason and the sentence that belongs to it."""
    return FrameRejected(str(row["reason"]), str(row["message"]))


def clear_sky_of(row: FrameRow, camera: Camera) -> ClearSky:
    """Return which stars a clear frame shows: none that the noise of the sky would hide however clear it is.

    Clouds take light of stars and leave the noise of the sky about as it is, so that in a field of few bright stars
    the zeropoint of a clear night and this noise give how faint those are that count.

    Parameters
    ----------
    row : FrameRow
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


def check_radius_arcsec(camera: Camera, pixel_scale_arcsec: float) -> float:
    """Return how far a star may be from its source: the profile's match radius, or some pixels where it gives none."""
    given = camera.calibration.match_radius_arcsec
    return CHECK_RADIUS_PX * pixel_scale_arcsec if given is None else given

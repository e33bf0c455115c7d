"""Preparation of calibration frames, their combination into masters, and the quality of the masters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from skylake.cameras.frame_kinds import CalibrationKind
from skylake.core.camera import Camera, ReductionSteps, Step
from skylake.core.flags import UNUSABLE_PIXEL, PixelFlag
from skylake.core.frame import Image, Pixels, RawImage, StoredImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.image.combine.combine_frames import Combined, CombineOptions, frame_noise, frame_step, own_noise
from skylake.image.detrend.detrend_chain import Conditions, detrend_image

FlatForm = Literal["plain", "difference", "super", "mask"]

#: All steps in the order that detectors ask for, for profiles that do not name the one for which a master is made.
_ORDER: tuple[Step, ...] = ("trim", "overscan", "unlit", "reference", "bias", "dark", "linearity", "flat")
#: A frame with more saturated pixels is of no use.
_MOST_SATURATED = 0.01
#: And one with fewer valid pixels.
_LEAST_VALID = 0.5
#: A flat with more pixels above the linear range has no level that can be trusted.
_MOST_BENT = 0.4
#: Flats of fewer electrons per pixel add more noise than they take away.
_LEAST_FLAT_E = 100.0
#: Pixels of which a median is taken at most, or nearly so.
_MOST_PIXELS = 2_000_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """A single calibration frame, ready to be combined.

    Attributes
    ----------
    pixels : ndarray of float32
        ADU; NaN where the frame says nothing.
    offset : tuple of int
        Raw pixel (x, y) of the first pixel.
    levels : tuple of float
        Median of the pixels in ADU; of a mosaic the medians of the four pixels of its cells, row by row.
    """

    pixels: Pixels
    offset: tuple[int, int]
    levels: tuple[float, ...]

    @property
    def level(self) -> float:
        """Mean of the levels."""
        return sum(self.levels) / len(self.levels)


def steps_for(kind: CalibrationKind, reduction: ReductionSteps) -> tuple[Step, ...]:
    """Return the steps that a frame goes through before it is combined to a master.

    They are those before the step that will use the master; of a profile that does not name it, those that come
    before it on every detector.
    """
    if kind in reduction.steps:
        return reduction.steps[: reduction.steps.index(kind)]
    before = _ORDER[: _ORDER.index(kind)]
    return tuple(step for step in reduction.steps if step in before)


def _with_trim(steps: tuple[Step, ...], reduction: ReductionSteps) -> tuple[Step, ...]:
    """Return steps with that of trimming: masters are of the size of the images that they are for."""
    return steps if "trim" in steps or "trim" not in reduction.steps else (*steps, "trim")


def prepare(
    raw: RawImage | StoredImage, camera: Camera, kind: CalibrationKind, conditions: Conditions
) -> Prepared:
    """Prepare a calibration frame.

    Raises
    ------
    FrameFailed
        If it cannot be used: ``wrong_size``, ``no_valid_pixels``, ``no_master``, ``bad_calibration`` for one that is
        saturated or, as a flat, too faint or too bright.
    """
    steps = _with_trim(steps_for(kind, camera.reduction), camera.reduction)
    here = replace(camera, reduction=replace(camera.reduction, steps=steps))
    image = detrend_image(raw, here, conditions)
    _refuse_bad(image, kind)
    left_out = image.having(UNUSABLE_PIXEL | PixelFlag.SATURATED)
    unknown = left_out
    is_bayer = kind == "flat" and camera.detector.bayer_pattern is not None
    if kind == "flat":
        _refuse_bent(image, is_bayer)
        left_out = left_out | image.near_saturated
        # The brightest pixels have no exact value but are above the median: without them it would be too low.
        unknown = image.having(UNUSABLE_PIXEL)
    levels = _levels(np.where(unknown, np.float32(np.nan), image.pixels), is_bayer)
    pixels = np.where(left_out, np.float32(np.nan), image.pixels)
    if kind == "flat" and not min(levels) * conditions.gain > _LEAST_FLAT_E:
        raise FrameFailed(
            Reason.BAD_CALIBRATION,
            f"the flat has {min(levels):.4g} ADU above its zero level, too few to be of use; take a longer exposure",
        )
    return Prepared(pixels, (int(image.offset[0]), int(image.offset[1])), levels)


def _refuse_bad(image: Image, kind: str) -> None:
    n_pixels = image.pixels.size
    saturated = int(np.count_nonzero(image.saturated)) / n_pixels
    invalid = int(np.count_nonzero(image.masked)) / n_pixels
    if saturated > _MOST_SATURATED:
        raise FrameFailed(
            Reason.BAD_CALIBRATION, f"{saturated:.0%} of the pixels of the {kind} are saturated; leave it out"
        )
    if invalid > 1.0 - _LEAST_VALID:
        raise FrameFailed(
            Reason.BAD_CALIBRATION,
            f"{invalid:.0%} of the pixels of the {kind} hold no valid number; leave it out",
        )


def _refuse_bent(image: Image, is_bayer: bool) -> None:
    """Refuse a flat of which too much is above the linear range; of a mosaic each pixel of the cells counts alone."""
    bent = image.near_saturated
    planes = [bent[y::2, x::2] for y in (0, 1) for x in (0, 1)] if is_bayer else [bent]
    most = max(np.count_nonzero(plane) / max(plane.size, 1) for plane in planes)
    if most > _MOST_BENT:
        raise FrameFailed(
            Reason.BAD_CALIBRATION,
            f"{most:.0%} of the pixels{' of a colour' if is_bayer else ''} of the flat are above "
            "detector.linearity_adu; take a shorter exposure",
        )


def median_level(pixels: Pixels) -> float:
    """Return the median of finite pixels, of a large image that of some rows; NaN if there are none."""
    # An odd step, since rows or columns of a detector often alternate.
    step = pixels.size // _MOST_PIXELS * 2 + 1
    finite = pixels[::step][np.isfinite(pixels[::step])]
    if not finite.size:
        finite = pixels[np.isfinite(pixels)]
    return float(np.median(finite)) if finite.size else float("nan")


def _levels(pixels: Pixels, is_bayer: bool) -> tuple[float, ...]:
    if not is_bayer:
        return (median_level(pixels),)
    return tuple(median_level(pixels[y::2, x::2]) for y in (0, 1) for x in (0, 1))


def normalised(pixels: Pixels, levels: Sequence[float], first_row: int = 0) -> Pixels:
    """Return rows of a flat over its levels; those of a mosaic have one for each pixel of a cell.

    Parameters
    ----------
    pixels : ndarray of float32, shape (rows, columns)
    levels : sequence of float
        One, or four as in :class:`Prepared`.
    first_row : int
        Row of the first one in the whole frame.
    """
    if len(levels) == 1:
        return np.asarray(pixels / np.float32(levels[0]), np.float32)
    made = np.empty(pixels.shape, np.float32)
    for y in (0, 1):
        for x in (0, 1):
            level = levels[2 * ((y + first_row) % 2) + x]
            made[y::2, x::2] = pixels[y::2, x::2] / np.float32(level)
    return made


def differences(levels: Sequence[float]) -> list[tuple[int, int]]:
    """Return which flats are subtracted from which: the brighter half and the fainter one, pair by pair.

    What adds to every flat alike, such as thermal light or a remainder of dark current, is gone in the differences.
    """
    order = sorted(range(len(levels)), key=lambda number: levels[number])
    half = len(order) // 2
    return list(zip(reversed(order[-half:] if half else []), order[:half], strict=True))


def combine_options(
    kind: CalibrationKind, frames: Sequence[Pixels], gain: float, form: FlatForm = "plain"
) -> CombineOptions:
    """Return how prepared frames are combined: what variance is expected of a value, and where to begin.

    Bias: the noise of the frames, or of the only one. Dark: that, and the shot noise of what exceeds the median.
    Flats: the noise is that of light, so its square grows with the response.
    """
    noise = frame_noise(frames) if len(frames) > 1 else own_noise(frames[0])
    start: Literal["median", "mode"] = "mode" if form == "super" else "median"
    if kind == "flat":
        return CombineOptions(start=start, slope=noise**2)
    if kind == "dark":
        typical = max(median_level(np.asarray(frames[0])), 0.0)
        constant = max(noise**2 - typical / gain, 0.5 * noise**2)
        return CombineOptions(constant=constant, slope=1.0 / gain, step=frame_step(frames))
    return CombineOptions(constant=noise**2, step=frame_step(frames))


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of a master in numbers.

    Attributes
    ----------
    level : float
        Median of the pixels, ADU; 1 for a flat.
    noise : float
        Median standard error of a pixel, in the same unit.
    n_used : float
        Mean number of values behind a pixel.
    rejected_fraction : float
        Part of the values that was left out.
    n_invalid_px : int
        Pixels without a value.
    """

    level: float
    noise: float
    n_used: float
    rejected_fraction: float
    n_invalid_px: int

    @classmethod
    def of(cls, combined: Combined) -> Quality:
        """Return the quality of what frames were combined to."""
        return cls(
            median_level(combined.mean),
            median_level(combined.error),
            float(combined.n_used.mean()),
            combined.rejected_fraction,
            int(np.count_nonzero(~np.isfinite(combined.mean))),
        )

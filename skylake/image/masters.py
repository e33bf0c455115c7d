"""Make masters: single frames are prepared, then combined, and what came out is judged by numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from skylake.cameras.kinds import CalibrationKind
from skylake.core.camera import Camera, ReductionSteps, Step
from skylake.core.flags import UNUSABLE_PIXEL, PixelFlag
from skylake.core.frame import Image, Pixels, RawImage, StoredImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.image.calibrate import Conditions, calibrate
from skylake.image.combine import Combined, CombineOptions, combine_in_blocks, frame_noise

FlatForm = Literal["plain", "difference", "super"]

#: All steps in the order that detectors ask for, for profiles that do not name the one for which a master is made.
_ORDER: tuple[Step, ...] = ("trim", "overscan", "reference", "bias", "dark", "linearity", "flat")
#: A frame with more saturated pixels is of no use.
_MOST_SATURATED = 0.01
#: And one with fewer valid pixels.
_LEAST_VALID = 0.5
#: Flats of fewer electrons per pixel add more noise than they take away.
_LEAST_FLAT_E = 200.0
_SAMPLE = 16


@dataclass(frozen=True, slots=True)
class Prepared:
    """A single calibration frame, ready to be combined.

    Attributes
    ----------
    pixels : ndarray of float32
        ADU, or response for a flat; NaN where the frame tells nothing.
    offset : tuple of int
        Raw pixel (x, y) of the first pixel.
    level : float
        Median of the pixels in ADU, before a flat is divided by it.
    """

    pixels: Pixels
    offset: tuple[int, int]
    level: float


def steps_for(kind: CalibrationKind, reduction: ReductionSteps) -> tuple[Step, ...]:
    """Return the steps that a frame goes through before it is combined to a master.

    They are those before the step that will use the master; of a profile that does not name it, those that come
    before it on every detector.
    """
    if kind in reduction.steps:
        return reduction.steps[: reduction.steps.index(kind)]
    before = _ORDER[: _ORDER.index(kind)]
    return tuple(step for step in reduction.steps if step in before)


def prepare(
    raw: RawImage | StoredImage, camera: Camera, kind: CalibrationKind, conditions: Conditions
) -> Prepared:
    """Prepare a calibration frame.

    Raises
    ------
    FrameFailed
        If it cannot be used: ``wrong_size``, ``no_valid_pixels``, ``no_master``, ``bad_calibration`` for one that is
        saturated or, as a flat, too faint.
    """
    from dataclasses import replace

    steps = steps_for(kind, camera.reduction)
    here = replace(camera, reduction=replace(camera.reduction, steps=steps))
    image = calibrate(raw, here, conditions)
    _refuse_bad(image, kind)
    left_out = image.having(UNUSABLE_PIXEL | PixelFlag.SATURATED)
    if kind == "flat":
        left_out |= image.near_saturated
    pixels = np.where(left_out, np.float32(np.nan), image.pixels)
    level = median_level(pixels)
    if kind == "flat":
        if not level * conditions.gain > _LEAST_FLAT_E:
            raise FrameFailed(
                Reason.BAD_CALIBRATION,
                f"the flat has {level:.4g} ADU above its zero level, too few to be of use; take a longer exposure",
            )
        pixels = normalised(pixels, level, camera.detector.bayer_pattern is not None)
    return Prepared(pixels, (int(image.offset[0]), int(image.offset[1])), level)


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


def median_level(pixels: Pixels) -> float:
    """Return the median of finite pixels, of some rows of a large image; NaN if there are none."""
    sample = pixels[:: max(1, pixels.shape[0] // (_SAMPLE * 16))]
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        finite = pixels[np.isfinite(pixels)]
    return float(np.median(finite)) if finite.size else float("nan")


def normalised(pixels: Pixels, level: float, is_mosaic: bool) -> Pixels:
    """Return pixels over their level; those of a mosaic each over that of their colour."""
    if not is_mosaic:
        return np.asarray(pixels / np.float32(level), np.float32)
    made = np.empty_like(pixels)
    for y in (0, 1):
        for x in (0, 1):
            plane = pixels[y::2, x::2]
            made[y::2, x::2] = plane / np.float32(median_level(plane))
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

    Bias: the noise of the frames. Dark: that, and the shot noise of what exceeds the median. Flats: the noise is that
    of light, so its square grows with the response.
    """
    noise = frame_noise(frames)
    start: Literal["median", "mode"] = "mode" if form == "super" else "median"
    if kind == "flat":
        return CombineOptions(start=start, slope=noise**2)
    if kind == "dark":
        typical = max(median_level(np.asarray(frames[0])), 0.0)
        return CombineOptions(constant=max(noise**2 - typical / gain, 0.5 * noise**2), slope=1.0 / gain)
    return CombineOptions(constant=noise**2)


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


def make_master(
    kind: CalibrationKind, frames: Sequence[Pixels], gain: float, form: FlatForm = "plain"
) -> Combined:
    """Combine prepared frames that are all in memory, or memory maps; see :func:`combine_options`."""
    read: Callable[[int, int], Any] = lambda start, end: np.stack([frame[start:end] for frame in frames])  # noqa: E731
    shape = (frames[0].shape[0], frames[0].shape[1])
    return combine_in_blocks(read, len(frames), shape, combine_options(kind, frames, gain, form))

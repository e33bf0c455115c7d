"""Raw pixels to an image: saturation judged, overscan taken off, trimmed, invalid pixels filled."""

from __future__ import annotations

import warnings

import numpy as np

from skylake.core.camera import Camera, Detector
from skylake.core.flags import PixelFlag
from skylake.core.frame import Image, Mask, Pixels, RawImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed

#: No detector gives so many ADU, and squares of larger numbers do not fit 32 bits.
_BEYOND_MEASURE = 1e15


def calibrate(raw: RawImage, camera: Camera, saturation_adu: float | None) -> Image:
    """Prepare the raw image of a camera for measurement.

    Saturation is judged on raw pixels, before anything is subtracted from them. A pixel that is not
    finite or beyond all measure, or whose row has no overscan that is finite, is masked and filled with
    the median of the image. The raw image stays as it is.

    Raises
    ------
    FrameFailed
        ``wrong_size`` if the image has not the size in the profile, ``no_valid_pixels`` if no pixel is
        finite.
    """
    detector = camera.detector
    if camera.image_shape is not None and raw.pixels.shape != camera.image_shape:
        height, width = raw.pixels.shape
        raise FrameFailed(
            Reason.WRONG_SIZE,
            f"the image has {width} x {height} pixels and {camera.name} has {detector.width_px} x "
            f"{detector.height_px}; use the profile of its camera or mend detector.width_px and height_px",
        )
    saturated = _above(raw.pixels, saturation_adu)
    near_saturated = _above(raw.pixels, detector.linearity_adu)
    pixels = _subtract_overscan(raw.pixels, detector)
    rows, columns = _trim(raw.pixels.shape, detector)
    pixels = np.ascontiguousarray(pixels[rows, columns])
    pixels, masked = _fill(pixels)
    mask = masked * np.uint8(PixelFlag.INVALID)
    mask |= saturated[rows, columns] * np.uint8(PixelFlag.SATURATED)
    mask |= near_saturated[rows, columns] * np.uint8(PixelFlag.NEAR_SATURATED)
    return Image(pixels, mask, (columns.start, rows.start))


def _above(pixels: Pixels, level: float | None) -> Mask:
    return np.zeros(pixels.shape, bool) if level is None else np.asarray(pixels >= level)


def _trim(shape: tuple[int, ...], detector: Detector) -> tuple[slice, slice]:
    height, width = shape
    y0, y1 = detector.trim_y or (0, height)
    x0, x1 = detector.trim_x or (0, width)
    rows, columns = slice(max(0, y0), min(height, y1)), slice(max(0, x0), min(width, x1))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise FrameFailed(
            Reason.WRONG_SIZE, "nothing is left after trimming; mend detector.trim_x and trim_y"
        )
    return rows, columns


def _subtract_overscan(pixels: Pixels, detector: Detector) -> Pixels:
    """Subtract the median of the overscan, row by row where it is a strip of columns."""
    if detector.overscan_x is None and detector.overscan_y is None:
        return pixels
    y = slice(*detector.overscan_y) if detector.overscan_y else slice(None)
    x = slice(*detector.overscan_x) if detector.overscan_x else slice(None)
    strip = pixels[y, x]
    if strip.size == 0:
        raise FrameFailed(Reason.WRONG_SIZE, "the overscan lies outside the image; mend detector.overscan_x")
    strip = np.where(np.isfinite(strip), strip, np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        level = np.nanmedian(strip, axis=1 if detector.overscan_y is None else None, keepdims=True)
    return np.asarray(pixels - level, np.float32)


def _fill(pixels: Pixels) -> tuple[Pixels, Mask]:
    masked = ~(np.abs(pixels) < _BEYOND_MEASURE)
    n_masked = np.count_nonzero(masked)
    if n_masked == pixels.size:
        raise FrameFailed(
            Reason.NO_VALID_PIXELS, "no pixel holds a valid number; the exposure was not read out"
        )
    if n_masked:
        pixels = np.where(masked, np.median(pixels[~masked]), pixels)
    return pixels, masked

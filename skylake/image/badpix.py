"""Bad pixels: found in masters, and filled in images."""

from __future__ import annotations

import numpy as np

from skylake.core.camera import BadPixels
from skylake.core.flags import PixelFlag
from skylake.core.frame import MaskPlane, Pixels
from skylake.core.robust import sigma_mad
from skylake.image.combine import Combined
from skylake.image.kernels.repair import fill_from_neighbours

#: Fewer frames tell nothing of how stable a pixel is.
_STABLE_FRAMES = 5
_MEDIAN_PX = 5
_STRIDE = 7


def hot_pixels(dark: Pixels, limits: BadPixels) -> MaskPlane:
    """Return the bit HOT where a master dark exceeds the median of its surroundings by far, or is NaN.

    Parameters
    ----------
    dark : ndarray of float32
        Master dark, or bias where there is none, in ADU.
    limits : BadPixels
    """
    excess = dark - _surroundings(dark)
    scatter = sigma_mad(excess[::_STRIDE]) or 1e-6
    return _bits(~(excess <= limits.hot_sigma * scatter), PixelFlag.HOT)


def dead_pixels(flat: Pixels, limits: BadPixels) -> MaskPlane:
    """Return the bit DEAD where a master flat is far from the median of its surroundings, or NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flat / _surroundings(flat)
    alive = (ratio >= limits.dead_response) & (ratio <= 1.0 / limits.dead_response) & (flat > 0.0)
    return _bits(~alive, PixelFlag.DEAD)


def unstable_pixels(combined: Combined, limits: BadPixels) -> MaskPlane:
    """Return the bit UNSTABLE where pixels scatter from frame to frame far beyond what their level lets expect.

    The lowest and the highest values are put aside, so that a cosmic ray does not count; pixels that are seen on fewer
    than five frames pass.
    """
    judged = combined.n_present >= _STABLE_FRAMES
    scattered = combined.scatter > limits.unstable_ratio * combined.expected
    return _bits(judged & scattered, PixelFlag.UNSTABLE)


def repair(pixels: Pixels, mask: MaskPlane, bits: PixelFlag) -> int:
    """Fill pixels that have any of some bits from their neighbours, in place, and mark them REPAIRED.

    The value is the mean of the linear interpolations along the row and along the column between the nearest good
    pixels. A pixel that has none within reach stays.

    Returns
    -------
    int
        Pixels that were filled.
    """
    bad = (mask & np.uint8(bits | PixelFlag.INVALID)).astype(np.uint8)
    y, x = np.nonzero(mask & np.uint8(bits))
    values = np.empty(len(x), np.float32)
    fill_from_neighbours(pixels, bad, x, y, values)
    found = np.isfinite(values)
    y, x = y[found], x[found]
    pixels[y, x] = values[found]
    mask[y, x] |= np.uint8(PixelFlag.REPAIRED)
    return len(x)


def _surroundings(pixels: Pixels) -> Pixels:
    """Return the median of the pixels around each; what is no number counts as the median of all."""
    from scipy.ndimage import median_filter

    finite = np.isfinite(pixels)
    filled = np.where(finite, pixels, np.median(pixels[finite]) if finite.any() else 0.0)
    return np.asarray(median_filter(filled.astype(np.float32), _MEDIAN_PX, mode="nearest"))


def _bits(where: np.ndarray, bit: PixelFlag) -> MaskPlane:
    return np.asarray(where, np.uint8) * np.uint8(bit)

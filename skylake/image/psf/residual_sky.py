"""Residual sky after the stars of a frame are subtracted: means of blocks of pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.image.psf import stamp_kernels

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

#: Side of the blocks in which the sky is made even, pixels; every so many rows are enough for their mean.
_BLOCK_PX = 64
_BLOCK_STEP = 3
_BLOCK_CLIP = 3.0
#: A block needs this share of its pixels.
_BLOCK_MIN = 0.2


def block_sky(
    left: Single, good: npt.NDArray[np.uint8], clean: bool, noise: float, places: tuple[Places, Places]
) -> Floats:
    """Return the mean of what is left at the places of stars, between the centres of blocks.

    Parameters
    ----------
    left : ndarray of float32, shape (height, width)
        The signal without the stars, ADU.
    good : ndarray of uint8, shape (height, width)
        1 for pixels that take part.
    clean : bool
        Whether all pixels are good.
    noise : float
        Of a usual pixel, ADU.
    places : tuple of ndarray, shape (n,)
        Columns and rows; those beyond the edge get the level there.

    Returns
    -------
    ndarray, shape (n,)
        ADU per pixel; blocks with few good pixels have the median of the others, and 0 where there are none.
    """
    means, counts = stamp_kernels.block_means(left, good, clean, _BLOCK_PX, _BLOCK_STEP, noise, _BLOCK_CLIP)
    height, width = left.shape
    needed = _BLOCK_MIN * (height / means.shape[0]) * (width / means.shape[1]) / _BLOCK_STEP
    known = counts >= needed
    means = np.where(known, means, np.median(means[known]) if known.any() else 0.0)
    column = (places[0] + 0.5) * means.shape[1] / width - 0.5
    row = (places[1] + 0.5) * means.shape[0] / height - 0.5
    column, row = np.clip(column, 0, means.shape[1] - 1), np.clip(row, 0, means.shape[0] - 1)
    j, i = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    right, lower = np.minimum(j + 1, means.shape[1] - 1), np.minimum(i + 1, means.shape[0] - 1)
    s, t = column - j, row - i
    upper = means[i, j] * (1.0 - s) + means[i, right] * s
    return np.asarray(upper * (1.0 - t) + (means[lower, j] * (1.0 - s) + means[lower, right] * s) * t)

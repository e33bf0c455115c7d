"""Gradients of the light of flats, from twilight or lamps, which are no response of the detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from skylake.core.frame import Pixels
from skylake.core.response_settings import Gradient

_CELLS = 16


def coarse_map(pixels: Pixels) -> Pixels:
    """Return an image in 16 x 16 cells, each the median of its pixels; NaN where none has a value.

    Of an image that is no multiple of them the last few rows and columns are left out.
    """
    n_rows, n_columns = (min(_CELLS, size) for size in pixels.shape)
    height, width = pixels.shape[0] // n_rows, pixels.shape[1] // n_columns
    whole = pixels[: n_rows * height, : n_columns * width].reshape(n_rows, height, n_columns, width)
    # NaN is sorted behind all numbers.
    values = np.sort(whole.transpose(0, 2, 1, 3).reshape(n_rows, n_columns, -1), axis=2)
    count = np.count_nonzero(np.isfinite(values), axis=2, keepdims=True)
    low, high = (
        np.take_along_axis(values, np.maximum(at, 0), axis=2) for at in ((count - 1) // 2, count // 2)
    )
    return np.asarray(0.5 * (low + high)[..., 0], np.float32)


def chance_gradient(maps: Sequence[Pixels], weights: npt.ArrayLike) -> Gradient:
    """Return what gradient the weighted mean of flats has by chance, from how those of the single ones differ.

    Parameters
    ----------
    maps : sequence of ndarray, shape (rows, columns)
        Flats of unit level as :func:`coarse_map` gives them.
    weights : array_like, shape (n,)
        Weights that they have in the mean.

    Returns
    -------
    Gradient
        Zero for less than two flats, of which nothing can be determined.
    """
    stack, weight = np.array(maps, np.float64), np.asarray(weights, np.float64)
    good = np.isfinite(stack).all(axis=0)
    if len(stack) < 2 or np.count_nonzero(good) < 4:
        return Gradient()
    seen = stack[:, good]
    y, x = (axis[good] for axis in np.meshgrid(*(_centres(size) for size in good.shape), indexing="ij"))
    mean = np.average(seen, axis=0, weights=weight)
    usable = mean > 0.0
    design = np.column_stack([np.ones(int(usable.sum())), x[usable], y[usable]])
    slopes = np.linalg.lstsq(design, (seen[:, usable] / mean[usable]).T, rcond=None)[0][1:].T
    # Gradients do not depend on the level, so all show alike how much they differ.
    away = slopes - slopes.mean(axis=0)
    ((xx, xy), (_, yy)) = away.T @ away / (len(stack) - 1) * float(np.sum((weight / weight.sum()) ** 2))
    return Gradient(float(xx), float(xy), float(yy))


def _centres(count: int) -> npt.NDArray[np.float64]:
    """Return where cells are, from -1 to 1 at the edges of the image."""
    return (2.0 * np.arange(count) + 1.0) / count - 1.0

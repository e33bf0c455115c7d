"""Kernel: bad pixels are given the mean of what is expected from their row and their column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

#: Farther neighbours say nothing about a pixel.
_REACH = 16


@kernel
def fill_from_neighbours(
    pixels: npt.NDArray[np.float32],
    bad: npt.NDArray[np.uint8],
    x: npt.NDArray[np.int64],
    y: npt.NDArray[np.int64],
    values: npt.NDArray[np.float32],
    stride: int = 1,
) -> None:
    """Find values for bad pixels from the good ones about them; the pixels themselves stay.

    Parameters
    ----------
    pixels : ndarray of float32, shape (height, width)
    bad : ndarray of uint8
        Not zero where a pixel is no good.
    x, y : ndarray of int64, shape (n,)
        Pixels to fill.
    values : ndarray of float32, shape (n,)
        Gets the mean of the interpolations along the row and along the column; of one of them where the other has
        no good pixel within reach; NaN where neither has.
    stride : int
        Pixels from one to the next of the same colour.
    """
    height, width = pixels.shape
    for i in range(x.size):
        total, count = 0.0, 0
        for axis in range(2):
            sum_weight, sum_value = 0.0, 0.0
            for side in range(2):
                step = 1 if side else -1
                for distance in range(1, _REACH + 1):
                    column = x[i] + (step * distance * stride if axis == 0 else 0)
                    row = y[i] + (step * distance * stride if axis == 1 else 0)
                    if column < 0 or row < 0 or column >= width or row >= height:
                        break
                    if bad[row, column] == 0:
                        sum_weight += 1.0 / distance
                        sum_value += pixels[row, column] / distance
                        break
            if sum_weight > 0.0:
                total += sum_value / sum_weight
                count += 1
        values[i] = np.float32(total / count) if count else np.float32(np.nan)

"""Kernels of running medians along lines of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

#: A window with fewer good pixels has no median.
_LEAST_PIXELS = 5


@kernel
def _place(values: Any, count: int, value: Any) -> int:
    """Return how many of ascending values are smaller than one."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def running_medians(
    lines: npt.NDArray[np.float32],
    left_out: npt.NDArray[np.bool_],
    half: int,
    medians: npt.NDArray[np.float32],
) -> None:
    """Take the median of the good pixels about each pixel in its line.

    At its ends a window is cut off, not made up.

    Parameters
    ----------
    lines : ndarray of float32, shape (n, length)
    left_out : ndarray of bool, shape (n, length)
        Pixels that do not count; all that are NaN have to be among them.
    half : int
        Pixels of a window on either side of its centre.
    medians : ndarray of float32, shape (n, length)
        Gets the medians; NaN where fewer than five pixels are good.
    """
    n_lines, length = lines.shape
    values = np.empty(2 * half + 2, np.float32)
    for i in range(n_lines):
        line, out = lines[i], left_out[i]
        count = 0
        for x in range(-half, length):
            new, old = x + half, x - half - 1
            if new < length and not out[new]:
                place = _place(values, count, line[new])
                for k in range(count, place, -1):
                    values[k] = values[k - 1]
                values[place] = line[new]
                count += 1
            if old >= 0 and not out[old]:
                count -= 1
                for k in range(_place(values, count + 1, line[old]), count):
                    values[k] = values[k + 1]
            if x >= 0:
                if count >= _LEAST_PIXELS:
                    medians[i, x] = np.float32(0.5) * (values[(count - 1) // 2] + values[count // 2])
                else:
                    medians[i, x] = np.nan

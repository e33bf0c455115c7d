"""Kernel that reads the pixels along a line."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Doubles = npt.NDArray[np.float64]


@kernel
def read_strip(
    signal: npt.NDArray[np.float32],
    mask: npt.NDArray[np.uint8],
    bad: np.uint8,
    along: Doubles,
    half: int,
    line: tuple[float, float, float, float],
) -> Doubles:
    """Return the pixels nearest to places along a line and beside it.

    Parameters
    ----------
    signal, mask : ndarray of float32 and uint8, shape (height, width)
    bad : uint8
        Bits of pixels that have no value.
    along : ndarray, shape (n,)
        Distances along the line.
    half : int
        How many pixels are read to each side.
    line : tuple of float
        A point on it, x and y, and its direction, of length 1.

    Returns
    -------
    ndarray, shape (2 half + 1, n)
        NaN outside the image and for bad pixels.
    """
    x0, y0, run_x, run_y = line
    strip = np.empty((2 * half + 1, len(along)))
    for across in range(-half, half + 1):
        out = strip[across + half]
        for place in range(len(along)):
            x = np.rint(x0 + along[place] * run_x - across * run_y)
            y = np.rint(y0 + along[place] * run_y + across * run_x)
            out[place] = np.nan
            if 0.0 <= x < signal.shape[1] and 0.0 <= y < signal.shape[0]:
                column, row = int(x), int(y)
                if mask[row, column] & bad == 0:
                    out[place] = signal[row, column]
    return strip

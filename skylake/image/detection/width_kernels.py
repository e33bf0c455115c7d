"""Kernels of the widths of bright peaks, from three pixels along either axis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.detection.matched_filter_kernels import Pixels, Plane

#: No more peaks than that are asked.
_MOST_PEAKS = 4096
#: A star has fallen far below its peak at so many steps.
_ALONE_STEPS = 6


@kernel
def star_curvatures(
    signal: Pixels, rms: Pixels, mask: Plane, excluded: np.uint8, sigma: np.float32, step: int, every: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return how sharp bright peaks are: the squares of the widths of Gaussians through three pixels.

    The logarithm of a Gaussian is a parabola, whose curvature does not depend on where its middle is
    between the pixels.

    Parameters
    ----------
    signal, rms, mask, excluded
        As for :func:`~skylake.image.detection.matched_filter_kernels.list_significant`.
    sigma : float32
        Peaks are higher than so many standard deviations of a pixel.
    step : int
        Distance of the pixels on both sides of the peak.
    every : int
        Rows of which one is looked at.

    Returns
    -------
    squares : ndarray of float64, shape (n,)
        Squares of standard deviations, pixels^2, means of that along x and along y.
    alone : ndarray of bool, shape (n,)
        Whether no pixel of the square six steps about the peak is half as bright: a trail leaves such a square.
    """
    height, width = signal.shape
    squares, alone = np.empty(_MOST_PEAKS, np.float64), np.empty(_MOST_PEAKS, np.bool_)
    above = np.zeros((width + 7) // 8 * 8, np.uint8)
    eights = above.view(np.uint64)
    n = 0
    for y in range(step, height - step, every):
        row, noise = signal[y], rms[y]
        for x in range(width):
            above[x] = row[x] > sigma * noise[x]
        for block in range(eights.size):
            if eights[block] == 0:
                continue
            for x in range(max(8 * block, step), min(8 * block + 8, width - step)):
                if above[x] != 0 and _is_peak(signal, mask, excluded, y, x):
                    square = _curvature(signal, np.float32(3.0) * noise[x], y, x, step)
                    if square > 0.0:
                        squares[n], alone[n] = square, _stands_alone(signal, y, x, _ALONE_STEPS * step)
                        n += 1
                        if n == squares.size:
                            return squares, alone
    return squares[:n], alone[:n]


@kernel
def _stands_alone(signal: Pixels, y: int, x: int, reach: int) -> bool:
    """Return whether the pixels of a square about a peak, within the image, are less than half of it."""
    height, width = signal.shape
    limit = np.float32(0.5) * signal[y, x]
    for k in range(-reach, reach + 1):
        for row, column in ((y - reach, x + k), (y + reach, x + k), (y + k, x - reach), (y + k, x + reach)):
            if 0 <= row < height and 0 <= column < width and signal[row, column] > limit:
                return False
    return True


@kernel
def _curvature(signal: Pixels, low: np.float32, y: int, x: int, step: int) -> float:
    """Return the square of the width of a peak; 0 where the pixels beside it are no light."""
    peak, total = signal[y, x], 0.0
    for before, other in (
        (signal[y, x - step], signal[y, x + step]),
        (signal[y - step, x], signal[y + step, x]),
    ):
        if before <= low or other <= low:
            return 0.0
        total += np.log(peak / before) + np.log(peak / other)
    return 2.0 * step**2 / total if total > 0.0 else 0.0


@kernel
def _is_peak(signal: Pixels, mask: Plane, excluded: np.uint8, y: int, x: int) -> bool:
    for row in range(y - 1, y + 2):
        for column in range(x - 1, x + 2):
            if signal[row, column] > signal[y, x] or (mask[row, column] & excluded) != 0:
                return False
    return True

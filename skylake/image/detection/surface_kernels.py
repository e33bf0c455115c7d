"""Kernels of smooth surfaces through tiles and cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Pixels = npt.NDArray[np.float32]
Plane = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@kernel
def expand_splines(
    level: tuple[Pixels, Pixels],
    noise: tuple[Pixels, Pixels],
    knot: Places,
    weights: Pixels,
    floor: np.float32,
    levels: Pixels,
    noises: Pixels,
) -> None:
    """Expand splines, which are expanded along x already, to level and noise per pixel.

    Parameters
    ----------
    level, noise : tuple of two ndarray of float32, shape (knots, width)
        Values at the knots of the spline along y, and its second derivatives there.
    knot : ndarray of int64, shape (height,)
        Knot before each row; there is one more.
    weights : ndarray of float32, shape (height, 4)
        Weights of the values before and after, and of the second derivatives before and after.
    floor : float32
        Smallest noise.
    levels, noises : ndarray of float32, shape (height, width)
        Written. The caller makes them: what is allocated here would lie on small pages of memory, whose first use
        takes ten times as long as the work.
    """
    height, width = levels.shape
    for y in range(height):
        k = knot[y]
        a, b, c, d = weights[y, 0], weights[y, 1], weights[y, 2], weights[y, 3]
        before, after = level[0][k], level[0][k + 1]
        bend, bend_after = level[1][k], level[1][k + 1]
        out = levels[y]
        for x in range(width):
            out[x] = a * before[x] + b * after[x] + c * bend[x] + d * bend_after[x]
        before, after = noise[0][k], noise[0][k + 1]
        bend, bend_after = noise[1][k], noise[1][k + 1]
        out = noises[y]
        for x in range(width):
            value = a * before[x] + b * after[x] + c * bend[x] + d * bend_after[x]
            out[x] = value if value > floor else floor


@kernel
def _paint_discs(covered: Plane, start: int, stop: int, discs: tuple[Floats, Floats, Floats]) -> None:
    """Set the pixels of some rows to 1 whose centres lie within discs, all others to 0."""
    x, y, radius = discs
    covered[:] = 0
    width = covered.shape[1]
    for i in range(x.size):
        first, last = max(start, int(np.ceil(y[i] - radius[i]))), min(stop - 1, int(y[i] + radius[i]))
        for row in range(first, last + 1):
            half = np.sqrt(radius[i] ** 2 - (row - y[i]) ** 2)
            left, right = max(0, int(np.ceil(x[i] - half))), min(width - 1, int(x[i] + half))
            covered[row - start, left : right + 1] = 1


@kernel
def sum_cells(
    signal: Pixels,
    mask: Plane,
    excluded: np.uint8,
    discs: tuple[Floats, Floats, Floats],
    noise: Pixels,
    clip: np.float32,
    rows: Places,
    columns: Places,
) -> tuple[Floats, Floats]:
    """Return sums of pixels, and how many they are, in cells.

    What is masked, covered, or farther from nothing than `clip` times the noise, takes no part.

    Parameters
    ----------
    signal, noise : ndarray of float32, shape (height, width)
        Pixels above the background, and their noise; finite.
    mask : ndarray of uint8, shape (height, width)
    excluded : uint8
        Bits of the mask that count.
    discs : tuple of ndarray, shapes (n,)
        Columns, rows and radii of discs that are covered.
    clip : float32
    rows, columns : ndarray of int64, shapes (n + 1,) and (m + 1,)
        Edges of the cells.

    Returns
    -------
    total, number : ndarray of float64, shape (n, m)
    """
    shape = (rows.size - 1, columns.size - 1)
    total, number = np.zeros(shape), np.zeros(shape)
    width = signal.shape[1]
    above, held = np.empty(width, np.float32), np.empty(width, np.float32)
    nothing, pixel = np.float32(0.0), np.float32(1.0)
    highest = 0
    for i in range(shape[0]):
        highest = max(highest, rows[i + 1] - rows[i])
    covered = np.empty((highest, width), np.uint8)
    for i in range(shape[0]):
        _paint_discs(covered, rows[i], rows[i + 1], discs)
        for y in range(rows[i], rows[i + 1]):
            values, noises = signal[y], noise[y]
            bits, below_disc = mask[y], covered[y - rows[i]]
            for x in range(width):
                residual = values[x]
                limit = clip * noises[x]
                clear = (
                    (((bits[x] & excluded) | below_disc[x]) == 0) & (residual <= limit) & (residual >= -limit)
                )
                above[x] = residual if clear else nothing
                held[x] = pixel if clear else nothing
            for j in range(shape[1]):
                total[i, j] += _sum(above[columns[j] : columns[j + 1]])
                number[i, j] += _sum(held[columns[j] : columns[j + 1]])
    return total, number


@kernel(fastmath={"reassoc"})
def _sum(values: Pixels) -> np.float32:
    """Return the sum of some hundred values, in any order."""
    total = np.float32(0.0)
    for x in range(values.size):
        total += values[x]
    return total


@kernel
def add_cells(level: Pixels, signal: Pixels, rows: Pixels, cell: Places, share: Pixels) -> None:
    """Add cell means, which are interpolated along x already, to a surface; take them off what is above it.

    Parameters
    ----------
    level, signal : ndarray of float32, shape (height, width)
        Changed in place.
    rows : ndarray of float32, shape (cells + 1, width)
        What is added at the centre of each cell; the last twice.
    cell : ndarray of int64, shape (height,)
        Cell whose centre is before each row.
    share : ndarray of float32, shape (height,)
        Share of the next cell.
    """
    for y in range(level.shape[0]):
        before, after, part = rows[cell[y]], rows[cell[y] + 1], share[y]
        surface, above = level[y], signal[y]
        for x in range(surface.size):
            more = before[x] + part * (after[x] - before[x])
            surface[x] += more
            above[x] -= more

"""Kernel that sums the light of neighbours in apertures."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Columns of the sums: light, its variance, its change with the logarithm of the width, and neighbours in the circle.
NEIGHBOURS, VARIANCE, SLOPE, NUMBER = 0, 1, 2, 3
N_SUMS = 4
#: Cells of the grid at most, so that a few stars far apart need no memory.
_MOST_CELLS = 1 << 20


@kernel
def _cell(value: float, low: float, size: float, count: int) -> int:
    """Return the cell of a coordinate, those at the ends for what lies outside."""
    return min(max(int((value - low) / size), 0), count - 1)


@kernel
def neighbour_sums(
    places: Floats,
    flux: Floats,
    wanted: Floats,
    own: Indices,
    radius: float,
    reach: float,
    table: Floats,
    sums: Floats,
) -> None:
    """Sum what stars bring into circles about wanted places, all but the star that is there.

    Parameters
    ----------
    places : ndarray, shape (n, 2)
        Finite.
    flux : ndarray, shape (2, n)
        Flux of the stars and its variance.
    wanted : ndarray, shape (m, 2)
        NaN for places that are not known; nothing is summed there.
    own : ndarray of int, shape (m,)
        The star that is at each place, -1 for none.
    radius, reach : float
        Of the circle, and the distance beyond which stars bring nothing.
    table : ndarray, shape (2, k)
        Share of a star's light in the circle, over that of one in the middle, and its slope with the logarithm of
        the width, at distances from 0 to `reach` in equal steps.
    sums : ndarray, shape (m, 4)
        Set.
    """
    sums[:] = 0.0
    n = len(places)
    if n == 0:
        return
    low_x, low_y = places[:, 0].min(), places[:, 1].min()
    wide, high = places[:, 0].max() - low_x, places[:, 1].max() - low_y
    size = max(reach, math.sqrt((wide + reach) * (high + reach) / _MOST_CELLS))
    columns, rows = int(wide / size) + 1, int(high / size) + 1
    starts = np.zeros(columns * rows + 1, np.int64)
    cells = np.empty(n, np.int64)
    for star in range(n):
        column = _cell(places[star, 0], low_x, size, columns)
        cells[star] = _cell(places[star, 1], low_y, size, rows) * columns + column
        starts[cells[star] + 1] += 1
    for cell in range(columns * rows):
        starts[cell + 1] += starts[cell]
    order, filled = np.empty(n, np.int64), starts[:-1].copy()
    for star in range(n):
        order[filled[cells[star]]] = star
        filled[cells[star]] += 1
    scale = (table.shape[1] - 1) / reach
    for k in range(len(wanted)):
        x, y = wanted[k, 0], wanted[k, 1]
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        first, last = _cell(x - reach, low_x, size, columns), _cell(x + reach, low_x, size, columns)
        for row in range(_cell(y - reach, low_y, size, rows), _cell(y + reach, low_y, size, rows) + 1):
            for at in range(starts[row * columns + first], starts[row * columns + last + 1]):
                star = order[at]
                away = math.hypot(places[star, 0] - x, places[star, 1] - y)
                if away >= reach or star == own[k]:
                    continue
                step = min(int(away * scale), table.shape[1] - 2)
                part = away * scale - step
                held = table[0, step] + part * (table[0, step + 1] - table[0, step])
                slope = table[1, step] + part * (table[1, step + 1] - table[1, step])
                sums[k, NEIGHBOURS] += flux[0, star] * held
                sums[k, VARIANCE] += flux[1, star] * held * held
                sums[k, SLOPE] += flux[0, star] * slope
                sums[k, NUMBER] += away < radius

"""Kernels of the level and noise of the sky in tiles.

The distribution of the pixels of a tile is held as a histogram whose range follows from the tile before,
so that one pass over the pixels is enough wherever the sky is smooth.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Pixels = npt.NDArray[np.float32]
Plane = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int32]
Edges = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Bins of a histogram; the first and the last hold what lies outside.
_BINS = 256
#: Width of a bin and distance of the first from the expected level, in expected standard deviations.
_BIN_SIGMA = 0.1
_BELOW_SIGMA = 10.0
#: A histogram was good if the noise turns out within these factors of the expected.
_EXPECTED = (0.5, 1.8)
_CLIP_SIGMA = 3.0
#: Bins over which each number is spread at least before the median is taken, since the numbers of a detector
#: are whole.
_BOX = 4
_MAX_ROUNDS = 30
#: A tile is crowded if mean and median differ by more of its standard deviation (Bertin & Arnouts 1996).
_CROWDED = 0.3
#: Share of a Gaussian more than one standard deviation below its mean.
_LOWER_SHARE = 0.158655


@kernel
def tile_statistics(
    pixels: Pixels, mask: Plane, excluded: np.uint8, rows: Edges, columns: Edges, least: float
) -> tuple[Floats, Floats]:
    """Return level and noise of the sky in tiles.

    Parameters
    ----------
    pixels : ndarray of float32, shape (height, width)
        Finite.
    mask : ndarray of uint8, shape (height, width)
    excluded : uint8
        Pixels with any of these bits take no part.
    rows, columns : ndarray of int64, shapes (n + 1,) and (m + 1,)
        Edges of the tiles.
    least : float
        A tile with a smaller share of pixels that take part is not judged.

    Returns
    -------
    level, noise : ndarray of float64, shape (n, m)
        Clipped mode and standard deviation, in the unit of the pixels; NaN where not judged.
    """
    shape = (rows.size - 1, columns.size - 1)
    level, noise = np.full(shape, np.nan), np.full(shape, np.nan)
    counts = np.zeros(_BINS + 1, np.int32)
    centre, sigma = np.nan, np.nan
    for i in range(shape[0]):
        for j in range(shape[1]):
            place = (rows[i], rows[i + 1], columns[j], columns[j + 1])
            area = (place[1] - place[0]) * (place[3] - place[2])
            good, middle, mode, width = False, 0.0, 0.0, 0.0
            if sigma > 0.0:
                low, step = centre - _BELOW_SIGMA * sigma, _BIN_SIGMA * sigma
                number = _fill(counts, pixels, mask, excluded, place, low, step)
                if number < least * area or number == 0:
                    continue
                good, middle, mode, width = _summary(counts, number, low, step)
                good = good and _EXPECTED[0] * sigma < width < _EXPECTED[1] * sigma
            if not good:
                number, middle, mode, width = _afresh(counts, pixels, mask, excluded, place)
                if number < least * area or number == 0:
                    continue
            level[i, j], noise[i, j] = mode, width
            if width > 0.0:
                centre, sigma = middle, width
    return level, noise


@kernel
def _fill(
    counts: Counts,
    pixels: Pixels,
    mask: Plane,
    excluded: np.uint8,
    place: tuple[int, int, int, int],
    low: float,
    step: float,
) -> int:
    """Fill the histogram of a tile, what takes no part behind it, and return how many pixels it holds."""
    counts[:] = 0
    start, inverse = np.float32(low), np.float32(1.0 / step)
    bottom, top = np.float32(0.0), np.float32(_BINS - 1)
    width = place[3] - place[2]
    # Bins first, counts later: only the former can be done for many pixels at once.
    bins = np.empty(width, np.int32)
    for y in range(place[0], place[1]):
        row, bits = pixels[y, place[2] : place[3]], mask[y, place[2] : place[3]]
        for x in range(width):
            where = (row[x] - start) * inverse
            where = where if where > bottom else bottom
            where = where if where < top else top
            bins[x] = np.int32(where) if (bits[x] & excluded) == 0 else np.int32(_BINS)
        for x in range(width):
            counts[bins[x]] += 1
    return (place[1] - place[0]) * width - counts[_BINS]


@kernel
def _summary(counts: Counts, number: int, low: float, step: float) -> tuple[bool, float, float, float]:
    """Return whether the range was wide enough, median, mode and standard deviation of a histogram."""
    median = _quantile(counts, 0, _BINS - 1, 0.5 * number)
    sigma = max(median - _quantile(counts, 0, _BINS - 1, _LOWER_SHARE * number), 0.5)
    first, last, mean = -1, -1, median
    enclosed = True
    for _ in range(_MAX_ROUNDS):
        a, b = int(median - _CLIP_SIGMA * sigma), int(median + _CLIP_SIGMA * sigma)
        enclosed = a >= 1 and b <= _BINS - 2
        a, b = min(max(a, 1), _BINS - 2), max(min(b, _BINS - 2), 1)
        if (a == first and b == last) or b < a:
            break
        first, last = a, b
        held, total, square = 0, 0.0, 0.0
        for k in range(a, b + 1):
            held += counts[k]
            total += counts[k] * (k + 0.5)
            square += counts[k] * (k + 0.5) ** 2
        if held == 0:
            enclosed = False
            break
        mean = total / held
        median = _quantile(counts, a, b, 0.5 * held)
        # What the width of the bins adds is taken off (Sheppard 1898). What clipping takes off, a hundredth
        # and a half, is about what stars too faint to be clipped add.
        sigma = np.sqrt(max(square / held - mean**2 - 1.0 / 12.0, 0.0))
    median = _smooth_median(counts, max(first, 0), max(last, 0), _box(counts, median, sigma))
    mode = 2.5 * median - 1.5 * mean if abs(mean - median) < _CROWDED * sigma else median
    return enclosed, low + step * median, low + step * mode, step * sigma


@kernel
def _quantile(counts: Counts, first: int, last: int, wanted: float) -> float:
    """Return where, in bins, as many are reached as wanted."""
    reached = 0.0
    for k in range(first, last + 1):
        if reached + counts[k] >= wanted and counts[k] > 0:
            return k + (wanted - reached) / counts[k]
        reached += counts[k]
    return float(last + 1)


@kernel
def _box(counts: Counts, median: float, sigma: float) -> float:
    """Return the width, in bins, over which the numbers of a detector are to be spread.

    Whole numbers, of which only some bins hold one, are recognised by the bins that are empty.
    """
    a, b = max(int(median - 2.0 * sigma), 1), min(int(median + 2.0 * sigma), _BINS - 2)
    first, last, occupied = -1, -1, 0
    for k in range(a, b + 1):
        if counts[k] > 0:
            first, last = k if first < 0 else first, k
            occupied += 1
    if occupied < 2:
        return float(_BOX)
    spacing = (last - first) / (occupied - 1)
    return spacing * np.ceil(_BOX / spacing)


@kernel
def _smooth_median(counts: Counts, first: int, last: int, box: float) -> float:
    """Return the median of some bins, in bins, where each number is spread over a box."""
    reached, area = np.zeros(_BINS + 1), np.zeros(_BINS + 1)
    for k in range(_BINS):
        held = counts[k] if first <= k <= last else 0
        reached[k + 1] = reached[k] + held
        area[k + 1] = area[k] + 0.5 * (reached[k] + reached[k + 1])
    low, high = float(first), float(last + 1)
    for _ in range(16):
        middle = 0.5 * (low + high)
        inside = _area(reached, area, middle + 0.5 * box) - _area(reached, area, middle - 0.5 * box)
        if inside < 0.5 * box * reached[_BINS]:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@kernel
def _area(reached: Floats, area: Floats, x: float) -> float:
    """Return the integral of the cumulative distribution up to a place, in bins."""
    if x <= 0.0:
        return 0.0
    if x >= _BINS:
        return area[_BINS] + (x - _BINS) * reached[_BINS]
    k = int(x)
    part = x - k
    return area[k] + part * (reached[k] + 0.5 * part * (reached[k + 1] - reached[k]))


@kernel
def _afresh(
    counts: Counts, pixels: Pixels, mask: Plane, excluded: np.uint8, place: tuple[int, int, int, int]
) -> tuple[int, float, float, float]:
    """Return number, median, mode and standard deviation of a tile of which nothing is expected."""
    values = np.empty((place[1] - place[0]) * (place[3] - place[2]), np.float32)
    number = 0
    for y in range(place[0], place[1]):
        for x in range(place[2], place[3]):
            if (mask[y, x] & excluded) == 0:
                values[number] = pixels[y, x]
                number += 1
    if number == 0:
        return 0, 0.0, 0.0, 0.0
    values = np.sort(values[:number])
    middle = float(values[number // 2])
    sigma = middle - float(values[int(_LOWER_SHARE * number)])
    # A tile of which a part is constant has no width that means anything but that of all its pixels.
    mean = values.astype(np.float64).mean()
    if sigma <= 0.0:
        return number, middle, mean, values.astype(np.float64).std()
    mode = middle
    for _ in range(3):
        low, step = middle - _BELOW_SIGMA * sigma, _BIN_SIGMA * sigma
        _fill(counts, pixels, mask, excluded, place, low, step)
        good, middle, mode, width = _summary(counts, number, low, step)
        good = good and _EXPECTED[0] * sigma < width < _EXPECTED[1] * sigma
        if width <= 0.0:
            return number, middle, mean, values.astype(np.float64).std()
        sigma = width
        if good:
            break
    return number, middle, mode, sigma

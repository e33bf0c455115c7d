"""Kernels that find pairs of positions on the sky.

Positions are projected onto a plane, along the mean direction of one of the two sets. A projection never makes
a distance longer, so pairs within a distance lie at most so far apart in the plane: this is true everywhere on the
sphere, and neither poles nor RA 0 are special. The plane is divided into strips, and the positions of a strip are
sorted along it. The distances that are compared are those of the unit vectors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray, IntArray

#: Wider than the rounding of projected unit vectors.
ROUNDING = 1e-14
#: Distances of a sort by insertion, largest first (Ciura 2001).
_GAPS = (701, 301, 132, 57, 23, 10, 4, 1)


class Strips(NamedTuple):
    """Positions in strips of a plane, sorted by strip and then along it.

    Attributes
    ----------
    vectors : ndarray, shape (n, 3)
        Unit vectors.
    along : ndarray, shape (n,)
        Coordinate along the strip.
    rows : ndarray of int64, shape (n,)
        Where the positions were before they were sorted.
    starts : ndarray of int64, shape (strips + 1,)
        First position of each strip, and the number of positions.
    axes : ndarray, shape (2, 3)
        Unit vectors along and across the strips.
    low, height : float
        Lower edge of the first strip, and the height of all.
    """

    vectors: FloatArray
    along: FloatArray
    rows: IntArray
    starts: IntArray
    axes: FloatArray
    low: float
    height: float


@kernel
def project(vectors: FloatArray, axes: FloatArray) -> FloatArray:
    """Return the coordinates of vectors of shape (n, 3) along axes of shape (2, 3); shape (2, n)."""
    places = np.empty((2, len(vectors)))
    for row in range(len(vectors)):
        for axis in range(2):
            places[axis, row] = _along(vectors, row, axes, axis)
    return places


@kernel
def extent(vectors: FloatArray, axes: FloatArray) -> FloatArray:
    """Return the smallest and largest coordinates of vectors along axes, shape (2, 2); infinite if there are none."""
    bounds = np.array([[np.inf, -np.inf], [np.inf, -np.inf]])
    for row in range(len(vectors)):
        for axis in range(2):
            place = _along(vectors, row, axes, axis)
            if place < bounds[axis, 0]:
                bounds[axis, 0] = place
            if place > bounds[axis, 1]:
                bounds[axis, 1] = place
    return bounds


@kernel
def _along(vectors: FloatArray, row: int, axes: FloatArray, axis: int) -> float:
    return vectors[row, 0] * axes[axis, 0] + vectors[row, 1] * axes[axis, 1] + vectors[row, 2] * axes[axis, 2]


@kernel
def fill_strips(
    vectors: FloatArray, places: FloatArray, order: IntArray, starts: IntArray, low: float, height: float
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Distribute positions over strips.

    Parameters
    ----------
    vectors : ndarray, shape (n, 3)
    places : ndarray, shape (2, n)
        Coordinates along and across the strips.
    order : ndarray of int64, shape (m,)
        Rows that take part, sorted along the strips.
    starts : ndarray of int64, shape (strips + 1,)
        Zeros, which become the first position of each strip.
    low, height : float

    Returns
    -------
    vectors, along, rows : ndarray
        As in :class:`Strips`.
    """
    last = starts.size - 2
    for row in order:
        starts[min(int((places[1, row] - low) / height), last) + 1] += 1
    for strip in range(last + 1):
        starts[strip + 1] += starts[strip]
    free = starts[:-1].copy()
    sorted_vectors, along = np.empty((order.size, 3)), np.empty(order.size)
    rows = np.empty(order.size, np.int64)
    for row in order:
        strip = min(int((places[1, row] - low) / height), last)
        place = free[strip]
        free[strip] += 1
        along[place], rows[place] = places[0, row], row
        for axis in range(3):
            sorted_vectors[place, axis] = vectors[row, axis]
    return sorted_vectors, along, rows


@kernel(error_model="numpy")
def find_pairs(
    left: FloatArray,
    strips: Strips,
    reach: float,
    most: int,
    first_row: int,
    pairs: tuple[IntArray, IntArray, FloatArray],
    closest: FloatArray,
    closest_row: IntArray,
) -> tuple[int, int]:
    """Find the pairs of positions within a distance, or the nearest partners of each position on the left.

    Everything is in one loop, and no list grows in it: lists that may be exchanged are counted by their users at each
    step, which takes three quarters of the time.

    Parameters
    ----------
    left : ndarray, shape (n, 3)
        Unit vectors; those that are NaN have no partner.
    strips : Strips
        The positions on the right.
    reach : float
        Largest straight distance on the unit sphere.
    most : int
        So many partners at most, the nearest; 0 for all.
    first_row : int
        Row on the left to begin with.
    pairs : tuple of ndarray, shape (room,)
        Becomes rows on the left and on the right, and the square of the distance, sorted by left row,
        distance and right row; in no order within a left row if `most` is 0.
    closest : ndarray, shape (m,) or (0,)
        Infinite; becomes the square of the distance of each position on the right from its nearest on the left, where
        that is within reach. Left alone if it has no elements.
    closest_row : ndarray of int64, shape (m,) or (0,)
        Becomes the row of the nearest on the left; of equal ones the first.

    Returns
    -------
    n_pairs, next_row : int
        The second is `n` unless there was no room for the pairs of that row.
    """
    vectors, along, rows, starts = strips.vectors, strips.along, strips.rows, strips.starts
    axes, low, height = strips.axes, strips.low, strips.height
    a0, a1, a2 = axes[0, 0], axes[0, 1], axes[0, 2]
    b0, b1, b2 = axes[1, 0], axes[1, 1], axes[1, 2]
    i, j, square = pairs
    n_strips, both_ways, end = starts.size - 1, closest.size > 0, 0
    for row in range(first_row, left.shape[0]):
        x, y, z = left[row, 0], left[row, 1], left[row, 2]
        u, v = x * a0 + y * a1 + z * a2, x * b0 + y * b1 + z * b2
        if not (math.isfinite(u) and math.isfinite(v)):
            continue
        begin, held = end, 0
        if begin + most > i.size:
            return begin, row
        limit, bound = reach * reach, reach + ROUNDING
        below = int(min(max((v - low) / height, -1.0), n_strips - 1.0))
        above = below + 1
        while True:
            # The next strip is the nearer of the two beside those that were searched.
            gap_below = v - (low + (below + 1) * height) if below >= 0 else math.inf
            gap_above = low + above * height - v if above < n_strips else math.inf
            if min(gap_below, gap_above) > bound:
                break
            if gap_below <= gap_above:
                strip = below
                below -= 1
            else:
                strip = above
                above += 1
            first, last = starts[strip], starts[strip + 1]
            middle, size = first, last - first
            while size > 0:
                half = size >> 1
                if along[middle + half] < u:
                    middle += half + 1
                    size -= half + 1
                else:
                    size = half
            for step in (1, -1):
                place = middle if step == 1 else middle - 1
                while first <= place < last and abs(along[place] - u) <= bound:
                    dx, dy, dz = vectors[place, 0] - x, vectors[place, 1] - y, vectors[place, 2] - z
                    value = dx * dx + dy * dy + dz * dz
                    if value <= limit:
                        other = rows[place]
                        if both_ways and value < closest[other]:
                            closest[other], closest_row[other] = value, row
                        if most == 0 and begin + held == i.size:
                            return begin, row
                        # Of equal distances the smaller row is nearer, in whatever order they come.
                        hole = begin + held
                        if most == 0 or held < most:
                            held += 1
                        elif value < square[hole - 1] or (value == square[hole - 1] and other < j[hole - 1]):
                            hole -= 1
                        else:
                            hole = -1
                        while (
                            hole > begin
                            and most != 0
                            and (
                                square[hole - 1] > value
                                or (square[hole - 1] == value and j[hole - 1] > other)
                            )
                        ):
                            j[hole], square[hole] = j[hole - 1], square[hole - 1]
                            hole -= 1
                        if hole >= 0:
                            j[hole], square[hole] = other, value
                        if held == most and not both_ways:
                            limit = square[begin + most - 1]
                            bound = math.sqrt(limit) + ROUNDING
                    place += step
        end = begin + held
        i[begin:end] = row
    return end, left.shape[0]


@kernel
def sort_partners(i: IntArray, j: IntArray, square: FloatArray) -> None:
    """Sort pairs that are sorted by `i` by `j` as well, in place; shape (n,) each."""
    begin = 0
    while begin < i.size:
        end = begin + 1
        while end < i.size and i[end] == i[begin]:
            end += 1
        for gap in _GAPS:
            for place in range(begin + gap, end):
                row, value = j[place], square[place]
                hole = place
                while hole - gap >= begin and j[hole - gap] > row:
                    j[hole], square[hole] = j[hole - gap], square[hole - gap]
                    hole -= gap
                j[hole], square[hole] = row, value
        begin = end


@kernel(error_model="numpy")
def measure_moved(
    left: FloatArray,
    i: IntArray,
    j: IntArray,
    years: FloatArray,
    stars: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return how far positions are from stars that move, and where the stars are then.

    Parameters
    ----------
    left : ndarray, shape (n, 3)
        Unit vectors.
    i, j : ndarray of int64, shape (p,)
        The pairs.
    years : ndarray, shape (p,)
        Julian years since the epoch of the stars.
    stars : tuple of ndarray
        Right ascension and declination, degrees, shape (m,); unit vectors and their motion in a year, shape (m, 3).

    Returns
    -------
    chord, ra, dec : ndarray, shape (p,)
        Straight distance on the unit sphere; degrees, right ascension in [0, 360).

    Notes
    -----
    The motion is that of :func:`skylake.core.sphere.apply_proper_motion`.
    """
    star_ra, star_dec, vectors, motion = stars
    chord, ra, dec = np.empty(i.size), np.empty(i.size), np.empty(i.size)
    for pair in range(i.size):
        star, row = j[pair], i[pair]
        x, y, z = vectors[star, 0], vectors[star, 1], vectors[star, 2]
        a, b, c = motion[star, 0], motion[star, 1], motion[star, 2]
        ra[pair], dec[pair] = star_ra[star], star_dec[star]
        if a != 0.0 or b != 0.0 or c != 0.0:
            x, y, z = x + years[pair] * a, y + years[pair] * b, z + years[pair] * c
            length = math.sqrt(x * x + y * y + z * z)
            x, y, z = x / length, y / length, z / length
            degrees = math.degrees(math.atan2(y, x))
            # A tiny negative angle would be 360 after a turn.
            ra[pair] = degrees if degrees >= 0.0 else (degrees + 360.0 if degrees + 360.0 < 360.0 else 0.0)
            dec[pair] = math.degrees(math.atan2(z, math.sqrt(x * x + y * y)))
        dx, dy, dz = left[row, 0] - x, left[row, 1] - y, left[row, 2] - z
        chord[pair] = math.sqrt(dx * dx + dy * dy + dz * dz)
    return chord, ra, dec

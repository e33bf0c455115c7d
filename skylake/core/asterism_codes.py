"""Codes of asterisms of four stars, which do not change when the picture is moved, turned or scaled.

The two stars that are farthest apart, A and B, make a frame of reference; the places of the other two in it, C and D,
are the code of the asterism, four numbers (Lang et al. 2010, AJ 139, 1782). Here the frame lies in the plane through A
and B that is perpendicular to the direction between them, so a code is the same for unit vectors however they
are turned, for asterisms of any size. A mirrored asterism has the code with the signs of both y reversed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.declination_zones import Zones, find_cone
from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray, IntArray

Bytes = npt.NDArray[np.uint8]

#: No star is farther from the line AB than it is long; its distance is below sqrt(3) / 2.
_Y_LIMIT = 0.9
#: Sizes are kept as logarithms in steps of this, from the smallest on.
SIZE_STEP = 0.012
#: Codes are kept in so many steps.
_STEPS = 255.0
#: Stars of a band around which its density is counted, where it does not have all that were wanted.
_SAMPLE = 60


class Quads(NamedTuple):
    """The asterisms of a band, sorted by cells of their code.

    Attributes
    ----------
    stars : ndarray of uint32, shape (q, 4)
        A, B, C and D, as numbers of stars of the band.
    codes : ndarray of uint8, shape (q, 4)
        x and y of C and of D, packed.
    sizes : ndarray of uint8, shape (q,)
        Logarithm of the chord AB, packed.
    starts : ndarray of uint32, shape (cells + 1,)
        First asterism of each cell, and the number of asterisms.
    n_x : int
        Cells along x; twice as many lie along y.
    smallest : float
        Chord of size 0, radians.
    """

    stars: npt.NDArray[np.uint32]
    codes: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.uint32]
    n_x: int
    smallest: float


class Described(NamedTuple):
    """Asterisms in any order: the first three of :class:`Quads`."""

    stars: npt.NDArray[np.uint32]
    codes: Bytes
    sizes: Bytes


class AsterismBand(NamedTuple):
    """Bright stars, evenly spread over the sky, and the asterisms that neighbours among them make.

    Attributes
    ----------
    density : float
        Stars per steradian that were wanted; there are fewer where the catalog has no more.
    rank : int
        A star of the band has fewer than so many brighter ones within `reach`.
    reach : float
        Radians.
    zones : Zones
    quads : Quads
    """

    density: float
    rank: int
    reach: float
    zones: Zones
    quads: Quads


def local_density(band: AsterismBand) -> float:
    """Return the stars per steradian of a band where it has stars: a catalog may hold but a part of the sky."""
    zones = band.zones
    whole = len(zones.ra) / (4.0 * math.pi)
    if whole >= band.density or not len(zones.ra):
        return min(whole, band.density)
    some = np.linspace(0, len(zones.ra) - 1, min(_SAMPLE, len(zones.ra))).astype(np.int64)
    stars = np.empty(4096, np.int64)
    reach = min(2.0 * band.reach, 1.0)
    counts = [find_cone(zones, vector, reach, stars) for vector in zones.vectors[some].astype(float)]
    cap = 2.0 * math.pi * (1.0 - math.cos(reach))
    return max(whole, min(band.density, float(np.median(counts)) / cap))


@kernel(error_model="numpy")
def describe(vectors: FloatArray, order: IntArray, code: FloatArray) -> float:
    """Write the order A, B, C, D and the code of four stars; return the chord AB.

    C has the smaller x, and the mean of both x is at most one half: else names are exchanged.

    Parameters
    ----------
    vectors : ndarray, shape (4, 3)
        Unit vectors.
    order : ndarray of int64, shape (4,)
        Written.
    code : ndarray, shape (4,)
        Written: x and y of C, x and y of D.
    """
    longest, first, second = -1.0, 0, 1
    for i in range(3):
        for j in range(i + 1, 4):
            dx, dy, dz = (
                vectors[i, 0] - vectors[j, 0],
                vectors[i, 1] - vectors[j, 1],
                vectors[i, 2] - vectors[j, 2],
            )
            square = dx * dx + dy * dy + dz * dz
            if square > longest:
                longest, first, second = square, i, j
    size = math.sqrt(longest)
    order[0], order[1] = first, second
    place = 2
    for i in range(4):
        if i not in (first, second):
            order[place] = i
            place += 1
    describe_named(vectors, size, order, code)
    return size


@kernel(error_model="numpy")
def describe_named(vectors: FloatArray, size: float, order: IntArray, code: FloatArray) -> None:
    """Write the code of four stars, of which `order` names A and B, `size` apart, first; exchange names."""
    if size == 0.0:
        code[:] = 0.0
        return
    _coordinates(vectors, order, size, code)
    if code[0] + code[2] > 1.0:
        order[0], order[1] = order[1], order[0]
        code[0], code[1], code[2], code[3] = 1.0 - code[0], -code[1], 1.0 - code[2], -code[3]
    if code[0] > code[2]:
        order[2], order[3] = order[3], order[2]
        code[0], code[1], code[2], code[3] = code[2], code[3], code[0], code[1]


@kernel(error_model="numpy")
def _coordinates(vectors: FloatArray, order: IntArray, size: float, code: FloatArray) -> None:
    a, b = vectors[order[0]], vectors[order[1]]
    mx, my, mz = a[0] + b[0], a[1] + b[1], a[2] + b[2]
    norm = math.sqrt(mx * mx + my * my + mz * mz)
    mx, my, mz = mx / norm, my / norm, mz / norm
    ex, ey, ez = (b[0] - a[0]) / size, (b[1] - a[1]) / size, (b[2] - a[2]) / size
    fx, fy, fz = my * ez - mz * ey, mz * ex - mx * ez, mx * ey - my * ex
    for place in range(2):
        c = vectors[order[2 + place]]
        code[2 * place] = ((c[0] - a[0]) * ex + (c[1] - a[1]) * ey + (c[2] - a[2]) * ez) / size
        code[2 * place + 1] = (c[0] * fx + c[1] * fy + c[2] * fz) / size


@kernel
def describe_all(vectors: FloatArray, members: IntArray, codes: FloatArray, sizes: FloatArray) -> None:
    """Describe many asterisms; their members are put in the order A, B, C, D.

    Parameters
    ----------
    vectors : ndarray, shape (n, 3)
    members : ndarray of int64, shape (q, 4)
        Changed in place.
    codes : ndarray, shape (q, 4)
        Written.
    sizes : ndarray, shape (q,)
        Written: chords AB.
    """
    four, order = np.empty((4, 3)), np.empty(4, np.int64)
    own = np.empty(4, np.int64)
    for quad in range(members.shape[0]):
        for i in range(4):
            own[i] = members[quad, i]
            four[i] = vectors[own[i]]
        sizes[quad] = describe(four, order, codes[quad])
        for i in range(4):
            members[quad, i] = own[order[i]]


@kernel
def cell_x(x: float, n_x: int) -> int:
    """Return the cell of a coordinate x of a code."""
    return min(max(int(x * n_x), 0), n_x - 1)


@kernel
def cell_y(y: float, n_x: int) -> int:
    """Return the cell of a coordinate y of a code."""
    return min(max(int((y / _Y_LIMIT + 1.0) * n_x), 0), 2 * n_x - 1)


@kernel
def cell_of(xc: int, yc: int, xd: int, yd: int, n_x: int) -> int:
    """Return the cell of a code by the cells of its coordinates; neighbours in the last come together."""
    return ((xc * 2 * n_x + yc) * n_x + xd) * 2 * n_x + yd


@kernel
def unpacked_x(byte: int) -> float:
    """Return x of a packed code."""
    return byte / _STEPS


@kernel
def unpacked_y(byte: int) -> float:
    """Return y of a packed code."""
    return (byte / _STEPS * 2.0 - 1.0) * _Y_LIMIT


@kernel
def packed_x(x: float) -> int:
    """Return the byte of a coordinate x of a code; the largest error is 0.002."""
    return min(max(int(x * _STEPS + 0.5), 0), int(_STEPS))


@kernel
def packed_y(y: float) -> int:
    """Return the byte of a coordinate y of a code; the largest error is 0.0035."""
    return packed_x(0.5 * (y / _Y_LIMIT + 1.0))


@kernel
def packed_size(size: float, smallest: float) -> int:
    """Return the byte of a chord; -1 for one that is smaller than the smallest, or twenty times larger."""
    steps = math.log(max(size, 1e-12) / smallest) / SIZE_STEP
    return int(steps + 0.5) if -0.5 < steps < _STEPS + 0.5 else -1


def sorted_quads(blocks: list[Described], smallest: float) -> Quads:
    """Return described asterisms sorted by the cells of their packed codes, a few in each.

    Parameters
    ----------
    blocks : list of Described
        Emptied, so that a block is not in memory any longer than it has to be.
    smallest : float
        The chord of size 0.
    """
    number = sum(len(block.sizes) for block in blocks)
    # There are 4 n_x ** 4 cells, of which symmetry leaves a quarter.
    n_x = int(np.clip(round((number / 4.0) ** 0.25), 2, 40))
    of_x = np.array([cell_x(unpacked_x(byte), n_x) for byte in range(256)])
    of_y = np.array([cell_y(unpacked_y(byte), n_x) for byte in range(256)])
    starts = np.zeros(4 * n_x**4 + 1, np.uint32)
    for block in blocks:
        _count(block.codes, of_x, of_y, n_x, starts)
    np.cumsum(starts, out=starts)
    sorted_ = Described(
        np.empty((number, 4), np.uint32), np.empty((number, 4), np.uint8), np.empty(number, np.uint8)
    )
    while blocks:
        _put(blocks.pop(), of_x, of_y, n_x, starts, sorted_)
    return Quads(*sorted_, starts, n_x, smallest)


@kernel
def _count(codes: Bytes, of_x: IntArray, of_y: IntArray, n_x: int, counts: npt.NDArray[np.uint32]) -> None:
    """Count the asterisms of each cell."""
    for quad in range(codes.shape[0]):
        a, b, c, d = codes[quad, 0], codes[quad, 1], codes[quad, 2], codes[quad, 3]
        counts[cell_of(of_x[a], of_y[b], of_x[c], of_y[d], n_x)] += 1


@kernel
def _put(
    block: Described, of_x: IntArray, of_y: IntArray, n_x: int, ends: npt.NDArray[np.uint32], out: Described
) -> None:
    """Put asterisms into their cells, each before the ones that are there: the end of a cell becomes its start."""
    # Few words in place of many bytes: 16 of stars, and 4 of a code.
    stars, from_stars = out.stars.view(np.uint64), block.stars.view(np.uint64)
    codes, from_codes = out.codes.view(np.uint32), block.codes.view(np.uint32)
    for quad in range(block.sizes.size - 1, -1, -1):
        a, b = block.codes[quad, 0], block.codes[quad, 1]
        c, d = block.codes[quad, 2], block.codes[quad, 3]
        cell = cell_of(of_x[a], of_y[b], of_x[c], of_y[d], n_x)
        place = ends[cell] - np.uint32(1)
        ends[cell] = place
        stars[place, 0], stars[place, 1] = from_stars[quad, 0], from_stars[quad, 1]
        codes[place, 0] = from_codes[quad, 0]
        out.sizes[place] = block.sizes[quad]

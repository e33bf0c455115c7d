"""Asterisms of four stars, told by numbers that do not change when the picture is moved, turned or scaled.

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

from skylake.core.kernels import kernel
from skylake.core.sphere import FloatArray, IntArray
from skylake.core.zones import Zones, find_cone

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


class Band(NamedTuple):
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


def local_density(band: Band) -> float:
    """Return the stars per steradian of a band where it has stars: a catalog may hold but a part of the sky."""
    zones = band.zones
    whole = len(zones.ra) / (4.0 * math.pi)
    if whole >= band.density or not len(zones.ra):
        return min(whole, band.density)
    some = np.linspace(0, len(zones.ra) - 1, min(_SAMPLE, len(zones.ra))).astype(np.int64)
    found = np.empty(4096, np.int64)
    reach = min(2.0 * band.reach, 1.0)
    counts = [find_cone(zones, vector, reach, found) for vector in zones.vectors[some].astype(float)]
    cap = 2.0 * math.pi * (1.0 - math.cos(reach))
    return max(whole, min(band.density, float(np.median(counts)) / cap))


@kernel
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
            square = 0.0
            for k in range(3):
                square += (vectors[i, k] - vectors[j, k]) ** 2
            if square > longest:
                longest, first, second = square, i, j
    size = math.sqrt(longest)
    order[0], order[1] = first, second
    place = 2
    for i in range(4):
        if i not in (first, second):
            order[place] = i
            place += 1
    if size == 0.0:
        code[:] = 0.0
        return size
    _coordinates(vectors, order, size, code)
    if code[0] + code[2] > 1.0:
        order[0], order[1] = second, first
        code[0], code[1], code[2], code[3] = 1.0 - code[0], -code[1], 1.0 - code[2], -code[3]
    if code[0] > code[2]:
        order[2], order[3] = order[3], order[2]
        code[0], code[1], code[2], code[3] = code[2], code[3], code[0], code[1]
    return size


@kernel
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


def packed_codes(codes: FloatArray) -> npt.NDArray[np.uint8]:
    """Return codes as bytes; the largest error is 0.002 in x and 0.0035 in y."""
    scaled = codes.copy()
    scaled[:, 1::2] = 0.5 * (codes[:, 1::2] / _Y_LIMIT + 1.0)
    return np.clip(np.rint(scaled * _STEPS), 0, _STEPS).astype(np.uint8)


def cells_of(codes: FloatArray, n_x: int) -> IntArray:
    """Return the cells of codes, shape (q,)."""
    x = np.clip((codes[:, 0::2] * n_x).astype(np.int64), 0, n_x - 1)
    y = np.clip(((codes[:, 1::2] / _Y_LIMIT + 1.0) * n_x).astype(np.int64), 0, 2 * n_x - 1)
    return np.asarray(((x[:, 0] * 2 * n_x + y[:, 0]) * n_x + x[:, 1]) * 2 * n_x + y[:, 1])


def sorted_quads(members: IntArray, codes: FloatArray, sizes: FloatArray, smallest: float) -> Quads:
    """Return described asterisms sorted by cells, a few in each.

    Those smaller than `smallest`, or twenty times larger, are left out, so that a byte holds the others.
    """
    packed = np.rint(np.log(np.maximum(sizes, 1e-12) / smallest) / SIZE_STEP)
    kept = np.flatnonzero((packed >= 0) & (packed <= _STEPS))
    # There are 4 n_x ** 4 cells, of which symmetry leaves a quarter.
    n_x = int(np.clip(round((kept.size / 4.0) ** 0.25), 2, 40))
    cells = cells_of(codes[kept], n_x)
    order = np.argsort(cells, kind="stable")
    kept, cells = kept[order], cells[order]
    starts = np.searchsorted(cells, np.arange(4 * n_x**4 + 1)).astype(np.uint32)
    return Quads(
        members[kept].astype(np.uint32), packed_codes(codes[kept]), packed[kept].astype(np.uint8), starts,
        n_x, smallest,
    )  # fmt: skip

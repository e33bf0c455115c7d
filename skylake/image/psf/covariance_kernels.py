"""Kernels that give the variance of each flux of a sparse system of stars."""

from __future__ import annotations

import math

import numpy as np

from skylake.core.jit import kernel
from skylake.image.psf.forced_aperture_kernels import LEAST_VARIANCE
from skylake.image.psf.pair_kernels import Bytes, Doubles, Places
from skylake.image.psf.psf_kernels import Single

_ZERO = np.float32(0.0)
#: Columns of what is held of a pair: the element of the normal matrix, and that of the variance beyond the sky's.
_OVERLAP, _NOISE = 0, 1
#: Stars no farther apart than this, pixels, can hardly be told apart.
_SAME_PLACE_PX = 0.2
#: Correlations of local skies are told at distances of so many pixels.
SKY_STEP = 0.25


@kernel
def _strong(place: int, i: int, j: int, values: Doubles, diagonal: Doubles, least: float) -> bool:
    return bool(abs(values[place]) > least * math.sqrt(diagonal[i] * diagonal[j]))


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _noise_of_row(
    stamps: Single,
    i: int,
    j: int,
    one: int,
    two: int,
    signal: Single,
    left: Single,
    plane: Single,
    planes: bool,
    good: Bytes,
    clean: bool,
    row: int,
    start: int,
    end: int,
) -> np.float32:
    """Return the sum over the good pixels of a row of the products of two stamps and a plane, or light without one."""
    total, y = _ZERO, np.uint64(row)
    for x in range(start, end):
        # Pixels that are not good may hold anything.
        if not clean and good[y, np.uint64(x)] == 0:
            continue
        product = stamps[np.uint64(i), np.uint64(one + x)] * stamps[np.uint64(j), np.uint64(two + x)]
        if planes:
            total += product * plane[y, np.uint64(x)]
        else:
            total += product * max(signal[y, np.uint64(x)] - left[y, np.uint64(x)], _ZERO)
    return total


@kernel
def noise_overlaps(
    diagonal: Doubles,
    starts: Places,
    partners: Places,
    values: Doubles,
    least: float,
    stamps: Single,
    half: int,
    columns: Places,
    rows: Places,
    signal: Single,
    left: Single,
    good: Bytes,
    clean: bool,
    gain: float,
    plane: Single,
    scale: float,
    offset: Single,
) -> Doubles:
    """Return the sums of the products of the stamps of pairs and the variance of pixels beyond that of the sky.

    Parameters
    ----------
    diagonal, starts, partners, values, least
        As :func:`local_variance` has them; pairs that it leaves out have 0.
    stamps, half, columns, rows
        The stars, shape (n, ...), and the half size of their stamps.
    signal, left : ndarray of float32, shape (height, width)
        With the stars, and without them.
    good : ndarray of uint8, shape (height, width)
    clean : bool
        Whether all pixels are good.
    gain : float
    plane : ndarray of float32
        Variances of pixels, to be multiplied by `scale`; or empty, for photons of what was subtracted.
    offset : ndarray of float32, shape (n,)
        What is added to them at each star to have that beyond the sky's.

    Returns
    -------
    ndarray, shape of `partners`
    """
    side, found, planes = 2 * half + 1, np.zeros(len(partners)), plane.shape[0] == signal.shape[0]
    height, width = signal.shape
    for i in range(len(columns)):
        for pair in range(starts[i], starts[i + 1]):
            j = partners[pair]
            if not _strong(pair, i, j, values, diagonal, least):
                continue
            start = max(max(columns[i], columns[j]) - half, 0)
            end = min(min(columns[i], columns[j]) + half + 1, width)
            for y in range(
                max(max(rows[i], rows[j]) - half, 0), min(min(rows[i], rows[j]) + half + 1, height)
            ):
                one = (y - rows[i] + half) * side - columns[i] + half
                two = (y - rows[j] + half) * side - columns[j] + half
                found[pair] += _noise_of_row(
                    stamps, i, j, one, two, signal, left, plane, planes, good, clean, y, start, end
                )
            if planes:
                # Where the sky differs between the two, what lies half way belongs to both.
                found[pair] = scale * found[pair] + 0.5 * (offset[i] + offset[j]) * values[pair]
            else:
                found[pair] /= gain
    return found


@kernel
def _both_ways(
    diagonal: Doubles, starts: Places, partners: Places, values: Doubles, least: float, noises: Doubles
) -> tuple[Places, Places, Doubles]:
    """Return rows with both triangles of two matrices, of the pairs that overlap by more than a share."""
    n = len(diagonal)
    first = np.zeros(n + 2, np.int64)
    strong = np.zeros(len(partners), np.bool_)
    for i in range(n):
        for place in range(starts[i], starts[i + 1]):
            j = partners[place]
            strong[place] = _strong(place, i, j, values, diagonal, least)
            if strong[place]:
                first[i + 2] += 1
                first[j + 2] += 1
    for i in range(n):
        first[i + 2] += first[i + 1]
    others, elements = np.empty(first[n + 1], np.int64), np.empty((first[n + 1], 2))
    for i in range(n):
        for place in range(starts[i], starts[i + 1]):
            if strong[place]:
                j = partners[place]
                for here, other in ((first[i + 1], j), (first[j + 1], i)):
                    others[here] = other
                    elements[here, _OVERLAP], elements[here, _NOISE] = values[place], noises[place]
                first[i + 1] += 1
                first[j + 1] += 1
    return first, others, elements


@kernel
def _choose(
    star: int, first: Places, others: Places, elements: Doubles, diagonal: Doubles, members: Places
) -> int:
    """Set `members` to a star and its strongest neighbours, as many as there is room for; return how many."""
    size, most = 1, len(members)
    members[0] = star
    for place in range(first[star], first[star + 1]):
        strength = elements[place, _OVERLAP] ** 2 / diagonal[others[place]]
        spot = min(size, most - 1)
        if size == most and strength <= _strength(star, members[spot], first, others, elements, diagonal):
            continue
        while spot > 1 and strength > _strength(star, members[spot - 1], first, others, elements, diagonal):
            members[spot] = members[spot - 1]
            spot -= 1
        members[spot] = others[place]
        size = min(size + 1, most)
    return size


@kernel
def _strength(
    star: int, other: int, first: Places, others: Places, elements: Doubles, diagonal: Doubles
) -> float:
    for place in range(first[star], first[star + 1]):
        if others[place] == other:
            return elements[place, _OVERLAP] ** 2 / diagonal[other]
    return 0.0


@kernel
def _fill(
    members: Places,
    first: Places,
    others: Places,
    elements: Doubles,
    diagonal: Doubles,
    noise: Doubles,
    matrix: Doubles,
    noises: Doubles,
) -> None:
    """Set the normal matrix of some stars, and what its elements are with the variance beyond the sky's as weight."""
    size = len(members)
    for i in range(size):
        matrix[i, :size], noises[i, :size] = 0.0, 0.0
        matrix[i, i], noises[i, i] = diagonal[members[i]], noise[members[i]]
        for place in range(first[members[i]], first[members[i] + 1]):
            for j in range(size):
                if members[j] == others[place]:
                    matrix[i, j], noises[i, j] = elements[place, _OVERLAP], elements[place, _NOISE]


@kernel
def local_variance(
    diagonal: Doubles,
    starts: Places,
    partners: Places,
    values: Doubles,
    least: float,
    noise: Doubles,
    noises: Doubles,
    rms: Single,
    flux: Doubles,
    ridge: Doubles,
    turns: int,
    most: int,
    skies: Doubles,
    x: Doubles,
    y: Doubles,
    common: Doubles,
) -> tuple[Doubles, Doubles]:
    """Return the variance of each flux, and by how much neighbours increase that from the sky.

    The system of a star and its strongest neighbours, at most `most` in all, is inverted: its own element of the
    inverse is what the whole inverse has there, but for neighbours of neighbours. What the ridge moves from one star
    to another counts as an error: light of stars that cannot be told apart is shared out, whosever it is.

    Parameters
    ----------
    diagonal, noise : ndarray, shape (n,)
        Diagonal of the normal matrix, and the sums of stamp^2 x variance of pixels beyond that of the sky.
    starts, partners, values : ndarray
        Pairs, as :mod:`skylake.image.psf.pair_kernels` keeps them.
    least : float
        Pairs that overlap by a smaller share are left out.
    noises : ndarray, shape of `values`
        What `noise` is for pairs, see :func:`noise_overlaps`.
    rms : ndarray of float32, shape (n,)
        Noise of the sky per pixel.
    flux, ridge : ndarray, shape (n,)
        The second is the part of the diagonal that no pixel has told.
    turns : int
        How often the system was solved, each time with the ridge times the last solution on its right.
    skies, x, y : ndarray, shape (n,)
        What the error of the local sky adds to the right side of the system, and where the stars are, pixels.
    common : ndarray
        Correlation of the local skies of two stars that are 0, 1, 2, ... times `SKY_STEP` pixels apart; 0 beyond.

    Returns
    -------
    variance, increase : ndarray, shape (n,)
        Positive where `rms` is.
    """
    n = len(diagonal)
    variance, increase = np.empty(n), np.empty(n)
    members, matrix, column = np.empty(most, np.int64), np.empty((most, most)), np.empty(most)
    shared, amounts, moved = np.empty((most, most)), np.empty(most), np.empty(most)
    first, others, elements = _both_ways(diagonal, starts, partners, values, least, noises)
    for star in range(n):
        size = _choose(star, first, others, elements, diagonal, members)
        _fill(members[:size], first, others, elements, diagonal, noise, matrix, shared)
        for i in range(size):
            amounts[i] = ridge[members[i]]
        counted = 1 if _split(members, size, x, y) else turns
        _first_column(matrix, size, amounts, counted, column, moved)
        beyond, lost = 0.0, 0.0
        for i in range(size):
            for j in range(size):
                beyond += column[i] * column[j] * shared[i, j]
            lost += (moved[i] * flux[members[i]]) ** 2
        if len(common):
            lost += _sky_variance(members, size, column, skies, x, y, common)
        sky = float(rms[star]) ** 2 * column[0]
        # What a plane of variances has too little, or rounding, never makes it less than the quietest pixels would.
        variance[star] = max(sky + beyond, LEAST_VARIANCE * sky) + lost
        increase[star] = column[0] * diagonal[star]
    return variance, increase


@kernel
def _split(members: Places, size: int, x: Doubles, y: Doubles) -> bool:
    """Tell whether the first star has a neighbour at its place, but in another pixel.

    Their stamps are not the same pixels, and what lies beyond one of them was taken off with the first fluxes, as the
    ridge has shared them out. Later turns do not mend that.
    """
    one = members[0]
    for i in range(1, size):
        two = members[i]
        near = math.hypot(x[one] - x[two], y[one] - y[two]) < _SAME_PLACE_PX
        if near and (round(x[one]) != round(x[two]) or round(y[one]) != round(y[two])):
            return True
    return False


@kernel
def _sky_variance(
    members: Places, size: int, column: Doubles, skies: Doubles, x: Doubles, y: Doubles, common: Doubles
) -> float:
    """Return what the errors of the local skies add to the variance of the first star.

    Skies of neighbours are much the same, but what differs between them is taken for light that they share.
    """
    total = 0.0
    for i in range(size):
        one = members[i]
        for j in range(size):
            two = members[j]
            step = round(math.hypot(x[one] - x[two], y[one] - y[two]) / SKY_STEP)
            if step < len(common):
                total += column[i] * column[j] * skies[one] * skies[two] * common[step]
    return max(total, 0.0)


@kernel
def _first_column(
    matrix: Doubles, size: int, amounts: Doubles, turns: int, column: Doubles, moved: Doubles
) -> None:
    """Solve for the first unit vector in some turns; `moved` is what the ridge leaves of it. The matrix is used up.

    It is positive definite but for the pairs that were left out; with them no pivot would be less than the ridge.
    """
    for i in range(size):
        matrix[i, i] = max(matrix[i, i], amounts[i])
        for k in range(i + 1, size):
            factor = matrix[k, i] / matrix[i, i]
            for j in range(i + 1, k + 1):
                matrix[k, j] -= factor * matrix[j, i]
        for k in range(i + 1, size):
            matrix[k, i] /= matrix[i, i]
    for i in range(size):
        column[i], moved[i] = 0.0, 1.0 if i == 0 else 0.0
    for _ in range(turns):
        for i in range(size):
            for k in range(i + 1, size):
                moved[k] -= matrix[k, i] * moved[i]
        for i in range(size - 1, -1, -1):
            moved[i] /= matrix[i, i]
            for k in range(i + 1, size):
                moved[i] -= matrix[k, i] * moved[k]
        for i in range(size):
            column[i] += moved[i]
            moved[i] *= amounts[i]

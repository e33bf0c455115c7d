"""Kernels of the variance of each flux in a fit of overlapping stars."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from skylake.core.jit import kernel
from skylake.image.psf.forced_aperture_kernels import LEAST_VARIANCE
from skylake.image.psf.pair_kernels import Doubles, PairMatrix, Places
from skylake.image.psf.psf_kernels import Single
from skylake.image.psf.stamp_kernels import Stamps, SubtractedImage

_ZERO = np.float32(0.0)
#: Columns of what is held of a pair: the element of the normal matrix, and that of the variance beyond the sky's.
_OVERLAP, _NOISE = 0, 1
#: Stars no farther apart than this, pixels, cannot be separated well.
_SAME_PLACE_PX = 0.2
#: Correlations of local skies are given at distances of so many pixels.
SKY_STEP = 0.25


class Inversion(NamedTuple):
    """How much of the system is inverted for each star.

    Attributes
    ----------
    least : float
        Pairs that overlap by a smaller share are left out.
    turns : int
        How often the system was solved, each time with the ridge times the last solution on its right.
    most : int
        Stars whose covariance is computed together.
    """

    least: float
    turns: int
    most: int


class SkyErrors(NamedTuple):
    """Errors of the local skies of stars.

    Attributes
    ----------
    error : ndarray, shape (n,)
        What the error of the local sky adds to the right side of the system.
    x, y : ndarray, shape (n,)
        Pixels.
    common : ndarray
        Correlation of the local skies of two stars that are 0, 1, 2, ... times `SKY_STEP` pixels apart; 0 beyond, and
        empty where skies have no errors.
    """

    error: Doubles
    x: Doubles
    y: Doubles
    common: Doubles


class _RowPair(NamedTuple):
    """A row of pixels below two stamps: the stars, their offsets to it in their stamps, and its ends in the image."""

    i: int
    j: int
    offset_i: int
    offset_j: int
    row: int
    start: int
    end: int


@kernel
def _strong(matrix: PairMatrix, place: int, i: int, j: int, least: float) -> bool:
    return bool(abs(matrix.values[place]) > least * math.sqrt(matrix.diagonal[i] * matrix.diagonal[j]))


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _noise_of_row(stamps: Single, pair: _RowPair, image: SubtractedImage, planes: bool) -> np.float32:
    """Return the sum over the good pixels of a row of the products of two stamps and a plane, or light without one."""
    signal, left, plane, good, clean = image.signal, image.left, image.plane, image.good, image.clean
    i, j, offset_i, offset_j = np.uint64(pair.i), np.uint64(pair.j), pair.offset_i, pair.offset_j
    total, y = _ZERO, np.uint64(pair.row)
    for x in range(pair.start, pair.end):
        # Pixels that are not good may hold anything.
        if not clean and good[y, np.uint64(x)] == 0:
            continue
        product = stamps[i, np.uint64(offset_i + x)] * stamps[j, np.uint64(offset_j + x)]
        if planes:
            total += product * plane[y, np.uint64(x)]
        else:
            total += product * max(signal[y, np.uint64(x)] - left[y, np.uint64(x)], _ZERO)
    return total


@kernel
def noise_overlaps(
    matrix: PairMatrix, least: float, stamps: Stamps, image: SubtractedImage, offset: Single
) -> Doubles:
    """Return the sums of the products of the stamps of pairs and the variance of pixels beyond that of the sky.

    Parameters
    ----------
    matrix, least
        As for :func:`local_variance`; pairs that it leaves out have 0.
    stamps, image
        The stars, and the image before and after they are subtracted.
    offset : ndarray of float32, shape (n,)
        What is added to the variances of pixels at each star to have that beyond the sky's.

    Returns
    -------
    ndarray, shape of `partners`
    """
    _, starts, partners, values = matrix
    columns, rows, half = stamps.columns, stamps.rows, stamps.half
    height, width = image.signal.shape
    side, noises, planes = 2 * half + 1, np.zeros(len(partners)), image.plane.shape[0] == height
    for i in range(len(columns)):
        for pair in range(starts[i], starts[i + 1]):
            j = partners[pair]
            if not _strong(matrix, pair, i, j, least):
                continue
            start = max(max(columns[i], columns[j]) - half, 0)
            end = min(min(columns[i], columns[j]) + half + 1, width)
            for y in range(
                max(max(rows[i], rows[j]) - half, 0), min(min(rows[i], rows[j]) + half + 1, height)
            ):
                offset_i = (y - rows[i] + half) * side - columns[i] + half
                offset_j = (y - rows[j] + half) * side - columns[j] + half
                line = _RowPair(i, j, offset_i, offset_j, y, start, end)
                noises[pair] += _noise_of_row(stamps.values, line, image, planes)
            if planes:
                # Where the sky differs between the two, what lies half way belongs to both.
                noises[pair] = image.scale * noises[pair] + 0.5 * (offset[i] + offset[j]) * values[pair]
            else:
                noises[pair] /= image.gain
    return noises


@kernel
def _both_ways(matrix: PairMatrix, least: float, noises: Doubles) -> tuple[Places, Places, Doubles]:
    """Return rows with both triangles of two matrices, of the pairs that overlap by more than a share."""
    diagonal, starts, partners, values = matrix
    n = len(diagonal)
    first = np.zeros(n + 2, np.int64)
    strong = np.zeros(len(partners), np.bool_)
    for i in range(n):
        for place in range(starts[i], starts[i + 1]):
            j = partners[place]
            strong[place] = _strong(matrix, place, i, j, least)
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
    matrix: PairMatrix,
    inversion: Inversion,
    noise: Doubles,
    noises: Doubles,
    rms: Single,
    flux: Doubles,
    ridge: Doubles,
    skies: SkyErrors,
) -> tuple[Doubles, Doubles]:
    """Return the variance of each flux, and by how much neighbours increase that from the sky.

    The system of a star and its strongest neighbours is inverted: its own element of the
    inverse is what the whole inverse has there, but for neighbours of neighbours. What the ridge moves from one star
    to another counts as an error: light of stars that cannot be separated is divided among them.

    Parameters
    ----------
    matrix : PairMatrix
        The normal matrix.
    inversion : Inversion
    noise : ndarray, shape (n,)
        Sums of stamp^2 x variance of pixels beyond that of the sky.
    noises : ndarray, shape (pairs,)
        What `noise` is for pairs, see :func:`noise_overlaps`.
    rms : ndarray of float32, shape (n,)
        Noise of the sky per pixel.
    flux, ridge : ndarray, shape (n,)
        The second is the part of the diagonal that follows from no pixel.
    skies : SkyErrors

    Returns
    -------
    variance, increase : ndarray, shape (n,)
        Positive where `rms` is.
    """
    diagonal, most = matrix.diagonal, inversion.most
    n = len(diagonal)
    variance, increase = np.empty(n), np.empty(n)
    members, system, column = np.empty(most, np.int64), np.empty((most, most)), np.empty(most)
    shared, amounts, moved = np.empty((most, most)), np.empty(most), np.empty(most)
    first, others, elements = _both_ways(matrix, inversion.least, noises)
    for star in range(n):
        size = _choose(star, first, others, elements, diagonal, members)
        _fill(members[:size], first, others, elements, diagonal, noise, system, shared)
        for i in range(size):
            amounts[i] = ridge[members[i]]
        counted = 1 if _split(members, size, skies.x, skies.y) else inversion.turns
        _first_column(system, size, amounts, counted, column, moved)
        beyond, lost = 0.0, 0.0
        for i in range(size):
            for j in range(size):
                beyond += column[i] * column[j] * shared[i, j]
            lost += (moved[i] * flux[members[i]]) ** 2
        if len(skies.common):
            lost += _sky_variance(members, size, column, skies)
        sky = float(rms[star]) ** 2 * column[0]
        # What a plane of variances has too little, or rounding, never makes it less than the quietest pixels would.
        variance[star] = max(sky + beyond, LEAST_VARIANCE * sky) + lost
        increase[star] = column[0] * diagonal[star]
    return variance, increase


@kernel
def _split(members: Places, size: int, x: Doubles, y: Doubles) -> bool:
    """Return whether the first star has a neighbour at its place, but in another pixel.

    Their stamps are not the same pixels, and what lies beyond one of them was taken off with the first fluxes, as the
    ridge has shared them out. Later turns do not correct that.
    """
    first = members[0]
    for i in range(1, size):
        other = members[i]
        near = math.hypot(x[first] - x[other], y[first] - y[other]) < _SAME_PLACE_PX
        if near and (round(x[first]) != round(x[other]) or round(y[first]) != round(y[other])):
            return True
    return False


@kernel
def _sky_variance(members: Places, size: int, column: Doubles, skies: SkyErrors) -> float:
    """Return what the errors of the local skies add to the variance of the first star.

    Skies of neighbours are much the same, but what differs between them is taken for light that they share.
    """
    x, y, common = skies.x, skies.y, skies.common
    total = 0.0
    for i in range(size):
        star = members[i]
        for j in range(size):
            other = members[j]
            step = round(math.hypot(x[star] - x[other], y[star] - y[other]) / SKY_STEP)
            if step < len(common):
                total += column[i] * column[j] * skies.error[star] * skies.error[other] * common[step]
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

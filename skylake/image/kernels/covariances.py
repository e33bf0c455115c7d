"""Kernels that give the variance of each flux of a sparse system of stars."""

from __future__ import annotations

import math

import numba
import numpy as np

from skylake.image.kernels.pairs import Doubles, Places
from skylake.image.kernels.shapes import Single


@numba.njit(cache=True, nogil=True)
def _both_ways(
    diagonal: Doubles, starts: Places, partners: Places, values: Doubles, least: float
) -> tuple[Places, Places, Doubles]:
    """Return rows with both triangles of a matrix, of the pairs that overlap by more than a share."""
    n = len(diagonal)
    first = np.zeros(n + 2, np.int64)
    strong = np.zeros(len(partners), np.bool_)
    for i in range(n):
        for place in range(starts[i], starts[i + 1]):
            j = partners[place]
            strong[place] = abs(values[place]) > least * math.sqrt(diagonal[i] * diagonal[j])
            if strong[place]:
                first[i + 2] += 1
                first[j + 2] += 1
    for i in range(n):
        first[i + 2] += first[i + 1]
    others, elements = np.empty(first[n + 1], np.int64), np.empty(first[n + 1])
    for i in range(n):
        for place in range(starts[i], starts[i + 1]):
            if strong[place]:
                j = partners[place]
                others[first[i + 1]], elements[first[i + 1]] = j, values[place]
                others[first[j + 1]], elements[first[j + 1]] = i, values[place]
                first[i + 1] += 1
                first[j + 1] += 1
    return first, others, elements


@numba.njit(cache=True, nogil=True)
def _choose(
    star: int, first: Places, others: Places, elements: Doubles, diagonal: Doubles, members: Places
) -> int:
    """Set `members` to a star and its strongest neighbours, as many as there is room for; return how many."""
    size, most = 1, len(members)
    members[0] = star
    for place in range(first[star], first[star + 1]):
        strength = elements[place] * elements[place] / diagonal[others[place]]
        spot = min(size, most - 1)
        if size == most and strength <= _strength(star, members[spot], first, others, elements, diagonal):
            continue
        while spot > 1 and strength > _strength(star, members[spot - 1], first, others, elements, diagonal):
            members[spot] = members[spot - 1]
            spot -= 1
        members[spot] = others[place]
        size = min(size + 1, most)
    return size


@numba.njit(cache=True, nogil=True)
def _strength(
    star: int, other: int, first: Places, others: Places, elements: Doubles, diagonal: Doubles
) -> float:
    for place in range(first[star], first[star + 1]):
        if others[place] == other:
            return elements[place] * elements[place] / diagonal[other]
    return 0.0


@numba.njit(cache=True, nogil=True)
def local_variance(
    diagonal: Doubles, starts: Places, partners: Places, values: Doubles, least: float, noise: Doubles, rms: Single,
    most: int,
) -> tuple[Doubles, Doubles]:  # fmt: skip
    """Return the variance of each flux, and by how much neighbours increase that from the sky.

    The system of a star and its strongest neighbours, at most `most` in all, is inverted: its own element of the
    inverse is what the whole inverse has there, but for neighbours of neighbours.

    Parameters
    ----------
    diagonal, noise : ndarray, shape (n,)
        Diagonal of the normal matrix, and the sums of stamp^2 x variance of pixels beyond that of the sky.
    starts, partners, values : ndarray
        Pairs, as :mod:`skylake.image.kernels.pairs` keeps them.
    least : float
        Pairs that overlap by a smaller share are left out.
    rms : ndarray of float32, shape (n,)
        Noise of the sky per pixel.
    """
    n = len(diagonal)
    variance, increase = np.empty(n), np.empty(n)
    members, matrix, column = np.empty(most, np.int64), np.empty((most, most)), np.empty(most)
    first, others, elements = _both_ways(diagonal, starts, partners, values, least)
    for star in range(n):
        size = _choose(star, first, others, elements, diagonal, members)
        for i in range(size):
            matrix[i, :size] = 0.0
            matrix[i, i] = diagonal[members[i]]
            for place in range(first[members[i]], first[members[i] + 1]):
                for j in range(size):
                    if members[j] == others[place]:
                        matrix[i, j] = elements[place]
        _first_column_of_inverse(matrix, size, column)
        beyond = 0.0
        for i in range(size):
            beyond += column[i] * column[i] * noise[members[i]]
        variance[star] = float(rms[star]) ** 2 * column[0] + beyond
        increase[star] = column[0] * diagonal[star]
    return variance, increase


@numba.njit(cache=True, nogil=True)
def _first_column_of_inverse(matrix: Doubles, size: int, column: Doubles) -> None:
    """Solve for the first unit vector by elimination; the matrix, which is positive definite, is used up."""
    for i in range(size):
        column[i] = 1.0 if i == 0 else 0.0
    for i in range(size):
        for k in range(i + 1, size):
            factor = matrix[k, i] / matrix[i, i]
            for j in range(i, size):
                matrix[k, j] -= factor * matrix[i, j]
            column[k] -= factor * column[i]
    for i in range(size - 1, -1, -1):
        for j in range(i + 1, size):
            column[i] -= matrix[i, j] * column[j]
        column[i] /= matrix[i, i]

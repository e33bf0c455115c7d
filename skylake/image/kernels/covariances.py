"""Kernels that give the variance of each flux of a sparse system of stars."""

from __future__ import annotations

import numba
import numpy as np

from skylake.image.kernels.normal_equations import Doubles, Places
from skylake.image.kernels.shapes import Single


@numba.njit(cache=True, nogil=True)
def local_variance(
    diagonal: Doubles,
    starts: Places,
    partners: Places,
    values: Doubles,
    noise: Doubles,
    rms: Single,
    most: int,
) -> tuple[Doubles, Doubles]:
    """Return the variance of each flux, and by how much neighbours increase that from the sky.

    The system of a star and its nearest neighbours, at most `most` in all, is inverted: its own element of the
    inverse is what the whole inverse has there, but for neighbours of neighbours.

    Parameters
    ----------
    diagonal, noise : ndarray, shape (n,)
        Diagonal of the normal matrix, and the sums of stamp^2 x photon noise.
    starts, partners, values : ndarray
        The neighbours of star i and the elements that belong to them are those from ``starts[i]`` to
        ``starts[i + 1]``, the strongest first.
    rms : ndarray of float32, shape (n,)
        Noise of the sky per pixel.
    """
    n = len(diagonal)
    variance, increase = np.empty(n), np.empty(n)
    members = np.empty(most, np.int64)
    matrix, column = np.empty((most, most)), np.empty(most)
    for star in range(n):
        size = 1
        members[0] = star
        for place in range(starts[star], starts[star + 1]):
            if size < most:
                members[size] = partners[place]
                size += 1
        for i in range(size):
            for j in range(size):
                matrix[i, j] = 0.0
            matrix[i, i] = diagonal[members[i]]
            for place in range(starts[members[i]], starts[members[i] + 1]):
                for j in range(size):
                    if members[j] == partners[place]:
                        matrix[i, j] = values[place]
        _first_column_of_inverse(matrix, size, column)
        photons = 0.0
        for i in range(size):
            photons += column[i] * column[i] * noise[members[i]]
        variance[star] = float(rms[star]) ** 2 * column[0] + photons
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

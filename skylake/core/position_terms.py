"""Smooth functions of the place on a frame: products of Legendre polynomials without a constant.

A zeropoint that differs over the frame is its value at the frame plus an offset, a sum of P_i(u) P_j(v) with
1 <= i + j <= degree, where u and v go from -1 to 1 across the frame. The terms are orthogonal over the frame and
the mean of each is zero, so the zeropoint stays the mean over the frame whatever the offset is. Terms are ordered by
total degree, and then by falling power of u: (1,0) (0,1) (2,0) (1,1) (0,2) (3,0) and so on. So the terms of a lower
degree are the first of those of a higher one, and offsets of different degrees can be added (:func:`sum_of_terms`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def field_coordinates(
    x_px: npt.ArrayLike, y_px: npt.ArrayLike, width: npt.ArrayLike, height: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Return places on a frame as u and v: -1 and 1 are the outer edges of the first and the last pixels.

    Parameters
    ----------
    x_px, y_px : array-like
        0-based pixel coordinates, the centre of the first pixel at (0, 0); NaN gives NaN.
    width, height : array-like
        Pixels of the frame, or of the frame of each place.

    Returns
    -------
    u, v : ndarray
    """
    u = 2.0 * (np.asarray(x_px, float) + 0.5) / np.asarray(width, float) - 1.0
    return u, 2.0 * (np.asarray(y_px, float) + 0.5) / np.asarray(height, float) - 1.0


def n_position_terms(degree: int) -> int:
    """Return how many terms there are up to a total degree: 0, 2, 5, 9, 14 and so on."""
    if degree < 0:
        raise ValueError(f"the degree of position terms cannot be negative: {degree}")
    return (degree + 1) * (degree + 2) // 2 - 1


def degree_of(n_terms: int) -> int:
    """Return the degree of a list of terms.

    Raises
    ------
    ValueError
        If no degree has so many terms.
    """
    degree = (math.isqrt(8 * n_terms + 9) - 3) // 2 if n_terms >= 0 else 0
    if n_position_terms(degree) != n_terms:
        raise ValueError(f"{n_terms} position terms are those of no degree (there are 0, 2, 5, 9, 14 …)")
    return degree


def term_powers(degree: int) -> list[tuple[int, int]]:
    """Return the degrees (i, j) in u and v of each term, in their order."""
    return [(total - j, j) for total in range(1, degree + 1) for j in range(total + 1)]


def position_basis(u: npt.ArrayLike, v: npt.ArrayLike, degree: int) -> Floats:
    """Return the terms at some places.

    Parameters
    ----------
    u, v : array-like, shape (n,)
        Clipped to [-1, 1]: outside the frame an offset goes on as at the nearest edge. NaN gives NaN.
    degree : int
        Largest total degree.

    Returns
    -------
    ndarray, shape (n, n_terms)
    """
    in_u = np.polynomial.legendre.legvander(np.clip(np.asarray(u, float), -1.0, 1.0), degree)
    in_v = np.polynomial.legendre.legvander(np.clip(np.asarray(v, float), -1.0, 1.0), degree)
    basis = np.empty((len(in_u), n_position_terms(degree)))
    for term, (i, j) in enumerate(term_powers(degree)):
        np.multiply(in_u[:, i], in_v[:, j], out=basis[:, term])
    return basis


def position_offset(terms: npt.ArrayLike, u: npt.ArrayLike, v: npt.ArrayLike) -> Floats:
    """Return the offset at some places, magnitudes.

    Parameters
    ----------
    terms : array-like, shape (n_terms,) or (n, n_terms)
        Coefficients, the same for all places or one row for each; none for an offset of zero.
    u, v : array-like, shape (n,)

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        If no degree has so many terms.
    """
    coefficients = np.asarray(terms, float)
    basis = position_basis(u, v, degree_of(coefficients.shape[-1]))
    return np.asarray(np.einsum("nk,...k->n" if coefficients.ndim == 1 else "nk,nk->n", basis, coefficients))


def sum_of_terms(*lists: npt.ArrayLike) -> Floats:
    """Return the coefficients of the sum of several offsets, of the largest degree among them.

    Raises
    ------
    ValueError
        If no degree has so many terms as one of the lists.
    """
    every = [np.asarray(terms, float) for terms in lists]
    total = np.zeros(n_position_terms(max((degree_of(len(terms)) for terms in every), default=0)))
    for terms in every:
        total[: len(terms)] += terms
    return total


def offset_rms(terms: npt.ArrayLike) -> float:
    """Return the root mean square of an offset over the whole frame.

    The terms are orthogonal: the mean square of P_i(u) P_j(v) is 1 / ((2 i + 1) (2 j + 1)). Of the errors of
    independent coefficients it gives the rms error of the offset.
    """
    coefficients = np.asarray(terms, float)
    return float(np.sqrt(coefficients**2 @ term_mean_squares(degree_of(len(coefficients)))))


def term_mean_squares(degree: int) -> Floats:
    """Return the mean square of each term over the frame, shape (n_terms,)."""
    return np.array([1.0 / ((2 * i + 1) * (2 * j + 1)) for i, j in term_powers(degree)])

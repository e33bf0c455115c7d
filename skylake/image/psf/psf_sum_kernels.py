"""Kernel of the normal equations of a point spread function."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Floats = npt.NDArray[np.float64]

#: Functions of a star.
N_TERMS = 26
#: Chebyshev polynomials that are needed, at most.
_N_RADIAL = 8


@kernel
def _functions(u: float, v: float, radial: Floats, out: Floats) -> None:
    """Set `out`, shape (26,), to the basis functions: harmonics, order by order, times Chebyshev polynomials."""
    uu, vv = u * u, v * v
    h = 1.0 / (1.0 + uu + vv)
    t = 2.0 * h - 1.0
    radial[0], radial[1] = 1.0, t
    for term in range(2, radial.shape[0]):
        radial[term] = 2.0 * t * radial[term - 1] - radial[term - 2]
    start, second = 0, h * h
    third, fourth = second * h, second * second
    for order, terms in ((0, 8), (1, 3), (2, 3), (3, 2), (4, 1)):
        even, odd = second, 0.0
        if order == 1:
            even, odd = third * u, third * v
        elif order == 2:
            even, odd = third * (uu - vv), third * 2.0 * u * v
        elif order == 3:
            even, odd = fourth * u * (uu - 3.0 * vv), fourth * v * (3.0 * uu - vv)
        elif order == 4:
            even, odd = fourth * (uu * uu - 6.0 * uu * vv + vv * vv), fourth * 4.0 * u * v * (uu - vv)
        for term in range(terms):
            out[start + term] = even * radial[term]
            if order > 0:
                out[start + terms + term] = odd * radial[term]
        start += terms if order == 0 else 2 * terms


@kernel
def star_equations(
    values: Floats, weights: Floats, dx: Floats, dy: Floats, inverse: Floats, scale: float
) -> tuple[Floats, Floats]:
    """Return the normal equations of the functions for each star, shapes (n, 26, 26) and (n, 26).

    Parameters
    ----------
    values, weights, dx, dy : ndarray, shape (n, m)
        Pixels, their weights, and their offsets from the star; those of no weight are passed over.
    inverse : ndarray, shape (2, 2)
        Matrix from pixels to scaled offsets.
    scale : float
        Factor of all functions.
    """
    n_stars, n_pixels = values.shape
    matrix, vector = np.zeros((n_stars, N_TERMS, N_TERMS)), np.zeros((n_stars, N_TERMS))
    rows, weighted, radial = (
        np.empty((n_pixels, N_TERMS)),
        np.empty((n_pixels, N_TERMS)),
        np.empty(_N_RADIAL),
    )
    a, b, c, d = inverse[0, 0], inverse[0, 1], inverse[1, 0], inverse[1, 1]
    for star in range(n_stars):
        n_used, product = 0, vector[star]
        for k in range(n_pixels):
            weight, x, y = scale * weights[star, k], dx[star, k], dy[star, k]
            if weight == 0.0:
                continue
            row, weighted_row = rows[n_used], weighted[n_used]
            _functions(a * x + b * y, c * x + d * y, radial, row)
            value = values[star, k]
            for term in range(N_TERMS):
                weighted_row[term] = weight * row[term]
                product[term] += value * weighted_row[term]
            n_used += 1
        matrix[star] = scale * np.dot(weighted[:n_used].T, rows[:n_used])
    return matrix, vector

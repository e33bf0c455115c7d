"""Kernel of the derivatives of pixel positions with the parameters of a lens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Floats = npt.NDArray[np.float64]
#: A symmetric matrix: both ends of the diagonal, and what is beside it between them.
Symmetric = tuple[float, float, float]


@kernel
def _times(matrix: Symmetric, u: float, v: float) -> tuple[float, float]:
    return matrix[0] * u + matrix[1] * v, matrix[1] * u + matrix[2] * v


@kernel
def _turned(k: int, ideal: Floats, hand: float) -> tuple[float, float]:
    """Return how the ideal image moves with a small turn, which moves a direction by its cross product with it."""
    across, upward, depth, ratio, slope = ideal[2], ideal[3], ideal[4], ideal[5], ideal[6]
    if k == 0:
        deeper, u, v = upward, 0.0, -depth
    elif k == 1:
        deeper, u, v = -hand * across, hand * depth, 0.0
    else:
        deeper, u, v = 0.0, -hand * upward, hand * across
    return ratio * u + slope * deeper * across, ratio * v + slope * deeper * upward


@kernel
def _by_polynomial(u: float, v: float, terms: Floats) -> Symmetric:
    k1, k2, k3 = terms[0], terms[1], terms[2]
    square = u * u + v * v
    factor = 1.0 + square * (k1 + square * (k2 + square * k3))
    change = 2.0 * (k1 + square * (2.0 * k2 + square * 3.0 * k3))
    return factor + change * u * u, change * u * v, factor + change * v * v


@kernel
def _by_decentring(u: float, v: float, terms: Floats) -> Symmetric:
    p1, p2 = terms[3], terms[4]
    return 1.0 + 6.0 * p1 * u + 2.0 * p2 * v, 2.0 * (p1 * v + p2 * u), 1.0 + 2.0 * p1 * u + 6.0 * p2 * v


@kernel
def derive(
    ideal: Floats, bent: Floats, place: Floats, terms: Floats, focal: float, hand: float, out: Floats
) -> None:
    """Work out the derivatives of pixels, by the chain rule over the steps of a lens.

    Parameters
    ----------
    ideal : ndarray, shape (n, 7)
        The ideal image u and v, the directions across, upward and in depth, ratio and slope of the projection.
    bent, place : ndarray, shape (2, n)
        The image after the polynomial, and after decentring too.
    terms : ndarray, shape (7,)
        ``k1, k2, k3, p1, p2, a1, a2``.
    focal, hand : float
        Focal length, pixels, and the sign of x.
    out : ndarray, shape (13, 2, n)
        Gets the derivatives in the order of the parameters; NaN where the image is, but for those of the centre.
    """
    stretch = focal * (1.0 + terms[5]), focal * terms[6], focal * (1.0 - terms[5])
    for i in range(ideal.shape[0]):
        u, v, x, y = ideal[i, 0], ideal[i, 1], bent[0, i], bent[1, i]
        polynomial, decentring = _by_polynomial(u, v, terms), _by_decentring(x, y, terms)
        for k in range(3):
            du, dv = _turned(k, ideal[i], hand)
            du, dv = _times(polynomial, du, dv)
            du, dv = _times(decentring, du, dv)
            out[k, 0, i], out[k, 1, i] = _times(stretch, du, dv)
        out[3, 0, i], out[3, 1, i] = _times(stretch, place[0, i], place[1, i])
        out[4, 0, i], out[4, 1, i] = 1.0, 0.0
        out[5, 0, i], out[5, 1, i] = 0.0, 1.0
        square = u * u + v * v
        power = square
        for k in range(6, 9):
            du, dv = _times(decentring, u * power, v * power)
            out[k, 0, i], out[k, 1, i] = _times(stretch, du, dv)
            power *= square
        far, both = x * x + y * y, 2.0 * x * y
        out[9, 0, i], out[9, 1, i] = _times(stretch, far + 2.0 * x * x, both)
        out[10, 0, i], out[10, 1, i] = _times(stretch, both, far + 2.0 * y * y)
        out[11, 0, i], out[11, 1, i] = focal * place[0, i], -focal * place[1, i]
        out[12, 0, i], out[12, 1, i] = focal * place[1, i], focal * place[0, i]

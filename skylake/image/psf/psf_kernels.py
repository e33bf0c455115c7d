"""Kernels that draw point spread functions; :mod:`skylake.image.psf.psf_model` defines their coefficients.

A stamp is a flat array: pixel k lies in row k // side and column k % side.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Single = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]

#: Coefficients of a star.
N_TERMS = 26

#: Stamps are padded to a multiple of this many pixels, or the last ones would be done one by one.
PADDED = 32
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_THREE = np.float32(3.0)
_FOUR = np.float32(4.0)
#: Where padding lies, pixels: no light is there.
_FAR = np.float32(1e4)


@kernel
def padded_size(half: int) -> int:
    """Return the length of a stamp with its padding."""
    return -(-((2 * half + 1) ** 2) // PADDED) * PADDED


@kernel
def grid(half: int) -> tuple[Single, Single]:
    """Return column and row of the pixels of a stamp relative to its middle, shape (padded size,)."""
    side = 2 * half + 1
    size = padded_size(half)
    columns, rows = np.full(size, _FAR, np.float32), np.full(size, _FAR, np.float32)
    for row in range(side):
        for column in range(side):
            columns[row * side + column] = np.float32(column - half)
            rows[row * side + column] = np.float32(row - half)
    return columns, rows


@kernel(error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
def draw(
    out: Single,
    columns: Single,
    rows: Single,
    dx: np.float32,
    dy: np.float32,
    inverse: Single,
    coefficients: Single,
) -> None:
    """Fill a stamp with a star of flux 1.

    With the error model of Python each division is looked at, and the loop is not done many pixels at once.

    Parameters
    ----------
    out : ndarray of float32, shape (size,)
    columns, rows : ndarray of float32, shape (size,)
        As :func:`grid` gives them.
    dx, dy : float32
        Centre of the star relative to that of the middle pixel.
    inverse : ndarray of float32, shape (2, 2)
        Matrix from pixels to scaled offsets.
    coefficients : ndarray of float32, shape (26,)
    """
    a, b, d, e, c = inverse[0, 0], inverse[0, 1], inverse[1, 0], inverse[1, 1], coefficients
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    c8, c9, c10, c11, c12, c13, c14, c15 = c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15]
    c16, c17, c18, c19, c20, c21 = c[16], c[17], c[18], c[19], c[20], c[21]
    c22, c23, c24, c25 = c[22], c[23], c[24], c[25]
    for k in range(out.shape[0]):
        x, y = columns[k] - dx, rows[k] - dy
        u, v = a * x + b * y, d * x + e * y
        uu, vv, uv, wide = u * u, v * v, u * v, u * u - v * v
        h = _ONE / (_ONE + uu + vv)
        t = _TWO * h - _ONE
        round_part = c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * (c5 + t * (c6 + t * c7))))))
        low = u * (c8 + t * (c9 + t * c10)) + v * (c11 + t * (c12 + t * c13))
        low += wide * (c14 + t * (c15 + t * c16)) + _TWO * uv * (c17 + t * (c18 + t * c19))
        high = u * (uu - _THREE * vv) * (c20 + t * c21) + v * (_THREE * uu - vv) * (c22 + t * c23)
        high += (wide * wide - _FOUR * uv * uv) * c24 + _FOUR * uv * wide * c25
        out[k] = h * h * (round_part + h * (low + h * high))


@kernel
def draw_stamps(dx: Single, dy: Single, coefficients: Single, inverse: Single, half: int) -> Single:
    """Return the stamps of stars of flux 1, shape (n, padded size of a stamp)."""
    columns, rows = grid(half)
    stamps = np.empty((len(dx), len(columns)), np.float32)
    for star in range(len(dx)):
        draw(stamps[star], columns, rows, dx[star], dy[star], inverse, coefficients[star])
    return stamps


@kernel
def star_coefficients(x: Double, y: Double, height: int, width: int, terms: Double, whole: Double) -> Single:
    """Return the coefficients of stars of flux 1, shape (n, 26).

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Positions on an image of `height` times `width` pixels.
    terms : ndarray, shape (6, 26)
        Coefficients for 1, x, y, x^2, x y, y^2 of positions scaled to -1 ... 1.
    whole : ndarray, shape (6,)
        The light that belongs to each of these.
    """
    coefficients, row = np.empty((len(x), terms.shape[1]), np.float32), np.empty(terms.shape[1])
    for star in range(len(x)):
        s, t = 2.0 * x[star] / max(width - 1, 1) - 1.0, 2.0 * y[star] / max(height - 1, 1) - 1.0
        light = (
            whole[0] + s * whole[1] + t * whole[2] + s * s * whole[3] + s * t * whole[4] + t * t * whole[5]
        )
        for k in range(terms.shape[1]):
            plane = terms[0, k] + s * terms[1, k] + t * terms[2, k]
            row[k] = plane + s * s * terms[3, k] + s * t * terms[4, k] + t * t * terms[5, k]
        for k in range(terms.shape[1]):
            coefficients[star, k] = np.float32(row[k] / light)
    return coefficients


@kernel
def _functions(u: float, v: float, out: Double) -> None:
    """Set `out`, shape (26,), to the functions whose coefficients :func:`draw` takes."""
    h = 1.0 / (1.0 + u * u + v * v)
    t, uu, vv = 2.0 * h - 1.0, u * u, v * v
    start = 0
    for order, terms in ((0, 8), (1, 3), (2, 3), (3, 2), (4, 1)):
        even, odd, fall = 1.0, 0.0, h * h
        if order == 1:
            even, odd, fall = u, v, h * h * h
        elif order == 2:
            even, odd, fall = uu - vv, 2.0 * u * v, h * h * h
        elif order == 3:
            even, odd, fall = u * (uu - 3.0 * vv), v * (3.0 * uu - vv), h * h * h * h
        elif order == 4:
            even, odd, fall = uu * uu - 6.0 * uu * vv + vv * vv, 4.0 * u * v * (uu - vv), h * h * h * h
        for term in range(terms):
            out[start + term] = fall * even
            if order > 0:
                out[start + terms + term] = fall * odd
            fall *= t
        start += terms if order == 0 else 2 * terms


@kernel
def light_of_terms(x: Double, y: Double, weights: Single, inverse: Single) -> Double:
    """Return the light that belongs to each coefficient of :func:`draw`, shape (m, 26).

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Offsets of pixels from the star.
    weights : ndarray of float32, shape (m, n)
        How much of each pixel counts, in m ways.
    inverse : ndarray of float32, shape (2, 2)
        Matrix from pixels to scaled offsets.
    """
    light, values = np.zeros((weights.shape[0], N_TERMS)), np.empty(N_TERMS)
    for k in range(len(x)):
        u = inverse[0, 0] * x[k] + inverse[0, 1] * y[k]
        v = inverse[1, 0] * x[k] + inverse[1, 1] * y[k]
        _functions(u, v, values)
        for way in range(weights.shape[0]):
            weight = weights[way, k]
            if weight != 0.0:
                for term in range(N_TERMS):
                    light[way, term] += weight * values[term]
    return light

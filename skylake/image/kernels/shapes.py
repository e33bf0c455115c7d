"""Kernels that draw point spread functions; :mod:`skylake.image.psf` tells what the coefficients mean.

A stamp is a flat array: pixel k lies in row k // side and column k % side. It is filled in three passes, each
short enough for the compiler to work on many pixels at once.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Single = npt.NDArray[np.float32]

#: Stamps are padded to a multiple of this many pixels, or the last ones would be done one by one.
PADDED = 32
#: Pixels of a row that are copied in one step.
STEP = 16
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_THREE = np.float32(3.0)
_FOUR = np.float32(4.0)
_SIX = np.float32(6.0)
#: Where padding lies, pixels: no light is there.
_FAR = np.float32(1e4)


@numba.njit(cache=True, nogil=True)
def padded_size(half: int) -> int:
    """Return the length of a stamp: its last row may be written to the end of a step, and is padded then."""
    side = 2 * half + 1
    written = (side - 1) * side + -(-side // STEP) * STEP
    return -(-written // PADDED) * PADDED


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _round_part(
    out: Single, u: Single, v: Single, h: Single, columns: Single, rows: Single, dx: np.float32, dy: np.float32,
    inverse: Single, c: Single,
) -> None:  # fmt: skip
    a, b, d, e = inverse[0, 0], inverse[0, 1], inverse[1, 0], inverse[1, 1]
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    for k in range(out.shape[0]):
        x, y = columns[k] - dx, rows[k] - dy
        one, two = a * x + b * y, d * x + e * y
        near = _ONE / (_ONE + one * one + two * two)
        t = _TWO * near - _ONE
        u[k], v[k], h[k] = one, two, near
        total = c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * (c5 + t * (c6 + t * c7))))))
        out[k] = near * near * total


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _low_orders(out: Single, u: Single, v: Single, h: Single, c: Single) -> None:
    c8, c9, c10, c11, c12, c13 = c[8], c[9], c[10], c[11], c[12], c[13]
    c14, c15, c16, c17, c18, c19 = c[14], c[15], c[16], c[17], c[18], c[19]
    for k in range(out.shape[0]):
        x, y, near = u[k], v[k], h[k]
        t = _TWO * near - _ONE
        first = x * (c8 + t * (c9 + t * c10)) + y * (c11 + t * (c12 + t * c13))
        second = (x * x - y * y) * (c14 + t * (c15 + t * c16)) + _TWO * x * y * (c17 + t * (c18 + t * c19))
        out[k] += near * near * near * (first + second)


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _high_orders(out: Single, u: Single, v: Single, h: Single, c: Single) -> None:
    c20, c21, c22, c23, c24, c25 = c[20], c[21], c[22], c[23], c[24], c[25]
    for k in range(out.shape[0]):
        x, y, near = u[k], v[k], h[k]
        t = _TWO * near - _ONE
        xx, yy, square = x * x, y * y, near * near
        third = x * (xx - _THREE * yy) * (c20 + t * c21) + y * (_THREE * xx - yy) * (c22 + t * c23)
        fourth = (xx * xx - _SIX * xx * yy + yy * yy) * c24 + _FOUR * x * y * (xx - yy) * c25
        out[k] += square * square * (third + fourth)


@numba.njit(cache=True, nogil=True)
def draw(
    out: Single, work: Single, columns: Single, rows: Single, dx: np.float32, dy: np.float32, inverse: Single,
    coefficients: Single,
) -> None:  # fmt: skip
    """Fill a stamp with a star of flux 1.

    Parameters
    ----------
    out : ndarray of float32, shape (size,)
    work : ndarray of float32, shape (3, size)
        Room to work in.
    columns, rows : ndarray of float32, shape (size,)
        As :func:`grid` gives them.
    dx, dy : float32
        Centre of the star relative to that of the middle pixel.
    inverse : ndarray of float32, shape (2, 2)
        Matrix from pixels to scaled offsets.
    coefficients : ndarray of float32, shape (26,)
    """
    u, v, h = work[0], work[1], work[2]
    _round_part(out, u, v, h, columns, rows, dx, dy, inverse, coefficients)
    _low_orders(out, u, v, h, coefficients)
    _high_orders(out, u, v, h, coefficients)


@numba.njit(cache=True, nogil=True)
def draw_stamps(dx: Single, dy: Single, coefficients: Single, inverse: Single, half: int) -> Single:
    """Return the stamps of stars of flux 1, shape (n, padded size of a stamp)."""
    columns, rows = grid(half)
    stamps = np.empty((len(dx), len(columns)), np.float32)
    work = np.empty((3, len(columns)), np.float32)
    for star in range(len(dx)):
        draw(stamps[star], work, columns, rows, dx[star], dy[star], inverse, coefficients[star])
    return stamps

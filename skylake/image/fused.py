"""Kernels: stored pixels become float32, are judged, and lose zero level, dark and flat, in one pass over memory.

Each row stays in the fastest cache while one short loop after the other goes over it; the compiler turns each into
vector instructions. Integers of 16 bits and floats of 32 bits are read as they lie in the file; others are converted
before. :mod:`skylake.image.linear` calls these.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint8]

#: Bits of PixelFlag as the compiler wants them.
INVALID, SATURATED, NEAR_SATURATED = np.uint8(1), np.uint8(2), np.uint8(4)
#: No detector gives so many ADU, and squares of larger numbers do not fit 32 bits.
BEYOND_MEASURE = np.float32(1e15)


@numba.njit(cache=True, nogil=True)
def reduce_integers(
    stored: npt.NDArray[np.uint16], form: Any, window: Any, numbers: Any, planes: Any, out: Any
) -> None:
    """Reduce integers of 16 bits.

    Parameters
    ----------
    stored : ndarray of uint16, shape (height, width)
        The bits as they lie in the file.
    form : tuple of float32
        Whether the bytes are in the other order than this machine's, whether the integers are signed, scale, zero,
        whether one stored value stands for none, and which.
    window : tuple of int
        First row and column that are wanted; `out` tells how many.
    numbers : tuple of float32
        Saturation and linearity level of raw pixels, dark scale, read noise squared, 1/gain, whether the variance
        begins here, and the weight of the error of the bias.
    planes : tuple of ndarray of float32
        Zero level of each row, shape (height,); bias, its error, dark, its error, 1/flat, error of the flat. Shape
        (0, 0) leaves one out.
    out : tuple of ndarray
        Pixels, mask (uint8) and variance; shape (0, 0) leaves the variance out.
    """
    swapped, signed, scale, zero, has_blank, blank = form
    y0, x0 = window
    pixels, mask, variance = out
    height, width = pixels.shape
    for y in range(height):
        row, source = pixels[y], stored[y0 + y, x0 : x0 + width]
        if swapped != 0.0 and signed != 0.0:
            for x in range(width):
                row[x] = np.float32(np.int16((source[x] << np.uint16(8)) | (source[x] >> np.uint16(8))))
        elif swapped != 0.0:
            for x in range(width):
                row[x] = np.float32(np.uint16((source[x] << np.uint16(8)) | (source[x] >> np.uint16(8))))
        elif signed != 0.0:
            for x in range(width):
                row[x] = np.float32(np.int16(source[x]))
        else:
            for x in range(width):
                row[x] = np.float32(source[x])
        if has_blank != 0.0:
            for x in range(width):
                if row[x] == blank:
                    row[x] = np.nan
        _scale(row, scale, zero)
        _judge(row, mask[y], numbers)
        _subtract_and_divide(y, row, variance, numbers, planes)


@numba.njit(cache=True, nogil=True)
def reduce_floats(
    stored: npt.NDArray[np.uint32], form: Any, window: Any, numbers: Any, planes: Any, out: Any, bits: Any
) -> None:
    """Reduce floats of 32 bits; as :func:`reduce_integers`, `bits` being the pixels of `out` seen as uint32.

    `form` holds whether bytes are swapped, scale and zero. `stored` may be `bits` itself.
    """
    swapped, scale, zero = form
    y0, x0 = window
    pixels, mask, variance = out
    height, width = pixels.shape
    for y in range(height):
        row, plain, source = pixels[y], bits[y], stored[y0 + y, x0 : x0 + width]
        if swapped != 0.0:
            for x in range(width):
                one = source[x]
                plain[x] = np.uint32(
                    (one << np.uint32(24))
                    | ((one & np.uint32(0xFF00)) << np.uint32(8))
                    | ((one >> np.uint32(8)) & np.uint32(0xFF00))
                    | (one >> np.uint32(24))
                )
        else:
            for x in range(width):
                plain[x] = source[x]
        _scale(row, scale, zero)
        _judge(row, mask[y], numbers)
        _subtract_and_divide(y, row, variance, numbers, planes)


@numba.njit(cache=True, nogil=True)
def _scale(row: Any, scale: Any, zero: Any) -> None:
    if scale != np.float32(1.0):
        for x in range(row.size):
            row[x] *= scale
    if zero != np.float32(0.0):
        for x in range(row.size):
            row[x] += zero


@numba.njit(cache=True, nogil=True)
def _judge(row: Any, mask: Any, numbers: Any) -> None:
    """Mark what is saturated, or nearly so, by raw value."""
    saturation, linearity = numbers[0], numbers[1]
    if saturation < np.inf:
        for x in range(row.size):
            mask[x] |= SATURATED if row[x] >= saturation else np.uint8(0)
    if linearity < np.inf:
        for x in range(row.size):
            mask[x] |= NEAR_SATURATED if row[x] >= linearity else np.uint8(0)


@numba.njit(cache=True, nogil=True)
def _subtract_and_divide(y: int, row: Any, variances: Any, numbers: Any, planes: Any) -> None:
    """Take off zero level, bias and dark, divide by the flat, and carry the variance along."""
    _, _, dark_scale, read_variance, inverse_gain, begins, bias_weight = numbers
    levels, bias, bias_err, dark, dark_err, inverse, flat_err = planes
    width = row.size
    carries = variances.shape[0] > 0
    if levels.size > 0:
        level = levels[y]
        for x in range(width):
            row[x] -= level
    if bias.shape[0] > 0:
        zero = bias[y]
        for x in range(width):
            row[x] -= zero[x]
    if carries:
        variance = variances[y]
        if begins != 0.0:
            for x in range(width):
                variance[x] = read_variance + max(row[x], np.float32(0.0)) * inverse_gain
        if bias_err.shape[0] > 0:
            errors = bias_err[y]
            for x in range(width):
                variance[x] += bias_weight * errors[x] * errors[x]
        if dark_err.shape[0] > 0:
            errors = dark_err[y]
            for x in range(width):
                error = dark_scale * errors[x]
                variance[x] += error * error
    if dark.shape[0] > 0:
        current = dark[y]
        for x in range(width):
            row[x] -= dark_scale * current[x]
    if inverse.shape[0] > 0:
        factors = inverse[y]
        for x in range(width):
            row[x] *= factors[x]
        if carries:
            errors = flat_err[y]
            for x in range(width):
                error = row[x] * errors[x]
                variance[x] = (variance[x] + error * error) * factors[x] * factors[x]


@numba.njit(cache=True, nogil=True)
def mark_invalid(pixels: Rows, mask: Bits) -> int:
    """Mark pixels that are not finite or beyond all measure, and return how many pixels are so marked."""
    count = 0
    height, width = pixels.shape
    for y in range(height):
        row, marks = pixels[y], mask[y]
        for x in range(width):
            if not abs(row[x]) < BEYOND_MEASURE:
                marks[x] |= INVALID
        for x in range(width):
            count += marks[x] & INVALID
    return count

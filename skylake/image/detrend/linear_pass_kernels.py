"""Kernels of the linear pass: stored pixels become float32, are judged, and lose zero level, dark and flat.

Each row stays in the fastest cache while one short loop after the other goes over it; the compiler turns each into
vector instructions. Integers of 16 bits and floats of 32 bits are read as they lie in the file; others are converted
before. :mod:`skylake.image.detrend.linear_pass` calls these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.frame import BEYOND_MEASURE
from skylake.core.jit import kernel

Rows = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint8]

#: Bits of PixelFlag as the compiler wants them.
INVALID, SATURATED, NEAR_SATURATED = np.uint8(1), np.uint8(2), np.uint8(4)


@kernel
def reduce_integers(
    stored: npt.NDArray[np.uint16], form: Any, window: Any, numbers: Any, planes: Any, out: Any
) -> int:
    """Reduce integers of 16 bits.

    Parameters
    ----------
    stored : ndarray of uint16, shape (height, width)
        The bits as they lie in the file.
    form : tuple of float32
        Whether the bytes are in the other order than this machine's, whether the integers are signed, scale, zero,
        whether one stored value stands for none, and which.
    window : tuple of int
        First row and column that are wanted; the shape of `out` is how many.
    numbers : tuple of float32
        Saturation and linearity level of raw pixels, dark scale, read noise squared, 1/gain, whether the variance
        begins here, and the weight of the error of the bias.
    planes : tuple of ndarray of float32
        Zero level of each row, shape (height,); bias, its error, dark, its error, 1/flat, error of the flat. Shape
        (0, 0) leaves one out.
    out : tuple of ndarray
        Pixels, mask (uint8) and variance; shape (0, 0) leaves the variance out.

    Returns
    -------
    int
        Rows with pixels that are not finite or beyond all measure; these pixels are marked.
    """
    swapped, signed, scale, zero, has_blank, blank = form
    y0, x0 = window
    pixels, mask, variance = out
    height, width = pixels.shape
    # A flipped sign makes signed what is unsigned.
    flip = np.uint16(0) if signed != 0.0 else np.uint16(0x8000)
    start = zero if signed != 0.0 else zero + np.float32(32768.0) * scale
    code = (swapped != 0.0, flip, scale, start)
    scratch = np.zeros((3, width), np.float32)
    scratch[2] = 1.0
    invalid = 0
    for y in range(height):
        row, source = pixels[y], stored[y0 + y, x0 : x0 + width]
        offset = _offset(y, planes, numbers, scratch)
        factor = planes[5][y] if planes[5].shape[0] > 0 else scratch[2]
        if variance.shape[0] > 0 or has_blank != 0.0:
            _decode(source, code, row)
            if has_blank != 0.0:
                _blank(source, code, blank if signed != 0.0 else blank - np.float32(32768.0), row)
            if variance.shape[0] > 0:
                _vary(y, row, variance[y], numbers, planes, scratch)
            _reduce_row(row, mask[y], offset, factor, numbers)
        else:
            _reduce_source(source, code, row, mask[y], offset, factor, numbers)
        invalid += _any_invalid(mask[y])
    return invalid


@kernel
def reduce_floats(
    stored: npt.NDArray[np.uint32], form: Any, window: Any, numbers: Any, planes: Any, out: Any, bits: Any
) -> int:
    """Reduce floats of 32 bits; as :func:`reduce_integers`, `bits` being the pixels of `out` seen as uint32.

    `form` holds whether bytes are swapped, scale and zero. `stored` may be `bits` itself.
    """
    swapped, scale, zero = form
    y0, x0 = window
    pixels, mask, variance = out
    height, width = pixels.shape
    scratch = np.zeros((3, width), np.float32)
    scratch[2] = 1.0
    invalid = 0
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
        offset = _offset(y, planes, numbers, scratch)
        factor = planes[5][y] if planes[5].shape[0] > 0 else scratch[2]
        if variance.shape[0] > 0:
            _vary(y, row, variance[y], numbers, planes, scratch)
        _reduce_row(row, mask[y], offset, factor, numbers)
        invalid += _any_invalid(mask[y])
    return invalid


@kernel
def _scale(row: Any, scale: Any, zero: Any) -> None:
    if scale != np.float32(1.0):
        for x in range(row.size):
            row[x] *= scale
    if zero != np.float32(0.0):
        for x in range(row.size):
            row[x] += zero


@kernel
def _number(word: Any, swap: Any, flip: Any) -> Any:
    """Return the signed integer that 16 bits stand for; the shift is a constant, so that no register is widened."""
    other = np.uint16((word << np.uint16(8)) | (word >> np.uint16(8)))
    return np.int16((other if swap else word) ^ flip)


@kernel
def _decode(source: Any, code: Any, row: Any) -> None:
    swap, flip, scale, start = code
    for x in range(row.size):
        row[x] = np.float32(_number(source[x], swap, flip)) * scale + start


@kernel
def _blank(source: Any, code: Any, blank: Any, row: Any) -> None:
    swap, flip, _, _ = code
    for x in range(row.size):
        if np.float32(_number(source[x], swap, flip)) == blank:
            row[x] = np.nan


@kernel
def _offset(y: int, planes: Any, numbers: Any, scratch: Any) -> Any:
    """Return what is taken off each pixel of a row: zero level, bias and dark."""
    levels, bias, dark = planes[0], planes[1], planes[3]
    if levels.size == 0 and dark.shape[0] == 0:
        return bias[y] if bias.shape[0] > 0 else scratch[1]
    offset = scratch[0]
    level = levels[y] if levels.size > 0 else np.float32(0.0)
    zero = bias[y] if bias.shape[0] > 0 else scratch[1]
    for x in range(offset.size):
        offset[x] = level + zero[x]
    if dark.shape[0] > 0:
        current, scale = dark[y], numbers[2]
        for x in range(offset.size):
            offset[x] += scale * current[x]
    return offset


@kernel
def _reduce_source(
    source: Any, code: Any, row: Any, mask: Any, offset: Any, factor: Any, numbers: Any
) -> None:
    """Decode, judge and reduce a row in one loop, so that all planes stream in together."""
    swap, flip, scale, start = code
    saturation, linearity = numbers[0], numbers[1]
    for x in range(row.size):
        raw = np.float32(_number(source[x], swap, flip)) * scale + start
        value = (raw - offset[x]) * factor[x]
        row[x] = value
        mask[x] = _bits(raw, value, saturation, linearity)


@kernel
def _reduce_row(row: Any, mask: Any, offset: Any, factor: Any, numbers: Any) -> None:
    """Judge and reduce a decoded row."""
    saturation, linearity = numbers[0], numbers[1]
    for x in range(row.size):
        raw = row[x]
        value = (raw - offset[x]) * factor[x]
        row[x] = value
        mask[x] = mask[x] | _bits(raw, value, saturation, linearity)


@kernel
def _bits(raw: Any, value: Any, saturation: Any, linearity: Any) -> Any:
    bits = SATURATED if raw >= saturation else np.uint8(0)
    bits |= NEAR_SATURATED if raw >= linearity else np.uint8(0)
    bits |= np.uint8(0) if abs(value) < BEYOND_MEASURE else INVALID
    return np.uint8(bits)


@kernel
def _any_invalid(mask: Any) -> int:
    some = np.uint8(0)
    for x in range(mask.size):
        some = np.uint8(some | mask[x])
    return int(some & INVALID)


@kernel
def _vary(y: int, row: Any, variance: Any, numbers: Any, planes: Any, scratch: Any) -> None:
    """Carry the variance of a row of raw pixels through what is about to be done to it."""
    _, _, scale, read_variance, inverse_gain, begins, weight = numbers
    levels, bias, bias_err, dark, dark_err, inverse, flat_err = planes
    nothing, ones = scratch[1], scratch[2]
    level = levels[y] if levels.size > 0 else np.float32(0.0)
    zero = bias[y] if bias.shape[0] > 0 else nothing
    if begins != 0.0:
        for x in range(row.size):
            variance[x] = read_variance + max(row[x] - level - zero[x], np.float32(0.0)) * inverse_gain
    if bias_err.shape[0] > 0:
        error = bias_err[y]
        for x in range(row.size):
            variance[x] += weight * error[x] * error[x]
    current = dark[y] if dark.shape[0] > 0 else nothing
    if dark_err.shape[0] > 0:
        error = dark_err[y]
        for x in range(row.size):
            variance[x] += scale * scale * error[x] * error[x]
    factor = inverse[y] if inverse.shape[0] > 0 else ones
    if flat_err.shape[0] > 0:
        error = flat_err[y]
        for x in range(row.size):
            flat = (row[x] - level - zero[x] - scale * current[x]) * factor[x] * error[x]
            variance[x] = (variance[x] + flat * flat) * factor[x] * factor[x]
    elif inverse.shape[0] > 0:
        for x in range(row.size):
            variance[x] *= factor[x] * factor[x]


@kernel
def mark_invalid(pixels: Rows, mask: Bits) -> int:
    """Mark pixels that are not finite or beyond all measure, and return the number of rows in which there are some."""
    count = 0
    for y in range(pixels.shape[0]):
        row, marks = pixels[y], mask[y]
        for x in range(row.size):
            marks[x] = np.uint8(marks[x] | (np.uint8(0) if abs(row[x]) < BEYOND_MEASURE else INVALID))
        count += _any_invalid(marks)
    return count

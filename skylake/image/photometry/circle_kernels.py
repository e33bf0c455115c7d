"""Kernels of the exact overlap of circles and pixels."""

from __future__ import annotations

import math

from skylake.core.jit import kernel
from skylake.image.photometry.pixel_sum_kernels import ANY_ORDER

#: asin(s) / s as a polynomial of s^2 up to 1/4, to 1e-11.
_ASIN = (
    0.9999999999855,
    0.1666666739918,
    0.0749993964237,
    0.04466168831693,
    0.0300961852427,
    0.02468817997765,
    0.007291882956443,
    0.03487368977833,
)


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def strip(t: float, radius: float) -> float:
    """Return the area of the upper half of a disc between 0 and t, negative below 0.

    The arc sine is a polynomial of the sine's square up to 1/2, and twice that of half the angle beyond.
    """
    sine = min(max(t / radius, -1.0), 1.0)
    size = abs(sine)
    small = size <= 0.5
    z = sine * sine if small else 0.5 - 0.5 * size
    p = _ASIN[6] + z * _ASIN[7]
    p = _ASIN[4] + z * (_ASIN[5] + z * p)
    p = _ASIN[2] + z * (_ASIN[3] + z * p)
    p = (_ASIN[0] + z * (_ASIN[1] + z * p)) * math.sqrt(z)
    angle = p if small else 0.5 * math.pi - 2.0 * p
    area = 0.5 * radius * radius * (angle + size * math.sqrt(1.0 - size * size))
    return area if sine >= 0.0 else -area


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def corner(x: float, y: float, strip_x: float, strip_y: float, square: float) -> float:
    """Return the area of a disc around the origin with smaller x and smaller y than a point.

    `strip_x` and `strip_y` are the strips of the disc at x and y, `square` is that of its radius. If the point
    is inside, the area is a quadrant, two strips and a rectangle; else it is a whole cap, or what two caps leave.
    """
    quarter = 0.25 * math.pi * square
    if x * x + y * y < square:
        return quarter + strip_x + strip_y + x * y
    if y > 0.0:
        return 2.0 * (strip_x + (strip_y if x > 0.0 else quarter))
    return 2.0 * (quarter + strip_y) if x > 0.0 else 0.0


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def coverage(dx: float, dy: float, radius: float) -> float:
    """Return the part of a pixel within a circle.

    Parameters
    ----------
    dx, dy : float
        Offset of the middle of the pixel from the centre of the circle.
    radius : float
    """
    left, right, low, high = dx - 0.5, dx + 0.5, dy - 0.5, dy + 0.5
    square = radius * radius
    strip_left, strip_right = strip(left, radius), strip(right, radius)
    strip_low, strip_high = strip(low, radius), strip(high, radius)
    above = corner(right, high, strip_right, strip_high, square) - corner(
        left, high, strip_left, strip_high, square
    )
    below = corner(right, low, strip_right, strip_low, square) - corner(
        left, low, strip_left, strip_low, square
    )
    return float(min(max(above - below, 0.0), 1.0))

"""Sums in circles and ellipses with the overlap of each pixel, and radial profiles.

Sums are collected in an array of seven numbers: the signal, the variance times the square of the overlap, the
variance times the overlap, the signal times the square of the overlap, the overlap, its square, and the
overlap with unusable pixels.

Unsigned indices are not looked at for counting from the end, which would cost half of the time.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

FLUX, NOISE, SHARED_NOISE, LIGHT, AREA, SQUARES, HIDDEN = range(7)
N_SUMS = 7

#: Sums may be added in any order; NaN keeps its meaning.
_ANY_ORDER = {"reassoc", "contract"}
#: Rows into which a pixel is cut where an ellipse crosses it.
_SLICES = 5
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


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _add_run(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, spoiled: bool, row: int, first: int, last: int,
    sums: Floats,
) -> None:  # fmt: skip
    """Add the whole pixels `first` to `last` (excluded) of a row."""
    r = np.uint64(row)
    flux, noise, hidden = 0.0, 0.0, 0
    plane = variance.shape[0] == signal.shape[0]
    if spoiled:
        for column in range(first, last):
            if mask[r, np.uint64(column)] & unusable:
                hidden += 1
            else:
                flux += signal[r, np.uint64(column)]
                if plane:
                    noise += variance[r, np.uint64(column)]
    else:
        for column in range(first, last):
            flux += signal[r, np.uint64(column)]
        if plane:
            for column in range(first, last):
                noise += variance[r, np.uint64(column)]
    seen = last - first - hidden
    sums[FLUX] += flux
    sums[NOISE] += noise
    sums[SHARED_NOISE] += noise
    sums[LIGHT] += flux
    sums[AREA] += seen
    sums[SQUARES] += seen
    sums[HIDDEN] += hidden


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _add_part(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, spoiled: bool, row: int, column: int, part: float,
    sums: Floats,
) -> None:  # fmt: skip
    """Add a part of a pixel."""
    r, c = np.uint64(row), np.uint64(column)
    if spoiled and mask[r, c] & unusable:
        sums[HIDDEN] += part
        return
    value, square = part * signal[r, c], part * part
    sums[FLUX] += value
    sums[LIGHT] += part * value
    sums[AREA] += part
    sums[SQUARES] += square
    if variance.shape[0] == signal.shape[0]:
        sums[NOISE] += square * variance[r, c]
        sums[SHARED_NOISE] += part * variance[r, c]


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _fill_strips(start: float, radius: float, n: int, strips: Floats) -> None:
    """Set `n` strips to the area of the upper half of a disc between 0 and start, start + 1 …; negative below 0.

    The arc sine is a polynomial of the sine's square up to 1/2, and twice that of half the angle beyond.
    """
    square, inverse = radius * radius, 1.0 / radius
    for k in range(n):
        sine = min(max((start + k) * inverse, -1.0), 1.0)
        size = abs(sine)
        small = size <= 0.5
        z = sine * sine if small else 0.5 - 0.5 * size
        p = _ASIN[6] + z * _ASIN[7]
        p = _ASIN[4] + z * (_ASIN[5] + z * p)
        p = _ASIN[2] + z * (_ASIN[3] + z * p)
        p = (_ASIN[0] + z * (_ASIN[1] + z * p)) * math.sqrt(z)
        angle = p if small else 0.5 * math.pi - 2.0 * p
        area = 0.5 * square * (angle + size * math.sqrt(1.0 - size * size))
        strips[np.uint64(k)] = area if sine >= 0.0 else -area


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _corner(x: float, y: float, strip_x: float, strip_y: float, square: float) -> float:
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


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _add_edge(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, spoiled: bool, row: int, first: int, last: int,
    start: int, left: float, low: float, square: float, strips: Floats, strip_low: float, strip_high: float,
    sums: Floats,
) -> None:  # fmt: skip
    """Add those pixels `first` to `last` (excluded) of a row that a circle crosses; `strips` begin at `start`."""
    high, edge = low + 1.0, left + (first - start)
    strip = strips[np.uint64(first - start)]
    before = _corner(edge, high, strip, strip_high, square) - _corner(edge, low, strip, strip_low, square)
    for column in range(first, last):
        edge += 1.0
        strip = strips[np.uint64(column + 1 - start)]
        after = _corner(edge, high, strip, strip_high, square) - _corner(edge, low, strip, strip_low, square)
        _add_part(signal, mask, variance, unusable, spoiled, row, column, after - before, sums)
        before = after


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _add_circle(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, spoiled: bool, x: float, y: float, radius: float,
    strips: Floats, heights: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Set the sums to those in a circle, as far as it lies in the image."""
    for k in range(N_SUMS):
        sums[k] = 0.0
    height, width = signal.shape
    square = radius * radius
    start, stop = max(0, math.floor(x - radius + 0.5)), min(width, math.floor(x + radius + 0.5) + 1)
    bottom, top = max(0, math.floor(y - radius + 0.5)), min(height, math.floor(y + radius + 0.5) + 1)
    if start >= stop or bottom >= top:
        return
    left = start - 0.5 - x
    _fill_strips(left, radius, stop - start + 1, strips)
    _fill_strips(bottom - 0.5 - y, radius, top - bottom + 1, heights)
    for row in range(bottom, top):
        low = row - 0.5 - y
        strip_low, strip_high = heights[np.uint64(row - bottom)], heights[np.uint64(row - bottom + 1)]
        nearest = max(max(low, -low - 1.0), 0.0)
        farthest = max(abs(low), abs(low + 1.0))
        outer = math.sqrt(max(square - nearest * nearest, 0.0))
        first, last = max(0, math.floor(x - outer + 0.5)), min(width, math.floor(x + outer + 0.5) + 1)
        inner = math.sqrt(max(square - farthest * farthest, 0.0))
        whole, part = max(first, math.ceil(x - inner + 0.5)), min(last, math.floor(x + inner + 0.5))
        if whole >= part or farthest >= radius:
            whole, part = last, last
        _add_edge(signal, mask, variance, unusable, spoiled, row, first, whole, start, left, low, square, strips,
                  strip_low, strip_high, sums)  # fmt: skip
        if whole < part:
            _add_run(signal, mask, variance, unusable, spoiled, row, whole, part, sums)
            _add_edge(signal, mask, variance, unusable, spoiled, row, part, last, start, left, low, square, strips,
                      strip_low, strip_high, sums)  # fmt: skip


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _add_ellipse(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, spoiled: bool, x: float, y: float,
    xx: float, yy: float, xy: float, scale: float, parts: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Set the sums to those where xx dx^2 + yy dy^2 + xy dx dy <= scale^2: exact in x, of five slices of rows in y."""
    for k in range(N_SUMS):
        sums[k] = 0.0
    height, width = signal.shape
    determinant = xx * yy - 0.25 * xy * xy
    reach = scale * math.sqrt(xx / determinant)
    for row in range(max(0, math.floor(y - reach + 0.5)), min(height, math.floor(y + reach + 0.5) + 1)):
        first, last, whole, part = width, 0, 0, width
        for piece in range(_SLICES):
            dy = row - y + (piece + 0.5) / _SLICES - 0.5
            root = xx * scale * scale - determinant * dy * dy
            middle = x - 0.5 * xy * dy / xx
            half = math.sqrt(root) / xx if root > 0.0 else 0.0
            left, right = middle - half, middle + half
            parts[2 * piece], parts[2 * piece + 1] = left, right
            first, last = min(first, math.floor(left + 0.5)), max(last, math.floor(right + 0.5) + 1)
            whole, part = max(whole, math.ceil(left + 0.5)), min(part, math.floor(right + 0.5))
        first, last = max(first, 0), min(last, width)
        whole, part = max(whole, first), min(part, last)
        if whole < part:
            _add_run(signal, mask, variance, unusable, spoiled, row, whole, part, sums)
        else:
            whole, part = last, last
        for k in range(last - first - (part - whole)):
            column = first + k if first + k < whole else first + k + part - whole
            covered = 0.0
            for piece in range(_SLICES):
                left, right = parts[2 * piece], parts[2 * piece + 1]
                covered += max(0.0, min(right, column + 0.5) - max(left, column - 0.5))
            _add_part(signal, mask, variance, unusable, spoiled, row, column, covered / _SLICES, sums)


@numba.njit(cache=True, nogil=True)
def _conic(a: float, b: float, theta: float) -> tuple[float, float, float]:
    """Return the coefficients of dx^2, dy^2 and dx dy of the ellipse of size 1."""
    cosine, sine = math.cos(theta), math.sin(theta)
    along, across = 1.0 / (a * a), 1.0 / (b * b)
    return (
        cosine * cosine * along + sine * sine * across,
        sine * sine * along + cosine * cosine * across,
        2.0 * cosine * sine * (along - across),
    )


@numba.njit(cache=True, nogil=True)
def _any_bit(tiles: Bytes, tile: int, bits: int, x: float, y: float, reach: float) -> bool:
    """Tell whether a tile within `reach` of a place has any of some bits."""
    first, last = max(0, int(x - reach) // tile), min(tiles.shape[1], int(x + reach + 1.0) // tile + 1)
    bottom, top = max(0, int(y - reach) // tile), min(tiles.shape[0], int(y + reach + 1.0) // tile + 1)
    found = 0
    for row in range(bottom, top):
        for column in range(first, last):
            found |= tiles[np.uint64(row), np.uint64(column)]
    return (found & bits) != 0


@numba.njit(cache=True, nogil=True)
def _whole(sums: Floats) -> float:
    """Return the flux, scaled up by the area that is hidden; NaN where all is."""
    if sums[HIDDEN] == 0.0:
        return sums[FLUX]
    if sums[AREA] <= 0.0:
        return np.nan
    return sums[FLUX] * (1.0 + sums[HIDDEN] / sums[AREA])


@numba.njit(cache=True, nogil=True)
def circle_sums(
    signal: Pixels, mask: Bytes, variance: Pixels, tiles: Bytes, tile: int, unusable: int, x: Floats, y: Floats,
    radii: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Set `sums`, shape (n, radii, 7), to those in circles around n places."""
    largest = radii.max()
    room = 2 * math.ceil(largest) + 4
    strips, heights = np.empty(room), np.empty(room)
    for source in range(len(x)):
        px, py = x[source], y[source]
        spoiled = _any_bit(tiles, tile, unusable, px, py, largest)
        for k in range(len(radii)):
            _add_circle(signal, mask, variance, unusable, spoiled, px, py, radii[k], strips, heights,
                        sums[source, k])  # fmt: skip


@numba.njit(cache=True, nogil=True)
def stamp_sums(
    signal: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], variance: npt.NDArray[np.float32], x: Floats,
    y: Floats, radii: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Set `sums`, shape (n, radii, 7), to those in circles on n stamps of their own; any bit of `mask` hides."""
    room = 2 * math.ceil(radii.max()) + 4
    strips, heights = np.empty(room), np.empty(room)
    for source in range(len(x)):
        for k in range(len(radii)):
            _add_circle(signal[source], mask[source], variance[source], 255, True, x[source], y[source], radii[k],
                        strips, heights, sums[source, k])  # fmt: skip


@numba.njit(cache=True, nogil=True)
def ellipse_sums(
    signal: Pixels, mask: Bytes, variance: Pixels, tiles: Bytes, tile: int, unusable: int, x: Floats, y: Floats,
    a: Floats, b: Floats, theta: Floats, scale: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Set `sums`, shape (n, 7), to those in ellipses with half axes `scale` times a and b."""
    parts = np.empty(2 * _SLICES)
    for source in range(len(x)):
        xx, yy, xy = _conic(a[source], b[source], theta[source])
        px, py, size = x[source], y[source], scale[source]
        spoiled = _any_bit(tiles, tile, unusable, px, py, size * max(a[source], b[source]))
        _add_ellipse(signal, mask, variance, unusable, spoiled, px, py, xx, yy, xy, size, parts, sums[source])


@numba.njit(cache=True, nogil=True)
def profiles(
    signal: Pixels, mask: Bytes, tiles: Bytes, tile: int, unusable: int, x: Floats, y: Floats, total: Floats,
    edges: Floats, widths: Floats, half_light: Floats,
) -> None:  # fmt: skip
    """Set squares of full widths at half maximum, and half-light radii, from sums in rings between `edges`.

    The logarithm of the brightness is taken to be linear in the square of the radius. NaN where no ring is
    below half of the peak, or holds half of `total`, or one before it has no light.
    """
    none = np.empty((0, 0), np.float32)
    room = 2 * math.ceil(edges[-1]) + 4
    strips, heights, sums = np.empty(room), np.empty(room), np.empty(N_SUMS)
    for source in range(len(x)):
        px, py, wanted = x[source], y[source], 0.5 * total[source]
        widths[source] = half_light[source] = np.nan
        has_width, has_half = False, not wanted > 0.0
        inside, inner, level, square, half = 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(len(edges)):
            spoiled = _any_bit(tiles, tile, unusable, px, py, edges[k])
            _add_circle(signal, mask, none, unusable, spoiled, px, py, edges[k], strips, heights, sums)
            flux, outer = _whole(sums), edges[k] * edges[k]
            if not flux > inside:
                break
            before, square_before = level, square
            level, square = math.log((flux - inside) / (math.pi * (outer - inner))), 0.5 * (outer + inner)
            fall = (before - level) / (square - square_before) if k else 0.0
            if flux >= wanted and not has_half:
                has_half, part = True, (wanted - inside) / (flux - inside)
                lost = 1.0 - math.exp(-fall * (outer - inner))
                gone = part * (outer - inner) if abs(lost) < 1e-6 else -math.log(1.0 - part * lost) / fall
                half_light[source] = math.sqrt(inner + gone)
            if k == 1:
                half = before + fall * square_before - math.log(2.0)
                has_width = before < half
            if k and level < half and not has_width:
                has_width = True
                widths[source] = 4.0 * (square_before + (before - half) / fall)
            if has_width and has_half:
                break
            inside, inner = flux, outer


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def kron_radii(
    signal: Pixels, mask: Bytes, tiles: Bytes, tile: int, unusable: int, x: Floats, y: Floats, a: Floats, b: Floats,
    theta: Floats, reach: float, radii: Floats,
) -> None:  # fmt: skip
    """Set `radii` to the mean radius of the light within `reach`, in units of a and b; NaN where there is none."""
    height, width = signal.shape
    for source in range(len(x)):
        px, py = x[source], y[source]
        xx, yy, xy = _conic(a[source], b[source], theta[source])
        determinant = xx * yy - 0.25 * xy * xy
        size = reach * math.sqrt(xx / determinant)
        spoiled = _any_bit(tiles, tile, unusable, px, py, reach * max(a[source], b[source]))
        light, moment = 0.0, 0.0
        for row in range(max(0, math.ceil(py - size)), min(height, math.floor(py + size) + 1)):
            dy = row - py
            half = math.sqrt(max(xx * reach * reach - determinant * dy * dy, 0.0)) / xx
            middle = px - 0.5 * xy * dy / xx
            for column in range(max(0, math.ceil(middle - half)), min(width, math.floor(middle + half) + 1)):
                dx = column - px
                value = signal[np.uint64(row), np.uint64(column)]
                if spoiled and mask[np.uint64(row), np.uint64(column)] & unusable:
                    value = np.float32(0.0)
                light += value
                moment += value * math.sqrt((xx * dx + xy * dy) * dx + yy * dy * dy)
        good = light > 0.0 and moment > 0.0 and moment <= reach * light
        radii[source] = moment / light if good else np.nan

"""Sums in circles and ellipses with the overlap of each pixel, and radial profiles.

Sums are collected in an array of six numbers: the signal, the variance times the square of the overlap, the
signal times the square of the overlap, the overlap, its square, and the overlap with unusable pixels.

Circles of one radius are summed for many sources at a time, without a branch, so that the processor's vector
units are busy. Unsigned indices are not looked at for counting from the end, which would cost half of the time.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

FLUX, NOISE, LIGHT, AREA, SQUARES, HIDDEN = range(6)
N_SUMS = 6

#: Sums may be added in any order; NaN keeps its meaning.
_ANY_ORDER = {"reassoc", "contract"}
#: Sources that are summed at a time.
_LANES = 64
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


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _strip(t: float, radius: float) -> float:
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
    for k in range(stop - start + 1):
        strips[k] = _strip(left + k, radius)
    for k in range(top - bottom + 1):
        heights[k] = _strip(bottom - 0.5 - y + k, radius)
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
def _gather(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, spoiled: bool, starts: npt.NDArray[np.uint64],
    side: int, cube: npt.NDArray[np.float32],
) -> None:  # fmt: skip
    """Set signal, usability and variance of squares whose first pixels are `starts`; shape (3, side, side, lanes)."""
    width = np.uint64(signal.shape[1])
    flat, usable, noise = signal.reshape(-1), mask.reshape(-1), variance.reshape(-1)
    plane = variance.shape[0] == signal.shape[0]
    for row in range(side):
        for column in range(side):
            offset = np.uint64(row) * width + np.uint64(column)
            for lane in range(_LANES):
                cube[0, row, column, lane] = flat[starts[lane] + offset]
            for lane in range(_LANES):
                cube[1, row, column, lane] = np.float32(1.0)
            if plane:
                for lane in range(_LANES):
                    cube[2, row, column, lane] = noise[starts[lane] + offset]
            if spoiled:
                for lane in range(_LANES):
                    if usable[starts[lane] + offset] & unusable:
                        cube[:, row, column, lane] = np.float32(0.0)


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _fill_corners(
    places: Floats, strips: Floats, height: Floats, strip: Floats, square: float, n: int, corners: Floats
) -> None:
    """Set the areas of discs below a height and left of each place, shape (n, lanes); see :func:`_corner`."""
    quarter = 0.25 * math.pi * square
    for k in range(n):
        for lane in range(_LANES):
            x, y, along, across = places[k, lane], height[lane], strips[k, lane], strip[lane]
            upper = 2.0 * (along + (across if x > 0.0 else quarter))
            lower = 2.0 * (quarter + across) if x > 0.0 else 0.0
            outside = upper if y > 0.0 else lower
            inside = quarter + along + across + x * y
            corners[k, lane] = inside if x * x + y * y < square else outside


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _add_circles(
    cube: npt.NDArray[np.float32], middle: int, plane: bool, dx: Floats, dy: Floats, radius: float, edges: Floats, sums: Floats
) -> None:
    """Set `sums`, shape (6, lanes), to those in circles wholly inside the squares of :func:`_gather`.

    `dx` and `dy` are from the middle of the squares; `edges` is room of shape (6, side + 1, lanes).
    """
    half = math.ceil(radius)
    n, first, square = 2 * half + 1, middle - half, radius * radius
    columns, rows, strips, heights, before, after = edges[0], edges[1], edges[2], edges[3], edges[4], edges[5]
    for k in range(n + 1):
        for lane in range(_LANES):
            columns[k, lane] = k - half - 0.5 - dx[lane]
            rows[k, lane] = k - half - 0.5 - dy[lane]
        for lane in range(_LANES):
            strips[k, lane] = _strip(columns[k, lane], radius)
        for lane in range(_LANES):
            heights[k, lane] = _strip(rows[k, lane], radius)
    sums[:] = 0.0
    _fill_corners(columns, strips, rows[0], heights[0], square, n + 1, before)
    for row in range(n):
        _fill_corners(columns, strips, rows[row + 1], heights[row + 1], square, n + 1, after)
        for k in range(n):
            for lane in range(_LANES):
                part = (after[k + 1, lane] - before[k + 1, lane]) - (after[k, lane] - before[k, lane])
                seen = part * cube[1, first + row, first + k, lane]
                value = part * cube[0, first + row, first + k, lane]
                sums[FLUX, lane] += value
                sums[LIGHT, lane] += part * value
                sums[AREA, lane] += seen
                sums[SQUARES, lane] += part * seen
                sums[HIDDEN, lane] += part - seen
            if plane:
                for lane in range(_LANES):
                    part = (after[k + 1, lane] - before[k + 1, lane]) - (after[k, lane] - before[k, lane])
                    sums[NOISE, lane] += part * part * cube[2, first + row, first + k, lane]
        before, after = after, before


@numba.njit(cache=True, nogil=True)
def circle_sums(
    signal: Pixels, mask: Bytes, variance: Pixels, tiles: Bytes, tile: int, unusable: int, x: Floats, y: Floats,
    radii: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Set `sums`, shape (n, radii, 6), to those in circles around n places."""
    height, width = signal.shape
    reach = math.ceil(radii.max())
    room = 2 * reach + 4
    strips, heights = np.empty(room), np.empty(room)
    side = 2 * reach + 1
    cube, edges = np.empty((3, side, side, _LANES), np.float32), np.empty((6, side + 1, _LANES))
    dx, dy, found = np.zeros(_LANES), np.zeros(_LANES), np.empty((N_SUMS, _LANES))
    waiting, n_waiting, any_spoiled = np.zeros(_LANES, np.int64), 0, False
    starts = np.zeros(_LANES, np.uint64)
    plane = variance.shape[0] == height
    for source in range(len(x)):
        px, py = x[source], y[source]
        column, row = math.floor(px + 0.5), math.floor(py + 0.5)
        spoiled = _any_bit(tiles, tile, unusable, px, py, reach)
        if reach <= column < width - reach and reach <= row < height - reach:
            starts[n_waiting] = (row - reach) * width + column - reach
            dx[n_waiting], dy[n_waiting], waiting[n_waiting] = px - column, py - row, source
            any_spoiled |= spoiled
            n_waiting += 1
        else:
            for k in range(len(radii)):
                _add_circle(signal, mask, variance, unusable, spoiled, px, py, radii[k], strips, heights,
                            sums[source, k])  # fmt: skip
        if n_waiting == _LANES or (n_waiting and source == len(x) - 1):
            # Lanes beyond the last hold some source, and nobody asks for it.
            _gather(signal, mask, variance, unusable, any_spoiled, starts, side, cube)
            for k in range(len(radii)):
                _add_circles(cube, reach, plane, dx, dy, radii[k], edges, found)
                for lane in range(n_waiting):
                    for column in range(N_SUMS):
                        sums[waiting[lane], k, column] = found[column, lane]
                    # What is left of rounding hides nothing.
                    if found[HIDDEN, lane] < 1e-9:
                        sums[waiting[lane], k, HIDDEN] = 0.0
            n_waiting, any_spoiled = 0, False


@numba.njit(cache=True, nogil=True)
def stamp_sums(
    signal: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], variance: npt.NDArray[np.float32], x: Floats,
    y: Floats, radii: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Set `sums`, shape (n, radii, 6), to those in circles on n stamps of their own; any bit of `mask` hides."""
    room = 2 * math.ceil(radii.max()) + 4
    strips, heights = np.empty(room), np.empty(room)
    for source in range(len(x)):
        for k in range(len(radii)):
            _add_circle(signal[source], mask[source], variance[source], 255, True, x[source], y[source], radii[k],
                        strips, heights, sums[source, k])  # fmt: skip


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _fill_slices(
    dx: Floats, dy: Floats, conics: Floats, scale: Floats, row: int, left: Floats, right: Floats
) -> None:
    """Set the ends, shape (slices, lanes), of ellipses on the slices of a row, from the middle of the squares."""
    for piece in range(_SLICES):
        for lane in range(_LANES):
            xx, yy, half_xy = conics[0, lane], conics[1, lane], 0.5 * conics[2, lane]
            y = row + (piece + 0.5) / _SLICES - 0.5 - dy[lane]
            root = max(xx * scale[lane] * scale[lane] - (xx * yy - half_xy * half_xy) * y * y, 0.0)
            left[piece, lane] = dx[lane] - (half_xy * y + math.sqrt(root)) / xx
            right[piece, lane] = dx[lane] - (half_xy * y - math.sqrt(root)) / xx


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _add_ellipses(
    cube: npt.NDArray[np.float32], half: int, plane: bool, dx: Floats, dy: Floats, conics: Floats, scale: Floats,
    ends: Floats, parts: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Set `sums`, shape (6, lanes), to those in ellipses wholly inside the squares of :func:`_gather`."""
    left, right = ends[0], ends[1]
    sums[:] = 0.0
    for row in range(2 * half + 1):
        _fill_slices(dx, dy, conics, scale, row - half, left, right)
        for k in range(2 * half + 1):
            low, high = k - half - 0.5, k - half + 0.5
            for lane in range(_LANES):
                part = max(0.0, min(right[0, lane], high) - max(left[0, lane], low))
                part += max(0.0, min(right[1, lane], high) - max(left[1, lane], low))
                part += max(0.0, min(right[2, lane], high) - max(left[2, lane], low))
                part += max(0.0, min(right[3, lane], high) - max(left[3, lane], low))
                part += max(0.0, min(right[4, lane], high) - max(left[4, lane], low))
                parts[lane] = part / _SLICES
            for lane in range(_LANES):
                value = parts[lane] * cube[0, row, k, lane]
                sums[FLUX, lane] += value
                sums[LIGHT, lane] += parts[lane] * value
            for lane in range(_LANES):
                seen = parts[lane] * cube[1, row, k, lane]
                sums[AREA, lane] += seen
                sums[SQUARES, lane] += parts[lane] * seen
                sums[HIDDEN, lane] += parts[lane] - seen
            if plane:
                for lane in range(_LANES):
                    sums[NOISE, lane] += parts[lane] * parts[lane] * cube[2, row, k, lane]


@numba.njit(cache=True, nogil=True)
def ellipse_sums(
    signal: Pixels, mask: Bytes, variance: Pixels, tiles: Bytes, tile: int, unusable: int, x: Floats, y: Floats,
    a: Floats, b: Floats, theta: Floats, scale: Floats, order: npt.NDArray[np.intp], largest: int, sums: Floats,
) -> None:  # fmt: skip
    """Set `sums`, shape (n, 6), to those in ellipses with half axes `scale` times a and b.

    `order` brings ellipses of one size together; those that reach farther than `largest` pixels are done one by one.
    """
    height, width = signal.shape
    side = 2 * largest + 1
    alone, cube = np.empty(2 * _SLICES), np.empty((3, side, side, _LANES), np.float32)
    ends, parts, found = np.empty((2, _SLICES, _LANES)), np.empty(_LANES), np.empty((N_SUMS, _LANES))
    dx, dy, conics, scales = np.zeros(_LANES), np.zeros(_LANES), np.ones((3, _LANES)), np.zeros(_LANES)
    waiting, starts = np.zeros(_LANES, np.int64), np.zeros(_LANES, np.uint64)
    plane, n_waiting, any_spoiled, half = variance.shape[0] == height, 0, False, 0
    for place in range(len(order) + 1):
        if place < len(order):
            source = order[place]
            px, py = x[source], y[source]
            xx, yy, xy = _conic(a[source], b[source], theta[source])
            reach = scale[source] * max(a[source], b[source])
            size, column, row = math.ceil(reach), math.floor(px + 0.5), math.floor(py + 0.5)
            spoiled = _any_bit(tiles, tile, unusable, px, py, reach)
            inside = size <= column < width - size and size <= row < height - size
            if size <= largest and inside:
                dx[n_waiting], dy[n_waiting], waiting[n_waiting] = px - column, py - row, source
                conics[0, n_waiting], conics[1, n_waiting], conics[2, n_waiting] = xx, yy, xy
                scales[n_waiting] = scale[source]
                starts[n_waiting] = row * width + column
                any_spoiled |= spoiled
                half = max(half, size)
                n_waiting += 1
            else:
                _add_ellipse(signal, mask, variance, unusable, spoiled, px, py, xx, yy, xy, scale[source], alone,
                             sums[source])  # fmt: skip
        if n_waiting == _LANES or (n_waiting and place == len(order)):
            for lane in range(_LANES):
                # Squares as large as the largest ellipse may reach out of the image: then they are moved.
                middle = starts[lane] if lane < n_waiting else starts[0]
                column, row = middle % np.uint64(width), middle // np.uint64(width)
                inner_column = min(max(int(column), half), width - 1 - half)
                inner_row = min(max(int(row), half), height - 1 - half)
                dx[lane] += int(column) - inner_column
                dy[lane] += int(row) - inner_row
                starts[lane] = (inner_row - half) * width + inner_column - half
            _gather(signal, mask, variance, unusable, any_spoiled, starts, 2 * half + 1, cube)
            _add_ellipses(cube, half, plane, dx, dy, conics, scales, ends, parts, found)
            for lane in range(n_waiting):
                for column in range(N_SUMS):
                    sums[waiting[lane], column] = found[column, lane]
                if found[HIDDEN, lane] < 1e-9:
                    sums[waiting[lane], HIDDEN] = 0.0
            n_waiting, any_spoiled, half = 0, False, 0


@numba.njit(cache=True, nogil=True)
def profiles(
    signal: Pixels, mask: Bytes, tiles: Bytes, tile: int, unusable: int, x: Floats, y: Floats, total: Floats,
    reach: Floats, edges: Floats, sums: Floats, widths: Floats, half_light: Floats,
) -> None:  # fmt: skip
    """Set squares of full widths at half maximum, and half-light radii, from sums in rings between `edges`.

    The logarithm of the brightness is taken to be linear in the square of the radius. NaN where no ring is
    below half of the peak, or holds half of `total`, or one before it has no light. `sums` are those of
    :func:`circle_sums` in the first of the edges, in which nearly all sources are done; those that are not are followed to `reach`.
    """
    none = np.empty((0, 0), np.float32)
    room = 2 * math.ceil(edges[-1]) + 4
    strips, heights, others = np.empty(room), np.empty(room), np.empty(N_SUMS)
    for source in range(len(x)):
        px, py, wanted = x[source], y[source], 0.5 * total[source]
        widths[source] = half_light[source] = np.nan
        has_width, has_half = False, not wanted > 0.0
        inside, inner, level, square, half = 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(len(edges)):
            if k < sums.shape[1]:
                flux = _whole(sums[source, k])
            elif edges[k] > reach[source]:
                break
            else:
                spoiled = _any_bit(tiles, tile, unusable, px, py, edges[k])
                _add_circle(signal, mask, none, unusable, spoiled, px, py, edges[k], strips, heights, others)
                flux = _whole(others)
            outer = edges[k] * edges[k]
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

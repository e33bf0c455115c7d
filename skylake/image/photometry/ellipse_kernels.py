"""Kernels of sums in ellipses, which cut each row of pixels into five slices, and of Kron radii."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.photometry.pixel_sum_kernels import (
    ANY_ORDER,
    LANES,
    N_SUMS,
    Floats,
    Planes,
    add_lanes,
    add_part,
    add_run,
    any_unusable,
    gather,
    take_lane,
)

#: Rows into which a pixel is cut where an ellipse crosses it.
_SLICES = 5


class Ellipses(NamedTuple):
    """Places and half axes in pixels, and angles of the long axis from x towards y in radians; shape (n,)."""

    x: Floats
    y: Floats
    a: Floats
    b: Floats
    theta: Floats


@kernel(error_model="numpy")
def _conic(ellipses: Ellipses, source: int) -> tuple[float, float, float]:
    """Return the coefficients of dx^2, dy^2 and dx dy of the ellipse of size 1."""
    a, b, theta = ellipses.a[source], ellipses.b[source], ellipses.theta[source]
    cosine, sine = math.cos(theta), math.sin(theta)
    along, across = 1.0 / (a * a), 1.0 / (b * b)
    return (
        cosine * cosine * along + sine * sine * across,
        sine * sine * along + cosine * cosine * across,
        2.0 * cosine * sine * (along - across),
    )


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _add_ellipse(
    planes: Planes,
    spoiled: bool,
    x: float,
    y: float,
    conic: tuple[float, float, float],
    scale: float,
    parts: Floats,
    sums: Floats,
) -> None:
    """Set the sums to those where xx dx^2 + yy dy^2 + xy dx dy <= scale^2: exact in x, of five slices of rows in y."""
    for k in range(N_SUMS):
        sums[k] = 0.0
    height, width = planes.signal.shape
    xx, yy, xy = conic
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
            add_run(planes, spoiled, row, whole, part, sums)
        else:
            whole, part = last, last
        for k in range(last - first - (part - whole)):
            column = first + k if first + k < whole else first + k + part - whole
            covered = 0.0
            for piece in range(_SLICES):
                left, right = parts[2 * piece], parts[2 * piece + 1]
                covered += max(0.0, min(right, column + 0.5) - max(left, column - 0.5))
            add_part(planes, spoiled, row, column, covered / _SLICES, sums)


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _fill_slices(dx: Floats, dy: Floats, conics: Floats, row: int, left: Floats, right: Floats) -> None:
    """Set the ends, shape (slices, lanes), of ellipses on the slices of a row, from the middle of the squares.

    `conics` holds the shear, the square of the half chord at the centre, and what it loses per dy^2.
    """
    for piece in range(_SLICES):
        offset = row + (piece + 0.5) / _SLICES - 0.5
        for lane in range(LANES):
            left[piece, lane] = dx[lane] - conics[0, lane] * (offset - dy[lane])
        for lane in range(LANES):
            y = offset - dy[lane]
            right[piece, lane] = math.sqrt(max(conics[1, lane] - conics[2, lane] * y * y, 0.0))
        for lane in range(LANES):
            middle, half = left[piece, lane], right[piece, lane]
            left[piece, lane] = middle - half
            right[piece, lane] = middle + half


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _add_ellipses(
    cube: npt.NDArray[np.float32],
    half: int,
    plane: bool,
    offsets: Floats,
    conics: Floats,
    ends: Floats,
    parts: Floats,
    sums: Floats,
) -> None:
    """Set `sums`, shape (6, lanes), to those in ellipses wholly inside the squares of :func:`gather`.

    `offsets`, shape (2, lanes), are from the middle of the squares.
    """
    left, right = ends[0], ends[1]
    sums[:] = 0.0
    for row in range(2 * half + 1):
        _fill_slices(offsets[0], offsets[1], conics, row - half, left, right)
        for k in range(2 * half + 1):
            low, high = k - half - 0.5, k - half + 0.5
            parts[:] = 0.0
            for piece in range(_SLICES):
                for lane in range(LANES):
                    first, last = max(left[piece, lane], low), min(right[piece, lane], high)
                    parts[lane] += max(last - first, 0.0) / _SLICES
            add_lanes(cube, row, k, parts, plane, sums)


@kernel(error_model="numpy")
def _place_squares(
    starts: npt.NDArray[np.uint64], dx: Floats, dy: Floats, half: int, n: int, height: int, width: int
) -> None:
    """Turn middles of squares into their first pixels; a square that would reach out of the image is moved."""
    first = starts[0]
    for lane in range(LANES):
        # Lanes beyond the last hold some square, and are not used.
        middle = starts[lane] if lane < n else first
        column, row = int(middle % np.uint64(width)), int(middle // np.uint64(width))
        inner_column = min(max(column, half), width - 1 - half)
        inner_row = min(max(row, half), height - 1 - half)
        dx[lane] += column - inner_column
        dy[lane] += row - inner_row
        starts[lane] = (inner_row - half) * width + inner_column - half


@kernel(error_model="numpy")
def ellipse_sums(
    planes: Planes,
    ellipses: Ellipses,
    scale: Floats,
    order: npt.NDArray[np.intp],
    largest: int,
    sums: Floats,
) -> None:
    """Set `sums`, shape (n, 6), to those in ellipses with half axes `scale` times a and b.

    `order` brings ellipses of one size together; those that reach farther than `largest` pixels are done one by one.
    """
    height, width = planes.signal.shape
    side = 2 * largest + 1
    alone, cube = np.empty(2 * _SLICES), np.empty((3, side, side, LANES), np.float32)
    ends, parts, lane_sums = np.empty((2, _SLICES, LANES)), np.empty(LANES), np.empty((N_SUMS, LANES))
    offsets, conics = np.zeros((2, LANES)), np.zeros((3, LANES))
    dx, dy = offsets[0], offsets[1]
    waiting, starts = np.zeros(LANES, np.int64), np.zeros(LANES, np.uint64)
    plane, n_waiting, any_spoiled, half = planes.variance.shape[0] == height, 0, False, 0
    for place in range(len(order) + 1):
        if place < len(order):
            source = order[place]
            px, py = ellipses.x[source], ellipses.y[source]
            xx, yy, xy = _conic(ellipses, source)
            reach = scale[source] * max(ellipses.a[source], ellipses.b[source])
            size, column, row = math.ceil(reach), math.floor(px + 0.5), math.floor(py + 0.5)
            spoiled = any_unusable(planes, px, py, reach)
            inside = size <= column < width - size and size <= row < height - size
            if size <= largest and inside:
                dx[n_waiting], dy[n_waiting], waiting[n_waiting] = px - column, py - row, source
                conics[0, n_waiting], conics[1, n_waiting] = 0.5 * xy / xx, scale[source] * scale[source] / xx
                conics[2, n_waiting] = yy / xx - 0.25 * xy * xy / (xx * xx)
                starts[n_waiting] = row * width + column
                any_spoiled |= spoiled
                half = max(half, size)
                n_waiting += 1
            else:
                conic = (xx, yy, xy)
                _add_ellipse(planes, spoiled, px, py, conic, scale[source], alone, sums[source])
        if n_waiting == LANES or (n_waiting and place == len(order)):
            _place_squares(starts, dx, dy, half, n_waiting, height, width)
            gather(planes, any_spoiled, starts, 2 * half + 1, cube)
            _add_ellipses(cube, half, plane, offsets, conics, ends, parts, lane_sums)
            for lane in range(n_waiting):
                take_lane(lane_sums, lane, sums[waiting[lane]])
            n_waiting, any_spoiled, half = 0, False, 0


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def kron_radii(planes: Planes, ellipses: Ellipses, reach: float, radii: Floats) -> None:
    """Set `radii` to the mean radius of the light within `reach`, in units of a and b; NaN where there is none."""
    signal, mask, unusable = planes.signal, planes.mask, planes.unusable
    height, width = signal.shape
    for source in range(len(ellipses.x)):
        px, py = ellipses.x[source], ellipses.y[source]
        xx, yy, xy = _conic(ellipses, source)
        determinant = xx * yy - 0.25 * xy * xy
        size = reach * math.sqrt(xx / determinant)
        spoiled = any_unusable(planes, px, py, reach * max(ellipses.a[source], ellipses.b[source]))
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

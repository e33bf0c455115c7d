"""Kernels of sums in circles, with the exact overlap of each pixel, and of radial profiles."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.photometry.circle_kernels import corner, strip
from skylake.image.photometry.pixel_sum_kernels import (
    ANY_ORDER,
    AREA,
    FLUX,
    LANES,
    N_SUMS,
    OBSCURED,
    Floats,
    Planes,
    add_lanes,
    add_part,
    add_run,
    any_unusable,
    gather,
    take_lane,
)


class _Disc(NamedTuple):
    """A circle on a grid of pixels: the first column, its left edge from the centre, and the strips at all edges."""

    start: int
    left: float
    square: float
    strips: Floats


class _RowEdges(NamedTuple):
    """A row of pixels: its number, its lower edge from the centre of a circle, and the strips at both edges."""

    row: int
    low: float
    strip_low: float
    strip_high: float


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _add_edge(
    planes: Planes, spoiled: bool, disc: _Disc, line: _RowEdges, first: int, last: int, sums: Floats
) -> None:
    """Add those pixels `first` to `last` (excluded) of a row that a circle crosses."""
    start, strips, square = disc.start, disc.strips, disc.square
    strip_low, strip_high = line.strip_low, line.strip_high
    low, high, edge = line.low, line.low + 1.0, disc.left + (first - start)
    strip = strips[np.uint64(first - start)]
    before = corner(edge, high, strip, strip_high, square) - corner(edge, low, strip, strip_low, square)
    for column in range(first, last):
        edge += 1.0
        strip = strips[np.uint64(column + 1 - start)]
        after = corner(edge, high, strip, strip_high, square) - corner(edge, low, strip, strip_low, square)
        add_part(planes, spoiled, line.row, column, after - before, sums)
        before = after


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _add_circle(
    planes: Planes,
    spoiled: bool,
    x: float,
    y: float,
    radius: float,
    strips: Floats,
    heights: Floats,
    sums: Floats,
) -> None:
    """Set the sums to those in a circle, as far as it lies in the image."""
    for k in range(N_SUMS):
        sums[k] = 0.0
    height, width = planes.signal.shape
    square = radius * radius
    start, stop = max(0, math.floor(x - radius + 0.5)), min(width, math.floor(x + radius + 0.5) + 1)
    bottom, top = max(0, math.floor(y - radius + 0.5)), min(height, math.floor(y + radius + 0.5) + 1)
    if start >= stop or bottom >= top:
        return
    left = start - 0.5 - x
    disc = _Disc(start, left, square, strips)
    for k in range(stop - start + 1):
        strips[k] = strip(left + k, radius)
    for k in range(top - bottom + 1):
        heights[k] = strip(bottom - 0.5 - y + k, radius)
    for row in range(bottom, top):
        low = row - 0.5 - y
        line = _RowEdges(row, low, heights[np.uint64(row - bottom)], heights[np.uint64(row - bottom + 1)])
        nearest = max(max(low, -low - 1.0), 0.0)
        farthest = max(abs(low), abs(low + 1.0))
        outer = math.sqrt(max(square - nearest * nearest, 0.0))
        first, last = max(0, math.floor(x - outer + 0.5)), min(width, math.floor(x + outer + 0.5) + 1)
        inner = math.sqrt(max(square - farthest * farthest, 0.0))
        whole, part = max(first, math.ceil(x - inner + 0.5)), min(last, math.floor(x + inner + 0.5))
        if whole >= part or farthest >= radius:
            whole, part = last, last
        _add_edge(planes, spoiled, disc, line, first, whole, sums)
        if whole < part:
            add_run(planes, spoiled, row, whole, part, sums)
            _add_edge(planes, spoiled, disc, line, part, last, sums)


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _fill_corners(
    places: Floats, strips: Floats, height: Floats, strip: Floats, square: float, n: int, corners: Floats
) -> None:
    """Set the areas of discs below a height and left of each place, shape (n, lanes), as :func:`corner` does."""
    quarter = 0.25 * math.pi * square
    for k in range(n):
        for lane in range(LANES):
            x, y, along, across = places[k, lane], height[lane], strips[k, lane], strip[lane]
            upper = 2.0 * (along + (across if x > 0.0 else quarter))
            lower = 2.0 * (quarter + across) if x > 0.0 else 0.0
            outside = upper if y > 0.0 else lower
            inside = quarter + along + across + x * y
            corners[k, lane] = inside if x * x + y * y < square else outside


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _add_circles(
    cube: npt.NDArray[np.float32],
    middle: int,
    plane: bool,
    dx: Floats,
    dy: Floats,
    radius: float,
    edges: Floats,
    sums: Floats,
) -> None:
    """Set `sums`, shape (6, lanes), to those in circles wholly inside the squares of :func:`gather`.

    `dx` and `dy` are from the middle of the squares; `edges` is room of shape (6, side + 1, lanes).
    """
    half = math.ceil(radius)
    n, first, square = 2 * half + 1, middle - half, radius * radius
    parts = np.empty(LANES)
    columns, rows, strips, heights, before, after = edges[0], edges[1], edges[2], edges[3], edges[4], edges[5]
    for k in range(n + 1):
        for lane in range(LANES):
            columns[k, lane] = k - half - 0.5 - dx[lane]
            rows[k, lane] = k - half - 0.5 - dy[lane]
        for lane in range(LANES):
            strips[k, lane] = strip(columns[k, lane], radius)
        for lane in range(LANES):
            heights[k, lane] = strip(rows[k, lane], radius)
    sums[:] = 0.0
    _fill_corners(columns, strips, rows[0], heights[0], square, n + 1, before)
    for row in range(n):
        _fill_corners(columns, strips, rows[row + 1], heights[row + 1], square, n + 1, after)
        for k in range(n):
            for lane in range(LANES):
                upper, lower = after[k + 1, lane] - after[k, lane], before[k + 1, lane] - before[k, lane]
                parts[lane] = upper - lower
            add_lanes(cube, first + row, first + k, parts, plane, sums)
        before, after = after, before


@kernel(error_model="numpy")
def circle_sums(planes: Planes, x: Floats, y: Floats, radii: Floats, sums: Floats) -> None:
    """Set `sums`, shape (n, radii, 6), to those in circles around n places."""
    height, width = planes.signal.shape
    reach = math.ceil(radii.max())
    room = 2 * reach + 4
    strips, heights = np.empty(room), np.empty(room)
    side = 2 * reach + 1
    cube, edges = np.empty((3, side, side, LANES), np.float32), np.empty((6, side + 1, LANES))
    dx, dy, lane_sums = np.zeros(LANES), np.zeros(LANES), np.empty((N_SUMS, LANES))
    waiting, n_waiting, any_spoiled = np.zeros(LANES, np.int64), 0, False
    starts = np.zeros(LANES, np.uint64)
    plane = planes.variance.shape[0] == height
    for source in range(len(x)):
        px, py = x[source], y[source]
        column, row = math.floor(px + 0.5), math.floor(py + 0.5)
        spoiled = any_unusable(planes, px, py, reach)
        if reach <= column < width - reach and reach <= row < height - reach:
            starts[n_waiting] = (row - reach) * width + column - reach
            dx[n_waiting], dy[n_waiting], waiting[n_waiting] = px - column, py - row, source
            any_spoiled |= spoiled
            n_waiting += 1
        else:
            for k in range(len(radii)):
                _add_circle(planes, spoiled, px, py, radii[k], strips, heights, sums[source, k])
        if n_waiting == LANES or (n_waiting and source == len(x) - 1):
            # Lanes beyond the last hold some source, and are not used.
            gather(planes, any_spoiled, starts, side, cube)
            for k in range(len(radii)):
                _add_circles(cube, reach, plane, dx, dy, radii[k], edges, lane_sums)
                for lane in range(n_waiting):
                    take_lane(lane_sums, lane, sums[waiting[lane], k])
            n_waiting, any_spoiled = 0, False


@kernel(error_model="numpy")
def stamp_sums(
    signal: npt.NDArray[np.float32],
    mask: npt.NDArray[np.uint8],
    variance: npt.NDArray[np.float32],
    x: Floats,
    y: Floats,
    radii: Floats,
    sums: Floats,
) -> None:
    """Set `sums`, shape (n, radii, 6), to those in circles on n stamps of their own; any bit of `mask` hides."""
    room = 2 * math.ceil(radii.max()) + 4
    strips, heights = np.empty(room), np.empty(room)
    for source in range(len(x)):
        stamp = mask[source]
        planes = Planes(signal[source], stamp, variance[source], stamp, 1, 255)
        for k in range(len(radii)):
            _add_circle(planes, True, x[source], y[source], radii[k], strips, heights, sums[source, k])


@kernel(error_model="numpy")
def _whole(sums: Floats) -> float:
    """Return the flux, scaled up by the area that is obscured; NaN where all is."""
    if sums[OBSCURED] == 0.0:
        return sums[FLUX]
    if sums[AREA] <= 0.0:
        return np.nan
    return sums[FLUX] * (1.0 + sums[OBSCURED] / sums[AREA])


@kernel(error_model="numpy")
def profiles(
    planes: Planes,
    x: Floats,
    y: Floats,
    total: Floats,
    reach: Floats,
    edges: Floats,
    sums: Floats,
    widths: Floats,
) -> None:
    """Set `widths`, shape (2, n), to squares of full widths at half maximum and half-light radii.

    They follow from sums in rings between `edges`; the variances of `planes` are to be empty.

    The logarithm of the brightness is taken to be linear in the square of the radius. NaN where no ring is
    below half of the peak, or holds half of `total`, or one before it has no light. `sums` are those of
    :func:`circle_sums` in the first of the edges, in which most sources are done; the others are followed
    to `reach`.
    """
    square_widths, half_light = widths[0], widths[1]
    room = 2 * math.ceil(edges[-1]) + 4
    strips, heights, others = np.empty(room), np.empty(room), np.empty(N_SUMS)
    for source in range(len(x)):
        px, py, wanted = x[source], y[source], 0.5 * total[source]
        square_widths[source] = half_light[source] = np.nan
        has_width, has_half = False, not wanted > 0.0
        inside, inner, level, square, half = 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(len(edges)):
            if k < sums.shape[1]:
                flux = _whole(sums[source, k])
            elif edges[k] > reach[source]:
                break
            else:
                spoiled = any_unusable(planes, px, py, edges[k])
                _add_circle(planes, spoiled, px, py, edges[k], strips, heights, others)
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
                square_widths[source] = 4.0 * (square_before + (before - half) / fall)
            if has_width and has_half:
                break
            inside, inner = flux, outer

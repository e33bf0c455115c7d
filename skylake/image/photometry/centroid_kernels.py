"""Kernels of windowed centroids and their errors.

Most sources have windows of one size and come to rest soon; they are done many at a time, so that the
processor's vector units are busy. The others are done one by one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.photometry.pixel_sum_kernels import (
    ANY_ORDER,
    LANES,
    Cube,
    Floats,
    PixelNoise,
    Pixels,
    Planes,
    SourceNoise,
    any_unusable,
    gather,
    noise_of,
)

_ZERO = np.float32(0.0)
#: The window ends at so many standard deviations.
REACH = 4.0
_ROUNDS = 16
#: After so many rounds the sources not at rest are left to be done one by one.
_COMMON_ROUNDS = 5
#: Steps, in pixels, below which a centroid stands still.
_STILL_PX = 1e-4
#: The slope of the first moment, 1 for what is far narrower than its window and 0.5 for what is as wide, is believed
#: down to this one.
_LEAST_SLOPE = 0.25


class Starts(NamedTuple):
    """Where centroids start: places, standard deviations of windows, and how far they may go, pixels; shape (n,)."""

    x: Floats
    y: Floats
    sigma: Floats
    leash: Floats


@kernel(error_model="numpy")
def _fill_window(window: Floats, first: int, last: int, centre: float, sigma: float) -> None:
    """Set the window of one axis to the Gaussian at pixels `first` to `last` (excluded)."""
    factor = -0.5 / (sigma * sigma)
    offset = first - centre
    value = math.exp(factor * offset * offset)
    ratio = math.exp(factor * (2.0 * offset + 1.0))
    step = math.exp(2.0 * factor)
    for k in range(last - first):
        window[k] = value
        value *= ratio
        ratio *= step


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _moments(
    planes: Planes,
    spoiled: bool,
    x: float,
    y: float,
    box: tuple[int, int, int, int],
    windows: Floats,
) -> tuple[float, float, float, float, float]:
    """Return the sums of window times signal, and of that times dx, dy, dx^2 and dy^2."""
    signal, mask, unusable = planes.signal, planes.mask, planes.unusable
    light, along, across, wide, high = 0.0, 0.0, 0.0, 0.0, 0.0
    first_row, last_row, first, last = box
    for row in range(first_row, last_row):
        line, slope, square = 0.0, 0.0, 0.0
        if spoiled:
            for column in range(first, last):
                value, dx = windows[0, column - first] * signal[row, column], column - x
                if mask[row, column] & unusable:
                    value = 0.0
                line += value
                slope += value * dx
                square += value * dx * dx
        else:
            for column in range(first, last):
                value, dx = windows[0, column - first] * signal[row, column], column - x
                line += value
                slope += value * dx
                square += value * dx * dx
        weight, dy = windows[1, row - first_row], row - y
        light += weight * line
        along += weight * slope
        across += weight * dy * line
        wide += weight * square
        high += weight * dy * dy * line
    return light, along, across, wide, high


@kernel(error_model="numpy")
def _propagated(sums: Floats, sky: float, per_adu: float) -> tuple[float, float]:
    """Return the standard errors of a centroid from nine sums, the variance of the sky and that per ADU of the star.

    It is where the window's first moment vanishes; noise moves that by its own first moment over the slope of
    the moment, a matrix of 2 x 2.
    """
    slope_x, slope_y, slope_xy = sums[0], sums[1], sums[2]
    if sums[6] < 0.0 or sums[7] < 0.0:
        per_adu = 0.0
    determinant = slope_x * slope_y - slope_xy * slope_xy
    if not (slope_x > 0.0 and slope_y > 0.0 and determinant > 0.0):
        return np.nan, np.nan
    xx, yy, xy = (
        sky * sums[3] + per_adu * sums[6],
        sky * sums[4] + per_adu * sums[7],
        sky * sums[5] + per_adu * sums[8],
    )
    of_x = slope_y * slope_y * xx - 2.0 * slope_y * slope_xy * xy + slope_xy * slope_xy * yy
    of_y = slope_x * slope_x * yy - 2.0 * slope_x * slope_xy * xy + slope_xy * slope_xy * xx
    return math.sqrt(max(of_x, 0.0)) / determinant, math.sqrt(max(of_y, 0.0)) / determinant


@kernel(error_model="numpy")
def _errors(
    planes: Planes,
    noise: SourceNoise,
    x: float,
    y: float,
    sigma: float,
    box: tuple[int, int, int, int],
    windows: Floats,
) -> tuple[float, float]:
    """Return the standard errors of a centroid."""
    signal, mask, variance, unusable = planes.signal, planes.mask, planes.variance, planes.unusable
    plane = variance.shape[0] == signal.shape[0]
    inverse = 1.0 / (sigma * sigma)
    first_row, last_row, first, last = box
    sums = np.zeros(9)
    for row in range(first_row, last_row):
        dy = row - y
        for column in range(first, last):
            if mask[row, column] & unusable:
                continue
            dx = column - x
            weight = windows[0, column - first] * windows[1, row - first_row]
            light = weight * signal[row, column]
            here = weight * weight * (noise.scale * variance[row, column] + noise.excess if plane else 1.0)
            sums[0] += light * (1.0 - dx * dx * inverse)
            sums[1] += light * (1.0 - dy * dy * inverse)
            sums[2] -= light * dx * dy * inverse
            sums[3] += here * dx * dx
            sums[4] += here * dy * dy
            sums[5] += here * dx * dy
            sums[6] += weight * light * dx * dx
            sums[7] += weight * light * dy * dy
            sums[8] += weight * light * dx * dy
    return _propagated(sums, 1.0 if plane else noise.sky, 0.0 if plane else noise.per_adu)


@kernel(error_model="numpy")
def _box(shape: tuple[int, int], x: float, y: float, reach: float) -> tuple[int, int, int, int]:
    """Return first and last row, first and last column (last excluded) around a place, within the image."""
    return (
        max(0, math.ceil(y - reach)),
        min(shape[0], math.floor(y + reach) + 1),
        max(0, math.ceil(x - reach)),
        min(shape[1], math.floor(x + reach) + 1),
    )


@kernel(error_model="numpy")
def _single(
    planes: Planes,
    noise: SourceNoise,
    starts: Starts,
    source: int,
    spoiled: bool,
    windows: Floats,
    centroid: Floats,
) -> None:
    """Set `centroid`, shape (4,), to that of one source and its errors."""
    x, y, sigma, leash = starts.x[source], starts.y[source], starts.sigma[source], starts.leash[source]
    px, py, reach, resting = x, y, REACH * sigma, False
    for _ in range(_ROUNDS):
        box = _box(planes.signal.shape, px, py, reach)
        if box[0] >= box[1] or box[2] >= box[3]:
            return
        _fill_window(windows[0], box[2], box[3], px, sigma)
        _fill_window(windows[1], box[0], box[1], py, sigma)
        if resting:
            break
        light, along, across, wide, high = _moments(planes, spoiled, px, py, box, windows)
        if not light > 0.0:
            return
        # Twice the moment overshoots for a star that is narrower than its window, and creeps for a wider one.
        width = light * sigma * sigma
        dx = along / light / max(1.0 - wide / width, _LEAST_SLOPE)
        dy = across / light / max(1.0 - high / width, _LEAST_SLOPE)
        px, py = px + dx, py + dy
        if not math.hypot(px - x, py - y) <= leash:
            return
        resting = dx * dx + dy * dy < _STILL_PX * _STILL_PX
    if resting:
        centroid[2], centroid[3] = _errors(planes, noise, px, py, sigma, box, windows)
        centroid[0], centroid[1] = px, py


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _fill_lanes(dx: Floats, sigma: Floats, half: int, window: Floats) -> None:
    """Set windows, shape (2 half + 1, lanes), around places `dx` from the middle."""
    ratio, step = np.empty(LANES), np.empty(LANES)
    for lane in range(LANES):
        factor, offset = -0.5 / (sigma[lane] * sigma[lane]), -half - dx[lane]
        window[0, lane] = math.exp(factor * offset * offset)
        ratio[lane] = math.exp(factor * (2.0 * offset + 1.0))
        step[lane] = math.exp(2.0 * factor)
    for k in range(1, 2 * half + 1):
        for lane in range(LANES):
            window[k, lane] = window[k - 1, lane] * ratio[lane]
            ratio[lane] *= step[lane]


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def _row_moments(
    line: Pixels,
    half: int,
    dx: Pixels,
    columns: Pixels,
    first: Pixels,
    second: Pixels,
    third: Pixels,
) -> None:
    """Set sums of window times one row of squares, shape (lanes,), and of that times dx and dx^2.

    In single precision, which is a millionth of a pixel, twice as many sources are done at a time.
    """
    first[:] = _ZERO
    second[:] = _ZERO
    third[:] = _ZERO
    for k in range(2 * half + 1):
        offset = np.float32(k - half)
        for lane in range(LANES):
            x, value = offset - dx[lane], columns[k, lane] * line[k, lane]
            first[lane] += value
            second[lane] += value * x
        for lane in range(LANES):
            x = offset - dx[lane]
            third[lane] += columns[k, lane] * line[k, lane] * x * x


@kernel(error_model="numpy")
def _lane_moments(
    cube: npt.NDArray[np.float32],
    half: int,
    places: Floats,
    windows: Pixels,
    sums: Floats,
) -> None:
    """Set five rows of `sums` to those of window times signal, and of that times dx, dy, dx^2 and dy^2."""
    dy, columns, rows = places[1], windows[0], windows[1]
    light, first, second = (
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )
    near = places[0].astype(np.float32)
    sums[:] = 0.0
    for row in range(2 * half + 1):
        _row_moments(cube[0, row], half, near, columns, light, first, second)
        for lane in range(LANES):
            y, weight = row - half - dy[lane], rows[row, lane]
            sums[0, lane] += weight * light[lane]
            sums[1, lane] += weight * first[lane]
            sums[2, lane] += weight * light[lane] * y
        for lane in range(LANES):
            y, weight = row - half - dy[lane], rows[row, lane]
            sums[3, lane] += weight * second[lane]
            sums[4, lane] += weight * light[lane] * y * y


@kernel(error_model="numpy")
def _lane_errors(
    cube: npt.NDArray[np.float32],
    half: int,
    has_plane: bool,
    places: Floats,
    sigma: Floats,
    windows: Pixels,
    sums: Floats,
) -> None:
    """Set `sums`, shape (9, lanes), to what errors follow from: slopes, and moments of the noise and of the star."""
    dy, columns, rows = places[1], windows[0], windows[1]
    squares = columns * columns
    light, first, second = (
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )
    near = places[0].astype(np.float32)
    sums[:] = 0.0
    for row in range(2 * half + 1):
        _row_moments(cube[0, row], half, near, columns, light, first, second)
        for lane in range(LANES):
            y, weight, inverse = row - half - dy[lane], rows[row, lane], 1.0 / (sigma[lane] * sigma[lane])
            sums[0, lane] += weight * (light[lane] - inverse * second[lane])
            sums[1, lane] += weight * light[lane] * (1.0 - y * y * inverse)
            sums[2, lane] -= weight * first[lane] * y * inverse
        for place, plane in ((3, 2 if has_plane else 1), (6, 0)):
            _row_moments(cube[plane, row], half, near, squares, light, first, second)
            for lane in range(LANES):
                y, square = row - half - dy[lane], rows[row, lane] * rows[row, lane]
                sums[place, lane] += square * second[lane]
                sums[place + 1, lane] += square * light[lane] * y * y
                sums[place + 2, lane] += square * first[lane] * y


@kernel(error_model="numpy")
def _add_excess(cube: Cube, scale: np.float32, excess: Pixels) -> None:
    """Bring the variances of squares to what they are to be, where pixels are usable."""
    for row in range(cube.shape[1]):
        for column in range(cube.shape[2]):
            for lane in range(LANES):
                more = excess[lane] * cube[1, row, column, lane]
                cube[2, row, column, lane] = scale * cube[2, row, column, lane] + more


@kernel(error_model="numpy")
def _iterate(
    cube: npt.NDArray[np.float32],
    half: int,
    sigma: Floats,
    places: Floats,
    windows: Floats,
    sums: Floats,
    resting: npt.NDArray[np.bool_],
) -> None:
    """Move `places`, shape (2, lanes) from the middles, to where the first moments vanish."""
    resting[:] = False
    for _ in range(_COMMON_ROUNDS):
        _fill_lanes(places[0], sigma, half, windows[0])
        _fill_lanes(places[1], sigma, half, windows[1])
        _lane_moments(cube, half, places, windows, sums)
        n_resting = 0
        for lane in range(LANES):
            if not resting[lane] and sums[0, lane] > 0.0:
                # Twice the moment where star and window are alike; else from the slope of the moment.
                width = sums[0, lane] * sigma[lane] * sigma[lane]
                dx = min(1.0 / max(1.0 - sums[3, lane] / width, 0.4), 2.0) * sums[1, lane] / sums[0, lane]
                dy = min(1.0 / max(1.0 - sums[4, lane] / width, 0.4), 2.0) * sums[2, lane] / sums[0, lane]
                if abs(dx) < 1.0 and abs(dy) < 1.0:
                    places[0, lane] += dx
                    places[1, lane] += dy
                    resting[lane] = dx * dx + dy * dy < _STILL_PX * _STILL_PX
            n_resting += resting[lane]
        if n_resting == LANES:
            break
    _fill_lanes(places[0], sigma, half, windows[0])
    _fill_lanes(places[1], sigma, half, windows[1])


@kernel(error_model="numpy")
def _settle(x: float, y: float, place: Floats, leash: float, centroid: Floats) -> None:
    """Set a centroid from its place in the square around the start, if it is not too far from there."""
    px, py = math.floor(x + 0.5) + place[0], math.floor(y + 0.5) + place[1]
    if math.hypot(px - x, py - y) <= leash:
        centroid[0], centroid[1] = px, py


@kernel(error_model="numpy")
def windowed_centroids(
    planes: Planes, noise: PixelNoise, starts: Starts, half: int, centroids: Floats
) -> None:
    """Set `centroids`, shape (n, 4), to windowed centroids x and y and their errors; NaN where there is none.

    The iteration is x <- x + 2 sum(w I (x_i - x)) / sum(w I) with a Gaussian window w around x, which is exact
    in one step where the window has the width of the star. It has failed where it leaves the image or `leash`
    pixels from the start, sees no light, or does not come to rest. Windows that fit into squares of 2 `half` + 1
    pixels are done together.
    """
    x, y, sigma, leash = starts.x, starts.y, starts.sigma, starts.leash
    height, width = planes.signal.shape
    single = np.empty((2, 2 * math.ceil(REACH * sigma.max()) + 3 if len(sigma) else 1))
    side, plane = 2 * half + 1, planes.variance.shape[0] == height
    cube, windows = np.empty((3, side, side, LANES), np.float32), np.empty((2, side, LANES), np.float32)
    sums, places, sigmas = np.empty((9, LANES)), np.zeros((2, LANES)), np.ones(LANES)
    more = np.zeros(LANES, np.float32)
    waiting, corners = np.zeros(LANES, np.int64), np.zeros(LANES, np.uint64)
    resting, n_waiting, any_spoiled = np.zeros(LANES, np.bool_), 0, False
    for source in range(len(x)):
        centroids[source] = np.nan
        column, row = math.floor(x[source] + 0.5), math.floor(y[source] + 0.5)
        reach = REACH * sigma[source]
        spoiled = any_unusable(planes, x[source], y[source], reach + leash[source])
        together = reach + 0.5 <= half and half <= column < width - half and half <= row < height - half
        if together:
            waiting[n_waiting], corners[n_waiting] = source, (row - half) * width + column - half
            places[0, n_waiting], places[1, n_waiting] = x[source] - column, y[source] - row
            sigmas[n_waiting], more[n_waiting] = sigma[source], noise.excess[source]
            any_spoiled |= spoiled
            n_waiting += 1
        else:
            _single(planes, noise_of(noise, source), starts, source, spoiled, single, centroids[source])
        if n_waiting == LANES or (n_waiting and source == len(x) - 1):
            # Lanes beyond the last hold some source, and are not used.
            gather(planes, any_spoiled, corners, side, cube)
            if plane:
                _add_excess(cube, np.float32(noise.scale), more)
            _iterate(cube, half, sigmas, places, windows, sums, resting)
            _lane_errors(cube, half, plane, places, sigmas, windows, sums)
            for lane in range(n_waiting):
                other = waiting[lane]
                centroid = centroids[other]
                if not resting[lane]:
                    here = noise_of(noise, other)
                    _single(planes, here, starts, other, any_spoiled, single, centroid)
                    continue
                _settle(x[other], y[other], places[:, lane], leash[other], centroid)
                if not math.isnan(centroid[0]):
                    sky = 1.0 if plane else noise.rms[other] * noise.rms[other]
                    per_adu = 0.0 if plane else noise.per_adu
                    centroid[2], centroid[3] = _propagated(sums[:, lane], sky, per_adu)
            n_waiting, any_spoiled = 0, False

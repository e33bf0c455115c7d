"""Centroids under a Gaussian window, and their errors."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: Sums may be added in any order; NaN keeps its meaning.
_ANY_ORDER = {"reassoc", "contract"}
#: The window ends at so many standard deviations.
_REACH = 4.0
_ROUNDS = 16
#: Steps, in pixels, below which a centroid stands still.
_STILL_PX = 1e-4


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _moments(
    signal: Pixels, mask: Bytes, unusable: int, spoiled: bool, x: float, y: float, box: tuple[int, int, int, int],
    windows: Floats,
) -> tuple[float, float, float]:  # fmt: skip
    """Return the sums of window times signal, and of that times dx and dy."""
    light, along, across = 0.0, 0.0, 0.0
    first_row, last_row, first, last = box
    for row in range(first_row, last_row):
        line, slope = 0.0, 0.0
        if spoiled:
            for column in range(first, last):
                value = windows[0, column - first] * signal[row, column]
                if mask[row, column] & unusable:
                    value = 0.0
                line += value
                slope += value * (column - x)
        else:
            for column in range(first, last):
                value = windows[0, column - first] * signal[row, column]
                line += value
                slope += value * (column - x)
        weight = windows[1, row - first_row]
        light += weight * line
        along += weight * slope
        across += weight * (row - y) * line
    return light, along, across


@numba.njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _errors(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, x: float, y: float, sigma: float,
    box: tuple[int, int, int, int], windows: Floats, noise: tuple[float, float, float],
) -> tuple[float, float]:  # fmt: skip
    """Return the standard errors of a centroid.

    It is where the window's first moment vanishes; noise moves that by its own first moment over the slope of
    the moment, a matrix of 2 x 2. `noise` holds the variance per pixel of the sky, that per ADU of the star,
    and a factor for the plane of variances where there is one.
    """
    plane = variance.shape[0] == signal.shape[0]
    inverse = 1.0 / (sigma * sigma)
    first_row, last_row, first, last = box
    slope_x, slope_y, slope_xy = 0.0, 0.0, 0.0
    sky_x, sky_y, sky_xy, star_x, star_y, star_xy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(first_row, last_row):
        dy = row - y
        for column in range(first, last):
            if mask[row, column] & unusable:
                continue
            dx = column - x
            weight = windows[0, column - first] * windows[1, row - first_row]
            light = weight * signal[row, column]
            slope_x += light * (1.0 - dx * dx * inverse)
            slope_y += light * (1.0 - dy * dy * inverse)
            slope_xy -= light * dx * dy * inverse
            square = weight * weight
            here = variance[row, column] * noise[2] if plane else noise[0]
            star = 0.0 if plane else noise[1] * weight * light
            sky_x += square * here * dx * dx
            sky_y += square * here * dy * dy
            sky_xy += square * here * dx * dy
            star_x += star * dx * dx
            star_y += star * dy * dy
            star_xy += star * dx * dy
    if star_x < 0.0 or star_y < 0.0:
        star_x, star_y, star_xy = 0.0, 0.0, 0.0
    determinant = slope_x * slope_y - slope_xy * slope_xy
    if not (slope_x > 0.0 and slope_y > 0.0 and determinant > 0.0):
        return np.nan, np.nan
    xx, yy, xy = sky_x + star_x, sky_y + star_y, sky_xy + star_xy
    of_x = slope_y * slope_y * xx - 2.0 * slope_y * slope_xy * xy + slope_xy * slope_xy * yy
    of_y = slope_x * slope_x * yy - 2.0 * slope_x * slope_xy * xy + slope_xy * slope_xy * xx
    return math.sqrt(max(of_x, 0.0)) / determinant, math.sqrt(max(of_y, 0.0)) / determinant


@numba.njit(cache=True, nogil=True)
def _box(shape: tuple[int, int], x: float, y: float, reach: float) -> tuple[int, int, int, int]:
    """Return first and last row, first and last column (last excluded) around a place, within the image."""
    return (
        max(0, math.ceil(y - reach)),
        min(shape[0], math.floor(y + reach) + 1),
        max(0, math.ceil(x - reach)),
        min(shape[1], math.floor(x + reach) + 1),
    )


@numba.njit(cache=True, nogil=True)
def windowed_centroids(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, rms: Pixels, per_adu: float, scale: float,
    x: Floats, y: Floats, sigma: Floats, leash: Floats, found: Floats,
) -> None:  # fmt: skip
    """Set `found`, shape (4, n), to windowed centroids x and y and their errors; NaN where there is none.

    The iteration is x <- x + 2 sum(w I (x_i - x)) / sum(w I) with a Gaussian window w around x, which is exact
    in one step where the window has the width of the star. It has failed where it leaves the image or `leash`
    pixels from the start, sees no light, or does not come to rest.
    """
    height, width = signal.shape
    windows = np.empty((2, 2 * math.ceil(_REACH * sigma.max()) + 3 if len(sigma) else 1))
    for source in range(len(x)):
        px, py, reach = x[source], y[source], _REACH * sigma[source]
        found[:, source] = np.nan
        resting = False
        box = _box((height, width), px, py, reach)
        spoiled = False
        for row in range(max(0, box[0] - 3), min(height, box[1] + 3)):
            for column in range(max(0, box[2] - 3), min(width, box[3] + 3)):
                spoiled |= (mask[row, column] & unusable) != 0
        for _ in range(_ROUNDS):
            box = _box((height, width), px, py, reach)
            if box[0] >= box[1] or box[2] >= box[3]:
                break
            _fill_window(windows[0], box[2], box[3], px, sigma[source])
            _fill_window(windows[1], box[0], box[1], py, sigma[source])
            if resting:
                break
            light, along, across = _moments(signal, mask, unusable, spoiled, px, py, box, windows)
            if not light > 0.0:
                break
            dx, dy = 2.0 * along / light, 2.0 * across / light
            px, py = px + dx, py + dy
            if not math.hypot(px - x[source], py - y[source]) <= leash[source]:
                break
            resting = dx * dx + dy * dy < _STILL_PX * _STILL_PX
        if not resting:
            continue
        row, column = min(max(round(py), 0), height - 1), min(max(round(px), 0), width - 1)
        noise = (float(rms[row, column]) ** 2, per_adu, scale)
        error = _errors(signal, mask, variance, unusable, px, py, sigma[source], box, windows, noise)
        found[0, source], found[1, source] = px, py
        found[2, source], found[3, source] = error

"""Kernel: stars with unusable pixels, for which a profile stands in."""

from __future__ import annotations

import math

import numba
import numpy as np

from skylake.image.kernels.circles import coverage
from skylake.image.kernels.sums import Bytes, Floats, Pixels

_ROUNDS = 8
_STILL_PX = 1e-3
#: A place is fitted only to stars whose flux is known to so many standard errors; it may move by this much, pixels.
_CLEAR = 10.0
_MOST_PX = 1.5
#: Flux, x and y need some more pixels than three.
_MIN_PIXELS = 6


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _profile(table: Floats, step: float, radius: float) -> tuple[float, float]:
    """Return the brightness at a radius, and its slope."""
    place = radius / step
    k = int(place)
    if k + 1 >= len(table):
        return 0.0, 0.0
    slope = table[k + 1] - table[k]
    return table[k] + (place - k) * slope, slope / step


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _variance(
    signal: Pixels, variance: Pixels, row: int, column: int, noise: tuple[float, float, float]
) -> float:
    """Return the variance of a pixel; `noise` is that of the sky, that per ADU, and the factor of a plane."""
    if variance.shape[0] == signal.shape[0]:
        return noise[2] * variance[row, column]
    return noise[0] + max(signal[row, column], 0.0) * noise[1]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _equations(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, x: float, y: float, flux: float, table: Floats,
    step: float, reach: float, noise: tuple[float, float, float], normal: Floats, spread: Floats, right: Floats,
) -> tuple[int, int]:  # fmt: skip
    """Set the normal equations of flux, x and y; return how many pixels are good, and how many are not."""
    height, width = signal.shape
    normal[:], spread[:], right[:] = 0.0, 0.0, 0.0
    slopes, good, bad = np.zeros(3), 0, 0
    for row in range(max(0, math.ceil(y - reach)), min(height, math.floor(y + reach) + 1)):
        for column in range(max(0, math.ceil(x - reach)), min(width, math.floor(x + reach) + 1)):
            across, down = column - x, row - y
            radius = math.sqrt(across * across + down * down)
            if radius > reach:
                continue
            if mask[row, column] & unusable:
                bad += 1
                continue
            good += 1
            value, slope = _profile(table, step, radius)
            slopes[0] = value
            slopes[1] = -flux * slope * across / max(radius, 1e-6)
            slopes[2] = -flux * slope * down / max(radius, 1e-6)
            here = _variance(signal, variance, row, column, noise)
            for i in range(3):
                right[i] += slopes[i] * (signal[row, column] - flux * value)
                for j in range(3):
                    normal[i, j] += slopes[i] * slopes[j]
                    spread[i, j] += slopes[i] * slopes[j] * here
    return good, bad


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _place(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, x: float, y: float, table: Floats, step: float,
    reach: float, noise: tuple[float, float, float], found: Floats,
) -> bool:  # fmt: skip
    """Fit flux and place; set x, y and their errors, and tell whether that is to be believed."""
    normal, spread, right = np.empty((3, 3)), np.empty((3, 3)), np.empty(3)
    px, py, flux = x, y, 0.0
    for turn in range(_ROUNDS):
        good, bad = _equations(signal, mask, variance, unusable, px, py, flux, table, step, reach, noise, normal,
                               spread, right)  # fmt: skip
        if turn == 0:
            # A place that the window gave without the loss of a pixel is as good as it can be.
            if bad == 0 or good < _MIN_PIXELS or not normal[0, 0] > 0.0:
                return False
            flux = right[0] / normal[0, 0]
            if not flux * normal[0, 0] > _CLEAR * math.sqrt(spread[0, 0]):
                return False
            continue
        if good < _MIN_PIXELS or not abs(np.linalg.det(normal)) > 0.0:
            return False
        inverse = np.linalg.inv(normal)
        change = inverse @ right
        flux, px, py = flux + change[0], px + change[1], py + change[2]
        if not math.hypot(px - x, py - y) <= _MOST_PX:
            return False
        if math.hypot(change[1], change[2]) < _STILL_PX:
            error = inverse @ spread @ inverse
            found[0], found[1] = px, py
            found[2], found[3] = math.sqrt(error[1, 1]), math.sqrt(error[2, 2])
            return True
    return False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _flux(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, x: float, y: float, radius: float, table: Floats,
    step: float, reach: float, noise: tuple[float, float, float], scale: tuple[float, float], wrong: float,
) -> tuple[float, float]:  # fmt: skip
    """Return flux and variance in a circle; `scale` is the flux of the profile, and the sum of its squares."""
    height, width = signal.shape
    outer = max(radius + 1.0, reach)
    rows = range(max(0, math.ceil(y - outer)), min(height, math.floor(y + outer) + 1))
    columns = range(max(0, math.ceil(x - outer)), min(width, math.floor(x + outer) + 1))
    seen, hidden, total = 0.0, 0.0, 0.0
    for row in rows:
        for column in columns:
            if mask[row, column] & unusable:
                part = coverage(column - x, row - y, radius)
                hidden += part * _profile(table, step, math.hypot(column - x, row - y))[0]
    for row in rows:
        for column in columns:
            if mask[row, column] & unusable:
                continue
            weight = part = coverage(column - x, row - y, radius)
            distance = math.hypot(column - x, row - y)
            if distance <= reach:
                weight += hidden * _profile(table, step, distance)[0] / scale[1]
            seen += part * signal[row, column]
            total += weight * weight * _variance(signal, variance, row, column, noise)
    filled = scale[0] * hidden
    return seen + filled, total + (wrong * filled) ** 2


@numba.njit(cache=True, nogil=True, error_model="numpy")
def fill_circles(
    signal: Pixels, mask: Bytes, variance: Pixels, unusable: int, rms: Floats, inverse_gain: float, factor: float,
    table: Floats, step: float, reach: float, radii: Floats, wrong: float, places: Floats, flux: Floats,
    error: Floats,
) -> None:  # fmt: skip
    """Set fluxes and errors of stars in circles of which unusable pixels are part.

    Parameters
    ----------
    signal, mask, variance, unusable
        The image; the plane of variances, to be multiplied by `factor`, may be empty.
    rms : ndarray, shape (n,)
    inverse_gain : float
    table : ndarray
        Brightness of a star at radii 0, `step`, 2 `step`, ...
    reach : float
        Pixels within that radius tell how bright a star is.
    radii : ndarray, shape (circles,)
    wrong : float
        Share by which the profile may be wrong.
    places : ndarray, shape (n, 4)
        x, y and their errors; those of stars that miss pixels of their core are fitted anew.
    flux, error : ndarray, shape (circles, n)
        Stay as they are where too few pixels tell how bright a star is.
    """
    normal, spread, right = np.empty((3, 3)), np.empty((3, 3)), np.empty(3)
    for star in range(len(rms)):
        noise = (rms[star] * rms[star], inverse_gain, factor)
        x, y = places[star, 0], places[star, 1]
        _place(signal, mask, variance, unusable, x, y, table, step, reach, noise, places[star])
        x, y = places[star, 0], places[star, 1]
        good, _ = _equations(signal, mask, variance, unusable, x, y, 0.0, table, step, reach, noise, normal, spread,
                             right)  # fmt: skip
        if good < _MIN_PIXELS or not normal[0, 0] > 0.0:
            continue
        scale = (right[0] / normal[0, 0], normal[0, 0])
        for circle in range(len(radii)):
            value, square = _flux(signal, mask, variance, unusable, x, y, radii[circle], table, step, reach, noise,
                                  scale, wrong)  # fmt: skip
            flux[circle, star], error[circle, star] = value, math.sqrt(square)

"""Kernel: stars with unusable pixels, for which a profile stands in."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.photometry.circle_kernels import coverage
from skylake.image.photometry.pixel_sum_kernels import Bytes, Floats, Pixels

Flags = npt.NDArray[np.bool_]

_ROUNDS = 16
#: After so many rounds steps become shorter and shorter: where the profile has a bend, places go to and fro.
_WHOLE_STEPS = 5
_STILL_PX = 1e-3
#: A place is fitted only to stars whose flux is known to so many standard errors; it may move by this much, pixels.
_CLEAR = 10.0
_MOST_PX = 1.5
#: Flux, x and y need some more pixels than three.
_MIN_PIXELS = 6
#: No pixel is quieter than this share of the variance of the sky about it, whatever a variance plane says.
_LEAST_NOISE = 0.25


@kernel(error_model="numpy")
def _profile(table: Floats, step: float, radius: float) -> tuple[float, float]:
    """Return the brightness at a radius, and its slope."""
    place = radius / step
    k = int(place)
    if k + 1 >= len(table):
        return 0.0, 0.0
    slope = table[k + 1] - table[k]
    return table[k] + (place - k) * slope, slope / step


@kernel(error_model="numpy")
def _variance(
    signal: Pixels, variance: Pixels, row: int, column: int, noise: tuple[float, float, float, float]
) -> float:
    """Return the variance of a pixel.

    `noise` is the variance of the sky, that per ADU, the factor of a plane of variances and what is added to it.
    """
    if variance.shape[0] == signal.shape[0]:
        return max(noise[2] * variance[row, column] + noise[3], _LEAST_NOISE * noise[0])
    return noise[0] + max(signal[row, column], 0.0) * noise[1]


@kernel(error_model="numpy")
def _equations(
    signal: Pixels,
    mask: Bytes,
    variance: Pixels,
    unusable: int,
    x: float,
    y: float,
    flux: float,
    table: Floats,
    step: float,
    reach: float,
    noise: tuple[float, float, float, float],
    normal: Floats,
    spread: Floats,
    right: Floats,
) -> tuple[int, int]:
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


@kernel(error_model="numpy")
def _place(
    signal: Pixels,
    mask: Bytes,
    variance: Pixels,
    unusable: int,
    x: float,
    y: float,
    table: Floats,
    step: float,
    reach: float,
    noise: tuple[float, float, float, float],
    found: Floats,
) -> bool:
    """Fit flux and place; set x, y and their errors, and tell whether that is to be believed."""
    normal, spread, right = np.empty((3, 3)), np.empty((3, 3)), np.empty(3)
    px, py, flux = x, y, 0.0
    for turn in range(_ROUNDS):
        good, bad = _equations(
            signal, mask, variance, unusable, px, py, flux, table, step, reach, noise, normal, spread, right
        )
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
        change = inverse @ right * 0.5 ** max(0, turn - _WHOLE_STEPS)
        flux, px, py = flux + change[0], px + change[1], py + change[2]
        if not math.hypot(px - x, py - y) <= _MOST_PX:
            return False
        if math.hypot(change[1], change[2]) < _STILL_PX:
            error = inverse @ spread @ inverse
            found[0], found[1] = px, py
            found[2], found[3] = math.sqrt(error[1, 1]), math.sqrt(error[2, 2])
            return True
    return False


@kernel(error_model="numpy")
def _common(
    signal: Pixels,
    mask: Bytes,
    variance: Pixels,
    unusable: int,
    x: float,
    y: float,
    table: Floats,
    step: float,
    reach: float,
    noise: tuple[float, float, float, float],
) -> float:
    """Return the sum of profile x variance of the good pixels that tell how bright a star is."""
    height, width = signal.shape
    total = 0.0
    for row in range(max(0, math.ceil(y - reach)), min(height, math.floor(y + reach) + 1)):
        for column in range(max(0, math.ceil(x - reach)), min(width, math.floor(x + reach) + 1)):
            radius = math.hypot(column - x, row - y)
            if radius <= reach and not mask[row, column] & unusable:
                value = _profile(table, step, radius)[0]
                total += value * _variance(signal, variance, row, column, noise)
    return total


@kernel(error_model="numpy")
def _flux(
    signal: Pixels,
    mask: Bytes,
    variance: Pixels,
    unusable: int,
    x: float,
    y: float,
    radius: float,
    table: Floats,
    step: float,
    reach: float,
    noise: tuple[float, float, float, float],
    scale: tuple[float, float],
    wrong: float,
) -> tuple[float, float]:
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


@kernel(error_model="numpy")
def fill_circles(
    signal: Pixels,
    mask: Bytes,
    variance: Pixels,
    unusable: int,
    rms: Floats,
    inverse_gain: float,
    factor: float,
    excess: Floats,
    table: Floats,
    step: float,
    reach: float,
    radii: Floats,
    wrong: float,
    hidden: Flags,
    places: Floats,
    flux: Floats,
    error: Floats,
    strength: Floats,
) -> None:
    """Set fluxes and errors of stars in circles of which unusable pixels are part.

    Parameters
    ----------
    signal, mask, variance, unusable
        The image; the plane of variances, to be multiplied by `factor`, may be empty.
    rms, excess : ndarray, shape (n,)
        Noise of the sky at the stars, and what is added to the plane there.
    inverse_gain : float
    table : ndarray
        Brightness of a star at radii 0, `step`, 2 `step`, ...
    reach : float
        Pixels within that radius tell how bright a star is.
    radii : ndarray, shape (circles,)
    wrong : float
        Share by which the profile may be wrong.
    strength : ndarray, shape (n, 3)
        Set to the factor of the profile, its variance, and its covariance with the sum of the pixels that tell it.
    hidden : ndarray of bool, shape (circles, n)
        Which circles hold an unusable pixel.
    places : ndarray, shape (n, 4)
        x, y and their errors; those of stars that miss pixels of their core are fitted anew.
    flux, error : ndarray, shape (circles, n)
        Stay as they are where nothing is hidden, unless the place is another, and where too few pixels tell how
        bright a star is.
    """
    normal, spread, right = np.empty((3, 3)), np.empty((3, 3)), np.empty(3)
    for star in range(len(rms)):
        noise = (rms[star] * rms[star], inverse_gain, factor, excess[star])
        x, y = places[star, 0], places[star, 1]
        moved = _place(signal, mask, variance, unusable, x, y, table, step, reach, noise, places[star])
        x, y = places[star, 0], places[star, 1]
        good, _ = _equations(
            signal, mask, variance, unusable, x, y, 0.0, table, step, reach, noise, normal, spread, right
        )
        if good < _MIN_PIXELS or not normal[0, 0] > 0.0:
            continue
        scale = (right[0] / normal[0, 0], normal[0, 0])
        strength[star, 0], strength[star, 1] = scale[0], spread[0, 0] / normal[0, 0] ** 2
        strength[star, 2] = (
            _common(signal, mask, variance, unusable, x, y, table, step, reach, noise) / normal[0, 0]
        )
        for circle in range(len(radii)):
            if not (moved or hidden[circle, star]):
                continue
            value, square = _flux(
                signal, mask, variance, unusable, x, y, radii[circle], table, step, reach, noise, scale, wrong
            )
            flux[circle, star], error[circle, star] = value, math.sqrt(square)

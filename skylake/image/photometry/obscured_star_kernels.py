"""Kernels that fill in the unusable pixels of stars with a profile."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.photometry.circle_kernels import coverage
from skylake.image.photometry.pixel_sum_kernels import Floats, PixelNoise, Planes, SourceNoise, noise_of

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


class Profile(NamedTuple):
    """The brightness of a star as a function of the radius.

    Attributes
    ----------
    table : ndarray
        Brightness at radii 0, `step`, 2 `step`, ...
    step : float
        Pixels.
    reach : float
        Pixels within that radius give the brightness of a star.
    wrong : float
        Share by which the profile may be wrong.
    """

    table: Floats
    step: float
    reach: float
    wrong: float


class _Normal(NamedTuple):
    """Normal equations of flux, x and y: the matrix, its covariance with the noise as weight, and the right side."""

    matrix: Floats
    spread: Floats
    right: Floats


@kernel(error_model="numpy")
def _brightness(profile: Profile, radius: float) -> tuple[float, float]:
    """Return the brightness at a radius, and its slope."""
    table, step = profile.table, profile.step
    place = radius / step
    k = int(place)
    if k + 1 >= len(table):
        return 0.0, 0.0
    slope = table[k + 1] - table[k]
    return table[k] + (place - k) * slope, slope / step


@kernel(error_model="numpy")
def _variance(planes: Planes, noise: SourceNoise, row: int, column: int) -> float:
    """Return the variance of a pixel."""
    if planes.variance.shape[0] == planes.signal.shape[0]:
        return max(noise.scale * planes.variance[row, column] + noise.excess, _LEAST_NOISE * noise.sky)
    return noise.sky + max(planes.signal[row, column], 0.0) * noise.per_adu


@kernel(error_model="numpy")
def _equations(
    planes: Planes, noise: SourceNoise, profile: Profile, x: float, y: float, flux: float, normal: _Normal
) -> tuple[int, int]:
    """Set the normal equations of flux, x and y; return how many pixels are good, and how many are not."""
    signal, mask, unusable, reach = planes.signal, planes.mask, planes.unusable, profile.reach
    height, width = signal.shape
    matrix, spread, right = normal.matrix, normal.spread, normal.right
    matrix[:], spread[:], right[:] = 0.0, 0.0, 0.0
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
            value, slope = _brightness(profile, radius)
            slopes[0] = value
            slopes[1] = -flux * slope * across / max(radius, 1e-6)
            slopes[2] = -flux * slope * down / max(radius, 1e-6)
            here = _variance(planes, noise, row, column)
            for i in range(3):
                right[i] += slopes[i] * (signal[row, column] - flux * value)
                for j in range(3):
                    matrix[i, j] += slopes[i] * slopes[j]
                    spread[i, j] += slopes[i] * slopes[j] * here
    return good, bad


@kernel(error_model="numpy")
def _fit_place(planes: Planes, noise: SourceNoise, profile: Profile, normal: _Normal, place: Floats) -> bool:
    """Fit flux and place; set x, y and their errors, and return whether that is to be believed."""
    matrix, spread, right = normal.matrix, normal.spread, normal.right
    x, y = place[0], place[1]
    px, py, flux = x, y, 0.0
    for turn in range(_ROUNDS):
        good, bad = _equations(planes, noise, profile, px, py, flux, normal)
        if turn == 0:
            # A place that the window gave without the loss of a pixel is as good as it can be.
            if bad == 0 or good < _MIN_PIXELS or not matrix[0, 0] > 0.0:
                return False
            flux = right[0] / matrix[0, 0]
            if not flux * matrix[0, 0] > _CLEAR * math.sqrt(spread[0, 0]):
                return False
            continue
        if good < _MIN_PIXELS or not abs(np.linalg.det(matrix)) > 0.0:
            return False
        inverse = np.linalg.inv(matrix)
        change = inverse @ right * 0.5 ** max(0, turn - _WHOLE_STEPS)
        flux, px, py = flux + change[0], px + change[1], py + change[2]
        if not math.hypot(px - x, py - y) <= _MOST_PX:
            return False
        if math.hypot(change[1], change[2]) < _STILL_PX:
            error = inverse @ spread @ inverse
            place[0], place[1] = px, py
            place[2], place[3] = math.sqrt(error[1, 1]), math.sqrt(error[2, 2])
            return True
    return False


@kernel(error_model="numpy")
def _covariance(planes: Planes, noise: SourceNoise, profile: Profile, x: float, y: float) -> float:
    """Return the sum of profile x variance of the good pixels from which the brightness of a star follows."""
    mask, unusable, reach = planes.mask, planes.unusable, profile.reach
    height, width = planes.signal.shape
    total = 0.0
    for row in range(max(0, math.ceil(y - reach)), min(height, math.floor(y + reach) + 1)):
        for column in range(max(0, math.ceil(x - reach)), min(width, math.floor(x + reach) + 1)):
            radius = math.hypot(column - x, row - y)
            if radius <= reach and not mask[row, column] & unusable:
                value = _brightness(profile, radius)[0]
                total += value * _variance(planes, noise, row, column)
    return total


@kernel(error_model="numpy")
def _flux(
    planes: Planes,
    noise: SourceNoise,
    profile: Profile,
    x: float,
    y: float,
    radius: float,
    scale: tuple[float, float],
) -> tuple[float, float]:
    """Return flux and variance in a circle; `scale` is the flux of the profile, and the sum of its squares."""
    signal, mask, unusable, reach = planes.signal, planes.mask, planes.unusable, profile.reach
    height, width = signal.shape
    outer = max(radius + 1.0, reach)
    rows = range(max(0, math.ceil(y - outer)), min(height, math.floor(y + outer) + 1))
    columns = range(max(0, math.ceil(x - outer)), min(width, math.floor(x + outer) + 1))
    seen, lost, total = 0.0, 0.0, 0.0
    for row in rows:
        for column in columns:
            if mask[row, column] & unusable:
                part = coverage(column - x, row - y, radius)
                lost += part * _brightness(profile, math.hypot(column - x, row - y))[0]
    for row in rows:
        for column in columns:
            if mask[row, column] & unusable:
                continue
            weight = part = coverage(column - x, row - y, radius)
            distance = math.hypot(column - x, row - y)
            if distance <= reach:
                weight += lost * _brightness(profile, distance)[0] / scale[1]
            seen += part * signal[row, column]
            total += weight * weight * _variance(planes, noise, row, column)
    filled = scale[0] * lost
    return seen + filled, total + (profile.wrong * filled) ** 2


@kernel(error_model="numpy")
def fill_circles(
    planes: Planes,
    noise: PixelNoise,
    profile: Profile,
    radii: Floats,
    obscured: Flags,
    places: Floats,
    fluxes: Floats,
    strength: Floats,
) -> None:
    """Set fluxes and errors of stars in circles of which unusable pixels are part.

    Parameters
    ----------
    planes, noise, profile
        The image, the noise at n stars, and what fills unusable pixels.
    radii : ndarray, shape (circles,)
    obscured : ndarray of bool, shape (circles, n)
        Which circles hold an unusable pixel.
    places : ndarray, shape (n, 4)
        x, y and their errors; those of stars that miss pixels of their core are fitted anew.
    fluxes : ndarray, shape (2, circles, n)
        Fluxes and their errors. They stay as they are where no pixel is unusable, unless the place is another, and
        where too few pixels give the brightness of a star.
    strength : ndarray, shape (n, 3)
        Set to the factor of the profile, its variance, and its covariance with the sum of the pixels that give it.
    """
    normal = _Normal(np.empty((3, 3)), np.empty((3, 3)), np.empty(3))
    matrix, spread, right = normal.matrix, normal.spread, normal.right
    for star in range(len(places)):
        here = noise_of(noise, star)
        moved = _fit_place(planes, here, profile, normal, places[star])
        x, y = places[star, 0], places[star, 1]
        good, _ = _equations(planes, here, profile, x, y, 0.0, normal)
        if good < _MIN_PIXELS or not matrix[0, 0] > 0.0:
            continue
        scale = (right[0] / matrix[0, 0], matrix[0, 0])
        strength[star, 0], strength[star, 1] = scale[0], spread[0, 0] / matrix[0, 0] ** 2
        strength[star, 2] = _covariance(planes, here, profile, x, y) / matrix[0, 0]
        for circle in range(len(radii)):
            if not (moved or obscured[circle, star]):
                continue
            value, square = _flux(planes, here, profile, x, y, radii[circle], scale)
            fluxes[0, circle, star], fluxes[1, circle, star] = value, math.sqrt(square)

"""Atmospheric refraction above a site, from the zenith to the horizon.

The bending is integrated through a standard atmosphere: a troposphere whose temperature falls by 6.5 K per kilometre,
and an isothermal stratosphere above 11 km, of dry air. The integral, once for each site, is kept as a polynomial.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from skylake.core.bands import BANDS
from skylake.core.camera import Camera, Site
from skylake.core.sphere import FloatArray

_EARTH_RADIUS_M = 6378120.0
#: Weight of a column of air over its pressure: g M / R, K per metre.
_HYDROSTATIC_K_PER_M = 9.80665 * 0.0289644 / 8.31446
_LAPSE_K_PER_M = 0.0065
_TROPOPAUSE_M = 11000.0
_TOP_M = 85000.0
_SEA_LEVEL_HPA, _SEA_LEVEL_K, _ZERO_CELSIUS_K = 1013.25, 288.15, 273.15
#: Points of the integral in each layer, and altitudes at which it is taken.
_POINTS = 80
_ALTITUDES = 90
_DEGREE = 9


@dataclass(frozen=True, slots=True)
class Air:
    """The air at a site.

    Attributes
    ----------
    pressure_hpa : float
        0 for no refraction.
    temperature_c : float
    wavelength_um : float
    height_m : float
        Of the site above the sea.
    """

    pressure_hpa: float
    temperature_c: float
    wavelength_um: float = 0.55
    height_m: float = 0.0

    @classmethod
    def standard(cls, height_m: float) -> Air:
        """Return the air of the standard atmosphere (ISO 2533) at a height."""
        kelvin = _SEA_LEVEL_K - _LAPSE_K_PER_M * height_m
        exponent = _HYDROSTATIC_K_PER_M / _LAPSE_K_PER_M
        pressure = _SEA_LEVEL_HPA * (kelvin / _SEA_LEVEL_K) ** exponent
        return cls(pressure, kelvin - _ZERO_CELSIUS_K, height_m=height_m)

    @classmethod
    def above(cls, site: Site, band: str | None = None) -> Air:
        """Return the air at a site, at the wavelength of a band.

        Parameters
        ----------
        site : Site
            The standard atmosphere at its height stands in for a pressure or temperature that it does not have.
        band : str or None
            0.55 micrometres if it is not known.
        """
        air, known = cls.standard(site.height_m), BANDS.get(band or "")
        return replace(
            air,
            pressure_hpa=air.pressure_hpa if site.pressure_hpa is None else site.pressure_hpa,
            temperature_c=air.temperature_c if site.temperature_c is None else site.temperature_c,
            wavelength_um=air.wavelength_um if known is None else known.wavelength_nm / 1000.0,
        )

    @classmethod
    def of_camera(cls, camera: Camera, band: str | None = None) -> Air:
        """Return the air above the site of a camera; none if its profile says ``astrometry.refraction = false``."""
        air = cls.above(camera.site, band)
        return air if camera.astrometry.refraction else replace(air, pressure_hpa=0.0)


@dataclass(frozen=True, slots=True)
class Refraction:
    """How far light of each altitude is lifted; angles in radians.

    Attributes
    ----------
    coefficients : tuple of float
        Of the powers 1, 2 … of the cotangent that Bennett's formula takes (1982, J. Navigation 35, 255).
    """

    coefficients: tuple[float, ...]

    @classmethod
    def of(cls, air: Air) -> Refraction:
        """Return the refraction of the air at a site."""
        return _of(air)

    @property
    def bends(self) -> bool:
        """Whether there is any."""
        return any(self.coefficients)

    def lifts(self, apparent: npt.ArrayLike) -> FloatArray:
        """Return how much lower stars are than they appear; below the horizon as much as there."""
        return _horner(self.coefficients, _cotangent(np.maximum(np.asarray(apparent, float), 0.0)))

    def apparent(self, true: npt.ArrayLike) -> FloatArray:
        """Return the altitudes at which stars of some true altitudes appear."""
        wanted = np.asarray(true, float)
        altitude = wanted + self.lifts(wanted)
        # At the horizon the bending changes by a fifth of what the altitude does, elsewhere by less.
        for _ in range(6):
            lift, step = self.lifts(altitude), 1e-6
            slope = (self.lifts(altitude + step) - lift) / step
            altitude = altitude - (altitude - lift - wanted) / (1.0 - slope)
        return np.asarray(altitude)


def _cotangent(altitude: FloatArray) -> FloatArray:
    degrees = np.degrees(altitude)
    return np.asarray(1.0 / np.tan(np.radians(degrees + 7.31 / (degrees + 4.4))) - _AT_ZENITH)


_AT_ZENITH = float(1.0 / np.tan(np.radians(90.0 + 7.31 / 94.4)))


def _horner(coefficients: tuple[float, ...], x: FloatArray) -> FloatArray:
    total = np.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = x * (coefficient + total)
    return total


@lru_cache(maxsize=64)
def _of(air: Air) -> Refraction:
    # Denser towards the horizon, where the bending grows fastest.
    altitude = 0.5 * np.pi * np.linspace(0.0, 1.0, _ALTITUDES) ** 2
    bending = _bending(air, altitude)
    x = _cotangent(altitude)
    scale = float(x[0])
    powers = (x[:-1, None] / scale) ** np.arange(1, _DEGREE + 1)
    # Relative errors count: a second of arc matters as much at 45 degrees as ten at the horizon.
    weights = 1.0 / np.maximum(bending[:-1], 1e-9)
    solved = np.linalg.lstsq(powers * weights[:, None], bending[:-1] * weights, rcond=None)[0]
    return Refraction(tuple(float(c) / scale ** (n + 1) for n, c in enumerate(solved)))


def _bending(air: Air, altitude: FloatArray) -> FloatArray:
    """Integrate tan(psi) dn / n along the ray, psi being its angle with the vertical.

    As Auer & Standish (2000, AJ 119, 2472) have it, over another variable.
    The square root of the height above the site is the variable: at the horizon tan(psi) falls as its inverse.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    edges = np.sqrt(np.array([0.0, max(_TROPOPAUSE_M - air.height_m, 1.0), _TOP_M - air.height_m]))
    total = np.zeros_like(altitude)
    start, _ = _refractivity(air, np.zeros(1))
    invariant = (1.0 + start) * (_EARTH_RADIUS_M + air.height_m) * np.cos(altitude)[:, None]
    for low, high in itertools.pairwise(edges):
        root = 0.5 * (low + high) + 0.5 * (high - low) * nodes
        excess, slope = _refractivity(air, root**2)
        sine = invariant / ((1.0 + excess) * (_EARTH_RADIUS_M + air.height_m + root**2))
        tangent = sine / np.sqrt(np.maximum(1.0 - sine * sine, 1e-16))
        total += (tangent * -slope / (1.0 + excess) * 2.0 * root * 0.5 * (high - low)) @ weights
    return total


def _refractivity(air: Air, above_m: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return n - 1 and its slope per metre at heights above the site."""
    kelvin = air.temperature_c + _ZERO_CELSIUS_K
    squared = air.wavelength_um**2
    # Of dry air, per hPa and K (Owens 1967, Appl. Opt. 6, 51, as fitted by Hohenkerk & Sinclair 1985, NAO TN 63).
    constant = 77.53484e-6 + (4.39108e-7 + 3.666e-9 / squared) / squared
    tropopause = max(_TROPOPAUSE_M - air.height_m, 1.0)
    exponent = _HYDROSTATIC_K_PER_M / _LAPSE_K_PER_M
    warmth = 1.0 - _LAPSE_K_PER_M * np.minimum(above_m, tropopause) / kelvin
    below = constant * air.pressure_hpa / kelvin * warmth ** (exponent - 1.0)
    fall = _HYDROSTATIC_K_PER_M / (kelvin * warmth)
    excess = below * np.exp(-fall * np.maximum(above_m - tropopause, 0.0))
    lapse = np.where(above_m <= tropopause, _LAPSE_K_PER_M / (kelvin * warmth), 0.0)
    return excess, -excess * (fall - lapse)

"""Transparency, scintillation and the brightness of the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Site
from skylake.core.ephemeris import SkyState, airmass, alt_az
from skylake.core.sphere import unit_vectors
from skylake.simulate.scenario import AtmosphereParams

_Array = npt.NDArray[np.float64]

#: Brightness of a dark sky at the zenith, nanolamberts (Krisciunas & Schaefer 1991), V = 21.6 per arcsec^2.
_DARK_SKY_NL = 79.0
_DEFAULT_SCINTILLATION = 0.001
_MEAN_SPELL = 8


@dataclass(frozen=True, slots=True)
class Clouds:
    """What clouds take from one frame, mag: at the centre, and its change to the corners along x and y."""

    mag: float = 0.0
    gradient_x: float = 0.0
    gradient_y: float = 0.0

    @property
    def clear(self) -> bool:
        """Whether there are none."""
        return self.mag == 0.0


def airmass_at(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, mjd_utc: npt.ArrayLike, site: Site) -> _Array:
    """Return the airmass of positions; 1 for an unknown site, that of the horizon below it."""
    if not site.known:
        return np.ones(np.broadcast(ra_deg, dec_deg, mjd_utc).shape)
    altitude, _ = alt_az(ra_deg, dec_deg, mjd_utc, site)
    return airmass(np.maximum(altitude, 0.0))


def scintillation(
    params: AtmosphereParams, diameter_m: float | None, site: Site, air: float, exposure_s: float
) -> float:
    """Return the relative noise by scintillation (Young 1967, AJ 72, 747); 1e-3 for an unknown aperture."""
    if params.scintillation is not None:
        return params.scintillation
    if diameter_m is None:
        return _DEFAULT_SCINTILLATION
    aperture = (100.0 * diameter_m) ** (-2.0 / 3.0)
    return float(0.09 * aperture * air**1.75 * np.exp(-site.height_m / 8000.0) / np.sqrt(2.0 * exposure_s))


def sky_brightening(
    ra_deg: float, dec_deg: float, extinction: float, air: float, state: SkyState, params: AtmosphereParams
) -> float:
    """Return the brightness of the sky in units of the dark sky (Krisciunas & Schaefer 1991, PASP 103, 1033).

    Parameters
    ----------
    ra_deg, dec_deg : float
        Where.
    extinction, air : float
        Extinction, mag per airmass, and airmass of the field.
    state : SkyState
        Sun and Moon at one instant, by :func:`skylake.core.ephemeris.sun_and_moon`.
    params : AtmosphereParams
        Whether the Moon shines.
    """
    altitude = float(state.moon_altitude_deg)
    if not params.moonlight or not altitude > 0.0:
        return 1.0
    separation = np.degrees(np.arccos(np.clip(unit_vectors(ra_deg, dec_deg) @ state.moon, -1.0, 1.0)))
    phase_angle = np.degrees(np.arccos(np.clip(2.0 * float(state.moon_phase) - 1.0, -1.0, 1.0)))
    moon = 10.0 ** (-0.4 * (3.84 + 0.026 * phase_angle + 4e-9 * phase_angle**4))
    scatter = 10.0**5.36 * (1.06 + np.cos(np.radians(separation)) ** 2) + 10.0 ** (6.15 - separation / 40.0)
    moon_air = (1.0 - 0.96 * np.cos(np.radians(altitude)) ** 2) ** -0.5
    light = (
        scatter * moon * 10.0 ** (-0.4 * extinction * moon_air) * (1.0 - 10.0 ** (-0.4 * extinction * air))
    )
    return float(1.0 + light / _DARK_SKY_NL)


def zeropoint_wander(random: np.random.Generator, count: int, params: AtmosphereParams) -> _Array:
    """Return the changes of the zeropoint over one night: an offset and a slow drift, mag, shape (count,)."""
    offset = params.night_rms_mag * random.standard_normal()
    turns, phase = random.uniform(0.4, 1.2), random.uniform(0.0, 2.0 * np.pi)
    when = np.arange(count) / max(1, count - 1)
    return np.asarray(offset + params.drift_mag * np.sin(2.0 * np.pi * turns * when + phase))


def seeing_wander(random: np.random.Generator, count: int, rms: float) -> _Array:
    """Return factors of the FWHM over one night, median 1, each frame much like the one before."""
    steps = random.standard_normal(count)
    memory, state = 0.9, 0.0
    logarithm = np.empty(count)
    for i, step in enumerate(steps):
        state = step if i == 0 else memory * state + np.sqrt(1.0 - memory**2) * step
        logarithm[i] = state
    return np.exp(rms * logarithm)


def clouds_of_night(
    random: np.random.Generator, count: int, cloudy: int, params: AtmosphereParams
) -> list[Clouds]:
    """Return the clouds of each frame of a night, `cloudy` of the frames in contiguous spells."""
    night = [Clouds()] * count
    for first, length in _spells(random, count, cloudy):
        mean = params.cloud_mag * random.uniform(0.5, 1.6)
        angle = random.uniform(0.0, 2.0 * np.pi)
        for i in range(length):
            # Thicker in the middle of the spell, and never thin enough to be taken for clear.
            shape = 0.4 + 0.6 * np.sin(np.pi * (i + 0.5) / length)
            mag = float(max(mean * shape * random.uniform(0.8, 1.2), 0.15))
            angle += random.normal(0.0, 0.3)
            slope = params.cloud_gradient * mag
            night[first + i] = Clouds(mag, float(slope * np.cos(angle)), float(slope * np.sin(angle)))
    return night


def _spells(random: np.random.Generator, count: int, cloudy: int) -> list[tuple[int, int]]:
    """Divide a number of cloudy frames into spells and these over a night: first frame and length."""
    if cloudy == 0:
        return []
    spells = max(1, min(round(cloudy / _MEAN_SPELL), count - cloudy + 1))
    lengths = np.diff(
        np.concatenate([[0], np.sort(random.permutation(cloudy - 1)[: spells - 1]) + 1, [cloudy]])
    )
    # Clear frames between the spells: at least one, so that a spell is a spell.
    free = count - cloudy - (spells - 1)
    gaps = np.sort(random.integers(0, free + 1, spells))
    firsts = gaps + np.concatenate([[0], np.cumsum(lengths[:-1] + 1)])
    return [(int(first), int(length)) for first, length in zip(firsts, lengths, strict=True)]

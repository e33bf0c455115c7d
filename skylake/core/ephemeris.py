"""Horizon coordinates, Sun, Moon, airmass and barycentric time, from SOFA's algorithms (pyerfa).

Times are Modified Julian Dates, UTC. No table is fetched: UT1 is taken as UTC (at most 0.9 s, 14
arcsec on the sky), polar motion as none, and refraction is left out. Directions are geometric in the
GCRS, without aberration (20 arcsec). That is far below what altitudes, twilight and airmass need.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import erfa
import numpy as np
import numpy.typing as npt

from skylake.core.camera import Site
from skylake.core.sphere import FloatArray, unit_vectors

_MJD_ZERO = 2400000.5
_SECONDS_PER_DAY = 86400.0
_AU_METRES = 149597870700.0
#: Of the Earth against the stars.
_TURNS_PER_DAY = 1.00273781191135448
_LIGHT_DAYS_PER_AU = 499.004783836 / _SECONDS_PER_DAY
#: Between two instants at which the place of the Earth is computed.
_NODE_DAYS = 0.25
#: Stars whose times are computed together.
_PIECE = 1 << 15


@dataclass(frozen=True, slots=True)
class SkyState:
    """Where Sun and Moon are; arrays with the shape of the times.

    Attributes
    ----------
    sun_altitude_deg, moon_altitude_deg : ndarray
        Altitudes above the horizon; that of the Moon as seen from the site. NaN without a site.
    moon_phase : ndarray
        Illuminated fraction of the Moon's disc, 0 to 1.
    sun, moon : ndarray, shape (..., 3)
        Unit vectors, GCRS; that of the Moon as seen from the site, or from the Earth's centre.
    """

    sun_altitude_deg: FloatArray
    moon_altitude_deg: FloatArray
    moon_phase: FloatArray
    sun: FloatArray
    moon: FloatArray


def terrestrial_time(mjd_utc: npt.ArrayLike) -> FloatArray:
    """Return Terrestrial Time as MJD."""
    mjd = np.asarray(mjd_utc, float)
    with warnings.catch_warnings():
        # Leap seconds are known for some years ahead only; what is not known yet matters to no altitude.
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        first, second = erfa.taitt(*erfa.utctai(np.full_like(mjd, _MJD_ZERO), mjd))
    return np.asarray((first - _MJD_ZERO) + second)


def earth_rotation(mjd_utc: FloatArray) -> FloatArray:
    """Return the matrices from GCRS to ITRS, which turns with the ground, shape (..., 3, 3)."""
    zero = np.zeros_like(mjd_utc)
    return np.asarray(
        erfa.c2t00b(_MJD_ZERO, terrestrial_time(mjd_utc), _MJD_ZERO + zero, mjd_utc, zero, zero)
    )


def horizon_axes(mjd_utc: npt.ArrayLike, site: Site) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the unit vectors to zenith, north and east of a site in the GCRS, shape (..., 3) each.

    Raises
    ------
    ValueError
        If the site has no longitude or latitude.
    """
    if site.longitude_deg is None or site.latitude_deg is None:
        raise ValueError("the site has no longitude or latitude")
    to_sky = np.swapaxes(earth_rotation(np.asarray(mjd_utc, float)), -1, -2)
    lon, lat = np.radians(site.longitude_deg), np.radians(site.latitude_deg)
    zenith = unit_vectors(site.longitude_deg, site.latitude_deg)
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    return to_sky @ zenith, to_sky @ north, to_sky @ east


def alt_az(
    ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, mjd_utc: npt.ArrayLike, site: Site
) -> tuple[FloatArray, FloatArray]:
    """Return altitude and azimuth (east of north), degrees; positions and times broadcast."""
    zenith, north, east = horizon_axes(mjd_utc, site)
    star = unit_vectors(ra_deg, dec_deg)
    altitude = np.degrees(np.arcsin(np.clip(np.sum(star * zenith, axis=-1), -1.0, 1.0)))
    azimuth = np.degrees(np.arctan2(np.sum(star * east, axis=-1), np.sum(star * north, axis=-1))) % 360.0
    return np.asarray(altitude), np.asarray(azimuth)


def airmass(altitude_deg: npt.ArrayLike) -> FloatArray:
    """Return the airmass at true altitudes, NaN below the horizon (Pickering 2002, DIO 12, 3).

    That formula asks for the altitude as refracted, which is that of Saemundsson (1986, Sky & Telescope
    72, 70) at sea level; left out, it would give 3 % too much at 5 degrees.
    """
    altitude = np.asarray(altitude_deg, float)
    true = np.where(altitude >= 0.0, altitude, np.nan)
    seen = np.minimum(true + 1.02 / 60.0 / np.tan(np.radians(true + 10.3 / (true + 5.11))), 90.0)
    return np.asarray(1.0 / np.sin(np.radians(np.minimum(seen + 244.0 / (165.0 + 47.0 * seen**1.1), 90.0))))


def sun_and_moon(mjd_utc: npt.ArrayLike, site: Site) -> SkyState:
    """Return where Sun and Moon are."""
    mjd = np.asarray(mjd_utc, float)
    tt = terrestrial_time(mjd)
    heliocentric, _ = erfa.epv00(_MJD_ZERO, tt)
    sun = -np.asarray(heliocentric["p"])
    moon = np.asarray(erfa.moon98(_MJD_ZERO, tt)["p"])
    phase = _illuminated_fraction(sun, moon)
    if not site.known:
        nan = np.full(mjd.shape, np.nan)
        return SkyState(nan, nan, phase, _unit(sun), _unit(moon))
    moon = moon - _observer_au(mjd, site)
    zenith, _, _ = horizon_axes(mjd, site)
    return SkyState(_altitude(sun, zenith), _altitude(moon, zenith), phase, _unit(sun), _unit(moon))


def _observer_au(mjd: FloatArray, site: Site) -> FloatArray:
    """Return the site's place relative to the Earth's centre, GCRS, AU."""
    longitude, latitude = np.radians([site.longitude_deg or 0.0, site.latitude_deg or 0.0])
    metres = erfa.gd2gc(1, longitude, latitude, site.height_m)
    return np.asarray(np.swapaxes(earth_rotation(mjd), -1, -2) @ (metres / _AU_METRES))


def observer_velocity(mjd_utc: float, site: Site) -> FloatArray:
    """Return the velocity of a site about the barycentre of the solar system, GCRS, in units of that of light."""
    _, barycentric = erfa.epv00(_MJD_ZERO, terrestrial_time(mjd_utc))
    moving = np.asarray(barycentric["v"])
    if site.known:
        _, _, east = horizon_axes(mjd_utc, site)
        spin = _observer_spin_au(site)
        moving = moving + spin * east
    return np.asarray(moving * _LIGHT_DAYS_PER_AU)


def _observer_spin_au(site: Site) -> float:
    """Return how fast the rotation of the Earth carries a site eastwards, AU per day."""
    x, y, _ = erfa.gd2gc(1, *np.radians([site.longitude_deg or 0.0, site.latitude_deg or 0.0]), site.height_m)
    return float(np.hypot(x, y) / _AU_METRES * 2.0 * np.pi * _TURNS_PER_DAY)


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _altitude(vectors: FloatArray, zenith: FloatArray) -> FloatArray:
    return np.asarray(np.degrees(np.arcsin(np.clip(np.sum(_unit(vectors) * zenith, axis=-1), -1.0, 1.0))))


def _illuminated_fraction(sun: FloatArray, moon: FloatArray) -> FloatArray:
    """Return (1 + cos i) / 2, i being the angle at the Moon between Sun and Earth (Meeus 1998, ch. 48)."""
    cosine = np.sum(_unit(sun - moon) * _unit(-moon), axis=-1)
    return np.asarray(0.5 * (1.0 + cosine))


def _earth_and_tdb(tt: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the place of the Earth about the barycentre of the solar system, AU, and TDB - TT, days.

    The series of SOFA are summed at four instants a day. Between them the cubic through places and velocities
    (Hermite) is off by 1e-9 s of light time, and the line through TDB - TT by less than 1e-8 s.
    """
    after = tt / _NODE_DAYS
    before = np.floor(after)
    after = after - before
    nodes, number = np.unique(np.stack([before, before + 1.0]), return_inverse=True)
    left, right = number.reshape(2, *tt.shape)
    times = nodes * _NODE_DAYS
    _, barycentric = erfa.epv00(_MJD_ZERO, times)
    place, step = np.asarray(barycentric["p"]), np.asarray(barycentric["v"]) * _NODE_DAYS
    ahead = erfa.dtdb(_MJD_ZERO, times, times % 1.0, 0.0, 0.0, 0.0) / _SECONDS_PER_DAY
    u = after[..., None]
    moved = (
        (1.0 + 2.0 * u) * (1.0 - u) ** 2 * place[left]
        + u * (1.0 - u) ** 2 * step[left]
        + u**2 * (3.0 - 2.0 * u) * place[right]
        - u**2 * (1.0 - u) * step[right]
    )
    return moved, np.asarray((1.0 - after) * ahead[left] + after * ahead[right])


def barycentric_jd(
    mjd_utc: npt.ArrayLike, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, site: Site | None = None
) -> FloatArray:
    """Return the Julian Date, TDB, at which light of a star passes the barycentre of the solar system.

    Times and positions broadcast. Without a site the Earth's centre stands in for it, at most 21 ms off.

    Notes
    -----
    Roemer delay and TDB - TT (Eastman, Siverd & Gaudi 2010, PASP 122, 935); Shapiro delay and
    parallax are left out (some microseconds).
    """
    every = np.asarray(mjd_utc, float)
    # Many stars share one frame: the Earth is placed once for each instant.
    mjd, instant = np.unique(every, return_inverse=True)
    return barycentric_jd_at(mjd, instant.reshape(every.shape), ra_deg, dec_deg, site)


def barycentric_jd_at(
    mjd_utc: FloatArray,
    instant: npt.NDArray[np.integer[Any]],
    ra_deg: npt.ArrayLike,
    dec_deg: npt.ArrayLike,
    site: Site | None = None,
) -> FloatArray:
    """Return what :func:`barycentric_jd` does, of a few instants and the place of that of each star among them.

    Parameters
    ----------
    mjd_utc : ndarray, shape (k,)
    instant : ndarray of int
        It broadcasts with the positions.
    ra_deg, dec_deg : array_like
    site : Site or None
    """
    tt = terrestrial_time(mjd_utc)
    place, ahead = _earth_and_tdb(tt)
    if site is not None and site.known:
        place = place + _observer_au(mjd_utc, site)
    tdb = tt + ahead
    instants, ra, dec = np.broadcast_arrays(instant, ra_deg, dec_deg)
    found = np.empty(instants.shape)
    flat, arrays = found.ravel(), [one.ravel() for one in (instants, ra, dec)]
    # Piece by piece, so that what is computed of a star stays in the cache of the processor.
    for start in range(0, flat.size, _PIECE):
        which, ra, dec = (one[start : start + _PIECE] for one in arrays)
        roemer = np.sum(place[which] * unit_vectors(ra, dec), axis=-1) * _LIGHT_DAYS_PER_AU
        flat[start : start + _PIECE] = _MJD_ZERO + tdb[which] + roemer
    return found

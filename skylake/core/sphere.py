"""Spherical geometry with unit vectors, valid at the poles and at RA 0.

Angles are degrees unless a name says otherwise, ICRS. NaN in, NaN out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ARCSEC_PER_RADIAN = 3600.0 * 180.0 / np.pi

#: Order of the spatial index column ``_healpix_29``.
INDEX_ORDER = 29


def unit_vectors(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> FloatArray:
    """Return unit vectors of shape (..., 3)."""
    ra, dec = np.radians(np.asarray(ra_deg, float)), np.radians(np.asarray(dec_deg, float))
    cos_dec = np.cos(dec)
    return np.stack([cos_dec * np.cos(ra), cos_dec * np.sin(ra), np.sin(dec)], axis=-1)


def ra_dec(vectors: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return right ascension in [0, 360) and declination of vectors of shape (..., 3), of any length."""
    x, y, z = np.moveaxis(np.asarray(vectors, float), -1, 0)
    ra = np.degrees(np.arctan2(y, x)) % 360.0
    return np.where(ra == 360.0, 0.0, ra), np.degrees(np.arctan2(z, np.hypot(x, y)))


def separation_deg(
    ra1: npt.ArrayLike, dec1: npt.ArrayLike, ra2: npt.ArrayLike, dec2: npt.ArrayLike
) -> FloatArray:
    """Return the angle between positions, exact at every distance (Vincenty 1975)."""
    a, b = unit_vectors(ra1, dec1), unit_vectors(ra2, dec2)
    cross = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.asarray(np.degrees(np.arctan2(cross, np.sum(a * b, axis=-1))))


def within(
    ra_deg: float, dec_deg: float, radius_deg: float, ra: npt.ArrayLike, dec: npt.ArrayLike
) -> npt.NDArray[np.bool_]:
    """Return which positions lie within a radius of a place, in a quarter of the time of separations.

    Haversines (Sinnott 1984) are compared, which lose digits only near the antipode: radii beyond a quarter of the
    sky are therefore judged from there.

    Parameters
    ----------
    ra_deg, dec_deg, radius_deg : float
    ra, dec : array_like
        Positions in degrees, of one shape. NaN is not within.
    """
    far = radius_deg > 90.0
    if far:
        ra_deg, dec_deg, radius_deg = ra_deg + 180.0, -dec_deg, 180.0 - radius_deg
    east, declination = np.radians(np.asarray(ra, float) - ra_deg), np.radians(np.asarray(dec, float))
    centre = np.radians(dec_deg)
    haversine = (
        np.sin(0.5 * (declination - centre)) ** 2
        + np.cos(centre) * np.cos(declination) * np.sin(0.5 * east) ** 2
    )
    limit = np.sin(0.5 * np.radians(max(radius_deg, 0.0))) ** 2
    return np.asarray(haversine >= limit if far else haversine <= limit)


def chord(angle_arcsec: float) -> float:
    """Return the straight distance on the unit sphere that spans `angle_arcsec`."""
    return float(2.0 * np.sin(0.5 * angle_arcsec / ARCSEC_PER_RADIAN))


def arcsec_of_chord(length: npt.ArrayLike) -> FloatArray:
    """Return the angle in arcseconds of straight distances on the unit sphere."""
    return np.asarray(2.0 * np.arcsin(0.5 * np.asarray(length, float)) * ARCSEC_PER_RADIAN)


def tangent_basis(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the unit vectors that point east and north at each position, shape (..., 3) each."""
    ra, dec = np.radians(np.asarray(ra_deg, float)), np.radians(np.asarray(dec_deg, float))
    zero = np.zeros(np.broadcast(ra, dec).shape)
    east = np.stack([-np.sin(ra) + zero, np.cos(ra) + zero, zero], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec) + zero], axis=-1)
    return east, north


def offset(
    ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, distance_deg: npt.ArrayLike, angle_deg: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Return the positions at a distance and position angle (east of north) from given ones."""
    east, north = tangent_basis(ra_deg, dec_deg)
    distance, angle = np.radians(distance_deg)[..., None], np.radians(angle_deg)[..., None]
    towards = np.sin(angle) * east + np.cos(angle) * north
    return ra_dec(np.cos(distance) * unit_vectors(ra_deg, dec_deg) + np.sin(distance) * towards)


def apply_proper_motion(
    ra_deg: npt.ArrayLike,
    dec_deg: npt.ArrayLike,
    pm_ra_mas_yr: npt.ArrayLike,
    pm_dec_mas_yr: npt.ArrayLike,
    years: npt.ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """Move stars along great circles by their proper motion.

    Parameters
    ----------
    ra_deg, dec_deg : array_like
        Positions at the catalog's epoch.
    pm_ra_mas_yr, pm_dec_mas_yr : array_like
        Proper motion in mas/yr, that in right ascension with the factor cos(dec). NaN counts as 0.
    years : array_like
        Julian years since the epoch.

    Notes
    -----
    Radial velocity and parallax are left out: below 1 mas over decades for all but a few dozen stars.
    The motion is uniform along the tangent (ESA 1997, The Hipparcos Catalogue, vol. 1, sec. 1.5.5).
    """
    motion = tangent_motion(ra_deg, dec_deg, pm_ra_mas_yr, pm_dec_mas_yr)
    return ra_dec(unit_vectors(ra_deg, dec_deg) + np.asarray(years, float)[..., None] * motion)


def tangent_motion(
    ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, pm_ra_mas_yr: npt.ArrayLike, pm_dec_mas_yr: npt.ArrayLike
) -> FloatArray:
    """Return what a Julian year adds to the unit vectors of stars, shape (..., 3); NaN counts as 0."""
    east, north = tangent_basis(ra_deg, dec_deg)
    along_east, along_north = (
        np.nan_to_num(np.asarray(motion, float)) / (1000.0 * ARCSEC_PER_RADIAN)
        for motion in (pm_ra_mas_yr, pm_dec_mas_yr)
    )
    return np.asarray(along_east[..., None] * east + along_north[..., None] * north)


def healpix_index(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, order: int = INDEX_ORDER) -> IntArray:
    """Return NESTED HEALPix indices of positions.

    One library, cdshealpix, hashes positions everywhere in skylake: it is also the one behind lsdb, and
    at order 29 two libraries disagree for a few positions in ten million.

    Raises
    ------
    ValueError
        If a coordinate is not finite.
    """
    import astropy.units as u
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix import nested

    ra, dec = np.atleast_1d(np.asarray(ra_deg, float)), np.atleast_1d(np.asarray(dec_deg, float))
    if ra.size == 0:
        return np.zeros(0, np.int64)
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        raise ValueError("positions must be finite to have a HEALPix index")
    pixels = nested.lonlat_to_healpix(Longitude(ra, u.deg), Latitude(dec, u.deg), order)
    return np.asarray(pixels, np.int64)


def healpix_centre(pixels: npt.ArrayLike, order: int) -> tuple[FloatArray, FloatArray]:
    """Return the centres of NESTED HEALPix pixels, degrees."""
    from cdshealpix import nested

    lon, lat = nested.healpix_to_lonlat(np.atleast_1d(np.asarray(pixels, np.uint64)), order)
    return np.asarray(lon.deg), np.asarray(lat.deg)


def julian_epoch(mjd: npt.ArrayLike) -> FloatArray:
    """Return the Julian epoch, in years, of Modified Julian Dates."""
    return np.asarray(2000.0 + (np.asarray(mjd, float) - 51544.5) / 365.25)

"""Places of objects over the years: where they are now, which is the nearest, and how they move with their star."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import (
    ARCSEC_PER_RADIAN,
    arcsec_of_chord,
    chord,
    healpix_index,
    ra_dec,
    tangent_basis,
    tangent_motion,
    unit_vectors,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Columns = Mapping[str, npt.NDArray[Any]]

_NONE = -1
_DAYS_PER_YEAR = 365.25
#: A star of the catalog shows its proper motion between nights at least so far apart, days.
_LEAST_DAYS = 0.5


@dataclass(frozen=True, slots=True)
class FoldedPlaces:
    """Places of objects; unit vectors of shape (n, 3).

    ``now`` is where they are expected, and ``motion`` what a year adds to their place, 0 where it is not known.
    """

    now: Floats
    motion: Floats


def known_places(known: Columns, mjd: float) -> FoldedPlaces:
    """Return where objects are expected at a time, MJD; NaN gives their last places."""
    vectors = unit_vectors(known["ra_deg"], known["dec_deg"])
    motion = tangent_motion(
        known["ra_deg"],
        known["dec_deg"],
        known["pm_ra_mas_yr"].astype(float),
        known["pm_dec_mas_yr"].astype(float),
    )
    years = np.nan_to_num((mjd - known["mjd_place"].astype(float)) / _DAYS_PER_YEAR)
    now = vectors + years[:, None] * motion
    return FoldedPlaces(now / np.linalg.norm(now, axis=1, keepdims=True), motion)


def nearest_pairs(
    places: Floats, objects: Floats, reach: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return which places belong to which objects, one to one: mutual nearest neighbours, then those of what is left.

    Parameters
    ----------
    places, objects : ndarray, shape (n, 3) and (m, 3)
        Unit vectors.
    reach : float
        Largest distance, as a chord.
    """
    from scipy.spatial import cKDTree

    left, free = np.arange(len(places)), np.arange(len(objects))
    pairs: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]] = []
    while left.size and free.size:
        distance, nearest = cKDTree(objects[free]).query(places[left], distance_upper_bound=reach)
        near = np.flatnonzero(np.isfinite(distance))
        if near.size == 0:
            break
        left, nearest = left[near], nearest[near]
        _, back = cKDTree(places[left]).query(objects[free[nearest]])
        mutual = back == np.arange(left.size)
        if not mutual.any():
            # Two places at the same distance of one object, to the last digit.
            break
        pairs.append((left[mutual], free[nearest[mutual]]))
        left, free = left[~mutual], np.delete(free, nearest[mutual])
    nothing = np.zeros(0, np.intp)
    return (
        np.concatenate([nothing, *(one for one, _ in pairs)]),
        np.concatenate([nothing, *(other for _, other in pairs)]),
    )


def place_of_objects(
    old: Columns, more: Columns, motion: Floats
) -> tuple[dict[str, npt.NDArray[Any]], Floats]:
    """Return the places of objects with one more cluster each, and how far that was from the place before, arcsec.

    The offset from the catalog star is averaged where there is one, so that a place moves with its star.

    Parameters
    ----------
    old, more : mapping of ndarray, shape (n,)
        Objects and their clusters.
    motion : ndarray, shape (n, 3)
        What a year adds to the place of each object.
    """
    years = (more["mjd_mean"] - old["mjd_place"]) / _DAYS_PER_YEAR
    had, has = old["ref_id"] != _NONE, more["ref_id"] != _NONE
    before, seen = unit_vectors(old["ra_deg"], old["dec_deg"]), unit_vectors(more["ra_deg"], more["dec_deg"])
    star = _star(old, had)
    now = np.where(
        has[:, None], _star(more, has), np.where(had[:, None], star + years[:, None] * motion, 0.0)
    )
    offset = before - np.where(had[:, None], star, now)
    step = seen - now - offset
    n, m = old["n_place"].astype(float), more["n_place"].astype(float)
    place = now + offset + (m / (n + m))[:, None] * step
    ra, dec = ra_dec(place)
    ref_ra, ref_dec = ra_dec(np.where((had | has)[:, None], now, 1.0))
    columns = {
        "_healpix_29": healpix_index(ra, dec),
        "ra_deg": ra,
        "dec_deg": dec,
        "mjd_place": more["mjd_mean"],
        "ref_ra_deg": np.where(had | has, ref_ra, np.nan),
        "ref_dec_deg": np.where(had | has, ref_dec, np.nan),
    }
    known = had & has & (years * _DAYS_PER_YEAR > _LEAST_DAYS)
    east, north = tangent_basis(ref_ra, ref_dec)
    with np.errstate(divide="ignore", invalid="ignore"):
        yearly = (now - star) / years[:, None] * (1000.0 * ARCSEC_PER_RADIAN)
    for name, axis in (("pm_ra_mas_yr", east), ("pm_dec_mas_yr", north)):
        columns[name] = np.where(known, np.einsum("ij,ij->i", yearly, axis), old[name])
    return columns, arcsec_of_chord(np.linalg.norm(step, axis=1))


def _star(rows: Columns, has: npt.NDArray[np.bool_]) -> Floats:
    """Return the places of the catalog stars; 0 without one."""
    vectors = unit_vectors(rows["ref_ra_deg"], rows["ref_dec_deg"])
    return np.where(has[:, None], vectors, 0.0)


def split_from(known: Columns, new: Columns, reach_arcsec: float) -> Integers:
    """Return the identifier of the object within a distance of which each new one begins; -1 without one."""
    from scipy.spatial import cKDTree

    alive = np.flatnonzero(known["status"] != "joined")
    if alive.size == 0:
        return np.full(len(new["ref_id"]), _NONE, np.int64)
    places = unit_vectors(known["ra_deg"][alive], known["dec_deg"][alive])
    distance, nearest = cKDTree(places).query(
        unit_vectors(new["ra_deg"], new["dec_deg"]), distance_upper_bound=chord(reach_arcsec)
    )
    ids = np.append(known["object_id"][alive], _NONE)
    return np.asarray(np.where(np.isfinite(distance), ids[nearest], _NONE), np.int64)

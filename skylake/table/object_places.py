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
#: Objects around a new one that show whether its place was covered, how far away they are at most, in sizes of the
#: image, and how many of the nearest show in how many nights.
_AROUND, _AROUND_SIZE, _NEAREST = 12, 1.0 / 3.0, 3


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


def nights_before(known: Columns, is_old: npt.NDArray[np.bool_], size_deg: float) -> Integers:
    """Return in how many earlier nights the places of new objects were covered, by what was known around them.

    It is the median of the nearest objects. A place that has them on one side only lies beyond what was covered.

    Parameters
    ----------
    known : mapping of ndarray
        All objects, with the counts of earlier nights.
    is_old : ndarray of bool
        Those that were there before this night.
    size_deg : float
        Size of the images.

    Returns
    -------
    ndarray of int64
        One for each object that is new; 0 where no objects are around it.
    """
    from scipy.spatial import cKDTree

    some = np.flatnonzero(is_old & (known["status"] == "qualified"))
    new = np.flatnonzero(~is_old)
    if some.size < _NEAREST or new.size == 0:
        return np.zeros(new.size, np.int64)
    nights = known["n_nights_before"][some] + known["n_nights_covered"][some]
    vectors = unit_vectors(known["ra_deg"], known["dec_deg"])
    reach = chord(3600.0 * _AROUND_SIZE * size_deg)
    distance, near = cKDTree(vectors[some]).query(
        vectors[new], k=np.arange(1, _AROUND + 1), distance_upper_bound=reach
    )
    is_near = np.isfinite(distance)
    # One that is missing lies where the nearest is, which changes no direction.
    near = np.where(is_near, near, near[:, :1])
    is_near = is_near[:, :_NEAREST].all(axis=1)
    near = np.where(is_near[:, None], near, 0)
    apart = vectors[some][near] - vectors[new][:, None, :]
    is_around = is_near & _surrounded(apart, known["ra_deg"][new], known["dec_deg"][new])
    middle = np.median(nights[near[:, :_NEAREST]], axis=1)
    return np.where(is_around, middle, 0).astype(np.int64)


def _surrounded(apart: Floats, ra_deg: Floats, dec_deg: Floats) -> npt.NDArray[np.bool_]:
    """Return which places have neighbours on all sides: no half circle without any.

    Parameters
    ----------
    apart : ndarray, shape (n, k, 3)
        From each place to its neighbours.
    ra_deg, dec_deg : ndarray, shape (n,)
    """
    east, north = tangent_basis(ra_deg, dec_deg)
    angle = np.arctan2(np.einsum("nkj,nj->nk", apart, east), np.einsum("nkj,nj->nk", apart, north))
    angle.sort(axis=1)
    gaps = np.diff(angle, axis=1, append=angle[:, :1] + 2.0 * np.pi)
    return np.asarray(gaps.max(axis=1) < np.pi)


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

"""Which detections of a night are of one star: by their match, else by their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import chord
from skylake.table.targets import link_detections

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: No match.
NONE = -1
#: Share of the frames of a group that must show so many detections of it at once for it to be as many stars.
_SHARE_AT_ONCE = 0.25
#: Rounds in which the detections of such a group move to the nearest of these stars.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of detections.

    Attributes
    ----------
    number : ndarray of int64, shape (n,)
        The group of each detection, from 0.
    ref_id : ndarray of int64, shape (n_groups,)
        Catalog star of each group; :data:`NONE` without a match.
    vectors : ndarray, shape (n_groups, 3)
        Mean places.
    """

    number: Integers
    ref_id: Integers
    vectors: Floats

    def __len__(self) -> int:
        return len(self.ref_id)


def group_detections(
    frame: Integers, vectors: Floats, ra_dec_deg: tuple[Floats, Floats], ref_id: Integers, link_arcsec: float
) -> Groups:
    """Return which detections belong together.

    Detections that were matched with one catalog star are a group. Of the others, one that lies within the distance of
    such a group joins it if nothing else on its frame is in the group; what is left is linked by steps of
    at most the distance. Where frames show several of these at once, they are as many stars.

    Parameters
    ----------
    frame : ndarray of int64, shape (n,)
        Frame of each detection.
    vectors : ndarray, shape (n, 3)
        Unit vectors.
    ra_dec_deg : (ndarray, ndarray), shape (n,) each
        The same places.
    ref_id : ndarray of int64, shape (n,)
        :data:`NONE` without a match.
    link_arcsec : float
    """
    number = np.full(len(frame), -1, np.int64)
    matched = np.flatnonzero(ref_id != NONE)
    stars, number[matched] = np.unique(ref_id[matched], return_inverse=True)
    if len(stars):
        _join(number, frame, vectors, _means(vectors[matched], number[matched], len(stars)), link_arcsec)
    rest = np.flatnonzero(number < 0)
    if rest.size:
        ra, dec = ra_dec_deg
        linked = link_detections(ra[rest], dec[rest], link_arcsec)
        number[rest] = len(stars) + _separated(linked, frame[rest], vectors[rest])
    n_groups = int(number.max(initial=-1)) + 1
    ids = np.append(stars, np.full(n_groups - len(stars), NONE)).astype(np.int64)
    return Groups(number, ids, _means(vectors, number, n_groups))


def count_switched(groups: Groups, vectors: Floats, ref_id: Integers, link_arcsec: float) -> Integers:
    """Return, for each group, how many detections at its place were matched with another star.

    These are nearer to its place than to that of any other group, and within the distance of it.
    """
    from scipy.spatial import cKDTree

    count = np.zeros(len(groups), np.int64)
    matched = np.flatnonzero(ref_id != NONE)
    if matched.size == 0:
        return count
    distance, nearest = cKDTree(groups.vectors).query(vectors[matched])
    other = (nearest != groups.number[matched]) & (distance <= chord(link_arcsec))
    return np.bincount(nearest[other], minlength=len(groups)).astype(np.int64)


def _join(number: Integers, frame: Integers, vectors: Floats, places: Floats, link_arcsec: float) -> None:
    """Let detections without a match join the group at their place, one of a frame and group: the nearest."""
    from scipy.spatial import cKDTree

    free = np.flatnonzero(number < 0)
    distance, nearest = cKDTree(places).query(vectors[free], distance_upper_bound=chord(link_arcsec))
    near = np.flatnonzero(np.isfinite(distance))
    near = near[np.argsort(distance[near], kind="stable")]
    frames, which = np.unique(frame, return_inverse=True)
    taken = np.flatnonzero(number >= 0)
    held = number[taken] * len(frames) + which[taken]
    wanted = nearest[near] * len(frames) + which[free[near]]
    _, first = np.unique(wanted, return_index=True)
    first = first[~np.isin(wanted[first], held)]
    number[free[near[first]]] = nearest[near[first]]


def _separated(group: Integers, frame: Integers, vectors: Floats) -> Integers:
    """Divide groups of which frames show several detections at once, as in a chain of stars; numbers from 0."""
    from scipy.spatial import cKDTree

    seeds = _seeds(group, frame)
    if seeds.size == 0:
        return group
    crowded = np.flatnonzero(np.isin(group, group[seeds]))
    places = vectors[seeds]
    # Groups are far apart along a fourth axis, so that the nearest place is one of the same group.
    apart = 10.0 * group[:, None].astype(float)
    points = np.hstack([vectors[crowded], apart[crowded]])
    nearest = np.zeros(len(crowded), np.int64)
    for _ in range(_ROUNDS):
        nearest = cKDTree(np.hstack([places, apart[seeds]])).query(points)[1]
        places = _means(vectors[crowded], nearest, len(seeds), places)
    made = group.copy()
    made[crowded] = int(group.max()) + 1 + nearest
    return np.unique(made, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _seeds(group: Integers, frame: Integers) -> npt.NDArray[np.intp]:
    """Return, of each group with several stars, the detections of a frame that shows just as many."""
    order = np.lexsort((frame, group))
    fresh = np.ones(len(order), bool)
    fresh[1:] = (np.diff(group[order]) != 0) | (np.diff(frame[order]) != 0)
    starts = np.flatnonzero(fresh)
    at_once, owner = np.diff(np.append(starts, len(order))), group[order[starts]]
    if at_once.max(initial=0) < 2:
        return np.zeros(0, np.intp)
    ranked = np.lexsort((-at_once, owner))
    first = np.flatnonzero(np.append(True, np.diff(owner[ranked]) != 0))
    n_frames = np.diff(np.append(first, len(ranked)))
    # The number that at least this share of the frames reaches, and two of them at least where there are two.
    rank = np.maximum(np.ceil(_SHARE_AT_ONCE * n_frames).astype(np.int64) - 1, np.minimum(1, n_frames - 1))
    stars = at_once[ranked[first + rank]]
    which = np.zeros(int(owner.max()) + 1, np.int64)
    which[owner[ranked[first]]] = stars
    fits = np.flatnonzero((at_once == which[owner]) & (at_once > 1))
    _, one = np.unique(owner[fits], return_index=True)
    return np.concatenate(
        [np.zeros(0, np.intp), *(order[starts[k] : starts[k] + at_once[k]] for k in fits[one])]
    )


def _means(
    vectors: Floats, group: npt.NDArray[Any], n_groups: int, otherwise: Floats | None = None
) -> Floats:
    """Return the mean places of groups as unit vectors; `otherwise` for those without detections."""
    total = np.column_stack([np.bincount(group, vectors[:, axis], n_groups) for axis in range(3)])
    length = np.linalg.norm(total, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        means = total / length
    return np.asarray(means if otherwise is None else np.where(length > 0, means, otherwise))

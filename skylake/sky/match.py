"""The cross-match kernel: pairs within a radius, and the mutual nearest among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import FloatArray, arcsec_of_chord, chord

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Aperture:
    """The aperture whose crowding by catalog stars is wanted.

    Attributes
    ----------
    magnitude : str or None
        Column of the catalog's magnitudes; None where it has none that fits.
    radius_arcsec, width_arcsec : float
        Radius of the aperture, and full width of stars.
    """

    magnitude: str | None
    radius_arcsec: float
    width_arcsec: float


def pairs_within(
    left: FloatArray, right: FloatArray, radius_arcsec: float
) -> tuple[Indices, Indices, FloatArray]:
    """Return all pairs of two sets of unit vectors that are no farther apart than a radius.

    Parameters
    ----------
    left, right : ndarray, shape (n, 3) and (m, 3)
    radius_arcsec : float

    Returns
    -------
    i, j : ndarray
        Indices of the pairs in `left` and `right`, sorted by i then j.
    separation_arcsec : ndarray
    """
    from scipy.spatial import cKDTree

    if len(left) == 0 or len(right) == 0:
        nothing = np.zeros(0, np.intp)
        return nothing, nothing, np.zeros(0)
    pairs = cKDTree(left, balanced_tree=False).sparse_distance_matrix(
        cKDTree(right, balanced_tree=False), chord(radius_arcsec), output_type="ndarray"
    )
    order = np.lexsort((pairs["j"], pairs["i"]))
    return pairs["i"][order], pairs["j"][order], arcsec_of_chord(pairs["v"][order])


def mutual_nearest(
    group: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    separation: FloatArray,
) -> npt.NDArray[np.bool_]:
    """Return which pairs are the nearest of both their members within their group.

    Given all pairs within a radius this is exact: no member can have a nearer partner that is not in the
    list. Each member occurs in one chosen pair at most. Ties go to the smaller number of the partner.

    Parameters
    ----------
    group, left, right : ndarray of int64, shape (n,)
        Frame, and the members of each pair.
    separation : ndarray, shape (n,)
    """
    return _nearest(group, left, separation, right) & _nearest(group, right, separation, left)


def _nearest(
    group: npt.NDArray[np.int64],
    member: npt.NDArray[np.int64],
    separation: FloatArray,
    partner: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Mark, for each member of each group, its pair of smallest separation."""
    order, counts = _runs(group, member)
    # Hardly any member has more pairs than one, among which to choose.
    several = np.repeat(counts > 1, counts)
    nearest = np.zeros(len(order), bool)
    nearest[order[~several]] = True
    rows = order[several]
    rows = rows[np.lexsort((partner[rows], separation[rows], member[rows], group[rows]))]
    counts = counts[counts > 1]
    nearest[rows[np.cumsum(counts) - counts]] = True
    return nearest


def _runs(
    group: npt.NDArray[np.int64], member: npt.NDArray[np.int64]
) -> tuple[Indices, npt.NDArray[np.int64]]:
    """Return the order by group and member, and how many pairs each member of a group has, in that order."""
    order = np.lexsort((member, group))
    starts = np.ones(len(order), bool)
    starts[1:] = (np.diff(group[order]) != 0) | (np.diff(member[order]) != 0)
    return order, np.diff(np.flatnonzero(starts), append=len(order))


def count_candidates(group: npt.NDArray[np.int64], left: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return, for each pair, how many pairs its left member has within the group."""
    order, counts = _runs(group, left)
    counts_of_rows = np.empty(len(order), np.int64)
    counts_of_rows[order] = np.repeat(counts, counts)
    return counts_of_rows

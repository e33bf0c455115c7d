"""The cross-match kernel: pairs within a radius, and the mutual nearest among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import FloatArray, arcsec_of_chord, chord

if TYPE_CHECKING:
    from skylake.sky.strip_kernels import Strips

Indices = npt.NDArray[np.intp]

#: Room for so many pairs at least.
_ROOM = 64


def pairs_within(
    left: FloatArray, right: FloatArray, radius_arcsec: float
) -> tuple[Indices, Indices, FloatArray]:
    """Return all pairs of two sets of unit vectors that are no farther apart than a radius.

    Parameters
    ----------
    left, right : ndarray, shape (n, 3) and (m, 3)
        A vector of NaN is in no pair.
    radius_arcsec : float

    Returns
    -------
    i, j : ndarray
        Indices of the pairs in `left` and `right`, sorted by i then j.
    separation_arcsec : ndarray
    """
    return _found(left, right, radius_arcsec, 0)


def nearest_within(
    left: FloatArray, right: FloatArray, radius_arcsec: float, most: int = 1
) -> tuple[Indices, Indices, FloatArray]:
    """Return the nearest of a set of unit vectors to each of another set.

    Parameters
    ----------
    left, right : ndarray, shape (n, 3) and (m, 3)
        A vector of NaN is in no pair.
    radius_arcsec : float
    most : int
        So many for each on the left, at most.

    Returns
    -------
    i, j : ndarray
        Indices of the pairs in `left` and `right`, sorted by i, then by distance; of equal distances the smaller j is
        nearer.
    separation_arcsec : ndarray
    """
    return _found(left, right, radius_arcsec, most)


def mutual_within(
    left: FloatArray, right: FloatArray, radius_arcsec: float
) -> tuple[Indices, Indices, FloatArray]:
    """Return the pairs of two sets of unit vectors in which each is the nearest of the other.

    Parameters and result are those of :func:`nearest_within` for one partner. Of equal distances the smaller index is
    nearer.
    """
    closest, row = np.full(len(right), np.inf), np.full(len(right), -1, np.int64)
    i, j, separation = _found(left, right, radius_arcsec, 1, closest, row)
    mutual = row[j] == i
    return i[mutual], j[mutual], separation[mutual]


def _found(
    left: FloatArray,
    right: FloatArray,
    radius_arcsec: float,
    most: int,
    closest: FloatArray | None = None,
    closest_row: Indices | None = None,
) -> tuple[Indices, Indices, FloatArray]:
    """Return pairs as :func:`find_pairs` does, in blocks that fit in what room there is."""
    from skylake.sky.strip_kernels import find_pairs, sort_partners

    if closest is None or closest_row is None:
        closest, closest_row = np.zeros(0), np.zeros(0, np.int64)
    left, reach = np.ascontiguousarray(left, float), chord(min(radius_arcsec, 180.0 * 3600.0))
    strips = _strips(np.ascontiguousarray(right, float), left, reach, most)
    room, row = len(left) + max(most, _ROOM), 0
    blocks = []
    while row < len(left):
        pairs = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)
        n_pairs, after = find_pairs(left, strips, reach, most, row, pairs, closest, closest_row)
        blocks.append((pairs[0][:n_pairs], pairs[1][:n_pairs], pairs[2][:n_pairs]))
        # A position may have more partners than there was room for.
        room, row = (2 * room if after == row else room), after
    blocks = blocks or [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    i, j, square = blocks[0]
    if len(blocks) > 1:
        i, j = (np.concatenate([block[side] for block in blocks]) for side in (0, 1))
        square = np.concatenate([block[2] for block in blocks])
    if most == 0:
        sort_partners(i, j, square)
    return i, j, arcsec_of_chord(np.sqrt(square))


def _strips(vectors: FloatArray, near: FloatArray, reach: float, most: int) -> Strips:
    """Return the positions that others may be near, in strips of a plane of a height that suits the search.

    A strip is four times as high as the reach, so that one or two have what is near. Where only the nearest are wanted
    and positions are denser than that, it is as high as some of their distances.
    """
    from skylake.sky.strip_kernels import ROUNDING, Strips, extent, fill_strips, project

    axes = _axes(near)
    places, bounds = project(vectors, axes), extent(near, axes)
    margin = reach + ROUNDING
    inside = (places >= bounds[:, :1] - margin) & (places <= bounds[:, 1:] + margin)
    rows = np.flatnonzero(inside.all(axis=0))
    order = rows[np.argsort(places[0, rows])]
    across = places[1, order] if len(order) else np.zeros(1)
    low = float(across.min())
    high = float(across.max()) - low
    height = max(4.0 * reach, high / max(len(order), 1))
    if most > 0 and len(order) > 1:
        width = float(places[0, order[-1]] - places[0, order[0]])
        height = min(height, max(2.0 * np.sqrt(most * high * width / len(order)), high / len(order)))
    height = height if height > 0.0 else 1.0
    starts = np.zeros(int(high / height) + 2, np.int64)
    sorted_vectors, along, rows = fill_strips(vectors, places, order, starts, low, height)
    return Strips(sorted_vectors, along, rows, starts, axes, low, height)


def _axes(vectors: FloatArray) -> FloatArray:
    """Return two unit vectors, shape (2, 3), that span the plane across the mean direction of positions."""
    mean = np.nansum(vectors, axis=0)
    length = float(np.linalg.norm(mean))
    mean = mean / length if length > 0.0 else np.array([1.0, 0.0, 0.0])
    other = np.zeros(3)
    other[int(np.argmin(np.abs(mean)))] = 1.0
    along = np.cross(mean, other)
    along /= np.linalg.norm(along)
    return np.stack([along, np.cross(mean, along)])


@dataclass(frozen=True, slots=True)
class PairChoice:
    """The mutual nearest among pairs; arrays of shape (n,).

    Attributes
    ----------
    chosen : ndarray of bool
        Each member of a group is in one such pair at most.
    n_candidates : ndarray of int64
        How many pairs the left member has within the group that are not refused.
    second : ndarray
        Of a chosen pair, the separation of the left member from the nearest of its other partners, whatever their
        rank; else NaN.
    rival : ndarray
        Of a chosen pair, the smallest separation of any other pair of its members of rank 0; else NaN.
    """

    chosen: npt.NDArray[np.bool_]
    n_candidates: npt.NDArray[np.int64]
    second: FloatArray
    rival: FloatArray


def choose_pairs(
    group: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    separation: FloatArray,
    rank: npt.NDArray[np.int8] | None = None,
) -> PairChoice:
    """Return which pairs are the nearest of both their members within their group.

    Given all pairs within a radius this is exact: no member can have a nearer partner that is not in the
    list. Each member occurs in one chosen pair at most. Ties go to the smaller number of the partner, and of a pair
    that is listed twice the first is chosen.

    Parameters
    ----------
    group, left, right : ndarray of int64, shape (n,)
        Frame, and the members of each pair.
    separation : ndarray, shape (n,)
    rank : ndarray of int8, shape (n,)
        Of two pairs that of the smaller rank is better, however far it is: 0 is likely, 1 doubtful, and 2 refused,
        which is never chosen. None if all are likely.
    """
    from skylake.sky.choice_kernels import choose, sort_by_group

    rank = np.zeros(len(group), np.int8) if rank is None else rank
    groups, n_groups = _codes(group)
    codes = np.stack([_codes(left)[0], _codes(right)[0]])
    numbers = np.stack([left, right]).astype(np.int64)
    order, starts = sort_by_group(groups, n_groups)
    found = choose(order, starts, codes, numbers, np.ascontiguousarray(separation, float), rank)
    return PairChoice(*found)


def rows_of_groups(rows: npt.NDArray[np.intp], group: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each group, in their order; groups are counted from 0, and some may have none.

    Parameters
    ----------
    rows, group : ndarray of int, shape (n,)
        Rows, and the group of each.
    """
    from skylake.sky.choice_kernels import sort_by_group

    order, starts = sort_by_group(group.astype(np.int64), int(group.max(initial=-1)) + 1)
    return np.split(rows[order], starts[1:-1])


def _codes(values: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], int]:
    """Return which of the distinct values each one is, and how many there are."""
    encoded = pa.array(values).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)

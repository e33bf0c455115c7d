"""Which stars of a night are watched, and which others they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import arcsec_of_chord, chord, unit_vectors
from skylake.flow.watching.night_tables import NightStars
from skylake.lake.storage.watch_lists import WatchList
from skylake.sky.sky_region import SkyRegion

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Comparison stars are so many of so many neighbours, no more magnitudes brighter or fainter than this.
_MOST_COMPARISON, _NEIGHBOURS, _ALIKE_MAG = 20, 200, 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """A star, place or detection that a list watches.

    Attributes
    ----------
    listed : WatchList
    row : int
        Which of those that were asked for.
    place : int
        Which place of the list; -1 where it is a coverage map.
    separation_arcsec : float
        From its place in the list; NaN where that is a coverage map.
    """

    listed: WatchList
    row: int
    place: int
    separation_arcsec: float

    @property
    def star(self) -> str | None:
        """The star or place as the list names it; None where it is a coverage map."""
        return self.listed.places[self.place].star if self.place >= 0 else None


def watched_among(
    lists: Sequence[WatchList], ra_deg: Floats, dec_deg: Floats, least_arcsec: float = 0.0
) -> list[Watched]:
    """Return which of some positions are watched: all in a coverage map, and within its radius of each place.

    Parameters
    ----------
    lists : sequence of WatchList
    ra_deg, dec_deg : ndarray, shape (n,)
    least_arcsec : float
        A smaller radius of a list counts as this.

    Returns
    -------
    list of Watched
        In the order of lists, places and distances. A position near two places of a list is that of the nearer one.
    """
    from scipy.spatial import cKDTree

    found: list[Watched] = []
    if len(ra_deg) == 0:
        return found
    tree = cKDTree(unit_vectors(ra_deg, dec_deg))
    for one in lists:
        if one.moc:
            inside = np.flatnonzero(SkyRegion.of_moc_text(one.moc).holds(ra_deg, dec_deg))
            found += [Watched(one, int(row), -1, float("nan")) for row in inside]
            continue
        places = unit_vectors([p.ra_deg for p in one.places], [p.dec_deg for p in one.places])
        reach = chord(max(one.radius_arcsec, least_arcsec))
        pairs = cKDTree(places).sparse_distance_matrix(tree, reach, output_type="ndarray")
        pairs = pairs[np.lexsort((pairs["i"], pairs["v"], pairs["j"]))]
        nearest = pairs[np.unique(pairs["j"], return_index=True)[1]]
        found += [
            Watched(one, int(row), int(place), float(arcsec_of_chord(distance)))
            for place, row, distance in zip(nearest["i"], nearest["j"], nearest["v"], strict=True)
        ]
    return found


def nearest_of_each(watched: Sequence[Watched], star: npt.NDArray[np.int64]) -> list[Watched]:
    """Return of each place of a list the rows of its nearest star, and all rows of coverage maps.

    Parameters
    ----------
    watched : sequence of Watched
    star : ndarray of int64, shape (n,)
        The star of each row: it has one for each band.
    """
    best: dict[tuple[str, int], Watched] = {}
    for one in watched:
        held = best.get((one.listed.name, one.place))
        if held is None or one.separation_arcsec < held.separation_arcsec:
            best[one.listed.name, one.place] = one
    return [
        one for one in watched if one.place < 0 or star[one.row] == star[best[one.listed.name, one.place].row]
    ]


def comparison_stars(
    stars: NightStars, vectors: Floats, mag: Floats, band: npt.NDArray[np.object_], or_fainter: bool = False
) -> Places:
    """Return the stars of a night that some positions are compared with: near them, and about as bright.

    Parameters
    ----------
    stars : NightStars
        Those without a mean are left out.
    vectors : ndarray, shape (n, 3)
        Positions as unit vectors; a star at the very place is not compared with itself.
    mag : ndarray, shape (n,)
    band : ndarray of object, shape (n,)
    or_fainter : bool
        Where too few are as bright, take fainter ones too, the brightest first: where these are seen, a bright one is.

    Returns
    -------
    ndarray of int, shape (n, 20)
        Rows of `stars`, the nearest first; -1 where there are fewer.
    """
    from scipy.spatial import cKDTree

    chosen = np.full((len(mag), _MOST_COMPARISON), -1, np.intp)
    mags = stars.floats("mag")
    for name in set(band.tolist()):
        mine = np.flatnonzero(band == name)
        usable = np.flatnonzero(stars.has_mean & (stars.band == name))
        if not usable.size:
            continue
        k = min(_NEIGHBOURS, usable.size)
        distance, near = cKDTree(stars.vectors[usable]).query(vectors[mine], k=k)
        distance, near = distance.reshape(len(mine), k), usable[near.reshape(len(mine), k)]
        fainter = mags[near] - mag[mine, None]
        # Steps of a magnitude, of which the first holds the stars that are as bright.
        step = np.ceil(np.maximum(fainter, 0.0) / _ALIKE_MAG - 1.0) if or_fainter else fainter > _ALIKE_MAG
        usable_here = (fainter >= -_ALIKE_MAG) & (distance > chord(0.1)) & (or_fainter | (step == 0))
        order = np.argsort(np.where(usable_here, np.maximum(step, 0.0), np.inf), axis=1, kind="stable")
        order = order[:, :_MOST_COMPARISON]
        rows = np.arange(len(mine))[:, None]
        chosen[mine, : order.shape[1]] = np.where(usable_here[rows, order], near[rows, order], -1)
    return chosen

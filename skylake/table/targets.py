"""The table ``targets``: which positions a camera follows, from catalog stars and from what it keeps detecting.

Detections of many frames become clusters, clusters and catalog stars become targets, and targets keep the identifiers
that they had in earlier lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import apply_proper_motion, chord, healpix_index, julian_epoch, ra_dec, unit_vectors
from skylake.schema import conform, load

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Origin of targets that no catalog has.
DETECTIONS = "detections"
#: Detections are first put together in cells of this share of the distance within which they are one star.
_CELL_SHARE = 0.3
#: A neighbour that pulls the centroid by more than this share of the distance of matches keeps a star at its place.
_MOST_PULL = 1.0 / 30.0
#: Stars around another that show how frames lie beside the catalog there, at least and at most; and how far they may
#: be, in distances of matches.
_LEAST_AROUND, _MOST_AROUND, _AROUND_MATCHES = 5, 25, 400.0
#: Side of a HEALPix cell of order 0, degrees.
_ORDER_ZERO_DEG = 58.6
_LARGEST_ORDER = 29


@dataclass(frozen=True, slots=True)
class Clusters:
    """Detections that lie at one place; arrays of shape (n, ...).

    Attributes
    ----------
    total : ndarray, shape (n, 3)
        Sum of the unit vectors of the detections.
    n_detections, n_frames : ndarray of int64
        Detections, and different frames that they are on.
    flux : ndarray
        Sum of their fluxes, ADU/s.
    mjd : ndarray
        Sum of their times.
    n_sharp : ndarray
        Detections that are narrower than any star.
    pixels : ndarray, shape (n, 3)
        Sums of where they lie on the image, x and y, and of the squares of both.
    """

    total: Floats
    n_detections: Integers
    n_frames: Integers
    flux: Floats
    mjd: Floats
    n_sharp: Floats
    pixels: Floats

    def __len__(self) -> int:
        return len(self.flux)

    @property
    def vectors(self) -> Floats:
        """Mean positions as unit vectors."""
        return np.asarray(self.total / np.linalg.norm(self.total, axis=1, keepdims=True))

    def take(self, which: npt.NDArray[Any]) -> Clusters:
        """Return some of the clusters."""
        return Clusters(*(getattr(self, name)[which] for name in self.__slots__))

    @classmethod
    def joined(cls, some: list[Clusters]) -> Clusters:
        """Return clusters one after the other."""
        if not some:
            nothing, none = np.zeros(0), np.zeros(0, np.int64)
            return cls(np.zeros((0, 3)), none, none, nothing, nothing, nothing, np.zeros((0, 3)))
        return cls(*(np.concatenate([getattr(one, name) for one in some]) for name in cls.__slots__))


def cluster_detections(
    frame_id: Integers,
    ra_deg: Floats,
    dec_deg: Floats,
    flux: Floats,
    mjd: Floats,
    link_arcsec: float,
    pixels: tuple[Floats, Floats] | None = None,
    sharp: npt.NDArray[np.bool_] | None = None,
) -> Clusters:
    """Put detections together that are linked by steps of at most a distance.

    Parameters
    ----------
    frame_id, ra_deg, dec_deg, flux, mjd : ndarray, shape (n,)
    link_arcsec : float
    pixels : tuple of ndarray or None
        Where they lie on the image, x and y; None where that is not to be judged.
    sharp : ndarray of bool or None
        Those that are narrower than any star.
    """
    if len(frame_id) == 0:
        return Clusters.joined([])
    vectors = unit_vectors(ra_deg, dec_deg)
    group = link_detections(ra_deg, dec_deg, link_arcsec)
    pairs = np.unique(np.column_stack([group, frame_id]), axis=0)
    n = int(group.max()) + 1
    return Clusters(
        _sum(vectors, group),
        np.bincount(group, minlength=n),
        np.bincount(pairs[:, 0], minlength=n),
        np.bincount(group, np.nan_to_num(flux), n).astype(float),
        np.bincount(group, mjd, n).astype(float),
        np.bincount(group, np.zeros(len(group)) if sharp is None else sharp, n).astype(float),
        _sum(_moments(pixels, len(group)), group),
    )


def link_detections(ra_deg: Floats, dec_deg: Floats, link_arcsec: float) -> Integers:
    """Return the group of each detection, shape (n,): detections linked by steps of at most a distance are one."""
    if len(ra_deg) == 0:
        return np.zeros(0, np.int64)
    # The detections of one star fall into a few cells, however many there are.
    size = _CELL_SHARE * link_arcsec / 3600.0
    order = int(np.clip(np.ceil(np.log2(_ORDER_ZERO_DEG / size)), 0, _LARGEST_ORDER))
    _, cell = np.unique(healpix_index(ra_deg, dec_deg, order), return_inverse=True)
    cell = cell.reshape(-1)
    return _linked(_sum(unit_vectors(ra_deg, dec_deg), cell), link_arcsec)[cell]


def _moments(pixels: tuple[Floats, Floats] | None, n: int) -> Floats:
    x, y = (np.zeros(n), np.zeros(n)) if pixels is None else pixels
    return np.column_stack([x, y, x * x + y * y])


def merge_clusters(clusters: Clusters, link_arcsec: float) -> Clusters:
    """Return clusters of which those that belong together, being parts of a star on the edge of a pixel, are one."""
    if len(clusters) == 0:
        return clusters
    group = _linked(clusters.total, link_arcsec)
    n = int(group.max()) + 1
    return Clusters(
        _sum(clusters.total, group),
        np.bincount(group, clusters.n_detections, n).astype(np.int64),
        np.bincount(group, clusters.n_frames, n).astype(np.int64),
        np.bincount(group, clusters.flux, n).astype(float),
        np.bincount(group, clusters.mjd, n).astype(float),
        np.bincount(group, clusters.n_sharp, n).astype(float),
        _sum(clusters.pixels, group),
    )


def _sum(vectors: Floats, group: Integers) -> Floats:
    n = int(group.max()) + 1
    return np.column_stack([np.bincount(group, vectors[:, axis], n) for axis in range(3)])


def _linked(vectors: Floats, link_arcsec: float) -> Integers:
    """Return the number of the group of each place."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    places = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = cKDTree(places).query_pairs(chord(link_arcsec), output_type="ndarray")
    n = len(places)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


@dataclass(frozen=True, slots=True)
class CatalogStars:
    """Stars of a catalog that are wanted as targets; arrays of shape (n,)."""

    name: str
    epoch: float
    ref_id: Integers
    ra_deg: Floats
    dec_deg: Floats
    pm_ra_mas_yr: Floats
    pm_dec_mas_yr: Floats
    mag: Floats

    def at_time_of(self, clusters: Clusters) -> Floats:
        """Return where the stars were in the mean of detections, as unit vectors, shape (n, 3)."""
        mjd = float(clusters.mjd.sum() / clusters.n_detections.sum()) if len(clusters) else np.nan
        years = julian_epoch(mjd) - self.epoch if np.isfinite(mjd) else 0.0
        now = apply_proper_motion(self.ra_deg, self.dec_deg, self.pm_ra_mas_yr, self.pm_dec_mas_yr, years)
        return unit_vectors(*now)

    def take(self, which: npt.NDArray[Any]) -> CatalogStars:
        """Return some of the stars."""
        columns = (getattr(self, name)[which] for name in self.__slots__[2:])
        return CatalogStars(self.name, self.epoch, *columns)


def combine(
    stars: CatalogStars | None, clusters: Clusters, match_arcsec: float, blend_arcsec: float = 0.0
) -> pa.Table:
    """Return targets without identifiers: catalog stars, then clusters that are none of them.

    A catalog star that was detected is put where it is seen, moved back to the epoch of the catalog by its proper
    motion: a frame has to be measured where its WCS puts the star. Two catalog stars that share a cluster stay where
    the catalog has them, and so does a star to whose image others within `blend_arcsec` may add so much light that
    the centroid of both would be off: the fit separates them at the places of the catalog. What is detected between
    two such stars is their blend, and no target. Stars that are not moved one by one are moved by what the stars
    around them have in common: frames are shifted to those as a whole.

    Returns
    -------
    pyarrow.Table
        Columns of ``targets`` but for camera, version, star_id, n_frames and the index.
    """
    from scipy.spatial import cKDTree

    absorbed = np.zeros(len(clusters), bool)
    pieces = []
    if stars is not None and len(stars.ref_id):
        now = stars.at_time_of(clusters)
        ra, dec = stars.ra_deg.copy(), stars.dec_deg.copy()
        seen, flux = np.zeros(len(ra), np.int64), np.full(len(ra), np.nan)
        if len(clusters):
            distance, nearest = cKDTree(now).query(clusters.vectors)
            absorbed = distance <= chord(match_arcsec)
            away, own = cKDTree(clusters.vectors).query(now)
            alone = np.bincount(own, away <= chord(match_arcsec), len(clusters))[own] == 1
            pulled, between = _blends(stars, now, clusters.vectors, match_arcsec, blend_arcsec)
            absorbed |= between
            moves = (away <= chord(match_arcsec)) & alone & (nearest[own] == np.arange(len(own)))
            taken = np.flatnonzero(moves & (pulled <= _MOST_PULL * match_arcsec))
            seen_ra, seen_dec = ra_dec(clusters.vectors[own[taken]])
            when = julian_epoch(clusters.mjd[own[taken]] / clusters.n_detections[own[taken]])
            ra[taken], dec[taken] = apply_proper_motion(
                seen_ra, seen_dec, -stars.pm_ra_mas_yr[taken], -stars.pm_dec_mas_yr[taken], when - stars.epoch
            )
            shift = _common_shift(now, taken, clusters.vectors[own[taken]], match_arcsec)
            others = np.setdiff1d(np.flatnonzero(shift.any(axis=1)), taken)
            ra[others], dec[others] = ra_dec(unit_vectors(ra[others], dec[others]) + shift[others])
            seen[taken] = clusters.n_frames[own[taken]]
            flux[taken] = (clusters.flux / clusters.n_detections)[own[taken]]
        pieces.append(
            _rows(
                stars.name,
                ra,
                dec,
                stars.epoch,
                seen,
                flux,
                stars.ref_id,
                stars.mag,
                stars.pm_ra_mas_yr,
                stars.pm_dec_mas_yr,
            )
        )
    rest = clusters.take(~absorbed)
    ra, dec = ra_dec(rest.vectors)
    epoch = julian_epoch(rest.mjd / rest.n_detections)
    pieces.append(_rows(DETECTIONS, ra, dec, epoch, rest.n_frames, rest.flux / rest.n_detections))
    return pa.concat_tables(pieces)


def _common_shift(places: Floats, taken: npt.NDArray[np.intp], seen: Floats, match_arcsec: float) -> Floats:
    """Return by how much the stars around each star are seen beside the catalog, differences of unit vectors.

    It is the median of the nearest of them; 0 where they are too few.
    """
    from scipy.spatial import cKDTree

    shift = np.zeros(places.shape)
    if len(taken) < _LEAST_AROUND:
        return shift
    away, near = cKDTree(places[taken]).query(places, k=min(_MOST_AROUND, len(taken)))
    inside = away <= chord(_AROUND_MATCHES * match_arcsec)
    some = np.flatnonzero(inside.sum(axis=1) >= _LEAST_AROUND)
    moved = (seen - places[taken])[near[some]]
    shift[some] = np.nanmedian(np.where(inside[some][..., None], moved, np.nan), axis=1)
    return shift


def _blends(
    stars: CatalogStars, places: Floats, clusters: Floats, match_arcsec: float, blend_arcsec: float
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return how far neighbours may pull the centroid of each star, arcseconds, and which clusters are blends.

    Parameters
    ----------
    stars : CatalogStars
        A star of unknown magnitude counts as one that is as bright as its neighbour.
    places, clusters : ndarray, shape (n, 3) and (m, 3)
        Unit vectors of stars and of clusters.
    match_arcsec, blend_arcsec : float
    """
    from scipy.spatial import cKDTree

    pulled, between = np.zeros(len(places)), np.zeros(len(clusters), bool)
    pairs = cKDTree(places).query_pairs(chord(blend_arcsec), output_type="ndarray") if blend_arcsec else None
    if pairs is None or len(pairs) == 0:
        return pulled, between
    first, second = pairs.T
    apart = places[second] - places[first]
    distance = np.linalg.norm(apart, axis=1)
    share = 1.0 / (1.0 + 10.0 ** (0.4 * np.nan_to_num(stars.mag[second] - stars.mag[first])))
    arcsec = np.degrees(distance) * 3600.0
    np.add.at(pulled, first, share * arcsec)
    np.add.at(pulled, second, (1.0 - share) * arcsec)
    # The blend of two stars lies between them, anywhere as their light and the seeing have it.
    tree = cKDTree(clusters)
    for one, vector, length in zip(first, apart, distance, strict=True):
        near = np.asarray(
            tree.query_ball_point(places[one] + 0.5 * vector, 0.5 * length + chord(match_arcsec)), int
        )
        if near.size:
            along = np.clip((clusters[near] - places[one]) @ vector / max(length, 1e-15) ** 2, 0.0, 1.0)
            off = np.linalg.norm(clusters[near] - places[one] - along[:, None] * vector, axis=1)
            between[near[off <= chord(match_arcsec)]] = True
    return pulled, between


def _rows(
    origin: str,
    ra: Floats,
    dec: Floats,
    epoch: Any,
    seen: Integers,
    flux: Floats,
    ref_id: Integers | None = None,
    mag: Floats | None = None,
    pm_ra: Floats | None = None,
    pm_dec: Floats | None = None,
) -> pa.Table:
    n = len(ra)

    def single(values: Floats | None) -> pa.Array:
        return (
            pa.nulls(n, pa.float32())
            if values is None
            else pa.array(values, pa.float64(), from_pandas=True).cast(pa.float32())
        )

    return pa.table(
        {
            "ra_deg": ra,
            "dec_deg": dec,
            "epoch": np.broadcast_to(np.asarray(epoch, float), (n,)),
            "pm_ra_mas_yr": single(pm_ra),
            "pm_dec_mas_yr": single(pm_dec),
            "origin": pa.repeat(origin, n),
            "ref_id": pa.nulls(n, pa.int64()) if ref_id is None else pa.array(ref_id, pa.int64()),
            "mag": single(mag),
            "flux_adu_per_s": single(flux),
            "n_seen": pa.array(seen, pa.int64()).cast(pa.int32()),
        }
    )


def identify(rows: pa.Table, earlier: pa.Table, match_arcsec: float) -> Integers:
    """Return the identifiers of targets: those of earlier lists, else from their positions.

    A catalog star is known by its identifier in the catalog, everything else by its place. A new target has the
    HEALPix index of its position, or the next that no other has.

    Parameters
    ----------
    rows : pyarrow.Table
        As :func:`combine` gives it.
    earlier : pyarrow.Table
        Rows of all earlier lists of the camera; the last row of an identifier counts.
    match_arcsec : float
        Distance within which a target is the same as before.
    """
    found = np.full(rows.num_rows, -1, np.int64)
    known_ids, known = _last_rows(earlier)
    _by_reference(rows, known_ids, known, found)
    _by_place(rows, known_ids, known, match_arcsec, found)
    index = healpix_index(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    taken = set(known_ids.tolist())
    free = np.flatnonzero(found < 0)
    new = np.unique(index[free])
    if len(new) == len(free) and taken.isdisjoint(new.tolist()):
        found[free] = index[free]
        return found
    for place in free[np.argsort(index[free], kind="stable")]:
        wanted = int(index[place])
        while wanted in taken:
            wanted += 1
        taken.add(wanted)
        found[place] = wanted
    return found


def _last_rows(earlier: pa.Table) -> tuple[Integers, pa.Table]:
    """Return each identifier of earlier lists, and its row of the largest version."""
    ordered = earlier.sort_by([("version", "descending"), ("star_id", "ascending")])
    ids, first = np.unique(ordered["star_id"].to_numpy(), return_index=True)
    return np.asarray(ids, np.int64), ordered.take(pa.array(first))


def _by_reference(rows: pa.Table, ids: Integers, known: pa.Table, found: Integers) -> None:
    """Give catalog stars the identifiers that they had."""
    names = {
        (origin, ref): star
        for origin, ref, star in zip(
            known["origin"].to_pylist(), known["ref_id"].to_pylist(), ids.tolist(), strict=True
        )
        if ref is not None
    }
    if names:
        pairs = zip(rows["origin"].to_pylist(), rows["ref_id"].to_pylist(), strict=True)
        found[:] = [names.get(pair, -1) for pair in pairs]


def _by_place(rows: pa.Table, ids: Integers, known: pa.Table, match_arcsec: float, found: Integers) -> None:
    """Give targets the identifiers of those that were at their place, each to the nearest."""
    from scipy.spatial import cKDTree

    free = np.flatnonzero(found < 0)
    left = np.flatnonzero(~np.isin(ids, found))
    if free.size == 0 or left.size == 0:
        return
    places = unit_vectors(rows["ra_deg"].to_numpy()[free], rows["dec_deg"].to_numpy()[free])
    before = unit_vectors(known["ra_deg"].to_numpy()[left], known["dec_deg"].to_numpy()[left])
    distance, nearest = cKDTree(before).query(places)
    _, back = cKDTree(places).query(before)
    same = (distance <= chord(match_arcsec)) & (back[nearest] == np.arange(free.size))
    found[free[same]] = ids[left[nearest[same]]]


def targets_table(
    rows: pa.Table, star_id: Integers, n_frames: Integers, camera: str, version: int
) -> pa.Table:
    """Return targets as rows of the schema."""
    n = rows.num_rows
    columns = {name: rows[name] for name in rows.column_names}
    columns |= {
        "_healpix_29": healpix_index(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()),
        "camera": pa.repeat(camera, n),
        "version": np.full(n, version, np.int32),
        "star_id": star_id,
        "n_frames": np.asarray(n_frames, np.int32),
    }
    schema = load("targets")
    return conform(pa.table({name: columns[name] for name in schema.names if name in columns}), schema)

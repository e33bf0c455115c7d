"""What appeared in a night and was not there in the nights before: new places, and stars that were too faint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import calibrate_matches
from skylake.calibration.unlisted_stars import DETECTIONS, as_matches
from skylake.core.bands import mag_column
from skylake.core.flags import SPOILED_OR_BLENDED
from skylake.core.sphere import chord, healpix_index, ra_dec, unit_vectors
from skylake.flow.watching.changed_stars import Judged, Row, WatchedNight, described, past_of, star_of
from skylake.flow.watching.episodes import NAMED_BY
from skylake.flow.watching.night_frames import NightDetections, NightFrames
from skylake.flow.watching.night_tables import (
    DETECTED,
    LEAST_GOOD,
    NightStars,
    past_nights,
    ranges_of,
    rows_in_ranges,
)
from skylake.flow.watching.watched_stars import Watched, comparison_stars, watched_among
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import ranges_around
from skylake.table.alerts import APPEARED, RETURNED, VANISHED
from skylake.table.night_medians import NightMedians, night_medians
from skylake.table.object_status import JOINED
from skylake.table.targets import link_detections

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Detections of one place are linked by steps of at most this part of the width of stars.
_LINK_WIDTHS = 0.5
#: A place is another one beyond so many widths of stars.
_SAME_WIDTHS = 1.5
#: Frames that show a new place, at least, and the share of those in the field; one blip of noise is no star.
_LEAST_FRAMES, _LEAST_SHARE = 2, 0.1
#: Earlier nights, by the median of so many comparison stars at least, in which it would have been seen.
_LEAST_NIGHTS, _LEAST_COMPARISON = 2, 5
#: A star of the catalog that is no more magnitudes fainter may be what was detected.
_FAINTER_MAG = 1.5
#: A star of the catalog that is seen for the first time is at least so much brighter than the catalog has it.
_BRIGHTER_MAG = 1.0
#: Cells around new places that are read of earlier nights have at most this order: 13 arcseconds.
_FINEST = 14


@dataclass(frozen=True, slots=True)
class _NewPlaces:
    """Groups of clean detections that no catalog star is matched with; arrays of shape (n,)."""

    ra_deg: Floats
    dec_deg: Floats
    band: npt.NDArray[np.object_]
    medians: NightMedians

    def __len__(self) -> int:
        return len(self.ra_deg)

    def take(self, which: Places) -> _NewPlaces:
        """Return some of them."""
        medians = NightMedians(*(getattr(self.medians, name)[which] for name in NightMedians.__slots__))
        return _NewPlaces(self.ra_deg[which], self.dec_deg[which], self.band[which], medians)

    @property
    def vectors(self) -> Floats:
        """Positions as unit vectors."""
        return unit_vectors(self.ra_deg, self.dec_deg)


def appeared(
    night: WatchedNight,
    frames: NightFrames,
    detections: NightDetections,
    stars: NightStars,
    catalog: ReferenceCatalog | None,
) -> list[Row]:
    """Return the alerts of places where no star of the catalog is, and nothing was in earlier nights that show them.

    Those of what had appeared, vanished, and is there again are among them.

    Parameters
    ----------
    night : WatchedNight
    frames : NightFrames
    detections : NightDetections
    stars : NightStars
        Those that were detected.
    catalog : ReferenceCatalog or None
        That which calibrates the camera.
    """
    if not len(frames):
        return []
    places = _new_places(night, frames, detections)
    returned = _returned(night, frames, places)
    places = places.take(_without_star(places, frames, catalog))
    n_nights, n_compared = _shown_before(night, stars, places)
    enough = (n_nights >= _LEAST_NIGHTS) & (n_compared >= _LEAST_COMPARISON)
    enough &= frames.surely_found(places.medians.mag, places.band)
    chosen = np.flatnonzero(enough & (places.medians.n_good >= LEAST_GOOD))
    places, n_nights, n_compared = places.take(chosen), n_nights[chosen], n_compared[chosen]
    chosen = np.flatnonzero(~_seen_before(night, places.vectors, _SAME_WIDTHS * frames.fwhm_arcsec))
    places, n_nights, n_compared = places.take(chosen), n_nights[chosen], n_compared[chosen]
    watched = watched_among(night.lists, places.ra_deg, places.dec_deg, _SAME_WIDTHS * frames.scale_arcsec)
    identifiers = _identifiers(night, places, _link_arcsec(frames))
    return returned + [_row(one, places, int(identifiers[one.row]), n_nights, n_compared) for one in watched]


def appeared_stars(night: WatchedNight, judged: Judged, frames: NightFrames) -> list[Row]:
    """Return the alerts of catalog stars that are seen for the first time, brighter than the catalog has them."""
    place = np.full(len(judged.stars), -1)
    place[judged.rows] = np.arange(len(judged.rows))
    mag, listed = judged.medians.mag, judged.stars.floats("ref_mag")[judged.rows]
    is_new = (judged.changes.n_nights == 0) & (judged.medians.n_good >= LEAST_GOOD) & np.isfinite(mag)
    is_new &= frames.surely_found(mag, judged.stars.band[judged.rows])
    # Catalogs are off by more than errors say, and stars near the limit are found where noise makes them brighter.
    brighter = listed - mag
    is_new &= ~(brighter < _BRIGHTER_MAG)
    is_new &= (judged.changes.n_comparison >= _LEAST_COMPARISON) & (judged.n_compared_nights >= _LEAST_NIGHTS)
    candidates = np.flatnonzero(is_new)
    vectors = judged.stars.vectors[judged.rows[candidates]]
    reach = _SAME_WIDTHS * frames.fwhm_arcsec if len(frames) else 0.0
    is_new[candidates] = ~_seen_before(night, vectors, reach)
    found = []
    for one in judged.watched:
        i = int(place[one.row])
        if is_new[i] and not brighter[i] < max(one.listed.by_mag, one.listed.sigma * judged.medians.err[i]):
            n_nights = int(judged.n_compared_nights[i])
            found.append(
                described(judged, one, i)
                | {"kind": APPEARED, "measured": "detected", "n_past_nights": n_nights}
            )
    return found


def _identifiers(night: WatchedNight, places: _NewPlaces, link_arcsec: float) -> npt.NDArray[np.int64]:
    """Return the identifiers of new places: that of the object there, which a target keeps, else the HEALPix index."""
    from scipy.spatial import cKDTree

    found = np.asarray(healpix_index(places.ra_deg, places.dec_deg), np.int64)
    if not len(places):
        return found
    columns = ("camera", "object_id", "status", "ref_id", "ra_deg", "dec_deg")
    ranges = ranges_around(places.ra_deg, places.dec_deg, link_arcsec, _FINEST)
    rows = rows_in_ranges(night.snapshot, "objects", ranges, columns)
    mine = pc.and_(pc.equal(rows["camera"], night.camera), pc.is_null(rows["ref_id"]))
    rows = rows.filter(pc.and_(mine, pc.not_equal(rows["status"], JOINED))).sort_by("object_id")
    if rows.num_rows:
        tree = cKDTree(unit_vectors(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()))
        distance, nearest = tree.query(places.vectors, distance_upper_bound=chord(link_arcsec))
        near = np.isfinite(distance)
        found[near] = rows["object_id"].to_numpy()[nearest[near]]
    return found


def _row(one: Watched, places: _NewPlaces, identifier: int, n_nights: Floats, n_compared: Places) -> Row:
    i = one.row
    ra, dec = places.ra_deg[i], places.dec_deg[i]
    named = pa.table(
        {
            "catalog": [DETECTIONS],
            "object_id": [identifier],
            "band": [places.band[i]],
            "ra_deg": [ra],
            "dec_deg": [dec],
        }
    )
    return star_of(named, Watched(one.listed, 0, one.place, one.separation_arcsec)) | {
        **_measured(places, i),
        "kind": APPEARED,
        "n_past_nights": int(n_nights[i]),
        "n_comparison": int(n_compared[i]),
    }


def _measured(places: _NewPlaces, i: int) -> Row:
    medians = places.medians
    return {
        "measured": "detected",
        "mag": medians.mag[i],
        "mag_random_err": medians.err[i],
        "n_points": medians.n_points[i],
        "n_good": medians.n_good[i],
        "flags": medians.flags[i],
        "mjd_mid": medians.mjd_mid[i],
        "frame_id": medians.frame_id[i],
    }


def _returned(night: WatchedNight, frames: NightFrames, places: _NewPlaces) -> list[Row]:
    """Return the alerts of places where something had appeared that vanished, and is there again."""
    watching = {one.name for one in night.lists}
    good = (places.medians.n_good >= LEAST_GOOD) & np.isfinite(places.medians.mag)
    found = []
    for last in night.episodes.going_on.values():
        if (last["kind"], last["catalog"]) != (VANISHED, DETECTIONS) or last["watch_list"] not in watching:
            continue
        away = np.linalg.norm(places.vectors - unit_vectors([last["ra_deg"]], [last["dec_deg"]]), axis=1)
        near = good & (away <= chord(_SAME_WIDTHS * frames.fwhm_arcsec)) & (places.band == last["band"])
        if near.any():
            i = int(np.argmin(np.where(near, away, np.inf)))
            row = {name: last[name] for name in NAMED_BY} | _measured(places, i)
            found.append(row | {"kind": RETURNED, "n_past_nights": 0, "n_comparison": 0})
    return found


def _link_arcsec(frames: NightFrames) -> float:
    """Return how far apart two detections of one place may be."""
    return max(_LINK_WIDTHS * frames.fwhm_arcsec, frames.scale_arcsec)


def _new_places(night: WatchedNight, frames: NightFrames, detections: NightDetections) -> _NewPlaces:
    """Return where clean detections are that are watched, on enough frames, and matched with no star."""
    keys = ["frame_id", "source_no"]
    clean = pc.equal(pc.bit_wise_and(detections.rows["flags"], int(SPOILED_OR_BLENDED)), 0)
    rows = detections.rows.filter(clean)
    rows = rows.filter(pc.is_in(rows["frame_id"], frames.frames["frame_id"].combine_chunks()))
    rows = rows.join(night.read("matches", keys), keys, join_type="left anti").combine_chunks()
    ra, dec = rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()
    watched = watched_among(night.lists, ra, dec, _SAME_WIDTHS * frames.scale_arcsec)
    near = np.unique(np.array([one.row for one in watched], np.intp))
    rows, ra, dec = rows.take(pa.array(near)), ra[near], dec[near]
    if not len(near):
        return _places(rows, np.zeros(0, np.int64), 0, frames)
    link = _link_arcsec(frames)
    band = frames.band[np.searchsorted(frames.frames["frame_id"].to_numpy(), rows["frame_id"].to_numpy())]
    # Each band of a place is a group.
    _, code = np.unique(band.astype(str), return_inverse=True)
    group = np.unique(np.column_stack([link_detections(ra, dec, link), code]), axis=0, return_inverse=True)[
        1
    ].reshape(-1)
    pairs = np.unique(np.column_stack([group, rows["frame_id"].to_numpy()]), axis=0)
    n_frames = np.bincount(pairs[:, 0])[group]
    most = np.bincount(np.unique(frames.band.astype(str), return_inverse=True)[1]).max()
    least = np.full(len(group), max(_LEAST_FRAMES, _LEAST_SHARE * most))
    rows, group = rows.filter(pa.array(n_frames >= least)), group[n_frames >= least]
    numbers, group = np.unique(group, return_inverse=True)
    return _places(_whole(night, rows), group.reshape(-1), len(numbers), frames)


def _whole(night: WatchedNight, rows: pa.Table) -> pa.Table:
    """Return detections with all their columns, in the same order."""
    order = rows.select(["frame_id", "source_no"]).append_column("order", pa.array(np.arange(rows.num_rows)))
    chosen = pc.field("frame_id").isin(pc.unique(rows["frame_id"]))
    every = night.read("sources", None, chosen)
    numbers = every.select(["frame_id", "source_no"]).append_column(
        "place", pa.array(np.arange(every.num_rows))
    )
    joined = order.join(numbers, ["frame_id", "source_no"], join_type="inner").sort_by("order")
    return every.take(joined["place"])


def _places(rows: pa.Table, group: npt.NDArray[np.int64], n: int, frames: NightFrames) -> _NewPlaces:
    """Return groups of detections with the median of their places and magnitudes."""
    ra, dec, band = np.zeros(n), np.zeros(n), np.full(n, "", object)
    if n == 0:
        nothing, none = np.zeros(0), np.zeros(0, np.int64)
        return _NewPlaces(ra, dec, band, night_medians(none, 0, nothing, nothing, none, nothing, none))
    vectors = unit_vectors(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    middle = np.column_stack([np.bincount(group, vectors[:, axis], n) for axis in range(3)])
    ra, dec = ra_dec(middle)
    frame = np.searchsorted(frames.frames["frame_id"].to_numpy(), rows["frame_id"].to_numpy())
    band[group] = frames.band[frame]
    measured = as_matches(rows, ra[group], dec[group], frames.zeropoints)
    photometry = calibrate_matches(measured, frames.frames, frames.zeropoints)
    err = np.sqrt(np.maximum(photometry.mag_err**2 - photometry.zp_systematic_err**2, 0.0))
    flags, mjd = rows["flags"].to_numpy().astype(np.int64), rows["mjd_mid"].to_numpy()
    medians = night_medians(group, n, photometry.mag, err, flags, mjd, rows["frame_id"].to_numpy())
    return _NewPlaces(ra, dec, band, medians)


def _without_star(places: _NewPlaces, frames: NightFrames, catalog: ReferenceCatalog | None) -> Places:
    """Return the places at which the catalog has no star that may be what was detected."""
    if catalog is None:
        return np.arange(len(places))
    reach = _SAME_WIDTHS * frames.fwhm_arcsec
    free = []
    for i in range(len(places)):
        column = mag_column(places.band[i])
        columns = ["ra_deg", "dec_deg", *([column] if column in catalog.columns else [])]
        near = catalog.cone(places.ra_deg[i], places.dec_deg[i], reach / 3600.0, columns)
        mag = np.asarray(near[columns[-1]].to_numpy(zero_copy_only=False), float)
        # A star of unknown magnitude may be any.
        rivals = ~(mag > places.medians.mag[i] + _FAINTER_MAG) if len(columns) > 2 else np.ones(len(mag))
        if not rivals.any():
            free.append(i)
    return np.array(free, np.intp)


def _shown_before(night: WatchedNight, stars: NightStars, places: _NewPlaces) -> tuple[Floats, Places]:
    """Return the median number of earlier nights of stars near each place that are no brighter, and their number."""
    compared = comparison_stars(stars, places.vectors, places.medians.mag, places.band, or_fainter=True)
    known = np.unique(compared[compared >= 0])
    if not len(known):
        return np.zeros(len(places)), np.zeros(len(places), np.intp)
    rows = past_nights(
        night.snapshot, DETECTED, ranges_of(np.unique(stars.index[known])), night.camera, night.night
    )
    counts = past_of(rows, stars.rows.take(pa.array(known))).counts
    n_nights = [
        np.median(counts[np.searchsorted(known, some[some >= 0])]) if (some >= 0).any() else 0.0
        for some in compared
    ]
    return np.array(n_nights, float), (compared >= 0).sum(axis=1)


def _seen_before(night: WatchedNight, vectors: Floats, reach_arcsec: float) -> npt.NDArray[np.bool_]:
    """Return which places have detections of an earlier night, at least as many as a star needs to be new."""
    seen = np.zeros(len(vectors), bool)
    last = _last_before(night)
    if last is not None:
        version = night.snapshot.version("sources")
        held = version.part(last)
        seen = _detected(_read(night, [] if held is None else version.slices_of(held)), vectors, reach_arcsec)
    rest = np.flatnonzero(~seen)
    if rest.size:
        # Most that is no star of the catalog was there the night before, so few places are looked up in all nights.
        ranges = ranges_around(*ra_dec(vectors[rest]), reach_arcsec, _FINEST)
        columns = ("camera", "night", "frame_id", "ra_deg", "dec_deg")
        rows = rows_in_ranges(night.snapshot, "sources", ranges, columns)
        earlier = pc.and_(pc.equal(rows["camera"], night.camera), pc.less(rows["night"], night.night))
        seen[rest] = _detected(rows.filter(earlier), vectors[rest], reach_arcsec)
    return seen


def _read(night: WatchedNight, slices: Sequence[object]) -> pa.Table:
    from skylake.lake.storage.slices import read_files

    return read_files("sources", slices, ["night", "frame_id", "ra_deg", "dec_deg"])  # type: ignore[arg-type]


def _last_before(night: WatchedNight) -> str | None:
    """Return the part of the last night of the camera before this one."""
    parts = night.snapshot.parts("sources").values()
    earlier = [
        (part.night, part.name)
        for part in parts
        if part.camera == night.camera and part.night and part.night < night.night
    ]
    return max(earlier)[1] if earlier else None


def _detected(rows: pa.Table, vectors: Floats, reach_arcsec: float) -> npt.NDArray[np.bool_]:
    """Return which places have detections on several frames of a night within reach."""
    from scipy.spatial import cKDTree

    if rows.num_rows == 0 or not len(vectors):
        return np.zeros(len(vectors), bool)
    tree = cKDTree(unit_vectors(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()))
    nights = rows["night"].to_numpy()
    found = np.zeros(len(vectors), bool)
    for i, near in enumerate(tree.query_ball_point(vectors, chord(reach_arcsec))):
        found[i] = bool(len(near)) and np.unique(nights[near], return_counts=True)[1].max() >= _LEAST_FRAMES
    return found

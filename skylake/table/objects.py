"""The table ``objects``: what a camera sees at one place, from the clusters of its nights in the order of time.

A night adds to the objects that there are, and reads neither clusters nor detections of other nights. So a night costs
what the table holds, whatever the number of nights. By definition objects are those of nights in the order of time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import (
    apply_proper_motion,
    arcsec_of_chord,
    chord,
    healpix_index,
    julian_epoch,
    unit_vectors,
)
from skylake.schema import TableSchema, arrow_schema, conform, empty_table, load
from skylake.settings import Objects
from skylake.table.band_statistics import MORE_BANDS, OF_BANDS, bands_of, join_bands, split_bands, with_bands
from skylake.table.clusters import link_arcsec
from skylake.table.coverage import NAME as COVERAGE
from skylake.table.coverage import PLACE_COLUMNS, Coverage, SkySeen, coverage_of
from skylake.table.object_places import (
    FoldedPlaces,
    known_places,
    nearest_pairs,
    place_of_objects,
    split_from,
)
from skylake.table.object_statistics import merged_statistics
from skylake.table.object_status import (
    EVIDENCE,
    JOINED,
    PROVISIONAL,
    QUALIFIED,
    not_forgotten,
    qualifies,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Columns = dict[str, npt.NDArray[Any]]

NAME = "objects"
#: Columns of ``frames`` and of ``targets`` that a fold reads; of ``clusters`` all.
FRAME_COLUMNS = ("fwhm_px", *PLACE_COLUMNS)
TARGET_COLUMNS = (
    "star_id",
    "ra_deg",
    "dec_deg",
    "epoch",
    "pm_ra_mas_yr",
    "pm_dec_mas_yr",
    "origin",
    "ref_id",
)
#: No identifier.
NONE = -1


@dataclass(frozen=True, slots=True)
class NightSeen:
    """What was seen in a night.

    Attributes
    ----------
    night : int
    clusters : pyarrow.Table
        All rows of the night and camera, in any order.
    frames : pyarrow.Table
        :data:`FRAME_COLUMNS` of its good frames.
    """

    night: int
    clusters: pa.Table
    frames: pa.Table


@dataclass(frozen=True, slots=True)
class Folded:
    """What all nights of a camera up to one come to.

    Attributes
    ----------
    objects, coverage : pyarrow.Table
        Rows of these tables.
    """

    objects: pa.Table
    coverage: pa.Table

    @classmethod
    def nothing(cls) -> Folded:
        """Return what there is before the first night."""
        return cls(empty_table(load(NAME)), empty_table(load(COVERAGE)))


def fold(
    before: Folded,
    nights: Iterable[NightSeen],
    targets: pa.Table,
    settings: Objects,
    camera: str,
) -> Folded:
    """Return the objects of a camera, and the sky that it has covered, after some more nights.

    Parameters
    ----------
    before : Folded
        After all earlier nights.
    nights : iterable of NightSeen
        In the order of time.
    targets : pyarrow.Table
        :data:`TARGET_COLUMNS` of the list in force: a new object at the place of a target has its ``star_id``.
    settings : Objects
    camera : str

    Raises
    ------
    ValueError
        If a night is not later than those before it.
    """
    schema = load(NAME)
    known, sky = _arrays(before.objects), SkySeen.of(before.coverage)
    last = int(max(known["night_last"].max(initial=0), sky.last.max(initial=0)))
    for one in nights:
        if one.night < last:
            raise ValueError(f"night {one.night} comes after {last}")
        last = one.night
        coverage = coverage_of(one.frames)
        known = _folded(known, one, coverage, sky, targets, settings)
        sky = sky.after(coverage, one.night)
    known["camera"] = np.full(len(known["object_id"]), camera, object)
    return Folded(_table(known, schema), sky.table(camera))


def _folded(
    known: Columns,
    seen: NightSeen,
    coverage: Coverage,
    sky: SkySeen,
    targets: pa.Table,
    settings: Objects,
) -> Columns:
    """Return objects after one more night, given what it covers and what earlier nights did."""
    found = _arrays(seen.clusters)
    bands = sorted({*bands_of(known), *bands_of(found)})
    known, found = with_bands(known, bands), with_bands(found, bands)
    order = np.argsort(found["cluster_no"], kind="stable")
    found = {name: values[order] for name, values in found.items()}
    known = not_forgotten(known, seen.night, settings)
    link = link_arcsec(seen.frames)
    mjd = float(np.mean(found["mjd_mean"])) if len(order) else np.nan
    places = known_places(known, mjd)
    owner = _owners(known, found, places.now, link)
    own = np.flatnonzero(owner >= 0)
    known = _added(known, found, owner[own], own, places)
    new = np.flatnonzero(owner < 0)
    known = _begun(known, {name: values[new] for name, values in found.items()}, seen.night, link, targets)
    n_old = len(places.now)
    before = sky.well_inside(known["_healpix_29"][n_old:])
    known["n_nights_before"][n_old:], known["n_frames_before"][n_old:] = before
    known["_seen"] = np.append(
        np.bincount(owner[own], minlength=len(places.now)) > 0, np.ones(new.size, bool)
    )
    tonight = _count_night(known, found, owner, coverage.frames_at(known["_healpix_29"]), seen.night)
    known["status"][qualifies(known, tonight, settings)] = QUALIFIED
    known = _joined(known, link)
    del known["_seen"]
    order = np.argsort(known["object_id"])
    return {name: values[order] for name, values in known.items()}


def _owners(known: Columns, found: Columns, places: Floats, link: float) -> Integers:
    """Return the object of each cluster; :data:`NONE` for one that begins a new object.

    A cluster of a catalog star belongs to the object of that star, or to one without a star at its place. Any other
    belongs to the nearest object that has no cluster yet, one to one.
    """
    owner = np.full(len(found["ref_id"]), NONE, np.int64)
    alive = known["status"] != JOINED
    for catalog in {one for one in found["catalog"].tolist() if one is not None}:
        mine = np.flatnonzero((known["catalog"] == catalog) & alive)
        theirs = np.flatnonzero(found["catalog"] == catalog)
        order = mine[np.argsort(known["ref_id"][mine], kind="stable")]
        at = np.searchsorted(known["ref_id"][order], found["ref_id"][theirs])
        at = np.minimum(at, len(order) - 1)
        if len(order):
            same = known["ref_id"][order[at]] == found["ref_id"][theirs]
            owner[theirs[same]] = order[at[same]]
    seen = unit_vectors(found["ra_deg"], found["dec_deg"])
    has_star, is_star = known["ref_id"] != NONE, found["ref_id"] != NONE
    for some, allowed in ((is_star, alive & ~has_star), (~is_star, alive)):
        free = allowed.copy()
        free[owner[owner >= 0]] = False
        left, objects = np.flatnonzero(some & (owner < 0)), np.flatnonzero(free)
        mine, theirs = nearest_pairs(seen[left], places[objects], chord(link))
        owner[left[mine]] = objects[theirs]
    return owner


def _added(known: Columns, found: Columns, rows: Integers, own: Integers, places: FoldedPlaces) -> Columns:
    """Return objects with what clusters add to them, cluster `own` to object `rows`."""
    old = {name: values[rows] for name, values in known.items()}
    more = {name: values[own] for name, values in found.items()}
    placed, apart = place_of_objects(old, more, places.motion[rows])
    merged = merged_statistics(old, more, apart) | placed
    has_star = more["ref_id"] != NONE
    merged["ref_id"] = np.where(has_star, more["ref_id"], old["ref_id"])
    merged["catalog"] = np.where(has_star, more["catalog"], old["catalog"])
    merged["mjd_last"] = np.maximum(old["mjd_last"], more["mjd_last"])
    merged["mjd_first"] = np.minimum(old["mjd_first"], more["mjd_first"])
    made = {name: values.copy() for name, values in known.items()}
    for name, values in merged.items():
        made[name][rows] = values
    return made


def _begun(known: Columns, new: Columns, night: int, link: float, targets: pa.Table) -> Columns:
    """Return objects with new ones at the end."""
    n = len(new["ref_id"])
    columns = {name: new[name] for name in known.keys() & new.keys()}
    columns |= {
        "object_id": new_identifiers(new, known["object_id"], targets, link),
        "status": np.full(n, PROVISIONAL, object),
        "mjd_place": new["mjd_mean"],
        "pm_ra_mas_yr": np.full(n, np.nan),
        "pm_dec_mas_yr": np.full(n, np.nan),
        "joined_to": np.full(n, NONE, np.int64),
        "split_from": split_from(known, new, 2.0 * link),
        "night_first": np.full(n, night, np.int64),
        "night_last": np.full(n, night, np.int64),
    }
    zero = np.zeros(n, np.int64)
    columns |= dict.fromkeys(("n_nights", "n_nights_covered", "n_nights_before", "n_frames_before"), zero)
    # The frames of the night are counted for all objects together.
    columns |= dict.fromkeys(("n_frames_covered", "n_frames_possible"), zero)
    return {name: np.append(values, columns[name]) for name, values in known.items()}


def new_identifiers(new: Columns, taken: Integers, targets: pa.Table, link: float) -> Integers:
    """Return identifiers of new objects: of the target that is the same star or at the place, else from the place.

    An identifier from the place is its HEALPix index (NESTED, order 29), or the next number that no object of the
    camera and no target has.
    """
    found = np.full(len(new["ref_id"]), NONE, np.int64)
    known = _arrays(targets)
    free = ~np.isin(known["star_id"], taken)
    known = {name: values[free] for name, values in known.items()}
    for catalog in {one for one in new["catalog"].tolist() if one is not None}:
        ids = dict(
            zip(
                known["ref_id"][known["origin"] == catalog].tolist(),
                known["star_id"][known["origin"] == catalog].tolist(),
                strict=True,
            )
        )
        if ids:
            of_catalog = np.flatnonzero(new["catalog"] == catalog)
            found[of_catalog] = [ids.get(one, NONE) for one in new["ref_id"][of_catalog].tolist()]
    left = np.flatnonzero(~np.isin(known["star_id"], found))
    some = np.flatnonzero(found < 0)
    if left.size and some.size:
        now = place_of_targets({name: values[left] for name, values in known.items()}, new["mjd_mean"])
        seen = unit_vectors(new["ra_deg"][some], new["dec_deg"][some])
        mine, theirs = nearest_pairs(seen, now, chord(link))
        found[some[mine]] = known["star_id"][left[theirs]]
    index = healpix_index(new["ra_deg"], new["dec_deg"])
    used = set(taken.tolist()) | set(targets["star_id"].to_pylist()) | set(found.tolist())
    for place in np.flatnonzero(found < 0).tolist():
        wanted = int(index[place])
        while wanted in used:
            wanted += 1
        used.add(wanted)
        found[place] = wanted
    return found


def place_of_targets(targets: Columns, mjd: Floats) -> Floats:
    """Return where targets are at the mean of some times, unit vectors of shape (n, 3)."""
    years = julian_epoch(float(np.mean(mjd))) - targets["epoch"]
    motion = (targets["pm_ra_mas_yr"], targets["pm_dec_mas_yr"])
    return unit_vectors(*apply_proper_motion(targets["ra_deg"], targets["dec_deg"], *motion, years))


def _count_night(known: Columns, found: Columns, owner: Integers, frames: Integers, night: int) -> Columns:
    """Count the frames of a night that cover each object, and those objects that were seen in it.

    Returns
    -------
    dict of ndarray, shape (n,)
        What the night alone says of each object: :data:`EVIDENCE`.
    """
    seen = known["_seen"]
    known["night_last"][seen] = night
    n_old = len(seen) - np.count_nonzero(owner < 0)
    rows = np.append(owner[owner >= 0], np.arange(n_old, len(seen)))
    order = np.append(np.flatnonzero(owner >= 0), np.flatnonzero(owner < 0))
    tonight: Columns = {"n_frames": np.zeros_like(frames), "n_frames_covered": frames.copy()}
    tonight["snr"] = np.full(len(seen), np.nan)
    for name in EVIDENCE:
        tonight[name][rows] = found[name][order]
    frames = tonight["n_frames_covered"]
    known["n_nights"] = known["n_nights"] + seen
    known["n_frames_covered"] = known["n_frames_covered"] + frames
    known["n_frames_possible"] = known["n_frames_possible"] + np.where(seen, frames, 0)
    known["n_nights_covered"] = known["n_nights_covered"] + (frames > 0)
    return tonight


def _joined(known: Columns, link: float) -> Columns:
    """Return objects of which those at half of `link` from each other, which no detection can separate, are one.

    An object without a star of the catalog is joined with one that has one, or with an older one. Two that were seen
    apart in this night stay two.
    """
    from scipy.spatial import cKDTree

    alive = np.flatnonzero(known["status"] != JOINED)
    if not known["_seen"].any():
        return known
    vectors = unit_vectors(known["ra_deg"][alive], known["dec_deg"][alive])
    pairs = alive[cKDTree(vectors).query_pairs(chord(0.5 * link), output_type="ndarray")]
    pairs = pairs[~known["_seen"][pairs].all(axis=1) & known["_seen"][pairs].any(axis=1)]
    rank = np.lexsort((known["object_id"], known["night_first"], known["ref_id"] == NONE))
    older = np.empty(len(rank), np.int64)
    older[rank] = np.arange(len(rank))
    done: set[int] = set()
    kept, gone = [], []
    for pair in pairs[np.lexsort(known["object_id"][pairs].T)].tolist():
        first, second = sorted(pair, key=lambda row: older[row])
        if known["ref_id"][second] == NONE and done.isdisjoint(pair):
            done.update(pair)
            kept.append(first)
            gone.append(second)
    return _with_joined(known, np.array(kept, np.int64), np.array(gone, np.int64)) if kept else known


def _with_joined(known: Columns, kept: Integers, gone: Integers) -> Columns:
    one, other = ({name: values[rows] for name, values in known.items()} for rows in (kept, gone))
    vectors = [unit_vectors(rows["ra_deg"], rows["dec_deg"]) for rows in (one, other)]
    apart = arcsec_of_chord(np.linalg.norm(vectors[1] - vectors[0], axis=1))
    merged = merged_statistics(one, other, apart)
    merged["n_frames_possible"] = one["n_frames_possible"] + other["n_frames_possible"]
    # In one night both may have been seen.
    merged["n_nights"] = np.minimum(one["n_nights"] + other["n_nights"], one["n_nights_covered"])
    for name, choose in (("first", np.minimum), ("last", np.maximum)):
        merged |= {
            f"{time}_{name}": choose(one[f"{time}_{name}"], other[f"{time}_{name}"])
            for time in ("mjd", "night")
        }
    merged["_seen"] = one["_seen"] | other["_seen"]
    for name, values in merged.items():
        known[name][kept] = values
    known["status"][gone] = np.where(known["status"][gone] == PROVISIONAL, "", JOINED)
    known["joined_to"][gone] = known["object_id"][kept]
    stays = known["status"] != ""
    return {name: values[stays] for name, values in known.items()}


def _arrays(rows: pa.Table) -> Columns:
    """Return columns as arrays: NaN, :data:`NONE` or None for null; those of bands each by themselves."""
    made: Columns = split_bands(rows) if MORE_BANDS in rows.column_names else {}
    for name in rows.column_names if not made else set(rows.column_names) - {"band", MORE_BANDS, *OF_BANDS}:
        column = rows[name].combine_chunks()
        kind = column.type
        if pa.types.is_floating(kind):
            made[name] = column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(float)
        elif pa.types.is_integer(kind):
            made[name] = column.fill_null(NONE).to_numpy(zero_copy_only=False).astype(np.int64)
        else:
            made[name] = column.to_numpy(zero_copy_only=False).astype(object)
    order = np.argsort(made["object_id"]) if "object_id" in made else slice(None)
    return {name: values[order] for name, values in made.items()}


def _table(known: Columns, schema: TableSchema) -> pa.Table:
    columns: dict[str, pa.Array] = join_bands(known, NAME)
    for column in schema.columns:
        if column.name in columns:
            continue
        kind, values = arrow_schema(schema).field(column.name).type, known[column.name]
        mask = (values == NONE) if column.nullable and pa.types.is_integer(kind) else None
        if pa.types.is_integer(kind):
            values = values.astype(np.int64)
        columns[column.name] = pa.array(values, mask=mask, from_pandas=True).cast(kind)
    return conform(pa.table(columns), schema)

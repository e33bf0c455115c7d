"""Which rows of the tables of light curves are those of a star.

A table has a row for each night of a star, so a search through all of it takes longer with each night. Its files are
in the order of the sky: a star is first looked for in a small table that has it once, and then read at its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.sphere import IntArray, separation_deg
from skylake.errors import StarError
from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import Measured
from skylake.lake.access.gathered_views import gather, needed
from skylake.lake.access.rows_in import rows_in, stored_rows
from skylake.report.stars.seen_objects import CELL_BITS
from skylake.sky.pixels import cone_ranges

_MORE_ARCSEC = 5.0
#: A curve within this distance of a position is that of the star that is meant.
SAME_ARCSEC = 3.0
#: A star of a catalog has moved by no more since the epoch of the catalog: in general, and by its proper motion.
_MOVED_ARCSEC, _LEAST_ARCSEC, _YEARS = 300.0, 2.0, 100.0


@dataclass(frozen=True, slots=True)
class _CurveTable:
    """A table of light curves, its columns of the identifier and catalog of a star, and a table of such stars."""

    name: str
    number: str
    catalog: str
    names: tuple[str, ...]
    listed: str

    @property
    def of_place(self) -> list[str]:
        """Columns that tell which star is where."""
        return ["_healpix_29", *self.names, self.catalog, "ra_deg", "dec_deg"]


CURVE_TABLES: dict[Measured, _CurveTable] = {
    "forced": _CurveTable("forced_lightcurves", "ref_id", "origin", ("ref_id", "star_id"), "targets"),
    "detected": _CurveTable("lightcurves", "object_id", "catalog", ("object_id",), "star_magnitudes"),
}


def kinds(measured: Measured | None) -> tuple[Measured, ...]:
    """Return the kinds of stored curves that are wanted; the forced ones of a star that has both come first."""
    return tuple(kind for kind in CURVE_TABLES if measured in (None, kind))


def named(rows: pa.Table) -> pa.Table:
    """Return light curves of targets with the names that stars have in catalogs: a target of none has its own.

    The catalog of the zeropoints is ``zp_catalog`` then.
    """
    rows = rows.rename_columns({"catalog": "zp_catalog"} if "catalog" in rows.column_names else {})
    rows = rows.rename_columns({"origin": "catalog"})
    return rows.append_column("object_id", pc.coalesce(rows["ref_id"], rows["star_id"]))


def rows_of_star(
    snapshot: Snapshot, number: int, catalog: str | None, measured: Measured | None, in_all: bool = False
) -> tuple[Measured, pa.Table] | None:
    """Return the light curves of a star by its identifier, and of which kind they are; None if there are none.

    Parameters
    ----------
    snapshot : Snapshot
    number : int
    catalog : str or None
        None takes the only one that has such a star.
    measured : {'forced', 'detected'} or None
        None takes the forced ones of a star that has any.
    in_all : bool
        Whether all light curves are searched, which takes longer, not only the lists of stars.

    Raises
    ------
    StarError
        If several catalogs have a star of that number.
    """
    found: dict[Measured, pa.Table] = {}
    for kind in kinds(measured):
        chosen = _is_star(kind, number, catalog)
        index = (_found_at if in_all else _listed_at)(snapshot, kind, number, chosen)
        if len(index) == 0:
            continue
        # A target may have had several places, the first of which is its identifier.
        index = np.unique(np.append(index, number) if kind == "forced" else index)
        rows = _rows_at(snapshot, kind, index).filter(chosen)
        if rows.num_rows:
            found[kind] = rows
    if not found:
        return None
    _require_one(number, found)
    return next(iter(found.items()))


def _require_one(number: int, found: dict[Measured, pa.Table]) -> None:
    """Refuse light curves of several stars."""
    stars = {}
    for kind, rows in found.items():
        known = named(rows) if kind == "forced" else rows
        names = ("catalog", "object_id", "ra_deg", "dec_deg")
        for catalog, star, ra, dec in zip(*(known[name].to_pylist() for name in names), strict=True):
            stars[catalog, star] = f"{catalog}:{star} at {ra:.5f} {dec:+.5f}"
    if len(stars) > 1:
        first, *_ = sorted(stars)
        raise StarError(
            f"several catalogs have a star {number}: {' and '.join(stars[one] for one in sorted(stars))}; "
            f"write which one, as in {first[0]}:{first[1]}"
        )


def _rows_at(snapshot: Snapshot, kind: Measured, index: IntArray) -> pa.Table:
    return rows_in(snapshot, CURVE_TABLES[kind].name, np.column_stack([index, index + 1]))


def _is_star(kind: Measured, number: int, catalog: str | None) -> Any:
    """Return the condition that a row of a table of light curves is of a star."""
    table = CURVE_TABLES[kind]
    chosen = pc.field(table.number) == number
    if kind == "forced":
        chosen |= pc.field("star_id") == number
    return chosen if catalog is None else chosen & (pc.field(table.catalog) == catalog)


def _listed_at(snapshot: Snapshot, kind: Measured, number: int, chosen: Any) -> IntArray:
    """Return where the light curves of a star are by tables that have each star once; without these by a search."""
    if kind == "detected" and not any(map(snapshot.n_rows, (CURVE_TABLES[kind].listed, "objects"))):
        return _found_at(snapshot, kind, number, chosen)
    names = ["ref_id", "star_id"] if kind == "forced" else ["ref_id"]
    rows = _of_small(snapshot, CURVE_TABLES[kind].listed, ["_healpix_29"], names, number)
    found = rows["_healpix_29"].to_numpy()
    # A star that one catalog has in the list may be one of another catalog that has it not.
    return found if kind == "forced" else np.union1d(found, _by_objects(snapshot, number, chosen))


def _of_small(snapshot: Snapshot, table: str, columns: list[str], names: list[str], number: int) -> pa.Table:
    """Return the rows of a table that has a star once in which one of some columns has a number.

    It is kept in memory for the next star unless it is too large.
    """
    whole = snapshot.whole(table, [*columns, *names])
    if whole is None:
        same = reduce(or_, (pc.field(name) == number for name in names))
        return snapshot.read(table, columns, filter=same)
    # An expression would start threads, which costs more than the comparison.
    return whole.filter(reduce(pc.or_kleene, (pc.equal(whole[name], number) for name in names))).select(
        columns
    )


def _by_objects(snapshot: Snapshot, number: int, chosen: Any) -> IntArray:
    """Return where the light curves of a star of a catalog are, given that the star is an object of some camera.

    Objects are where stars are now, and light curves where these were at the epoch of the catalog.
    """
    names = ["_healpix_29", "ref_ra_deg", "ref_dec_deg", "pm_ra_mas_yr", "pm_dec_mas_yr"]
    objects = _of_small(snapshot, "objects", names, ["ref_id"], number)
    found = [np.empty(0, np.int64)]
    for index, ra, dec, *motion in zip(*(objects[name].to_pylist() for name in names), strict=True):
        # Few stars are at the border of a cell or move fast, and a cone takes some tenths of a second to import.
        cell = index >> CELL_BITS
        near = _searched(snapshot, np.array([[cell, cell + 1]]) << CELL_BITS, chosen)
        if not len(near) and ra is not None:
            near = _searched(snapshot, cone_ranges(ra, dec, _moved_arcsec(*motion) / 3600.0), chosen)
        found.append(near)
    return np.concatenate(found)


def _searched(snapshot: Snapshot, ranges: IntArray, chosen: Any) -> IntArray:
    """Return where the light curves of detections for which a condition holds are within ranges of the index."""
    table = CURVE_TABLES["detected"]
    near = stored_rows(snapshot, table.name, ranges, [table.number, table.catalog])
    return np.asarray(near.filter(chosen)["_healpix_29"].to_numpy(), np.int64)


def _moved_arcsec(pm_ra: float | None, pm_dec: float | None) -> float:
    """Return how far a star may have moved since the epoch of its catalog, given its proper motion, mas/yr."""
    if pm_ra is None or pm_dec is None:
        return _MOVED_ARCSEC
    return min(_LEAST_ARCSEC + math.hypot(pm_ra, pm_dec) * _YEARS / 1000.0, _MOVED_ARCSEC)


def _found_at(snapshot: Snapshot, kind: Measured, number: int, chosen: Any) -> IntArray:
    """Return where the light curves of a star are by a search through all, by few of their columns."""
    table = CURVE_TABLES[kind]
    if kind == "forced" and snapshot.n_rows(table.listed):
        return np.empty(0, np.int64)  # lists of targets stay, so all that were measured are in one
    return np.asarray(snapshot.read(table.name, ["_healpix_29"], filter=chosen)["_healpix_29"].to_numpy())


@dataclass(frozen=True, slots=True)
class Near:
    """The curve nearest to a position: its place, and how many stars are within reach.

    Attributes
    ----------
    kind : {'forced', 'detected'}
    row : pyarrow.Table
        One row: what names the star, and its position.
    index : ndarray of int64
        Where the rows of its light curves are.
    distance_arcsec : float
    n_stars : int
    """

    kind: Measured
    row: pa.Table
    index: IntArray
    distance_arcsec: float
    n_stars: int

    def rows(self, snapshot: Snapshot) -> pa.Table:
        """Return the light curves at these places."""
        return _rows_at(snapshot, self.kind, self.index)


def nearest_curve(
    snapshot: Snapshot, ra_deg: float, dec_deg: float, reach_arcsec: float, measured: Measured | None
) -> Near | None:
    """Return the nearest curve within reach; the forced one of a star that has both."""
    found: dict[Measured, Near] = {}
    for kind in kinds(measured):
        near = _nearest(snapshot, ra_deg, dec_deg, reach_arcsec, kind)
        if near is not None:
            found[kind] = near
    if len(found) == 2 and not _is_same(found["forced"], found["detected"]):
        return min(found.values(), key=lambda near: near.distance_arcsec)
    return next(iter(found.values()), None)


def _nearest(
    snapshot: Snapshot, ra_deg: float, dec_deg: float, reach_arcsec: float, kind: Measured
) -> Near | None:
    """Return the nearest curve of a kind. The measurements of the stars around it are not read."""
    table, schema = CURVE_TABLES[kind], snapshot.schema(CURVE_TABLES[kind].name)
    # With a margin, as the blocks of a target may have positions from different lists.
    ranges = cone_ranges(ra_deg, dec_deg, (reach_arcsec + _MORE_ARCSEC) / 3600.0)
    blocks = stored_rows(snapshot, table.name, ranges, needed(schema, table.of_place))
    if blocks.num_rows == 0:
        return None
    rows = gather([blocks], schema, table.of_place)
    places = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    distance = 3600.0 * separation_deg(ra_deg, dec_deg, *places)
    nearest = int(distance.argmin())
    if distance[nearest] > reach_arcsec:
        return None
    row, within = rows.slice(nearest, 1), rows.filter(pa.array(distance <= reach_arcsec))
    star, blocks, within = (one if kind == "detected" else named(one) for one in (row, blocks, within))
    same = pc.and_(*(pc.equal(blocks[name], star[name][0]) for name in ("catalog", "object_id")))
    index = np.unique(blocks["_healpix_29"].filter(same).to_numpy())
    n_stars = within.group_by(["catalog", "object_id"]).aggregate([]).num_rows
    return Near(kind, row, index, float(distance[nearest]), n_stars)


def _is_same(forced: Near, detected: Near) -> bool:
    """Return whether a forced and a detected curve are of one star, or none of these is the nearer one."""
    same = forced.row["ref_id"][0].as_py() == detected.row["object_id"][0].as_py()
    return same or forced.distance_arcsec <= detected.distance_arcsec + SAME_ARCSEC

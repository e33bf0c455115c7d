"""Objects of cameras behind light curves: what an identifier names, and what no catalog has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.sphere import INDEX_ORDER, healpix_centre, separation_deg
from skylake.lake import Snapshot
from skylake.lake.access.rows_in import stored_rows
from skylake.sky.sky_region import SkyRegion
from skylake.table.object_status import QUALIFIED

_OBJECTS = "objects"
_COLUMNS = ["object_id", "status", "joined_to", "ra_deg", "dec_deg", "scatter_arcsec", "catalog", "ref_id"]
#: Bits of the index below a cell of order 12, which is 51 arcseconds wide.
CELL_BITS = 2 * (INDEX_ORDER - 12)
#: An object is no farther than this from where it was first seen, degrees.
_MOVED_DEG = 300.0 / 3600.0
#: The detections of an object are within this distance of its place, or so many standard deviations if that is more.
_REACH_ARCSEC, _REACH_SIGMA = 20.0, 5.0


@dataclass(frozen=True, slots=True)
class SeenObject:
    """An object of a camera.

    Attributes
    ----------
    object_id : int
    ra_deg, dec_deg : float
    reach_arcsec : float
        Its detections are within this distance.
    catalog : str or None
    ref_id : int or None
        Its star in the catalog; None if no catalog has it.
    """

    object_id: int
    ra_deg: float
    dec_deg: float
    reach_arcsec: float
    catalog: str | None
    ref_id: int | None


def object_of(snapshot: Snapshot, number: int, has_moved: bool = False) -> SeenObject | None:
    """Return the object of any camera that has an identifier; None if there is none.

    An object that turned out to be the same as another is that one.

    Parameters
    ----------
    snapshot : Snapshot
    number : int
    has_moved : bool
        Whether it is looked for around the cell of the sky where it was first seen, too, which takes longer.
    """
    if not 0 <= number < 12 << (2 * INDEX_ORDER):
        return None
    if has_moved:
        ra, dec = healpix_centre([number], INDEX_ORDER)
        rows = snapshot.cone(_OBJECTS, float(ra[0]), float(dec[0]), _MOVED_DEG, _COLUMNS)
    else:
        cell = number >> CELL_BITS
        rows = stored_rows(snapshot, _OBJECTS, np.array([[cell, cell + 1]]) << CELL_BITS, _COLUMNS)
    by_id: dict[int, tuple[SeenObject, int | None]] = {}
    for seen, joined in zip(_seen(rows), rows["joined_to"].to_pylist(), strict=True):
        # Of several cameras that have it, one may know its star in a catalog.
        if seen.object_id not in by_id or seen.ref_id is not None:
            by_id[seen.object_id] = seen, joined
    found = by_id.get(number)
    while found is not None and found[1] in by_id:
        found = by_id[found[1]]
    if found is not None and found[1] is not None and not has_moved:
        return object_of(snapshot, number, has_moved=True)
    return None if found is None else found[0]


def unlisted_near(
    snapshot: Snapshot, ra_deg: float, dec_deg: float, reach_arcsec: float
) -> SeenObject | None:
    """Return the nearest object in force that no catalog has; None without any within reach."""
    rows = _unlisted(snapshot.cone(_OBJECTS, ra_deg, dec_deg, reach_arcsec / 3600.0, _COLUMNS))
    if rows.num_rows == 0:
        return None
    places = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    return _seen(rows.slice(int(separation_deg(ra_deg, dec_deg, *places).argmin()), 1))[0]


def unlisted_in(snapshot: Snapshot, region: SkyRegion) -> list[SeenObject]:
    """Return the objects in force of a part of the sky that no catalog has."""
    rows = stored_rows(snapshot, _OBJECTS, region.ranges, _COLUMNS)
    inside = region.holds(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    return _seen(_unlisted(rows.filter(pa.array(inside))))


def _unlisted(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.and_(pc.equal(rows["status"], QUALIFIED), pc.is_null(rows["ref_id"])))


def _seen(rows: pa.Table) -> list[SeenObject]:
    return [
        SeenObject(
            row["object_id"],
            float(row["ra_deg"]),
            float(row["dec_deg"]),
            float(np.fmax(_REACH_ARCSEC, _REACH_SIGMA * (row["scatter_arcsec"] or 0.0))),
            row["catalog"],
            row["ref_id"],
        )
        for row in rows.to_pylist()
    ]

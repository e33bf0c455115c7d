"""Light curves of all objects of a part of the sky that no catalog has, from their detections on calibrated frames."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import FRAME_COLUMNS, calibrate_matches
from skylake.calibration.unlisted_stars import as_matches
from skylake.core.sphere import IntArray
from skylake.lake.access.calibration_rows import calibration_rows
from skylake.lake.access.rows_in import stored_rows
from skylake.lake.cameras.camera_sites import sites_of
from skylake.lake.commits.snapshot import Snapshot
from skylake.schema import empty_table, load
from skylake.sky.pixels import ranges_around
from skylake.sky.sky_region import SkyRegion
from skylake.table.lightcurves import lightcurves_table
from skylake.table.object_detections import detections_of_objects
from skylake.table.object_status import QUALIFIED

_COLUMNS = ["camera", "object_id", "status", "ra_deg", "dec_deg", "scatter_arcsec", "ref_id", "n_detections"]
#: Detections are looked for so far around an object, arcseconds, in cells of this order.
_REACH_ARCSEC, _CELL_ORDER = 20.0, 12
#: Matches are stored at the place of their star, which may be so much farther away.
_MATCHED_ARCSEC = 60.0


def unlisted_objects(snapshot: Snapshot, ranges: IntArray) -> pa.Table:
    """Return the objects in force whose index is in ranges, and that no catalog has: what says where they are.

    Raises
    ------
    LakeError
        If a file is missing or damaged.
    """
    rows = stored_rows(snapshot, "objects", ranges, _COLUMNS)
    return rows.filter(pc.and_(pc.equal(rows["status"], QUALIFIED), pc.is_null(rows["ref_id"])))


def unlisted_curves(
    snapshot: Snapshot, ranges: IntArray, region: SkyRegion, flux: str | None = None
) -> pa.Table:
    """Return the light curves of the objects of a region that no catalog has, one for each band.

    Parameters
    ----------
    snapshot : Snapshot
    ranges : ndarray of int64, shape (n, 2)
        Only objects whose index is in these.
    region : SkyRegion
    flux : str or None
        An aperture, as ``aper1``; None takes that of the zeropoints.

    Returns
    -------
    pyarrow.Table
        As ``lightcurves``: of the catalog :data:`skylake.calibration.unlisted_stars.DETECTIONS`, under the
        identifiers of the objects. Magnitudes assume the pivot colour.

    Raises
    ------
    LakeError
        If a file is missing or damaged.
    """
    objects = unlisted_objects(snapshot, ranges)
    objects = objects.filter(
        pa.array(region.holds(*(objects[name].to_numpy() for name in ("ra_deg", "dec_deg"))))
    )
    if objects.num_rows == 0 or not snapshot.n_rows("zeropoints"):
        return empty_table(load("lightcurves"))
    seen = _free_detections(snapshot, objects)
    frames, zeropoints = calibration_rows(
        snapshot, seen, (*FRAME_COLUMNS, "camera", "fwhm_px", "pixel_scale_arcsec")
    )
    place, owner = detections_of_objects(seen, objects, frames)
    rows, mine = seen.take(pa.array(place)), objects.take(pa.array(owner))
    rows = as_matches(rows, mine["ra_deg"].to_numpy(), mine["dec_deg"].to_numpy(), zeropoints)
    column = rows.schema.get_field_index("ref_id")
    rows = rows.set_column(column, rows.schema.field(column), mine["object_id"])
    measured = calibrate_matches(rows, frames, zeropoints, flux)
    return lightcurves_table(rows, measured, sites_of(snapshot.layout, rows["camera"].to_pylist()))


def _free_detections(snapshot: Snapshot, objects: pa.Table) -> pa.Table:
    """Return the detections around objects that are matched with no star of a catalog."""
    ra, dec = objects["ra_deg"].to_numpy(), objects["dec_deg"].to_numpy()
    known = set(load("matches").names) | {"altitude_deg"}
    columns = [name for name in snapshot.schema("sources").names if name in known]
    seen = stored_rows(snapshot, "sources", ranges_around(ra, dec, _REACH_ARCSEC, _CELL_ORDER), columns)
    key = ["frame_id", "source_no"]
    around = ranges_around(ra, dec, _REACH_ARCSEC + _MATCHED_ARCSEC, _CELL_ORDER)
    matched = stored_rows(snapshot, "matches", around, key).select(key).group_by(key).aggregate([])
    rows = seen.select(key).append_column("row", pa.array(np.arange(seen.num_rows)))
    left = rows.join(matched, key, join_type="left anti")["row"].to_numpy()
    return seen.take(pa.array(np.sort(left)))

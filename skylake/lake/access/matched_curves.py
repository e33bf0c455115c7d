"""Light curves of matched stars in another aperture or version of the calibration, read from their matches."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import FRAME_COLUMNS, calibrate_matches
from skylake.core.sphere import IntArray
from skylake.errors import LakeError
from skylake.lake.access.calibration_rows import calibration_rows
from skylake.lake.access.rows_in import stored_rows
from skylake.lake.cameras.camera_sites import sites_of
from skylake.lake.commits.snapshot import Snapshot
from skylake.schema import empty_table, load
from skylake.sky.pixels import ranges_around
from skylake.table.lightcurves import lightcurves_table

#: Matches of a star are stored at its place in the catalog, which is looked for in cells of this order.
_REACH_ARCSEC, _CELL_ORDER = 1.0, 15


def matched_curves(
    snapshot: Snapshot,
    stars: pa.Table,
    flux: str | None = None,
    version: int | None = None,
    ranges: IntArray | None = None,
) -> pa.Table:
    """Return the light curves of matched stars that have the flux on some frame, one for each band, made anew.

    Parameters
    ----------
    snapshot : Snapshot
    stars : pyarrow.Table
        object_id, catalog, ra_deg, dec_deg; a star may be in several rows.
    flux : str or None
        Flux as ``aper1``; None takes that of the zeropoints.
    version : int or None
        Of the calibration; None takes the one in force.
    ranges : ndarray of int64, shape (n, 2), or None
        Where the stars are, for many that lie together; None looks around each.

    Raises
    ------
    LakeError
        If detections have no such flux, or frames no such version.
    """
    names = columns_of_flux(snapshot.schema("matches").names, flux)
    if flux is not None and f"flux_{flux}" not in names:
        raise LakeError(f"no frame has the flux {flux}; leave out --flux, or name aper1, aper2 or aper3")
    if ranges is None:
        ra, dec = (stars[name].to_numpy() for name in ("ra_deg", "dec_deg"))
        ranges = ranges_around(ra, dec, _REACH_ARCSEC, _CELL_ORDER)
    near = stored_rows(snapshot, "matches", ranges, names)
    made = []
    for catalog in pc.unique(stars["catalog"]).to_pylist():
        mine = stars.filter(pc.equal(stars["catalog"], catalog))["object_id"].combine_chunks()
        is_star = pc.and_(pc.equal(near["catalog"], catalog), pc.is_in(near["ref_id"], mine))
        matches = near.filter(is_star)
        frames, zeropoints = calibration_rows(snapshot, matches, FRAME_COLUMNS, catalog, version)
        measured = calibrate_matches(matches, frames, zeropoints, flux)
        sites = sites_of(snapshot.layout, pc.unique(matches["camera"]).to_pylist())
        made.append(lightcurves_table(matches, measured, sites))
    return pa.concat_tables(made) if made else empty_table(load("lightcurves"))


def columns_of_flux(names: Sequence[str], flux: str | None) -> list[str]:
    """Return the columns of measurements without those of other fluxes; all for None."""
    own = (f"flux_{flux}", f"flux_{flux}_err")
    return [name for name in names if flux is None or name in own or not name.startswith("flux_")]

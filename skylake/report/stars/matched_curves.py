"""Light curves of matched stars in another aperture or version of the calibration, read from their matches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import FRAME_COLUMNS, calibrate_matches
from skylake.errors import LakeError
from skylake.lake import Snapshot
from skylake.lake.access.calibration_rows import calibration_rows
from skylake.lake.cameras.camera_sites import sites_of
from skylake.report.curve_fluxes import columns_of_flux
from skylake.table.lightcurves import lightcurves_table

#: Matches of a star are stored at its place in the catalog.
_REACH_DEG = 1.0 / 3600.0


def matched_curve(
    snapshot: Snapshot, row: pa.Table, flux: str | None = None, version: int | None = None
) -> pa.Table:
    """Return the light curves of a matched star, one for each band, made anew.

    Parameters
    ----------
    snapshot : Snapshot
    row : pyarrow.Table
        Its first row says which star it is: object_id, catalog, ra_deg, dec_deg.
    flux : str or None
        Flux as ``aper1``; None takes that of the zeropoints.
    version : int or None
        Of the calibration; None takes the one in force.

    Raises
    ------
    LakeError
        If the frames have no such flux or version.
    """
    ra, dec, star, catalog = (row[name][0].as_py() for name in ("ra_deg", "dec_deg", "object_id", "catalog"))
    same = (pc.field("ref_id") == star) & (pc.field("catalog") == catalog)
    names = columns_of_flux(snapshot.schema("matches").names, flux)
    if flux is not None and f"flux_{flux}" not in names:
        raise LakeError(f"detections have no flux {flux}; leave out --flux, or name aper1, aper2 or aper3")
    matches = snapshot.cone("matches", ra, dec, _REACH_DEG, names, same)
    frames, zeropoints = calibration_rows(snapshot, matches, FRAME_COLUMNS, catalog, version)
    measured = calibrate_matches(matches, frames, zeropoints, flux)
    if not np.isfinite(measured.flux).any():
        raise LakeError(f"no frame has the flux {flux} of this star; `--flux calibrated` is always there")
    return lightcurves_table(matches, measured, sites_of(snapshot.layout, matches["camera"].to_pylist()))

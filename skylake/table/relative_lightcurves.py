"""Relative light curves: the points of frames that no catalog places, gathered star by star."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.unlisted_stars import DETECTIONS
from skylake.core.camera import Site
from skylake.core.flags import SourceFlag
from skylake.core.sphere import healpix_index
from skylake.schema import arrow_schema, conform, empty_table, load
from skylake.table.curve_points import curve_points
from skylake.table.lightcurves import barycentric, with_medians


def relative_lightcurves(points: pa.Table, sites: Mapping[str, Site]) -> pa.Table:
    """Gather points of the view ``relative_lightcurve_points`` into light curves, one per star and filter.

    Parameters
    ----------
    points : pyarrow.Table
        Those that have a magnitude.
    sites : mapping
        Site of each camera, for barycentric times.

    Returns
    -------
    pyarrow.Table
        As ``lightcurves``, of the catalog :data:`skylake.calibration.unlisted_stars.DETECTIONS`, with the filter as
        band, under the HEALPix index of the star on the first frame of its field. Points lack the flag FRAME_REJECTED,
        since these frames were rejected for their place. There are no systematic errors, and the version is 0.
    """
    schema = load("lightcurves")
    if points.num_rows == 0:
        return empty_table(schema)
    index = pa.array(healpix_index(points["ra_deg"].to_numpy(), points["dec_deg"].to_numpy()))
    rows, band = points.append_column("object_id", index), pc.fill_null(points["filter"], "")
    curves = curve_points(rows, "object_id", [band], np.ones(rows.num_rows, bool))
    first, last, mjd = pa.array(curves.first), pa.array(curves.last), rows["mjd_mid"]
    flags = rows["flags"].to_numpy().astype(np.int64) & ~int(SourceFlag.FRAME_REJECTED)
    computed = {"bjd_tdb": barycentric(rows, dict(sites), ("ra_deg", "dec_deg")), "flags": flags}
    errors = {
        "mag_random_err": rows["mag_err"],
        "mag_systematic_err": np.full(rows.num_rows, np.nan),
        "zp_random_err": rows["zp_err"],
    }
    form = arrow_schema(schema)
    of_points = form.field("lightcurve").type
    carried = {inner.name: rows[inner.name] for inner in of_points if inner.name not in computed}
    columns = {
        "_healpix_29": rows["object_id"].take(first),
        **{name: rows[name].take(first) for name in ("object_id", "ra_deg", "dec_deg")},
        "catalog": pa.array([DETECTIONS] * curves.n_curves),
        "band": band.take(first),
        "version": np.zeros(curves.n_curves, np.int32),
        "ref_mag": pa.nulls(curves.n_curves, pa.float32()),
        "ref_colour": pa.nulls(curves.n_curves, pa.float32()),
        "n_points": curves.counts.astype(np.int32),
        "mjd_first": mjd.take(first),
        "mjd_last": mjd.take(last),
        "lightcurve": curves.nested(computed | carried, of_points),
        "lightcurve_errors": curves.nested(errors, form.field("lightcurve_errors").type),
    }
    return with_medians(conform(pa.table(columns), schema))

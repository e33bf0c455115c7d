"""Light curves of frames that no catalog places, relative to the stars of their field."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.unlisted_stars import DETECTIONS
from skylake.core.counted import counted
from skylake.core.flags import SourceFlag
from skylake.core.sphere import healpix_index
from skylake.lake.cameras.camera_sites import sites_of
from skylake.lake.commits.snapshot import Snapshot
from skylake.schema import arrow_schema, conform, empty_table, load
from skylake.table.curve_points import curve_points
from skylake.table.lightcurves import barycentric, with_medians

#: What is said of light curves that are relative.
RELATIVE_NOTE = (
    "light curves are relative to the stars of each field, as no catalog places the frames: magnitudes have no zero "
    "point, and places are about where the cards of the telescope put the frames"
)
_CALIBRATED = ("lightcurves", "forced_lightcurves")
#: Of ``frames.wcs_source``: what places the frames of these light curves.
_PLACED_BY = {"cards", "registered"}


def relative_curves(snapshot: Snapshot) -> pa.Table:
    """Return the light curves of the view ``relative_lightcurve_points``, kept as long as the snapshot is.

    Returns
    -------
    pyarrow.Table
        As ``lightcurves``, of the catalog :data:`skylake.calibration.unlisted_stars.DETECTIONS`, with the filter as
        band, under the HEALPix index of the star on the first frame of its field. Points lack the flag FRAME_REJECTED,
        since these frames were rejected for their place. There are no systematic errors, and the version is 0.
    """
    return snapshot.once("relative curves", _gathered)


def relative_cameras(snapshot: Snapshot) -> list[str]:
    """Return the cameras that have relative light curves."""
    nested = relative_curves(snapshot)["lightcurve"].combine_chunks()
    return sorted(pc.struct_field(nested, "camera").flatten().unique().to_pylist())


def why_no_curves(snapshot: Snapshot, measured: str | None) -> str | None:
    """Return why a lake has no light curves of a kind, and what helps, where it is for the places of its frames."""
    if relative_cameras(snapshot) and not any(map(snapshot.n_rows, _CALIBRATED)):
        return (
            "all light curves are relative to the stars of their fields, as no catalog places the frames; leave out "
            "--measured"
        )
    frames = snapshot.read("frames", ["status", "reason"])
    if frames.num_rows and "ok" not in frames["status"].to_pylist():
        reason, count = Counter(frames["reason"].to_pylist()).most_common(1)[0]
        advice = (
            "import a catalog that covers their field (`skylake catalog import`), or name the cards with the "
            "direction of the telescope in the profile (astrometry.ra and astrometry.dec) for light curves relative "
            "to the field, and run `skylake ingest --redo`"
            if reason == "no_wcs"
            else "`skylake report` says why"
        )
        return f"none of its {counted(frames.num_rows, 'frame')} is good ({reason}: {count}); {advice}"
    if measured == "relative":
        return "there is no frame that only its cards place, so no relative light curve; leave out --measured relative"
    return None


def _gathered(snapshot: Snapshot) -> pa.Table:
    schema = load("lightcurves")
    sources = snapshot.whole("frames", ["wcs_source"]) or snapshot.read("frames", ["wcs_source"])
    if _PLACED_BY.isdisjoint(sources["wcs_source"].unique().to_pylist()):
        return empty_table(schema)
    query = "SELECT * REPLACE (coalesce(filter, '') AS filter) FROM relative_lightcurve_points WHERE mag IS NOT NULL"
    with snapshot.duckdb() as connection:
        rows = connection.sql(query).to_arrow_table()
    if rows.num_rows == 0:
        return empty_table(schema)
    index = healpix_index(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    rows = rows.append_column("object_id", pa.array(index))
    points = curve_points(rows, "object_id", [rows["filter"]], np.ones(rows.num_rows, bool))
    flags = rows["flags"].to_numpy().astype(np.int64) & ~int(SourceFlag.FRAME_REJECTED)
    sites = sites_of(snapshot.layout, rows["camera"].to_pylist())
    computed = {"bjd_tdb": barycentric(rows, sites, ("ra_deg", "dec_deg")), "flags": flags}
    errors = {
        "mag_random_err": rows["mag_err"],
        "mag_systematic_err": np.full(rows.num_rows, np.nan),
        "zp_random_err": rows["zp_err"],
    }
    of_points = arrow_schema(schema).field("lightcurve").type
    carried = {inner.name: rows[inner.name] for inner in of_points if inner.name not in computed}
    of_star = {name: rows[name].take(pa.array(points.first)) for name in ("object_id", "ra_deg", "dec_deg")}
    n, mjd = points.n_curves, rows["mjd_mid"].to_numpy()
    columns = {
        "_healpix_29": of_star["object_id"],
        **of_star,
        "catalog": pa.array([DETECTIONS] * n),
        "band": rows["filter"].take(pa.array(points.first)),
        "version": np.zeros(n, np.int32),
        "ref_mag": pa.nulls(n, pa.float32()),
        "ref_colour": pa.nulls(n, pa.float32()),
        "n_points": points.counts.astype(np.int32),
        "mjd_first": mjd[points.first],
        "mjd_last": mjd[points.last],
        "lightcurve": points.nested(computed | carried, of_points),
        "lightcurve_errors": points.nested(errors, arrow_schema(schema).field("lightcurve_errors").type),
    }
    return with_medians(conform(pa.table(columns), schema))

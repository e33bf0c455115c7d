"""Detections of stars that no catalog has, in the form in which matches are calibrated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import healpix_index

Floats = npt.NDArray[np.float64]
#: Catalog of stars that no catalog has.
DETECTIONS = "sources"
#: What the catalog knows of a star that it has.
_OF_CATALOG = (
    "ref_mag",
    "ref_colour",
    "ref_colour_err",
    "ref_crowding",
    "ref_crowding_err",
    "ref_sky_light",
)


def as_matches(rows: pa.Table, ra_deg: Floats, dec_deg: Floats, zeropoints: pa.Table) -> pa.Table:
    """Return detections as matches with stars of which the catalog knows nothing.

    Parameters
    ----------
    rows : pyarrow.Table
        Rows of ``sources``.
    ra_deg, dec_deg : ndarray, shape (n,)
        Where the star of each is; its identifier is the HEALPix index of that.
    zeropoints : pyarrow.Table
        ``frame_id`` and ``band``, one row per frame at most.
    """
    n = rows.num_rows
    bands = dict(zip(zeropoints["frame_id"].to_pylist(), zeropoints["band"].to_pylist(), strict=True))
    place = {"ra_deg": ra_deg, "dec_deg": dec_deg}
    added = {
        "ref_id": pa.array(healpix_index(ra_deg, dec_deg), pa.int64()),
        "catalog": pa.array([DETECTIONS] * n, pa.string()),
        "band": pa.array([bands.get(frame) for frame in rows["frame_id"].to_pylist()], pa.string()),
        "moved_ra_deg": pa.array(ra_deg),
        "moved_dec_deg": pa.array(dec_deg),
        **{name: pa.nulls(n, pa.float32()) for name in _OF_CATALOG},
    }
    for name, values in place.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
    for name, column in added.items():
        rows = rows.append_column(name, column)
    return rows

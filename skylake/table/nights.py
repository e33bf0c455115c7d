"""The table ``nights``: what a night of a camera came to, band by band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.reasons import Status
from skylake.core.robust import sigma_mad
from skylake.schema import arrow_schema, conform, load

#: Columns of ``frames`` that a night is made from.
FRAME_COLUMNS = (
    "camera", "night", "band", "status", "mjd_mid", "exposure_s", "n_detected", "sky_adu", "fwhm_px",
)  # fmt: skip

#: A median is this much less certain than a mean of Gaussian values.
_MEDIAN_LOSS = np.sqrt(np.pi / 2.0)


def nights_table(frames: pa.Table, zeropoints: pa.Table) -> pa.Table:
    """Summarise one night of one camera.

    Parameters
    ----------
    frames : pyarrow.Table
        All its rows of ``frames``, with :data:`FRAME_COLUMNS`.
    zeropoints : pyarrow.Table
        Its zeropoints of one catalog and version; may be empty.
    """
    band = pc.fill_null(frames["band"], "")
    rows = []
    for name in sorted(set(band.to_pylist())):
        chosen = frames.filter(pc.equal(band, name))
        calibrated = zeropoints.filter(pc.equal(pc.fill_null(zeropoints["band"], ""), name))
        rows.append(_night(name, chosen, calibrated))
    schema = load("nights")
    arrays = {
        item.name: pa.array([row.get(item.name) for row in rows], item.type, from_pandas=True)
        for item in arrow_schema(schema)
    }
    return conform(pa.table(arrays), schema)


def _night(band: str, frames: pa.Table, zeropoints: pa.Table) -> dict[str, Any]:
    status = frames["status"]
    good = frames.filter(pc.equal(status, Status.OK.value))
    sky = pc.divide(good["sky_adu"].cast(pa.float64()), good["exposure_s"])
    row: dict[str, Any] = {
        "camera": frames["camera"][0].as_py(),
        "night": frames["night"][0].as_py(),
        "band": band,
        "n_frames": frames.num_rows,
        "mjd_first": pc.min(frames["mjd_mid"]).as_py(),
        "mjd_last": pc.max(frames["mjd_mid"]).as_py(),
        "exposure_s": pc.sum(good["exposure_s"]).as_py(),
        "n_sources": pc.sum(good["n_detected"]).as_py() or 0,
        "n_matched": pc.sum(zeropoints["n_matched"]).as_py() or 0,
        "sky_adu_per_s": _median(sky),
        "fwhm_px": _median(good["fwhm_px"]),
        "n_zeropoints": 0,
    }
    for kind in Status:
        row[f"n_{kind.value}"] = pc.sum(pc.equal(status, kind.value)).as_py() or 0
    return row | _zeropoint(zeropoints)


def _median(values: pa.ChunkedArray) -> float | None:
    known = values.drop_null().to_numpy()
    return float(np.median(known)) if known.size else None


def _zeropoint(zeropoints: pa.Table) -> dict[str, Any]:
    """Return the median zeropoint with its error.

    What the frames do not share averages down; what they share, the error of the catalog's stars and of
    the colour term, does not, so the median is never better known than the best of its frames by that.
    """
    known = zeropoints.filter(pc.is_valid(zeropoints["zp"]))
    if zeropoints.num_rows == 0:
        return {}
    row: dict[str, Any] = {
        "catalog": zeropoints["catalog"][0].as_py(),
        "version": zeropoints["version"][0].as_py(),
    }
    if known.num_rows == 0:
        return row
    zp, error = known["zp"].to_numpy(), known["zp_err"].to_numpy()
    scatter = sigma_mad(zp)
    spread = _MEDIAN_LOSS * scatter / np.sqrt(len(zp))
    return row | {
        "n_zeropoints": len(zp),
        "zp_median": float(np.median(zp)),
        "zp_median_err": float(np.hypot(spread, np.median(error))),
        "zp_scatter": scatter if len(zp) > 1 else None,
        "colour_term": _median(known["colour_term"]),
        "colour_term_err": _median(known["colour_term_err"]),
    }

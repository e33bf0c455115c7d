"""The table ``nights``: what a night of a camera came to, band by band."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.reasons import Status
from skylake.core.robust import sigma_mad
from skylake.schema import arrow_schema, conform, load
from skylake.table.aggregate import Aggregate, Given, Granularity, Input, merged_by

Floats = npt.NDArray[np.float64]

#: Columns of ``frames`` that a night is made from.
FRAME_COLUMNS = (
    "camera",
    "night",
    "band",
    "status",
    "mjd_mid",
    "exposure_s",
    "n_detected",
    "sky_adu",
    "fwhm_px",
)

#: A median is this much less certain than a mean of Gaussian values.
_MEDIAN_LOSS = np.sqrt(np.pi / 2.0)
_COUNTS = ("n_frames", *(f"n_{kind.value}" for kind in Status), "n_sources", "n_matched")
_KEY = ("camera", "night", "band")
#: Values that are kept one by one until the medians are taken, and the columns that they are from.
_KEPT = {
    "skies": "sky_adu_per_s",
    "widths": "fwhm_px",
    "zps": "zp",
    "zp_errs": "zp_err",
    "terms": "colour_term",
    "term_errs": "colour_term_err",
}
_MERGING = (
    dict.fromkeys((*_COUNTS, "exposure_s"), "sum")
    | {"mjd_first": "min", "mjd_last": "max", "catalog": "max", "version": "max"}
    | dict.fromkeys(_KEPT, "concat")
)


def nights_table(frames: pa.Table, zeropoints: pa.Table) -> pa.Table:
    """Summarise one night of one camera.

    Parameters
    ----------
    frames : pyarrow.Table
        All its rows of ``frames``, with :data:`FRAME_COLUMNS`.
    zeropoints : pyarrow.Table
        Its zeropoints of one catalog and version; may be empty.
    """
    camera, night = frames["camera"][0].as_py(), frames["night"][0].as_py()
    given = Given(camera, night, {"frames": frames, "zeropoints": zeropoints})
    return finish(AGGREGATE.merge([partial(given)]))


def partial(given: Given) -> pa.Table:
    """Return counts and sums of frames of one night of one camera by band, and the values whose medians are wanted."""
    frames, zeropoints = given["frames"], given["zeropoints"]
    band, calibrated = (pc.fill_null(table["band"], "") for table in (frames, zeropoints))
    names = sorted(set(band.to_pylist()) | set(calibrated.to_pylist()))
    rows = [
        {"camera": given.camera, "night": given.night, "band": name}
        | _of_frames(frames.filter(pc.equal(band, name)))
        | _of_zeropoints(zeropoints.filter(pc.equal(calibrated, name)))
        for name in names
    ]
    return pa.Table.from_pylist(rows, _partial_schema())


def _partial_schema() -> pa.Schema:
    own = arrow_schema(load("nights"))
    names = [*_KEY, *(name for name in _MERGING if name not in _KEPT)]
    kept = [pa.field(name, pa.list_(pa.float64())) for name in _KEPT]
    return pa.schema([own.field(name).with_nullable(True) for name in names] + kept)


def _of_frames(frames: pa.Table) -> dict[str, Any]:
    good = frames.filter(pc.equal(frames["status"], Status.OK.value))
    counts = {
        f"n_{kind.value}": pc.sum(pc.equal(frames["status"], kind.value)).as_py() or 0 for kind in Status
    }
    return counts | {
        "n_frames": frames.num_rows,
        "mjd_first": pc.min(frames["mjd_mid"]).as_py(),
        "mjd_last": pc.max(frames["mjd_mid"]).as_py(),
        "exposure_s": pc.sum(good["exposure_s"]).as_py(),
        "n_sources": pc.sum(good["n_detected"]).as_py() or 0,
        "skies": _known(pc.divide(good["sky_adu"].cast(pa.float64()), good["exposure_s"])),
        "widths": _known(good["fwhm_px"]),
    }


def _of_zeropoints(zeropoints: pa.Table) -> dict[str, Any]:
    known = zeropoints.filter(pc.is_valid(zeropoints["zp"]))
    return {
        "n_matched": pc.sum(zeropoints["n_matched"]).as_py() or 0,
        "catalog": pc.max(zeropoints["catalog"]).as_py(),
        "version": pc.max(zeropoints["version"]).as_py(),
    } | {name: _known(known[column]) for name, column in list(_KEPT.items())[2:]}


def _known(values: pa.ChunkedArray) -> list[float]:
    found = values.drop_null().cast(pa.float64()).to_pylist()
    return [value for value in found if not math.isnan(value)]


def finish(rows: pa.Table) -> pa.Table:
    """Return the rows of the table: medians in the place of the values that were kept."""
    schema = load("nights")
    found = [row | _medians(row) for row in rows.filter(pc.greater(rows["n_frames"], 0)).to_pylist()]
    arrays = {
        item.name: pa.array([row.get(item.name) for row in found], item.type, from_pandas=True)
        for item in arrow_schema(schema)
    }
    return conform(pa.table(arrays), schema)


def _medians(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "sky_adu_per_s": _median(row["skies"]),
        "fwhm_px": _median(np.asarray(row["widths"], np.float32)),
        "n_zeropoints": len(row["zps"]),
        "colour_term": _median(row["terms"]),
        "colour_term_err": _median(row["term_errs"]),
    } | _zeropoint(np.asarray(row["zps"]), np.asarray(row["zp_errs"]))


def _median(values: npt.ArrayLike) -> float | None:
    known = np.asarray(values)
    return float(np.median(known)) if known.size else None


def _zeropoint(zp: Floats, error: Floats) -> dict[str, Any]:
    """Return the median zeropoint with its error.

    What the frames do not share averages down; what they share, the error of the catalog's stars and of
    the colour term, does not, so the median is never better known than the best of its frames by that.
    """
    if len(zp) == 0:
        return {}
    scatter = sigma_mad(zp)
    spread = _MEDIAN_LOSS * scatter / np.sqrt(len(zp))
    return {
        "zp_median": float(np.median(zp)),
        "zp_median_err": float(np.hypot(spread, np.median(error))),
        "zp_scatter": scatter if len(zp) > 1 else None,
    }


AGGREGATE = Aggregate(
    name="nights",
    inputs=(Input("frames", (*FRAME_COLUMNS, "frame_id", "filter")), Input("zeropoints")),
    key=_KEY,
    granularity=Granularity.BATCH,
    partial=partial,
    merge=merged_by(_KEY, _MERGING),
    finish=finish,
)

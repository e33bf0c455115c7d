"""The table ``nights``: what a night of a camera came to, band by band.

The extinction of a night follows from its zeropoints alone, with a wide prior; what the nights around it say is in
``photometric_nights``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import column_floats
from skylake.calibration.extinction_line import ExtinctionLine, NightFrames, extinction_prior, fit_line
from skylake.core.reasons import Status
from skylake.core.robust import sigma_mad
from skylake.core.sphere import unit_vectors
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
    "frame_id",
    "airmass",
    "ra_deg",
    "dec_deg",
    "pixel_scale_arcsec",
    "width_px",
    "height_px",
)

#: A median is this much less certain than a mean of Gaussian values.
_MEDIAN_LOSS = np.sqrt(np.pi / 2.0)
#: Random error of a zeropoint, mag: less is not believed.
_LEAST_ERROR = 0.0005
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
    "intrinsics": "intrinsic_mag",
}
#: Values of each calibrated frame, in lists of one length, that its line of extinction is fitted to.
_OF_LINE = (
    "zp",
    "zp_err",
    "zp_fit_err",
    "zp_random_err",
    "mjd_mid",
    "extinction",
    "extinction_err",
    "airmass",
    "ra_deg",
    "dec_deg",
    "field_deg",
)
_MERGING = (
    dict.fromkeys((*_COUNTS, "exposure_s"), "sum")
    | {"mjd_first": "min", "mjd_last": "max", "catalog": "max", "version": "max"}
    | dict.fromkeys(_KEPT, "concat")
    | dict.fromkeys([f"line_{name}" for name in _OF_LINE], "concat")
)
_LISTS = [name for name, how in _MERGING.items() if how == "concat"]


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
        | _of_line(zeropoints.filter(pc.equal(calibrated, name)), frames)
        for name in names
    ]
    return pa.Table.from_pylist(rows, _partial_schema())


def _partial_schema() -> pa.Schema:
    own = arrow_schema(load("nights"))
    names = [*_KEY, *(name for name in _MERGING if name not in _LISTS)]
    kept = [pa.field(name, pa.list_(pa.float64())) for name in _LISTS]
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


def _of_line(zeropoints: pa.Table, frames: pa.Table) -> dict[str, Any]:
    """Return what the line of extinction is fitted to, of the calibrated frames of a band."""
    known = zeropoints.filter(pc.is_valid(zeropoints["zp"]))
    place = pc.index_in(known["frame_id"], frames["frame_id"])
    known, place = known.filter(pc.is_valid(place)), place.drop_null()
    of_frames = frames.take(place)
    size = np.hypot(*(column_floats(of_frames, name) for name in ("width_px", "height_px")))
    wide = size * column_floats(of_frames, "pixel_scale_arcsec") / 3600.0
    columns = {
        name: column_floats(known if name in known.column_names else of_frames, name)
        for name in _OF_LINE
        if name != "field_deg"
    } | {"field_deg": wide}
    return {f"line_{name}": values[: known.num_rows].tolist() for name, values in columns.items()}


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
        "intrinsic_mag": _median(row["intrinsics"]),
    } | (
        _zeropoint(np.asarray(row["zps"]), np.asarray(row["zp_errs"]))
        | _extinction(row["band"], {name: np.array(row[f"line_{name}"] or [], float) for name in _OF_LINE})
    )


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


def _extinction(band: str, of: dict[str, Floats]) -> dict[str, Any]:
    """Return the line through the zeropoints of a night, given :data:`_OF_LINE`; nothing if no airmass is known."""
    fitted = np.isfinite(of["extinction"])
    beyond = np.where(fitted, 0.0, of["airmass"] - 1.0)
    error = np.where(np.isfinite(of["zp_random_err"]), of["zp_random_err"], 0.0)
    # Where an older calibration does not tell what frames share, all of its error is taken for their own.
    whole = np.where(np.isfinite(of["zp_fit_err"]), of["zp_fit_err"], of["zp_err"])
    error = np.where(np.isfinite(of["zp_random_err"]), error, whole)
    rows = np.flatnonzero(np.isfinite(of["zp"] + beyond + error + of["mjd_mid"]))
    rows = rows[np.lexsort((of["zp"][rows], of["mjd_mid"][rows]))]
    if rows.size == 0:
        return {}
    shared = np.sqrt(np.maximum(whole**2 - error**2, 0.0))
    frames = NightFrames(
        of["zp"][rows],
        np.maximum(error[rows], _LEAST_ERROR),
        shared[rows],
        beyond[rows],
        of["mjd_mid"][rows],
        fields_of(of["ra_deg"][rows], of["dec_deg"][rows], of["field_deg"][rows]),
    )
    is_wide = bool(fitted[rows].all())
    line = fit_line(frames, (0.0, 0.0) if is_wide else extinction_prior(band))
    value, value_err, mean_airmass = line.extinction, line.extinction_err, line.mean_airmass
    if is_wide:
        # Stars of one frame are at many airmasses: its calibration has fitted the extinction already.
        value, value_err = (float(np.median(of[name][rows])) for name in ("extinction", "extinction_err"))
        mean_airmass = 1.0
    found = {
        "extinction": value,
        "extinction_err": value_err,
        "zp_zenith": line.zenith,
        "zp_zenith_err": line.zenith_err,
        "mean_airmass": mean_airmass,
    }
    # Any line goes through a single frame, so it does not show whether clouds pass.
    return found if rows.size == 1 else found | _passing_clouds(line)


def _passing_clouds(line: ExtinctionLine) -> dict[str, float]:
    return {
        "zp_excess": line.scatter,
        "n_cloudy": line.n_cloudy,
        "cloud_mag": line.depth,
        "p_steady": line.p_steady,
    }


def fields_of(ra_deg: Floats, dec_deg: Floats, field_deg: Floats) -> npt.NDArray[np.intp]:
    """Return numbers of fields, the same for frames whose centres lie within a third of the diagonal of an image.

    Parameters
    ----------
    ra_deg, dec_deg, field_deg : ndarray, shape (n,)
        Centres of frames and diagonals of their images. Frames without a position are of one field.
    """
    place = unit_vectors(np.nan_to_num(ra_deg), np.nan_to_num(dec_deg))
    near = 2.0 * np.sin(np.radians(np.nan_to_num(field_deg, nan=1.0)) / 6.0)
    field = np.full(len(place), -1, np.intp)
    number = 0
    while (rest := np.flatnonzero(field < 0)).size:
        first = rest[0]
        mine = np.linalg.norm(place[rest] - place[first], axis=1) <= near[first]
        field[rest[mine]], number = number, number + 1
    return field


AGGREGATE = Aggregate(
    name="nights",
    inputs=(Input("frames", (*FRAME_COLUMNS, "filter")), Input("zeropoints")),
    key=_KEY,
    granularity=Granularity.BATCH,
    partial=partial,
    merge=merged_by(_KEY, _MERGING),
    finish=finish,
    # A night of one frame says nothing of passing clouds since the second.
    version="2",
)

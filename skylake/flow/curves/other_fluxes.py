"""Light curves of all stars of a part of the sky in another flux than the calibrated one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_forced import FORCED_FRAME_COLUMNS, calibrate_forced
from skylake.core.sphere import IntArray
from skylake.errors import LakeError
from skylake.lake import Snapshot
from skylake.lake.access.calibration_rows import calibration_rows
from skylake.lake.access.curve_rows import Measured, points_of
from skylake.lake.access.matched_curves import matched_curves
from skylake.lake.access.rows_in import rows_in
from skylake.table.repeatability import parts_of_flux

Floats = npt.NDArray[np.float64]


def in_flux(snapshot: Snapshot, rows: pa.Table, kind: Measured, flux: str, ranges: IntArray) -> pa.Table:
    """Return light curves whose magnitudes and random errors are those of a flux.

    Parameters
    ----------
    snapshot : Snapshot
    rows : pyarrow.Table
        As :func:`skylake.lake.access.curve_rows.curve_rows` gives them.
    kind : {'forced', 'detected'}
    flux : str
        As aper1 or psf.
    ranges : ndarray of int64, shape (n, 2)
        Where the rows are.

    Raises
    ------
    LakeError
        If no frame has such a flux.
    """
    if kind == "detected":
        found = matched_curves(snapshot, rows, flux, ranges=ranges)
        made = found.sort_by([("object_id", "ascending"), ("band", "ascending")]) if found.num_rows else None
    else:
        made = _forced(snapshot, rows, flux, ranges)
    if made is None:
        raise LakeError(f"no frame has the flux {flux}; `--flux calibrated` is always there")
    return made


def _forced(snapshot: Snapshot, rows: pa.Table, flux: str, ranges: IntArray) -> pa.Table | None:
    """Return light curves of targets with the magnitudes of a flux in the place of the calibrated ones."""
    forced = rows_in(snapshot, "forced_sources", ranges)
    kind, circle = parts_of_flux(flux)
    points = points_of(rows)
    curve = points["curve"].to_numpy()
    star = rows["star_id"].to_numpy()[curve]
    frame = points["frame_id"].to_numpy()
    mag, error = np.full((2, len(curve)), np.nan)
    for catalog in pc.unique(rows["zp_catalog"]).to_pylist():
        some = rows.filter(pc.equal(rows["zp_catalog"], catalog))
        frames, zeropoints = calibration_rows(snapshot, forced, FORCED_FRAME_COLUMNS, catalog)
        colour, colour_err, number = _of_stars(some, forced["star_id"].to_numpy(), catalog)
        found = calibrate_forced(forced, colour, frames, zeropoints, kind, colour_err, circle, number)
        place = _places(forced, star, frame)
        mine = (place >= 0) & np.isin(curve, np.flatnonzero(pc.equal(rows["zp_catalog"], catalog)))
        mag[mine], error[mine] = found.mag[place[mine]], found.mag_random_err[place[mine]]
    return _replaced(rows, {"mag": mag, "mag_random_err": error}) if np.isfinite(mag).any() else None


def _of_stars(
    rows: pa.Table, star: npt.NDArray[np.int64], catalog: str
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Return the colour of each star, its error, and its identifier in the catalog of the zeropoints, -1 for none."""
    ids, first = np.unique(rows["star_id"].to_numpy(), return_index=True)
    at = np.minimum(np.searchsorted(ids, star), len(ids) - 1)
    known, one = ids[at] == star, first[at]

    def values(name: str) -> Floats:
        column = np.asarray(rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)
        return np.where(known, column[one], np.nan)

    listed = np.asarray(pc.fill_null(pc.equal(rows["catalog"], catalog), False))
    number = pc.fill_null(rows["ref_id"], -1).to_numpy().astype(np.int64)
    return values("ref_colour"), values("ref_colour_err"), np.where(known & listed[one], number[one], -1)


def _places(
    forced: pa.Table, star: npt.NDArray[np.int64], frame: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """Return the row of each measurement, -1 where there is none."""
    keys = [
        np.column_stack([star, frame]),
        np.column_stack([forced[one].to_numpy() for one in ("star_id", "frame_id")]),
    ]
    _, number = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    place = np.full(int(number.max(initial=0)) + 1, -1, np.intp)
    place[number[len(star) :]] = np.arange(forced.num_rows)
    return place[number[: len(star)]]


def _replaced(rows: pa.Table, values: dict[str, Floats]) -> pa.Table:
    """Return light curves with other values in inner columns."""
    for column in ("lightcurve", "lightcurve_errors"):
        nested = rows[column].combine_chunks()
        offsets = pa.array(np.append(0, np.cumsum(rows["n_points"].to_numpy())), pa.int32())
        lists = [
            pa.ListArray.from_arrays(
                offsets,
                pa.array(values[field.name], from_pandas=True).cast(field.type.value_type),
                type=field.type,
            )
            if field.name in values
            else pc.struct_field(nested, field.name)
            for field in nested.type
        ]
        made = pa.StructArray.from_arrays(lists, fields=list(nested.type))
        rows = rows.set_column(rows.schema.get_field_index(column), rows.schema.field(column), made)
    return rows

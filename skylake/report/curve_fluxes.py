"""Light curves of targets in another flux than the calibrated one, read from the forced measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_forced import FORCED_FRAME_COLUMNS, ForcedPhotometry, calibrate_forced
from skylake.errors import LakeError
from skylake.lake import Snapshot
from skylake.lake.access.calibration_rows import calibration_rows
from skylake.schema import arrow_schema, load
from skylake.table.curve_points import CurvePoints
from skylake.table.forced_lightcurves import finish
from skylake.table.repeatability import RECOMMENDED_BY, parts_of_flux, recommended_flux

#: ``best`` is the flux that repeats best for stars of such a magnitude, ``calibrated`` that of the zeropoints.
FluxChoice = Literal["best", "calibrated", "hybrid1", "hybrid2", "hybrid3", "psf", "aper1", "aper2", "aper3"]
FLUX_CHOICES: tuple[str, ...] = get_args(FluxChoice)
#: Lists of targets put a star at places that differ by less.
_REACH_DEG = 30.0 / 3600.0
_REPLACED = ("flux", "flux_err", "zp", "zp_err", "mag", "mag_err", "mag_limit")
_ERRORS = {
    "mag_random_err": "mag_random_err",
    "mag_systematic_err": "zp_systematic_err",
    "zp_random_err": "zp_random_err",
}


def in_flux(
    snapshot: Snapshot, rows: pa.Table, choice: FluxChoice, version: int | None = None
) -> tuple[pa.Table, list[str | None]]:
    """Return light curves of a target in a flux, and which flux each is in; None for that of the zeropoints.

    Parameters
    ----------
    snapshot : Snapshot
    rows : pyarrow.Table
        Rows of ``forced_lightcurves``.
    choice : str
        One of :data:`FLUX_CHOICES`.
    version : int or None
        Of the calibration; None takes that of the light curves.

    Raises
    ------
    LakeError
        If the frames of a camera have no such flux, or no such version.
    """
    made, names = [], []
    for place in range(rows.num_rows):
        row = rows.slice(place, 1)
        name = _best(snapshot, row) if choice == "best" else None if choice == "calibrated" else choice
        names.append(name)
        as_it_is = name is None and version is None
        made.append(row if as_it_is else _remade(snapshot, row, name, version))
    return pa.concat_tables(made), names


def _best(snapshot: Snapshot, row: pa.Table) -> str | None:
    """Return the flux that repeats significantly better for stars as bright as this one; None for the calibrated."""
    camera, band, magnitude = (row[name][0].as_py() for name in ("camera", "band", "mag_median"))
    if magnitude is None:
        magnitude = row["ref_mag"][0].as_py()
    if magnitude is None or not snapshot.n_rows("repeatability"):
        return None
    found = snapshot.whole("repeatability", RECOMMENDED_BY)
    if found is None:
        found = snapshot.read("repeatability", RECOMMENDED_BY, lambda part: part.camera == camera)
    same = (pc.field("camera") == camera) & (pc.field("band") == band)
    return recommended_flux(found.filter(same), float(magnitude))


def _remade(snapshot: Snapshot, row: pa.Table, name: str | None, version: int | None) -> pa.Table:
    """Return a light curve with the measurements of another flux or calibration."""
    camera, star, ra, dec = (row[one][0].as_py() for one in ("camera", "star_id", "ra_deg", "dec_deg"))
    ids = pc.struct_field(row["lightcurve"].combine_chunks(), "frame_id").flatten()
    mine = (pc.field("camera") == camera) & (pc.field("star_id") == star)
    names = columns_of_flux(snapshot.schema("forced_sources").names, name)
    forced = snapshot.cone("forced_sources", ra, dec, _REACH_DEG, names, mine)
    catalog = row["catalog"][0].as_py()
    frames, zeropoints = calibration_rows(snapshot, forced, FORCED_FRAME_COLUMNS, catalog, version)
    known = (row[one][0].as_py() for one in ("ref_colour", "ref_colour_err"))
    colour, colour_err = (np.full(forced.num_rows, np.nan if one is None else one) for one in known)
    kind, circle = ("hybrid", None) if name is None else parts_of_flux(name)
    origin, star_catalog, star_id = (row[one][0].as_py() for one in ("origin", "catalog", "ref_id"))
    is_listed = origin == star_catalog and star_id is not None
    ref_id = np.full(forced.num_rows, star_id if is_listed else -1, np.int64)
    found = calibrate_forced(forced, colour, frames, zeropoints, kind, colour_err, circle, ref_id)
    if not np.isfinite(found.flux).any():
        raise LakeError(f"{camera} has no flux {name} of this star; `--flux calibrated` is always there")
    made = _replaced(row, found, _places(forced["frame_id"].to_numpy(), ids.to_numpy()))
    if version is not None:
        number = pa.array([version], made["version"].type)
        made = made.set_column(made.schema.get_field_index("version"), "version", number)
    return finish(made)


def columns_of_flux(names: Sequence[str], flux: str | None) -> list[str]:
    """Return the columns of measurements without those of other fluxes; all for None."""
    own = (f"flux_{flux}", f"flux_{flux}_err")
    return [name for name in names if flux is None or name in own or not name.startswith("flux_")]


def _places(known: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return where each frame stands among the measurements, and the number of these where it does not."""
    order = np.argsort(known)
    place = order[np.minimum(np.searchsorted(known, wanted, sorter=order), max(len(known) - 1, 0))]
    return np.where(known[place] == wanted, place, len(known))


def _replaced(row: pa.Table, found: ForcedPhotometry, place: npt.NDArray[np.intp]) -> pa.Table:
    """Return a light curve whose nested columns have other measurements."""
    form = arrow_schema(load("forced_lightcurves"))

    def at(name: str) -> npt.NDArray[np.float64]:
        return np.append(getattr(found, name), np.nan)[place]

    values = {name: at(source) for name, source in _ERRORS.items()} | {"sky_err": at("sky_err")}
    points = CurvePoints(slice(None), np.array([0, len(place)]))
    nested = {"lightcurve": _points(row, {name: at(name) for name in _REPLACED})}
    for name in ("lightcurve_errors", "lightcurve_noise"):
        nested[name] = points.nested(values, form.field(name).type)
    for name, column in nested.items():
        row = row.set_column(row.schema.get_field_index(name), form.field(name), column)
    return row


def _points(row: pa.Table, values: dict[str, npt.NDArray[np.float64]]) -> pa.StructArray:
    """Return the measurements of a light curve with some of their values replaced."""
    held = row["lightcurve"].combine_chunks()
    fields: list[Any] = list(held.type)
    lists = [pc.struct_field(held, field.name) for field in fields]
    made = [
        pa.ListArray.from_arrays(
            pa.array([0, len(values[field.name])], pa.int32()),
            pa.array(values[field.name], pa.float64(), from_pandas=True).cast(field.type.value_type),
            type=field.type,
        )
        if field.name in values
        else one
        for field, one in zip(fields, lists, strict=True)
    ]
    return pa.StructArray.from_arrays(made, fields=fields)

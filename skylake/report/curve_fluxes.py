"""Which flux is best for the light curve of a star, and those of targets in another flux than the calibrated one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_forced import FORCED_FRAME_COLUMNS, ForcedPhotometry, calibrate_forced
from skylake.errors import LakeError
from skylake.lake import Snapshot
from skylake.lake.access.calibration_rows import calibration_rows
from skylake.lake.access.matched_curves import columns_of_flux
from skylake.lake.access.rows_in import stored_rows
from skylake.schema import arrow_schema, load
from skylake.sky.pixels import ranges_around
from skylake.table.curve_points import CurvePoints
from skylake.table.forced_lightcurves import finish
from skylake.table.repeatability import (
    DETECTED,
    DETECTED_FLUXES,
    FORCED_FLUXES,
    RECOMMENDED_BY,
    parts_of_flux,
    recommended_fluxes,
)

#: ``best`` is the flux that repeats best for stars of such a magnitude, ``calibrated`` that of the zeropoints.
FluxChoice = Literal["best", "calibrated", "hybrid1", "hybrid2", "hybrid3", "psf", "aper1", "aper2", "aper3"]
FLUX_CHOICES: tuple[str, ...] = get_args(FluxChoice)
#: Lists of targets put a star at places that differ by less.
_REACH_ARCSEC = 30.0
#: Order of the cells in which these are looked for, a minute of arc wide.
_FINEST = 12
#: A light curve of detections is of a star of a catalog in a band.
_CURVE = ("catalog", "object_id", "band")
_REPLACED = ("flux", "flux_err", "zp", "zp_err", "mag", "mag_err", "mag_limit")
_ERRORS = {
    "mag_random_err": "mag_random_err",
    "mag_systematic_err": "zp_systematic_err",
    "zp_random_err": "zp_random_err",
}


def in_flux(
    snapshot: Snapshot, rows: pa.Table, choice: FluxChoice, version: int | None = None
) -> tuple[pa.Table, list[str | None]]:
    """Return light curves of targets in a flux, and which flux each is in; None for that of the zeropoints.

    The measurements of all are read and calibrated together. A star that no frame has in its best flux stays in the
    calibrated one.

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
        If no frame has such a flux, or such a version.
    """
    one: str | None = None if choice == "calibrated" else choice
    names = _best_of_targets(snapshot, rows) if choice == "best" else [one] * rows.num_rows
    made = _in_fluxes(snapshot, rows, names, version)
    lacks = ~_is_measured(made)
    if choice != "best" and one is not None and lacks.all():
        cameras = " and ".join(sorted(set(rows["camera"].to_pylist())))
        raise LakeError(f"{cameras} has no flux {one} of this star; `--flux calibrated` is always there")
    again = np.flatnonzero(lacks & np.array([name is not None for name in names], bool))
    if choice == "best" and len(again):
        for place in again:
            names[place] = None
        others = np.setdiff1d(np.arange(rows.num_rows), again)
        usual = _in_fluxes(snapshot, rows.take(again), [None] * len(again), version)
        order = np.argsort(np.concatenate([others, again]))
        made = pa.concat_tables([made.take(others), usual]).take(order)
    return made, names


def best_of_detections(
    snapshot: Snapshot, rows: pa.Table, remade: Callable[[pa.Table, str], pa.Table]
) -> tuple[pa.Table, list[str | None]]:
    """Return light curves of detections in their best apertures, and which each is in; None for the calibrated flux.

    Cameras that share a light curve have one aperture if it is the best of each, else the calibrated flux. A light
    curve that no frame has in its best aperture stays as it is.

    Parameters
    ----------
    snapshot : Snapshot
    rows : pyarrow.Table
        Rows of ``lightcurves``, in the calibrated flux.
    remade : callable
        Given some of these rows and the name of an aperture, returns light curves of their stars in it.
    """
    names = _best_apertures(snapshot, rows)
    keys = _curves(rows)
    made, order = [], []
    for name in dict.fromkeys(names):
        mine = [place for place, one in enumerate(names) if one == name]
        if name is not None:
            other = remade(rows.take(mine), name)
            is_there = np.isfinite(other["mag_median"].to_numpy(zero_copy_only=False))
            there = {key: number for number, key in enumerate(_curves(other)) if is_there[number]}
            done = [place for place in mine if keys[place] in there]
            found = np.array([there[keys[place]] for place in done], np.intp)
            made.append(other.take(found).select(rows.column_names).cast(rows.schema))
            order += done
            mine = [place for place in mine if keys[place] not in there]
            for place in mine:
                names[place] = None
        made.append(rows.take(np.array(mine, np.intp)))
        order += mine
    return (pa.concat_tables(made).take(np.argsort(order)) if made else rows), names


def _curves(rows: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in _CURVE), strict=True))


def _best_apertures(snapshot: Snapshot, rows: pa.Table) -> list[str | None]:
    """Return the best aperture of each light curve of detections; None for the calibrated flux."""
    of_points = pc.struct_field(rows["lightcurve"].combine_chunks(), "camera")
    known = of_points.flatten().dictionary_encode()
    pairs = np.column_stack(
        [pc.list_parent_indices(of_points).to_numpy(), known.indices.to_numpy(zero_copy_only=False)]
    )
    curve, camera = np.unique(pairs, axis=0).T
    measured, cameras = rows.take(curve), known.dictionary.take(camera).to_pylist()
    prefixed = tuple(DETECTED + name for name in DETECTED_FLUXES)
    batches = zip(cameras, measured["band"].to_pylist(), strict=True)
    found = _best(snapshot, batches, _magnitudes(measured), prefixed)
    best: dict[int, set[str | None]] = {}
    for place, name in zip(curve.tolist(), found, strict=True):
        best.setdefault(place, set()).add(name)
    agreed = [next(iter(best[place])) if len(best[place]) == 1 else None for place in range(rows.num_rows)]
    return [None if name is None else name.removeprefix(DETECTED) for name in agreed]


def _in_fluxes(snapshot: Snapshot, rows: pa.Table, names: list[str | None], version: int | None) -> pa.Table:
    """Return light curves, each in the flux of a name; None stands for the calibrated one."""
    keys = list(zip(names, rows["catalog"].to_pylist(), strict=True))
    made, order = [], []
    for key in dict.fromkeys(keys):
        mine = [place for place, one in enumerate(keys) if one == key]
        some = rows.take(mine)
        as_it_is = key[0] is None and version is None
        other = some if as_it_is else _remade(snapshot, some, key[0], version)
        made.append(other.select(rows.column_names).cast(rows.schema))
        order += mine
    return pa.concat_tables(made).take(np.argsort(order)) if made else rows


def _is_measured(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which light curves have any flux."""
    fluxes = pc.struct_field(rows["lightcurve"].combine_chunks(), "flux")
    curve = np.repeat(np.arange(rows.num_rows), pc.list_value_length(fluxes).to_numpy())
    return np.bincount(curve, np.asarray(fluxes.flatten().is_valid()), rows.num_rows) > 0


def _best_of_targets(snapshot: Snapshot, rows: pa.Table) -> list[str | None]:
    """Return the best flux of each light curve of targets; None for the calibrated."""
    batches = zip(rows["camera"].to_pylist(), rows["band"].to_pylist(), strict=True)
    return _best(snapshot, batches, _magnitudes(rows))


def _magnitudes(rows: pa.Table) -> list[float | None]:
    """Return the magnitude of each light curve, that of the catalog where nothing good was measured."""
    found: list[float | None] = pc.coalesce(
        rows["mag_median"], rows["ref_mag"].cast(rows["mag_median"].type)
    ).to_pylist()
    return found


def _best(
    snapshot: Snapshot,
    curves: Iterable[tuple[str, str]],
    magnitudes: Sequence[float | None],
    fluxes: Sequence[str] = FORCED_FLUXES,
) -> list[str | None]:
    """Return the flux that repeats significantly better for stars as bright as each; None for the calibrated.

    Light curves are given by their camera and band.
    """
    batches = list(curves)
    names: list[str | None] = [None] * len(batches)
    if not snapshot.n_rows("repeatability"):
        return names
    for camera, band in dict.fromkeys(batches):
        mine = [
            place
            for place, batch in enumerate(batches)
            if batch == (camera, band) and magnitudes[place] is not None
        ]
        known = _repeatability(snapshot, camera)
        known = known.filter((pc.field("camera") == camera) & (pc.field("band") == band))
        found = recommended_fluxes(known, np.array([magnitudes[place] for place in mine], float), fluxes)
        for place, name in zip(mine, found, strict=True):
            names[place] = name
    return names


def _repeatability(snapshot: Snapshot, camera: str) -> pa.Table:
    found = snapshot.whole("repeatability", RECOMMENDED_BY)
    if found is not None:
        return found
    return snapshot.read("repeatability", RECOMMENDED_BY, lambda part: part.camera == camera)


def _remade(snapshot: Snapshot, rows: pa.Table, name: str | None, version: int | None) -> pa.Table:
    """Return light curves, calibrated with one catalog, with the measurements of another flux or calibration."""
    frames_of = pc.struct_field(rows["lightcurve"].combine_chunks(), "frame_id")
    starts = np.append(0, np.cumsum(pc.list_value_length(frames_of).to_numpy()))
    curve = np.repeat(np.arange(rows.num_rows), np.diff(starts))
    star, frame = rows["star_id"].to_numpy()[curve], frames_of.flatten().to_numpy()
    forced = _forced_of(snapshot, rows, name)
    place = _places(forced, star, frame)
    is_there = place >= 0
    forced, mine = forced.take(place[is_there]), curve[is_there]
    catalog = rows["catalog"][0].as_py()
    frames, zeropoints = calibration_rows(snapshot, forced, FORCED_FRAME_COLUMNS, catalog, version)
    colour, colour_err = (
        np.asarray(rows[one].cast(pa.float64()).to_numpy(zero_copy_only=False), float)[mine]
        for one in ("ref_colour", "ref_colour_err")
    )
    is_listed = np.asarray(pc.fill_null(pc.equal(rows["origin"], catalog), False))
    ref_id = np.where(is_listed, pc.fill_null(rows["ref_id"], -1).to_numpy().astype(np.int64), -1)[mine]
    kind, circle = ("hybrid", None) if name is None else parts_of_flux(name)
    found = calibrate_forced(forced, colour, frames, zeropoints, kind, colour_err, circle, ref_id)
    made = _replaced(rows, found, is_there, starts)
    if version is not None:
        numbers = pa.array([version] * rows.num_rows, made["version"].type)
        made = made.set_column(made.schema.get_field_index("version"), "version", numbers)
    return finish(made)


def _forced_of(snapshot: Snapshot, rows: pa.Table, name: str | None) -> pa.Table:
    """Return the forced measurements of the targets of light curves, and maybe some of others."""
    ra, dec = (rows[one].to_numpy() for one in ("ra_deg", "dec_deg"))
    ranges = ranges_around(ra, dec, _REACH_ARCSEC, _FINEST)
    columns = columns_of_flux(snapshot.schema("forced_sources").names, name)
    forced = stored_rows(snapshot, "forced_sources", ranges, columns)
    return forced.filter(pc.is_in(forced["star_id"], pc.unique(rows["star_id"])))


def _places(
    forced: pa.Table, star: npt.NDArray[np.int64], frame: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """Return the row of each measurement, -1 where there is none."""
    wanted = np.column_stack([star, frame])
    known = np.column_stack([forced[one].to_numpy() for one in ("star_id", "frame_id")])
    _, number = np.unique(np.concatenate([wanted, known]), axis=0, return_inverse=True)
    number = number.reshape(-1)
    place = np.full(int(number.max(initial=0)) + 1, -1, np.intp)
    place[number[len(star) :]] = np.arange(forced.num_rows)
    return place[number[: len(star)]]


def _replaced(
    rows: pa.Table, found: ForcedPhotometry, is_there: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]
) -> pa.Table:
    """Return light curves whose nested columns have other measurements; those that are not there are null."""
    form = arrow_schema(load("forced_lightcurves"))

    def at(name: str) -> npt.NDArray[np.float64]:
        values = np.full(len(is_there), np.nan)
        values[is_there] = getattr(found, name)
        return values

    values = {name: at(source) for name, source in _ERRORS.items()} | {"sky_err": at("sky_err")}
    points = CurvePoints(slice(None), starts)
    nested = {"lightcurve": _points(rows, {name: at(name) for name in _REPLACED}, starts)}
    for name in ("lightcurve_errors", "lightcurve_noise"):
        nested[name] = points.nested(values, form.field(name).type)
    for name, column in nested.items():
        rows = rows.set_column(rows.schema.get_field_index(name), form.field(name), column)
    return rows


def _points(
    rows: pa.Table, values: dict[str, npt.NDArray[np.float64]], starts: npt.NDArray[np.int64]
) -> pa.StructArray:
    """Return the measurements of light curves with some of their values replaced."""
    held = rows["lightcurve"].combine_chunks()
    fields: list[Any] = list(held.type)
    lists = [pc.struct_field(held, field.name) for field in fields]
    made = [
        pa.ListArray.from_arrays(
            pa.array(starts, pa.int32()),
            pa.array(values[field.name], pa.float64(), from_pandas=True).cast(field.type.value_type),
            type=field.type,
        )
        if field.name in values
        else one
        for field, one in zip(fields, lists, strict=True)
    ]
    return pa.StructArray.from_arrays(made, fields=fields)

"""The light curves of all stars in a part of the sky, some at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import TABLES, Measured, curve_pieces, curve_rows, points_of
from skylake.lake.access.matched_curves import matched_curves
from skylake.report.curve_fluxes import FluxChoice, best_of_detections, in_flux
from skylake.report.stars.chosen_points import PointChoice
from skylake.report.stars.detection_curves import object_rows
from skylake.report.stars.left_out import LeftOut
from skylake.report.stars.seen_objects import SeenObject, unlisted_in
from skylake.schema import arrow_schema, load
from skylake.sky.sky_region import SkyRegion

#: Measurements that are read at a time.
_POINTS_AT_A_TIME = 2_000_000
#: Columns of a point, of those that its table has; others are null.
_POINT = (
    "frame_id",
    "mjd_mid",
    "bjd_tdb",
    "flux",
    "flux_err",
    "mag",
    "mag_err",
    "mag_random_err",
    "mag_systematic_err",
    "zp",
    "zp_random_err",
    "mag_limit",
    "x_px",
    "y_px",
    "flags",
)
#: What all measurements of a star have in common.
_OF_STAR = ["object_id", "catalog", "ra_deg", "dec_deg", "measured"]
#: Catalog of targets that no catalog has.
TARGETS_OF_NONE = "detections"
_NESTED = ("lightcurve", "lightcurve_errors")


def field_points(
    snapshot: Snapshot, region: SkyRegion, measured: Measured | None = None, flux: FluxChoice = "best"
) -> Iterator[pa.Table]:
    """Yield the measurements of all stars in a region, in a catalog or not; all of a star are in one table.

    Memory does not grow with the region.

    Parameters
    ----------
    snapshot : Snapshot
    region : SkyRegion
    measured : {'forced', 'detected'} or None
        None takes the forced measurements of stars that have any, and detections of the others.
    flux : str
        As :func:`skylake.report.curves.curve_of_object` takes it; detections have best and calibrated.

    Yields
    ------
    pyarrow.Table
        A row per measurement: object_id, catalog, measured, ra_deg, dec_deg, camera, band, and what is known of it;
        those of a star together, in the order of time.
    """
    for rows, kind in _curves_of_stars(snapshot, region, measured, flux):
        yield _flat(rows, kind)


def field_stars(
    snapshot: Snapshot, region: SkyRegion, measured: Measured | None = None
) -> Iterator[tuple[str, int, Measured]]:
    """Yield catalog, identifier and kind of measurements of the stars of a region, as :func:`field_points` does."""
    for rows, kind in _curves_of_stars(snapshot, region, measured):
        for catalog, star in dict.fromkeys(_stars(rows)):
            yield catalog, star, kind


def _in_flux(snapshot: Snapshot, rows: pa.Table, flux: FluxChoice) -> pa.Table:
    """Return light curves of targets in a flux; their catalogs have the names of :func:`curve_rows`."""
    stored = rows.rename_columns({"catalog": "origin"}).rename_columns({"zp_catalog": "catalog"})
    made, _ = in_flux(snapshot, stored, flux)
    return made.rename_columns({"catalog": "zp_catalog"}).rename_columns({"origin": "catalog"})


def _curves_of_stars(
    snapshot: Snapshot, region: SkyRegion, measured: Measured | None, flux: FluxChoice = "calibrated"
) -> Iterator[tuple[pa.Table, Measured]]:
    """Yield merged light curves, those of a star as they were measured in the first of the ways that it was."""

    def remade(rows: pa.Table, aperture: str) -> pa.Table:
        return matched_curves(snapshot, rows, aperture)

    done: set[tuple[str, int]] = set()
    for kind in ("forced", "detected", "relative") if measured is None else (measured,):
        for rows in _curves(snapshot, region, kind):
            names = _stars(rows)
            if kind == "detected" and done:
                rows = rows.filter(pa.array([name not in done for name in names], pa.bool_()))
            elif measured is None:
                done.update(names)
            if rows.num_rows and kind == "forced":
                rows = _in_flux(snapshot, rows, flux)
            elif rows.num_rows and kind == "detected" and flux == "best":
                rows, _ = best_of_detections(snapshot, rows, remade)
            if rows.num_rows:
                yield rows, kind
    if measured in (None, "detected"):
        targets = {star for catalog, star in done if catalog == TARGETS_OF_NONE}
        for rows in _unlisted(snapshot, region, targets, measured, flux):
            yield rows, "detected"


def _unlisted(
    snapshot: Snapshot, region: SkyRegion, done: set[int], measured: Measured | None, flux: FluxChoice
) -> Iterator[pa.Table]:
    """Yield the light curves of objects that no catalog has, without those that are done."""
    seen_before: set[tuple[int, int]] = set()
    for seen in unlisted_in(snapshot, region):

        def remade(_: pa.Table, aperture: str, seen: SeenObject = seen) -> pa.Table:
            return object_rows(snapshot, seen, measured, aperture)

        if seen.object_id in done:
            continue
        rows = object_rows(snapshot, seen, measured)
        values = points_of(rows)
        points = set(zip(values["frame_id"].to_pylist(), values["source_no"].to_pylist(), strict=True))
        # What two cameras see is an object of each, with one light curve.
        if points and points.isdisjoint(seen_before):
            seen_before |= points
            yield best_of_detections(snapshot, rows, remade)[0] if flux == "best" else rows


def _curves(snapshot: Snapshot, region: SkyRegion, kind: Measured) -> Iterator[pa.Table]:
    """Yield merged light curves with the columns object_id and catalog of their stars."""
    for pixel, _ in curve_pieces(snapshot, TABLES[kind][0], region, _POINTS_AT_A_TIME):
        rows = curve_rows(snapshot, kind, region.inside(pixel), region)
        if rows.num_rows:
            yield rows.sort_by([(name, "ascending") for name in ("catalog", "object_id", "band")])


def _stars(rows: pa.Table) -> list[tuple[str, int]]:
    return list(zip(rows["catalog"].to_pylist(), rows["object_id"].to_pylist(), strict=True))


def star_tables(points: pa.Table, choice: PointChoice) -> tuple[pa.Table, LeftOut]:
    """Return the chosen measurements of stars, folded and in bins as each star alone would be, and what no bin has.

    Parameters
    ----------
    points : pyarrow.Table
        As :func:`field_points` yields them.
    choice : PointChoice

    Returns
    -------
    pyarrow.Table
        object_id, catalog, ra_deg, dec_deg and measured of the star before the columns of its points or bins.
    Counter
        Points that are left out, by reason.
    """
    points = choice.rows(points)
    if choice.width_d is None and choice.period_d is None:
        return points, Counter()
    keys = np.array([f"{catalog}:{star}" for catalog, star in _stars(points)], str)
    starts = np.flatnonzero(np.append(len(keys) > 0, keys[1:] != keys[:-1]))
    own = points.select(_OF_STAR)
    others = [name for name in points.column_names if name not in _OF_STAR]
    made = []
    for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
        table = choice.table(points.slice(start, end - start).select(others))
        star = own.take(np.full(table.num_rows, start))
        for number, name in enumerate(_OF_STAR):
            table = table.add_column(number, own.schema.field(name), star[name])
        made.append(table)
    table = pa.concat_tables(made, promote_options="permissive") if made else points.slice(0, 0)
    return table, choice.left_out(points)


def _flat(rows: pa.Table, kind: Measured) -> pa.Table:
    """Return the measurements of light curves, one in a row; those of a star in the order of time.

    The light curves of a star, one for each band or camera, are one after the other.
    """
    values = points_of(rows)
    names = np.array([f"{catalog}:{star}" for catalog, star in _stars(rows)], str)
    first = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    number = np.searchsorted(first, np.arange(rows.num_rows), "right")[values["curve"].to_numpy()] - 1
    order = np.lexsort((values["frame_id"].to_numpy(), values["mjd_mid"].to_numpy(), number))
    values = {name: column.take(order) for name, column in values.items()}
    which = values["curve"]
    # Cameras may have a target at places that differ a little.
    star = {
        name: rows[name].take(first[number[order]]) for name in ("object_id", "catalog", "ra_deg", "dec_deg")
    }
    star |= {"band": rows["band"].take(which), "camera": values["camera"]}
    star["measured"] = pa.array([kind] * len(which), pa.string())
    fields = _fields()
    arrays = {name: star.get(name, values.get(name)) for name in fields}
    columns = [
        pa.nulls(len(which), field.type) if arrays[name] is None else _cast(arrays[name], field.type)
        for name, field in fields.items()
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(list(fields.values())))


def _cast(values: Any, kind: pa.DataType) -> Any:
    return values.cast(kind)


def _fields() -> dict[str, pa.Field]:
    """Return the fields of a measurement with units and texts, in order."""
    curves, forced = arrow_schema(load("lightcurves")), arrow_schema(load("forced_lightcurves"))
    fields = {name: curves.field(name) for name in ("object_id", "catalog")}
    fields["measured"] = pa.field("measured", pa.string())
    fields |= {name: curves.field(name) for name in ("ra_deg", "dec_deg", "band", "camera")}
    for name in _POINT:
        for schema in (curves, forced):
            for column in _NESTED:
                kind = schema.field(column).type
                if name not in fields and kind.get_field_index(name) >= 0:
                    fields[name] = _inner(schema.field(column), name)
    return fields


def _inner(nested: pa.Field, name: str) -> pa.Field:
    import json

    metadata = json.loads(nested.metadata[b"columns"])[name]
    return pa.field(name, nested.type.field(name).type.value_type, metadata=metadata)

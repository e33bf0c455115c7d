"""The light curves of all stars in a part of the sky, some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import TABLES, Measured, curve_pieces, curve_rows, points_of
from skylake.schema import arrow_schema, load
from skylake.sky.sky_region import SkyRegion

#: Measurements that are read at a time.
_POINTS_AT_A_TIME = 2_000_000
#: Columns of a point, of those that its table has; others are null.
_POINT = (
    "frame_id", "mjd_mid", "bjd_tdb", "flux", "flux_err", "mag", "mag_err", "mag_random_err", "mag_systematic_err",
    "zp_random_err", "mag_limit", "x_px", "y_px", "flags",
)  # fmt: skip
_NESTED = ("lightcurve", "lightcurve_errors")


def field_points(
    snapshot: Snapshot, region: SkyRegion, measured: Measured | None = None
) -> Iterator[pa.Table]:
    """Yield the measurements of all stars with light curves in a region; all of a star are in one table.

    Memory does not grow with the region.

    Parameters
    ----------
    snapshot : Snapshot
    region : SkyRegion
    measured : {'forced', 'detected'} or None
        None takes the forced measurements of stars that have any, and detections of the others.

    Yields
    ------
    pyarrow.Table
        A row per measurement: object_id, catalog, measured, ra_deg, dec_deg, camera, band, and what is known of it.
    """
    for rows, kind in _curves_of_stars(snapshot, region, measured):
        yield _flat(rows, kind)


def field_stars(snapshot: Snapshot, region: SkyRegion, measured: Measured | None = None) -> Iterator[int]:
    """Yield the identifiers of all stars with light curves in a region, as :func:`field_points` has them."""
    for rows, _ in _curves_of_stars(snapshot, region, measured):
        yield from pc.unique(rows["object_id"]).to_pylist()


def _curves_of_stars(
    snapshot: Snapshot, region: SkyRegion, measured: Measured | None
) -> Iterator[tuple[pa.Table, Measured]]:
    """Yield merged light curves, those of a star as they were measured in the first of the ways that it was."""
    done: set[tuple[str, int]] = set()
    for kind in ("forced", "detected") if measured is None else (measured,):
        for rows in _curves(snapshot, region, kind):
            names = _stars(rows)
            if kind == "detected" and done:
                rows = rows.filter(pa.array([name not in done for name in names], pa.bool_()))
            elif measured is None:
                done.update(names)
            if rows.num_rows:
                yield rows, kind


def _curves(snapshot: Snapshot, region: SkyRegion, kind: Measured) -> Iterator[pa.Table]:
    """Yield merged light curves with the columns object_id and catalog of their stars."""
    for pixel, _ in curve_pieces(snapshot, TABLES[kind][0], region, _POINTS_AT_A_TIME):
        rows = curve_rows(snapshot, kind, region.inside(pixel), region)
        if rows.num_rows:
            yield rows


def _stars(rows: pa.Table) -> list[tuple[str, int]]:
    return list(zip(rows["catalog"].to_pylist(), rows["object_id"].to_pylist(), strict=True))


def _flat(rows: pa.Table, kind: Measured) -> pa.Table:
    """Return the measurements of light curves, one in a row."""
    values = points_of(rows)
    which = values["curve"]
    star = {name: rows[name].take(which) for name in ("object_id", "catalog", "ra_deg", "dec_deg", "band")}
    star |= {"camera": values["camera"], "measured": pa.array([kind] * len(which), pa.string())}
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

"""Columns of apertures: the first three have columns of their own, all others are nested.

A profile may name any number of radii. Columns of the first three are in every table; values of the fourth and later
ones are in the nested column ``more_apertures``, null for profiles without them. Its inner columns have the names of
the others without the number: ``flux_aper5`` is the second element of ``more_apertures.flux_aper``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.camera import N_PLAIN_CIRCLES
from skylake.schema.arrow import arrow_schema
from skylake.schema.tables import TableSchema

Floats = npt.NDArray[np.float64]

#: The nested column of apertures beyond the third.
MORE = "more_apertures"
_NAME = re.compile(r"(flux_aper|flux_hybrid|apcor_rel_aper|apcor_aper|aper)(\d+)(_err|_radius_px)?")


def _place(name: str) -> tuple[str, int] | None:
    """Return the inner column and the element in which a column of a later aperture is; None for any other."""
    match = _NAME.fullmatch(name)
    if match is None or int(match[2]) <= N_PLAIN_CIRCLES:
        return None
    return match[1] + (match[3] or ""), int(match[2]) - N_PLAIN_CIRCLES - 1


def aperture_floats(table: pa.Table, name: str) -> Floats:
    """Return a column as floats, that of a later aperture from where it is nested.

    Parameters
    ----------
    table : pyarrow.Table
    name : str
        Such as ``flux_aper2`` or ``apcor_rel_aper5``; any other column too.

    Returns
    -------
    ndarray, shape (n,)
        NaN for null, and for an aperture that rows do not have.
    """
    place = _place(name)
    if place is None:
        return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)
    values = np.full(table.num_rows, np.nan)
    if table.num_rows == 0:
        return values
    lists = pa.chunked_array(pc.struct_field(table[MORE], place[0])).combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    some = np.flatnonzero(lengths > place[1])
    if some.size:
        offsets = np.asarray(lists.offsets.to_numpy())[:-1]
        flat = lists.values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        values[some] = flat[offsets[some] + place[1]]
    return values


def aperture_value(row: Mapping[str, Any], name: str) -> float | None:
    """Return a column of one row, as :func:`aperture_floats` does; None for null."""
    place = _place(name)
    if place is None:
        value: float | None = row[name]
        return value
    values = (row.get(MORE) or {}).get(place[0]) or ()
    return values[place[1]] if len(values) > place[1] else None


def nested_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row with the values of later apertures in the nested column."""
    apertures: dict[str, dict[int, Any]] = {}
    nested: dict[str, Any] = {}
    for name, value in row.items():
        place = _place(name)
        if place is None:
            nested[name] = value
        else:
            apertures.setdefault(place[0], {})[place[1]] = value
    if apertures:
        nested[MORE] = {
            inner: [values.get(number) for number in range(max(values) + 1)]
            for inner, values in apertures.items()
        }
    return nested


def nest_apertures(columns: MutableMapping[str, Any], schema: TableSchema) -> None:
    """Put columns of later apertures, arrays of shape (n,), into the nested column of a schema."""
    apertures: dict[str, dict[int, Any]] = {}
    for name in list(columns):
        place = _place(name)
        if place is not None:
            apertures.setdefault(place[0], {})[place[1]] = columns.pop(name)
    if not apertures:
        return
    kind = arrow_schema(schema).field(MORE).type
    rows = len(next(iter(next(iter(apertures.values())).values())))
    lists = []
    for inner in kind:
        one = apertures.get(inner.name, {})
        values = np.full((rows, max(one, default=-1) + 1), np.nan)
        for number, array in one.items():
            values[:, number] = array
        offsets = pa.array(np.arange(rows + 1) * values.shape[1], pa.int32())
        flat = pa.array(values.reshape(-1), from_pandas=True).cast(inner.type.value_type)
        lists.append(pa.ListArray.from_arrays(offsets, flat, type=inner.type))
    columns[MORE] = pa.StructArray.from_arrays(lists, fields=list(kind))


def unpacked(column: pa.ChunkedArray, schema: TableSchema) -> pa.Array:
    """Return the nested column as tables have it, a struct of lists, from lists of structs, which lsdb gives."""
    kind = arrow_schema(schema).field(MORE).type
    if column.type == kind:
        return column.combine_chunks()
    rows = column.combine_chunks()
    lists = [
        pa.ListArray.from_arrays(
            rows.offsets, rows.values.field(inner.name).cast(inner.type.value_type), type=inner.type
        )
        for inner in kind
    ]
    return pa.StructArray.from_arrays(lists, fields=list(kind), mask=rows.is_null())


def spread_apertures(table: pa.Table) -> pa.Table:
    """Return a table whose later apertures have columns of their own, for files that know no nested ones.

    They have the names, units and texts that they would have; the nested column is gone, and nothing is added where no
    row has such apertures.
    """
    if MORE not in table.column_names:
        return table
    field = table.schema.field(MORE)
    metadata = json.loads((field.metadata or {}).get(b"columns", b"{}"))
    spread = table.drop_columns(MORE)
    lengths = [pc.list_value_length(pc.struct_field(table[MORE], inner.name)) for inner in field.type]
    for number in range(max((pc.max(length).as_py() or 0 for length in lengths), default=0)):
        for inner in field.type:
            circle = rf"\g<0>{number + N_PLAIN_CIRCLES + 1}"
            name = re.sub(r"(aper|hybrid)(?=_err|_radius_px|$)", circle, inner.name)
            values = pa.array(aperture_floats(table, name), from_pandas=True).cast(pa.float32())
            spread = spread.append_column(
                pa.field(name, values.type, metadata=metadata.get(inner.name)), values
            )
    return spread

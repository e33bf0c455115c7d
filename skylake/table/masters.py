"""The table ``masters``: rows of the calibration library as Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from skylake.schema import arrow_schema, conform, load


def masters_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return rows (column to value, missing columns null) as a table of the schema."""
    schema = load("masters")
    rows = list(rows)
    columns = {
        field.name: pa.array([row.get(field.name) for row in rows], field.type, from_pandas=True)
        for field in arrow_schema(schema)
    }
    return conform(pa.table(columns), schema)


def with_new(held: Iterable[Mapping[str, Any]], made: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of a camera's masters after new ones were made.

    A new master takes the place of one of the same name, and of one that was made of the same inputs for the same use.
    """
    made = list(made)
    gone = {_use(row) for row in made}
    names = {row["name"] for row in made}
    return [row for row in held if row["name"] not in names and _use(row) not in gone] + made


def _use(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        row.get(name) for name in ("kind", "filter", "extension", "binning", "form", "inputs_sha256")
    )

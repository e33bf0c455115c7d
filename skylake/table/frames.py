"""The table ``frames``: rows of a frame's life as Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from skylake.schema import arrow_schema, conform, load


def frames_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return rows (column to value, missing columns null) as a table of the schema."""
    schema = load("frames")
    rows = list(rows)
    columns = {
        field.name: pa.array([row.get(field.name) for row in rows], field.type, from_pandas=True)
        for field in arrow_schema(schema)
    }
    return conform(pa.table(columns), schema)

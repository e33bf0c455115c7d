"""The table ``frames``: rows of a frame's life as Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from skylake.schema import arrow_schema, conform, load
from skylake.schema.apertures import nested_row


def frames_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return rows (column to value, missing columns null) as a table of the schema.

    Values of apertures beyond the third stand under their names, such as ``apcor_aper4``.
    """
    schema = load("frames")
    rows = [nested_row(row) for row in rows]
    columns = {
        field.name: pa.array([row.get(field.name) for row in rows], field.type, from_pandas=True)
        for field in arrow_schema(schema)
    }
    return conform(pa.table(columns), schema)

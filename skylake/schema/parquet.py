"""Write Parquet files with the encodings, compression and row groups of the schemas.

How these were chosen, and what they cost, is in ``docs/storage.md``; ``benchmarks/parquet_encodings.py`` measures it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skylake.core.batch import Batch
from skylake.durable import replacing
from skylake.errors import SchemaError
from skylake.schema.tables import load

#: Rows of a row group, or entries of their lists: a cone or one star is found by the statistics of few of them.
ROW_GROUP_ROWS = 24576
_VOTABLE = b"IVOA.VOTable-Parquet.content"
_NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"


def write_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the keyword arguments for :func:`pyarrow.parquet.write_table` under a schema.

    Values that all rows of a frame share are stored in dictionaries, as are texts, small integers and other types;
    other floats are split into byte streams, other integers and times stored as differences. The same
    holds for the leaves of lists and structs.
    """
    encodings: dict[str, str] = {}
    dictionaries: list[str] = []
    for path, name, kind in _leaves(schema):
        encoding = None if name in _frame_columns() else _encoding(kind)
        if encoding is None:
            dictionaries.append(path)
        else:
            encodings[path] = encoding
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": dictionaries,
        "column_encoding": encodings,
        "row_group_size": ROW_GROUP_ROWS,
        "store_schema": True,
        # Otherwise a bit that is flipped on the disk may decode to another value without an error.
        "write_page_checksum": True,
    }


@cache
def _frame_columns() -> frozenset[str]:
    """Return the columns that name a frame, put frames in order, or name their batch."""
    frames = load("frames")
    return frozenset((*frames.primary_key, *frames.layout.sort, *(field.name for field in fields(Batch))))


def _leaves(columns: pa.Schema | pa.StructType) -> Iterator[tuple[str, str, pa.DataType]]:
    """Yield the path that Parquet gives to each leaf of columns, the name of its field, and its type."""
    for field in columns:
        path, kind = field.name, field.type
        while pa.types.is_list(kind) or pa.types.is_large_list(kind):
            path, kind = f"{path}.list.element", kind.value_type
        if pa.types.is_struct(kind):
            for inner, name, leaf in _leaves(kind):
                yield f"{path}.{inner}", name, leaf
        else:
            yield path, field.name, kind


def _encoding(kind: pa.DataType) -> str | None:
    """Return the encoding of values that differ from row to row; None for those that a dictionary suits."""
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        return "BYTE_STREAM_SPLIT"
    if pa.types.is_temporal(kind) or (pa.types.is_integer(kind) and kind.bit_width >= 32):
        return "DELTA_BINARY_PACKED"
    return None


class BlockWriter:
    """Writes blocks of rows as row groups, whose borders do not depend on those of the blocks.

    Parameters
    ----------
    writer : pyarrow.parquet.ParquetWriter
    absent : sequence of str
        Columns of the rows that the file does not have.
    """

    def __init__(self, writer: pq.ParquetWriter, absent: Sequence[str] = ()) -> None:
        self._writer, self._absent = writer, list(absent)
        self._waiting: list[pa.Table] = []
        self._weight = 0

    def write(self, rows: pa.Table) -> None:
        """Append rows; at most one row group of them waits in memory for more.

        Raises
        ------
        SchemaError
            If the columns are not those of the file.
        """
        rows = rows.drop_columns(self._absent) if self._absent else rows
        if not rows.schema.equals(self._writer.schema):
            raise SchemaError(
                f"rows of the columns {', '.join(rows.column_names)} do not fit a file of "
                f"{', '.join(self._writer.schema.names)}, in names, order, types or nulls; conform them first"
            )
        weight = _weights(rows)
        self._waiting.append(rows)
        self._weight += int(weight.sum())
        if self._weight < ROW_GROUP_ROWS:
            return
        rows = pa.concat_tables(self._waiting)
        total = np.cumsum(weight if len(self._waiting) == 1 else _weights(rows))
        start, before = 0, 0
        while int(total[-1]) - before >= ROW_GROUP_ROWS:
            end = int(np.searchsorted(total, before + ROW_GROUP_ROWS)) + 1
            self._write_group(rows.slice(start, end - start))
            start, before = end, int(total[end - 1])
        self._waiting, self._weight = [rows.slice(start)], int(total[-1]) - before

    def flush(self) -> None:
        """Write the remaining rows as the last row group."""
        rows = pa.concat_tables(self._waiting) if self._waiting else None
        if rows is not None and rows.num_rows:
            self._write_group(rows)
        self._waiting, self._weight = [], 0

    def _write_group(self, rows: pa.Table) -> None:
        # Pages end where chunks do, so chunks that are left would show in the bytes.
        self._writer.write_table(rows.combine_chunks())


def _weights(rows: pa.Table) -> np.ndarray:
    """Return how much each row counts towards a row group: 1, or the length of its longest list."""
    import pyarrow.compute as pc

    weights = np.ones(rows.num_rows, np.int64)
    for column in rows.columns:
        for values in _flattened(column):
            if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
                lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
                np.maximum(weights, lengths, out=weights)
    return weights


def _flattened(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    return column.flatten() if pa.types.is_struct(column.type) else [column]


def optional_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of a table that its files do not have where they are null in all rows."""
    return [field.name for field in schema if field.nullable and pa.types.is_struct(field.type)]


def absent_columns(rows: pa.Table) -> list[str]:
    """Return the nested columns of rows of a table that are null in all of them, which a file of these does not have.

    Readers fill a column that a file of a table lacks with null. astropy reads no file with a nested column.
    """
    if b"skylake.table" not in (rows.schema.metadata or {}):
        return []
    return [name for name in optional_columns(rows.schema) if rows[name].null_count == rows.num_rows]


def columns_absent_from(paths: Iterable[Path], schema: pa.Schema) -> list[str]:
    """Return the nested columns of a schema in which the footers of some files show no value."""
    absent = set(optional_columns(schema))
    for path in paths:
        if not absent:
            break
        metadata = pq.read_metadata(path)
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                statistics = column.statistics
                has_count = statistics is not None and statistics.has_null_count
                if not (has_count and statistics.null_count == column.num_values):
                    absent.discard(column.path_in_schema.partition(".")[0])
    return [name for name in schema.names if name in absent]


def has_empty_columns(path: Path, schema: pa.Schema) -> bool:
    """Return whether a file has nested columns without a value, as older versions of skylake wrote them."""
    absent = columns_absent_from([path], schema)
    return bool(absent) and not set(absent).isdisjoint(pq.read_schema(path).names)


def stored_schema(schema: pa.Schema, absent: Sequence[str]) -> pa.Schema:
    """Return the schema of a file that lacks some columns; the VOTable in its metadata lists those that it has."""
    if not absent:
        return schema
    metadata = dict(schema.metadata or {})
    if _VOTABLE in metadata:
        metadata[_VOTABLE] = _without_fields(metadata[_VOTABLE], absent)
    return pa.schema([field for field in schema if field.name not in absent], metadata)


def _without_fields(votable: bytes, absent: Sequence[str]) -> bytes:
    ElementTree.register_namespace("", _NAMESPACE)
    root = ElementTree.fromstring(votable)
    for table in root.iter(f"{{{_NAMESPACE}}}TABLE"):
        for element in list(table):
            if element.get("name", "").partition(".")[0] in absent:
                table.remove(element)
    return ElementTree.tostring(root)


@contextmanager
def open_writer(
    schema: pa.Schema, path: str | Path, durable: bool = True, absent: Sequence[str] = ()
) -> Iterator[BlockWriter]:
    """Open a Parquet file to which rows are written block by block.

    The file appears under its name at the end, when it is whole and on disk; before, it is beside it
    under a name that no reader of Parquet folders takes for data. After an error nothing of it is left,
    and an older file of the name stays. The same rows give the same bytes, in whatever blocks they come.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the file and of every block.
    path : str or Path
        Its folder is made if there is none.
    durable : bool
        Force it to disk; a writer of many files does that once for all of them.
    absent : sequence of str
        Columns that the file does not have, since they are null in all rows.
    """
    path, schema = Path(path), stored_schema(schema, absent)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = write_options(schema)
    del options["row_group_size"]
    with replacing(path, durable) as stream, pq.ParquetWriter(stream.name, schema, **options) as writer:
        blocks = BlockWriter(writer, absent)
        yield blocks
        blocks.flush()


def write_parquet(table: pa.Table, path: str | Path, durable: bool = True) -> None:
    """Write a table as :func:`open_writer` does, in one piece."""
    with open_writer(table.schema, path, durable, absent_columns(table)) as blocks:
        blocks.write(table)

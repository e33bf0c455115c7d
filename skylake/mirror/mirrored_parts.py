"""Write and remove parts of tables in the database, inside the transaction of the caller.

The rows of a part are found again by their primary keys, which ``mirror_parts.keys`` keeps as one list per
key column. So the public tables need no column for it, and parts may share a camera and a night.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.copy import QueuedLibpqWriter

from skylake.errors import MirrorError
from skylake.mirror.copy import HEADER, TRAILER, encode, storable
from skylake.schema import Column, TableSchema, conform, load
from skylake.schema.schema_ddl import MIRRORED

_SQL_TYPES = {"long": "bigint", "int": "integer", "short": "smallint", "string": "text", "text": "text"}

_RECORD = """
    INSERT INTO mirror_parts (table_name, part, checksum, n_rows, keys, snapshot, mirrored_at)
    VALUES (%s, %s, %s, %s, %s, %s, now())
"""


class PartWriter:
    """Removes and copies parts.

    Parameters
    ----------
    connection : psycopg.Connection
        A connection within a transaction, whose first schema holds the mirror.
    snapshot : int or None
        Snapshot of the lake to record.

    Attributes
    ----------
    touched : set of str
        Tables that have changed.
    n_rows_copied, n_rows_removed : int
        Rows so far.
    """

    def __init__(self, connection: psycopg.Connection[Any], snapshot: int | None) -> None:
        self._cursor = connection.cursor()
        self._snapshot = snapshot
        self.touched: set[str] = set()
        self.n_rows_copied = 0
        self.n_rows_removed = 0

    def copy(self, table: str, part: str, checksum: str, rows: pa.Table) -> None:
        """Copy the rows of a part that is not there. Nested columns are not mirrored.

        Raises
        ------
        MirrorError
            If the table is not mirrored.
        SchemaError
            If the rows do not fit its schema.
        """
        schema = _schema(table)
        rows = storable(conform(rows, schema).select(schema.flat_names))
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            sql.Identifier(table), _names(rows.column_names)
        )
        # The writer sends from a thread of its own, while this one encodes what comes next.
        with self._cursor.copy(statement, writer=QueuedLibpqWriter(self._cursor)) as stream:
            stream.write(HEADER)
            for piece in encode(rows):
                stream.write(piece)
            stream.write(TRAILER)
        keys = {name: rows.column(name).to_pylist() for name in schema.primary_key}
        record = (table, part, checksum, rows.num_rows, json.dumps(keys, ensure_ascii=False), self._snapshot)
        self._cursor.execute(_RECORD, record)
        self.touched.add(table)
        self.n_rows_copied += rows.num_rows

    def remove(self, table: str, part: str) -> None:
        """Remove a part and its rows."""
        self._cursor.execute(_delete_statement(_schema(table)), (table, part))
        self.n_rows_removed += max(self._cursor.rowcount, 0)
        self._cursor.execute("DELETE FROM mirror_parts WHERE table_name = %s AND part = %s", (table, part))
        self.touched.add(table)


def _schema(table: str) -> TableSchema:
    if table not in MIRRORED:
        raise MirrorError(f"the table {table!r} is not mirrored; give one of {', '.join(MIRRORED)}")
    return load(table)


def _names(names: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _delete_statement(schema: TableSchema) -> sql.Composed:
    """Return the statement that deletes the rows whose keys the books hold for a part."""
    key = [schema[name] for name in schema.primary_key]
    lists = sql.SQL(", ").join(
        sql.SQL("json_array_elements_text(books.keys -> {})").format(sql.Literal(column.name))
        for column in key
    )
    matches = sql.SQL(" AND ").join(_match(column) for column in key)
    return sql.SQL(
        "DELETE FROM {table} AS rows USING mirror_parts AS books, ROWS FROM ({lists}) AS listed ({names}) "
        "WHERE books.table_name = %s AND books.part = %s AND {matches}"
    ).format(
        table=sql.Identifier(schema.name),
        lists=lists,
        names=_names([column.name for column in key]),
        matches=matches,
    )


def _match(column: Column) -> sql.Composed:
    return sql.SQL("rows.{name} = listed.{name}::{type}").format(
        name=sql.Identifier(column.name), type=sql.SQL(_SQL_TYPES[column.datatype])
    )

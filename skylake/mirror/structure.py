"""The tables of a mirror: created, compared with the schemas, extended, widened, dropped.

All functions work in the schema that comes first in ``search_path`` and in the transaction of the connection.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import SetColumnComment, SetTableComment

from skylake import logs
from skylake.errors import MirrorError
from skylake.mirror import books
from skylake.mirror.faults import translated
from skylake.resources import folder
from skylake.schema.schema_ddl import mirrored_metadata

_LOG = logs.get(__name__)
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

_TEXT = "character varying"
#: Types as format_type writes them, and those that their values fit into.
_WIDER = {
    "smallint": {"integer", "bigint"},
    "integer": {"bigint"},
    "real": {"double precision"},
    _TEXT: {"text"},
}

_COLUMNS = sa.text("""
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
        coalesce(a.attnum = ANY (i.indkey), false) AS in_key
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
    WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relname = ANY (:names)
""")


@dataclass(frozen=True, slots=True)
class _DatabaseColumn:
    """A column as the database has it."""

    type: str
    required: bool
    in_key: bool


def files() -> list[Path]:
    """Return the SQL files that complete a mirror, in order."""
    return sorted((folder("sql") / "mirror").glob("*.sql"))


def is_ours(connection: sa.Connection) -> bool:
    """Return whether a mirror has been prepared here."""
    return bool(_columns(connection, ["mirror_state"]))


def prepare(connection: sa.Connection, shown: str) -> None:
    """Create what is missing, add columns that the schemas have gained, and widen those that they have widened.

    Raises
    ------
    MirrorError
        If tables differ otherwise, if they are not ours, or if an SQL file fails.
    """
    tables = [*mirrored_metadata().sorted_tables, *books.metadata().sorted_tables]
    columns = _columns(connection, [table.name for table in tables])
    _refuse_foreign(columns, shown)
    there = [table for table in tables if table.name in columns]
    gained = [column for table in there for column in _gained(table, columns[table.name], shown)]
    widened = [column for table in there for column in _widened(table, columns[table.name])]
    expected = _sha256(tables)
    changed = gained or widened or len(columns) < len(tables)
    if not changed and books.structure_sha256(connection) == expected:
        return
    for metadata in (mirrored_metadata(), books.metadata()):
        metadata.create_all(connection)
    for column in gained:
        _add(connection, column)
    for table in tables:
        # A table that someone dropped is empty now, whatever the books say.
        if table.name not in columns:
            books.request_copy(connection, table.name)
    _describe(connection, there)
    no_views, *others = files()
    _run(connection, no_views, shown)
    for column in widened:
        _widen(connection, column, shown)
    for path in others:
        _run(connection, path, shown)
    books.set_structure_sha256(connection, expected)


def drop(connection: sa.Connection, shown: str) -> None:
    """Drop the mirror, with the views that others have made on it.

    Raises
    ------
    MirrorError
        If the tables are not ours.
    """
    tables = [*mirrored_metadata().sorted_tables, *books.metadata().sorted_tables]
    columns = _columns(connection, [table.name for table in tables])
    _refuse_foreign(columns, shown)
    for name in columns:
        connection.execute(sa.text(f'DROP TABLE "{name}" CASCADE'))


def _refuse_foreign(columns: dict[str, dict[str, _DatabaseColumn]], shown: str) -> None:
    if columns and "mirror_state" not in columns:
        raise MirrorError(
            f"{shown}: the table {min(columns)} is there, but skylake did not make it; "
            "give another database or --schema"
        )


def _columns(connection: sa.Connection, names: list[str]) -> dict[str, dict[str, _DatabaseColumn]]:
    columns: dict[str, dict[str, _DatabaseColumn]] = {}
    for row in connection.execute(_COLUMNS, {"names": names}):
        columns.setdefault(row.relname, {})[row.attname] = _DatabaseColumn(
            row.type, row.attnotnull, row.in_key
        )
    return columns


def _gained(table: sa.Table, columns: dict[str, _DatabaseColumn], shown: str) -> list[sa.Column[Any]]:
    """Return the columns that the database lacks; refuse any other difference."""
    differences = {name: "is not in the schema" for name in columns if name not in table.columns}
    # A missing column of the key comes first: that the others are not the key follows from it.
    for column in sorted(table.columns, key=lambda column: column.name in columns):
        difference = _difference(column, columns.get(column.name))
        if difference:
            differences[column.name] = difference
    for name, difference in differences.items():
        raise MirrorError(
            f"{shown}: the column {table.name}.{name} {difference}; run the command with --rebuild"
        )
    return [column for column in table.columns if column.name not in columns]


def _widened(table: sa.Table, columns: dict[str, _DatabaseColumn]) -> list[sa.Column[Any]]:
    """Return the columns whose type is narrower in the database, or that may not be null only there."""
    return [
        column
        for column in table.columns
        if column.name in columns
        and (
            columns[column.name].type != _type_name(column)
            or columns[column.name].required == column.nullable
        )
    ]


def _is_narrower(there: str, wanted: str) -> bool:
    if there.startswith(_TEXT) and wanted.startswith(_TEXT):
        return _length(there) < _length(wanted)
    return wanted in _WIDER.get(there.partition("(")[0], ())


def _length(kind: str) -> int:
    return int(kind.removeprefix(_TEXT).strip("()"))


def _difference(column: sa.Column[Any], there: _DatabaseColumn | None) -> str | None:
    """Return how a column differs in a way that cannot be fixed in place."""
    if there is None:
        return None if column.nullable else "is missing and may not be null"
    if there.type != _type_name(column) and not _is_narrower(there.type, _type_name(column)):
        return f"is {there.type} and should be {_type_name(column)}"
    if there.in_key != column.primary_key:
        return f"{'is' if there.in_key else 'is not'} in the primary key, against the schema"
    if not there.required and not column.nullable:
        return "may be null, against the schema"
    return None


def _type_name(column: sa.Column[Any]) -> str:
    """Return the type as PostgreSQL's format_type writes it."""
    return str(column.type.compile(dialect=_DIALECT)).lower().replace("varchar", "character varying")


def _sha256(tables: list[sa.Table]) -> str:
    digest = hashlib.sha256()
    for table in tables:
        digest.update("\n".join(_definition(table)).encode())
    for path in files():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _definition(table: sa.Table) -> list[str]:
    columns = [f"{column.name} {_type_name(column)} {column.nullable}" for column in table.columns]
    comments = [column.comment or "" for column in table.columns]
    return [table.name, *columns, table.comment or "", *comments]


def _add(connection: sa.Connection, column: sa.Column[Any]) -> None:
    table = column.table.name
    connection.execute(sa.text(f'ALTER TABLE "{table}" ADD COLUMN "{column.name}" {_type_name(column)}'))
    # The lake may hold values of the new column in parts that were copied without it.
    books.request_copy(connection, table)
    _LOG.info("the mirror has gained the column %s.%s", table, column.name)


def _widen(connection: sa.Connection, column: sa.Column[Any], shown: str) -> None:
    table, kind = column.table.name, _type_name(column)
    nullable = f', ALTER COLUMN "{column.name}" DROP NOT NULL' if column.nullable else ""
    with translated(f"{shown}: the column {table}.{column.name} could not be made {kind}"):
        connection.execute(
            sa.text(f'ALTER TABLE "{table}" ALTER COLUMN "{column.name}" TYPE {kind}{nullable}')
        )
    _LOG.info("the mirror has widened the column %s.%s", table, column.name)


def _describe(connection: sa.Connection, tables: list[sa.Table]) -> None:
    for table in tables:
        connection.execute(SetTableComment(table))
        for column in table.columns:
            connection.execute(SetColumnComment(column))


def _run(connection: sa.Connection, path: Path, shown: str) -> None:
    # The bare cursor takes many statements at once, and a per cent sign for itself.
    with translated(f"{shown}: sql/mirror/{path.name}"):
        connection.connection.cursor().execute(path.read_text(encoding="utf-8"))

"""SQLAlchemy tables and DDL from the schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skylake.schema.tables import Column, TableSchema, flag_texts, load

if TYPE_CHECKING:
    import sqlalchemy as sa

#: Tables that are mirrored into a database.
MIRRORED = ("frames", "zeropoints", "nights", "photometric_nights")
_GENERATED = "-- Generated from schemas/flags.yaml by `make generated`; do not edit."


def sql_table(schema: TableSchema, metadata: sa.MetaData) -> sa.Table:
    """Return the SQLAlchemy table of a schema, with texts as comments."""
    import sqlalchemy as sa

    columns: list[Any] = [
        sa.Column(
            column.name,
            _sql_type(column),
            primary_key=column.name in schema.primary_key,
            nullable=column.nullable,
            autoincrement=False,
            comment=_comment(column),
        )
        for column in schema.columns
        if not column.columns
    ]
    return sa.Table(schema.name, metadata, *columns, comment=schema.description)


def _comment(column: Column) -> str:
    return f"{column.description} [{column.unit}]" if column.unit else column.description


def _sql_type(column: Column) -> Any:
    import sqlalchemy as sa

    plain = {
        "boolean": sa.Boolean,
        "byte": sa.SmallInteger,
        "short": sa.SmallInteger,
        "int": sa.Integer,
        "long": sa.BigInteger,
        "float": sa.REAL,
        "double": sa.Double,
        "text": sa.Text,
    }
    if column.datatype == "string":
        return sa.String(column.length)
    if column.datatype == "timestamp":
        return sa.DateTime(timezone=True)
    return plain[column.datatype]()


def mirrored_metadata(namespace: str | None = None) -> sa.MetaData:
    """Return the SQLAlchemy metadata of all mirrored tables."""
    import sqlalchemy as sa

    metadata = sa.MetaData(schema=namespace)
    for name in MIRRORED:
        sql_table(load(name), metadata)
    return metadata


def ddl() -> str:
    """Return the PostgreSQL statements that create the mirrored tables, with comments."""
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable, SetColumnComment, SetTableComment

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    statements = ["-- Generated from schemas/*.yaml by `make generated`; do not edit."]
    for table in mirrored_metadata().sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)).strip() + ";")
        statements.append(str(SetTableComment(table).compile(dialect=dialect)).strip() + ";")
        statements += [
            str(SetColumnComment(column).compile(dialect=dialect)).strip() + ";" for column in table.columns
        ]
    lines = "\n\n".join(statements).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def duckdb_flags() -> str:
    """Return the DuckDB macros that give the names of the bits in a value of flags."""
    lines = [
        _GENERATED,
        "-- The names of the bits that are set, as in `WHERE list_contains(source_flags(flags), 'EDGE')`.",
    ]
    for table in ("sources", "frames"):
        known = ", ".join(
            f"{{'bit': {bit}, 'name': '{name}'}}" for name, (bit, _) in flag_texts(table).items()
        )
        lines.append(
            f"CREATE MACRO {_function(table)}(flags) AS\n"
            f"    [one.name FOR one IN [{known}] IF (flags & one.bit) <> 0];"
        )
    return "\n".join(lines) + "\n"


def postgres_flags() -> str:
    """Return the PostgreSQL function that gives the names of the bits in a value of the flags of frames."""
    known = ", ".join(f"({bit}, '{name}')" for name, (bit, _) in flag_texts("frames").items())
    return f"""{_GENERATED}
-- The names of the bits that are set, as in `WHERE 'NAN_PIXELS' = ANY (frame_flags(flags))`. Safe to run again; run it
-- with the tables' schema in search_path.
CREATE OR REPLACE FUNCTION {_function("frames")}(flags bigint) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(name ORDER BY bit), '{{}}')
    FROM (VALUES {known}) AS known (bit, name)
    WHERE flags & bit <> 0
$$;
"""


def _function(table: str) -> str:
    """Return the name of the function that decodes the flags of a table."""
    return f"{table.removesuffix('s')}_flags"

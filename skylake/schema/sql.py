"""SQLAlchemy tables and DDL from the schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skylake.schema.tables import Column, TableSchema, load

if TYPE_CHECKING:
    import sqlalchemy as sa

#: Tables that are mirrored into a database.
MIRRORED = ("frames", "zeropoints", "nights")


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

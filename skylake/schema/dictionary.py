"""Write the data dictionary of ``docs/`` from the schemas."""

from __future__ import annotations

from skylake.schema.tables import TABLES, Column, TableSchema, flag_texts, load

_HEADER = """# Data dictionary

<!-- Generated from schemas/*.yaml by `make generated`; do not edit. -->

The tables of a lake, in the order in which they are made. Names and meanings are stable: a column is
only ever added, a type only ever widened.
"""


def dictionary() -> str:
    """Return the data dictionary as Markdown."""
    parts = [_HEADER, *(_table(load(name)) for name in TABLES)]
    parts.append(_table(load("catalog"), title="Reference catalogs"))
    parts.append(_flags())
    return "\n".join(parts)


def _table(schema: TableSchema, title: str | None = None) -> str:
    lines = [f"## {title or schema.name}", "", schema.description, ""]
    key = ", ".join(f"`{name}`" for name in schema.primary_key)
    kind = "HATS catalog" if schema.layout.kind == "hats" else "Parquet files by camera and night"
    lines += [f"Key: {key}. Layout: {kind}.", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
    for column in schema.columns:
        lines.append(_row(column, ""))
        lines += [_row(inner, f"{column.name}.") for inner in column.columns]
    return "\n".join([*lines, ""])


def _row(column: Column, prefix: str) -> str:
    kind = column.datatype if not column.nullable else f"{column.datatype}, null"
    text = column.description.replace("|", "\\|")
    return f"| `{prefix}{column.name}` | {kind} | {column.unit or ''} | {text} |"


def _flags() -> str:
    lines = ["## Flag bits", "", "`skylake flags VALUE` decodes a value.", ""]
    for table in ("sources", "frames"):
        lines += [f"### {table}.flags", "", "| bit | value | name | meaning |", "|---|---|---|---|"]
        for name, (value, text) in flag_texts(table).items():
            lines.append(f"| {value.bit_length() - 1} | {value} | {name} | {text} |")
        lines.append("")
    return "\n".join(lines)

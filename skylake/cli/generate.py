"""Write the generated files: DDL, types of rows, data dictionary and command reference.

``make generated`` runs it in a source tree; tests compare the files with what it would write.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from skylake.cli.main import cli
from skylake.resources import folder
from skylake.schema.row_types import frame_row_module
from skylake.schema.schema_ddl import ddl, duckdb_flags, postgres_flags
from skylake.schema.tables import ON_REQUEST, TABLES, Column, TableSchema, flag_texts, load

_REFERENCE = """# Command reference

<!-- Generated from the commands themselves by `make generated`; do not edit. -->
"""

_DICTIONARY = """# Data dictionary

<!-- Generated from schemas/*.yaml by `make generated`; do not edit. -->

The tables of a lake, in the order in which they are made; the last two are made on request. Names and meanings are
stable: columns are only added, and types only widened.

- Null means unknown or not applicable. Only columns marked `null` may be null. No table holds NaN.
- The *calibration aperture* is the one that `apertures.flux` of the camera profile names. *Total flux* is flux
  with its aperture correction applied.
- *Clean* and *good photometry* are selections by flags; see [Which rows to trust](reading.md#which-rows-to-trust).
"""


def generated() -> dict[str, str]:
    """Return the generated files: path in the source tree to text."""
    return {
        "sql/generated/postgres.sql": ddl(),
        "sql/mirror/15_flags.sql": postgres_flags(),
        "sql/duckdb/flags.sql": duckdb_flags(),
        "docs/schema.md": dictionary(),
        "skylake/core/frame_row.py": frame_row_module(),
        "docs/cli.md": _REFERENCE + "".join(_pages(cli, "skylake")),
    }


def _pages(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    """Yield the help of a command and of all below it, as Markdown."""
    settings = dict(command.context_settings) | {"terminal_width": 100}
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent, **settings)
    lines = command.get_help(context).rstrip()
    yield f"\n## {name}\n\n```text\n{lines}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            subcommand = command.get_command(context, child)
            if subcommand is not None:
                yield from _pages(subcommand, f"{name} {child}", context)


def dictionary() -> str:
    """Return the data dictionary as Markdown."""
    parts = [_DICTIONARY, *(_table_section(load(name)) for name in (*TABLES, *ON_REQUEST))]
    parts.append(_table_section(load("catalog"), title="Reference catalogs"))
    parts.append(_flag_section())
    return "\n".join(parts)


def _table_section(schema: TableSchema, title: str | None = None) -> str:
    lines = [f"## {title or schema.name}", "", schema.description, ""]
    key = ", ".join(f"`{name}`" for name in schema.primary_key)
    kind = "HATS catalog" if schema.layout.kind == "hats" else "Parquet files by camera and night"
    default = ", ".join(f"`{name}`" for name in schema.layout.default)
    loaded = f" lsdb loads by default: {default}." if default else ""
    lines += [
        f"Key: {key}. Layout: {kind}.{loaded}",
        "",
        "| column | type | unit | meaning |",
        "|---|---|---|---|",
    ]
    for column in schema.columns:
        lines.append(_column_row(column, ""))
        lines += [_column_row(inner, f"{column.name}.") for inner in column.columns]
    return "\n".join([*lines, ""])


def _column_row(column: Column, prefix: str) -> str:
    kind = column.datatype if not column.nullable else f"{column.datatype}, null"
    text = column.description.replace("|", "\\|")
    return f"| `{prefix}{column.name}` | {kind} | {column.unit or ''} | {text} |"


def _flag_section() -> str:
    lines = ["## Flag bits", "", "`skylake flags VALUE` decodes a value.", ""]
    for table in ("sources", "frames"):
        lines += [f"### {table}.flags", "", "| bit | value | name | meaning |", "|---|---|---|---|"]
        for name, (value, text) in flag_texts(table).items():
            lines.append(f"| {value.bit_length() - 1} | {value} | {name} | {text} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Write the generated files beside the declarations they are made from."""
    root = folder("schemas").parent
    for path, text in generated().items():
        target = Path(root / path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()

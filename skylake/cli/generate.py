"""Write the generated files: DDL, data dictionary and command reference.

``make generated`` runs it in a source tree; tests compare the files with what it would write.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from skylake.cli.main import cli
from skylake.resources import folder
from skylake.schema.dictionary import dictionary
from skylake.schema.schema_ddl import ddl, duckdb_flags, postgres_flags

_REFERENCE = """# Command reference

<!-- Generated from the commands themselves by `make generated`; do not edit. -->
"""


def generated() -> dict[str, str]:
    """Return the generated files: path in the source tree to text."""
    return {
        "sql/generated/postgres.sql": ddl(),
        "sql/mirror/15_flags.sql": postgres_flags(),
        "sql/duckdb/flags.sql": duckdb_flags(),
        "docs/schema.md": dictionary(),
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

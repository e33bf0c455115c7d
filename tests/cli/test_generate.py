from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import skylake
from skylake.cli.generate import generated
from skylake.cli.main import cli

SOURCE = Path(skylake.__file__).parents[1]
MADE = generated()
FILES = [
    "docs/cli.md",
    "docs/schema.md",
    "skylake/core/frame_row.py",
    "sql/duckdb/flags.sql",
    "sql/generated/postgres.sql",
    "sql/mirror/15_flags.sql",
]


def names(command: click.Command, name: str) -> Iterator[str]:
    yield name
    if isinstance(command, click.Group):
        for child, below in command.commands.items():
            yield from names(below, f"{name} {child}")


@pytest.mark.parametrize("path", FILES)
def test_the_files_of_the_tree_are_what_would_be_made_now(path: str) -> None:
    assert (SOURCE / path).read_text(encoding="utf-8") == MADE[path], "run `make generated`"


def test_nothing_else_is_made() -> None:
    assert set(MADE) == {*FILES}


def test_the_reference_has_a_page_for_every_command_and_option() -> None:
    pages = dict(
        re.findall(r"^## ([^\n]+)\n\n```text\n(.*?)\n```$", MADE["docs/cli.md"], re.MULTILINE | re.DOTALL)
    )
    assert set(pages) == set(names(cli, "skylake"))
    for name, text in pages.items():
        assert text.startswith(f"Usage: {name} ")
        command: click.Command = cli
        for part in name.split()[1:]:
            assert isinstance(command, click.Group)
            command = command.commands[part]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(option in text for option in parameter.opts), (name, parameter.opts)
        assert max(len(line) for line in text.splitlines()) <= 100
        assert "-h, --help" in text
        assert "\b" not in text and "\\b" not in text


def test_the_reference_does_not_depend_on_the_terminal(environment: dict[str, str]) -> None:
    code = "from skylake.cli.generate import generated; print(generated()['docs/cli.md'], end='')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "COLUMNS": "40", "TERM": "dumb", "NO_COLOR": "1", "LANG": "C"},
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode() == MADE["docs/cli.md"]

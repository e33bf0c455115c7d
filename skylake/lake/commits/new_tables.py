"""Tables that a newer skylake adds to a lake: empty in older snapshots, created by the next commit."""

from __future__ import annotations

import atexit
import json
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from skylake.durable import text_of
from skylake.lake.commits.hats_files import write_table_metadata
from skylake.lake.layout import PARTS_FOLDER, Layout
from skylake.lake.storage.bundles import BUNDLES_FOLDER
from skylake.schema import load, table_names
from skylake.scratch import scratch_folder


def is_addition(layout: Layout, number: int, table: str) -> bool:
    """Return whether a table came into skylake after a snapshot was made, which has no link for it then.

    The record of each commit names the tables of its snapshot. If it cannot be read, a missing link counts as damage.
    """
    if (layout.snapshot(number) / table).is_symlink():
        return False
    try:
        tables = json.loads(text_of(layout.record(number)))["tables"]
    except (OSError, ValueError, KeyError):
        return False
    return table not in tables


def linked_tables(folder: Path) -> tuple[str, ...]:
    """Return the tables of a snapshot, given its folder: those of skylake, then those of users with a link."""
    own = table_names()
    links = sorted(path.name for path in folder.iterdir() if path.is_symlink()) if folder.is_dir() else []
    return (*own, *(name for name in links if name not in own))


def make_empty(folder: Path, table: str) -> Path:
    """Make a version of a table without rows, and return its folder."""
    for inner in ("dataset", PARTS_FOLDER, BUNDLES_FOLDER):
        (folder / inner).mkdir(parents=True)
    write_table_metadata(folder, table, 0)
    return folder


def empty_version(table: str) -> Path:
    """Return a version of a table without rows, outside any lake: it goes when this process ends."""
    return _empty_version(table, load(table).sha256)


@cache
def _empty_version(table: str, sha256: str) -> Path:
    return make_empty(_place().resolve() / table / sha256[:16] / "000000", table)


@cache
def _place() -> Path:
    held = ExitStack()
    atexit.register(held.close)
    return held.enter_context(scratch_folder("empty"))

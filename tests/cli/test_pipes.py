"""A file of a lake may be a pipe in a lake of somebody else, whose end never comes: commands say so, and end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.full

#: Seconds in which a command has ended.
PATIENCE_S = 60.0
FILES = (
    "skylake.toml", "_newest", "_lock", "_compacting", "_ledger/*.json", "_ledger/configurations/*.json",
    "_cameras/*.json", "_cameras/*.*[!n]", "current/frames/_parts/*.json", "current/frames/dataset/*.parquet",
    "current/sources/hats.properties", "current/sources/partition_info.csv",
    "current/sources/dataset/_common_metadata",
    "current/sources/dataset/*/*/*/*.parquet", "current/sources/_parts/*.json", "catalogs/simcat/*.properties",
    "catalogs/simcat/_objects.json", "catalogs/simcat/simcat/hats.properties",
)  # fmt: skip
COMMANDS: tuple[tuple[object, ...], ...] = (
    ("status",),
    ("sql", "SELECT count(*) FROM sources, frames"),
    ("verify",),
    ("history",),
    ("catalog", "list"),
    ("aggregate", "nights"),
    ("vacuum", "--keep", 1),
)


@pytest.mark.parametrize("pattern", FILES)
def test_commands_end_where_a_file_is_a_pipe(
    pattern: str,
    lake: Path,
    tmp_path: Path,
    copy_lake: Callable[[Path, Path], Path],
    skylake_command: Callable[..., Any],
) -> None:
    root = copy_lake(lake, tmp_path / "lake")
    path = max(root.glob(pattern), default=root / pattern)
    assert "*" not in str(path)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    for command, *options in COMMANDS:
        words = [command, options.pop(0)] if command == "catalog" else [command]
        # Who waits for the pipe goes on once it is opened at its other end.
        late = threading.Timer(PATIENCE_S, lambda: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)))
        late.start()
        answer = skylake_command(*words, root, *options)
        assert late.is_alive(), f"{command} has waited for {path}"
        late.cancel()
        late.join()
        assert answer.status in (0, 1, 2, 3) and "internal error" not in answer.err, (command, answer)

"""Files come in their order while the next is read ahead; what became of that changes neither bytes nor errors."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from skylake.flow.execution.read_ahead import ahead, fetch
from skylake.flow.ingest.frame_tasks import Reduction, reduce_chunk


def test_all_files_come_once_and_in_their_order(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.fits") for number in range(5)]
    for path in paths[::2]:
        Path(path).write_bytes(bytes(3_000_000))
    assert list(ahead(paths)) == paths
    assert list(ahead([])) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_only_the_next_file_is_opened_ahead(tmp_path: Path) -> None:
    """A pipe can be opened for writing at once only while somebody reads it."""
    pipes = [str(tmp_path / name) for name in ("next", "further")]
    for pipe in pipes:
        os.mkfifo(pipe)
    files = ahead([str(tmp_path / "first"), *pipes])
    next(files)
    opened, until = None, time.monotonic() + 900.0
    while opened is None and time.monotonic() < until:
        try:
            opened = os.open(pipes[0], os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.001)
    assert opened is not None
    os.close(opened)
    with pytest.raises(OSError, match="No such device"):
        os.open(pipes[1], os.O_WRONLY | os.O_NONBLOCK)


def test_a_file_is_read_as_it_is_when_its_turn_comes(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    first.write_bytes(b"first")
    second.write_bytes(b"before")
    read = []
    for path in ahead([str(first), str(second)]):
        read.append(Path(path).read_bytes())
        second.write_bytes(b"as it is now")
    assert read == [b"first", b"as it is now"]


def test_what_cannot_be_read_ahead_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    results = [fetch(str(tmp_path / name)) for name in ("missing", "empty", ".")]
    assert results == [None, None, None]


def test_only_the_file_that_cannot_be_read_is_reported(
    frames: list[Path], profile: Any, tmp_path: Path
) -> None:
    frames[1].write_bytes(b"")
    missing = tmp_path / "missing.fits"
    paths = [str(path) for path in (frames[0], frames[1], missing, frames[2])]
    rows = reduce_chunk(paths, Reduction(profile), tmp_path / "chunk.arrow").frames
    assert rows["file"].to_pylist() == paths
    assert rows["status"].to_pylist() == ["ok", "failed", "failed", "ok"]
    assert rows["reason"].to_pylist() == [None, "empty_file", "unreadable", None]

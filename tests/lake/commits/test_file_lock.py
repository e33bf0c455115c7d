"""Locks of a lake, and what is reported of those who hold them."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skylake.errors import LakeError
from skylake.lake.commits.file_lock import locked

Python = Callable[..., "subprocess.Popen[str]"]

_HOLD = """
import sys, time
from pathlib import Path
from skylake.lake.commits.file_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def held(tmp_path: Path, python: Python) -> Iterator[Callable[[float], tuple[Path, int]]]:
    """A function (seconds) that lets another process hold a lock for so long; gives the file and the process."""
    processes = []

    def hold(seconds: float) -> tuple[Path, int]:
        path = tmp_path / "_lock"
        process = python(_HOLD, path, seconds)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return path, process.pid

    yield hold
    for process in processes:
        process.kill()
        process.communicate(timeout=60)


def test_a_wait_names_the_other_process(
    held: Callable[[float], tuple[Path, int]], caplog: pytest.LogCaptureFixture
) -> None:
    path, process = held(1.5)
    with caplog.at_level("WARNING", logger="skylake"), locked(path, patience_s=0.05):
        (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith(f"{path}: waiting for another run that writes to the lake: process {process} on ")
    assert socket.gethostname() in told


def test_nothing_is_reported_of_a_short_wait(
    held: Callable[[float], tuple[Path, int]], caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = held(0.1)
    with caplog.at_level("WARNING", logger="skylake"), locked(path):
        assert caplog.records == []


def test_a_refusal_names_the_other_process(held: Callable[[float], tuple[Path, int]]) -> None:
    path, process = held(60)
    with (
        pytest.raises(LakeError, match=rf"another run is at it already \(process {process} on "),
        locked(path, wait=False),
    ):
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"host": "a"}'])
def test_an_owner_that_is_not_known_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "_lock"
    with locked(path):
        path.write_text(text)
        with pytest.raises(LakeError, match=r"already \(it does not say which\)"), locked(path, wait=False):
            pass


def test_the_file_names_who_has_locked_it_last(tmp_path: Path) -> None:
    path = tmp_path / "_lock"
    path.write_text("x" * 5000)
    with locked(path):
        assert json.loads(path.read_text()).keys() == {"host", "process", "since"}

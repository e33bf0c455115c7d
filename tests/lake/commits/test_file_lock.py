"""Locks of a lake, and what is reported of those who hold them."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skylake.errors import LakeError
from skylake.lake.commits.file_lock import locked

Python = Callable[..., "subprocess.Popen[str]"]

_HOLD = """
import sys
from pathlib import Path
from skylake.lake.commits.file_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def held(tmp_path: Path, python: Python) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A file that another process has locked, and the process, which keeps it until it is told to let go."""
    path = tmp_path / "_lock"
    with python(_HOLD, path, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


class LetGoWhenTold(logging.Handler):
    """Lets the other process go once a warning has been reported."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__()
        self.process = process

    def emit(self, record: logging.LogRecord) -> None:
        let_go(self.process)


def test_a_wait_names_the_other_process(
    held: tuple[Path, subprocess.Popen[str]], caplog: pytest.LogCaptureFixture
) -> None:
    path, process = held
    logger, handler = logging.getLogger("skylake"), LetGoWhenTold(process)
    logger.addHandler(handler)
    try:
        with caplog.at_level("WARNING", logger="skylake"), locked(path, patience_s=0.05):
            (told,) = (record.getMessage() for record in caplog.records)
    finally:
        logger.removeHandler(handler)
    assert told.startswith(
        f"{path}: waiting for another run that writes to the lake: process {process.pid} on "
    )
    assert socket.gethostname() in told


def test_nothing_is_reported_of_a_short_wait(
    held: tuple[Path, subprocess.Popen[str]], caplog: pytest.LogCaptureFixture
) -> None:
    path, process = held
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: (time.sleep(0.1), let_go(process)))
        with caplog.at_level("WARNING", logger="skylake"), locked(path, patience_s=900.0):
            assert caplog.records == []


def test_a_refusal_names_the_other_process(held: tuple[Path, subprocess.Popen[str]]) -> None:
    path, process = held
    with (
        pytest.raises(LakeError, match=rf"another run is at it already \(process {process.pid} on "),
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


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("elsewhere")])
def test_what_is_no_file_is_no_lock(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "_lock"
    make(path)
    refused = f"{path}: a lock is a file, and this is none; remove it and run again"
    with pytest.raises(LakeError, match=refused), locked(path):
        pass
    assert not (tmp_path / "elsewhere").exists()

"""Folders for what is needed while a process runs; what killed processes have left goes with the next one."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skylake.durable import GONE, hold, set_aside


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Give an empty folder that goes at the end, in the temporary folder of the system.

    Those of the same user and purpose that no process holds any more are removed first.

    Parameters
    ----------
    purpose : str
        Word for the name of the folder, as in ``skylake-night-k3v9x1``.

    Raises
    ------
    OSError
        If none can be made.
    """
    prefix = f"skylake-{purpose}-"
    parent = Path(tempfile.gettempdir())
    for path in (*parent.glob(f"{prefix}*"), *parent.glob(f".{prefix}*{GONE}")):
        with suppress(OSError):
            _drop_left(path)
    folder, descriptor = _held(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _held(prefix: str) -> tuple[Path, int]:
    """Make a folder, and hold it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        # Another process may have taken it for one that was left.
        with suppress(FileNotFoundError):
            return folder, hold(folder)


def _drop_left(path: Path) -> None:
    """Remove a folder of this user that no process holds; nobody else can have put anything there."""
    status = path.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    if is_own and (aside := path if path.name.endswith(GONE) else set_aside(path)) is not None:
        shutil.rmtree(aside)

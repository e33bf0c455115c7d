"""Locks on files of a lake, with the process that holds each."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from skylake import logs
from skylake.durable import open_in_place
from skylake.errors import LakeError, cannot_be_written

_log = logs.get(__name__)

#: Seconds that a commit waits for others before it warns. A commit of a night takes less than one.
_PATIENCE_S = 10.0
_ASKED_EVERY_S = 0.02
#: The errors of a lock that another process holds.
_HELD = {errno.EAGAIN, errno.EACCES}


@contextmanager
def locked(path: Path, wait: bool = True, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Hold the lock on a file of a lake. The system frees it when the process ends, however it ends.

    The file names the process that has locked it, or was killed while it had.

    Parameters
    ----------
    path : Path
    wait : bool
        Whether to wait, as long as it takes, while another process holds it.
    patience_s : float
        Seconds to wait before a warning names the other process.

    Raises
    ------
    LakeError
        If the lake cannot be written, or another process holds the lock and `wait` is false.
    """
    try:
        descriptor = open_in_place(path)
    except OSError as error:
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise LakeError(f"{path}: a lock is a file, and this is none; remove it and run again") from error
        raise cannot_be_written(path.parent, error) from error
    try:
        if not _lock(path, descriptor, patience_s if wait else 0.0):
            owner = _owner(descriptor)
            if not wait:
                raise LakeError(
                    f"{path.parent}: another run is at it already ({owner}); wait until it has ended"
                )
            _log.warning(
                "%s: waiting for another run that writes to the lake: %s; should it hang, end it", path, owner
            )
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        _sign(path, descriptor)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(path: Path, descriptor: int, seconds: float) -> bool:
    """Lock an open file, and return whether that was possible within some time."""
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in _HELD:
                raise LakeError(
                    f"{path.parent}: the file system locks no files ({error.strerror}), so two runs might write at "
                    "the same time; put the lake on one that does, or mount it with locks"
                ) from error
        if time.monotonic() >= end:
            return False
        time.sleep(_ASKED_EVERY_S)


def _sign(path: Path, descriptor: int) -> None:
    """Write into a locked file which process has locked it."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": since})
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{text}\n".encode(), 0)
    except OSError as error:
        # The disk may be full, and the lock may be for a vacuum that frees space.
        _log.debug("%s: the owner of the lock could not be written (%s)", path, error.strerror)


def _owner(descriptor: int) -> str:
    """Return which process has locked a file, in words."""
    try:
        values = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {values['process']} on {values['host']}, since {values['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it does not say which"

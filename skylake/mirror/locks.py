"""File locks between processes, released when their process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skylake.durable import open_in_place


class FileLock:
    """A lock on a file, shared or exclusive.

    Parameters
    ----------
    path : pathlib.Path
        The file; it is made where missing, and stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, *, shared: bool = False, wait: bool = True) -> bool:
        """Take the lock, or change it between shared and exclusive; return whether that worked."""
        if self._descriptor is None:
            self._descriptor = open_in_place(self.path, mode=0o600)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the lock back, in every process that inherited it."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.abandon()

    def abandon(self) -> None:
        """Leave the lock to the processes that inherited it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def fileno(self) -> int:
        """Return the descriptor to pass to a process that is to hold the lock, too."""
        if self._descriptor is None:
            raise ValueError(f"the lock {self.path} is not held")
        return self._descriptor

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock exclusively for a block of code."""
        self.acquire()
        try:
            yield
        finally:
            self.release()


def is_held(path: Path) -> bool:
    """Return whether any process holds the lock on `path` exclusively."""
    if not path.exists():
        return False
    probe = FileLock(path)
    if probe.acquire(shared=True, wait=False):
        probe.release()
        return False
    return True

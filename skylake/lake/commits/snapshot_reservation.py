"""Reservation of the number of the next snapshot, by which a committer finds out that a lock has failed.

Some file systems lock files on one machine only, or lose a lock that a process holds. Two committers may then build
on the same snapshot, and the one that moves the pointer last would discard what the other has published. A new commit
removes what unfinished ones have left, beginning with their reservations. So a committer whose reservation still
exists when it is about to move the pointer is the last that has begun.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from skylake.durable import text_of
from skylake.errors import OvertakenError
from skylake.lake.commits.snapshot_history import current_number
from skylake.lake.layout import Layout

#: Errors for a folder that was removed, on a disk and over a network.
_GONE = {errno.ENOENT, errno.ESTALE}


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation of the number of the next snapshot.

    Attributes
    ----------
    layout : Layout
    base : int
        Number of the snapshot that is current.
    descriptor : int
        Of the folder of the snapshot to be, which stays the same file for as long as this is open.
    token : str
        Random; the record of the commit has it.
    """

    layout: Layout
    base: int
    descriptor: int
    token: str

    @property
    def number(self) -> int:
        """Number of the snapshot to be."""
        return self.base + 1

    @property
    def folder(self) -> Path:
        """Folder of the snapshot to be."""
        return self.layout.snapshot(self.number)

    def require_base(self) -> None:
        """Refuse to go on if another commit was published since.

        Raises
        ------
        OvertakenError
        """
        if current_number(self.layout) != self.base:
            raise _overtaken(self.layout)

    def require(self) -> None:
        """Refuse to go on if another process has reserved the number since.

        Raises
        ------
        OvertakenError
        """
        if not self.is_valid() or self._recorded_token() != self.token:
            raise _overtaken(self.layout)

    def is_valid(self) -> bool:
        """Return whether the folder is still the one that was reserved."""
        try:
            # The folder is opened, since a network file system may answer a mere query from its cache.
            descriptor = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise
        try:
            return os.path.samestat(os.fstat(descriptor), os.fstat(self.descriptor))
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise
        finally:
            os.close(descriptor)

    def _recorded_token(self) -> str | None:
        try:
            text = text_of(self.layout.record(self.number))
        except FileNotFoundError:
            return None
        token: str | None = json.loads(text).get("token")
        return token


@contextmanager
def reserve(layout: Layout, base: int) -> Iterator[Reservation]:
    """Reserve the number after that of the current snapshot.

    Raises
    ------
    OvertakenError
        If another process has reserved it, or reserves it in the meantime and so removes what was built.
    OSError
        If the lake cannot be written.
    """
    folder = layout.snapshot(base + 1)
    try:
        folder.mkdir(parents=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except (FileExistsError, FileNotFoundError) as error:
        raise _overtaken(layout) from error
    reservation = Reservation(layout, base, descriptor, secrets.token_hex(16))
    try:
        yield reservation
    except OSError as error:
        if reservation.is_valid():
            raise
        raise _overtaken(layout) from error
    finally:
        os.close(descriptor)


def _overtaken(layout: Layout) -> OvertakenError:
    return OvertakenError(
        f"{layout.root}: another process writes to the lake at the same time, so its file system does not keep the "
        "lock between the two; this commit is not made: mount it with locks that hold on all machines, or write "
        "from one machine only, and run again"
    )

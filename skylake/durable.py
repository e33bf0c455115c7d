"""Make changes survive a loss of power, and find out who still uses what.

A commit writes many small files, links and folders. They are forced to disk together, once, before the
pointer moves; the pointer itself is forced afterwards. Forcing each folder by itself would take as many
waits as there are pixels.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from skylake import logs

_log = logs.get(__name__)

#: For how long a folder counts as held where the file system cannot tell.
_HELD_S = 86400.0
#: How the names of folders end that are about to be removed; they begin with a dot.
GONE = ".gone"
#: What a file system says that knows no hard links.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EACCES}
#: Of renameat2(2): paths are those of this process, and both names are to be kept.
_HERE, _RENAME_EXCHANGE = -100, 2
#: What it says where directories cannot be forced to disk by themselves.
_NO_SYNC = {errno.EINVAL, errno.EBADF, errno.EACCES}


def sync_tree(path: Path) -> None:
    """Force all that was written below a folder to disk, with the rest of its file system.

    Raises
    ------
    OSError
        If the disk refuses, as a full or failing one may do only now.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def on_each_file_system(paths: Iterable[Path]) -> list[Path]:
    """Return the first of some paths on each file system that they lie on: a link may lead to another disk."""
    found: dict[int, Path] = {}
    for path in paths:
        found.setdefault(path.stat().st_dev, path)
    return list(found.values())


def sync_file(path: Path) -> None:
    """Force the content of one file to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(paths: Iterable[Path]) -> None:
    """Force the contents of some files to disk, after all of them are written: a journal writes many together."""
    # One after the other: threads that start while dask profiles a worker can block it for ever (CPython 3.11).
    for path in paths:
        sync_file(path)


def sync_folder(path: Path) -> None:
    """Force the entries of one folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def exchange(first: Path, second: Path) -> bool:
    """Give two files or folders each other's name in one step, so that at no time either name is free.

    Returns
    -------
    bool
        False where the system or the file system cannot do that; nothing has changed then.

    Raises
    ------
    OSError
        If one of them is not there, or they cannot be renamed.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if renameat2(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(second))


class Linker:
    """Puts a file of one version into the next: as a hard link, or as a copy where there are no links."""

    def __init__(self) -> None:
        self._links = True

    def __call__(self, source: Path | str, target: Path | str) -> None:
        """Put `source` at `target` as well."""
        if self._links:
            try:
                os.link(source, target)
                return
            except OSError as error:
                # A file that has as many names as a file may have is copied; the next one may have names to spare.
                if error.errno != errno.EMLINK:
                    self._give_up(Path(source), Path(target), error)
        shutil.copy2(source, target)

    def _give_up(self, source: Path, target: Path, error: OSError) -> None:
        """Copy from now on if the file system knows no links."""
        if error.errno not in _NO_LINKS or target.exists():
            raise error
        self._links = False
        _log.warning(
            "%s: the file system knows no hard links, so every commit copies the tables that it touches; "
            "put the lake on a local disk to make commits fast",
            source.parent,
        )


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Say for a while that a folder is in use; the system forgets it when the process ends, however it ends."""
    descriptor = hold(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def hold(folder: Path) -> int:
    """Say that a folder is in use until the file descriptor that is returned is closed.

    Raises
    ------
    FileNotFoundError
        If it is not there, or somebody has set it aside meanwhile (:func:`set_aside`).
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:
        _log.debug("%s could not be held: the file system knows no locks", folder)
    try:
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except OSError:
        os.close(descriptor)
        raise


def set_aside(folder: Path) -> Path | None:
    """Give a folder that is to be removed another name, in one step; None if it is in use, or gone already.

    Nobody finds it half removed then, not even after the removal was interrupted. Who comes to hold it at the same
    time either keeps it from being removed or is told that it is gone.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        _lock_alone(descriptor)
        return folder.rename(folder.with_name(f".{folder.name}{GONE}"))
    except (BlockingIOError, FileNotFoundError):
        return None
    finally:
        os.close(descriptor)


def _lock_alone(descriptor: int) -> None:
    """Lock an open folder; raise BlockingIOError if somebody holds it.

    Some network file systems lock no folders. There a folder counts as held for a day after it was made or changed.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if time.time() - os.fstat(descriptor).st_mtime < _HELD_S:
            raise BlockingIOError(
                error.errno, "the file system locks no folders, and this one is young"
            ) from error


def replace_durably(path: Path, text: str) -> None:
    """Write a text file whole, and force it and its name to disk: a loss of power leaves the old or the new one."""
    partial = path.with_name(f".{path.name}.tmp")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def is_in_use(folder: Path) -> bool:
    """Tell whether a process holds a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock_alone(descriptor)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

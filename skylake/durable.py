"""Write files that are new, make changes survive a loss of power, and lock folders while they are in use.

A lake may be somebody else's, with links in it that lead to files of the user. So no file that is there is opened
to be written: a new one takes its place (:func:`replacing`). What must stay the same file, as one that is locked or
grows, is opened by :func:`open_in_place` alone.

A commit writes many small files, links and folders. They are forced to disk together, once, before the
pointer moves; the pointer itself is forced afterwards. Forcing each folder by itself would take as many
waits as there are pixels.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from skylake import logs

_log = logs.get(__name__)

#: For how long a folder counts as held where the file system locks no folders.
_HELD_S = 86400.0
#: How the names of folders end that are about to be removed; they begin with a dot.
GONE = ".gone"
#: How the names of files end that are locked in place of folders; they begin with a dot.
HELD = ".held"
#: How the names of files end that are being written; they begin with a dot.
PARTIAL = ".tmp"
#: File systems of which it was said that they lock no folders.
_WARNED: set[int] = set()
#: Errors of a file system without hard links.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EACCES}
#: Of renameat2(2): paths are those of this process, and both names are to be kept.
_HERE, _RENAME_EXCHANGE = -100, 2
#: How a folder is opened that is held: a link to one is refused.
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
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
        shutil.copy2(source, target, follow_symlinks=False)

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
    """Hold a folder as in use; the system releases it when the process ends, however it ends."""
    descriptor = hold(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def hold(folder: Path) -> int:
    """Hold a folder as in use until the returned file descriptor is closed.

    Where the file system locks files only, that is one beside the folder.

    Raises
    ------
    FileNotFoundError
        If it is not there, or somebody has set it aside meanwhile (:func:`set_aside`).
    """
    descriptor = os.open(folder, _FOLDER)
    beside: int | None = None
    try:
        status = os.fstat(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError as error:
            beside = _hold_beside(folder, error)
        # If a folder was set aside, the file beside it is gone too, even if there is a new one now.
        is_same = beside is None or os.path.samestat(os.fstat(beside), _beside(folder).stat())
        if not (is_same and os.path.samestat(status, folder.stat())):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except OSError:
        for one in (descriptor, beside):
            if one is not None:
                os.close(one)
        raise
    if beside is None:
        return descriptor
    os.close(descriptor)
    return beside


def _beside(folder: Path) -> Path:
    """Return the file that is locked in place of a folder."""
    return folder.with_name(f".{folder.name}{HELD}")


def _hold_beside(folder: Path, refusal: OSError) -> int | None:
    """Hold the file beside a folder; None if there is none and none may be made."""
    _warn_once(folder, refusal.strerror or str(refusal))
    for how in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            descriptor = open_in_place(_beside(folder), how)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
    return None


def _warn_once(folder: Path, why: str) -> None:
    """Log once for each file system that it locks no folders."""
    device = folder.stat().st_dev
    if device not in _WARNED:
        _WARNED.add(device)
        _log.warning(
            "%s: the file system locks no folders (%s), so files beside them are locked; a reader who may not write "
            "here is protected from a vacuum for a day only",
            folder.parent,
            why,
        )


def set_aside(folder: Path) -> Path | None:
    """Give a folder that is to be removed another name, in one step; None if it is in use, or gone already.

    So no process finds it half removed, not even after the removal was interrupted. A process that comes to hold
    it at the same time either prevents the removal or gets an error that it is gone.
    """
    try:
        with _alone(folder):
            aside = folder.rename(folder.with_name(f".{folder.name}{GONE}"))
            _beside(folder).unlink(missing_ok=True)
            return aside
    except (BlockingIOError, FileNotFoundError):
        return None


def drop_locks(parent: Path) -> None:
    """Remove the files that were locked in place of folders which are gone."""
    for path in parent.glob(f".*{HELD}"):
        if not path.with_name(path.name.removeprefix(".").removesuffix(HELD)).exists():
            path.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder alone; raise BlockingIOError if somebody holds it.

    Some network file systems lock no folders, but files. If no file can be made beside it, a folder counts as
    held for a day after it was made or changed.
    """
    descriptors = [os.open(folder, _FOLDER)]
    try:
        try:
            fcntl.flock(descriptors[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            descriptors.append(_lock_beside(folder, error))
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _lock_beside(folder: Path, refusal: OSError) -> int:
    """Lock the file beside a folder; raise BlockingIOError if somebody holds it, or might."""
    beside = _beside(folder)
    if not beside.exists() and time.time() - folder.stat().st_mtime < _HELD_S:
        raise BlockingIOError(
            refusal.errno, "the file system locks no folders, and this one is young"
        ) from refusal
    # A process that comes to hold the folder from now on finds this file.
    descriptor = open_in_place(beside)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BlockingIOError(error.errno, f"{folder}: it is held, or nothing can be locked here") from error
    return descriptor


@contextmanager
def locked_alone(path: Path, waits: Callable[[], object]) -> Iterator[None]:
    """Hold the lock on a file, which is made; `waits` is called if another process holds it, then it is waited for.

    Raises
    ------
    OSError
        If the file cannot be made, or the file system locks no files.
    """
    descriptor = open_in_place(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def partial_path(path: Path) -> Path:
    """Return a name beside a file, to write it under before it takes its place, that no other process has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}{PARTIAL}")


@contextmanager
def replacing(path: Path, durable: bool = True, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a new file to be written, which takes its place when it is whole; after an error nothing of it is left.

    Until then it has a name that nobody can guess, which its `name` says to writers that open files themselves.

    Parameters
    ----------
    path : Path
        A file or link that is there is replaced; what the link leads to stays.
    durable : bool
        Force the file and its name to disk: a loss of power leaves the old or the new one. A writer of many files does
        that once for all of them.
    mode : int or None
        Permissions that the file has before anything is written to it; None takes those of new files.
    """
    partial = partial_path(path)

    def new(name: str, _: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        return os.open(name, flags, 0o666 if mode is None else 0o600)

    try:
        with open(partial, "wb", opener=new) as stream:
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole, without forcing it to disk."""
    with replacing(path, durable=False) as stream:
        stream.write(text.encode())


def replace_durably(path: Path, text: str, mode: int | None = None) -> None:
    """Write a text file whole, and force it and its name to disk."""
    with replacing(path, mode=mode) as stream:
        stream.write(text.encode())


def replace_link(path: Path, target: Path) -> None:
    """Move a symbolic link in one step, so that readers see either the old or the new target."""
    partial = partial_path(path)
    partial.symlink_to(target)
    partial.replace(path)
    sync_folder(path.parent)


def open_in_place(path: Path, flags: int = os.O_RDWR | os.O_CREAT, mode: int = 0o666) -> int:
    """Open a file that stays the same file, as one that is locked or grows; return its descriptor.

    Raises
    ------
    OSError
        If it cannot be opened or made, or is anything else than a file, such as a link or a pipe.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return descriptor


def opened(path: Path) -> io.BufferedReader:
    """Open a file of a lake to read it, or an object of a store.

    Raises
    ------
    OSError
        If it cannot be read, or is anything else than a file: of a pipe the end would never come, and a link may
        lead out of the lake.
    """
    if "://" in str(path):
        return path.open("rb")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise io.UnsupportedOperation(error.errno, "it is a link", str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        # An error of the system, and of the value, as damage to a file is.
        raise io.UnsupportedOperation(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(descriptor, "rb")


def content_of(path: Path) -> bytes:
    """Return the content of a file of a lake, or of an object of a store; errors are those of :func:`opened`."""
    with opened(path) as stream:
        return stream.read()


def text_of(path: Path) -> str:
    """Return the text of a file of a lake, or of an object of a store; errors are those of :func:`opened`."""
    return content_of(path).decode("utf-8")


def drop_partial(folder: Path, before: float, name: str = "") -> None:
    """Remove files of a folder that killed processes have not finished, and last wrote before a time.

    They are those of all names, or of one.
    """
    for path in folder.glob(f".{name}*{PARTIAL}"):
        with suppress(FileNotFoundError):
            status = path.lstat()
            if status.st_mtime < before and not stat.S_ISDIR(status.st_mode):
                path.unlink()


def is_in_use(folder: Path) -> bool:
    """Return whether a process holds a folder; False for one that is gone."""
    try:
        with _alone(folder):
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False

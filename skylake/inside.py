"""What lies inside a folder: names that a file of somebody else gives, links, and what is removed.

A lake may be somebody else's, and so may every name in its tables and descriptions, and every link among its folders.
So a name becomes a path here, by :func:`inside` or :func:`named`, and a folder is removed by :func:`remove_tree`:
they prove that what they are given lies below a folder, with no link on the way.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from skylake.errors import LakeError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def relative_name(name: object) -> str:
    """Return a name unless it could lead out of the folder below which it is used.

    Raises
    ------
    ValueError
        If it is empty or absolute, or has ``..`` or an empty part.
    """
    if not isinstance(name, str) or "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise ValueError(f"{name!r} is no path below a folder")
    return name


def named(root: Path, name: str, source: str = "") -> Path:
    """Return the path of a name below a folder; whether it is there, and without a link, is not looked at.

    Parameters
    ----------
    root : Path
        Folder, or its place in a store.
    name : str
        Path relative to it, with slashes.
    source : str
        What gives the name, for the message; empty if that is not known.

    Raises
    ------
    LakeError
        If the name leads out of the folder.
    """
    try:
        return root / relative_name(name)
    except ValueError as error:
        where = f"{source} names {name!r}, which leads" if source else f"the name {name!r} leads"
        raise LakeError(
            f"{root}: {where} out of this folder; correct the name, or restore what gives it from a copy"
        ) from error


def inside(root: Path, name: str, source: str = "") -> Path:
    """Return the path of a name below a folder of this machine, as :func:`named` does, that no link is on the way to.

    Raises
    ------
    LakeError
        If the name leads out of the folder, or a link is on the way.
    """
    path = named(root, name, source)
    require_no_link(path, root)
    return path


def require_no_link(path: Path, root: Path) -> None:
    """Refuse a path below a folder if it, or a folder on the way, is a link.

    Raises
    ------
    LakeError
        It names the link, and the command that replaces it.
    """
    for parent in (*reversed(path.relative_to(root).parents), path.relative_to(root)):
        if (link := root / parent) != root and link.is_symlink():
            raise LakeError(f"{link}: {why_refused(link)}; replace the link with `{replacement(link)}`")


def why_refused(link: Path) -> str:
    """Return why a link is refused."""
    advice = (
        "; mount another disk in this place if that is wanted, as by mount --bind" if link.is_dir() else ""
    )
    return f"this is a link to {link.readlink()}, and skylake writes and deletes here{advice}"


def replacement(link: Path) -> str:
    """Return the command that puts a copy of what a link leads to in its place, and never moves it."""
    target, name = link.resolve(), shlex.quote(str(link))
    return f"rm {name} && cp -a {shlex.quote(str(target))} {name}" if target.exists() else f"rm {name}"


def links_in(folder: Path) -> list[Path]:
    """Return the links in a folder; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, without links to folders; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def links_below(folder: Path) -> Iterator[Path]:
    """Yield the links in a folder and all that it holds; none is followed."""
    yield from links_in(folder)
    for inner in folders_in(folder):
        yield from links_below(inner)


def remove_tree(path: Path, root: Path, ignore_errors: bool = False) -> None:
    """Remove a folder with all that it holds; of a link only the link.

    Every folder from the root down is opened by its name in the one before, and no link among them.

    Parameters
    ----------
    path, root : Path
        What is removed, and the folder that it must lie in.
    ignore_errors : bool
        Whether what cannot be removed, or is gone already, stays without a word.

    Raises
    ------
    LakeError
        If it does not lie in the root, or a link is on the way; nothing is removed then.
    OSError
        If it cannot be removed.
    """
    try:
        relative_name(path.relative_to(root).as_posix())
    except ValueError:
        raise LakeError(f"{path}: it does not lie in {root}, so it is not removed") from None
    require_no_link(path.parent, root)
    with suppress(OSError) if ignore_errors else nullcontext(), _opened(path.parent, root) as parent:
        if stat.S_ISDIR(os.lstat(path.name, dir_fd=parent).st_mode):
            shutil.rmtree(path.name, ignore_errors, dir_fd=parent)
        else:
            os.unlink(path.name, dir_fd=parent)


@contextmanager
def _opened(folder: Path, root: Path) -> Iterator[int]:
    """Open a folder below a root, following no link on the way."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in folder.relative_to(root).parts:
            outer = descriptor
            descriptor = os.open(name, _FOLDER, dir_fd=outer)
            os.close(outer)
        yield descriptor
    finally:
        os.close(descriptor)


def read_regular(path: Path, root: Path) -> bytes:
    """Return the content of a file below a folder, following no link.

    Raises
    ------
    LakeError
        If it or a folder on the way is a link, or it is no file.
    OSError
        If it cannot be read.
    """
    require_no_link(path, root)
    with _opened(path.parent, root) as parent:
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LakeError(f"{path}: this is no file; remove it")
        return stream.read()

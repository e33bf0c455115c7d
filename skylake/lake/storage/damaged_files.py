"""Errors for lost or damaged files of a lake: they name the file and the command that shows the repair.

A reader that finds its files by listing folders would return too few rows if one is lost, and rows twice if there is
one too many. So the files of a version are compared with those that its descriptions name.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.durable import opened
from skylake.errors import LakeError, advice_on, reason_of
from skylake.places import is_url, key
from skylake.sky.hats import EMPTY_FILE

#: Folder of a lake that all files of its tables are below.
_VERSIONS = "_versions"
_FILE = re.compile(r"['\"]([^'\"]+\.parquet)['\"]")


def damaged(path: Path, why: str) -> LakeError:
    """Return the error for a file that does not match its description in the lake."""
    if is_url(path):
        return LakeError(f"{path}: {why}; open the lake again, or publish it again if that does not help")
    return LakeError(f"{path}: {why}; `skylake verify {_lake_of(path)}` shows the command that repairs it")


def _lake_of(path: Path) -> str:
    """Return the lake that a file of a version belongs to, as one would type it."""
    inner = next((parent for parent in path.parents if parent.name == _VERSIONS), None)
    return "LAKE" if inner is None else shlex.quote(str(inner.parent))


def require_files(folder: Path, sizes: Mapping[str, int]) -> None:
    """Refuse a version on disk whose data files are not those that its descriptions name.

    Parameters
    ----------
    folder : Path
        Of the version.
    sizes : mapping of str to int
        Bytes of each file by its path below the folder; 0 where they are not known.

    Raises
    ------
    LakeError
        If a file is lost, has another size or is one too many.
    """
    present = dict(_data_files(str(folder / "dataset"), "dataset"))
    for path in sorted(sizes.keys() | present.keys()):
        if path not in present:
            raise damaged(folder / path, "the file is missing, and rows with it")
        if path not in sizes:
            raise damaged(folder / path, "the file is not one of the lake's, and its rows would count twice")
        if sizes[path] and present[path] != sizes[path]:
            raise damaged(
                folder / path, f"the file has {present[path]} bytes and was written with {sizes[path]}"
            )


def _data_files(folder: str, name: str) -> Iterator[tuple[str, int]]:
    """Yield path and size of the files below a folder that readers of Parquet treat as data; a pipe is no file."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _data_files(entry.path, f"{name}/{entry.name}")
        elif entry.name.endswith(".parquet") and entry.name != EMPTY_FILE and entry.is_file():
            yield f"{name}/{entry.name}", entry.stat().st_size


@contextmanager
def reading(files: Callable[[], list[Path]]) -> Iterator[None]:
    """Name the file that could not be read in an error; the files are listed only then.

    Errors that have nothing to do with the files pass, for example of a filter that does not fit its column.

    Raises
    ------
    LakeError
        If a file is missing or is no longer a Parquet file.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        damage = _blamed(error, files())
        if damage is None:
            raise
        raise damage from error


def _blamed(error: BaseException, files: list[Path]) -> LakeError | None:
    """Return the error that names a file; None if none of them is to blame."""
    if files and is_url(files[0]) and not isinstance(error, pa.ArrowException | FileNotFoundError):
        return None  # errors of stores are reported where they are reached
    said = str(error)
    for path in sorted(files, key=lambda file: key(file) not in said):
        why = _trouble(path)
        if why is not None:
            return why
        if key(path) in said:
            return damaged(path, f"the file cannot be read ({_first_line(error)})")
    if files and isinstance(error, OSError):
        return damaged(files[0].parent, f"a file there cannot be read ({_first_line(error)})")
    return None


def _trouble(path: Path) -> LakeError | None:
    """Return what is wrong with the footer of a file; None if nothing is."""
    try:
        with opened(path) as stream:
            pq.read_metadata(stream)
    except FileNotFoundError:
        return damaged(path, "the file is missing, and rows with it")
    except pa.ArrowException as error:
        return damaged(path, f"the file cannot be read ({_first_line(error)})")
    except OSError as error:
        if advice := advice_on(error):
            return LakeError(f"{path}: the file cannot be read ({reason_of(error)}); {advice}")
        return damaged(path, f"the file cannot be read ({reason_of(error)})")
    return None


def named_in(error: BaseException, root: Path) -> LakeError | None:
    """Return the error about a Parquet file of a lake that a library names in its message; None if it names none."""
    match = _FILE.search(str(error))
    if match is None or not match[1].startswith(key(root)):
        return None
    path = Path(match[1])
    # A store's file is named without the protocol.
    return damaged(path, f"the file cannot be read ({_first_line(error)})")


@contextmanager
def naming_damage(root: Path) -> Iterator[None]:
    """Name the file of a lake that an error of DuckDB is about."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if damage := named_in(error, root):
            raise damage from error
        raise


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line[:300].rstrip(".")

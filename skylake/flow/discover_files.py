"""Find the files of frames."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from skylake.errors import UsageError

#: A folder with such a file is a HATS table.
PROPERTIES_FILE = "hats.properties"
_FRAME = re.compile(r".*\.(fits?|fts)(\.gz|\.bz2|\.fz)?\Z", re.IGNORECASE)


def find_frames(paths: Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the files named, and those that look like FITS below the folders named.

    Links to folders are followed, each folder once. A file named by itself is taken whatever its name.

    Returns
    -------
    files : list of Path
        Absolute, sorted, each once.
    complaints : list of str
        A sentence for each folder that cannot be read or holds no frame.

    Raises
    ------
    UsageError
        If a path does not exist.
    """
    found: set[Path] = set()
    complaints: list[str] = []
    for path in (Path(path) for path in paths):
        if path.is_dir():
            below = list(_walk(path, complaints))
            if not below:
                complaints.append(
                    f"{path}: no FITS frame (.fits, .fit, .fts, also .gz, .bz2, .fz) in this folder or below"
                )
            found.update(below)
        elif os.path.lexists(path):
            found.add(path.absolute())
        else:
            raise UsageError(f"{path}: there is no such file or folder")
    return sorted(found), complaints


def frames_beside(paths: Iterable[Path]) -> list[str]:
    """Return files, and what looks like FITS in the folders that hold them, not below; absolute, sorted, each once.

    A folder that cannot be read gives nothing.
    """
    files = [path.absolute() for path in paths]
    found = set(files)
    for folder in {file.parent for file in files}:
        with suppress(OSError):
            beside = list(folder.iterdir())
            found.update(file for file in beside if _is_frame(file.name))
    return sorted(str(file) for file in found)


def _walk(root: Path, complaints: list[str]) -> Iterable[Path]:
    seen = {os.path.realpath(root)}

    def complain(error: OSError) -> None:
        complaints.append(
            f"{error.filename}: the folder cannot be read ({error.strerror}); fix its permissions"
        )

    for folder, folders, names in os.walk(root.absolute(), followlinks=True, onerror=complain):
        # Folders before links to them, then by name: what a frame is called must not depend on the disk.
        if PROPERTIES_FILE in names:
            # A HATS table, whose maps of the sky are FITS files.
            folders.clear()
            continue
        folders.sort(key=lambda name, folder=folder: (Path(folder, name).is_symlink(), name))  # type: ignore[misc]
        folders[:] = [name for name in folders if _is_new(Path(folder) / name, seen)]
        for name in names:
            if _is_frame(name):
                yield Path(folder) / name


def _is_frame(name: str) -> bool:
    return _FRAME.match(name) is not None and not name.startswith(".")


def _is_new(folder: Path, seen: set[str]) -> bool:
    real = os.path.realpath(folder)
    if real in seen:
        return False
    seen.add(real)
    return True

"""Files of master frames below a lake: which exist, which ones snapshots need, and their checksums."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from skylake.lake.layout import Layout
from skylake.lake.storage.fact_relations import UNREADABLE, Relations
from skylake.lake.storage.parts import file_sha256
from skylake.lake.storage.slices import read_files

#: Folder of the masters below a lake, a folder for each camera.
FOLDER = "calibrations"


def files_there(layout: Layout) -> dict[str, int]:
    """Return the size of each file of the library by its path relative to the lake."""
    paths = sorted((layout.root / FOLDER).glob("*/[!.]*.fits"))
    return {path.relative_to(layout.root).as_posix(): path.stat().st_size for path in paths}


def files_needed(layout: Layout) -> set[str]:
    """Return the files that any version of the table ``masters`` lists, relative to the lake."""
    parts = sorted(layout.versions("masters").glob("[0-9]*/dataset/*.parquet"))
    return set(read_files("masters", parts, ["file"])["file"].to_pylist())


def add_master_files(layout: Layout, relations: Relations) -> None:
    """Add the files of the library that are there."""
    for file, n_bytes in files_there(layout).items():
        relations.add("master_files", file=file, n_bytes=n_bytes)


def add_master_scans(layout: Layout, relations: Relations) -> None:
    """Read the files of the library, and add their checksums; one that cannot be read has none."""
    for (file,) in relations.values("master_files", "file"):
        try:
            sha256: str | None = file_sha256(layout.root / file)
        except OSError:
            sha256 = None
        relations.add("master_scans", file=file, sha256=sha256)


def unneeded_files(layout: Layout) -> list[Path]:
    """Return the files that no snapshot needs and no active run has made.

    Must be called with the lock of the committer held: a run whose folder in the staging area is gone has committed
    its files, or never will. The folders are listed after the files, so that no file is newer than its run.
    """
    there = files_there(layout)
    if not there:
        return []
    staged = {path.name for path in layout.staging.iterdir()} if layout.staging.is_dir() else set()
    try:
        needed = files_needed(layout)
    except (*UNREADABLE, pa.ArrowException):
        # The files of a damaged table are unknown; `skylake verify` names it.
        return []
    return [
        layout.root / file
        for file in there
        if file not in needed and not any(name.startswith(f"calib-{_camera(file)}.") for name in staged)
    ]


def _camera(file: str) -> str:
    return file.split("/")[1]

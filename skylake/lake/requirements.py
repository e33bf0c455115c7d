"""What has to hold before a commit may become the next snapshot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skylake.errors import LakeError
from skylake.lake.layout import PARTS_FOLDER
from skylake.lake.parts import Part
from skylake.lake.snapshot import Snapshot, read_files
from skylake.schema import load

if TYPE_CHECKING:
    from skylake.lake.commit import Commit


def require(base: Snapshot, commit: Commit) -> None:
    """Refuse a commit that does not fit the lake.

    Parameters
    ----------
    base : Snapshot
        The current snapshot, upon which the commit is to be built.
    commit : Commit

    Raises
    ------
    LakeError
        If a staged file is not what its part says, a table has another schema, a part was changed by
        somebody else since it was read, or a frame would be in the lake twice.
    """
    for parts in commit.staged.values():
        for part, staging in parts:
            _require_files(part, staging)
    if commit.base is None or commit.base == base.number:
        changed: dict[str, set[str]] = {}
    else:
        changed = _changes_since(base, commit)
    for table, names in changed.items():
        touched = {part.name for part, _ in commit.staged.get(table, [])} | commit.removed.get(table, set())
        for name in sorted(names & touched):
            raise LakeError(
                f"{base.layout.root}: another run has changed {name} of {table} meanwhile; run again"
            )
    _require_frames_once(base, commit, changed.get("frames", set()))


def _require_files(part: Part, staging: Path) -> None:
    """Refuse a part whose files are not what it says, or whose table has another schema."""
    if part.schema_sha256 != load(part.table).sha256:
        raise LakeError(
            f"{part.name} of {part.table} was written under another version of the schema; "
            "use the same version of skylake everywhere and run again"
        )
    for file in part.files:
        path = staging / file.path
        try:
            size, rows = path.stat().st_size, pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowInvalid) as error:
            raise LakeError(f"{path}: the staged file cannot be read ({error}); run again") from error
        if (size, rows) != (file.n_bytes, file.n_rows):
            raise LakeError(
                f"{path}: the staged file has {rows} rows in {size} bytes where {file.n_rows} in {file.n_bytes} "
                "were written; run again"
            )


def _changes_since(base: Snapshot, commit: Commit) -> dict[str, set[str]]:
    """Return, for each table that the commit touches, the parts that changed since it read the lake."""
    if commit.base is None:
        return {}
    then = Snapshot(base.layout, commit.base)
    return {table: changed_parts(then.folder(table), base.folder(table)) for table in commit.tables}


def changed_parts(old: Path, new: Path) -> set[str]:
    """Return the names of the parts that differ between two versions of a table.

    What did not change is the same file under two names, which is found without reading it.
    """
    if old == new:
        return set()
    before, after = _descriptions(old), _descriptions(new)
    differing = {
        name
        for name in before.keys() & after.keys()
        if before[name] != after[name]
        and (old / PARTS_FOLDER / name).read_bytes() != (new / PARTS_FOLDER / name).read_bytes()
    }
    return {name.removesuffix(".json") for name in differing | (before.keys() ^ after.keys())}


def _descriptions(version: Path) -> dict[str, int]:
    """Return the description of each part and its inode."""
    with os.scandir(version / PARTS_FOLDER) as entries:
        return {entry.name: entry.inode() for entry in entries if entry.name.endswith(".json")}


def _require_frames_once(base: Snapshot, commit: Commit, changed: set[str]) -> None:
    """Refuse frames that are in the commit twice, or that somebody else has brought in meanwhile."""
    staged = commit.staged.get("frames", [])
    if not staged:
        return
    mine = {part.name for part, _ in staged} | commit.removed.get("frames", set())
    files = [staging / file.path for part, staging in staged for file in part.files]
    if changed - mine:
        files += base.files("frames", lambda part: part.name in changed - mine)
    ids = read_files("frames", files, ["frame_id"])["frame_id"]
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    if twice:
        raise LakeError(
            f"{base.layout.root}: frame {twice[0]} would be in the lake twice ({len(twice)} such frames): another run "
            "has ingested it meanwhile; run again"
        )

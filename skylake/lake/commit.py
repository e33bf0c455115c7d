"""Publish staged parts: the next snapshot is built beside the current one, then one link is moved."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from skylake import __version__
from skylake.durable import Linker, sync_folder, sync_tree
from skylake.errors import LakeError
from skylake.lake.history import current_number
from skylake.lake.layout import PARTS_FOLDER, Layout
from skylake.lake.parts import Part
from skylake.lake.requirements import require
from skylake.lake.snapshot import Snapshot
from skylake.schema import arrow_schema, load, table_names
from skylake.sky.hats import (
    Properties,
    find_pixels,
    read_properties,
    replace_text,
    write_common_metadata,
    write_metadata,
)


@dataclass(slots=True)
class Commit:
    """Changes that become visible together, or not at all.

    Attributes
    ----------
    stage, batch : str
        What made them, for the ledger.
    staged : dict
        Parts to publish, by table, with the folder that their files are in.
    removed : dict
        Names of parts to remove, by table.
    base : int or None
        Snapshot from which the parts were made. If another process has changed one of them since, the commit is
        refused rather than undo that; None asks for no such care.
    """

    stage: str
    batch: str
    staged: dict[str, list[tuple[Part, Path]]] = field(default_factory=dict)
    removed: dict[str, set[str]] = field(default_factory=dict)
    base: int | None = None

    def replace(self, part: Part, staging: Path) -> None:
        """Publish a part in place of the one of its name, if there is one."""
        self.staged.setdefault(part.table, []).append((part, staging))

    def remove(self, table: str, name: str) -> None:
        """Remove a part."""
        self.removed.setdefault(table, set()).add(name)

    @property
    def tables(self) -> list[str]:
        """Tables that the commit touches."""
        return [name for name in table_names() if name in self.staged or name in self.removed]


@contextmanager
def committing(layout: Layout) -> Iterator[None]:
    """Hold the lock of the one committer. The system frees it when the process ends, however it ends."""
    try:
        descriptor = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise LakeError(
            f"{layout.root}: the lake cannot be written ({error.strerror}); mend its permissions"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def publish(layout: Layout, base: Snapshot, commit: Commit) -> Snapshot:
    """Build the next snapshot from a base and a commit, and make it the current one.

    Must be called with the lock held.

    Raises
    ------
    LakeError
        If the commit does not fit the lake, or cannot be written; the lake then stands as it was before.
    """
    require(base, commit)
    try:
        _clear_unfinished(layout, base.number)
        versions = {name: base.folder(name) for name in table_names()}
        for name in commit.tables:
            versions[name] = _build_version(layout, name, versions[name], commit)
        return _publish_versions(layout, base, versions, commit)
    except OSError as error:
        raise LakeError(
            f"{layout.root}: the commit of {commit.stage} {commit.batch} could not be written "
            f"({error.strerror or error}); the lake stands as it was before"
        ) from error


def restore(layout: Layout, wanted: Snapshot) -> Snapshot:
    """Make the lake as it was at a snapshot: a new snapshot with the versions of the old one.

    Must be called with the lock held.
    """
    base = Snapshot(layout, current_number(layout))
    try:
        _clear_unfinished(layout, base.number)
        versions = {name: wanted.folder(name) for name in table_names()}
        return _publish_versions(layout, base, versions, Commit("rollback", f"to {wanted.number}"))
    except OSError as error:
        raise LakeError(
            f"{layout.root}: the lake could not be rolled back ({error.strerror or error}); it stands as before"
        ) from error


def _publish_versions(layout: Layout, base: Snapshot, versions: dict[str, Path], commit: Commit) -> Snapshot:
    """Write a snapshot of some versions, force all to disk, then move the pointer."""
    number = base.number + 1
    folder = layout.snapshot(number)
    folder.mkdir(parents=True)
    for name, version in versions.items():
        (folder / name).symlink_to(Path("../..") / version.relative_to(layout.root))
    _record(layout, number, base, commit)
    sync_tree(layout.root)
    _point(layout.current, Path("_snapshots") / folder.name)
    return Snapshot(layout, number)


def _clear_unfinished(layout: Layout, current: int) -> None:
    """Remove what a commit that was interrupted before it became current left behind."""
    for path in layout.snapshots.iterdir():
        if path.name.isdigit() and int(path.name) > current:
            shutil.rmtree(path)
            (layout.ledger / f"{path.name}.json").unlink(missing_ok=True)


def create_empty(layout: Layout) -> Snapshot:
    """Make the first snapshot of a lake: every table, without rows."""
    for name in table_names():
        version = layout.version(name, 1)
        (version / "dataset").mkdir(parents=True)
        (version / PARTS_FOLDER).mkdir()
        _write_table_metadata(version, name, 0)
    folder = layout.snapshot(1)
    folder.mkdir(parents=True)
    for name in table_names():
        (folder / name).symlink_to(Path("../..") / layout.version(name, 1).relative_to(layout.root))
        (layout.root / name).symlink_to(Path("current") / name)
    _record(layout, 1, None, Commit("init", "-"))
    sync_tree(layout.root)
    _point(layout.current, Path("_snapshots") / folder.name)
    return Snapshot(layout, 1)


def _next_number(folder: Path) -> int:
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    return max(numbers, default=0) + 1


def _build_version(layout: Layout, table: str, base: Path, commit: Commit) -> Path:
    """Make a new version of a table from hard links to what stays and the files that are new."""
    version = layout.version(table, _next_number(layout.versions(table)))
    new = {part.name: (part, staging) for part, staging in commit.staged.get(table, [])}
    gone = commit.removed.get(table, set()) | set(new)
    n_rows = int(read_properties(base)["hats_nrows"]) if _is_hats(table) else 0
    (version / "dataset").mkdir(parents=True)
    (version / PARTS_FOLDER).mkdir()
    link = Linker()
    for path in sorted((base / PARTS_FOLDER).glob("*.json")):
        if path.stem in gone:
            n_rows -= Part.from_json(path.read_text(encoding="utf-8")).n_rows
        else:
            link(path, version / PARTS_FOLDER / path.name)
    _link_files(base, version, gone, link)
    for part, staging in new.values():
        for file in part.files:
            _move(staging / file.path, version / file.path)
        replace_text(version / PARTS_FOLDER / f"{part.name}.json", part.to_json())
        n_rows += part.n_rows
    _write_table_metadata(version, table, n_rows)
    return version


def _link_files(base: Path, version: Path, gone: set[str], link: Linker) -> None:
    """Link every data file whose part stays; a file is named after its part."""
    for folder, _, names in os.walk(base / "dataset"):
        stays = [
            name for name in names if name.endswith(".parquet") and name.removesuffix(".parquet") not in gone
        ]
        if stays:
            target = version / Path(folder).relative_to(base)
            target.mkdir(parents=True, exist_ok=True)
            for name in stays:
                link(Path(folder) / name, target / name)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def _is_hats(table: str) -> bool:
    return load(table).layout.kind == "hats"


def _write_table_metadata(version: Path, table: str, n_rows: int) -> None:
    schema = load(table)
    if not _is_hats(table):
        write_common_metadata(version, arrow_schema(schema))
        return
    layout = schema.layout
    properties = Properties(table, layout.catalog_type or "object", n_rows, layout.ra or "", layout.dec or "")
    extra = {"skylake_schema_version": str(schema.version), "skylake_schema_sha256": schema.sha256}
    write_metadata(version, schema, properties, find_pixels(version), extra)


def _record(layout: Layout, number: int, base: Snapshot | None, commit: Commit) -> None:
    """Write the ledger's record of a commit: what ran, from which inputs, and what it changed."""
    record = {
        "snapshot": number,
        "base": None if base is None else base.number,
        "time_utc": datetime.now(UTC).isoformat(timespec="microseconds"),
        "stage": commit.stage,
        "batch": commit.batch,
        "software_version": __version__,
        "replaced": {
            table: {
                part.name: {"rows": part.n_rows, "checksum": part.checksum, "inputs": part.inputs}
                for part, _ in parts
            }
            for table, parts in commit.staged.items()
        },
        "removed": {table: sorted(names) for table, names in commit.removed.items()},
    }
    layout.ledger.mkdir(exist_ok=True)
    replace_text(layout.ledger / f"{number:06d}.json", json.dumps(record, indent=1) + "\n")


def _point(link: Path, target: Path) -> None:
    """Let a symbolic link point elsewhere in one step that readers see either before or after."""
    partial = link.with_name(f".{link.name}.tmp")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(link)
    sync_folder(link.parent)

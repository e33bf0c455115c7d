"""The links inside a lake: lost links and their targets, and foreign links."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skylake.errors import LakeError
from skylake.lake.cameras.camera_state import restore_cameras
from skylake.lake.commits.new_tables import is_addition
from skylake.lake.commits.snapshot_history import current_number
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import CAMERAS_FOLDER, Layout
from skylake.lake.storage.schema_versions import user_schema
from skylake.schema import load, table_names
from skylake.sky.hats import replace_text

#: What in a record of the ledger shows that its commit has touched a table.
_TOUCHING = ("replaced", "removed", "merged", "loosened")
#: Folders of a lake that hold folders of its own, and how deep. Below `_ledger` lie files, too many to check.
_OWN = {
    "_snapshots": 1,
    "_versions": 2,
    "_staging": 2,
    "_cameras": 1,
    "_postgres": 1,
    "_watch": 1,
    "catalogs": 2,
    "calibrations": 1,
    "_ledger/configurations": 0,
}
#: Those that may hold no link at any depth, so that all that is read there belongs to the lake.
_WITHOUT_LINKS = ("_versions", "_cameras", "_watch", "catalogs", "calibrations")
#: Folders that are rebuilt if they are missing: the target of a link in their place is not copied.
_REBUILT = ("_staging", "_lock", "_compacting", "_newest")


@dataclass(frozen=True, slots=True)
class Links:
    """Where the snapshots of a lake lead.

    Attributes
    ----------
    needed : frozenset of (table, version)
        Names of the versions that a snapshot leads to.
    lost : tuple of (snapshot, table)
        Links that are missing, or lead to no version.
    """

    needed: frozenset[tuple[str, str]]
    lost: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class ForeignLink:
    """A symbolic link through which skylake would write, delete or read outside of the lake.

    Attributes
    ----------
    path : Path
    why : str
        What is wrong with it, in words.
    repair : str
        Command that puts something else in its place.
    """

    path: Path
    why: str
    repair: str


def require_own(layout: Layout) -> None:
    """Refuse a lake with a link in place of one of its folders, or with a link that leads out of it.

    This lists a dozen folders, and checks no single file.

    Raises
    ------
    LakeError
        It names the link, and the command that replaces it.
    """
    for link in foreign_links(layout):
        raise LakeError(f"{link.path}: {link.why}; replace the link with `{link.repair}`")


def foreign_links(layout: Layout, deep: bool = False) -> Iterator[ForeignLink]:
    """Yield the symbolic links of a lake that do not belong there.

    Parameters
    ----------
    layout : Layout
    deep : bool
        Whether to look into all folders, down to the files, instead of those that skylake deletes.
    """
    root = layout.root
    pointers = {*table_names(), *_names_in(root / "_versions")}
    for path in _links_in(root):
        if path == layout.current:
            if not leads_to(path, layout.snapshots):
                yield ForeignLink(path, _leads_out(path), _repoint_command(layout))
        elif path.name in pointers:
            if str(path.readlink()) != f"current/{path.name}":
                repair = f"ln -sfn current/{path.name} {shlex.quote(str(path))}"
                yield ForeignLink(path, _leads_out(path), repair)
        elif path.name.startswith("_") or path.name in _OWN:
            yield _in_place_of_own(layout, path)
    for name, depth in _OWN.items():
        if depth == 0 and (root / name).is_symlink():
            yield _in_place_of_own(layout, root / name)
        elif depth > 0 and not (root / name).is_symlink():
            depth = sys.maxsize if deep and name in _WITHOUT_LINKS else depth
            yield from (_in_place_of_own(layout, path) for path in _links_below(root / name, depth))
    for path in sorted(layout.snapshots.glob(f"*/{CAMERAS_FOLDER}")) if deep else ():
        yield from (
            _in_place_of_own(layout, link) for link in ([path] if path.is_symlink() else _links_in(path))
        )


def _links_in(folder: Path) -> list[Path]:
    """Return the links in a folder; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _names_in(folder: Path) -> list[str]:
    """Return what a folder holds; nothing where there is no folder."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _links_below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the links in a folder, and in the folders that it holds."""
    yield from _links_in(folder)
    if depth > 1 and folder.is_dir():
        with os.scandir(folder) as entries:
            inner = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        for path in inner:
            yield from _links_below(Path(path), depth - 1)


def leads_to(link: Path, parent: Path) -> bool:
    """Return whether a link names something in a folder, through no other link."""
    return Path(os.path.normpath(link.parent / link.readlink())).parent == parent


def _leads_out(link: Path) -> str:
    return f"the link leads to {link.readlink()}, where it does not belong"


def _repoint_command(layout: Layout) -> str:
    """Return the command that points a lake to the snapshot that its link names, else to the newest."""
    name = layout.current.readlink().name
    if not (name.isdecimal() and layout.snapshot(int(name)).is_dir()):
        name = max((path.name for path in layout.snapshots.glob("[0-9]*")), default="000001")
    return f"ln -sfn _snapshots/{name} {shlex.quote(str(layout.current))}"


def _in_place_of_own(layout: Layout, path: Path) -> ForeignLink:
    """Return a link in place of a folder of the lake; the repair copies its target, and never moves it."""
    target, link = path.resolve(), shlex.quote(str(path))
    why = f"this is a link to {path.readlink()}, and skylake writes and deletes here"
    repair = f"rm {link}"
    if path.relative_to(layout.root).parts[0] not in _REBUILT and target.exists():
        repair += f" && cp -a {shlex.quote(str(target))} {link}"
        why += "; mount another disk in this place if that is wanted, as by mount --bind"
    return ForeignLink(path, why, repair)


def mark_current(layout: Layout, number: int) -> None:
    """Note that a snapshot has become current, so that it is not taken for an unfinished commit."""
    replace_text(layout.newest_file, f"{number}\n")


def settle(layout: Layout, number: int) -> None:
    """Finish a commit whose snapshot is current; after an interruption the next change does it."""
    record = _record(layout, number)
    if record is not None and record["stage"] == "rollback":
        restore_cameras(layout, layout.snapshot(number))
    mark_current(layout, number)


def is_settled(layout: Layout) -> bool:
    """Return whether the last commit is finished."""
    return newest_ever(layout) == current_number(layout)


def newest_ever(layout: Layout) -> int:
    """Return the number of the newest snapshot that is known to have been current; 0 where none is."""
    try:
        return int(layout.newest_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # A lake of an older skylake has no such file, and a loss of power may have cut it short.
        return 0


def pointed_back(layout: Layout, current: int) -> int | None:
    """Return the newest snapshot after the current one that once was current; None if there is none.

    Such snapshots exist if a user has pointed the lake to an older one by hand. An interrupted commit leaves at most
    one snapshot after the current one, which never was current.
    """
    later = [int(path.name) for path in layout.snapshots.iterdir() if path.name.isdecimal()]
    later = [number for number in later if number > current]
    known = newest_ever(layout)
    return max(later) if any(number <= known or number > current + 1 for number in later) else None


def require_newest(layout: Layout, current: int) -> None:
    """Refuse to go on from a snapshot if later ones were current.

    Raises
    ------
    LakeError
        If a user has pointed the lake back by hand.
    """
    newest = pointed_back(layout, current)
    if newest is not None:
        root = shlex.quote(str(layout.root))
        raise LakeError(
            f"{layout.root}: the link 'current' was pointed back to snapshot {current} by hand, and any change would "
            f"remove those after it, up to {newest}; to go back and keep them, "
            f"`ln -sfn _snapshots/{newest:06d} {shlex.quote(str(layout.current))}` and "
            f"`skylake rollback {root} {current}`; to be rid of them, remove their folders"
        )


def read_links(layout: Layout) -> Links:
    """Return where all snapshots lead. A record of the ledger is read only where a link is missing."""
    there = {(folder.parent.name, folder.name) for folder in layout.versions_of_tables()}
    needed: set[tuple[str, str]] = set()
    lost: list[tuple[int, str]] = []
    for snapshot in sorted(layout.snapshots.iterdir()):
        if not snapshot.name.isdecimal():
            continue
        number = int(snapshot.name)
        links = [path for path in snapshot.iterdir() if path.is_symlink()]
        named = {path.name for path in links}
        versions = {
            (path.name, path.readlink().name) for path in links if leads_to(path, layout.versions(path.name))
        }
        needed |= versions
        whole = {table for table, version in versions if (table, version) in there}
        lost += [
            (number, table)
            for table in dict.fromkeys([*table_names(), *sorted(named)])
            if table not in whole and (table in named or not is_addition(layout, number, table))
        ]
    return Links(frozenset(needed), tuple(lost))


def lost_version(layout: Layout, number: int, table: str) -> str | None:
    """Return the name of the version that a lost link of a snapshot has led to; None if that is not certain.

    If the commit did not touch the table, it is the version of the base snapshot, and likewise that of the next
    snapshot if its commit did not. Otherwise it is the only version without a link that holds what the record says.
    """
    record = _record(layout, number)
    if record is None:
        return None
    source = _source(record, table)
    if source is None and _source(_record(layout, number + 1) or {}, table) == number:
        source = number + 1
    if source is not None:
        link = layout.snapshot(source) / table
        if link.is_symlink() and link.is_dir():
            return link.readlink().name
    unlinked = [folder for folder in _unlinked(layout, table) if _holds(folder, record, table)]
    return unlinked[0].name if len(unlinked) == 1 else None


def _record(layout: Layout, number: int) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(layout.record(number).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if all(isinstance(record.get(kind), dict) for kind in _TOUCHING) else None


def _source(record: dict[str, Any], table: str) -> int | None:
    """Return the snapshot whose version of a table a commit has kept; None if it made a new one."""
    if not record or any(table in record[kind] for kind in _TOUCHING):
        return None
    number = str(record["batch"]).removeprefix("to ") if record["stage"] == "rollback" else record["base"]
    return int(number) if str(number).isdecimal() else None


def _unlinked(layout: Layout, table: str) -> Iterator[Path]:
    """Yield the versions of a table that no snapshot leads to."""
    needed = read_links(layout).needed
    for folder in sorted(layout.versions(table).glob("[0-9]*")):
        if (table, folder.name) not in needed:
            yield folder


def _holds(folder: Path, record: dict[str, Any], table: str) -> bool:
    """Return whether a version is finished and holds what the record of a commit says of its table."""
    # What a commit writes last.
    schema = load(table) if table in table_names() else user_schema(folder)
    is_hats = schema is not None and schema.layout.kind == "hats"
    if not (folder / ("hats.properties" if is_hats else "dataset/_common_metadata")).is_file():
        return False
    version, replaced = Version(folder), record["replaced"].get(table, {})
    names = {*replaced, *record["removed"].get(table, ())}
    try:
        checksums = {part.name: part.checksum for part in version.parts_named(names)}
        bundles = version.bundle_descriptions.keys()
        return bundles >= record["merged"].get(table, {}).keys() and checksums == {
            name: part["checksum"] for name, part in replaced.items()
        }
    except (LakeError, OSError, KeyError, TypeError):
        return False

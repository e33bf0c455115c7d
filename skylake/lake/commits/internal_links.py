"""The links inside a lake: lost links and their targets, and foreign links."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skylake.durable import PARTIAL, replace_text, text_of
from skylake.errors import LakeError
from skylake.inside import folders_in, links_below, links_in, replacement, why_refused
from skylake.lake.cameras.camera_state import restore_cameras
from skylake.lake.commits.new_tables import is_addition
from skylake.lake.commits.snapshot_history import current_number
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import CAMERAS_FOLDER, Layout
from skylake.lake.storage.schema_versions import user_schema
from skylake.schema import load, table_names

#: What in a record of the ledger shows that its commit has touched a table.
_TOUCHING = ("replaced", "removed", "merged", "loosened")


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
    """Refuse a lake with a link among its folders, or those in them, that does not belong there.

    This takes no longer when the archive grows: the ledger, which has a file for each commit, is not listed. What is
    deeper is looked at where it is used, by :mod:`skylake.inside` and the reader of snapshots.

    Raises
    ------
    LakeError
        It names the link, and the command that replaces it.
    """
    folders = [folder for folder in folders_in(layout.root) if folder != layout.ledger]
    found = [path for folder in (layout.root, *folders) for path in links_in(folder)]
    if layout.configurations.is_symlink():
        found.append(layout.configurations)
    for link in foreign_links(layout, found):
        raise LakeError(f"{link.path}: {link.why}; replace the link with `{link.repair}`")


def foreign_links(layout: Layout, links: Iterable[Path] | None = None) -> Iterator[ForeignLink]:
    """Yield the links of a lake that skylake has not made, or that lead elsewhere than it made them.

    It makes one to the current snapshot, one to each table of it, and those of snapshots to versions of tables; what
    is wrong with the latter is said by the reader of snapshots. Where `report` leads is the user's to say.

    Parameters
    ----------
    layout : Layout
    links : iterable of Path or None
        Those that are looked at; None takes all of the lake, down to its files.
    """
    pointers = {*table_names(), *(folder.name for folder in folders_in(layout.root / "_versions"))}
    for path in links_below(layout.root) if links is None else links:
        is_of_snapshot = path.parent.parent == layout.snapshots and path.name != CAMERAS_FOLDER
        # Of a commit that was killed; the next one removes it.
        is_unfinished = path.parent == layout.root and path.match(f".{layout.current.name}.*{PARTIAL}")
        if is_of_snapshot or is_unfinished or path == layout.report:
            continue
        if path == layout.current:
            if not leads_to(path, layout.snapshots):
                yield ForeignLink(path, _leads_out(path), _repoint_command(layout))
        elif path.parent == layout.root and path.name in pointers:
            if str(path.readlink()) != f"current/{path.name}":
                repair = f"ln -sfn current/{path.name} {shlex.quote(str(path))}"
                yield ForeignLink(path, _leads_out(path), repair)
        else:
            yield ForeignLink(path, why_refused(path), replacement(path))


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
        return int(text_of(layout.newest_file))
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
        record: dict[str, Any] = json.loads(text_of(layout.record(number)))
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

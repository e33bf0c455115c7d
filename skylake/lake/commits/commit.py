"""Publish staged parts: build the next snapshot beside the current one, then move one link."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from skylake.durable import on_each_file_system, replace_link, sync_tree
from skylake.errors import LakeError, advice_on, reason_of
from skylake.inside import remove_tree
from skylake.lake.cameras.camera_state import keep_cameras
from skylake.lake.commits.build_version import build_version
from skylake.lake.commits.changes import Commit
from skylake.lake.commits.commit_requirements import require
from skylake.lake.commits.file_lock import locked
from skylake.lake.commits.internal_links import mark_current, require_own, settle
from skylake.lake.commits.ledger import keep_configurations, write_record
from skylake.lake.commits.margins import build_margin
from skylake.lake.commits.new_tables import is_addition, make_empty
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.commits.snapshot_history import current_number
from skylake.lake.commits.snapshot_reservation import Reservation, reserve
from skylake.lake.layout import Layout
from skylake.schema import table_names


def committing(layout: Layout) -> AbstractContextManager[None]:
    """Hold the lock of the committer of a lake, whose own folders must still not be links."""
    require_own(layout)
    return locked(layout.lock_file)


def publish(layout: Layout, base: Snapshot, commit: Commit) -> Snapshot:
    """Build the next snapshot from a base and a commit, and make it the current one.

    Must be called with the lock held.

    Raises
    ------
    LakeError
        If the commit does not fit the lake, or cannot be written; the lake is then as it was before.
    OvertakenError
        If another process commits at the same time, which the lock should have prevented.
    """
    require(base, commit)
    try:
        _clear_unfinished(layout, base.number)
        with reserve(layout, base.number) as reservation:
            versions = _versions(reservation, base, commit.tables)
            for name in commit.tables:
                if name in commit.dropped:
                    del versions[name]
                    continue
                folder, before = layout.version(name, reservation.number), versions[name]
                versions[name] = build_version(folder, name, before, commit)
                build_margin(layout, name, reservation.number, before)
            _publish_versions(reservation, versions, commit)
        for name in commit.dropped:
            with suppress(OSError):  # the link of a table that is gone leads nowhere
                (layout.root / name).unlink()
        return Snapshot(layout, reservation.number)
    except OSError as error:
        raise LakeError(
            f"{layout.root}: the commit of {commit.stage} {commit.batch} could not be written "
            f"({reason_of(error)}); the lake is as it was before: {advice_on(error) or 'fix that'} and run again"
        ) from error


def restore(layout: Layout, wanted: Snapshot, run: str | None = None) -> Snapshot:
    """Restore the lake to a snapshot: make a new snapshot with the versions of the old one.

    The current snapshot is not opened, so this also leads back from one that cannot be read. Must be called with the
    lock held.
    """
    base = current_number(layout)
    try:
        _clear_unfinished(layout, base)
        with reserve(layout, base) as reservation:
            versions = _versions(reservation, wanted, ())
            commit = Commit("rollback", f"to {wanted.number}", run=run)
            _publish_versions(reservation, versions, commit, layout.snapshot(wanted.number))
        return Snapshot(layout, reservation.number)
    except OSError as error:
        raise LakeError(
            f"{layout.root}: the lake could not be rolled back ({reason_of(error)}); it is as before: "
            f"{advice_on(error) or 'fix that'} and run again"
        ) from error


def _versions(reservation: Reservation, snapshot: Snapshot, touched: Collection[str]) -> dict[str, Path]:
    """Return the version of each table in a snapshot.

    Tables that are newer than the snapshot are added to the lake; touched tables get a new version anyway.
    """
    layout, versions = reservation.layout, {}
    for name in dict.fromkeys([*snapshot.tables, *touched]):
        versions[name] = snapshot.folder(name)
        if is_addition(layout, snapshot.number, name):
            if name not in touched:
                versions[name] = make_empty(layout.version(name, reservation.number), name)
                build_margin(layout, name, reservation.number, versions[name])
            _link_table(layout, name)
        elif name not in table_names():
            # A rollback brings back a table that was dropped.
            _link_table(layout, name)
    return versions


def _publish_versions(
    reservation: Reservation, versions: dict[str, Path], commit: Commit, wanted: Path | None = None
) -> None:
    """Write a snapshot of some versions, force all to disk, then move the pointer.

    Its camera state is that in force, or that of another snapshot, given by its folder.
    """
    layout, folder = reservation.layout, reservation.folder
    for name, version in versions.items():
        (folder / name).symlink_to(Path("../../_versions") / name / version.name)
    keep_cameras(layout, folder, wanted)
    keep_configurations(layout, commit.configurations)
    write_record(layout, reservation.number, reservation.base, commit, list(versions), reservation.token)
    for place in on_each_file_system([layout.root, folder, layout.ledger, *versions.values()]):
        sync_tree(place)
    reservation.require()
    reservation.require_base()
    replace_link(layout.current, Path("_snapshots") / folder.name)
    # Another process may still begin in the instant between this check and the move.
    reservation.require()
    # The commit is made. If the disk has no room for the rest, the next change does it.
    with suppress(OSError):
        settle(layout, reservation.number)


def _clear_unfinished(layout: Layout, current: int) -> None:
    """Remove what a commit that was interrupted before it became current left behind."""
    for path in layout.snapshots.iterdir():
        if path.name.isdigit() and int(path.name) > current:
            remove_tree(path, layout.root)
            (layout.ledger / f"{path.name}.json").unlink(missing_ok=True)


def create_empty(layout: Layout) -> Snapshot:
    """Make the first snapshot of a lake: every table, without rows."""
    for name in table_names():
        build_margin(layout, name, 1, make_empty(layout.version(name, 1), name))
    folder = layout.snapshot(1)
    folder.mkdir(parents=True)
    for name in table_names():
        (folder / name).symlink_to(Path("../..") / layout.version(name, 1).relative_to(layout.root))
        _link_table(layout, name)
    keep_cameras(layout, folder)
    # A mirror recognises the lake by this token.
    write_record(layout, 1, None, Commit("init", "-"), table_names(), secrets.token_hex(16))
    sync_tree(layout.root)
    replace_link(layout.current, Path("_snapshots") / folder.name)
    mark_current(layout, 1)
    return Snapshot(layout, 1)


def _link_table(layout: Layout, table: str) -> None:
    """Make the link to the current version of a table, if it is missing."""
    link = layout.root / table
    if not link.is_symlink():
        link.symlink_to(Path("current") / table)

"""Remove old snapshots, and all files that no retained snapshot needs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from skylake import logs
from skylake.durable import GONE, drop_locks, drop_partial, set_aside
from skylake.errors import LakeError, advice_on, cannot_be_written, reason_of
from skylake.inside import folders_in, remove_tree
from skylake.lake.cameras.master_files import unneeded_files
from skylake.lake.commits.internal_links import newest_ever, read_links, require_newest, settle
from skylake.lake.commits.ledger_records import (
    LedgerEntry,
    in_runs,
    is_recorded,
    read_entry,
    retained_numbers,
)
from skylake.lake.commits.snapshot_history import current_number
from skylake.lake.layout import Layout
from skylake.sky.catalog_build import drop_unfinished_imports

_log = logs.get(__name__)

#: How the names of folders in the staging area begin that are kept for the next run after an interruption.
LASTING = "lasting-"
#: For how long they are kept, and what an import that did not finish has read.
_WAITED_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Which snapshots stay: those after the newest runs, and the last of so many days and months before."""

    newest: int = 20
    days: int = 365
    months: int = 12

    def keeps(self, entries: Iterable[LedgerEntry], under_way: str | None = None) -> set[int]:
        """Return the numbers of the snapshots that stay: the last of each run, and the newest of an active run."""
        retained = sorted((entry for entry in entries if entry.kept), key=lambda entry: entry.snapshot)
        ends = [commits[0] for commits in in_runs(reversed(retained))][::-1]
        newest = max(self.newest, 1)
        mine = [entry for entry in retained if under_way is not None and entry.run == under_way]
        some = {entry.snapshot for entry in (*ends[-newest:], *mine[-newest:])}
        return some | _last_of(ends, "%Y-%m-%d", self.days) | _last_of(ends, "%Y-%m", self.months)


def _last_of(entries: Iterable[LedgerEntry], span: str, count: int) -> set[int]:
    """Return the last snapshot in each of the newest `count` spans of time that have one."""
    last: dict[str, int] = {_name(entry.time_utc, span): entry.snapshot for entry in entries}
    return {last[name] for name in sorted(last)[len(last) - min(count, len(last)) :]}


def _name(time: datetime, span: str) -> str:
    return time.strftime(span)


@dataclass(slots=True)
class VacuumReport:
    """The report of a vacuum.

    Attributes
    ----------
    snapshots : list of int
        Numbers of the snapshots that are gone.
    n_versions : int
        Versions of tables that are gone.
    n_bytes : int
        Bytes that were freed; a file that another version holds too frees none.
    n_in_use : int
        Snapshots that were only kept because of a reader.
    n_masters : int
        Files of masters that are gone.
    """

    snapshots: list[int]
    n_versions: int = 0
    n_bytes: int = 0
    n_in_use: int = 0
    n_masters: int = 0


def vacuum(layout: Layout, retention: Retention, under_way: str | None = None) -> VacuumReport:
    """Remove old snapshots, and all files that no remaining snapshot needs.

    Must be called with the lock of the committer held. Snapshots that a reader holds stay. `under_way` is the run that
    calls this, if it has not ended.

    Raises
    ------
    LakeError
        If the lake cannot be written, was pointed back by hand, or a snapshot has lost the link of a table, whose
        files would be removed as well.
    """
    current = current_number(layout)
    require_newest(layout, current)
    retained = retained_numbers(layout, current)
    if lost := [link for link in read_links(layout).lost if link[0] in retained]:
        raise LakeError(_lost_links_message(layout, lost))
    # A snapshot without a record has no time, so it stays until a user has restored the record.
    entries = [read_entry(layout, number) for number in retained if is_recorded(layout, number)]
    keep = retention.keeps(entries, under_way)
    report = VacuumReport([])
    try:
        for entry in entries:
            if entry.snapshot not in keep:
                aside = set_aside(layout.snapshot(entry.snapshot))
                if aside is None:
                    report.n_in_use += 1
                else:
                    remove_tree(aside, layout.root)
                    report.snapshots.append(entry.snapshot)
        _sweep(layout, report)
        _drop_masters(layout, report)
        report.n_bytes += drop_unfinished_imports(layout.catalogs, _WAITED_S)
        drop_partial(layout.ledger, time.time())
        for folder in (layout.root, layout.configurations, *folders_in(layout.root)):
            drop_partial(folder, time.time() - _WAITED_S)
    except OSError as error:
        raise LakeError(
            f"{layout.root}: the lake could not be vacuumed ({reason_of(error)}); "
            f"{advice_on(error) or 'fix its permissions'}"
        ) from error
    return report


def sweep(layout: Layout) -> None:
    """Remove files that interrupted commits and killed processes have left.

    Must be called with the lock of the committer held.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    try:
        _sweep(layout, VacuumReport([]))
    except OSError as error:
        raise cannot_be_written(layout.root, error) from error


def _sweep(layout: Layout, report: VacuumReport) -> None:
    for pattern in (f"_snapshots/.*{GONE}", f"_versions/*/.*{GONE}", f"{layout.staging.name}/.*{GONE}"):
        for folder in layout.root.glob(pattern):
            remove_tree(folder, layout.root)
    _drop_unfinished(layout)
    _drop_versions(layout, report)
    _drop_staging(layout)
    for parent in (layout.snapshots, layout.staging):
        drop_locks(parent)


def _drop_unfinished(layout: Layout) -> None:
    """Remove snapshots that never became current, and the records of them.

    An interrupted commit leaves the next number. There are more records if a user has removed the newest snapshots by
    hand. All are found by their names, as the ledger is too long to be listed in every commit.

    Raises
    ------
    LakeError
        If there are later snapshots that were current.
    """
    current = current_number(layout)
    require_newest(layout, current)
    unfinished = [path for path in layout.snapshots.iterdir() if path.name.isdigit()]
    last = max(newest_ever(layout), *(int(path.name) for path in unfinished))
    interrupted = [path for path in unfinished if int(path.name) > current]
    for path in interrupted:
        remove_tree(path, layout.root)
    drop_partial(layout.root, time.time(), layout.current.name)
    if interrupted:
        drop_partial(layout.ledger, time.time())
    while layout.record(last + 1).is_file():
        last += 1
    # The highest first, so that the rest is still found if this is interrupted.
    for number in range(last, current, -1):
        layout.record(number).unlink(missing_ok=True)
    if newest_ever(layout) != current:
        settle(layout, current)


def _drop_versions(layout: Layout, report: VacuumReport) -> None:
    """Remove versions of tables that no snapshot leads to.

    Where a link of a table is lost, the version that it led to looks unneeded, and may hold the only
    copy of a night: all of them stay until the link is repaired.
    """
    links = read_links(layout)
    if links.lost:
        _log.warning("%s", _lost_links_message(layout, links.lost))
    unsure = {table for _, table in links.lost}
    for folder in layout.versions_of_tables():
        if folder.parent.name not in unsure and (folder.parent.name, folder.name) not in links.needed:
            report.n_bytes += _freed(folder)
            remove_tree(set_aside(folder) or folder, layout.root)
            report.n_versions += 1
    for folder in layout.margins_of_tables():
        if not layout.version(folder.parent.name, int(folder.name)).is_dir():
            report.n_bytes += _freed(folder)
            remove_tree(folder, layout.root)


def _lost_links_message(layout: Layout, lost: Sequence[tuple[int, str]]) -> str:
    """Return which links are lost, and the repair."""
    number, table = lost[0]
    others = f" ({len(lost)} such links)" if len(lost) > 1 else ""
    return (
        f"{layout.root}: snapshot {number} has lost its table {table}{others}, so old versions of such tables stay; "
        "`skylake verify` shows the command that repairs it"
    )


def _drop_masters(layout: Layout, report: VacuumReport) -> None:
    """Remove files of masters that no snapshot needs, such as those of a build that was rolled back."""
    for file in unneeded_files(layout):
        report.n_bytes += file.stat().st_size
        file.unlink()
        report.n_masters += 1


def _freed(folder: Path) -> int:
    """Return the bytes of the files below a folder that have no other hard link."""
    n_bytes, folders = 0, [os.fspath(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                n_bytes += status.st_size if status.st_nlink == 1 else 0
    return n_bytes


def _drop_staging(layout: Layout) -> None:
    """Remove folders that killed processes have left in the staging area."""
    for folder in folders_in(layout.staging):
        if not _is_waited_for(folder) and (aside := set_aside(folder)) is not None:
            remove_tree(aside, layout.root)


def _is_waited_for(folder: Path) -> bool:
    """Return whether the next run may still use the files of an interrupted one."""
    return folder.name.startswith(LASTING) and time.time() - folder.stat().st_mtime < _WAITED_S

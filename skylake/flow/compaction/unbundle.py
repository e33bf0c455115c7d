"""Give parts in bundles files of their own again, before they are replaced or read one by one.

A night in a bundle shares its files with many others. To read or replace many such nights one after the other would
read these files once for each night; here they are read once for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import dask

from skylake.core.counted import counted
from skylake.flow.compaction.compact_tables import run_job
from skylake.flow.execution.cluster import WINDOW, Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress
from skylake.flow.execution.task_guard import value_of
from skylake.lake import Commit, Lake, Part, Snapshot
from skylake.lake.commits.changes import StagedBundle
from skylake.lake.maintenance.compaction_plan import BundlePlan
from skylake.lake.maintenance.cut_rows import crowded, cut_file, cut_parts, plan_cuts, plan_rest
from skylake.lake.storage.slices import Slice

_FAILURE = "the nights could not be taken out of their bundle"
#: Times that a bundle is read at most, however many nights are in it; copies of so large a part of it are kept at
#: a time.
_PASSES = 8

Item = TypeVar("Item")


def in_groups(items: Sequence[Item], workers: Workers) -> Iterator[Sequence[Item]]:
    """Yield readers of bundles in groups; the parts that a group reads are copied out once."""
    size = max(WINDOW * workers.count, math.ceil(len(items) / _PASSES))
    for start in range(0, len(items), size):
        yield items[start : start + size]


def unbundle(lake: Lake, workers: Workers, wanted: Mapping[str, Iterable[str]], progress: Progress) -> None:
    """Give parts that are going to be replaced files of their own, if several of them share a bundle.

    It is one commit, which changes files and not content; what is left of the bundles stays a bundle. Afterwards a
    part can be replaced without touching the rows of another.

    Parameters
    ----------
    lake : Lake
    workers : Workers
    wanted : mapping
        Names of parts by table; those that are in no bundle are left alone.
    progress : Progress

    Raises
    ------
    LakeError
        If the lake cannot be written, or a bundle does not hold what it should.
    """
    snapshot = lake.snapshot()
    chosen = {table: crowded(snapshot.version(table), names) for table, names in wanted.items()}
    if not any(chosen.values()):
        return
    commit = Commit("loosen", "-", base=snapshot.number)
    with lake.stage("loosen") as staging:
        for table, names in chosen.items():
            parts = list(snapshot.version(table).parts_named(names))
            for part in cut_out(snapshot, table, parts, staging / table, workers, progress).values():
                commit.unbundle(part, staging / table)
            for rest in _remaining_bundles(snapshot, table, names, staging / f"{table}-rest", workers):
                commit.merge(rest)
        lake.commit(commit)
    what = ", ".join(f"{counted(len(names), 'part')} of {table}" for table, names in chosen.items() if names)
    progress.line(f"loosen: {what} have files of their own")


def cut_out(
    snapshot: Snapshot,
    table: str,
    parts: Sequence[Part],
    staging: Path,
    workers: Workers,
    progress: Progress,
) -> dict[str, Part]:
    """Write the rows of parts, all of them members of bundles, to files of their own below a folder.

    Returns
    -------
    dict of str to Part
        The parts by name, with these files.
    """
    cuts = plan_cuts(snapshot.version(table), table, parts)
    task = dask.delayed(cut_file, pure=False)
    progress.begin(f"cut {table}", len(cuts))
    makers = [partial(task, cut, staging) for cut in cuts]
    results = run_in_windows(workers, makers, lambda *_: progress.advance())
    progress.end()
    return cut_parts(parts, cuts, [value_of(result, _FAILURE) for result in results])


def cut_crowded(
    snapshot: Snapshot,
    table: str,
    names: Iterable[str],
    staging: Path,
    workers: Workers,
    progress: Progress,
) -> dict[str, tuple[Part, tuple[Slice, ...]]]:
    """Copy parts that share bundles with each other out of them, for reading.

    Returns
    -------
    dict of str to (Part, tuple of Slice)
        These parts with their new files, and where those are, by name; parts that are not in it can be read where
        they are.
    """
    version = snapshot.version(table)
    parts = [part for part in version.parts_named(crowded(version, names)) if part.files]
    made = cut_out(snapshot, table, parts, staging, workers, progress) if parts else {}
    return {
        name: (part, tuple(Slice(staging / file.path) for file in part.files)) for name, part in made.items()
    }


def _remaining_bundles(
    snapshot: Snapshot, table: str, gone: set[str], staging: Path, workers: Workers
) -> list[StagedBundle]:
    """Make what is left of bundles without some of their members."""
    version = snapshot.version(table)
    plans = [
        plan_rest(version, bundle, gone)
        for bundle in version.bundles.values()
        if not gone.isdisjoint(bundle.names) and not gone.issuperset(bundle.names)
    ]
    return [_made(plan, staging / plan.name, workers) for plan in plans]


def _made(plan: BundlePlan, staging: Path, workers: Workers) -> StagedBundle:
    task = dask.delayed(run_job, pure=False)
    makers = [partial(task, job, staging) for job in plan.jobs]
    return plan.staged([value_of(result, _FAILURE) for result in run_in_windows(workers, makers)], staging)

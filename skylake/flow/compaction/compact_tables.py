"""Compact tables: merge the files of many nights, pixel by pixel on the workers, and commit table by table.

After an interruption the next compaction reuses the finished files, and goes on with the others.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask

from skylake import logs
from skylake.core.counted import counted
from skylake.core.ids import config_sha256
from skylake.durable import Linker, replace_text, text_of
from skylake.errors import UsageError
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.execution.task_guard import value_of
from skylake.inside import remove_tree
from skylake.lake import Commit, Lake
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.maintenance.compaction_plan import (
    BundlePlan,
    MergeJob,
    dense_pixels,
    divide,
    plan_compaction,
)
from skylake.lake.storage.merge_files import MergedFile, merge_files
from skylake.lake.storage.parts import PartFile, is_as_written
from skylake.schema import load
from skylake.sky.hats import pixel_of
from skylake.sky.pixels import Pixel

_log = logs.get(__name__)


def compacted(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the tables whose parts can be merged."""
    return tuple(name for name in snapshot.tables if snapshot.schema(name).layout.batch)


@dataclass(slots=True)
class CompactReport:
    """The report of a compaction.

    Attributes
    ----------
    tables : dict
        For each rewritten table: parts, rows, files before and after, pixels that were divided.
    """

    tables: dict[str, dict[str, int]] = field(default_factory=dict)


def compact(
    lake: Lake,
    workers: Workers,
    tables: Sequence[str] = (),
    everything: bool = False,
    progress: Progress | None = None,
) -> CompactReport:
    """Merge the files of tables where that reduces their number; each table is one commit.

    The content of the tables stays the same, which is verified before each commit; their files become few,
    sorted by position and time.

    Parameters
    ----------
    lake : Lake
    workers : Workers
    tables : sequence of str
        Tables to compact; none takes all.
    everything : bool
        Merge all files of each pixel into one.
    progress : Progress or None

    Raises
    ------
    UsageError
        If there is no such table.
    LakeError
        If the lake cannot be written, or another run compacts it.
    """
    known = compacted(lake.snapshot())
    unknown = [name for name in tables if name not in known]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no table that can be compacted; those are {', '.join(known)}")
    report = CompactReport()
    with lake.compacting():
        for table in [name for name in known if not tables or name in tables]:
            _compact_table(lake, table, everything, workers, report, progress or Silent())
    return report


def _compact_table(
    lake: Lake, table: str, everything: bool, workers: Workers, report: CompactReport, progress: Progress
) -> None:
    snapshot = lake.snapshot()
    divided = _divided(lake, snapshot, table, workers, everything)
    plans = plan_compaction(snapshot.version(table), table, everything, divided)
    if not plans:
        lake.drop_lasting(f"compact-{table}")
        return
    progress.begin(f"compact {table}", sum(len(plan.jobs) for plan in plans))
    commit = Commit("compact", table, base=snapshot.number)
    with lake.lasting_stage(f"compact-{table}") as staging:
        _drop_others(staging, {plan.name for plan in plans})
        for plan in plans:
            commit.merge(plan.staged(_run(plan, staging / plan.name, workers, progress), staging / plan.name))
        made = lake.commit(commit)
    progress.end()
    before, after = (len(one.version(table).whole_files()) for one in (snapshot, made))
    report.tables[table] = {
        "parts": sum(len(plan.parts) for plan in plans),
        "rows": sum(part.n_rows for plan in plans for part in plan.parts),
        "files_before": before,
        "files_after": after,
        "pixels_divided": len(divided),
    }
    progress.line(f"compact {table}: {counted(before, 'file')} became {after}")


def _drop_others(staging: Path, wanted: Collection[str]) -> None:
    """Remove files that were made for other bundles, or have been committed since."""
    for path in list(staging.iterdir()):
        if path.name not in wanted:
            remove_tree(path, staging)


def _divided(
    lake: Lake, snapshot: Snapshot, table: str, workers: Workers, everything: bool = False
) -> dict[Pixel, list[Pixel]]:
    """Return the pixels that have too many rows, and how they are divided."""
    most = lake.settings.pixel_rows
    version = snapshot.version(table)
    dense = dense_pixels(version, most, everything)
    files: dict[Pixel | None, list[Path]] = {}
    for path in version.whole_files() if dense else ():
        files.setdefault(pixel_of(str(path)), []).append(path)
    task = dask.delayed(divide, pure=False)
    results = run_in_windows(workers, [partial(task, table, pixel, files[pixel], most) for pixel in dense])
    pixels_of = dict(zip(dense, _values(results), strict=True))
    return {pixel: pixels for pixel, pixels in pixels_of.items() if pixels != [pixel]}


def _run(plan: BundlePlan, staging: Path, workers: Workers, progress: Progress) -> list[MergedFile | None]:
    """Make the files of a bundle."""
    task = dask.delayed(run_job, pure=False)
    makers = [partial(task, job, staging) for job in plan.jobs]
    return _values(run_in_windows(workers, makers, lambda *_: progress.advance()))


def _values(results: Sequence[Any]) -> list[Any]:
    return [value_of(result, "the compaction ended", "run it again to go on from here") for result in results]


def run_job(job: MergeJob, staging: Path) -> MergedFile | None:
    """Make one file, unless an interrupted compaction has made it already; runs on a worker."""
    target = staging / job.merge.path
    note = staging / "_done" / f"{job.merge.path.replace('/', '_')}.json"
    made, done = _read_note(note)
    if made == _identity(job) and (done is None or is_as_written(staging, done.file)):
        return done
    target.parent.mkdir(parents=True, exist_ok=True)
    if job.carried is not None:
        target.unlink(missing_ok=True)
        Linker()(job.merge.sources[0].path, target)
        return job.carried
    merged = merge_files(job.merge, staging)
    note.parent.mkdir(exist_ok=True)
    values = {"job": _identity(job), "merged": None if merged is None else asdict(merged)}
    replace_text(note, json.dumps(values))
    return merged


def _identity(job: MergeJob) -> str:
    """Return what the result of a job depends on, in addition to the content stated by the name of its file."""
    merge = job.merge
    form = load(merge.table).sha256
    return config_sha256({"keys": merge.keys, "pixel": merge.pixel, "path": merge.path, "schema": form})


def _read_note(note: Path) -> tuple[str | None, MergedFile | None]:
    """Return the note of an interrupted compaction: its job, None without a note, and the file that was made.

    Notes are not forced to disk one by one; one that a loss of power has cut short does not count.
    """
    try:
        values = json.loads(text_of(note))
        job, merged = str(values["job"]), values["merged"]
        if merged is None:
            return job, None
        shares = {int(number): (rows, digest) for number, (rows, digest) in merged["shares"].items()}
        return job, MergedFile(PartFile(**merged["file"]), shares)
    except FileNotFoundError:
        return None, None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.info(
            "%s: what an interrupted compaction noted is damaged (%s); its file is rebuilt", note, error
        )
        return None, None

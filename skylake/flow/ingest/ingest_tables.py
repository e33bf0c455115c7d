"""``skylake ingest-table``: tables of detections enter a lake as frames and sources without pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import dask
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.errors import LakeError, UsageError, together
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.retry_commit import retry_superseded
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.execution.task_guard import value_of
from skylake.flow.ingest.chunk_rows import Chunk
from skylake.flow.ingest.frame_chunks import LeftChunks, without_repeats
from skylake.flow.ingest.frame_tasks import Reduction, as_text
from skylake.flow.ingest.ingest_frames import IngestRun, publish_nights
from skylake.flow.ingest.ingest_report import IngestReport
from skylake.flow.ingest.known_files import Known
from skylake.flow.ingest.table_frames import TableChunks, reduce_table
from skylake.flow.ingest.table_rows import TableColumns
from skylake.lake import Lake, Snapshot


@dataclass(slots=True)
class TableReport:
    """What an ingest of tables did.

    Attributes
    ----------
    ingest : IngestReport
        What became of their frames.
    left_out : dict
        By file, how many rows lack a position, flux or error.
    """

    ingest: IngestReport
    left_out: dict[str, int] = field(default_factory=dict)


def ingest_tables(
    lake: Lake,
    profile: Profile,
    paths: Sequence[Path],
    columns: TableColumns,
    workers: Workers,
    redo: bool = False,
    progress: Progress | None = None,
) -> TableReport:
    """Ingest tables of detections of one camera; a table is held in memory by the worker that reads it.

    Frames that the lake holds already are left alone unless `redo`, but those without a place are tried again. A frame
    is known by its values, so a table that has grown adds its new frames only.

    Parameters
    ----------
    lake : Lake
    profile : Profile
    paths : sequence of Path
    columns : TableColumns
        Which column of each holds what.
    workers : Workers
    redo : bool
    progress : Progress or None

    Raises
    ------
    CatalogError
        If a file cannot be read; nothing is committed then.
    UsageError
        If the profile lacks what is needed, or the lake has frames of this camera that were made from images.
    LakeError
        If the lake cannot be written.
    """
    progress = progress or Silent()
    if profile.base.place.mosaic:
        raise UsageError(
            f"{profile.name} is one of several chips; give tables of detections a camera of their own"
        )
    start = lake.snapshot()
    _require_no_images(start, profile)
    lake.keep_profile(profile)
    # Targets are measured on pixels.
    reduction = replace(Reduction.in_force(lake, start, profile), forcing=None)
    names = [path.absolute() for path in paths]
    held = {} if redo else _held(start, profile.name, names)
    known = Known.read(lake, profile.name, redo)
    report = TableReport(IngestReport())
    run = IngestRun(lake, workers, progress, known, report.ingest, False, LeftChunks(lake, profile.name, ()))
    with lake.stage(f"ingest-{profile.name}") as staging:
        made = _read(names, columns, reduction, held, staging, run)
        chunks = _nights(names, made, known, report)
        done: set[int] = set()

        def publish() -> list[LakeError]:
            left = {night: some for night, some in chunks.items() if night not in done}
            return publish_nights(run, left, reduction, staging, (), done)

        failures = retry_superseded(publish, progress) if chunks else []
    if failures:
        raise LakeError(together(failures)) from failures[0]
    return report


def _require_no_images(snapshot: Snapshot, profile: Profile) -> None:
    """Refuse a camera whose frames were made from images.

    Their fluxes are of other apertures, and the stars of an exposure would count twice.

    Raises
    ------
    UsageError
    """
    # A sky is measured on pixels.
    measured = snapshot.read(
        "frames", ["frame_id"], lambda part: part.camera == profile.name, pc.field("sky_adu").is_valid()
    )
    if measured.num_rows:
        raise UsageError(
            f"the lake has frames of {profile.name} that were made from images; give tables of detections a camera of "
            f"their own: a profile with another name and like = {json.dumps(profile.source)}"
        )


def _read(
    paths: Sequence[Path],
    columns: TableColumns,
    reduction: Reduction,
    held: Mapping[str, Mapping[str, int]],
    staging: Path,
    run: IngestRun,
) -> list[TableChunks]:
    """Return what became of each file, read by the workers.

    Raises
    ------
    CatalogError
        If a file cannot be read.
    """
    task = dask.delayed(reduce_table, pure=False)
    tasks = [
        task(path, columns, reduction, held.get(as_text(str(path)), {}), staging / "rows" / str(number))
        for number, path in enumerate(paths)
    ]
    run.progress.begin("tables", len(tasks))
    results = run.workers.run(tasks, lambda *_: run.progress.advance())
    run.progress.end()
    return [
        value_of(result, f"{path} could not be read") for path, result in zip(paths, results, strict=True)
    ]


def _nights(
    paths: Sequence[Path], made: Sequence[TableChunks], known: Known, report: TableReport
) -> dict[int, list[Chunk]]:
    """Return the new frames of all files by night, each of them once, and report the rest."""
    chunks: dict[int, list[Chunk]] = {}
    for path, one in zip(paths, made, strict=True):
        report.ingest.n_known += one.n_known
        if one.n_left_out:
            report.left_out[str(path)] = one.n_left_out
        for night, chunk in one.chunks.items():
            first = without_repeats(chunk, known.seen)
            report.ingest.repeated += first.repeated
            if first.frames.num_rows:
                chunks.setdefault(night, []).append(first)
    return chunks


def _held(snapshot: Snapshot, camera: str, paths: Sequence[Path]) -> dict[str, dict[str, int]]:
    """Return the good frames of each table that a lake holds, file to frame_id."""
    found: dict[str, dict[str, int]] = {as_text(str(path)): {} for path in paths}
    rows = snapshot.read("frames", ["file", "frame_id", "reason"], lambda part: part.camera == camera)
    for file, frame, reason in zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True):
        # A path may have such a sign, too.
        ends = [place for place, letter in enumerate(file) if letter == "#"]
        of_table = next((found[file[:end]] for end in (len(file), *ends) if file[:end] in found), None)
        if of_table is not None and reason is None:
            of_table[file] = frame
    return found

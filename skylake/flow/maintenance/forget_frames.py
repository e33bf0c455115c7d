"""Remove frames or whole nights, and all that was measured on them, or tables of users, in one commit.

Older snapshots still have them until they are vacuumed. Light curves and other aggregates are out of date afterwards,
and `aggregate` refreshes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.batch import Batch
from skylake.durable import Linker
from skylake.errors import UsageError
from skylake.flow.compaction.unbundle import cut_crowded
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.execution.task_guard import value_of
from skylake.flow.ingest.gather_night import files_sha256
from skylake.lake import Commit, Lake, Part, Snapshot
from skylake.lake.layout import part_file
from skylake.lake.storage.parts import PartFile, write_part_file
from skylake.lake.storage.slices import Slice, read_files, read_verified
from skylake.schema import load, table_names

#: Tables with one row or several for each frame.
_BY_FRAME = tuple(
    name for name in table_names() if load(name).layout.batch and "frame_id" in load(name).names
)


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """Nights, frames and tables to forget.

    Attributes
    ----------
    nights : frozenset of Batch
        Nights that go as a whole.
    frames : dict
        Frames that go, by the night that keeps others.
    base : int
        Snapshot in which they were found. If others change these nights afterwards, the commit is refused.
    tables : frozenset of str
        Tables of users that go as a whole.
    """

    nights: frozenset[Batch]
    frames: dict[Batch, tuple[int, ...]]
    base: int
    tables: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The nights and tables, for the ledger."""
        return ", ".join([*sorted(map(str, self.nights | self.frames.keys())), *sorted(self.tables)])


@dataclass(slots=True)
class ForgetReport:
    """What was forgotten, or would be in a dry run.

    Attributes
    ----------
    nights : list of str
        Nights that go as a whole.
    rows : dict
        Rows that go, by table.
    snapshot : int or None
        The snapshot that no longer has them; None if nothing was changed.
    tables : list of str
        Tables that go as a whole.
    """

    nights: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    snapshot: int | None = None
    tables: list[str] = field(default_factory=list)


def parse_batch(text: str) -> Batch:
    """Read a night of a camera, CAMERA-NIGHT.

    Raises
    ------
    UsageError
        If it is none.
    """
    camera, _, night = text.rpartition("-")
    if not camera or len(night) != 8 or not (night.isascii() and night.isdigit()):
        raise UsageError(f"{text!r} is no night of a camera; write it as sim-20241001")
    return Batch(camera, int(night))


def find(
    snapshot: Snapshot, frames: Collection[int], batches: Iterable[Batch], tables: Collection[str] = ()
) -> ForgetRequest:
    """Return where frames and nights are.

    Raises
    ------
    UsageError
        If one of them is not in the lake, or a table is one of skylake.
    """
    for table in tables:
        _require_of_user(snapshot, table)
    held = snapshot.parts("frames")
    nights = set(batches)
    for batch in sorted(nights):
        if str(batch) not in held:
            raise UsageError(
                f"{snapshot.layout.root}: there is no night {batch} in the lake; `skylake sql` lists them: "
                "SELECT DISTINCT camera, night FROM frames"
            )
    chosen = pc.field("frame_id").isin(pa.array(sorted(frames), pa.int64()))
    rows = snapshot.read("frames", ["frame_id", "camera", "night"], filter=chosen).to_pylist()
    unknown = set(frames) - {row["frame_id"] for row in rows}
    if unknown:
        raise UsageError(
            f"{snapshot.layout.root}: there is no frame {min(unknown)} in the lake; `skylake sql` finds frames: "
            "SELECT frame_id, file FROM frames"
        )
    by_night: dict[Batch, list[int]] = {}
    for row in rows:
        by_night.setdefault(Batch(row["camera"], row["night"]), []).append(row["frame_id"])
    nights |= {batch for batch, ids in by_night.items() if len(ids) == held[str(batch)].n_rows}
    rest = {batch: tuple(sorted(ids)) for batch, ids in sorted(by_night.items()) if batch not in nights}
    return ForgetRequest(frozenset(nights), rest, snapshot.number, frozenset(tables))


def _require_of_user(snapshot: Snapshot, table: str) -> None:
    """Refuse a table that is not there, or that a lake cannot be without."""
    if table in table_names():
        raise UsageError(
            f"{table} is a table of skylake, and stays; only those of `skylake crossmatch` and of aggregates of your "
            "own can be forgotten, and frames and nights (--frame, --batch)"
        )
    own = [name for name in snapshot.tables if name not in table_names()]
    if table not in own:
        known = f"those that can be forgotten are {', '.join(own)}" if own else "it has none of your own"
        raise UsageError(f"{snapshot.layout.root}: there is no table {table!r} in the lake; {known}")


def preview(snapshot: Snapshot, wanted: ForgetRequest) -> ForgetReport:
    """Return what would go."""
    report = ForgetReport(sorted(map(str, wanted.nights)), tables=sorted(wanted.tables))
    for table in snapshot.tables:
        parts, whole = snapshot.parts(table).values(), table in wanted.tables
        count = sum(part.n_rows for part in parts if whole or _batch(part) in wanted.nights)
        if table in _BY_FRAME:
            slices = snapshot.slices(table, lambda part: _batch(part) in wanted.frames)
            ids = [frame for some in wanted.frames.values() for frame in some]
            chosen = pc.field("frame_id").isin(pa.array(ids, pa.int64()))
            count += read_files(table, slices, ["frame_id"], chosen).num_rows
        if count:
            report.rows[table] = count
    return report


def forget(
    lake: Lake, wanted: ForgetRequest, workers: Workers, progress: Progress | None = None
) -> ForgetReport:
    """Take frames and nights with all that was measured on them, and tables of users, out of the lake.

    A night that loses some of its frames keeps the zeropoints of the others until it is calibrated again. A later
    ingest takes the files again if they are still there.

    Raises
    ------
    LakeError
        If the lake cannot be written, or another run has changed one of the nights since they were looked up.
    """
    progress = progress or Silent()
    snapshot = lake.snapshot(wanted.base)
    report = preview(snapshot, wanted)
    commit = Commit("forget", wanted.text, base=snapshot.number)
    with lake.stage("forget") as staging:
        for table in snapshot.tables:
            if table in wanted.tables:
                commit.drop(table, snapshot.parts(table))
                continue
            for part in snapshot.parts(table).values():
                if _batch(part) in wanted.nights:
                    commit.remove(table, part.name)
            if table in _BY_FRAME and wanted.frames:
                _thin(snapshot, commit, table, wanted, staging / table, workers, progress)
        _touch_new(lake.snapshot(), snapshot, commit, wanted)
        report.snapshot = lake.commit(commit).number
    return report


def _touch_new(now: Snapshot, snapshot: Snapshot, commit: Commit, wanted: ForgetRequest) -> None:
    """Let a commit touch parts that others have made of the nights since, so that it is refused."""
    for table in now.tables:
        if table in snapshot.tables and now.folder(table) == snapshot.folder(table):
            continue
        nights = wanted.nights | wanted.frames.keys() if table in _BY_FRAME else wanted.nights
        held = snapshot.parts(table).keys() if table in snapshot.tables else set()
        for name in now.parts(table).keys() - held:
            if table in wanted.tables or _batch(now.parts(table)[name]) in nights:
                commit.remove(table, name)


def _batch(part: Part) -> Batch | None:
    return None if part.camera is None or part.night is None else Batch(part.camera, part.night)


def _thin(
    snapshot: Snapshot,
    commit: Commit,
    table: str,
    wanted: ForgetRequest,
    staging: Path,
    workers: Workers,
    progress: Progress,
) -> None:
    """Write the parts of a table without some frames, file by file."""
    parts = {part.name: part for part in snapshot.parts(table).values() if _batch(part) in wanted.frames}
    jobs = _jobs(snapshot, table, parts.values(), wanted, staging, workers, progress)
    progress.begin(f"forget {table}", len(jobs))
    results = run_in_windows(workers, [job for _, job in jobs], lambda *_: progress.advance())
    progress.end()
    files: dict[str, list[PartFile]] = {name: [] for name in parts}
    for (name, _), result in zip(jobs, results, strict=True):
        made = value_of(result, "the frames could not be forgotten")
        files[name] += [made] if made else []
    for name, part in parts.items():
        remaining = replace(
            part,
            files=tuple(sorted(files[name], key=lambda file: file.path)),
            inputs=_inputs(snapshot, part, wanted),
            schema_sha256=load(table).sha256,
        )
        if not remaining.files:
            commit.remove(table, name)
        elif (remaining.checksum, remaining.inputs) != (part.checksum, part.inputs):
            commit.replace(remaining, staging)


def _jobs(
    snapshot: Snapshot,
    table: str,
    parts: Iterable[Part],
    wanted: ForgetRequest,
    staging: Path,
    workers: Workers,
    progress: Progress,
) -> list[tuple[str, Callable[[], Any]]]:
    """Return a task for each file of some parts, with the name of the part."""
    parts = list(parts)
    version = snapshot.version(table)
    own = cut_crowded(snapshot, table, [part.name for part in parts], staging / "cut", workers, progress)
    task = dask.delayed(without_frames, pure=False)
    jobs: list[tuple[str, Callable[[], Any]]] = []
    for held in parts:
        part, slices = own.get(held.name, (held, tuple(version.slices_of(held))))
        frames = wanted.frames[_batch(part) or Batch("", 0)]
        for file, where in zip(part.files, slices, strict=True):
            jobs.append((part.name, partial(task, part, file, where, frames, staging)))
    return jobs


def _inputs(snapshot: Snapshot, part: Part, wanted: ForgetRequest) -> dict[str, str]:
    """Return the inputs of a part without some frames, with another list of files if it names them."""
    batch = _batch(part)
    if "files" not in part.inputs or batch is None:
        return part.inputs
    frames = snapshot.read_part("frames", str(batch), ["frame_id", "file_bytes"])
    gone = pc.is_in(frames["frame_id"], pa.array(wanted.frames[batch], pa.int64()))
    return part.inputs | {"files": files_sha256(frames.filter(pc.invert(gone)))}


def without_frames(
    part: Part, file: PartFile, where: Slice, frames: Sequence[int], staging: Path
) -> PartFile | None:
    """Write one file of a part without some frames; None if no row is left. Runs on a worker.

    Raises
    ------
    LakeError
        If the rows are not those that were written.
    """
    path = part_file(part.table, part.name, file.pixel)
    stays = ~pc.field("frame_id").isin(pa.array(frames, pa.int64()))
    rows = read_verified(part.table, where).filter(stays)
    if rows.num_rows == 0:
        return None
    if rows.num_rows == file.n_rows and where.keys is None:
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        Linker()(where.path, staging / path)
        return replace(file, path=path)
    return write_part_file(rows, staging, path)

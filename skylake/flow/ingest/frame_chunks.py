"""Chunks: reduced frames on disk, which the next run takes up if this one is killed or the power fails.

A chunk is a folder that gets its name when all of it is written. A note in it lists the files of its frames with size
and time, a digest of what the rows were made with, and size and digest of each file of rows. Nothing is forced to
disk, which would cost more than it may save: files that a loss of power cut short do not match the note. The next
ingest of these frames takes up the chunks that match and removes the others.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa
import pyarrow.compute as pc

from skylake.durable import content_of, text_of
from skylake.errors import Corrections, LakeError, SkylakeError, cannot_be_written
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.execution.task_pieces import shrinking_pieces
from skylake.flow.forced.psf_history import Stamp, stamp_of
from skylake.flow.ingest.chunk_rows import Chunk, message_of, table_of
from skylake.flow.ingest.frame_tasks import Reduction, as_text, lost_frame, reduce_chunk, reduce_pieces
from skylake.flow.ingest.known_files import Seen, is_retried
from skylake.inside import inside, remove_tree
from skylake.lake import Lake
from skylake.lake.storage.parts import file_sha256

#: Frames in one task at most; dask spends some milliseconds on each task.
_CHUNK = 64
#: Frames in one task that are reduced again with the pointing of their neighbours.
_PLACED_CHUNK = 4
#: A chunk is closed after so many seconds of work: no more of it can be lost.
_SPAN_S = 5.0
_NOTE, _FRAMES = "chunk.json", "frames.arrow"

Piece = tuple[str, Chunk]
"""The first file of a chunk, which gives its place as the files of a night are reduced in order, and the chunk."""


def without_repeats(chunk: Chunk, seen: Seen) -> Chunk:
    """Leave out frames with the same content as another file, and note the others as known.

    Tasks that run at the same time do not know each other's frames.
    """
    rows = chunk.frames.select(["frame_id", "file"]).to_pylist()
    first = [seen.setdefault(row["frame_id"], row["file"]) == row["file"] for row in rows]
    if all(first):
        return chunk
    repeated = tuple(row["file"] for row, is_first in zip(rows, first, strict=True) if not is_first)
    return replace(chunk, frames=chunk.frames.filter(pa.array(first)), repeated=(*chunk.repeated, *repeated))


def reduce_frames(
    window: dict[int, list[str]],
    reduction: Reduction,
    workers: Workers,
    kept: KeptChunks,
    left: LeftChunks,
    progress: Progress,
) -> dict[int, list[Chunk]]:
    """Return the reduced chunks of each night, including those that an interrupted run has left.

    A chunk that kills its worker is tried frame by frame.
    """
    taken = left.take(window, kept)
    progress.advance(sum(len(some) for some in taken.values()))
    todo = {(night, part[0]): part for night, files in window.items() for part in gaps(files, taken[night])}
    # Neighbours that the sky is made from are reduced anew for each piece.
    pieces = shrinking_pieces(todo, workers.count, _CHUNK, few=bool(reduction.neighbours))
    reduce = dask.delayed(reduce_kept, pure=False)
    # One object in the graph, however many tasks share it.
    shared = dask.delayed(reduction, pure=False, traverse=False)
    names = [f"{number:05d}" for number in range(len(pieces))]
    tasks = [
        reduce(files, shared, night, kept, name)
        for ((night, _), files), name in zip(pieces, names, strict=True)
    ]
    results = _run(tasks, [len(files) for _, files in pieces], workers, progress)
    found: dict[int, list[Piece]] = {
        night: list(dict(some.values()).items()) for night, some in taken.items()
    }
    for ((night, _), files), name, result in zip(pieces, names, results, strict=True):
        if isinstance(result, BaseException):
            done = kept.of_task(name, night)
            result = [(some[0], chunk) for some, chunk in done]
            known = {file for some, _ in done for file in some}
            alone = [file for file in files if file not in known]
            result += _one_by_one(alone, reduction, workers, kept.folder / f"again-{name}")
        found[night] += result
    chunks: dict[int, list[Chunk]] = {}
    for night, some in found.items():
        place = {file: number for number, file in enumerate(window[night])}
        for _, chunk in sorted(some, key=lambda piece: place[piece[0]]):
            _file_by_night(chunks, night, chunk)
    return chunks


def _one_by_one(files: list[str], reduction: Reduction, workers: Workers, out: Path) -> list[Piece]:
    """Reduce the frames of a task whose worker has died one by one; a frame on which one dies again is lost."""
    singles = _run_chunks([[file] for file in files], reduction, workers, out)
    return [
        (file, one if isinstance(one, Chunk) else lost_frame(file, reduction.profile, one))
        for file, one in zip(files, singles, strict=True)
    ]


def reduce_again(files: list[str], reduction: Reduction, workers: Workers, out: Path) -> list[Chunk]:
    """Reduce frames once more, now that others give their pointing; those that cannot be reduced are left out."""
    pieces = [files[i : i + _PLACED_CHUNK] for i in range(0, len(files), _PLACED_CHUNK)]
    results = _run_chunks(pieces, reduction, workers, out)
    return [one for one in results if isinstance(one, Chunk)]


def _run_chunks(pieces: list[list[str]], reduction: Reduction, workers: Workers, out: Path) -> list[Any]:
    reduce = dask.delayed(reduce_chunk, pure=False)
    shared = dask.delayed(reduction, pure=False, traverse=False)
    tasks = [reduce(files, shared, out / f"{number:05d}.arrow") for number, files in enumerate(pieces)]
    return _run(tasks, [len(files) for files in pieces], workers, Silent())


def _run(tasks: list[Any], sizes: list[int], workers: Workers, progress: Progress) -> list[Any]:
    """Run tasks of some frames each; raise errors that the lake is to blame for."""
    results = workers.run(tasks, lambda number, _: progress.advance(sizes[number]))
    for result in results:
        if isinstance(result, SkylakeError):
            raise result
    return results


def _file_by_night(chunks: dict[int, list[Chunk]], night: int, chunk: Chunk) -> None:
    """File a chunk under the night of its frames, which differs from the planned one if a header has changed."""
    nights = set(chunk.frames["night"].to_pylist())
    if nights <= {night}:
        chunks.setdefault(night, []).append(chunk)
        return
    import pyarrow.compute as pc

    for one in nights:
        rows = chunk.frames.filter(pc.equal(chunk.frames["night"], one))
        files = (chunk.sources, chunk.forced) if one else (None, None)
        moved = Chunk(rows, files[0], forced=files[1], corrections=chunk.corrections)
        chunks.setdefault(one, []).append(moved)
    chunks.setdefault(night, []).append(Chunk(chunk.frames.slice(0, 0), None, chunk.repeated))


@dataclass(frozen=True, slots=True)
class KeptChunks:
    """The folder where a run keeps chunks, and a digest of what those of each night are made with.

    Attributes
    ----------
    folder : Path
        In the staging folder of the lake, which all workers see.
    made_with : dict
        Night to the digest of all that the rows depend on, except the frames.
    """

    folder: Path
    made_with: Mapping[int, str]

    def keep(self, name: str, night: int, stamps: Mapping[str, Stamp | None], chunk: Chunk) -> Chunk:
        """Write the note of a finished chunk, and give its folder its name; return the chunk there.

        Frames that should be tried again, and copies, are not in the note, so that no run takes them up.

        Raises
        ------
        LakeError
            If it cannot be written.
        """
        partial, folder = self.partial(name), self.folder / name
        frames = partial / _FRAMES
        again = [is_retried(reason) for reason in chunk.frames["reason"].to_pylist()]
        left = {*compress(chunk.frames["file"].to_pylist(), again), *map(as_text, chunk.repeated)}
        noted = {file: stamp for file, stamp in stamps.items() if as_text(file) not in left}
        try:
            frames.parent.mkdir(parents=True, exist_ok=True)
            # The files keep the detections of the others, but only those of the frames of a chunk are read.
            lasting = pc.invert(pa.array(again, pa.bool_()))
            frames.write_bytes(message_of(chunk.frames.filter(lasting)))
            paths = {"frames": frames, **chunk.tables}
            note = {
                "made_with": self.made_with.get(night),
                "night": night,
                "files": [(file, *(stamp or ())) for file, stamp in noted.items()],
                "tables": {
                    table: (path.name, path.stat().st_size, file_sha256(path))
                    for table, path in paths.items()
                    if path is not None
                },
                "corrections": list(chunk.corrections.items()),
            }
            if noted:
                (partial / _NOTE).write_text(json.dumps(note), encoding="utf-8")
            # Another worker that did the same may have been quicker.
            remove_tree(folder, self.folder, ignore_errors=True)
            partial.rename(folder)
        except OSError as error:
            raise cannot_be_written(folder, error, "a chunk of frames") from error
        return _chunk(folder, paths, chunk)

    def partial(self, name: str) -> Path:
        """Return the folder where this process writes a chunk; one taken for dead may be writing the same chunk."""
        return self.folder / f".{name}.{os.getpid()}.tmp"

    def of_task(self, name: str, night: int) -> list[tuple[list[str], Chunk]]:
        """Return the chunks that a task has finished, each with its files, although its worker may have died since."""
        notes = [_Note.read(folder) for folder in sorted(self.folder.glob(f"{name}-*"))]
        fit = [note for note in notes if note is not None and note.fits(night, self.made_with.get(night))]
        found = [(list(note.stamps), note.chunk()) for note in fit]
        return [(files, chunk) for files, chunk in found if chunk is not None]


def reduce_kept(
    paths: Sequence[str], reduction: Reduction, night: int, kept: KeptChunks, name: str
) -> list[Piece]:
    """Reduce frames one after the other and keep a chunk every few seconds; runs on a worker."""
    done = kept.of_task(name, night)
    found = [(files[0], chunk) for files, chunk in done]
    known = {file for files, _ in done for file in files}
    left = [path for path in paths if path not in known]
    if not left:
        return found
    stamps = {path: stamp_of(path) for path in left}
    # Chunks without a note are counted too.
    first = len(list(kept.folder.glob(f"{name}-*")))

    def out(number: int) -> Path:
        return kept.partial(f"{name}-{first + number}") / "sources.arrow"

    scratch = kept.folder / f".{name}.sky"
    for number, (files, chunk) in enumerate(reduce_pieces(left, reduction, out, scratch, _SPAN_S)):
        mine = {file: stamps[file] for file in files}
        found.append((files[0], kept.keep(f"{name}-{first + number}", night, mine, chunk)))
    return found


@dataclass(frozen=True, slots=True)
class _Note:
    """The note of a chunk: its files, and what it was made with."""

    folder: Path
    made_with: str | None
    night: int
    stamps: Mapping[str, Stamp | None]
    tables: Mapping[str, tuple[str, int, str]]
    corrections: Mapping[int, Corrections]

    @classmethod
    def read(cls, folder: Path) -> _Note | None:
        """Read the note of a chunk; None if there is none, or it was cut short."""
        try:
            note: dict[str, Any] = json.loads(text_of(folder / _NOTE))
            stamps = {file: (stamp[0], stamp[1]) if stamp else None for file, *stamp in note["files"]}
            corrections = dict(note["corrections"])
            return cls(folder, note["made_with"], note["night"], stamps, note["tables"], corrections)
        except (OSError, ValueError, KeyError, IndexError):
            return None

    def fits(self, night: int, made_with: str | None) -> bool:
        """Return whether the frames would be reduced in the same way now, and their files have not changed."""
        same = made_with is not None and (self.night, self.made_with) == (night, made_with)
        return same and all(
            stamp is not None and stamp_of(file) == stamp for file, stamp in self.stamps.items()
        )

    def chunk(self) -> Chunk | None:
        """Return the chunk; None if a file of it is not what was written."""
        try:
            paths = {table: inside(self.folder, name) for table, (name, *_) in self.tables.items()}
            for table, (_, n_bytes, sha256) in self.tables.items():
                if paths[table].stat().st_size != n_bytes or file_sha256(paths[table]) != sha256:
                    return None
            frames = table_of(content_of(paths["frames"]))
        except (OSError, LakeError):
            return None
        return Chunk(frames, paths.get("sources"), (), paths.get("forced_sources"), self.corrections)


def _chunk(folder: Path, paths: Mapping[str, Path | None], chunk: Chunk) -> Chunk:
    """Return a chunk whose folder was renamed."""
    sources, forced = (
        None if path is None else folder / path.name for path in (paths["sources"], paths["forced_sources"])
    )
    return replace(chunk, sources=sources, forced=forced)


class LeftChunks:
    """The chunks of a camera that interrupted runs have left.

    Parameters
    ----------
    lake : Lake
    camera : str
    files : collection of str
        The files of this run. Chunks of other frames stay for a run that names them.
    """

    def __init__(self, lake: Lake, camera: str, files: Collection[str]) -> None:
        self._notes: list[_Note] = []
        self._folders = lake.interrupted_stages(stage_name(camera))
        for folder in self._folders:
            for one in _entries(folder):
                note = _Note.read(one)
                if note is None:
                    remove_tree(one, folder, ignore_errors=True)
                elif any(file in files for file in note.stamps):
                    self._notes.append(note)

    def take(self, window: Mapping[int, Sequence[str]], kept: KeptChunks) -> dict[int, dict[str, Piece]]:
        """Take over the chunks of some nights that can be used; return, by night, file to chunk."""
        found: dict[int, dict[str, Piece]] = {night: {} for night in window}
        wanted = {night: set(files) for night, files in window.items()}
        for number, note in enumerate(self._notes):
            mine = found.get(note.night)
            if (
                mine is None
                or not wanted[note.night].issuperset(note.stamps)
                or not mine.keys().isdisjoint(note.stamps)
            ):
                continue
            if not note.fits(note.night, kept.made_with.get(note.night)):
                continue
            folder = kept.folder / f"left-{time.monotonic_ns()}-{number}"
            try:
                note.folder.rename(folder)
            except OSError:
                continue  # another run was quicker
            moved = _Note.read(folder)
            chunk = None if moved is None else moved.chunk()
            if chunk is not None:
                mine.update(dict.fromkeys(note.stamps, (next(iter(note.stamps)), chunk)))
        return found

    def drop(self) -> None:
        """Remove chunks of the files of this run that were not taken, and folders that are empty."""
        for note in self._notes:
            remove_tree(note.folder, note.folder.parent, ignore_errors=True)
        for folder in self._folders:
            with suppress(OSError):
                folder.rmdir()


def _entries(folder: Path) -> list[Path]:
    """Return the entries of a folder; none if another run has removed it."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def stage_name(camera: str) -> str:
    """Return the name of the staging folders in which chunks of a camera are kept."""
    return f"chunks-{camera}"


def gaps(files: Sequence[str], taken: Collection[str]) -> Iterator[list[str]]:
    """Yield runs of files between those that were taken, in order, so that no new chunk spans a taken one."""
    gap: list[str] = []
    for file in files:
        if file not in taken:
            gap.append(file)
        elif gap:
            yield gap
            gap = []
    if gap:
        yield gap

"""Frames in tasks of many: reduced by the workers, filed by night, and each content but once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa

from skylake.errors import SkylakeError
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.execution.task_pieces import shrinking_pieces
from skylake.flow.ingest.frame_tasks import Chunk, Reduction, lost_frame, reduce_chunk
from skylake.flow.ingest.lake_frames import Seen
from skylake.flow.ingest.saved_chunks import KeptChunks, LeftChunks, Piece, gaps, reduce_kept

#: Frames in one task at most; dask spends some milliseconds on each task.
_CHUNK = 64
#: Frames in one task that are reduced again with what their neighbours tell.
_PLACED_CHUNK = 4


def without_repeats(chunk: Chunk, seen: Seen) -> Chunk:
    """Leave out frames whose content another file has, and note the others as known.

    Tasks that run side by side do not know of each other's frames.
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
    """Return the reduced chunks of each night, with those that an interrupted run has left.

    A chunk that kills its worker is tried frame by frame.
    """
    taken = left.take(window, kept)
    progress.advance(sum(len(some) for some in taken.values()))
    todo = {(night, part[0]): part for night, files in window.items() for part in gaps(files, taken[night])}
    # Neighbours that tell the sky are reduced anew for each piece.
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
    """Reduce frames on one of which a worker has died; those on which one dies again are lost."""
    singles = _run_chunks([[file] for file in files], reduction, workers, out)
    return [
        (file, one if isinstance(one, Chunk) else lost_frame(file, reduction.profile, one))
        for file, one in zip(files, singles, strict=True)
    ]


def reduce_again(files: list[str], reduction: Reduction, workers: Workers, out: Path) -> list[Chunk]:
    """Return frames that were reduced once more, with what others tell by now; those that cannot be are left out."""
    pieces = [files[i : i + _PLACED_CHUNK] for i in range(0, len(files), _PLACED_CHUNK)]
    results = _run_chunks(pieces, reduction, workers, out)
    return [one for one in results if isinstance(one, Chunk)]


def _run_chunks(pieces: list[list[str]], reduction: Reduction, workers: Workers, out: Path) -> list[Any]:
    reduce = dask.delayed(reduce_chunk, pure=False)
    shared = dask.delayed(reduction, pure=False, traverse=False)
    tasks = [reduce(files, shared, out / f"{number:05d}.arrow") for number, files in enumerate(pieces)]
    return _run(tasks, [len(files) for files in pieces], workers, Silent())


def _run(tasks: list[Any], sizes: list[int], workers: Workers, progress: Progress) -> list[Any]:
    """Run tasks of some frames each; raise what a lake is to blame for."""
    results = workers.run(tasks, lambda number, _: progress.advance(sizes[number]))
    for result in results:
        if isinstance(result, SkylakeError):
            raise result
    return results


def _file_by_night(chunks: dict[int, list[Chunk]], night: int, chunk: Chunk) -> None:
    """File a chunk under the night of its frames: a header that changed meanwhile has the last word."""
    nights = set(chunk.frames["night"].to_pylist())
    if nights <= {night}:
        chunks.setdefault(night, []).append(chunk)
        return
    import pyarrow.compute as pc

    for one in nights:
        rows = chunk.frames.filter(pc.equal(chunk.frames["night"], one))
        files = (chunk.sources, chunk.forced) if one else (None, None)
        chunks.setdefault(one, []).append(Chunk(rows, files[0], forced=files[1]))
    chunks.setdefault(night, []).append(Chunk(chunk.frames.slice(0, 0), None, chunk.repeated))

"""Frames in tasks of many: reduced by the workers, filed by night, and each content but once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa

from skylake.errors import SkylakeError
from skylake.flow.cluster import Workers
from skylake.flow.frames import Chunk, Reduction, lost_frame, reduce_chunk
from skylake.flow.heldframes import Seen
from skylake.flow.pieces import dwindling
from skylake.flow.progress import Progress, Silent

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
    window: dict[int, list[str]], reduction: Reduction, workers: Workers, staging: Path, progress: Progress
) -> dict[int, list[Chunk]]:
    """Return the reduced chunks of each night. A chunk that kills its worker is tried frame by frame."""
    # Neighbours that tell the sky are reduced anew for each piece.
    pieces = dwindling(window, workers.count, _CHUNK, few=bool(reduction.neighbours))
    results = _run_chunks([files for _, files in pieces], reduction, workers, staging / "chunks", progress)
    chunks: dict[int, list[Chunk]] = {}
    for number, ((night, files), result) in enumerate(zip(pieces, results, strict=True)):
        found = [result] if isinstance(result, Chunk) else None
        if found is None:
            singles = _run_chunks(
                [[file] for file in files], reduction, workers, staging / f"again-{number}", Silent()
            )
            found = [
                one if isinstance(one, Chunk) else lost_frame(file, reduction.profile, one)
                for file, one in zip(files, singles, strict=True)
            ]
        for chunk in found:
            _file_by_night(chunks, night, chunk)
    return chunks


def reduce_again(files: list[str], reduction: Reduction, workers: Workers, out: Path) -> list[Chunk]:
    """Return frames that were reduced once more, with what others tell by now; those that cannot be are left out."""
    pieces = [files[i : i + _PLACED_CHUNK] for i in range(0, len(files), _PLACED_CHUNK)]
    results = _run_chunks(pieces, reduction, workers, out, Silent())
    return [one for one in results if isinstance(one, Chunk)]


def _run_chunks(
    pieces: list[list[str]], reduction: Reduction, workers: Workers, out: Path, progress: Progress
) -> list[Any]:
    reduce = dask.delayed(reduce_chunk, pure=False)
    # One object in the graph, however many tasks share it.
    shared = dask.delayed(reduction, pure=False, traverse=False)
    tasks = [reduce(files, shared, out / f"{number:05d}.arrow") for number, files in enumerate(pieces)]
    results = workers.run(tasks, lambda number, _: progress.advance(len(pieces[number])))
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

"""Gather a night: write new frames, and those that the lake holds already, as the parts of a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.batch import Batch
from skylake.core.ids import config_sha256
from skylake.flow.ingest.chunk_rows import (
    Chunk,
    pixels_of,
    read_rows,
    rows_of_frames,
    rows_of_pixel,
)
from skylake.lake.layout import part_file
from skylake.lake.storage.parts import Part, PartFile, sort_rows, stage_part, write_part_file
from skylake.lake.storage.slices import Slice, read_files, read_verified, require_written
from skylake.schema import load
from skylake.schema.arrow import arrow_schema
from skylake.sky.hats import pixel_of
from skylake.sky.pixels import Pixel, PixelTree

#: A tree of so many pixels takes a few kilobytes.
_FEW_PIXELS = 1024
#: Tables of a batch, and how two tasks share them, so that a single night keeps more than one worker busy.
TABLES = ("frames", "sources", "forced_sources")
SHARED = (TABLES[:2], TABLES[2:])


@dataclass(frozen=True, slots=True)
class Existing:
    """The rows of a batch that a lake holds already.

    Attributes
    ----------
    frames, sources, forced : tuple of Slice
        Where the rows of the parts are.
    dropped : frozenset of int
        Frames that are gone: their files now hold frames of another night.
    inputs : dict
        What the parts were made from.
    """

    frames: tuple[Slice, ...] = ()
    sources: tuple[Slice, ...] = ()
    dropped: frozenset[int] = frozenset()
    inputs: Mapping[str, str] = field(default_factory=dict)
    forced: tuple[Slice, ...] = ()

    def slices(self, table: str) -> tuple[Slice, ...]:
        """Return where the rows of a table with positions are."""
        return self.sources if table == "sources" else self.forced


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """What new frames were reduced with, as inputs of their parts.

    Attributes
    ----------
    profile_sha256 : str
        SHA-256 of the profile.
    checksums : mapping
        Name to SHA-256 of the masters that they may have been reduced with.
    targets : str
        The list of targets that were measured on them; empty if there is none.
    """

    profile_sha256: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    targets: str = ""


def gather_batch(
    batch: Batch,
    chunks: Sequence[Chunk],
    existing: Existing,
    tree: PixelTree,
    staging: Path,
    made_from: MadeFrom,
    tables: Sequence[str] = TABLES,
) -> tuple[Part, ...]:
    """Write the parts of a batch, or those of some tables; memory is bounded by one pixel of the night.

    A new frame replaces the frame with the same content, and the frame that had the name of its file.

    Returns
    -------
    tuple of Part
        In the order of `tables`.
    """
    fresh = _first_of_each([chunk.frames for chunk in chunks])
    old = _kept(existing, fresh)
    frames = pa.concat_tables([fresh, old])
    inputs = _inputs(frames, made_from, existing.inputs if old.num_rows else {})
    if geometries := sorted(set(pc.unique(frames["wcs_geometry"]).to_pylist()) - {None}):
        inputs["geometries"] = " ".join(geometries)
    if used := masters_configuration(frames, made_from.checksums):
        inputs["masters"] = config_sha256(used)
    kept = set(old["frame_id"].to_pylist())

    def made(table: str) -> Part:
        if table == "frames":
            return stage_part(
                frames, table, str(batch), staging / table, None, batch.camera, batch.night, inputs
            )
        files = tuple(_gather_rows(batch, table, chunks, existing, kept, tree, staging))
        return _part(batch, table, files, inputs)

    return tuple(made(table) for table in tables)


def for_tasks(tree: PixelTree) -> Any:
    """Return a tree as an argument of tasks.

    A large tree is sent to the workers once. Of a small tree each task has a copy: tasks that share an object go to
    the worker that holds it, and the tasks of a single night should go to two workers.
    """
    if len(tree.pixels) <= _FEW_PIXELS:
        return tree
    return dask.delayed(tree, pure=False, traverse=False)


def joined(results: Sequence[Any], each: int) -> list[Any]:
    """Return the parts of each batch from the results of its tasks; an error where one of them has failed."""
    found: list[Any] = []
    for start in range(0, len(results), each):
        some = results[start : start + each]
        failed = [one for one in some if isinstance(one, BaseException)]
        found.append(failed[0] if failed else tuple(part for parts in some for part in parts))
    return found


def _part(batch: Batch, table: str, files: tuple[PartFile, ...], inputs: dict[str, str]) -> Part:
    key = (("camera", batch.camera), ("night", batch.night))
    return Part(
        table, str(batch), files, batch.camera, batch.night, key, inputs, schema_sha256=load(table).sha256
    )


def _inputs(frames: pa.Table, made_from: MadeFrom, before: Mapping[str, str]) -> dict[str, str]:
    """Return the inputs of a night: the content of its files, and the profiles they were reduced with."""
    profile_sha256 = made_from.profile_sha256
    inputs = {"configuration": profile_sha256, "files": files_sha256(frames)}
    earlier = {*before.get("earlier_configurations", "").split(), before.get("configuration", profile_sha256)}
    if earlier := earlier - {profile_sha256}:
        inputs["earlier_configurations"] = " ".join(sorted(earlier))
    lists = {*before.get("targets", "").split(), *made_from.targets.split()}
    if lists:
        inputs["targets"] = " ".join(sorted(lists))
    return inputs


def masters_configuration(frames: pa.Table, checksums: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the masters that frames were reduced with, name to SHA-256, as a configuration; empty if there are none.

    The SHA-256 of a master that is no longer in the library is the part of it that is in its name.
    """
    names = {name for text in pc.unique(frames["masters"]).to_pylist() for name in (text or "").split()}
    return (
        {"masters": {name: checksums.get(name, name.rpartition("-")[2]) for name in sorted(names)}}
        if names
        else {}
    )


def files_sha256(frames: pa.Table) -> str:
    """Return the SHA-256 over identifier and size of the frames of a night.

    The identifier is the hash of the pixels and header of a frame, so this identifies the pixels behind a night.
    """
    rows = frames.select(["frame_id", "file_bytes"]).sort_by("frame_id").to_pydict()
    digest = hashlib.sha256()
    for frame, size in zip(rows["frame_id"], rows["file_bytes"], strict=True):
        digest.update(f"{frame} {size}\n".encode())
    return digest.hexdigest()


def _first_of_each(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of new frames, each frame once, since two files may have the same content."""
    rows = pa.concat_tables([arrow_schema(load("frames")).empty_table(), *tables])
    _, first = np.unique(rows["frame_id"].to_numpy(), return_index=True)
    return rows.take(pa.array(np.sort(first)))


def _kept(existing: Existing, fresh: pa.Table) -> pa.Table:
    """Return the rows of the lake that no new frame replaces."""
    held = [read_files("frames", [where]) for where in existing.frames]
    old = pa.concat_tables([arrow_schema(load("frames")).empty_table(), *held])
    replaced = pc.or_(
        pc.is_in(old["frame_id"], fresh["frame_id"].combine_chunks()),
        pc.is_in(old["file"], fresh["file"].combine_chunks()),
    )
    dropped = pc.is_in(old["frame_id"], pa.array(sorted(existing.dropped), pa.int64()))
    kept = old.filter(pc.invert(pc.or_(replaced, dropped)))
    # Where no row is kept, a damaged file does not matter: it is being replaced.
    for rows, where in zip(held, existing.frames, strict=True) if kept.num_rows else ():
        require_written(rows, where)
    return kept


def _gather_rows(
    batch: Batch,
    table: str,
    chunks: Sequence[Chunk],
    existing: Existing,
    kept: set[int],
    tree: PixelTree,
    staging: Path,
) -> Iterator[PartFile]:
    """Write the rows of a batch in a table with positions pixel by pixel."""
    schema = load(table)
    wanted = _wanted(chunks, table)
    old_files: dict[Pixel | None, list[Slice]] = {}
    # Files of which no row is kept are not read, so that a night whose files are damaged can be ingested again.
    for one in existing.slices(table) if kept else ():
        old_files.setdefault(pixel_of(one.path), []).append(one)
    old_ids = pc.field("frame_id").isin(pa.array(sorted(kept), pa.int64()))
    fresh = [(read_rows(path), ids) for path, ids in wanted]
    pixels = {pixel for pixel in old_files if pixel is not None}.union(
        *(pixels_of(rows, tree) for rows, _ in fresh)
    )
    for pixel in sorted(pixels):
        pieces = [rows_of_frames(rows_of_pixel(rows, pixel), ids) for rows, ids in fresh]
        pieces += [read_verified(table, where).filter(old_ids) for where in old_files.get(pixel, [])]
        rows = pa.concat_tables(pieces) if pieces else arrow_schema(schema).empty_table()
        if rows.num_rows:
            yield write_part_file(
                sort_rows(rows, schema), staging / table, part_file(table, str(batch), pixel)
            )


def _wanted(chunks: Sequence[Chunk], table: str) -> list[tuple[Path, pa.Array]]:
    """Return the file of each chunk with the frames that no earlier chunk has."""
    seen: set[int] = set()
    wanted = []
    for chunk in chunks:
        ids = [one for one in chunk.frames["frame_id"].to_pylist() if one not in seen]
        seen.update(ids)
        path = chunk.tables[table]
        if path is not None:
            wanted.append((path, pa.array(ids, pa.int64())))
    return wanted

"""Files with the rows of reduced frames, written by the tasks that measure and read by those that gather a night.

They are written once and read once within a run, so the files have the layout of memory: nothing is encoded, and the
rows of a pixel are a piece of the file that is mapped, not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.errors import Corrections, LakeError, cannot_be_written, reason_of
from skylake.lake.storage.parts import sort_rows
from skylake.schema import load
from skylake.sky.pixels import Pixel, PixelTree, pixel_range

_INDEX = "_healpix_29"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames that one task has reduced.

    Attributes
    ----------
    frames : pyarrow.Table
        Their rows, without the descriptions of columns.
    sources, forced : Path or None
        Files with their detections and their targets, sorted by position; None if there are none.
    repeated : tuple of str
        Files whose content is that of another file.
    corrections : mapping
        frame_id to the keys of the profile that the message of the frame says to change, and their new values.
    """

    frames: pa.Table
    sources: Path | None = None
    repeated: tuple[str, ...] = ()
    forced: Path | None = None
    corrections: Mapping[int, Corrections] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Callable[..., Chunk], tuple[object, ...]]:
        """Pickle the rows as one message."""
        others = self.sources, self.repeated, self.forced, self.corrections
        return (_chunk_of, (message_of(self.frames), *others))

    @property
    def tables(self) -> dict[str, Path | None]:
        """The files by table."""
        return {"sources": self.sources, "forced_sources": self.forced}


def _chunk_of(frames: bytes, *others: Any) -> Chunk:
    """Return a chunk that another process has sent."""
    return Chunk(table_of(frames), *others)


def write_rows(tables: Sequence[pa.Table | None], table: str, out: Path) -> Path | None:
    """Write the rows of some frames to a file, sorted as their table is; None if there are none.

    Parameters
    ----------
    tables : sequence of pyarrow.Table or None
        Rows of each frame that fit the schema.
    table : str
        ``sources`` or ``forced_sources``.
    out : Path
        Its folder is made if there is none.

    Raises
    ------
    LakeError
        If the file cannot be written.
    """
    rows = [one for one in tables if one is not None]
    if not rows:
        return None
    # One piece in the file, whatever it was in memory: a reader then finds each column in one place.
    ordered = sort_rows(pa.concat_tables(rows), load(table)).combine_chunks()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(out), "wb") as sink, pa.ipc.new_file(sink, ordered.schema) as writer:
            writer.write_table(ordered)
    except OSError as error:
        raise cannot_be_written(out, error, "detections") from error
    return out


def read_rows(path: Path) -> pa.Table:
    """Return the rows of a file that :func:`write_rows` wrote, mapped into memory.

    Raises
    ------
    LakeError
        If it is missing or cannot be read.
    """
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            return reader.read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise LakeError(
            f"{path}: the rows of frames cannot be read ({reason_of(error)}); run again, which measures them anew"
        ) from error


def message_of(rows: pa.Table) -> bytes:
    """Return rows as one message, as they stand in memory.

    Pickling a table makes an object of each column and each type: for the hundreds of columns of ``frames`` that takes
    a thousand times as long as to copy the bytes.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    return bytes(sink.getvalue())


def table_of(message: bytes) -> pa.Table:
    """Return the rows of a message; they lie in its bytes, which are not copied."""
    with pa.ipc.open_stream(message) as reader:
        return reader.read_all()


def pixels_of(rows: pa.Table, tree: PixelTree) -> set[Pixel]:
    """Return the pixels of a tree in which rows lie."""
    return {tree.pixels[position] for position in np.unique(tree.assign(rows[_INDEX].to_numpy()))}


def rows_of_pixel(rows: pa.Table, pixel: Pixel) -> pa.Table:
    """Return the rows of a sorted table that lie in a pixel, without copying them."""
    first, last = np.searchsorted(rows[_INDEX].to_numpy(), pixel_range(*pixel))
    return rows.slice(first, last - first)


def rows_of_frames(rows: pa.Table, frame_ids: pa.Array) -> pa.Table:
    """Return the rows of some frames; the table itself if it has no others."""
    chosen = pc.is_in(rows["frame_id"], frame_ids)
    return rows if pc.all(chosen).as_py() else rows.filter(chosen)

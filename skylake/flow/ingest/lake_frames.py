"""The frames of a camera that a lake holds, by file, identifier or night; in columns, since they may be millions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]

#: Columns of ``frames`` of which this is made.
COLUMNS = ("file", "frame_id", "file_bytes", "file_modified_ns", "reason", "night")
#: Names that are texts of Python at a time.
_BLOCK = 65536


class Held(NamedTuple):
    """A frame of the lake: identifier, size and time of modification of its file, reason, night."""

    frame_id: int
    n_bytes: int | None
    modified_ns: int | None
    reason: str | None
    night: int


class HeldFrames:
    """Frames of the lake, about 100 bytes for each; a dictionary of them would take 600.

    Parameters
    ----------
    frames : pyarrow.Table
        With the :data:`COLUMNS`.
    """

    def __init__(self, frames: pa.Table) -> None:
        order = np.argsort(frames["night"].to_numpy(), kind="stable")
        table = frames.select(list(COLUMNS)).take(pa.array(order)).combine_chunks()
        self._nights: Ints = table["night"].to_numpy().astype(np.int64)
        self._ids: Ints = table["frame_id"].to_numpy()
        self._by_id: Ints = np.argsort(self._ids, kind="stable")
        # Names are found by a hash, and then compared: it differs from process to process.
        hashes = _hashes(table["file"])
        self._by_hash: Ints = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._by_hash]
        self._table = table

    def __reduce__(self) -> tuple[type[HeldFrames], tuple[pa.Table]]:
        """Make it anew in another process."""
        return (HeldFrames, (self._table,))

    def of_file(self, name: str) -> Held | None:
        """Return the frame of a file; None if there is none. Of several it is the one of the latest night."""
        wanted = hash(name)
        place = int(np.searchsorted(self._hashes, wanted, "right")) - 1
        while place >= 0 and self._hashes[place] == wanted:
            row = int(self._by_hash[place])
            if self._table["file"][row].as_py() == name:
                return Held(*(self._table[column][row].as_py() for column in COLUMNS[1:]))
            place -= 1
        return None

    def of_night(self, night: int) -> dict[int, str]:
        """Return the frames of a night, frame_id to file."""
        first, end = np.searchsorted(self._nights, [night, night + 1])
        files = self._table["file"].slice(first, end - first).to_pylist()
        return dict(zip(self._ids[first:end].tolist(), files, strict=True))

    def file_of(self, frame_id: int) -> str | None:
        """Return the file of a frame; None if there is no such frame. Of several it is the one of the latest night."""
        found = self._rows_of(np.array([frame_id]))
        return None if not found.size else str(self._table["file"][int(found.max())].as_py())

    def nights_of(self, frame_ids: Iterable[int]) -> dict[int, set[int]]:
        """Return the nights in which frames are, and those frames in each."""
        found: dict[int, set[int]] = {}
        rows = self._rows_of(np.array(sorted(frame_ids), np.int64))
        for night, frame in zip(self._nights[rows].tolist(), self._ids[rows].tolist(), strict=True):
            found.setdefault(night, set()).add(frame)
        return found

    def _rows_of(self, frame_ids: Ints) -> Ints:
        """Return the rows of some frames; one that is in two nights has two."""
        held = self._by_id
        first, end = (np.searchsorted(self._ids, frame_ids, side, sorter=held) for side in ("left", "right"))
        return np.concatenate([held[:0], *(held[a:b] for a, b in zip(first, end, strict=True) if a < b)])


def _hashes(names: pa.ChunkedArray) -> Ints:
    """Return the hash of each text, of which few at a time become texts of Python."""
    found = np.empty(len(names), np.int64)
    for start in range(0, len(names), _BLOCK):
        found[start : start + _BLOCK] = [hash(name) for name in names.slice(start, _BLOCK).to_pylist()]
    return found


class Seen:
    """Files of frames that are not to be taken in again under another name: those of the lake, and those of this run.

    Parameters
    ----------
    held : HeldFrames or None
        Of the lake; None if all its frames are done anew.
    """

    def __init__(self, held: HeldFrames | None) -> None:
        self._held = held
        self._new: dict[int, str] = {}

    def __contains__(self, frame_id: int) -> bool:
        return self.get(frame_id) is not None

    def get(self, frame_id: int, default: str | None = None) -> str | None:
        """Return the file of a frame, or something else if none was seen."""
        found = self._new.get(frame_id)
        if found is None and self._held is not None:
            found = self._held.file_of(frame_id)
        return default if found is None else found

    def setdefault(self, frame_id: int, file: str) -> str:
        """Return the file of a frame; if none was seen it is this one from now on."""
        found = self.get(frame_id)
        if found is None:
            found = self._new[frame_id] = file
        return found

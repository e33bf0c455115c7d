"""The frames that are in files of a lake: one column, read once from each file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


class FrameIds:
    """Column ``frame_id`` of files of ``frames``, remembered from one reading to the next.

    Files of a lake do not change, and of small ones opening is what takes time: an ingest of a thousand nights would
    open half a million of them. It takes 8 bytes for each frame.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], pa.ChunkedArray] = {}

    def read(self, paths: Iterable[Path]) -> pa.ChunkedArray:
        """Return the identifiers in some files, and remember those of no others.

        Raises
        ------
        OSError, pyarrow.ArrowInvalid
            If a file cannot be read.
        """
        found: dict[tuple[int, ...], pa.ChunkedArray] = {}
        for path in paths:
            status = path.stat()
            # The same file has another name in the next version of the table.
            file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            known = self._known.get(file)
            found[file] = _read(path) if known is None else known
        self._known = found
        return pa.chunked_array([chunk for one in found.values() for chunk in one.chunks], pa.int64())


def _read(path: Path) -> pa.ChunkedArray:
    with pq.ParquetFile(path) as file:
        return file.read(["frame_id"])["frame_id"]

"""The frame identifiers in files of a lake: one column, read once from each file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

Ints = npt.NDArray[np.int64]


class FrameIds:
    """Column ``frame_id`` of files of ``frames``, in order, cached between calls.

    Files of a lake do not change, and of small ones opening is what takes time: an ingest of a thousand nights would
    open half a million of them. It takes 8 bytes for each frame.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Ints] = {}

    def held(self, paths: Iterable[Path], ids: Ints) -> list[int]:
        """Return which of some frames the given files hold; other files are dropped from the cache.

        Parameters
        ----------
        paths : iterable of Path
        ids : ndarray of int64, shape (n,)
            Identifiers of frames.

        Returns
        -------
        list of int
            In the order of the files; a frame that two files hold is given twice.

        Raises
        ------
        OSError, pyarrow.ArrowInvalid
            If a file cannot be read.
        """
        known: dict[tuple[int, ...], Ints] = {}
        wanted = np.sort(ids)
        common: list[int] = []
        for path in paths:
            status = path.stat()
            # The same file has another name in the next version of the table.
            file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            remembered = self._known.get(file)
            known[file] = _read(path) if remembered is None else remembered
            common += _common(known[file], wanted)
        self._known = known
        return common


def _read(path: Path) -> Ints:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return np.sort(file.read(["frame_id"])["frame_id"].to_numpy())


def _common(held: Ints, wanted: Ints) -> list[int]:
    """Return the values of one array that another has too; both in ascending order."""
    places = np.searchsorted(held, wanted)
    inside = places < held.size
    inside[inside] = held[places[inside]] == wanted[inside]
    return [int(one) for one in wanted[inside]]

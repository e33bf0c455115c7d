"""Footers of the Parquet files of HATS catalogs, kept for the next search.

A footer describes each column of each row group and is decoded whole: ten milliseconds for a file of a hundred
nights. Who reads star after star meets the same files again. Files of a lake never change, so their footers are kept
in memory, the last ones used up to a number of bytes. A file that is replaced all the same has another inode or time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import IntArray
from skylake.places import arrow_filesystem, is_url, key, parquet_format

if TYPE_CHECKING:
    import pyarrow.dataset as pds
    import pyarrow.parquet as pq

_INDEX = "_healpix_29"
_NO_END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Footer:
    """What a file says of its row groups.

    Attributes
    ----------
    fragment : pyarrow.dataset.ParquetFileFragment
        The file, its metadata with it.
    n_rows : int
    low, high : ndarray of int64, shape (n,)
        The index of the rows of each row group is between these, both included.
    n_bytes : int
        Size of the footer in the file.
    """

    fragment: pds.ParquetFileFragment
    n_rows: int
    low: IntArray
    high: IntArray
    n_bytes: int

    def touched(self, ranges: IntArray) -> list[int]:
        """Return the numbers of the row groups that some ranges of the index may touch.

        Parameters
        ----------
        ranges : ndarray of int64, shape (m, 2)
            Half open, sorted, of order 29; at least one.
        """
        place = np.searchsorted(ranges[:, 1], self.low, side="right")
        first = ranges[np.minimum(place, len(ranges) - 1), 0]
        numbers: list[int] = np.flatnonzero((place < len(ranges)) & (first <= self.high)).tolist()
        return numbers


def read_footer(path: Path) -> Footer:
    """Return the footer of a file, from memory if the file was read not long ago.

    Those of a store are read each time, since it does not say whether a file was replaced.

    Raises
    ------
    OSError, pyarrow.ArrowInvalid
        If the file is missing or cannot be read.
    """
    if is_url(path):
        return _read(path)
    status = path.stat()
    identity = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _KEPT.get(identity) or _KEPT.keep(identity, _read(path))


class KeptFooters:
    """Footers that were used last; threads may share them.

    Parameters
    ----------
    most_bytes : int
        Largest sum of the sizes of the footers in their files.
    """

    def __init__(self, most_bytes: int) -> None:
        self._footers: OrderedDict[tuple[str | int, ...], Footer] = OrderedDict()
        self._most_bytes, self._n_bytes, self._turn = most_bytes, 0, Lock()

    def get(self, identity: tuple[str | int, ...]) -> Footer | None:
        """Return a footer if it is kept."""
        with self._turn:
            if identity in self._footers:
                self._footers.move_to_end(identity)
            return self._footers.get(identity)

    def keep(self, identity: tuple[str | int, ...], footer: Footer) -> Footer:
        """Keep a footer, drop what was not used for longest, and return the footer."""
        with self._turn:
            if identity not in self._footers:
                self._footers[identity] = footer
                self._n_bytes += footer.n_bytes
            while self._n_bytes > self._most_bytes:
                self._n_bytes -= self._footers.popitem(last=False)[1].n_bytes
        return footer


#: In memory footers take some times as much as in their files.
_KEPT = KeptFooters(32_000_000)


def _read(path: Path) -> Footer:
    fragment = parquet_format().make_fragment(key(path), arrow_filesystem(path))
    metadata = fragment.metadata
    bounds = _bounds(metadata)
    return Footer(fragment, metadata.num_rows, bounds[:, 0], bounds[:, 1], metadata.serialized_size)


def _bounds(metadata: pq.FileMetaData) -> npt.NDArray[np.int64]:
    """Return the smallest and largest index of each row group; the widest bounds where they are not known."""
    # Of the leaves of the columns, which are more than those where some are nested.
    column = metadata.schema.names.index(_INDEX)
    bounds = np.empty((metadata.num_row_groups, 2), np.int64)
    for number in range(metadata.num_row_groups):
        statistics = metadata.row_group(number).column(column).statistics
        unknown = statistics is None or not statistics.has_min_max
        bounds[number] = (0, _NO_END) if unknown else (statistics.min, statistics.max)
    return bounds

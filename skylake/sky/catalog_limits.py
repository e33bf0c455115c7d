"""What a table from somebody else may take of memory and disk, and how its file is opened within that."""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from skylake.errors import CatalogError

#: A table and the units of its columns.
Piece = tuple[pa.Table, dict[str, str]]

#: Bytes of a cell and of a row: longer ones are texts, or made to fill the memory.
MAX_CELL, MAX_ROW = 10_000, 1 << 20
#: Bytes and rows that a reader holds at a time, below what is handed on: a hundred bytes a row are common.
PIECE_BYTES, PIECE_ROWS = 8 << 20, 16_384
#: Bytes of rows that are handed on at a time, if there are fewer than were asked for.
BATCH_BYTES = 256 << 20
#: Bytes that a reader may hold for the pages of Parquet: some writers make one page of a million rows for each column.
PAGE_BYTES = 600 << 20
#: Bytes of a header: that of a table with a thousand columns, all described, has a quarter of that.
HEADER_BYTES = 1 << 20
#: Tables may unpack to so many bytes, or to so many times the bytes of their file: text of stars packs tenfold.
_SMALL_BYTES, _MOST_PACKING = 1 << 26, 200
#: Rows that any file may have. In larger ones a position alone takes some bytes, packed as well as can be.
_SMALL_ROWS = 1_000_000

GZIP = b"\x1f\x8b"


def is_gzip(path: Path) -> bool:
    """Return whether a file is compressed with gzip."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


def open_unpacked(path: Path) -> BinaryIO:
    """Open a file for reading, unpacked if it is compressed with gzip.

    Raises
    ------
    CatalogError
        While reading, if it unpacks to more than a table of stars does.
    """
    return cast(BinaryIO, io.BufferedReader(_Unpacked(path), 1 << 16)) if is_gzip(path) else path.open("rb")


class _Unpacked(io.RawIOBase):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._stream, self._n_bytes = path, gzip.GzipFile(path), 0
        self._most = max(_SMALL_BYTES, _MOST_PACKING * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        n_read = self._stream.readinto(buffer)
        self._n_bytes += n_read
        if self._n_bytes > self._most:
            raise CatalogError(
                f"{self._path}: the file would unpack to {self._n_bytes} bytes or more, {_MOST_PACKING} times its "
                "size, which no table of stars does; fetch or export it again"
            )
        return n_read

    def close(self) -> None:
        self._stream.close()
        super().close()


def require_rows(path: Path, n_rows: int) -> None:
    """Refuse a table with more rows than its file has bytes.

    Raises
    ------
    CatalogError
        Names the file.
    """
    if n_rows > max(_SMALL_ROWS, path.stat().st_size):
        raise CatalogError(
            f"{path}: its {path.stat().st_size} bytes hold {n_rows} rows or more, which no table of stars does; fetch "
            "or export it again"
        )


def in_batches(pieces: Iterable[Piece], batch_rows: int) -> Iterator[Piece]:
    """Yield the rows of pieces in tables of `batch_rows`; of fewer at the end, or where they are long."""
    pending: list[pa.Table] = []
    n_rows = n_bytes = 0
    units: dict[str, str] = {}
    for table, units in pieces:
        pending.append(table)
        n_rows, n_bytes = n_rows + table.num_rows, n_bytes + table.nbytes
        while n_rows >= batch_rows or n_bytes > BATCH_BYTES:
            whole = pa.concat_tables(pending)
            yield whole.slice(0, batch_rows), units
            rest = whole.slice(batch_rows)
            pending, n_rows, n_bytes = [rest], rest.num_rows, rest.nbytes
    if n_rows:
        yield pa.concat_tables(pending), units


@contextmanager
def quiet() -> Iterator[None]:
    """Keep astropy's warnings about the small sins of files from the user; large ones raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""Read the number of rows from a Parquet footer without decoding the rest.

A footer describes every column of every row group, and is decoded whole: half a millisecond for a file of a night and
a pixel, of which one commit may bring hundreds. But it begins with the version of the format and the schema, which
are the same bytes in all files of a schema, and the number of rows comes next (Apache Parquet, ``FileMetaData`` in
Thrift's compact protocol).
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.schema.parquet import optional_columns, stored_schema

_MAGIC = b"PAR1"
#: Header of the field of the row count, a 64-bit integer; in a file without rows a zero and an empty list follow.
_COUNT = b"\x16"
_NO_ROWS = _COUNT + b"\x00\x19\x0c"
#: A 64-bit number takes at most so many bytes, of seven bits each.
_LONGEST = 10


def row_count(path: Path, schema: pa.Schema) -> int:
    """Return the number of rows of a file.

    Parameters
    ----------
    path : Path
    schema : pyarrow.Schema
        That the file should have; the footer of a file with another one is decoded.

    Raises
    ------
    OSError, pyarrow.ArrowInvalid
        If the file cannot be read, or is no Parquet file.
    """
    starts = _starts(schema)
    with path.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - 8))
        end = stream.read(8)
        if starts and end[4:] == _MAGIC:
            stream.seek(max(0, size - 8 - int.from_bytes(end[:4], "little")))
            footer = stream.read(max(map(len, starts)) + _LONGEST)
            for start in starts:
                if footer.startswith(start):
                    return _number(footer[len(start) :])
    return int(pq.read_metadata(path).num_rows)


@lru_cache(maxsize=64)
def _starts(schema: pa.Schema) -> tuple[bytes, ...]:
    """Return the bytes with which footers of a schema begin, with nested columns that may be absent and without."""
    forms = (schema, stored_schema(schema, optional_columns(schema)))
    return tuple(start for form in forms if (start := _start(form)) is not None)


def _start(schema: pa.Schema) -> bytes | None:
    """Return the bytes with which footers of a schema begin, up to the row count; None if that is not known."""
    stream = io.BytesIO()
    pq.write_metadata(schema, stream)
    content = stream.getvalue()
    footer = content[-8 - int.from_bytes(content[-8:-4], "little") : -8]
    before, marker, _ = footer.partition(_NO_ROWS)
    return before + _COUNT if marker else None


def _number(content: bytes) -> int:
    """Return the number that some bytes begin with, seven bits in each and the last bit for the sign."""
    value = shift = 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return (value >> 1) ^ -(value & 1)

"""Write Arrow tables in the binary format of PostgreSQL's COPY.

The format is that of the PostgreSQL documentation, *COPY, Binary Format*: a header, for every row the number
of its fields and for every field its length and its bytes in network order, and a trailer. Arrow joins whole
columns of such pieces into rows, so no Python code runs per row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: What comes before the rows and after them.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

#: Bytes of a table that are encoded at a time; bounds the memory of a large part.
_CHUNK_BYTES = 4_000_000

#: PostgreSQL counts microseconds from 2000-01-01, Arrow from 1970-01-01.
_EPOCH_US = 946_684_800_000_000


def encode(table: pa.Table) -> Iterator[bytes]:
    """Yield the rows of a table as pieces of a COPY stream, without header and trailer.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of booleans, integers, floats, texts and timestamps in microseconds. NaN becomes null, since
        null is how a table of the lake says that there is no value; infinities stay. Texts without zero
        bytes; see :func:`storable`.
    """
    rows = max(1, int(table.num_rows * _CHUNK_BYTES / max(table.nbytes, 1)))
    for start in range(0, table.num_rows, rows):
        yield _rows(table.slice(start, rows).combine_chunks())


def storable(table: pa.Table) -> pa.Table:
    """Return `table` with U+FFFD for the zero bytes in its texts, which PostgreSQL cannot hold."""
    for number, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        values = table.column(number)
        if pc.any(pc.match_substring(values, "\0")).as_py():
            table = table.set_column(number, field, pc.replace_substring(values, "\0", "\ufffd"))
    return table


def _rows(table: pa.Table) -> bytes:
    pieces: list[pa.Array] = [_constant(np.array([table.num_columns], ">i2"), table.num_rows)]
    for column in table.columns:
        pieces += _field(pa.concat_arrays(column.chunks))
    joined = pc.binary_join_element_wise(*pieces, b"")
    _, offsets, data = joined.buffers()
    ends = np.frombuffer(offsets, np.int32)[[joined.offset, joined.offset + len(joined)]]
    return bytes(memoryview(data)[ends[0] : ends[1]])


def _constant(value: NDArray[Any], rows: int) -> pa.Array:
    return _pieces(np.repeat(value, rows), np.full(rows, value.itemsize))


def _pieces(data: NDArray[Any], lengths: NDArray[Any]) -> pa.Array:
    """Cut a buffer into binary values of the given lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.Array.from_buffers(
        pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    )


def _field(values: pa.Array) -> list[pa.Array]:
    """Return the lengths and the bytes of a column; a null has the length -1 and no bytes."""
    if pa.types.is_string(values.type):
        return _text_field(values)
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    numbers = _numbers(values)
    if numbers.dtype.kind == "f":
        valid = valid & ~np.isnan(numbers)
    size = numbers.dtype.itemsize
    if valid.all():
        both = np.empty(len(numbers), [("length", ">i4"), ("value", numbers.dtype)])
        both["length"], both["value"] = size, numbers
        return [_pieces(both, np.full(len(numbers), size + 4))]
    lengths = np.where(valid, size, -1).astype(">i4")
    return [_pieces(lengths, np.full(len(lengths), 4)), _pieces(numbers[valid], np.where(valid, size, 0))]


def _numbers(values: pa.Array) -> NDArray[Any]:
    """Return a column in the binary form of PostgreSQL's type; the values at nulls do not matter."""
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", tz=values.type.tz)).cast(pa.int64())
        values = pc.subtract(values, _EPOCH_US)
    if not pa.types.is_floating(values.type):
        values = values.fill_null(False if pa.types.is_boolean(values.type) else 0)
    numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    if numbers.dtype == np.int8:
        # PostgreSQL has no integer of one byte.
        numbers = numbers.astype(np.int16)
    return numbers.astype(numbers.dtype.newbyteorder(">"))


def _text_field(values: pa.Array) -> list[pa.Array]:
    lengths = pc.fill_null(pc.binary_length(values), -1).to_numpy().astype(">i4")
    return [_pieces(lengths, np.full(len(lengths), 4)), pc.fill_null(values.cast(pa.binary()), b"")]

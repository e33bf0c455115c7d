"""A digest of rows that does not depend on their order, nor on how they are divided into files.

Every row has a 64-bit hash; the digest of a table is their sum. Digests of pieces therefore add up to that of
the whole, which shows after any rewriting that no row was lost, doubled or changed. Null adds nothing, whole numbers
and floats are hashed in their widest type: a nullable column that is added, or a type that is widened, leaves
the digest as it was. It guards against accidents, not against an adversary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Words = npt.NDArray[np.uint64]

#: Rows that are hashed together; their words stay in the processor's cache.
_BLOCK = 16384
_MASK = (1 << 64) - 1


def rows_digest(table: pa.Table) -> str:
    """Return the digest of all rows of a table, 16 hexadecimal digits; zeros for no rows."""
    return group_digests(table, np.zeros(table.num_rows, np.intp), 1)[0]


def group_digests(table: pa.Table, group: npt.NDArray[np.intp], count: int) -> list[str]:
    """Return the digest of the rows of each group.

    Parameters
    ----------
    table : pyarrow.Table
    group : ndarray of int, shape (rows,)
        Group of each row, 0 to `count` - 1.
    count : int
    """
    sums = np.zeros(count, np.uint64)
    for start in range(0, table.num_rows, _BLOCK):
        words = _row_hashes(table.slice(start, _BLOCK))
        if count == 1:
            sums += words.sum(dtype=np.uint64)
        else:
            np.add.at(sums, group[start : start + _BLOCK], words)
    return [f"{int(word):016x}" for word in sums]


def add_digests(digests: Iterable[str]) -> str:
    """Return the digest of all rows together from those of disjoint pieces."""
    return f"{sum(int(digest, 16) for digest in digests) & _MASK:016x}"


def _row_hashes(block: pa.Table) -> Words:
    """Return a word for each row."""
    from skylake.schema.hash_kernels import mix

    words = np.zeros(block.num_rows, np.uint64)
    for name in block.column_names:
        column = block.column(name)
        words += _column_hashes(column.chunk(0) if column.num_chunks == 1 else column.combine_chunks(), name)
    mixed: Words = mix(words)
    return mixed


def _column_hashes(array: pa.Array, name: str) -> Words:
    """Return what a column adds to the hash of each row; nothing where it is null."""
    # Numba is imported only when rows are hashed.
    from skylake.schema.hash_kernels import scramble

    if pa.types.is_struct(array.type):
        inner = [_column_hashes(array.field(field.name), f"{name}.{field.name}") for field in array.type]
        return np.asarray(np.sum(inner, axis=0, dtype=np.uint64))
    if pa.types.is_list(array.type):
        return _list_hashes(array, name)
    words: Words = scramble(_bits(array), np.uint64(_text_word(name)))
    if array.null_count:
        words[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return words


def _list_hashes(array: pa.ListArray, name: str) -> Words:
    """Return the hashes of lists: their elements, each with its place in the list."""
    import pyarrow.compute as pc

    from skylake.schema.hash_kernels import mix

    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    words = _column_hashes(array.flatten(), name)
    words += np.arange(len(words), dtype=np.uint64) - np.repeat(starts, lengths).astype(np.uint64)
    words = mix(words)
    total: Words = mix(lengths.astype(np.uint64))
    filled = np.flatnonzero(lengths)
    if len(filled):
        total[filled] += np.add.reduceat(words, starts[filled])
    return total


def _bits(array: pa.Array) -> Words:
    """Return 64 bits for each value; those of nulls mean nothing."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        coded = array if pa.types.is_dictionary(kind) else array.dictionary_encode()
        if len(coded.dictionary) == 0:
            return np.zeros(len(array), np.uint64)
        table = np.array([_text_word(text) for text in coded.dictionary.to_pylist()], np.uint64)
        return np.asarray(table[coded.indices.fill_null(0).to_numpy()])
    if pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp("us", kind.tz)).view(pa.int64())
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    # Arrow would fill the places of nulls in another pass.
    values = np.frombuffer(array.buffers()[1] or b"", array.type.to_pandas_dtype())
    values = values[array.offset : array.offset + len(array)]
    wide = np.float64 if values.dtype.kind == "f" else np.int64
    return np.asarray(values.astype(wide, copy=False).view(np.uint64))


def _text_word(text: str | None) -> int:
    return int.from_bytes(hashlib.blake2b((text or "").encode(), digest_size=8).digest(), "little")

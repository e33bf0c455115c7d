"""Merge files of many parts into one sorted file, block by block.

Memory is bounded by a block, whatever the size of the files: rows are taken in ranges of the sky that hold
about as many rows as a block. Every row is counted and digested for the part that it belongs to, so the caller
can show that nothing was lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import IntArray
from skylake.errors import LakeError
from skylake.lake.storage.parts import Key, PartFile, file_sha256, sort_rows
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema import TableSchema, arrow_schema, load
from skylake.schema.digest import add_digests, group_digests
from skylake.schema.parquet import ROW_GROUP_ROWS, columns_absent_from, open_writer
from skylake.sky.pixels import Pixel, pixel_range

#: Values, rows times columns, of a block; with the copy that sorting makes some hundreds of megabytes.
_BLOCK_VALUES = 12_000_000
#: Rows in a nested row, about.
_POINTS = 16
INDEX = "_healpix_29"


@dataclass(frozen=True, slots=True)
class Merge:
    """A file to make.

    Attributes
    ----------
    table : str
    path : str
        Of the new file, relative to the version.
    sources : tuple of Slice
        Where the rows are.
    keys : tuple of Key
        Keys of the parts that the rows belong to.
    pixel : (order, number) or None
        Only rows in this pixel of a HATS table are used.
    """

    table: str
    path: str
    sources: tuple[Slice, ...]
    keys: tuple[Key, ...]
    pixel: Pixel | None = None


@dataclass(frozen=True, slots=True)
class MergedFile:
    """A merged file: the whole of it, and the rows of each part in it.

    Attributes
    ----------
    file : PartFile
    shares : dict
        Rows and digest, by number of the key; parts without rows are left out.
    """

    file: PartFile
    shares: dict[int, tuple[int, str]]


def merge_files(merge: Merge, folder: Path) -> MergedFile | None:
    """Write the merged file below a folder; None if there are no rows.

    The same rows give the same bytes, in whatever files they were.
    """
    schema = load(merge.table)
    shares: dict[int, tuple[int, str]] = {}
    stream = blocks(merge, schema)
    first = next(stream, None)
    if first is None:
        return None
    target, form = folder / merge.path, arrow_schema(schema)
    absent = columns_absent_from((source.path for source in merge.sources), form)
    with open_writer(form, target, absent=absent) as writer:
        for block in chain([first], stream):
            _count(block, merge.keys, shares)
            writer.write(block)
    n_rows, digest = sum(rows for rows, _ in shares.values()), add_digests(one for _, one in shares.values())
    file = PartFile(merge.path, n_rows, digest, target.stat().st_size, file_sha256(target))
    return MergedFile(file, shares)


def _count(block: pa.Table, keys: Sequence[Key], shares: dict[int, tuple[int, str]]) -> None:
    """Add the rows of each part in a block."""
    member = member_of_rows(block, keys)
    counts = np.bincount(member, minlength=len(keys))
    for number, digest in enumerate(group_digests(block, member, len(keys))):
        if counts[number]:
            rows, so_far = shares.get(number, (0, "0"))
            shares[number] = rows + int(counts[number]), add_digests([so_far, digest])


def blocks(merge: Merge, schema: TableSchema) -> Iterator[pa.Table]:
    """Yield the rows in their final order, some at a time."""
    import pyarrow.compute as pc

    if schema.layout.kind != "hats":
        rows = read_files(merge.table, merge.sources)
        if rows.num_rows:
            yield sort_rows(rows, schema)
        return
    low, high = pixel_range(*merge.pixel) if merge.pixel else (0, 1 << 62)
    index = pc.field(INDEX)
    inside = (index >= low) & (index < high)
    column = read_files(merge.table, merge.sources, [INDEX], inside)[INDEX].to_numpy()
    cuts = _cuts(column, max(ROW_GROUP_ROWS, _BLOCK_VALUES // _width(schema)))
    del column
    for start, end in zip([low, *cuts], [*cuts, high], strict=True):
        rows = read_files(merge.table, merge.sources, None, (index >= start) & (index < end))
        if rows.num_rows:
            yield sort_rows(rows, schema)


def _width(schema: TableSchema) -> int:
    """Return about how many values a row has; a nested column has several values for each of its fields."""
    inner = sum(len(column.columns) for column in schema.columns if column.merge == "concat")
    return len(schema.names) + _POINTS * inner


def _cuts(index: IntArray, size: int) -> list[int]:
    """Return indices that divide rows into blocks of about a size; rows of one index stay together."""
    count = -(-len(index) // size)
    if count <= 1:
        return []
    places = np.arange(1, count) * len(index) // count
    return [int(cut) for cut in np.unique(np.partition(index, places)[places])]


def member_of_rows(rows: pa.Table, keys: Sequence[Key]) -> npt.NDArray[np.intp]:
    """Return the number of the key that each row has.

    Raises
    ------
    LakeError
        If a row has none of them.
    """
    members, known = find_members(rows, keys)
    if not known.all():
        row = int(np.flatnonzero(~known)[0])
        what = ", ".join(f"{name} {rows[name][row].as_py()}" for name, _ in keys[0])
        raise LakeError(f"the rows of {what} belong to no part of their file; run `skylake verify --deep`")
    return members


def find_members(rows: pa.Table, keys: Sequence[Key]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Return the number of the key of each row, and whether it has one of the keys at all."""
    code, wanted = np.zeros(rows.num_rows, np.int64), np.zeros(len(keys), np.int64)
    for place, (name, _) in enumerate(keys[0]):
        values = pa.array([key[place][1] for key in keys], rows.schema.field(name).type)
        distinct = values.unique()
        code = code * (len(distinct) + 1) + _place(rows[name], distinct)
        wanted = wanted * (len(distinct) + 1) + _place(values, distinct)
    order = np.argsort(wanted)
    members = order[np.minimum(np.searchsorted(wanted[order], code), len(keys) - 1)]
    return members, wanted[members] == code


def _place(values: pa.ChunkedArray | pa.Array, among: pa.Array) -> IntArray:
    """Return the place of values among others, from 1; 0 for those that are not there."""
    import pyarrow.compute as pc

    places = pc.fill_null(pc.index_in(values, among), -1)
    return np.asarray(places.to_numpy(), np.int64) + 1

"""Rows of one key from several batches made one row, as the schema of the table says for each column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Places = npt.NDArray[np.int64]

_FUNCTIONS = ("sum", "min", "max")
_GROUP = "_group"
#: Inner columns by which nested rows are put in order, those of them that there are.
ORDER = ("mjd_mid", "frame_id")


@dataclass(frozen=True, slots=True)
class _Groups:
    """Which rows, in order, have the same key: where each group starts, and how many rows there are."""

    starts: Places
    n_rows: int

    @property
    def ends(self) -> Places:
        return np.append(self.starts, self.n_rows)[1:]

    @property
    def number(self) -> Places:
        """The group of each row."""
        return np.repeat(np.arange(len(self.starts)), self.ends - self.starts)


def merge_rows(
    rows: pa.Table, key: Sequence[str], merging: Mapping[str, str], order: Sequence[str] = ()
) -> pa.Table:
    """Merge the rows of each key into one.

    Parameters
    ----------
    rows : pyarrow.Table
        In any order. NaN counts as null, and null as no value: a sum of nothing is null.
    key : sequence of str
    merging : mapping
        How other columns are merged, as :data:`skylake.schema.tables.Merge` says. Columns that are not named are
        left out; ``finish`` takes the last value, which ``finish`` of the aggregate replaces.
    order : sequence of str
        Columns that tell which row of a key is the last.

    Returns
    -------
    pyarrow.Table
        The columns of the key and those of `merging` that `rows` has, sorted by key.
    """
    names = [name for name in rows.column_names if name in key or name in merging]
    nested = [name for name in names if merging.get(name) == "concat"]
    rows = in_order(rows, (*key, *order))
    groups = _groups(rows, key)
    lists = dict(zip(nested, _concatenated(rows, nested, groups), strict=True)) if nested else {}
    sums = _summed(rows, [(name, merging[name]) for name in names if merging.get(name) in _FUNCTIONS], groups)
    last = pa.array(groups.ends - 1)
    columns = {
        name: lists[name] if name in lists else sums[name] if name in sums else rows[name].take(last)
        for name in names
    }
    return pa.table(
        columns, schema=pa.schema([rows.schema.field(name).with_nullable(True) for name in names])
    )


def in_order(rows: pa.Table, names: Iterable[str]) -> pa.Table:
    """Return rows in the order of some columns, null last; those that are in order already are not copied."""
    order = pc.sort_indices(rows, [(name, "ascending") for name in names])
    is_sorted = np.array_equal(order.to_numpy(), np.arange(rows.num_rows))
    return rows if is_sorted else rows.take(order)


def _groups(rows: pa.Table, key: Sequence[str]) -> _Groups:
    """Return the groups of sorted rows; null is equal to null."""
    fresh = np.zeros(rows.num_rows, bool)
    fresh[:1] = True
    for name in key:
        codes = rows[name].combine_chunks().dictionary_encode().indices
        codes = pc.fill_null(codes, -1).to_numpy(zero_copy_only=False)
        fresh[1:] |= np.diff(codes) != 0
    return _Groups(np.flatnonzero(fresh), rows.num_rows)


def _summed(rows: pa.Table, wanted: Sequence[tuple[str, str]], groups: _Groups) -> dict[str, pa.ChunkedArray]:
    """Return sums, minima and maxima of groups, in the types of the columns."""
    if not wanted:
        return {}
    values = {name: _without_nan(rows[name]) for name, _ in wanted} | {_GROUP: pa.array(groups.number)}
    found = pa.table(values).group_by(_GROUP, use_threads=False).aggregate(list(wanted)).sort_by(_GROUP)
    return {name: found[f"{name}_{how}"].cast(rows[name].type) for name, how in wanted}


def _without_nan(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(values.type):
        return values
    return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)


def _concatenated(rows: pa.Table, names: Sequence[str], groups: _Groups) -> list[pa.Array]:
    """Return the lists of the groups: of nested columns all in one order, that of the time where they have one."""
    arrays = [rows[name].combine_chunks() for name in names]
    first = next((array for array in arrays if pa.types.is_struct(array.type)), arrays[0])
    shared = _lengths(first)
    number = np.repeat(groups.number, shared)
    # A row that is alone stays as it is.
    place = _in_time(first, number, (groups.ends - groups.starts > 1)[number])
    return [
        _regrouped(array, shared, groups, place)
        if pa.types.is_struct(array.type)
        else _regrouped(array, _lengths(array), groups, None)
        for array in arrays
    ]


def _lists(array: pa.Array) -> dict[str, pa.Array]:
    """Return the lists of a column by the name of the inner column; one without a name for a plain list."""
    if not pa.types.is_struct(array.type):
        return {"": array}
    return {inner.name: pc.struct_field(array, inner.name) for inner in array.type}


def _lengths(array: pa.Array) -> Places:
    first = next(iter(_lists(array).values()))
    return np.asarray(pc.fill_null(pc.list_value_length(first), 0).to_numpy(zero_copy_only=False), np.int64)


def _in_time(array: pa.Array, group: Places, is_merged: npt.NDArray[np.bool_]) -> Places | None:
    """Return the order of nested rows by group and, in merged ones, time; None if they are in it already."""
    inner = _lists(array)
    keys = [inner[name].flatten().to_numpy(zero_copy_only=False) for name in ORDER if name in inner]
    if not keys or not is_merged.any():
        return None
    keys = [np.where(is_merged, key, 0) for key in keys]
    order = np.lexsort((*reversed(keys), group))
    return None if np.array_equal(order, np.arange(len(order))) else order


def _regrouped(array: pa.Array, counts: Places, groups: _Groups, place: Places | None) -> pa.Array:
    """Return the lists of a column put together; a row that has none counts as one of nulls."""
    made = []
    offsets = np.append(np.append(0, np.cumsum(counts))[groups.starts], counts.sum())
    for inner in _lists(array).values():
        own = pc.fill_null(pc.list_value_length(inner), 0).to_numpy(zero_copy_only=False)
        values = inner.flatten()
        if not np.array_equal(own, counts):
            has = np.repeat(own > 0, counts)
            values = values.take(pa.array(np.cumsum(has) - 1, mask=~has))
        values = values if place is None else values.take(pa.array(place))
        made.append(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=inner.type))
    if not pa.types.is_struct(array.type):
        return made[0]
    # What no row has stays null as a whole: rows of an older schema lack the column.
    is_missing = np.full(len(offsets) - 1, array.null_count == len(array))
    return pa.StructArray.from_arrays(made, fields=list(array.type), mask=pa.array(is_missing))

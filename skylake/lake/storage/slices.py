"""Slices: the rows of some parts in one file, and functions that read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any

import pyarrow as pa

from skylake.errors import LakeError
from skylake.lake.storage.damaged_files import reading
from skylake.lake.storage.parts import Key, PartFile
from skylake.places import arrow_dataset
from skylake.schema import arrow_schema, load
from skylake.schema.digest import rows_digest


@dataclass(frozen=True, slots=True)
class Slice:
    """A file, or the rows of some batches in it.

    Attributes
    ----------
    path : Path
    keys : tuple of Key or None
        Batches whose rows it holds; None for the whole file.
    expected : PartFile or None
        Description of these rows from when they were written; None if there is none.
    """

    path: Path
    keys: tuple[Key, ...] | None = None
    expected: PartFile | None = None


def read_files(
    table: str,
    files: Iterable[Path | Slice],
    columns: Sequence[str] | None = None,
    filter: Any = None,
    inner: Mapping[str, Sequence[str]] | None = None,
) -> pa.Table:
    """Return the rows of files or slices of a table; without any, a table without rows.

    A file with several of the slices is read once.

    Parameters
    ----------
    table : str
    files : iterable of Path or Slice
    columns : sequence of str or None
        None reads all.
    filter : pyarrow.compute.Expression or None
        Chooses rows.
    inner : mapping or None
        Inner columns to read of nested ones among `columns`; the others are read whole.

    Raises
    ------
    LakeError
        If a file is missing or cannot be read.
    """
    schema = arrow_schema(load(table))
    # Not `schema.empty_table()`, which imports pandas.
    empty = pa.Table.from_batches([], schema=schema)
    wanted: Any = None if columns is None else list(columns)
    if inner:
        schema_read = pa.schema([_narrowed(schema.field(name), inner.get(name)) for name in wanted])
        tables = [pa.Table.from_batches([], schema=schema_read)]
        wanted = {name: _value(name, inner.get(name)) for name in wanted}
    else:
        tables = [empty if columns is None else empty.select(wanted)]
    for keys, paths in _by_keys(files):
        chosen = _both(filter, None if keys is None else _is_one_of(keys))
        with reading(partial(list, paths)):
            dataset = arrow_dataset(paths, schema)
            tables.append(dataset.to_table(columns=wanted, filter=chosen))
    return pa.concat_tables(tables) if len(tables) > 1 else tables[0]


def _narrowed(field: pa.Field, names: Sequence[str] | None) -> pa.Field:
    """Return a field with some inner columns, with all for None."""
    if names is None:
        return field
    return pa.field(field.name, pa.struct([field.type.field(name) for name in names]))


def _value(column: str, names: Sequence[str] | None) -> Any:
    """Return the expression of a column with some inner columns, with all for None."""
    import pyarrow.compute as pc

    if names is None:
        return pc.field(column)
    return pc.make_struct(*(pc.field(column, name) for name in names), field_names=list(names))


def read_verified(table: str, where: Slice) -> pa.Table:
    """Return all rows of a slice that are about to be rewritten.

    Raises
    ------
    LakeError
        If they are not the rows that were written, as far as their digest is known. A new file would get a new digest,
        and a flipped bit or a lost row could no longer be found.
    """
    rows = read_files(table, [where])
    require_written(rows, where)
    return rows


def require_written(rows: pa.Table, where: Slice) -> None:
    """Refuse the rows of a slice if they are not those that were written."""
    expected = where.expected
    if expected is not None and (rows.num_rows, rows_digest(rows)) != (expected.n_rows, expected.digest):
        raise LakeError(
            f"{where.path}: the rows are not those that were written, so no new file is made of them; "
            "`skylake verify --deep` shows the command that repairs them"
        )


def _by_keys(files: Iterable[Path | Slice]) -> Iterator[tuple[frozenset[Key] | None, list[Path]]]:
    """Yield the files that share the same wanted batches, each file once."""
    wanted: dict[Path, set[Key] | None] = {}
    for file in files:
        piece = file if isinstance(file, Slice) else Slice(file)
        held = wanted.setdefault(piece.path, set())
        if piece.keys is None or held is None:
            wanted[piece.path] = None
        else:
            held.update(piece.keys)
    groups: dict[frozenset[Key] | None, list[Path]] = {}
    for path, keys in wanted.items():
        groups.setdefault(None if keys is None else frozenset(keys), []).append(path)
    yield from groups.items()


def _both(first: Any, second: Any) -> Any:
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _is_one_of(keys: Iterable[Key]) -> Any:
    """Return the expression that holds for rows of any of some batches.

    Most keys differ only in the night; these are compared with a set at once. Those of solutions have none.
    """
    import pyarrow.compute as pc

    nights: dict[Key, list[str | int]] = {}
    for key in sorted(keys, key=repr):
        rest = tuple(item for item in key if item[0] != "night")
        nights.setdefault(rest, []).extend(value for name, value in key if name == "night")
    return reduce(or_, (_matches(rest, values) for rest, values in nights.items()), pc.scalar(False))


def _matches(rest: Key, nights: Sequence[str | int]) -> Any:
    import pyarrow.compute as pc

    expression = pc.field("night").isin(pa.array(nights, pa.int32())) if nights else pc.scalar(True)
    for name, value in rest:
        expression = expression & (pc.field(name) == value)
    return expression

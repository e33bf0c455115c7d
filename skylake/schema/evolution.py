"""The allowed changes of a schema, which keep files of older versions readable.

A reader finds columns by name, fills with null what a file lacks and widens what is narrower. A nullable column
may therefore be added anywhere, a type widened and null allowed; texts are free. Anything else would make
old rows unreadable or let them mean something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from skylake.schema.tables import Column, TableSchema

#: Types whose values all fit into another, which is read in their place.
_WIDER = {
    "byte": {"short", "int", "long"},
    "short": {"int", "long"},
    "int": {"long"},
    "float": {"double"},
    "string": {"text"},
}


def refusals(old: TableSchema, new: TableSchema) -> list[str]:
    """Return why `new` cannot follow `old`: a sentence for each change that is not allowed.

    Each names the table, the column and what to do. The numbers of the versions are not looked at.
    """
    sentences = [*_table(old, new), *_columns(old.columns, new.columns, "")]
    needed = {*new.primary_key, *new.layout.sort, *new.layout.batch, new.layout.ra, new.layout.dec}
    sentences += [
        f"the column {name!r} is part of the key, the order or the position and may now be null; forbid null"
        for name in new.names
        if name in needed and new[name].nullable and name in old.names and not old[name].nullable
    ]
    return [f"table {old.name}: {sentence}" for sentence in sentences]


def is_same(old: TableSchema, new: TableSchema) -> bool:
    """Return whether two schemas differ only in what needs no new version: texts, default columns, margin."""
    return _without_texts(old) == _without_texts(new)


def flag_refusals(old: Mapping[str, Mapping[int, str]], new: Mapping[str, Mapping[int, str]]) -> list[str]:
    """Return why registered flag bits cannot follow older ones.

    Parameters
    ----------
    old, new : mapping
        Table to bit to name.
    """
    return [
        f"flags of {table}: the bit {bit} was {name} and is {new.get(table, {}).get(bit, 'gone')}; a bit keeps its "
        "meaning for ever: restore it, and give new flags new bits"
        for table, bits in old.items()
        for bit, name in bits.items()
        if new.get(table, {}).get(bit) != name
    ]


def _without_texts(schema: TableSchema) -> TableSchema:
    columns = tuple(_bare(column) for column in schema.columns)
    layout = replace(schema.layout, default=(), margin_arcsec=0.0)
    return replace(schema, version=0, description="", columns=columns, layout=layout)


def _bare(column: Column) -> Column:
    return replace(column, description="", ucd=None, columns=tuple(_bare(inner) for inner in column.columns))


def _table(old: TableSchema, new: TableSchema) -> Iterator[str]:
    """Yield the refused changes of the table as a whole."""
    advice = "keep it, or make a new table"
    if new.name != old.name:
        yield f"its name is now {new.name!r}; {advice}"
    if new.primary_key != old.primary_key:
        yield f"the key was {', '.join(old.primary_key)} and is {', '.join(new.primary_key)}; {advice}"
    for what in ("kind", "sort", "catalog_type", "ra", "dec", "batch"):
        before, after = getattr(old.layout, what), getattr(new.layout, what)
        # A table that was never compacted may be compacted from now on; old parts without keys are skipped.
        if before != after and not (what == "batch" and not before):
            yield f"the layout's {what} was {_shown(before)} and is {_shown(after)}; {advice}"


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _columns(old: tuple[Column, ...], new: tuple[Column, ...], parent: str) -> Iterator[str]:
    """Yield the refused changes of columns; `parent` is the nested column that they are in."""
    before, after = ({column.name: column for column in columns} for columns in (old, new))
    for name, column in before.items():
        if name in after:
            yield from _column(column, after[name], parent + name)
        else:
            null = " and let it be null from now on" if not column.nullable else ""
            yield f"the column {parent + name!r} is gone; keep it{null}: a new name is a new column beside it"
    for name, column in after.items():
        if name in before:
            continue
        if parent:
            yield (
                f"the column {parent + name!r} is new within a nested column, which readers of older files "
                "do not know how to fill; add it as a new nested column of its own"
            )
        elif not column.nullable:
            yield f"the new column {name!r} may not be null, but rows written before have no value; let it be null"
    order = [name for name in after if name in before]
    if order != [name for name in before if name in after]:
        yield f"the columns {parent or ''}{_first_moved(list(before), order)!r} and others changed places; restore"


def _first_moved(before: list[str], after: list[str]) -> str:
    kept = [name for name in before if name in after]
    return next(now for now, then in zip(after, kept, strict=True) if now != then)


def _column(old: Column, new: Column, name: str) -> Iterator[str]:
    """Yield the refused changes of one column."""
    advice = "keep it, or add a new column"
    if new.datatype != old.datatype and new.datatype not in _WIDER.get(old.datatype, ()):
        yield f"the column {name!r} was {old.datatype} and is {new.datatype}, which is not wider; {advice}"
    if new.length is not None and (old.length is None or new.length < old.length):
        before = "any length" if old.length is None else str(old.length)
        yield f"the texts of the column {name!r} had {before} and have {new.length} characters; {advice}"
    if old.nullable and not new.nullable:
        yield f"the column {name!r} may no longer be null, but rows written before may be; let it be null"
    if new.unit != old.unit:
        yield f"the unit of the column {name!r} was {old.unit or 'none'} and is {new.unit or 'none'}; {advice}"
    if old.ucd is not None and new.ucd != old.ucd:
        yield f"the UCD of the column {name!r} was {old.ucd} and is {new.ucd or 'none'}; {advice}"
    yield from _columns(old.columns, new.columns, f"{name}.")

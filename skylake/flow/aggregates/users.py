"""Aggregates of a user: a file of SQL or Python each, in the user's own folder or named, never in a lake.

A file of SQL begins with comments that declare it::

    -- name: widths
    -- key: camera, night, band
    -- granularity: batch
    -- merge: n sum, widest max
    SELECT band, count(*) AS n, max(fwhm_px) AS widest FROM frames GROUP BY band

A file of Python has an :class:`skylake.table.aggregate.Aggregate` of the name ``AGGREGATE``. A YAML file of the same
name beside either is the schema of its table; else the schema follows from what it gives for a batch without rows.
"""

from __future__ import annotations

import hashlib
import re
import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from skylake.errors import ConfigurationError
from skylake.flow.aggregates.query import Query, inputs_of
from skylake.flow.execution.task_guard import code_of_user
from skylake.schema import Column, TableLayout, TableSchema, empty_table, load
from skylake.schema.arrow import datatype_of
from skylake.schema.tables import MERGES, TABLES, Merge, read_schema, require_plain_names
from skylake.settings import user_file
from skylake.table.aggregate import Aggregate, Given, Granularity, Input, merged_by

_FOLDER = "aggregates"
_KEYS = ("name", "key", "granularity", "merge", "description")
_LINE = re.compile(r"--\s*(\w+)\s*:\s*(.*)")
_BATCH = ("camera", "night")
_INDEX = "_healpix_29"
_PLACE = (_INDEX, "ra_deg", "dec_deg")


@dataclass(frozen=True, slots=True)
class UserAggregate:
    """An aggregate of a user, the schema of its table, and the file that declares it."""

    aggregate: Aggregate
    schema: TableSchema
    path: Path


def user_aggregates(files: Sequence[Path] = ()) -> dict[str, UserAggregate]:
    """Return the aggregates of the user by name: those of the user's own folder, then others by their files.

    Raises
    ------
    ConfigurationError
        If a file is no aggregate, or two have one name.
    """
    folder = user_file().parent / _FOLDER
    own = sorted([*folder.glob("*.sql"), *folder.glob("*.py")]) if folder.is_dir() else []
    found: dict[str, UserAggregate] = {}
    for path in dict.fromkeys(one.resolve() for one in [*own, *files]):
        made = read_aggregate(path)
        if made.aggregate.name in found:
            other = found[made.aggregate.name].path
            raise ConfigurationError(
                f"{path}: {other} declares {made.aggregate.name} too; rename one of them"
            )
        found[made.aggregate.name] = made
    return found


def read_aggregate(path: Path) -> UserAggregate:
    """Return the aggregate that a file of a user declares.

    Raises
    ------
    ConfigurationError
        If it cannot be read, or is no aggregate.
    """
    beside = path.with_suffix(".yaml")
    try:
        content = path.read_bytes()
        schema = beside.read_bytes() if beside.is_file() else b""
    except OSError as error:
        raise ConfigurationError(f"{path}: the aggregate cannot be read ({error.strerror})") from error
    return _read(path, hashlib.sha256(content + schema).hexdigest())


@lru_cache(maxsize=64)
def _read(path: Path, sha256: str) -> UserAggregate:
    """Return an aggregate, given the SHA-256 of its files, so that a file that changes is read again."""
    if path.suffix == ".py":
        aggregate = replace(_of_python(path), version=sha256)
    elif path.suffix == ".sql":
        aggregate = replace(_of_sql(path), version=sha256)
    else:
        raise ConfigurationError(f"{path}: an aggregate is a file of SQL or Python, .sql or .py")
    beside = path.with_suffix(".yaml")
    schema = read_schema(beside) if beside.is_file() else _derived(aggregate, path)
    if schema.name != aggregate.name or schema.layout.batch != _BATCH:
        raise ConfigurationError(
            f"{beside}: the name is {aggregate.name!r} and the batch [camera, night] in a schema of {path}"
        )
    try:
        require_plain_names(schema)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return UserAggregate(aggregate, schema, path)


def _of_python(path: Path) -> Aggregate:
    """Return the aggregate of a file of Python; its functions go to workers whole, as none of them can import it."""
    with code_of_user(str(path), "the file cannot be run"):
        found = runpy.run_path(str(path)).get("AGGREGATE")
    if not isinstance(found, Aggregate):
        raise ConfigurationError(f"{path}: there is no Aggregate of the name AGGREGATE in the file")
    partial, finish = (_Guarded(str(path), one) for one in (found.partial, found.finish))
    return replace(found, partial=partial, finish=finish)


def _of_sql(path: Path) -> Aggregate:
    """Return the aggregate of a file of SQL."""
    text = path.read_text(encoding="utf-8")
    told = _declared(path, text)
    key = tuple(_listed(told["key"]))
    try:
        granularity = Granularity(told["granularity"])
    except ValueError as error:
        kinds = ", ".join(Granularity)
        raise ConfigurationError(
            f"{path}: the granularity {told['granularity']!r} is none of {kinds}"
        ) from error
    inputs = tuple(
        Input(table, columns, None) for table, columns in inputs_of(path, text, _readable()).items()
    )
    query = Query(text, tuple((one.table, one.columns or ()) for one in inputs))
    merging: dict[str, str] = dict(_merging(path, told.get("merge", "")))
    rest = set(query(Given("", 0, _nothing(inputs))).column_names) - merging.keys() - {*key, *_BATCH}
    # A night has each key once. What names the place of a star is the same in all nights.
    plain = rest if granularity is Granularity.BATCH else rest & set(_PLACE)
    if rest - plain:
        raise _unmerged(path, min(rest - plain))
    merging |= dict.fromkeys(plain, "last")
    return Aggregate(
        told["name"],
        inputs,
        key,
        granularity,
        query,
        merged_by([*_BATCH, *_not_batch(key)], merging),
        _as_it_is,
    )


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A function of a user, whose errors name its file."""

    file: str
    function: Callable[[Any], pa.Table]

    def __call__(self, given: Any) -> pa.Table:
        with code_of_user(self.file, "the aggregate fails"):
            return self.function(given)


def _declared(path: Path, text: str) -> dict[str, str]:
    """Return what the comments at the beginning declare."""
    told: dict[str, str] = {}
    for line in text.splitlines():
        found = _LINE.fullmatch(line.strip())
        if found is None:
            break
        if found[1] not in _KEYS:
            raise ConfigurationError(f"{path}: there is no {found[1]!r} to declare; use {', '.join(_KEYS)}")
        told[found[1]] = found[2].strip()
    missing = [name for name in _KEYS[:3] if not told.get(name)]
    if missing:
        raise ConfigurationError(
            f"{path}: the file does not say its {missing[0]}; begin it with lines such as `-- {missing[0]}: …`"
        )
    return told


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _merging(path: Path, text: str) -> Iterator[tuple[str, Merge]]:
    """Yield how columns merge; counts are added."""
    for one in _listed(text):
        name, _, how = one.rpartition(" ")
        how = "sum" if how == "count" else how
        if how not in MERGES[:4] or not name.strip():
            raise ConfigurationError(
                f"{path}: {one!r} is no way to merge a column; write its name and one of sum, count, min, max, last"
            )
        yield name.strip(), how  # type: ignore[misc]


def _not_batch(key: Sequence[str]) -> list[str]:
    return [name for name in key if name not in _BATCH]


def _as_it_is(rows: pa.Table) -> pa.Table:
    return rows


def _readable() -> list[str]:
    """Return the tables that an aggregate may read: those with a part for each batch."""
    made = ("nights", "maps", "lightcurves", "forced_lightcurves", "targets", "masters")
    return [name for name in TABLES if name not in made and {"camera", "night"} <= set(load(name).names)]


def _derived(aggregate: Aggregate, path: Path) -> TableSchema:
    """Return the schema that follows from what an aggregate gives for a batch without rows."""
    rows = _of_nothing(aggregate, path)
    merging: Mapping[str, str] = getattr(aggregate.merge, "merging", {})
    is_batch = aggregate.granularity is Granularity.BATCH
    key = tuple(dict.fromkeys([*(_BATCH if is_batch else ()), *aggregate.key]))
    names = [name for name in rows.column_names if name not in _BATCH]
    _require_key(aggregate, path, [*names, *_BATCH])
    columns = [
        Column("camera", "string", "Name of the camera", nullable=False, ucd="meta.id;instr", length=64),
        Column(
            "night", "int", "Observing night, YYYYMMDD of the local evening", False, None, "time.epoch;obs"
        ),
    ]
    for name in names:
        is_merged = not is_batch and name not in key
        if is_merged and name not in merging:
            raise _unmerged(path, name)
        how = cast("Merge", merging[name]) if is_merged else None
        nullable = name != _INDEX
        columns.append(Column(name, _datatype(rows.schema.field(name), path), name, nullable, merge=how))
    is_object = aggregate.granularity is Granularity.OBJECT
    layout = TableLayout("parquet", key, batch=_BATCH)
    if is_object:
        layout = TableLayout("hats", (_INDEX, *key), "object", "ra_deg", "dec_deg", _BATCH)
    description = f"An aggregate of the user, from {path.name}"
    return TableSchema(aggregate.name, 1, description, tuple(columns), key, layout)


def _unmerged(path: Path, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: the nights of this aggregate are merged, and nothing says how the column {name!r} is; add it to the "
        "columns that are merged by sum, min, max or last"
    )


def _of_nothing(aggregate: Aggregate, path: Path) -> pa.Table:
    """Return what an aggregate gives for a batch without rows."""
    schema = path.with_suffix(".yaml").name
    with code_of_user(str(path), f"a batch without rows fails; let it pass, or put {schema} beside the file"):
        return aggregate.finish(
            aggregate.merge([aggregate.partial(Given("", 0, _nothing(aggregate.inputs)))])
        )


def _nothing(inputs: Sequence[Input]) -> dict[str, pa.Table]:
    """Return inputs without rows."""
    tables = {one.table: empty_table(load(one.table)) for one in inputs}
    return {
        one.table: tables[one.table] if one.columns is None else tables[one.table].select(list(one.columns))
        for one in inputs
    }


def _require_key(aggregate: Aggregate, path: Path, names: Sequence[str]) -> None:
    needed = {
        Granularity.PIXEL: ("healpix_pixel",),
        Granularity.OBJECT: _PLACE,
        Granularity.SEASON: ("camera",),
    }
    for name in (*aggregate.key, *needed.get(aggregate.granularity, ())):
        if name not in names:
            raise ConfigurationError(
                f"{path}: an aggregate by {aggregate.granularity} with the key {', '.join(aggregate.key)} gives a "
                f"column {name!r}; select it"
            )


def _datatype(item: pa.Field, path: Path) -> str:
    datatype = datatype_of(item.type)
    if datatype is None:
        raise ConfigurationError(
            f"{path}: the column {item.name!r} is of the type {item.type}, which no table has; cast it"
        )
    return datatype

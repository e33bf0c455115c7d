"""Aggregates of a user: each is a file of SQL or Python, in the user's own folder or named by path, never in a lake.

A file of SQL begins with comments that declare it::

    -- name: widths
    -- key: camera, night, band
    -- granularity: batch
    -- merge: n sum, widest max
    SELECT band, count(*) AS n, max(fwhm_px) AS widest FROM frames GROUP BY band

A file of Python has an :class:`skylake.table.aggregate.Aggregate` of the name ``AGGREGATE``. The schema of the table
follows from what it gives for a batch without rows. A YAML file of the same name beside either gives the columns their
types, units and descriptions; key and merges are always those of the aggregate.
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
import pyarrow.compute as pc

from skylake.errors import ConfigurationError, no_column
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


def user_aggregates(
    files: Sequence[Path] = (),
) -> tuple[dict[str, UserAggregate], list[ConfigurationError]]:
    """Return the aggregates of the user by name, and what is wrong with files that are none.

    Parameters
    ----------
    files : sequence of Path
        Files of aggregates beside those of the user's own folder.
    """
    folder = user_file().parent / _FOLDER
    own = sorted([*folder.glob("*.sql"), *folder.glob("*.py")]) if folder.is_dir() else []
    found: dict[str, UserAggregate] = {}
    broken: list[ConfigurationError] = []
    for path in dict.fromkeys(one.resolve() for one in [*own, *files]):
        try:
            made = read_aggregate(path)
            if made.aggregate.name in found:
                other = found[made.aggregate.name].path
                raise ConfigurationError(
                    f"{path}: {other} declares {made.aggregate.name} too; rename one of them"
                )
        except ConfigurationError as error:
            broken.append(error)
        else:
            found[made.aggregate.name] = made
    return found, broken


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
    schema = _described(aggregate, path, beside) if beside.is_file() else _derived(aggregate, path)
    try:
        require_plain_names(schema)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return UserAggregate(aggregate, schema, path)


def _of_python(path: Path) -> Aggregate:
    """Return the aggregate of a file of Python; its functions are sent to workers whole, as these cannot import it."""
    with code_of_user(str(path), "the file cannot be run"):
        found = runpy.run_path(str(path)).get("AGGREGATE")
    if not isinstance(found, Aggregate):
        raise ConfigurationError(f"{path}: there is no Aggregate of the name AGGREGATE in the file")
    if found.granularity is not Granularity.BATCH and not hasattr(found.merge, "merging"):
        raise ConfigurationError(
            f"{path}: readers merge the nights of this aggregate column by column; make its merge with merged_by of "
            "skylake.table.aggregate"
        )
    _require_inputs(path, found.inputs)
    partial, merge, finish = (
        _Guarded(str(path), name, getattr(found, name)) for name in ("partial", "merge", "finish")
    )
    return replace(
        found, partial=partial, merge=merge, finish=_Finish(str(path), _not_batch(found.key), finish)
    )


def _require_inputs(path: Path, inputs: Sequence[Input]) -> None:
    """Refuse inputs with columns that their tables do not have."""
    for one in inputs:
        names = load(one.table).names if one.table in TABLES else one.columns or ()
        for column in one.columns or ():
            if column not in names:
                raise ConfigurationError(f"{path}: {no_column(one.table, column, names)}")


def _of_sql(path: Path) -> Aggregate:
    """Return the aggregate of a file of SQL."""
    text = path.read_text(encoding="utf-8")
    declared = _declared(path, text)
    key = tuple(_listed(declared["key"]))
    try:
        granularity = Granularity(declared["granularity"])
    except ValueError as error:
        kinds = ", ".join(Granularity)
        raise ConfigurationError(
            f"{path}: the granularity {declared['granularity']!r} is not one of {kinds}"
        ) from error
    inputs = tuple(
        Input(table, columns, None) for table, columns in inputs_of(path, text, _readable()).items()
    )
    query = Query(str(path), text, tuple((one.table, one.columns or ()) for one in inputs))
    merging: dict[str, str] = dict(_merging(path, declared.get("merge", "")))
    # What names the place of a star is the same in all nights.
    merging = dict.fromkeys([name for name in _PLACE if name not in key], "last") | merging
    finish = _Finish(str(path), _not_batch(key), _as_it_is)
    if granularity is Granularity.BATCH:
        return Aggregate(declared["name"], inputs, key, granularity, query, pa.concat_tables, finish)
    merge = merged_by([*_BATCH, *_not_batch(key)], merging)
    for name in query(Given("", 0, _nothing(inputs))).column_names:
        if name not in (*merging, *key, *_BATCH):
            raise _unmerged(path, name)
    return Aggregate(declared["name"], inputs, key, granularity, query, merge, finish)


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A function of a user, whose errors name its file."""

    file: str
    name: str
    function: Callable[[Any], pa.Table]

    def __call__(self, given: Any) -> pa.Table:
        with code_of_user(self.file, f"{self.name} of the aggregate fails"):
            return self.function(given)

    @property
    def merging(self) -> Mapping[str, str]:
        """How columns are merged, of a merge."""
        return getattr(self.function, "merging", {})


@dataclass(frozen=True, slots=True)
class _Finish:
    """The ``finish`` of a user: it gives each key, beside the night of a camera, once."""

    file: str
    key: tuple[str, ...]
    function: Callable[[pa.Table], pa.Table]

    def __call__(self, merged: pa.Table) -> pa.Table:
        rows = self.function(merged)
        for name in self.key:
            if name not in rows.column_names:
                raise ConfigurationError(f"{self.file}: the aggregate gives no column {name!r} of its key")
        counts = rows.group_by(list(self.key)).aggregate([([], "count_all")])
        repeated = counts.filter(pc.greater(counts["count_all"], 1))
        if repeated.num_rows:
            first = repeated.slice(0, 1).to_pylist()[0]
            which = " and ".join(f"{name} = {first[name]!r}" for name in self.key) or "the key of the night"
            raise ConfigurationError(
                f"{self.file}: {first['count_all']} rows of one night have {which}; group them by the key "
                f"({', '.join(self.key) or 'camera, night'}), or add a column to it"
            )
        return rows


def _declared(path: Path, text: str) -> dict[str, str]:
    """Return what the comments before the query declare; others among them are passed over."""
    declared: dict[str, str] = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("--"):
            break
        found = _LINE.fullmatch(line.strip())
        if found is None:
            continue
        if found[1] not in _KEYS:
            raise ConfigurationError(f"{path}: there is no {found[1]!r} to declare; use {', '.join(_KEYS)}")
        declared[found[1]] = found[2].strip()
    missing = [name for name in _KEYS[:3] if not declared.get(name)]
    if missing:
        raise ConfigurationError(
            f"{path}: the file does not say its {missing[0]}; begin it with lines such as `-- {missing[0]}: …`"
        )
    return declared


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _merging(path: Path, text: str) -> Iterator[tuple[str, Merge]]:
    """Yield how columns merge; counts are added."""
    for one in _listed(text):
        name, _, how = one.rpartition(" ")
        how = "sum" if how == "count" else how
        if how not in MERGES[:4] or not name.strip():
            raise ConfigurationError(
                f"{path}: {one!r} does not say how a column is merged; write its name and one of sum, count, "
                "min, max, last"
            )
        yield name.strip(), how  # type: ignore[misc]


def _not_batch(key: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in key if name not in _BATCH)


def _as_it_is(rows: pa.Table) -> pa.Table:
    return rows


def _readable() -> list[str]:
    """Return the tables that an aggregate may read: those with a part for each batch."""
    made = ("nights", "photometric_nights", "maps", "lightcurves", "forced_lightcurves", "targets", "masters")
    return [name for name in TABLES if name not in made and {"camera", "night"} <= set(load(name).names)]


def _derived(aggregate: Aggregate, path: Path) -> TableSchema:
    """Return the schema that follows from the result of an aggregate for a batch without rows."""
    rows = _of_nothing(aggregate, path)
    columns = [
        Column("camera", "string", "Name of the camera", nullable=False, ucd="meta.id;instr", length=64),
        Column(
            "night", "int", "Observing night, YYYYMMDD of the local evening", False, None, "time.epoch;obs"
        ),
    ]
    for name in rows.column_names:
        if name not in _BATCH:
            datatype = _datatype(rows.schema.field(name), path)
            columns.append(Column(name, datatype, name, nullable=name != _INDEX))
    return _schema(aggregate, path, f"An aggregate of the user, from {path.name}", columns)


def _described(aggregate: Aggregate, path: Path, beside: Path) -> TableSchema:
    """Return the schema with the columns of a YAML file, which may not contradict the aggregate."""
    given = read_schema(beside)
    for column in given.columns:
        for one in (column, *column.columns):
            _require_unit(beside, one)
    if path.suffix == ".sql":
        _require_columns(_of_nothing(aggregate, path).column_names, given.names, path, beside)
    schema = _schema(aggregate, path, given.description, given.columns)
    if (given.name, given.layout.batch) != (aggregate.name, _BATCH):
        raise ConfigurationError(
            f"{beside}: the name is {aggregate.name!r} and the batch [camera, night] in a schema of {path}"
        )
    same = ((set(given.primary_key), set(schema.primary_key)), (given.layout.kind, schema.layout.kind))
    if any(one != other for one, other in same):
        raise ConfigurationError(
            f"{beside}: the schema has the key {', '.join(given.primary_key)} and the layout {given.layout.kind}, "
            f"and {path.name} makes {', '.join(schema.primary_key)} and {schema.layout.kind}; change one of them"
        )
    for column in given.columns:
        if column.merge not in (None, schema[column.name].merge):
            raise ConfigurationError(
                f"{beside}: {column.name!r} is merged by {column.merge}, which {path.name} does not say; change one "
                "of them"
            )
    return schema


def _require_unit(beside: Path, column: Column) -> None:
    """Refuse a unit that astropy cannot read, and that exported files would therefore lack."""
    if column.unit is None:
        return
    from astropy import units

    try:
        units.Unit(column.unit)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{beside}: the unit {column.unit!r} of the column {column.name!r} is not one of astropy; write it "
            "as in 'mag', 'adu/s' or 'arcsec'"
        ) from error


def _require_columns(made: Sequence[str], described: Sequence[str], path: Path, beside: Path) -> None:
    """Refuse a YAML file with other columns than those of the query."""
    for name in made:
        if name not in described:
            raise ConfigurationError(f"{beside}: the column {name!r} of {path.name} is missing; describe it")
    for name in described:
        if name not in made:
            raise ConfigurationError(f"{beside}: {path.name} gives no column {name!r}; leave it out")


def _schema(aggregate: Aggregate, path: Path, description: str, columns: Sequence[Column]) -> TableSchema:
    """Return the schema of an aggregate with these columns, with the key, merges and layout that it declares."""
    _require_key(aggregate, path, [column.name for column in columns])
    is_batch = aggregate.granularity is Granularity.BATCH
    key = tuple(dict.fromkeys([*(_BATCH if is_batch else ()), *aggregate.key]))
    merging: Mapping[str, str] = {} if is_batch else getattr(aggregate.merge, "merging", {})
    merged = []
    for column in columns:
        is_merged = not is_batch and column.name not in (*_BATCH, *key)
        if is_merged and column.name not in merging:
            raise _unmerged(path, column.name)
        if is_merged:
            _require_mergeable(path, column.name, merging[column.name])
        merged.append(replace(column, merge=cast("Merge", merging[column.name]) if is_merged else None))
    layout = TableLayout("parquet", key, batch=_BATCH)
    if aggregate.granularity is Granularity.OBJECT:
        layout = TableLayout("hats", (_INDEX, *key), "object", "ra_deg", "dec_deg", _BATCH)
    return TableSchema(aggregate.name, 1, description, tuple(merged), key, layout)


def _unmerged(path: Path, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: the nights of this aggregate are merged, and nothing says how the column {name!r} is; add it to the "
        "columns that are merged by sum, min, max or last"
    )


def _require_mergeable(path: Path, name: str, how: str) -> None:
    """Refuse a merge that readers could not do, before the schema of any lake names it."""
    if how not in MERGES:
        raise ConfigurationError(
            f"{path}: the column {name!r} cannot be merged by {how!r}; use sum, count, min, max, last or "
            "concat, and for a mean keep the sum and the count, and divide them when you read"
        )


def _of_nothing(aggregate: Aggregate, path: Path) -> pa.Table:
    """Return the result of an aggregate for a batch without rows."""
    try:
        return aggregate.finish(
            aggregate.merge([aggregate.partial(Given("", 0, _nothing(aggregate.inputs)))])
        )
    except ConfigurationError as error:
        # A name that does not exist is missing whatever the rows are.
        if error.__cause__ is None or isinstance(error.__cause__, NameError | AttributeError | ImportError):
            raise
        schema = path.with_suffix(".yaml").name
        raise ConfigurationError(
            f"{error}; it was given tables without rows, since the columns follow from its result for these: let it "
            f"pass them, or describe the columns in {schema} beside the file"
        ) from error.__cause__


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

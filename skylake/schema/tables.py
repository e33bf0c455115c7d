"""Load table schemas and flag registries from ``schemas/*.yaml``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from skylake.core.flags import FrameFlag, SourceFlag
from skylake.core.ids import config_sha256
from skylake.errors import ConfigurationError
from skylake.resources import folder

#: Schemas of tables that commands make on request, under any name; a lake has them only then.
ON_REQUEST = ("detrended", "periods", "curve_statistics")
#: Schemas that are not tables of a lake.
_NO_TABLES = ("catalog", "flags")
_FIRST = (
    "frames",
    "sources",
    "forced_sources",
    "matches",
    "zeropoints",
    "nights",
    "photometric_nights",
    "lightcurves",
    "forced_lightcurves",
    "maps",
    "targets",
    "masters",
    "global_solutions",
    "star_magnitudes",
)
_FOUND = sorted(
    path.stem for path in folder("schemas").glob("*.yaml") if path.stem not in (*_NO_TABLES, *ON_REQUEST)
)
#: Tables of every lake, in the order in which they are made; a lake may also have tables of its users.
TABLES = (*_FIRST, *(name for name in _FOUND if name not in _FIRST))

#: How the rows of one key become one row: added, the least, the greatest, that of the last block, nested rows put
#: together in the order of time, or computed from the others by the ``finish`` of the aggregate.
Merge = Literal["sum", "min", "max", "last", "concat", "finish"]
MERGES: tuple[str, ...] = get_args(Merge)

_DATATYPES = {
    "boolean",
    "byte",
    "short",
    "int",
    "long",
    "float",
    "double",
    "string",
    "text",
    "timestamp",
    "nested",
}
_COLUMN_KEYS = {
    "name",
    "datatype",
    "length",
    "nullable",
    "description",
    "ivoa:unit",
    "ivoa:ucd",
    "columns",
    "merge",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column in the vocabulary of felis.

    Attributes
    ----------
    name, datatype, description : str
        ``datatype`` is one of felis' names, or ``nested`` for a list of rows with `columns` of their own.
    nullable : bool
        Whether null is a value.
    unit, ucd : str or None
        VOUnit and UCD1+.
    length : int or None
        Longest text.
    columns : tuple of Column
        Columns of a nested table.
    merge : str or None
        How the values of rows of one key become one; see :data:`Merge`. A table with such columns is kept in blocks.
    """

    name: str
    datatype: str
    description: str
    nullable: bool = True
    unit: str | None = None
    ucd: str | None = None
    length: int | None = None
    columns: tuple[Column, ...] = ()
    merge: Merge | None = None


@dataclass(frozen=True, slots=True)
class TableLayout:
    """How a table lies in the lake.

    Attributes
    ----------
    kind : str
        ``hats``: divided into pixels of the sky; ``parquet``: plain files.
    sort : tuple of str
        Columns by which rows are sorted.
    catalog_type, ra, dec : str or None
        Of a HATS table: what it is, and its columns of positions.
    batch : tuple of str
        Columns that are constant in a batch and together name it. Only such tables can be compacted: the rows of a
        batch are found again among others.
    default : tuple of str
        Columns of a HATS table that its readers load where none are named; none of them means all.
    margin_arcsec : float
        Width of the margin of a HATS table around its pixels; 0 for a table without.
    """

    kind: Literal["hats", "parquet"]
    sort: tuple[str, ...]
    catalog_type: str | None = None
    ra: str | None = None
    dec: str | None = None
    batch: tuple[str, ...] = ()
    default: tuple[str, ...] = ()
    margin_arcsec: float = 0.0


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table: its columns, key and layout."""

    name: str
    version: int
    description: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    layout: TableLayout

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def flat_names(self) -> tuple[str, ...]:
        """Names of the columns that are not nested, in order: those that a database mirrors."""
        return tuple(column.name for column in self.columns if not column.columns)

    @property
    def in_blocks(self) -> bool:
        """Whether each batch has rows of its own for a key, which are merged when they are read."""
        return any(column.merge for column in self.columns)

    @property
    def unit_of_count(self) -> str:
        """What its stored rows are: ``rows``, or ``blocks``, several of which readers may merge into one row."""
        return "blocks" if self.in_blocks else "rows"

    @property
    def merging(self) -> dict[str, Merge]:
        """How each column but those of the key is merged, of a table in blocks: by default as in the last block."""
        names = [name for name in self.merged_names if name not in self.primary_key]
        return {name: self[name].merge or "last" for name in names}

    @property
    def merged_names(self) -> tuple[str, ...]:
        """Names of the columns of merged rows: all but those that name the batch and are not part of the key."""
        gone = set(self.layout.batch) - set(self.primary_key) if self.in_blocks else set()
        return tuple(name for name in self.names if name not in gone)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def sha256(self) -> str:
        """SHA-256 of what a reader of the table depends on: names, types, nullability and units."""
        return config_sha256({"columns": [_signature(column) for column in self.columns]})

    def extended(self, name: str, columns: tuple[Column, ...]) -> TableSchema:
        """Return the schema under another name and with more columns at its end."""
        return replace(self, name=name, columns=self.columns + columns)


def _signature(column: Column) -> list[Any]:
    inner = [_signature(one) for one in column.columns]
    return [column.name, column.datatype, column.nullable, column.unit, inner]


def table_names() -> tuple[str, ...]:
    """Return the names of the tables of a lake."""
    return TABLES


#: Schemas of tables of users, by name, of the snapshot that was read last; and those temporarily in force.
_OF_USERS: dict[str, TableSchema] = {}
_IN_FORCE: dict[str, TableSchema] = {}


def load(name: str) -> TableSchema:
    """Return the schema of a table.

    Raises
    ------
    ConfigurationError
        If there is no such schema, or its file breaks the vocabulary.
    """
    own = _IN_FORCE.get(name) or _OF_USERS.get(name)
    return own if own is not None else _load(name)


@cache
def _load(name: str) -> TableSchema:
    path = folder("schemas") / f"{name}.yaml"
    if name not in (*TABLES, *ON_REQUEST, "catalog") or not path.is_file():
        raise ConfigurationError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")
    return read_schema(path)


def on_request(name: str, called: str | None = None) -> TableSchema:
    """Return the schema of a table that a command makes on request.

    Parameters
    ----------
    name : str
        One of :data:`ON_REQUEST`.
    called : str or None
        What the table is called in its lake.
    """
    return replace(_load(name), name=called or name)


def register(schemas: Iterable[TableSchema]) -> None:
    """Register tables of users for :func:`load`, until others of their names are registered."""
    _OF_USERS.update((schema.name, schema) for schema in schemas)


def registered() -> tuple[TableSchema, ...]:
    """Return the schemas of the tables of users that :func:`load` knows."""
    return tuple((_OF_USERS | _IN_FORCE).values())


@contextmanager
def in_force(schema: TableSchema) -> Iterator[None]:
    """Let :func:`load` return a schema instead of the one of a snapshot, while its table is made again."""
    if schema.name in TABLES:
        yield
        return
    _IN_FORCE[schema.name] = schema
    try:
        yield
    finally:
        del _IN_FORCE[schema.name]


def read_schema(path: Path) -> TableSchema:
    """Return the schema of a table from its YAML file.

    Raises
    ------
    ConfigurationError
        If the file breaks the vocabulary.
    """
    return schema_of(read_yaml(path), str(path))


def schema_of(data: Mapping[str, Any], where: str) -> TableSchema:
    """Return the schema of a table from what its YAML file says.

    Parameters
    ----------
    data : mapping
    where : str
        The file, for the sentence of an error.

    Raises
    ------
    ConfigurationError
        If it breaks the vocabulary.
    """
    try:
        schema = _schema_of(data, where)
    except KeyError as error:
        raise ConfigurationError(f"{where}: the schema, or something in it, has no key {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{where}: this is no schema of a table ({error})") from error
    names = schema.names
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{where}: a column name occurs twice")
    for key in (*schema.primary_key, *schema.layout.sort, *schema.layout.batch, *schema.layout.default):
        if key not in names:
            raise ConfigurationError(f"{where}: the key, sort, batch or default column {key!r} is no column")
    return schema


def _schema_of(data: Mapping[str, Any], where: str) -> TableSchema:
    layout = data["layout"]
    return TableSchema(
        name=data["name"],
        version=int(data["version"]),
        description=" ".join(str(data["description"]).split()),
        columns=tuple(_column(item, where) for item in data["columns"]),
        primary_key=tuple(data["primaryKey"]),
        layout=TableLayout(
            layout["kind"],
            tuple(layout["sort"]),
            layout.get("catalog_type"),
            layout.get("ra"),
            layout.get("dec"),
            tuple(layout.get("batch", ())),
            tuple(layout.get("default", ())),
            float(layout.get("margin_arcsec", 0.0)),
        ),
    )


def values_of(schema: TableSchema) -> dict[str, Any]:
    """Return the values from which :func:`schema_of` makes a schema, to be kept with a table of a user."""
    layout = schema.layout
    placed = {"catalog_type": layout.catalog_type, "ra": layout.ra, "dec": layout.dec}
    return {
        "name": schema.name,
        "version": schema.version,
        "description": schema.description,
        "primaryKey": list(schema.primary_key),
        "layout": {"kind": layout.kind, "sort": list(layout.sort), "batch": list(layout.batch)} | placed,
        "columns": [_values_of_column(column) for column in schema.columns],
    }


def _values_of_column(column: Column) -> dict[str, Any]:
    values = {
        "name": column.name,
        "datatype": column.datatype,
        "description": column.description,
        "nullable": column.nullable,
        "ivoa:unit": column.unit,
        "ivoa:ucd": column.ucd,
        "length": column.length,
        "merge": column.merge,
        "columns": [_values_of_column(inner) for inner in column.columns],
    }
    return {name: value for name, value in values.items() if value not in (None, [])}


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def require_plain_names(schema: TableSchema) -> None:
    """Refuse a schema with a name that is more than a word: the lake that has it may be somebody else's.

    Raises
    ------
    ConfigurationError
        If the table or a column has such a name, or the table that of one of skylake's own; or if a column is merged
        by ``finish``, which is code of skylake's own aggregates.
    """
    inner = [one.name for column in schema.columns for one in column.columns]
    for name in (schema.name, *schema.names, *inner):
        if not _PLAIN.fullmatch(name):
            raise ConfigurationError(
                f"table {schema.name}: {name!r} is no name of a table or column; use letters, digits and _"
            )
    if schema.name in (*TABLES, *_NO_TABLES) or schema.name.startswith("_") or schema.name == "current":
        raise ConfigurationError(f"the name {schema.name!r} is taken by skylake; choose another")
    if "finish" in (column.merge for column in schema.columns):
        raise ConfigurationError(
            f"table {schema.name}: columns are merged by finish, which readers know of skylake's own tables only; use "
            "sum, min, max, last or concat"
        )
    if schema.layout.kind not in ("hats", "parquet"):
        raise ConfigurationError(f"table {schema.name}: there is no layout {schema.layout.kind!r}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a YAML file of the schemas says.

    Raises
    ------
    ConfigurationError
        If it is no YAML file of names and values.
    """
    import yaml

    # libyaml, where PyYAML was built with it, reads a schema five times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: this is no YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: this is no YAML file of names and values")
    return values


def _column(item: Mapping[str, Any], path: str) -> Column:
    unknown = set(item) - _COLUMN_KEYS
    if unknown:
        raise ConfigurationError(f"{path}: column {item.get('name')!r} has the unknown key {min(unknown)!r}")
    if item["datatype"] not in _DATATYPES:
        raise ConfigurationError(
            f"{path}: column {item['name']!r} has the unknown datatype {item['datatype']!r}"
        )
    if item.get("merge") not in (None, *MERGES):
        raise ConfigurationError(
            f"{path}: column {item['name']!r} is merged by {item['merge']!r}; use {', '.join(MERGES)}"
        )
    return Column(
        name=item["name"],
        datatype=item["datatype"],
        description=item["description"],
        nullable=bool(item.get("nullable", True)),
        unit=item.get("ivoa:unit"),
        ucd=item.get("ivoa:ucd"),
        length=item.get("length"),
        columns=tuple(_column(inner, path) for inner in item.get("columns", ())),
        merge=item.get("merge"),
    )


@cache
def flag_texts(table: Literal["sources", "frames"]) -> dict[str, tuple[int, str]]:
    """Return the flag bits of a table: name to value and text.

    Raises
    ------
    ConfigurationError
        If the registry and :mod:`skylake.core.flags` differ.
    """
    texts = {
        item["name"]: (1 << item["bit"], item["description"])
        for item in read_yaml(folder("schemas") / "flags.yaml")[table]
    }
    known = {flag.name: flag.value for flag in (SourceFlag if table == "sources" else FrameFlag)}
    if {name: value for name, (value, _) in texts.items()} != known:
        raise ConfigurationError(f"schemas/flags.yaml and skylake.core.flags differ in the flags of {table}")
    return texts


@cache
def meanings(*schemas: TableSchema) -> Mapping[str, Mapping[str, str]]:
    """Return ``unit``, ``ucd`` and ``description`` of each name of a column, where it has one.

    What differs between tables is left out, and so are names whose unit differs.

    Parameters
    ----------
    *schemas : TableSchema
        The tables; none of them means those of every lake.
    """
    columns = [column for schema in schemas or map(load, TABLES) for column in schema.columns]
    columns += [inner for column in columns for inner in column.columns]
    of_name: dict[str, list[Column]] = {}
    for column in columns:
        of_name.setdefault(column.name, []).append(column)
    found = {}
    for name, named in of_name.items():
        values = {
            key: {getattr(column, key) or "" for column in named} for key in ("unit", "ucd", "description")
        }
        if len(values["unit"]) == 1:
            agreed = {key: value for key, (value, *others) in values.items() if value and not others}
            found[name] = agreed
    return found

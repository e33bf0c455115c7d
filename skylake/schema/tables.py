"""Load table schemas and flag registries from ``schemas/*.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from skylake.core.flags import FrameFlag, SourceFlag
from skylake.core.ids import config_sha256
from skylake.errors import ConfigurationError
from skylake.resources import folder

#: Tables of a lake, in the order in which they are made.
TABLES = (
    "frames",
    "sources",
    "forced_sources",
    "matches",
    "zeropoints",
    "nights",
    "lightcurves",
    "forced_lightcurves",
    "maps",
    "targets",
    "masters",
)

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
_COLUMN_KEYS = {"name", "datatype", "length", "nullable", "description", "ivoa:unit", "ivoa:ucd", "columns"}


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
    """

    name: str
    datatype: str
    description: str
    nullable: bool = True
    unit: str | None = None
    ucd: str | None = None
    length: int | None = None
    columns: tuple[Column, ...] = ()


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
    """

    kind: Literal["hats", "parquet"]
    sort: tuple[str, ...]
    catalog_type: str | None = None
    ra: str | None = None
    dec: str | None = None
    batch: tuple[str, ...] = ()


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


@cache
def load(name: str) -> TableSchema:
    """Return the schema of a table.

    Raises
    ------
    ConfigurationError
        If there is no such schema, or its file breaks the vocabulary.
    """
    path = folder("schemas") / f"{name}.yaml"
    if name not in (*TABLES, "catalog") or not path.is_file():
        raise ConfigurationError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")
    return read_schema(path)


def read_schema(path: Path) -> TableSchema:
    """Return the schema of a table from its YAML file.

    Raises
    ------
    ConfigurationError
        If the file breaks the vocabulary.
    """
    data = read_yaml(path)
    columns = tuple(_column(item, str(path)) for item in data["columns"])
    names = [column.name for column in columns]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{path}: a column name occurs twice")
    layout = data["layout"]
    schema = TableSchema(
        name=data["name"],
        version=int(data["version"]),
        description=" ".join(str(data["description"]).split()),
        columns=columns,
        primary_key=tuple(data["primaryKey"]),
        layout=TableLayout(
            layout["kind"],
            tuple(layout["sort"]),
            layout.get("catalog_type"),
            layout.get("ra"),
            layout.get("dec"),
            tuple(layout.get("batch", ())),
        ),
    )
    for key in (*schema.primary_key, *schema.layout.sort, *schema.layout.batch):
        if key not in names:
            raise ConfigurationError(f"{path}: the key, sort or batch column {key!r} is no column")
    return schema


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a YAML file of the schemas says."""
    import yaml

    # libyaml, where PyYAML was built with it, reads a schema five times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return dict(yaml.load(path.read_text(encoding="utf-8"), Loader=loader))


def _column(item: Mapping[str, Any], path: str) -> Column:
    unknown = set(item) - _COLUMN_KEYS
    if unknown:
        raise ConfigurationError(f"{path}: column {item.get('name')!r} has the unknown key {min(unknown)!r}")
    if item["datatype"] not in _DATATYPES:
        raise ConfigurationError(
            f"{path}: column {item['name']!r} has the unknown datatype {item['datatype']!r}"
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
def meanings() -> Mapping[str, tuple[str, str]]:
    """Return unit and description of each name of a column that means the same in every table that has it.

    The description is empty where tables word it differently; a name whose unit differs is left out.
    """
    columns = [column for name in TABLES for column in load(name).columns]
    columns += [inner for column in columns for inner in column.columns]
    units: dict[str, set[str]] = {}
    texts: dict[str, set[str]] = {}
    for column in columns:
        units.setdefault(column.name, set()).add(column.unit or "")
        texts.setdefault(column.name, set()).add(column.description)
    return {
        name: (meanings_of.copy().pop(), texts[name].copy().pop() if len(texts[name]) == 1 else "")
        for name, meanings_of in units.items()
        if len(meanings_of) == 1
    }

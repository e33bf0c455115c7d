"""Servers, connections and content for the tests of the mirror."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import strategies as st
from psycopg import sql
from tried_mirror import TriedMirror

import skylake
from skylake.mirror import EmbeddedServer
from skylake.mirror.data_folder import _MARK, _new_mark
from skylake.schema import Column, TableSchema, arrow_schema, load

DEBIAN = Path("/usr/lib/postgresql/15/bin")
SOURCE = Path(skylake.__file__).parents[1]

_counter = itertools.count()

_NASTY_TEXTS = (
    "", " ", '"', "'", "\\", "\\.", "\\N", "NULL", "null", ",", "\n", "\r\n", "\t", "a\nb", '"a","b"', "\0",
    "a\0b", "é", "e\u0301", "\ufeff", "\u202e", "🜚", "%s", "%", "{}", "NaN", "nan", "true", "0", "$$", "--",
)  # fmt: skip


@pytest.fixture
def folder(open_folder: Path) -> Path:
    """Where servers of a test stand."""
    return open_folder


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedServer]:
    """The PostgreSQL that pip brings, one for all tests."""
    with (
        tempfile.TemporaryDirectory(prefix="sky-", dir="/tmp") as path,
        EmbeddedServer(Path(path) / "postgres") as server,
    ):
        yield server


@pytest.fixture(scope="session")
def initialised() -> Iterator[Path]:
    """The folder of a server that has run once and is stopped."""
    with tempfile.TemporaryDirectory(prefix="sky-", dir="/tmp") as path:
        with EmbeddedServer(Path(path) / "postgres") as made:
            pass
        yield made.folder


@pytest.fixture
def home(folder: Path, initialised: Path) -> Path:
    """A copy of such a folder, noted as made here, since a copy takes less time than to make it."""
    copy = Path(shutil.copytree(initialised, folder / "postgres"))
    (copy / "data" / _MARK).write_text(_new_mark(copy / "data"), encoding="ascii")
    return copy


@pytest.fixture(scope="session")
def debian() -> Iterator[EmbeddedServer]:
    """Debian's PostgreSQL 15, the oldest that we support."""
    if not (DEBIAN / "initdb").exists():
        pytest.skip(f"PostgreSQL 15 is not installed in {DEBIAN}")
    with (
        tempfile.TemporaryDirectory(prefix="sky-", dir="/tmp") as path,
        EmbeddedServer(Path(path) / "postgres", binaries=DEBIAN) as server,
    ):
        yield server


@pytest.fixture(scope="session", params=["embedded", "debian"])
def server(request: pytest.FixtureRequest) -> EmbeddedServer:
    """Every supported PostgreSQL in turn."""
    running: EmbeddedServer = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def namespace() -> str:
    """A name that no other test uses, and that has to be quoted."""
    return f"Mirror-{os.getpid()}.{next(_counter)}"


@pytest.fixture
def open_mirror(server: EmbeddedServer, namespace: str) -> Callable[..., TriedMirror]:
    """A function that opens the schema of the test in the server, or in that of another URL."""
    return lambda url=server.url, **options: TriedMirror(url, **{"schema": namespace} | options)


@pytest.fixture
def mirror(open_mirror: Callable[..., TriedMirror]) -> TriedMirror:
    """An empty, prepared mirror of its own."""
    made = open_mirror(patience_s=20)
    made.prepare()
    return made


@pytest.fixture
def connection(server: EmbeddedServer, namespace: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of a reader that looks into the mirror; every statement is its own transaction."""
    with psycopg.connect(server.libpq_url, autocommit=True) as reader:
        reader.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(namespace)))
        yield reader


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., pa.Table]:
    """A function (table, count, first, **constants) that makes rows whose keys begin at `first`."""
    return _make_rows


def _make_rows(table: str, count: int, first: int = 0, **constants: Any) -> pa.Table:
    schema, generator = load(table), np.random.default_rng(first)
    columns = []
    for column, field in zip(schema.columns, arrow_schema(schema), strict=True):
        if column.name in constants:
            values = pa.array([constants[column.name]] * count, field.type)
        elif column.name == schema.primary_key[0 if table != "nights" else 1]:
            values = pa.array(np.arange(first, first + count)).cast(field.type)
        else:
            values = _plain(field.type, count, column.nullable, generator)
        columns.append(values)
    return pa.Table.from_arrays(columns, schema=arrow_schema(schema))


def _plain(kind: pa.DataType, count: int, nullable: bool, generator: np.random.Generator) -> pa.Array:
    numbers = generator.integers(0, 100, count)
    missing = generator.random(count) < 0.1 if nullable else None
    if pa.types.is_struct(kind):
        return pa.array([None if i % 2 else {kind[0].name: [1.0, 2.0]} for i in range(count)], kind)
    if pa.types.is_floating(kind):
        return pa.array((numbers / 7).astype(kind.to_pandas_dtype()), mask=missing)
    if pa.types.is_boolean(kind):
        return pa.array(numbers > 50, mask=missing)
    if pa.types.is_string(kind):
        return pa.array(numbers.astype(str), kind, mask=missing)
    return pa.array(numbers.astype(kind.to_pandas_dtype()), mask=missing)


@pytest.fixture(scope="session")
def any_rows() -> Callable[[str], st.SearchStrategy[pa.Table]]:
    """A function that gives a strategy for tables of any content that the schema admits."""
    return lambda table: _any_rows(load(table))


@st.composite
def _any_rows(draw: st.DrawFn, schema: TableSchema) -> pa.Table:
    """Draw pools of values and spread them over the columns; drawing every cell would take too long."""
    count = draw(st.integers(0, 12))
    spread = draw(st.randoms(use_true_random=False))
    pools = {
        "text": [*_NASTY_TEXTS, *draw(st.lists(st.text(max_size=70), max_size=5))],
        "float": [0.0, -0.0, float("nan"), float("inf"), float("-inf"), 5e-324, 1e-45, 1.7976931348623157e308,
                  *draw(st.lists(st.floats(), max_size=5))],
        "integer": draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5)),
    }  # fmt: skip
    columns = []
    for column, field in zip(schema.columns, arrow_schema(schema), strict=True):
        if column.name == schema.primary_key[0 if schema.name != "nights" else 1]:
            bits = field.type.bit_width - 1
            unique = st.lists(
                st.integers(-(2**bits), 2**bits - 1), min_size=count, max_size=count, unique=True
            )
            columns.append(pa.array(draw(unique), field.type))
        else:
            cells = [_cell(column, field.type, pools, spread) for _ in range(count)]
            columns.append(pa.array(cells, field.type))
    return pa.Table.from_arrays(columns, schema=arrow_schema(schema))


def _cell(column: Column, kind: pa.DataType, pools: dict[str, list[Any]], spread: Any) -> Any:
    if column.columns or (column.nullable and spread.random() < 0.2):
        return None
    if pa.types.is_boolean(kind):
        return spread.random() < 0.5
    if pa.types.is_floating(kind):
        value = spread.choice(pools["float"])
        if value != value and not column.nullable:
            return 0.0
        return (
            float(np.float32(value)) if kind == pa.float32() and abs(value) < 3e38 else _narrowed(value, kind)
        )
    if pa.types.is_string(kind):
        return spread.choice(pools["text"])[: column.length]
    largest = 2 ** (kind.bit_width - 1) - 1
    inside = [value for value in pools["integer"] if -largest - 1 <= value <= largest]
    return spread.choice([0, 1, -1, largest, -largest - 1, *inside])


def _narrowed(value: float, kind: pa.DataType) -> float:
    if kind == pa.float64() or value != value or value in (float("inf"), float("-inf")):
        return value
    return float(np.float32(3e38)) if value > 0 else -float(np.float32(3e38))


@pytest.fixture(scope="session")
def read() -> Callable[..., pa.Table]:
    """A function (connection, table) that reads a mirrored table, in the order of its key."""
    return _read


def _read(connection: psycopg.Connection[Any], table: str) -> pa.Table:
    schema = load(table)
    names = sql.SQL(", ").join(map(sql.Identifier, schema.flat_names))
    statement = sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(table))
    with connection.cursor(binary=True) as cursor:
        cells = cursor.execute(statement).fetchall()
    columns = list(zip(*cells, strict=True)) if cells else [()] * len(schema.flat_names)
    flat = pa.schema([arrow_schema(schema).field(name) for name in schema.flat_names])
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, flat, strict=True)]
    return _sorted(pa.Table.from_arrays(arrays, schema=flat), schema)


@pytest.fixture(scope="session")
def as_mirrored() -> Callable[[pa.Table], pa.Table]:
    """A function that says what a mirror should show of a table: no NaN, no zero bytes, nothing nested, sorted."""
    return _as_mirrored


def _as_mirrored(table: pa.Table) -> pa.Table:
    schema = load(table.schema.metadata[b"skylake.table"].decode())
    columns, flat = [], pa.schema([table.schema.field(name) for name in schema.flat_names])
    for field in flat:
        cells = table[field.name].to_pylist()
        if pa.types.is_floating(field.type):
            cells = [None if cell is None or cell != cell else cell for cell in cells]
        if pa.types.is_string(field.type):
            cells = [None if cell is None else cell.replace("\0", "\ufffd") for cell in cells]
        columns.append(pa.array(cells, field.type))
    return _sorted(pa.Table.from_arrays(columns, schema=flat), schema)


def _sorted(table: pa.Table, schema: TableSchema) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in schema.primary_key])


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.Popen[str]]:
    """A function (code, *arguments, **options of Popen) that starts Python code in another process."""
    return _python


#: Loads all that is needed while root still can, for Python itself may lie where others cannot go.
_AS_USER = """
import encodings.ascii, encodings.idna, os
from skylake.mirror import binaries, embedded, identity
binaries.bundled()
os.setgroups([])
os.setgid({0})
os.setuid({0})
os.environ["XDG_STATE_HOME"] = f"/tmp/sky-state-{{os.getppid()}}"
"""


def _python(code: str, *arguments: object, user: int | None = None, **options: Any) -> subprocess.Popen[str]:
    whole = code if user is None else _AS_USER.format(user) + code
    command = [sys.executable, "-c", whole, *map(str, arguments)]
    paths = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **options,
    )  # fmt: skip

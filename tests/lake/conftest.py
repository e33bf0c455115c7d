"""Rows and lakes for the tests of the lake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import skylake
from skylake.core.sphere import healpix_index, offset
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.schema import arrow_schema, conform, load
from skylake.settings import Settings

SOURCE = Path(skylake.__file__).parents[1]
#: Around a corner of four pixels of order 1 at RA 0.
PLACE = (0.0, 0.0)

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """A function (table, count, seed, **columns) that makes rows with anything in them."""
    return _make_rows


def _make_rows(table: str, count: int, seed: int = 0, **columns: Any) -> pa.Table:
    schema, random = load(table), np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for column, field in zip(schema.columns, arrow_schema(schema), strict=True):
        values[column.name] = _values(field.type, count, column.nullable, random)
    for key in ("frame_id", "object_id"):
        if key in values:
            values[key] = 1000 * seed + np.arange(count)
    if "ra_deg" in values:
        where = random.uniform(0, 8, count), random.uniform(0, 360, count)
        ra, dec = offset(*(np.full(count, one) for one in PLACE), *where)
        values |= {"ra_deg": ra, "dec_deg": dec}
        if "_healpix_29" in values:
            values["_healpix_29"] = healpix_index(ra, dec)
    return conform(pa.table(values | columns), schema)


def _values(kind: pa.DataType, count: int, nullable: bool, random: np.random.Generator) -> pa.Array:
    missing = random.random(count) < 0.1 if nullable else None
    if pa.types.is_struct(kind):
        # The nested columns of a row are as long as each other.
        lengths = np.random.default_rng(count).integers(1, 5, count)
        offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
        lists = [
            pa.ListArray.from_arrays(
                offsets, _values(field.type.value_type, int(lengths.sum()), True, random), type=field.type
            )
            for field in kind
        ]
        return pa.StructArray.from_arrays(lists, fields=list(kind))
    numbers = random.integers(0, 100, count)
    if pa.types.is_floating(kind):
        return pa.array((numbers / 7).astype(kind.to_pandas_dtype()), mask=missing)
    if pa.types.is_boolean(kind):
        return pa.array(numbers > 50, mask=missing)
    if pa.types.is_string(kind):
        return pa.array(numbers.astype(str), kind, mask=missing)
    return pa.array(numbers.astype(kind.to_pandas_dtype()), mask=missing)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake with pixels of order 1."""
    return Lake.create(tmp_path / "lake", Settings(pixel_order=1))


@pytest.fixture(scope="session")
def put() -> Put:
    """A function (lake, (table, name, rows), …) that commits parts together."""

    def commit(lake: Lake, *parts: tuple[str, str, pa.Table], **options: Any) -> Snapshot:
        wanted = Commit("test", "-")
        with lake.stage("test") as staging:
            for table, name, rows in parts:
                tree = lake.tree if load(table).layout.kind == "hats" else None
                folder = staging / table
                wanted.replace(stage_part(rows, table, name, folder, tree, **options), folder)
            return lake.commit(wanted)

    return commit


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.Popen[str]]:
    """A function (code, *arguments) that starts Python code in another process."""

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        paths = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can enter; that of pytest is for its own user alone."""
    path = Path(tempfile.mkdtemp(prefix="sky-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def plain_user() -> Callable[[], Any]:
    """A function that gives a context in which this process has the rights of anybody: root may do all."""

    @contextmanager
    def become() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return become

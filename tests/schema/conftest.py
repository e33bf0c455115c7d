from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.resources import folder
from skylake.schema.tables import Column, TableLayout, TableSchema


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """A copy of the folder of schemas, with its record, to be changed."""
    return Path(shutil.copytree(folder("schemas"), tmp_path / "schemas"))


@pytest.fixture(scope="session")
def table() -> TableSchema:
    """A table with a column of every type."""
    columns = (
        Column("id", "long", "Identifier", nullable=False, ucd="meta.id;meta.main"),
        Column("place", "double", "Place", nullable=False, unit="deg"),
        Column("small", "byte", "Small"),
        Column("short", "short", "Short", nullable=False),
        Column("count", "int", "Count"),
        Column("flux", "float", "Flux", unit="adu/s", ucd="phot.flux"),
        Column("name", "string", "Name", length=8),
        Column("note", "text", "Note"),
        Column("good", "boolean", "Good"),
        Column("time", "timestamp", "Time"),
        Column(
            "curve", "nested", "Curve",
            columns=(Column("mjd", "double", "Time"), Column("mag", "float", "Magnitude", unit="mag")),
        ),
    )  # fmt: skip
    return TableSchema("things", 1, "Things", columns, ("id",), TableLayout("parquet", ("place", "id")))


@pytest.fixture(scope="session")
def changed() -> Callable[..., TableSchema]:
    """A function (schema, name, **changes) that changes a column, also one within another: ``curve.mag``."""

    def change(schema: TableSchema, name: str, /, **changes: Any) -> TableSchema:
        return replace(schema, columns=_changed(schema.columns, name, changes))

    return change


def _changed(columns: tuple[Column, ...], name: str, changes: dict[str, Any]) -> tuple[Column, ...]:
    outer, _, inner = name.partition(".")
    found = []
    for column in columns:
        if column.name == outer:
            more = {"columns": _changed(column.columns, inner, changes)} if inner else changes
            column = replace(column, **more)
        found.append(column)
    assert tuple(found) != columns
    return tuple(found)


@pytest.fixture(scope="session")
def make_rows() -> Callable[[int, int], pa.Table]:
    """A function (count, seed) that makes rows of the types that tables have, with nulls."""

    def make(count: int, seed: int = 0) -> pa.Table:
        random = np.random.default_rng(seed)

        def some(values: Any) -> pa.Array:
            return pa.array(values, mask=random.random(count) < 0.2)

        lengths = random.integers(0, 4, count)
        offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
        total = int(lengths.sum())
        curve = pa.StructArray.from_arrays(
            [
                pa.ListArray.from_arrays(offsets, pa.array(random.normal(size=total))),
                pa.ListArray.from_arrays(offsets, pa.array(random.integers(0, 9, total).astype(np.int32))),
            ],
            ["mjd", "n"],
        )
        return pa.table(
            {
                "id": np.arange(count) + 1000 * seed,
                "short": some(random.integers(-99, 99, count).astype(np.int16)),
                "count": some(random.integers(-99, 99, count).astype(np.int32)),
                "flux": some(random.normal(size=count).astype(np.float32)),
                "mag": some(random.normal(size=count)),
                "name": some(random.integers(0, 5, count).astype(str)),
                "good": some(random.random(count) < 0.5),
                "time": some(random.integers(0, 10**15, count).astype("datetime64[us]")),
                "curve": curve,
            }
        )

    return make

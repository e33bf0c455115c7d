"""A table opened for any library gives the same rows, and stays as it was."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from skylake.core.sphere import separation_deg
from skylake.errors import LakeError, UsageError
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake, Retention, Snapshot
from skylake.lake.access.open_table import OpenTable
from skylake.settings import Settings

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]

READERS: dict[str, Callable[[OpenTable], Any]] = {
    "arrow": lambda table: table.arrow().to_pandas(),
    "dataset": lambda table: table.dataset().to_table().to_pandas(),
    "pandas": lambda table: table.pandas(),
    "polars": lambda table: table.polars().to_pandas(),
    "lazy_polars": lambda table: table.lazy_polars().collect().to_pandas(),
    "dask": lambda table: table.dask().compute(scheduler="synchronous"),
    "duckdb": lambda table: table.duckdb().df(),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_rows: MakeRows, put: Put) -> Path:
    """A lake with nine nights, of which eight are merged."""
    lake = Lake.create(tmp_path_factory.mktemp("made") / "lake", Settings(pixel_order=1))
    for night in range(1, 10):
        rows = make_rows("sources", 40, night, camera=["c"] * 40, night=[20240100 + night] * 40)
        put(lake, ("sources", f"c-{night}", rows), ("frames", f"c-{night}", make_rows("frames", 5, night)))
        if night == 8:
            compact(lake, Inline())
    return lake.root


@pytest.fixture
def filled(made: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path]) -> Lake:
    return Lake(copy_lake(made, tmp_path / "lake"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["sources", "frames", "matches"])
def test_every_library_sees_the_same_rows(filled: Lake, reader: str, name: str) -> None:
    table = filled.open(name)
    read = READERS[reader](table)
    keys = [key for key in ("frame_id", "source_no") if key in read]
    assert list(read.columns) == list(table.schema.names)
    assert len(read) == len(table) == {"sources": 360, "frames": 45, "matches": 0}[name]
    expected = table.pandas()[keys].sort_values(keys)
    assert np.array_equal(read[keys].sort_values(keys), expected)


def test_lsdb_sees_the_same_rows(filled: Lake) -> None:
    table = filled.open("sources")
    read = table.lsdb(columns=["frame_id", "source_no"]).compute()
    assert sorted(read["frame_id"]) == sorted(table.pandas(["frame_id"])["frame_id"])


def test_columns_filters_and_cones_choose_together(filled: Lake) -> None:
    table = filled.open("sources")
    rows = table.arrow()
    near = separation_deg(0.0, 0.0, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()) <= 3.0
    chosen = rows.filter(pa.array(near)).filter(pc.field("flags") > 50)
    read = table.arrow(["frame_id"], filter=pc.field("flags") > 50, cone=(0.0, 0.0, 3.0))
    assert read.column_names == ["frame_id"]
    assert sorted(read["frame_id"].to_pylist()) == sorted(chosen["frame_id"].to_pylist())
    assert 0 < len(read) < near.sum()


def test_dask_reads_the_columns_of_the_query_alone(filled: Lake) -> None:
    frame = filled.open("sources").dask()
    median = frame["flux_aper2"].median_approximate()
    assert "columns=['flux_aper2']" in str(median.optimize().expr.tree_repr())
    assert frame.npartitions == len(filled.snapshot().version("sources").pixels)


def test_what_was_opened_outlives_commits_and_vacuums(filled: Lake, make_rows: MakeRows, put: Put) -> None:
    table = filled.open("sources")
    lazy = table.dask(["frame_id"]), table.duckdb()
    put(filled, ("sources", "c-3", make_rows("sources", 7, 99)))
    filled.vacuum(Retention(1, 0, 0))
    assert len(lazy[0].compute(scheduler="synchronous")) == len(lazy[1].fetchall()) == 360
    assert len(filled.open("sources")) == 327


LAZY: dict[str, tuple[Callable[[OpenTable], Any], Callable[[Any], int]]] = {
    "dataset": (lambda table: table.dataset(), lambda lazy: lazy.count_rows()),
    "lazy_polars": (lambda table: table.lazy_polars(), lambda lazy: len(lazy.collect())),
    "dask": (lambda table: table.dask(["flags"]), lambda lazy: len(lazy.compute(scheduler="synchronous"))),
    "duckdb": (lambda table: table.duckdb(), lambda lazy: len(lazy.fetchall())),
    "lsdb": (lambda table: table.lsdb().query("flags >= 0"), lambda lazy: len(lazy.compute())),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", LAZY)
def test_what_is_lazy_keeps_its_snapshot_and_lets_go_of_it(
    filled: Lake, make_rows: MakeRows, put: Put, reader: str
) -> None:
    """Nothing but the lazy object itself is kept, as when all is written in one expression."""
    make, count = LAZY[reader]
    lazy, number = make(filled.open("sources")), filled.snapshot().number
    put(filled, ("sources", "c-3", make_rows("sources", 7, 99)))
    put(filled, ("sources", "c-4", make_rows("sources", 7, 98)))
    gc.collect()
    assert filled.vacuum(Retention(1, 0, 0)).n_in_use >= 1
    assert count(lazy) == 360
    del lazy
    gc.collect()
    assert number in filled.vacuum(Retention(1, 0, 0)).snapshots


def test_another_day_can_be_opened(filled: Lake) -> None:
    assert len(filled.open("sources", as_of=2)) == 40


def test_what_there_is_not_is_named(filled: Lake) -> None:
    with pytest.raises(UsageError, match="sources has no column 'colour'"):
        filled.open("sources").arrow(["colour"])
    with pytest.raises(LakeError, match="frames have no index of positions"):
        filled.open("frames").arrow(cone=(0.0, 0.0, 1.0))

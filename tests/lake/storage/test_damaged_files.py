"""A lake of which a file is lost or damaged gives no short answer and no doubled one: it names the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skylake.errors import LakeError, UsageError
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake, Snapshot
from skylake.lake.access.open_table import OpenTable
from skylake.schema.parquet import write_parquet
from skylake.settings import Settings

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]

READERS: dict[str, Callable[[OpenTable], Any]] = {
    "arrow": lambda table: table.arrow(),
    "cone": lambda table: table.arrow(cone=(0.0, 0.0, 9.0)),
    "dataset": lambda table: table.dataset(),
    "lazy_polars": lambda table: table.lazy_polars(),
    "dask": lambda table: table.dask(),
    "duckdb": lambda table: table.duckdb().fetchall(),
    "lsdb": lambda table: table.lsdb(),
}


@pytest.fixture(scope="module", params=["of a night", "merged"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, make_rows: MakeRows, put: Put
) -> Path:
    """A lake with eight nights, each with files of its own or all merged."""
    lake = Lake.create(tmp_path_factory.mktemp("made") / "lake", Settings(pixel_order=1))
    for night in range(1, 9):
        rows = make_rows("sources", 40, night, camera=["c"] * 40, night=[20240100 + night] * 40)
        put(lake, ("sources", f"c-{night}", rows), ("frames", f"c-{night}", make_rows("frames", 5, night)))
    if request.param == "merged":
        compact(lake, Inline())
    return lake.root


@pytest.fixture
def table(made: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path]) -> OpenTable:
    return Lake(copy_lake(made, tmp_path / "a lake")).open("sources")


def refusal(table: OpenTable, reader: str) -> str:
    """Return what a reader says that refuses, without the command that gives the repair."""
    with pytest.raises(LakeError) as caught:
        READERS[reader](table)
    said, told, _ = str(caught.value).partition(f"`skylake verify '{table.snapshot.layout.root}'`")
    assert told, "nothing gives the repair"
    return said


@pytest.mark.parametrize("reader", READERS)
def test_a_lost_file_is_named(table: OpenTable, reader: str) -> None:
    path = table.files[1]
    path.unlink()
    said = refusal(table, reader)
    assert said.startswith(f"{path}: ") and "the file is missing" in said


@pytest.mark.parametrize("reader", READERS)
def test_a_lost_pixel_is_named(table: OpenTable, reader: str) -> None:
    path = table.files[0]
    shutil.rmtree(path.parent)
    said = refusal(table, reader)
    assert said.startswith(f"{path}: ") and "the file is missing" in said


@pytest.mark.parametrize("reader", READERS)
def test_a_truncated_file_is_named(table: OpenTable, reader: str) -> None:
    path = table.files[1]
    path.write_bytes(path.read_bytes()[:-50])
    said = refusal(table, reader)
    assert said.startswith(f"{path}: ") and "the file " in said


@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("arrow", "cone")])
def test_a_file_too_many_is_named_by_whoever_would_read_it(table: OpenTable, reader: str) -> None:
    path = table.files[0].with_name("other.parquet")
    shutil.copy(table.files[0], path)
    said = refusal(table, reader)
    assert said.startswith(f"{path}: ") and "would count twice" in said


def test_a_file_too_many_adds_nothing_elsewhere(table: OpenTable) -> None:
    shutil.copy(table.files[0], table.files[0].with_name("other.parquet"))
    assert len(table.arrow()) == len(table.arrow(cone=(0.0, 0.0, 9.0))) == 320


def test_a_cone_shows_a_file_of_fewer_rows(table: OpenTable, make_rows: MakeRows) -> None:
    path = table.files[0]
    rows = table.dataset().schema.empty_table()
    write_parquet(rows, path)
    said = refusal(table, "cone")
    assert said.startswith(f"{path}: ") and "0 rows instead of " in said


@pytest.mark.parametrize("reader", ["arrow", "cone", "dataset"])
def test_a_lost_description_is_reported(table: OpenTable, reader: str) -> None:
    """Nobody would miss the files that it names."""
    folder = table.snapshot.folder("sources")
    next(folder.glob("_*/*.json")).unlink()
    said = refusal(table, reader)
    assert said.startswith(f"{folder / 'hats.properties'}: it lists 320 rows, and the descriptions of ")


def test_another_damaged_table_is_refused_by_duckdb_alone(table: OpenTable) -> None:
    path = table.snapshot.version("frames").whole_files()[0]
    path.unlink()
    assert len(table.arrow()) == 320
    said = refusal(table, "duckdb")
    assert said.startswith(f"{path}: ") and "the file is missing" in said
    with pytest.raises(LakeError, match=r"frames/.*: the file is missing"):
        table.snapshot.read("frames", ["camera"])


def test_an_error_of_the_question_is_no_damage(table: OpenTable) -> None:
    import pyarrow.compute as pc

    with pytest.raises(UsageError, match="cannot be applied"):
        table.arrow(filter=pc.field("night") == "some text")

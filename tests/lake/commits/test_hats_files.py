"""Coverage, margins and empty files from commit to commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.lake import Commit, Lake
from skylake.lake.maintenance.vacuum import Retention
from skylake.sky.hats import EMPTY_FILE
from skylake.sky.hats_coverage import COVERAGE_FILES, MOC_JSON, POINT_MAP, read_coverage

pytestmark = pytest.mark.full


def batch(night: int, count: int = 40) -> dict[str, Any]:
    return {"camera": ["c"] * count, "night": [night] * count}


def covered(lake: Lake) -> np.ndarray:
    cells = read_coverage(lake.snapshot().folder("sources"))
    assert cells is not None
    return cells


def inodes(lake: Lake) -> list[int]:
    return [(lake.snapshot().folder("sources") / name).stat().st_ino for name in COVERAGE_FILES]


def require_whole(lake: Lake) -> None:
    """Require what the checks of files say; the rows are of nothing."""
    checks = (
        "document_readable",
        "hats_valid",
        "file_expected",
        "file_present",
        "file_schema",
        "pixels_listed",
    )
    report = verify(open_facts(lake.root), Inline(), VerifyOptions(hats=True, only=checks))
    assert report.failed == []


def test_coverage_grows_with_the_sky_and_shrinks_when_all_is_merged(
    lake: Lake, make_rows: Any, put: Any
) -> None:
    first, second = make_rows("sources", 40, 1, **batch(1)), make_rows("sources", 40, 2, **batch(2))
    assert not covered(lake).any()
    put(lake, ("sources", "c-1", first))
    one, files = covered(lake), inodes(lake)
    put(
        lake,
        (
            "sources",
            "c-3",
            first.set_column(first.schema.get_field_index("night"), "night", pa.array([3] * 40, pa.int32())),
        ),
    )
    assert inodes(lake) == files, "no new sky, and new files"
    put(lake, ("sources", "c-2", second))
    both = covered(lake)
    assert (both & one).sum() == one.sum() and both.sum() > one.sum()
    commit = Commit("forget", "-")
    commit.remove("sources", "c-2")
    lake.commit(commit)
    assert np.array_equal(covered(lake), both), "readers may not miss a row while maps are linked"
    compact(lake, Inline(), everything=True)
    assert np.array_equal(covered(lake), one)
    require_whole(lake)


def test_a_lake_without_these_files_gets_them_with_the_next_commit(
    lake: Lake, make_rows: Any, put: Any
) -> None:
    put(lake, ("sources", "c-1", make_rows("sources", 40, 1, **batch(1))))
    before = covered(lake)
    for name in COVERAGE_FILES:
        (lake.snapshot().folder("sources") / name).unlink()
    for path in lake.root.glob("_versions/*/*/dataset/" + EMPTY_FILE):
        path.unlink()
    shutil.rmtree(lake.root / "_margins")
    require_whole(lake)
    assert lake.snapshot().collection("sources") is None
    assert lake.open("sources").lsdb().margin is None
    put(lake, ("sources", "c-2", make_rows("sources", 40, 2, **batch(2))))
    assert (covered(lake) & before).sum() == before.sum()
    assert lake.snapshot().collection("sources") is not None
    require_whole(lake)


def test_an_empty_table_has_a_file_and_one_with_rows_has_none(lake: Lake, make_rows: Any, put: Any) -> None:
    place = lake.snapshot().folder("sources") / "dataset" / EMPTY_FILE
    assert pq.read_table(place).num_rows == 0
    put(lake, ("sources", "c-1", make_rows("sources", 40, 1, **batch(1))))
    assert not (lake.snapshot().folder("sources") / "dataset" / EMPTY_FILE).exists()
    commit = Commit("forget", "-")
    commit.remove("sources", "c-1")
    lake.commit(commit)
    assert (lake.snapshot().folder("sources") / "dataset" / EMPTY_FILE).is_file()
    assert not covered(lake).any()
    require_whole(lake)


def test_vacuum_and_rollback_carry_margins_along(lake: Lake, make_rows: Any, put: Any) -> None:
    number = put(lake, ("sources", "c-1", make_rows("sources", 40, 1, **batch(1)))).number
    margin = lake.snapshot().collection("sources")
    put(lake, ("sources", "c-2", make_rows("sources", 40, 2, **batch(2))))
    lake.rollback(number)
    assert lake.snapshot().collection("sources") == margin
    lake.vacuum(Retention(1, 0, 0))
    kept = {path.name for path in (lake.root / "_margins" / "sources").iterdir()}
    assert kept == {path.name for path in lake.layout.versions("sources").iterdir()}
    assert margin is not None and margin.name in kept
    require_whole(lake)


@pytest.mark.xdist_group("lsdb")
def test_all_columns_of_a_compacted_table_are_read_with_its_margin(
    lake: Lake, make_rows: Any, put: Any
) -> None:
    import lsdb

    def margin_files(name: str) -> list[int]:
        collection = lake.snapshot().collection("sources")
        assert collection is not None
        return sorted(path.stat().st_ino for path in collection.glob(f"*/dataset/*/*/*/{name}.parquet"))

    def require_columns() -> None:
        catalog = lsdb.open_catalog(lake.snapshot().collection("sources"), columns="all")
        assert list(catalog.columns) == list(catalog.margin.columns)
        assert len(catalog.margin.compute(progress_bar=False)) > 0

    rows = make_rows("sources", 400, 1, **batch(1, 400))
    place = rows.schema.get_field_index("more_apertures")
    field = rows.schema.field(place)
    rows = rows.set_column(place, field, pa.nulls(rows.num_rows, field.type))
    put(lake, ("sources", "c-1", rows))
    require_columns()
    compact(lake, Inline(), everything=True)
    require_columns()
    files = margin_files("*")
    put(lake, ("sources", "c-2", make_rows("sources", 40, 2, **batch(2))))
    assert len(files) and set(files) <= set(margin_files("*")), "the margin is made anew"


def damage_map(folder: Path, _: Path) -> None:
    (folder / MOC_JSON).unlink()
    (folder / MOC_JSON).write_text("{}")


def lose_map(folder: Path, _: Path) -> None:
    (folder / POINT_MAP).unlink()


def fill_empty_file(folder: Path, _: Path) -> None:
    shutil.copy(next(folder.glob("dataset/*/*/*/*.parquet")), folder / "dataset" / EMPTY_FILE)


def lose_margin_file(_: Path, margin: Path) -> None:
    next(margin.glob("*/dataset/*/*/*/*.parquet")).unlink()


@pytest.mark.parametrize("damage", [damage_map, lose_map, fill_empty_file, lose_margin_file])
def test_verify_names_what_is_damaged_and_its_repair(
    damage: Any, lake: Lake, make_rows: Any, put: Any
) -> None:
    put(lake, ("sources", "c-1", make_rows("sources", 300, 1, **batch(1, 300))))
    folder, margin = lake.snapshot().folder("sources"), lake.snapshot().collection("sources")
    damage(folder, margin)
    report = verify(open_facts(lake.root), Inline(), VerifyOptions())
    assert "document_readable" in report.failed
    found = next(check for check in report.checks if check["name"] == "document_readable")["findings"]
    assert len(found) == 1
    subprocess.run(found[0]["repair"], shell=True, check=True)
    require_whole(lake)
    put(lake, ("sources", "c-2", make_rows("sources", 40, 2, **batch(2))))
    require_whole(lake)
    assert lake.snapshot().collection("sources") is not None

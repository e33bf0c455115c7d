"""A table that a later skylake brings is empty in older lakes, for all readers, and can be filled."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skylake.errors import LakeError
from skylake.flow.execution.cluster import Inline
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.lake import Lake, publish_snapshot
from skylake.schema import table_names
from skylake.settings import Settings

TABLES = "skylake.schema.tables.TABLES"


@pytest.fixture(params=["matches", "lightcurves", "zeropoints"])
def younger(request: pytest.FixtureRequest) -> str:
    """A table that came later."""
    return str(request.param)


@pytest.fixture
def old(younger: str, tmp_path: Path, make_rows: Any, put: Any, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake made and filled by a skylake without that table, read by one that has it."""
    with monkeypatch.context() as patch:
        patch.setattr(TABLES, tuple(name for name in table_names() if name != younger))
        lake = Lake.create(tmp_path / "lake", Settings(pixel_order=1))
        put(lake, ("nights", "night-1", make_rows("nights", 3, 1)))
    assert younger not in {path.name for path in lake.root.iterdir()}
    return lake


def everything(lake: Lake, table: str, as_of: int | None = None) -> list[pa.Table]:
    """Read a table in every way."""
    opened, snapshot = lake.open(table, as_of), lake.snapshot(as_of)
    with snapshot.duckdb() as connection:
        found = [connection.sql(f"SELECT * FROM {table}").to_arrow_table()]
    found += [opened.arrow(), opened.polars().to_arrow(), pa.Table.from_pandas(opened.pandas())]
    found += [pa.Table.from_pandas(opened.dask().compute()), snapshot.merged(table)]
    return found


def problems(lake: Lake) -> list[str]:
    options = VerifyOptions(deep=True)
    report = verify(open_facts(lake.root, options), Inline(), options)
    return [check["name"] for check in report.checks if not check["passed"]]


def test_it_is_empty_in_the_old_lake(old: Lake, younger: str) -> None:
    rows = everything(old, younger)
    assert [one.num_rows for one in rows] == [0] * len(rows)
    assert {frozenset(one.column_names) - {"__index_level_0__"} for one in rows} == {
        frozenset(rows[1].column_names)
    }
    assert old.snapshot().n_rows(younger) == 0
    assert old.snapshot().parts(younger) == {}
    assert problems(old) == []


@pytest.mark.slow
def test_the_next_commit_adds_it(old: Lake, younger: str, make_rows: Any, put: Any) -> None:
    then = old.snapshot().number
    put(old, ("nights", "night-2", make_rows("nights", 2, 2)))
    assert (old.root / younger).resolve().is_dir()
    rows = make_rows(younger, 5, 3)
    put(old, (younger, "part-1", rows))
    assert [one.num_rows for one in everything(old, younger)] == [5] * 6
    assert [one.num_rows for one in everything(old, younger, then)] == [0] * 6
    assert "snapshot_whole" not in problems(old)
    assert "pointer" not in problems(old)


def test_a_rollback_to_before_empties_it(old: Lake, younger: str, make_rows: Any, put: Any) -> None:
    then = old.snapshot().number
    put(old, (younger, "part-1", make_rows(younger, 5, 3)))
    assert old.rollback(then).n_rows(younger) == 0
    assert problems(old) == []
    put(old, (younger, "part-1", make_rows(younger, 4, 4)))
    assert old.snapshot().n_rows(younger) == 4


def test_a_link_that_is_lost_is_not_taken_for_a_new_table(lake: Lake, make_rows: Any, put: Any) -> None:
    number = put(lake, ("nights", "night-1", make_rows("nights", 3, 1))).number
    (lake.layout.snapshot(number) / "nights").unlink()
    assert "snapshot_whole" in problems(lake)
    with pytest.raises(LakeError, match="has lost its table nights; `skylake verify`"):
        lake.snapshot().read("nights")


@pytest.mark.slow
def test_what_was_published_before_is_empty_too(
    old: Lake, younger: str, make_rows: Any, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Folders of tests that are over give their names to later ones.
    where = f"memory://{uuid.uuid4().hex}"
    with monkeypatch.context() as patch:
        patch.setattr(TABLES, tuple(name for name in table_names() if name != younger))
        publish_snapshot(old.snapshot(), where)
    assert [one.num_rows for one in everything(Lake(where), younger)] == [0] * 6
    publish_snapshot(old.snapshot(), where)
    assert [one.num_rows for one in everything(Lake(where), younger)] == [0] * 6
    put(old, (younger, "part-1", make_rows(younger, 5, 3)))
    publish_snapshot(old.snapshot(), where)
    assert [one.num_rows for one in everything(Lake(where), younger)] == [5] * 6

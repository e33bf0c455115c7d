"""The SQL that people run: questions of analysts, and checks that find what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from skylake.lake import Lake
from skylake.resources import folder as declarations

TABLES = ("frames", "sources", "matches", "zeropoints", "nights", "lightcurves")
#: For each check a damage that it must find.
DAMAGE = {
    "frame_once": "INSERT INTO frames FROM frames LIMIT 1",
    "frame_status": "UPDATE frames SET reason = 'trailed' WHERE status = 'ok'",
    "lightcurve_point_once": "UPDATE lightcurves SET lightcurve = struct_update(lightcurve, frame_id := "
    "list_concat(lightcurve.frame_id, lightcurve.frame_id))",
    "lightcurve_once": "UPDATE lightcurves SET n_points = n_points + 1",
    "match_of_source": "DELETE FROM sources WHERE source_no = 7",
    "match_one_to_one": "UPDATE matches SET ref_id = 1",
    "nights_counted": "DELETE FROM frames WHERE frame_id = (SELECT min(frame_id) FROM frames)",
    "source_in_range": "UPDATE sources SET mjd_mid = mjd_mid + 1e-6 WHERE source_no = 7",
    "source_of_frame": "DELETE FROM frames WHERE status = 'ok'",
    "source_once": "INSERT INTO sources FROM sources LIMIT 1",
    "sources_counted": "DELETE FROM sources WHERE source_no = 7",
    "zeropoint_of_frame": "DELETE FROM frames WHERE status = 'ok'",
    "zeropoint_once": "INSERT INTO zeropoints FROM zeropoints LIMIT 1",
}

pytestmark = pytest.mark.xdist_group("docs")


@pytest.fixture
def copy(demo_folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables of a lake, in memory, to be damaged."""
    with Lake(demo_folder / "demo" / "lake").snapshot().duckdb() as lake, duckdb.connect() as connection:
        for name in TABLES:
            rows = lake.table(name).to_arrow_table()
            connection.execute(f"CREATE TABLE {name} AS FROM rows")
            assert len(rows) > 0
        yield connection


def check(name: str) -> str:
    return (declarations("sql") / "checks" / f"{name}.sql").read_text(encoding="utf-8")


def test_every_check_has_its_damage() -> None:
    assert {path.stem for path in (declarations("sql") / "checks").glob("*.sql")} == set(DAMAGE)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_check_passes_a_whole_lake_and_finds_a_damage(name: str, copy: duckdb.DuckDBPyConnection) -> None:
    assert copy.execute(check(name)).fetchall() == []
    copy.execute(DAMAGE[name])
    assert copy.execute(check(name)).fetchall() != []


def test_the_questions_of_analysts_have_answers(demo_folder: Path) -> None:
    text = (declarations("sql") / "duckdb" / "questions.sql").read_text(encoding="utf-8")
    questions = [question for question in text.split(";") if "SELECT" in question]
    assert len(questions) == 13
    with Lake(demo_folder / "demo" / "lake").snapshot().duckdb() as connection:
        answers = [connection.execute(question).fetchall() for question in questions]
    assert sum(bool(answer) for answer in answers) >= 10

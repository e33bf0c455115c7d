from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from skylake.lake import Lake

Run = Callable[..., Any]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_query_answers_from_the_tables_views_and_catalogs(lake: Path, well: Run) -> None:
    query = """
        SELECT (SELECT count(*) FROM frames) AS frames, (SELECT count(*) FROM sources) AS sources,
               (SELECT count(*) FROM calibrated_matches) AS matches, (SELECT count(*) FROM catalogs.simcat) AS stars
    """
    [row] = well("sql", lake, query, "--format", "json").json
    tables = well("status", lake, "--json").json["tables"]
    assert (row["frames"], row["sources"], row["matches"]) == (8, tables["sources"], tables["matches"])
    assert row["stars"] == well("catalog", "list", lake, "--json").json[0]["stars"]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a b.csv", lambda path: pc.read_csv(path).to_pylist()),
        ("it's.parquet", lambda path: pq.read_table(path).to_pylist()),
        ("deep/er/x.ecsv", lambda path: [dict(row) for row in Table.read(path, format="ascii.ecsv")]),
        ("x.fits", lambda path: [dict(row) for row in Table.read(path)]),
        ("x.vot", lambda path: [dict(row) for row in Table.read(path, format="votable")]),
        ("x.json", lambda path: json.loads(path.read_text())),
    ],
)
def test_every_format_of_a_file_holds_what_the_table_holds(
    name: str, read: Run, lake: Path, tmp_path: Path, well: Run
) -> None:
    query = "SELECT frame_id, mjd_mid, night, sky_adu FROM frames ORDER BY mjd_mid"
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    answer = well("sql", lake, query, "-o", tmp_path / name)
    assert (answer.out, answer.err) == ("", f"wrote 8 rows to {tmp_path / name}\n")
    frames = Lake(lake).snapshot().read("frames").sort_by("mjd_mid").to_pylist()
    for row, frame in zip(read(tmp_path / name), frames, strict=True):
        assert int(row["frame_id"]) == frame["frame_id"]
        assert float(row["mjd_mid"]) == frame["mjd_mid"]
        assert int(row["night"]) == frame["night"]
        assert np.float32(row["sky_adu"]) == np.float32(frame["sky_adu"])


def test_the_format_can_be_told_apart_from_the_suffix(lake: Path, tmp_path: Path, well: Run) -> None:
    out = tmp_path / "answer.txt"
    well("sql", lake, "SELECT 1 AS a", "--format", "csv", "-o", out)
    assert rows_of(out.read_text()) == [{"a": "1"}]


def test_a_table_shows_times_to_the_second_and_single_precision_as_it_is_meant(lake: Path, well: Run) -> None:
    query = "SELECT mjd_mid, 0.1::FLOAT AS x, NULL AS none, 'two words' AS text FROM frames LIMIT 1"
    header, line, row = well("sql", lake, query).out.splitlines()
    assert header.split() == ["mjd_mid", "x", "none", "text"]
    assert set(line) == {"-", " "}
    time, x, text = row.split(maxsplit=2)
    [exact] = well("sql", lake, query, "--format", "json").json
    assert float(time) == pytest.approx(exact["mjd_mid"], abs=1e-5, rel=0)
    assert (x, text) == ("0.1", "two words")


def test_json_knows_no_nan_but_dates_lists_and_null(lake: Path, well: Run) -> None:
    query = """SELECT 'nan'::DOUBLE AS a, 'inf'::FLOAT AS b, NULL AS c, DATE '2024-10-01' AS d,
               [1.5, 'nan'::DOUBLE] AS e, true AS f, {'x': 0.1::FLOAT} AS g, 'ü"' AS h"""
    [row] = well("sql", lake, query, "--format", "json").json
    assert row["g"]["x"] == pytest.approx(0.1)
    del row["g"]
    assert row == {
        "a": None, "b": None, "c": None, "d": "2024-10-01", "e": [1.5, None], "f": True, "h": 'ü"',
    }  # fmt: skip


@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_an_answer_without_rows_is_an_answer(form: str, lake: Path, well: Run) -> None:
    out = well("sql", lake, "SELECT night, status FROM frames WHERE false", "--format", form).out
    assert (
        out.strip()
        == {"json": "[]", "csv": '"night","status"', "table": "night  status\n-----  ------"}[form]
    )


def test_an_answer_without_rows_is_written(lake: Path, tmp_path: Path, well: Run) -> None:
    for name in ("none.parquet", "none.fits", "none.csv"):
        well("sql", lake, "SELECT night, status FROM frames WHERE false", "-o", tmp_path / name)
        assert (tmp_path / name).is_file()
    assert pq.read_table(tmp_path / "none.parquet").column_names == ["night", "status"]


@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_names_that_occur_again_are_numbered_and_nothing_is_lost(form: str, lake: Path, well: Run) -> None:
    query = (
        "SELECT n.night, f.night, 5 AS night_1 FROM nights n JOIN frames f USING (night) ORDER BY ALL LIMIT 1"
    )
    out = well("sql", lake, query, "--format", form)
    if form == "json":
        assert out.json == [{"night": 20241001, "night_1": 20241001, "night_1_1": 5}]
    elif form == "csv":
        assert rows_of(out.out) == [{"night": "20241001", "night_1": "20241001", "night_1_1": "5"}]
    else:
        assert [line.split() for line in out.out.splitlines()[::2]] == [
            ["night", "night_1", "night_1_1"], ["20241001", "20241001", "5"],
        ]  # fmt: skip


def test_a_query_can_stand_in_a_file_and_answer_nothing(lake: Path, tmp_path: Path, well: Run) -> None:
    file = tmp_path / "my query.sql"
    file.write_text("-- how many\nSELECT count(*) AS n FROM frames;\n")
    assert well("sql", lake, f"@{file}", "--format", "json").json == [{"n": 8}]
    for silent in ("SET threads = 1", "CREATE TEMP TABLE mine (x INTEGER)", "/* nothing but a comment */"):
        assert well("sql", lake, silent).out == ""


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", 'the query failed: Parser Error: syntax error at or near "SELEC"'),
        ("SELECT * FROM framse", "Table with name framse does not exist"),
        ("SELECT nihgt FROM frames", 'Referenced column "nihgt" not found'),
        ("SELECT 'x'::INTEGER", "the query failed: Conversion Error"),
        ("SELECT * FROM catalogs.none", "the query failed: Catalog Error"),
        ("  \n", 'the query is empty; write one, as in "SELECT count(*) FROM frames"'),
        ("@/none/query.sql", "/none/query.sql: the query cannot be read (No such file or directory)"),
        ("@/", "/: the query cannot be read (Is a directory)"),
    ],
)
def test_a_broken_query_is_one_sentence(query: str, words: str, lake: Path, skylake_command: Run) -> None:
    answer = skylake_command("sql", lake, query)
    assert answer.status == 2
    assert words in answer.sentence


def test_a_file_that_is_no_text_is_no_query(lake: Path, sky: Path, skylake_command: Run) -> None:
    answer = skylake_command("sql", lake, f"@{sky}/catalog.parquet")
    assert answer.status == 2
    assert f"{sky}/catalog.parquet: the query cannot be read (it is no UTF-8 text)" in answer.sentence


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["-o", "answer.txt"], 2, "answer.txt: the suffix tells no format; use .csv, .json, .parquet"),
        (["-o", "answer"], 2, "answer: the suffix tells no format"),
        (["--format", "fits"], 2, "fits goes to a file; name one with -o"),
        (["--format", "table", "-o", "a.csv"], 2, "the format 'table' is for the screen"),
        (["--format", "excel"], 2, "'excel' is not one of 'table', 'csv', 'json', 'parquet'"),
        (["-o", "file/x.csv"], 3, "file/x.csv: cannot be written"),
        (["-o", "folder.csv"], 3, "folder.csv: cannot be written (Is a directory); name another file"),
        (["-o", "folder.parquet"], 3, "folder.parquet: cannot be written"),
        (["-o", "folder.fits"], 3, "folder.fits: cannot be written"),
    ],
)
def test_an_answer_that_cannot_be_written_is_one_sentence(
    options: list[str], status: int, words: str, lake: Path, tmp_path: Path, skylake_command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for suffix in ("csv", "parquet", "fits"):
        (tmp_path / f"folder.{suffix}").mkdir()
    answer = skylake_command("sql", lake, "SELECT 1 AS a", *options)
    assert answer.status == status
    assert words in answer.sentence

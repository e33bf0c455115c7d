from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse_single_table
from astropy.table import Table

from skylake.lake import Lake
from skylake.schema import load

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


@pytest.mark.parametrize("name", ["nights", "frames", "zeropoints", "calibrated_frames"])
def test_a_votable_says_what_the_columns_of_the_table_mean(
    name: str, lake: Path, tmp_path: Path, well: Run
) -> None:
    well("sql", lake, f"SELECT * FROM {name} AS t WHERE camera = 'small'", "-o", tmp_path / "x.vot")
    fields = {field.name: field for field in parse_single_table(tmp_path / "x.vot").fields}
    for column in load("frames" if name == "calibrated_frames" else name).columns:
        field = fields[column.name]
        assert (" ".join(field.description.split()), field.ucd) == (column.description, column.ucd)
        assert bool(field.unit) == bool(column.unit and column.unit != "electron" and column.unit != "deg_C")
    if name == "calibrated_frames":
        assert " ".join(fields["zp"].description.split()) == load("zeropoints")["zp"].description


def test_the_meaning_of_a_column_is_left_out_where_the_tables_of_a_query_differ(
    lake: Path, tmp_path: Path, well: Run
) -> None:
    query = "WITH bright AS (SELECT * FROM sources) SELECT s.night, n_detected, s.ra_deg FROM bright s JOIN frames"
    well("sql", lake, f"{query} USING (frame_id)", "-o", tmp_path / "x.vot")
    night, detected, ra = parse_single_table(tmp_path / "x.vot").fields
    assert (night.description, night.ucd) == (None, "time.epoch;obs")
    assert detected.description.strip() == load("frames")["n_detected"].description
    assert (ra.description, ra.unit, ra.ucd) == (None, "deg", "pos.eq.ra;meta.main")


def test_the_format_can_be_distinguished_from_the_suffix(lake: Path, tmp_path: Path, well: Run) -> None:
    out = tmp_path / "answer.txt"
    well("sql", lake, "SELECT 1 AS a", "--format", "csv", "-o", out)
    assert rows_of(out.read_text()) == [{"a": "1"}]


def test_a_table_shows_seconds_and_short_single_precision(lake: Path, well: Run) -> None:
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
def test_repeated_names_are_numbered_and_nothing_is_lost(form: str, lake: Path, well: Run) -> None:
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
    for silent in (
        "SET VARIABLE mine = 1",
        "CREATE TEMP TABLE mine (x INTEGER)",
        "/* nothing but a comment */",
    ):
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
        (["-o", "answer.txt"], 2, "answer.txt: the suffix names no format; use .csv, .json, .parquet"),
        (["-o", "answer"], 2, "answer: the suffix names no format"),
        (["--format", "fits"], 2, "fits goes to a file; name one with -o"),
        (["--format", "table", "-o", "a.csv"], 2, "the format 'table' is for the screen"),
        (["--format", "excel"], 2, "'excel' is not one of 'table', 'csv', 'json', 'parquet'"),
        (["-o", "file/x.csv"], 3, "file/x.csv: cannot be written"),
        (["-o", "folder.csv"], 2, "folder.csv: this is a folder; name a file in it"),
    ],
)
def test_an_answer_that_cannot_be_written_is_one_sentence(
    options: list[str], status: int, words: str, lake: Path, tmp_path: Path, skylake_command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    answer = skylake_command("sql", lake, "SELECT 1 AS a", *options)
    assert answer.status == status
    assert words in answer.sentence


#: Statements that reach out of the lake, or write; FILE is a committed part, FOLDER its version, LAKE the lake.
ATTACKS = (
    "COPY (SELECT 1) TO 'FILE'",
    "COPY (SELECT 1) TO 'FILE' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY frames TO 'FOLDER/dataset/more.parquet'",
    "COPY (PIVOT frames ON night USING count(*)) TO 'FOLDER/x.csv'",
    "COPY frames FROM 'FILE'",
    "SELECT 1; COPY (SELECT 1) TO 'FILE'",
    "WITH x AS (COPY (SELECT 1) TO 'FILE') FROM x",
    "WITH x AS (/* */ CoPy (SELECT 1) TO 'FOLDER/x.csv' (USE_TMP_FILE false)) SELECT 1",
    "CREATE TABLE t AS WITH x AS (COPY (SELECT 1) TO 'FOLDER/x.csv') FROM x",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'FOLDER/x.csv'",
    "EXPLAIN (ANALYZE) WITH x AS (COPY (SELECT 1) TO 'FOLDER/x.csv') FROM x",
    "FROM query('WITH x AS (CO' || 'PY (SELECT 1) TO ''FOLDER/x.csv'') FROM x')",
    "PREPARE p AS COPY (SELECT 1) TO 'FOLDER/x.csv'; EXECUTE p",
    "EXPORT DATABASE 'FOLDER/export'",
    "IMPORT DATABASE 'FOLDER'",
    "ATTACH 'FOLDER/new.db'",
    "ATTACH 'FILE' AS f",
    "USE memory",
    "INSERT INTO frames SELECT * FROM frames",
    "DELETE FROM frames",
    "DROP VIEW frames",
    "CREATE OR REPLACE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')",
    "CREATE SECRET (TYPE http)",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_text('LAKE/skylake.toml')",
    "SELECT * FROM read_text('FOLDER/../../../skylake.toml')",
    "SELECT * FROM read_blob('LAKE/_newest')",
    "FROM 'LAKE/../catalog.parquet'",
    "FROM glob('/etc/*')",
    "FROM glob('LAKE/*')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM parquet_metadata('LAKE/../catalog.parquet')",
    "CREATE VIEW v AS FROM read_text('/etc/passwd')",
    "CREATE MACRO m(f) AS TABLE FROM read_text(f); FROM m('/etc/passwd')",
    "FROM query('FROM read_text(''/etc/passwd'')')",
    "FROM 'https://example.org/x.csv'",
    "FROM 's3://bucket/x.parquet'",
    "SELECT getenv('HOME')",
    "FROM query_of_python",
    "INSTALL httpfs",
    "FORCE INSTALL spatial FROM community",
    "LOAD httpfs",
    "LOAD 'FOLDER/x.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET temp_directory = '/tmp'",
    "RESET lock_configuration",
    "PRAGMA enable_profiling = 'json'",
    "CALL enable_logging(storage_path := 'FOLDER/log')",
    "FROM enable_logging(storage_path := 'FOLDER/log')",
    "FROM enable_profiling(save_location := 'FOLDER/x.json')",
    "SELECT * FROM sql_auto_complete('SEL')",
    "CHECKPOINT",
    "VACUUM",
)


def tree(root: Path) -> dict[str, tuple[int, int]]:
    found = sorted(path for path in root.rglob("*") if not path.is_symlink())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.mark.slow
@pytest.mark.parametrize("query", ATTACKS)
def test_a_query_only_reads_and_only_the_lake(
    query: str, lake: Path, tmp_path_factory: pytest.TempPathFactory, skylake_command: Run
) -> None:
    query_of_python = {"a": [1]}  # DuckDB would look for such names in the frames of Python
    copy = tmp_path_factory.getbasetemp() / "attacked" / "lake"
    if not copy.is_dir():
        copy.parent.mkdir()
        subprocess.run(["cp", "-a", str(lake), str(copy)], check=True)
        pq.write_table(pa.table(query_of_python), copy.parent / "catalog.parquet")
    version = Lake(copy).snapshot().folder("frames")
    file = next(version.glob("dataset/*.parquet"))
    before = tree(copy.parent)
    query = query.replace("FILE'", f"{file}'").replace("FOLDER", str(version)).replace("LAKE", str(copy))
    answer = skylake_command("sql", copy, query)
    assert answer.status == 2, answer
    assert "`skylake sql` only reads" in answer.sentence or "the query failed: " in answer.sentence
    assert "--unsafe" in answer.sentence or "Permission Error" not in answer.sentence
    assert tree(copy.parent) == before


def test_what_a_reader_asks_is_answered(lake: Path, well: Run) -> None:
    for query in (
        "SHOW TABLES", "DESCRIBE frames", "SUMMARIZE SELECT night FROM frames", "EXPLAIN SELECT 1", "FROM ledger",
        "EXPLAIN ANALYZE SELECT count(*) FROM frames", "FROM parts", "FROM configurations", "VALUES (1)", "(SELECT 1)",
        "PIVOT (SELECT night, status FROM frames) ON night USING count(*)", "SELECT 'copy' AS copied",
        "WITH n AS (SELECT night FROM frames) FROM n", "FROM query('SELECT 1')", "FROM pragma_table_info('frames')",
    ):  # fmt: skip
        assert well("sql", lake, query).out, query


def test_named_files_are_read_and_unsafe_opens_everything(
    lake: Path, tmp_path: Path, well: Run, skylake_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("it's.csv", "other.csv"):
        (tmp_path / name).write_text("night\n20241001\n")
    (tmp_path / "link.csv").symlink_to("other.csv")
    query = "SELECT count(*) AS n FROM frames JOIN 'it''s.csv' USING (night)"
    refused = skylake_command("sql", lake, query)
    assert refused.status == 2
    assert "name a file to read with --file" in refused.sentence
    n = well("sql", lake, query, "--unsafe", "--format", "json").json
    assert well("sql", lake, query, "--file", "it's.csv", "--format", "json").json == n
    both = "SELECT count(*) AS n FROM 'link.csv' JOIN 'it''s.csv' USING (night)"
    options = ("--file", tmp_path / "it's.csv", "--file", "link.csv", "--format", "json")
    assert well("sql", lake, both, *options).json == [{"n": 1}]
    assert skylake_command("sql", lake, "FROM 'other.csv'", *options[:2]).status == 2
    well("sql", lake, "COPY (SELECT 1 AS a) TO 'new.csv'; SET threads = 1", "--unsafe")
    assert (tmp_path / "new.csv").read_text() == "a\n1\n"


def test_each_result_is_printed(lake: Path, tmp_path: Path, well: Run, skylake_command: Run) -> None:
    script = "SELECT 1 AS a; CREATE TEMP TABLE t AS SELECT 2 AS b; FROM t; SELECT 3 AS c WHERE false; SET VARIABLE x=1"
    assert well("sql", lake, script).out == "a\n-\n1\n\nb\n-\n2\n\nc\n-\n"
    for options in (("--format", "csv"), ("--format", "json"), ("-o", tmp_path / "x.parquet")):
        answer = skylake_command("sql", lake, script, *options)
        assert answer.status == 2
        assert (
            "the query has 3 results, and a file or a format other than 'table' holds one" in answer.sentence
        )
    assert not (tmp_path / "x.parquet").exists()
    one = "CREATE TEMP TABLE t AS SELECT 2 AS b; FROM t"
    assert well("sql", lake, one, "--format", "json").json == [{"b": 2}]

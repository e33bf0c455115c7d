"""Aggregates of users: a file each, whose table is one of the lake like any other, also where the file is not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from skylake.core.batch import Batch
from skylake.errors import ConfigurationError, LakeError, UsageError
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.aggregates.users import user_aggregates
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline, workers
from skylake.flow.maintenance.forget_frames import find, forget
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.lake import Lake
from skylake.lake.maintenance.vacuum import Retention
from skylake.schema import load
from skylake.settings import user_file

pytestmark = pytest.mark.xdist_group("lsdb")

WIDTHS = """\
-- name: widths
-- key: camera, night, band
-- granularity: batch
SELECT band, count(*) AS n, max(fwhm_px) AS widest FROM frames WHERE status = 'ok' GROUP BY band
"""
TOTALS = """\
-- name: totals
-- key: camera, band
-- granularity: camera and season
-- merge: n count, widest max, first min, flux sum
SELECT f.band, count(*) AS n, max(f.fwhm_px) AS widest, min(s.mjd_mid) AS first, sum(s.flux_aper2) AS flux
FROM frames AS f JOIN sources AS s USING (frame_id) GROUP BY f.band
"""
STARS = """\
-- name: stars
-- key: catalog, ref_id
-- granularity: object
-- merge: n count, faintest max
SELECT catalog, ref_id, any_value(_healpix_29) AS _healpix_29, any_value(ra_deg) AS ra_deg,
    any_value(dec_deg) AS dec_deg, count(*) AS n, max(ref_mag) AS faintest
FROM matches GROUP BY ALL
"""
PYTHON = """\
import pyarrow as pa
import pyarrow.compute as pc

from skylake.table.aggregate import Aggregate, Granularity, Input, merged_by


def partial(given):
    sky = given["frames"]["sky_adu"]
    sums = {"n": [len(sky) - sky.null_count], "sky": [pc.sum(sky).as_py()]}
    kinds = pa.schema({"camera": pa.string(), "night": pa.int32(), "n": pa.int64(), "sky": pa.float64()})
    return pa.table({"camera": [given.camera], "night": [given.night]} | sums, schema=kinds)


def finish(rows):
    return rows.append_column("mean", pc.divide(rows["sky"], rows["n"]))


AGGREGATE = Aggregate(
    name="skies",
    inputs=(Input("frames", ("sky_adu",)),),
    key=("camera", "night"),
    granularity=Granularity.BATCH,
    partial=partial,
    merge=merged_by(("camera", "night"), {"n": "sum", "sky": "sum"}),
    finish=finish,
)
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own aggregates."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = user_file().parent / "aggregates"
    folder.mkdir(parents=True)
    return folder


def put(folder: Path, *texts: str) -> None:
    for number, text in enumerate(texts):
        (folder / f"{number}.{'py' if 'import' in text else 'sql'}").write_text(text)


def table(lake: Lake, query: str) -> pd.DataFrame:
    with lake.snapshot().duckdb() as connection:
        return connection.execute(query).df()


def require_whole(lake: Lake) -> None:
    options = VerifyOptions(deep=True)
    assert verify(open_facts(lake.root, options), Inline(), options).failed == []


def test_tables_of_a_user_say_what_their_queries_say(calibrated: Lake, own: Path) -> None:
    put(own, WIDTHS, TOTALS, STARS, PYTHON)
    report = aggregate(calibrated, [], Inline())
    assert {name: report.refreshed[name] for name in ("widths", "totals", "stars", "skies")} == {
        "widths": 2, "totals": 2, "stars": 2, "skies": 2,
    }  # fmt: skip
    query = (
        "SELECT camera, night, band, count(*) AS n, max(fwhm_px) AS widest FROM frames WHERE status = 'ok'"
    )
    expected = table(calibrated, f"{query} GROUP BY ALL ORDER BY night")
    found = table(calibrated, "SELECT * FROM widths ORDER BY night")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    expected = table(calibrated, "SELECT 'small' AS camera, " + TOTALS.partition("SELECT ")[2])
    found = table(calibrated, "SELECT * FROM totals")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-6)
    assert len(table(calibrated, "FROM blocks.totals")) == 2
    expected = table(calibrated, "SELECT ref_id, count(*) AS n FROM matches GROUP BY ALL ORDER BY ref_id")
    found = table(calibrated, "SELECT ref_id, n FROM stars ORDER BY ref_id")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert calibrated.open("stars").pandas(["ref_id", "n"])["n"].sum() == expected["n"].sum()
    assert calibrated.snapshot().cone("stars", 0.0, -24.6, 0.1).num_rows > 10
    expected = table(calibrated, "SELECT night, avg(sky_adu) AS mean FROM frames GROUP BY ALL ORDER BY night")
    found = table(calibrated, "SELECT night, mean FROM skies ORDER BY night")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
    require_whole(calibrated)
    assert not any(state.why for state in outdated(calibrated).values())
    assert not any(aggregate(calibrated, [], Inline()).refreshed.values())


@pytest.mark.slow
def test_workers_make_and_compact_them(calibrated: Lake, own: Path) -> None:
    put(own, TOTALS, PYTHON)
    with workers("local", 1) as pool:
        aggregate(calibrated, ["totals", "skies"], pool)
        before = table(calibrated, "FROM totals")
        report = compact(calibrated, pool, ["totals"], everything=True)
    assert report.tables["totals"]["files_after"] == 1
    pd.testing.assert_frame_equal(table(calibrated, "FROM totals"), before)
    require_whole(calibrated)


@pytest.mark.slow
def test_a_lake_is_whole_where_the_file_is_absent(
    calibrated: Lake, own: Path, digests: Callable[[Path], dict[str, str]]
) -> None:
    put(own, TOTALS)
    before = calibrated.snapshot().number
    aggregate(calibrated, [], Inline())
    made = table(calibrated, "FROM totals")
    shutil.rmtree(own)
    lake, bytes_before = Lake(calibrated.root), digests(calibrated.root)
    report = aggregate(lake, [], Inline())
    assert report.left == ["totals stays as it is: no file of yours says how it is made"]
    assert digests(lake.root) == bytes_before
    pd.testing.assert_frame_equal(table(lake, "FROM totals"), made)
    assert "totals" not in outdated(lake)
    require_whole(lake)
    assert lake.snapshot().tables[-1] == "totals"
    assert "totals" not in lake.snapshot(before).tables
    part = next(iter(lake.snapshot().parts("frames").values()))
    forget(lake, find(lake.snapshot(), [], [Batch(part.camera or "", part.night or 0)]), Inline())
    assert table(lake, "SELECT sum(n) AS n FROM totals")["n"][0] < made["n"].sum()
    lake.vacuum(Retention(1, 0, 0))
    require_whole(lake)
    with pytest.raises(UsageError, match="there is no aggregate 'others'"):
        aggregate(lake, ["others"], Inline())
    assert aggregate(lake, ["totals"], Inline()).left


@pytest.mark.slow
def test_a_rollback_takes_the_table_away_and_brings_it_back(calibrated: Lake, own: Path) -> None:
    put(own, WIDTHS)
    before = calibrated.snapshot().number
    aggregate(calibrated, [], Inline())
    with_table = calibrated.snapshot().number
    calibrated.rollback(before)
    assert "widths" not in calibrated.snapshot().tables
    require_whole(calibrated)
    calibrated.rollback(with_table)
    assert calibrated.snapshot().n_rows("widths") == 2
    require_whole(calibrated)


@pytest.mark.slow
def test_another_query_makes_all_anew_under_another_schema(calibrated: Lake, own: Path) -> None:
    put(own, WIDTHS)
    aggregate(calibrated, [], Inline())
    then = calibrated.snapshot().number
    put(own, WIDTHS.replace("max(fwhm_px) AS widest", "min(fwhm_px) AS narrowest, 1 AS one"))
    assert len(outdated(calibrated)["widths"].why) == 2
    assert aggregate(calibrated, [], Inline()).refreshed["widths"] == 2
    assert list(table(calibrated, "FROM widths")) == ["camera", "night", "band", "n", "narrowest", "one"]
    with calibrated.snapshot(then).duckdb() as connection:
        assert list(connection.execute("FROM widths").df()) == ["camera", "night", "band", "n", "widest"]
    require_whole(calibrated)


def test_a_schema_beside_the_file_is_that_of_the_table(calibrated: Lake, own: Path) -> None:
    put(own, WIDTHS)
    (own / "0.yaml").write_text(
        """{name: widths, version: 1, description: Widest frames, primaryKey: [camera, night, band],
        layout: {kind: parquet, sort: [night, band], batch: [camera, night]}, columns: [
        {name: camera, datatype: string, nullable: false, description: Camera},
        {name: night, datatype: int, nullable: false, description: Night},
        {name: band, datatype: string, description: Band}, {name: n, datatype: int, description: Frames},
        {name: widest, datatype: double, ivoa:unit: pixel, description: Width}]}"""
    )
    aggregate(calibrated, ["widths"], Inline())
    assert calibrated.snapshot().schema("widths")["widest"].unit == "pixel"
    assert load("widths")["n"].datatype == "int"


def test_a_file_may_be_named(calibrated: Lake, tmp_path: Path) -> None:
    put(tmp_path, WIDTHS)
    assert aggregate(calibrated, ["widths"], Inline(), files=[tmp_path / "0.sql"]).refreshed == {"widths": 2}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT 1", "does not say its name"),
        (WIDTHS.replace("batch", "hour"), "the granularity 'hour' is not one of batch"),
        (WIDTHS.replace("FROM frames", "FROM nights"), "Table with name nights does not exist"),
        (WIDTHS.replace("widest FROM", "widest, list(band) AS bands FROM"), "which no table has; cast it"),
        (WIDTHS.replace("name: widths", "name: sources"), "the name 'sources' is taken"),
        (WIDTHS.replace("name: widths", "name: a-b"), "'a-b' is no name"),
        (TOTALS.replace("first min, ", ""), "nothing says how the column 'first' is"),
        (TOTALS.replace("first min", "first mean"), "'first mean' does not say how"),
        (STARS.replace("any_value(ra_deg) AS ra_deg,", ""), "gives a column 'ra_deg'"),
        (WIDTHS + "; SELECT 2", "one statement"),
        (WIDTHS.partition("SELECT")[0] + "COPY frames TO '/tmp/frames.csv'", "only reads"),
        (WIDTHS.replace("FROM frames", "FROM '/etc/passwd'"), "disabled|does not exist|not allowed|no table"),
        ("import nothing_of_this_name", "the file cannot be run"),
        ("import os", "there is no Aggregate of the name AGGREGATE"),
    ],
)
def test_a_file_that_is_no_aggregate_is_named(own: Path, text: str, why: str) -> None:
    put(own, text)
    found, (error,) = user_aggregates()
    assert not found
    assert re.search(why, str(error)) and str(own) in str(error)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (
            "pc.summ(sky).as_py()",
            r"line \d+ \(AttributeError: module 'pyarrow.compute' has no attribute 'summ'\)$",
        ),
        ("pc.sum(sly).as_py()", r"line \d+ \(NameError: name 'sly' is not defined\)$"),
        ("sky[0].as_py()", r"line \d+ \(IndexError: .*\); it was given tables without rows"),
    ],
)
def test_a_mistake_in_a_function_is_told_with_its_line(own: Path, broken: str, why: str) -> None:
    put(own, PYTHON.replace("pc.sum(sky).as_py()", broken))
    _, (error,) = user_aggregates()
    assert re.search(r"0\.py: partial of the aggregate fails in " + why, str(error))
    line = int(re.search(r"line (\d+)", str(error))[1])
    assert broken in (own / "0.py").read_text().splitlines()[line - 1]


def test_errors_of_the_users_code_name_its_file(calibrated: Lake, own: Path) -> None:
    number = calibrated.snapshot().number
    put(own, PYTHON.replace("pc.sum(sky).as_py()", "1.0 / (given.night == 0)"))
    with pytest.raises(
        ConfigurationError, match=r"0\.py: partial of the aggregate fails in line \d+ .ZeroDivisionError"
    ):
        aggregate(calibrated, ["skies"], Inline())
    put(own, WIDTHS.replace("max(fwhm_px)", "max(CAST(filter || 'x' AS INTEGER))"))
    (own / "0.py").unlink()
    with pytest.raises(ConfigurationError, match=r"0\.sql: the query fails for small 20241001"):
        aggregate(calibrated, ["widths"], Inline())
    assert calibrated.snapshot().number == number


def test_nothing_of_a_lake_is_run(calibrated: Lake, own: Path) -> None:
    """A schema that a lake keeps is data: with a name that is more than a word, the lake is refused."""
    put(own, WIDTHS)
    aggregate(calibrated, ["widths"], Inline())
    assert not [path for path in calibrated.root.rglob("*") if path.suffix in (".sql", ".py")]
    folder = calibrated.snapshot().folder("widths") / "dataset" / "_common_metadata"
    schema = pq.read_schema(folder)
    told = schema.metadata | {
        b"skylake.schema": schema.metadata[b"skylake.schema"].replace(b"widest", b"wide't")
    }
    folder.unlink()
    pq.write_metadata(schema.with_metadata(told), folder)
    with pytest.raises(
        LakeError, match=r"the lake has the table widths, which this skylake .* does not know"
    ):
        Lake(calibrated.root).snapshot()

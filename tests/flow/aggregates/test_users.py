"""Files of users: what they declare, what is refused, and that their tables say what their queries say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from skylake.cameras import Profile
from skylake.errors import ConfigurationError, LakeError, UsageError
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.aggregates.users import user_aggregates
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake
from skylake.schema import load
from skylake.settings import Settings, user_file

NIGHTS = (20240407, 20240408, 20240409)
CROWDING = """\
-- name: crowding
-- key: camera, band
-- granularity: camera and season
-- merge: n_frames count, n_stars sum, most max
SELECT band, count(*) AS n_frames, sum(n_detected) AS n_stars, max(n_detected) AS most
FROM frames WHERE status = 'ok' GROUP BY band
"""
DESCRIBED = """\
{name: crowding, version: 1, description: Stars of frames, primaryKey: [camera, band],
layout: {kind: parquet, sort: [band], batch: [camera, night]}, columns: [
{name: camera, datatype: string, nullable: false, description: Camera},
{name: night, datatype: int, nullable: false, description: Night},
{name: band, datatype: string, description: Band}, {name: n_frames, datatype: int, description: Frames},
{name: n_stars, datatype: long, description: Stars}, {name: most, datatype: int, ivoa:unit: ct, description: Most}]}
"""

PYTHON = """\
import pyarrow as pa

from skylake.table.aggregate import Aggregate, Granularity, Input, merged_by


def partial(given):
    return pa.table({"camera": [given.camera], "mean": [1.0]})


AGGREGATE = Aggregate("means", (Input("frames"),), ("camera",), Granularity.SEASON, partial, MERGE, lambda rows: rows)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own aggregates."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = user_file().parent / "aggregates"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def nights(tmp_path: Path, profile: Profile, make_rows: Callable[..., Any], put: Callable[..., Any]) -> Lake:
    """A lake of three nights of six frames in two bands."""
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=1))
    lake.keep_profile(profile)
    for night in NIGHTS:
        rows = {"camera": ["small"] * 6, "night": [night] * 6, "status": ["ok"] * 6, "band": ["V", "B"] * 3}
        frames = make_rows("frames", 6, night, **rows, s_region=[None] * 6)
        put(lake, ("frames", f"small-{night}", frames), camera="small", night=night)
    return lake


def table(lake: Lake, query: str) -> pd.DataFrame:
    with lake.snapshot().duckdb() as connection:
        return connection.execute(query).df()


def test_a_schema_beside_a_query_describes_its_columns(nights: Lake, own: Path) -> None:
    (own / "crowding.sql").write_text(CROWDING)
    (own / "crowding.yaml").write_text(DESCRIBED)
    aggregate(nights, ["crowding"], Inline())
    schema = nights.snapshot().schema("crowding")
    assert schema["most"].unit == "ct" and schema["n_frames"].datatype == "int"
    assert schema.in_blocks and schema.merging == {"n_frames": "sum", "n_stars": "sum", "most": "max"}
    expected = table(nights, f"SELECT 'small' AS camera, {CROWDING.partition('SELECT ')[2]} ORDER BY band")
    found = table(nights, "FROM crowding ORDER BY band")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("primaryKey: [camera, band]", "primaryKey: [band]", "has the key band and the layout parquet, and"),
        ("kind: parquet", "kind: hats", "the layout hats, and crowding.sql makes camera, band and parquet"),
        ("datatype: long,", "datatype: long, merge: max,", "'n_stars' is merged by max, which crowding.sql"),
        ("name: most", "name: least", "the column 'most' of crowding.sql is missing"),
        (
            "{name: n_frames, datatype: int, description: Frames},",
            "",
            "the column 'n_frames' of crowding.sql",
        ),
        (
            "{name: n_frames",
            "{name: n, datatype: int, description: n}, {name: n_frames",
            "gives no column 'n'",
        ),
        ("unit: ct", "unit: mags per arcsec", "the unit 'mags per arcsec' of the column 'most' is not one"),
        ("name: crowding", "name: crowds", "the name is 'crowding'"),
        ("layout: {kind: parquet, sort: [band], batch: [camera, night]},", "", "has no key 'layout'"),
    ],
)
def test_a_schema_that_contradicts_the_query_is_refused(own: Path, old: str, new: str, why: str) -> None:
    (own / "crowding.sql").write_text(CROWDING)
    (own / "crowding.yaml").write_text(DESCRIBED.replace(old, new))
    found, (error,) = user_aggregates()
    assert not found
    assert re.search(why, str(error))


def test_bands_are_those_that_frames_were_calibrated_in(
    nights: Lake, own: Path, make_rows: Callable[..., Any], put: Callable[..., Any]
) -> None:
    """The query names neither the filter nor the band of zeropoints, by which the bands are replaced."""
    frames = nights.snapshot().read("frames", ["frame_id", "band", "night"]).to_pylist()
    for night in NIGHTS:
        mine = [row for row in frames if row["night"] == night]
        rows = {name: [row[name] for row in mine] for name in ("frame_id", "night")} | {
            "camera": ["small"] * 6
        }
        rows |= {
            "band": [f"calibrated {row['band']}" for row in mine],
            "catalog": ["stars"] * 6,
            "zp": [20.0] * 6,
        }
        zeropoints = make_rows("zeropoints", 6, night, **rows, version=[1] * 6)
        put(nights, ("zeropoints", f"small-{night}-stars-v1", zeropoints), camera="small", night=night)
    nights.set("catalog.calibrate", "stars")
    (own / "zeros.sql").write_text(
        "-- name: zeros\n-- key: band\n-- granularity: batch\n"
        "SELECT f.band, median(z.zp) AS zp FROM frames AS f JOIN zeropoints AS z USING (frame_id) GROUP BY f.band"
    )
    aggregate(nights, ["zeros"], Inline())
    assert set(table(nights, "FROM zeros")["band"]) == {"calibrated V", "calibrated B"}


@pytest.mark.parametrize("key", ["camera, night", "band", "camera, night, band"])
def test_rows_of_a_night_that_share_a_key_are_refused(nights: Lake, own: Path, key: str) -> None:
    """Not one of them is dropped silently."""
    (own / "widths.sql").write_text(
        f"-- name: widths\n-- key: {key}\n-- granularity: batch\nSELECT band, fwhm_px FROM frames"
    )
    why = "3 rows of one night have band = '[BV]'" if "band" in key else "6 rows of one night have the key of"
    with pytest.raises(ConfigurationError, match=rf"widths\.sql: {why}.*group them by the key"):
        aggregate(nights, ["widths"], Inline())


def test_a_query_reads_nested_columns(nights: Lake, own: Path) -> None:
    nested = next(column for column in load("frames").columns if column.columns)
    inner = f'f."{nested.name}"."{nested.columns[0].name}"'
    query = f"SELECT f.band, count({inner}) AS n, max({inner}[1]) AS most FROM frames AS f"
    (own / "nested.sql").write_text(
        f"-- name: nested\n-- key: band\n-- granularity: batch\n{query} WHERE len({inner}) > 0 GROUP BY f.band"
    )
    aggregate(nights, ["nested"], Inline())
    expected = table(nights, query.replace("f.band", "camera, night, f.band") + " GROUP BY ALL ORDER BY ALL")
    found = table(nights, "FROM nested ORDER BY ALL")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert found["n"].sum() == 18


def test_other_comments_may_stand_among_those_that_declare(own: Path) -> None:
    (own / "crowding.sql").write_text("-- Stars per frame, for the paper: draft 2\n\n" + CROWDING)
    assert list(user_aggregates()[0]) == ["crowding"]


def test_a_query_that_fails_is_named(nights: Lake, own: Path) -> None:
    text = "-- name: bad\n-- key: band\n-- granularity: batch\nSELECT band, CAST(band AS INTEGER) AS n FROM frames"
    (own / "bad.sql").write_text(text)
    with pytest.raises(ConfigurationError, match=r"bad\.sql: the query fails for small 20240407: Conversion"):
        aggregate(nights, ["bad"], Inline())


def test_a_broken_file_keeps_no_other_table_from_being_made(nights: Lake, own: Path) -> None:
    (own / "a.sql").write_text("SELEC 1")
    (own / "b.sql").write_text(
        "-- name: b\n-- key: band\n-- granularity: batch\nSELECT band, CAST(band AS INTEGER) AS n FROM frames"
    )
    (own / "crowding.sql").write_text(CROWDING)
    report = aggregate(nights, [], Inline())
    assert report.refreshed["nights"] == report.refreshed["seeing"] == report.refreshed["crowding"] == 3
    fails, unread = report.failed
    assert re.match(r"b is not refreshed: .*b\.sql: the query fails for small 20240407", fails)
    assert re.match(r".*a\.sql: the file does not say its name", unread)
    assert aggregate(nights, ["nights"], Inline()).failed == []
    with pytest.raises(UsageError, match=r"a\.sql: the file does not say its name.*no aggregate 'a'"):
        aggregate(nights, ["a"], Inline())
    states = outdated(nights)
    assert not states["nights"].why and len(states["b"].why) == 3
    with pytest.raises(ConfigurationError, match=r"b\.sql: the query fails"):
        aggregate(nights, ["b"], Inline())


def test_columns_of_users_are_not_merged_by_code(own: Path) -> None:
    """Who reads the table may not have it."""
    (own / "a.py").write_text(PYTHON.replace("MERGE", 'merged_by(("camera",), {"mean": "finish"})'))
    assert re.search(r"a\.py: .*merged by finish, which readers know", str(user_aggregates()[1][0]))
    (own / "a.py").write_text(PYTHON.replace("MERGE", "pa.concat_tables"))
    assert re.search(r"a\.py: readers merge .*merged_by", str(user_aggregates()[1][0]))
    (own / "a.py").write_text(PYTHON.replace("MERGE", 'merged_by(("camera",), {"mean": "max"})'))
    assert user_aggregates()[0]["means"].schema.merging == {"mean": "max"}


def test_a_merge_that_readers_do_not_know_is_refused(own: Path) -> None:
    """Otherwise the lake that has the table could not be read."""
    (own / "a.py").write_text(PYTHON.replace("MERGE", 'merged_by(("camera",), {"mean": "mean"})'))
    found, (error,) = user_aggregates()
    assert not found
    assert "a.py: the column 'mean' cannot be merged by 'mean'; use sum, count" in str(error)


def test_counts_are_added_in_python_too(own: Path) -> None:
    (own / "a.py").write_text(PYTHON.replace("MERGE", 'merged_by(("camera",), {"mean": "count"})'))
    assert user_aggregates()[0]["means"].schema.merging == {"mean": "sum"}


def test_a_rollback_leads_back_from_a_state_that_cannot_be_read(nights: Lake, own: Path) -> None:
    (own / "crowding.sql").write_text(CROWDING)
    before = nights.snapshot().number
    aggregate(nights, ["crowding"], Inline())
    metadata = nights.snapshot().folder("crowding") / "dataset" / "_common_metadata"
    kept = pq.read_schema(metadata)
    metadata.unlink()
    pq.write_metadata(kept.remove_metadata(), metadata)
    with pytest.raises(LakeError, match="has the table crowding, which"):
        Lake(nights.root).snapshot()
    made = Lake(nights.root).rollback(before)
    assert "crowding" not in made.tables and made.n_rows("frames") == 18


def test_a_named_file_that_is_refused_is_the_error(nights: Lake, own: Path, tmp_path: Path) -> None:
    """Also where an aggregate of skylake is named, which could be made without the file."""
    (tmp_path / "mine.sql").write_text(CROWDING.replace("name: crowding", "name: nights"))
    with pytest.raises(ConfigurationError, match=r"mine\.sql: the name 'nights' is taken"):
        aggregate(nights, ["nights"], Inline(), files=[tmp_path / "mine.sql"])
    text = PYTHON.replace("MERGE", 'merged_by(("camera",), {"mean": "max"})')
    (tmp_path / "a.py").write_text(text.replace('Input("frames")', 'Input("frames", ("fwhmpx",))'))
    with pytest.raises(
        ConfigurationError, match=r"a\.py: frames has no column 'fwhmpx'; did you mean 'fwhm_px'"
    ):
        aggregate(nights, ["means"], Inline(), files=[tmp_path / "a.py"])


def test_the_example_in_python_of_the_page_works(nights: Lake, own: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "aggregates.md").read_text()
    (example,) = (one for one in page.split("```python\n") if one.startswith("import pyarrow as pa"))
    (own / "skies.py").write_text(example.partition("```")[0])
    aggregate(nights, ["skies"], Inline())
    expected = table(
        nights, "SELECT camera, count(sky_adu) AS n_frames, sum(sky_adu) AS sky_sum FROM frames GROUP BY ALL"
    )
    pd.testing.assert_frame_equal(table(nights, "FROM skies"), expected, check_dtype=False)

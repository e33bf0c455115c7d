"""The front door: what it opens, what it imports, and what it keeps closed."""

from __future__ import annotations

import doctest
import importlib
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import skylake
from skylake.errors import LakeError, UsageError
from skylake.lake import Lake, publish_snapshot
from skylake.reading.reader import LakeReader
from skylake.schema import table_names

ROOT = Path(skylake.__file__).parents[1]
HEAVY = (
    "lsdb",
    "hats",
    "astropy",
    "pandas",
    "dask",
    "distributed",
    "numba",
    "scipy",
    "healpy",
    "matplotlib",
    "polars",
)
LIGHT = """
import sys, skylake
heavy = lambda: [name for name in {heavy!r} if name in sys.modules]
assert heavy() == [] and "numpy" not in sys.modules and "pyarrow" not in sys.modules, heavy()
lake = skylake.open(sys.argv[1])
assert lake.sql("select 1 as one").arrow().to_pylist() == [{{"one": 1}}]
assert heavy() == [], heavy()
print(lake.tables)
# Arrow imports pandas to count the light curves of several nights.
assert heavy() in ([], ["pandas"]), heavy()
"""


def test_imports(demo: Path) -> None:
    code, environment = LIGHT.format(heavy=HEAVY), os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(demo)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_tables(lake: LakeReader) -> None:
    assert tuple(lake.tables) == table_names()
    assert len(lake.tables["frames"]) == 24
    assert "One row per frame" in lake.tables["frames"].description
    assert f"frames                        24 rows  {lake['frames'].description}" in repr(lake.tables)
    assert "<td>frames</td><td>24</td>" in lake.tables._repr_html_()
    assert {"calibrated_sources", "calibrated_matches", "calibrated_frames"} <= lake.views.keys()
    assert lake.catalogs == ("simcat",)
    for find in (lake.__getitem__, lake.tables.__getitem__):
        with pytest.raises(
            UsageError, match="the lake has no table or view 'framse'; it has frames, sources"
        ):
            find("framse")


def test_sql(lake: LakeReader, demo: Path) -> None:
    rows = lake.sql(
        "SELECT night, count(*) AS n, median(fwhm_px) AS fwhm_px FROM frames GROUP BY night ORDER BY night"
    )
    assert [row["n"] for row in rows.arrow().to_pylist()] == [12, 12]
    assert rows.pandas().attrs["units"] == {"fwhm_px": "pixel"}
    assert rows.polars()["night"].to_list() == [20240407, 20240408]
    assert (
        len(lake.sql("SELECT a.night, b.night FROM nights a JOIN nights b USING (night)").pandas().columns)
        == 2
    )
    truth = demo.parent / "archive" / "truth" / "frames.parquet"
    assert lake.sql(f"SELECT count(*) AS n FROM '{truth}'", files=truth).arrow()["n"][0].as_py() == 24
    assert len(lake.sql(f"FROM '{truth}'", files=[truth])) == 24


def test_what_a_query_makes_is_gone(lake: LakeReader) -> None:
    made = "CREATE TEMP TABLE frames AS SELECT 1 AS a; CREATE TABLE nights_too AS SELECT 2 AS b; FROM frames"
    assert lake.sql(made).columns == ("a",)
    assert len(lake.sql("FROM frames")) == 24
    value = "SELECT getvariable('a \"b') AS value"
    assert lake.sql(f'SET VARIABLE "a ""b" = 1; {value}').arrow()["value"].to_pylist() == [1]
    assert lake.sql(value).arrow()["value"].to_pylist() == [None]
    with pytest.raises(UsageError, match="Table with name nights_too does not exist"):
        lake.sql("FROM nights_too")
    assert len(lake.sql("FROM frames")) == 24


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("  ", "the query is empty; write one"),
        ("SET VARIABLE x = 1", "the query has no result; end it with a SELECT"),
        ("-- nothing", "the query has no result; end it with a SELECT"),
        (
            "SELECT 1; SELECT 2",
            "the query has 2 results, and lake.sql returns one; give one SELECT at a time",
        ),
        ("SELEC 1", "the query failed: Parser Error"),
        ("FROM framse", "Table with name framse does not exist"),
        ("FROM '/etc/x.csv'", r"Permission Error.*; name a file to read, as in lake.sql\(query, files="),
        (
            "COPY frames TO 'FOLDER/x.csv'",
            "COPY: lake.sql only reads; leave the statement out, write what the result's",
        ),
        (
            "WITH x AS (COPY (SELECT 1) TO 'FOLDER/x.csv') FROM x",
            "COPY: lake.sql only reads; write what the result's",
        ),
        ("COMMIT; COPY frames TO 'FOLDER/x.csv'", "only reads"),
        ("ATTACH 'FOLDER/x.db'", "ATTACH: lake.sql only reads"),
        ("INSTALL httpfs", "only reads"),
        ("SET enable_external_access = true", "only reads"),
    ],
)
def test_closed_doors(lake: LakeReader, query: str, words: str) -> None:
    folder = (Path(lake.root) / "frames").resolve()
    before = sorted(folder.rglob("*"))
    with pytest.raises(UsageError, match=words) as error:
        lake.sql(query.replace("FOLDER", str(folder)))
    assert "--" not in str(error.value)
    assert sorted(folder.rglob("*")) == before


def test_nothing_writes(lake: LakeReader) -> None:
    """Public names are those that are listed here; each was looked at."""
    assert public(lake) == {
        "catalogs", "cone", "history", "lightcurve", "objects", "root", "snapshot", "sql", "tables", "views",
    }  # fmt: skip
    common = {
        "arrow",
        "astropy",
        "columns",
        "dask",
        "description",
        "lsdb",
        "name",
        "pandas",
        "polars",
        "units",
    }
    assert public(lake["frames"]) == common | {"dataset", "lazy_polars"}
    assert public(lake["calibrated_frames"]) == common
    assert public(lake.sql("SELECT 1")) == {"arrow", "astropy", "columns", "pandas", "polars", "units"}


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_cone(lake: LakeReader) -> None:
    star = lake.lightcurve(2)
    rows = lake.cone("sources", star.ra_deg, star.dec_deg, 5, columns=["frame_id", "flux_aper2"])
    assert len(rows) == len(star) and rows.units == {"flux_aper2": "adu/s"}
    assert len(lake.cone("calibrated_sources", star.ra_deg, star.dec_deg, 5)) == len(star)
    with pytest.raises(LakeError, match="frames have no index of positions"):
        lake.cone("frames", 0, 0, 1)
    with pytest.raises(UsageError, match="no table or view 'stars'"):
        lake.cone("stars", 0, 0, 1)
    for radius in (-5, None, "wide"):
        with pytest.raises(UsageError, match=f"radius is a number from 0 to 648000 arcsec.* not {radius!r}"):
            lake.cone("sources", 0, 0, radius)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["candidates", "variable_stars", "objects_in_force"])
def test_a_view_of_sql_alone_is_named_as_sql_reads_it(name: str, lake: LakeReader) -> None:
    with pytest.raises(UsageError, match=f"{name} is a view that only SQL reads") as refused:
        lake[name]
    written = re.search(r'lake\.sql\("(.*)"\)', str(refused.value))
    assert written and lake.sql(written[1]).columns == lake.sql(f"SELECT * FROM {name}").columns


def test_history(lake: LakeReader, demo: Path) -> None:
    assert lake.history() == Lake(demo).runs()
    assert lake.history(last=1)[0].snapshot == lake.snapshot
    with pytest.raises(UsageError, match="no table or view 'framse'"):
        lake.history(table="framse")


def test_as_of(demo: Path) -> None:
    first = skylake.open(demo, as_of=1)
    assert first.snapshot == 1 and len(first["frames"]) == 0
    assert first.sql("SELECT count(*) AS n FROM sources").arrow()["n"][0].as_py() == 0
    assert "cameras:  none" in repr(first)
    with pytest.raises(LakeError, match="the lake has no light curves"):
        first.lightcurve(2)


def test_a_commit_is_not_seen(corner: Path, tmp_path: Path, copy_lake: Any, make_rows: Any, put: Any) -> None:
    root = copy_lake(corner, tmp_path / "lake")
    opened = skylake.open(root)
    put(Lake(root), ("frames", "c-2", make_rows("frames", 3, 9)))
    assert len(opened["frames"]) == len(opened.sql("FROM frames")) == 6
    assert len(skylake.open(root)["frames"]) == 9
    assert pickle.loads(pickle.dumps(opened)).snapshot == opened.snapshot


@pytest.mark.parametrize(
    ("where", "as_of", "kind", "words"),
    [
        ("none", None, LakeError, "none: there is no lake; make one with `skylake init"),
        (
            "x.txt",
            None,
            LakeError,
            "x.txt: this is a file, and a lake is a folder; name the folder of the lake",
        ),
        ("lake", 99, LakeError, "there is no snapshot 99; `skylake history` lists them"),
        (
            "lake",
            "May",
            UsageError,
            "'May' is neither the number of a snapshot nor a time such as 2024-05-01T12:00",
        ),
        (
            "nostore://x/lake",
            None,
            UsageError,
            "nostore://x/lake: such a URL is not used; write one that begins with s3://",
        ),
    ],
)
def test_no_lake(where: str, as_of: Any, kind: Any, words: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.txt").touch()
    Lake.create(tmp_path / "lake")
    assert skylake.open("~/lake").root == str(tmp_path / "lake")
    with pytest.raises(kind, match=words):
        skylake.open(where, as_of)


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_published(corner: Path, s3: Any) -> None:
    publish_snapshot(Lake(corner).snapshot(), f"{s3.url}/lake")
    here, there = skylake.open(corner), skylake.open(f"{s3.url}/lake")
    assert repr(there).splitlines()[1:] == repr(here).splitlines()[1:]
    assert len(there.sql("FROM calibrated_matches")) == len(here["calibrated_matches"]) > 0
    assert there["sources"].arrow(["frame_id"]).num_rows == 120
    assert len(there.cone("matches", 0, 0, 3600)) == len(here.cone("matches", 0, 0, 3600))
    assert [run.snapshot for run in there.history() if run.kept] == [here.snapshot]
    with pytest.raises(LakeError, match=r"s3://no-such-bucket/lake: .*"):
        skylake.open("s3://no-such-bucket/lake")


@pytest.mark.parametrize("name", ["skylake", "reader", "tables", "views", "rows", "lightcurves"])
def test_examples(name: str, demo: Path, lake: LakeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the docstrings show runs; what it prints depends on the lake."""
    monkeypatch.chdir(demo.parents[1])
    module = importlib.import_module(name if name == "skylake" else f"skylake.reading.{name}")
    tests = [one for one in doctest.DocTestFinder().find(module, globs={}) if one.examples]
    assert tests
    for test in tests:
        names: dict[str, Any] = {"lake": lake}
        for example in test.examples:
            exec(example.source, names)


def test_values_of_pandas_and_numpy_are_accepted(lake: Any, demo: Path) -> None:
    reopen: Any = skylake.open
    frames = lake["frames"]
    for columns in (np.array(["night"]), pd.Index(["night"]), pd.Series(["night"]), "night"):
        assert list(frames.pandas(columns)) == ["night"]
    with pytest.raises(UsageError, match="has no column 'nihgt'"):
        frames.pandas("nihgt")
    assert len(lake.lightcurve(np.float64(2))) == len(lake.lightcurve(2)) == len(lake.lightcurve(np.int64(2)))
    with pytest.raises(UsageError, match="is a float"):
        lake.lightcurve(2.5)
    with pytest.raises(UsageError, match="not by a Series; for a position give ra and dec"):
        lake.lightcurve(pd.Series([2]))
    assert reopen(demo, as_of=np.int64(1)).snapshot == 1
    assert reopen(demo, as_of=np.datetime64("2100-01-01T00:00:00")).snapshot == lake.snapshot
    assert "frames" in lake and "calibrated_sources" in lake and "framse" not in lake
    assert next(iter(lake)) == "frames"

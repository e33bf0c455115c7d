from __future__ import annotations

import csv
import io
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from mocpy import MOC

from skylake.core.sphere import separation_deg
from skylake.sky.asterism_index import AsterismIndex, open_index
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.sky_polygon import Polygon

Run = Callable[..., Any]

FORMATS = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits", "vot": "votable", "parquet": None}


def given(sky: Path) -> Any:
    return pq.read_table(sky / "catalog.parquet").to_pandas()


@pytest.fixture
def as_file(sky: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes the simulator's catalog in a format, under an odd name."""

    def write(suffix: str) -> Path:
        path = tmp_path / f"it's my catalog.{suffix}"
        if FORMATS[suffix] is None:
            path.write_bytes((sky / "catalog.parquet").read_bytes())
        else:
            Table.from_pandas(given(sky)).write(path, format=FORMATS[suffix])
        return path

    return write


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_stars(
    suffix: str, new_lake: Path, sky: Path, as_file: Run, columns: tuple[str, ...], well: Run
) -> None:
    answer = well(
        "catalog", "import", new_lake, "stars", "--format", "table", as_file(suffix), *columns, "--json"
    )
    stars = given(sky).sort_values("id")
    report = answer.json
    assert (report["n_rows"], report["use"], report["dropped"]) == (len(stars), ["solve", "calibrate"], {})
    query = "SELECT * FROM catalogs.stars ORDER BY ref_id"
    rows = well("sql", new_lake, query, "--format", "json").json
    for name, column, tolerance in [
        ("ref_id", "id", 0), ("ra_deg", "ra", 1e-10), ("dec_deg", "dec", 1e-10), ("mag_V", "V", 1e-5),
        ("mag_B_err", "B_err", 1e-6), ("colour_B_V", "B-V", 1e-5), ("pm_ra_mas_yr", "pmra", 1e-4),
    ]:  # fmt: skip
        found = np.array([np.nan if row[name] is None else row[name] for row in rows], float)
        np.testing.assert_allclose(found, stars[column].to_numpy(float), rtol=0, atol=tolerance)


def test_the_first_catalog_solves_and_calibrates(
    new_lake: Path, sky: Path, columns: tuple[str, ...], well: Run
) -> None:
    assert well("catalog", "list", new_lake, "--json").json == []
    first = well("catalog", "import", new_lake, "one", "--format", "table", sky / "catalog.parquet", *columns)
    stars, index = first.out.splitlines()
    assert stars == f"one: {len(given(sky))} stars in 1 pixel, which solves and calibrates frames"
    assert re.match(r"one: index of \d+ asterisms, \d+ MB, for pictures of \d\S* degrees and more; ", index)
    few = (
        "--ra",
        "ra",
        "--dec",
        "dec",
        "--mag",
        "V=V",
        "--mag-err",
        "V=0.05",
        "--epoch",
        2016,
        "--margin",
        60,
    )
    second = well("catalog", "import", new_lake, "two", "--format", "table", sky / "catalog.parquet", *few)
    assert second.out.splitlines()[0] == f"two: {len(given(sky))} stars in 1 pixel"
    one, two = well("catalog", "list", new_lake, "--json").json
    assert (one["name"], one["use"], one["bands"], one["colours"]) == ("one", "solve", "V B", "B-V")
    assert (two["name"], two["use"], two["bands"], two["colours"]) == ("two", "", "V", "")
    assert (one["epoch"], two["epoch"], one["margin_arcsec"], two["margin_arcsec"]) == (2000, 2016, 300, 60)
    lines = well("catalog", "list", new_lake).out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", "-" * 4, "one", "two"]
    errors = well("sql", new_lake, "SELECT DISTINCT mag_V_err FROM catalogs.two", "--format", "json").json
    assert errors == [{"mag_V_err": 0.05}]


def test_a_catalog_is_replaced_only_when_that_is_asked(
    new_lake: Path, sky: Path, columns: tuple[str, ...], tmp_path: Path, skylake_command: Run, well: Run
) -> None:
    brighter = tmp_path / "brighter.parquet"
    table = pq.read_table(sky / "catalog.parquet")
    pq.write_table(table.slice(0, 100), brighter)
    command = ("catalog", "import", new_lake, "stars", "--format", "table")
    well(*command, sky / "catalog.parquet", *columns)
    again = skylake_command(*command, brighter, *columns)
    assert again.status == 2
    assert again.sentence == "the lake has a catalog 'stars' already; give another name or --replace"
    assert well("catalog", "list", new_lake, "--json").json[0]["stars"] == table.num_rows
    well(*command, brighter, *columns, "--replace")
    assert well("catalog", "list", new_lake, "--json").json[0]["stars"] == 100


def test_rows_that_are_of_no_use_are_counted_aloud(new_lake: Path, tmp_path: Path, well: Run) -> None:
    file = tmp_path / "some.csv"
    file.write_text("ra,dec,V\n10,-20,9.5\n,5,9\n11,-95,8\n12,-21,\n")
    answer = well("catalog", "import", new_lake, "some", "--format", "table", file, "--ra", "ra", "--dec", "dec",
                  "--mag", "V=V", "--json")  # fmt: skip
    report = answer.json
    assert report["n_rows"] + sum(report["dropped"].values()) == 4
    assert report["n_rows"] <= 3
    for reason, count in report["dropped"].items():
        assert (
            f"skylake: some: {count} rows were left out ({reason}; the first is {file}, data row"
            in answer.err
        )


OUTSIDE = (
    "3 rows were left out (position outside the sphere; the first is stars.csv, data row 1: right ascension 400, "
    "declination 1)"
)
HOURS = (
    "every right ascension is below 24 and was read as degrees; if the column ra holds hours, import it again with "
    "--ra-unit hours --replace (--ra-unit degrees settles the question)"
)


@pytest.mark.parametrize(
    ("rows", "unit", "sentences"),
    [
        (
            "400,1,9\n100,95,9\n-185,1,9\n-5,1,9\n360,1,9\n30,2,9\n",
            None,
            [OUTSIDE],
        ),
        (
            "4.5,1,9\n23.9,2,9\n",
            None,
            [HOURS],
        ),
        ("4.5,1,9\n23.9,2,9\n", "degrees", []),
        ("4.5,1,9\n23.9,2,9\n", "hours", []),
        ("00:45:00,1,9\n01:02:03.5,-5:06:07,9\n", None, []),
    ],
    ids=["outside", "hours?", "degrees", "hours", "sexagesimal"],
)  # fmt: skip
def test_positions_that_may_be_wrong_are_reported(
    new_lake: Path, tmp_path: Path, well: Run, monkeypatch: pytest.MonkeyPatch,
    rows: str, unit: str | None, sentences: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("stars.csv").write_text(f"ra,dec,V\n{rows}")
    answer = well("catalog", "import", new_lake, "odd", "--format", "table", "stars.csv", "--ra", "ra", "--dec", "dec",
                  "--mag", "V=V", "--no-index", *(["--ra-unit", unit] if unit else []))  # fmt: skip
    complaints = [line for line in answer.err.splitlines() if line.startswith("skylake: ")]
    assert complaints == [f"skylake: odd: {sentence}" for sentence in sentences]


def test_identifiers_that_occur_twice_are_told(new_lake: Path, tmp_path: Path, well: Run) -> None:
    file = tmp_path / "twice.csv"
    file.write_text("id,ra,dec,V\n1,40,-20,9.5\n1,40.1,-20,9\n2,40.2,-20,8\n")
    answer = well("catalog", "import", new_lake, "twice", "--format", "table", file, "--ra", "ra", "--dec", "dec",
                  "--id", "id", "--mag", "V=V", "--no-index")  # fmt: skip
    [complaint] = [line for line in answer.err.splitlines() if line.startswith("skylake: ")]
    assert complaint.startswith("skylake: twice: 1 stars have the identifier of another")
    assert "light curves are mixed; name a column of unique identifiers" in complaint


def test_a_polygon_and_a_limit(wide: tuple[Path, Table], tmp_path: Path, well: Run) -> None:
    lake, stars = wide
    corners = "350,-10,20,5,5,40"
    inside = Polygon(((350.0, -10.0), (20.0, 5.0), (5.0, 40.0))).holds(stars["ra"].value, stars["dec"].value)
    out = tmp_path / "in.csv"
    well("catalog", "box", lake, "all", "--polygon", corners, "-o", out)
    assert set(Table.read(out)["ref_id"]) == set(stars["id"][inside]) and 100 < inside.sum() < 2000
    well("catalog", "box", lake, "all", 0, 10, 0, 90, "--polygon", corners, "-o", out)
    inside &= (stars["ra"] <= 10) & (stars["dec"] >= 0)
    assert set(Table.read(out)["ref_id"]) == set(stars["id"][inside])
    cone = ("catalog", "cone", lake, "all", 5, 5, 7200)
    nearest = well(*cone, "--limit", 3)
    assert len(nearest.out.splitlines()) == 4
    every = well(*cone)
    assert every.out.splitlines()[:4] == nearest.out.splitlines() and not every.err
    n_more = len(every.out.splitlines()) - 4
    assert nearest.err == f"skylake: left out: {n_more} stars beyond --limit 3\n"


def test_hours_are_told_from_degrees(new_lake: Path, tmp_path: Path, well: Run) -> None:
    file = tmp_path / "hours.csv"
    file.write_text("ra,dec,V\n1.5,-20,9.5\n")
    well("catalog", "import", new_lake, "hours", "--format", "table", file, "--ra", "ra", "--ra-unit", "hours",
         "--dec", "dec", "--mag", "V=V")  # fmt: skip
    rows = well("sql", new_lake, "SELECT ra_deg, dec_deg FROM catalogs.hours", "--format", "json").json
    assert rows == [{"ra_deg": 22.5, "dec_deg": -20.0}]


def test_show_tells_each_column_with_its_unit(lake: Path, well: Run) -> None:
    columns = {row["column"]: row for row in well("catalog", "show", lake, "simcat", "--json").json}
    described = well("sql", lake, "DESCRIBE catalogs.simcat", "--format", "json").json
    assert list(columns) == [row["column_name"] for row in described]
    assert columns["mag_V"]["unit"] == "mag" and columns["ra_deg"]["unit"] == "deg"
    assert all(row["meaning"] for row in columns.values())
    lines = well("catalog", "show", lake, "simcat").out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(columns)


def test_a_cone_of_a_catalog_holds_the_stars_within(lake: Path, sky: Path, tmp_path: Path, well: Run) -> None:
    stars = given(sky)
    ra, dec = float(stars.ra[0]), float(stars.dec[0])
    near = separation_deg(ra, dec, stars.ra.to_numpy(), stars.dec.to_numpy()) * 3600.0 <= 500.0
    rows = list(csv.DictReader(io.StringIO(well("catalog", "cone", lake, "simcat", ra, dec, 500).out)))
    assert dec < 0
    assert 1 < len(rows) < len(stars)
    assert {int(row["ref_id"]) for row in rows} == set(stars.id[near])
    well("catalog", "cone", lake, "simcat", ra, dec, 500, "-o", tmp_path / "near.fits")
    assert set(Table.read(tmp_path / "near.fits")["ref_id"]) == set(stars.id[near])


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, well: Run) -> tuple[Path, Table]:
    """A lake with a catalog of the whole sky, and the table that it was imported from."""
    folder = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(5)
    count = 20_000
    stars = Table(
        {
            "id": np.arange(count),
            "ra": rng.uniform(0, 360, count),
            "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, count))),
            "V": np.round(rng.uniform(4, 14, count), 3),
            "B": np.round(rng.uniform(4, 16, count), 3),
        }
    )
    stars["B"][:100] = np.nan
    stars.write(folder / "stars.fits")
    well("init", folder / "lake", "--cluster", "inline")
    well(
        "catalog", "import", folder / "lake", "all", "--format", "table", folder / "stars.fits", "--no-index",
        "--id", "id", "--ra", "ra", "--dec", "dec", "--mag", "V=V", "--mag", "B=B", "--mag-err", "V=0.1",
        "--mag-err", "B=0.1",
    )  # fmt: skip
    return folder / "lake", stars


@pytest.mark.parametrize(
    ("west", "east", "south", "north"),
    [
        (350, 10, -20, 20),
        (-10, 10, -20, 20),
        (10, 200, 60, 90),
        (0, 360, -90, -85),
        (30, 31, -90, 90),
        (5, 5, 0, 0),
    ],
)
def test_a_box_holds_the_stars_within(
    west: float, east: float, south: float, north: float, wide: tuple[Path, Table], well: Run
) -> None:
    lake, stars = wide
    width = 360.0 if (west, east) == (0, 360) else (east - west) % 360.0
    inside = ((stars["ra"] - west) % 360.0 <= width) & (stars["dec"] >= south) & (stars["dec"] <= north)
    rows = well("catalog", "box", lake, "all", west, east, south, north).out
    assert {int(row["ref_id"]) for row in csv.DictReader(io.StringIO(rows))} == set(stars["id"][inside])


def test_limits_and_the_order_of_a_cone(wide: tuple[Path, Table], tmp_path: Path, well: Run) -> None:
    lake, stars = wide
    out = tmp_path / "cone.ecsv"
    limits = ("--mag", "V=6:10.5", "--mag", "B=:12", "--colour", "B-V=-0.5:")
    well("catalog", "cone", lake, "all", 0.5, -30, 15 * 3600, *limits, "-o", out)
    found = Table.read(out)
    away = separation_deg(0.5, -30.0, np.asarray(stars["ra"]), np.asarray(stars["dec"]))
    v, b = stars["V"], stars["B"]
    inside = (away <= 15) & (v >= 6) & (v <= 10.5) & (b <= 12) & (b - v >= -0.5)
    order = np.argsort(away[inside])
    assert found["ref_id"].tolist() == stars["id"][inside][order].tolist() and len(found) > 20
    np.testing.assert_allclose(found["distance_arcsec"], 3600 * away[inside][order], atol=1e-6)
    assert found["distance_arcsec"].unit == "arcsec"


def test_coverage_is_where_the_stars_are(
    wide: tuple[Path, Table], lake: Path, tmp_path: Path, well: Run
) -> None:
    whole = well("catalog", "coverage", wide[0], "all", "--json").json
    assert (whole["stars"], whole["sky_fraction"]) == (20_000, 1.0)
    paths = [tmp_path / f"moc.{suffix}" for suffix in ("fits", "json", "txt")]
    made = [
        well("catalog", "coverage", lake, "simcat", "--order", 9, "-o", path, "--json").json for path in paths
    ]
    mocs = [MOC.from_fits(paths[0]), MOC.load(paths[1], "json"), MOC.load(paths[2], "ascii")]
    assert mocs[0] == mocs[1] == mocs[2]
    assert made[0]["area_square_deg"] == pytest.approx(mocs[0].sky_fraction * 41252.96, rel=1e-6)
    stars = given(Path(lake).parent / "sky")
    assert mocs[0].contains_lonlat(stars.ra.to_numpy() * u.deg, stars.dec.to_numpy() * u.deg).all()
    text = well("catalog", "coverage", lake, "simcat", "--plot", tmp_path / "sky.png").out
    assert re.match(rf"simcat: {len(stars)} stars on \S+ square degrees, ", text)
    assert (tmp_path / "sky.png").stat().st_size > 5000


def test_a_g_of_any_survey_is_shown_as_such(new_lake: Path, tmp_path: Path, well: Run) -> None:
    (table := tmp_path / "stars.csv").write_text("ra,dec,g,V\n150.0,2.0,12.0,11.5\n")
    options = (
        "--ra",
        "ra",
        "--dec",
        "dec",
        "--mag",
        "g=g",
        "--mag",
        "V=V",
        "--ra-unit",
        "degrees",
        "--no-index",
    )
    well("catalog", "import", new_lake, "own", "--format", "table", table, *options)
    shown = {row["column"]: row["meaning"] for row in well("catalog", "show", new_lake, "own", "--json").json}
    assert shown["mag_g"] == "Magnitude in g, AB; whether it is SDSS_g, APASS_g or PS1_g is not known"
    assert shown["mag_V"] == "Magnitude in V, Vega" and shown["mag_g_err"] == "Error of mag_g, 1 sigma"


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("box LAKE simcat 1 2 4 3", 2, "DEC_FROM 4 is north of DEC_TO 3; exchange them"),
        ("box LAKE simcat", 2, "give RA_FROM, RA_TO, DEC_FROM and DEC_TO, or --polygon"),
        ("box LAKE simcat 1 2 --polygon 1,2,3,4,5,6", 2, "give RA_FROM, RA_TO, DEC_FROM and DEC_TO, or --polygon"),
        ("box LAKE simcat --polygon 1,2,3", 2, "--polygon 1,2,3: write right ascension and declination of each"),
        ("cone LAKE simcat 1 2 3 --polygon 1,2,1,2,1,2", 2, "a polygon has three vertices or more"),
        ("box LAKE simcat 1 2 3 4 --mag V", 2, "--mag V: write NAME=FROM:TO, as in --mag V=8:12 or V=:12"),
        ("box LAKE simcat 1 2 3 4 --mag V=12:8", 2, "--mag V=12:8: write NAME=FROM:TO"),
        ("box LAKE simcat 1 2 3 4 --mag V=nan:8", 2, "--mag V=nan:8: write NAME=FROM:TO"),
        ("cone LAKE simcat 1 2 3 --mag K=1:8", 2, "has no magnitudes 'K'; it has"),
        ("cone LAKE simcat 1 2 3 --colour J-K=:1", 2, "has no colour 'J-K'; it has B-V, and magnitudes in"),
        ("coverage LAKE simcat -o x.png", 2, "x.png: the suffix names no format of coverage maps"),
        ("show LAKE none", 2, "there is no catalog 'none' in the lake; it has simcat"),
        ("cone LAKE none 1 1 1", 2, "there is no catalog 'none' in the lake"),
        ("cone LAKE simcat 1 -91 1", 2, "'DEC': '-91' is not a number from -90 to 90"),
        ("cone LAKE simcat x 1 1", 2, "'RA': 'x' is not a number"),
        ("cone LAKE simcat 1 1 -3", 2, "'RADIUS_ARCSEC': '-3'"),
        ("cone LAKE simcat 1 1 3 -o x.txt", 2, "x.txt: the suffix names no format"),
        ("list NOLAKE", 3, "there is no lake; make one with `skylake init"),
        ("show NOLAKE simcat", 3, "there is no lake"),
        ("cone NOLAKE simcat 1 1 1", 3, "there is no lake"),
        ("import NOLAKE c TABLE FILE HERE --mag V=V", 3, "there is no lake"),
        ("import LAKE c --format tycho2 FOLDER", 3, "LETTER: the file is no FITS; fetch or export it again"),
        ("import LAKE c --format nosuch FILE", 2, "there is no format 'nosuch'; give one of table, hats, 2mass"),
        ("import LAKE c --format usnob FILE", 3, "FILE: the file has no form of usnob; for the nearest"),
        ("import LAKE c --format gaia", 2, "name the files of Gaia DR2 and DR3"),
        ("import LAKE c --format gaia FILE --mag V=V", 2, "--mag names a column of --format table; gaia knows its"),
        ("import LAKE c TABLE FILE HERE --unit V", 2, "--unit V: write COLUMN=UNIT"),
        ("import LAKE c TABLE FILE HERE --unit RA=rad", 2, "--unit RA: the column 'RA' is not read; did you mean"),
        ("import LAKE c --format hats FOLDER --ra ra --dec dec", 3, "there is no HATS catalog, as it has no file"),
        ("import LAKE c TABLE s3://b/stars.csv HERE", 2, "s3://b/stars.csv: files are imported from disks"),
        ("import LAKE c TABLE none.csv HERE", 2, "'none.csv' does not exist"),
        ("import LAKE c TABLE HERE --mag V=V", 2, "a table needs files"),
        ("import LAKE c TABLE FILE --ra ra --mag V=V", 2, "a table needs --ra and --dec"),
        ("import LAKE c TABLE FILE --ra alpha --dec dec --mag V=V", 3, "FILE: there is no column 'alpha'; its"),
        ("import LAKE c TABLE FILE HERE --mag V=Vmag", 3, "FILE: there is no column 'Vmag'"),
        ("import LAKE c TABLE FILE HERE --mag V", 2, "--mag V: write NAME=COLUMN, as in --mag V=Vmag"),
        ("import LAKE c TABLE FILE HERE --mag V=V --mag V=B", 2, "--mag V=B: V is given twice"),
        ("import LAKE c TABLE FILE HERE --mag V=V --mag-err B=0.1", 2, "the band 'B' has an error but"),
        ("import LAKE c TABLE FILE HERE --mag V=V --pm pmra", 2, "--pm pmra: give two columns"),
        ("import LAKE c TABLE FILE HERE --mag V=V --epoch J2000", 2, "'J2000' is no number; write a number alone"),
        ("import LAKE c/d TABLE FILE HERE --mag V=V", 2, "'c/d' is no name for a catalog; use letters"),
        ("import LAKE .. TABLE FILE HERE --mag V=V", 2, "'..' is no name for a catalog"),
        ("import LAKE simcat TABLE FILE HERE --mag V=V", 2, "a catalog 'simcat' already; give another"),
        ("import LAKE c TABLE LETTER HERE --mag V=V", 3, "LETTER: "),
    ],
)  # fmt: skip
def test_an_impossible_import_is_a_sentence_and_leaves_nothing(
    line: str, status: int, words: str, lake: Path, sky: Path, tmp_path: Path, skylake_command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letter.fits").write_text("Dear colleague,\nthe catalog is lost.\n")
    places = {"LAKE": lake, "NOLAKE": tmp_path, "FILE": sky / "catalog.parquet", "FOLDER": tmp_path,
              "LETTER": tmp_path / "letter.fits"}  # fmt: skip
    line = line.replace("TABLE", "--format table").replace("HERE", "--ra ra --dec dec")
    answer = skylake_command("catalog", *(places.get(word, word) for word in line.split()))
    assert answer.status == status
    for name, place in places.items():
        words = words.replace(name, str(place))
    assert words in answer.sentence
    held = {path.name for path in (lake / "catalogs").iterdir() if not path.name.startswith(".")}
    assert held == {"simcat", "simcat.asterisms"}


def test_a_survey_is_imported_as_published(
    new_lake: Path, tmp_path: Path, skylake_command: Run, well: Run
) -> None:
    stars, variables = tmp_path / "ps1.csv", tmp_path / "vsx.csv"
    stars.write_text("objID,raMean,decMean,gMeanPSFMag,gMeanPSFMagErr\n7,10,20,17.5,0.01\n,11,20,-999,-999\n")
    variables.write_text('37,"AG Peg",0,327.75817,12.62564,"ZAND",,6.0,,V,,,9.4,,V,,,,816.5,,""\n')
    report = well("catalog", "import", new_lake, "vsx", "--format", "vsx", variables, "--json").json
    assert (report["form"], report["lists_variables"], report["use"]) == ("vsx_csv.dat", True, [])
    answer = skylake_command(
        "catalog", "import", new_lake, "ps1", "--format", "ps1", stars, "--epoch", 2013, "--no-index"
    )
    assert answer.out == "ps1: 2 stars in 2 pixels, which solves and calibrates frames\n"
    assert "ps1: the file has no column nDetections or qualityFlag, so" in answer.err
    assert "ps1: 1 rows have no identifier; theirs are made from their positions" in answer.err
    assert ReferenceCatalog.open(new_lake / "catalogs" / "ps1").epoch == 2013.0
    shown = {row["column"]: row["meaning"] for row in well("catalog", "show", new_lake, "ps1", "--json").json}
    assert shown["mag_g"] == "Magnitude in g, AB; the band PS1_g"
    rows = well("sql", new_lake, "SELECT mag_g FROM catalogs.ps1 ORDER BY ra_deg", "--format", "json").json
    assert [row["mag_g"] for row in rows] == [pytest.approx(17.5), None]
    assert well(
        "sql", new_lake, "SELECT bool_and(is_variable) AS v FROM catalogs.vsx", "--format", "json"
    ).json == [{"v": True}]


def test_a_hats_catalog_is_used_in_place(lake: Path, new_lake: Path, well: Run) -> None:
    here = lake / "catalogs" / "simcat"
    options = (
        "--ra",
        "ra_deg",
        "--dec",
        "dec_deg",
        "--id",
        "ref_id",
        "--mag",
        "V=mag_V",
        "--mag-err",
        "V=mag_V_err",
    )
    report = well(
        "catalog", "import", new_lake, "far", "--format", "hats", here, *options, "--no-index", "--json"
    ).json
    listed = {row["name"]: row for row in well("catalog", "list", lake, "--json").json}
    assert (report["n_rows"], report["use"]) == (listed["simcat"]["stars"], ["solve", "calibrate"])
    (far,) = well("catalog", "list", new_lake, "--json").json
    assert (far["stars"], far["bands"], far["margin_arcsec"]) == (report["n_rows"], "V", None)
    assert "mag_V_err" in well("catalog", "show", new_lake, "far").out
    place = (120.0, -20.0, 179 * 3600.0)
    cones = [
        well("catalog", "cone", one, name, *place).out for one, name in ((lake, "simcat"), (new_lake, "far"))
    ]
    columns = ("ref_id", "mag_V")
    first, second = (
        {tuple(row[name] for name in columns) for row in csv.DictReader(io.StringIO(out))} for out in cones
    )
    assert first == second and len(first) > 100


def index_of(lake: Path, name: str) -> AsterismIndex:
    return open_index(ReferenceCatalog.open(lake / "catalogs" / name))


def test_an_import_builds_the_index_unless_it_is_told_not_to(
    new_lake: Path, sky: Path, columns: tuple[str, ...], well: Run
) -> None:
    table = ("--format", "table", sky / "catalog.parquet", *columns, "--json")
    report = well("catalog", "import", new_lake, "one", *table).json
    built = index_of(new_lake, "one")
    assert (report["n_asterisms"], report["sure_deg"]) == (built.n_asterisms, built.sure_deg)
    assert report["index_bytes"] == (new_lake / "catalogs" / "one.asterisms").stat().st_size
    # One that is replaced gets the index that it had, for the same pictures.
    well("catalog", "index", new_lake, "one", "--scales", 1, 9, "--band", "B")
    well("catalog", "import", new_lake, "one", *table, "--replace")
    again = index_of(new_lake, "one")
    assert (again.narrowest_deg, again.widest_deg, again.magnitude) == (1.0, 9.0, "mag_B")
    report = well("catalog", "import", new_lake, "two", *table, "--no-index").json
    assert (report["n_asterisms"], report["sure_deg"], report["without_index"]) == (0, None, None)
    assert not list((new_lake / "catalogs").glob("*two.asterisms*"))


def test_a_catalog_of_few_stars_is_imported_without_index(new_lake: Path, tmp_path: Path, well: Run) -> None:
    rows = "".join(f"{10 + 0.01 * star},{star % 7},{9.5 + 0.01 * star}\n" for star in range(50))
    (tmp_path / "few.csv").write_text(f"ra,dec,V\n{rows}")
    answer = well(
        "catalog", "import", new_lake, "few", "--format", "table", tmp_path / "few.csv", "--ra", "ra", "--dec", "dec",
        "--mag", "V=V", "--mag-err", "V=0.1",
    )  # fmt: skip
    assert answer.out.startswith("few: 50 stars in ")
    assert "few: 50 stars with magnitudes are too few to solve with; import a larger catalog" in answer.err


#: The command, in a process that is killed over writing the index.
KILLED = """
import os, signal, sys
from pathlib import Path
from skylake.cli.main import main
from skylake.sky import asterism_file

def padding(values, known=asterism_file._padding):
    if list((Path(sys.argv[3]) / "catalogs").glob(".one.asterisms.*.tmp")):
        os.kill(os.getpid(), signal.SIGKILL)
    return known(values)

asterism_file._padding = padding
main(sys.argv[1:])
"""


def test_an_import_that_is_killed_leaves_no_index_or_all_of_it(
    new_lake: Path, sky: Path, columns: tuple[str, ...], environment: dict[str, str], well: Run
) -> None:
    words = ("catalog", "import", new_lake, "one", "--format", "table", sky / "catalog.parquet", *columns)
    command = [sys.executable, "-c", KILLED, *map(str, words)]
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=900, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    catalogs = new_lake / "catalogs"
    assert (catalogs / "one").is_dir() and not (catalogs / "one.asterisms").exists()
    assert len(list(catalogs.glob(".one.asterisms.*.tmp"))) == 1
    # The catalog is whole; what else is there is an old index, which its checksum tells from one of this catalog.
    well("catalog", "index", new_lake, "one")
    assert index_of(new_lake, "one").n_stars > 100 and not list(catalogs.glob(".*.tmp"))

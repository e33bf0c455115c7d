"""``skylake lc`` as people use it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from overlap_rows import Overlap

from skylake.lake import Lake

Run = Callable[..., Any]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def star(sky: Path) -> dict[str, Any]:
    """A star of constant brightness that is seen in every frame."""
    stars = pq.read_table(sky / "truth" / "stars.parquet").to_pandas()
    seen = pa.concat_tables(
        [pq.read_table(path) for path in (sky / "truth" / "detections").iterdir()]
    ).to_pandas()
    inside = seen[seen.x_px.between(20, 235) & seen.y_px.between(20, 235) & ~seen.saturated]
    everywhere = inside.groupby("star_id").size()
    plain = stars[stars.variable_class.isna() & stars.star_id.isin(everywhere.index[everywhere == 8])]
    found: dict[str, Any] = plain.sort_values("mag_V").iloc[0].to_dict()
    return found


def test_a_light_curve_is_the_star_of_truth_in_every_frame(lake: Path, sky: Path, well: Run) -> None:
    known = star(sky)
    points = rows_of(well("lc", lake, "--ra", known["ra_deg"], "--dec", known["dec_deg"]).out)
    assert len(points) == 8
    frames = pq.read_table(sky / "truth" / "frames.parquet").to_pylist()
    assert sorted(float(point["mjd_mid"]) for point in points) == pytest.approx(
        sorted(frame["mjd_mid"] for frame in frames), abs=1e-8
    )
    assert {point["band"] for point in points} == {"V"}
    magnitudes = np.array([float(point["mag"]) for point in points])
    assert abs(np.median(magnitudes) - known["mag_V"]) < 0.05
    assert magnitudes.std() < 0.05


def test_a_star_has_one_light_curve_by_position_and_id(
    lake: Path, sky: Path, tmp_path: Path, well: Run
) -> None:
    known = star(sky)
    by_place = well("lc", lake, "--ra", known["ra_deg"], "--dec", known["dec_deg"], "--radius", 10).out
    by_name = well("lc", lake, "--object", int(known["star_id"]), "-o", tmp_path / "star.parquet")
    assert by_name.out == ""
    assert pq.read_table(tmp_path / "star.parquet")["mag"].to_pylist() == [
        float(row["mag"]) for row in rows_of(by_place)
    ]


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")])
def test_a_light_curve_can_be_a_picture(
    suffix: str, magic: bytes, lake: Path, sky: Path, tmp_path: Path, well: Run
) -> None:
    picture = tmp_path / "my pictures" / f"star.{suffix}"
    picture.parent.mkdir()
    answer = well("lc", lake, "--object", int(star(sky)["star_id"]), "--plot", picture)
    assert (answer.out, answer.err) == ("", f"wrote {picture}\n")
    assert picture.read_bytes().startswith(magic)
    assert "nothing is printed then" in " ".join(well("lc", "--help").out.split())


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ([], 2, "name a star: by identifier, by name or by position"),
        (["--ra", "1"], 2, "name a star: by identifier, by name or by position"),
        (["--object", "1", "--ra", "1", "--dec", "1"], 2, "name a star: by identifier"),
        (["--ra", "1", "--dec", "95"], 2, "'--dec': '95' is not a number from -90 to 90"),
        (["--ra", "1", "--dec", "nan"], 2, "'--dec': 'nan'"),
        (["--ra", "1", "--dec", "1", "--radius", "nan"], 2, "'--radius': 'nan'"),
        (["--ra", "1", "--dec", "89"], 2, "there is no light curve within 60 arcsec of 1.0 89.0"),
        (
            ["--object", "5"],
            2,
            "no light curve of the star 5, as simcat or the table objects call it; name it by its",
        ),
        (
            ["--object", "5", "--from", "forced"],
            3,
            "the lake has no light curves of targets; `skylake ingest --redo`",
        ),
        (["--object", "-5"], 2, "no light curve of the star -5, as"),
        (["--object", "BD+20 307"], 2, "no light curve of the star BD+20 307, as"),
        (["--object", "9" * 19], 2, f"no light curve of the star {'9' * 19}, as"),
        (["--object", "9" * 40], 2, f"no light curve of the star {'9' * 40}, as"),
        (
            ["--object", "2", "--plot", "star.txt"],
            2,
            "star.txt: the suffix names no format of pictures; use .png",
        ),
        (["--object", "2", "--plot", "/proc/star.png"], 3, "/proc/star.png: cannot be written"),
        (["--object", "2", "-o", "star"], 2, "star: the suffix names no format"),
    ],
)
def test_a_light_curve_that_cannot_be_had_is_one_sentence(
    options: list[str], status: int, words: str, lake: Path, skylake_command: Run
) -> None:
    answer = skylake_command("lc", lake, *options)
    assert answer.status == status
    assert words in answer.sentence


def test_a_position_may_be_written_in_several_ways(lake: Path, sky: Path, well: Run) -> None:
    known = star(sky)
    hours, degrees = known["ra_deg"] / 15.0, known["dec_deg"]
    whole = f"{int(hours):02d}:{hours % 1 * 60:.6f}"
    minutes = f"{int(hours)}h{int(hours % 1 * 60)}m{hours % 1 * 60 % 1 * 60:.3f}s"
    first = well("lc", lake, "--object", int(known["star_id"])).out
    for words in (
        (known["ra_deg"], degrees),
        (f"{known['ra_deg']},{degrees}",),
        (f"{minutes} {degrees}",),
        (int(known["star_id"]),),
    ):
        assert well("lc", lake, *words, "--radius", 10).out == first
    assert whole


def test_many_stars_are_one_table_or_a_file_each(
    lake: Path, sky: Path, tmp_path: Path, skylake_command: Run
) -> None:
    stars = pq.read_table(sky / "truth" / "stars.parquet").to_pandas().nsmallest(40, "mag_V")
    curves = Lake(lake).snapshot().merged("lightcurves", ["object_id", "n_points"]).to_pandas()
    both = curves[curves.object_id.isin(stars.star_id)].head(2)
    (tmp_path / "stars.csv").write_text("object_id\n" + "\n".join(map(str, both.object_id)) + "\n5\n")
    answer = skylake_command("lc", lake, "--stars", tmp_path / "stars.csv", "-o", tmp_path / "all.parquet")
    assert answer.status == 1 and "no light curve of the star 5, as" in answer.err
    table = pq.read_table(tmp_path / "all.parquet").to_pandas()
    assert table.groupby("object_id").size().to_dict() == dict(
        zip(both.object_id, both.n_points, strict=True)
    )
    answer = skylake_command("lc", lake, *both.object_id, "--format", "fits", "-o", f"{tmp_path}/each/")
    assert answer.status == 0
    made = {path.name: len(Table.read(path)) for path in (tmp_path / "each").iterdir()}
    assert made == {f"{row.object_id}.fits": row.n_points for row in both.itertuples()}


def test_the_identifier_of_a_table_tells_which_star_near_its_position_is_meant(
    lake: Path, tmp_path: Path, well: Run
) -> None:
    snapshot = Lake(lake).snapshot()
    curves = snapshot.merged("lightcurves", ["object_id", "ra_deg", "dec_deg"]).to_pandas()
    mine, far = curves.iloc[0], curves.iloc[-1]
    away = np.hypot(
        (curves.ra_deg - mine.ra_deg) * np.cos(np.radians(mine.dec_deg)), curves.dec_deg - mine.dec_deg
    )
    assert 3600.0 * away.iloc[-1] > 60.0
    beside = curves.iloc[away.argsort().iloc[1]]
    reach = 3600.0 * away[beside.name] + 1.0
    objects = snapshot.read("objects", ["object_id", "ref_id"]).to_pandas().set_index("ref_id").object_id
    # As the light curves and as the objects call it, at the place of its neighbour; of another system; elsewhere.
    numbers = [int(mine.object_id), int(objects[mine.object_id]), 5, int(mine.object_id)]
    places = [beside, beside, beside, far]
    rows = [f"{number},{place.ra_deg},{place.dec_deg}" for number, place in zip(numbers, places, strict=True)]
    (tmp_path / "stars.csv").write_text("\n".join(["object_id,ra_deg,dec_deg", *rows]))
    answer = well(
        "lc", lake, "--stars", tmp_path / "stars.csv", "--radius", reach, "--measured", "detected",
        "-o", tmp_path / "all.parquet",
    )  # fmt: skip
    found = pq.read_table(tmp_path / "all.parquet").to_pandas().drop_duplicates(["star", "object_id"])
    asked = [*map(str, numbers[:2]), f"{beside.ra_deg} {beside.dec_deg}", f"{far.ra_deg} {far.dec_deg}"]
    wanted = [mine.object_id, mine.object_id, beside.object_id, far.object_id]
    assert list(zip(found.star, found.object_id, strict=True)) == list(zip(asked, wanted, strict=True))
    said = f"2 of 4 identifiers in the column object_id name no star of the lake within {reach:g} arcsec"
    assert said in answer.err and f"the position counts: 5, {numbers[3]}\n" in answer.err


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot", "parquet"])
def test_formats_have_the_same_points_with_units(
    suffix: str, lake: Path, sky: Path, tmp_path: Path, well: Run
) -> None:
    out = tmp_path / f"star.{suffix}"
    well("lc", lake, int(star(sky)["star_id"]), "-o", out)
    form = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "vot": "votable"}.get(suffix, suffix)
    table = pq.read_table(out).to_pandas() if suffix == "parquet" else Table.read(out, format=form)
    assert len(table) == 8
    assert np.all(np.asarray(table["bjd_tdb"]) - np.asarray(table["mjd_mid"]) > 2400000.49)
    if suffix in ("ecsv", "fits", "vot"):
        assert str(table["mag"].unit) == "mag" and str(table["bjd_tdb"].unit) == "d"


def test_nights_and_times_choose_points(lake: Path, sky: Path, well: Run) -> None:
    known = int(star(sky)["star_id"])
    every = rows_of(well("lc", lake, known).out)
    nights = Lake(lake).snapshot().read("frames", ["frame_id", "night"]).to_pylist()
    first = {str(row["frame_id"]) for row in nights if row["night"] == 20241001}
    found = rows_of(well("lc", lake, known, "--to", 20241001).out)
    assert found == [row for row in every if row["frame_id"] in first] and len(found) == 4
    found = rows_of(well("lc", lake, known, "--from", "2024-10-02").out)
    assert found == [row for row in every if row["frame_id"] not in first]
    middle = "2024-10-02T12:00"
    assert well("lc", lake, known, "--from", middle).out == well("lc", lake, known, "--from", 20241002).out
    assert well("lc", lake, known, "--from", "detected").out == well("lc", lake, known).out


def test_bins_and_phases(lake: Path, sky: Path, well: Run) -> None:
    known = int(star(sky)["star_id"])
    (row,) = rows_of(well("lc", lake, known, "--bin", "9000d").out)
    assert row["n_points"] == "8" and float(row["mag_random_err"]) < float(row["mag_err"])
    folded = rows_of(well("lc", lake, known, "--period", "2h", "--epoch", "2460580.5").out)
    times = np.array([float(row["bjd_tdb"]) for row in folded])
    phase = np.array([float(row["phase"]) for row in folded])
    assert phase == pytest.approx((times - 2460580.5) * 12.0 % 1.0, abs=1e-4)


def test_a_field_is_exported_star_by_star(lake: Path, sky: Path, tmp_path: Path, well: Run) -> None:
    known = star(sky)
    cone = f"{known['ra_deg']},{known['dec_deg']},300"
    well("lc", lake, "--all", "--cone", cone, "-o", tmp_path / "field.parquet")
    found = pq.read_table(tmp_path / "field.parquet").to_pandas()
    inside = (
        Lake(lake).snapshot().cone("lightcurves", known["ra_deg"], known["dec_deg"], 300 / 3600).to_pandas()
    )
    assert len(inside) > 2
    assert found.groupby("object_id").size().to_dict() == dict(
        zip(inside.object_id, inside.n_points, strict=True)
    )
    one = found[found.object_id == inside.object_id[0]].sort_values("mjd_mid")
    assert one.mag.tolist() == inside.lightcurve[0]["mag"].tolist()
    well("lc", lake, "--all", "--cone", cone, "--to", 20241001, "-o", f"{tmp_path}/field/")
    files = list((tmp_path / "field").iterdir())
    nights = (
        Lake(lake).snapshot().read("frames", ["frame_id", "night"]).to_pandas().set_index("frame_id").night
    )
    first = found[found.frame_id.map(nights) == 20241001]
    counts = {path.name: len(rows_of(path.read_text())) for path in files}
    assert counts == {f"simcat-{star}.csv": n for star, n in first.groupby("object_id").size().items()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--band", "R"),
            r"no point of the stars there is left; they have \d+ from MJD 605\S+ to \S+ in V by small",
        ),
        (("--from", "20300101"), "they have .* in V by small, all excluded by --from or --to"),
        (("--to", "20200101", "--bin", "1h"), "no point of the stars there is left; they have"),
        (
            ("--band", "R", "--flux", "aper1"),
            "no point of the stars there is left; they have .* in V by small",
        ),
        (
            ("--version", "9"),
            "the first.* there is no calibration of version 9",
        ),
        (("--measured", "forced"), "light curve of forced measurements; leave out --measured"),
    ],
)
def test_a_field_whose_curves_are_not_as_wished_says_which_there_are(
    options: tuple[str, ...], words: str, lake: Path, sky: Path, tmp_path: Path, skylake_command: Run
) -> None:
    known = star(sky)
    field = ("--all", "--cone", f"{known['ra_deg']},{known['dec_deg']},300", "-o", tmp_path / "field.csv")
    answer = skylake_command("lc", lake, *field, *options)
    assert answer.status == 3 and re.search(words, answer.sentence), answer.err
    assert skylake_command("lc", lake, *field, "--band", "V", "--camera", "small").status == 0


@pytest.mark.parametrize("flux", ["best", "aper2"])
def test_a_field_is_exported_as_each_star_would_be(
    flux: str, lake: Path, sky: Path, tmp_path: Path, well: Run
) -> None:
    known = star(sky)
    choice = ("--bin", "1h", "--period", "2.5h", "--flux", flux, "--measured", "detected")
    cone = f"{known['ra_deg']},{known['dec_deg']},200"
    well("lc", lake, "--all", "--cone", cone, *choice, "-o", tmp_path / "field.csv")
    found = rows_of((tmp_path / "field.csv").read_text())
    stars = sorted({row["object_id"] for row in found})
    assert len(stars) > 2
    for name in (stars[0], stars[-1]):
        alone = rows_of(well("lc", lake, name, *choice).out)
        mine = [row for row in found if row["object_id"] == name]
        assert [{column: row[column] for column in alone[0]} for row in mine] == alone and "phase" in alone[0]


def test_the_whole_coverage_of_a_table_is_all_of_it_and_what_no_catalog_has(
    lake: Path, tmp_path: Path, well: Run
) -> None:
    snapshot = Lake(lake).snapshot()
    moc = snapshot.folder("lightcurves") / "coverage.fits"
    well("lc", lake, "--all", "--moc", moc, "-o", tmp_path / "all.csv")
    rows = rows_of((tmp_path / "all.csv").read_text())
    listed = [row for row in rows if row["catalog"] != "sources"]
    assert len(listed) == sum(snapshot.merged("lightcurves", ["n_points"])["n_points"].to_pylist())
    new = [row for row in rows if row["catalog"] == "sources"]
    objects = snapshot.pandas("objects")
    unlisted = objects[(objects.status == "qualified") & objects.ref_id.isna()]
    assert {int(row["object_id"]) for row in new} <= set(unlisted.object_id) and new
    for number in {row["object_id"] for row in new}:
        alone = rows_of(well("lc", lake, number).out)
        mine = [row for row in new if row["object_id"] == number]
        assert [row["mag"] for row in mine] == [row["mag"] for row in alone]


def test_the_aavso_gets_the_check_star_of_each_frame(
    lake: Path, sky: Path, tmp_path: Path, well: Run
) -> None:
    known = int(star(sky)["star_id"])
    curves = Lake(lake).snapshot().merged("lightcurves", ["object_id", "n_points"]).to_pandas()
    check = int(curves[(curves.n_points == 8) & (curves.object_id != known)].object_id.iloc[0])
    report = tmp_path / "report.txt"
    options = ("--format", "aavso", "--observer", "ABC", "--name", "X Y", "--check", check, "-o", report)
    well("lc", lake, known, *options)
    lines = [line.split(",") for line in report.read_text().splitlines() if not line.startswith("#")]
    of_check = [f"{float(row['mag']):.3f}" for row in rows_of(well("lc", lake, check).out)]
    assert [line[10] for line in lines] == of_check
    assert {line[0] for line in lines} == {"X Y"} and {line[9] for line in lines} == {str(check)}
    assert {line[5] for line in lines} == {"YES"}
    airmass = [float(line[11]) for line in lines]
    assert min(airmass) >= 1.0


def test_many_stars_are_submitted_under_the_names_of_a_file(
    lake: Path, sky: Path, tmp_path: Path, well: Run
) -> None:
    known = star(sky)
    stars = tmp_path / "stars.csv"
    stars.write_text(f"name,ra,dec\nRR Lyr,{known['ra_deg']},{known['dec_deg']}\n")
    options = ("--stars", stars, "--format", "aavso", "--observer", "ABC", "--check", "none")
    well("lc", lake, *options, "-o", f"{tmp_path}/curves/")
    (report,) = (tmp_path / "curves").iterdir()
    rows = [line.split(",") for line in report.read_text().splitlines() if not line.startswith("#")]
    assert (
        len(rows) == 8 and {row[0] for row in rows} == {"RR Lyr"} and {row[13] for row in rows} == {"simcat"}
    )


def test_a_field_is_drawn_or_submitted_as_the_error_advises(
    lake: Path, sky: Path, tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    known, (picture, curves) = star(sky), (tmp_path / "star.png", tmp_path / "curves")
    cone = ("--all", "--cone", f"{known['ra_deg']},{known['dec_deg']},300", "-o", tmp_path / "field.csv")
    refused = skylake_command("lc", lake, *cone, "--plot", picture)
    assert refused.status == 2 and "leave out --plot, or name the star in place of --all" in refused.err
    well("lc", lake, *cone)
    well("lc", lake, known["ra_deg"], known["dec_deg"], "--plot", picture)
    assert (tmp_path / "field.csv").exists() and picture.exists()

    refused = skylake_command("lc", lake, *cone, "--format", "etd")
    assert refused.status == 2 and "list the stars in a file (--stars) and name a folder by -o" in refused.err
    listed = tmp_path / "stars.csv"
    listed.write_text(f"name,ra,dec\nX,{known['ra_deg']},{known['dec_deg']}\n")
    well("lc", lake, "--stars", listed, "--format", "etd", "-o", f"{curves}/")
    assert len(list(curves.iterdir())) == 1


def test_star_and_check_star_are_both_detrended(lake: Path, sky: Path, well: Run) -> None:
    known = int(star(sky)["star_id"])
    options = ("--format", "aavso", "--observer", "ABC", "--name", "X Y", "--detrend", "ensemble")
    text = well("lc", lake, known, *options).out
    rows = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    assert all(row[14].endswith("; detrended (ensemble)") for row in rows) and len(rows) == 8
    check = rows[0][9]
    of_check = rows_of(well("lc", lake, check, "--measured", "detected", "--detrend", "ensemble").out)
    known_mags = {f"{float(row['mjd_mid']) + 2400000.5:.6f}": f"{float(row['mag']):.3f}" for row in of_check}
    assert [row[10] for row in rows] == [known_mags.get(row[1], "na") for row in rows]
    assert len(known_mags) >= 5 and any(
        abs(float(row["mag"]) - float(row["mag_raw"])) > 1e-3 for row in of_check
    )


@pytest.mark.parametrize("form", ["etd", "exotic"])
def test_transits_go_to_standard_output_too(form: str, lake: Path, sky: Path, well: Run) -> None:
    text = well("lc", lake, int(star(sky)["star_id"]), "--format", form).out
    values = np.loadtxt(io.StringIO(text), delimiter="," if form == "exotic" else None)
    assert values.shape == (8, 4 if form == "exotic" else 3)


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "vot", "parquet", "etd", "exotic"])
def test_files_say_which_star_was_found_at_a_position(
    suffix: str, lake: Path, sky: Path, tmp_path: Path, well: Run
) -> None:
    known, out = star(sky), tmp_path / f"star.{suffix}"
    form = ("--format", suffix) if suffix in ("etd", "exotic") else ()
    off = known["dec_deg"] + 2.0 / 3600.0
    answer = well("lc", lake, known["ra_deg"], off, "--name", "Demo-1 b", *form, "-o", out)
    first, *others = answer.err.splitlines()
    assert first.startswith(f"star {known['star_id']} of simcat, V ")
    assert first.endswith(" mag, 2.0 arcsec from the position")
    assert others == [line for line in others if line.startswith("wrote ")]
    if suffix in ("parquet", "ecsv", "fits"):
        said = (
            {key.decode(): value.decode() for key, value in pq.read_schema(out).metadata.items()}
            if suffix == "parquet"
            else {key.lower(): value for key, value in Table.read(out).meta.items()}
        )
        assert (said["object"], said["star"]) == ("Demo-1 b", str(known["star_id"]))
        # Parquet has texts alone.
        ra = float(said["ra_deg"]) if suffix == "parquet" else said["ra_deg"]
        assert ra == pytest.approx(known["ra_deg"], abs=1e-4)
    else:
        text = out.read_text()
        assert "Demo-1 b" in text and f"star {known['star_id']} " in text.replace(",", "")


def test_a_star_away_from_the_position_among_others_is_doubtful(lake: Path, sky: Path, well: Run) -> None:
    known = star(sky)
    place = (known["ra_deg"], known["dec_deg"] + 20.0 / 3600.0)
    said = well("lc", lake, *place, "--radius", 900).err
    assert "other stars are within the radius; if you mean one of them" in said
    assert said.startswith("star ")
    alone = well("lc", lake, known["ra_deg"], known["dec_deg"], "--radius", 900).err
    assert alone.count("\n") == 1


def test_a_folded_picture_has_its_panels(lake: Path, sky: Path, tmp_path: Path, well: Run) -> None:
    picture = tmp_path / "star.svg"
    options = ("--period", "0.4d", "--bin", "0.1d", "--plot", picture)
    well("lc", lake, int(star(sky)["star_id"]), *options)
    assert b"<svg" in picture.read_bytes()


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["188.7"], 2, "188.7: this is half of a position; write both"),
        (["12:34:56", "95:00:00"], 2, "there is no such position"),
        (["2", "--jsn"], 2, "no such option '--jsn'"),
        (["2", "--bin", "soon"], 2, "'soon' is no length of time; write it as 30s"),
        (["2", "--bin", "0min"], 2, "'0min' is no length of time"),
        (["2", "--bin", "15"], 2, "'15' has no unit; write it as 30s, 10min, 2h or 0.5d"),
        (["2", "--epoch", "2460408.5"], 2, "--epoch is the time of phase 0 of a period; add --period"),
        (["2", "--period", "1", "--duration", "30h"], 2, "--duration is half of --period or more"),
        (["2", "--from", "20241002", "--to", "20241001"], 2, "--from is after --to; exchange them"),
        (
            ["2", "--cone", "1,2,3"],
            2,
            "--cone and --moc name the part of the sky that --all exports; add --all",
        ),
        (["2", "--all", "--cone", "1,2,3"], 2, "leave out the names of stars"),
        (["2", "--epoch", "60408.2"], 2, "'60408.2' is no BJD (TDB); write it as 2460408.70302"),
        (["2", "--from", "yesterday"], 2, "'yesterday' is no time"),
        (["--all"], 2, "--all exports a part of the sky; name it by --cone RA,DEC,ARCSEC or --moc FILE"),
        (["--all", "--cone", "1,2"], 2, "'1,2' is no cone; write RA,DEC,ARCSEC"),
        (["--all", "--cone", "1,89,10"], 2, "--all writes files; name one, or a folder, by -o"),
        (["--all", "--cone", "1,89,10", "--plot", "x.png"], 2, "--plot draws one star, not a field"),
        (
            ["--all", "--cone", "1,89,10", "--format", "etd", "-o", "curves/"],
            2,
            "--format etd is a file for each star, and --all writes tables",
        ),
        (["--all", "--cone", "1,89,10", "-o", "x.fits"], 2, "x.fits: many stars go to one file as .parquet"),
        (["--all", "--cone", "1,89,10", "-o", "x.csv"], 3, "no star there has a light curve"),
        (
            ["--all", "--cone", "1,89,10", "--camera", "mine", "-o", "x.csv"],
            2,
            "the lake has no frames of mine",
        ),
        (["--all", "--cone", "1,89,10", "--bin", "1h", "-o", "x.csv"], 3, "no star there has a light curve"),
        (
            ["STAR", "--format", "aavso", "--observer", "ABC"],
            2,
            "the AAVSO wants a name of the star, not a number",
        ),
        (
            ["STAR", "5", "--name", "X"],
            2,
            "--name is that of one star; name several in a column name of the file",
        ),
        (["STAR", "--name", "X"], 2, "--name is for the headers of files, and csv has none"),
        (["STAR", "--name", "X", "-o", "x.json"], 2, "--name is for the headers of files, and json has none"),
        (
            ["STAR", "--check", "5", "-o", "x.csv"],
            2,
            "--check is the check star of --format aavso and of --plot",
        ),
        (
            ["STAR", "--format", "aavso"],
            2,
            "the AAVSO wants the code of the observer; give it, as in --observer",
        ),
        (["STAR", "--format", "etd", "--bin", "1h"], 2, "--format etd takes single measurements"),
        (["STAR", "STAR", "--format", "etd"], 2, "--format etd is a file for each star; name a folder"),
        (["STAR", "STAR", "--plot", "x.png"], 2, "--plot draws one star"),
        (
            ["STAR", "--version", "3"],
            2,
            "no calibration of version 3 of the frames that show the star; they have 1",
        ),
        (["STAR", "--band", "R"], 3, "is left; it has 8 from MJD 605"),
        (["STAR", "--band", "R", "--to", "20300101"], 3, "in V by small, all excluded by --band R"),
        (["STAR", "--from", "2030-01-01T00:00"], 3, "in V by small, all excluded by --from"),
        (["STAR", "--band", "R", "--to", "20200101"], 3, "all excluded by --band R and --from or --to"),
        (["STAR", "--camera", "mine"], 2, "the lake has no frames of mine; it has those of small"),
        (["STAR", "--from", "20300101"], 3, "is left; it has 8 from MJD 605"),
        (["STAR", "--flux", "psf"], 2, "the flux psf is measured of targets only, and there"),
        (["STAR", "--check", "STAR", "--plot", "x.png"], 2, "this is the star itself; name another, or none"),
        (["RR Lyr"], 2, "there is no light curve of the star RR Lyr, as simcat or the table objects"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    options: list[str], status: int, words: str, lake: Path, sky: Path, tmp_path: Path, skylake_command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    known = str(int(star(sky)["star_id"]))
    answer = skylake_command("lc", lake, *(known if word == "STAR" else word for word in options))
    assert answer.status == status
    assert words in answer.sentence


def test_points_of_nights_without_a_version_are_counted(
    lake: Path, sky: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path], well: Run
) -> None:
    own = copy_lake(lake, tmp_path / "lake")
    well("calibrate", own, "--version", 2, "--method", "frame", "--from", 20241001, "--to", 20241001)
    known = star(sky)
    number, cone = int(known["star_id"]), f"{known['ra_deg']},{known['dec_deg']},2"
    said = "left out: 4 points of frames without version 2 of the calibration"
    one = well("lc", own, number, "--version", 2)
    assert (len(rows_of(one.out)), one.err) == (4, f"skylake: {said}\n")
    (tmp_path / "stars.csv").write_text(f"object_id\n{number}\n")
    assert said in well("lc", own, "--stars", tmp_path / "stars.csv", "--version", 2).err
    out = tmp_path / "field.csv"
    assert said in well("lc", own, "--all", "--cone", cone, "--version", 2, "-o", out).err
    for options in (("--version", 1), ("--version", 2, "--to", 20241001), ()):
        assert well("lc", own, number, *options).err == ""


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("txt", ("--format", "aavso", "--observer", "ABC", "--name", "X Y", "--check", "none")),
        ("txt", ("--format", "etd")),
        ("csv", ("--format", "exotic")),
        ("csv", ("--bin", "1d")),
        ("ecsv", ("--bin", "1d")),
        ("fits", ("--bin", "1d")),
        ("vot", ("--bin", "1d")),
        ("csv", ("--all", "--cone", "STAR", "--bin", "1d")),
        ("ecsv", ("--detrend", "ensemble")),
    ],
)
def test_an_export_says_which_points_it_leaves_out_and_why(
    suffix: str, options: tuple[str, ...], lake: Path, tmp_path: Path, well: Run
) -> None:
    query = (
        "SELECT object_id, any_value(ra_deg) AS ra, any_value(dec_deg) AS dec FROM lightcurve_points "
        "JOIN (SELECT DISTINCT object_id, ra_deg, dec_deg FROM lightcurves) USING (object_id) GROUP BY 1 "
        "HAVING bool_or(flags & 8 > 0) AND count(*) FILTER (flags & 8 = 0) >= 4 AND NOT bool_or(flags & 64 > 0) "
        "ORDER BY 1 LIMIT 1"
    )
    (known,) = well("sql", lake, query, "--format", "json").json
    named = f"{known['ra']},{known['dec']},2"
    out = tmp_path / f"star.{suffix}"
    which = () if "--all" in options else (known["object_id"],)
    flags = [
        int(row["flags"]) for row in rows_of(well("lc", lake, known["object_id"], "--flux", "calibrated").out)
    ]
    n_edge = sum(bool(value & 8) for value in flags)
    said = f"{n_edge} point{'s' * (n_edge > 1)} with the flag EDGE"
    answer = well("lc", lake, *which, *(named if word == "STAR" else word for word in options), "-o", out)
    assert f"skylake: left out: {said}\n" in answer.err
    header = {"txt": "# left out: ", "csv": "", "ecsv": "left_out: ", "fits": "", "vot": "left_out "}[suffix]
    if "exotic" in options or header:
        assert f"{header}{said}" in " ".join(out.read_text().split())
    if suffix == "fits":
        assert Table.read(out).meta["LEFT_OUT"] == said


def test_the_nearest_star_is_named_where_there_is_none(
    lake: Path, sky: Path, skylake_command: Run, well: Run
) -> None:
    known = star(sky)
    sentence = skylake_command("lc", lake, 1.0, 89.0).sentence
    number = sentence.partition("the nearest star that has one is ")[2].split(",")[0]
    assert len(rows_of(well("lc", lake, number).out)) > 0
    assert known["dec_deg"] < 0


@pytest.mark.parametrize("folder", [False, True])
def test_a_flux_of_targets_is_that_of_the_targets_of_a_field(
    folder: bool, overlap: Overlap, tmp_path: Path, skylake_command: Run
) -> None:
    out = f"{tmp_path}/field/" if folder else tmp_path / "field.csv"
    root = overlap.lake.root
    answer = skylake_command("lc", root, "--all", "--cone", overlap.cone, "--flux", "psf", "-o", out)
    assert answer.status == 1
    left_out = [line for line in answer.err.splitlines() if "left out" in line]
    assert left_out == [
        line for line in left_out if "left out: 5 stars of the field; the first, because" in line
    ]
    assert len(left_out) == 1
    files = sorted((tmp_path / "field").iterdir()) if folder else [tmp_path / "field.csv"]
    rows = [row for path in files for row in rows_of(path.read_text())]
    given = {(row["catalog"], row["object_id"]) for row in rows}
    assert given == {("apass", "2"), ("detections", str(overlap.ids["new_target"]))}
    alone = rows_of(skylake_command("lc", root, "apass:2", "--flux", "psf").out)
    mine = [row for row in rows if row["object_id"] == "2"]
    assert [{name: row[name] for name in alone[0]} for row in mine] == alone


def test_a_field_without_targets_has_no_flux_of_targets(
    overlap: Overlap, tmp_path: Path, skylake_command: Run, well: Run
) -> None:
    cone = f"{overlap.ra['listed']},{overlap.dec},20"
    asked = ("lc", overlap.lake.root, "--all", "--cone", cone, "-o", tmp_path / "field.csv")
    answer = skylake_command(*asked, "--flux", "hybrid2")
    assert answer.status == 2 and not (tmp_path / "field.csv").exists()
    assert answer.sentence == (
        "the flux hybrid2 is measured of targets only, and none of the stars of the field is a target; leave out "
        "--flux, or name aper1, aper2 or aper3"
    )
    well(*asked)
    well(*asked, "--flux", "aper1")
    answer = skylake_command(*asked, "--flux", "psf", "--measured", "detected")
    assert (
        answer.status == 2 and "--measured detected leaves out what is measured of targets" in answer.sentence
    )


def test_one_star_of_a_list_that_cannot_be_given_leaves_the_others(
    overlap: Overlap, tmp_path: Path, skylake_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root, new = overlap.lake.root, overlap.ids["new west"]
    Path("stars.txt").write_text(f"apass:2\n{new}\n1\n10.0 95.0\n77\n{overlap.ids['new_target']}\n")
    answer = skylake_command("lc", root, "--stars", "stars.txt", "--flux", "psf", "-o", "stars.csv")
    assert answer.status == 1
    assert {row["star"] for row in rows_of(Path("stars.csv").read_text())} == {
        "apass:2",
        str(overlap.ids["new_target"]),
    }
    said = [line for line in answer.err.splitlines() if line.startswith("skylake: left out: ")]
    for line, words in zip(
        said,
        (
            f"{new}, because the flux psf is measured of targets",
            "1, because several catalogs have a star 1: apass:1",
            "10.0 95.0, because 10.0 95.0: there is no such position",
            "77, because there is no light curve of the star 77",
        ),
        strict=True,
    ):
        assert words in line
    answer = skylake_command("lc", root, "--stars", "stars.txt", "--format", "etd", "-o", "curves/")
    assert answer.status == 1
    assert sorted(path.name for path in Path("curves").iterdir()) == sorted(
        ["apass_2.txt", f"{overlap.ids['new_target']}.txt"]
    )
    assert f"left out: {new}, because a transit is one curve, and this star has 2" in answer.err
    answer = skylake_command("lc", root, f"{new}", "apass:1", "--flux", "psf", "-o", "none.csv")
    assert answer.status == 2 and "none of the 2 stars is a target; leave out --flux" in answer.sentence
    assert not Path("none.csv").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "aavso", "-o", "curves/"), "the AAVSO wants the code of the observer"),
        (("--format", "etd", "--bin", "1h", "-o", "curves/"), "--format etd takes single measurements"),
        (
            ("--detrend", "tfa", "--duration", "1h", "--period", "1", "-o", "x.csv"),
            "--duration is that of a transit",
        ),
    ],
)
def test_what_concerns_all_stars_of_a_list_ends_it_before_anything_is_written(
    options: tuple[str, ...], words: str, overlap: Overlap, tmp_path: Path, skylake_command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    answer = skylake_command("lc", overlap.lake.root, "apass:2", "apass:3", *options)
    assert answer.status == 2 and words in answer.sentence
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_field_of_all_kinds_of_stars_is_as_each_star_alone(
    overlap: Overlap, tmp_path: Path, well: Run
) -> None:
    root = overlap.lake.root
    for options in ((), ("--bin", "1h"), ("--period", "0.13", "--epoch", "2460555.0", "--bin", "20min")):
        well("lc", root, "--all", "--cone", overlap.cone, *options, "-o", tmp_path / "field.csv")
        rows = rows_of((tmp_path / "field.csv").read_text())
        stars = dict.fromkeys((row["catalog"], row["object_id"]) for row in rows)
        assert sorted(catalog for catalog, _ in stars) == [
            "apass", "apass", "apass", "detections", "refcat2", "sources", "sources",
        ]  # fmt: skip
        for star in stars:
            alone = rows_of(well("lc", root, ":".join(star), *options).out)
            mine = [row for row in rows if (row["catalog"], row["object_id"]) == star]
            shared = [name for name in alone[0] if name in mine[0]]
            assert {"mag", "mag_err"} < set(shared)
            assert [[row[name] for name in shared] for row in mine] == [
                [row[name] for name in shared] for row in alone
            ]

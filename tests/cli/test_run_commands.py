from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cli.run_commands import _one_of_each
from skylake.lake import Lake
from skylake.settings import user_file

Run = Callable[..., Any]


@pytest.fixture
def asked(skylake_command: Run) -> Callable[[Path, str], list[dict[str, Any]]]:
    """A function (lake, query) that asks with `skylake sql`."""
    return lambda lake, query: skylake_command("sql", lake, query, "--format", "json").json


@pytest.fixture
def frames(sky: Path, tmp_path: Path) -> Path:
    """A copy of the frames of the first night."""
    return Path(shutil.copytree(sky / "frames" / "20241001", tmp_path / "raw"))


def truth(sky: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(sky / "truth" / "frames.parquet").to_pylist()
    return {Path(row["file"]).name: row for row in rows}


def test_ingest_reads_time_place_and_band_as_they_are_in_truth(lake: Path, sky: Path, asked: Run) -> None:
    query = "SELECT file, camera, night, status, mjd_mid, ra_deg, dec_deg, band, exposure_s FROM frames"
    rows = {Path(row["file"]).name: row for row in asked(lake, query)}
    known = truth(sky)
    assert rows.keys() == known.keys()
    for name, row in rows.items():
        true = known[name]
        assert (row["status"], row["camera"]) == ("ok", "small")
        assert [row[key] for key in ("night", "band", "exposure_s")] == [
            true[key] for key in ("night", "band", "exposure_s")
        ]
        assert row["mjd_mid"] == pytest.approx(true["mjd_mid"], abs=1e-8)
        assert row["ra_deg"] == pytest.approx(true["ra_deg"], abs=1e-3)
        assert row["dec_deg"] == pytest.approx(true["dec_deg"], abs=1e-3)
        assert row["file"] == str((sky / true["file"]).absolute())


def test_calibrate_finds_the_zeropoints_of_truth(lake: Path, sky: Path, asked: Run) -> None:
    rows = asked(lake, "SELECT file, catalog, version, zp, zp_err FROM calibrated_frames")
    known = truth(sky)
    assert len(rows) == 8
    assert {(row["catalog"], row["version"]) for row in rows} == {("simcat", 1)}
    pulls = [(row["zp"] - known[Path(row["file"]).name]["zp"]) / row["zp_err"] for row in rows]
    assert np.abs(pulls).max() < 5
    assert all(0 < row["zp_err"] < 0.1 for row in rows)


@pytest.mark.parametrize(
    ("wrong", "status", "has", "advice"),
    [
        ("optics.pixel_scale_arcsec = 20.0", "rejected", "optics.pixel_scale_arcsec = 20", "set optics.pixel_scale_"),
        ("detector.width_px = 300", "failed", "detector.width_px = 300 and detector.height_px = 256",
         "set detector.width_px = 256 and detector.height_px = 256 in "),
    ],
)  # fmt: skip
def test_frames_that_all_contradict_a_profile_are_one_sentence(
    frames: Path, camera: Path, new_lake: Path, skylake_command: Run, tmp_path: Path,
    wrong: str, status: str, has: str, advice: str,
) -> None:  # fmt: skip
    own = tmp_path / "own.toml"
    start = f'name = "own"\nlike = {json.dumps(str(camera))}\n'
    own.write_text(f"{start}{wrong}\n")
    answer = skylake_command("ingest", new_lake, "-c", own, frames)
    assert answer.status == 1 and f"ingest: 4 {status}" in answer.out
    said = [line for line in answer.err.splitlines() if str(frames) in line or "contradict" in line]
    [sentence] = said
    assert f"own: all 4 frames of 20241001 contradict {has}: {advice}" in sentence and str(own) in sentence
    told = re.findall(r"\w+\.\w+ = [\d.]+", sentence.partition(": set ")[2])
    own.write_text(start + "\n".join(told) + "\n")
    again = skylake_command("ingest", new_lake, "-c", own, "--redo", frames)
    assert again.status == 0 and "ingest: 4 ok" in again.out


def test_everything_again_is_nothing_new(lake: Path, sky: Path, camera: Path, well: Run) -> None:
    before = well("status", lake, "--json").json
    again = well("ingest", lake, "--camera", camera, sky / "frames", "--json").json
    assert (again["counts"], again["n_known"], again["batches"]) == ({}, 8, [])
    assert well("ingest", lake, "-c", camera, sky / "frames").out == "ingest: nothing new, 8 known before\n"
    calibrated = well("calibrate", lake, "--json").json
    assert (calibrated["batches"], calibrated["n_current"], calibrated["catalog"]) == ([], 2, "simcat")
    refreshed = well("aggregate", lake, "--json").json
    assert set(refreshed["refreshed"].values()) == {0}
    assert well("aggregate", lake, "nights").out == "aggregate: nights 0 parts\n"
    assert well("status", lake, "--json").json == before


def test_results_are_on_stdout_and_progress_on_stderr(
    new_lake: Path, frames: Path, camera: Path, skylake_command: Run
) -> None:
    answer = skylake_command("ingest", new_lake, "-c", camera, frames, "--json")
    assert answer.status == 0
    assert answer.json["counts"] == {"ok": 4}
    [batch] = answer.json["batches"]
    assert answer.err == (
        f"ingest small-20241001: 4 of 4 frames ok, {batch['sources']} sources in the night\n"
    )


@pytest.fixture
def troubled(frames: Path) -> Path:
    """Four frames of which one is good: others are cut off, no FITS, and without a WCS. Names are odd."""
    first, second, third, _ = sorted(frames.iterdir())
    first.write_bytes(first.read_bytes()[:4000])
    second.write_text("this is a letter")
    with fits.open(third, mode="update") as file:
        for card in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"):
            del file[0].header[card]
    first.rename(frames / "it's cut off.fits")
    second.rename(frames / 'a "letter".fits')
    third.rename(frames / "no [wcs]; --really.fits")
    return frames


def test_frames_that_fail_are_named_and_the_status_is_1(
    new_lake: Path, troubled: Path, camera: Path, skylake_command: Run, asked: Run
) -> None:
    answer = skylake_command("ingest", new_lake, "--camera", camera, troubled)
    assert answer.status == 1
    assert answer.out == "ingest: 2 failed, 1 ok, 1 rejected\n"
    told = {line for line in answer.err.splitlines() if line.startswith("skylake: ")}
    rows = asked(new_lake, "SELECT file, status, reason, message FROM frames WHERE status <> 'ok'")
    assert told == {
        f"skylake: {row['file']}: {row['status']}/{row['reason']}: {row['message']}" for row in rows
    }
    assert {(Path(row["file"]).name, row["status"], row["reason"]) for row in rows} == {
        ("it's cut off.fits", "failed", "truncated"),
        ('a "letter".fits', "failed", "not_fits"),
        ("no [wcs]; --really.fits", "rejected", "no_wcs"),
    }
    again = skylake_command("ingest", new_lake, "--camera", camera, troubled, "--json")
    assert (again.status, again.json["counts"], again.json["n_known"]) == (0, {}, 4)


def test_rejected_frames_are_tried_again_when_asked(
    new_lake: Path, troubled: Path, camera: Path, skylake_command: Run
) -> None:
    ingest = ("ingest", new_lake, "--camera", camera, troubled)
    first = skylake_command(*ingest, "--json")
    assert (first.status, first.json["counts"]) == (1, {"failed": 2, "ok": 1, "rejected": 1})
    assert {problem["reason"] for problem in first.json["problems"]} == {"truncated", "not_fits", "no_wcs"}
    assert {Path(problem["file"]).parent for problem in first.json["problems"]} == {troubled}
    tried = skylake_command(*ingest, "--retry", "no_wcs", "--retry", "cloudy")
    assert (tried.status, tried.out) == (1, "ingest: 1 rejected, 3 known before\n")
    wrong = skylake_command(*ingest, "--retry", "no_luck")
    assert wrong.status == 2 and "'no_luck' is not one of" in wrong.sentence


def test_copies_count_once_and_are_named(
    new_lake: Path, frames: Path, camera: Path, skylake_command: Run, asked: Run
) -> None:
    skylake_command("ingest", new_lake, "--camera", camera, frames)
    shutil.copy(sorted(frames.iterdir())[0], frames / "zz copy.fits")
    answer = skylake_command("ingest", new_lake, "--camera", camera, frames)
    assert answer.status == 0
    assert f"skylake: {frames}/zz copy.fits: the same bytes as another file" in answer.err
    assert asked(new_lake, "SELECT count(*) AS n FROM frames") == [{"n": 4}]


def test_an_archive_that_was_moved_is_one_line(
    new_lake: Path, frames: Path, camera: Path, tmp_path: Path, skylake_command: Run, asked: Run
) -> None:
    skylake_command("ingest", new_lake, "--camera", camera, frames)
    moved = frames.rename(tmp_path / "moved")
    answer = skylake_command("ingest", new_lake, "--camera", camera, moved)
    assert (answer.status, answer.out) == (0, "ingest: nothing new\n")
    first = sorted(moved.iterdir())[0]
    assert answer.err == (
        f"skylake: {first} (and 3 more below {moved}): the same bytes as another file, which is used for both\n"
    )
    again = skylake_command("ingest", new_lake, "--camera", camera, moved)
    assert (again.status, again.err) == (0, ""), "said once"
    assert asked(new_lake, "SELECT count(*) AS n FROM frames") == [{"n": 4}]


def test_nights_can_be_chosen(new_lake: Path, sky: Path, camera: Path, well: Run, asked: Run) -> None:
    ingest = ("ingest", new_lake, "-c", camera, sky / "frames", "--json")
    for limits, night in [(("--to", "20241001"), 20241001), (("--from", "2024-10-02"), 20241002)]:
        some = well(*ingest, *limits).json
        assert [batch["night"] for batch in some["batches"]] == [night]
    assert asked(new_lake, "SELECT night, count(*) AS n FROM frames GROUP BY ALL ORDER BY ALL") == [
        {"night": 20241001, "n": 4}, {"night": 20241002, "n": 4},
    ]  # fmt: skip
    assert well(*ingest, "--from", "20241003", "--redo").json["batches"] == []


def test_a_folder_without_frames_is_named(
    new_lake: Path, sky: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    empty = tmp_path / "no frames"
    empty.mkdir()
    answer = skylake_command("ingest", new_lake, "--camera", camera, empty)
    assert answer.status == 3
    assert answer.sentence.startswith(f"{empty}: no FITS frame (.fits, ")
    both = skylake_command("ingest", new_lake, "--camera", camera, empty, sky / "frames" / "20241001")
    assert (both.status, both.out) == (1, "ingest: 4 ok\n")
    assert f"skylake: {empty}: no FITS frame" in both.err


@pytest.mark.parametrize("command", ["ingest", "run nightly"])
@pytest.mark.parametrize(
    ("camera_text", "words"),
    [
        (
            None,
            "there is no camera profile 'none'; known names are allsky-magic, generic, sim, sim-fisheye, skycam-t",
        ),
        ("like = 'sim'\nname = 'x'\ndetectr.width_px = 3\n", "detectr: there is no such key; did you mean detector?"),
        ("like = 'sim'\nname = 'x'\ndetector.widht_px = 3\n", "did you mean detector.width_px?"),
        ("like = 'sim'\nname = 'x'\ndetector.width_px = 'wide'\n", "detector.width_px: "),
        ("name = = 3\n", "not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_camera_is_named_with_its_key(
    command: str, camera_text: str | None, words: str, new_lake: Path, sky: Path, tmp_path: Path, skylake_command: Run
) -> None:  # fmt: skip
    file = tmp_path / "my camera.toml"
    if camera_text is not None:
        file.write_text(camera_text)
    name = "none" if camera_text is None else file
    answer = skylake_command(*command.split(), new_lake, "--camera", name, sky / "frames")
    assert answer.status == (2 if camera_text is None else 3)
    assert words in answer.sentence
    assert camera_text is None or str(file) in answer.sentence


def test_what_is_not_there_is_named(lake: Path, camera: Path, tmp_path: Path, skylake_command: Run) -> None:
    ingest = ("ingest", lake, "--camera", camera)
    missing = skylake_command(*ingest, tmp_path / "nothing here")
    assert (missing.status, missing.sentence) == (
        2,
        f"{tmp_path}/nothing here: there is no such file or folder",
    )
    for night in ("2024", "20241301", "yesterday", "٢٠٢٤١٠٠١"):
        wrong = skylake_command(*ingest, tmp_path, "--from", night)
        assert wrong.status == 2
        assert f"{night!r} is no night; write it as 20130610" in wrong.sentence
    turned = skylake_command(*ingest, tmp_path, "--from", "20241002", "--to", "20241001")
    assert (turned.status, "--from 20241002 is after --to 20241001" in turned.sentence) == (2, True)
    cluster = skylake_command(*ingest, tmp_path, "--cluster", "nowhere")
    assert cluster.status == 2
    assert "there is no cluster 'nowhere'; use local, inline, slurm or tls://host:port" in cluster.sentence
    catalog = skylake_command("calibrate", lake, "--catalog", "none")
    assert catalog.status == 2
    assert "there is no catalog 'none' in the lake; it has simcat" in catalog.sentence
    aggregate = skylake_command("aggregate", lake, "nigths")
    assert aggregate.status == 2
    assert (
        "there is no aggregate 'nigths'; the aggregates are nights, photometric_nights, lightcurves"
        in aggregate.sentence
    )


@pytest.mark.parametrize(
    "line", ["ingest LAKE -c sim x", "calibrate LAKE", "aggregate LAKE", "mirror LAKE", "mirror LAKE --stop",
             "report LAKE out", "run nightly LAKE -c sim x"],
)  # fmt: skip
def test_what_is_no_lake_is_refused_with_the_command_to_type(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skylake_command: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for place in ("photos", "none"):
        answer = skylake_command(*(place if word == "LAKE" else word for word in line.split()))
        assert answer.status == 3
        assert answer.sentence == f"{place}: there is no lake; make one with `skylake init {place}`"
    assert not list((tmp_path / "photos").iterdir())


def test_calibrate_without_a_catalog_gives_the_command_to_type(new_lake: Path, skylake_command: Run) -> None:
    answer = skylake_command("calibrate", new_lake)
    assert answer.status == 3
    assert f"{new_lake}: the lake has no reference catalog" in answer.sentence
    assert f"`skylake catalog import {new_lake} NAME --format table FILE" in answer.sentence


def test_report_is_a_page_whose_pictures_are_there(lake: Path, tmp_path: Path, well: Run) -> None:
    out = tmp_path / "my report"
    answer = well("report", lake, out)
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert answer.out == f"report: {out}/index.html with {len(pictures)} pictures\n"
    page = (out / "index.html").read_text()
    assert len(pictures) >= 5
    assert all(f'"{name}"' in page for name in pictures)
    assert "20241001" in page or "2024-10-01" in page


def test_a_report_that_cannot_be_written_is_named(lake: Path, tmp_path: Path, skylake_command: Run) -> None:
    (tmp_path / "file").write_text("")
    answer = skylake_command("report", lake, tmp_path / "file")
    assert answer.status == 3
    assert f"{tmp_path}/file: the report cannot be written" in answer.sentence


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("nonsense", 2, "write postgresql://user@host:port/database"),
        ("postgresql://me:secret@127.0.0.1:1/sky", 3, "postgresql://me@127.0.0.1:1/sky"),
    ],
)
def test_a_silent_database_is_named_without_its_password(
    url: str, status: int, words: str, lake: Path, skylake_command: Run
) -> None:
    answer = skylake_command("mirror", lake, "--to", url)
    assert answer.status == status
    assert words in answer.sentence
    assert "secret" not in answer.err


def test_stopping_a_server_that_does_not_run_says_so(new_lake: Path, well: Run) -> None:
    assert well("mirror", new_lake, "--stop").out == "no embedded server is running\n"


@pytest.fixture
def copied(lake: Path, tmp_path: Path) -> Path:
    """A copy of the calibrated lake, to be changed."""
    return Path(shutil.copytree(lake, tmp_path / "copy", symlinks=True))


def test_a_dry_run_lists_nights_and_changes_nothing(copied: Path, camera: Path, well: Run) -> None:
    assert well("calibrate", copied, "--dry-run").out == "calibrate: every night is up to date\n"
    before = Lake(copied).snapshot().number
    options = ("--version", 2, "--camera", camera, "--from", 20241002)
    (row,) = well("calibrate", copied, *options, "--dry-run", "--json").json
    assert row == {
        "camera": "small", "night": 20241002, "catalog": "simcat", "version": 2, "matches": None,
        "zeropoints": "new",
    }  # fmt: skip
    assert well("calibrate", copied, *options, "--dry-run").out.splitlines()[-1].split() == [
        "small", "20241002", "simcat", "2", "new",
    ]  # fmt: skip
    assert Lake(copied).snapshot().number == before
    made = well("calibrate", copied, "--version", 2, "--to", 20241001, "--camera", "small", "--json").json
    assert [batch["night"] for batch in made["batches"]] == [20241001]


def test_two_versions_are_compared_as_a_table_and_a_picture(
    copied: Path, camera: Path, tmp_path: Path, well: Run, asked: Run
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(camera.read_text() + "filters.V.pivot_colour = 0.2\n")
    well("calibrate", copied, "--profile", path, "--version", 2)
    before = Lake(copied).snapshot().number
    first, second = well("calibrate", copied, "--diff", 1, 2, "--json").json
    assert [(row["night"], row["n_both"], row["n_only_first"]) for row in (first, second)] == [
        (20241001, 4, 0),
        (20241002, 4, 0),
    ]
    query = """
        SELECT median(b.zp - a.zp) AS median, max(b.zp - a.zp) AS most FROM zeropoints AS a
        JOIN zeropoints AS b USING (frame_id) WHERE a.version = 1 AND b.version = 2 AND a.night = 20241001
    """
    (known,) = asked(copied, query)
    assert first["median_mag"] == pytest.approx(known["median"]) and abs(first["median_mag"]) > 0.005
    assert abs(first["largest_mag"]) >= abs(known["most"]) - 1e-9
    table, picture = tmp_path / "differences.csv", tmp_path / "differences.png"
    options = ("--from", 20241002, "-o", table, "--plot", picture)
    assert well("calibrate", copied, "--diff", 2, 1, *options).out == ""
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert float(row["median_mag"]) == pytest.approx(-second["median_mag"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert Lake(copied).snapshot().number == before


def test_a_trial_version_can_be_dropped(copied: Path, well: Run, skylake_command: Run) -> None:
    before = Lake(copied).snapshot()
    well("calibrate", copied, "--version", 2, "--to", 20241001)
    trial = Lake(copied).snapshot().number
    (row,) = well("calibrate", copied, "--drop", 2, "--dry-run", "--json").json["dropped"]
    assert row == {
        "camera": "small", "night": 20241001, "catalog": "simcat", "version": 2, "in_force": 1, "n_frames": 4,
    }  # fmt: skip
    assert Lake(copied).snapshot().number == trial
    said = well("calibrate", copied, "--drop", 2).out
    assert "version 2 of 1 night is dropped" in said
    after = Lake(copied).snapshot()
    assert after.parts("zeropoints").keys() == before.parts("zeropoints").keys()
    assert skylake_command("calibrate", copied, "--drop", 2).sentence == (
        "version 2 has no zeropoints of simcat; there are 1"
    )
    alone = skylake_command("calibrate", copied, "--drop", 1)
    assert alone.status == 2 and "version 1 is the only one of 2 nights from 20241001 on" in alone.sentence
    assert Lake(copied).snapshot().number == after.number


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--diff", 1, 1), "--diff 1 1 names one version twice; name two"),
        (("--diff", 1, 2, "--method", "frame"), "leave out --dry-run, --version, --method and --profile"),
        (("--drop", 1, "--method", "frame"), "--drop takes --catalog, --camera, --from, --to and --dry-run"),
        (("--drop", 1, "--diff", 1, 2), "leave out the other options"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    options: tuple[object, ...], words: str, lake: Path, skylake_command: Run
) -> None:
    answer = skylake_command("calibrate", lake, *options)
    assert answer.status == 2 and words in answer.sentence


def test_frames_that_changed_their_band_have_no_difference(
    copied: Path, camera: Path, tmp_path: Path, well: Run
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(camera.read_text() + 'filters.V.band = "B"\n')
    line = well("calibrate", copied, "--profile", path, "--version", 2).out
    assert line.splitlines()[0].endswith("8 of 8 frames have a zeropoint")
    rows = well("calibrate", copied, "--diff", 1, 2, "--json").json
    assert [(row["band"], row["n_other_band"], row["median_mag"]) for row in rows] == [("V", 4, None)] * 2
    assert well("calibrate", copied, "--diff", 1, 2).out.splitlines()[-1] == (
        "small: 8 frames of V in B now, without a difference"
    )


def test_a_calibration_is_drawn(lake: Path, tmp_path: Path, well: Run, skylake_command: Run) -> None:
    out = tmp_path / "pictures"
    files = well("plot", lake, "--camera", "small", "-o", out, "--json").json
    names = (
        "magnitude",
        "colour",
        "position",
        "airmass",
        "time",
        "transparency",
        "map",
        "repeatability",
        "noise",
    )
    assert files == [str(out / f"small-V-{name}.png") for name in names]
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in files)
    (one,) = well(
        "plot", lake, "time", "-c", "small", "--night", 20241001, "--version", 1, "-o", out, "--json"
    ).json
    assert one == str(out / "small-V-time.png")
    for options in (("--version", 9), ("--band", "R"), ("--night", 20200101), ("--catalog", "other")):
        answer = skylake_command("plot", lake, "--camera", "small", "-o", out, *options)
        assert answer.status == 2
        assert answer.sentence == (
            "there are no zeropoints of small for these options; there are those of version 1 from simcat, in V, of 2 "
            "nights from 20241001 to 20241002"
        )


def test_frames_that_are_not_calibrated_lead_to_calibrate(
    new_lake: Path,
    camera: Path,
    frames: Path,
    sky: Path,
    columns: tuple[str, ...],
    well: Run,
    skylake_command: Run,
) -> None:
    well(
        "catalog",
        "import",
        new_lake,
        "simcat",
        "--format",
        "table",
        sky / "catalog.parquet",
        *columns,
        "--no-index",
    )
    well("ingest", new_lake, "--camera", camera, frames, "--to", 20241001)
    assert well("status", new_lake, "--json").json["without_zeropoint"] == {"small": 4}
    assert "small: 4 good frames have no zeropoint; see `skylake calibrate" in well("status", new_lake).out
    sentence = skylake_command("plot", new_lake, "--camera", "small", "-o", new_lake / "plots").sentence
    assert sentence.startswith("no frame of small is calibrated yet; `skylake calibrate ")
    assert well(*shlex.split(sentence.split("`")[1])[1:])
    assert well("status", new_lake, "--json").json["without_zeropoint"] == {}


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--camera", "large"), 2, "the lake has no frames of large; it has those of small"),
        (("--from", "20241002", "--to", "20241001"), 2, "--from 20241002 is after --to 20241001"),
        (("--profile", "sim"), 2, "the lake has no frames of sim; it has those of small"),
        (("--profile", "none.toml"), 2, "none.toml: there is no such camera profile file"),
        (("--from", "yesterday"), 2, "'yesterday' is no night"),
        (
            ("--from", "20250101"),
            2,
            "there are no frames from 20250101; the lake has those of 2 nights",
        ),
        (("--diff", "1", "7"), 2, "version 7 has no zeropoints of simcat; there are 1"),
        (("--diff", "1", "1", "--version", "3"), 2, "--diff changes nothing; leave out --dry-run, --version"),
        (("--plot", "x.png"), 2, "-o and --plot are for --diff A B"),
    ],
)
def test_what_cannot_be_calibrated_is_named(
    lake: Path, options: tuple[str, ...], status: int, words: str, skylake_command: Run
) -> None:
    answer = skylake_command("calibrate", lake, *options)
    assert (answer.status, answer.out) == (status, "")
    assert words in answer.err


def test_a_profile_and_its_edits_apply_from_the_calibration_on(
    copied: Path, camera: Path, tmp_path: Path, skylake_command: Run, well: Run, asked: Run
) -> None:
    def out_of_date() -> dict[str, int]:
        return dict(well("status", copied, "--json").json["outdated"]["zeropoints"]["why"])

    path = tmp_path / "mine.toml"
    path.write_text(camera.read_text() + "filters.V.pivot_colour = 0.5\n")
    planned = well("calibrate", copied, "--profile", path, "--dry-run", "--json").json
    assert [row["zeropoints"] for row in planned] == ["parameters"] * 2
    assert out_of_date() == {}
    assert well("calibrate", copied, "--profile", path, "--json").json["n_renewed"] == 2
    assert asked(copied, "SELECT DISTINCT pivot_colour FROM zeropoints") == [{"pivot_colour": 0.5}]
    assert out_of_date() == {}
    path.write_text(path.read_text() + 'filters.V.band = "B"\n')
    assert out_of_date() == {"parameters": 2}
    assert well("calibrate", copied).out.startswith(
        "calibrate: 2 nights (2 made anew) against simcat, version 1; 8"
    )
    assert asked(copied, "SELECT DISTINCT band, reason FROM zeropoints") == [{"band": "B", "reason": None}]
    path.write_text(path.read_text() + "= broken\n")
    answer = skylake_command("calibrate", copied)
    assert answer.status == 3 and f"{path}: not valid TOML" in answer.sentence


def test_a_calibration_names_what_is_out_of_date_and_what_to_run(copied: Path, well: Run) -> None:
    assert well("calibrate", copied).out.count("out of date") == 0
    _, line = well("calibrate", copied, "--version", 2, "--from", 20241002).out.splitlines()
    assert line.startswith("calibrate: out of date now: nights, ")
    assert " of night 20241002; photometric_nights of 2 nights from 20241001 to 20241002" in line
    command = shlex.split(line.split("`")[1])
    assert command[:2] == ["skylake", "aggregate"]
    well(*command[1:])
    made = well("calibrate", copied, "--version", 2, "--json").json
    assert made["outdated"]["nights"] == [20241001]
    well(*command[1:])
    assert well("calibrate", copied, "--json").json["outdated"] == {}


def test_a_filter_lost_from_the_profile_is_named(
    copied: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    renamed = Path(cameras.load("sim").source).read_text().replace("filters.V]", "filters.green]")
    path = tmp_path / "renamed.toml"
    path.write_text(
        renamed.replace('"V"', '"green"').replace('band = "green"', 'band = "V"').replace('"sim"', '"small"')
    )
    answer = skylake_command("calibrate", copied, "--profile", path)
    assert answer.status == 3
    assert (
        f"8 frames of small have no zeropoint: the profile {path} knows no filter 'V' any more; name it"
        in answer.err
    )


def test_a_catalog_that_is_not_in_force_is_reported_to_be_none(
    copied: Path, sky: Path, columns: tuple[str, ...], well: Run
) -> None:
    well("catalog", "import", copied, "other", "--format", "table", sky / "catalog.parquet", *columns)
    first, second = well("calibrate", copied, "--catalog", "other").out.splitlines()
    assert first.startswith("calibrate: 2 nights against other, version 1; 8 of 8 frames")
    assert second == (
        'calibrate: light curves, nights and maps are of simcat; for other write calibrate = "other" below [catalog] '
        f"in {copied / 'skylake.toml'}"
    )
    settings = copied / "skylake.toml"
    settings.write_text(settings.read_text().replace('calibrate = ""', 'calibrate = "other"'))
    assert well("calibrate", copied).out == ("calibrate: 2 nights are up to date with other, version 1\n")
    assert well("aggregate", copied).err.count("out of date") == 0
    assert (
        well("status", copied).out.splitlines()[1]
        == "catalogs: other, simcat; solve: simcat, calibrate: other"
    )


def test_of_several_catalogs_the_best_one_calibrates(
    new_lake: Path, camera: Path, frames: Path, sky: Path, columns: tuple[str, ...], well: Run
) -> None:
    """Light that is not in the wanted band is of no use, whichever catalog came first."""
    position = ("--ra", "ra", "--dec", "dec", "--id", "id")
    table = ("--format", "table", sky / "catalog.parquet", "--no-index")
    well("catalog", "import", new_lake, "red", *table, *position, "--mag", "I=V")
    well("catalog", "import", new_lake, "good", *table, *columns)
    well("ingest", new_lake, "--camera", camera, frames)
    first, second, _ = well("calibrate", new_lake).out.splitlines()
    assert first.startswith("calibrate: good calibrates small: V; ") and "red: has not the bands" in first
    assert second.startswith("calibrate: 1 night against good, version 1; 4 of 4 frames have a zeropoint")
    assert "calibrates" not in well("calibrate", new_lake).out, "it is chosen once"
    red, good = reversed(well("catalog", "list", new_lake, "--json").json)
    assert (red["use"], good["use"]) == ("solve", "calibrate")
    assert well("status", new_lake).out.splitlines()[1] == "catalogs: good, red; solve: red, calibrate: good"


def test_json_and_csv_of_the_same_question_agree(lake: Path, well: Run) -> None:
    query = "SELECT frame_id, file, mjd_mid, zp FROM calibrated_frames ORDER BY frame_id"
    rows = json.loads(well("sql", lake, query, "--format", "json").out)
    lines = list(csv.DictReader(io.StringIO(well("sql", lake, query, "--format", "csv").out)))
    assert [{**row, "frame_id": str(row["frame_id"])} for row in rows] == [
        {**line, "mjd_mid": float(line["mjd_mid"]), "zp": float(line["zp"])} for line in lines
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "option"),
    [(["--mag", "R=V", "--colour", "B-V=B-V"], "--mag V=COLUMN"), (["--mag", "V=V"], "--colour B-V=COLUMN")],
)
def test_a_catalog_without_band_or_colour_names_the_option(
    new_lake: Path,
    sky: Path,
    frames: Path,
    camera: Path,
    options: list[str],
    option: str,
    skylake_command: Run,
    well: Run,
) -> None:
    file, place = sky / "catalog.parquet", ("--ra", "ra", "--dec", "dec", "--id", "id")
    well("catalog", "import", new_lake, "bare", "--format", "table", file, *place, *options)
    well("ingest", new_lake, "--camera", camera, frames)
    answer = skylake_command("calibrate", new_lake)
    assert answer.status == 3
    assert answer.out == ("calibrate: 1 night against bare, version 1; 0 of 4 frames have a zeropoint\n")
    warning, last = [line for line in answer.err.splitlines() if line.startswith("skylake: ")]
    assert "4 frames of small have no zeropoint" in warning and f"`{option}`" in warning
    assert last.startswith("skylake: no frame of 4 has a zeropoint (no_")
    assert skylake_command("calibrate", new_lake).status == 3, "it says so although nothing is out of date"
    nightly = skylake_command("run", "nightly", new_lake, "--camera", camera, frames, "--json")
    assert nightly.status == 1
    assert (
        nightly.json["warnings"]
        == nightly.json["calibrate"]["warnings"]
        == [warning.removeprefix("skylake: ")]
    )


def test_one_sentence_of_each_kind_is_shown_and_others_counted() -> None:
    long = [f"/night-{n}.fits: an exposure of {n}.5e+04 s is unusual" for n in (1, 22, 333)]
    late = "/a.fits: the time of DATE-OBS, 2090-01-01T00:00:00 UTC, is still to come"
    assert _one_of_each([long[0], late, *long[1:]]) == [f"{long[0]} (and 2 more like it)", late]
    assert _one_of_each([]) == []


def test_a_broken_aggregate_of_the_user_is_a_warning(
    new_lake: Path, skylake_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (user_file().parent / "aggregates").mkdir(parents=True)
    (user_file().parent / "aggregates" / "a.sql").write_text("SELEC 1")
    done = skylake_command("aggregate", new_lake, "--cluster", "inline")
    assert (done.status, "nights 0 parts" in done.out) == (1, True)
    assert "a.sql: the file does not say its name" in done.err
    assert skylake_command("aggregate", new_lake, "nights", "--cluster", "inline").status == 0
    done = skylake_command("status", new_lake)
    assert (done.status, "not known" in done.err) == (0, False)
    assert "a.sql: the file does not say its name" in done.err

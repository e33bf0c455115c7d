from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from skylake import cameras

Run = Callable[..., Any]


@pytest.fixture
def frame(sky: Path, tmp_path: Path) -> Path:
    """A copy of a frame, under an odd name."""
    return Path(
        shutil.copy(sky / "frames/20241001/small_20241001_0003.fits", tmp_path / 'it\'s "mine" [1].fits')
    )


def readings(checked: dict[str, Any]) -> dict[str, Any]:
    return {reading["quantity"]: reading for reading in checked["readings"]}


def test_every_profile_is_listed_with_what_it_is(skylake_command: Run) -> None:
    listed = skylake_command("camera", "list", "--json").json
    assert [one["name"] for one in listed] == cameras.names()
    assert {"generic", "sim", "skycam-t", "skycam-z"} <= {one["name"] for one in listed}
    lines = skylake_command("camera", "list").out.splitlines()[2:]
    assert [line.split(maxsplit=1) for line in lines] == [[one["name"], one["description"]] for one in listed]


def test_a_profile_is_shown_as_toml_that_gives_the_same_camera(
    camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    shown = tmp_path / "shown.toml"
    for name in (*cameras.names(), camera):
        answer = skylake_command("camera", "show", name)
        assert (answer.status, answer.err) == (0, "")
        shown.write_text(answer.out)
        assert cameras.load(shown).configuration == cameras.load(name).configuration
    answer = skylake_command("camera", "show", camera)
    assert "width_px = 256\n" in answer.out and "# peak_sigma = 4.5\n" in answer.out
    assert skylake_command("camera", "show", camera, "--json").json["base"]["detector"]["width_px"] == 256


def test_a_profile_can_be_shown_as_of_a_date(tmp_path: Path, skylake_command: Run) -> None:
    file = tmp_path / "camera.toml"
    file.write_text(
        'like = "sim"\nname = "new"\ndetector.gain_e_per_adu = 2.0\n\n'
        '[[period]]\nfrom = "2020-06-01"\ndetector.gain_e_per_adu = 3.0\n'
    )
    for date, gain in (("2020-05-31", 2.0), ("2020-06-01", 3.0), ("2024-02-29", 3.0)):
        shown = skylake_command("camera", "show", file, "--at", date)
        assert tomllib.loads(shown.out)["detector"]["gain_e_per_adu"] == gain
        as_json = skylake_command("camera", "show", file, "--at", date, "--json").json
        assert as_json["detector"]["gain_e_per_adu"] == gain


@pytest.mark.parametrize("date", ["2013-13-45", "2013-02-30", "2013", "tomorrow", "2013-06-10T12:00"])
def test_what_is_no_date_is_refused(date: str, skylake_command: Run) -> None:
    answer = skylake_command("camera", "show", "sim", "--at", date)
    assert (answer.status, answer.sentence) == (2, f"{date!r} is no date; write it as 2013-06-10")


@pytest.mark.parametrize("command", [("show", "CAMERA"), ("check", "--camera", "CAMERA", "FRAME")])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('like = "sim"\nname = "x"\ndetectr.width_px = 3\n', "detectr: there is no such key; did you mean detector?"),
        ('like = "sim"\nname = "x"\n[[header.time]]\ncard = ["DATE"]\n', "did you mean header.time[0].cards?"),
        ('like = "sim"\nname = "x"\ngates.n_source.min = 3\n', "did you mean gates.n_sources? gates exist for"),
        ('like = "sim"\nname = "x"\nsite.latitude_deg = "north"\n', "site.latitude_deg: "),
        ("name = = 3\n", "not valid TOML"),
        (None, "there is no such camera profile file"),
    ],
)  # fmt: skip
def test_a_wrong_profile_is_named_with_its_key(
    command: tuple[str, ...], text: str | None, words: str, frame: Path, tmp_path: Path, skylake_command: Run
) -> None:
    file = tmp_path / "my camera.toml"
    if text is not None:
        file.write_text(text)
    places = {"CAMERA": file, "FRAME": frame}
    answer = skylake_command("camera", *(places.get(word, word) for word in command))
    assert answer.status == (2 if text is None else 3)
    assert answer.sentence.startswith(f"{file}: ")
    assert words in answer.sentence


def test_an_unknown_camera_is_named_with_those_that_are(frame: Path, skylake_command: Run) -> None:
    for command in (["show", "none"], ["check", "-c", "none", frame]):
        answer = skylake_command("camera", *command)
        assert answer.status == 2
        assert answer.sentence.startswith(
            "there is no camera profile 'none'; known names are allsky-magic, generic, sim, sim-fisheye, sky"
        )


def test_a_check_notes_inherited_keys_that_no_step_uses(
    frame: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    coloured, grey = tmp_path / "coloured.toml", tmp_path / "grey.toml"
    mosaic = 'detector.bayer_pattern = "RGGB"\nreduction.steps = ["trim", "bayer"]\n'
    coloured.write_text(f'like = {json.dumps(str(camera))}\nname = "coloured"\n{mosaic}')
    grey.write_text('like = "coloured.toml"\nname = "grey"\nreduction.steps = ["trim"]\n')
    [checked] = skylake_command("camera", "check", "-c", grey, frame, "--json").json
    told = readings(checked)["detector.bayer_pattern"]
    assert checked["usable"] and (told["value"], told["verdict"]) == ("RGGB", "ambiguous")
    assert told["note"].startswith("reduction.steps does not name bayer")


def test_a_check_reads_a_header_as_it_is_in_truth(
    frame: Path, sky: Path, camera: Path, skylake_command: Run
) -> None:
    answer = skylake_command("camera", "check", "--camera", camera, frame, "--json")
    assert (answer.status, answer.err) == (0, "")
    [checked] = answer.json
    [true] = [
        row for row in pq.read_table(sky / "truth" / "frames.parquet").to_pylist() if "1001_0003" in row["file"]
    ]  # fmt: skip
    found = readings(checked)
    assert (checked["file"], checked["usable"], checked["reason"]) == (str(frame), True, None)
    assert found["exposure_s"]["value"] == true["exposure_s"]
    assert found["exposure_s"]["source"] == "EXPTIME"
    assert found["mjd_start"]["value"] == pytest.approx(true["mjd_start"], abs=1e-8)
    assert found["gain"]["value"] == true["gain_e_per_adu"]
    assert found["band"]["value"] == true["band"]
    ra, dec = map(float, found["centre"]["value"].split())
    assert (ra, dec) == pytest.approx((true["ra_deg"], true["dec_deg"]), abs=1e-3)
    text = skylake_command("camera", "check", "--camera", camera, frame).out
    assert text.startswith(f"{frame}: ok\n")
    for quantity, reading in found.items():
        assert any(
            line.split()[:1] == [quantity] and str(reading["source"]) in line for line in text.splitlines()
        )


def test_a_check_with_generic_says_what_a_profile_needs(
    frame: Path, tmp_path: Path, skylake_command: Run
) -> None:
    pixels, header = fits.getdata(frame, header=True)
    for name in ("EXPTIME", "GAIN", "FILTER", "SATURATE"):
        header.remove(name, ignore_missing=True)
    header["TEXP"], header["CCDGAIN"], header["FILT_ID"] = 30.0, 1.7, "V"
    fits.writeto(tmp_path / "odd.fits", pixels, header)
    answer = skylake_command("camera", "check", tmp_path / "odd.fits", "--json")
    (checked,) = answer.json
    notes = [f"{one['quantity']}: {one['note']}" for one in checked["readings"]]
    for told in (
        "exposure_s: the header has TEXP = 30.0; if that is it, name the card in header.exposure.cards",
        "gain: the header has CCDGAIN = 1.7; if that is it, name the card in header.gain.cards",
        "filter: the header has FILT_ID = V; if that is it, name the card in header.filter",
        "gain: no number in EGAIN, GAIN; detector.gain_e_per_adu of the profile is used",
    ):
        assert any(note.startswith(told) for note in notes), told
    assert any(note.startswith("site: ") and "[site]" in note for note in notes)
    assert any(note.startswith("saturation_adu: ") and "detector.saturation_adu" in note for note in notes)


def test_a_check_shows_what_is_missing_and_the_status_is_1(
    frame: Path, sky: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    good = sky / "frames/20241001/small_20241001_0001.fits"
    letter = tmp_path / "letter.fits"
    letter.write_text("Dear colleague")
    with fits.open(frame, mode="update") as file:
        del file[0].header["DATE-OBS"]
    answer = skylake_command("camera", "check", "-c", camera, good, frame, letter, "--json")
    assert answer.status == 1
    assert [(one["usable"], one["reason"]) for one in answer.json] == [
        (True, None), (False, "no_time"), (False, "not_fits"),
    ]  # fmt: skip
    text = skylake_command("camera", "check", "-c", camera, good, frame, letter)
    assert (text.status, text.err) == (1, "")
    assert f"{frame}: no_time\n  {answer.json[1]['message']}\n" in text.out
    assert f"{letter}: not_fits\n  {answer.json[2]['message']}\n" in text.out


def test_a_check_agrees_with_what_ingest_makes_of_a_frame(
    frame: Path, camera: Path, new_lake: Path, skylake_command: Run
) -> None:
    with fits.open(frame, mode="update") as file:
        for card in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2"):
            del file[0].header[card]
    [checked] = skylake_command("camera", "check", "-c", camera, frame, "--json").json
    [problem] = skylake_command("ingest", new_lake, "-c", camera, frame, "--json").json["problems"]
    assert (checked["usable"], checked["reason"]) == (False, problem["reason"]) == (False, "no_wcs")


def test_a_camera_without_a_wcs_is_solved_by_its_stars(
    frame: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    blind, stubborn = tmp_path / "blind.toml", tmp_path / "stubborn.toml"
    like = json.dumps(str(camera))
    blind.write_text(f'name = "blind"\nlike = {like}\nheader.wcs = "none"\n')
    stubborn.write_text(f'name = "stubborn"\nlike = {like}\nheader.wcs = "none"\nastrometry.solve = false\n')
    answer = skylake_command("camera", "check", "-c", blind, frame, "--json")
    [checked] = answer.json
    assert (answer.status, checked["usable"], checked["reason"]) == (0, True, None)
    assert "catalog import" in readings(checked)["centre"]["note"]
    answer = skylake_command("camera", "check", "-c", stubborn, frame, "--json")
    assert (answer.status, answer.json[0]["reason"]) == (1, "no_wcs")


def test_a_camera_of_the_whole_sky_needs_a_site_and_no_index(
    frame: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    sky, lost = tmp_path / "sky.toml", tmp_path / "lost.toml"
    whole = 'header.wcs = "none"\nastrometry.all_sky = true\n'
    sky.write_text(f'name = "whole"\nlike = {json.dumps(str(camera))}\n{whole}')
    lost.write_text(f'name = "lost"\nlike = "generic"\n{whole}')
    answer = skylake_command("camera", "check", "-c", sky, frame, "--json")
    assert (answer.status, answer.json[0]["usable"]) == (0, True)
    centre = readings(answer.json[0])["centre"]
    assert (
        centre["verdict"] == "ok"
        and "needs no index" in centre["note"]
        and "catalog index" not in centre["note"]
    )
    answer = skylake_command("camera", "check", "-c", lost, frame, "--json")
    assert (answer.status, answer.json[0]["reason"]) == (1, "no_wcs")
    assert "longitude_deg and latitude_deg under [site]" in answer.json[0]["message"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path, skylake_command: Run) -> None:
    missing = skylake_command("camera", "check", tmp_path / "no frame.fits")
    assert missing.status == 2
    assert f"'{tmp_path}/no frame.fits' does not exist" in missing.sentence
    folder = skylake_command("camera", "check", tmp_path)
    assert folder.status == 2
    assert f"File '{tmp_path}' is a directory" in folder.sentence


@pytest.mark.parametrize(
    ("card", "value", "quantity", "reason"),
    [
        ("EXPTIME", "INF", "exposure_s", "bad_header"),
        ("EXPTIME", 1e12, "exposure_s", "bad_header"),
        ("DATE-OBS", "0001-01-01T00:00:00", "mjd_start", "bad_header"),
        ("TIMESYS", "LOCAL", "mjd_start", "ambiguous_header"),
    ],
)
def test_a_check_names_the_card_that_no_frame_can_have(
    frame: Path, camera: Path, skylake_command: Run, card: str, value: Any, quantity: str, reason: str
) -> None:
    fits.setval(frame, card, value=value)
    answer = skylake_command("camera", "check", "-c", camera, frame, "--json")
    [checked] = answer.json
    assert (answer.status, checked["usable"], checked["reason"]) == (1, False, reason)
    assert card in checked["message"] and readings(checked)[quantity]["value"] is None


def test_a_time_that_cannot_be_read_is_reported_as_it_stands(
    frame: Path, camera: Path, skylake_command: Run
) -> None:
    fits.setval(frame, "DATE-OBS", value="yesterday evening")
    [checked] = skylake_command("camera", "check", "-c", camera, frame, "--json").json
    assert (
        checked["reason"] == "no_time" and "DATE-OBS = yesterday evening is no iso time" in checked["message"]
    )
    assert readings(checked)["mjd_start"]["verdict"] == "wrong"


def test_a_check_holds_scale_and_sun_against_the_profile(
    frame: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    [checked] = skylake_command("camera", "check", "-c", camera, frame, "--json").json
    found = readings(checked)
    assert found["pixel_scale_arcsec"]["verdict"] == found["sun_altitude_deg"]["verdict"] == "ok"
    assert -90.0 < found["sun_altitude_deg"]["value"] < -9.0
    own = tmp_path / "other.toml"
    lines = "optics.pixel_scale_arcsec = 9.0\nsite.longitude_deg = 109.6"
    own.write_text(f'like = {json.dumps(str(camera))}\nname = "other"\n{lines}\n')
    [checked] = skylake_command("camera", "check", "-c", own, frame, "--json").json
    found = readings(checked)
    assert checked["usable"] and "the profile says 9;" in found["pixel_scale_arcsec"]["note"]
    assert found["sun_altitude_deg"]["value"] > 0.0 and "the Sun is up" in found["sun_altitude_deg"]["note"]


def test_a_check_shows_the_scale_of_raw_pixels_of_a_mosaic(
    frame: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    coloured = tmp_path / "coloured.toml"
    mosaic = 'detector.bayer_pattern = "RGGB"\nreduction.steps = ["trim", "bayer"]\n'
    coloured.write_text(f'like = {json.dumps(str(camera))}\nname = "coloured"\n{mosaic}')
    told = []
    for profile in (camera, coloured):
        [checked] = skylake_command("camera", "check", "-c", profile, frame, "--json").json
        told.append(readings(checked)["pixel_scale_arcsec"])
    assert told[1]["verdict"] == "ok"
    assert told[1]["value"] == pytest.approx(told[0]["value"], rel=1e-3)


def test_a_check_lists_the_gates_in_force_and_those_missing(
    frame: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    [checked] = skylake_command("camera", "check", frame, "--json").json
    told = readings(checked)["gates"]
    assert (told["value"], told["source"]) == (1, "profile")
    assert (
        told["note"] == "n_sources >= 5; none on sun_altitude_deg, mean_ellipticity, fwhm_px, found_fraction"
    )
    own = tmp_path / "own.toml"
    own.write_text(
        f'like = {json.dumps(str(camera))}\nname = "own"\ngates.fwhm_px = {{ min = 1.5, max = 6 }}\n'
    )
    [checked] = skylake_command("camera", "check", "-c", own, frame, "--json").json
    note = readings(checked)["gates"]["note"]
    assert "fwhm_px >= 1.5 and <= 6, " in note and note.endswith("n_sources >= 20"), note


def test_a_check_shows_images_that_are_not_taken(
    frame: Path, camera: Path, tmp_path: Path, new_lake: Path, skylake_command: Run
) -> None:
    with fits.open(frame) as file:
        both = fits.HDUList([file[0].copy(), fits.ImageHDU(file[0].data, file[0].header)])
        both.writeto(frame, overwrite=True)
    own = tmp_path / "second.toml"
    own.write_text(f'like = {json.dumps(str(camera))}\nname = "second"\nheader.extension = 1\n')
    for profile, told in ((camera, True), (own, False)):
        answer = skylake_command("camera", "check", "-c", profile, frame, "--json")
        found = readings(answer.json[0])
        assert (answer.status, "images" in found) == (0, told)
        assert skylake_command("ingest", new_lake, "-c", profile, frame).status == 0
        if told:
            assert (found["images"]["value"], found["images"]["source"]) == (2, "HDU 0")
            assert "header.extension" in found["images"]["note"]
    query = "SELECT camera, extension, flags & 4096 AS more FROM frames ORDER BY camera"
    rows = skylake_command("sql", new_lake, query, "--format", "json").json
    assert rows == [
        {"camera": "second", "extension": 1, "more": 0}, {"camera": "small", "extension": 0, "more": 4096},
    ]  # fmt: skip


def test_doubts_stand_in_a_table_with_what_is_taken(frame: Path, camera: Path, skylake_command: Run) -> None:
    fits.setval(frame, "EXPTIME", value=7250.0)
    answer = skylake_command("camera", "check", "-c", camera, frame)
    assert answer.status == 0
    line = answer.out.splitlines()[-1]
    assert line.startswith(str(frame)) and re.search(
        r" exposure_s +EXPTIME = 7250 s +EXPTIME +an exposure of 7250 s is unusual", line
    )
    [checked] = skylake_command("camera", "check", "-c", camera, frame, "--json").json
    [doubt] = checked["doubts"]
    assert (doubt["quantity"], doubt["stated"], doubt["taken"], doubt["reason"]) == (
        "exposure_s", [["EXPTIME", "7250 s"]], "EXPTIME", None,
    )  # fmt: skip


def test_all_that_frames_contradict_stands_in_one_table_as_ingest_says_it(
    sky: Path, camera: Path, tmp_path: Path, new_lake: Path, skylake_command: Run
) -> None:
    first, second, third = (tmp_path / f"frame {number}.fits" for number in range(3))
    for frame in (first, second, third):
        shutil.copy(sky / "frames/20241001/small_20241001_0002.fits", frame)
    pixels, header = fits.getdata(first, header=True)
    fits.writeto(first, (pixels / 40000.0).astype("f4"), header, overwrite=True)
    fits.setval(second, "AIRMASS", value=7.5)
    fits.setval(third, "EXPTIME", value=9000.0)
    frames = (first, second, third)
    answer = skylake_command("camera", "check", "-c", camera, *frames)
    assert answer.status == 0
    head, _, *rows = answer.out.splitlines()[-5:]
    assert head.split()[:2] == ["file", "doubted"]
    assert [row.removeprefix(str(frame)).split()[0] for row, frame in zip(rows, frames, strict=True)] == [
        "gain", "airmass", "exposure_s",
    ]  # fmt: skip
    checked = skylake_command("camera", "check", "-c", camera, *frames, "--json").json
    skylake_command("ingest", new_lake, "-c", camera, *frames)
    query = "SELECT file, message, flags & 262144 AS doubted FROM frames ORDER BY file"
    told = skylake_command("sql", new_lake, query, "--format", "json").json
    for row, one in zip(told, checked, strict=True):
        assert row["file"] == one["file"] and row["doubted"]
        assert one["doubts"][0]["sentence"] in row["message"]

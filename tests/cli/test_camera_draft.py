"""`skylake camera new`: a profile from the headers of some frames, which works as it is written."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake import cameras

Run = Callable[..., Any]


@pytest.fixture
def odd_frames(sky: Path, tmp_path: Path) -> list[Path]:
    """Frames whose headers use other names than most, and the names of a mosaic camera."""
    files = []
    for number, frame in enumerate(sorted((sky / "frames/20241001").glob("*.fits"))[:3]):
        pixels, header = fits.getdata(frame, header=True)
        start = header["DATE-OBS"]
        for name in ("EXPTIME", "GAIN", "FILTER", "RDNOISE", "DATE-OBS"):
            del header[name]
        header["TEXP"], header["CCDGAIN"], header["RON"], header["UTC_TIME"] = 30.0, 1.7, 8.5, start
        header["GAIN"], header["FILT_ID"], header["INSTRUME"] = (
            139,
            ("dark sky", "V", "V")[number],
            "Lab: No. 3",
        )
        header["SITELONG"], header["SITELAT"], header["APTDIA"] = "70:24:00 W", "-24 36 00", 105
        files.append(tmp_path / f"odd{number}.fits")
        fits.writeto(files[-1], pixels, header)
    return files


def test_the_profile_that_is_written_reduces_the_frames_it_was_made_from(
    sky: Path, tmp_path: Path, new_lake: Path, skylake_command: Run
) -> None:
    frames, profile = sorted((sky / "frames/20241001").glob("*.fits")), tmp_path / "made.toml"
    answer = skylake_command("camera", "new", *frames, "--name", "made", "-o", profile)
    assert (answer.status, answer.err) == (0, "")
    wrote, _, following = answer.out.partition("; next: ")
    assert wrote == f"wrote {profile}"
    assert skylake_command(*shlex.split(following)[1:]).status == 0
    counts = skylake_command("ingest", new_lake, "--camera", profile, *frames, "--json").json["counts"]
    assert counts == {"ok": len(frames)}
    written = cameras.load(profile).base
    assert (written.detector.width_px, written.detector.height_px) == (256, 256)
    assert written.optics.pixel_scale_arcsec == pytest.approx(8.0, rel=1e-3)
    assert written.detector.gain_e_per_adu == fits.getval(frames[0], "GAIN")
    again = skylake_command("camera", "new", frames[0], "-o", profile)
    assert (again.status, again.sentence) == (
        2, f"{profile}: it exists, and may hold what you have added; name a new file",
    )  # fmt: skip


def test_cards_of_other_names_are_found_with_their_units(
    odd_frames: list[Path], tmp_path: Path, skylake_command: Run
) -> None:
    answer = skylake_command("camera", "new", *odd_frames)
    assert (answer.status, answer.err) == (0, "")
    profile = tmp_path / "odd.toml"
    profile.write_text(answer.out)
    written = tomllib.loads(answer.out)
    assert written["name"] == "lab-no-3"
    assert written["site"] == {"longitude_deg": -70.4, "latitude_deg": -24.6}
    assert written["optics"]["diameter_m"] == 0.105
    assert written["header"]["gain"]["cards"] == ["CCDGAIN"], "139 is a setting"
    for line in ("width_px = 256 ", "# saturation_adu", '# [filters."dark sky"]'):
        assert line in answer.out
    checked = skylake_command("camera", "check", "--camera", profile, *odd_frames, "--json").json
    found = {one["quantity"]: one["value"] for one in checked[1]["readings"]}
    assert all(one["usable"] for one in checked)
    assert (found["exposure_s"], found["gain"], found["read_noise"], found["band"]) == (30.0, 1.7, 8.5, "V")
    assert found["start_utc"] == fits.getval(odd_frames[1], "UTC_TIME")[:19]


def test_a_time_in_the_names_of_files_and_a_mosaic_are_found(tmp_path: Path, skylake_command: Run) -> None:
    header = fits.Header({"EXPTIME": 20.0, "BAYERPAT": "GRBG"})
    frames = [tmp_path / f"roof-2022-03-0{day}T21_15_07.fits" for day in (4, 5)]
    noise = np.random.default_rng(8).poisson(900.0, (60, 80)).astype(np.uint16)
    for frame in frames:
        fits.writeto(frame, noise, header)
    profile = tmp_path / "roof.toml"
    skylake_command("camera", "new", *frames, "--name", "roof", "-o", profile)
    written = cameras.load(profile).base
    assert (written.detector.bayer_pattern, written.reduction.steps) == ("GRBG", ("bayer",))
    for frame, day in zip(frames, ("04", "05"), strict=True):
        with fits.open(frame) as opened:
            reading = cameras.read_header(opened[0].header, cameras.load(profile), frame.name)
        assert reading.time_source == "file name"
        assert reading.mjd_start == pytest.approx(59638 + int(day) + (21 + 15 / 60 + 7 / 3600) / 24)


def test_frames_of_two_sizes_are_not_of_one_camera(
    odd_frames: list[Path], tmp_path: Path, skylake_command: Run
) -> None:
    small = tmp_path / "small.fits"
    fits.writeto(small, np.zeros((9, 12), np.uint16))
    answer = skylake_command("camera", "new", odd_frames[0], small)
    assert answer.status == 2
    assert f"{odd_frames[0]} has 256 x 256 px, {small} has 12 x 9 px" in answer.sentence
    wrong = skylake_command("camera", "new", odd_frames[0], "--name", "../up")
    assert (wrong.status, "--name '../up': use letters" in wrong.sentence) == (2, True)

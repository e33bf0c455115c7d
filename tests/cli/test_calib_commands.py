"""``skylake calib``: masters are made on workers, listed and shown, and bad frames named."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from skylake.cameras import load_chips
from skylake.cli.arguments import moment
from skylake.cli.calib_commands import _show_build, _two_read_noises, _validity
from skylake.flow.masters.build_masters import MasterBuildReport
from skylake.simulate import Scenario, StarParams, simulate

Run = Callable[..., Any]

RAW = """
like = "sim"
name = "raw"
detector.width_px = 128
detector.height_px = 128
reduction.steps = ["bias", "dark", "flat", "bad_pixels"]
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "raw.toml"
    path.write_text(RAW)
    return path


@pytest.fixture(scope="module")
def frames(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibration frames of a night."""
    scenario = Scenario(
        camera=str(profile), raw=True, nights=1, frames_per_night=1, calibration_frames=5,
        stars=StarParams(per_frame=20.0),
    )  # fmt: skip
    return simulate(scenario, tmp_path_factory.mktemp("night")).out / "calibration"


@pytest.fixture(scope="module")
def built(profile: Path, frames: Path, tmp_path_factory: pytest.TempPathFactory, well: Run) -> Path:
    """A lake with masters that were made on two worker processes."""
    lake = tmp_path_factory.mktemp("lake") / "lake"
    well("init", lake)
    answer = well("calib", "build", lake, "--camera", profile, frames, "--cluster", "local", "--workers", "2")
    assert "electrons per ADU, read noise" in answer.out and "calib build: made raw-bias-" in answer.out
    return lake


def test_two_read_noises_are_shown_with_their_gains() -> None:
    """Both saw the same noise in ADU; one had the gain in its profile, the other measured it."""
    here = {"extension": 0, "binning": "1x1", "read_noise_err": 0.02}
    bias = here | {"kind": "bias", "name": "b", "read_noise_e": 8.0}
    transfer = here | {"kind": "transfer", "name": "t", "read_noise_e": 6.4, "gain_e_per_adu": 1.2}
    (told,) = _two_read_noises([bias, {"kind": "flat", "name": "f"}, transfer])
    assert (
        "b gives 8 electrons by the gain of header or profile, t 6.4 by the gain that it measured, 1.2"
        in told
    )
    assert 'reduction.measured = ["gain", "read_noise"]' in told
    assert _two_read_noises([bias, transfer | {"read_noise_e": 8.05}]) == []
    assert _two_read_noises([bias, transfer | {"extension": 1}]) == []
    assert len(_two_read_noises([bias, transfer, transfer | {"name": "of another filter"}])) == 1


@pytest.mark.parametrize(("measured", "advised"), [(["gain"], True), (["gain", "read_noise"], False)])
def test_who_uses_photon_transfers_gets_no_advice_to(
    profile: Path, measured: list[str], advised: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f'like = "{profile}"\n[reduction]\nmeasured = {measured}\n', encoding="utf-8")
    here = {"extension": 0, "binning": "1x1", "read_noise_err": 0.02, "gain_err": 0.01}
    bias = here | {"kind": "bias", "name": "b", "read_noise_e": 8.0}
    transfer = here | {"kind": "transfer", "name": "t", "read_noise_e": 6.4, "gain_e_per_adu": 1.2}
    _show_build(MasterBuildReport([bias, transfer]), load_chips(own))
    said = capsys.readouterr().out
    assert "t: gain 1.2" in said and ("read noise: b gives" in said) == advised


def checked(answer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    (told,) = answer.json
    # A second row on a quantity names cards that may hold it.
    return told, {row["quantity"]: row for row in reversed(told["readings"])}


def test_a_check_of_a_raw_frame_names_its_masters(
    built: Path, profile: Path, frames: Path, tmp_path: Path, skylake_command: Run
) -> None:
    own = tmp_path / "own.toml"
    lines = 'measured = ["gain"]\n[header.temperature]\ncards = ["NONE"]\n'
    own.write_text(f'like = "{profile}"\n[reduction]\n{lines}', encoding="utf-8")
    frame = next((frames.parent / "frames").rglob("*.fits"))
    alone = skylake_command("camera", "check", "-c", own, frame, "--json")
    told, rows = checked(alone)
    assert (alone.status, told["usable"], told["reason"]) == (0, True, None)
    assert {"centre", "pixel_scale_arcsec", "sun_altitude_deg", "gates"} < set(rows)
    assert rows["masters"]["verdict"] == "missing" and "--lake" in rows["masters"]["note"]
    assert rows["masters"]["note"].startswith("bias, dark, flat, bad_pixels: ")
    assert rows["steps"]["note"] == "bias, dark, flat, bad_pixels"
    assert rows["gain"]["value"] is None and "from the photon transfer" in rows["gain"]["note"]
    assert rows["ccd_temperature_c"]["verdict"] == "missing"
    assert "masters fit at any temperature" in rows["ccd_temperature_c"]["note"]
    assert "header.temperature.cards" in rows["ccd_temperature_c"]["note"]
    within = skylake_command("camera", "check", "-c", own, "--lake", built, frame, "--json")
    told, rows = checked(within)
    assert (within.status, told["usable"], told["reason"]) == (0, True, None)
    (transfer,) = skylake_command("calib", "list", built, "--kind", "transfer", "--json").json
    assert (rows["gain"]["value"], rows["gain"]["source"]) == (transfer["gain_e_per_adu"], transfer["name"])
    assert rows["masters"]["value"] == 4 and "raw-bias-" in rows["masters"]["note"]
    _, plain = checked(skylake_command("camera", "check", "-c", profile, "--lake", built, frame, "--json"))
    assert plain["ccd_temperature_c"]["verdict"] == "ok" and plain["gain"]["source"] != transfer["name"]


@pytest.mark.parametrize(
    ("cards", "told"),
    [
        (
            {"IMAGETYP": "Bias Frame"},
            "a bias (IMAGETYP = 'Bias Frame'), and .*: name IMAGETYP in header.kind of ",
        ),
        ({"OBJECT": "Dark 30"}, "a dark (OBJECT = 'Dark 30')"),
        ({"EXPTIME": 0.0}, "a bias (EXPTIME = 0)"),
        ({}, "a frame of the sky"),
        ({"OBJECT": "Dark nebula B33"}, "a frame of the sky"),
    ],
)
def test_a_check_says_that_a_frame_of_the_sky_may_be_none(
    profile: Path, frames: Path, tmp_path: Path, skylake_command: Run, cards: dict[str, Any], told: str
) -> None:
    own, frame = tmp_path / "own.toml", tmp_path / "one.fits"
    own.write_text(f'like = "{profile}"\nheader.kind = []\n', encoding="utf-8")
    with fits.open(next((frames.parent / "frames").rglob("*.fits"))) as file:
        file[0].header.remove("OBSTYPE")
        if "sky" not in told:
            file[0].header.remove("CTYPE1")
        file[0].header.update(cards)
        file.writeto(frame)
    answer = skylake_command("camera", "check", "-c", own, frame, "--json")
    found, rows = checked(answer)
    assert (answer.status, found["reason"]) == (0, None)
    assert re.search(told.replace("(", r"\(").replace(")", r"\)"), rows["kind"]["note"])


@pytest.mark.parametrize(
    ("kind", "idle"), [("bias", {"filter", "exposure_s"}), ("dark", {"filter"}), ("flat", set())]
)
def test_a_check_says_as_what_a_calibration_frame_is_taken(
    profile: Path, frames: Path, kind: str, idle: set[str], tmp_path: Path, skylake_command: Run
) -> None:
    """Whoever sees that a card is read wrongly has not built masters of the wrong frames."""
    first = next(file for file in sorted(frames.rglob("*.fits")) if kind in file.name)
    frame = tmp_path / "one.fits"
    with fits.open(first) as file:
        file[0].header.remove("FILTER", ignore_missing=True)
        file[0].header["EXPTIME"] = 0.0
        file.writeto(frame)
    answer = skylake_command("camera", "check", "-c", profile, frame, "--json")
    told, rows = checked(answer)
    assert (answer.status, told["usable"], told["taken_as"]) == (0, False, kind)
    assert rows["kind"]["note"] == f"-> {kind}; no frame of the sky, but for `skylake calib build`"
    assert {"filter", "exposure_s"} - set(rows) == idle
    text = skylake_command("camera", "check", "-c", profile, frame).out
    assert text.startswith(f"{frame}: {kind}, no frame of the sky\n")
    fits.setval(frame, "OBSTYPE", value="arc lamp")
    answer = skylake_command("camera", "check", "-c", profile, frame, "--json")
    told, rows = checked(answer)
    assert (answer.status, told["taken_as"], told["reason"]) == (1, None, "not_science")
    assert "neither in header.bias_kinds" in rows["kind"]["note"]


def test_masters_are_listed_by_camera_and_kind(built: Path, well: Run, skylake_command: Run) -> None:
    rows = well("calib", "list", built, "--json").json
    assert [row["kind"] for row in rows] == ["bad_pixels", "bias", "dark", "flat", "transfer"]
    assert {row["camera"] for row in rows} == {"raw"}
    assert well("calib", "list", built, "--kind", "flat", "--json").json == [rows[3]]
    assert well("calib", "list", built, "--camera", "raw", "--json").json == rows
    assert skylake_command("calib", "list", built, "--camera", "other").status == 2
    assert rows[1]["name"] in well("calib", "list", built).out
    question = "SELECT kind, n_frames FROM masters ORDER BY kind"
    asked = well("sql", built, question, "--format", "csv").out.replace(chr(34), "")
    assert asked.splitlines() == [
        "kind,n_frames",
        "bad_pixels,15",
        "bias,5",
        "dark,5",
        "flat,5",
        "transfer,5",
    ]


def test_the_shell_completes_names_of_masters(built: Path, environment: dict[str, str], well: Run) -> None:
    names = sorted(row["name"] for row in well("calib", "list", built, "--json").json)
    variables = {
        "_SKYLAKE_COMPLETE": "bash_complete",
        "COMP_WORDS": f"skylake calib show {built} ",
        "COMP_CWORD": "4",
    }
    done = subprocess.run(
        [sys.executable, "-m", "skylake"],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.splitlines(), done.stderr) == ([f"plain,{name}" for name in names], "")


def test_a_master_is_shown_with_what_it_was_made_of(built: Path, well: Run) -> None:
    name = well("calib", "list", built, "--kind", "dark", "--json").json[0]["name"]
    row = well("calib", "show", built, name, "--json").json
    assert row["exposure_s"] == 30.0 and len(row["inputs"]) == 6
    text = well("calib", "show", built, name).out
    assert "rejected_fraction" in text and all(Path(file).name in text for file in row["inputs"])


@pytest.mark.parametrize("kind", ["bias", "flat", "bad_pixels", "transfer"])
def test_a_master_can_be_a_picture(built: Path, kind: str, tmp_path: Path, well: Run) -> None:
    name = well("calib", "list", built, "--kind", kind, "--json").json[0]["name"]
    answer = well("calib", "show", built, name, "--plot", tmp_path / "master.png")
    assert answer.err == f"wrote {tmp_path / 'master.png'}\n"
    assert (tmp_path / "master.png").stat().st_size > 3000


def test_times_show_seconds_and_photon_transfers_their_gain(built: Path, well: Run) -> None:
    (row,) = well("calib", "list", built, "--kind", "transfer", "--json").json
    lines = well("calib", "list", built, "--kind", "transfer").out.splitlines()
    names = lines[0].split()
    assert {"gain_e_per_adu", "gain_err", "read_noise_e"} < set(names) and "level" not in names
    assert f"{row['gain_e_per_adu']:.6g}" in lines[2].split()
    shown = [line.split() for line in well("calib", "show", built, row["name"]).out.splitlines()]
    (mjd,) = [line for line in shown if line[:1] == ["mjd_mid"]]
    assert float(mjd[1]) == pytest.approx(row["mjd_mid"], abs=1e-5) and mjd[2] == "d"
    assert ["gain_e_per_adu", f"{row['gain_e_per_adu']:.6g}", "electron/adu"] in shown


def test_a_flat_shows_what_it_may_have_of_a_gradient(built: Path, well: Run) -> None:
    (row,) = well("calib", "list", built, "--kind", "flat", "--json").json
    told = well("calib", "show", built, row["name"], "--json").json
    header = fits.getheader(built / told["file"], 0)
    assert told["gradient_x_err"] > 0.0 and told["gradient_y_err"] > 0.0
    assert told["gradient_x_err"] == pytest.approx(header["GRADXX"] ** 0.5, rel=1e-6)
    assert told["gradient_y_err"] == pytest.approx(header["GRADYY"] ** 0.5, rel=1e-6)
    assert -1.0 <= told["gradient_correlation"] <= 1.0
    assert "gradient_x_err" in well("calib", "show", built, row["name"]).out


def test_workers_make_what_this_process_makes(
    built: Path, frames: Path, profile: Path, tmp_path: Path, well: Run
) -> None:
    well("init", tmp_path / "lake")
    answer = well("calib", "build", tmp_path / "lake", "-c", profile, frames, "--cluster", "inline", "--json")
    made = {row["name"]: row["sha256"] for row in answer.json["masters"]}
    held = well("sql", built, "SELECT name, sha256 FROM masters", "--format", "json").json
    assert made == {row["name"]: row["sha256"] for row in held}


def test_frames_of_no_use_are_named_and_the_status_is_1(
    frames: Path, profile: Path, tmp_path: Path, skylake_command: Run
) -> None:
    skylake_command("init", tmp_path / "lake")
    folder = tmp_path / "some"
    folder.mkdir()
    for path in sorted(frames.rglob("*bias*")):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "empty.fits").write_bytes(b"")
    answer = skylake_command(
        "calib", "build", tmp_path / "lake", "-c", profile, folder, "--cluster", "inline"
    )
    assert answer.status == 1 and "calib build: made raw-bias-" in answer.out
    assert "empty.fits: left out/empty_file: the file is empty; copy it again from its origin" in answer.err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--valid-from", "2024-05-01", "--valid-to", "2024-04-01"], "name the earlier time first"),
        (["--valid-from", "soon"], "is no time"),
        (["--form", "mask", "--kind", "dark"], "leave --kind dark out"),
        (["--kind", "arc"], "arc"),
    ],
)
def test_wrong_use_is_one_sentence(
    arguments: list[str], match: str, built: Path, profile: Path, frames: Path, skylake_command: Run
) -> None:
    answer = skylake_command("calib", "build", built, "-c", profile, frames, *arguments)
    assert answer.status == 2 and match in answer.sentence


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (None, None, "always"), (60401.0, None, "from 2024-04-01"), (None, 60409.5, "until 2024-04-09T12:00"),
        (60401.0, 60409.5 - 1e-6, "from 2024-04-01 until 2024-04-09T12:00"),
    ],
)  # fmt: skip
def test_a_validity_is_reported_also_where_nothing_limits_it(
    first: float | None, last: float | None, words: str
) -> None:
    assert _validity({"valid_from_mjd": first, "valid_to_mjd": last}) == words


def test_the_validity_of_masters_is_listed_and_shown(built: Path, well: Run) -> None:
    rows = well("calib", "list", built, "--json").json
    header, _, *lines = well("calib", "list", built).out.splitlines()
    assert header.split()[-3:] == ["mjd_mid", "taken", "valid"] and "valid_to_mjd" not in header
    for line, row in zip(lines, rows, strict=True):
        taken = line.removesuffix(_validity(row)).split()[-1]
        assert moment(taken) == pytest.approx(row["mjd_mid"], abs=0.5 / 1440.0)
    assert all(line.endswith(_validity(row)) for line, row in zip(lines, rows, strict=True))
    text = well("calib", "show", built, rows[0]["name"]).out
    (shown,) = [line for line in text.splitlines() if line.split()[:1] == ["valid"]]
    assert _validity(rows[0]) in shown


def test_a_validity_that_is_reported_is_kept(frames: Path, profile: Path, tmp_path: Path, well: Run) -> None:
    well("init", tmp_path / "lake")
    span = ("--valid-from", "2024-04-01", "--valid-to", "2024-04-09T12:00:00+02:00")
    biases = sorted(frames.rglob("*bias*"))
    rows = well(
        "calib", "build", tmp_path / "lake", "-c", profile, *biases, *span, "--cluster", "inline", "--json"
    ).json["masters"]
    assert [(row["valid_from_mjd"], row["valid_to_mjd"]) for row in rows] == [
        (60401.0, pytest.approx(60409.0 + 10.0 / 24.0))
    ]


def test_an_unknown_master_is_reported(built: Path, skylake_command: Run) -> None:
    answer = skylake_command("calib", "show", built, "nothing")
    assert answer.status == 2 and "skylake calib list" in answer.sentence

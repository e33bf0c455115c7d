from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from skylake.cli.simulate_command import scenario_from
from skylake.simulate import Scenario

Run = Callable[..., Any]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def simulate(camera: Path, tmp_path: Path, skylake_command: Run) -> Run:
    """A function (name of the folder, *options) that simulates a frame or two."""

    def go(name: str, *options: object) -> Any:
        small = ("--camera", camera, "--nights", 1, "--frames", 2, "--stars", 50, "--workers", 1)
        return skylake_command("simulate", tmp_path / name, *small, *options)

    return go


def test_what_is_reported_is_what_is_there(simulate: Run, tmp_path: Path) -> None:
    answer = simulate("my sky", "--first-night", "20241001", "--json")
    out = tmp_path / "my sky"
    assert (answer.status, answer.err) == (0, "")
    frames = pq.read_table(out / "truth" / "frames.parquet").to_pylist()
    detections = pq.read_table(out / "truth" / "detections" / "20241001.parquet")
    assert answer.json == {
        "out": str(out), "frames": 2, "calibration_frames": 0, "catalog": str(out / "catalog.parquet"),
        "catalog_stars": pq.read_table(out / "catalog.parquet").num_rows, "detections": detections.num_rows,
    }  # fmt: skip
    assert [row["night"] for row in frames] == [20241001, 20241001]
    for row in frames:
        with fits.open(out / row["file"]) as file:
            assert file[0].data.shape == (256, 256)
            assert file[0].header["EXPTIME"] == row["exposure_s"] == 30.0


def test_options_reach_the_frames(simulate: Run, tmp_path: Path) -> None:
    answer = simulate(
        "sky", "--exposure", 12.5, "--filter", "R", "--fields", 3, "--target-fraction", 0, "--clouds", 1,
        "--no-wcs", 1, "--form", "fits.gz", "--raw",
    )  # fmt: skip
    assert answer.status == 0
    assert answer.out.startswith("simulate: 2 frames, ")
    frames = pq.read_table(tmp_path / "sky" / "truth" / "frames.parquet").to_pylist()
    for row in frames:
        assert (row["exposure_s"], row["filter"], row["clear"], row["wcs"]) == (12.5, "R", False, "absent")
        assert row["field"] > 0 and row["file"].endswith(".fits.gz")
        with fits.open(tmp_path / "sky" / row["file"]) as file:
            assert "CRVAL1" not in file[0].header
    kinds = [fits.getheader(path)["OBSTYPE"] for path in (tmp_path / "sky").rglob("*.fits.gz")]
    assert len(kinds) > 2 and len(set(kinds)) == 4, "raw frames come with bias, dark and flat frames"


def test_a_scenario_fixes_the_bytes_and_another_seed_differs(simulate: Run, tmp_path: Path) -> None:
    for name, options in {"a": (), "b": ("--seed", 1), "c": ("--seed", 2)}.items():
        assert simulate(name, *options).status == 0
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys() and not {name for name in a if a[name] == c[name]}


def test_options_have_the_last_word_over_the_scenario(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text("nights = 3\nexposure_s = 5.0\nstars.per_frame = 7.0\nstars.slope = 0.5\n")
    made = scenario_from(
        file, {"nights": 1, "stars.per_frame": 9.0, "header.wrong_wcs_fraction": 0.5, "raw": None}
    )
    assert (made.nights, made.exposure_s, made.stars.per_frame, made.stars.slope) == (1, 5.0, 9.0, 0.5)
    assert (made.header.wrong_wcs_fraction, made.raw) == (0.5, False)
    assert scenario_from(None, {}) == Scenario()


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--camera", "none"], 2, "there is no camera profile 'none'"),
        (["--camera", "missing.toml"], 2, "missing.toml: there is no such camera profile file"),
        (["--camera", "camera.toml"], 3, "camera.toml: detectr: there is no such key; did you mean detector?"),
        (["--scenario", "camera.toml"], 3, "camera.toml: "),
        (["--scenario", "scenario.toml"], 3, "stars.per_fram: there is no such key; did you mean stars.per_frame?"),
        (["--scenario", "type.toml"], 3, "type.toml: nights: "),
        (["--scenario", "broken.toml"], 3, "broken.toml: not valid TOML"),
        (["--scenario", "missing.toml"], 2, "'missing.toml' does not exist"),
        (["--frames", "0"], 2, "'--frames': 0 is not in the range x>=1"),
        (["--nights", "two"], 2, "'--nights': 'two' is not a valid integer"),
        (["--exposure", "-1"], 2, "'--exposure': -1.0 is not in the range 0<x<=100000.0"),
        (["--clouds", "1.5"], 2, "'--clouds'"),
        (["--wrong-wcs", "0.6", "--no-wcs", "0.6"], 2, "the sum of both WCS fractions lies between 0 and 1"),
        (["--first-night", "20241301"], 2, "'20241301' is no night; write it as 20130610"),
        (["--filter", "none"], 3, "there is no filter 'none' to simulate; known are V, R"),
        (["--form", "png"], 2, "'png' is not one of 'fits', 'fits.gz', 'fits.fz'"),
    ],
)  # fmt: skip
def test_what_cannot_be_simulated_is_one_sentence(
    options: list[str], status: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skylake_command: Run
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "camera.toml": 'like = "sim"\nname = "x"\ndetectr.width_px = 3\n', "broken.toml": "nights = = 3\n",
        "scenario.toml": "stars.per_fram = 3.0\n", "type.toml": "nights = 'two'\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    answer = skylake_command("simulate", "out", "--workers", 1, *options)
    assert answer.status == status
    assert words in answer.sentence
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, simulate: Run) -> None:
    (tmp_path / "file").write_text("")
    answer = simulate("file/sky")
    assert answer.status == 3
    assert answer.sentence.startswith(f"{tmp_path}/file/sky: the simulation cannot be written (")

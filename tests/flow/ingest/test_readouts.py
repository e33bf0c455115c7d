"""Masters of a detector that is read out in several ways: with two gains, at two levels, in windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile, read_header
from skylake.errors import FrameFailed
from skylake.flow.execution.cluster import Inline
from skylake.flow.masters.build_masters import MasterBuildReport, build_masters, library_of
from skylake.image.detrend.detrend_chain import detrend_image
from skylake.image.detrend.frame_conditions import conditions_of
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.masters.master_library import Library
from skylake.lake import Lake
from skylake.settings import Settings

SHAPE, READ_E, SKY_E = (64, 96), 6.0, 400.0
#: Zero level of each gain, ADU.
ZERO = {1.0: 1000.0, 0.25: 3000.0}
PROFILE = """
like = "generic"
name = "two"
header.kind = ["OBSTYPE"]
reduction.steps = ["bias", "flat"]
"""


def profile(folder: Path, more: str = "") -> Profile:
    path = folder / f"two{len(more)}.toml"
    path.write_text(PROFILE + more)
    return cameras.load(path)


def frame(
    folder: Path, kind: str, number: int, gain: float = 1.0, shape: tuple[int, int] = SHAPE, zero: float | None = None,
    day: int = 4, **cards: Any,
) -> Path:  # fmt: skip
    """Write a frame with the zero level of its gain, by default with its card."""
    random = np.random.default_rng([number, len(kind), int(100 * gain), day])
    light = {"BIAS": 0.0, "FLAT": 8000.0, "EXPOSE": SKY_E}[kind]
    level = ZERO[gain] if zero is None else zero
    pixels = level + (random.poisson(light, shape) + random.normal(0.0, READ_E, shape)) / gain
    unit = fits.PrimaryHDU(pixels.astype(np.float32))
    unit.header.update(
        {"OBSTYPE": kind, "EXPTIME": 5.0, "FILTER": "V", "GAIN": gain, "RDNOISE": READ_E} | cards
    )
    unit.header["DATE-OBS"] = f"2024-10-{day:02d}T03:{number:02d}:00"
    if cards.get("GAIN", 0.0) is None:
        del unit.header["GAIN"]
    path = folder / f"{kind}-{gain}-{shape[1]}-{day}-{number}.fits"
    unit.writeto(path)
    return path


def series(folder: Path, kind: str, numbers: range = range(4), **options: Any) -> list[Path]:
    return [frame(folder, kind, number, **options) for number in numbers]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake", Settings(cluster="inline"))


def build(lake: Lake, camera: Profile, paths: list[Path]) -> list[dict[str, Any]]:
    report = build_masters(lake, camera, paths, Inline())
    assert report.all_well, report
    return report.masters


def reduced(lake: Lake, camera: Profile, path: Path) -> tuple[float, float, list[str]]:
    """Return sky level, gain, and the masters of a frame."""
    raw = open_stored(read_file(str(path)), None)
    reading = read_header(raw.header, camera, path.name)
    conditions, names = conditions_of(raw, reading, library_of(lake.snapshot(), "two"), None, str(path))
    image = detrend_image(raw, reading.camera, conditions)
    return float(np.median(image.pixels)), conditions.gain, names


def test_frames_of_two_gains_make_two_masters(lake: Lake, tmp_path: Path) -> None:
    camera = profile(tmp_path, 'reduction.measured = ["gain"]\n')
    rows = build(
        lake,
        camera,
        [one for gain in ZERO for kind in ("BIAS", "FLAT") for one in series(tmp_path, kind, gain=gain)],
    )
    kinds = sorted((row["kind"], row["header_gain"]) for row in rows)
    assert kinds == sorted(
        (kind, gain) for gain in ZERO for kind in ("bias", "flat", "transfer", "bad_pixels")
    )
    for gain, level in ZERO.items():
        (bias,) = [row for row in rows if (row["kind"], row["header_gain"]) == ("bias", gain)]
        assert bias["level"] == pytest.approx(level, abs=5.0)
        sky, measured, names = reduced(lake, camera, frame(tmp_path, "EXPOSE", 30, gain))
        assert sky == pytest.approx(SKY_E / gain, rel=0.02) and measured == pytest.approx(gain, rel=0.05)
        own = {row["name"] for row in rows if row["header_gain"] == gain}
        assert len(names) == 3 and set(names) <= own


def test_a_gain_without_masters_is_named_unless_a_flat_is_set(lake: Lake, tmp_path: Path) -> None:
    camera = profile(tmp_path)
    rows = build(lake, camera, series(tmp_path, "BIAS") + series(tmp_path, "FLAT"))
    build(lake, camera, series(tmp_path, "BIAS", gain=0.25))
    other = frame(tmp_path, "EXPOSE", 30, 0.25)
    with pytest.raises(FrameFailed, match=r"of kind flat was taken with the gain of 0\.25 in the header"):
        reduced(lake, camera, other)
    (flat,) = [row["name"] for row in rows if row["kind"] == "flat"]
    sky, _, names = reduced(lake, profile(tmp_path, f'reduction.use.flat = ["{flat}"]\n'), other)
    assert flat in names and sky == pytest.approx(SKY_E / 0.25, rel=0.02)


def test_a_named_bias_of_another_gain_is_named_with_the_fix(lake: Lake, tmp_path: Path) -> None:
    rows = build(lake, profile(tmp_path), series(tmp_path, "BIAS") + series(tmp_path, "FLAT"))
    (bias,) = [row["name"] for row in rows if row["kind"] == "bias"]
    other, named = frame(tmp_path, "EXPOSE", 30, 0.25), f'reduction.use.bias = ["{bias}"]\n'
    with pytest.raises(FrameFailed) as caught:
        reduced(lake, profile(tmp_path, named), other)
    sentence = str(caught.value)
    assert "masters that reduction.use.bias names was taken with the gain of 0.25" in sentence
    assert "name others in reduction.use.bias" in sentence and "calib build" not in sentence
    assert "header.gain.cards = []" in sentence
    own = profile(tmp_path, f"{named}header.gain.cards = []\ndetector.gain_e_per_adu = 0.25\n")
    assert bias in reduced(lake, own, other)[2]


def test_without_a_gain_card_there_is_one_master_of_each_kind(lake: Lake, tmp_path: Path) -> None:
    camera = profile(tmp_path, "detector.gain_e_per_adu = 1.0\n")
    paths = series(tmp_path, "BIAS", GAIN=None) + series(tmp_path, "FLAT", GAIN=None)
    rows = build(lake, camera, paths)
    assert sorted(row["kind"] for row in rows) == ["bad_pixels", "bias", "flat", "transfer"]
    assert {row["header_gain"] for row in rows} == {None}
    # What shows no gain fits whatever a frame shows, and the other way round.
    assert reduced(lake, camera, frame(tmp_path, "EXPOSE", 30))[0] == pytest.approx(SKY_E, rel=0.02)


def test_modes_that_a_card_shows_are_kept_apart(lake: Lake, tmp_path: Path) -> None:
    camera = profile(tmp_path, 'header.readout = ["READOUTM", "OFFSET"]\n')
    modes = {"Fast  Mode": 1000.0, "slow": 2000.0}
    paths = [
        path
        for first, (mode, zero) in enumerate(modes.items())
        for kind in ("BIAS", "FLAT")
        for path in series(
            tmp_path, kind, range(6 * first, 6 * first + 4), READOUTM=mode, zero=zero, OFFSET=10
        )
    ]
    rows = build(lake, camera, paths)
    assert {row["readout"] for row in rows} == {"READOUTM=fast mode; OFFSET=10", "READOUTM=slow; OFFSET=10"}
    for number, (mode, zero) in enumerate(modes.items(), start=40):
        path = frame(tmp_path, "EXPOSE", number, READOUTM=mode.upper(), zero=zero, OFFSET="10.0")
        assert reduced(lake, camera, path)[0] == pytest.approx(SKY_E, rel=0.02)
    other = frame(tmp_path, "EXPOSE", 50, READOUTM="turbo")
    with pytest.raises(FrameFailed, match="has the readout READOUTM=turbo"):
        reduced(lake, camera, other)


def test_bias_frames_of_two_levels_make_no_master_together(lake: Lake, tmp_path: Path) -> None:
    paths = series(tmp_path, "BIAS") + series(tmp_path, "BIAS", range(10, 14), zero=1700.0)
    report = build_masters(lake, profile(tmp_path), paths, Inline())
    assert report.masters == [] and report.left_out == []
    (told,) = report.warnings
    assert "1000 ADU (BIAS-1.0-96-4-" in told and "1700 ADU (" in told and "header.readout of " in told


def test_a_bias_frame_of_another_level_is_left_out(lake: Lake, tmp_path: Path) -> None:
    odd = frame(tmp_path, "BIAS", 20, zero=1100.0)
    report = build_masters(lake, profile(tmp_path), [*series(tmp_path, "BIAS"), odd], Inline())
    assert [one["file"] for one in report.left_out] == [str(odd)] and "1100 ADU" in report.left_out[0][
        "message"
    ]
    assert report.masters[0]["n_frames"] == 4


def test_levels_that_drift_make_one_master(lake: Lake, tmp_path: Path) -> None:
    drifting = [frame(tmp_path, "BIAS", number, zero=1000.0 + 30.0 * number) for number in range(8)]
    (row,) = build(lake, profile(tmp_path), drifting)
    assert row["n_frames"] == 8


def windows(lake: Lake, tmp_path: Path, camera: Profile) -> MasterBuildReport:
    """Build masters of whole frames, and a day later of windows."""
    build(lake, camera, series(tmp_path, "BIAS") + series(tmp_path, "FLAT"))
    small = [path for kind in ("BIAS", "FLAT") for path in series(tmp_path, kind, shape=(32, 48), day=5)]
    return build_masters(lake, camera, small, Inline())


def test_a_window_is_not_taken_for_the_corner_of_the_detector(lake: Lake, tmp_path: Path) -> None:
    camera = profile(tmp_path)
    build(lake, camera, series(tmp_path, "BIAS") + series(tmp_path, "FLAT"))
    with pytest.raises(FrameFailed, match="of kind bias is of raw frames of 48 x 32 pixels"):
        reduced(lake, camera, frame(tmp_path, "EXPOSE", 30, shape=(32, 48)))


def test_masters_of_a_window_hide_no_others_that_fit(lake: Lake, tmp_path: Path) -> None:
    camera = profile(tmp_path)
    assert windows(lake, tmp_path, camera).all_well
    for shape in (SHAPE, (32, 48)):
        sky, _, names = reduced(lake, camera, frame(tmp_path, "EXPOSE", 30, shape=shape, day=5))
        assert sky == pytest.approx(SKY_E, rel=0.02) and len(names) == 2


@pytest.mark.parametrize("trim", ["", "detector.trim_x = [8, 96]\ndetector.trim_y = [0, 60]\n"])
def test_masters_without_a_frame_size_fit_by_their_own(lake: Lake, tmp_path: Path, trim: str) -> None:
    steps = 'reduction.steps = ["trim", "bias", "flat"]\n' if trim else ""
    camera = profile(tmp_path)
    if trim:
        (tmp_path / "trimmed.toml").write_text(
            PROFILE.replace('reduction.steps = ["bias", "flat"]\n', steps) + trim
        )
        camera = cameras.load(tmp_path / "trimmed.toml")
    rows = build(lake, camera, series(tmp_path, "BIAS") + series(tmp_path, "FLAT"))
    assert {(row["raw_width_px"], row["raw_height_px"]) for row in rows} == {(96, 64)}
    held = library_of(lake.snapshot(), "two")
    old = Library(
        held.root, tuple(replace(one, raw_width_px=None, raw_height_px=None) for one in held.masters)
    )
    raw = open_stored(read_file(str(frame(tmp_path, "EXPOSE", 30))), None)
    assert len(conditions_of(raw, read_header(raw.header, camera), old, None, "")[1]) == 2
    raw = open_stored(read_file(str(frame(tmp_path, "EXPOSE", 31, shape=(62, 94)))), None)
    with pytest.raises(FrameFailed, match="is of raw frames of 94 x 62 pixels"):
        conditions_of(raw, read_header(raw.header, camera), old, None, "")


def test_of_one_night_the_master_that_shows_its_gain_is_taken(lake: Lake, tmp_path: Path) -> None:
    camera = profile(tmp_path, "reduction.measured = []\n")
    build(lake, camera, series(tmp_path, "BIAS") + series(tmp_path, "FLAT"))
    held = library_of(lake.snapshot(), "two")
    # As it was made before headers were asked: of frames of several gains, and nearer in time.
    mixed = [replace(one, name=f"z{one.name}", header_gain=None, mjd_mid=60587.4) for one in held.masters]
    raw = open_stored(read_file(str(frame(tmp_path, "EXPOSE", 30))), None)
    both = replace(held, masters=(*mixed, *held.masters))
    names = conditions_of(raw, read_header(raw.header, camera), both, None, "")[1]
    assert names and all(name.startswith("two-") for name in names)

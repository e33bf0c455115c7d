"""From calibration frames to masters in a lake, and from these to frames that are reduced with them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.flags import FrameFlag
from skylake.errors import LakeError
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.maintenance.verify_lake import VerifyOptions, VerifyReport, open_facts, verify
from skylake.flow.masters.build_masters import BuildOptions, MasterBuildReport, build_masters, library_of
from skylake.image.masters.master_file import MasterFrame, load_master
from skylake.lake import Lake, PublishOptions, Retention, publish_snapshot
from skylake.settings import Settings
from skylake.simulate import Scenario, SimulationResult, StarParams, simulate
from skylake.simulate.detector import detector_maps

RAW = """
like = "sim"
name = "raw"
detector.width_px = 320
detector.height_px = 256
detector.linearity = [0.0]
detector.overscan_x = [0, 24]
detector.trim_x = [32, 320]
gates.n_sources.min = 10
reduction.steps = ["overscan", "trim", "bias", "dark", "flat", "bad_pixels"]
reduction.validity_days = 20
"""
GAIN, READ_NOISE_E, EXPOSURE_S = 1.5, 8.0, 30.0
CUT = (slice(None), slice(32, 320))


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """A camera whose frames arrive as the detector gives them."""
    path = tmp_path_factory.mktemp("profile") / "raw.toml"
    path.write_text(RAW)
    return cameras.load(path)


@pytest.fixture(scope="module")
def scenario(profile: Profile) -> Scenario:
    return Scenario(
        camera=profile.source, raw=True, nights=1, frames_per_night=3, calibration_frames=12,
        stars=StarParams(per_frame=150.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def night(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    """A night of raw frames with its bias, dark and flat frames. Tests do not change it."""
    return simulate(scenario, tmp_path_factory.mktemp("night"))


@pytest.fixture(scope="module")
def built_once(
    night: SimulationResult, profile: Profile, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lake, MasterBuildReport]:
    """A lake with the masters of the night. Tests do not change it."""
    lake = Lake.create(tmp_path_factory.mktemp("built") / "lake", Settings(cluster="inline"))
    return lake, build_masters(lake, profile, [night.out / "calibration"], Inline())


@pytest.fixture
def built(built_once: tuple[Lake, MasterBuildReport], tmp_path: Path) -> Lake:
    """A copy of it, to be changed."""
    return Lake(shutil.copytree(built_once[0].root, tmp_path / "lake", symlinks=True))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake", Settings(cluster="inline"))


def masters_of(lake: Lake) -> dict[str, MasterFrame]:
    library = library_of(lake.snapshot(), "raw")
    return {one.kind: load_master(library.root, one) for one in library.masters if one.kind != "transfer"}


def rows_of(lake: Lake) -> dict[str, dict[str, Any]]:
    return {row["kind"]: row for row in lake.snapshot().read("masters").to_pylist()}


def frames_of(night: SimulationResult, kind: str) -> list[Path]:
    return sorted((night.out / "calibration").rglob(f"*_{kind}_*"))


Change = Callable[[fits.PrimaryHDU], None]


def changed(path: Path, target: Path, change: Change) -> Path:
    """Copy a frame with a change."""
    with fits.open(path) as units:
        unit = fits.PrimaryHDU(units[0].data, units[0].header)
    change(unit)
    unit.writeto(target)
    return target


def pulls(master: MasterFrame, truth: np.ndarray) -> np.ndarray:
    if master.kind != "flat":
        return np.asarray((master.pixels - truth) / master.error)
    assert master.gradient is not None
    response = 1.0 / master.pixels
    y, x = np.meshgrid(*(np.linspace(-1.0, 1.0, size) for size in response.shape), indexing="ij")
    error = np.sqrt(master.error**2 + master.gradient.variance(x, y) * response**2)
    return np.asarray((response - truth) / error)


def test_masters_are_the_truth_within_their_errors(
    built_once: tuple[Lake, MasterBuildReport], scenario: Scenario
) -> None:
    lake, report = built_once
    assert report.all_well
    masters, maps = masters_of(lake), detector_maps(scenario)
    zero = np.median(maps.bias_adu[:, :24], axis=1)[:, None]
    bias = pulls(masters["bias"], maps.bias_adu[CUT] - zero)
    dark = pulls(masters["dark"], maps.dark_e_per_s * EXPOSURE_S / GAIN)
    flat = pulls(masters["flat"], maps.response / np.median(maps.response))
    for found in (bias, dark):
        assert abs(found.mean()) < 0.15 and found.std() == pytest.approx(1.0, abs=0.12)
    # The slopes of twilight, 0.3 % over the field, do not average out over twelve flats, and are part of the error.
    assert abs(flat.mean()) < 0.1 and 0.9 < flat.std() < 1.15
    hot = maps.dark_e_per_s > 20.0
    assert np.abs(dark[hot]).max() < 5.0
    assert ((masters["bad_pixels"].mask & 8) > 0)[hot].all()
    assert np.count_nonzero(masters["bad_pixels"].mask[~hot]) < 20


def test_gain_and_read_noise_are_the_detector_s(built_once: tuple[Lake, MasterBuildReport]) -> None:
    row = rows_of(built_once[0])["transfer"]
    assert abs(row["gain_e_per_adu"] - GAIN) < 4.0 * row["gain_err"] and row["gain_err"] < 0.01
    # Rounding to whole ADU adds a twelfth to the variance.
    true = np.sqrt(READ_NOISE_E**2 + GAIN**2 / 12.0)
    assert abs(row["read_noise_e"] - true) < 4.0 * row["read_noise_err"] and row["read_noise_err"] < 0.05


def test_rows_show_what_masters_are_and_were_made_of(
    built_once: tuple[Lake, MasterBuildReport], night: SimulationResult
) -> None:
    lake, report = built_once
    rows = rows_of(lake)
    assert set(rows) == {"bias", "dark", "flat", "bad_pixels", "transfer"}
    assert {row["name"] for row in report.masters} == {row["name"] for row in rows.values()}
    for kind, row in rows.items():
        path = lake.root / row["file"]
        assert path.stat().st_size == row["file_bytes"] and row["sha256"][:12] in row["name"]
        assert row["n_frames"] == (36 if kind == "bad_pixels" else 12)
        assert row["valid_from_mjd"] < row["mjd_mid"] < row["valid_to_mjd"]
        inputs = json.loads(row["inputs"])
        assert sum(name.endswith(".fits") for name in inputs) == row["n_frames"]
    assert rows["dark"]["exposure_s"] == EXPOSURE_S and rows["bias"]["exposure_s"] is None
    assert rows["flat"]["filter"] == "V" and rows["bias"]["filter"] is None
    assert rows["bias"]["name"] in json.loads(rows["dark"]["inputs"])
    assert 0.0 <= rows["flat"]["rejected_fraction"] < 0.01 and rows["flat"]["n_used"] > 11.5
    part = lake.snapshot().part("masters", "raw")
    assert part is not None and set(part.inputs) == {"configuration", "masters"}
    # The electronics of the camera were exchanged, and masters do not reach across that.
    assert rows["bias"]["valid_from_mjd"] == 60401.0


def test_a_build_again_makes_the_same_and_keeps_one_of_each(
    built: Lake, night: SimulationResult, profile: Profile
) -> None:
    before, snapshot = rows_of(built), built.snapshot().number
    files = sorted(path.name for path in built.layout.calibrations("raw").iterdir())
    build_masters(built, profile, [night.out / "calibration"], Inline())
    assert rows_of(built) == before and built.snapshot().n_rows("masters") == 5
    assert sorted(path.name for path in built.layout.calibrations("raw").iterdir()) == files
    assert built.snapshot().number >= snapshot


def test_frames_wait_for_masters_and_are_then_reduced_with_them(
    lake: Lake, night: SimulationResult, profile: Profile
) -> None:
    report = ingest(lake, profile, [night.out / "frames"], Inline())
    assert report.counts == {"failed": 3}
    assert {one["reason"] for one in report.problems} == {"no_master"}
    message = report.problems[0]["message"]
    assert f"skylake calib build {lake.root} --camera {profile.source} FILE…" in message
    assert f"out of reduction.steps of {profile.source}" in message
    build_masters(lake, profile, [night.out / "calibration"], Inline())
    report = ingest(lake, profile, [night.out / "frames"], Inline())
    assert report.counts == {"ok": 3}, report.problems
    snapshot, rows = lake.snapshot(), rows_of(lake)
    names = " ".join(rows[kind]["name"] for kind in ("bias", "dark", "flat", "bad_pixels"))
    frames = snapshot.read("frames").to_pylist()
    assert {row["masters"] for row in frames} == {names}
    for row in frames:
        sky = row["sky_adu"] / GAIN + (READ_NOISE_E / GAIN) ** 2
        assert row["sky_rms_adu"] == pytest.approx(np.sqrt(sky), rel=0.12)
        assert row["n_masked_px"] == rows["bad_pixels"]["n_bad_px"]
    (part,) = snapshot.parts("frames").values()
    kept = json.loads(
        (lake.layout.configurations / f"{part.inputs['masters']}.json").read_text(encoding="utf-8")
    )
    used = [rows[kind] for kind in ("bad_pixels", "bias", "dark", "flat")]
    assert kept == {"masters": {row["name"]: row["sha256"] for row in used}}


def test_an_ingest_takes_newer_masters_only_when_asked(
    built: Lake, night: SimulationResult, profile: Profile
) -> None:
    ingest(built, profile, [night.out / "frames"], Inline())
    first = built.snapshot().read("frames", ["masters"]).to_pylist()
    build_masters(built, profile, frames_of(night, "flat")[-5:], Inline())
    assert built.snapshot().n_rows("masters") == 8
    masks = [row for row in built.snapshot().read("masters").to_pylist() if row["kind"] == "bad_pixels"]
    assert masks[0]["n_hot_px"] == masks[1]["n_hot_px"] > 5, "hot pixels of the dark that is there count on"
    ingest(built, profile, [night.out / "frames"], Inline())
    assert built.snapshot().read("frames", ["masters"]).to_pylist() == first
    ingest(built, profile, [night.out / "frames"], Inline(), IngestOptions(redo=True))
    assert built.snapshot().read("frames", ["masters"]).to_pylist() != first


def test_a_master_that_was_damaged_fails_its_frames_by_name(
    built: Lake, night: SimulationResult, profile: Profile
) -> None:
    path = built.root / rows_of(built)["flat"]["file"]
    path.write_bytes(path.read_bytes()[:-2880])
    report = ingest(built, profile, [night.out / "frames"], Inline())
    assert {one["reason"] for one in report.problems} == {"bad_master"}
    build_masters(built, profile, [night.out / "calibration"], Inline())
    assert ingest(built, profile, [night.out / "frames"], Inline()).counts == {"ok": 3}


def test_bad_frames_are_named_and_the_rest_is_used(
    built: Lake, night: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for path in frames_of(night, "bias")[:5]:
        shutil.copy2(path, folder)
    bias, dark, flat = (frames_of(night, kind)[5] for kind in ("bias", "dark", "flat"))

    def nothing_told(unit: fits.PrimaryHDU) -> None:
        unit.header["OBSTYPE"] = "EXPOSE"

    def saturated(unit: fits.PrimaryHDU) -> None:
        unit.data[:, 40:] = 60000

    def no_exposure(unit: fits.PrimaryHDU) -> None:
        del unit.header["EXPTIME"]

    def small(unit: fits.PrimaryHDU) -> None:
        unit.data = unit.data[:100]

    def faint(unit: fits.PrimaryHDU) -> None:
        unit.data[:] = np.median(unit.data[:, :24])

    expected = {
        changed(bias, folder / "sky.fits", nothing_told).name: "no bias, dark or flat",
        changed(flat, folder / "saturated.fits", saturated).name: "saturated",
        changed(dark, folder / "exposure.fits", no_exposure).name: "exposure of the dark is unknown",
        changed(bias, folder / "small.fits", small).name: "320 x 100 pixels",
        changed(flat, folder / "faint.fits", faint).name: "too few to be of use",
        changed(flat, folder / "alone.fits", lambda unit: None).name: "only 1 usable frames of flat V",
        Path(shutil.copy2(bias, folder / "bias.fits")).name: "",
        Path(shutil.copy2(bias, folder / "copy.fits")).name: "same bytes",
    }
    (folder / "broken.fits").write_bytes(b"SIMPLE  =")
    expected["broken.fits"] = "copy it again"
    report = build_masters(built, profile, [folder], Inline())
    told = {Path(one["file"]).name: one["message"] for one in report.left_out}
    for name, why in expected.items():
        assert (why in told.get(name, "")) if why else name not in told, (name, told.get(name))
    assert len(told) == len(expected) - 1
    assert [row["kind"] for row in report.masters] == ["bias"]
    assert report.masters[0]["n_frames"] == 6


def test_blocks_of_nan_leave_fewer_values_and_no_holes(
    lake: Lake, night: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    def block(unit: fits.PrimaryHDU) -> None:
        unit.data = unit.data.astype(np.float32)
        unit.data[50:90, 100:150] = np.nan

    paths = frames_of(night, "bias")[:6]
    one = changed(frames_of(night, "bias")[6], tmp_path / "block.fits", block)
    report = build_masters(lake, profile, [*paths, one], Inline())
    assert report.all_well and report.masters[0]["n_bad_px"] == 0
    master = masters_of(lake)["bias"]
    assert np.isfinite(master.pixels).all()
    inside = master.error[50:90, 68:118].mean() / master.error.mean()
    assert inside == pytest.approx(np.sqrt(7.0 / 6.0), rel=0.05)


def test_flats_of_two_filters_make_two_masters(
    built: Lake, night: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    def red(unit: fits.PrimaryHDU) -> None:
        unit.header["FILTER"] = "R"

    paths = frames_of(night, "flat")
    others = [changed(path, tmp_path / path.name, red) for path in paths[6:]]
    report = build_masters(built, profile, [*paths[:6], *others], Inline())
    flats = [row for row in report.masters if row["kind"] == "flat"]
    assert {(row["filter"], row["n_frames"]) for row in flats} == {("V", 6), ("R", 6)}


def test_a_difference_of_flats_is_free_of_what_adds_to_all(
    built: Lake, night: SimulationResult, profile: Profile, scenario: Scenario, tmp_path: Path
) -> None:
    def with_stray_light(unit: fits.PrimaryHDU) -> None:
        unit.data = unit.data.astype(np.float32)
        unit.data[:, 32:] += np.linspace(0.0, 3000.0, 288, dtype=np.float32)

    def fainter(unit: fits.PrimaryHDU) -> None:
        zero = unit.data[:, :24].mean()
        unit.data = ((unit.data - zero) * 0.3 + zero).astype(np.float32)

    paths = frames_of(night, "flat")
    faint = [changed(path, tmp_path / f"faint-{path.name}", fainter) for path in paths[:6]]
    paths = [*paths[6:], *faint]
    paths = [changed(path, tmp_path / f"stray-{path.name}", with_stray_light) for path in paths]
    truth = detector_maps(scenario).response
    errors = {}
    for form in ("plain", "difference"):
        report = build_masters(built, profile, paths, Inline(), BuildOptions(form=form))  # type: ignore[arg-type]
        (row,) = [row for row in report.masters if row["kind"] == "flat"]
        assert row["form"] == form and row["n_frames"] == 12
        library = library_of(built.snapshot(), "raw")
        (one,) = [one for one in library.masters if one.name == row["name"]]
        ratio = 1.0 / load_master(library.root, one).pixels / truth
        errors[form] = float(np.std(ratio / np.median(ratio)))
    assert errors["difference"] < 0.01 < 0.03 < errors["plain"]


def test_a_single_difference_of_flats_makes_no_master(
    built: Lake, night: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    def fainter(unit: fits.PrimaryHDU) -> None:
        zero = unit.data[:, :24].mean()
        unit.data = ((unit.data - zero) * 0.3 + zero).astype(np.float32)

    paths = frames_of(night, "flat")[:3]
    paths[0] = changed(paths[0], tmp_path / "faint.fits", fainter)
    with pytest.raises(LakeError, match="fewer than 2 differences of a bright and a faint one"):
        build_masters(built, profile, paths, Inline(), BuildOptions(form="difference"))


def test_a_flat_of_the_sky_is_made_without_its_stars(
    built: Lake, night: SimulationResult, profile: Profile, scenario: Scenario
) -> None:
    report = build_masters(built, profile, [night.out / "frames"], Inline(), BuildOptions("flat", "super"))
    (row,) = [row for row in report.masters if row["kind"] == "flat"]
    library = library_of(built.snapshot(), "raw")
    (one,) = [one for one in library.masters if one.name == row["name"]]
    master = load_master(library.root, one)
    ratio = 1.0 / master.pixels / detector_maps(scenario).response
    ratio = ratio[np.isfinite(ratio)]
    ratio /= np.median(ratio)
    error = float(np.nanmedian(master.error))
    assert np.percentile(np.abs(ratio - 1.0), 68) < 1.4 * error
    # A star in it would be far above.
    assert (ratio > 1.0 + 8.0 * error).mean() < 0.003


def test_masters_that_no_step_uses_are_reported(lake: Lake, night: SimulationResult, tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    path.write_text(RAW.replace('"bias", "dark", "flat", "bad_pixels"', '"flat"').replace('"raw"', '"plain"'))
    report = build_masters(lake, cameras.load(path), frames_of(night, "bias"), Inline())
    assert len(report.masters) == 1 and not report.all_well
    assert "do not name bias" in report.warnings[0]


def test_nothing_to_read_is_reported(lake: Lake, profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no FITS frame"):
        build_masters(lake, profile, [tmp_path], Inline())


# The files of the library are part of what is verified, thinned out and published.


def verified(lake: Lake, deep: bool = False) -> VerifyReport:
    options = VerifyOptions(deep=deep)
    return verify(open_facts(lake.root, options), Inline(), options)


def test_a_library_is_verified_to_the_last_byte(built: Lake) -> None:
    assert verified(built, deep=True).all_well
    row = rows_of(built)["bias"]
    file = built.root / row["file"]
    whole = file.read_bytes()
    for place in np.random.default_rng(4).choice(8 * len(whole), 12, replace=False):
        content = bytearray(whole)
        content[place // 8] ^= 1 << (place % 8)
        file.write_bytes(content)
        options = VerifyOptions(only=("master_sha256",))
        (found,) = verify(open_facts(built.root, options), Inline(), options).checks
        (finding,) = found["findings"]
        assert row["file"] in finding["says"] and "skylake calib build" in finding["repair"]
    assert verified(built).all_well
    found = verified(built, deep=True)
    assert found.failed == ["master_sha256"]
    file.write_bytes(content[:-1])
    assert verified(built).failed == ["master_present"]
    file.unlink()
    report = verified(built)
    assert report.failed == ["master_present"]
    (finding,) = next(one["findings"] for one in report.checks if one["name"] == "master_present")
    assert row["file"] in finding["says"] and "is not there" in finding["says"]
    assert f"skylake calib build {built.root} --camera raw" in finding["repair"]


def test_the_fix_of_a_lost_master_brings_it_back(
    built: Lake, night: SimulationResult, profile: Profile
) -> None:
    (built.root / rows_of(built)["dark"]["file"]).unlink()
    build_masters(built, profile, [night.out / "calibration"], Inline())
    assert verified(built, deep=True).all_well


def test_a_vacuum_removes_masters_that_no_snapshot_needs(built: Lake) -> None:
    files = {row["file"] for row in rows_of(built).values()}
    assert built.vacuum(Retention(1, 0, 0)).n_masters == 0
    assert all((built.root / file).is_file() for file in files)
    stranger = built.root / "calibrations" / "raw" / "raw-bias-20240101-0000000000000000.fits"
    shutil.copyfile(built.root / rows_of(built)["bias"]["file"], stranger)
    with built.stage("calib-raw"):
        assert built.vacuum(Retention(1, 0, 0)).n_masters == 0, "a build may be about to commit it"
    report = built.vacuum(Retention(1, 0, 0))
    assert report.n_masters == 1 and report.n_bytes > 0
    assert not stranger.exists()
    assert all((built.root / file).is_file() for file in files)


def test_a_library_stays_for_as_long_as_a_snapshot_needs_it(
    lake: Lake, night: SimulationResult, profile: Profile
) -> None:
    build_masters(lake, profile, [night.out / "calibration"], Inline())
    files = [lake.root / row["file"] for row in lake.snapshot().read("masters").to_pylist()]
    lake.rollback(1)
    assert lake.snapshot().n_rows("masters") == 0
    assert lake.vacuum(Retention()).n_masters == 0
    assert lake.vacuum(Retention(1, 0, 0)).n_masters == len(files)
    assert not any(file.exists() for file in files)


def test_masters_are_published_with_their_snapshot(built: Lake, tmp_path: Path) -> None:
    url = (tmp_path / "published").as_uri()
    first = publish_snapshot(built.snapshot(), url)
    rows = built.snapshot().read("masters").to_pylist()
    there = tmp_path / "published"
    assert first.n_sent > len(rows)
    for row in rows:
        assert (there / row["file"]).read_bytes() == (built.root / row["file"]).read_bytes()
    lost = there / rows[0]["file"]
    lost.write_bytes(b"half")
    assert publish_snapshot(built.snapshot(), url).n_sent == 1
    assert lost.stat().st_size == rows[0]["file_bytes"]
    stranger = there / "calibrations" / "raw" / "raw-bias-20240101-0000000000000000.fits"
    stranger.write_bytes(b"of a snapshot that was removed")
    built.rollback(1)
    publish_snapshot(built.snapshot(), url, PublishOptions(keep=1))
    assert not list((there / "calibrations").rglob("*.fits"))


# What photon transfers measure is taken over where the profile asks for it.


@pytest.fixture
def measuring(tmp_path: Path) -> Profile:
    """The camera without any card of gain and read noise, and with wrong ones in the profile."""
    path = tmp_path / "raw.toml"
    wrong = "detector.gain_e_per_adu = 9.0\ndetector.read_noise_e = 99.0\n"
    cards = "header.gain.cards = []\nheader.read_noise.cards = []\n"
    path.write_text(f"{RAW}{wrong}{cards}reduction.measured = ['gain', 'read_noise']\n")
    return cameras.load(path)


def test_measured_gain_and_read_noise_replace_assumed_ones(
    built: Lake, night: SimulationResult, measuring: Profile
) -> None:
    transfer = rows_of(built)["transfer"]
    report = ingest(built, measuring, [night.out / "frames"], Inline())
    assert report.counts == {"ok": 3}
    frames = built.snapshot().read("frames")
    assert frames["gain_e_per_adu"].to_pylist() == pytest.approx([transfer["gain_e_per_adu"]] * 3)
    assert frames["read_noise_e"].to_pylist() == pytest.approx([transfer["read_noise_e"]] * 3)
    assert frames["gain_e_per_adu"][0].as_py() == pytest.approx(GAIN, rel=0.05)
    assumed = int(FrameFlag.GAIN_ASSUMED | FrameFlag.READ_NOISE_ASSUMED)
    assert all(flags & assumed == 0 for flags in frames["flags"].to_pylist())
    assert all(transfer["name"] in names.split() for names in frames["masters"].to_pylist())
    (part,) = built.snapshot().parts("frames").values()
    held = built.snapshot().duckdb()
    with held as connection:
        ((configuration,),) = connection.execute(
            "SELECT configuration FROM configurations WHERE sha256 = ?", [part.inputs["masters"]]
        ).fetchall()
    assert json.loads(configuration)["masters"][transfer["name"]] == transfer["sha256"]


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        (
            {"FILTER": "Rc special"},
            r"the filter 'Rc special' .* is not one of .*raw\.toml \(V, R\): give it .* aliases .*; none of ",
        ),
        (
            {"OBSTYPE": "", "IMAGETYP": "Bias Frame", "EXPTIME": 0.0},
            r"the frame looks like a bias \(IMAGETYP = 'Bias Frame'\), .*: name IMAGETYP in header.kind of .*raw",
        ),
    ],
)
def test_a_frame_without_its_master_says_so_first(
    built: Lake, night: SimulationResult, profile: Profile, tmp_path: Path, cards: dict[str, Any], words: str
) -> None:
    def change(unit: fits.PrimaryHDU) -> None:
        unit.header.update(cards)

    path = changed(night.frames[0], tmp_path / "odd.fits", change)
    (problem,) = ingest(built, profile, [path], Inline()).problems
    assert (problem["status"], problem["reason"]) == ("failed", "no_master")
    assert re.match(words, problem["message"])


def test_a_value_that_was_never_measured_fails_the_frames(
    lake: Lake, night: SimulationResult, measuring: Profile
) -> None:
    report = ingest(lake, measuring, [night.out / "frames"], Inline())
    assert report.counts == {"failed": 3}
    problem = report.problems[0]
    assert problem["reason"] == "no_master"
    assert "no master of kind transfer that gives the gain" in problem["message"]
    assert "reduction.measured" in problem["message"]

"""A night of a near-infrared camera: the sky of each frame comes from the others, and from few of them at a time."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.cli.run_commands import half_skies
from skylake.core.batch import UNDATED
from skylake.core.flags import FrameFlag
from skylake.core.frame import Image
from skylake.errors import FrameFailed
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.psf_pool import pool_psfs
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.ingest.single_frames import bench_for, completeness_of
from skylake.flow.sky.sky_files import write_sky
from skylake.flow.sky.sky_frames import SkyFrame, SkySource, sky_frames
from skylake.image.detrend.detrend_chain import detrend_image
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.quality.star_injection import InjectionTrial
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.simulate import Moffat, render

SHAPE = (160, 160)
SKY = 3000.0
PROFILE = """
name = "ir"
like = "generic"
default_filter = "V"
detector.width_px = 160
detector.height_px = 160
reduction.steps = ["sky"]
reduction.sky.n_frames = 6
reduction.sky.within_minutes = 20.0
detector.saturation_adu = 30000.0
gates.n_sources.min = 3
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    path = tmp_path_factory.mktemp("p") / "ir.toml"
    path.write_text(PROFILE)
    return cameras.load(path)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten dithered frames, one a minute; the pattern of the sky is ten times the noise. The last comes hours later."""
    return draw_night(tmp_path_factory.mktemp("night"))


def smooth_pattern() -> npt.NDArray[np.float64]:
    y, x = np.mgrid[0:1:160j, 0:1:160j]
    return np.asarray(1.0 + 0.1 * np.sin(6.0 * x + 2.0 * y))


def middle_of_pattern() -> float:
    return float(np.median(smooth_pattern()))


def draw_night(
    folder: Path, stars: npt.NDArray[np.float64] | None = None, dither: float = 20.0
) -> list[Path]:
    random = np.random.default_rng(1)
    pattern = smooth_pattern() + random.normal(0.0, 0.02, SHAPE)
    star_x, star_y = random.uniform(20, 140, (2, 15)) if stars is None else stars
    paths = []
    for i in range(10):
        dx, dy = random.uniform(-dither, dither, 2)
        light = render(SHAPE, star_x + dx, star_y + dy, np.full(len(star_x), 2e4), Moffat(3.0))
        pixels = SKY * (1.0 + 0.02 * i) * pattern + light + random.normal(0.0, 10.0, SHAPE)
        header = fits.Header(
            {"DATE-OBS": f"2024-04-08T{'07' if i == 9 else '03'}:{10 + i}:00", "EXPTIME": 20.0, "FILTER": "V"}
        )
        header.update({
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 120.0, "CRVAL2": -25.0, "CRPIX1": 80.5 + dx,
            "CRPIX2": 80.5 + dy, "CD1_1": -0.001, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.001,
        })  # fmt: skip
        paths.append(folder / f"ir-{i}.fits")
        fits.PrimaryHDU(pixels.astype(np.float32), header).writeto(paths[-1])
    return paths


def frames_of(paths: list[Path], profile: Profile) -> tuple[SkyFrame, ...]:
    return sky_frames({20240407: [str(path) for path in paths]}, profile, Inline())


def image_of(path: Path, profile: Profile) -> Image:
    return detrend_image(open_stored(read_file(path)), profile.base, None, until="sky")


def test_the_sky_is_that_of_the_frame_and_memory_is_bounded(
    profile: Profile, night: list[Path], tmp_path: Path
) -> None:
    source = SkySource(frames_of(night, profile), profile, None, tmp_path / "sky")
    for path in night[:9]:
        image = image_of(path, profile)
        left = image.pixels - source(str(path), image).pixels
        spread = 1.4826 * np.median(np.abs(left - np.median(left)))
        assert abs(np.median(left)) < 4.0 and spread < 14.0
        assert len(list((tmp_path / "sky").iterdir())) <= 36


def test_too_few_neighbours_are_reported(profile: Profile, night: list[Path], tmp_path: Path) -> None:
    source = SkySource(frames_of(night, profile), profile, None, tmp_path / "sky")
    with pytest.raises(FrameFailed, match=r"only 0 usable frames .* within 20 minutes") as caught:
        source(str(night[9]), image_of(night[9], profile))
    assert caught.value.reason == "no_sky_frame"


def test_the_psf_of_a_night_is_that_of_frames_without_their_sky(profile: Profile, tmp_path: Path) -> None:
    scratch = tmp_path / "psf"
    grid = np.mgrid[24:140:28, 24:140:28].reshape(2, -1).astype(float)
    night = draw_night(tmp_path, grid, dither=10.0)
    (found,) = pool_psfs({1: [str(path) for path in night]}, profile, Inline(), scratch=scratch).values()
    assert found.quality.n_frames == 9
    assert found.quality.n_stars > 40
    fwhm = 2.0 * found.shape.width * np.sqrt(2.0 ** (1.0 / 3.0) - 1.0)
    assert fwhm == pytest.approx(3.0, rel=0.1)
    assert not list(scratch.iterdir())


def test_a_night_without_a_psf_is_reported(
    profile: Profile, night: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert pool_psfs({20240407: [str(night[9])]}, profile, Inline()) == {}
    assert re.search(r"no frame of the night 20240407 \(.+\) gives the point spread function", caplog.text)
    caplog.clear()
    # Frames of no night fail, and nothing stands in for anything.
    assert pool_psfs({UNDATED: [str(night[9])]}, profile, Inline()) == {} and not caplog.records


def test_a_single_frame_takes_the_sky_of_its_folder(
    profile: Profile, night: list[Path], tmp_path: Path
) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    assert ingest(lake, profile, [night[0].parent], Inline()).counts == {"ok": 9, "failed": 1}
    copied = Path(shutil.copytree(night[0].parent, tmp_path / "copies")) / night[4].name
    theirs = {row["frame_id"]: row for row in lake.snapshot().read("frames").to_pylist()}
    for path, where in ((night[4], None), (night[4], lake), (copied, lake)):
        with bench_for([path], profile, where) as bench:
            frame = bench.reduce(path)
        (ours,) = frame.frame.to_pylist()
        assert ours["status"] == "ok", ours["message"]
        for name in ("sky_rms_adu", "n_detected", "fwhm_px", "flux_limit"):
            assert ours[name] == theirs[ours["frame_id"]][name]
        assert frame.image is not None and abs(np.median(frame.image.pixels)) < 10.0


def test_completeness_is_known_after_sky_subtraction(profile: Profile, night: list[Path]) -> None:
    with bench_for([night[4]], profile) as bench:
        curve = completeness_of(bench.reduce(night[4]), InjectionTrial(stars=100, bins=4))
    assert curve is not None and curve.fraction[-1] > 0.5


def test_ingest_subtracts_the_sky_and_later_frames_find_it(
    profile: Profile, night: list[Path], tmp_path: Path
) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    report = ingest(lake, profile, night[:7], Inline())
    assert report.counts == {"ok": 7}, report.problems
    report = ingest(lake, profile, night[7:], Inline())
    assert report.counts == {"ok": 2, "failed": 1}
    assert [one["reason"] for one in report.problems] == ["no_sky_frame"]
    rows = lake.snapshot().read("frames").to_pylist()
    good = [row for row in rows if row["status"] == "ok"]
    for row in good:
        # The sky over the frame, not what is left when it is taken off.
        number = int(Path(row["file"]).stem[-1])
        assert row["sky_adu"] == pytest.approx(SKY * (1.0 + 0.02 * number) * middle_of_pattern(), rel=0.01)
        assert row["sky_saturation"] == pytest.approx(row["sky_adu"] / 30000.0, rel=0.01)
        assert row["sky_rms_adu"] < 15.0
    skies = lake.snapshot().read("sources", ["sky_adu"])["sky_adu"].to_numpy()
    assert 0.95 * SKY < skies.min() < skies.max() < 1.3 * SKY
    assert all(5 <= row["n_sources"] <= row["n_detected"] <= 30 for row in good)
    assert not list((lake.root / "_staging").iterdir())


def test_frames_of_another_size_or_binning_are_no_neighbours(profile: Profile, tmp_path: Path) -> None:
    """The camera reads a quarter of the detector in between, once with other pixels, and each kind has its own sky."""
    path = tmp_path / "any.toml"
    path.write_text(PROFILE.replace("detector.width_px = 160\ndetector.height_px = 160\n", ""))
    paths, anything = draw_night(tmp_path)[:9], cameras.load(path)
    for number, cut in ((3, True), (5, False)):
        with fits.open(paths[number], mode="update") as units:
            units[0].data = units[0].data[:80, :80].copy() if cut else units[0].data
            units[0].header.update({} if cut else {"XBINNING": 2, "YBINNING": 2})
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    report = ingest(lake, anything, paths, Inline())
    assert report.counts == {"ok": 7, "failed": 2}, report.problems
    assert {(Path(one["file"]).stem, one["reason"]) for one in report.problems} == {
        ("ir-3", "no_sky_frame"),
        ("ir-5", "no_sky_frame"),
    }
    assert all(
        "only 0 usable frames of the same filter, exposure, size" in one["message"] for one in report.problems
    )
    assert [one["night"] for one in report.batches] == [20240407]


def test_a_sky_without_later_frames_is_flagged_and_reported(
    profile: Profile, night: list[Path], tmp_path: Path
) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))

    def flagged() -> set[str]:
        rows = lake.snapshot().read("frames", ["file", "flags"]).to_pylist()
        return {Path(row["file"]).stem for row in rows if row["flags"] & FrameFlag.SKY_ONE_SIDED}

    report = ingest(lake, profile, night[:4], Inline())
    assert flagged() == {"ir-0", "ir-3"} and report.half_skies == []
    report = ingest(lake, profile, night[4:6], Inline())
    # The first frame of the night never has a sky from both sides, nor has the last.
    assert flagged() == {"ir-0", "ir-3", "ir-5"} and report.half_skies == [20240407]
    assert "20240407" in half_skies(report) and "--redo" in half_skies(report)
    report = ingest(lake, profile, night[:6], Inline(), IngestOptions(redo=True))
    assert flagged() == {"ir-0", "ir-5"} and report.half_skies == []


def test_names_of_one_filter_show_each_others_sky(profile: Profile, tmp_path: Path) -> None:
    """Some headers name the filter by an alias, among them those of all frames that come later."""
    paths = draw_night(tmp_path)[:6]
    for path in (paths[1], *paths[4:]):
        fits.setval(path, "FILTER", value="Johnson V")
    source = SkySource(frames_of(paths, profile), profile, None, tmp_path / "sky")
    assert source(str(paths[2]), image_of(paths[2], profile)).one_sided is False
    assert {Path(one.file) for one in source._neighbours(str(paths[2]))} == {*paths} - {paths[2]}
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    ingest(lake, profile, paths[:4], Inline())
    assert ingest(lake, profile, paths[4:], Inline()).half_skies == [20240407]


def test_frames_of_one_moment_are_copies_only_by_their_bytes(profile: Profile, tmp_path: Path) -> None:
    """A series four times a second, whose headers show whole seconds, and a copy of each of its frames."""
    paths = draw_night(tmp_path)[:8]
    for number, path in enumerate(paths):
        fits.setval(path, "DATE-OBS", value=f"2024-04-08T03:00:{number // 4:02d}")
    copies = [Path(shutil.copy2(path, tmp_path / f"copy-{path.name}")) for path in paths]
    source = SkySource(frames_of([*paths, *copies], profile), profile, None, tmp_path / "sky")
    assert source(str(paths[2]), image_of(paths[2], profile)).one_sided is False
    near = source._neighbours(str(paths[2]))
    assert len(near) == 6 and len({one.file.rpartition("ir-")[2] for one in near} - {"2.fits"}) == 6


def test_a_redone_night_is_reported_no_more(profile: Profile, tmp_path: Path) -> None:
    """The last three frames are empty, so none that comes before them has a sky from both sides."""
    lake, paths = Lake.create(tmp_path / "lake", Settings(cluster="inline")), draw_night(tmp_path)[:8]
    for path in paths[5:]:
        with fits.open(path, mode="update") as units:
            units[0].data[:] = np.random.default_rng(1).normal(0.0, 1.0, SHAPE)
    ingest(lake, profile, paths[:5], Inline())
    report = ingest(lake, profile, paths[5:], Inline())
    assert "ok" not in report.counts and report.half_skies == []
    report = ingest(lake, profile, paths, Inline(), IngestOptions(redo=True))
    assert report.counts["ok"] == 5 and report.half_skies == []


def test_neighbours_without_a_sky_above_zero_are_reported(profile: Profile, tmp_path: Path) -> None:
    paths = draw_night(tmp_path)
    for path in paths[1:]:
        with fits.open(path, mode="update") as units:
            units[0].data -= 1.2 * np.median(units[0].data)
    source = SkySource(frames_of(paths, profile), profile, None, tmp_path / "sky")
    with pytest.raises(FrameFailed, match="clearly above zero") as caught:
        source(str(paths[0]), image_of(paths[0], profile))
    assert caught.value.reason == "no_sky_frame"


def test_a_kept_sky_serves_a_frame_without_neighbours(
    profile: Profile, night: list[Path], tmp_path: Path
) -> None:
    alone = Path(shutil.copy(night[9], tmp_path / "alone.fits"))
    with bench_for([alone], profile) as bench:
        assert bench.reduce(alone).reduced.row["reason"] == "no_sky_frame"
    with bench_for([night[4]], profile) as bench:
        sky = bench.sky_of(night[4])
    assert sky is not None
    write_sky(tmp_path / "sky.fits", sky)
    fits.PrimaryHDU(sky.pixels).writeto(tmp_path / "plain.fits")
    fits.PrimaryHDU(sky.pixels[:50]).writeto(tmp_path / "small.fits")
    for name in ("sky.fits", "plain.fits"):
        with bench_for([alone], with_sky(tmp_path / name)) as bench:
            frame = bench.reduce(alone)
        assert (
            frame.reduced.row["status"] == "ok" and not frame.reduced.row["flags"] & FrameFlag.SKY_ONE_SIDED
        )
        assert frame.image is not None
        left = frame.image.pixels
        assert 1.4826 * np.median(np.abs(left - np.median(left))) < 14.0, "the pattern is gone"
    for name, words in (
        ("small.fits", "160 x 50 pixels and the frame 160 x 160"),
        ("none.fits", "cannot be read"),
    ):
        with bench_for([alone], with_sky(tmp_path / name)) as bench:
            row = bench.reduce(alone).reduced.row
        assert row["reason"] == "no_sky_frame" and words in row["message"]


def with_sky(file: Path) -> Profile:
    """The camera, with the sky of a file."""
    path = file.with_suffix(".toml")
    path.write_text(f"{PROFILE}reduction.sky.file = '{file}'\n")
    return cameras.load(path)

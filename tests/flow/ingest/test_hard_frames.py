"""What becomes of frames that are spoiled: their own rows show it, and no other frame notices."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from astropy.io import fits
from scipy.spatial import cKDTree

from skylake import cameras
from skylake.core.flags import UNCLEAN, FrameFlag, SourceFlag
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestReport
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.simulate import Moffat, Scenario, ScheduleParams, StarParams, render, simulate
from skylake.simulate.detector import bleed

Floats = npt.NDArray[np.float64]
SIDE, SATURATION, TRACKS = 512, 60000.0, 3000
PROFILE = f"""
like = "sim"
name = "hard"
detector.width_px = {SIDE}
detector.height_px = {SIDE}
gates.n_sources.min = 20
"""
#: The same camera with a step against the tracks of particles.
CLEANING = """
reduction.steps = ["overscan", "trim", "cosmic_rays"]
reduction.cosmic_rays.psf_fwhm_px = 2.2
reduction.cosmic_rays.object_limit = 2.0
"""
HOLE = (slice(100, 180), slice(200, 300))
BLOCK, HALF = (slice(100, 270), slice(150, 320)), (slice(256, None), slice(None))
BRIGHT = ((200.3, 150.2, 5e7), (400.0, 400.0, 2e7))


def bad_pixels(pixels: Floats, random: np.random.Generator) -> Floats:
    """One pixel of 200 is dead or hot."""
    bad = random.choice(pixels.size, pixels.size // 200, replace=False)
    pixels.flat[bad[::2]] = 0.0
    pixels.flat[bad[1::2]] += random.exponential(3000.0, bad[1::2].size)
    return pixels


def bleeding(pixels: Floats, _: np.random.Generator) -> Floats:
    """Two stars fill their columns."""
    x, y, flux = np.transpose(BRIGHT)
    charge = (pixels + render(pixels.shape, x, y, flux, Moffat(2.5))).astype(np.float32)
    return np.minimum(bleed(charge, SATURATION + 500.0), SATURATION)


def holes(pixels: Floats, _: np.random.Generator) -> Floats:
    """A block and half a column are NaN."""
    pixels[HOLE] = np.nan
    pixels[300:, 40] = np.nan
    return pixels


def without(pixels: Floats, part: tuple[slice, slice], value: float) -> Floats:
    """A part of the detector holds one value."""
    pixels[part] = value
    return pixels


def storm(pixels: Floats, random: np.random.Generator) -> Floats:
    """Particles leave tracks, as many as in hours."""
    for _ in range(TRACKS):
        angle, length = random.uniform(0.0, np.pi), 1.0 + random.exponential(4.0)
        steps = np.arange(0.0, length, 0.5)
        x, y = random.uniform(0.0, SIDE, 2)
        column, row = (x + steps * np.cos(angle)).astype(int), (y + steps * np.sin(angle)).astype(int)
        inside = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
        np.add.at(pixels, (row[inside], column[inside]), 0.5 * (200.0 + random.exponential(800.0)))
    return pixels


def nebula(pixels: Floats, random: np.random.Generator) -> Floats:
    """Clouds of gas, brighter than the sky, wider than meshes of the background."""
    y, x = np.mgrid[:SIDE, :SIDE]
    gas = np.zeros(pixels.shape)
    for _ in range(8):
        place, width = random.uniform(100.0, 400.0, 2), random.uniform(100.0, 200.0)
        gas += random.uniform(50.0, 250.0) * np.exp(
            -((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2.0 * width**2)
        )
    return pixels + random.poisson(1.5 * gas) / 1.5


SPOILT: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "bad pixels": bad_pixels,
    "bleeding": bleeding,
    "holes": holes,
    "storm": storm,
    "nebula": nebula,
    "zeros": lambda pixels, _: np.zeros_like(pixels),
    "block of zeros": lambda pixels, _: without(pixels, BLOCK, 0.0),
    "block of NaN": lambda pixels, _: without(pixels, BLOCK, np.nan),
    "half zeros": lambda pixels, _: without(pixels, HALF, 0.0),
    "half NaN": lambda pixels, _: without(pixels, HALF, np.nan),
}


@dataclass(frozen=True, slots=True)
class Spoilt:
    """The tables of a lake with a good frame and what was made of it."""

    frames: pd.DataFrame
    sources: pd.DataFrame
    report: IngestReport

    def row(self, name: str) -> Any:
        """The row of a frame."""
        return self.frames.loc[name]

    def found(self, name: str) -> pd.DataFrame:
        """The detections of a frame."""
        return self.sources[self.sources.frame_id == self.row(name).frame_id]

    def clean(self, name: str) -> pd.DataFrame:
        """Those that are clean and have a centre, as pieces of tracks and of gas have none."""
        found = self.found(name)
        return found[(found["flags"] & int(UNCLEAN)) == 0]

    def new(self, name: str) -> pd.DataFrame:
        """Clean detections that are not on the good frame."""
        clean = self.clean(name)
        tree = cKDTree(self.found("good")[["x_px", "y_px"]])
        return clean[tree.query(clean[["x_px", "y_px"]])[0] > 2.0]

    def pulls(self, name: str) -> Floats:
        """Differences of the fluxes of clean stars from those on the good frame, in units of their error.

        Half of the error: their noise is the same but for what was added.
        """
        before, after = self.clean("good"), self.clean(name)
        distance, index = cKDTree(after[["x_px", "y_px"]]).query(before[["x_px", "y_px"]])
        before, after = before[distance < 1.0], after.iloc[index[distance < 1.0]]
        difference = after.flux_aper1.to_numpy() - before.flux_aper1.to_numpy()
        return np.asarray(difference / after.flux_aper1_err.to_numpy())


def spoil(lake: Path, folder: Path, extra: str = "", engine: str = "skylake") -> Spoilt:
    """Ingest a folder with the profile and more of it."""
    path = lake.with_suffix(".toml")
    path.write_text(f'{PROFILE}extraction.engine = "{engine}"\n{extra}')
    opened = Lake.create(lake, Settings(cluster="inline", pixel_order=5))
    report = ingest(opened, cameras.load(path), [folder], Inline())
    frames = opened.snapshot().read("frames").to_pandas()
    frames.index = pd.Index([Path(file).stem for file in frames.file])
    return Spoilt(frames, opened.snapshot().read("sources").to_pandas(), report)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good frame, the next one, and the good one spoilt in all ways."""
    root = tmp_path_factory.mktemp("hard")
    (root / "hard.toml").write_text(PROFILE)
    scenario = Scenario(
        camera=str(root / "hard.toml"), first_night=20241001, nights=1, frames_per_night=2, streak_fraction=0.0,
        stars=StarParams(per_frame=600.0), schedule=ScheduleParams(target=(0.0, -24.6243)),
    )  # fmt: skip
    made, out = simulate(scenario, root / "archive"), root / "frames"
    out.mkdir()
    for path, name in zip(made.frames, ("good", "next"), strict=True):
        shutil.copy(path, out / f"{name}.fits")
    pixels, header = fits.getdata(made.frames[0], header=True)
    for name in ("BSCALE", "BZERO"):
        header.remove(name, ignore_missing=True)
    for number, (name, way) in enumerate(SPOILT.items()):
        spoilt = way(pixels.astype(float), np.random.default_rng(number))
        whole = np.isfinite(spoilt).all()
        stored = np.clip(np.rint(spoilt), 0, 65535).astype("u2") if whole else spoilt.astype("f4")
        fits.PrimaryHDU(stored, header).writeto(out / f"{name}.fits")
    return out


@pytest.fixture(scope="module")
def spoilt(folder: Path) -> Spoilt:
    """All frames in one lake."""
    return spoil(folder.parent / "lake", folder)


def test_spoilt_frames_are_rows_and_neighbours_do_not_change(folder: Path, spoilt: Spoilt) -> None:
    alone = folder.parent / "alone"
    alone.mkdir()
    for name in ("good", "next"):
        shutil.copy(folder / f"{name}.fits", alone)
    pure = spoil(folder.parent / "pure", alone)
    assert len(spoilt.frames) == len(SPOILT) + 2
    assert spoilt.report.counts == {"ok": 11, "rejected": 1}
    for name in ("good", "next"):
        pd.testing.assert_frame_equal(
            spoilt.found(name).reset_index(drop=True), pure.found(name).reset_index(drop=True)
        )
        same = spoilt.row(name).drop(["file", "file_modified_ns"])
        pd.testing.assert_series_equal(same, pure.row(name).drop(["file", "file_modified_ns"]))


@pytest.mark.parametrize("name", ["bad pixels", "bleeding", "holes", "nebula"])
def test_stars_of_a_spoilt_frame_are_the_stars_of_the_good_one(spoilt: Spoilt, name: str) -> None:
    good, clean = spoilt.clean("good"), spoilt.clean(name)
    assert len(good) > 300
    # Bad pixels take some stars with them, and nebulae the faintest.
    assert len(clean) > {"nebula": 0.3}.get(name, 0.75) * len(good)
    new = spoilt.new(name)
    assert (new.flux_aper1 > 10.0 * new.flux_aper1_err).sum() <= 0.02 * len(clean)
    # The noise of gas changes within a mesh, so some of its peaks pass for faint stars.
    assert len(new) <= {"nebula": 0.1}.get(name, 0.03) * len(clean)
    if name != "nebula":
        pulls = spoilt.pulls(name)
        assert abs(float(np.median(pulls))) < 0.2
        assert np.percentile(np.abs(pulls), 80) < 0.5


def test_a_local_sky_measures_stars_in_a_nebula(folder: Path) -> None:
    """The mesh of the background is too coarse for gas; the sky beside each star is not."""
    some = folder.parent / "nebular"
    some.mkdir()
    for name in ("good", "nebula"):
        shutil.copy(folder / f"{name}.fits", some)
    found = spoil(folder.parent / "local", some, "apertures.sky_annulus_px = [10.0, 16.0]\n")
    pulls = found.pulls("nebula")
    assert len(pulls) > 100 and abs(float(np.median(pulls))) < 0.3


def test_bleeding_columns_are_saturated_and_no_stars(spoilt: Spoilt) -> None:
    found, row = spoilt.found("bleeding"), spoilt.row("bleeding")
    saturated = found[(found["flags"] & int(SourceFlag.SATURATED)) > 0]
    distance, _ = cKDTree(saturated[["x_px", "y_px"]]).query([place[:2] for place in BRIGHT])
    assert (distance < 5.0).all()
    assert row.n_saturated == len(saturated) < 10
    assert row.n_saturated_px > spoilt.row("good").n_saturated_px + 50
    beside = spoilt.new("bleeding")
    assert not any((abs(beside.x_px - x) < 3.0).any() for x, _, _ in BRIGHT)


def test_holes_are_reported_and_hold_no_stars(spoilt: Spoilt) -> None:
    row, found = spoilt.row("holes"), spoilt.found("holes")
    assert row["flags"] & FrameFlag.NAN_PIXELS and not spoilt.row("good")["flags"] & FrameFlag.NAN_PIXELS
    assert row.n_masked_px == 80 * 100 + 212
    rows, columns = HOLE
    inside = found.y_px.between(rows.start, rows.stop - 1) & found.x_px.between(
        columns.start, columns.stop - 1
    )
    assert not inside.any()
    near = (abs(found.x_px - 40.0) < 5.0) & (found.y_px > 305.0)
    assert near.any() and ((found[near]["flags"] & int(SourceFlag.BAD_PIXEL)) > 0).all()


def test_a_frame_of_zeros_is_rejected_and_says_why(spoilt: Spoilt) -> None:
    row = spoilt.row("zeros")
    assert (row.status, row.reason) == ("rejected", "no_sources") and "was not read out" in row.message
    assert spoilt.found("zeros").empty


@pytest.mark.parametrize(("part", "share"), [("block", "11%"), ("half", "50%")])
def test_unread_zeros_cost_no_more_stars_than_missing_values(spoilt: Spoilt, part: str, share: str) -> None:
    zeros = next(name for name in (f"{part} of zeros", f"{part} zeros") if name in SPOILT)
    row, plain = spoilt.row(zeros), spoilt.row(zeros.replace("zeros", "NaN"))
    assert (row.status, row.n_masked_px) == ("ok", plain.n_masked_px) and row["flags"] & FrameFlag.NAN_PIXELS
    assert row.n_sources == pytest.approx(plain.n_sources, rel=0.02)
    assert row.sky_adu == pytest.approx(plain.sky_adu, abs=0.1 * plain.sky_rms_adu)
    assert row.message == f"{share} of the raw pixels hold 0, as if not read out; they are left out"
    assert pd.isna(plain.message)


def test_tracks_of_particles_are_no_stars(spoilt: Spoilt) -> None:
    """The engine takes only what is as wide as a star, and what has no centre is flagged."""
    assert spoilt.row("storm").status == "ok"
    assert len(spoilt.new("storm")) < 0.02 * TRACKS
    assert len(spoilt.clean("good")) > 0.95 * np.sum(
        (spoilt.found("good")["flags"] & ~int(SourceFlag.CENTROID_FAILED) & int(UNCLEAN)) == 0
    )


@pytest.mark.parametrize("engine", ["skylake", "sep"])
def test_masked_tracks_leave_no_false_star(folder: Path, engine: str) -> None:
    some = folder.parent / f"some-{engine}"
    some.mkdir()
    for name in ("good", "storm"):
        shutil.copy(folder / f"{name}.fits", some)
    found = spoil(folder.parent / f"cleaned-{engine}", some, CLEANING, engine)
    assert found.row("good").status == "ok" and found.row("good").n_masked_px < 20
    # A pixel of fifteen is masked: hardly a star is left with all pixels of its apertures.
    storm = found.row("storm")
    assert (storm.status, storm.reason) == ("rejected", "too_few_sources")
    assert storm.n_masked_px > 10_000 and len(found.new("storm")) <= 1
    told = [int(found.row(name)["flags"]) & FrameFlag.MANY_COSMIC_RAYS for name in ("good", "storm")]
    assert told == [0, FrameFlag.MANY_COSMIC_RAYS]
    everywhere = found.found("storm")
    assert ((everywhere["flags"] & int(SourceFlag.FRAME_REJECTED)) > 0).all()

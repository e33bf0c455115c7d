"""Masks of bad pixels of frames of the sky, for cameras that have neither darks nor flats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.flow.execution.cluster import Inline
from skylake.flow.masters.build_masters import BuildOptions, build_masters, library_of
from skylake.flow.masters.sky_masks import MASK_FRAMES, pass_high
from skylake.image.masters.master_file import load_master
from skylake.image.masters.master_library import MasterQuery
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.simulate import Moffat, render

SHAPE, GAIN, SKY, COUNT = (64, 96), 4.0, 500.0, 24
HOT = np.array([[20, 30], [21, 30], [40, 71], [3, 5]])
PROFILE = """
like = "sim"
name = "lab"
detector.width_px = 96
detector.height_px = 64
reduction.steps = ["bad_pixels"]
"""


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    path = tmp_path / "lab.toml"
    path.write_text(PROFILE)
    return cameras.load(path)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake", Settings(cluster="inline"))


def frames(folder: Path, step_px: float, count: int = COUNT) -> list[Path]:
    """Frames of a camera over which stars drift by so many pixels from one to the next."""
    random = np.random.default_rng(3)
    x, y = random.uniform(-90.0, 96.0, 40), random.uniform(0.0, 64.0, 40)
    x[:8] = random.uniform(5.0, 90.0, 8)
    paths = []
    for number in range(count):
        light = SKY + render(SHAPE, x + number * step_px, y, np.geomspace(3e4, 2e3, 40), Moffat(2.5))
        pixels = random.poisson(light * GAIN) / GAIN
        pixels[tuple(HOT.T)] += 60.0
        unit = fits.PrimaryHDU(pixels.astype(np.float32))
        cards = {"OBSTYPE": "LIGHT", "EXPTIME": 30.0, "FILTER": "V", "GAIN": GAIN, "RDNOISE": 2.0}
        unit.header.update(cards | {"DATE-OBS": f"2024-10-04T03:{number:02d}:00"})
        paths.append(folder / f"sky-{number:02d}.fits")
        unit.writeto(paths[-1])
    return paths


def test_frames_of_a_drifting_sky_make_a_usable_mask(lake: Lake, profile: Profile, tmp_path: Path) -> None:
    paths = frames(tmp_path, 4.0)
    report = build_masters(lake, profile, paths, Inline(), BuildOptions(form="mask"))
    (row,) = report.masters
    assert report.all_well and row["kind"] == "bad_pixels" and row["n_frames"] == COUNT
    assert set(json.loads(row["inputs"])) == {str(path) for path in paths}
    library = library_of(lake.snapshot(), "lab")
    chosen = library.pick(profile.base.reduction, MasterQuery(60588.2, 0, "1x1", "V", 30.0, None), "lab")
    mask = load_master(library.root, chosen["bad_pixels"]).mask
    assert mask is not None and mask[tuple(HOT.T)].all()
    assert np.count_nonzero(mask) == row["n_bad_px"] == row["n_hot_px"] == len(HOT)


def test_frames_with_fixed_stars_make_no_mask_and_are_named(
    lake: Lake, profile: Profile, tmp_path: Path
) -> None:
    report = build_masters(lake, profile, frames(tmp_path, 0.0), Inline(), BuildOptions(form="mask"))
    assert report.masters == [] and len(report.left_out) == COUNT
    assert "of the stars are on the same pixels in all 24 frames" in report.left_out[0]["message"]


def test_too_few_frames_make_no_mask(lake: Lake, profile: Profile, tmp_path: Path) -> None:
    paths = frames(tmp_path, 4.0, MASK_FRAMES - 1)
    report = build_masters(lake, profile, paths, Inline(), BuildOptions(form="mask"))
    assert report.masters == [] and len(report.left_out) == MASK_FRAMES - 1
    assert "a mask takes 12" in report.left_out[0]["message"]


def test_a_frame_that_is_filtered_again_is_not_filtered_twice(tmp_path: Path) -> None:
    """As by a worker that takes over from one that died after its work."""
    path = tmp_path / "0.npy"
    np.save(path, np.random.default_rng(1).normal(SKY, 10.0, SHAPE).astype(np.float32))
    high = pass_high(path, False)
    once = np.load(high)
    assert pass_high(path, False) == high and not path.exists()
    np.testing.assert_array_equal(np.load(high), once)

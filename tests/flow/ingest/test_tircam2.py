"""Real near-infrared frames: bias and flats bring the noise of the background from 1,100 ADU to what they can."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skylake import cameras
from skylake.cameras import read_header
from skylake.core.frame import Image
from skylake.flow.execution.cluster import Inline
from skylake.flow.masters.build_masters import BuildOptions, build_masters, library_of
from skylake.image.detection.background import estimate_background
from skylake.image.detrend.detrend_chain import detrend_image
from skylake.image.detrend.frame_conditions import conditions_of
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.lake import Lake
from skylake.settings import Settings

FOLDER = Path(os.environ.get("SKYLAKE_REAL_DATA", "")) / "tircam2"
PROFILE = """
name = "tircam2"
like = "generic"
header.filter = ["FILTER1"]
detector.width_px = 512
detector.height_px = 512
detector.gain_e_per_adu = 10.0
detector.saturation_adu = 60000.0
reduction.steps = ["bias", "flat", "bad_pixels"]
"""

pytestmark = pytest.mark.skipif(
    "SKYLAKE_REAL_DATA" not in os.environ, reason="SKYLAKE_REAL_DATA names no folder of real frames"
)


def test_the_background_noise_is_at_most_twelve_adu(tmp_path: Path) -> None:
    path = tmp_path / "tircam2.toml"
    path.write_text(PROFILE)
    profile = cameras.load(path)
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    for kind, pattern in (("bias", "bias*"), ("flat", "flats*")):
        report = build_masters(lake, profile, sorted(FOLDER.glob(pattern)), Inline(), BuildOptions(kind=kind))  # type: ignore[arg-type]
        assert report.all_well
    library = library_of(lake.snapshot(), "tircam2")
    frames = sorted(FOLDER.glob("IC310*"))
    assert len(frames) == 5
    for frame in frames:
        raw = open_stored(read_file(frame))
        reading = read_header(raw.header, profile, frame.name)
        conditions, names = conditions_of(raw, reading, library, None, str(frame))
        assert len(names) == 3
        image: Image = detrend_image(raw, reading.camera, conditions)
        background = estimate_background(image, reading.camera.extraction)
        assert background.median_rms <= 12.0
        assert 350.0 < background.median_level < 450.0
        untouched = detrend_image(raw, cameras.load("generic").base, None)
        assert estimate_background(untouched, reading.camera.extraction).median_rms > 1000.0

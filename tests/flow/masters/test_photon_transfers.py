"""Gain, read noise and linearity from drawn frames, whichever calls and profiles they come by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.flow.execution.cluster import Inline
from skylake.flow.masters.build_masters import build_masters, library_of
from skylake.image.masters.detector_properties import take_measured
from skylake.image.masters.master_library import MasterQuery
from skylake.lake import Lake
from skylake.settings import Settings

SHAPE, ZERO_ADU, GAIN, READ_E = (128, 192), 500.0, 1.5, 9.0
EXPOSURES = (2.0, 8.0, 20.0)
ADU_PER_S = 1500.0
PROFILE = """
like = "sim"
name = "lab"
detector.width_px = 192
detector.height_px = 128
"""


@dataclass(frozen=True)
class Bench:
    """A detector whose measured signal x is such that x + c2 x^2 + c3 x^3 is linear, and a steady lamp."""

    folder: Path
    c2: float = 0.0
    c3: float = 0.0
    seed: int = 1

    def bias(self, day: int, count: int = 6) -> list[Path]:
        return [self._write("BIAS", day, number, 0.0) for number in range(count)]

    def flats(self, day: int, exposures: tuple[float, ...] = (14.0,) * 6) -> list[Path]:
        return [self._write("FLAT", day, number, seconds) for number, seconds in enumerate(exposures)]

    def _write(self, kind: str, day: int, number: int, exposure: float) -> Path:
        random = np.random.default_rng([self.seed, day, number, kind == "FLAT"])
        light = random.poisson(np.full(SHAPE, ADU_PER_S * exposure * GAIN)) / GAIN
        seen = light.copy()
        for _ in range(30):
            seen = light - self.c2 * seen**2 - self.c3 * seen**3
        pixels = ZERO_ADU + seen + random.normal(0.0, READ_E / GAIN, SHAPE)
        unit = fits.PrimaryHDU(pixels.astype(np.float32))
        unit.header.update(
            {"OBSTYPE": kind, "EXPTIME": exposure, "FILTER": "V", "GAIN": GAIN, "RDNOISE": READ_E}
        )
        unit.header["DATE-OBS"] = f"2024-10-{day:02d}T23:{number:02d}:00"
        path = self.folder / f"{kind}-{day:02d}-{number:02d}.fits"
        unit.writeto(path, overwrite=True)
        return path


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake", Settings(cluster="inline"))


def profile(folder: Path, curve: str = "", more: str = "") -> Profile:
    """The camera, with the step of linearity if there is a curve for it, else known to be linear."""
    path = folder / "lab.toml"
    linear = '["bias", "flat"]\ndetector.linearity = [0.0]'
    steps = f'["bias", "linearity", "flat"]\ndetector.linearity = [{curve}]' if curve else linear
    path.write_text(f"{PROFILE}reduction.steps = {steps}\n{more}")
    return cameras.load(path)


def transfer(lake: Lake, camera: Profile, paths: list[Path]) -> dict[str, Any]:
    rows = build_masters(lake, camera, paths, Inline()).masters
    (row,) = [row for row in rows if row["kind"] == "transfer"]
    return row


def test_bias_frames_of_another_night_give_the_read_noise(lake: Lake, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    paths = [*bench.bias(3), *Bench(tmp_path).bias(9), *bench.flats(5)]
    row = transfer(lake, profile(tmp_path), paths)
    assert abs(row["read_noise_e"] - READ_E) < 4.0 * row["read_noise_err"] < 0.4
    assert abs(row["gain_e_per_adu"] - GAIN) < 4.0 * row["gain_err"] < 0.1


@pytest.mark.parametrize("c2", [-3e-7, 0.0, 3e-7])
def test_an_unknown_response_is_in_the_error_of_the_gain(lake: Lake, tmp_path: Path, c2: float) -> None:
    bench, path = Bench(tmp_path, c2=c2), tmp_path / "lab.toml"
    path.write_text(f'{PROFILE}reduction.steps = ["bias", "flat"]\n')
    row = transfer(lake, cameras.load(path), [*bench.bias(3), *bench.flats(3)])
    assert abs(row["gain_e_per_adu"] - GAIN) < 2.0 * row["gain_err"]
    # Flats of one level know it to three times the per cent by which a response may be off there.
    assert row["gain_err"] == pytest.approx(0.03 * GAIN, rel=0.15)


def test_a_master_bias_of_the_library_shows_the_read_noise(lake: Lake, tmp_path: Path) -> None:
    bench, camera = Bench(tmp_path), profile(tmp_path)
    (bias,) = build_masters(lake, camera, bench.bias(3), Inline()).masters
    assert abs(bias["read_noise_e"] - READ_E) < 4.0 * bias["read_noise_err"] < 0.4
    row = transfer(lake, camera, bench.flats(5))
    assert abs(row["read_noise_e"] - READ_E) < 4.0 * row["read_noise_err"] < 0.4
    assert json.loads(row["inputs"])[bias["name"]] == bias["sha256"]


def test_a_curvature_that_was_applied_is_measured_as_it_was(lake: Lake, tmp_path: Path) -> None:
    bench = Bench(tmp_path, c2=1.5e-6, c3=2e-11)
    paths = [*bench.bias(3), *bench.flats(3, EXPOSURES + EXPOSURES[::-1])]
    first = transfer(lake, profile(tmp_path, "0.0, 2e-11"), paths)
    assert abs(first["linearity_c2"] - bench.c2) < 4.0 * first["linearity_c2_err"] < 5e-7
    applied = profile(tmp_path, f"{first['linearity_c2']!r}, 2e-11", "reduction.measured = ['linearity']\n")
    second = transfer(lake, applied, paths)
    # Nothing is left to correct: what stands in the profile is not replaced by that nothing.
    assert second["linearity_c2"] == pytest.approx(first["linearity_c2"], abs=0.1 * first["linearity_c2_err"])
    reading = cameras.read_header(fits.getheader(paths[-1]), applied, "x.fits")
    library = library_of(lake.snapshot(), "lab")
    (taken,) = take_measured(reading, MasterQuery(second["mjd_mid"], 0, "1x1"), library)
    assert reading.camera.detector.linearity == (taken.linearity_c2, 2e-11)
    assert taken.linearity_c2 == pytest.approx(bench.c2, rel=0.1)

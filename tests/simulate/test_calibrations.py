from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from skylake.cameras import load, read_header
from skylake.core.reasons import Reason
from skylake.simulate import Scenario, plan_calibrations, simulate_calibration
from skylake.simulate.detector import detector_maps


@pytest.fixture(scope="module")
def raw_night(small_profile: str, tmp_path_factory: pytest.TempPathFactory):
    scenario = Scenario(camera=small_profile, raw=True, nights=1, frames_per_night=2, calibration_frames=9)
    out: Path = tmp_path_factory.mktemp("raw")
    items = plan_calibrations(scenario)
    for item in items:
        simulate_calibration(item, scenario, out)
    return scenario, out, items


def stack(raw_night, kind: str) -> np.ndarray:
    _, out, items = raw_night
    return np.stack([fits.getdata(out / item.file).astype(float) for item in items if item.kind == kind])


def test_reduced_frames_need_none(small_scenario: Scenario) -> None:
    assert plan_calibrations(small_scenario) == []


def test_masters_give_back_what_the_detector_does(raw_night) -> None:
    scenario, *_ = raw_night
    maps = detector_maps(scenario)
    bias = stack(raw_night, "bias").mean(axis=0)
    assert (bias - maps.bias_adu).std() == pytest.approx(8.0 / 1.5 / 3.0, rel=0.1)
    dark = stack(raw_night, "dark").mean(axis=0) - bias
    hot = maps.dark_e_per_s > 20.0
    np.testing.assert_allclose(dark[hot], maps.dark_e_per_s[hot] * 30.0 / 1.5, rtol=0.15)
    flats = stack(raw_night, "flat") - bias
    flat = np.mean(flats / flats.mean(axis=(1, 2), keepdims=True), axis=0)
    ratio = flat / maps.response
    assert ratio.std() / ratio.mean() < 0.006
    assert 0.25 * 60000.0 < flats.mean() < 0.6 * 60000.0


def test_flats_differ_in_level_from_exposure_to_exposure(raw_night) -> None:
    levels = stack(raw_night, "flat").mean(axis=(1, 2))
    assert levels.std() / levels.mean() > 0.05


def test_headers_say_what_they_are(raw_night) -> None:
    scenario, out, items = raw_night
    for item in items[::8]:
        header = fits.getheader(out / item.file)
        assert header["OBSTYPE"] == item.kind.upper()
        reading = read_header(header, load(scenario.camera), item.file)
        assert reading.problem is not None and reading.problem[0] == Reason.NOT_SCIENCE
        assert reading.mjd_start == pytest.approx(item.mjd_start, abs=1e-7)


def test_they_do_not_depend_on_order(raw_night, tmp_path: Path) -> None:
    scenario, out, items = raw_night
    for item in (items[-1], items[0]):
        simulate_calibration(item, scenario, tmp_path)
        assert (tmp_path / item.file).read_bytes() == (out / item.file).read_bytes()
    simulate_calibration(items[0], replace(scenario, seed=2), tmp_path)
    assert (tmp_path / items[0].file).read_bytes() != (out / items[0].file).read_bytes()

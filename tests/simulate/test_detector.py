from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skylake.cameras import load
from skylake.simulate.detector import bleed, detector_maps, poisson_noise, read_out
from skylake.simulate.scenario import DetectorParams, OpticsParams, Scenario

WELL = 1000.0
charges = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.integers(1, 6)),
    elements=st.one_of(st.floats(0.0, 900.0, width=32), st.floats(0.0, 20000.0, width=32)),
)


@given(charges)
def test_bleeding_conserves_charge_in_every_column(charge: np.ndarray) -> None:
    height = charge.shape[0]
    before = charge.astype(float).sum(axis=0)
    after = bleed(charge.copy(), WELL).astype(float)
    np.testing.assert_allclose(after.sum(axis=0), np.minimum(before, height * WELL), rtol=1e-5)
    assert after.max() <= WELL


@given(charges)
def test_bleeding_takes_nothing_from_unsaturated_pixels(charge: np.ndarray) -> None:
    after = bleed(charge.copy(), WELL)
    assert (after >= np.minimum(charge, WELL) - 1e-2).all()
    untouched = (charge <= WELL).all(axis=0)
    np.testing.assert_array_equal(after[:, untouched], charge[:, untouched])


def test_a_column_bleeds_alike_to_both_sides() -> None:
    charge = np.full((101, 5), 100.0, np.float32)
    charge[50, 2] = 19000.0
    after = bleed(charge, WELL)
    full = np.flatnonzero(after[:, 2] == WELL)
    assert full.min() == 40 and full.max() == 60
    np.testing.assert_allclose(after[:, 2], after[::-1, 2], rtol=1e-5)


def test_charge_at_the_end_of_a_column_turns_back() -> None:
    charge = np.zeros((50, 1), np.float32)
    charge[2, 0] = 10500.0
    after = bleed(charge, WELL)
    assert (after[:10, 0] == WELL).all() and after[10, 0] == pytest.approx(500.0) and not after[11:].any()


@pytest.mark.parametrize("mean", [3.0, 60.0, 4000.0])
def test_photon_noise_has_the_variance_of_its_mean(mean: float) -> None:
    counts = poisson_noise(np.full((300, 300), mean, np.float32), np.random.default_rng(1))
    assert counts.mean(dtype=float) == pytest.approx(mean, abs=4.0 * np.sqrt(mean / 90000.0))
    assert counts.var(dtype=float) == pytest.approx(mean, rel=0.03)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("level_e", [30.0, 3000.0])
def test_noise_is_that_of_photons_and_of_reading(small_profile: str, raw: bool, level_e: float) -> None:
    scenario = Scenario(
        camera=small_profile,
        raw=raw,
        optics=OpticsParams(vignetting=0.0),
        detector=DetectorParams(hot_fraction=0.0, pixel_response_rms=0.0, flat_error=0.0, dark_e_per_s=2.0),
    )
    camera = load(small_profile).at(60408.0)
    light = np.full((200, 240), level_e, np.float32)
    stored = read_out(light, 10.0, camera, scenario, np.random.default_rng(2))
    stored = stored - detector_maps(scenario).bias_adu
    gain, noise = camera.detector.gain_e_per_adu, camera.detector.read_noise_e
    expected = (level_e + 20.0 + noise**2) / gain**2
    assert stored.var(dtype=float) == pytest.approx(expected, rel=0.03)
    mean = level_e / gain + (20.0 / gain if raw else 0.0)
    assert stored.mean(dtype=float) == pytest.approx(mean, abs=4.0 * np.sqrt(expected / stored.size))


def test_reduced_frames_are_flat_and_noisier_in_dark_corners(small_profile: str) -> None:
    scenario = Scenario(
        camera=small_profile,
        optics=OpticsParams(vignetting=0.5),
        detector=DetectorParams(flat_error=0.0, hot_fraction=0.0, pedestal_adu=0.0),
    )
    camera = load(small_profile).at(60408.0)
    response = detector_maps(scenario).response
    light = np.float32(3000.0) * response
    stored = read_out(light, 1.0, camera, scenario, np.random.default_rng(2))
    centre, corner = stored[90:110, 110:130], np.concatenate([stored[:12, :12], stored[-12:, -12:]])
    assert corner.mean() == pytest.approx(centre.mean(), rel=0.01)
    assert 1.5 < corner.var() / centre.var() < 3.0


def test_flat_errors_are_smooth_and_as_large_as_asked_for(small_profile: str) -> None:
    maps = detector_maps(Scenario(camera=small_profile, detector=DetectorParams(flat_error=0.01)))
    error = 1.0 / (maps.inverse_flat * maps.response) - 1.0
    assert error.std() == pytest.approx(0.01, rel=0.01)
    assert np.abs(np.diff(error, axis=0)).max() < 0.002


@settings(deadline=None, max_examples=20)
@given(st.booleans(), st.floats(1.5e5, 1e8))
def test_saturated_pixels_are_at_or_above_the_profile_level(
    small_profile: str, raw: bool, charge: float
) -> None:
    scenario = Scenario(camera=small_profile, raw=raw)
    camera = load(small_profile).at(60408.0)
    light = np.zeros((200, 240), np.float32)
    light[80:83, [5, 120]] = charge * detector_maps(scenario).response[80:83, [5, 120]]
    stored = read_out(light, 30.0, camera, scenario, np.random.default_rng(4))
    assert (stored[81, [5, 120]] >= 60000.0).all()
    if raw:
        assert stored.max() == 60000.0


def test_pixels_outside_the_trimmed_image_see_no_light(profile_file) -> None:
    path = profile_file(
        'like = "sim"\nname = "trimmed"\n[detector]\nwidth_px = 120\nheight_px = 100\n'
        "trim_x = [10, 110]\ntrim_y = [0, 96]\noverscan_x = [0, 10]\n"
    )
    scenario = Scenario(camera=path, raw=True, detector=DetectorParams(hot_fraction=0.0))
    stored = read_out(
        np.full((96, 100), 9000.0, np.float32), 1.0, load(path).base, scenario, np.random.default_rng(5)
    )
    assert stored.shape == (100, 120)
    assert stored[:96, 10:110].min() > 5000.0
    assert abs(stored[:, :10].mean() - 300.0) < 5.0 and abs(stored[96:].mean() - 300.0) < 5.0

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.calibration.night_floor import night_floor


def a_night(seed, floor, n_stars=150, n_frames=8, spoiled=0.0):
    random = np.random.default_rng(seed)
    star = np.repeat(np.arange(n_stars), n_frames)
    noise = np.repeat(10 ** random.uniform(-3, -1, n_stars), n_frames)
    level = np.repeat(random.normal(0, 0.05, n_stars), n_frames)
    residual = level + random.normal(0, np.hypot(noise, floor))
    bad = random.random(star.size) < spoiled
    residual[bad] += random.normal(0, 0.3, bad.sum())
    order = random.permutation(star.size)
    return star[order], residual[order], noise[order]


@pytest.mark.parametrize("floor", [0.002, 0.005, 0.02])
@pytest.mark.parametrize("spoiled", [0.0, 0.05])
def test_it_is_what_was_added_whatever_the_levels_of_stars(floor, spoiled):
    found = np.array([night_floor(*a_night(seed, floor, spoiled=spoiled)) for seed in range(12)])
    assert np.mean(found) == pytest.approx(floor, rel=0.12)


def test_noise_of_photons_alone_leaves_little():
    found = [night_floor(*a_night(seed, 0.0)) for seed in range(12)]
    assert np.median(found) < 0.0015


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 3.0))
def test_it_has_the_scale_of_what_it_is_given(seed, factor):
    star, residual, noise = a_night(seed, 0.01, n_stars=40)
    expected = factor * night_floor(star, residual, noise)
    assert night_floor(star, factor * residual, factor * noise) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("n_stars, n_frames", [(150, 2), (5, 4), (0, 3)])
def test_too_few_repeats_show_none(n_stars, n_frames):
    assert np.isnan(night_floor(*a_night(1, 0.01, n_stars, n_frames)))

"""Binned curves have errors that pulls confirm, and bins of the data alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.curves.binning import bin_curves

N_STARS, TIME = 150, (np.arange(20)[:, None] + 0.5 + np.linspace(-0.15, 0.149, 60)).ravel()


@pytest.mark.parametrize("red", [0.0, 0.5])
def test_pulls_of_bins_are_one_wide_though_stated_errors_are_too_small_and_noise_lasts(red: float) -> None:
    random = np.random.default_rng(1)
    share = np.exp(-1 / 15)
    lasting = np.zeros((N_STARS, len(TIME)))
    for frame in range(1, len(TIME)):
        lasting[:, frame] = share * lasting[:, frame - 1] + np.sqrt(1 - share**2) * random.standard_normal(
            N_STARS
        )
    mag = 10 + 0.01 * (1.3 * random.standard_normal(lasting.shape) + red * lasting)
    mag[random.random(mag.shape) < 0.01] += 0.3
    mag[random.random(mag.shape) < 0.1] = np.nan
    made = bin_curves(
        np.tile(TIME, N_STARS), mag.ravel(), np.full(mag.size, 0.01), np.arange(N_STARS + 1) * len(TIME), 0.05
    )
    full = made.n_points > 3
    pulls = ((made.mag - 10) / made.mag_err)[full]
    assert np.abs(pulls.mean()) < 0.05
    assert 0.93 < pulls.std() < 1.07
    assert np.median(made.red_err) < 0.0015 if red == 0.0 else 0.003 < np.median(made.red_err) < 0.006


def test_a_signal_that_is_known_is_no_noise_and_stays_in_the_curve() -> None:
    random = np.random.default_rng(2)
    signal = 0.05 * np.sin(2 * np.pi * TIME / 3.7)
    mag = 10 + signal + 0.01 * random.standard_normal(len(TIME))
    starts, errors = np.array([0, len(TIME)]), np.full(len(TIME), 0.01)
    blind, known = (bin_curves(TIME, mag, errors, starts, 0.1, model) for model in (None, signal))
    assert blind.red_err[0] > 0.02 > 0.003 > known.red_err[0]
    truth = 10 + 0.05 * np.sin(2 * np.pi * known.time / 3.7)
    assert np.std((known.mag - truth) / known.mag_err) == pytest.approx(1.0, abs=0.25)


@given(seed=st.integers(0, 500), width=st.floats(0.01, 5.0))
def test_bins_hold_all_good_points_of_their_curve_and_no_others(seed: int, width: float) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 30, 4)
    starts = np.append(0, np.cumsum(counts))
    time = np.concatenate([np.sort(random.uniform(0, 8, one)) for one in counts])
    mag = np.where(random.random(len(time)) < 0.2, np.nan, 10.0 + random.normal(0, 0.01, len(time)))
    made = bin_curves(time, mag, np.full(len(time), 0.01), starts, width)
    for curve in range(4):
        mine = slice(made.starts[curve], made.starts[curve + 1])
        good = np.isfinite(mag[starts[curve] : starts[curve + 1]])
        assert made.n_points[mine].sum() == good.sum()
        cells = np.floor(time[starts[curve] : starts[curve + 1]][good] / width)
        assert len(made.mag[mine]) == len(np.unique(cells))
    assert np.isnan(made.red_err[np.diff(made.starts) < 5]).all()


def test_a_bin_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 0"):
        bin_curves(TIME, TIME, TIME, np.array([0, len(TIME)]), 0.0)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.clear_sky import THIN_MAG, Shares, clear_level, log_clear, log_cloudy, thin_share


@given(st.floats(0.002, 0.5), st.floats(0.01, 2.0))
def test_densities_are_normalised_and_clouds_only_lower(sigma: float, depth: float) -> None:
    deviation = np.linspace(-12.0 * depth - 8.0 * sigma, 8.0 * sigma, 40_001)
    step = deviation[1] - deviation[0]
    cloudy = np.exp(log_cloudy(deviation, sigma, depth))
    assert cloudy.sum() * step == pytest.approx(1.0, abs=2e-3)
    assert (cloudy * deviation).sum() * step == pytest.approx(-depth, rel=5e-3)
    assert np.exp(log_clear(deviation, sigma)).sum() * step == pytest.approx(1.0, abs=2e-2)


def test_a_value_far_above_is_neither_clear_nor_cloudy() -> None:
    deviation = np.array([0.0, -0.4, 1.5])
    clear, cloudy, likelihood = Shares(0.3, 0.3).split(deviation, np.full(3, 0.01))
    assert clear[0] > 0.9 and cloudy[1] > 0.9 and clear[2] + cloudy[2] < 1e-3
    log_density = Shares(0.3, 0.3).log_density(deviation, np.full(3, 0.01))
    assert likelihood == pytest.approx(log_density.sum())


def test_the_level_is_that_of_clear_nights_and_not_the_highest() -> None:
    random = np.random.default_rng(4)
    pulls, highest = [], []
    for _ in range(240):
        share, depth, scatter = (
            random.choice(some) for some in ([0.2, 0.5, 0.8], [0.1, 0.3, 1.0], [0.007, 0.03])
        )
        error = random.uniform(0.002, 0.02, 15)
        cloud = np.where(random.random(15) < share, 0.0, random.exponential(depth, 15))
        values = 18.0 - cloud + random.normal(0.0, np.hypot(error, scatter))
        level = clear_level(values, error)
        pulls.append((level.value - 18.0) / level.error)
        highest.append((values.max() - level.value) / level.error)
    # Of a few nights most is cloud, and their pulls are in far wings: the width is that of two thirds.
    assert abs(np.mean(pulls)) < 0.35 and 0.7 < np.quantile(np.abs(pulls), 0.683) < 1.3
    assert np.mean(highest) > 1.0


def test_a_night_behind_a_constant_cloud_is_not_clear() -> None:
    values = np.array([18.0, 18.01, 17.99, 18.005, 17.65, 17.4])
    level = clear_level(values, np.full(6, 0.01))
    assert level.p_clear[4] < 1e-3 and level.p_clear[5] < 1e-3
    assert (level.p_clear[:4] > 0.85).all()


def test_one_wild_night_is_no_level() -> None:
    values = np.array([18.0, 18.01, 17.99, 18.005, 17.995, 18.0, 18.6])
    level = clear_level(values, np.full(7, 0.01))
    assert level.value == pytest.approx(18.0, abs=0.02)
    assert level.p_clear[:6].min() > 0.8


def test_one_night_tells_nothing() -> None:
    level = clear_level(np.array([18.0]), np.array([0.01]))
    assert 0.3 < level.p_clear[0] < 0.7
    assert level.error > 0.1


@given(st.floats(-0.3, 0.1), st.floats(0.003, 0.1), st.floats(0.05, 1.0))
def test_the_share_of_thin_clouds_is_that_of_the_posterior(
    deviation: float, sigma: float, depth: float
) -> None:
    taken = (np.arange(200_000) + 0.5) * 1e-5
    density = -taken / depth - 0.5 * ((deviation + taken) / sigma) ** 2
    posterior = np.exp(density - density.max())
    expected = posterior[taken < THIN_MAG].sum() / posterior.sum()
    assert thin_share(np.array([deviation]), sigma, depth)[0] == pytest.approx(expected, abs=2e-3)

"""By how much means of frames differ because other stars are on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from skylake.calibration.star_lists import unshared_variance

Floats = npt.NDArray[np.float64]


def of_lists(lists: list[npt.NDArray[np.int64]], sigma: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The variance of plain means over lists of stars."""
    starts = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    star = np.concatenate(lists).astype(np.int64)
    weight = np.concatenate([np.full(len(one), 1.0 / max(len(one), 1)) for one in lists])
    return unshared_variance(star, starts, weight, sigma[star] ** 2), starts


def scatter(lists: list[npt.NDArray[np.int64]], sigma: Floats, draws: int = 2000) -> float:
    """The variance from frame to frame that drawn errors of the stars have."""
    rng = np.random.default_rng(1)
    error = sigma[:, None] * rng.normal(size=(len(sigma), draws))
    means = np.array([error[one].mean(axis=0) for one in lists])
    return float(np.mean(means.var(axis=0, ddof=1)))


def test_frames_of_the_same_stars_differ_by_nothing() -> None:
    found, _ = of_lists([np.arange(20)] * 40, np.full(20, 0.1))
    np.testing.assert_allclose(found, 0.0, atol=1e-20)


def test_fields_that_share_no_star_are_not_compared() -> None:
    fields = [np.arange(20) + 20 * field for field in range(6)]
    found, _ = of_lists([*fields, *fields, *fields], np.full(120, 0.1))
    np.testing.assert_allclose(found, 0.0, atol=1e-20)
    alone, _ = of_lists([np.arange(5), np.zeros(0, np.int64), np.arange(5, 9)], np.full(9, 0.1))
    np.testing.assert_array_equal(alone, 0.0)


@pytest.mark.parametrize("n_frames", [2, 3, 10, 200])
def test_lists_at_random_from_one_field_differ_as_drawn_errors_do(n_frames: int) -> None:
    rng = np.random.default_rng(n_frames)
    sigma = rng.uniform(0.02, 0.2, 60)
    lists = [np.flatnonzero(rng.random(60) < 0.7) for _ in range(n_frames)]
    found, _ = of_lists(lists, sigma)
    assert found.mean() == pytest.approx(scatter(lists, sigma), rel=0.1)


def test_a_field_that_drifts_by_a_third() -> None:
    lists = [np.arange(30) + shift for shift in np.linspace(0, 10, 142).astype(int)]
    sigma = np.full(40, 0.12)
    found, _ = of_lists(lists, sigma)
    assert found.mean() == pytest.approx(scatter(lists, sigma), rel=0.15)
    # The first and the last frames have the fewest stars in common with others.
    assert found[[0, -1]].min() > 2.0 * found[71]

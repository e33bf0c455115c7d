"""Means of many groups at once are those that a fit of one at a time finds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.group_means import group_means, group_sums, weighted_median
from skylake.core.group_medians import group_medians, medians_of
from skylake.core.robust import MEAN_SHARE, SHARED_VARIANCE, biweight, robust_mean

sizes = st.lists(st.integers(0, 40), min_size=1, max_size=8)
seeds = st.integers(0, 2**32)


def drawn(seed: int, size: list[int]) -> tuple[npt.NDArray[np.float64], ...]:
    """Groups of values around 20 with a tenth of outliers, their errors, and where the groups begin."""
    rng = np.random.default_rng(seed)
    n = sum(size)
    errors = rng.uniform(0.01, 0.1, n)
    values = 20.0 + rng.normal(0.0, errors) + (rng.random(n) < 0.1) * rng.normal(0.0, 1.0, n)
    return values, errors, np.concatenate([[0], np.cumsum(size)])


def loss(values: npt.NDArray[np.float64], errors: npt.NDArray[np.float64], mean: float) -> float:
    """What the biweight makes as small as it can be."""
    return float(-np.sum(np.clip(1.0 - ((values - mean) / errors / 4.685) ** 2, 0.0, None) ** 3))


@given(seeds, sizes)
def test_each_group_has_the_mean_error_and_weights_of_a_fit_of_its_own(seed: int, size: list[int]) -> None:
    values, errors, starts = drawn(seed, size)
    found = group_means(values, errors, starts)
    for number, (low, high) in enumerate(pairwise(starts)):
        if low == high:
            assert np.isnan([found.means[number], found.errors[number]]).all()
            continue
        mine, error = values[low:high], errors[low:high]
        fit = robust_mean(mine, error, 0.0)
        if abs(found.means[number] - fit.coefficients[0]) > 1e-5:
            # Few values may have two minima, a flat one, or none that any of them is near to.
            here = found.means[number] + np.array([0.0, -1e-3, 1e-3]) * error.min()
            if found.weights[low:high].sum() > 0.5:
                assert np.argmin([loss(mine, error, mean) for mean in here]) == 0
            continue
        assert found.means[number] == pytest.approx(fit.coefficients[0], abs=1e-5)
        assert found.errors[number] == pytest.approx(fit.errors[0], rel=2e-3)
        np.testing.assert_allclose(found.weights[low:high], fit.weights, atol=2e-3)


def test_values_that_exclude_each_other_have_their_middle_and_no_weight() -> None:
    found = group_means(np.array([1.0, 3.0]), np.full(2, 0.01), np.array([0, 2]))
    assert found.means[0] == 2.0 and found.errors[0] == pytest.approx(1.0, rel=0.01)
    assert not found.weights.any()


@given(seeds, sizes)
def test_sums_and_medians_of_groups(seed: int, size: list[int]) -> None:
    values, _, starts = drawn(seed, size)
    groups = [values[low:high] for low, high in pairwise(starts)]
    np.testing.assert_allclose(group_sums(values, starts), [one.sum() for one in groups])
    expected = [np.median(one) if len(one) else np.nan for one in groups]
    np.testing.assert_allclose(group_medians(values, starts), expected)
    # In any order, with values that count for nothing.
    order = np.random.default_rng(seed).permutation(len(values) + len(size))
    mixed = np.append(values, np.full(len(size), np.nan))[order]
    group = np.append(np.repeat(np.arange(len(size)), size), np.arange(len(size)))[order]
    np.testing.assert_allclose(medians_of(mixed, group, len(size)), expected)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 3)), min_size=1, max_size=12))
def test_half_of_the_weight_is_on_each_side_of_a_weighted_median(pairs: list[tuple[int, int]]) -> None:
    values, counts = (np.array(column) for column in zip(*pairs, strict=True))
    assert weighted_median(values.astype(float), counts.astype(float)) == np.median(np.repeat(values, counts))


def test_what_the_weights_leave_of_a_gaussian() -> None:
    u = np.linspace(-8.0, 8.0, 200_001)
    density = np.exp(-0.5 * u**2) / np.sqrt(2.0 * np.pi) * (u[1] - u[0])
    share = biweight(u)
    assert np.sum(share * density) == pytest.approx(MEAN_SHARE, abs=1e-6)
    assert np.sum(share * u**2 * density) / MEAN_SHARE == pytest.approx(SHARED_VARIANCE, abs=1e-6)

"""The compiled search for the scatter beyond stated errors finds what a slow one finds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from skylake.core.excess_scatter import mean_rho, refined_variance, scale_start
from skylake.core.robust import biweight

CUT, REFINED_CUT, EXPECTED = 1.5476, 3.5, 0.7117584
seeds, counts = st.integers(0, 2**32), st.integers(3, 60)
intrinsics = st.sampled_from([0.0, 1e-3, 0.05, 10.0])


def sample(
    seed: int, n: int, intrinsic: float, far: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.01, 0.03, n)
    residuals = rng.normal(0.0, np.hypot(errors, intrinsic))
    residuals[: n // 4] *= far
    return residuals, errors


def rho(residuals: npt.NDArray[np.float64], errors: npt.NDArray[np.float64], scatter: float) -> float:
    u = np.clip(np.abs(residuals) / np.hypot(errors, scatter) / CUT, 0.0, 1.0)
    return float(np.mean(1.0 - (1.0 - u * u) ** 3))


@given(seeds, counts, intrinsics, st.sampled_from([1.0, 30.0, 1e12]))
def test_the_start_is_the_root_that_a_known_search_finds(
    seed: int, n: int, intrinsic: float, far: float
) -> None:
    residuals, errors = sample(seed, n, intrinsic, far)
    found = scale_start(residuals, errors, 0.5, CUT)
    assert mean_rho(residuals, errors, found, CUT) == pytest.approx(rho(residuals, errors, found), abs=1e-12)
    if rho(residuals, errors, 0.0) <= 0.5:
        assert found == 0.0
    else:
        high = 10.0 * float(np.abs(residuals).max())
        wanted = brentq(
            lambda scatter: rho(residuals, errors, scatter) - 0.5, 0.0, high, xtol=1e-14, rtol=1e-13
        )
        assert found == pytest.approx(wanted, rel=1e-8, abs=1e-12)


def refined(residuals: npt.NDArray[np.float64], errors: npt.NDArray[np.float64], found: float) -> float:
    """The same steps, all values at once."""
    squares, variances = residuals**2, errors**2
    for _ in range(100):
        total = variances + found
        weights = biweight(np.sqrt(squares / total), REFINED_CUT)
        if weights.sum() <= 2.0:
            break
        wanted = EXPECTED * weights.sum() * (len(squares) - 1) / len(squares)
        one, two = np.sum(weights * squares / total), np.sum(weights * squares / total**2)
        before, found = found, max(found + (one / wanted - 1.0) * one / two, 0.5 * found)
        if np.sum(weights * squares / variances) <= wanted:
            found = 0.0
        if abs(found - before) <= 1e-9 * before:
            break
    return found


@given(seeds, counts, intrinsics)
def test_the_refined_variance_equals_all_steps_at_once(seed: int, n: int, intrinsic: float) -> None:
    residuals, errors = sample(seed, n, intrinsic, 30.0)
    start = scale_start(residuals, errors, 0.5 * (n - 1) / n, CUT) ** 2
    found = refined_variance(residuals, errors, start, 1, REFINED_CUT, EXPECTED)
    assert found == pytest.approx(refined(residuals, errors, start), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("far", [1e-300, 1.0, 1e150])
def test_exact_values_of_any_size_have_their_scatter(far: float) -> None:
    residuals = far * np.array([-1.0, -0.5, 0.5, 1.0])
    found = scale_start(residuals, np.zeros(4), 0.5, CUT)
    assert found / far == pytest.approx(scale_start(residuals / far, np.zeros(4), 0.5, CUT), rel=1e-8)
    assert scale_start(np.zeros(4), np.zeros(4), 0.5, CUT) == 0.0

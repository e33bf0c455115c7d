"""Robust estimates: recovered truth, honest errors, and indifference to what is far off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from skylake.core.robust import biweight, intrinsic_scatter, robust_fit, robust_mean, sigma_mad

Floats = npt.NDArray[np.float64]
TRUTH = 20.0


def measured(
    rng: np.random.Generator, n: int, intrinsic: float, outliers: float = 0.0
) -> tuple[Floats, Floats]:
    """Values about 20 with errors between 0.01 and 0.03, some of them far off on one side."""
    errors = rng.uniform(0.01, 0.03, n)
    values = TRUTH + rng.normal(0.0, np.hypot(errors, intrinsic))
    bad = rng.random(n) < outliers
    values[bad] += rng.choice([-1.0, 1.0], bad.sum()) * rng.uniform(0.5, 3.0, bad.sum())
    return values, errors


def pulls(
    n: int, intrinsic: float, outliers: float, trials: int, known: bool = False
) -> tuple[Floats, Floats]:
    """Errors of the mean in units of the stated ones, and the intrinsic scatters found."""
    rng = np.random.default_rng([n, round(100 * intrinsic), round(100 * outliers)])
    fits = [
        robust_mean(*measured(rng, n, intrinsic, outliers), intrinsic if known else None)
        for _ in range(trials)
    ]
    pull = np.array([(fit.coefficients[0] - TRUTH) / fit.errors[0] for fit in fits])
    return pull, np.array([fit.intrinsic for fit in fits])


def widths(pull: Floats) -> Floats:
    """Half widths that hold 68.3 and 95.4 % of the pulls, one and one for honest Gaussian errors."""
    return np.quantile(np.abs(pull), [0.683, 0.954]) / [1.0, 2.0]


@pytest.mark.full
@pytest.mark.parametrize(("n", "trials"), [(20, 300), (200, 160)])
def test_stated_errors_cover_the_true_ones(n: int, trials: int) -> None:
    """To 10 % on the whole; in each case as far as chance lets it be seen.

    With 20 values the tails are those of Student's t: two standard errors miss by 5 % more.
    """
    every = []
    for intrinsic in (0.0, 0.05):
        for outliers in (0.0, 0.1):
            pull, scatter = pulls(n, intrinsic, outliers, trials)
            every.append(pull)
            assert 0.8 < widths(pull)[0] < 1.2
            assert abs(pull.mean()) < 4.0 / np.sqrt(trials)
            if intrinsic:
                assert np.median(scatter) == pytest.approx(intrinsic, rel=0.06)
            else:
                assert np.median(scatter) < 0.004
            assert scatter.std() < 0.1 / np.sqrt(n)
    inner, outer = widths(np.concatenate(every))
    assert 0.9 < inner < 1.1
    assert 0.9 < outer < 1.15


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_values_have_honest_errors_with_a_known_scatter(n: int) -> None:
    pull, _ = pulls(n, 0.05, 0.0, 300, known=True)
    assert 0.85 < np.sqrt(np.mean(pull**2)) < 1.12


def test_errors_stated_too_small_by_half_are_found_out() -> None:
    rng = np.random.default_rng(4)
    pull = []
    for _ in range(200):
        values, errors = measured(rng, 50, 0.0)
        fit = robust_mean(values, 0.5 * errors)
        pull.append((fit.coefficients[0] - TRUTH) / fit.errors[0])
    assert 0.85 < np.std(pull) < 1.15


@given(st.integers(0, 2**32), st.integers(1, 60), st.floats(1e-4, 1e4), st.floats(-1e4, 1e4))
@example(14, 11, 1e-4, 0.0)
def test_shift_and_scale_go_through(seed: int, n: int, scale: float, shift: float) -> None:
    values, errors = measured(np.random.default_rng(seed), n, 0.02, 0.1)
    plain, moved = robust_mean(values, errors), robust_mean(shift + scale * values, scale * errors)
    # The digits that the shift leaves to the scatter.
    lost = 1e-6 + 1e-12 * abs(shift) / scale
    assert (moved.coefficients[0] - shift) / scale == pytest.approx(plain.coefficients[0], abs=1e-6 + lost)
    assert moved.errors[0] / scale == pytest.approx(plain.errors[0], rel=1e-4 + 100.0 * lost)
    assert moved.intrinsic / scale == pytest.approx(plain.intrinsic, rel=1e-3, abs=1e-5 + lost)
    np.testing.assert_allclose(moved.weights, plain.weights, atol=1e-3 + 100.0 * lost)


@given(st.integers(0, 2**32), st.integers(6, 40), st.integers(1, 15))
def test_outliers_change_nothing_however_far_off(seed: int, n: int, power: int) -> None:
    """Ten or more standard deviations off is nowhere; a tenth of them is a nuisance of the scale alone."""
    rng = np.random.default_rng(seed)
    values, errors = measured(rng, n, 0.02)
    far = max(n // 10, 1)
    near, further = values.copy(), values.copy()
    near[:far] += 10.0
    further[:far] += 10.0**power
    one, other = robust_mean(near, errors), robust_mean(further, errors)
    assert other.coefficients[0] == pytest.approx(one.coefficients[0], abs=1e-6)
    assert other.errors[0] == pytest.approx(one.errors[0], rel=1e-4)
    assert other.intrinsic == pytest.approx(one.intrinsic, rel=1e-4)
    assert (other.weights[:far] == 0.0).all() and other.weights[far:].max() > 0.5


@pytest.mark.parametrize("known", [None, 0.0, 0.3])
def test_one_value_is_its_own_mean_with_its_own_error(known: float | None) -> None:
    fit = robust_mean(np.array([5.0]), np.array([0.4]), known)
    assert fit.coefficients[0] == pytest.approx(5.0)
    assert fit.errors[0] == pytest.approx(np.hypot(0.4, known or 0.0))
    assert fit.weights.tolist() == [1.0]


@given(st.floats(0.0, 1e6), st.floats(1e-3, 10.0))
@example(4.0, 1.0)
@example(6.0, 1.0)
@example(77.0, 8.5)
@example(9.36, 1.0)
@example(1000.0, 1.0)
def test_two_values_have_a_mean_between_and_a_finite_error(apart: float, error: float) -> None:
    """Where the two are four to six standard deviations apart the slopes of the biweight cancel."""
    for known in (None, 0.0):
        fit = robust_mean(np.array([0.0, apart]), np.full(2, error), known)
        assert -1e-9 <= fit.coefficients[0] <= apart + 1e-9
        assert fit.errors[0] >= 0.6 * error
        assert fit.errors[0] <= 1.3 * np.hypot(apart, error)


def test_exact_data_are_fitted_exactly() -> None:
    x = np.arange(8.0)
    fit = robust_fit(np.stack([np.ones(8), x], 1), 3.0 - 0.5 * x, np.zeros(8))
    np.testing.assert_allclose(fit.coefficients, [3.0, -0.5], atol=1e-9)
    assert fit.intrinsic < 1e-9 and (fit.errors < 1e-8).all()
    values = 3.0 - 0.5 * x
    values[3] += 1e6
    fit = robust_fit(np.stack([np.ones(8), x], 1), values, np.zeros(8))
    np.testing.assert_allclose(fit.coefficients, [3.0, -0.5], atol=1e-6)
    assert fit.weights[3] == 0.0


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("error", [0.0, 0.1])
def test_values_that_are_all_equal_have_no_scatter(n: int, error: float) -> None:
    fit = robust_mean(np.full(n, 7.5), np.full(n, error))
    assert fit.coefficients[0] == pytest.approx(7.5, abs=1e-12)
    assert fit.intrinsic < 1e-12
    np.testing.assert_allclose(fit.weights, 1.0)
    assert fit.errors[0] < 1.2 * error / np.sqrt(n) + 1e-8


def test_ties_and_one_that_differs() -> None:
    for error in (0.0, 0.1):
        fit = robust_mean(np.array([5.0] * 10 + [9.0]), np.full(11, error))
        assert fit.coefficients[0] == pytest.approx(5.0, abs=1e-9)
        assert fit.weights[-1] == 0.0 and fit.intrinsic < 1e-9


def test_values_stated_as_exact_that_differ_give_their_scatter() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(0.0, 0.3, 400)
    assert intrinsic_scatter(values, np.zeros(400)) == pytest.approx(0.3, rel=0.12)
    assert intrinsic_scatter(np.array([0.1, -0.1]), np.zeros(2)) > 0.05
    fit = robust_mean(values, np.zeros(400))
    assert fit.errors[0] == pytest.approx(0.3 / 20.0, rel=0.15)


@pytest.mark.parametrize("outliers", [0.0, 0.25])
def test_the_intrinsic_scatter_is_found_among_outliers(outliers: float) -> None:
    """A quarter of outliers makes it too large by a tenth, as its docstring says, not by 70 %."""
    rng = np.random.default_rng(8)
    found = []
    for _ in range(40):
        values, errors = measured(rng, 300, 0.04, outliers)
        found.append(intrinsic_scatter(values - TRUTH, errors, 0))
    assert np.median(found) == pytest.approx(0.04, rel=0.12 if outliers else 0.04)


@pytest.mark.parametrize("seed", range(4))
def test_one_star_that_goes_astray_never_lets_the_scatter_jump(seed: int) -> None:
    """Of twenty stars; what one weighs may fall, but bit by bit."""
    rng = np.random.default_rng(seed)
    residuals, errors = rng.normal(0.0, 0.08, 20), np.full(20, 0.01)
    found = []
    for place in np.arange(0.0, 0.6, 0.0005):
        residuals[0] = place
        found.append(intrinsic_scatter(residuals, errors))
    steps = np.abs(np.diff(found)) / np.array(found[1:])
    assert steps.max() < 0.02
    assert max(found) > 1.02 * found[-1]


@given(st.integers(0, 2**32), st.integers(0, 3))
def test_scatter_below_the_stated_errors_is_none(seed: int, lost: int) -> None:
    residuals = np.random.default_rng(seed).normal(0.0, 0.3, 100)
    assert intrinsic_scatter(residuals, np.ones(100), lost) == 0.0
    assert intrinsic_scatter(residuals[:lost], np.zeros(lost), lost) == 0.0


def line(rng: np.random.Generator, n: int, width: float) -> tuple[Floats, Floats, Floats]:
    """A zeropoint of 20 and a colour term of 0.3."""
    x = rng.uniform(-width, width, n)
    errors = rng.uniform(0.01, 0.03, n)
    return np.stack([np.ones(n), x], 1), 20.0 + 0.3 * x + rng.normal(0.0, errors), errors


def test_a_line_and_its_covariance_are_recovered() -> None:
    rng = np.random.default_rng(10)
    pull = []
    for _ in range(150):
        design, values, errors = line(rng, 40, 0.5)
        design[:, 1] += 0.4  # so that the two coefficients are correlated
        values[:4] += rng.uniform(0.5, 2.0, 4)
        fit = robust_fit(design, values + 0.12, errors)
        off = fit.coefficients - [20.0, 0.3]
        pull.append(off @ np.linalg.solve(fit.covariance, off))
    assert np.mean(pull) == pytest.approx(2.0, rel=0.3)  # chi-square of two degrees of freedom


def test_a_prior_holds_without_data_and_yields_to_data() -> None:
    rng = np.random.default_rng(11)
    prior = (np.array([0.0, -0.1]), np.array([np.inf, 0.05]))
    design, values, errors = line(rng, 30, 1e-6)
    fit = robust_fit(design, values, errors, prior=prior)
    assert fit.coefficients[1] == pytest.approx(-0.1, abs=1e-4)
    assert fit.errors[1] == pytest.approx(0.05, rel=1e-3)
    assert fit.coefficients[0] == pytest.approx(20.0, abs=0.02)
    design, values, errors = line(rng, 1000, 1.0)
    assert robust_fit(design, values, errors, prior=prior).coefficients[1] == pytest.approx(0.3, abs=0.01)


@given(st.floats(-3.0, 3.0), st.floats(0.01, 10.0), st.integers(0, 2**32))
def test_an_agreeing_prior_weighs_as_one_more_value(pull: float, deviation: float, seed: int) -> None:
    """The posterior of Gaussian data: the mean by inverse variances."""
    rng = np.random.default_rng(seed)
    values, errors = TRUTH + 0.01 * rng.standard_normal(8), np.full(8, 0.1)
    mean = TRUTH + pull * min(deviation, 0.02)
    fit = robust_fit(np.ones((8, 1)), values, errors, 0.0, (np.array([mean]), np.array([deviation])))
    weights = np.append(1.0 / errors**2, 1.0 / deviation**2)
    assert fit.coefficients[0] == pytest.approx(
        np.average(np.append(values, mean), weights=weights), abs=0.002
    )
    assert fit.errors[0] < 1.001 * deviation


def test_a_prior_of_no_width_fixes_and_one_without_data_stands() -> None:
    rng = np.random.default_rng(12)
    design, values, errors = line(rng, 30, 0.5)
    fit = robust_fit(design, values, errors, prior=(np.array([0.0, 0.25]), np.array([np.inf, 0.0])))
    assert fit.coefficients[1] == pytest.approx(0.25, abs=1e-6)
    assert fit.errors[1] < 1e-6
    prior = (np.array([1.0, 2.0]), np.array([0.1, np.inf]))
    alone = robust_fit(np.zeros((0, 2)), np.zeros(0), np.zeros(0), prior=prior)
    assert alone.coefficients.tolist() == [1.0, 2.0] and alone.errors[0] == pytest.approx(0.1)
    assert alone.residuals.size == alone.weights.size == 0


def test_fewer_values_than_coefficients_need_a_prior() -> None:
    with pytest.raises(ValueError, match="1 values cannot fix 2 coefficients"):
        robust_fit(np.ones((1, 2)), np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="0 values cannot fix 1 coefficients"):
        robust_mean(np.zeros(0), np.zeros(0))


@given(st.floats(-20.0, 20.0))
def test_the_biweight_falls_from_one_to_nothing_without_a_jump(u: float) -> None:
    share = float(biweight(np.array(u)))
    assert 0.0 <= share <= 1.0 and share == float(biweight(np.array(-u)))
    assert (share == 0.0) == (abs(u) >= 4.685) or abs(abs(u) - 4.685) < 1e-6
    assert abs(share - float(biweight(np.array(u + 1e-4)))) < 1e-4
    assert float(biweight(np.array(2.0))) == pytest.approx(0.669, abs=0.001)


@given(st.integers(0, 2**32), st.floats(0.1, 100.0), st.floats(-1e3, 1e3))
def test_the_median_deviation_ignores_a_minority(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(2000)
    assume(abs(values.mean()) < 0.1)
    assert sigma_mad(shift + scale * values) == pytest.approx(scale, rel=0.15)
    assert sigma_mad(np.append(shift + scale * values, [np.nan, np.inf])) == pytest.approx(
        sigma_mad(shift + scale * values)
    )
    values[:100] = 1e9
    assert sigma_mad(shift + scale * values) < 1.3 * scale


def test_the_median_deviation_of_nothing_is_not_a_number() -> None:
    assert np.isnan(sigma_mad([])) and np.isnan(sigma_mad([np.nan, np.inf]))
    assert sigma_mad([3.0]) == 0.0

"""Variables stand out against the noise of stars of their magnitude, and chances are what they say."""

import numpy as np
import pytest

from skylake.curves.scatter_excess import scatter_excess


def scatters(random: np.random.Generator, n: int, points: int) -> tuple[np.ndarray, ...]:
    """Return magnitudes, standard deviations about the mean, and the true noise."""
    mag = random.uniform(8, 14, n)
    noise = np.hypot(0.004, 0.01 * 10 ** (0.4 * (mag - 12)))
    return mag, noise * np.sqrt(random.chisquare(points - 1, n) / (points - 1)), noise


@pytest.mark.parametrize("points", [5, 50, 2000])
@pytest.mark.parametrize("variables", [0.0, 0.15])
def test_constant_stars_are_taken_for_variables_as_often_as_stated(points: int, variables: float) -> None:
    random = np.random.default_rng(points)
    n = 20_000
    mag, scatter, noise = scatters(random, n, points)
    # Stars differ in what their errors do not know.
    scatter = scatter * np.exp(0.03 * random.standard_normal(n))
    varies = random.random(n) < variables
    scatter = np.where(varies, np.hypot(scatter, 3 * noise), scatter)
    found = scatter_excess(mag, scatter, np.full(n, points))
    for chance in (0.1, 0.01, 0.001):
        rate = np.mean(found.false_alarm[~varies] < chance)
        assert rate == pytest.approx(chance, rel=0.3, abs=3.5 * np.sqrt(chance / n)), chance
    np.testing.assert_allclose(np.median(found.expected / noise), 1.0, atol=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 400])
@pytest.mark.parametrize(
    ("floor", "known", "spread"), [(0.01, 0.003, 0.0), (0.003, 0.006, 0.0), (0.006, 0.003, 0.2)]
)
def test_the_few_bright_stars_of_a_field_are_not_called_variable_for_a_floor_that_errors_lack(
    n: int, floor: float, known: float, spread: float
) -> None:
    """The numbers of stars grow with magnitude as in the sky, so that the first knot of a curve is at a faint one."""
    random, points, n_lists = np.random.default_rng(n), 40, 150
    n_false, n_bright = 0, 0
    for _ in range(n_lists):
        mag = 15.5 + 2.5 * np.log10(random.uniform(10 ** (0.4 * (8 - 15.5)), 1.0, n))
        photon = 0.001 * 10 ** (0.2 * (mag - 8)) * (1.0 + 10 ** (0.2 * (mag - 13)))
        noise = np.hypot(photon, floor) * np.exp(spread * random.standard_normal(n))
        scatter = noise * np.sqrt(random.chisquare(points - 1, n) / (points - 1))
        found = scatter_excess(mag, scatter, np.full(n, points), np.hypot(photon, known))
        false = found.false_alarm < 0.1 / n
        n_false, n_bright = n_false + false.sum(), n_bright + false[mag < 11].sum()
    # One in ten lists; where stars differ as much as 20 %, up to five times as many.
    expected = 0.1 * n_lists * (5.0 if spread else 1.0)
    for count, share in ((n_false, 1.0), (n_bright, 0.2)):
        assert count < share * expected + 3.5 * np.sqrt(share * expected)


def test_variables_are_found_and_their_excess_is_that_of_the_signal() -> None:
    random = np.random.default_rng(2)
    mag, scatter, noise = scatters(random, 3000, 200)
    scatter[:60] = np.hypot(scatter[:60], 1.5 * noise[:60])
    found = scatter_excess(mag, scatter, np.full(3000, 200), predicted=noise)
    assert np.all(found.false_alarm[:60] < 1e-6)
    np.testing.assert_allclose(np.median(found.excess[:60] / noise[:60]), 1.5, rtol=0.05)


def test_few_stars_and_few_points_are_not_judged() -> None:
    random = np.random.default_rng(3)
    mag, scatter, _ = scatters(random, 39, 20)
    assert np.isnan(scatter_excess(mag, scatter, np.full(39, 20)).false_alarm).all()
    mag, scatter, _ = scatters(random, 100, 20)
    scatter[3] = np.nan
    found = scatter_excess(mag, scatter, np.append(2, np.full(99, 20)))
    assert np.isnan(found.false_alarm[[0, 3]]).all() and np.isfinite(found.false_alarm[4:]).all()

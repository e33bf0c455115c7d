"""Light of neighbours in apertures: laws of profiles, and sums against a double loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skylake.core.aperture_light import StarProfile, neighbour_light

BETAS = st.sampled_from([2.2, 3.5, 8.0, 40.0])


@given(st.floats(1.5, 6.0), BETAS, st.floats(1.0, 8.0))
@settings(max_examples=20, deadline=None)
def test_no_light_is_lost_between_the_places_of_a_star(fwhm: float, beta: float, radius: float) -> None:
    """Over all places of a star a circle holds as much light as over all its pixels: its area."""
    profile = StarProfile(fwhm, beta)
    assert profile.in_circle(radius, np.zeros(1))[0] == pytest.approx(profile.within(radius), abs=4e-3)
    near = np.linspace(0.0, radius + 8.0 * fwhm, 800)
    distance = np.concatenate([near, near[-1] * np.geomspace(1.001, 60.0, 300)])
    held = 2.0 * np.pi * distance * profile.in_circle(radius, distance)
    assert np.trapezoid(held, distance) == pytest.approx(np.pi * radius**2, rel=0.02)
    assert (np.diff(profile.in_circle(radius, distance)) <= 5e-3).all()


@pytest.mark.parametrize("beta", [2.2, 3.5, 8.0, 40.0])
@pytest.mark.parametrize("radius", [2.0, 3.125, 6.0])
def test_light_in_a_circle_is_the_integral_over_it(radius: float, beta: float) -> None:
    """Moffat's formula over the radii and angles of the circle, out to where a Gaussian has 1e-5 left."""
    profile = StarProfile(2.7, beta)
    distances = np.linspace(0.0, radius + 1.75 * profile.fwhm, 12)
    nodes, weights = np.polynomial.legendre.leggauss(120)
    r, angle = 0.5 * radius * (1.0 + nodes)[:, None], np.pi * (1.0 + nodes)
    area = 0.5 * np.pi * radius * weights[:, None] * weights * r
    squares = r**2 + distances[:, None, None] ** 2 - 2.0 * r * distances[:, None, None] * np.cos(angle)
    light = (beta - 1.0) / (np.pi * profile.alpha**2) * (1.0 + squares / profile.alpha**2) ** -beta
    integrals = np.sum(light * area, axis=(1, 2))
    np.testing.assert_allclose(profile.in_circle(radius, distances), integrals, rtol=0.01, atol=6e-4)
    np.testing.assert_allclose(profile.in_circle(radius, distances[-3:]), integrals[-3:], rtol=0.01)


@given(st.integers(0, 2**32), BETAS, st.floats(2.0, 6.0))
@example(376, 40.0, 3.125)
def test_sums_are_those_over_all_pairs(seed: int, beta: float, radius: float) -> None:
    """Between the steps of its table a sum is at most 2 % off, or 2e-7 of the flux of a neighbour far outside.

    There, where less than 1e-4 of a neighbour is left, a Gaussian falls by a third from one step to the next.
    """
    random = np.random.default_rng(seed)
    places, flux = random.uniform(-20.0, 60.0, (90, 2)), random.lognormal(0.0, 2.0, 90)
    places[3], flux[5] = np.nan, 0.0
    error, wanted, profile = 0.1 * flux, random.permutation(90)[:40], StarProfile(2.7, beta)
    found = neighbour_light(places, flux, error, wanted, radius, profile, 0.0)
    reach = radius + 5.0 * profile.fwhm
    for k, star in enumerate(wanted):
        if star in (3, 5):
            assert not found.share[k] > 0.0
            continue
        away = np.hypot(*(places - places[star]).T)
        near = np.flatnonzero((away < reach) & (np.arange(90) != star))
        held = profile.in_circle(radius, away[near]) / profile.in_circle(radius, np.zeros(1))
        light, scatter = held * flux[near] / flux[star], held * error[near] / flux[star]
        faint = 2e-7 * np.sum(flux[near]) / flux[star]
        assert found.share[k] == pytest.approx(np.sum(light), abs=2e-2 * np.sum(light) + faint)
        assert found.error[k] == pytest.approx(
            np.linalg.norm(scatter), abs=2e-2 * np.linalg.norm(scatter) + 0.1 * faint
        )
        assert found.number[k] == np.count_nonzero((away[near] < radius) & (flux[near] > 0))


def test_the_error_of_the_width_counts_for_stars_on_the_edge() -> None:
    """A wider star brings more from outside and loses none of a neighbour that both its aperture and it have."""
    places = np.array([[0.0, 0.0], [0.1, 0.0], [100.0, 0.0], [107.0, 0.0]])
    found = neighbour_light(
        places, np.ones(4), np.zeros(4), np.array([0, 2]), 5.0, StarProfile(3.0), width_error=0.1
    )
    assert found.share[0] == pytest.approx(1.0, abs=1e-3) and found.error[0] < 1e-3
    assert found.share[1] < 0.1 and 0.1 * found.share[1] < found.error[1] < 0.4 * found.share[1]


@given(st.floats(1.8, 5.0), st.floats(2.5, 12.0))
@settings(max_examples=15, deadline=None)
def test_growth_tells_the_exponent(fwhm: float, beta: float) -> None:
    true = StarProfile(float(np.hypot(fwhm, np.sqrt(0.92))), beta)
    growth = {radius: (1.0 / float(true.within(radius)), 1e-3) for radius in (3.0, 5.0, 8.0)}
    found = StarProfile.of_growth(fwhm, growth | {11.0: (float("nan"), 1.0)})
    radii = np.array([3.0, 5.0, 8.0, 12.0])
    assert found.fwhm == pytest.approx(true.fwhm)
    np.testing.assert_allclose(found.within(radii), true.within(radii), atol=0.012)


def test_nothing_is_told_without_a_growth_curve() -> None:
    assert StarProfile.of_growth(3.0, {}).beta == pytest.approx(3.5, rel=0.05)

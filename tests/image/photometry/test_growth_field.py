from __future__ import annotations

import numpy as np
import pytest

from skylake.image.photometry.growth_field import FieldPlace, FieldTerms, choose_order

SHAPE = (300, 500)


def places(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.uniform(0.0, 499.0, n), random.uniform(0.0, 299.0, n)


@pytest.mark.parametrize(("order", "terms"), [(1, [0.3, 0.05, -0.04]), (2, [0.3, 0.0, 0.0, 0.05, 0.0, 0.06])])
def test_what_varies_is_found_with_its_order(order: int, terms: list[float]) -> None:
    x, y = places(120)
    place = FieldPlace.of(x, y, SHAPE)
    truth = place.design(order) @ np.array(terms)
    values = truth + np.random.default_rng(3).normal(0.0, 0.01, (3, 120))
    assert choose_order(place, values, np.full((3, 120), 0.01)) == order


def test_noise_is_hardly_ever_taken_for_a_polynomial() -> None:
    chosen = []
    for seed in range(200):
        x, y = places(60, seed)
        noise = np.random.default_rng(1000 + seed).normal(0.0, 1.0, (4, 60))
        noise[:, :3] += 50.0  # stars that are no stars
        chosen.append(choose_order(FieldPlace.of(x, y, SHAPE), noise, np.ones((4, 60))))
    assert np.count_nonzero(chosen) <= 4


def test_few_stars_have_no_polynomial() -> None:
    x, y = places(14)
    place = FieldPlace.of(x, y, SHAPE)
    assert choose_order(place, (3.0 * place.u)[None, :], np.full((1, 14), 0.01)) == 0


def test_unknown_values_are_left_out() -> None:
    x, y = places(90)
    place = FieldPlace.of(x, y, SHAPE)
    values = np.tile(0.2 * place.u, (2, 1))
    spread = np.full((2, 90), 0.02)
    values[1, ::2], spread[1, ::2] = 1e6, np.inf
    assert choose_order(place, values, spread) == 1


def test_factors_are_quotients_and_constant_beyond_the_stars() -> None:
    x, y = np.array([100.0, 400.0, 250.0]), np.array([50.0, 250.0, 150.0])
    terms = FieldTerms(
        FieldPlace.of(x, y, SHAPE), 1, {"aper1": (np.array([2.0, 0.5, 0.0]), np.array([1.0, 0.0, 0.25]))}
    )
    u, v = (2.0 * 300.0 + 1.0) / 500.0 - 1.0, (2.0 * 200.0 + 1.0) / 300.0 - 1.0
    found = terms.factors("aper1", np.array([300.0, 480.0]), np.array([200.0, 299.0]))
    assert found[0] == pytest.approx((2.0 + 0.5 * u) / (1.0 + 0.25 * v))
    np.testing.assert_allclose(found[1], terms.factors("aper1", np.array([400.0]), np.array([250.0])))
    # The centre of the image is where the polynomials are their first terms.
    assert terms.factors("aper1", np.array([249.5]), np.array([149.5]))[0] == pytest.approx(2.0)

"""Position terms: orthogonal, without a constant, in an order that lets degrees be added."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.position_terms import (
    degree_of,
    field_coordinates,
    n_position_terms,
    offset_rms,
    position_basis,
    position_offset,
    sum_of_terms,
    term_mean_squares,
    term_powers,
)

degrees = st.integers(0, 6)
seeds = st.integers(0, 2**32 - 1)


def quadrature(degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places and weights that integrate products of two terms exactly; the weights add up to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    u, v = (grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij"))
    return u, v, np.outer(weights, weights).ravel() / 4.0


@given(degrees)
def test_terms_are_orthogonal_and_have_no_mean(degree: int) -> None:
    u, v, weights = quadrature(degree)
    basis = position_basis(u, v, degree)
    assert basis.shape == (len(u), n_position_terms(degree))
    np.testing.assert_allclose(weights @ basis, 0.0, atol=1e-13)
    np.testing.assert_allclose(
        (basis * weights[:, None]).T @ basis, np.diag(term_mean_squares(degree)), atol=1e-13
    )


def test_the_order_is_by_total_degree_and_then_by_falling_power_of_u() -> None:
    assert term_powers(3) == [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3)]
    u, v = np.array([0.3]), np.array([-0.7])
    expected = [0.3, -0.7, (3 * 0.09 - 1) / 2, -0.21, (3 * 0.49 - 1) / 2]
    np.testing.assert_allclose(position_basis(u, v, 2)[0], expected)


@given(degrees)
def test_a_number_of_terms_names_its_degree(degree: int) -> None:
    assert (
        degree_of(n_position_terms(degree)) == degree == max((sum(p) for p in term_powers(degree)), default=0)
    )


@pytest.mark.parametrize("number", [-1, 1, 3, 4, 6, 10])
def test_a_number_of_terms_of_no_degree_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="of no degree"):
        degree_of(number)


def test_a_negative_degree_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        n_position_terms(-1)


@given(degrees, degrees, seeds)
def test_the_sum_of_terms_is_the_sum_of_offsets(one: int, other: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n_position_terms(one)), rng.normal(size=n_position_terms(other))
    u, v = rng.uniform(-1.0, 1.0, (2, 20))
    together = sum_of_terms(a, b)
    assert degree_of(len(together)) == max(one, other)
    np.testing.assert_allclose(
        position_offset(together, u, v), position_offset(a, u, v) + position_offset(b, u, v), atol=1e-12
    )


def test_the_sum_of_nothing_is_nothing() -> None:
    assert sum_of_terms().shape == (0,)


@given(degrees, seeds)
def test_terms_of_each_place_are_applied_to_it(degree: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-1.0, 1.0, (2, 5))
    terms = rng.normal(size=(5, n_position_terms(degree)))
    one_by_one = [position_offset(terms[i], u[i : i + 1], v[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(position_offset(terms, u, v), one_by_one, atol=1e-13)


@given(degrees, seeds)
def test_the_rms_of_an_offset_is_that_over_the_frame(degree: int, seed: int) -> None:
    terms = np.random.default_rng(seed).normal(size=n_position_terms(degree))
    u, v, weights = quadrature(degree)
    np.testing.assert_allclose(offset_rms(terms), np.sqrt(weights @ position_offset(terms, u, v) ** 2))


@given(st.integers(1, 5), seeds)
def test_terms_are_recovered_from_offsets(degree: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=n_position_terms(degree))
    u, v = rng.uniform(-1.0, 1.0, (2, 200))
    found = np.linalg.lstsq(position_basis(u, v, degree), position_offset(terms, u, v), rcond=None)[0]
    np.testing.assert_allclose(found, terms, atol=1e-9)


def test_outside_the_frame_the_edge_goes_on_and_nan_stays() -> None:
    terms = [0.1, -0.2]
    found = position_offset(terms, [1.0, 1.7, np.nan], [0.5, 0.5, 0.5])
    assert found[0] == found[1] == pytest.approx(0.0)
    assert np.isnan(found[2])


def test_corners_of_a_frame_are_minus_one_and_one() -> None:
    u, v = field_coordinates([-0.5, 49.5, 99.5], [-0.5, 24.5, 49.5], 100, 50)
    np.testing.assert_allclose(u, [-1.0, 0.0, 1.0])
    np.testing.assert_allclose(v, [-1.0, 0.0, 1.0])

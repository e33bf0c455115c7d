"""S, D and K are the quadratic form of the star's shape, whatever its size and direction."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.ellipses import FWHM_PER_SIGMA, shape_terms


@given(st.floats(0.5, 20.0), st.floats(0.1, 1.0), st.floats(-90.0, 90.0), st.floats(0.2, 5.0))
def test_they_are_the_inverse_of_the_covariance(fwhm: float, ratio: float, angle: float, unit: float) -> None:
    width, a, b, theta = (np.array([value]) for value in (fwhm, unit, unit * ratio, angle))
    (s,), (d,), (k,) = shape_terms(width, a, b, theta)
    turn = np.radians(angle)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    sigma = fwhm / FWHM_PER_SIGMA * np.array([ratio**-0.5, ratio**0.5])
    covariance = axes @ np.diag(sigma**2) @ axes.T
    form = np.array([[s + d, k], [k, s - d]])
    # D and K are rounded in themselves, and S too: by one part in 8,000 each.
    assert np.abs(form @ covariance - np.eye(2)).max() < 3e-4 / ratio**2


def test_a_sharper_star_has_a_larger_s_and_a_round_one_no_d_k() -> None:
    one = np.ones(2)
    s, d, k = shape_terms(np.array([2.0, 4.0]), one, one, 30.0 * one)
    np.testing.assert_allclose(s, FWHM_PER_SIGMA**2 / np.array([4.0, 16.0]), rtol=1.3e-4)
    np.testing.assert_allclose([d, k], 0.0, atol=1e-12)


def test_what_is_not_known_has_no_shape_and_float32_is_enough() -> None:
    fwhm = np.array([np.nan, 0.0, 3.0, 3.0], np.float32)
    a, b = np.array([[2.0, 2.0, 2.0, 2.0], [1.0, 1.0, 0.0, 1.0]], np.float32)
    terms = shape_terms(fwhm, a, b, np.zeros(4, np.float32))
    for values in terms:
        assert values.dtype == np.float32
        np.testing.assert_array_equal(np.isfinite(values), [False, False, False, True])

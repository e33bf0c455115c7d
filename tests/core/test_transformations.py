from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.bands import BANDS
from skylake.core.published_transformations import PUBLISHED, transformations_to
from skylake.core.transformations import Relation, Term, Transformation

Floats = np.ndarray
TRANSFORMATIONS = [
    one
    for target in sorted({relation.target for relation in PUBLISHED})
    for one in transformations_to(target, BANDS)
]


def stars(relation: Relation, n: int, random: np.random.Generator) -> dict[str, Floats]:
    """True magnitudes of stars whose colours are well within the ranges of a relation."""
    magnitudes = {relation.base: random.uniform(10.0, 15.0, n)}
    for _ in relation.inputs:
        for term in relation.terms:
            low, high = term.valid
            colour = random.uniform(0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high, n)
            if term.blue in magnitudes and term.red not in magnitudes:
                magnitudes[term.red] = magnitudes[term.blue] - colour
            elif term.red in magnitudes and term.blue not in magnitudes:
                magnitudes[term.blue] = magnitudes[term.red] + colour
            elif not {term.blue, term.red} & magnitudes.keys():
                # The base is neither: its place does not matter.
                magnitudes[term.blue] = magnitudes[relation.base] + random.uniform(0.0, 1.0, n)
                magnitudes[term.red] = magnitudes[term.blue] - colour
    return magnitudes


@pytest.mark.parametrize("transformation", TRANSFORMATIONS, ids=lambda one: one.description)
def test_pulls_of_transformed_magnitudes_have_width_one(transformation: Transformation) -> None:
    """Stars scatter about the relation, and all their magnitudes have errors, those in the colour too."""
    random, n = np.random.default_rng(20), 40_000
    for relation in transformation.relations:
        truth = stars(relation, n, random)
        assert truth.keys() == set(relation.inputs)
        exact = dict.fromkeys(truth, np.zeros(n))
        target = relation.apply(truth, exact)[0] + random.normal(0.0, relation.scatter, n)
        errors = {band: random.uniform(0.002, 0.03, n) for band in truth}
        measured = {band: mag + errors[band] * random.normal(size=n) for band, mag in truth.items()}
        value, error = relation.apply(measured, errors)
        pull = (value - target) / error
        assert np.isfinite(pull).mean() > 0.99
        assert abs(np.nanmean(pull)) < 0.03
        assert np.nanstd(pull) == pytest.approx(1.0, abs=0.03)


def test_an_error_that_forgets_what_magnitude_and_colour_share_is_wrong() -> None:
    """B = g + 0.313 (g - r): g counts once with 1.313, not twice with 1 and 0.313."""
    (lupton, *_) = transformations_to("B", ["SDSS_g", "SDSS_r"])
    one = np.ones(1)
    _, error = lupton.apply(
        {"SDSS_g": 15.5 * one, "SDSS_r": 15.0 * one}, {"SDSS_g": 0.1 * one, "SDSS_r": 0.0 * one}
    )
    assert error[0] == pytest.approx(np.hypot(0.1313, lupton.scatter))


@given(st.floats(-3.0, 6.0), st.sampled_from(PUBLISHED))
def test_nothing_is_said_of_colours_beyond_the_range(colour: float, relation: Relation) -> None:
    for term in relation.terms:
        magnitudes = {band: np.full(1, 12.0) for band in relation.inputs}
        for other in relation.terms:
            magnitudes[other.red] = magnitudes[other.blue] - 0.5 * sum(other.valid)
        magnitudes[term.red] = magnitudes[term.blue] - colour
        errors = dict.fromkeys(magnitudes, np.full(1, 0.01))
        seen = (magnitudes[term.blue] - magnitudes[term.red])[0]
        value, error = relation.apply(magnitudes, errors)
        if not term.valid[0] <= seen <= term.valid[1]:
            assert np.isnan(value).all() and np.isnan(error).all()
        elif len(relation.terms) == 1:
            assert np.isfinite(value).all() and error[0] >= relation.scatter


def test_unknown_magnitudes_stay_unknown() -> None:
    (tonry, *_) = transformations_to("V", ["PS1_g", "PS1_r"])
    nan = np.array([np.nan, 15.5, 15.5])
    value, error = tonry.apply(
        {"PS1_g": nan, "PS1_r": np.array([15.0, np.nan, 15.0])},
        {"PS1_g": np.array([0.01, 0.01, np.nan]), "PS1_r": np.full(3, 0.01)},
    )
    assert np.isnan(value).tolist() == [True, True, False]
    assert np.isnan(error).all()


def test_pieces_of_a_relation_share_the_colours_between_them() -> None:
    (mamajek, esa) = transformations_to("B", ["BT", "VT"])
    assert len(mamajek.relations) == 2 and len(esa.relations) == 1
    colour = np.array([-0.3, -0.2, 0.49, 0.51, 1.9, 2.1])
    errors = dict.fromkeys(("BT", "VT"), np.full(6, 0.01))
    value, error = mamajek.apply({"BT": 10.0 + colour, "VT": np.full(6, 10.0)}, errors)
    assert np.isfinite(value).tolist() == [False, True, True, True, True, False]
    assert abs(value[3] - value[2] - 0.01) < 0.03, "no step where the pieces meet"
    assert (error[1:5] > 0.025).all()


def test_slopes_are_those_of_the_polynomial() -> None:
    term = Term("a", "b", (0.5, -0.2, 0.03), (-1.0, 2.0))
    x, step = np.linspace(-1.0, 2.0, 31), 1e-6
    numerical = (term.value(x + step) - term.value(x - step)) / (2.0 * step)
    np.testing.assert_allclose(term.slope(x), numerical, atol=1e-8)

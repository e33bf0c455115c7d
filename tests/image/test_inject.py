"""Injected stars are found as often as real ones of their flux, and errors of the limit are what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from skylake.core.camera import Camera
from skylake.image.inject import Completeness, Trial, half_light, inject, wilson

Integers = npt.NDArray[np.int64]

GAIN, EXPOSURE_S = 2.0, 20.0
TRIAL = Trial(stars=2500, bins=10)


def curve_of(flux: npt.NDArray[np.float64], tried: Integers, found: Integers) -> Completeness:
    low, high = wilson(found, tried)
    return Completeness(flux, tried, found, found / tried, low, high, float("nan"))


@pytest.fixture(scope="module")
def sparse(grid_field: Callable[..., Any], measure: Callable[..., Any]) -> Any:
    """A field of bright lonely stars, measured."""
    return measure(grid_field(step=64, flux=(3e4, 3e5)))


@pytest.fixture(scope="module")
def curve(sparse: Any, camera: Camera) -> Completeness:
    held = float(np.median(sparse.field.held(5.0)))
    return inject(
        sparse.image, sparse.background, sparse.sources, camera, GAIN, EXPOSURE_S, 1.0 / held, TRIAL
    )


def test_bright_stars_are_found_and_faint_ones_are_not(curve: Completeness) -> None:
    assert curve.n_injected.sum() >= TRIAL.stars and curve.n_injected.min() > 100
    assert curve.fraction[-1] > 0.9 and curve.fraction[0] < 0.1
    assert (np.diff(curve.fraction) > -0.05).all()
    assert ((curve.low <= curve.fraction) & (curve.fraction <= curve.high)).all()


def test_injected_stars_are_found_as_often_as_real_ones(
    curve: Completeness, sparse: Any, make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    random = np.random.default_rng(5)
    tried, found = np.zeros(len(curve.flux), np.int64), np.zeros(len(curve.flux), np.int64)
    bright = sparse.field
    y, x = np.mgrid[25:490:29, 25:490:29].reshape(2, -1).astype(float)
    for seed in range(8):
        which = random.integers(len(curve.flux), size=x.size)
        places = np.array([x, y]) + random.uniform(-7, 7, (2, x.size))
        flux = np.concatenate([curve.flux[which] * EXPOSURE_S, bright.flux])
        at = (np.concatenate([places[axis], [bright.x, bright.y][axis]]) for axis in (0, 1))
        measured = measure(make_field(*at, flux, seed=70 + seed))
        index, distance = measured.field.nearest(measured.sources.x, measured.sources.y)
        share = measured.sources.flux["aper2"][index] * EXPOSURE_S / measured.field.held(5.0) / flux
        seen = ((distance <= 1.5) & (share > 0.5) & (share < 2.0))[: which.size]
        tried += np.bincount(which, minlength=tried.size)
        found += np.bincount(which[seen], minlength=tried.size)
    ours, truth = half_light(curve), half_light(curve_of(curve.flux, tried, found))
    error = np.hypot(ours.flux_err / ours.flux, truth.flux_err / truth.flux)
    assert abs(ours.flux / truth.flux - 1.0) < 0.03 + 2.0 * error
    assert ours.bright == pytest.approx(truth.bright, abs=0.03)


def test_the_limit_of_the_sky_is_that_of_its_noise(curve: Completeness, sparse: Any) -> None:
    expected = 5.0 * np.sqrt(np.pi) * 5.0 * sparse.field.sky_noise / np.median(sparse.field.held(5.0))
    assert curve.limiting_flux == pytest.approx(expected / EXPOSURE_S, rel=0.05)


def test_the_error_of_the_half_is_confirmed_by_repetition() -> None:
    random = np.random.default_rng(3)
    flux = np.geomspace(1.0, 50.0, 12)
    truth = 0.95 * ndtr(np.log10(flux / 6.0) / 0.12)
    tried = np.full(flux.size, 200)
    found = [half_light(curve_of(flux, tried, random.binomial(tried, truth))) for _ in range(200)]
    pulls = np.array([(one.flux - 6.0) / one.flux_err for one in found])
    assert abs(pulls.mean()) < 0.25 and 0.85 < pulls.std() < 1.15
    assert np.median([one.bright for one in found]) == pytest.approx(0.95, abs=0.01)
    assert np.median([one.width for one in found]) == pytest.approx(0.12, rel=0.1)


def test_counts_that_tell_no_half_give_none() -> None:
    flux, tried = np.geomspace(1.0, 50.0, 12), np.full(12, 100)
    for found in (np.zeros(12, np.int64), tried):
        assert np.isnan(half_light(curve_of(flux, tried, found)).flux)


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_interval_holds_the_share_and_shrinks(found: int, missed: int) -> None:
    tried = found + missed
    (low,), (high,) = wilson(np.array([found]), np.array([tried]))
    assert 0.0 <= low <= high <= 1.0
    if tried:
        assert low <= found / tried <= high
        (tight,), (wide,) = wilson(np.array([found * 100]), np.array([tried * 100]))
        assert wide - tight < high - low

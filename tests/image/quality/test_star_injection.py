"""Injected stars are found as often as real ones of their flux, and errors of the limit are what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from skylake.core.camera import Camera
from skylake.core.flags import PixelFlag
from skylake.image.quality.completeness import Completeness, half_light, wilson
from skylake.image.quality.source_metrics import frame_limit
from skylake.image.quality.star_injection import Frame, InjectionTrial, inject

Integers = npt.NDArray[np.int64]

GAIN, EXPOSURE_S = 2.0, 20.0
TRIAL = InjectionTrial(stars=2500, bins=10)


def curve_of(flux: npt.NDArray[np.float64], tried: Integers, found: Integers) -> Completeness:
    low, high = wilson(found, tried)
    share = found / np.maximum(tried, 1)
    return Completeness(flux, tried, found, share, low, high, float("nan"), 0 * tried)


def frame_of(measured: Any, camera: Camera, **changes: Any) -> Frame:
    """The frame of a measured field, with the true aperture corrections of its circles."""
    radii = dict(zip(("aper1", "aper2", "aper3"), camera.apertures.radii_px, strict=True))
    factor = {name: 1.0 / float(np.median(measured.field.held(radius))) for name, radius in radii.items()}
    found = measured.sources
    bright = found.flux["aper3"] > 100.0 * found.flux_err["aper3"]
    ratio = factor["aper3"] * found.flux["aper3"][bright] / found.flux["kron"][bright]
    factor["kron"] = float(np.median(ratio)) if bright.any() else factor["aper3"]
    frame = Frame(measured.image, measured.background, found, camera, GAIN, EXPOSURE_S, factor)
    return replace(frame, **changes)


@pytest.fixture(scope="module")
def sparse(grid_field: Callable[..., Any], measure: Callable[..., Any]) -> Any:
    """A field of bright lonely stars, measured."""
    return measure(grid_field(step=64, flux=(3e4, 3e5)))


@pytest.fixture(scope="module")
def curve(sparse: Any, camera: Camera) -> Completeness:
    return inject(frame_of(sparse, camera), TRIAL)


def test_bright_stars_are_found_and_faint_ones_are_not(curve: Completeness) -> None:
    assert curve.n_injected.sum() == TRIAL.stars
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


def test_both_limits_of_a_frame_are_one(curve: Completeness, sparse: Any, camera: Camera) -> None:
    frame = frame_of(sparse, camera)
    told = frame_limit(camera, frame.factor, sparse.background.median_rms, GAIN, EXPOSURE_S)
    assert curve.limiting_flux == told
    seen = inject(frame, InjectionTrial(stars=1500, bins=1, range=(1.0, 1.0), seed=4))
    assert seen.flux[0] == pytest.approx(told)
    assert 0.4 < seen.fraction[0] < 0.99


def test_stars_that_fall_on_one_like_them_are_left_out(
    make_field: Callable[..., Any], measure: Callable[..., Any], camera: Camera
) -> None:
    x, y = np.random.default_rng(8).uniform(5.0, 506.0, (2, 1200))
    frame = frame_of(measure(make_field(x, y, np.full(1200, 1200.0))), camera)
    crowd, flux = frame.total(frame.measured), 1200.0 / EXPOSURE_S
    curve = inject(frame, InjectionTrial(stars=4000, bins=1, range=(flux / frame.limit,) * 2))
    like = np.count_nonzero((crowd > 0.5 * flux) & (crowd < 2.0 * flux))
    reach = max(1.0, 0.5 * float(np.median(frame.measured.fwhm[np.isfinite(frame.measured.fwhm)])))
    expected = like * np.pi * reach**2 / frame.image.pixels.size * (curve.n_injected + curve.n_chance).sum()
    assert expected > 50
    assert abs(curve.n_chance.sum() - expected) < 4.0 * np.sqrt(expected)
    assert curve.n_found[0] <= curve.n_injected[0] and 0.5 < curve.fraction[0] < 0.95


def test_injected_stars_do_not_dim_the_image_for_each_other(sparse: Any, camera: Camera) -> None:
    """As large a share of faint stars is found among many bright ones in one call as with few in each of many."""
    frame, bright = frame_of(sparse, camera), (0.6, 20.0)
    many = inject(frame, InjectionTrial(stars=1200, bins=2, range=bright))
    few = [inject(frame, InjectionTrial(stars=60, bins=2, range=bright, seed=seed)) for seed in range(10, 30)]
    tried, found = (sum(getattr(one, name)[0] for one in few) for name in ("n_injected", "n_found"))
    error = np.sqrt(0.25 / tried + 0.25 / many.n_injected[0])
    assert 0.4 < found / tried < 0.6
    assert abs(many.fraction[0] - found / tried) < 3.0 * error


def test_no_star_is_found_under_the_mask(sparse: Any, camera: Camera, curve: Completeness) -> None:
    mask = sparse.image.mask.copy()
    mask[:, :256] |= np.uint8(PixelFlag.HOT)
    half = inject(frame_of(sparse, camera, image=replace(sparse.image, mask=mask)), TRIAL)
    assert half.fraction[-1] == pytest.approx(0.5 * curve.fraction[-1], abs=0.08)


def test_noisier_pixels_count_less_as_in_the_pipeline(
    sparse: Any, camera: Camera, curve: Completeness
) -> None:
    variance = np.full(sparse.image.mask.shape, sparse.field.sky_noise**2, np.float32)
    variance[:, ::3] *= 1000.0
    frame = frame_of(sparse, camera, image=replace(sparse.image, variance=variance))
    assert half_light(inject(frame, TRIAL)).flux > 1.08 * half_light(curve).flux


def test_the_kron_flux_is_measured_in_its_ellipse(sparse: Any, camera: Camera, curve: Completeness) -> None:
    kron = replace(camera, apertures=replace(camera.apertures, flux="kron"))
    found = inject(frame_of(sparse, kron), InjectionTrial(stars=700, bins=5))
    # The ellipse of a faint star beside a bright one holds light of that.
    assert 0.7 < found.fraction[-1] < curve.fraction[-1]
    assert found.limiting_flux > curve.limiting_flux


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


@pytest.mark.parametrize("width", [0.03, 0.06, 0.12])
def test_the_error_of_the_half_is_right_for_few_stars(width: float) -> None:
    """Fluxes are 0.13 dex apart, and the half lies anywhere between two of them."""
    random, pulls = np.random.default_rng(4), []
    flux = np.geomspace(10.0, 500.0, 14)
    for _ in range(250):
        half = 50.0 * 10.0 ** random.uniform(-0.065, 0.065)
        tried = random.multinomial(300, np.full(14, 1.0 / 14.0))
        found = random.binomial(tried, 0.97 * ndtr(np.log10(flux / half) / width))
        one = half_light(curve_of(flux, tried, found))
        pulls.append((one.flux - half) / one.flux_err)
    assert 0.85 < np.std(pulls) < 1.15 and np.abs(pulls).max() < 5.0


def fine_curve(flux: npt.NDArray[np.float64], tried: Integers, found: Integers) -> Completeness:
    """Counts of stars all of which lie in one cell, at five fluxes in each bin."""
    coarse = curve_of(flux[2::5], tried.reshape(-1, 5).sum(axis=1), found.reshape(-1, 5).sum(axis=1))
    cells = np.zeros((2, 9, flux.size), np.int64)
    cells[:, 4] = tried, found
    return replace(coarse, fine_flux=flux, cells=cells)


@pytest.mark.slow
@pytest.mark.parametrize(("stars", "width"), [(3000, 0.03), (1000, 0.05), (300, 0.1), (300, 0.3)])
def test_the_error_of_the_half_is_right_for_tens_of_stars(stars: int, width: float) -> None:
    random = np.random.default_rng(6)
    pulls: list[float] = []
    shares: list[float] = []
    flux = np.geomspace(10.0, 500.0, 70)
    for _ in range(120):
        half = 70.0 * 10.0 ** random.uniform(-0.065, 0.065)
        tried = random.multinomial(stars, np.full(70, 1.0 / 70.0))
        found = random.binomial(tried, 0.97 * ndtr(np.log10(flux / half) / width))
        curve = fine_curve(flux, tried, found)
        one = half_light(curve)
        pulls.append((one.flux - half) / one.flux_err)
        if len(shares) < 20:
            shares.append(one.flux_err / half_light(replace(curve, fine_flux=np.zeros(0))).flux_err)
    assert abs(np.mean(pulls)) < 0.25 and 0.88 < np.std(pulls) < 1.12
    # In bins as wide as the fall few of the stars show where it is.
    assert np.median(shares) < (0.85 if width < 0.05 else 1.1)


@pytest.mark.slow
@pytest.mark.parametrize(("stars", "width"), [(300, 0.03), (100, 0.2)])
def test_the_error_of_the_half_is_right_whatever_the_sample(stars: int, width: float) -> None:
    random, pulls = np.random.default_rng(11), []
    flux = np.geomspace(10.0, 500.0, 70)
    for _ in range(500):
        half = 70.0 * 10.0 ** random.uniform(-0.065, 0.065)
        tried = random.multinomial(stars, np.full(70, 1.0 / 70.0))
        found = random.binomial(tried, 0.97 * ndtr(np.log10(flux / half) / width))
        one = half_light(fine_curve(flux, tried, found))
        # Magnitudes of halves that the counts do not show are NaN.
        pulls.append(np.log(one.flux / half) * one.flux / one.flux_err)
    assert np.isfinite(pulls).mean() > 0.97
    assert 0.92 < np.sqrt(np.nanmean(np.square(pulls))) < 1.08


def test_injected_stars_have_some_fluxes_in_each_bin(curve: Completeness) -> None:
    assert curve.fine_flux.size == 5 * TRIAL.bins
    step = np.diff(np.log(curve.fine_flux))
    np.testing.assert_allclose(step, step[0])
    np.testing.assert_allclose(curve.fine_flux[2::5], curve.flux)
    flux, tried, found = curve.counts()
    assert flux is curve.fine_flux and (tried >= found).all() and tried.min() > 10
    np.testing.assert_array_equal(tried.reshape(-1, 5).sum(axis=1), curve.n_injected)
    np.testing.assert_array_equal(found.reshape(-1, 5).sum(axis=1), curve.n_found)


def test_the_error_of_a_step_is_that_between_two_fluxes() -> None:
    flux, tried = np.geomspace(10.0, 500.0, 14), np.full(14, 21)
    one = half_light(curve_of(flux, tried, np.where(np.arange(14) < 6, 0, 21)))
    assert flux[5] < one.flux < flux[6] and 0.02 < one.flux_err / one.flux < 0.1


def test_a_fall_at_the_end_of_the_fluxes_has_no_half() -> None:
    flux, tried = np.geomspace(10.0, 500.0, 14), np.full(14, 21)
    one = half_light(curve_of(flux, tried, np.where(np.arange(14) < 13, 0, 3)))
    assert np.isnan(one.flux) and np.isnan(one.flux_err)


def test_counts_that_show_no_half_give_none() -> None:
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

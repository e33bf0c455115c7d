"""Scatter of stars in several fluxes: recovered from known noise, with outliers and variables among the stars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.calibration.ensemble_scatter import FluxScatter, Repeats, flux_scatters, scatter_bins

MAGNITUDES = (9.0, 15.0)


def photon(magnitude: np.ndarray) -> np.ndarray:
    return np.asarray(0.003 * 10.0 ** (0.2 * (magnitude - 9.0)))


def drawn(
    seed: int,
    n_stars: int = 80,
    n_frames: int = 60,
    scales: dict[str, float] | None = None,
    floor: float = 0.002,
    outliers: float = 0.02,
    variables: int = 3,
    seen: float = 0.8,
) -> tuple[Repeats, np.ndarray]:
    """Stars on frames of any transparency, some of which enter and leave; and the offsets that are true."""
    random = np.random.default_rng(seed)
    level = np.sort(random.uniform(*MAGNITUDES, n_stars))
    offset = random.normal(0.0, 0.2, n_frames)
    offset -= offset.mean()
    star, frame = (values.ravel() for values in np.mgrid[:n_stars, :n_frames])
    start = random.integers(0, n_frames, n_stars)
    here = (frame - start[star]) % n_frames < seen * n_frames
    star, frame = star[here], frame[here]
    magnitude, error = {}, {}
    for name, scale in (scales or {"hybrid2": 1.0}).items():
        sigma = scale * photon(level)[star]
        values = level[star] + offset[frame] + random.normal(0.0, np.hypot(sigma, floor))
        values += np.where(random.random(len(star)) < outliers, random.normal(0.0, 0.3, len(star)), 0.0)
        values += np.where(star % (n_stars // max(variables, 1)) == 5, 0.2 * np.sin(frame), 0.0) * (
            variables > 0
        )
        magnitude[name], error[name] = values, sigma
    return Repeats(star, frame, level, magnitude, error), offset


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_offsets_of_frames_are_right_within_their_errors(seed: int) -> None:
    repeats, offset = drawn(seed)
    found = flux_scatters(repeats)["hybrid2"]
    off = found.offset - offset
    # The zero of all offsets together is that of the stars which each of them has.
    pull = (off - off.mean()) / np.hypot(found.offset_err, 0.002 / np.sqrt(20.0))
    assert np.sqrt(np.mean(pull**2)) < 1.6
    assert np.abs(off).max() < 0.006


def test_the_model_of_the_scatter_is_recovered() -> None:
    scales, floors, pulls = [], [], []
    for seed in range(12):
        repeats, _ = drawn(seed, floor=0.004)
        # Photon errors that are too small by a third.
        wrong = {name: values / 1.5 for name, values in repeats.error.items()}
        found = flux_scatters(
            Repeats(repeats.star, repeats.frame, repeats.star_magnitude, repeats.magnitude, wrong)
        )
        one = found["hybrid2"]
        scales.append(one.photon_scale)
        floors.append(one.floor)
        pulls.append(((one.photon_scale - 1.5) / one.photon_scale_err, (one.floor - 0.004) / one.floor_err))
    assert np.mean(scales) == pytest.approx(1.5, rel=0.04)
    assert np.mean(floors) == pytest.approx(0.004, rel=0.15)
    assert np.std(pulls, axis=0).max() < 2.0


def test_stars_that_do_not_vary_have_the_scatter_of_their_noise() -> None:
    repeats, _ = drawn(3, outliers=0.0)
    found = flux_scatters(repeats)["hybrid2"]
    constant = np.arange(80) % (80 // 3) != 5
    true = np.hypot(photon(repeats.star_magnitude), 0.002)
    assert np.median((found.scatter / true)[constant]) == pytest.approx(1.0, abs=0.04)
    assert (found.scatter[~constant] > 0.1).all()


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_flux_that_is_no_better_is_not_recommended(seed: int) -> None:
    repeats, _ = drawn(seed, scales={"hybrid1": 1.0, "hybrid2": 1.0, "psf": 1.0})
    bins = scatter_bins(repeats.star_magnitude, flux_scatters(repeats), "hybrid2")
    chosen = [one.flux for one in bins if one.is_recommended]
    assert len(chosen) == 6
    # Six bins and two fluxes, each wrong once in a thousand.
    assert chosen.count("hybrid2") >= 5


def test_the_better_flux_is_recommended_where_photons_decide() -> None:
    repeats, offset = drawn(
        1, scales={"hybrid1": 1.0, "hybrid2": 1.4, "aper1": 1.9}, n_stars=120, floor=0.006
    )
    # A fit of the same light is better by a hundredth.
    true = repeats.star_magnitude[repeats.star] + offset[repeats.frame]
    repeats.magnitude["psf"] = true + 0.99 * (repeats.magnitude["hybrid1"] - true)
    repeats.error["psf"] = 0.99 * repeats.error["hybrid1"]
    bins = scatter_bins(repeats.star_magnitude, flux_scatters(repeats), "hybrid2")
    best = {one.mag_low: one.flux for one in bins if one.is_recommended}
    # Of two that are alike the first; bright stars are bound by the floor, which all fluxes have.
    assert best[14.0] == best[13.0] == "hybrid1"
    assert best[9.0] == "hybrid2"
    faint = next(one for one in bins if (one.flux, one.mag_low) == ("hybrid1", 14.0))
    assert faint.ratio == pytest.approx(1.0 / 1.4, abs=4.0 * faint.ratio_err)


def test_what_the_frames_of_a_flux_differ_by_counts_against_it() -> None:
    """A zeropoint of the default flux does not hold for a flux whose aperture corrections are noisy."""
    repeats, _ = drawn(2, scales={"hybrid2": 1.0, "aper1": 0.4}, floor=0.0, variables=0)
    shaken = np.random.default_rng(1).normal(0.0, 0.01, 60)
    noisy = {
        name: values + (shaken[repeats.frame] if name == "aper1" else 0.0)
        for name, values in repeats.magnitude.items()
    }
    for magnitude, tie in ((repeats.magnitude, 0.0), (noisy, 0.01)):
        found = flux_scatters(
            Repeats(repeats.star, repeats.frame, repeats.star_magnitude, magnitude, repeats.error)
        )
        bins = [one for one in scatter_bins(repeats.star_magnitude, found, "hybrid2") if one.flux == "aper1"]
        assert bins[0].tie == pytest.approx(tie, abs=0.0025)
        assert bins[0].is_recommended == (tie == 0.0)
        assert bins[-1].is_recommended


def test_a_flux_that_fails_for_some_stars_is_not_recommended() -> None:
    repeats, _ = drawn(4, scales={"hybrid2": 1.0, "psf": 0.5}, variables=0)
    failed = np.where(repeats.star % 4 == 0, np.nan, repeats.magnitude["psf"])
    partly = Repeats(
        repeats.star,
        repeats.frame,
        repeats.star_magnitude,
        {**repeats.magnitude, "psf": failed},
        repeats.error,
    )
    bins = scatter_bins(repeats.star_magnitude, flux_scatters(partly), "hybrid2")
    assert {one.flux for one in bins if one.is_recommended} == {"hybrid2"}


@pytest.mark.parametrize("n_frames", [0, 3])
def test_few_frames_have_no_scatter(n_frames: int) -> None:
    star, frame = (values.ravel() for values in np.mgrid[:5, :n_frames])
    values = {"hybrid2": np.full(len(star), 10.0)}
    found = flux_scatters(
        Repeats(star, frame, np.full(5, 10.0), values, {"hybrid2": np.full(len(star), 0.01)})
    )
    assert isinstance(found["hybrid2"], FluxScatter)
    assert np.isnan(found["hybrid2"].scatter).all()
    assert scatter_bins(np.full(5, 10.0), found, "hybrid2") == []


def test_a_star_without_others_on_its_frames_has_no_scatter() -> None:
    lonely, _ = drawn(3, n_stars=1, n_frames=40, variables=0, seen=1.0)
    found = flux_scatters(lonely)["hybrid2"]
    assert np.isnan(found.scatter).all()
    assert scatter_bins(lonely.star_magnitude, {"hybrid2": found}, "hybrid2") == []
    # Two alike are enough: each has half of what they differ by.
    random = np.random.default_rng(4)
    star, frame = (values.ravel() for values in np.mgrid[:2, :4000])
    magnitude = 11.0 + np.sin(frame) + random.normal(0.0, 0.01, len(star))
    pair = Repeats(
        star, frame, np.full(2, 11.0), {"hybrid2": magnitude}, {"hybrid2": np.full(len(star), 0.01)}
    )
    assert flux_scatters(pair)["hybrid2"].scatter == pytest.approx(0.01, rel=0.05)

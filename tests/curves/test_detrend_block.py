"""Detrended magnitudes side by side: what frames and trends do is taken off, and signals are kept."""

import numpy as np
import pytest

from skylake.curves.common_effects import remove_common_effects
from skylake.curves.curve_block import CurveBlock
from skylake.curves.decorrelation import signal_range
from skylake.curves.detrend_block import DetrendOptions, Stars, detrend_block
from skylake.curves.ensemble import ensemble_magnitudes
from skylake.curves.external_parameters import ExternalParameters
from skylake.curves.found_signals import SignalOptions
from skylake.curves.signals import Boxes, figures_of
from skylake.curves.trend_filtering import Templates, choose_templates, filter_trends

N_STARS, WHITE = 250, 0.004
TIME = (np.arange(12)[:, None] + np.linspace(0.3, 0.6, 40)).ravel()
PERIOD = 1.37


def field(seed: int, waves: float = 0.02) -> tuple[CurveBlock, Stars, np.ndarray, np.ndarray]:
    """Return curves with offsets of frames and a trend, stars, and the shape of that trend; a tenth are variable."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(-1, 1, (2, N_STARS)) * 500
    colour = random.normal(0.8, 0.3, N_STARS)
    n = len(TIME)
    zero = (
        random.normal(0, 0.05, n)
        + np.outer(x, random.normal(0, 2e-5, n))
        + np.outer(colour, 0.01 * np.sin(TIME))
    )
    trend = np.sin(2 * np.pi * TIME / 0.83) + 0.5 * random.standard_normal(n)
    mag = random.uniform(9, 12, (N_STARS, 1)) + zero + random.normal(0, 0.006, (N_STARS, 1)) * trend
    mag[: N_STARS // 10] += waves * np.sin(2 * np.pi * TIME / PERIOD)
    mag += WHITE * random.standard_normal(mag.shape)
    mag[random.random(mag.shape) < 0.08] = np.nan
    return CurveBlock(TIME, mag, np.full(mag.shape, WHITE)), Stars(x, y, colour), trend, zero


def spread(mag: np.ndarray) -> float:
    """Return the scatter of constant stars over white noise."""
    quiet = mag[N_STARS // 10 :]
    off = quiet - np.nanmedian(quiet, axis=1)[:, None]
    return float(np.median(1.4826 * np.nanmedian(np.abs(off), axis=1)) / WHITE)


def test_all_magnitudes_stand_side_by_side_and_the_period_is_found() -> None:
    curves, stars, trend, _ = field(1)
    options = DetrendOptions(n_templates=20, exclusion=30, n_effects=1)
    made = detrend_block(curves, ExternalParameters(temperature=trend), stars, None, options)
    assert spread(made.raw) > 10 and spread(made.ensemble) > 1.2
    assert spread(made.alone.mag) < 1.05 and spread(made.joint.mag) < 1.05
    assert spread(made.trend_filtered) < 1.1 and spread(made.without_effects) < 1.1
    assert not np.isin(made.templates.star, np.arange(N_STARS // 10)).any()
    variable = slice(0, N_STARS // 10)
    assert figures_of(made.signal).kind[variable] == ["wave"] * (N_STARS // 10)
    np.testing.assert_allclose(figures_of(made.signal).period[variable], PERIOD, rtol=0.01)
    kept, _ = signal_range(curves, made.signal, made.joint)
    assert np.median(kept[variable]) == pytest.approx(0.04, rel=0.03)


def test_transits_are_found_and_keep_their_depth() -> None:
    curves, stars, trend, _ = field(7, waves=0.0)
    some = 60
    inside = np.abs((TIME - 0.35 + 0.55) % 1.1 - 0.55) < 0.04
    curves.mag[:5] += 0.02 * inside
    few = Stars(stars.x[:some], stars.y[:some], stars.colour[:some])
    options = DetrendOptions(signals=SignalOptions(durations_days=(0.08,)), degree=1)
    made = detrend_block(curves.of(slice(0, some)), ExternalParameters(temperature=trend), few, None, options)
    shown = figures_of(made.signal)
    assert shown.kind[:5] == ["box"] * 5 and shown.kind[5:].count(None) > 0.95 * (some - 5)
    np.testing.assert_allclose(shown.period[:5], 1.1, rtol=0.01)
    depth, error = signal_range(curves.of(slice(0, some)), made.signal, made.joint)
    assert np.all(np.abs(depth[:5] - 0.02) < 5 * error[:5]) and np.all(error[:5] < 0.002)
    assert np.median(depth[:5]) == pytest.approx(0.02, rel=0.1)


def test_a_bright_star_gains_no_noise_from_faint_ones() -> None:
    random = np.random.default_rng(5)
    n_stars, n_frames = 200, 300
    error = np.full((n_stars, n_frames), 0.15)
    error[:5] = 0.003
    x, y = random.uniform(-1, 1, (2, n_stars))
    mag = 12.0 + error * random.standard_normal(error.shape)
    curves = CurveBlock(np.arange(n_frames) / 100.0, mag, error)
    noise = np.nanstd(ensemble_magnitudes(curves, x, y, None).mag[:5], axis=1)
    assert np.median(noise) < 1.15 * 0.003
    # What clouds take from some frames is known as well as these stars tell, and taken off.
    cloudy = np.arange(n_frames) % 10 == 0
    mag[:, cloudy] += 0.3
    flat = ensemble_magnitudes(curves, x, y, None).mag[:5]
    left = np.mean(flat[:, cloudy]) - np.mean(flat[:, ~cloudy])
    assert abs(left) < 0.006
    assert np.median(np.nanstd(flat[:, ~cloudy], axis=1)) < 1.15 * 0.003


def one_transit(
    seed: int, nights: int, per_night: int
) -> tuple[CurveBlock, ExternalParameters, Stars, Boxes]:
    """Return curves with trends of air and focus, of which the first ten stars have one transit of 15 mmag each."""
    random = np.random.default_rng(seed)
    count, hours = 100, np.linspace(0, 0.3, per_night)
    time, hour = (np.arange(nights)[:, None] + hours).ravel(), np.tile(hours, nights)
    night = np.repeat(np.arange(nights), per_night)
    air = 1.05 + 12.0 * (hour - 0.12) ** 2
    width = 2.0 + 0.3 * air + random.normal(0, 0.1, nights)[night] + random.normal(0, 0.05, len(time))
    x, y = random.uniform(0, 2000, (2, count))
    parameters = ExternalParameters(
        x_px=x[:, None] + 2.0 * hour + random.normal(0, 0.7, nights)[night],
        y_px=y[:, None] - 3.0 * hour + random.normal(0, 0.7, nights)[night],
        fwhm_px=width, airmass=air, temperature=10.0 - 8.0 * hour + random.normal(0, 2.0, nights)[night],
    )  # fmt: skip
    middle = np.where(np.arange(count) < 10, 0.15 + random.integers(0, nights, count), np.nan)
    truth = Boxes(np.full(count, np.inf), middle, np.full(count, 0.1), 0.2)
    mag = 11.0 + 0.2 * air + 0.02 * random.standard_normal((count, 1)) * (width - 2.0)
    mag = mag + random.normal(0, 0.01, len(time)) + 0.004 * random.standard_normal((count, len(time)))
    mag += 0.015 * truth.columns(time, slice(0, count))[:, 0]
    return CurveBlock(time, mag, np.full(mag.shape, 0.004)), parameters, Stars(x, y), truth


def kept_depths(mag: np.ndarray, time: np.ndarray, truth: Boxes) -> np.ndarray:
    """Return the shares of their depth that the transits of ten stars have in light curves."""
    shapes = truth.columns(time, slice(0, 10))[:, 0]
    design = np.stack([shapes, np.ones_like(shapes)], axis=2)
    return np.array(
        [np.linalg.lstsq(a, b, rcond=None)[0][0] / 0.015 for a, b in zip(design, mag, strict=False)]
    )


def test_a_transit_of_one_night_stays_in_joint_magnitudes_which_are_then_those_of_the_ensemble() -> None:
    curves, parameters, stars, truth = one_transit(4, 1, 200)
    made = detrend_block(curves, parameters, stars)
    assert not made.is_joint.any() and (made.n_nights == 1).all() and np.isnan(made.joint.chi2).all()
    np.testing.assert_array_equal(made.joint.mag, made.ensemble)
    assert np.median(kept_depths(made.alone.mag, curves.time, truth)) < 0.5, "what is guarded against"
    assert np.median(kept_depths(made.joint.mag, curves.time, truth)) > 0.8
    known = detrend_block(curves, parameters, stars, truth)
    assert known.is_joint.all()
    # Ten stars of one night tell it to 0.05, and 0.9 of it stays in the mean of many draws.
    assert np.median(kept_depths(known.joint.mag, curves.time, truth)) == pytest.approx(0.9, abs=0.22)


def test_a_transit_seen_once_in_eight_nights_is_found_and_keeps_its_depth() -> None:
    curves, parameters, stars, truth = one_transit(5, 8, 60)
    made = detrend_block(curves, parameters, stars)
    shown = figures_of(made.signal)
    assert made.is_joint.all()
    assert shown.kind[:10].count("dip") >= 8 and shown.kind[10:].count(None) >= 87
    is_dip = np.array([one == "dip" for one in shown.kind[:10]])
    assert (
        np.all(np.abs(shown.middle[:10] - truth.middle[:10])[is_dip] < 0.03)
        and np.isnan(shown.period[:10]).all()
    )
    assert np.median(kept_depths(made.alone.mag, curves.time, truth)) < 0.75
    assert np.median(kept_depths(made.joint.mag, curves.time, truth)[is_dip]) == pytest.approx(1.0, abs=0.08)
    depth, error = signal_range(curves, made.signal, made.joint)
    pulls = (depth[:10] - 0.015)[is_dip] / error[:10][is_dip]
    assert np.abs(pulls.mean()) < 1.0 and 0.4 < pulls.std() < 1.8 and np.all(error[:10][is_dip] < 0.003)


def test_a_star_has_no_say_in_its_own_offset() -> None:
    curves, stars, _, zero = field(2)
    before = ensemble_magnitudes(curves, stars.x, stars.y, stars.colour)
    dipped = curves.mag.copy()
    dipped[40, 100:140] += 0.01
    after = ensemble_magnitudes(CurveBlock(TIME, dipped, curves.mag_err), stars.x, stars.y, stars.colour)
    depth = np.nanmean((after.mag - before.mag)[40, 100:140])
    assert depth == pytest.approx(0.01, rel=0.02)
    off = before.offset - zero
    assert np.median(np.std(off, axis=1)) < 0.002


def test_frames_with_few_stars_have_no_offset() -> None:
    curves, stars, _, _ = field(3)
    curves.mag[12:, 7] = np.nan
    made = ensemble_magnitudes(curves, stars.x, stars.y)
    assert np.isnan(made.mag[:, 7]).all() and np.isfinite(made.mag[:, 8]).any()


def test_the_shared_factorisation_gives_each_star_its_own_least_squares() -> None:
    random = np.random.default_rng(4)
    shape = random.standard_normal((12, len(TIME)))
    x, y = random.uniform(0, 100, (2, 30))
    mag = 10 + random.normal(0, 0.01, (30, 12)) @ shape + 0.002 * random.standard_normal((30, len(TIME)))
    mag[random.random(mag.shape) < 0.2] = np.nan
    curves = CurveBlock(TIME, mag, np.full(mag.shape, 0.002))
    made = filter_trends(curves, Templates(np.arange(12), shape), x, y, (x, y), 25.0)
    for star in range(30):
        far = np.hypot(x[:12] - x[star], y[:12] - y[star]) > 25.0
        good = np.isfinite(mag[star])
        design = np.vstack([shape[far], np.ones(len(TIME))])[:, good].T
        found = np.linalg.lstsq(design, mag[star, good], rcond=None)[0]
        expected = mag[star, good] - design[:, :-1] @ found[:-1]
        # Robust weights move the fit by less than its error; stars without their templates have none of that noise.
        assert np.std(made.mag[star, good] - expected) < 0.25 * np.std(expected)
        assert made.n_templates[star] == far.sum()
    assert (made.n_templates[:12] < 12).all()


def test_templates_are_the_same_for_a_seed_and_spread_over_the_field() -> None:
    curves, stars, _, _ = field(5, waves=0.2)
    first, same, other = (choose_templates(curves, stars.x, stars.y, 20, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.star, same.star)
    assert not np.array_equal(first.star, other.star)
    quarters = (stars.x[first.star] > 0) * 2 + (stars.y[first.star] > 0)
    assert np.bincount(quarters, minlength=4).min() >= 2
    assert len(first.star) <= len(TIME) // 20


def test_a_star_without_measurements_is_no_template() -> None:
    curves, stars, _, _ = field(5)
    curves.mag[::3] = np.nan
    chosen = choose_templates(curves, stars.x, stars.y, 20, 1).star
    assert len(chosen) == 20 and (chosen % 3 > 0).all()


def test_effects_are_learned_from_constant_stars() -> None:
    curves, stars, trend, _ = field(6, waves=0.3)
    flat = CurveBlock(TIME, ensemble_magnitudes(curves, stars.x, stars.y, stars.colour).mag, curves.mag_err)
    made = remove_common_effects(flat, 1, np.arange(N_STARS) >= N_STARS // 10)
    assert abs(np.corrcoef(made.effect[0], trend)[0, 1]) > 0.97
    variable = made.mag[: N_STARS // 10]
    wave = np.sin(2 * np.pi * TIME / PERIOD)
    kept = [
        np.nansum((one - np.nanmean(one)) * wave) / np.nansum(np.isfinite(one) * wave**2) for one in variable
    ]
    assert np.median(kept) == pytest.approx(0.3, rel=0.03)


def test_stars_without_a_measurement_have_no_ensemble_magnitudes() -> None:
    nothing = np.full((30, 4), np.nan)
    made = ensemble_magnitudes(CurveBlock(np.arange(4.0), nothing, nothing), np.arange(30.0), np.zeros(30))
    assert np.isnan(made.mag).all()

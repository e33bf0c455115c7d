"""Decorrelation takes off what parameters explain and leaves signals, with errors that pulls confirm."""

import numpy as np
import pytest

from skylake.curves.curve_block import CurveBlock
from skylake.curves.decorrelation import DecorrelationOptions, decorrelate, signal_range
from skylake.curves.external_parameters import ExternalParameters, parameter_terms
from skylake.curves.signals import Boxes, Harmonics

N_STARS, NIGHTS, PER_NIGHT, WHITE = 200, 12, 40, 0.004
TIME = (np.arange(NIGHTS)[:, None] + np.linspace(0.3, 0.6, PER_NIGHT)).ravel()


def systematics(random: np.random.Generator) -> tuple[ExternalParameters, np.ndarray]:
    """Return parameters and what they do to the magnitudes of stars."""
    n = len(TIME)
    x = random.uniform(0, 1000, (N_STARS, 1)) + 2.0 * (TIME % 1.0) + random.normal(0, 0.4, n)
    fwhm = 2.0 + 0.2 * random.normal(0, 1, NIGHTS).repeat(PER_NIGHT) + 0.05 * random.normal(0, 1, n)
    airmass = 1.0 + 3.0 * (TIME % 1.0 - 0.45) ** 2
    off = random.normal(0, 0.03, (N_STARS, 1)) * (fwhm - 2.0) + 0.01 * np.sin(2 * np.pi * x)
    off = off + random.normal(0, 0.02, (N_STARS, 1)) * airmass
    return ExternalParameters(x_px=x, fwhm_px=fwhm, airmass=airmass), off


def curves_of(random: np.random.Generator, off: np.ndarray, white: float = WHITE) -> CurveBlock:
    """Return curves with white noise, gaps and spoiled measurements."""
    mag = 10.0 + off + white * random.standard_normal(off.shape)
    mag[random.random(mag.shape) < 0.01] -= 0.5
    mag[random.random(mag.shape) < 0.1] = np.nan
    return CurveBlock(TIME, mag, np.full(mag.shape, white))


def test_constant_stars_are_left_with_white_noise_and_chi_square_counts_what_the_fit_took() -> None:
    random = np.random.default_rng(1)
    parameters, off = systematics(random)
    made = decorrelate(curves_of(random, off), parameters)
    spread = 1.4826 * np.nanmedian(np.abs(made.residual), axis=1)
    assert 0.95 < np.median(spread) / WHITE < 1.0, "raw curves scatter by three times as much"
    assert np.median(made.chi2) == pytest.approx(1.0, abs=0.02)
    assert np.all(made.n_lost <= len(made.terms) + 1.0)


def test_a_wave_keeps_its_amplitude_only_if_it_is_fitted_too() -> None:
    random = np.random.default_rng(2)
    parameters, off = systematics(random)
    period = random.uniform(0.8, 1.3, N_STARS)
    angle = 2 * np.pi * (TIME - TIME[0]) / period[:, None]
    curves = curves_of(random, off + 0.02 * np.sin(angle))
    joint = decorrelate(curves, parameters, Harmonics(period))
    pulls = (joint.signal - [0.02, 0.0]) / joint.signal_err
    assert np.abs(pulls.mean()) < 3 / np.sqrt(pulls.size)
    assert 0.9 < pulls.std() < 1.1
    waves = np.sin(angle) - np.sin(angle).mean()
    kept = [
        np.nanmedian(np.nansum(waves * (one - np.nanmedian(one, axis=1)[:, None]), axis=1))
        for one in (joint.mag, decorrelate(curves, parameters).mag)
    ]
    assert kept[1] < 0.9 * kept[0]


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_the_range_of_a_wave_is_that_of_its_whole_shape_with_an_honest_error(times: float) -> None:
    random = np.random.default_rng(7)
    parameters, off = systematics(random)
    period = random.uniform(0.35, 0.45, N_STARS)
    wave = 0.03 * np.sin(2 * np.pi * (TIME - TIME[0]) / period[:, None])
    curves, signal = curves_of(random, off + wave), Harmonics(times * period, 4)
    size, error = signal_range(curves, signal, decorrelate(curves, parameters, signal))
    pulls = (size - 0.06) / error
    assert np.median(error) < 0.0012 and abs(np.median(size) - 0.06) < 0.001
    # Of two minima that are alike, noise makes one the deeper.
    assert abs(pulls.mean()) < (0.25 if times == 1.0 else 0.7) and 0.85 < pulls.std() < 1.15


def test_the_range_of_eclipses_is_no_wave_of_their_period() -> None:
    random = np.random.default_rng(8)
    parameters, off = systematics(random)
    phase = TIME / 0.83 % 1.0
    eclipses = 0.3 * sum(np.exp(-0.5 * ((phase - at) / 0.04) ** 2) for at in (0.0, 0.5, 1.0))
    curves, signal = curves_of(random, off + eclipses), Harmonics(np.full(N_STARS, 0.83), 4)
    size, _ = signal_range(curves, signal, decorrelate(curves, parameters, signal))
    assert 0.15 < np.median(size) < 0.3, "both eclipses are alike, so the first harmonic has next to nothing"


@pytest.mark.parametrize("red", [0.0, 1.0])
def test_depths_of_transits_have_honest_errors_in_white_and_in_red_noise(red: float) -> None:
    random = np.random.default_rng(3)
    parameters, off = systematics(random)
    boxes = Boxes(*(np.full(N_STARS, one) for one in (1.37, TIME[0] + 0.1, 0.1)))
    share = np.exp(-1 / 8)
    noise = np.zeros(off.shape)
    for frame in range(1, len(TIME)):
        noise[:, frame] = share * noise[:, frame - 1] + random.normal(0, np.sqrt(1 - share**2), N_STARS)
    signal = 0.015 * boxes.columns(TIME, slice(0, N_STARS))[:, 0]
    made = decorrelate(curves_of(random, off + signal + red * WHITE * noise), parameters, boxes)
    pulls = (made.signal[:, 0] - 0.015) / made.signal_err[:, 0]
    assert np.median(made.signal) == pytest.approx(0.015, rel=0.05)
    assert np.abs(pulls.mean()) < 0.25
    assert 0.8 < pulls.std() < 1.25


def test_too_short_curves_and_signals_that_no_frame_shows_give_nan() -> None:
    random = np.random.default_rng(4)
    parameters, off = systematics(random)
    curves = curves_of(random, off)
    curves.mag[0, 50:] = np.nan
    between = Boxes(*(np.full(N_STARS, one) for one in (1.0, 0.9, 0.05)))
    made = decorrelate(curves, parameters, between, DecorrelationOptions(least_points=100))
    assert np.isnan(made.mag[0]).all() and np.isfinite(made.mag[1]).sum() == np.isfinite(curves.mag[1]).sum()
    assert np.isnan(made.signal).all() and np.isnan(made.signal_err).all()


def test_the_prior_holds_terms_that_a_short_curve_cannot_tell_apart() -> None:
    random = np.random.default_rng(5)
    parameters, _ = systematics(random)
    some = CurveBlock(
        TIME[:30], 10 + 0.05 * random.standard_normal((N_STARS, 30)), np.full((N_STARS, 30), 0.05)
    )
    few = ExternalParameters(*(one if one is None else one[..., :30] for one in vars_of(parameters)))
    loose, held = (
        decorrelate(some, few, None, DecorrelationOptions(prior_mag=prior, least_points=10))
        for prior in (1.0, 0.01)
    )
    assert np.median(held.n_lost) < 0.7 * np.median(loose.n_lost)


def vars_of(parameters: ExternalParameters) -> list[np.ndarray | None]:
    return [getattr(parameters, name) for name in ExternalParameters.__dataclass_fields__]


def test_there_are_the_twenty_terms_of_hatnet_with_the_constant() -> None:
    n = 50
    random = np.random.default_rng(6)
    given = dict.fromkeys(("fwhm_px", "elongation_d", "elongation_k", "background", "background_err"))
    shapes = ExternalParameters(**{name: random.normal(0, 1, n) for name in given})
    weight = np.ones((3, n))
    names, terms = parameter_terms(shapes, weight)
    waves, _ = parameter_terms(
        ExternalParameters(x_px=random.normal(0, 9, n), y_px=random.normal(0, 9, n)), weight
    )
    assert len(names) + sum("sin" in name or "cos" in name for name in waves) + 1 == 20
    np.testing.assert_allclose(terms.mean(axis=2), 0.0, atol=1e-12)
    np.testing.assert_allclose(terms.std(axis=2), 1.0)


def test_a_parameter_that_is_not_known_or_never_changes_explains_nothing() -> None:
    constant = ExternalParameters(temperature=np.full(20, 5.0), airmass=np.append(np.nan, np.arange(19.0)))
    _, terms = parameter_terms(constant, np.ones((2, 20)))
    assert np.all(terms[:, 1] == 0.0) and np.all(terms[:, 0, 0] == 0.0) and np.all(np.isfinite(terms))


def test_a_range_is_never_negative_and_a_wave_has_to_return() -> None:
    time = np.linspace(0.0, 0.32, 120)
    mag = 10.0 + 0.004 * np.random.default_rng(3).standard_normal((200, 120))
    curves = CurveBlock(time, mag, np.full(mag.shape, 0.004))
    waves = Harmonics(np.full(200, 1.0), 4)
    size, _ = signal_range(curves, waves, decorrelate(curves, ExternalParameters(), waves))
    assert (size >= 0.0).all()
    good = np.ones((6, 120), bool)
    # The fifth was seen at both ends, each a fifth of a turn at the same phases, and the last never.
    good[4, 12:108] = False
    good[5] = False
    periods = Harmonics(np.array([1.0, 0.3, 0.25, np.nan, 0.145, 0.1]), 4)
    assert periods.is_covered(time, good).tolist() == [False, False, True, True, False, False]

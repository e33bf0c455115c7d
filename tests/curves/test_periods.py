"""Periods are found, agree with astropy, and their chances are what they say."""

import numpy as np
import pytest
from astropy.timeseries import LombScargle

from skylake.curves.curve_block import CurveBlock
from skylake.curves.periods import box_least_squares, lomb_scargle

N_STARS, N_FRAMES = 150, 200


def block(seed: int) -> CurveBlock:
    random = np.random.default_rng(seed)
    time = 60_000 + np.sort(random.uniform(0, 20, N_FRAMES))
    mag = 10 + 0.01 * random.standard_normal((N_STARS, N_FRAMES))
    mag[random.random(mag.shape) < 0.15] = np.nan
    return CurveBlock(time, mag, np.full(mag.shape, 0.01))


def test_noise_has_peaks_as_often_as_stated() -> None:
    chance = lomb_scargle(block(1), 0.3, 10.0).false_alarm
    assert np.mean(chance < 0.5) == pytest.approx(0.5, abs=0.13)
    assert np.mean(chance < 0.1) == pytest.approx(0.1, abs=0.08)


def test_waves_are_found_between_the_frequencies_that_are_tried_and_outliers_do_not_matter() -> None:
    curves, random = block(2), np.random.default_rng(2)
    period = random.uniform(0.5, 5.0, N_STARS)
    mag = curves.mag + 0.02 * np.sin(2 * np.pi * curves.time / period[:, None])
    mag[:, ::40] += 0.8
    found = lomb_scargle(CurveBlock(curves.time, mag, curves.mag_err), 0.3, 10.0)
    assert np.all(found.false_alarm < 1e-6)
    # Where a peak is, is known to a small part of its width.
    assert np.percentile(np.abs(1 / found.period - 1 / period) * 20.0, 90) < 0.08


def test_power_and_chance_are_those_of_astropy() -> None:
    curves = block(3)
    found = lomb_scargle(curves, 0.3, 10.0)
    good = np.isfinite(curves.mag[0])
    peer = LombScargle(curves.time[good], curves.mag[0, good], curves.mag_err[0, good])
    assert found.power[0] == pytest.approx(float(peer.power(1 / found.period[0])), rel=0.01)
    chance = peer.false_alarm_probability(found.power[0], method="baluev", maximum_frequency=1 / 0.3)
    # Its highest frequency is one of its own grid.
    assert found.false_alarm[0] == pytest.approx(float(chance), rel=2e-3)


def test_transits_are_found_and_noise_has_none() -> None:
    curves = block(4)
    few = CurveBlock(curves.time, curves.mag[:6].copy(), curves.mag_err[:6])
    inside = np.abs((curves.time - 60_000.4 + 0.75) % 1.5 - 0.75) < 0.08
    few.mag[:3] += 0.03 * inside
    found = box_least_squares(few, 1.0, 4.0, np.array([0.1, 0.16, 0.2]))
    np.testing.assert_allclose(found.period[:3], 1.5, rtol=0.005)
    assert np.all(found.false_alarm[:3] < 1e-6) and np.all(found.false_alarm[3:] > 0.01)
    assert np.all(np.abs(found.depth[:3] - 0.03) < 4 * found.depth_err[:3])


def test_stars_with_few_points_have_no_period_and_empty_ranges_are_refused() -> None:
    curves = block(5)
    curves.mag[0, 9:] = np.nan
    few = CurveBlock(curves.time, curves.mag[:2], curves.mag_err[:2])
    assert np.isnan(lomb_scargle(few, 0.3, 10.0).period[0])
    with pytest.raises(ValueError, match="no range"):
        lomb_scargle(few, 3.0, 2.0)
    with pytest.raises(ValueError, match="not shorter than a period"):
        box_least_squares(few, 1.0, 2.0, np.array([1.5]))

"""Dips are found in short and long curves, in a time that does not grow with the square of the nights."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from skylake.curves.box_search import FoundBoxes, _seasons, find_boxes
from skylake.curves.curve_block import CurveBlock
from skylake.curves.decorrelation import decorrelate
from skylake.curves.external_parameters import ExternalParameters

PERIOD, DURATION, NOISE = 3.3, 0.1, 0.005
DURATIONS = np.array([1.0, 2.0, 4.0]) / 24.0
Floats = npt.NDArray[np.float64]


def found_in(day: Floats, n_stars: int, depth: float, seed: int) -> tuple[FoundBoxes, float]:
    """Return the boxes of stars on nights of eight hours, and the seconds of a processor for each star."""
    random = np.random.default_rng(seed)
    mjd = (60_000.0 + day[:, None] + np.linspace(0.0, 8.0 / 24.0, 30)).ravel()
    width = np.sin(0.7 * mjd) + 0.2 * random.standard_normal(len(mjd))
    away = np.abs((mjd - 60_000.37 + 0.5 * PERIOD) % PERIOD - 0.5 * PERIOD)
    mag = 10.0 + 0.01 * width + depth * (away < 0.5 * DURATION)
    mag = mag + NOISE * random.standard_normal((n_stars, len(mjd)))
    curves, parameters = CurveBlock(mjd, mag, np.full(mag.shape, NOISE)), ExternalParameters(fwhm_px=width)
    alone = decorrelate(curves, parameters)
    started = time.process_time()
    found = find_boxes(curves, parameters, alone.residual, DURATIONS, 20.0)
    return found, (time.process_time() - started) / n_stars


@pytest.mark.parametrize("gap", [0.0, 245.0])
def test_weak_transits_of_many_nights_are_found_and_followed_through_all(gap: float) -> None:
    # Within the sixty nights that are searched for periods a transit has a S/N of some 6, in all of about 15.
    day = np.arange(360.0)
    found, _ = found_in(day + gap * (day // 120), 4, 0.005, 1)
    np.testing.assert_allclose(found.period, PERIOD, atol=PERIOD * DURATION / np.ptp(day))
    assert np.all(found.false_alarm < 1e-10) and np.all(found.snr > 10)


def test_a_period_is_not_taken_for_its_double() -> None:
    random = np.random.default_rng(6)
    mjd = (60_000.0 + np.arange(12.0)[:, None] + np.linspace(0.3, 0.6, 40)).ravel()
    n_stars, period = 40, 1.1
    phase = random.uniform(0.3, 0.4, (n_stars, 1))
    away = np.abs((mjd - 60_000.0 - phase + 0.5 * period) % period - 0.5 * period)
    mag = 10.0 + 0.02 * (away < 0.04) + NOISE * random.standard_normal((n_stars, len(mjd)))
    curves, nothing = (
        CurveBlock(mjd, mag, np.full(mag.shape, NOISE)),
        ExternalParameters(airmass=np.ones(len(mjd))),
    )
    found = find_boxes(curves, nothing, decorrelate(curves, nothing).residual, np.array([0.08]), 20.0)
    assert np.mean(np.abs(found.period - period) < 0.01) > 0.9


def test_noise_of_many_nights_is_no_dip() -> None:
    found, _ = found_in(np.arange(200.0), 20, 0.0, 2)
    assert np.all(found.false_alarm > 0.01)


def test_a_star_of_other_nights_than_most_has_a_search_of_its_own() -> None:
    told = np.ones((5, 100), bool)
    told[:4, 60:] = False
    told[4, :60] = False
    together = np.minimum(np.arange(100) + 30, 100)
    seasons, season = _seasons(together, told)
    assert len(set(season[:4])) == 1 and season[4] != season[0]
    assert told[4, seasons[season[4]] : together[seasons[season[4]]]].sum() == 30


def test_time_for_a_star_does_not_grow_with_the_square_of_nights() -> None:
    found_in(np.arange(20.0), 1, 0.005, 3)
    # The whole search of a thousand nights takes eight seconds.
    found, seconds = found_in(np.arange(1000.0), 1, 0.005, 3)
    assert seconds < 1.5 and abs(found.period[0] - PERIOD) < 1e-3

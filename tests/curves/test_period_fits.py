"""Fitted periods, epochs and depths scatter about the truth by their errors, and cycles of the night are flagged."""

import numpy as np
import pytest

from skylake.curves.curve_block import CurveBlock
from skylake.curves.period_fits import aliases, fit_transits, fit_waves
from skylake.curves.periods import Transits, box_least_squares
from skylake.curves.signals import Boxes

N_STARS = 300
TIME = 60_000.0 + (np.arange(20)[:, None] + np.linspace(0.3, 0.62, 15)).ravel()


def noise(seed: int, n_stars: int, time: np.ndarray = TIME) -> CurveBlock:
    random = np.random.default_rng(seed)
    error = random.uniform(0.005, 0.02, (n_stars, len(time)))
    mag = 11.0 + error * random.standard_normal(error.shape)
    mag[random.random(mag.shape) < 0.1] = np.nan
    return CurveBlock(time, mag, error)


def widths(pulls: np.ndarray) -> None:
    assert abs(pulls.mean()) < 4 / np.sqrt(len(pulls))
    assert pulls.std() == pytest.approx(1.0, abs=0.15)


def test_errors_of_waves_are_what_they_scatter_by() -> None:
    curves, random = noise(1, N_STARS), np.random.default_rng(2)
    period, amplitude = random.uniform(0.4, 3.3, N_STARS), random.uniform(0.02, 0.05, N_STARS)
    bright = 60_000.0 + random.uniform(0, 5, N_STARS)
    wave = -amplitude[:, None] * np.cos(2 * np.pi * (TIME - bright[:, None]) / period[:, None])
    found = fit_waves(CurveBlock(TIME, curves.mag + wave, curves.mag_err), period * (1 + 0.05 * period / 20))
    widths((found.period - period) / found.period_err)
    widths((found.depth - 2 * amplitude) / found.depth_err)
    cycles = (found.epoch - bright) / period
    # Epochs are near the middle, so the period that was found has to be the true one to compare them.
    off = (cycles - np.round(cycles)) * period
    widths(off / found.epoch_err)
    assert np.all(np.abs(found.epoch - TIME.mean()) < 0.5 * period + 2.0)
    assert np.abs(found.mean - 11).max() < 0.012


def test_stars_may_have_times_of_their_own() -> None:
    curves = noise(3, 4)
    shifts = np.array([0.0, 0.001, 0.002, 0.004])[:, None]
    own = TIME + shifts
    mag = curves.mag - 0.3 * np.cos(2 * np.pi * (own - 60_010) / 0.5)
    found = fit_waves(
        CurveBlock(TIME, mag, curves.mag_err), np.full(4, 0.5), np.where(np.isfinite(mag), own, np.nan)
    )
    cycles = (found.epoch - 60_010) / 0.5
    assert np.all(np.abs(cycles - np.round(cycles)) * 0.5 < 4 * found.epoch_err)


def test_errors_of_transits_are_what_they_scatter_by() -> None:
    time, n_stars = 60_000.0 + np.sort(np.random.default_rng(4).uniform(0, 25, 1500)), 60
    curves, random = noise(5, n_stars, time), np.random.default_rng(6)
    period, duration = random.uniform(1.1, 3.0, n_stars), random.uniform(0.1, 0.16, n_stars)
    truth = Boxes(period, 60_000.0 + random.uniform(0, 1, n_stars) * period, duration, 0.2)
    mag = curves.mag + 0.025 * truth.columns(time, slice(0, n_stars))[:, 0]
    near = random.normal(1.0, 0.0004, n_stars), random.normal(0.0, 0.01, n_stars)
    start = Transits(period * near[0], truth.middle + near[1], 0.9 * duration, *np.full((3, n_stars), 0.02))
    found = fit_transits(CurveBlock(time, mag, curves.mag_err), start)
    for off, error in (
        (found.period - period, found.period_err),
        (found.depth - 0.025, found.depth_err),
        ((found.epoch - truth.middle + 0.5 * period) % period - 0.5 * period, found.epoch_err),
    ):
        pulls = off / error
        assert np.median(np.abs(pulls)) * 1.4826 == pytest.approx(1.0, abs=0.35)
        assert np.mean(np.abs(pulls) > 4) < 0.07
    assert np.median(np.abs(found.duration / duration - 1)) < 0.1


def test_a_box_is_found_and_refined() -> None:
    time = 60_000.0 + np.sort(np.random.default_rng(7).uniform(0, 12, 500))
    curves = noise(8, 2, time)
    box = Boxes(np.full(2, 1.7), np.full(2, 60_000.6), np.full(2, 0.15), 0.2)
    curves.mag[0] += 0.04 * box.columns(time, slice(0, 1))[0, 0]
    boxes = box_least_squares(curves, 1.0, 5.0, np.array([0.1, 0.2]))
    found = fit_transits(curves, boxes)
    assert abs(found.period[0] - 1.7) < 5 * found.period_err[0] < 0.02
    assert boxes.false_alarm[0] < 1e-6 < boxes.false_alarm[1]


def test_stars_without_a_period_have_no_signal() -> None:
    found = fit_waves(noise(9, 3), np.array([np.nan, 0.5, np.nan]))
    assert np.isnan(found.depth[[0, 2]]).all() and np.isfinite(found.depth[1])


def test_cycles_of_the_night_are_flagged() -> None:
    period = np.array([1.0, 0.99727, 0.5, 2.0, 2.0 / 3.0, 0.7311, 1.37, np.nan])
    short, long = (aliases(period, np.full(len(period), days)) for days in (25.0, 2000.0))
    assert long == [
        "1 solar day",
        "1 sidereal day",
        "1/2 solar day",
        "2 solar days",
        "2/3 solar day",
        None,
        None,
        None,
    ]
    assert [one is not None for one in short] == [True] * 5 + [False] * 3
    assert aliases(np.array([1.04]), np.array([25.0])) == ["1 solar day"]
    assert aliases(np.array([1.04]), np.array([400.0])) == [None]

"""Deviates of constant stars are normal, also with outliers and clouds, and changes are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.curves.night_changes import LEAST_NIGHTS, NightChanges, PastNights, night_changes

STARS = 3000
FLOOR = 0.01


def drawn(
    seed: int, n_nights: int, outliers: float = 0.0, compared: bool = True, change: float = 0.0
) -> NightChanges:
    """Judge constant stars, with nights that are off, red noise beyond errors, and outliers."""
    random = np.random.default_rng(seed)
    truth = np.sort(random.uniform(10.0, 14.0, STARS))
    err = 0.005 * 10.0 ** (0.2 * (truth - 10.0))
    counts = random.integers(max(LEAST_NIGHTS, n_nights // 2), n_nights + 1, STARS)
    starts = np.append(0, np.cumsum(counts)).astype(np.intp)
    star, night = np.repeat(np.arange(STARS), counts), np.concatenate([np.arange(n) for n in counts])
    offsets = random.normal(0.0, 0.02, n_nights)
    mag = truth[star] + offsets[night] + random.normal(0.0, np.hypot(err, FLOOR)[star])
    bad = random.random(len(mag)) < outliers
    mag[bad] += random.normal(0.0, 0.5, bad.sum())
    cloud = 0.1 if compared else 0.0
    now = truth + cloud + change + random.normal(0.0, np.hypot(err, FLOOR))
    steps = np.array([*range(-10, 0), *range(1, 11)])
    places = np.arange(STARS)[:, None] + steps
    comparison = np.where((places >= 0) & (places < STARS) & compared, places, -1)
    past = PastNights(mag, err[star], starts, night)
    if change:
        # One star in fifty changes, so that its comparison stars do not.
        changed = np.arange(STARS) % 50 == 0
        now[~changed] -= change
        judged = np.flatnonzero(changed)
        return night_changes(now, err, past, judged, comparison[judged])
    return night_changes(now, err, past, np.arange(STARS), comparison)


@pytest.mark.parametrize(
    ("n_nights", "compared"), [(4, True), (10, True), (30, True), (10, False), (30, False)]
)
def test_deviates_of_constant_stars_are_normal(n_nights: int, compared: bool) -> None:
    found = drawn(n_nights, n_nights, compared=compared)
    deviate = found.significance[np.isfinite(found.significance)]
    # Without comparison stars the offset of the nights is that of all stars.
    if compared:
        assert abs(np.median(deviate)) < 0.1
    width = 1.4826 * np.median(np.abs(deviate - np.median(deviate)))
    assert 0.8 < width < 1.05


@pytest.mark.parametrize("outliers", [0.0, 0.02, 0.1])
def test_false_alarms_are_no_more_than_is_stated(outliers: float) -> None:
    chances = np.concatenate([drawn(seed, 30, outliers).false_alarm for seed in range(10)])
    for level in (0.05, 0.01, 0.001):
        expected = level * len(chances)
        assert np.sum(chances < level) < expected + 4.0 * np.sqrt(expected)
    # By five sigma, which is the default of watch lists.
    assert np.sum(chances < 5.7e-7) == 0


@pytest.mark.parametrize(("outliers", "least"), [(0.0, 0.95), (0.02, 0.85)])
def test_a_change_of_ten_times_the_scatter_is_found(outliers: float, least: float) -> None:
    found = drawn(3, 30, outliers, change=-0.4)
    assert np.mean(found.significance < -5.0) > least
    pulls = (found.difference + 0.4) / found.difference_err
    assert abs(np.mean(pulls)) < 0.3 and 0.6 < np.std(pulls) < 1.2


@given(st.integers(0, 1000), st.floats(-3.0, 3.0))
def test_what_all_stars_share_is_no_change(seed: int, shift: float) -> None:
    random = np.random.default_rng(seed)
    n, nights = 12, 5
    err = np.full(n * nights, 0.01)
    mag = 12.0 + random.normal(0.0, 0.01, n * nights)
    past = PastNights(mag, err, np.arange(n + 1) * nights, np.tile(np.arange(nights), n))
    now = 12.0 + random.normal(0.0, 0.01, n)
    others = np.array([[j for j in range(n) if j != i] for i in range(n)])
    first, second = (night_changes(one, err[:n], past, np.arange(n), others) for one in (now, now + shift))
    assert first.difference == pytest.approx(second.difference, abs=1e-9)
    assert first.significance == pytest.approx(second.significance, abs=1e-6)


def test_too_few_nights_are_not_judged() -> None:
    starts = np.array([0, 2, 4, 4])
    past = PastNights(np.full(4, 12.0), np.full(4, 0.01), starts, np.array([0, 1, 0, 1]))
    found = night_changes(
        np.array([11.0, 12.0, 9.0]), np.full(3, 0.01), past, np.arange(3), np.full((3, 20), -1)
    )
    assert np.isnan(found.significance).all() and found.n_nights.tolist() == [2, 2, 0]

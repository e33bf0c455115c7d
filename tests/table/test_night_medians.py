"""The magnitude of a night is a median whose error holds, also where one of few measurements is bad."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from skylake.core.flags import SourceFlag
from skylake.table.night_medians import night_medians

STARS, ERR = 4000, 0.02


def drawn(n_points: int, bad: float = 0.0) -> np.ndarray:
    """Return the pulls of stars of magnitude 0 with measurements of which some are bad."""
    random = np.random.default_rng(n_points)
    star = np.repeat(np.arange(STARS), n_points)
    mag = random.normal(0.0, ERR, len(star))
    mag[random.random(len(star)) < bad] += 1.0
    nothing = np.zeros(len(star), np.int64)
    found = night_medians(star, STARS, mag, np.full(len(star), ERR), nothing, nothing + 0.5, nothing)
    return found.mag / found.err


@pytest.mark.parametrize("n_points", [2, 3, 5, 40])
def test_pulls_are_no_wider_than_one(n_points: int) -> None:
    pulls = drawn(n_points)
    assert abs(np.mean(pulls)) < 0.05
    assert 0.8 < np.std(pulls) < 1.05


def test_one_bad_measurement_of_two_is_no_change() -> None:
    for n_points in (2, 5):
        # Most of them have to be bad.
        expected = STARS * stats.binom.sf(n_points // 2 if n_points > 2 else 1, n_points, 0.05)
        found = np.sum(np.abs(drawn(n_points, bad=0.05)) > 5.0)
        assert found < expected + 4.0 * np.sqrt(expected)


def test_flagged_measurements_do_not_count() -> None:
    flags = np.array([0, 0, int(SourceFlag.STREAK), int(SourceFlag.BLENDED), 0])
    mag = np.array([10.0, 10.2, 5.0, 5.0, np.nan])
    found = night_medians(
        np.zeros(5, np.int64), 2, mag, np.array([0.02, 0.01, 0.01, 0.01, 0.01]), flags, np.arange(5.0),
        np.arange(5) + 7,
    )  # fmt: skip
    assert found.mag[0] == pytest.approx(10.1) and np.isnan(found.mag[1])
    assert found.n_points.tolist() == [5, 0] and found.n_good.tolist() == [2, 0]
    assert found.flags[0] == SourceFlag.STREAK | SourceFlag.BLENDED
    assert found.frame_id.tolist() == [8, -1] and found.mjd_mid[0] == 0.5

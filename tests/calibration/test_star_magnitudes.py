"""Star magnitudes of a season: which measurements take part."""

from __future__ import annotations

import numpy as np
import pytest

from skylake.calibration.match_selection import Band
from skylake.calibration.star_magnitudes import (
    FEW_REPEATS,
    MANY_STARS,
    REPEATED_STARS,
    REPEATS,
    Season,
    has_repeats,
    solve_season,
)
from skylake.calibration.star_observations import StarObservations
from skylake.core.camera import Calibration, FilterBand

V = Band(FilterBand("V", None, 0.0), "aper2", Calibration())
N_STARS, N_FRAMES, ZP = 300, 40, 20.0


def season(random: np.random.Generator, magnitude: np.ndarray, lost: float) -> Season:
    """Frames of 10 and 40 s, on which stars of more than 40,000 counts lose a share of their light."""
    frame, star = (one.ravel() for one in np.mgrid[:N_FRAMES, : len(magnitude)])
    exposure = np.where(frame % 2 == 0, 10.0, 40.0)
    counts = exposure * 10.0 ** (-0.4 * (magnitude[star] - ZP))
    error = 1.0857 / np.sqrt(5.0 * counts)
    measured = magnitude[star] - ZP + np.where(counts > 4e4, lost, 0.0)
    measured += np.hypot(error, 0.002) * random.normal(size=len(star))
    nothing = np.zeros(len(star))
    catalog = magnitude + random.normal(0.0, 0.05, len(magnitude))
    return Season.of(
        StarObservations(
            frame, star, measured, error, nothing, nothing, nothing, nothing, nothing,
            catalog[star], nothing + 0.05, nothing, nothing, 60000.0 + frame, exposure,
        )
    )  # fmt: skip


def test_stars_that_are_too_bright_for_an_exposure_are_known_from_shorter_ones() -> None:
    random = np.random.default_rng(3)
    magnitude = random.uniform(10.5, 16.0, N_STARS)
    made = season(random, magnitude, 0.15)
    solution = solve_season(made, dict.fromkeys(range(N_FRAMES), 1), V)
    counts = 10.0 * 10.0 ** (-0.4 * (magnitude - ZP))
    off = solution.stars.magnitude - magnitude
    in_between = (counts > 1.1e4) & (counts < 3.6e4)
    assert in_between.sum() > 20
    # Of these the shorter exposures alone are right.
    assert (solution.stars.n_used[in_between] <= N_FRAMES // 2).mean() > 0.9
    assert np.nanmedian(off[in_between]) == pytest.approx(np.nanmedian(off[counts < 8e3]), abs=0.004)
    assert np.isnan(off[counts > 4.5e4]).mean() > 0.9
    assert np.ptp(solution.frames.zeropoint) < 0.01


def test_stars_that_are_measured_right_are_all_used() -> None:
    random = np.random.default_rng(4)
    made = season(random, random.uniform(10.5, 16.0, N_STARS), 0.0)
    solution = solve_season(made, dict.fromkeys(range(N_FRAMES), 1), V)
    assert solution.stars.n_used.min() > 0.8 * N_FRAMES


@pytest.mark.parametrize(
    ("n_stars", "n_frames", "enough"),
    [
        (REPEATED_STARS, REPEATS, True),
        (REPEATED_STARS, REPEATS - 1, False),
        (REPEATED_STARS - 1, REPEATS, False),
        (MANY_STARS, FEW_REPEATS, True),
        (MANY_STARS, FEW_REPEATS - 1, False),
        (MANY_STARS - 1, FEW_REPEATS, False),
    ],
)
def test_few_stars_make_a_solution_from_many_frames_and_many_from_few(
    n_stars: int, n_frames: int, enough: bool
) -> None:
    frame, star = (one.ravel() for one in np.mgrid[:n_frames, :n_stars])
    assert has_repeats(frame, star) is enough

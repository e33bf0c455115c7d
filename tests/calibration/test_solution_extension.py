"""Star magnitudes of new fields: right within their errors, and nothing of the old ones is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from skylake.calibration.global_solution import GlobalSolution
from skylake.calibration.match_selection import Band
from skylake.calibration.solution_extension import solve_extension
from skylake.calibration.star_magnitudes import (
    Season,
    SolutionKey,
    global_solutions_table,
    solve_season,
    star_magnitudes_table,
)
from skylake.calibration.star_observations import StarObservations
from skylake.calibration.star_reference import StarReference
from skylake.core.camera import Calibration, FilterBand
from skylake.core.position_terms import position_offset

V = Band(FilterBand("V", "B-V", 0.7), "aper2", Calibration())
KEY = SolutionKey("strip", "V", "stars", 1)
N_STARS, COLOUR_TERM, FLOOR, CATALOG_ERROR = 700, 0.11, 0.003, 0.05
#: Where fields of one degree are along a strip, degrees: the first, one beside it, and one far away.
FIRST, BESIDE, APART = (0.5, 2.5), (2.6, 4.3), (5.5, 7.0)


@dataclass(frozen=True)
class Strip:
    """Stars of a strip of the sky, a camera, and the random numbers of its noise."""

    random: np.random.Generator
    place: np.ndarray
    mag: np.ndarray
    colour: np.ndarray
    ref_mag: np.ndarray
    illumination: np.ndarray

    @classmethod
    def of(cls, seed: int) -> Strip:
        random = np.random.default_rng(seed)
        mag = random.uniform(8.0, 12.5, N_STARS)
        return cls(
            random,
            np.column_stack([random.uniform(0.0, 9.0, N_STARS), random.uniform(0.0, 1.5, N_STARS)]),
            mag,
            random.normal(0.0, 0.4, N_STARS),
            mag + random.normal(0.0, CATALOG_ERROR, N_STARS),
            random.normal(0.0, 0.02, 5),
        )

    def season(self, limits: tuple[float, float], first: int = 0, n_frames: int = 60) -> Season:
        """Observe fields between two places of the strip; one measurement in a hundred is false."""
        pieces = []
        for frame in range(first, first + n_frames):
            middle = np.array([self.random.uniform(*limits), self.random.uniform(0.4, 1.1)])
            u, v = 2.0 * (self.place - middle).T
            star = np.flatnonzero((np.abs(u) < 1.0) & (np.abs(v) < 1.0))
            pieces.append(self.frame(frame, star, u[star], v[star]))
        return Season.of(StarObservations.together(pieces))

    def frame(self, frame: int, star: np.ndarray, u: np.ndarray, v: np.ndarray) -> StarObservations:
        n, zp = len(star), 20.0 + self.random.normal(0.0, 0.02)
        error = 0.003 * 10.0 ** (0.2 * (self.mag[star] - 9.0))
        measured = self.mag[star] - COLOUR_TERM * self.colour[star] - zp
        measured += np.hypot(error, FLOOR) * self.random.normal(size=n) - position_offset(
            self.illumination, u, v
        )
        measured += np.where(self.random.random(n) < 0.01, self.random.normal(0.0, 0.7, n), 0.0)
        nothing = np.zeros(n)
        return StarObservations(
            nothing.astype(int) + frame, star, measured, error, u, v, nothing, self.colour[star], nothing + 0.02,
            self.ref_mag[star], nothing + CATALOG_ERROR, self.place[star, 0], self.place[star, 1],
            nothing + 60000.0 + frame, nothing + 20.0,
        )  # fmt: skip

    def off(self, stars: StarReference) -> np.ndarray:
        return stars.mag - self.mag[stars.star]


def nights_of(season: Season) -> dict[int, int]:
    return {frame: frame // 20 for frame in season.frames.tolist()}


def reference(season: Season, solution: GlobalSolution) -> StarReference:
    """What calibrations would read of a solution."""
    rows = star_magnitudes_table(season, solution, nights_of(season), KEY, 0.7)
    return StarReference.of(rows, global_solutions_table(season, solution, KEY, V, []))


def solved(season: Season) -> StarReference:
    return reference(season, solve_season(season, nights_of(season), V))


def extended(season: Season, known: StarReference) -> StarReference:
    return reference(season, solve_extension(season, nights_of(season), V, known, known.star))


def error(stars: StarReference) -> np.ndarray:
    return np.hypot(stars.mag_err, stars.mag_systematic_err)


def half_width(values: Any) -> float:
    return float(0.5 * np.diff(np.quantile(values, [0.1587, 0.8413]))[0])


def pulls(limits: tuple[float, float], n_strips: int) -> tuple[np.ndarray, np.ndarray]:
    """Pulls of new stars against the truth; and how far they are from a full solution, in units of their errors."""
    truth, full = [], []
    for seed in range(n_strips):
        strip = Strip.of(seed)
        first, second = strip.season(FIRST), strip.season(limits, first=1000)
        new = extended(second, solved(first))
        together = StarObservations.together([first.observations, second.observations])
        whole = solved(Season.of(together))
        place = whole.places(new.star)
        truth.append(strip.off(new) / error(new))
        full.append(((new.mag - whole.mag[place]) / error(new))[place >= 0])
    return np.concatenate(truth), np.concatenate(full)


@pytest.mark.slow
@pytest.mark.parametrize("limits", [BESIDE, APART])
def test_new_stars_are_right_within_their_errors_and_agree_with_a_full_solution(
    limits: tuple[float, float],
) -> None:
    truth, full = pulls(limits, 8)
    # Stars of a strip share most of their errors: eight strips know the width to a quarter.
    assert 0.5 < half_width(truth) < 1.5 and abs(np.median(truth)) < 1.1
    assert half_width(full) < 1.2 and np.mean(np.abs(full) < 3.0) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("limits", [BESIDE, APART])
def test_pulls_of_new_stars_have_width_1(limits: tuple[float, float]) -> None:
    truth, full = pulls(limits, 40)
    assert half_width(truth) == pytest.approx(1.0, abs=0.15) and abs(np.mean(truth)) < 0.3
    assert half_width(full) < 1.1


@pytest.fixture(scope="module")
def strip() -> Strip:
    return Strip.of(3)


@pytest.fixture(scope="module")
def known(strip: Strip) -> StarReference:
    return solved(strip.season(FIRST))


@pytest.fixture(scope="module")
def beside(strip: Strip, known: StarReference) -> Season:
    """Fields with some stars that are known."""
    return strip.season(BESIDE, first=1000)


def test_what_is_known_stays_as_it_is(beside: Season, known: StarReference) -> None:
    solution = solve_extension(beside, nights_of(beside), V, known, known.star)
    is_known = np.isin(beside.stars, known.star)
    assert 5 <= is_known.sum() < len(beside.stars)
    assert np.array_equal(np.isnan(solution.stars.magnitude), is_known)
    camera = solution.camera
    np.testing.assert_array_equal(camera.illumination, known.camera.illumination)
    np.testing.assert_array_equal(camera.illumination_errors, known.camera.illumination_errors)
    assert (camera.colour_term, camera.floor) == (known.camera.colour_term, pytest.approx(known.camera.floor))
    assert solution.catalog_scatter == known.catalog_scatter


def test_new_stars_are_in_the_system_of_known_ones(beside: Season, known: StarReference) -> None:
    """Even where that is far from the catalog."""
    moved = replace(known, mag=known.mag + 0.2)
    before, after = extended(beside, known), extended(beside, moved)
    np.testing.assert_allclose(after.mag - before.mag, 0.2, atol=1e-3)


def test_a_fifth_of_the_known_stars_may_have_changed(
    strip: Strip, beside: Season, known: StarReference
) -> None:
    common = np.flatnonzero(np.isin(known.star, beside.stars))
    changed = np.zeros(len(known.star))
    changed[common[::5]] = strip.random.normal(0.3, 0.1, len(common[::5]))
    after = extended(beside, replace(known, mag=known.mag + changed))
    np.testing.assert_allclose(after.mag, extended(beside, known).mag, atol=0.004)


def test_fewer_than_five_known_stars_leave_new_ones_to_the_catalog(
    strip: Strip, beside: Season, known: StarReference
) -> None:
    common = np.isin(known.star, beside.stars)
    few = np.flatnonzero(~common | (np.cumsum(common) <= 4))
    values = {name: getattr(known, name)[few] for name in ("star", "mag", "mag_err", "mag_systematic_err")}
    values["mag"] = values["mag"] + 0.2
    found = extended(beside, replace(known, **values))
    assert abs(np.median(strip.off(found))) < 3.0 * np.median(error(found)) < 0.1

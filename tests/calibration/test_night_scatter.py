from __future__ import annotations

import numpy as np
import pytest

from skylake.calibration.global_observations import GlobalOptions, Observations, References
from skylake.calibration.global_solution import solve_globally
from skylake.calibration.night_scatter import night_scatter

WHITE = 0.002


def drawn(rng: np.random.Generator, offset: float, shape: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    """Stars, nights and measurements of constant stars, in the order of frames."""
    n_nights, n_frames, n_stars = shape
    night, _, star = (one.ravel() for one in np.mgrid[:n_nights, :n_frames, :n_stars])
    of_night = rng.normal(0.0, offset, (n_stars, n_nights))
    return star, night, of_night[star, night] + rng.normal(0.0, WHITE, star.size)


@pytest.mark.parametrize("offset", [0.001, 0.003, 0.01])
def test_offsets_from_night_to_night_are_found(offset: float) -> None:
    star, night, values = drawn(np.random.default_rng(1), offset, (6, 30, 80))
    # One measurement in fifty is wrong, and so is a star.
    values[::50] += 0.3
    values[star == 7] += 0.05 * night[star == 7]
    values -= np.bincount(star, values)[star] / np.bincount(star)[star]
    precisions = np.where(np.abs(values) < 0.2, WHITE**-2, 0.0)
    found = night_scatter(star.astype(np.int32), night.astype(np.int32), values, precisions, 80)
    assert found.scatter == pytest.approx(offset, rel=0.15)
    assert np.median(found.error) == pytest.approx(found.scatter / np.sqrt(6.0), rel=0.02)


def test_none_are_found_where_there_are_none() -> None:
    star, night, values = drawn(np.random.default_rng(2), 0.0, (6, 30, 80))
    values -= np.bincount(star, values)[star] / np.bincount(star)[star]
    counted = np.full(len(values), WHITE**-2)
    found = night_scatter(star.astype(np.int32), night.astype(np.int32), values, counted, 81)
    assert found.scatter < 0.5 * WHITE / np.sqrt(30.0) and found.error[80] == 0.0
    alone = night_scatter(star.astype(np.int32), 0 * night.astype(np.int32), values, counted, 80)
    assert alone.scatter == 0.0 and not alone.error.any() and not alone.most.any()


def test_a_solution_knows_its_stars_no_better_than_its_nights() -> None:
    """With many frames a night, errors that count frames alone would be several times too small."""
    pulls, n_variable = [], 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        star, night, values = drawn(rng, 0.003, (6, 30, 60))
        magnitude = rng.uniform(8.0, 10.0, 60)
        frame, nothing = np.repeat(np.arange(180), 60), np.zeros(len(star))
        error = np.full(len(star), 0.001)
        measured = magnitude[star] - 20.0 + values
        observations = Observations(frame, star, night, measured, error, nothing, nothing, nothing)
        stated = np.full(60, 0.03)
        references = References(magnitude + rng.normal(0.0, 0.03, 60), stated, np.zeros(60), np.zeros(60))
        stars = solve_globally(observations, references, GlobalOptions(0, 0)).stars
        off = stars.magnitude - magnitude
        pulls.append((off - np.mean(off)) / stars.error)
        n_variable += np.count_nonzero(stars.is_variable)
    assert 0.85 < np.std(np.concatenate(pulls)) < 1.15
    assert n_variable == 0

"""Places of detectors and attitudes of exposures, by the attitudes of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.attitudes import attitude_of
from skylake.core.rotations import rotation_matrix, rotation_vector
from skylake.core.sphere import ARCSEC_PER_RADIAN
from skylake.image.distortion.focal_plane import Orientations, attitude_from, exposures_of, fit_focal_plane

Floats = npt.NDArray[np.float64]
CHIPS, EXPOSURES = 4, 30
#: Standard errors of a frame: 0.05 arcsec of its direction, 10 arcsec of its angle.
SIGMA = np.array([0.05, 0.05, 10.0]) / ARCSEC_PER_RADIAN
CORNERS = np.array([(-1000.0, -1000.0), (1000.0, -1000.0), (-1000.0, 1000.0), (1000.0, 1000.0)])


@dataclass
class Sky:
    """Frames of a mosaic with true places and attitudes, and the places that the profile shows."""

    frames: Orientations
    places: Floats
    attitudes: Floats
    start: Floats


def turned_by(matrices: Floats, random: np.random.Generator, sigma: npt.ArrayLike) -> Floats:
    turns = random.normal(0.0, 1.0, (len(matrices), 3)) * sigma
    return np.array([rotation_matrix(turn) @ one for turn, one in zip(turns, matrices, strict=True)])


def mosaic(seed: int, scatter: npt.ArrayLike = 0.0) -> Sky:
    random = np.random.default_rng(seed)
    start = np.array(
        [rotation_matrix([y / ARCSEC_PER_RADIAN, x / ARCSEC_PER_RADIAN, 0.0]) for x, y in CORNERS]
    )
    # The profile is wrong by half a minute of arc and half a degree, chip by chip.
    places = turned_by(start, random, np.array([30.0, 30.0, 1800.0]) / ARCSEC_PER_RADIAN)
    attitudes = np.array(
        [attitude_of(*place) for place in random.uniform((0, -85, 0), (360, 85, 360), (EXPOSURES, 3))]
    )
    exposure = np.repeat(np.arange(EXPOSURES), CHIPS)
    chip = np.tile(np.arange(CHIPS), EXPOSURES)
    true = places[chip] @ attitudes[exposure]
    measured = turned_by(true, random, np.hypot(SIGMA, scatter))
    return Sky(
        Orientations(exposure, chip, measured, np.tile(SIGMA, (len(chip), 1))), places, attitudes, start
    )


def gauged(places: Floats, start: Floats) -> Floats:
    """Places turned so that their mean is that of the start, to first order as often as needed."""
    for _ in range(9):
        mean = np.mean([rotation_vector(a.T @ b) for a, b in zip(start, places, strict=True)], axis=0)
        places = places @ rotation_matrix(-mean)
    return places


def pulls_of(sky: Sky) -> Floats:
    found = fit_focal_plane(sky.frames, sky.start, EXPOSURES)
    true = gauged(sky.places, sky.start)
    off = np.array([rotation_vector(a @ b.T) for a, b in zip(found.places, true, strict=True)])
    return off / np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))


@pytest.mark.parametrize("scatter", [0.0, 2.0])
def test_places_are_right_within_their_errors(scatter: float) -> None:
    pulls = np.concatenate([pulls_of(mosaic(seed, scatter * SIGMA)).ravel() for seed in range(24)])
    assert abs(pulls.mean()) < 0.2 and 0.8 < pulls.std() < 1.25
    assert np.abs(pulls).max() < 4.5


def test_scatter_beyond_the_errors_is_reported() -> None:
    sky = mosaic(1, 2.0 * SIGMA)
    found = fit_focal_plane(sky.frames, sky.start, EXPOSURES)
    assert found.scatter[0] == pytest.approx(2.0 * SIGMA[0], rel=0.25)
    assert found.scatter[1] == pytest.approx(2.0 * SIGMA[2], rel=0.35)
    exact = mosaic(1)
    assert fit_focal_plane(exact.frames, exact.start, EXPOSURES).scatter[0] < 0.6 * SIGMA[0]


def test_a_wrongly_solved_frame_has_no_weight() -> None:
    sky = mosaic(3)
    wrong = 41
    sky.frames.matrix[wrong] = rotation_matrix([1e-3, -2e-3, 0.01]) @ sky.frames.matrix[wrong]
    found = fit_focal_plane(sky.frames, sky.start, EXPOSURES)
    assert found.weights[wrong] == 0.0 and np.median(found.weights) > 0.8
    true = gauged(sky.places, sky.start)
    off = np.array([rotation_vector(a @ b.T) for a, b in zip(found.places, true, strict=True)])
    assert np.abs(off[:, :2]).max() * ARCSEC_PER_RADIAN < 0.06


def test_a_chip_without_siblings_has_no_place() -> None:
    sky = mosaic(4)
    few = (sky.frames.chip != 3) | (sky.frames.exposure > 25)
    alone = sky.frames.taken(few & ((sky.frames.exposure <= 25) | (sky.frames.chip == 3)))
    found = fit_focal_plane(alone, sky.start, EXPOSURES)
    assert np.isnan(found.covariance[3]).all() and np.isfinite(found.covariance[:3]).all()
    np.testing.assert_allclose(found.places[3], sky.start[3], atol=1e-3)


def test_siblings_give_the_attitude_within_its_error() -> None:
    pulls = []
    for seed in range(20):
        sky = mosaic(seed)
        here = sky.frames.taken((sky.frames.exposure == 5) & (sky.frames.chip != 2))
        attitude, covariance = attitude_from(here, sky.places, np.zeros((CHIPS, 3)), (0.0, 0.0))
        off = rotation_vector(attitude @ sky.attitudes[5].T)
        pulls.append(off / np.sqrt(np.diag(covariance)))
    # Chips far apart show the angle better than their own turns do.
    assert np.sqrt(covariance[2, 2]) * ARCSEC_PER_RADIAN < 8.0
    assert 0.75 < np.std(pulls) < 1.25


def test_frames_that_began_together_are_one_exposure() -> None:
    second = 1.0 / 86400.0
    mjd = [60000.0, 60000.0 + 0.2 * second, 60000.0 + 30 * second, 60000.0, 60000.0 + 30 * second]
    assert exposures_of(mjd, [0, 1, 1, 2, 0]).tolist() == [0, 0, 1, 0, 1]
    # The same chip twice is two exposures, however short.
    assert exposures_of([1.0, 1.0], [0, 0]).tolist() == [0, 1]


def test_unconnected_groups_of_chips_are_unknown_to_each_other() -> None:
    sky = mosaic(3)
    # Even exposures show chips 0 and 1 and odd ones 2 and 3, but some of the even ones are lost.
    pairs = (sky.frames.exposure % 2 == sky.frames.chip // 2) & ~np.isin(sky.frames.exposure, (0, 2))
    found = fit_focal_plane(sky.frames.taken(pairs), sky.start, EXPOSURES)
    known = np.isfinite(found.covariance).all(axis=(1, 2))
    assert known.tolist() == [False, False, True, True]
    # A single exposure of chips of both groups connects them.
    linked = pairs | ((sky.frames.exposure == 7) & np.isin(sky.frames.chip, (0, 2)))
    whole = fit_focal_plane(sky.frames.taken(linked), sky.start, EXPOSURES)
    assert np.isfinite(whole.covariance).all()
    # Then the two groups are known to each other as well as that exposure shows.
    off = rotation_vector(whole.places[0] @ whole.places[2].T @ sky.places[2] @ sky.places[0].T)
    assert np.abs(off / np.hypot(SIGMA, SIGMA)).max() < 5.0

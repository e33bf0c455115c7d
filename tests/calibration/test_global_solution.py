"""The global solution: recovered truth with honest errors, and laws that hold whatever the sky does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from skylake.calibration.frame_solution import CameraResponse, solve_frames
from skylake.calibration.global_observations import GlobalOptions, Observations, References
from skylake.calibration.global_solution import GlobalSolution, solve_globally
from skylake.core.position_terms import position_offset

FLOOR, SCALE = 0.003, 1.2
OPTIONS = GlobalOptions(illumination_degree=2, frame_degree=1)


@dataclass(frozen=True)
class Sky:
    """Simulated observations and the truth behind them."""

    observations: Observations
    references: References
    natural: np.ndarray
    zeropoint: np.ndarray
    clear: np.ndarray
    illumination: np.ndarray
    colour_term: float
    extinction: np.ndarray


def sky(
    seed: int,
    n_stars: int = 600,
    n_frames: int = 200,
    false: float = 0.01,
    catalog_error: float = 0.05,
    extinction: float = 0.0,
    turns: bool = True,
) -> Sky:
    """Frames of one unit at random places of a patch of three by three, a quarter of them cloudy with gradients.

    Half of them are taken upside down, as beyond the meridian, unless the camera never turns.
    """
    rng = np.random.default_rng(seed)
    place = rng.uniform(0.0, 3.0, (n_stars, 2))
    magnitude, colour = rng.uniform(8.0, 13.0, n_stars), rng.normal(0.0, 0.45, n_stars)
    natural = magnitude - 0.11 * colour
    clear = rng.random(n_frames) > 0.25
    zeropoint = 20.0 + rng.normal(0.0, 0.02, n_frames) - np.where(clear, 0.0, rng.uniform(0.1, 1.0, n_frames))
    slope = np.where(clear[:, None], 0.0, rng.normal(0.0, 0.03, (n_frames, 2)))
    illumination = np.array([0.02, -0.01, 0.03, 0.015, -0.025])
    night = np.sort(rng.integers(0, 5, n_frames))
    k = rng.normal(extinction, 0.1 * extinction, 5)
    rows = []
    for f in range(n_frames):
        way = rng.choice([-1.0, 1.0]) if turns else 1.0
        u, v = (2.0 * way * (place - rng.uniform(0.5, 2.5, 2))).T
        star = np.flatnonzero((np.abs(u) < 1.0) & (np.abs(v) < 1.0))
        angle = rng.uniform(0.0, 6.3)
        airmass = np.cos(angle) * u[star] + np.sin(angle) * v[star]
        rows.append((np.full(len(star), f), star, u[star], v[star], airmass))
    frame, star, u, v, airmass = (np.concatenate(column) for column in zip(*rows, strict=True))
    error = 0.003 * 10 ** (0.2 * (magnitude[star] - 9.0))
    measured = natural[star] - zeropoint[frame] - position_offset(illumination, u, v)
    measured += k[night[frame]] * airmass - slope[frame, 0] * u - slope[frame, 1] * v
    measured += np.hypot(SCALE * error, FLOOR) * rng.normal(size=len(star))
    bad = rng.random(len(star)) < false
    measured[bad] += rng.normal(0.0, 0.7, bad.sum())
    return Sky(
        Observations(
            frame, star, night[frame], measured, error, u, v, airmass if extinction else 0.0 * airmass
        ),
        References(
            magnitude + rng.normal(0.0, catalog_error, n_stars),
            np.full(n_stars, catalog_error),
            colour + rng.normal(0.0, 0.02, n_stars),
            np.full(n_stars, 0.02),
        ),
        natural,
        zeropoint,
        clear,
        illumination,
        0.11,
        k,
    )


def nothing_known(n_stars: int) -> References:
    """No references at all."""
    return References(*np.full((4, n_stars), np.nan))


def fixed_stars(case: Sky, solved: GlobalSolution) -> References:
    """The solved magnitudes as references for new frames."""
    return replace(case.references, magnitude=solved.stars.magnitude, error=solved.stars.error)


def taken(observations: Observations, rows: np.ndarray) -> Observations:
    """Return some of the observations, in the order of `rows`."""
    return Observations(*(getattr(observations, name)[rows] for name in Observations.__dataclass_fields__))


def natural_magnitudes(solution: GlobalSolution, references: References) -> np.ndarray:
    return solution.stars.magnitude - solution.camera.colour_term * np.nan_to_num(references.colour)


def seen(solution: GlobalSolution) -> np.ndarray:
    """Return which stars have a magnitude: some lie beyond the outermost frames, of a few all observations differ."""
    assert np.mean(solution.stars.n_used == 0) < 0.1
    return solution.stars.n_used > 0


def half_width(pulls: np.ndarray) -> float:
    """Return the half width that holds 68.3 % of the pulls."""
    return float(np.quantile(np.abs(pulls), 0.683))


def has_width_one(pulls: np.ndarray) -> bool:
    """Return whether the half width is 1 within four of its standard deviations, each 0.96 over the root of n."""
    return abs(half_width(pulls) - 1.0) < 4.0 / np.sqrt(len(pulls))


def common_off(values: np.ndarray) -> np.ndarray:
    """Return values without what is common to them, which is not in random errors."""
    return values - np.median(values)


@pytest.fixture(scope="module")
def case() -> Sky:
    return sky(1)


@pytest.fixture(scope="module")
def solved(case: Sky) -> GlobalSolution:
    return solve_globally(case.observations, case.references, OPTIONS)


def test_the_truth_is_recovered_with_the_errors_stated(case: Sky, solved: GlobalSolution) -> None:
    frames, stars, camera = solved.frames, solved.stars, solved.camera
    error = (frames.zeropoint - case.zeropoint)[case.clear]
    assert abs(np.median(error)) < 4.0 * solved.tie_error[0]
    assert has_width_one(common_off(error) / frames.zeropoint_error[case.clear])
    off = (natural_magnitudes(solved, case.references) - case.natural)[seen(solved)]
    assert has_width_one(common_off(off) / stars.error[seen(solved)])
    bright = (case.natural < 10.0) & (stars.n_used > 20)
    assert np.std(off[bright[seen(solved)]]) < 1.5e-3 < 0.1 * case.references.error[0]
    assert np.all(np.abs(camera.illumination - case.illumination) < 4.0 * camera.illumination_errors)
    assert abs(camera.colour_term - case.colour_term) < 4.0 * camera.colour_term_error
    assert camera.floor == pytest.approx(FLOOR, rel=0.2)
    assert camera.photon_scale == pytest.approx(SCALE, rel=0.05)


def test_a_slope_that_only_the_catalog_knows_is_in_all_errors() -> None:
    """A camera that never turns: slopes of illumination, magnitudes and zeropoints make each other good."""
    pulls = []
    for seed in range(4):
        case = sky(20 + seed, n_frames=120, turns=False)
        solved = solve_globally(case.observations, case.references, OPTIONS)
        pulls.append((solved.camera.illumination - case.illumination) / solved.camera.illumination_errors)
        assert np.all(
            solved.camera.illumination_errors[:2] > 3.0 * solved.camera.illumination_errors[2:].max()
        )
        # The catalog's 50 mmag, over the root of 600 stars and half a frame times the spread of places.
        assert solved.camera.illumination_errors[0] == pytest.approx(
            0.5 * 0.05 / np.sqrt(600 * 0.75), rel=0.2
        )
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.5


def test_gradients_are_fitted_where_there_are_clouds(case: Sky, solved: GlobalSolution) -> None:
    assert np.mean(solved.frames.degree[~case.clear] > 0) > 0.9
    assert np.mean(solved.frames.degree[case.clear] > 0) < 0.05
    assert np.all(solved.frames.terms[solved.frames.degree == 0] == 0.0)


def test_the_order_of_observations_does_not_matter(case: Sky, solved: GlobalSolution) -> None:
    order = np.random.default_rng(2).permutation(len(case.observations.frame))
    again = solve_globally(taken(case.observations, order), case.references, OPTIONS)
    np.testing.assert_array_equal(again.frames.zeropoint, solved.frames.zeropoint)
    np.testing.assert_array_equal(again.stars.magnitude, solved.stars.magnitude)
    np.testing.assert_array_equal(again.frames.weights, solved.frames.weights[order])


def test_a_constant_added_to_the_catalog_moves_all_magnitudes_by_it(
    case: Sky, solved: GlobalSolution
) -> None:
    moved = replace(case.references, magnitude=case.references.magnitude + 0.7)
    again = solve_globally(case.observations, moved, OPTIONS)
    moved_by = (again.stars.magnitude - solved.stars.magnitude)[seen(solved)]
    np.testing.assert_allclose(moved_by, 0.7, atol=1e-4)
    np.testing.assert_allclose(again.frames.zeropoint - solved.frames.zeropoint, 0.7, atol=1e-4)


def test_five_per_cent_of_false_matches_do_no_harm() -> None:
    case = sky(3, false=0.05)
    solved = solve_globally(case.observations, case.references, OPTIONS)
    error = (solved.frames.zeropoint - case.zeropoint)[case.clear]
    assert np.std(error) < 1.5e-3
    assert has_width_one(common_off(error) / solved.frames.zeropoint_error[case.clear])
    assert np.mean(solved.stars.is_variable) < 0.02


def test_extinction_is_recovered_per_night() -> None:
    case = sky(4, extinction=0.25)
    solved = solve_globally(case.observations, case.references, replace(OPTIONS, has_extinction=True))
    pulls = (solved.frames.extinction - case.extinction) / solved.frames.extinction_error
    assert np.all(np.abs(pulls) < 4.0)
    assert np.all(solved.frames.extinction_error < 0.002)


def test_a_variable_star_is_found_and_spoils_nothing(case: Sky) -> None:
    given = case.observations
    often_seen = np.bincount(given.star, minlength=len(case.natural)) > 20
    star = int(np.argmin(np.where(often_seen, case.natural, np.inf)))
    magnitude = given.magnitude.copy()
    rows = np.flatnonzero(given.star == star)
    magnitude[rows] += 0.3 * np.sin(np.arange(len(rows)))
    solved = solve_globally(replace(given, magnitude=magnitude), case.references, OPTIONS)
    assert solved.stars.is_variable[star]
    assert solved.stars.scatter[star] == pytest.approx(0.21, abs=0.08)
    assert solved.stars.chi2[star] > 100.0
    assert np.mean(solved.stars.is_variable) < 0.02
    assert np.std((solved.frames.zeropoint - case.zeropoint)[case.clear]) < 1.5e-3


def test_an_outburst_that_a_few_nights_show_is_found() -> None:
    """Nine frames of one night, and one of each of three others, on which a star is brighter by a magnitude."""
    rng = np.random.default_rng(6)
    frame, star = (one.ravel() for one in np.mgrid[:12, :300])
    night = np.array([0] * 9 + [1, 2, 3])[frame]
    magnitude, error = rng.uniform(8.0, 12.0, 300), np.full(len(frame), 0.01)
    measured = magnitude[star] - 20.0 + 0.01 * rng.normal(size=len(frame))
    false = rng.random(len(frame)) < 0.02
    measured[false] += rng.normal(0.0, 0.7, false.sum())
    measured[(star == 7) & (night > 0)] -= 1.0
    nothing = np.zeros(len(frame))
    references = References(magnitude, np.full(300, 0.05), np.zeros(300), np.zeros(300))
    options = GlobalOptions(illumination_degree=0, frame_degree=0)
    solved = solve_globally(
        Observations(frame, star, night, measured, error, nothing, nothing, nothing), references, options
    )
    assert solved.stars.is_variable[7] and solved.stars.is_variable.sum() <= 2
    assert solved.stars.magnitude[7] == pytest.approx(magnitude[7], abs=0.02)


def test_groups_without_common_stars_are_tied_each_by_its_own_stars(case: Sky) -> None:
    other = sky(5, n_frames=60)
    n_stars, n_frames = len(case.natural), len(case.zeropoint)
    second = other.observations
    both = Observations(
        *(
            np.concatenate([getattr(case.observations, name), getattr(second, name) + more])
            for name, more in zip(
                Observations.__dataclass_fields__,
                (n_frames, n_stars, 5, 0.3, 0.0, 0.0, 0.0, 0.0),
                strict=True,
            )
        )
    )  # the second group is 0.3 mag fainter on all its frames
    references = References(
        *(
            np.concatenate([getattr(case.references, name), getattr(other.references, name)])
            for name in References.__dataclass_fields__
        )
    )
    solved = solve_globally(both, references, OPTIONS)
    assert len(solved.tie_error) == 2
    assert set(solved.group_of_frame[:n_frames]) == {0} and set(solved.group_of_frame[n_frames:]) == {1}
    error = solved.frames.zeropoint - np.concatenate([case.zeropoint, other.zeropoint - 0.3])
    for group, clear in ((0, case.clear), (1, other.clear)):
        of_group = error[solved.group_of_frame == group][clear]
        assert abs(np.median(of_group)) < 4.0 * solved.tie_error[group]


def test_without_references_the_solution_is_relative(case: Sky) -> None:
    nobody = nothing_known(len(case.natural))
    solved = solve_globally(case.observations, nobody, OPTIONS)
    assert np.mean(solved.frames.zeropoint) == pytest.approx(0.0, abs=1e-6)
    assert np.all(np.isnan(solved.tie_error)) and np.all(np.isnan(solved.stars.systematic_error))
    off = (solved.frames.zeropoint - case.zeropoint)[case.clear]
    assert has_width_one(common_off(off) / solved.frames.zeropoint_error[case.clear])
    off = (solved.stars.magnitude - case.natural)[seen(solved)]
    assert has_width_one(common_off(off) / solved.stars.error[seen(solved)])


def test_stars_that_the_catalog_lacks_get_magnitudes_too(case: Sky) -> None:
    known = np.arange(len(case.natural)) % 10 == 0
    references = replace(case.references, magnitude=np.where(known, case.references.magnitude, np.nan))
    solved = solve_globally(case.observations, references, OPTIONS)
    off = natural_magnitudes(solved, references) - case.natural
    assert np.array_equal(np.isfinite(off), seen(solved))
    assert abs(np.nanmedian(off[~known])) < 4.0 * solved.tie_error[0]


def test_what_cannot_be_used_has_no_weight(case: Sky, solved: GlobalSolution) -> None:
    magnitude, error = case.observations.magnitude.copy(), case.observations.error.copy()
    magnitude[:50], error[50:80], error[80:90] = np.nan, 0.0, np.nan
    again = solve_globally(
        replace(case.observations, magnitude=magnitude, error=error), case.references, OPTIONS
    )
    assert np.all(again.frames.weights[:90] == 0.0)
    fine = slice(5, None)
    np.testing.assert_allclose(again.frames.zeropoint[fine], solved.frames.zeropoint[fine], atol=1e-3)


def lonely(case: Sky) -> tuple[Observations, References]:
    """A further frame with one star, which is the only one that sees another star; and a frame of NaN."""
    given, n_stars, n_frames = case.observations, len(case.natural), len(case.zeropoint)
    more = {"frame": [n_frames, n_frames + 1, 0], "star": [3, 3, n_stars], "night": [4, 4, 0]}
    more |= {"magnitude": [case.natural[3] - 19.0, np.nan, case.natural[0] - case.zeropoint[0]]}
    more |= {"error": [0.01] * 3, "u": [0.0] * 3, "v": [0.0] * 3, "airmass": [0.0] * 3}
    observations = Observations(
        *(np.append(getattr(given, name), more[name]) for name in Observations.__dataclass_fields__)
    )
    references = References(
        *(np.append(getattr(case.references, name), np.nan) for name in ("magnitude", "error", "colour")),
        np.append(case.references.colour_error, np.nan),
    )
    return observations, references


def test_a_star_seen_once_and_a_frame_with_one_star_or_none(case: Sky) -> None:
    observations, references = lonely(case)
    solved = solve_globally(observations, references, OPTIONS)
    frames, stars = solved.frames, solved.stars
    assert frames.zeropoint[-2] == pytest.approx(19.0, abs=5.0 * frames.zeropoint_error[-2])
    assert 0.01 < frames.zeropoint_error[-2] < 0.02
    assert np.isnan(frames.zeropoint[-1]) and np.isnan(frames.zeropoint_error[-1])
    assert solved.group_of_frame[-1] == -1
    assert stars.n_used[-1] == 1 and np.isnan(stars.chi2[-1]) and not stars.is_variable[-1]
    assert stars.error[-1] > 0.009
    assert abs(stars.magnitude[-1] - case.natural[0]) < 5.0 * stars.error[-1] + 4.0 * solved.tie_error[0]


def test_a_star_beyond_the_references_is_refused(case: Sky) -> None:
    with pytest.raises(ValueError, match="beyond the 10 stars given"):
        solve_globally(case.observations, nothing_known(10), OPTIONS)


def test_no_observations_give_an_empty_solution() -> None:
    nothing = np.zeros(0)
    integers = np.zeros(0, int)
    observations = Observations(integers, integers, integers, nothing, nothing, nothing, nothing, nothing)
    solved = solve_globally(observations, nothing_known(3), OPTIONS)
    assert len(solved.frames.zeropoint) == 0 and np.all(np.isnan(solved.stars.magnitude))


def test_new_frames_against_solved_stars_agree_with_the_whole(case: Sky, solved: GlobalSolution) -> None:
    new = solve_frames(case.observations, fixed_stars(case, solved), solved.camera, OPTIONS)
    good = case.clear
    difference = (new.zeropoint - solved.frames.zeropoint)[good]
    assert np.std(difference) < 0.5 * np.median(new.zeropoint_error[good])
    error = (new.zeropoint - case.zeropoint)[good]
    assert has_width_one(common_off(error) / new.zeropoint_error[good])


def test_new_frames_use_only_stars_with_a_magnitude(case: Sky, solved: GlobalSolution) -> None:
    stars = fixed_stars(case, solved)
    one_frame = taken(case.observations, np.flatnonzero(case.observations.frame == 0))
    unknown = replace(stars, magnitude=np.full(len(stars.magnitude), np.nan))
    assert np.isnan(solve_frames(one_frame, unknown, solved.camera, OPTIONS).zeropoint[0])


def test_frames_alone_find_extinction_too() -> None:
    case = sky(7, extinction=0.25)
    stars = References(
        case.natural,
        np.full(len(case.natural), 1e-4),
        np.zeros(len(case.natural)),
        np.zeros(len(case.natural)),
    )
    camera = CameraResponse(case.illumination, np.zeros(5), 0.0, 0.0, SCALE, FLOOR)
    found = solve_frames(case.observations, stars, camera, replace(OPTIONS, has_extinction=True))
    assert np.all(np.abs(found.extinction - case.extinction) < 4.0 * found.extinction_error)
    assert has_width_one(((found.zeropoint - case.zeropoint) / found.zeropoint_error)[case.clear])


def test_the_error_of_extinction_is_none_of_what_the_stars_of_a_frame_measure() -> None:
    """Far from the zenith a frame knows its stars better than the zenith; nights share the error of extinction."""
    rng = np.random.default_rng(11)
    n_nights, n_frames, n_stars, noise, k = 60, 5, 30, 0.03, 0.25
    frame, star = (one.ravel() for one in np.mgrid[: n_nights * n_frames, :n_stars])
    airmass = rng.uniform(0.3, 1.5, frame.size)
    magnitude, nothing = rng.uniform(3.0, 5.0, n_stars), np.zeros(n_stars)
    measured = magnitude[star] + k * airmass + noise * rng.normal(size=frame.size)
    place = rng.uniform(-1.0, 1.0, (2, frame.size))
    observations = Observations(
        frame, star, frame // n_frames, measured, np.full(frame.size, noise), *place, airmass
    )
    stars = References(magnitude, np.full(n_stars, 1e-4), nothing, nothing)
    camera = CameraResponse(np.zeros(0), np.zeros(0), 0.0, 0.0, 1.0, 0.0)
    options = GlobalOptions(illumination_degree=0, frame_degree=0, has_extinction=True)
    found = solve_frames(observations, stars, camera, options)
    night = np.arange(n_nights * n_frames) // n_frames
    mean = np.bincount(frame, airmass) / n_stars
    off = found.zeropoint - (found.extinction[night] - k) * mean
    assert 0.85 < np.std(off / found.error_at_stars) < 1.15
    assert 0.85 < np.std(found.zeropoint / found.zeropoint_error) < 1.15
    assert np.median(found.error_at_stars / found.zeropoint_error) < 0.8


def test_stars_that_claim_no_error_are_stars() -> None:
    rng = np.random.default_rng(3)
    frame, star = (one.ravel() for one in np.mgrid[:40, :40])
    magnitude, nothing = rng.uniform(8.0, 10.0, 40), np.zeros(40)
    measured = magnitude[star] - 20.0 + 0.002 * rng.normal(size=frame.size)
    error, place = np.full(frame.size, 0.002), np.zeros(frame.size)
    observations = Observations(frame, star, 0 * frame, measured, error, place, place, place)
    stated = np.where(np.arange(40) < 20, 0.0, 0.03)
    references = References(magnitude + rng.normal(0.0, stated), stated, nothing, nothing)
    found = solve_globally(observations, references, GlobalOptions(illumination_degree=0, frame_degree=0))
    assert np.abs(found.frames.zeropoint - 20.0).max() < 0.003
    assert np.nanmax(np.abs(found.stars.magnitude - magnitude)) < 0.003


def drifting_night(rng: np.random.Generator, illumination: np.ndarray) -> tuple[Observations, np.ndarray]:
    """A night over which a field of a few dozen stars drifts by a third of its width, and their magnitudes."""
    place, magnitude = rng.uniform([-1.33, -1.05], [1.33, 1.05], (58, 2)), rng.uniform(9.3, 13.3, 58)
    n_frames, rows = 100, []
    zeropoint = 20.0 + np.cumsum(rng.normal(0.0, 0.003, n_frames))
    for f in range(n_frames):
        u, v = (place + np.array([0.66, 0.07]) * (f / n_frames - 0.5) + rng.normal(0.0, 0.003, 2)).T
        star = np.flatnonzero((np.abs(u) < 1.0) & (np.abs(v) < 1.0))
        rows.append((np.full(len(star), f), star, u[star], v[star]))
    frame, star, u, v = (np.concatenate(column) for column in zip(*rows, strict=True))
    error = 0.002 * 10 ** (0.25 * (magnitude[star] - 9.3))
    measured = magnitude[star] - zeropoint[frame] - position_offset(illumination, u, v)
    measured += np.hypot(error, 0.0015) * rng.normal(size=len(star))
    nothing = np.zeros(len(frame), int)
    return Observations(frame, star, nothing, measured, error, u, v, nothing), magnitude


def test_stars_of_one_drifting_night_do_not_take_up_a_gradient_that_only_the_catalog_knows() -> None:
    """What no repeats know of the illumination is as large as the rest of it, and so are the errors of stars."""
    rng = np.random.default_rng(5)
    options = GlobalOptions(illumination_degree=2, frame_degree=1, illumination_error=0.1)
    errors, pulls = [], []
    for size in [0.003, 0.008, 0.02] * 7:
        observations, magnitude = drifting_night(rng, rng.normal(0.0, size, 5))
        catalog = magnitude + rng.normal(0.0, 0.12, 58)
        references = References(catalog, np.full(58, 0.12), np.zeros(58), np.zeros(58))
        stars = solve_globally(observations, references, options).stars
        known = stars.n_used > 2
        off = (stars.magnitude - magnitude)[known]
        # The mean is tied by the catalog, and its error is not that of single stars.
        off -= np.mean(off)
        pulls.append(np.mean((off / stars.error[known]) ** 2))
        errors.append(np.std(off) / size)
    # Stars took up what the catalog's 120 mmag leave of a gradient before, 24 mmag whatever the flat field is like.
    assert np.median(errors) < 1.3
    assert 0.8 < np.sqrt(np.mean(pulls)) < 1.2


def test_a_night_of_a_drifting_field_repeats_to_its_noise() -> None:
    """A few dozen stars that the catalog knows badly enter and leave; the curve of a constant star must not follow."""
    rng = np.random.default_rng(8)
    place, magnitude = rng.uniform(-1.4, 1.4, (80, 2)), rng.uniform(9.0, 13.0, 80)
    n_frames, rows = 142, []
    zeropoint = 20.0 + np.cumsum(rng.normal(0.0, 0.003, n_frames))
    for f in range(n_frames):
        u, v = (place + np.array([0.66 * (f / n_frames - 0.5), 0.2 * np.sin(f / 20)])).T
        star = np.flatnonzero((np.abs(u) < 1.0) & (np.abs(v) < 1.0))
        rows.append((np.full(len(star), f), star, u[star], v[star]))
    frame, star, u, v = (np.concatenate(column) for column in zip(*rows, strict=True))
    error = 0.0015 * 10 ** (0.25 * (magnitude[star] - 9.0))
    sigma = np.hypot(error, FLOOR)
    measured = magnitude[star] - zeropoint[frame] + sigma * rng.normal(size=len(star))
    nothing = np.zeros(len(frame), int)
    observations = Observations(frame, star, nothing, measured, error, u, v, nothing)
    references = References(
        magnitude + rng.normal(0.0, 0.12, 80), np.full(80, 0.05), np.zeros(80), np.zeros(80)
    )
    solved = solve_globally(observations, references, GlobalOptions(illumination_degree=0, frame_degree=0))
    curve = measured + solved.frames.zeropoint[frame]
    ratios = [
        np.std(curve[star == number]) / np.sqrt(np.mean(sigma[star == number] ** 2))
        for number in range(80)
        if np.count_nonzero(star == number) > 100
    ]
    assert np.median(ratios) < 1.1
    assert solved.catalog_scatter == pytest.approx(np.sqrt(0.12**2 - 0.05**2), rel=0.35)


@pytest.mark.parametrize("extinction", [0.0, 0.25])
def test_with_the_response_known_stars_and_frames_are_the_same(extinction: float) -> None:
    case = sky(7, n_stars=400, n_frames=100, extinction=extinction)
    options = replace(OPTIONS, has_extinction=extinction > 0.0)
    whole = solve_globally(case.observations, case.references, options)
    again = solve_globally(case.observations, case.references, options, whole.camera)
    np.testing.assert_array_equal(again.camera.illumination, whole.camera.illumination)
    assert again.camera.colour_term_error == whole.camera.colour_term_error
    off = (again.stars.magnitude - whole.stars.magnitude) / whole.stars.error
    # Of a star with two measurements that exclude each other either may win.
    assert np.nanquantile(np.abs(off - np.nanmedian(off)), 0.98) < 0.5
    # Without a scatter of the catalog that it would find, the tie is another one within its error.
    assert abs(np.nanmedian(again.stars.magnitude - whole.stars.magnitude)) < 0.5 * whole.tie_error[0]
    assert np.nanmedian(again.stars.error / whole.stars.error) == pytest.approx(1.0, abs=0.15)
    off = (again.frames.zeropoint - whole.frames.zeropoint)[case.clear]
    assert half_width(off - np.median(off)) < 0.3 * np.median(whole.frames.zeropoint_error[case.clear])

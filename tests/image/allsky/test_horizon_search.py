import signal
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
from skylists import SkyListParams, draw_fisheye, draw_list, draw_real_lens, draw_twilight

from skylake.core.camera import Site
from skylake.core.horizon import Horizon
from skylake.core.sphere import ra_dec
from skylake.errors import FrameRejected
from skylake.image.allsky.horizon_search import SearchParams, SkyStars, search, tilt_deg
from skylake.image.allsky.refine_geometry import DetectedPlaces, united
from skylake.image.allsky.solve_allsky import solve_all_sky
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.image.wcs.lens import Lens
from skylake.simulate.whole_sky import Fisheye, draw_stars

SHAPE = (1040, 1392)
SITE = Site("", -17.9, 28.8, 2200.0)
MJD = 58347.04
ICRS, MAG = draw_stars(np.random.default_rng(11))
STARS = CatalogStars(*ra_dec(ICRS), MAG)
GRID = np.random.default_rng(5).normal(size=(4000, 3))
GRID /= np.linalg.norm(GRID, axis=1, keepdims=True)
GRID = GRID[GRID[:, 2] > np.sin(np.radians(15.0))]


@dataclass
class Scene:
    fisheye: Fisheye
    horizon: Horizon
    detected: DetectedPlaces

    def worst_and_rms(self, lens):
        truth = self.fisheye.to_pixels(GRID)
        x, y = truth.T
        inside = (x > 0) & (x < SHAPE[1] - 1) & (y > 0) & (y < SHAPE[0] - 1)
        off = np.hypot(*(np.stack(lens.to_pixels(GRID), axis=1) - truth)[inside].T)
        return off.max(), np.sqrt(np.mean(off**2))


def draw(seed, site=SITE, mjd=MJD, fisheye=None, **params):
    random = np.random.default_rng(seed)
    fisheye = fisheye or draw_fisheye(random, SHAPE)
    horizon = Horizon.of(mjd, site)
    places, flux = draw_list(random, fisheye, SHAPE, horizon.to_horizon(ICRS), MAG, SkyListParams(**params))
    return Scene(fisheye, horizon, DetectedPlaces(places, np.full(len(flux), 0.25), flux))


def solve(scene, horizon=None):
    # The drawn stars are points, which neighbours do not move.
    return solve_all_sky(scene.detected, SHAPE, 0.01, STARS, horizon or scene.horizon)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_real_lens_is_found_in_twilight_and_moonlight(seed):
    random = np.random.default_rng([3, seed])
    fisheye, bright = draw_real_lens(random, SHAPE), draw_twilight(random)
    bright = replace(bright, n_flares=120, n_lights=120, n_planets=3)
    scene = draw([4, seed], fisheye=fisheye, limit_mag=4.8, cloud_mag=0.0, twilight=bright)
    assert 300 < len(scene.detected.flux) < 900
    solution = solve(scene)
    assert scene.worst_and_rms(solution.view.lens)[1] < 0.3
    with pytest.raises(FrameRejected, match="not recognised"):
        solve(scene, Horizon.of(MJD + 3.0 / 24.0, SITE))


def test_directions_of_pixels_lead_back_to_them():
    fisheye = Fisheye("equisolid", 400.0, (650.0, 560.0), 185.0, 15.0, 200.0, 77.0, True, bend=-0.03)
    x, y = np.random.default_rng(1).uniform(300.0, 800.0, (2, 50))
    np.testing.assert_allclose(fisheye.to_pixels(fisheye.to_directions(x, y)).T, [x, y], atol=0.02)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_any_fisheye_is_found_from_site_and_time(seed):
    scene = draw(seed, n_trees=100)
    solution = solve(scene)
    worst, rms = scene.worst_and_rms(solution.view.lens)
    assert rms < 0.1
    assert worst < 0.5
    assert solution.view.lens.mirrored == scene.fisheye.mirrored
    assert solution.tilt_deg == pytest.approx(scene.fisheye.tilt_deg, abs=0.2)
    assert solution.log_odds > 100.0


def test_the_greatest_tilt_under_clouds_is_found():
    fisheye = Fisheye("equisolid", 400.0, (650.0, 560.0), 185.0, 15.0, 200.0, 77.0, True, (0.003, -0.002))
    scene = draw(3, fisheye=fisheye, cloud_mag=4.0)
    assert scene.worst_and_rms(solve(scene).view.lens)[1] < 0.1


def test_figures_of_a_solution_are_those_of_its_noise():
    solution = solve(draw(4, n_spurious=0, missing=0.0, cloud_mag=0.0))
    assert solution.rms_px == pytest.approx(0.25 * np.sqrt(2.0), rel=0.15)
    assert solution.held_out_px == pytest.approx(solution.rms_px, rel=0.1)
    assert solution.n_found >= 0.95 * solution.n_expected
    assert solution.residuals.altitude_deg.min() > 4.0
    figures = solution.report()
    assert figures["n_matched"] == len(solution.residuals.x)
    assert figures["focal_px"] == solution.view.lens.focal_px


@pytest.mark.slow
@pytest.mark.parametrize("kind", [1, 2])
def test_random_points_are_no_sky(kind):
    random = np.random.default_rng(kind)
    places = random.uniform(0.0, 1.0, (900, 2)) * [SHAPE[1] - 1, SHAPE[0] - 1]
    if kind == 1:
        places[:400] = random.uniform(300.0, 800.0, (8, 2))[random.integers(8, size=400)]
        places[:400] += random.normal(0.0, 25.0, (400, 2))
    elif kind == 2:
        places[:, 0] = np.where(random.random(900) < 0.5, random.integers(5, size=900) * 200.0, places[:, 0])
    directions = Horizon.of(MJD, SITE).to_horizon(ICRS)
    found = search(places, random.pareto(1.0, 900), SHAPE, SkyStars(directions, MAG), SearchParams())
    assert found.lens is None
    assert found.log_odds < 12.0
    assert "log odds" in found.reason


@pytest.mark.slow
@pytest.mark.parametrize(("hours", "latitude"), [(5.0, 28.8), (0.0, -20.0)], ids=["5 hours", "40 degrees"])
def test_a_wrong_time_or_site_is_refused(hours, latitude):
    scene = draw(5)
    wrong = Horizon.of(MJD + hours / 24.0, Site("", SITE.longitude_deg, latitude, 0.0))
    with pytest.raises(FrameRejected, match="wrong") as refused:
        solve(scene, wrong)
    assert refused.value.reason == "no_wcs"


def test_a_turn_known_by_tilt_alone_names_possible_errors():
    params = SearchParams(max_tilt_deg=0.1)
    scene = draw(5)
    with pytest.raises(FrameRejected, match=r"axis would be .* the time or the site is wrong") as refused:
        solve_all_sky(scene.detected, SHAPE, 2.5, STARS, Horizon.of(MJD, SITE), params)
    assert "site.longitude_deg (east positive)" in str(refused.value)
    assert "max_" not in str(refused.value)


def test_a_frame_of_clouds_is_refused_at_once():
    places = np.random.default_rng(0).uniform(0.0, 1000.0, (12, 2))
    with pytest.raises(FrameRejected, match="12 detections"):
        solve_all_sky(
            DetectedPlaces(places, np.ones(12), np.ones(12)), SHAPE, 2.5, STARS, Horizon.of(MJD, SITE)
        )


def test_a_known_geometry_needs_no_search():
    scene = draw(6)
    before = solve(scene)
    again = solve_all_sky(scene.detected, SHAPE, 0.01, STARS, scene.horizon, known=before.view.lens)
    assert np.isnan(again.log_odds)
    assert again.seconds == 0.0
    assert again.refine_seconds > 0.0
    assert scene.worst_and_rms(again.view.lens)[1] < 0.1


def test_seconds_are_those_of_the_processor():
    """A process that sleeps amid the search, or waits for another, has worked no longer."""
    scene, slept = draw(6), []

    def sleep(*_):
        slept.append(True)
        time.sleep(0.5)

    before = signal.signal(signal.SIGALRM, sleep)
    began = time.thread_time()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        solution = solve(scene)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert slept
    assert solution.seconds > 0.0
    assert solution.refine_seconds > 0.0
    assert solution.seconds + solution.refine_seconds <= time.thread_time() - began


def test_close_stars_are_united_where_their_light_is():
    lens = Lens.aimed([0.0, 0.0, 1.0], [0.0, 1.0, 0.0], 400.0, (500.0, 500.0), "equidistant")
    step = 0.5 / 400.0
    directions = np.array([[0.0, 0.0, 1.0], [step, 0.0, 1.0], [0.5, 0.0, 0.75**0.5]])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found = united(SkyStars(directions, np.array([3.0, 3.0, 4.0])), lens, 2.5)
    assert len(found) == 2
    # Of equal stars half a pixel apart the light is between them; the window takes a little from the other.
    x, _ = lens.to_pixels(found.directions[0])
    assert abs(x - 499.75) < 0.03
    assert found.mag[0] == pytest.approx(3.0 - 2.5 * np.log10(2.0), abs=0.1)
    assert found.mag[1] == pytest.approx(4.0)
    assert np.allclose(found.directions[1], directions[2])


def test_tilt_is_the_angle_to_the_zenith():
    axis = [np.sin(0.1), 0.0, np.cos(0.1)]
    lens = Lens.aimed(axis, [0.0, 1.0, 0.0], 400.0, (500.0, 500.0), "equidistant")
    assert tilt_deg(lens) == pytest.approx(np.degrees(0.1))

from dataclasses import replace

import numpy as np
import pytest

from skylake.core.camera import Site
from skylake.core.horizon import Horizon
from skylake.image.allsky import SkyStars
from skylake.image.allsky_refine import Detected
from skylake.image.geometry import Geometry, in_force, night_geometry, recorded
from skylake.image.lens import Lens
from skylake.simulate.wholesky import Fisheye, SkyListParams, draw_list, draw_stars

SHAPE = (1040, 1392)
SITE = Site("", -17.9, 28.8, 2200.0)
ICRS, MAG = draw_stars(np.random.default_rng(11))
FISHEYE = Fisheye("equidistant", 330.0, (700.0, 520.0), 180.0, 2.0, 40.0, 0.0, False, (0.002, -0.001))
NEAR = Lens.aimed(
    [np.sin(0.035) * np.sin(0.7), np.sin(0.035) * np.cos(0.7), np.cos(0.035)],
    [0.0, 1.0, 0.0], 330.0, (700.0, 520.0), "equidistant",
)  # fmt: skip


def frames(times, clock_s=0.0, fisheye=FISHEYE, **params):
    found = []
    for seed, mjd in enumerate(times):
        shown = Horizon.of(mjd + clock_s / 86400.0, SITE).to_horizon(ICRS)
        random = np.random.default_rng(seed)
        places, flux = draw_list(random, fisheye, SHAPE, shown, MAG, SkyListParams(**params))
        stars = SkyStars(Horizon.of(mjd, SITE).to_horizon(ICRS), MAG)
        found.append((mjd, Detected(places, np.full(len(flux), 0.25), flux), stars))
    return found


def off_truth(lens):
    grid = np.random.default_rng(5).normal(size=(3000, 3))
    grid /= np.linalg.norm(grid, axis=1, keepdims=True)
    grid = grid[grid[:, 2] > np.sin(np.radians(15.0))]
    off = np.hypot(*(np.stack(lens.to_pixels(grid), axis=1) - FISHEYE.to_pixels(grid)).T)
    return np.sqrt(np.mean(off**2))


def test_a_night_tells_the_geometry_better_than_a_frame():
    times = 58347.0 + np.arange(6) / 24.0
    one = night_geometry(NEAR, frames(times[:1]), SHAPE, 0.01).geometry
    night = night_geometry(NEAR, frames(times), SHAPE, 0.01)
    whole = night.geometry
    assert off_truth(whole.lens) < 0.02
    assert off_truth(whole.lens) < 0.7 * off_truth(one.lens)
    assert (whole.n_frames, whole.first_mjd, whole.last_mjd) == (6, times[0], times[-1])
    assert whole.n_stars > 5 * one.n_stars
    assert whole.rms_px == pytest.approx(0.25 * 2.0**0.5, rel=0.1)
    assert whole.held_out_px == pytest.approx(whole.rms_px, rel=0.1)
    # Nothing turns but by chance: a tenth of a pixel is 60 arcsec.
    assert np.abs(night.turns_arcsec).max() < 60.0


def test_a_frame_whose_clock_is_wrong_is_told_by_its_turn():
    times = 58347.0 + np.arange(4) / 24.0
    wrong = frames(times[3:], clock_s=20.0)
    night = night_geometry(NEAR, frames(times[:3]) + wrong, SHAPE, 0.01)
    turned = np.linalg.norm(night.turns_arcsec, axis=1)
    # The sky turns by 15 arcsec a second; the others see some of it in the common lens.
    assert 150.0 < turned[3] < 320.0
    assert turned[:3].max() < 0.6 * turned[3]


def test_no_stars_are_no_geometry():
    ((mjd, seen, stars),) = frames([58347.0])
    nothing = Detected(seen.places[:5], seen.errors[:5], seen.flux[:5])
    assert night_geometry(NEAR, [(mjd, nothing, stars)], SHAPE, 0.01) is None


def epoch(first, last, lens=NEAR, n_stars=100):
    return Geometry(lens, SHAPE, first, last, 3, n_stars, 0.3, 0.31)


def test_nights_of_one_geometry_are_one_epoch():
    slightly = replace(NEAR, x0=NEAR.x0 + 0.1)
    epochs = recorded((), epoch(100.0, 100.4))
    epochs = recorded(epochs, epoch(101.0, 101.4, slightly, 500))
    assert [(one.first_mjd, one.last_mjd, one.n_stars) for one in epochs] == [(100.0, 101.4, 500)]
    assert epochs[0].lens == slightly


def test_a_camera_that_was_moved_begins_another_epoch():
    moved = replace(NEAR, x0=NEAR.x0 + 3.0)
    epochs = recorded((epoch(100.0, 104.4),), epoch(105.0, 105.4, moved))
    assert [one.lens for one in epochs] == [NEAR, moved]
    assert epochs[0].distance_px(moved) == pytest.approx(3.0, abs=1e-6)
    # A night between the two belongs to the one that it looks like.
    later = recorded(epochs, epoch(104.6, 104.9, moved))
    assert [(one.first_mjd, one.last_mjd) for one in later] == [(100.0, 104.4), (104.6, 105.4)]
    earlier = recorded(epochs, epoch(104.6, 104.9))
    assert [(one.first_mjd, one.last_mjd) for one in earlier] == [(100.0, 104.9), (105.0, 105.4)]


def test_an_instant_has_the_geometry_of_its_epoch_or_the_nearest():
    epochs = epoch(100.0, 104.0), epoch(110.0, 114.0)
    assert in_force((), 100.0) is None
    wanted = {90.0: 0, 102.0: 0, 106.0: 0, 108.0: 1, 112.0: 1, 200.0: 1}
    assert {mjd: epochs.index(in_force(epochs, mjd)) for mjd in wanted} == wanted

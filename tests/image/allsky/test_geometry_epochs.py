from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skylists import SkyListParams, draw_list

from skylake.core.camera import Site
from skylake.core.horizon import Horizon, horizontal_vectors
from skylake.image.allsky.geometry_epochs import (
    CHANGED_PX,
    Geometry,
    in_force,
    newest,
    night_geometry,
    recorded,
)
from skylake.image.allsky.horizon_search import SkyStars
from skylake.image.allsky.refine_geometry import DetectedPlaces
from skylake.image.wcs.lens import Lens
from skylake.simulate.whole_sky import Fisheye, draw_stars

SHAPE = (1040, 1392)
SITE = Site("", -17.9, 28.8, 2200.0)
ICRS, MAG = draw_stars(np.random.default_rng(11))
FISHEYE = Fisheye("equidistant", 330.0, (700.0, 520.0), 180.0, 2.0, 40.0, 0.0, False, (0.002, -0.001))
NEAR = Lens.aimed(
    [np.sin(0.035) * np.sin(0.7), np.sin(0.035) * np.cos(0.7), np.cos(0.035)],
    [0.0, 1.0, 0.0], 330.0, (700.0, 520.0), "equidistant",
)  # fmt: skip


def frames(times, fisheye=FISHEYE, **params):
    found = []
    for seed, mjd in enumerate(times):
        shown = Horizon.of(mjd, SITE).to_horizon(ICRS)
        random = np.random.default_rng(seed)
        places, flux = draw_list(random, fisheye, SHAPE, shown, MAG, SkyListParams(**params))
        stars = SkyStars(Horizon.of(mjd, SITE).to_horizon(ICRS), MAG)
        found.append((mjd, DetectedPlaces(places, np.full(len(flux), 0.25), flux), stars))
    return found


def off_truth(lens):
    grid = np.random.default_rng(5).normal(size=(3000, 3))
    grid /= np.linalg.norm(grid, axis=1, keepdims=True)
    grid = grid[grid[:, 2] > np.sin(np.radians(15.0))]
    off = np.hypot(*(np.stack(lens.to_pixels(grid), axis=1) - FISHEYE.to_pixels(grid)).T)
    return np.sqrt(np.mean(off**2))


def test_a_night_shows_the_geometry_better_than_a_frame():
    times = 58347.0 + np.arange(6) / 24.0
    one = night_geometry(NEAR, frames(times[:1]), SHAPE, 0.01)
    whole = night_geometry(NEAR, frames(times), SHAPE, 0.01)
    assert off_truth(whole.lens) < 0.02
    assert off_truth(whole.lens) < 0.7 * off_truth(one.lens)
    assert (whole.n_frames, whole.first_mjd, whole.last_mjd) == (6, times[0], times[-1])
    assert whole.n_stars > 5 * one.n_stars
    assert whole.rms_px == pytest.approx(0.25 * 2.0**0.5, rel=0.1)
    assert whole.held_out_px == pytest.approx(whole.rms_px, rel=0.1)


def test_no_stars_are_no_geometry():
    ((mjd, seen, stars),) = frames([58347.0])
    nothing = DetectedPlaces(seen.places[:5], seen.errors[:5], seen.flux[:5])
    assert night_geometry(NEAR, [(mjd, nothing, stars)], SHAPE, 0.01) is None


def epoch(first, last, lens=NEAR, n_stars=100):
    return Geometry(lens, SHAPE, first, last, 3, n_stars, 0.3, 0.31)


def moved(pixels):
    return replace(NEAR, x0=NEAR.x0 + pixels)


def test_nights_of_one_geometry_are_one_epoch():
    known = recorded((), epoch(100.0, 100.4))
    name = known[0].name
    versions = recorded(known, epoch(101.0, 101.4, moved(0.1), 500))
    assert [(one.first_mjd, one.last_mjd, one.n_stars) for one in versions] == [
        (100.0, 101.4, 100), (100.0, 101.4, 500),
    ]  # fmt: skip
    assert [(one.number, one.version, one.lens) for one in versions] == [(1, 1, NEAR), (1, 2, moved(0.1))]
    assert versions[0].name == name
    # A night before the others, with no more stars, shows only that the epoch is older.
    older = recorded(versions, epoch(99.0, 99.4, moved(0.05), 10))
    assert [one.name for one in older] == [one.name for one in versions]
    assert {one.first_mjd for one in older} == {99.0}


def test_a_camera_that_was_moved_begins_another_epoch():
    epochs = recorded(recorded((), epoch(100.0, 104.4)), epoch(105.0, 105.4, moved(3.0)))
    assert [(one.lens, one.number) for one in epochs] == [(NEAR, 1), (moved(3.0), 2)]
    assert epochs[0].distance_px(moved(3.0)) == pytest.approx(3.0, abs=1e-6)
    # A night between the two belongs to the one that it looks like.
    later = recorded(epochs, epoch(104.6, 104.9, moved(3.0)))
    assert [(one.first_mjd, one.last_mjd) for one in later] == [(100.0, 104.4), (104.6, 105.4)]
    earlier = recorded(epochs, epoch(104.6, 104.9))
    assert [(one.first_mjd, one.last_mjd) for one in earlier] == [(100.0, 104.9), (105.0, 105.4)]
    # Images of another size are of other epochs, and in nobody's way.
    small = replace(epoch(105.5, 105.9), shape=(520, 696))
    assert [one.number for one in recorded(recorded(epochs, small), epoch(106.0, 106.4, moved(3.0)))] == [
        1,
        2,
        3,
    ]


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.floats(-0.25, 0.25), st.integers(10, 1000)), min_size=2, max_size=15
    ),
    st.booleans(),
)
def test_names_never_dangle_and_small_steps_add_up(nights, creeps):
    """Whatever nights come, in whatever order: what a frame may have named is there and as it was."""
    versions, named, place = (), {}, 0.0
    for night, step, n_stars in nights:
        place = place + step if creeps else step
        versions = recorded(versions, epoch(100.0 + night, 100.4 + night, moved(place), n_stars))
        for one in versions:
            assert named.setdefault(one.name, one.lens) == one.lens
        assert set(named) == {one.name for one in versions}
        for number in {one.number for one in versions}:
            places = [one.lens.x0 for one in versions if one.number == number]
            assert max(places) - min(places) <= CHANGED_PX + 1e-6


def test_what_was_learned_anew_holds_no_more_and_keeps_its_name():
    held = recorded((), epoch(100.0, 104.4))
    retired = tuple(replace(one, retired=True) for one in held)
    assert newest(retired) == () and in_force(retired, 101.0) is None
    versions = recorded(retired, epoch(100.0, 104.4, moved(0.1)))
    assert [(one.number, one.retired) for one in versions] == [(1, True), (2, False)]
    assert in_force(versions, 101.0) == versions[1] and versions[0].name == held[0].name


@pytest.fixture(scope="module")
def short_nights():
    """Geometries of nights of two frames with some forty stars, which have errors of their own, like in both."""
    found = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        own = ICRS + random.normal(0.0, 0.3 / 330.0, ICRS.shape)
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        times = 58347.0 + 10.0 * seed + np.array([0.0, 1.0]) / 24.0
        scenes = [
            (mjd, seen, SkyStars(Horizon.of(mjd, SITE).to_horizon(own), MAG))
            for mjd, seen, _ in frames(times, limit_mag=3.3)
        ]
        found.append(night_geometry(NEAR, scenes, SHAPE, 0.01))
    return found


def test_the_error_of_a_geometry_is_what_it_is_off(short_nights):
    off = np.array([off_truth(one.lens) for one in short_nights])
    told = np.array([one.err_px for one in short_nights])
    assert 0.75 < np.sqrt(np.mean((off / told) ** 2)) < 1.25
    assert off.max() > 0.15


def test_nights_with_few_stars_are_no_moves_and_a_push_is_one(short_nights):
    first, *others = short_nights
    assert max(first.distance_px(one.lens) for one in others) > CHANGED_PX
    assert not any(first.moved(one) for one in others)
    versions = ()
    for one in short_nights:
        versions = recorded(versions, one)
    assert {one.number for one in versions} == {1}
    push = replace(first, lens=replace(first.lens, x0=first.lens.x0 + 2.0))
    assert all(one.moved(push) for one in short_nights)
    # Of what is known well, less is seen; but never less than what counts.
    sharp = epoch(100.0, 100.4)
    assert sharp.moved(epoch(101.0, 101.4, moved(0.31))) and not sharp.moved(epoch(101.0, 101.4, moved(0.29)))


def test_held_out_stars_are_held_out_of_all_frames():
    """A star that is off in the catalog is off in all frames of a night: half of them show it of the others."""
    told, new = [], []
    for seed in range(4):
        random = np.random.default_rng(seed)
        shift = random.normal(0.0, 0.4, (len(MAG), 2))
        scenes = []
        for mjd, _, stars in frames(58347.0 + 10.0 * seed + np.arange(12) / 400.0):
            up = np.flatnonzero((stars.directions[:, 2] > 0.3) & (stars.mag < 3.0))
            places = np.stack(NEAR.to_pixels(stars.directions[up]), axis=1) + shift[up]
            places += random.normal(0.0, 0.1, places.shape)
            scenes.append(
                (mjd, DetectedPlaces(places, np.full(len(up), 0.1), 10.0 ** (-0.4 * stars.mag[up])), stars)
            )
        found = night_geometry(NEAR, scenes, SHAPE, 0.01)
        grid = horizontal_vectors(
            *np.meshgrid(np.arange(20.0, 90.0, 5.0), np.arange(0.0, 360.0, 15.0))
        ).reshape(-1, 3)
        off = np.stack(found.lens.to_pixels(grid), axis=1) - np.stack(NEAR.to_pixels(grid), axis=1)
        told.append(found.held_out_px)
        new.append(np.sqrt(np.mean(np.sum(off**2, axis=1)) + 2.0 * (0.4**2 + 0.1**2)))
    assert np.mean(told) == pytest.approx(np.mean(new), rel=0.05)


def test_an_instant_has_the_nearest_geometry():
    epochs = recorded(recorded((), epoch(100.0, 104.0)), epoch(110.0, 114.0, moved(2.0)))
    assert in_force((), 100.0) is None
    wanted = {90.0: 0, 102.0: 0, 106.0: 0, 108.0: 1, 112.0: 1, 200.0: 1}
    assert {mjd: epochs.index(in_force(epochs, mjd)) for mjd in wanted} == wanted
    # Somebody leant on it for a day, and set it right.
    within = recorded(recorded(epochs, epoch(102.0, 102.4, moved(2.0))), epoch(103.0, 103.4))
    assert in_force(within, 102.2).number == 3 and in_force(within, 101.9).number == 1

"""Changes of the distortion of a camera, from simulated frames of which the truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from skylake.core.rotations import rotation_vector
from skylake.image.distortion.distortion_changes import (
    displacement,
    information_of,
    shows_change,
    shows_division,
)
from skylake.image.distortion.distortion_epochs import Epoch, epoch_at, in_force
from skylake.image.distortion.follow_camera import Follower, MatchedFrame, Origin, divided
from skylake.image.distortion.joint_fit import SHARED
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_fit import StarPairs

SHAPE = (768, 1024)
RHO = 0.5 * math.hypot(*SHAPE) / 2600.0
CAMERA = Lens((0.0, 0.0, 0.0), 2600.0, 519.0, 377.0, (0.02 / RHO**2, -0.012 / RHO**4, 0.0))
NOISE_PX = 0.1
ORIGIN = Origin(SHAPE, "stars", "1.0")


def changed(camera: Lens, corner_px: float) -> Lens:
    """The camera with another k1, which moves stars by so much in the corners when frames are pointed anew."""
    away = np.zeros(len(SHARED))
    away[SHARED.index(6)] = 1e-3
    step = 1e-3 * corner_px / displacement(camera, away, SHAPE)[1]
    return replace(camera, radial=(camera.radial[0] + step, *camera.radial[1:]))


def seen(camera: Lens, number: int, stars: int = 80) -> MatchedFrame:
    """A frame somewhere on the sky, one each day."""
    random = np.random.default_rng(number)
    turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
    lens = replace(
        camera,
        stretch=tuple(2e-4 * random.standard_normal(2)),
        rotation=rotation_vector(turn * np.linalg.det(turn)),
        focal_px=camera.focal_px * (1.0 + 2e-4 * random.standard_normal()),
    )
    x, y = random.uniform(-0.5, SHAPE[1] - 0.5, stars), random.uniform(-0.5, SHAPE[0] - 0.5, stars)
    off = NOISE_PX * random.standard_normal((2, stars))
    pairs = StarPairs(lens.to_vectors(x, y), x + off[0], y + off[1], np.full(stars, NOISE_PX))
    return MatchedFrame(number, 60000.0 + number, lens, pairs)


@pytest.fixture(scope="module")
def learned() -> Epoch:
    return ORIGIN.learn([seen(CAMERA, number) for number in range(16)])


def test_200_frames_without_a_change_are_one_epoch(learned: Epoch) -> None:
    follower = Follower(ORIGIN, learned)
    assert [follower.take(seen(CAMERA, number, 60)) for number in range(100, 300)] == [None] * 200
    assert [one.number for one in follower.epochs] == [1]
    assert follower.epochs[0].last_mjd == 60299.0 and follower.epochs[0].n_seen == 216


@pytest.mark.parametrize("corner_px", [0.3, -0.3])
def test_a_change_of_a_third_of_a_pixel_is_found_soon(learned: Epoch, corner_px: float) -> None:
    after, now = [], changed(CAMERA, corner_px)
    for trial in range(2):
        first = 1000 + 100 * trial
        follower = Follower(ORIGIN, learned)
        for number in range(first, first + 10):
            assert follower.take(seen(CAMERA, number)) is None
        for number in range(first + 10, first + 30):
            if follower.take(seen(now, number)) is not None:
                after.append(number - first - 9)
                break
        old, new = follower.epochs
        # When it began is known to two frames, and the epochs meet there.
        assert abs(new.valid_from - (60000.0 + first + 9.5)) <= 2.0
        assert old.valid_to == new.valid_from and new.number == 2
        assert "worst corner" in new.why
    assert len(after) == 2 and max(after) <= 6


def test_an_odd_frame_is_no_change(learned: Epoch) -> None:
    follower = Follower(ORIGIN, learned)
    for number in range(2000, 2020):
        camera = changed(CAMERA, 3.0) if number == 2010 else CAMERA
        assert follower.take(seen(camera, number)) is None


def test_first_frames_are_learned_from_until_a_change() -> None:
    follower, now = Follower(ORIGIN), changed(CAMERA, 1.0)
    for number in range(24):
        follower.take(seen(CAMERA if number < 8 else now, number))
    follower.finish()
    old, new = follower.epochs
    assert old.valid_from == -math.inf and new.valid_to == math.inf
    assert 60006.0 < new.valid_from < 60009.0
    for epoch, truth in ((old, CAMERA), (new, now)):
        away = (epoch.distortion.model.parameters() - truth.parameters())[SHARED]
        assert displacement(truth, away, SHAPE)[0] < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("first", [2, 3, 6, 9, 10, 11])
def test_a_change_among_the_first_frames_is_found_anywhere(first: int) -> None:
    follower, now = Follower(ORIGIN), changed(CAMERA, 1.0)
    for number in range(16):
        follower.take(seen(CAMERA if number < first else now, 5000 + 100 * first + number, 60))
    old, new = follower.epochs
    assert new.valid_from == 60000.0 + 5000 + 100 * first + first - 0.5
    assert (old.n_seen, new.n_seen) == (first, 16 - first) and old.distortion.n_frames == first
    assert "worst corner" in new.why and "epoch 1" in new.why
    for epoch, truth in ((old, CAMERA), (new, now)):
        away = (epoch.distortion.model.parameters() - truth.parameters())[SHARED]
        assert displacement(truth, away, SHAPE)[0] < 0.06


def test_two_frames_that_agree_show_a_change_and_one_does_not(
    learned: Epoch,
) -> None:
    known, now, counts = learned.distortion, changed(CAMERA, 0.3), [0, 0]
    for trial in range(12):
        first = 20000 + 2 * trial
        two = [
            information_of(known, one.lens, one.pairs, SHAPE)
            for one in (seen(now, first), seen(now, first + 1))
        ]
        counts[0] += shows_change(known, two, SHAPE)
        counts[1] += shows_division(known, two, SHAPE)
        usual = seen(CAMERA, first + 1)
        odd = [two[0], information_of(known, usual.lens, usual.pairs, SHAPE)]
        assert not shows_division(known, odd, SHAPE)
    # Each alone is often not enough.
    assert counts[1] >= 11 > counts[0]


def test_two_changes_among_the_first_frames_are_both_found() -> None:
    follower, cameras = Follower(ORIGIN), [CAMERA, changed(CAMERA, 1.0), changed(CAMERA, -1.0)]
    for number in range(12):
        follower.take(seen(cameras[number // 4], 7000 + number, 60))
    assert [one.n_seen for one in follower.epochs] == [4, 4, 4]
    assert [one.valid_from for one in follower.epochs[1:]] == [67003.5, 67007.5]


@pytest.mark.slow
@pytest.mark.parametrize(("odd", "corner_px"), [(0, 3.0), (1, 3.0), (6, 3.0), (11, 3.0), (0, 0.5), (1, 0.5)])
def test_an_odd_frame_among_the_first_ones_divides_nothing(odd: int, corner_px: float) -> None:
    frames = [seen(changed(CAMERA, corner_px) if n == odd else CAMERA, 8000 + n, 60) for n in range(12)]
    assert divided(frames, ORIGIN) == [frames]


def test_frames_of_one_distortion_are_not_divided() -> None:
    for trial in range(5):
        frames = [seen(CAMERA, 9000 + 100 * trial + number, 40 + 10 * trial) for number in range(12)]
        assert divided(frames, ORIGIN) == [frames]


def test_too_few_frames_say_nothing() -> None:
    follower = Follower(ORIGIN)
    for number in range(2):
        follower.take(seen(CAMERA, number))
    follower.finish()
    assert follower.epochs == []


def test_the_epoch_of_an_instant_is_its_newest_version(learned: Epoch) -> None:
    first = replace(learned, valid_to=60010.0)
    better, second = replace(first, version=2), replace(learned, number=2, valid_from=60010.0)
    epochs = [first, better, second]
    assert epoch_at(epochs, 60009.9, SHAPE) is better
    assert epoch_at(epochs, 60010.0, SHAPE) is second
    assert epoch_at(epochs, 60010.0, (10, 10)) is None
    assert in_force(epochs) == (better, second)
    anew = replace(learned, number=3)
    assert in_force([*epochs, anew]) == (anew,)


def test_the_name_of_an_epoch_depends_on_lens_not_attitude(learned: Epoch) -> None:
    model = learned.distortion.model
    turned = replace(learned.distortion, model=replace(model, rotation=(0.1, 0.2, 0.3)))
    other = replace(learned.distortion, model=replace(model, x0=model.x0 + 1e-3))
    assert replace(learned, distortion=turned, n_seen=99).name == learned.name
    assert replace(learned, distortion=other).name != learned.name
    assert replace(learned, version=2).name.startswith("1.2-")


def test_radial_terms_of_a_solver_are_those_of_the_lens(learned: Epoch) -> None:
    k1, k2 = learned.radial(SHAPE)
    half = 0.5 * math.hypot(*SHAPE)
    model = learned.distortion.model
    y = np.array([0.5, 0.8, 1.0]) * half * SHAPE[0] / (2.0 * half)
    x = np.array([0.5, 0.8, 1.0]) * half * SHAPE[1] / (2.0 * half)
    centre = model.to_vectors([0.5 * (SHAPE[1] - 1)], [0.5 * (SHAPE[0] - 1)])[0]
    seen_there = model.to_vectors(x + 0.5 * (SHAPE[1] - 1), y + 0.5 * (SHAPE[0] - 1))
    tangent = np.tan(np.arccos(seen_there @ centre)) * model.focal_px / half
    predicted = tangent * (1.0 + k1 * tangent**2 + k2 * tangent**4)
    # The centre of the image is not the axis, and the scale may be another.
    assert np.ptp(np.hypot(x, y) / half / predicted) < 0.003

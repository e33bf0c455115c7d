"""Where frames point that lie between others: drawn tracks, and how far from the truth their places are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from skylake.core.rotations import rotation_matrix
from skylake.core.sphere import unit_vectors
from skylake.image.distortion.camera_motion import stillest, to_ground
from skylake.image.solving.neighbour_frames import Neighbour, Neighbours
from skylake.image.wcs.lens import Lens

SHAPE = (256, 320)
FOCAL = 25783.0
START = 60310.1
MINUTE = 1.0 / 1440.0
BASE = Lens(
    Lens.aimed(unit_vectors(30.0, 20.0), unit_vectors(30.0, 80.0), FOCAL, (0, 0)).rotation,
    FOCAL,
    160.0,
    127.0,
)
#: Of a fit to many stars.
FIT_PX = 0.03
FIT_ERR_PX = 0.046


def turned(matrix: np.ndarray) -> Lens:
    return BASE.turned(BASE.matrix.T @ matrix)


def small_turn(random: np.random.Generator, px: float) -> np.ndarray:
    """A turn that moves places by so many pixels along x and y; about the axis it does not matter more."""
    return rotation_matrix(random.normal(0.0, px / FOCAL, 3) * [1.0, 1.0, 100.0])


def night(mount: str, wind_px: float, seed: int, n: int = 30) -> tuple[np.ndarray, list[Lens]]:
    """Times and true lenses of a night of one field."""
    random = np.random.default_rng(seed)
    mjd = START + MINUTE * np.arange(n)
    axis = random.normal(size=3) * 4e-4
    lenses = []
    for number, time in enumerate(mjd):
        matrix = BASE.matrix
        if mount == "ground":
            matrix = matrix @ to_ground(START, "horizon").T @ to_ground(time, "horizon")
        if mount == "turning":
            matrix = rotation_matrix(axis * number) @ matrix
        lenses.append(turned(small_turn(random, wind_px) @ matrix))
    return mjd, lenses


def known(mjd: np.ndarray, lenses: Sequence[Lens], lost: Sequence[int], seed: int = 0) -> Neighbours:
    """What the frames show that are not lost."""
    random = np.random.default_rng([seed, 7])
    fits = [turned(small_turn(random, FIT_PX) @ lens.matrix) for lens in lenses]
    return Neighbours.of(
        [Neighbour(i, mjd[i], fits[i], 50, FIT_ERR_PX) for i in range(len(mjd)) if i not in lost], SHAPE
    )


def distance_px(found: Lens, true: Lens) -> float:
    y, x = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, n - 1, 6) for n in SHAPE), indexing="ij"))
    there = true.to_pixels(found.to_vectors(x, y))
    return float(np.sqrt(np.mean((there[0] - x) ** 2 + (there[1] - y) ** 2)))


@pytest.mark.parametrize(("mount", "ground"), [("sky", "sky"), ("turning", "sky"), ("ground", "horizon")])
@pytest.mark.parametrize("wind_px", [0.0, 0.5])
def test_frames_between_others_are_as_far_off_as_is_said(mount: str, ground: str, wind_px: float) -> None:
    pulls, told = [], []
    for seed in range(20):
        mjd, lenses = night(mount, wind_px, seed)
        first, length = 5 + seed % 15, 1 + seed % 6
        lost = range(first, first + length)
        neighbours = known(mjd, lenses, lost, seed)
        assert neighbours.ground == ground and not any(neighbours.slewed)
        for number in lost:
            prior = neighbours.prior(mjd[number])
            if prior is not None and prior.between is not None:
                pulls.append(distance_px(prior.between.lens, lenses[number]) / prior.between.err_px)
                told.append(prior.between.err_px)
    # One in a thousand disagreements is chance, with some dozens of triples for each frame.
    assert len(pulls) >= 65
    assert 0.85 < np.sqrt(np.mean(np.square(pulls))) < 1.15
    assert max(pulls) < 4.5
    assert np.median(told) < 2.2 * np.hypot(np.sqrt(2.0) * wind_px * 1.25, FIT_PX * 1.5)


def test_nothing_lies_between_two_fields() -> None:
    mjd, lenses = night("sky", 0.1, 1)
    away = rotation_matrix([np.radians(1.3), 0.0, 0.0])
    lenses = [*lenses[:15], *(turned(away @ lens.matrix) for lens in lenses[15:])]
    neighbours = known(mjd, lenses, [14, 15, 16])
    assert neighbours.slewed.index(True) == 13 and sum(neighbours.slewed) == 1
    for number in (14, 15, 16):
        prior = neighbours.prior(mjd[number])
        assert prior is not None and prior.between is None
        # The nearer field is tried first, and the frame is in one of the two.
        off = [distance_px(lens, lenses[number]) < radius for lens, radius in prior.hints]
        assert off.count(True) == 1 and len(off) == 2
        assert off[0] == (number != 15)


def test_a_small_step_between_two_fields_is_seen() -> None:
    mjd, lenses = night("sky", 0.1, 2)
    away = rotation_matrix([8.0 / FOCAL, 0.0, 0.0])
    lenses = [*lenses[:15], *(turned(away @ lens.matrix) for lens in lenses[15:])]
    neighbours = known(mjd, lenses, [14, 15, 25])
    assert not any(neighbours.slewed)
    for number in (14, 15):
        prior = neighbours.prior(mjd[number])
        assert prior is not None and prior.between is None and len(prior.hints) == 2
    elsewhere = neighbours.prior(mjd[25])
    assert elsewhere is not None and elsewhere.between is not None


def test_frames_on_one_side_give_a_hint_and_no_place() -> None:
    mjd, lenses = night("ground", 0.1, 3)
    neighbours = known(mjd, lenses, [28, 29])
    prior = neighbours.prior(mjd[29])
    assert prior is not None and prior.between is None
    ((lens, radius),) = prior.hints
    assert distance_px(lens, lenses[29]) < 1.0 < radius
    assert prior.text.split()[:2] == ["27", "-"]
    assert neighbours.prior(mjd[29] + 0.2) is None


def fields(
    wind_px: float, drift_px: float, step_px: float, seed: int, n: int
) -> tuple[np.ndarray, list[Lens]]:
    """A night of fields of three frames; that in the middle has a step before its last frame."""
    random = np.random.default_rng(seed)
    mjd, lenses = [], []
    for number in range(n):
        matrix = rotation_matrix(np.radians([2.0 * number, 0.6 * number, 0.0])) @ BASE.matrix
        rate = drift_px * (1.0 + 0.1 * random.normal()) / FOCAL
        for frame in range(3):
            step = step_px / FOCAL if number == n // 2 and frame == 2 else 0.0
            moved = rotation_matrix([rate * frame + step, 0.3 * rate * frame, 0.0])
            lenses.append(turned(small_turn(random, wind_px) @ moved @ matrix))
            mjd.append(START + MINUTE * (4 * number + frame))
    return np.array(mjd), lenses


def between_two(
    wind_px: float, drift_px: float, step_px: float = 0.0, n: int = 8, gap: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """How far frames between two others are from their places, and the stated errors; without those not placed."""
    off, told = [], []
    for seed in range(24):
        mjd, lenses = fields(wind_px, drift_px, step_px, seed, n)
        lost = 3 * (n // 2) + 1
        mjd[lost + 1 :] += 2.0 * MINUTE * (gap - 1.0)
        mjd[lost] = 0.5 * (mjd[lost - 1] + mjd[lost + 1])
        prior = known(mjd, lenses, [lost], seed).prior(mjd[lost])
        assert prior is not None
        if prior.between is not None:
            off.append(distance_px(prior.between.lens, lenses[lost]))
            told.append(prior.between.err_px)
    return np.array(off), np.array(told)


@pytest.mark.parametrize("wind_px", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("drift_px", [0.0, 3.0])
def test_other_fields_show_how_well_two_frames_predict(wind_px: float, drift_px: float) -> None:
    off, told = between_two(wind_px, drift_px)
    assert len(off) >= 22
    assert 0.8 < np.sqrt(np.mean((off / told) ** 2)) < 1.2
    assert np.median(told) < 2.5 * np.hypot(wind_px, FIT_PX)


def test_a_step_or_a_pause_leaves_the_frame_between_alone() -> None:
    for wind_px, drift_px in ((0.1, 0.0), (0.5, 3.0)):
        assert len(between_two(wind_px, drift_px, step_px=8.0)[0]) == 0
    # Other frames of this night were predicted over two minutes.
    assert len(between_two(0.1, 0.0, gap=1.9)[0]) == 24 and len(between_two(0.1, 0.0, gap=2.1)[0]) == 0


@pytest.mark.parametrize(
    ("wind_px", "drift_px", "step_px", "low", "high"),
    [
        (1.0, 0.0, 0.0, 0.75, 1.3),
        (0.5, 0.0, 0.0, 0.6, 1.1),
        (0.1, 0.0, 8.0, 0.5, 0.7),
        (0.1, 3.0, 0.0, 0.0, 0.1),
    ],
)
def test_with_only_two_frames_their_distance_bounds_the_error(
    wind_px: float, drift_px: float, step_px: float, low: float, high: float
) -> None:
    off, told = between_two(wind_px, drift_px, step_px, n=1)
    assert len(off) == 24
    assert low < np.sqrt(np.mean((off / told) ** 2)) < high


def test_two_frames_far_apart_say_nothing_of_one_between() -> None:
    assert len(between_two(0.1, 0.0, step_px=21.0, n=1)[0]) == 0
    assert (
        len(between_two(0.1, 0.0, n=1, gap=5.1)[0]) == 0 and len(between_two(0.1, 0.0, n=1, gap=4.9)[0]) == 24
    )


def test_a_camera_on_the_ground_sees_the_sky_go_by() -> None:
    mjd, lenses = night("ground", 0.0, 5)
    axes = np.array([lens.axis for lens in lenses])
    assert np.degrees(np.arccos(axes[0] @ axes[-1])) > 6.0
    ground, slewed = stillest(mjd, axes)
    assert ground == "horizon" and not slewed.any()


def test_the_result_ignores_order_and_names_a_change() -> None:
    mjd, lenses = night("turning", 0.2, 6)
    neighbours = known(mjd, lenses, [10])
    backwards = Neighbours.of(neighbours.frames[::-1], SHAPE)
    one, two = neighbours.prior(mjd[10]), backwards.prior(mjd[10])
    fewer = Neighbours.of([one for one in neighbours.frames if one.frame_id != 12], SHAPE).prior(mjd[10])
    assert one is not None and two is not None and fewer is not None
    assert one == two and one.text.startswith("9 11 ")
    assert fewer.text != one.text

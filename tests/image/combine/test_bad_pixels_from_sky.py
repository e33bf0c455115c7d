"""Frames of the sky show bad pixels, and neither stars, be it the pole star, nor the edge of a roof pass for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from skylake.core.flags import PixelFlag
from skylake.core.reduction_settings import BadPixels
from skylake.image.combine.bad_pixels_from_sky import SkyMask, high_passed, sky_mask, steep_places
from skylake.image.combine.combine_frames import CombineOptions, combine_in_blocks, frame_noise
from skylake.simulate import Moffat, render

SHAPE, SKY, GAIN, READ_E, N_FRAMES, HOT_ADU = (200, 240), 500.0, 4.0, 5.0, 200, 10.0
#: Where the sky turns about, and how far all night; the pole star is three pixels off.
POLE, TURN = (130.0, 110.0), 1.8
CELL = np.array([[0.5, 1.0], [1.0, 0.35]])


@dataclass(frozen=True)
class Night:
    """The mask of a night, and what is true."""

    found: SkyMask
    hot: np.ndarray
    dead: np.ndarray
    jumping: np.ndarray

    def having(self, bit: PixelFlag) -> np.ndarray:
        return (self.found.mask & np.uint8(bit)) != 0


@cache
def night(turn: float = TURN, is_bayer: bool = False, n_frames: int = N_FRAMES) -> Night:
    random = np.random.default_rng(11)
    hot, dead, jumping = np.zeros((3, *SHAPE), bool)
    for plane, count in ((hot, 150), (dead, 20), (jumping, 20)):
        plane[random.integers(0, SHAPE[0], count), random.integers(0, SHAPE[1], count)] = True
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    is_sky = column + row > 45
    hot &= ~dead & ~jumping & is_sky
    dead &= is_sky
    jumping &= ~dead & is_sky
    distance, angle = 180.0 * np.sqrt(random.uniform(0.01, 1.0, 150)), random.uniform(0.0, 2.0 * np.pi, 150)
    flux = 10 ** random.uniform(2.5, 5.0, 150)
    distance[0], flux[0] = 3.0, 3e4
    light = np.tile(CELL, (SHAPE[0] // 2, SHAPE[1] // 2)) if is_bayer else np.ones(SHAPE)
    # A sky that is brighter below, and a roof with an edge that the sky does not have.
    shape = (1.0 + row / 400.0) * light * np.where(column + row < 30, 0.3, 1.0)
    frames, raw = [], []
    for number in range(n_frames):
        turned = angle + turn * number / n_frames
        stars = render(
            SHAPE, POLE[0] + distance * np.cos(turned), POLE[1] + distance * np.sin(turned), flux, Moffat(2.2)
        )
        electrons = ((SKY + 50.0 * np.sin(number / 30.0)) * shape + stars * light) * GAIN
        electrons[dead] *= 0.3
        pixels = (random.poisson(electrons) + random.normal(0.0, READ_E, SHAPE)) / GAIN
        pixels[hot] += HOT_ADU
        pixels[jumping] += 200.0 * (random.random(int(jumping.sum())) < 0.5)
        raw.append(pixels.astype(np.float32))
        frames.append(high_passed(raw[-1], is_bayer))
    options = CombineOptions(threshold=2.5, start="mode", constant=frame_noise(frames[:9]) ** 2)
    combined = combine_in_blocks(
        lambda start, end: np.stack([one[start:end] for one in frames]), len(frames), SHAPE, options
    )
    steep = steep_places((raw[0], raw[n_frames // 2], raw[-1]), is_bayer)
    found = sky_mask(combined, frames[n_frames // 2], steep, n_frames, BadPixels(), is_bayer)
    return Night(found, hot, dead, jumping)


@pytest.mark.slow
@pytest.mark.parametrize("is_bayer", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_bad_pixels_are_found_and_no_stars(is_bayer: bool) -> None:
    one = night(is_bayer=is_bayer)
    assert one.found.is_of_moving_stars
    assert one.having(PixelFlag.HOT)[one.hot].mean() >= 0.95
    # One or two of twenty are beside the pole star, or beside one another.
    assert one.having(PixelFlag.DEAD)[one.dead].mean() >= 0.85
    assert one.having(PixelFlag.UNSTABLE)[one.jumping].mean() >= 0.85
    # One in a hundred thousand is none of so few, the pole star among them.
    assert np.count_nonzero((one.found.mask != 0) & ~one.hot & ~one.dead & ~one.jumping) == 0


@pytest.mark.slow
def test_fixed_stars_are_named_and_left_out_of_the_mask() -> None:
    assert night(turn=0.0, n_frames=30).found.standing > 0.9
    assert not night(turn=0.0, n_frames=30).found.is_of_moving_stars
    assert night().found.standing < 0.1

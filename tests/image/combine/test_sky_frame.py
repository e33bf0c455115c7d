"""The running sky of a near-infrared camera, with sources that move from frame to frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skylake.core.frame import Image
from skylake.core.reduction_settings import SkyFrames
from skylake.errors import FrameFailed
from skylake.image.combine.sky_frame import (
    above_zero,
    combined_sky,
    source_mask,
    subtracted_sky,
    without_sources,
)
from skylake.simulate import Moffat, render

SHAPE = (160, 160)
NOISE = 10.0


def dithered(n_frames: int = 9) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray], list[float]]:
    """Frames whose sky has a pattern and another level in each, over stars that dither; pattern, stars, levels."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[0:1:160j, 0:1:160j]
    pattern = 1.0 + 0.2 * np.sin(5.0 * x) * y + random.normal(0.0, 0.02, SHAPE)
    pattern /= np.median(pattern)
    star_x, star_y = random.uniform(0, 160, (2, 25))
    flux = 10 ** random.uniform(3.5, 5.0, 25)
    frames, stars, levels = [], [], []
    for i in range(n_frames):
        dx, dy = random.uniform(-25, 25, 2)
        light = render(SHAPE, star_x + dx, star_y + dy, flux, Moffat(3.0))
        level = 3000.0 * (1.0 + 0.05 * np.sin(i))
        frames.append((level * pattern + light + random.normal(0.0, NOISE, SHAPE)).astype(np.float32))
        stars.append(light)
        levels.append(level)
    return frames, pattern, stars, levels


def test_the_sky_is_subtracted_and_stars_keep_their_flux() -> None:
    frames, _, stars, levels = dithered()
    params = SkyFrames(n_frames=8)
    here = 4
    others = [frame for number, frame in enumerate(frames) if number != here]
    first = combined_sky(others, [float(np.median(frame)) for frame in others], masked=False).mean
    clean = [without_sources(frame, first, params) for frame in others]
    sky = combined_sky(clean, [float(np.nanmedian(frame)) for frame in clean])
    image = Image(frames[here], np.zeros(SHAPE, np.uint8), (0, 0))
    left = frames[here] - subtracted_sky(image, sky).pixels
    empty = stars[here] < 0.5
    residual = left[empty]
    assert np.median(residual) == pytest.approx(0.0, abs=3.0)
    assert residual.std() < 1.25 * NOISE
    # Nothing of a star of another frame is left as a hole, as it is without masks.
    bright = np.max([one for number, one in enumerate(stars) if number != here], axis=0) > 300.0
    assert abs(left[bright & empty].mean()) < 2.0
    total = (left - stars[here])[~empty].sum() / stars[here][~empty].sum()
    assert abs(total) < 0.02
    assert levels[here] == pytest.approx(float(np.median(frames[here] - left)), rel=0.01)


def test_sources_are_masked_with_a_margin_and_noise_is_not() -> None:
    frames, pattern, stars, levels = dithered(3)
    mask = source_mask(frames[0], (levels[0] * pattern).astype(np.float32), SkyFrames())
    assert mask[stars[0] > 50.0].mean() > 0.98
    noise = np.random.default_rng(2).normal(100.0, 5.0, SHAPE).astype(np.float32)
    assert source_mask(noise, np.full(SHAPE, 100.0, np.float32), SkyFrames()).mean() < 0.05
    assert not source_mask(np.full(SHAPE, 7.0, np.float32), np.zeros(SHAPE, np.float32), SkyFrames()).any()


def test_a_pixel_always_under_sources_takes_the_sky_around() -> None:
    frames = [
        (level + 0.02 * level * np.mgrid[-80:80, -80:80][1]).astype(np.float32)
        for level in (40.0, 50.0, 60.0)
    ]
    expected = frames[1].copy()
    for frame in frames:
        frame[30:33, 120:123] = np.nan
    sky = subtracted_sky(flat_image(0.0, expected), combined_sky(frames, [40.0, 50.0, 60.0]))
    np.testing.assert_allclose(sky.pixels, expected, rtol=1e-3, atol=0.01)
    assert np.argwhere(sky.unknown).shape == (9, 2) and sky.unknown[30:33, 120:123].all()
    assert sky.level == pytest.approx(50.0, rel=0.03) and np.isfinite(sky.error).all()


def test_the_error_of_a_filled_sky_is_the_pixel_scatter() -> None:
    random = np.random.default_rng(6)
    unit = (1.0 + 0.05 * random.normal(size=SHAPE)).astype(np.float32)
    frames = [level * unit for level in (900.0, 1000.0, 1100.0)]
    hidden = random.random(SHAPE) < 0.02
    for frame in frames:
        frame[hidden] = np.nan
    sky = subtracted_sky(flat_image(0.0, 1000.0 * unit), combined_sky(frames, [900.0, 1000.0, 1100.0]))
    pulls = (1000.0 * unit - sky.pixels)[hidden] / sky.error[hidden]
    assert 0.9 < pulls.std() < 1.1 and sky.unknown[hidden].all()


def flat_image(level: float, more: Any = 0.0) -> Image:
    return Image((np.full(SHAPE, level) + more).astype(np.float32), np.zeros(SHAPE, np.uint8), (0, 0))


@pytest.mark.parametrize("level", [0.0, -20.0])
def test_a_frame_without_a_level_above_zero_is_reported(level: float) -> None:
    unit = combined_sky([np.ones(SHAPE, np.float32)] * 3, [1.0] * 3)
    with pytest.raises(FrameFailed, match=r"level of .* ADU before the step sky") as caught:
        subtracted_sky(flat_image(level), unit)
    assert caught.value.reason == "no_sky_frame"


def test_frames_whose_sky_is_next_to_nothing_show_no_pattern() -> None:
    assert above_zero([100.0, 90.0, 5.0, 0.0, -3.0, 110.0]) == [True, True, False, False, False, True]
    assert above_zero([0.0, -1.0]) == [False, False]


def test_the_error_of_the_sky_is_that_which_subtraction_leaves() -> None:
    random = np.random.default_rng(5)
    pattern = 1.0 + 0.1 * random.normal(size=SHAPE)

    def exposed(level: float) -> Any:
        return (level * pattern + random.normal(0.0, NOISE, SHAPE)).astype(np.float32)

    frames, here = [exposed(level) for level in (900.0, 1000.0, 1100.0)], flat_image(0.0, exposed(1050.0))
    levels = [float(np.median(frame)) for frame in frames]
    sky = subtracted_sky(here, combined_sky(frames, levels))
    pulls = (here.pixels - sky.pixels) / np.sqrt(NOISE**2 + sky.error**2)
    # The sky of three frames alone brings 15 % more noise.
    assert pulls.std() == pytest.approx(1.0, abs=0.04)

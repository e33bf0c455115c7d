"""The running sky of a near-infrared camera, with sources that move from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest

from skylake.core.camera import SkyFrames
from skylake.core.frame import Image
from skylake.image.skyframe import combined_sky, source_mask, subtracted_sky, without_sources
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


def test_the_sky_is_subtracted_to_the_noise_and_stars_keep_their_flux() -> None:
    frames, _, stars, levels = dithered()
    params = SkyFrames(n_frames=8)
    here = 4
    others = [frame for number, frame in enumerate(frames) if number != here]
    first = combined_sky(others, [float(np.median(frame)) for frame in others], masked=False)
    clean = [without_sources(frame, first, params) for frame in others]
    sky = combined_sky(clean, [float(np.nanmedian(frame)) for frame in clean])
    image = Image(frames[here], np.zeros(SHAPE, np.uint8), (0, 0))
    left = frames[here] - subtracted_sky(image, sky)
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


def test_a_pixel_that_has_a_source_in_all_frames_takes_the_median_sky() -> None:
    sky = np.ones(SHAPE, np.float32)
    sky[3, 4] = np.nan
    image = Image(np.full(SHAPE, 50.0, np.float32), np.zeros(SHAPE, np.uint8), (0, 0))
    np.testing.assert_allclose(subtracted_sky(image, sky), 50.0)

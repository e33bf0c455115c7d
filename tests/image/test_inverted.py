"""Frames whose stars are darker than the sky, and frames whose holes are none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.camera import Extraction
from skylake.core.frame import Image
from skylake.errors import FrameRejected
from skylake.image.background import estimate_background
from skylake.image.inverted import refuse_inverted
from skylake.simulate import Moffat, render

Pixels = npt.NDArray[np.float32]
SIDE, SKY, NOISE = 512, 1000.0, 10.0
ENGINES = [Extraction(), Extraction(engine="sep")]


def sky_of(seed: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(SKY, NOISE, (SIDE, SIDE))


def stars(seed: int, slope: float = 0.38) -> npt.NDArray[np.float64]:
    """Return the light of 300 stars whose number grows with magnitude as in the sky."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(10.0, SIDE - 10.0, (2, 300))
    magnitudes = np.log10(random.uniform(1e-3, 1.0, 300)) / slope
    return render((SIDE, SIDE), x, y, 300.0 * 10.0 ** (-0.4 * magnitudes), Moffat(2.5))


def dead(seed: int, side: int, even: bool) -> npt.NDArray[np.float64]:
    """Return what 200 blocks of dead pixels, or of those of which too much dark was taken off, lack."""
    random = np.random.default_rng(seed)
    lack = np.zeros((SIDE, SIDE))
    for y, x in random.integers(5, SIDE - 5, (200, 2)):
        lack[y : y + side, x : x + side] = SKY if even else random.exponential(200.0)
    return lack


def check(pixels: npt.NDArray[np.float64], parameters: Extraction, n_found: int) -> None:
    image = Image(pixels.astype(np.float32), np.zeros((SIDE, SIDE), np.uint8), (0.0, 0.0))
    background = estimate_background(image, parameters)
    refuse_inverted(image.pixels - background.level, background, image.mask, parameters, n_found)


@pytest.mark.parametrize("parameters", ENGINES, ids=["skylake", "sep"])
@pytest.mark.parametrize("seed", range(4))
def test_stars_that_are_darker_than_the_sky_are_no_stars(seed: int, parameters: Extraction) -> None:
    for pixels in (sky_of(seed) - stars(seed), -(sky_of(seed) + stars(seed))):
        with pytest.raises(FrameRejected, match=r"stars are darker than the sky and 3 brighter") as caught:
            check(pixels, parameters, 3)
        assert caught.value.reason == "inverted"


@pytest.mark.parametrize("parameters", ENGINES, ids=["skylake", "sep"])
@pytest.mark.parametrize("seed", range(4))
def test_clouds_over_a_bad_detector_are_clouds(seed: int, parameters: Extraction) -> None:
    for side in (1, 2, 3):
        for even in (True, False):
            check(sky_of(seed) - dead(seed, side, even), parameters, 0)
    check(sky_of(seed), parameters, 0)


@pytest.mark.parametrize("parameters", ENGINES, ids=["skylake", "sep"])
def test_a_frame_with_stars_is_none_whatever_lies_between_them(parameters: Extraction) -> None:
    check(sky_of(1) + stars(1), parameters, 0)
    check(sky_of(1) - stars(1), parameters, 100)

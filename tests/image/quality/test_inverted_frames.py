"""Frames whose stars are darker than the sky, and frames whose holes are none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.camera import Extraction
from skylake.core.frame import Image
from skylake.core.reasons import Reason
from skylake.errors import FrameRejected
from skylake.image.detection.background import estimate_background
from skylake.image.detection.detect_sources import detect_sources
from skylake.image.quality.inverted_frames import refuse_inverted
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


def verdict(
    pixels: npt.NDArray[np.float64], parameters: Extraction, n_found: int
) -> tuple[Reason | None, str, int]:
    """Return why a frame is refused, the sentence, and how many holes it has."""
    image = Image(pixels.astype(np.float32), np.zeros((SIDE, SIDE), np.uint8), (0.0, 0.0))
    background = estimate_background(image, parameters)
    signal = image.pixels - background.level
    try:
        n_holes = len(detect_sources(-signal, background.rms, image.mask, parameters).flux)
    except FrameRejected:
        n_holes = 0
    try:
        refuse_inverted(signal, background, image.mask, parameters, n_found)
    except FrameRejected as error:
        return error.reason, str(error), n_holes
    return None, "", n_holes


@pytest.mark.parametrize("parameters", ENGINES, ids=["skylake", "sep"])
@pytest.mark.parametrize("seed", range(4))
def test_stars_that_are_darker_than_the_sky_are_no_stars(seed: int, parameters: Extraction) -> None:
    for pixels in (sky_of(seed) - stars(seed), -(sky_of(seed) + stars(seed))):
        reason, sentence, n_holes = verdict(pixels, parameters, 3)
        assert reason == Reason.INVERTED
        assert f"{n_holes} stars are darker than the sky and 3 brighter" in sentence


@pytest.mark.parametrize("parameters", ENGINES, ids=["skylake", "sep"])
@pytest.mark.parametrize("seed", range(4))
def test_clouds_over_a_bad_detector_are_clouds(seed: int, parameters: Extraction) -> None:
    for side in (1, 2, 3):
        for even in (True, False):
            reason, _, n_holes = verdict(sky_of(seed) - dead(seed, side, even), parameters, 0)
            assert reason is None
            # There are enough of them, so that their depths show; but single pixels are too sharp for stars.
            assert n_holes > 50 or (side, even, parameters.engine) == (1, True, "skylake")
    assert verdict(sky_of(seed), parameters, 0)[0] is None


@pytest.mark.parametrize("parameters", ENGINES, ids=["skylake", "sep"])
def test_a_frame_with_stars_is_none_whatever_lies_between_them(parameters: Extraction) -> None:
    assert verdict(sky_of(1) + stars(1), parameters, 0)[0] is None
    holes = sky_of(1) - stars(1)
    assert verdict(holes, parameters, 9)[0] == Reason.INVERTED
    assert verdict(holes, parameters, 100)[0] is None

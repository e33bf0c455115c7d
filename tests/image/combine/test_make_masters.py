"""Single calibration frames are prepared: what they are worth, and at which level they are."""

from __future__ import annotations

import numpy as np
import pytest

from skylake.core.camera import Camera, Detector, ReductionSteps
from skylake.core.frame import RawImage
from skylake.errors import FrameFailed
from skylake.image.combine.combine_frames import combine
from skylake.image.combine.make_masters import Prepared, combine_options, median_level, normalised, prepare
from skylake.image.detrend.detrend_chain import Conditions

SHAPE, GAIN, LINEAR_ADU = (240, 320), 1.5, 40000.0
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
#: A lens that leaves 70 % of the light in the corners.
VIGNETTE = 1.0 - 0.3 * ((X - 159.5) ** 2 + (Y - 119.5) ** 2) / (159.5**2 + 119.5**2)


def flat_at(level: float, random: np.random.Generator, pattern: str | None = None) -> Prepared:
    """A flat whose middle has a level, of a detector that shows too little of light above its linear range."""
    light = level * VIGNETTE
    if pattern:
        light[1::2, 1::2] *= 0.5
    seen = random.poisson(light * GAIN) / GAIN
    seen = np.where(seen > LINEAR_ADU, LINEAR_ADU + 0.6 * (seen - LINEAR_ADU), seen)
    detector = Detector(linearity_adu=LINEAR_ADU, bayer_pattern=pattern)
    camera = Camera("lab", detector=detector, reduction=ReductionSteps(("flat",)))
    raw = RawImage(seen.astype(np.float32), {}, 0)
    return prepare(raw, camera, "flat", Conditions(saturation_adu=65000.0, gain=GAIN))


def test_flats_partly_above_the_linear_range_bend_nothing() -> None:
    random = np.random.default_rng(1)
    # Of the brighter three up to 40 % of the pixels are above the range.
    files = [flat_at(level, random) for level in (20000.0, 25000.0, 30000.0, 42000.0, 42500.0, 43000.0)]
    lost = [float(np.isnan(one.pixels).mean()) for one in files]
    assert max(lost[:3]) == 0.0 and min(lost[3:]) > 0.1
    stack = np.stack([normalised(one.pixels, one.levels) for one in files])
    made = combine(stack, combine_options("flat", list(stack), GAIN))
    ratio = made.mean / median_level(made.mean) / (VIGNETTE / np.median(VIGNETTE))
    radius = np.hypot(X - 159.5, Y - 119.5)
    assert np.median(ratio[radius < 50]) == pytest.approx(np.median(ratio[radius > 170]), abs=1e-3)
    for one, level in zip(files, (20000.0, 25000.0, 30000.0, 42000.0, 42500.0, 43000.0), strict=True):
        assert one.level == pytest.approx(level * np.median(VIGNETTE), rel=1e-3)


def test_a_flat_mostly_above_the_linear_range_is_refused() -> None:
    random = np.random.default_rng(2)
    with pytest.raises(FrameFailed, match=r"above detector\.linearity_adu") as caught:
        flat_at(48000.0, random)
    assert caught.value.reason == "bad_calibration"
    # One colour is not hidden behind the others.
    with pytest.raises(FrameFailed, match=r"above detector\.linearity_adu"):
        flat_at(48000.0, random, "RGGB")
    assert len(flat_at(39000.0, random, "RGGB").levels) == 4

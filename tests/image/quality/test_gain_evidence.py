"""A gain that the noise of stars contradicts is replaced by the one that pixels show, and no other is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skylake.cameras import Profile
from skylake.core.flags import FrameFlag
from skylake.core.frame import FileContent
from skylake.image.reduction.frame_record import ReducedFrame
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.simulate import Moffat, render

Reduce = Callable[..., ReducedFrame]
#: Of the fixtures: electrons per ADU.
GAIN = 2.0


@pytest.fixture(scope="module")
def reduce_pixels(
    fits_bytes: Callable[..., bytes], content_of: Callable[..., FileContent], profile: Profile
) -> Reduce:
    """A function that reduces pixels whose header states a gain."""

    def go(pixels: Any, gain: float) -> ReducedFrame:
        return reduce_frame(content_of(fits_bytes(np.asarray(pixels, ">f4"), GAIN=gain)), profile)

    return go


@pytest.fixture(scope="module")
def star_field(grid_field: Callable[..., Any]) -> Any:
    """Some hundred stars far from one another, to 400,000 ADU."""
    return grid_field(3, flux=(4e3, 4e5), step=30, shape=(480, 560), sky=700.0)


def snr(reduced: ReducedFrame) -> float:
    """Signal-to-noise ratio of the brightest star."""
    assert reduced.sources is not None
    flux = reduced.sources.flux["aper2"]
    return float((flux / reduced.sources.flux_err["aper2"])[np.nanargmax(flux)])


@pytest.mark.parametrize(("scale", "stated"), [(1.0, GAIN / 30.0), (1.0 / 50_000.0, GAIN), (0.01, 1.3)])
def test_a_gain_that_the_noise_contradicts_is_doubted_and_replaced(
    reduce_pixels: Reduce, star_field: Any, scale: float, stated: float
) -> None:
    plain = reduce_pixels(star_field.pixels, GAIN)
    assert plain.doubts == () and not plain.row["flags"] & FrameFlag.HEADER_DOUBTED
    doubted = reduce_pixels(star_field.pixels * scale, stated)
    (doubt,) = doubted.doubts
    assert doubted.row["status"] == "ok" and doubted.row["flags"] & FrameFlag.HEADER_DOUBTED
    assert doubt.stated[0] == ("GAIN", f"{stated:g}") and doubt.taken == "pixels"
    assert doubt.sentence in str(doubted.row["message"])
    # All noise of the sky counts as that of photons, so readout and the wings of stars make the gain smaller.
    assert doubted.row["gain_e_per_adu"] == pytest.approx(GAIN / scale, rel=0.2)
    assert snr(doubted) == pytest.approx(snr(plain), rel=0.1)


def test_the_same_frame_twice_says_the_same(reduce_pixels: Reduce, star_field: Any) -> None:
    first, second = (reduce_pixels(star_field.pixels * 0.001, 1.0).row for _ in range(2))
    assert first["message"] == second["message"]


def frames_of_a_right_gain(star_field: Any, make_field: Callable[..., Any]) -> dict[str, tuple[Any, float]]:
    """Pixels and the gain that their headers rightly state."""
    random = np.random.default_rng(12)
    shape = star_field.pixels.shape
    many = [random.uniform(20.0, side - 20.0, 2500) for side in shape[::-1]]
    fluxes = np.exp(random.uniform(np.log(300.0), np.log(2e5), 2500))
    light = render(shape, star_field.x, star_field.y, star_field.flux, Moffat(3.0)) + 40.0
    y, x = np.indices(shape)
    vignetting = 1.0 - 0.4 * (((x - 280.0) / 280.0) ** 2 + ((y - 240.0) / 240.0) ** 2) / 2.0
    low = random.poisson(light * GAIN) / GAIN
    narrow = Moffat(1.4)
    return {
        "zero level that no step takes off": (low + 1500.0, GAIN),
        "twelve bits as sixteen": (
            random.poisson(light) * 16.0 + random.normal(9000.0, 30.0, shape),
            1.0 / 16.0,
        ),
        "flat-fielded": (random.poisson(light * 20.0 * vignetting) / vignetting, 1.0),
        "mean of nine": (random.poisson(light * 9.0 * GAIN) / (9.0 * GAIN), 9.0 * GAIN),
        "sum of nine": (random.poisson(light * 9.0) * 1.0, 1.0),
        "binned": (low.reshape(240, 2, 280, 2).mean(axis=(1, 3)), 4.0 * GAIN),
        "crowded": (make_field(*many, fluxes, shape).pixels, GAIN),
        "undersampled": (
            make_field(star_field.x, star_field.y, star_field.flux, shape, psf=narrow).pixels,
            GAIN,
        ),
        "few stars": (make_field([90.0, 300.0], [80.0, 200.0], [9e4, 2e5], shape).pixels, GAIN),
        "more noise than photons": (low + random.normal(0.0, 30.0, shape), GAIN),
    }


def test_frames_of_a_right_gain_are_not_doubted(
    reduce_pixels: Reduce, star_field: Any, make_field: Callable[..., Any]
) -> None:
    doubted = {
        name: str(reduced.row["message"])
        for name, (pixels, gain) in frames_of_a_right_gain(star_field, make_field).items()
        if (reduced := reduce_pixels(pixels, gain)).row["flags"] & FrameFlag.HEADER_DOUBTED
    }
    assert doubted == {}


def test_the_sentence_names_the_card_and_how_to_correct_it(reduce_pixels: Reduce, star_field: Any) -> None:
    message = str(reduce_pixels(star_field.pixels * 1e-4, 1.0).row["message"])
    assert re.search(r"GAIN = 1 electrons per ADU contradicts the noise: \d+ stars scatter by 0\.0", message)
    assert message.endswith("give header.gain.cards = [] and detector.gain_e_per_adu in the profile")

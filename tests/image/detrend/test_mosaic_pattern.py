"""Where header and profile name different patterns of a mosaic, the pixels decide or the frame is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake.cameras import HeaderReading, load
from skylake.core.camera import Detector, ReductionSteps
from skylake.core.frame import StoredImage
from skylake.errors import FrameFailed
from skylake.image.detrend.mosaic_pattern import green_places, patterns_of, settle_pattern

LEVELS = {"R": 310.0, "G": 700.0, "B": 520.0}


def mosaic(pattern: str, levels: dict[str, float] = LEVELS, **cards: Any) -> StoredImage:
    """A frame of sky with the colours of a pattern."""
    cell = np.array([levels[letter] for letter in pattern]).reshape(2, 2)
    pixels = np.random.default_rng(3).poisson(np.tile(cell, (70, 90))).astype(np.uint16)
    return StoredImage(pixels, fits.Header(cards), 0)


def reading(pattern: str | None) -> HeaderReading:
    detector, steps = Detector(bayer_pattern=pattern), ReductionSteps(("bayer",) if pattern else ())  # type: ignore[arg-type]
    return HeaderReading(replace(load("generic").base, detector=detector, reduction=steps))


@pytest.mark.parametrize("shown", ["RGGB", "BGGR", "GRBG", "GBRG"])
@pytest.mark.parametrize(("given", "card"), [("RGGB", "GBRG"), ("GRBG", "BGGR"), ("GBRG", "RGGB")])
def test_the_pixels_decide_between_header_and_profile(given: str, card: str, shown: str) -> None:
    known = reading(given)
    (doubt,) = settle_pattern(mosaic(shown, BAYERPAT=card), known)
    right = card if green_places(mosaic(card)) == green_places(mosaic(shown)) else given
    assert known.camera.detector.bayer_pattern == right
    assert doubt.stated == (("BAYERPAT", card), ("profile", given)) and doubt.reason is None
    assert doubt.taken == ("BAYERPAT" if right == card else "profile")
    assert f"BAYERPAT = {card} contradicts detector.bayer_pattern = {given}" in doubt.sentence
    assert settle_pattern(mosaic(shown, BAYERPAT=card), known) == (), "said once"


@pytest.mark.parametrize(
    ("card", "levels"),
    [("BGGR", LEVELS), ("GBRG", dict.fromkeys("RGB", 600.0)), ("GBRG", {"R": 500.0, "G": 700.0, "B": 500.0})],
)
def test_a_frame_whose_pixels_do_not_decide_is_refused_with_both_patterns(
    card: str, levels: dict[str, float]
) -> None:
    known = reading("RGGB")
    with pytest.raises(
        FrameFailed, match=f"BAYERPAT = {card} .*bayer_pattern = RGGB.* do not show"
    ) as raised:
        settle_pattern(mosaic("RGGB", levels, BAYERPAT=card), known)
    assert raised.value.reason == "ambiguous_header"
    assert [doubt.reason for doubt in known.doubts] == ["ambiguous_header"]


def test_what_agrees_is_not_doubted_whatever_the_pixels_show() -> None:
    for image in (mosaic("GBRG", BAYERPAT="RGGB"), mosaic("RGGB"), mosaic("RGGB", BAYERPAT="TRUE")):
        known = reading("RGGB")
        assert settle_pattern(image, known) == () and not known.doubts
        assert known.camera.detector.bayer_pattern == "RGGB"


def test_a_mosaic_that_the_profile_does_not_know_is_doubted_if_pixels_show_it() -> None:
    (doubt,) = settle_pattern(mosaic("GRBG", BAYERPAT="GRBG"), reading(None))
    assert doubt.stated == (("BAYERPAT", "GRBG"), ("profile", "none")) and "step bayer" in doubt.sentence
    grey = mosaic("GRBG", dict.fromkeys("RGB", 800.0), BAYERPAT="GRBG")
    assert settle_pattern(grey, reading(None)) == (), "a debayered or binned image keeps the card"


@pytest.mark.parametrize(
    ("cards", "patterns"),
    [
        ({"BAYERPAT": "rggb "}, ("RGGB",)),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1}, ("GRBG",)),
        ({"BAYERPAT": "RGGB", "YBAYROFF": 1}, ("GBRG",)),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1, "YBAYROFF": 1}, ("BGGR",)),
        ({"BAYERPAT": "RGGB", "ROWORDER": "BOTTOM-UP"}, ("RGGB", "GBRG")),
        ({"BAYERPAT": "RGGB", "ROWORDER": "TOP-DOWN"}, ("RGGB",)),
        ({"COLORTYP": "BGGR"}, ("BGGR",)),
        ({"BAYERPAT": "X-Trans"}, ()),
        ({}, ()),
    ],
)
def test_offsets_and_the_order_of_rows_are_part_of_a_pattern(
    cards: dict[str, Any], patterns: tuple[str, ...]
) -> None:
    assert patterns_of(fits.Header(cards))[1] == patterns

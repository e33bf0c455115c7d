from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sep

from skylake.core.camera import Extraction
from skylake.core.flags import SourceFlag
from skylake.errors import FrameRejected
from skylake.image.detection.detect_sources import detect_sources

SEP = Extraction(engine="sep")
OWN = Extraction(engine="skylake")

by_engine = pytest.mark.parametrize("parameters", [OWN, SEP], ids=["skylake", "sep"])


def at(parameters: Extraction, sigma: float) -> Extraction:
    """The parameters with another threshold of their engine."""
    return replace(parameters, peak_sigma=sigma, threshold_sigma=sigma)


def detect(field: Any, parameters: Extraction, masked: Any = None) -> Any:
    """Detections on a field whose background is known."""
    rms = np.full(field.pixels.shape, field.sky_noise, np.float32)
    masked = np.zeros(field.pixels.shape, bool) if masked is None else masked
    return detect_sources(field.pixels - field.sky, rms, masked, parameters)


def nearest(field: Any, found: Any) -> Any:
    return field.nearest(found.x, found.y)


@by_engine
def test_all_stars_of_ten_sigma_are_found_and_little_else(
    grid_field: Callable[..., Any], parameters: Extraction
) -> None:
    field = grid_field(20, flux=(1.5e3, 3e4))
    found = detect(field, parameters)
    _, distance = nearest(field, found)
    assert distance.max() < 1.5
    # Five connected pixels of smoothed noise above 1.5 sigma are rare, not impossible.
    assert len(found) < 1.2 * len(field.x)
    assert (found.threshold_sigma, found.raised) == (parameters.threshold, False)


@by_engine
def test_a_higher_threshold_finds_a_part(grid_field: Callable[..., Any], parameters: Extraction) -> None:
    field = grid_field(21, flux=(3e2, 3e4))
    factors = (1.0, 2.0, 6.0, 30.0)
    numbers = [len(detect(field, at(parameters, parameters.threshold * factor))) for factor in factors]
    assert numbers == sorted(numbers, reverse=True) and numbers[-1] < 0.7 * numbers[0]


def test_smoothing_separates_faint_stars_from_noise(grid_field: Callable[..., Any]) -> None:
    field = grid_field(22, flux=(400.0, 900.0))
    true, false = {}, {}
    for kernel in ("pyramid", "none"):
        found = detect(field, replace(SEP, kernel=kernel))
        _, distance = nearest(field, found)
        true[kernel] = np.count_nonzero(distance < 2.0)
        false[kernel] = len(found) - true[kernel]
    assert true["pyramid"] > 0.5 * len(field.x) and false["pyramid"] < 0.05 * true["pyramid"]
    assert false["none"] > 0.3 * true["none"]


@by_engine
def test_each_pixel_of_the_map_belongs_to_its_detection(
    grid_field: Callable[..., Any], parameters: Extraction
) -> None:
    found = detect(grid_field(23), parameters)
    assert found.segments.min() == 0 and found.segments.max() == len(found)
    counts = np.bincount(found.segments.ravel(), minlength=len(found) + 1)[1:]
    np.testing.assert_array_equal(counts, found.n_pixels)


@by_engine
def test_masked_pixels_are_not_detected(grid_field: Callable[..., Any], parameters: Extraction) -> None:
    field = grid_field(24, flux=(1e4, 1e5))
    masked = np.zeros(field.pixels.shape, bool)
    masked[:, :256] = True
    found = detect(field, parameters, masked)
    assert found.x.min() > 255.0 and not found.segments[masked].any()
    _, distance = nearest(field, found)
    assert (distance[field.x > 262.0] < 1.0).all()


@by_engine
def test_a_touching_pair_is_two_and_both_are_marked(
    make_field: Callable[..., Any], parameters: Extraction
) -> None:
    field = make_field([60.0, 67.0, 120.0], [60.0, 61.0, 120.0], [5e4, 3e4, 5e4], (180, 180))
    found = detect(field, parameters)
    index, distance = nearest(field, found)
    assert distance.max() < 0.5
    assert ((found.flags[index] & SourceFlag.BLENDED) != 0).tolist() == [True, True, False]


@by_engine
def test_a_star_on_the_edge_is_marked(make_field: Callable[..., Any], parameters: Extraction) -> None:
    field = make_field([1.0, 90.0], [90.0, 90.0], [5e4, 5e4], (180, 180))
    found = detect(field, parameters)
    index, _ = nearest(field, found)
    assert ((found.flags[index] & SourceFlag.EDGE) != 0).tolist() == [True, False]


@by_engine
def test_many_pieces_of_one_crowded_detection_are_no_failure(
    make_field: Callable[..., Any], parameters: Extraction
) -> None:
    y, x = (20.0 + 6.0 * values.ravel() for values in np.mgrid[:36, :36])
    field = make_field(x, y, np.full(x.size, 5e4), (250, 250))
    found = detect(field, replace(parameters, deblend_contrast=1e-5))
    assert len(found) > 0.9 * x.size > 1100


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [(SEP, "3600 pixels exceed 3 sigma"), (OWN, "more than 2000 pixels exceed 6 sigma")],
    ids=["sep", "skylake"],
)
def test_hot_pixels_count_as_what_smoothing_makes_of_them(parameters: Extraction, sentence: str) -> None:
    signal = np.zeros((200, 200), np.float32)
    signal[5::10, 5::10] = 1000.0
    with pytest.raises(FrameRejected, match=sentence) as caught:
        detect_sources(signal, np.ones_like(signal), signal < 0.0, replace(parameters, max_pixels=2000))
    assert caught.value.reason == "detection_overflow"


@by_engine
def test_a_threshold_is_raised_once_and_then_given_up(
    grid_field: Callable[..., Any], parameters: Extraction
) -> None:
    field = grid_field(25)
    needed = {}
    for factor in (1.0, 2.0):
        raised = at(parameters, parameters.threshold * factor)
        low, high = 1, field.pixels.size
        while low < high:
            middle = (low + high) // 2
            try:
                overflows = detect(field, replace(raised, max_pixels=middle)).raised
            except FrameRejected:
                overflows = True
            low, high = (middle + 1, high) if overflows else (low, middle)
        needed[factor] = low
    assert needed[2.0] < needed[1.0]
    fits = detect(field, replace(parameters, max_pixels=needed[1.0]))
    tight = detect(field, replace(parameters, max_pixels=needed[2.0]))
    twice = 2.0 * parameters.threshold
    assert (fits.raised, tight.raised, tight.threshold_sigma) == (False, True, twice)
    with pytest.raises(FrameRejected, match=r"pixels exceed \d sigma.*extraction\.max_pixels") as caught:
        detect(field, replace(parameters, max_pixels=needed[2.0] - 1))
    assert caught.value.reason == "detection_overflow"


@pytest.mark.parametrize(
    "parameters", [OWN, SEP, replace(SEP, kernel="none")], ids=["skylake", "sep", "none"]
)
def test_what_passes_the_count_passes_the_detection(
    grid_field: Callable[..., Any], parameters: Extraction
) -> None:
    """A buffer of sep that overflows is an error of the frame; the count before must foresee it."""
    field = grid_field(26, flux=(1e3, 1e6), step=16)
    for max_pixels in (1000, 3000, 6000, 10_000, 20_000, 40_000):
        try:
            found = detect(field, replace(parameters, max_pixels=max_pixels))
        except FrameRejected as error:
            assert error.reason == "detection_overflow"
        else:
            assert found.n_pixels.sum() <= max_pixels


@pytest.mark.parametrize(
    ("parameters", "noise", "sentence"),
    [
        (SEP, 1.0, "no source above 1.5 sigma"),
        (SEP, 0.0, "no noise and no sources"),
        (OWN, 1.0, "no source above 4.5 sigma"),
        (OWN, 0.0, "no noise and no sources.*leave the file out.*header.extension"),
    ],
)
def test_nothing_found_is_a_reason(parameters: Extraction, noise: float, sentence: str) -> None:
    empty = np.zeros((50, 50), np.float32)
    with pytest.raises(FrameRejected, match=sentence) as caught:
        detect_sources(empty, np.full_like(empty, noise), empty > 1.0, parameters)
    assert caught.value.reason == "no_sources"


def test_every_bit_of_sep_that_matters_has_a_flag() -> None:
    from skylake.image.detection.detect_sources import _flags

    bits = np.array([0, sep.OBJ_MERGED, sep.OBJ_TRUNC, sep.OBJ_DOVERFLOW, sep.OBJ_MERGED | sep.OBJ_TRUNC])
    wanted = [0, SourceFlag.BLENDED, SourceFlag.EDGE, SourceFlag.DETECTION_OVERFLOW]
    np.testing.assert_array_equal(_flags(bits), [*wanted, SourceFlag.BLENDED | SourceFlag.EDGE])

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skylake.core.camera import Camera, Detector
from skylake.core.frame import RawImage
from skylake.errors import FrameFailed
from skylake.image.calibrate import calibrate

pictures = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8),
    elements=st.one_of(
        st.floats(-100.0, 65535.0, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 3e38])
    ),
)


def prepared(pixels: Any, saturation: float | None = None, **detector: Any) -> Any:
    raw = RawImage(np.asarray(pixels, np.float32), {}, 0)
    before = raw.pixels.copy()
    image = calibrate(raw, Camera("lab", detector=Detector(**detector)), saturation)
    np.testing.assert_array_equal(raw.pixels, before)
    return image


@given(pictures)
def test_valid_pixels_stay_and_others_are_filled_with_the_median(pixels: np.ndarray) -> None:
    valid = np.isfinite(pixels) & (np.abs(pixels) < 1e15)
    if not valid.any():
        with pytest.raises(FrameFailed, match="no pixel holds a valid number") as caught:
            prepared(pixels)
        assert caught.value.reason == "no_valid_pixels"
        return
    image = prepared(pixels)
    np.testing.assert_array_equal(image.masked, ~valid)
    np.testing.assert_array_equal(image.pixels[valid], pixels[valid])
    np.testing.assert_array_equal(image.pixels[~valid], np.median(pixels[valid]))
    assert image.pixels.dtype == np.float32 and image.offset == (0, 0)


@given(pictures, st.floats(0.0, 60000.0), st.floats(0.0, 60000.0))
def test_saturation_is_judged_on_raw_pixels(pixels: np.ndarray, saturation: float, linearity: float) -> None:
    pixels[0, 0] = 7.0
    image = prepared(pixels, saturation, linearity_adu=linearity, overscan_y=(0, 1), overscan_x=(0, 1))
    np.testing.assert_array_equal(image.saturated, pixels >= np.float32(saturation))
    np.testing.assert_array_equal(image.near_saturated, pixels >= np.float32(linearity))
    np.testing.assert_array_equal(image.pixels[~image.masked], (pixels - np.float32(7.0))[~image.masked])


def test_without_levels_nothing_is_saturated() -> None:
    image = prepared(np.full((3, 3), 1e9))
    assert not image.saturated.any() and not image.near_saturated.any()


def test_each_row_loses_the_median_of_its_overscan() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(300.0, 20.0, (50, 1))
    pixels = np.tile(rows, (1, 60))
    pixels[:, 10:] += 100.0
    pixels[3, 2] = 6e4
    image = prepared(pixels, overscan_x=(0, 10), trim_x=(10, 60))
    np.testing.assert_allclose(image.pixels, 100.0, atol=1e-3)
    assert image.pixels.shape == (50, 50) and image.offset == (10, 0)


def test_an_overscan_of_rows_is_one_level() -> None:
    pixels = np.full((40, 30), 150.0)
    pixels[:5] = 50.0
    np.testing.assert_allclose(prepared(pixels, overscan_y=(0, 5), trim_y=(5, 40)).pixels, 100.0)


def test_a_row_without_overscan_is_masked() -> None:
    pixels = np.full((6, 8), 30.0)
    pixels[2, :3] = np.nan
    image = prepared(pixels, overscan_x=(0, 3), trim_x=(3, 8))
    np.testing.assert_array_equal(image.masked.all(axis=1), np.arange(6) == 2)
    assert np.isfinite(image.pixels).all()


@given(
    pictures,
    st.tuples(st.integers(0, 3), st.integers(4, 12)),
    st.tuples(st.integers(0, 3), st.integers(4, 12)),
)
def test_trimming_cuts_all_arrays_alike(pixels: np.ndarray, x: tuple[int, int], y: tuple[int, int]) -> None:
    pixels = np.nan_to_num(pixels, nan=1.0, posinf=2.0, neginf=3.0)
    pixels[np.abs(pixels) > 1e15] = 4.0
    height, width = pixels.shape
    if x[0] >= width or y[0] >= height:
        with pytest.raises(FrameFailed, match=r"detector\.trim_x and trim_y") as caught:
            prepared(pixels, trim_x=x, trim_y=y)
        assert caught.value.reason == "wrong_size"
        return
    image = prepared(pixels, 100.0, trim_x=x, trim_y=y, linearity_adu=50.0)
    cut = pixels[y[0] : y[1], x[0] : x[1]]
    np.testing.assert_array_equal(image.pixels, cut)
    np.testing.assert_array_equal(image.saturated, cut >= 100.0)
    np.testing.assert_array_equal(image.near_saturated, cut >= 50.0)
    assert image.offset == (x[0], y[0]) and image.pixels.flags.c_contiguous


def test_another_size_than_that_of_the_profile_is_told() -> None:
    match = r"has 30 x 20 pixels and lab has 40 x 20; .*detector\.width_px and height_px"
    with pytest.raises(FrameFailed, match=match) as caught:
        prepared(np.zeros((20, 30)), width_px=40, height_px=20)
    assert caught.value.reason == "wrong_size"
    assert prepared(np.zeros((20, 30)), width_px=30, height_px=20).pixels.shape == (20, 30)


def test_an_overscan_outside_the_image_is_told() -> None:
    with pytest.raises(FrameFailed, match=r"detector\.overscan_x") as caught:
        prepared(np.zeros((20, 30)), overscan_x=(40, 50))
    assert caught.value.reason == "wrong_size"

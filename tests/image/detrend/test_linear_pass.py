"""One pass over stored pixels gives what the formulas of the steps give, for every kind of number a file may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.flags import PixelFlag
from skylake.core.frame import StoredImage
from skylake.image.detrend import linear_pass_kernels
from skylake.image.detrend.linear_pass import LinearPass, decode, run_again, run_pass

SHAPE = (9, 13)
WINDOW = (slice(2, 8), slice(3, 12))
KINDS = (">i2", "<i2", ">u2", "<u2", ">f4", "<f4", ">u1", ">i4", ">f8")


def stored(kind: str, seed: int = 1, **form: Any) -> StoredImage:
    random = np.random.default_rng(seed)
    numbers = np.iinfo(kind) if np.dtype(kind).kind in "iu" else None
    low, high = (max(numbers.min, -30000), min(numbers.max, 30000)) if numbers else (-30000, 30000)
    return StoredImage(random.integers(low, high, SHAPE).astype(kind), {}, 0, **form)


def plain(image: StoredImage) -> np.ndarray:
    values = image.stored.astype(float)
    if image.blank is not None:
        values[image.stored == image.blank] = np.nan
    return image.zero + image.scale * values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scale", "zero"), [(1.0, 0.0), (1.0, 32768.0), (0.43, 17.25)])
def test_every_number_is_decoded(kind: str, scale: float, zero: float) -> None:
    image = stored(kind, scale=scale, zero=zero)
    pixels = decode(image, WINDOW)
    np.testing.assert_allclose(pixels, plain(image)[WINDOW], rtol=2e-7, atol=2e-3)
    assert pixels.dtype == np.float32 and pixels.dtype.isnative and pixels.flags.c_contiguous


@pytest.mark.parametrize("kind", [">i2", "<u2", ">i4", ">u1"])
def test_a_blank_pixel_has_no_value(kind: str) -> None:
    image = stored(kind)
    image = StoredImage(image.stored, {}, 0, 0, 2.0, 5.0, int(image.stored[3, 4]))
    np.testing.assert_array_equal(np.isnan(decode(image)), image.stored == image.stored[3, 4])


def test_uint16_is_exact_over_its_whole_range() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    kept = (values ^ 0x8000).view(np.int16).astype(">i2")
    np.testing.assert_array_equal(decode(StoredImage(kept, {}, 0, zero=32768.0)), values.astype(np.float32))


def test_bits_are_those_of_the_registry() -> None:
    assert (linear_pass_kernels.INVALID, linear_pass_kernels.SATURATED, linear_pass_kernels.NEAR_SATURATED) == (
        PixelFlag.INVALID, PixelFlag.SATURATED, PixelFlag.NEAR_SATURATED,
    )  # fmt: skip


@given(st.sampled_from(KINDS), st.integers(0, 1000), st.floats(0.1, 3.0), st.booleans())
def test_one_pass_does_what_the_steps_say(kind: str, seed: int, scale: float, at_once: bool) -> None:
    random = np.random.default_rng(seed)
    image = stored(kind, seed, zero=1000.0)
    shape = (6, 9)
    levels, bias, dark, flat = (
        random.normal(centre, 5.0, size).astype(np.float32)
        for centre, size in ((20.0, shape[0]), (100.0, shape), (30.0, shape), (10.0, shape))
    )
    bias_err, dark_err, flat_err = (random.uniform(0.1, 2.0, shape).astype(np.float32) for _ in range(3))
    inverse = np.float32(1.0) / flat
    mask, variance = np.zeros(shape, np.uint8), np.full(shape, -1.0, np.float32)
    first = LinearPass(
        5000.0, 2000.0, levels, bias, bias_err, read_variance=9.0, inverse_gain=0.5, begins=True
    )
    more = {
        "dark": dark,
        "dark_err": dark_err,
        "dark_scale": scale,
        "inverse_flat": inverse,
        "flat_err": flat_err,
    }
    if at_once:
        for name, value in more.items():
            setattr(first, name, value)
        pixels, _ = run_pass(image, WINDOW, first, mask, variance)
    else:
        pixels, _ = run_pass(image, WINDOW, first, mask, variance)
        run_again(pixels, LinearPass(**more), mask, variance)
    raw = plain(image)[WINDOW]
    signal = raw - levels[:, None] - bias
    wanted = (signal - scale * dark) / flat
    expected = 9.0 + 0.5 * np.maximum(signal, 0.0) + bias_err**2 + (scale * dark_err) ** 2
    expected = expected / flat**2 + (wanted * flat_err / flat) ** 2
    np.testing.assert_allclose(pixels, wanted, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(variance, expected, rtol=1e-3)
    np.testing.assert_array_equal(mask & 2 > 0, raw.astype(np.float32) >= 5000.0)
    np.testing.assert_array_equal(mask & 4 > 0, raw.astype(np.float32) >= 2000.0)


def test_a_source_is_never_changed() -> None:
    image = stored("<f4")
    before = image.stored.copy()
    run_pass(image, WINDOW, LinearPass(levels=np.ones(6, np.float32)), np.zeros((6, 9), np.uint8), None)
    np.testing.assert_array_equal(image.stored, before)


def test_invalid_pixels_are_marked_and_their_rows_counted() -> None:
    pixels = np.ones((4, 5), np.float32)
    pixels[1, 2], pixels[3, 4], pixels[0, 0], pixels[0, 3] = np.nan, np.inf, -1e16, np.nan
    mask = np.zeros((4, 5), np.uint8)
    assert linear_pass_kernels.mark_invalid(pixels, mask) == 3
    assert np.flatnonzero(mask).tolist() == [0, 3, 7, 19]

"""Blocks of one value beside noise were not read out; blocks of one value that are light, or usual, were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skylake.core.camera import Camera
from skylake.core.flags import PixelFlag
from skylake.core.frame import StoredImage
from skylake.image.detrend.blank_blocks import find_unread
from skylake.image.detrend.detrend_chain import Conditions, detrend_image

SIDE = 512
WHOLE = slice(0, SIDE), slice(0, SIDE)


def noisy(level: float = 900.0, sigma: float = 12.0) -> Any:
    return np.random.default_rng(3).normal(level, sigma, (SIDE, SIDE))


def whole_numbers(pixels: Any) -> StoredImage:
    return StoredImage(np.rint(pixels).astype(">i2"), {}, 0)


def holed(pixels: Any, rows: slice, columns: slice, value: float = 0.0) -> Any:
    pixels[rows, columns] = value
    return pixels


@pytest.mark.parametrize("dtype", [">i2", "u1", "i4", ">f4", "f8"])
@pytest.mark.parametrize(
    ("rows", "columns"),
    [(slice(101, 165), slice(207, 271)), (slice(256, None), slice(None)), (slice(0, 90), slice(3, 500))],
)
def test_a_block_of_one_value_is_found_to_its_edge(dtype: str, rows: slice, columns: slice) -> None:
    stored = np.rint(holed(noisy(100.0), rows, columns, 3.0)).astype(dtype)
    truth = np.zeros(stored.shape, bool)
    truth[rows, columns] = True
    found = find_unread(StoredImage(stored, {}, 0, scale=2.0, zero=5.0), WHOLE, None)
    assert found is not None
    np.testing.assert_array_equal(found[0], truth)
    assert found[1].value == 11.0 and found[1].share == truth.mean()


def test_dead_amplifiers_of_two_values_are_both_found() -> None:
    pixels = holed(holed(noisy(), slice(0, 256), slice(0, 256)), slice(0, 256), slice(256, None), 500.0)
    found = find_unread(whole_numbers(pixels), (slice(20, 500), slice(40, 512)), 60000.0)
    assert found is not None
    np.testing.assert_array_equal(found[0], pixels[20:500, 40:] <= 500.0)


def disc(pixels: Any) -> Any:
    y, x = np.mgrid[:SIDE, :SIDE] - 250.0
    return np.minimum(pixels + 3e7 * np.exp(-np.hypot(x, y) / 15.0), 30000.0)


UNTOUCHED: dict[str, Callable[[], tuple[StoredImage, float | None]]] = {
    "only noise": lambda: (whole_numbers(noisy()), None),
    "a clipped Moon, the level known": lambda: (whole_numbers(disc(noisy())), 30000.0),
    "a clipped Moon, the level unknown": lambda: (whole_numbers(disc(noisy())), None),
    "a clipped Moon below the level of the profile": lambda: (whole_numbers(disc(noisy())), 65000.0),
    "noise below the numbers": lambda: (whole_numbers(noisy(1000.0, 0.12)), None),
    "a vignetted sky of less noise than the numbers": lambda: (
        whole_numbers(noisy(0.0, 0.1) + 3.0 * np.exp(-(np.linspace(-2.0, 2.0, SIDE) ** 2))),
        None,
    ),
    "a lit disc on clipped zeros": lambda: (
        whole_numbers(np.where(disc(np.zeros((SIDE, SIDE))) > 29000.0, noisy(), 0.0)),
        None,
    ),
    "a block without a value": lambda: (
        StoredImage(np.rint(holed(noisy(), slice(100, 300), slice(100, 300))).astype("i2"), {}, 0, blank=0),
        None,
    ),
    "a small hole": lambda: (whole_numbers(holed(noisy(), slice(100, 120), slice(100, 120))), None),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_was_read_out_is_left_alone(name: str) -> None:
    source, saturation = UNTOUCHED[name]()
    assert find_unread(source, WHOLE, saturation) is None


def test_an_image_smaller_than_a_tile_has_no_blocks() -> None:
    assert (
        find_unread(StoredImage(np.zeros((20, 700), "i2"), {}, 0), (slice(0, 20), slice(0, 700)), None)
        is None
    )


def test_pixels_that_were_not_read_out_are_invalid_and_filled() -> None:
    pixels = holed(noisy(), slice(0, 200), slice(0, 300))
    image = detrend_image(whole_numbers(pixels), Camera("lab"), Conditions(saturation_adu=60000.0))
    np.testing.assert_array_equal(image.having(PixelFlag.INVALID), pixels == 0.0)
    assert np.unique(image.pixels[:200, :300]) == np.median(np.rint(pixels[pixels != 0.0]))
    assert str(image.unread) == "23% of the raw pixels hold 0, as if not read out; they are left out"

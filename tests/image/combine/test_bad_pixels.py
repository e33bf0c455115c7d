from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.flags import PixelFlag
from skylake.core.reduction_settings import BadPixels
from skylake.image.combine.bad_pixels import dead_pixels, hot_pixels, unstable_pixels
from skylake.image.combine.combine_frames import CombineOptions, combine
from skylake.image.detrend.repair_pixels import repair

HOT, DEAD, UNSTABLE = (np.uint8(one) for one in (PixelFlag.HOT, PixelFlag.DEAD, PixelFlag.UNSTABLE))


def test_hot_pixels_are_found_and_no_others() -> None:
    random = np.random.default_rng(1)
    y = np.linspace(0.0, 60.0, 200)
    dark = (random.normal(3.0, 1.0, (200, 200)) + y[:, None]).astype(np.float32)
    where = random.integers(0, dark.size, 50)
    dark.reshape(-1)[where] += random.uniform(20.0, 900.0, 50).astype(np.float32)
    dark[7, 9] = np.nan
    mask = hot_pixels(dark, BadPixels())
    assert (mask.reshape(-1)[where] == HOT).all() and mask[7, 9] == HOT
    assert np.count_nonzero(mask) <= len(set(where)) + 3


def test_dead_pixels_are_those_that_see_too_little_or_too_much() -> None:
    flat = np.random.default_rng(2).normal(1.0, 0.02, (100, 100)).astype(np.float32)
    flat *= np.linspace(1.0, 0.3, 100, dtype=np.float32)
    flat[10, 10], flat[50, 60], flat[70, 70], flat[90, 5] = 0.0, 0.2 * flat[50, 61], 4.0, np.nan
    mask = dead_pixels(flat, BadPixels())
    assert sorted(zip(*np.nonzero(mask), strict=True)) == [(10, 10), (50, 60), (70, 70), (90, 5)]


def test_a_pixel_that_jumps_is_unstable_and_a_cosmic_ray_is_not() -> None:
    random = np.random.default_rng(3)
    stack = random.normal(10.0, 1.0, (9, 80, 80)).astype(np.float32)
    stack[::2, 20, 20] += 40.0
    stack[4, 30, 30] += 5000.0
    mask = unstable_pixels(combine(stack, CombineOptions()), BadPixels())
    assert mask[20, 20] == UNSTABLE and np.count_nonzero(mask) == 1
    assert not unstable_pixels(combine(stack[:4], CombineOptions()), BadPixels()).any()


def test_a_bad_pixel_gets_the_mean_of_row_and_column() -> None:
    pixels = np.zeros((5, 5), np.float32)
    pixels[2, 1], pixels[2, 3], pixels[1, 2], pixels[3, 2] = 10.0, 20.0, 100.0, 300.0
    pixels[2, 2] = -999.0
    mask = np.zeros((5, 5), np.uint8)
    mask[2, 2] = HOT
    assert repair(pixels, mask, PixelFlag.HOT) == 1
    # The means of row and column are 15 and 200; the column alone would give 200.
    assert pixels[2, 2] == pytest.approx(107.5)
    assert mask[2, 2] == HOT | np.uint8(PixelFlag.REPAIRED)


@given(st.integers(0, 10_000), st.floats(0.0, 0.3), st.floats(-3.0, 3.0), st.floats(-3.0, 3.0))
def test_a_plane_is_restored_exactly(seed: int, part: float, slope_x: float, slope_y: float) -> None:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:12, 0:15]
    plane = (100.0 + slope_x * x + slope_y * y).astype(np.float32)
    bad = random.random(plane.shape) < part
    pixels = np.where(bad, np.float32(1e6), plane)
    mask = bad * DEAD
    before = mask.copy()
    count = repair(pixels, mask, PixelFlag.DEAD)
    filled = (mask & np.uint8(PixelFlag.REPAIRED)) > 0
    assert count == np.count_nonzero(filled)
    np.testing.assert_array_equal(pixels[~bad], plane[~bad])
    assert (pixels[filled] >= plane.min() - 1e-3).all() and (pixels[filled] <= plane.max() + 1e-3).all()
    inner = np.zeros_like(bad)
    inner[1:-1, 1:-1] = ~bad[:-2, 1:-1] & ~bad[2:, 1:-1] & ~bad[1:-1, :-2] & ~bad[1:-1, 2:]
    np.testing.assert_allclose(pixels[bad & inner], plane[bad & inner], rtol=1e-5)
    np.testing.assert_array_equal(mask & DEAD, before)


def test_a_bad_pixel_of_a_mosaic_gets_its_own_colour() -> None:
    cell = np.array([[100.0, 900.0], [800.0, 2000.0]], np.float32)
    wanted = np.tile(cell, (12, 12)) + np.arange(24, dtype=np.float32)
    bad = np.random.default_rng(5).random(wanted.shape) < 0.1
    bad[:2], bad[-2:], bad[:, :2], bad[:, -2:] = False, False, False, False
    pixels, mask = np.where(bad, np.float32(6e4), wanted), bad * HOT
    assert repair(pixels, mask, PixelFlag.HOT, 2) == np.count_nonzero(bad)
    np.testing.assert_allclose(pixels, wanted, atol=8.0)


def test_an_image_without_good_pixels_stays() -> None:
    pixels, mask = np.full((4, 4), 5.0, np.float32), np.full((4, 4), HOT, np.uint8)
    assert repair(pixels, mask, PixelFlag.HOT) == 0
    assert (pixels == 5.0).all() and (mask == HOT).all()


CLUSTERS = {
    "three columns": (slice(20, 180), slice(60, 63)),
    "three columns at the edge": (slice(None), slice(0, 3)),
    "two rows": (slice(100, 102), slice(120, 250)),
    "4 x 4": (slice(40, 44), slice(200, 204)),
    "6 x 6": (slice(150, 156), slice(150, 156)),
    "6 x 6 in a corner": (slice(194, 200), slice(294, 300)),
    "10 x 9 and a part of a column": (slice(20, 30), slice(100, 109)),
    "beside it": (slice(15, 60), slice(111, 113)),
}


def clusters() -> np.ndarray:
    where = np.zeros((200, 300), bool)
    for rows, columns in CLUSTERS.values():
        where[rows, columns] = True
    return where


def good_flat(random: np.random.Generator) -> np.ndarray:
    """A flat with a round field of view, beyond which nothing is seen, a gradient, dust, and stripes of columns."""
    y, x = np.mgrid[0:200, 0:300]
    radius = np.hypot(x - 150.0, y - 100.0)
    flat = (1.2 - 0.002 * x) * (1.0 - 0.4 * (radius / 180.0) ** 2)
    flat *= 1.0 / (1.0 + np.exp((radius - 165.0) / 2.0))
    ring = np.hypot(x - 90.0, y - 150.0)
    flat *= 1.0 - 0.25 * ((ring > 8.0) & (ring < 14.0))
    flat *= 1.0 + 0.03 * (x % 2) + random.normal(0.0, 0.02, 300)
    return np.asarray(flat + 0.002 + random.normal(0.0, 0.01, flat.shape) * np.sqrt(flat + 0.01), np.float32)


def good_dark(random: np.random.Generator) -> np.ndarray:
    """A dark with the glow of an amplifier in a corner and another at an edge, and levels of rows and columns."""
    y, x = np.mgrid[0:200, 0:300]
    glow = 400.0 * np.exp(-np.hypot(x + 5.0, y + 5.0) / 40.0)
    glow += 400.0 * np.exp(-0.5 * (((x - 180.0) / 35.0) ** 2 + ((y - 199.0) / 25.0) ** 2))
    stripes = random.normal(0.0, 2.0, 300) + random.normal(0.0, 1.0, (200, 1))
    return np.asarray(5.0 + glow + stripes + random.normal(0.0, 1.0, glow.shape), np.float32)


def test_clusters_and_columns_that_see_too_little_are_found() -> None:
    random = np.random.default_rng(4)
    flat = (random.normal(1.0, 0.02, (200, 300)) * np.linspace(1.0, 0.5, 300)).astype(np.float32)
    where = clusters()
    flat[where] *= random.uniform(0.0, 0.4, where.sum()).astype(np.float32)
    found = dead_pixels(flat, BadPixels()) > 0
    missed = {name: np.count_nonzero(~found[cut]) for name, cut in CLUSTERS.items()}
    assert missed == dict.fromkeys(CLUSTERS, 0)
    assert np.count_nonzero(found & ~where) == 0


def test_hot_pixels_within_a_dead_cluster_are_found() -> None:
    random = np.random.default_rng(7)
    flat = random.normal(1.0, 0.02, (120, 160)).astype(np.float32)
    flat[50:58, 70:82] = 0.05
    flat[51:57:2, 71:81:3] = 12.0
    flat[51:57, 75] = 6.0
    found = dead_pixels(flat, BadPixels()) > 0
    expected = np.zeros_like(found)
    expected[50:58, 70:82] = True
    np.testing.assert_array_equal(found, expected)


def test_hot_clusters_and_columns_are_found_in_amplifier_glow() -> None:
    random = np.random.default_rng(5)
    dark, where = good_dark(random), clusters()
    dark[where] += random.uniform(200.0, 5000.0, where.sum()).astype(np.float32)
    found = hot_pixels(dark, BadPixels()) > 0
    missed = {name: np.count_nonzero(~found[cut]) for name, cut in CLUSTERS.items()}
    assert missed == dict.fromkeys(CLUSTERS, 0)
    assert np.count_nonzero(found & ~where) == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_good_detector_has_no_clusters(seed: int) -> None:
    random = np.random.default_rng(seed)
    flat, dark = good_flat(random), good_dark(random)
    y, x = np.mgrid[0:200, 0:300]
    seen = np.hypot(x - 150.0, y - 100.0) < 155.0
    assert np.count_nonzero(dead_pixels(flat, BadPixels())[seen]) == 0
    assert np.count_nonzero(hot_pixels(dark, BadPixels())) == 0


def test_a_hole_without_values_hides_no_neighbour() -> None:
    flat = np.random.default_rng(6).normal(1.0, 0.02, (120, 120)).astype(np.float32) * np.linspace(
        2.0, 0.2, 120
    )
    flat = flat.astype(np.float32)
    flat[30:70, 100:118] = np.nan
    flat[45:49, 94:98] *= 0.1
    found = dead_pixels(flat, BadPixels()) > 0
    expected = np.isnan(flat)
    expected[45:49, 94:98] = True
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("least", [0.15, 0.05])
def test_areas_that_see_no_light_are_dead_however_large(least: float) -> None:
    flat = np.random.default_rng(8).normal(1.0, 0.02, (200, 700)).astype(np.float32)
    unlit = np.zeros(flat.shape, bool)
    # The second is wider than any surroundings.
    unlit[100:140, 100:160], unlit[:, :30], unlit[:, 300:550] = True, True, True
    flat[unlit] *= 0.1
    found = dead_pixels(flat, BadPixels(least_response=least)) > 0
    if least > 0.1:
        np.testing.assert_array_equal(found, unlit)
    else:
        np.testing.assert_array_equal(found[:, :230], unlit[:, :230])
        assert not found[:, 400:450].any()


def test_large_areas_of_low_response_are_dead() -> None:
    y, x = np.mgrid[0:300, 0:300]
    # At the rim of the image circle the light falls from all to a quarter within thirty pixels.
    radius = np.hypot(x - 100.0, y - 150.0)
    flat = np.interp(radius, [0.0, 120.0, 150.0, 400.0], [1.0, 0.9, 0.25, 0.2])
    flat *= np.random.default_rng(10).normal(1.0, 0.01, flat.shape)
    shaded = np.zeros(flat.shape, bool)
    shaded[120:160, 60:100] = np.hypot(x - 80.0, y - 140.0)[120:160, 60:100] < 19.0
    shaded[200:220, 90:130] = True
    flat[shaded] *= 0.3
    found = dead_pixels(flat.astype(np.float32), BadPixels()) > 0
    np.testing.assert_array_equal(found, shaded)


def test_the_noise_of_a_glow_is_not_hot_and_what_exceeds_it_is() -> None:
    random = np.random.default_rng(9)
    y, x = np.mgrid[0:300, 0:300]
    glow = 2000.0 * np.exp(-np.hypot(x, y) / 60.0)
    error = np.sqrt(1.0 + glow / 4.0)
    dark = 10.0 + glow + random.normal(0.0, 1.0, glow.shape) * error
    hot = np.zeros(glow.shape, bool)
    hot[random.integers(5, 295, 40), random.integers(5, 295, 40)] = True
    dark += hot * 12.0 * error
    # A hot pixel is as noisy as its own light.
    told = np.where(hot, 5.0 * error, error).astype(np.float32)
    found = hot_pixels(dark.astype(np.float32), BadPixels(), told) > 0
    assert np.count_nonzero(found & ~hot) <= 2
    assert np.count_nonzero(found & hot) >= 0.9 * hot.sum()

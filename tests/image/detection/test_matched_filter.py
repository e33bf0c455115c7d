from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from skylake.core.camera import Extraction
from skylake.core.flags import PixelFlag, SourceFlag
from skylake.image.detection.detect_sources import detect_sources
from skylake.image.detection.matched_filter import gaussian, star_width
from skylake.image.detection.matched_filter_kernels import Limit, Trust, list_significant
from skylake.image.detection.watershed_kernels import Significant, number_basins
from skylake.simulate import Moffat, render

OWN = Extraction(engine="skylake")
GAIN = 2.0
NO_PLANE = np.zeros((0, 0), np.float32)


def detect(field: Any, parameters: Extraction = OWN, mask: Any = None) -> Any:
    """Detections on a field whose background is known."""
    rms = np.sqrt(field.sky / GAIN + 9.0).astype(np.float32)
    mask = np.zeros(field.pixels.shape, np.uint8) if mask is None else mask
    return detect_sources(field.pixels - field.sky, rms, mask, parameters, GAIN)


def close(found: Any, x: float, y: float, radius: float) -> int:
    """How many detections are within a radius of a place."""
    return int(np.count_nonzero(np.hypot(found.x - x, found.y - y) < radius))


def significant(
    signal: Any, rms: Any, mask: Any, kernel: Any, least: float, noise: float = 1.0, variance: Any = None
) -> dict[str, Any]:
    """The list of significant pixels."""
    places, ways = (np.empty(signal.size, np.int32) for _ in range(2))
    values, light = (np.empty(signal.size, np.float32) for _ in range(2))
    room = Significant(places, values, light, ways)
    limit = Limit(np.float32(least), np.float32(noise))
    trust = Trust(
        NO_PLANE if variance is None else variance, np.float32(1.0), np.float32(0.0), np.float32(0.0)
    )
    n = list_significant(signal, rms, mask, np.uint8(PixelFlag.INVALID), kernel, limit, trust, room)
    return {name: column[:n] for name, column in room._asdict().items()}


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 9), st.integers(0, 10**6), st.floats(0.5, 3.0))
def test_the_list_is_that_of_a_convolution(
    height: int, width: int, half: int, seed: int, least: float
) -> None:
    random = np.random.default_rng(seed)
    signal = random.normal(size=(height, width)).astype(np.float32)
    rms = random.uniform(0.5, 2.0, (height, width)).astype(np.float32)
    mask = (random.random((height, width)) < 0.1).astype(np.uint8)
    kernel = random.uniform(0.0, 1.0, half + 1).astype(np.float32)
    whole = np.concatenate([kernel[:0:-1], kernel])
    smooth = np.where(mask, 0.0, signal).astype(float)
    for axis in (0, 1):
        smooth = ndimage.convolve1d(smooth, whole.astype(float), axis, mode="constant")
    smooth = np.where(mask, 0.0, smooth / rms / np.sum(whole.astype(float) ** 2))
    listed = significant(signal, rms, mask, kernel, least)
    doubtful = np.abs(smooth - least) < 1e-4
    wanted = np.flatnonzero((smooth > least) & ~doubtful)
    assert np.isin(wanted, listed["place"]).all() and (np.diff(listed["place"]) > 0).all()
    assert np.isin(listed["place"], np.flatnonzero((smooth > least) | doubtful)).all()
    np.testing.assert_allclose(listed["value"], smooth.ravel()[listed["place"]], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(listed["light"], signal.ravel()[listed["place"]])
    if len(wanted):
        # The way up leads to the highest of nine, and the peaks are the highest of their nine.
        filtered = np.zeros(signal.size, np.float32)
        filtered[listed["place"]] = listed["value"]
        highest = ndimage.maximum_filter(filtered.reshape(signal.shape), 3, mode="constant").ravel()
        np.testing.assert_array_equal(listed["value"][listed["uphill"]], highest[listed["place"]])
        basin = listed["uphill"].copy()
        peak = number_basins(basin)
        np.testing.assert_array_equal(basin[peak], np.arange(len(peak)))
        np.testing.assert_array_equal(listed["value"][peak], highest[listed["place"][peak]])


def test_noise_is_rarely_a_source(make_field: Callable[..., Any]) -> None:
    """White noise has some peaks above 4.5 sigma in a million pixels, and hardly one above 6."""
    field = make_field([100.0], [100.0], [1e5], (1024, 1024))
    parameters = replace(OWN, filter_fwhm_px=2.5)
    assert len(detect(field, parameters)) < 12
    assert len(detect(field, replace(parameters, peak_sigma=6.0))) == 1


@pytest.mark.parametrize("fwhm", [1.5, 2.5, 4.0, 6.0, 8.0])
def test_the_filter_is_as_wide_as_the_stars(grid_field: Callable[..., Any], fwhm: float) -> None:
    field = grid_field(50, flux=(2e4, 3e5), psf=Moffat(fwhm))
    rms = np.full(field.pixels.shape, field.sky_noise, np.float32)
    found = star_width(field.pixels - field.sky, rms, np.zeros(rms.shape, np.uint8))
    # A pixel widens a star of 1.5 px by a tenth.
    assert found == pytest.approx(np.hypot(fwhm, 0.68), rel=0.12)
    kernel = gaussian(found)
    assert kernel[0] + 2.0 * kernel[1:].sum() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.4, 0.9])
def test_the_noise_on_a_trail_does_not_widen_the_filter(grid_field: Callable[..., Any], slope: float) -> None:
    field = grid_field(50, flux=(2e4, 3e5))
    rms = np.full(field.pixels.shape, field.sky_noise, np.float32)
    mask, trailed = np.zeros(rms.shape, np.uint8), field.pixels - field.sky
    usual = star_width(trailed, rms, mask)
    for column in range(512):
        for first in (20, 240, 460) if slope == 0.0 else (15,):
            row = round(first + slope * column)
            trailed[row : row + 5, column] += 500.0
    assert star_width(trailed, rms, mask) == pytest.approx(usual, rel=0.02)


def test_too_few_bright_stars_show_no_width(make_field: Callable[..., Any]) -> None:
    field = make_field([60.0, 100.0], [60.0, 100.0], [1e5, 2e5], (160, 160))
    rms = np.full(field.pixels.shape, field.sky_noise, np.float32)
    assert star_width(field.pixels - field.sky, rms, np.zeros(rms.shape, np.uint8)) is None
    assert len(detect(field)) == 2


def test_a_wider_star_is_found_by_a_wider_filter(grid_field: Callable[..., Any]) -> None:
    field = grid_field(51, flux=(800.0, 900.0), psf=Moffat(6.0))
    number = {}
    for fwhm in (2.0, 6.0):
        found = detect(field, replace(OWN, filter_fwhm_px=fwhm))
        _, distance = field.nearest(found.x, found.y)
        number[fwhm] = np.count_nonzero(distance < 3.0)
    assert number[6.0] > 0.85 * len(field.x) and number[2.0] < 0.7 * number[6.0]


def test_the_wings_of_a_bright_star_are_no_sources(make_field: Callable[..., Any]) -> None:
    x, y = np.array([100.0, 300.0, 100.0, 300.0]), np.array([100.0, 100.0, 300.0, 300.0])
    field = make_field(x, y, np.full(4, 2e6), (400, 400), psf=Moffat(3.0, beta=2.5))
    found = detect(field)
    for place in zip(x, y, strict=True):
        assert close(found, *place, 60.0) == 1
    assert (found.n_pixels > 900).sum() == 4


def test_a_star_in_the_wings_of_a_bright_one_is_a_source(make_field: Callable[..., Any]) -> None:
    angle = np.linspace(0.0, 2.0 * np.pi, 9)[:-1]
    x = np.concatenate([[128.0], 128.0 + 14.0 * np.cos(angle)])
    y = np.concatenate([[128.0], 128.0 + 14.0 * np.sin(angle)])
    field = make_field(x, y, np.concatenate([[5e5], np.full(8, 2500.0)]), (256, 256))
    found = detect(field)
    _, distance = field.nearest(found.x, found.y)
    assert distance.max() < 1.5 and len(found) <= 10


def test_hot_pixels_and_tracks_are_no_sources(grid_field: Callable[..., Any]) -> None:
    field = grid_field(52, flux=(3e3, 1e5))
    random = np.random.default_rng(52)
    row, column = random.integers(5, 507, (2, 300))
    lonely = np.min(np.hypot(column[:, None] - field.x, row[:, None] - field.y), axis=1) > 12.0
    row, column = row[lonely], column[lonely]
    field.pixels[row, column] += 5000.0
    # Tracks of one pixel's width, along x and along a diagonal.
    for step in range(12):
        field.pixels[8, 100 + step] += 800.0
        field.pixels[8 + step, 200 + step] += 800.0
    found = detect(field)
    hot = [close(found, c, r, 2.0) for r, c in zip(row, column, strict=True)]
    assert len(hot) > 150 and sum(hot) < 0.05 * len(hot)
    assert close(found, 105.5, 8.0, 8.0) == 0 and close(found, 205.5, 13.5, 9.0) == 0
    _, distance = field.nearest(found.x, found.y)
    assert np.mean(distance < 1.0) > 0.98


def test_stars_of_an_undersampled_camera_are_no_hot_pixels(grid_field: Callable[..., Any]) -> None:
    field = grid_field(53, flux=(3e3, 1e5), psf=Moffat(1.3))
    found = detect(field)
    _, distance = field.nearest(found.x, found.y)
    assert np.mean(distance < 1.0) > 0.97


def test_a_saturated_star_and_its_trail_are_one_source(make_field: Callable[..., Any]) -> None:
    field = make_field([128.0, 60.0], [128.0, 60.0], [3e6, 1e5], (256, 256))
    # Charge runs along the column, with noise of its own.
    noise = np.random.default_rng(5).normal(0.0, 200.0, 201)
    field.pixels[28:229, 128] = 60000.0 + noise
    field.pixels[field.pixels > 60000.0] = 60000.0
    trail = field.pixels[28:229, 128]
    mask = np.where(field.pixels >= 55000.0, np.uint8(PixelFlag.SATURATED), np.uint8(0))
    found = detect(field, mask=mask)
    on_trail = (np.abs(found.x - 128.0) < 4.0) & (found.y > 20.0) & (found.y < 236.0)
    assert trail.size == 201 and on_trail.sum() == 1
    assert close(found, 60.0, 60.0, 1.0) == 1
    owner = found.segments[28:229, 128]
    assert (owner == owner[100]).all() and owner[100] > 0


def test_a_long_trail_is_one_source(grid_field: Callable[..., Any]) -> None:
    field = grid_field(54, flux=(3e3, 3e4))
    across = np.exp(-0.5 * ((np.arange(512) - 50.0) / 1.5) ** 2)
    field.pixels[:, 200:300] += (300.0 * across[:, None]).astype(np.float32)
    found = detect(field)
    long = found.a > 6.0 * found.b
    assert long.sum() == 1 and found.n_pixels[long][0] > 500


def test_neighbours_count_where_they_matter(make_field: Callable[..., Any]) -> None:
    """A faint star beside a bright one is blended; the bright one is not."""
    field = make_field([100.0, 109.0, 200.0], [100.0, 100.0, 200.0], [3e5, 3e3, 3e5], (256, 256))
    found = detect(field)
    index, distance = field.nearest(found.x, found.y)
    assert distance.max() < 0.5
    assert ((found.flags[index] & SourceFlag.BLENDED) != 0).tolist() == [False, True, False]


def test_centroids_are_as_good_as_they_say(grid_field: Callable[..., Any]) -> None:
    pulls = []
    for seed in (55, 56, 57):
        field = grid_field(seed, flux=(3e3, 3e5))
        found = detect(field)
        index, distance = field.nearest(found.x, found.y)
        assert distance.max() < 1.0
        pulls += [
            (found.x[index] - field.x) / found.x_err[index],
            (found.y[index] - field.y) / found.y_err[index],
        ]
    values = np.concatenate(pulls)
    assert abs(values.mean()) < 0.15 and 0.88 < values.std() < 1.12 and np.abs(values).max() < 4.5


def test_footprints_hold_shape_light_and_peak(grid_field: Callable[..., Any]) -> None:
    field = grid_field(58, flux=(1e5, 3e5), psf=Moffat(4.0, 0.4, 30.0))
    found = detect(field)
    index, _ = field.nearest(found.x, found.y)
    np.testing.assert_allclose(np.degrees(found.theta[index]), 30.0, atol=4.0)
    assert np.median(found.b[index] / found.a[index]) == pytest.approx(0.6, abs=0.05)
    signal = (field.pixels - field.sky).astype(float)
    for k in range(0, len(found), 20):
        mine = found.segments == k + 1
        assert found.flux[k] == pytest.approx(signal[mine].sum(), rel=1e-6)
        assert found.peak[k] == pytest.approx(signal[mine].max(), rel=1e-6)
    share = found.flux[index] / field.flux
    assert 0.9 < np.median(share) < 1.0


@given(st.integers(0, 10**6), st.integers(0, 6), st.floats(1.0, 3.0))
def test_pixels_count_with_the_inverse_of_their_variance(seed: int, half: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    shape = (30, 45)
    rms = np.ones(shape, np.float32)
    signal = random.normal(0.0, 1.0, shape).astype(np.float32)
    variance = np.where(random.random(shape) < 0.1, random.uniform(2.0, 50.0, shape), 1.0).astype(np.float32)
    kernel = random.uniform(0.1, 1.0, half + 1).astype(np.float32)
    mask = np.zeros(shape, np.uint8)
    whole = np.outer(*2 * [np.concatenate([kernel[:0:-1], kernel])]).astype(float)
    weight = 1.0 / variance.astype(float)
    sums = ndimage.convolve(signal * weight, whole, mode="constant")
    squares = ndimage.convolve(weight - 1.0, whole**2, mode="constant") + np.sum(whole**2)
    wanted = sums / np.sqrt(np.maximum(squares, 0.05 * np.sum(whole**2))) / noise
    found = significant(signal, rms, mask, kernel, 0.3, noise, variance)
    np.testing.assert_allclose(found["value"], wanted.ravel()[found["place"]], rtol=2e-3, atol=2e-4)
    assert set(np.flatnonzero(wanted > 0.301)) <= set(found["place"]) <= set(np.flatnonzero(wanted > 0.299))


def test_noisy_columns_are_no_sources_and_hide_few(grid_field: Callable[..., Any]) -> None:
    field = grid_field(41, flux=(900.0, 1100.0), step=24)
    random = np.random.default_rng(3)
    variance = np.maximum(field.pixels, 1.0) / GAIN + 9.0
    noisy = np.zeros(field.pixels.shape, bool)
    noisy[:, random.choice(512, 40, replace=False)] = True
    pixels = field.pixels + np.where(noisy, random.normal(0.0, 80.0, noisy.shape), 0.0).astype(np.float32)
    variance = np.where(noisy, variance + 80.0**2, variance).astype(np.float32)
    rms = np.sqrt(field.sky / GAIN + 9.0).astype(np.float32)
    given = pixels - field.sky, rms, np.zeros(pixels.shape, np.uint8), OWN, GAIN
    real, false = {}, {}
    for name, plane in (("blind", None), ("told", variance)):
        found = detect_sources(*given, plane)
        index, distance = field.nearest(found.x, found.y)
        real[name] = np.count_nonzero(distance < 1.5) / len(field.x)
        false[name] = len(found) - np.count_nonzero(np.bincount(index[distance < 1.5], minlength=len(found)))
    assert real["told"] > max(0.85, real["blind"]) and false["told"] <= 2 < 20 < false["blind"]


def test_a_variance_plane_equal_to_the_noise_changes_nothing(grid_field: Callable[..., Any]) -> None:
    field = grid_field(42)
    variance = (np.maximum(field.pixels, 0.0) / GAIN + 9.0).astype(np.float32)
    rms = np.sqrt(field.sky / GAIN + 9.0).astype(np.float32)
    given = field.pixels - field.sky, rms, np.zeros(field.pixels.shape, np.uint8), OWN, GAIN
    without, given_it, wrong_gain = (
        detect_sources(*given, plane) for plane in (None, variance, np.float32(7.0) * variance)
    )
    for one in (given_it, wrong_gain):
        np.testing.assert_array_equal(one.x, without.x)
        np.testing.assert_array_equal(one.segments, without.segments)


@pytest.mark.parametrize("shared", [0.0, 0.6, 1.0])
def test_noise_that_pixels_share_is_not_taken_for_sources(shared: float) -> None:
    """The sky of neighbouring exposures leaves such noise, and so does resampling."""
    random = np.random.default_rng(5)
    noise = (
        ndimage.gaussian_filter(random.normal(size=(600, 600)), shared)
        if shared
        else random.normal(size=(600, 600))
    )
    noise = (noise / noise.std()).astype(np.float32)
    x, y = np.meshgrid(np.arange(30.0, 570.0, 60.0), np.arange(30.0, 570.0, 60.0))
    light = render((600, 600), x.ravel(), y.ravel(), np.full(x.size, 300.0), Moffat(2.5))
    rms = np.ones_like(noise)
    found = detect_sources(noise + light, rms, np.zeros(noise.shape, np.uint8), OWN, np.inf)
    assert x.size <= len(found) <= x.size + 8

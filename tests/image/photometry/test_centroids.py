"""Centroids under a window: against sep, against truth, and against the bound of what any can reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sep

from skylake.core.camera import Extraction
from skylake.core.flags import SourceFlag
from skylake.core.frame import Image
from skylake.image.detection.background import Background
from skylake.image.detection.detect_sources import detect_sources
from skylake.image.photometry.aperture_photometry import make_scene
from skylake.image.photometry.centroids import window_places, windowed_centroids
from skylake.simulate import Moffat, render

GAIN = 2.0


def bound(psf: Moffat, flux: float, sky_noise: float) -> float:
    """The Cramér-Rao bound on a coordinate of a star, of the pixels that 16 places within a pixel give."""
    variances, step = [], 0.02
    for dx in (-0.375, -0.125, 0.125, 0.375):
        for dy in (-0.375, -0.125, 0.125, 0.375):
            ahead, here, behind = (
                render((41, 41), [20.0 + dx + shift], [20.0 + dy], [flux], psf).astype(float)
                for shift in (step, 0.0, -step)
            )
            slope = (ahead - behind) / (2.0 * step)
            variances.append(1.0 / np.sum(slope**2 / (sky_noise**2 + here / GAIN)))
    return float(np.sqrt(np.mean(variances)))


@pytest.mark.parametrize("snr", [6.0, 10.0, 30.0, 100.0, 1000.0])
def test_errors_are_right_at_every_brightness(make_field: Callable[..., Any], snr: float) -> None:
    psf, pulls, errors, offsets = Moffat(2.5), [], [], []
    noise = float(np.sqrt(300.0 / GAIN + 9.0))
    # The flux of that signal-to-noise, optimally weighted.
    flux = 0.5 * (
        snr**2 / GAIN + np.sqrt(snr**4 / GAIN**2 + 4.0 * snr**2 * noise**2 * float(psf.noise_pixels))
    )
    for seed in (1, 2, 3):
        random = np.random.default_rng(seed)
        y, x = (25.0 + 30.0 * values.ravel() for values in np.mgrid[:20, :20])
        x, y = x + random.uniform(-0.5, 0.5, x.size), y + random.uniform(-0.5, 0.5, x.size)
        field = make_field(x, y, np.full(x.size, flux), (620, 620), psf=psf, seed=seed)
        signal = field.pixels - field.sky
        rms = np.full(signal.shape, noise, np.float32)
        image = Image(signal, np.zeros(signal.shape, np.uint8), (0, 0))
        background = Background(np.zeros_like(rms), rms, 0.0, noise)
        scene = make_scene(image, background, signal, np.zeros(signal.shape, np.int32), GAIN)
        sigma, leash = np.full(x.size, 1.25), np.full(x.size, 2.0)
        start = x + random.normal(0.0, 0.1, x.size), y + random.normal(0.0, 0.1, x.size)
        found = window_places(scene, *start, sigma, leash, 1.25)
        # One by one they are where they are together.
        alone = window_places(scene, *start, sigma, leash, 0.5)
        both = np.isfinite(found[0]) & np.isfinite(alone[0])
        assert both.mean() > 0.9 and np.mean(np.abs(found - alone)[:, both].max(axis=0) < 2e-3) > 0.99
        good = np.isfinite(found).all(axis=0)
        assert good.mean() > (0.9 if snr < 8.0 else 0.999)
        for value, error, true in ((found[0], found[2], x), (found[1], found[3], y)):
            pulls.append(((value - true) / error)[good])
            offsets.append((value - true)[good])
            errors.append(error[good])
        if seed == 1:
            other_x, other_y, flag = sep.winpos(signal, *start, sigma)
            # It stops while it still creeps, where noise makes the slope of the moment small.
            for _ in range(5):
                other_x, other_y, _ = sep.winpos(signal, other_x, other_y, sigma)
            same = good & (flag == 0)
            np.testing.assert_allclose(found[0][same], other_x[same], atol=0.01)
            np.testing.assert_allclose(found[1][same], other_y[same], atol=0.01)
    pull, offset = np.concatenate(pulls), np.concatenate(offsets)
    limit = bound(psf, flux, noise)
    print(snr, "pulls", pull.mean(), pull.std(), "scatter over the bound", offset.std() / limit)
    assert abs(pull.mean()) < 0.1 and 0.9 < pull.std() < 1.1
    # A Gaussian window leaves out what photons from the wings of bright stars know.
    assert 0.97 < offset.std() / limit < 1.45


def test_measured_sources_have_honest_centroids(fields: list[Any]) -> None:
    pulls = []
    for measured in fields:
        index, _ = measured.field.nearest(measured.sources.x, measured.sources.y)
        pulls.append((measured.sources.x[index] - measured.field.x) / measured.sources.x_err[index])
        pulls.append((measured.sources.y[index] - measured.field.y) / measured.sources.y_err[index])
    pull = np.concatenate(pulls)
    assert abs(pull.mean()) < 0.1 and 0.9 < pull.std() < 1.1


def test_an_elongated_star_is_less_certain_along_its_length(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    measured = measure(grid_field(50, flux=(5e3, 2e4), psf=Moffat(4.0, 0.4, 0.0), shape=(320, 320)))
    index, _ = measured.field.nearest(measured.sources.x, measured.sources.y)
    sources, field = measured.sources, measured.field
    assert np.median(sources.x_err[index] / sources.y_err[index]) > 1.3
    for value, error, true in ((sources.x, sources.x_err, field.x), (sources.y, sources.y_err, field.y)):
        pull = (value[index] - true) / error[index]
        assert abs(pull.mean()) < 0.4 and 0.75 < pull.std() < 1.25


def test_a_faint_star_does_not_walk_to_its_bright_neighbour(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    x = np.array([60.0, 68.0, 160.0, 166.0, 60.0])
    y = np.array([60.0, 60.0, 160.0, 160.0, 160.0])
    flux = np.array([2e5, 2e4, 1e5, 5e4, 1e4])
    measured = measure(make_field(x, y, flux, (256, 256)))
    index, distance = measured.field.nearest(measured.sources.x, measured.sources.y)
    assert len(set(index.tolist())) == 5 and distance.max() < 1.0
    sources, found = measured.sources, measured.detections
    failed = (sources.flags & SourceFlag.CENTROID_FAILED) != 0
    np.testing.assert_array_equal(sources.x[failed], found.x[sources.number[failed]])
    np.testing.assert_array_equal(sources.x_err[failed], found.x_err[sources.number[failed]])
    assert not failed[index[4]]


def with_trail(
    field: Any, rows: int, height: float, slope: float = 0.9
) -> tuple[Any, Callable[[Any, Any], Any]]:
    """A field with a trail of hard edges, and how far places are from it along y."""
    pixels, columns = field.pixels.copy(), np.arange(field.pixels.shape[1])
    for column in columns:
        first = round(15.0 + slope * column) - rows // 2
        pixels[max(0, first) : max(0, first + rows), column] += height
    return replace(field, pixels=pixels), lambda x, y: np.abs(y - 15.0 - slope * x)


@pytest.mark.parametrize("rows", [3, 5])
def test_a_hard_trail_leaves_distant_centroids_as_they_are(
    grid_field: Callable[..., Any], measure: Callable[..., Any], rows: int
) -> None:
    # Few stars are bright, so that pieces of the trail are more.
    field = grid_field(70, flux=(6e2, 1e4), step=44)
    trailed, distance = with_trail(field, rows, 500.0)
    plain, spoilt = measure(field), measure(trailed)
    far = distance(field.x, field.y) > 60.0
    places = []
    for measured in (plain, spoilt):
        index, apart = field.nearest(measured.sources.x, measured.sources.y)
        found = far & (apart < 1.5)
        assert found.sum() > 0.8 * far.sum() > 40
        failed = (measured.sources.flags[index] & SourceFlag.CENTROID_FAILED) != 0
        print(rows, "far", far.sum(), "found", found.sum(), "failed", failed[found].sum())
        assert failed[found].mean() < 0.03
        places.append(np.where(found, [measured.sources.x[index], measured.sources.y[index]], np.nan))
    scatter = [np.nanstd(place - (field.x, field.y)) for place in places]
    assert scatter[1] == pytest.approx(scatter[0], rel=0.1)


def test_stars_much_longer_than_wide_have_centroids(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    random = np.random.default_rng(3)
    y, x = (40.0 + 40.0 * values.ravel() for values in np.mgrid[:11, :11])
    x, y = (values + random.uniform(-3.0, 3.0, values.size) for values in (x, y))
    flux = np.exp(random.uniform(*np.log((5e3, 5e5)), x.size))
    # The sum over a trail of 16 px is what a tracking error makes of a star.
    steps = np.linspace(-8.0, 8.0, 33)
    trail = np.concatenate([y + step for step in steps])
    field = make_field(np.tile(x, steps.size), trail, np.tile(flux / steps.size, steps.size), (480, 480))
    measured = measure(replace(field, x=x, y=y, flux=flux))
    index, apart = measured.field.nearest(measured.sources.x, measured.sources.y)
    sources = measured.sources
    failed = (sources.flags[index] & SourceFlag.CENTROID_FAILED) != 0
    print("failed", failed.sum(), "of", failed.size, "apart", np.median(apart))
    assert (apart < 3.0).mean() > 0.97 and failed.mean() < 0.05
    for value, error, true in ((sources.x, sources.x_err, x), (sources.y, sources.y_err, y)):
        pull = ((value[index] - true) / error[index])[~failed & (apart < 3.0)]
        print("pull", pull.mean(), pull.std(), 0.7413 * np.subtract(*np.percentile(pull, [75, 25])))
        assert abs(pull.mean()) < 0.4 and 0.75 < pull.std() < 1.25


def test_a_frame_without_a_bright_star_has_honest_errors(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    # None of these stars is clear, as through clouds: the window is still theirs.
    pulls = []
    for seed in (31, 32, 33):
        field = grid_field(seed, flux=(600.0, 750.0), step=34, shape=(768, 768))
        sources = measure(field).sources
        index, distance = field.nearest(sources.x, sources.y)
        pulls.append((sources.x[index] - field.x)[distance < 2.0] / sources.x_err[index][distance < 2.0])
    together = np.concatenate(pulls)
    print(together.size, "places, median and width of the pulls:", np.median(together), together.std())
    assert together.size > 1200
    assert abs(np.median(together)) < 0.1
    assert 0.9 < together.std() < 1.1


def test_pieces_of_uneven_sky_do_not_widen_the_window() -> None:
    random, shape = np.random.default_rng(4), (300, 300)
    y, x = (20.0 + 26.0 * values.ravel() for values in np.mgrid[:11, :11])
    noise = np.float32(10.0)
    stars = render(shape, x, y, np.full(x.size, 1000.0), Moffat(1.8))
    stars += render(shape, x[::9], y[::9], np.full(x[::9].size, 9e3), Moffat(1.8))
    clouds = render(shape, x + 13.0, y + 13.0, np.full(x.size, 5e4), Moffat(13.0))
    signal = (stars + clouds + random.normal(0.0, noise, shape)).astype(np.float32)
    rms, plane = np.full(shape, noise), np.zeros(shape, np.uint8)
    found = detect_sources(signal, rms, plane, Extraction(), GAIN)
    background = Background(np.zeros_like(rms), rms, 0.0, float(noise))
    scene = make_scene(Image(signal, plane, (0, 0)), background, signal, found.segments, GAIN)
    order = np.arange(len(found), dtype=np.int32)
    places = windowed_centroids(scene, found, order)
    near = np.hypot(places[0][:, None] - x, places[1][:, None] - y)
    star = near.min(axis=1) < 1.5
    assert np.count_nonzero(star) > 60
    assert np.mean(places[4][star]) < 0.05

"""Sums in apertures against sep, and their errors against truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sep
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.flags import PixelFlag
from skylake.core.frame import Image
from skylake.image.detection.background import Background
from skylake.image.photometry.aperture_kernels import circle_sums
from skylake.image.photometry.aperture_photometry import (
    PhotometryScene,
    bits_in_circles,
    bits_in_footprints,
    circular_fluxes,
    elliptical_fluxes,
    kron_radii,
    make_scene,
    radial_profiles,
)
from skylake.image.photometry.pixel_sum_kernels import AREA, N_SUMS, OBSCURED, SQUARES
from skylake.simulate import Moffat, render

SHAPE = (90, 110)
GAIN, NOISE_E = 2.0, 6.0


def scene_of(
    signal: Any, mask: Any = None, variance: Any = None, rms: float = 2.0, gain: float = GAIN
) -> PhotometryScene:
    mask = np.zeros(signal.shape, np.uint8) if mask is None else mask
    flat = np.full(signal.shape, rms, np.float32)
    background = Background(np.zeros_like(flat), flat, 0.0, rms)
    image = Image(np.asarray(signal, np.float32), mask, (0, 0), variance)
    return make_scene(image, background, image.pixels, np.zeros(signal.shape, np.int32), gain)


def noisy(seed: int) -> Any:
    return np.random.default_rng(seed).normal(5.0, 2.0, SHAPE).astype(np.float32)


def masked(seed: int, share: float) -> Any:
    hit = np.random.default_rng(seed).random(SHAPE) < share
    return (hit * np.uint8(PixelFlag.HOT)).astype(np.uint8)


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.02, 0.3]), n_radii=st.integers(1, 6))
def test_circles_are_those_of_sep_whatever_is_masked_or_outside(
    seed: int, share: float, n_radii: int
) -> None:
    random = np.random.default_rng(seed)
    signal, mask = noisy(seed), masked(seed, share)
    x, y = random.uniform(-0.4, SHAPE[1] - 0.6, 20), random.uniform(-0.4, SHAPE[0] - 0.6, 20)
    radii = tuple(random.uniform(0.3, 14.0, n_radii))
    flux, _, within = circular_fluxes(scene_of(signal, mask), x, y, radii)
    hidden = within.any(axis=0)
    assert np.array_equal(within[int(np.argmax(radii))], hidden)
    bad = np.zeros(20, bool)
    for found, radius in zip(flux, radii, strict=True):
        with np.errstate(all="ignore"):
            expected, _, flag = sep.sum_circle(signal, x, y, radius, mask=mask > 0, subpix=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        bad |= (flag & sep.APER_HASMASKED) != 0
    # sep also calls apertures masked that only come near to a masked pixel.
    assert not (hidden & ~bad).any() and np.count_nonzero(bad & ~hidden) <= 2


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.05]))
def test_ellipses_and_kron_radii_are_those_of_sep(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    signal, mask = noisy(seed), masked(seed, share)
    x, y = random.uniform(20.0, 90.0, 12), random.uniform(20.0, 70.0, 12)
    a = random.uniform(0.5, 3.0, 12)
    b, theta = a * random.uniform(0.4, 1.0, 12), random.uniform(-1.57, 1.57, 12)
    scale = random.uniform(1.0, 5.0, 12)
    scene = scene_of(signal, mask)
    found, _ = elliptical_fluxes(scene, x, y, a, b, theta, scale)
    expected, _, _ = sep.sum_ellipse(signal, x, y, a, b, theta, scale, mask=mask > 0, subpix=0)
    # A pixel cut into five slices is right to some hundredths of itself.
    np.testing.assert_allclose(found, expected, atol=0.1 * 5.0 * np.sqrt(2.0 * np.pi * a.max() * scale.max()))
    kron, _ = sep.kron_radius(signal, x, y, a, b, theta, 6.0, mask=mask > 0)
    np.testing.assert_allclose(kron_radii(scene, x, y, a, b, theta, 6.0), kron, rtol=1e-5)


def test_the_light_of_nothing_has_no_kron_radius() -> None:
    scene = scene_of(-np.ones(SHAPE, np.float32))
    here = np.array([40.0])
    assert np.isnan(kron_radii(scene, here, here, here * 0 + 2.0, here * 0 + 1.0, here * 0, 6.0)).all()


def test_the_parts_of_pixels_add_up_to_the_area() -> None:
    scene = scene_of(noisy(1), masked(1, 0.1))
    random = np.random.default_rng(1)
    x, y, radii = random.uniform(20, 90, 200), random.uniform(20, 70, 200), np.array([0.2, 1.0, 3.0, 7.5])
    sums = np.zeros((200, 4, N_SUMS))
    circle_sums(scene.planes()._replace(unusable=int(PixelFlag.HOT)), x, y, radii, sums)
    whole = sums[..., AREA] + sums[..., OBSCURED]
    np.testing.assert_allclose(whole, np.broadcast_to(np.pi * radii**2, whole.shape), rtol=1e-9)
    assert (sums[..., SQUARES] <= sums[..., AREA] + 1e-12).all()


def test_an_aperture_of_unusable_pixels_has_no_flux() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[30:60, 30:60] = PixelFlag.DEAD
    flux, error, hidden = circular_fluxes(
        scene_of(noisy(2), mask), np.array([45.0]), np.array([45.0]), (4.0,)
    )
    assert np.isnan(flux).all() and np.isnan(error).all() and hidden.all()


def test_bits_are_those_of_the_pixels_below() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[50, 40], mask[20, 100] = PixelFlag.SATURATED, PixelFlag.HOT | PixelFlag.NEAR_SATURATED
    segments = np.zeros(SHAPE, np.int32)
    segments[49:52, 38:41], segments[0:3, 0:3], segments[19:22, 99:102] = 1, 2, 3
    scene = scene_of(noisy(3), mask)
    x, y = np.array([38.0, 36.9, 100.0]), np.array([50.0, 50.0, 17.0])
    assert bits_in_circles(scene, x, y, 3.0).tolist() == [2, 0, int(PixelFlag.HOT | PixelFlag.NEAR_SATURATED)]
    both = int(PixelFlag.SATURATED | PixelFlag.NEAR_SATURATED)
    assert bits_in_footprints(scene, segments, 3, both).tolist() == [2, 0, int(PixelFlag.NEAR_SATURATED)]


@pytest.mark.parametrize("fwhm", [2.2, 3.0, 5.0])
def test_half_light_radii_are_those_of_the_profile(fwhm: float) -> None:
    psf, random = Moffat(fwhm), np.random.default_rng(4)
    y, x = (25.0 + 50.0 * values.ravel() for values in np.mgrid[:5, :5])
    x, y = x + random.uniform(-0.5, 0.5, 25), y + random.uniform(-0.5, 0.5, 25)
    signal = np.ascontiguousarray(render((250, 250), x, y, np.full(25, 1e4), psf))
    widths, half = radial_profiles(
        scene_of(signal),
        x,
        y,
        np.full(25, 1e4),
        np.full(25, 20.0),
        (0.75, 1.25, 1.75, 2.25, 2.75, 3.5, 4.5, 6.0),
    )
    alpha = float(psf.alpha_px)
    true = alpha * np.sqrt(2.0 ** (1.0 / (psf.beta - 1.0)) - 1.0)
    # Pixels widen stars twice, when they are exposed and when a circle cuts them.
    assert (
        np.median(half) == pytest.approx(np.sqrt(true**2 + 4.0 * np.log(2.0) / 12.0), rel=0.02)
        and np.ptp(half) < 0.05 * true
    )
    assert np.median(np.sqrt(widths - 1.4)) == pytest.approx(fwhm, rel=0.05)
    expected, _ = sep.flux_radius(signal, x, y, np.full(25, 20.0), 0.5, normflux=np.full(25, 1e4), subpix=5)
    np.testing.assert_allclose(half, expected, rtol=0.03)


RADII = (1.5, 3.0, 5.0, 8.0, 12.0)


def exposures(seed: int) -> tuple[Any, Any, Any, Any, Any]:
    """Stars at every magnitude on a sky that is known, and the noise of every pixel."""
    random = np.random.default_rng(seed)
    y, x = (30.0 + 40.0 * values.ravel() for values in np.mgrid[:16, :16])
    x, y = x + random.uniform(-0.5, 0.5, x.size), y + random.uniform(-0.5, 0.5, x.size)
    flux = np.geomspace(100.0, 3e6, x.size)[random.permutation(x.size)]
    light = render((660, 660), x, y, flux, Moffat(2.5))
    electrons = random.poisson((light + 300.0) * GAIN) + random.normal(0.0, NOISE_E, light.shape)
    pixels = (electrons / GAIN).astype(np.float32)
    return x, y, flux, light, pixels


@pytest.mark.parametrize("plane", ["none", "variance", "wrong gain"])
def test_pulls_of_every_aperture_are_normal_at_every_magnitude(plane: str) -> None:
    pulls, fluxes = [], []
    for seed in range(5):
        x, y, flux, light, pixels = exposures(seed)
        variance = None
        if plane != "none":
            variance = np.maximum(pixels, 0.0) / GAIN + np.float32((NOISE_E / GAIN) ** 2)
            variance = variance * np.float32(3.0 if plane == "wrong gain" else 1.0)
        rms = float(np.sqrt(300.0 / GAIN + (NOISE_E / GAIN) ** 2))
        signal = pixels - np.float32(300.0)
        scene = scene_of(signal, None, variance, rms)
        if plane != "none":
            # The sky around the stars shows how much too large the plane is.
            assert scene.scale == pytest.approx(1.0 if plane == "variance" else 1.0 / 3.0, rel=0.04)
        found, error, _ = circular_fluxes(scene, x, y, RADII)
        true, _, _ = circular_fluxes(scene_of(light), x, y, RADII)
        pulls.append((found - true) / error)
        fluxes.append(flux)
    together, flux = np.concatenate(pulls, axis=1), np.concatenate(fluxes)
    for low, high in ((0.0, 3e3), (3e3, 1e5), (1e5, np.inf)):
        chosen = (flux >= low) & (flux < high)
        for radius, pull in zip(RADII, together[:, chosen], strict=True):
            print(plane, radius, low, pull.size, pull.mean(), pull.std())
            assert abs(pull.mean()) < 0.1 + 2.0 / np.sqrt(pull.size)
            assert abs(pull.std() - 1.0) < 0.1 + 1.4 / np.sqrt(pull.size)
    for pull in together:
        assert abs(pull.mean()) < 0.1 and 0.9 < pull.std() < 1.1


def test_a_variance_plane_does_not_matter_to_fluxes(
    grid_field: Callable[..., Any], measure: Callable[..., Any], as_image: Callable[..., Image]
) -> None:
    field = grid_field(40, shape=(256, 256))
    image = as_image(field.pixels)
    variance = np.maximum(field.pixels, 0.0) / np.float32(GAIN) + np.float32((NOISE_E / GAIN) ** 2)
    plain, planed = measure(field, image).sources, measure(field, replace(image, variance=variance)).sources
    for name in ("aper1", "aper2", "aper3", "kron"):
        # But for what is taken off for the errors of places, which it is behind.
        assert (np.abs(plain.flux[name] - planed.flux[name]) < 0.01 * plain.flux_err[name]).all()
        np.testing.assert_allclose(planed.flux_err[name], plain.flux_err[name], rtol=0.1)
    np.testing.assert_array_equal(plain.x, planed.x)
    np.testing.assert_allclose(planed.x_err, plain.x_err, rtol=0.1)

"""The fit of all stars at once: right for blends, honest in its errors, calm where nothing can be known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from skylake.image.psf.circle_tables import Circles
from skylake.image.psf.psf_fit import FitImage, StarFit, by_place, fit_stars
from skylake.image.psf.psf_model import FramePsf

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
ImageOf = Callable[..., Single]
Fit = Callable[..., StarFit]

SHAPE = (260, 300)
GAIN = 1.5
NOISE = 20.0


@pytest.fixture(scope="module")
def psf(lengthened_psf: Callable[..., FramePsf]) -> FramePsf:
    return lengthened_psf(SHAPE)


@pytest.fixture(scope="module")
def image_of(psf: FramePsf, drawn_light: Callable[..., Floats]) -> ImageOf:
    """A function that draws stars as the model has them, with or without noise."""

    def image(x: Floats, y: Floats, flux: Floats, noise: float = 0.0, seed: int = 1) -> Single:
        light = drawn_light(psf, SHAPE, x, y, flux)
        if noise:
            random = np.random.default_rng(seed)
            light = random.poisson(light * GAIN) / GAIN + random.normal(0.0, noise, SHAPE)
        return light.astype(np.float32)

    return image


@pytest.fixture(scope="module")
def fit(psf: FramePsf) -> Fit:
    """A function that fits stars, where there are bad pixels without these."""

    def go(pixels: Single, x: Floats, y: Floats, bad: tuple[slice, slice] | None = None) -> StarFit:
        good = np.ones(SHAPE, np.uint8)
        if bad is not None:
            good[bad] = 0
        return fit_stars(
            FitImage(pixels, good, np.full(SHAPE, NOISE, np.float32), GAIN), x, y, psf, level_sky=False
        )

    return go


def crowd(n: int, seed: int) -> tuple[Floats, Floats, Floats]:
    random = np.random.default_rng(seed)
    x, y = random.uniform(0, SHAPE[1] - 1, n), random.uniform(0, SHAPE[0] - 1, n)
    return x, y, 10.0 ** random.uniform(2.5, 5.5, n)


def test_without_noise_every_flux_of_a_crowd_is_found(image_of: ImageOf, fit: Fit) -> None:
    x, y, flux = crowd(700, 3)
    found = fit(image_of(x, y, flux), x, y)
    apart = found.increase < 10.0
    assert apart.mean() > 0.9
    # Wings beyond the total radius are not subtracted, which faint stars beside bright ones feel.
    assert np.abs(found.flux - flux)[apart].max() < 150.0
    assert np.median(np.abs(found.flux / flux - 1.0)) < 2e-3
    assert found.steps < 100


def test_the_order_of_the_stars_does_not_matter(image_of: ImageOf, fit: Fit) -> None:
    x, y, flux = crowd(300, 4)
    pixels = image_of(x, y, flux, NOISE)
    one = fit(pixels, x, y)
    order = by_place(x, y)
    two = fit(pixels, x[order], y[order])
    for name in ("flux", "variance", "chi2", "increase", "share"):
        assert getattr(one, name)[order] == pytest.approx(getattr(two, name), rel=1e-4, abs=1e-3), name
    assert one.left == pytest.approx(two.left, abs=0.05)


def test_pulls_of_a_crowd_have_the_width_one(image_of: ImageOf, fit: Fit) -> None:
    pulls = []
    for seed in range(6):
        x, y, flux = crowd(250, 10 + seed)
        found = fit(image_of(x, y, flux, NOISE, seed), x, y)
        chosen = (found.increase < 10.0) & (found.share > 0.999)
        pulls.append(((found.flux - flux) / np.sqrt(found.variance))[chosen])
    together = np.concatenate(pulls)
    assert abs(np.median(together)) < 0.12
    low, high = np.percentile(together, [15.865, 84.135])
    assert 0.9 < 0.5 * (high - low) < 1.1


def test_a_blend_is_shared_out_without_bias(image_of: ImageOf, fit: Fit) -> None:
    random = np.random.default_rng(5)
    n = 60
    grid = np.array([(25.0 + 28 * (k % 10), 25.0 + 30 * (k // 10)) for k in range(n)])
    angle = random.uniform(0, 2 * np.pi, n)
    x = np.concatenate([grid[:, 0], grid[:, 0] + 3.0 * np.cos(angle)])
    y = np.concatenate([grid[:, 1], grid[:, 1] + 3.0 * np.sin(angle)])
    flux = np.repeat([4000.0, 4000.0], n)
    ratios = [fit(image_of(x, y, flux, NOISE, seed), x, y).flux / flux for seed in range(4)]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.01)


def test_what_is_left_has_no_stars(image_of: ImageOf, fit: Fit) -> None:
    x, y, flux = crowd(500, 6)
    pixels = image_of(x, y, flux, NOISE)
    found = fit(pixels, x, y)
    assert pixels.std() > 10 * NOISE
    low, high = np.percentile(found.left, [15.865, 84.135])
    assert 0.5 * (high - low) == pytest.approx(NOISE, rel=0.1)
    assert np.nanmedian(found.chi2) == pytest.approx(1.0, abs=0.1)


def test_bad_pixels_take_no_part(image_of: ImageOf, fit: Fit) -> None:
    x, y = np.array([100.0, 160.0, 200.3]), np.array([100.0, 100.0, 100.6])
    pixels = image_of(x, y, np.array([1e4, 1e4, 1e4]))
    bad = (slice(98, 103), slice(101, 103))
    pixels[bad] = 1e7
    found = fit(pixels, x, y, bad)
    assert found.flux == pytest.approx([1e4] * 3, rel=2e-3)
    assert found.share[0] < 0.9
    assert found.variance[0] > 1.1 * found.variance[1]
    assert found.share[1:] == pytest.approx(1.0)


def test_a_bad_pixel_changes_nothing_of_stars_far_away(image_of: ImageOf, psf: FramePsf) -> None:
    """They are summed by another way than those that have one in their circles."""
    x, y, flux = crowd(80, 5)
    x = 0.7 * x
    pixels, rms = image_of(x, y, flux, NOISE), np.full(SHAPE, NOISE, np.float32)
    found = []
    for bad in (0, 1):
        good = np.ones(SHAPE, np.uint8)
        good[130 : 130 + bad, 290] = 0
        circles = Circles.of((3.0, 5.0, 8.0), 1)
        found.append(
            fit_stars(FitImage(pixels, good, rms, GAIN), x, y, psf, level_sky=False, circles=circles)
        )
    clean, spoiled = found
    np.testing.assert_allclose(spoiled.sums, clean.sums, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(spoiled.flux, clean.flux, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(spoiled.variance, clean.variance, rtol=1e-5)
    np.testing.assert_allclose(spoiled.chi2, clean.chi2, rtol=1e-5)
    np.testing.assert_array_equal(spoiled.bad, clean.bad)


@pytest.mark.parametrize("fwhm_px", [1.9, 2.6, 3.2, 3.8, 5.2])
def test_sums_in_a_circle_do_not_depend_on_others(
    image_of: ImageOf, lengthened_psf: Callable[..., FramePsf], fwhm_px: float
) -> None:
    """The stamp of the fit is as large as that of the first circle, of a later one, or of none."""
    x, y, flux = crowd(80, 5)
    pixels, rms = image_of(x, y, flux, NOISE), np.full(SHAPE, NOISE, np.float32)
    good, radii, psf = np.ones(SHAPE, np.uint8), (3.0, 5.0, 8.0), lengthened_psf(SHAPE, fwhm_px)

    def sums(radii: tuple[float, ...]) -> Floats:
        circles = Circles.of(radii, 0)
        return fit_stars(FitImage(pixels, good, rms, GAIN), x, y, psf, level_sky=False, circles=circles).sums

    together = sums(radii)
    for number, radius in enumerate(radii):
        alone = sums((radius,))[:, 0]
        # The light that the main circle holds is asked of no other.
        for column in (0, 1, 2, 3):
            np.testing.assert_allclose(together[:, number, column], alone[:, column], rtol=1e-5, atol=1e-2)


def test_a_bad_pixel_counts_anywhere_in_the_largest_circle(image_of: ImageOf, psf: FramePsf) -> None:
    x, y = np.array([100.0, 180.0]), np.array([100.0, 100.0])
    pixels, rms = image_of(x, y, np.array([1e4, 1e4])), np.full(SHAPE, NOISE, np.float32)
    for row, column in ((92, 100), (108, 100), (100, 92), (100, 108), (100, 100), (94, 105)):
        good = np.ones(SHAPE, np.uint8)
        good[row, column] = 0
        circles = Circles.of((3.0, 5.0, 8.0), 2)
        found = fit_stars(FitImage(pixels, good, rms, GAIN), x, y, psf, level_sky=False, circles=circles)
        assert found.bad.tolist() == [1, 0]


def test_a_star_without_a_good_pixel_has_no_flux(image_of: ImageOf, fit: Fit) -> None:
    x, y = np.array([100.0, 180.0]), np.array([100.0, 100.0])
    pixels = image_of(x, y, np.array([1e4, 1e4]))
    found = fit(pixels, x, y, (slice(80, 121), slice(80, 121)))
    assert np.isnan(found.flux[0])
    assert np.isnan(found.variance[0])
    assert found.flux[1] == pytest.approx(1e4, rel=2e-3)


def test_two_stars_at_one_place_are_reported(image_of: ImageOf, fit: Fit) -> None:
    x, y = np.array([100.0, 100.0, 180.0]), np.array([100.0, 100.0, 100.0])
    found = fit(image_of(x, y, np.array([5e3, 5e3, 1e4])), x, y)
    assert np.isfinite(found.flux).all()
    assert found.flux[0] + found.flux[1] == pytest.approx(1e4, rel=3e-3)
    assert (found.increase > 100).tolist() == [True, True, False]


def test_a_star_on_the_edge_is_fitted_with_what_is_there(image_of: ImageOf, fit: Fit) -> None:
    x, y = np.array([0.2, 150.0]), np.array([259.3, 0.0])
    found = fit(image_of(x, y, np.array([1e4, 2e4])), x, y)
    assert found.flux == pytest.approx([1e4, 2e4], rel=2e-3)
    assert (found.share < 0.8).all()


def test_no_stars_are_no_error(fit: Fit) -> None:
    nothing = np.zeros(0)
    found = fit(np.zeros(SHAPE, np.float32), nothing, nothing)
    assert len(found.flux) == 0


def test_the_residual_sky_is_taken_off(image_of: ImageOf, psf: FramePsf) -> None:
    x, y, flux = crowd(150, 8)
    pixels = image_of(x, y, flux, NOISE) + np.float32(15.0)
    good, rms = np.ones(SHAPE, np.uint8), np.full(SHAPE, NOISE, np.float32)
    off = [
        np.median(fit_stars(FitImage(pixels, good, rms, GAIN), x, y, psf, level).flux - flux)
        for level in (False, True)
    ]
    assert off[0] > 100.0
    assert abs(off[1]) < 0.25 * off[0]

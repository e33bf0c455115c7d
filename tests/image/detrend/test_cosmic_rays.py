"""Cosmic rays are found, and stars are not taken for them, even where these are hardly wider than a pixel."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from astropy.io import fits

from skylake.core.camera import Camera, Detector, ReductionSteps
from skylake.core.flags import PixelFlag
from skylake.core.frame import Image, RawImage
from skylake.core.reduction_settings import CosmicRays
from skylake.image.detrend.cosmic_rays import find_cosmic_rays
from skylake.image.detrend.detrend_chain import Conditions, detrend_image
from skylake.simulate import Moffat, render

GAIN, READ_NOISE, SKY = 1.5, 8.0, 300.0
SHAPE = (256, 256)


@dataclass(frozen=True)
class Storm:
    pixels: np.ndarray
    bright: np.ndarray
    hits: np.ndarray
    stars: np.ndarray
    cores: np.ndarray


def storm(fwhm: float, n_rays: int = 60) -> Storm:
    random = np.random.default_rng(int(10 * fwhm))
    n = 60
    x, y = random.uniform(10, 245, (2, n))
    stars = render(SHAPE, x, y, 10 ** random.uniform(3.0, 5.3, n), Moffat(fwhm))
    pixels = (random.poisson((stars + SKY) * GAIN) + random.normal(0.0, READ_NOISE, SHAPE)) / GAIN
    hits = np.zeros(SHAPE, bool)
    for _ in range(n_rays):
        row, column = random.integers(8, 248, 2)
        length, angle, energy = (
            random.integers(1, 6),
            random.uniform(0, np.pi),
            10 ** random.uniform(2.5, 4.0),
        )
        for step in range(length):
            place = int(row + step * np.sin(angle)), int(column + step * np.cos(angle))
            pixels[place] += 1.5 * energy / length
            hits[place] = True
    noise = np.sqrt(SKY / GAIN + (READ_NOISE / GAIN) ** 2)
    cores = np.zeros(SHAPE, bool)
    cores[np.round(y).astype(int), np.round(x).astype(int)] = True
    return Storm(pixels.astype(np.float32), hits & (pixels - SKY > 10 * noise), hits, stars, cores & ~hits)


def found_in(storm: Storm, mask: np.ndarray | None = None, **params: float) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8) if mask is None else mask
    image = Image(storm.pixels, mask, (0, 0))
    before = storm.pixels.copy()
    found = find_cosmic_rays(image, CosmicRays(**params), GAIN, READ_NOISE)
    np.testing.assert_array_equal(storm.pixels, before)
    return found


@pytest.mark.parametrize(("fwhm", "lost"), [(1.2, 0.05), (1.5, 0.02), (2.0, 0.02), (3.0, 0.02)])
def test_most_rays_are_found_and_hardly_any_star_is(fwhm: float, lost: float) -> None:
    one = storm(fwhm)
    found = found_in(one)
    assert found[one.bright].mean() > 0.9
    assert found[one.cores].mean() <= 0.05
    assert one.stars[found & ~one.hits].sum() <= lost * one.stars.sum()


def test_with_the_width_of_stars_even_less_of_them_is_lost() -> None:
    one = storm(2.5)
    found = found_in(one, psf_fwhm_px=2.5, object_limit=2.0)
    assert found[one.bright].mean() > 0.85 and not found[one.cores].any()


def test_masked_and_saturated_pixels_are_left_out() -> None:
    one = storm(3.0)
    mask = one.bright * np.uint8(PixelFlag.HOT)
    assert not found_in(one, mask)[one.bright].any()


def test_an_empty_sky_has_next_to_none() -> None:
    pixels = np.random.default_rng(1).normal(SKY, 15.0, SHAPE).astype(np.float32)
    image = Image(pixels, np.zeros(SHAPE, np.uint8), (0, 0), np.full(SHAPE, 225.0, np.float32))
    assert find_cosmic_rays(image, CosmicRays(), GAIN, READ_NOISE).mean() < 1e-4


@pytest.mark.parametrize("told", [1.0, 40.0])
@pytest.mark.parametrize("carries", [True, False])
def test_a_wrong_read_noise_makes_no_cosmic_rays_and_hides_none(told: float, carries: bool) -> None:
    """The true one is five times what the header says, or a fifth of it."""
    one, true = storm(3.0), READ_NOISE if told > READ_NOISE else 5.0 * READ_NOISE
    random = np.random.default_rng(2)
    more = random.normal(0.0, np.sqrt(true**2 - READ_NOISE**2) / GAIN, SHAPE)
    pixels = (one.pixels + more).astype(np.float32)
    variance = ((np.maximum(pixels, 0.0) / GAIN) + (told / GAIN) ** 2).astype(np.float32)
    image = Image(pixels, np.zeros(SHAPE, np.uint8), (0, 0), variance if carries else None)
    right = Image(pixels, image.mask, (0, 0), variance + np.float32((true**2 - told**2) / GAIN**2))
    found = find_cosmic_rays(image, CosmicRays(), GAIN, told)
    expected = find_cosmic_rays(right if carries else image, CosmicRays(), GAIN, true)
    assert (found & ~one.hits).mean() < 2e-4 + 2.0 * (expected & ~one.hits).mean()
    assert found[one.bright].mean() > expected[one.bright].mean() - 0.03


_THIN = """
import sys
import numpy as np
from skylake.core.reduction_settings import CosmicRays
from skylake.core.frame import Image
from skylake.image.detrend.cosmic_rays import find_cosmic_rays

shape = int(sys.argv[1]), int(sys.argv[2])
for width in (None, 2.5) * 3:
    pixels = np.random.default_rng(1).normal(1000.0, 10.0, shape).astype(np.float32)
    pixels[shape[0] // 2, shape[1] // 2] += 5000.0
    found = find_cosmic_rays(Image(pixels, np.zeros(shape, np.uint8), (0, 0)), CosmicRays(psf_fwhm_px=width), 1.0, 5.0)
    assert found.shape == shape and found.dtype == bool
print(np.count_nonzero(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(1, 300), (300, 1), (2, 300), (3, 300), (300, 4), (4, 4), (6, 300), (7, 7), (7, 300)]
)
def test_images_of_few_rows_or_columns_neither_hang_nor_crash(shape: tuple[int, int]) -> None:
    # In a process of its own: a crash would take all other tests with it, and a hang would never end.
    run = subprocess.run(
        [sys.executable, "-c", _THIN, *map(str, shape)],
        timeout=900,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if min(shape) < 7:
        assert run.stdout.strip() == "0"


#: The colours of the sky in a cell of two by two pixels.
CELL = np.array([[0.5, 1.0], [1.0, 0.35]])
COLOURS = ("R", "G1", "G2", "B")


@dataclass(frozen=True)
class Mosaic:
    pixels: np.ndarray
    hits: np.ndarray
    stars: np.ndarray
    cores: np.ndarray

    def reduced(self, *steps: str, colour: str = "G1", overscan: bool = False) -> Image:
        detector = Detector(
            bayer_pattern="RGGB",
            gain_e_per_adu=GAIN,
            read_noise_e=READ_NOISE,
            overscan_x=(0, 4) if overscan else None,
        )
        camera = Camera("mosaic", detector=detector, reduction=ReductionSteps(steps=steps, colour=colour))
        raw = RawImage(self.pixels.copy(), fits.Header(), 0)
        return detrend_image(raw, camera, Conditions(None, GAIN, READ_NOISE, gain_known=True))


def mosaic(sky_e: float, fwhm: float = 3.0) -> Mosaic:
    """Return a mosaic of colours with stars, and single pixels that are hit, far from those."""
    random, shape = np.random.default_rng(5), (512, 512)
    x, y = random.uniform(10, 501, (2, 60))
    stars = render(shape, x, y, 10 ** random.uniform(3.0, 5.0, 60), Moffat(fwhm))
    electrons = (stars * GAIN + sky_e) * np.tile(CELL, (256, 256))
    pixels = (random.poisson(electrons) + random.normal(0.0, READ_NOISE, shape)) / GAIN
    cores = np.zeros(shape, bool)
    cores[np.round(y).astype(int), np.round(x).astype(int)] = True
    hits = np.zeros(shape, bool)
    hits[tuple(random.integers(20, 492, (2, 150)))] = True
    hits &= stars < 1.0
    pixels[hits] += 1500.0
    return Mosaic(pixels.astype(np.float32), hits, stars, cores & ~hits)


@pytest.mark.parametrize("sky_e", [500.0, 2000.0])
@pytest.mark.parametrize(("fwhm", "lost"), [(3.0, 0.02), (4.0, 0.002)])
@pytest.mark.parametrize("steps", [("cosmic_rays", "bayer"), ("bayer", "cosmic_rays")])
def test_rays_on_a_colour_mosaic_are_found_in_every_order(
    sky_e: float, fwhm: float, lost: float, steps: tuple[str, ...]
) -> None:
    one = mosaic(sky_e, fwhm)
    found = np.zeros(one.hits.shape, bool)
    for number, colour in enumerate(COLOURS):
        here = slice(number // 2, None, 2), slice(number % 2, None, 2)
        found[here] = one.reduced(*steps, colour=colour).having(PixelFlag.COSMIC_RAY)
        assert found[here][one.hits[here]].mean() >= 0.95, colour
    assert found[one.cores].mean() <= 0.05
    assert one.stars[found & ~one.hits].sum() <= lost * one.stars.sum()


def test_rays_on_a_kept_mosaic_are_filled_by_their_colour() -> None:
    one = mosaic(2000.0)
    image = one.reduced("overscan", "cosmic_rays", overscan=True)
    found = image.having(PixelFlag.COSMIC_RAY)
    assert found[one.hits].mean() >= 0.95
    assert one.stars[found & ~one.hits].sum() <= 0.02 * one.stars.sum()
    # As far off as noise is, and not by what colours differ.
    clean = np.median(image.pixels.reshape(256, 2, 256, 2), axis=(0, 2))
    expected = np.tile(clean, (256, 256))[found & one.hits]
    assert np.median(np.abs(image.pixels[found & one.hits] - expected)) < 50.0

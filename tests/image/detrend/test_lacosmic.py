"""Piece by piece exactly those cosmic rays are found that astroscrappy finds on the whole image."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from astroscrappy import detect_cosmics
from astroscrappy.utils import sepmedfilt5, sepmedfilt7, sepmedfilt9

from skylake.core.flags import PixelFlag
from skylake.core.frame import Image, Mask
from skylake.core.reduction_settings import CosmicRays
from skylake.image.detrend.lacosmic import search, separable_medians
from skylake.simulate import Moffat, render

GAIN, READ_NOISE, EXCESS = 1.5, 8.0, 30.0
#: Borders of pieces are at multiples of 128 and 256.
SHAPE, PIECE_PX = (290, 530), 128


def drawn(with_variance: bool) -> Image:
    """Stars on a slope, tracks, also beside each other and along borders of pieces, and areas that are left out."""
    random = np.random.default_rng(3)
    height, width = SHAPE
    n_stars, n_tracks = 150, 500
    light = render(
        SHAPE, *random.uniform(0, 1, (2, n_stars)) * [[width], [height]], 10.0 ** random.uniform(2.5, 5.5, n_stars),
        Moffat(1.8),
    )  # fmt: skip
    pixels = (light + 300.0 + 0.5 * np.arange(width) + random.normal(0.0, 15.0, SHAPE)).astype(np.float32)
    for number in range(n_tracks):
        y, x = random.integers(0, height), random.integers(0, width)
        if number % 2:
            x = PIECE_PX * random.integers(1, 5) + random.integers(-15, 16)
        length, angle, energy = (
            random.integers(1, 25),
            random.uniform(0.0, np.pi),
            10.0 ** random.uniform(3.0, 5.0),
        )
        for step in range(length):
            row, column = int(y + step * np.sin(angle)), int(x + step * np.cos(angle))
            if 0 <= row < height and 0 <= column < width:
                pixels[row, column] += energy / length
    mask = (random.random(SHAPE) < 2e-3) * np.uint8(PixelFlag.HOT)
    mask[100:130] = np.uint8(PixelFlag.HOT)
    mask[:, 300:460] = np.uint8(PixelFlag.SATURATED)
    # So much is hit here that no good pixel is left about some of it.
    for y, x in ((40, 252), (250, 126)):
        pixels[y - 4 : y + 5, x - 4 : x + 5] += random.uniform(2000.0, 9000.0, (9, 9))
    variance = np.maximum(pixels / GAIN + 25.0, 1.0).astype(np.float32)
    return Image(pixels, mask, (0, 0), variance if with_variance else None)


def on_the_whole(image: Image, left_out: Mask, params: CosmicRays) -> Mask:
    told = None if image.variance is None else image.variance * np.float32(GAIN * GAIN) + np.float32(EXCESS)
    found, _ = detect_cosmics(
        image.pixels * np.float32(GAIN), inmask=left_out, invar=told, gain=1.0,
        readnoise=float(np.sqrt(READ_NOISE**2 + EXCESS)), sigclip=params.sigma, sigfrac=params.neighbour_fraction,
        objlim=params.object_limit, satlevel=np.inf, niter=params.iterations, cleantype="medmask",
        fsmode="median" if params.psf_fwhm_px is None else "convolve", psfmodel="gauss",
        psffwhm=params.psf_fwhm_px or 2.5, psfsize=7,
    )  # fmt: skip
    return np.asarray(found, bool) & ~left_out


@pytest.mark.parametrize("with_variance", [True, False])
@pytest.mark.parametrize(
    "params",
    [
        CosmicRays(),
        CosmicRays(psf_fwhm_px=2.5, object_limit=2.0),
        CosmicRays(iterations=8, sigma=3.5, object_limit=3.0),
    ],
)
def test_pieces_give_the_mask_of_the_whole(params: CosmicRays, with_variance: bool) -> None:
    image = drawn(with_variance)
    left_out = image.mask != 0
    expected = on_the_whole(image, left_out, params)
    once = on_the_whole(image, left_out, CosmicRays(params.sigma, params.neighbour_fraction, params.object_limit,
                                                    params.psf_fwhm_px, 1))  # fmt: skip
    assert np.count_nonzero(once) > 1000 and np.count_nonzero(expected & ~once) > 20
    found = search(image, left_out, params, GAIN, READ_NOISE, EXCESS)
    assert np.count_nonzero(found != expected) == 0


@pytest.mark.parametrize("width", [5, 7, 9])
def test_medians_of_whatever_order_are_medians(width: int) -> None:
    """Comparisons in a fixed order that are right for all rows of zeros and ones are right for all values."""
    rows = np.array(list(product((0.0, 1.0), repeat=width)), np.float32)
    square = np.repeat(rows[:, None, :], width, axis=1)
    found = [separable_medians(one, width)[width // 2, width // 2] for one in square]
    turned = [separable_medians(np.ascontiguousarray(one.T), width)[width // 2, width // 2] for one in square]
    assert found == turned == np.median(rows, axis=1).tolist()


@pytest.mark.parametrize(("width", "theirs"), [(5, sepmedfilt5), (7, sepmedfilt7), (9, sepmedfilt9)])
@pytest.mark.parametrize("shape", [(60, 41), (11, 90), (9, 9)])
def test_medians_are_those_of_astroscrappy_up_to_the_border(
    width: int, theirs, shape: tuple[int, int]
) -> None:
    image = np.random.default_rng(width).normal(100.0, 10.0, shape).astype(np.float32)
    assert separable_medians(image, width).tolist() == theirs(image).tolist()

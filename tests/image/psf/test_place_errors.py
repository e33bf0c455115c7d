"""Errors of fluxes whose stars are fitted a little beside their places: pulls of pairs, and what lonely stars have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from skylake.image.psf.circle_tables import Circles
from skylake.image.psf.place_errors import PLACE_ERROR_PX, place_variances
from skylake.image.psf.psf_fit import FitImage, fit_stars
from skylake.image.psf.psf_model import FramePsf

Floats = npt.NDArray[np.float64]

SHAPE, FWHM, NOISE, GAIN, RADII = (330, 330), 2.6, 5.0, 1.5, (3.0, 5.0)


@pytest.fixture(scope="module")
def psf(lengthened_psf: Callable[..., FramePsf]) -> FramePsf:
    return lengthened_psf(SHAPE, FWHM)


@pytest.mark.parametrize("ratio", [1.0, 4.0])
@pytest.mark.parametrize("apart", [1.6, 2.2, 3.0, 4.0])
def test_pulls_of_pairs_at_places_that_are_wrong_have_the_width_one(
    psf: FramePsf, drawn_light: Callable[..., Floats], apart: float, ratio: float
) -> None:
    random = np.random.default_rng(3)
    y, x = np.mgrid[20 : SHAPE[0] - 18 : 24, 20 : SHAPE[1] - 18 : 24].reshape(2, -1).astype(float)
    angle = random.uniform(0.0, 2.0 * np.pi, x.size)
    x, y = np.append(x, x + apart * np.cos(angle)), np.append(y, y + apart * np.sin(angle))
    each = np.repeat([1e6, 1e6 / ratio], x.size // 2)
    light = drawn_light(psf, SHAPE, x, y, each)
    circles, fitted, hybrid = Circles.of(RADII, 1), [], []
    for _ in range(4):
        pixels = (random.poisson(light * GAIN) / GAIN + random.normal(0.0, NOISE, SHAPE)).astype(np.float32)
        px, py = np.array([x, y]) + random.normal(0.0, PLACE_ERROR_PX, (2, x.size))
        image = FitImage(pixels, np.ones(SHAPE, np.uint8), np.full(SHAPE, NOISE, np.float32), GAIN)
        fit = fit_stars(image, px, py, psf, level_sky=False, circles=circles)
        by_place, in_apertures = place_variances(fit.flux, px, py, psf, RADII)
        fitted.append((fit.flux - each) / np.sqrt(fit.variance + by_place))
        for number in range(len(RADII)):
            _, left, noise, held = fit.sums[:, number, :4].T
            alone = held * each
            off = left + fit.taken * held - alone
            hybrid.append(off / np.sqrt(noise + in_apertures[:, number]))
    for star in range(2):
        mine = slice(star * x.size // 2, (star + 1) * x.size // 2)
        pull = np.concatenate([one[mine] for one in fitted])
        assert 0.75 < pull.std() < 1.35
        assert abs(pull.mean()) < 0.35
        assert 0.7 < np.concatenate([one[mine] for one in hybrid]).std() < 1.35


def test_lonely_stars_have_no_error_of_their_places(psf: FramePsf) -> None:
    x, y = np.array([50.0, 90.0, np.nan]), np.array([50.0, 50.0, 50.0])
    fitted, apertures = place_variances(np.array([1e5, np.nan, 1e5]), x, y, psf, RADII)
    assert not fitted.any()
    assert apertures.shape == (3, 2)
    assert not apertures.any()

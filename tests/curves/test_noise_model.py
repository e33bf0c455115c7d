"""The noise of a star is what its photons, the sky, the detector and the air make of it."""

import numpy as np
import pytest

from skylake.core.scintillation import scintillation_mag
from skylake.curves.noise_model import predicted_noise


def test_drawn_photons_scatter_as_predicted() -> None:
    random = np.random.default_rng(1)
    star, sky, read, pixels = np.array([5e3, 1e5]), 40.0, 6.0, 30
    drawn = (
        random.poisson(star[:, None], (2, 20_000)) + random.poisson(sky * pixels, (2, 20_000)) - sky * pixels
    )
    mag = -2.5 * np.log10(drawn + np.sqrt(pixels) * read * random.standard_normal((2, 20_000)))
    mag += np.hypot(0.003, 0.002) * random.standard_normal(mag.shape)
    predicted = predicted_noise(star, pixels, sky, read, 0.003, 0.002)
    np.testing.assert_allclose(mag.std(axis=1), predicted.total, rtol=0.02)


def test_scintillation_is_that_of_published_examples_and_scales() -> None:
    # Osborn et al. (2015), eq. 7.
    base = scintillation_mag(0.2, 1.0, 30.0, 0.0)
    assert base == pytest.approx(1.0857 * 1.5 * np.sqrt(1e-5) * 0.2 ** (-2 / 3) / np.sqrt(30.0), rel=1e-3)
    assert scintillation_mag(0.2, 1.0, 120.0, 0.0) == pytest.approx(0.5 * base)
    assert scintillation_mag(0.2 * 8, 4.0, 30.0, 0.0) == pytest.approx(2.0 * base)
    assert scintillation_mag(0.2, 1.0, 30.0, 8000.0) == pytest.approx(base / np.e)


def test_a_star_without_light_has_no_noise_in_magnitudes() -> None:
    assert np.isnan(predicted_noise(np.array([0.0, -3.0]), 9, 1.0, 1.0).total).all()

"""Stated errors of fitted fluxes against their scatter about the truth, where photons no longer show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.camera import Camera
from skylake.core.frame import Image
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import measure_targets
from skylake.image.psf.psf_model import PsfModel, solve_psf
from skylake.image.psf.psf_stars import psf_of_frame, sums_of_frame
from skylake.image.psf.targets_on_frame import TargetStars
from skylake.simulate import Moffat

Floats = npt.NDArray[np.float64]
SHAPE = (512, 512)
EXPOSURE_S = 20.0
GAIN = 2.0


@pytest.fixture(scope="module")
def extracted(
    measure: Callable[..., Any], camera: Camera, as_image: Callable[..., Image]
) -> Callable[..., Extracted]:
    """A function that brings a field to where forced photometry begins."""

    def bring(field: Any) -> Extracted:
        image = as_image(field.pixels)
        done = measure(field, image)
        corrections = aperture_corrections(
            image, done.background, done.signal, done.detections, done.sources, camera.apertures
        )
        return Extracted(
            {"status": "ok"}, camera, GAIN, EXPOSURE_S, image, done.background, done.signal, done.detections,
            done.sources, corrections, None,
        )  # type: ignore[arg-type]  # fmt: skip

    return bring


def stars(make_field: Callable[..., Any], seed: int, fwhm: float, widening: float) -> Any:
    """Lonely stars of up to 2,400 times their photon noise, which widen towards the corners."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[30 : SHAPE[0] - 30 : 34, 30 : SHAPE[1] - 30 : 34].reshape(2, -1)
    x, y = (values + random.uniform(-3.0, 3.0, x.size) for values in (x, y))
    square = ((x - 255.5) ** 2 + (y - 255.5) ** 2) / (2.0 * 255.5**2)
    flux = np.exp(random.uniform(*np.log([3e4, 3e6]), x.size))
    return make_field(x, y, flux, SHAPE, Moffat(fwhm * (1.0 + widening * square)), seed=seed)


@pytest.mark.parametrize(("fwhm", "widening"), [(3.0, 0.0), (2.0, 0.2), (2.7, 0.35)])
def test_errors_of_bright_stars_are_those_of_the_model(
    extracted: Callable[..., Extracted], make_field: Callable[..., Any], fwhm: float, widening: float
) -> None:
    sums = [sums_of_frame(extracted(stars(make_field, seed, fwhm, widening))) for seed in (71, 72, 73)]
    model: PsfModel = solve_psf(sum((one for one in sums[1:] if one is not None), start=sums[0]))  # type: ignore[arg-type]
    pulls, noises = [], []
    for seed in (74, 75, 76, 77):
        field = stars(make_field, seed, fwhm, widening)
        one = extracted(field)
        nothing = np.zeros(len(field.x))
        targets = TargetStars(np.arange(len(field.x)), nothing, nothing, nothing, nothing, 1)
        found = measure_targets(one, targets, field.x, field.y, psf_of_frame(model, one))
        true = field.flux * field.held(14.0) / EXPOSURE_S
        bright = field.flux * GAIN > 300.0**2
        ratio, error = (found.flux["psf"] / true)[bright], (found.flux_err["psf"] / true)[bright]
        # The error of the aperture correction is common to the stars of a frame; it is stated beside them.
        pulls.append((ratio - np.median(ratio)) / error)
        noises.append(error)
    low, high = np.percentile(np.concatenate(pulls), [15.865, 84.135])
    assert 0.9 < 0.5 * (high - low) < 1.1
    assert np.concatenate(noises).min() < 0.0022


def test_a_crowd_without_a_psf_has_no_common_factor(
    extracted: Callable[..., Extracted], make_field: Callable[..., Any]
) -> None:
    ratios = []
    for seed in range(81, 87):
        random = np.random.default_rng(seed)
        # As many stars of each flux as a power law has, down to those that nobody sees.
        flux = 300.0 * (1.0 - random.uniform(size=1500) * (1.0 - 2e4**-0.75)) ** (-1.0 / 0.75)
        x, y = random.uniform(0.0, SHAPE[1] - 1.0, (2, flux.size))
        field = make_field(x, y, flux, SHAPE, Moffat(2.7), seed=seed)
        one = extracted(field)
        nothing = np.zeros(flux.size)
        targets = TargetStars(np.arange(flux.size), nothing, nothing, nothing, nothing, 1)
        psf = psf_of_frame(None, one)
        found = measure_targets(one, targets, x, y, psf)
        bright = (flux > 5e4) & (found.edge_distance > 15.0) & (found.flags == 0)
        radius = one.camera.apertures.radii_px[2]
        ratios.append((found.flux["hybrid3"] * EXPOSURE_S / (flux * field.held(radius)))[bright])
        assert psf.model.quality.n_stars > 30 and psf.model.quality.field_order == 0
    together = np.concatenate(ratios)
    assert together.size > 80
    assert np.median(together) == pytest.approx(1.0, abs=0.002)

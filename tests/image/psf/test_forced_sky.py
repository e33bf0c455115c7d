"""Targets on gas: the sky of an annulus counts for forced fluxes as it does for those of detections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from skylake.core.camera import Camera
from skylake.core.flags import PixelFlag, SourceFlag
from skylake.core.frame import Image
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import ForcedMeasurements, measure_targets
from skylake.image.psf.psf_model import PsfModel, solve_psf
from skylake.image.psf.psf_stars import psf_of_frame, sums_of_frame
from skylake.image.psf.targets_on_frame import TargetStars

Floats = npt.NDArray[np.float64]
SHAPE = (384, 384)
EXPOSURE_S = 20.0
ANNULUS = (10.0, 16.0)


@pytest.fixture(scope="module")
def extracted(
    measure: Callable[..., Any], camera: Camera, as_image: Callable[..., Image]
) -> Callable[..., Extracted]:
    """A function that brings a field to where forced photometry begins, with an annulus or without."""

    def bring(field: Any, annulus: tuple[float, float] | None, image: Image | None = None) -> Extracted:
        here = replace(camera, apertures=replace(camera.apertures, sky_annulus_px=annulus))
        image = image or as_image(field.pixels)
        done = measure(field, image, {"sky_annulus_px": annulus})
        corrections = aperture_corrections(
            image, done.background, done.signal, done.detections, done.sources, here.apertures
        )
        return Extracted(
            {"status": "ok"}, here, 2.0, EXPOSURE_S, image, done.background, done.signal, done.detections,
            done.sources, corrections, None,
        )  # fmt: skip

    return bring


@pytest.fixture(scope="module")
def model(extracted: Callable[..., Extracted], grid_field: Callable[..., Any]) -> PsfModel:
    sums = sums_of_frame(extracted(grid_field(31, shape=SHAPE), None))
    assert sums is not None
    return solve_psf(sums)


def gas(seed: int) -> Floats:
    """Structure of a few tens of pixels, half as high as the noise of a pixel, on a level sky."""
    random = np.random.default_rng(seed)
    waves = sum(gaussian_filter(random.normal(size=SHAPE), width) * width for width in (14.0, 24.0))
    return np.asarray(300.0 + 6.0 * waves / waves.std())


def at_truth(one: Extracted, field: Any, model: PsfModel) -> ForcedMeasurements:
    nothing = np.zeros(len(field.x))
    targets = TargetStars(np.arange(len(field.x)), nothing, nothing, nothing, nothing, 1)
    return measure_targets(one, targets, field.x, field.y, psf_of_frame(model, one))


def width(pulls: Floats) -> float:
    low, high = np.percentile(pulls, [15.865, 84.135])
    return 0.5 * float(high - low)


def test_an_annulus_takes_gas_from_the_fluxes_of_targets(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: PsfModel
) -> None:
    pulls: dict[str, list[Floats]] = {"hybrid1": [], "psf": []}
    for seed in (1, 2):
        field = grid_field(seed, (800.0, 2e4), 16, SHAPE, sky=gas(seed))
        found = at_truth(extracted(field, ANNULUS), field, model)
        for name, radius in (("hybrid1", 3.0), ("psf", 14.0)):
            true, bright = field.flux * field.held(radius) / EXPOSURE_S, field.flux > 8e3
            # What the aperture correction of a frame is wrong by is common to its stars; it is stated beside them.
            common = float(np.median((found.flux[name] / true)[bright])) if name == "psf" else 1.0
            pulls[name].append((found.flux[name] / common - true) / found.flux_err[name])
    for parts in pulls.values():
        found_width, middle = width(np.concatenate(parts)), float(np.median(np.concatenate(parts)))
        assert 0.9 < found_width < 1.15
        assert abs(middle) < 0.2


def test_without_a_good_annulus_the_blocks_give_the_sky(
    extracted: Callable[..., Extracted],
    grid_field: Callable[..., Any],
    as_image: Callable[..., Image],
    model: PsfModel,
) -> None:
    field = grid_field(4, (3e3, 2e4), 60, SHAPE)
    image = as_image(field.pixels)
    y, x = np.indices(SHAPE)
    away = np.hypot(x - field.x[0], y - field.y[0])
    mask = image.mask | ((away > 9.0) & (away < 17.0)) * np.uint8(PixelFlag.HOT)
    found = at_truth(extracted(field, ANNULUS, replace(image, mask=mask)), field, model)
    failed = (found.flags & int(SourceFlag.LOCAL_SKY_FAILED)) != 0
    assert failed.tolist() == [number == 0 for number in range(len(field.x))]
    plain = at_truth(extracted(field, None, replace(image, mask=mask)), field, model)
    assert found.flux["hybrid1"][0] == pytest.approx(plain.flux["hybrid1"][0], rel=1e-3)

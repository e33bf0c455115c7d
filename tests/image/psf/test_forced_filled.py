"""Targets part of whose apertures is made up from the model: beyond the edge, or saturated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.camera import Camera
from skylake.core.flags import PixelFlag, SourceFlag
from skylake.core.frame import Image
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import measure_targets
from skylake.image.psf.psf_stars import psf_of_frame
from skylake.image.psf.targets_on_frame import TargetStars

Floats = npt.NDArray[np.float64]
SHAPE = (512, 512)
EXPOSURE_S = 20.0


def places(kind: str, seed: int) -> tuple[Floats, Floats]:
    """Targets whose apertures leave the image, or in the middle of it."""
    random = np.random.default_rng(seed)
    if kind == "saturated":
        y, x = np.mgrid[40:480:36, 40:480:36].reshape(2, -1)
        return x + random.uniform(-0.5, 0.5, x.size), y + random.uniform(-0.5, 0.5, x.size)
    along, near = np.arange(40.0, 480.0, 30.0), random.uniform(0.3, 2.2, (4, 15))
    far = 511.0 - near
    x = np.concatenate([near[0], far[1], along, along])
    return x, np.concatenate([along, along, near[2], far[3]])


def brought(field: Any, image: Image, measure: Callable[..., Any], camera: Camera) -> Extracted:
    done = measure(field, image)
    corrections = aperture_corrections(
        image, done.background, done.signal, done.detections, done.sources, camera.apertures
    )
    nowhere: Any = None
    return Extracted(
        {"status": "ok"}, camera, 2.0, EXPOSURE_S, image, done.background, done.signal, done.detections, done.sources,
        corrections, nowhere,
    )  # fmt: skip


@pytest.mark.parametrize("planed", [False, True])
@pytest.mark.parametrize("kind", ["edge", "saturated"])
def test_errors_of_apertures_that_are_filled_are_honest(
    kind: str, planed: bool, make_field: Callable[..., Any], measure: Callable[..., Any],
    as_image: Callable[..., Image], with_variance: Callable[..., Image], camera: Camera,
) -> None:  # fmt: skip
    pulls: dict[str, list[Floats]] = {"hybrid1": [], "hybrid2": [], "aper1": []}
    worst = 0.0
    for seed in range(1, 5 if kind == "edge" else 3):
        x, y = places(kind, seed)
        inner_x, inner_y = places("saturated", seed + 50) if kind == "edge" else (x[:0], y[:0])
        field = make_field(
            np.concatenate([x, inner_x]), np.concatenate([y, inner_y]), np.full(x.size + inner_x.size, 6e3), SHAPE,
            seed=seed,
        )  # fmt: skip
        image = as_image(field.pixels)
        if planed:
            image = with_variance(image)
        one = brought(field, image, measure, camera)
        psf = psf_of_frame(None, one)
        if kind == "saturated":
            column, row = np.rint(x).astype(int), np.rint(y).astype(int)
            for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1)):
                image.mask[row + dy, column + dx] |= np.uint8(PixelFlag.SATURATED)
        nothing = np.zeros(x.size)
        targets = TargetStars(np.arange(x.size), nothing, nothing, nothing, nothing, 1)
        found = measure_targets(one, targets, x, y, psf)
        for name, parts in pulls.items():
            radius = 5.0 if name.endswith("2") else 3.0
            true = 6e3 * field.held(radius)[0] / EXPOSURE_S
            parts.append((found.flux[name] - true) / found.flux_err[name])
            worst = max(worst, float(np.median(np.abs(found.flux[name] / true - 1.0))))
    assert worst < 0.05
    for name, parts in pulls.items():
        together = np.concatenate(parts)
        assert 0.9 < together.std() < 1.1, name


@pytest.mark.parametrize("planed", [False, True])
def test_a_target_needs_a_few_usable_pixels_for_a_flux(
    planed: bool, make_field: Callable[..., Any], measure: Callable[..., Any], as_image: Callable[..., Image],
    with_variance: Callable[..., Image], camera: Camera,
) -> None:  # fmt: skip
    x, y = places("saturated", 7)
    field = make_field(x, y, np.full(x.size, 6e3), SHAPE, seed=7)
    image = as_image(field.pixels)
    if planed:
        image = with_variance(image)
    one = brought(field, image, measure, camera)
    psf = psf_of_frame(None, one)
    image.mask[120:230, 150:300] |= np.uint8(PixelFlag.INVALID)
    nothing = np.zeros(x.size)
    targets = TargetStars(np.arange(x.size), nothing, nothing, nothing, nothing, 1)
    with np.errstate(invalid="raise", divide="raise"):
        found = measure_targets(one, targets, x, y, psf)
    inside = (x > 170) & (x < 280) & (y > 140) & (y < 210)
    assert inside.sum() >= 6 and (found.flags[inside] & SourceFlag.FIT_FAILED).all()
    for name in ("hybrid1", "hybrid2", "hybrid3", "aper1", "aper2", "aper3", "psf"):
        assert np.isnan(found.flux[name][inside]).all() and np.isnan(found.flux_err[name][inside]).all()
        known = np.isfinite(found.flux[name])
        assert known.sum() > 0.8 * x.size and (found.flux_err[name][known] > 0.0).all()
    assert np.isnan(found.contamination[inside]).all()

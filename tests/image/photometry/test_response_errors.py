"""A flat that is wrong by a gradient: what fluxes, the sky and the gain show of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skylake.core.camera import Camera, ReductionSteps
from skylake.core.frame import Image, RawImage
from skylake.core.response_settings import Gradient, ResponseError
from skylake.image.detection.variance_plane import agreement_of
from skylake.image.detrend.detrend_chain import Conditions, detrend_image
from skylake.image.masters.master_file import MasterFrame
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.photometry.response_errors import with_response_error
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import measure_targets
from skylake.image.psf.psf_stars import psf_of_frame
from skylake.image.psf.targets_on_frame import TargetStars
from skylake.simulate import Moffat, render

SHAPE, GAIN, READ_E, PEDESTAL, SKY = (384, 512), 1.0, 10.0, 500.0, 40000.0
#: A hundredth of the response from the middle to the edge, of either sign, along each axis.
SLOPE = 0.01
Y, X = np.meshgrid(np.linspace(-1.0, 1.0, SHAPE[0]), np.linspace(-1.0, 1.0, SHAPE[1]), indexing="ij")


def stars(make_field: Callable[..., Any], seed: int) -> Any:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[30 : SHAPE[0] - 30 : 34, 30 : SHAPE[1] - 30 : 34].reshape(2, -1)
    x, y = (values + random.uniform(-0.5, 0.5, x.size) for values in (x, y))
    flux = np.where(np.arange(x.size) % 2 == 0, 3e6, 4e5)
    return make_field(x, y, flux, SHAPE, psf=Moffat(3.0), sky=SKY, seed=seed)


def reduced(field: Any, slopes: tuple[float, float], noise: float = 1e-4, known: bool = True) -> Image:
    """The field as it is seen, divided by a flat that has a gradient by chance, and noise of its pixels."""
    random = np.random.default_rng(round(float(field.x.sum())))
    raw = PEDESTAL + random.poisson(render(SHAPE, field.x, field.y, field.flux, field.psf) + SKY)
    raw = raw + random.normal(0.0, READ_E, SHAPE)
    flat = (1.0 + slopes[0] * X + slopes[1] * Y) * random.normal(1.0, noise, SHAPE)
    zero = np.full(SHAPE, PEDESTAL, np.float32)
    gradient = Gradient(SLOPE**2, 0.0, SLOPE**2)
    masters = {
        "bias": MasterFrame("bias", zero, np.zeros_like(zero), None, (0, 0)),
        "flat": MasterFrame(
            "flat",
            (1.0 / flat).astype(np.float32),
            np.full_like(zero, noise),
            None,
            (0, 0),
            gradient=gradient,
        ),
    }
    camera = Camera("lab", reduction=ReductionSteps(("bias", "flat")))
    conditions = Conditions(gain=GAIN, read_noise=READ_E, masters=masters, gain_known=known)
    return detrend_image(RawImage(raw.astype(np.float32), {}, 0), camera, conditions)


#: Four directions of one length have in the mean the variances that are stated.
DIRECTIONS = [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)]


@pytest.fixture(scope="module")
def frames(make_field: Callable[..., Any], measure: Callable[..., Any]) -> list[tuple[Any, Any]]:
    found = []
    for seed, (across, down) in enumerate(DIRECTIONS):
        field = stars(make_field, seed)
        found.append((field, measure(field, reduced(field, (SLOPE * across, SLOPE * down)))))
    return found


def test_stated_and_real_errors_agree_under_a_flat(frames: list[tuple[Any, Any]]) -> None:
    pulls = []
    for field, done in frames:
        sources = done.sources
        error = with_response_error(done.image, sources.x, sources.y, sources.flux, sources.flux_err)
        star, distance = field.nearest(sources.x, sources.y)
        seen = (distance < 1.5) & (field.flux > 1e6)
        true = field.flux * field.held(5.0)
        pulls.append(((20.0 * sources.flux["aper2"][star] - true) / (20.0 * error["aper2"][star]))[seen])
    together = np.concatenate(pulls)
    assert 0.9 < together.std() < 1.1
    assert abs(together.mean()) < 0.1


def test_photon_noise_and_errors_before_the_flat_count_in_full(frames: list[tuple[Any, Any]]) -> None:
    for field, done in frames:
        agreement = agreement_of(done.image, done.background.rms, done.detections.segments)
        assert agreement.scale == pytest.approx(1.0, abs=0.01)
        star, distance = field.nearest(done.sources.x, done.sources.y)
        seen = (distance < 1.5) & (field.flux > 1e6)
        photons = field.flux * field.held(5.0) + np.pi * 25.0 * SKY
        error = 20.0 * done.sources.flux_err["aper2"][star]
        assert np.median(error[seen] / np.sqrt(photons[seen])) == pytest.approx(1.03, abs=0.03)


@pytest.mark.full
def test_targets_have_the_error_of_the_flat(frames: list[tuple[Any, Any]], camera: Camera) -> None:
    pulls: dict[str, list[Any]] = {"aper2": [], "hybrid2": [], "psf": []}
    nowhere: Any = None
    for field, done in frames:
        corrections = aperture_corrections(
            done.image, done.background, done.signal, done.detections, done.sources, camera.apertures
        )
        one = Extracted(
            {"status": "ok"}, camera, GAIN, 20.0, done.image, done.background, done.signal, done.detections,
            done.sources, corrections, nowhere,
        )  # fmt: skip
        nothing = np.zeros(len(field.x))
        targets = TargetStars(np.arange(len(field.x)), nothing, nothing, nothing, nothing, 1)
        found = measure_targets(one, targets, field.x, field.y, psf_of_frame(None, one))
        bright = field.flux > 1e6
        for name, parts in pulls.items():
            radius = 14.0 if name == "psf" else 5.0
            off = found.flux[name] * 20.0 / (field.flux * field.held(radius)) - 1.0
            parts.append(((off - np.median(off[bright])) * found.flux[name] / found.flux_err[name])[bright])
    for name, parts in pulls.items():
        together = np.concatenate(parts)
        assert 0.85 < together.std() < 1.15, name
        assert abs(together.mean()) < 0.15, name


@pytest.mark.parametrize("known", [True, False])
def test_noise_of_the_flat_is_not_taken_for_light(
    make_field: Callable[..., Any], measure: Callable[..., Any], known: bool
) -> None:
    field = stars(make_field, 9)
    done = measure(field, reduced(field, (0.0, 0.0), noise=0.02, known=known))
    agreement = agreement_of(done.image, done.background.rms, done.detections.segments)
    # Wings of stars are part of what the sky seems to have.
    assert agreement.scale == pytest.approx(1.0, abs=0.07)
    if known:
        assert done.image.read_variance == pytest.approx(READ_E**2 + (0.02 * SKY) ** 2, rel=0.02)


def test_the_error_of_a_flat_follows_window_and_mosaic() -> None:
    error = ResponseError(Gradient(1e-4, 0.0, 4e-4), (10, 20), (101, 201))
    place = np.zeros(1)
    image = Image(
        np.zeros((5, 5), np.float32), np.zeros((5, 5), np.uint8), (10.0, 20.0), response_error=error
    )
    assert image.response_variance(place, place)[0] == pytest.approx(5e-4)
    middle = Image(image.pixels, image.mask, (60.5, 40.5), raw_step=2, response_error=error)
    there = middle.response_variance(np.array([24.75]), np.array([14.75]))
    assert there[0] == pytest.approx(0.0, abs=1e-12)
    plain = Image(image.pixels, image.mask, (0.0, 0.0))
    assert plain.response_variance(place, place).tolist() == [0.0]

"""A plane of variances that the sky contradicts: what is repaired, for faint stars and for bright ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import Camera, ReductionSteps
from skylake.core.frame import Image, RawImage
from skylake.image.detection.matched_filter import Noise
from skylake.image.detection.variance_plane import Agreement, agree, agreement_of
from skylake.image.detrend.detrend_chain import Conditions, detrend_image
from skylake.image.masters.master_file import MasterFrame
from skylake.image.photometry.aperture_photometry import circular_fluxes, make_scene
from skylake.image.psf.circle_tables import Circles
from skylake.image.psf.psf_fit import FitImage, Variances, fit_stars
from skylake.image.psf.psf_model import FramePsf, PsfModel

SHAPE = (512, 512)
GAIN = 2.0
SKY, PEDESTAL = 50.0, 200.0


def field_of(make_field: Callable[..., Any], seed: int) -> Any:
    """Lonely stars, every second of which is faint."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[30:482:34, 30:482:34].reshape(2, -1)
    x, y = (values + random.uniform(-0.5, 0.5, x.size) for values in (x, y))
    flux = np.where(np.arange(x.size) % 2 == 0, random.uniform(600.0, 2000.0, x.size), 1e5)
    return make_field(x, y, flux, SHAPE, seed=seed, sky=SKY)


def reduced(field: Any, true_e: float, told_e: float, known: bool = True) -> Image:
    """The field as a detector of some read noise shows it, reduced with what its header shows."""
    from skylake.simulate import render

    random = np.random.default_rng(round(1e6 * float(field.pixels.sum()) % 2**31))
    electrons = random.poisson((render(SHAPE, field.x, field.y, field.flux, field.psf) + field.sky) * GAIN)
    raw = PEDESTAL + (electrons + random.normal(0.0, true_e, SHAPE)) / GAIN
    plane = np.full(SHAPE, PEDESTAL, np.float32)
    master = MasterFrame("bias", plane, np.zeros_like(plane), None, (0, 0))
    camera = Camera("lab", reduction=ReductionSteps(("bias",)))
    conditions = Conditions(gain=GAIN, read_noise=told_e, masters={"bias": master}, gain_known=known)
    return detrend_image(RawImage(raw.astype(np.float32), {}, 0), camera, conditions)


@pytest.mark.full
@pytest.mark.parametrize(("true_e", "told_e"), [(5.0, 30.0), (5.0, 5.0), (30.0, 5.0)])
def test_pulls_are_normal_whatever_read_noise_the_header_has(
    true_e: float, told_e: float, make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    pulls: dict[str, list[Any]] = {"faint": [], "bright": [], "forced": []}
    for seed in (1, 2):
        field = field_of(make_field, seed)
        done = measure(field, reduced(field, true_e, told_e))
        sources = done.sources
        star, distance = field.nearest(sources.x, sources.y)
        seen = distance < 1.5
        for radius, name in ((3.0, "aper1"), (5.0, "aper2")):
            true = field.flux * field.held(radius)
            pull = (20.0 * sources.flux[name][star] - true) / (20.0 * sources.flux_err[name][star])
            pulls["bright"].append(pull[seen & (field.flux > 5e4)])
            # Those that are not detected would leave a choice of the others.
            at = circular_fluxes(scene_of(done), field.x, field.y, (radius,))
            pulls["faint"].append(((at[0] - true) / at[1])[0, field.flux < 5e4])
        pulls["forced"].append(forced_pulls(done, field))
    for kind, parts in pulls.items():
        together = np.concatenate(parts)
        assert 0.9 < together.std() < 1.1, kind
        assert abs(together.mean()) < 0.15, kind


def scene_of(done: Any) -> Any:
    return make_scene(done.image, done.background, done.signal, done.detections.segments, GAIN)


def forced_pulls(done: Any, field: Any) -> Any:
    agreement = agreement_of(done.image, done.background.rms, done.detections.segments)
    model = PsfModel.moffat(3.0, SHAPE)
    fit = fit_stars(
        FitImage(
            done.signal,
            np.ones(SHAPE, np.uint8),
            done.background.rms,
            GAIN,
            Variances(done.image.variance, agreement),
        ),
        field.x,
        field.y,
        FramePsf(model, model.shape, 14.0),
        False,
        Circles.of((3.0,), 0),
    )
    assert np.isfinite(fit.chi2).all()
    return (fit.sums[:, 0, 0] - field.flux * field.held(3.0)) / np.sqrt(fit.sums[:, 0, 2])


@pytest.mark.full
def test_centroid_errors_are_as_with_the_right_read_noise(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    field = field_of(make_field, 3)
    right, wrong = (measure(field, reduced(field, 5.0, told)).sources for told in (5.0, 30.0))
    assert len(right) > 100
    np.testing.assert_allclose(wrong.x_err, right.x_err, rtol=0.06)
    np.testing.assert_allclose(wrong.y_err, right.y_err, rtol=0.06)


@given(scale=st.floats(0.1, 10.0), read=st.floats(0.0, 50.0), tilt=st.floats(0.0, 3.0))
def test_an_unknown_gain_scales_the_plane_and_a_known_one_not(scale: float, read: float, tilt: float) -> None:
    x = np.arange(256.0) + np.zeros((192, 1))
    plane = (100.0 * (1.0 + tilt * x / 256.0) + read).astype(np.float32)
    rms, sky = np.sqrt(scale * plane).astype(np.float32), np.ones((24, 32), bool)
    unknown = agree(plane, rms, sky, None)
    assert unknown.scale == pytest.approx(scale, rel=1e-4) and unknown.squares is None
    known = agree(plane, rms, sky, read)
    places = np.array([40.3, 128.0, 210.9]), np.array([33.0, 90.2, 160.0])
    here = rms[np.rint(places[1]).astype(int), np.rint(places[0]).astype(int)]
    told = plane[np.rint(places[1]).astype(int), np.rint(places[0]).astype(int)]
    # The sky is as it was measured, and photons count as they do unless read noise cannot explain what is missing.
    np.testing.assert_allclose(known.scale * told + known.excess(*places, here), here**2, rtol=0.03)
    least = float(np.median(scale * plane / np.maximum(plane - read, 1e-6)))
    assert known.scale == pytest.approx(min(1.0, least), rel=0.02)


def test_few_pixels_of_sky_change_nothing() -> None:
    plane, rms = np.full((96, 96), 4.0, np.float32), np.full((96, 96), 5.0, np.float32)
    sky = np.zeros((12, 12), bool)
    sky[:4] = True
    assert agree(plane, rms, sky, 1.0) == Agreement() and Agreement().excess(*np.ones((3, 2))).tolist() == [
        0,
        0,
    ]


def test_detection_survives_an_understated_read_noise() -> None:
    signal = np.full((128, 128), 0.0, np.float32)
    signal[60:70, 60:70] = 1e4
    plane, rms = signal / np.float32(GAIN) + np.float32(25.0), np.full((128, 128), 30.0, np.float32)
    _, scale, excess, photons = Noise(rms, GAIN, plane, 6.0).trust
    told, wanted = scale * plane + excess, rms**2 + photons * signal
    np.testing.assert_allclose(told, wanted, rtol=0.01)


@pytest.mark.parametrize(("known", "expected"), [(True, 6.25), (False, None)])
def test_the_read_noise_of_an_image_needs_a_known_gain(known: bool, expected: Any) -> None:
    plane = np.full((64, 64), 300.0, np.float32)
    bias = MasterFrame("bias", plane, np.zeros_like(plane), None, (0, 0))
    conditions = Conditions(gain=2.0, read_noise=5.0, masters={"bias": bias}, gain_known=known)
    camera = Camera("lab", reduction=ReductionSteps(("bias",)))
    assert detrend_image(RawImage(plane, {}, 0), camera, conditions).read_variance == expected

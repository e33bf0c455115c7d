"""Errors of the zero levels of rows, which all pixels of a row have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skylake.core.camera import Camera, Detector, ReductionSteps
from skylake.core.frame import Image, RawImage, StoredImage
from skylake.image.detrend.detrend_chain import Conditions, detrend_image
from skylake.image.detrend.detrend_steps import overscan_level
from skylake.image.masters.master_file import MasterFrame
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.photometry.row_errors import beyond_ellipses
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_aperture_kernels import aperture_table
from skylake.image.psf.forced_photometry import beyond_fit, measure_targets
from skylake.image.psf.psf_model import FramePsf, PsfModel
from skylake.image.psf.psf_stars import psf_of_frame
from skylake.image.psf.targets_on_frame import TargetStars
from skylake.simulate import render

SHAPE, GAIN, SKY, PEDESTAL, READ_E = (512, 512), 2.0, 20.0, 200.0, 10.0
NAMES = {"aper1": 3.0, "aper2": 5.0, "aper3": 8.0}


def stars(make_field: Callable[..., Any], seed: int) -> Any:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[30:482:34, 30:482:34].reshape(2, -1)
    x, y = (values + random.uniform(-3.0, 3.0, x.size) for values in (x, y))
    return make_field(x, y, np.full(x.size, 8000.0), SHAPE, seed=seed, sky=SKY)


def reduced(field: Any, columns: int, jitter: float) -> Image:
    """The field with an overscan of some columns, and rows whose zero levels differ by so many ADU."""
    random = np.random.default_rng(round(float(field.x.sum())))
    electrons = random.poisson((render(SHAPE, field.x, field.y, field.flux, field.psf) + SKY) * GAIN)
    raw = np.full((SHAPE[0], SHAPE[1] + columns), PEDESTAL) + random.normal(0.0, jitter, (SHAPE[0], 1))
    raw[:, : SHAPE[1]] += electrons / GAIN
    raw += random.normal(0.0, READ_E / GAIN, raw.shape)
    zero = np.zeros(SHAPE, np.float32)
    camera = Camera(
        "lab",
        reduction=ReductionSteps(("trim", "overscan", "bias")),
        detector=Detector(overscan_x=(SHAPE[1], raw.shape[1]), trim_x=(0, SHAPE[1])),
    )
    conditions = Conditions(
        gain=GAIN, read_noise=READ_E, masters={"bias": MasterFrame("bias", zero, zero, None, (0, 0))},
        gain_known=True,
    )  # fmt: skip
    return detrend_image(RawImage(raw.astype(np.float32), {}, 0), camera, conditions)


def forced(done: Any, camera: Camera) -> Any:
    corrections = aperture_corrections(
        done.image, done.background, done.signal, done.detections, done.sources, camera.apertures
    )
    nowhere: Any = None
    one = Extracted(
        {"status": "ok"}, camera, GAIN, 20.0, done.image, done.background, done.signal, done.detections, done.sources,
        corrections, nowhere,
    )  # fmt: skip
    x, y, nothing = done.field.x, done.field.y, np.zeros(len(done.field.x))
    targets = TargetStars(np.arange(len(x)), nothing, nothing, nothing, nothing, 1)
    return measure_targets(one, targets, x, y, psf_of_frame(None, one))


@pytest.mark.parametrize(("columns", "jitter"), [(8, 0.0), (8, 6.0), (32, 0.0)])
def test_errors_are_real_despite_wrong_row_levels(
    columns: int, jitter: float, make_field: Callable[..., Any], measure: Callable[..., Any], camera: Camera
) -> None:
    pulls: dict[str, list[Any]] = {}
    for seed in (1, 2, 3, 4):
        field = stars(make_field, seed)
        done = measure(field, reduced(field, columns, jitter))
        star, distance = field.nearest(done.sources.x, done.sources.y)
        assert distance.max() < 1.5
        targets = forced(done, camera)
        for name, radius in NAMES.items():
            true = field.flux * field.held(radius)
            off = 20.0 * done.sources.flux[name][star] - true
            pulls.setdefault(name, []).append(off / (20.0 * done.sources.flux_err[name][star]))
            hybrid = f"hybrid{name[-1]}"
            off = 20.0 * targets.flux[hybrid] - true
            pulls.setdefault(hybrid, []).append(off / (20.0 * targets.flux_err[hybrid]))
        # Of these a factor is free, which the growth curve shows.
        for name, flux, error in (
            ("kron", done.sources.flux["kron"][star], done.sources.flux_err["kron"][star]),
            ("psf", targets.flux["psf"], targets.flux_err["psf"]),
        ):
            pulls.setdefault(name, []).append((flux - np.median(flux)) / error)
    for name, parts in pulls.items():
        together = np.concatenate(parts)
        # What the model may be wrong by is part of the error of fitted fluxes.
        assert (0.8 if name == "psf" else 0.89) < together.std() < 1.11, name
        if name.startswith("aper"):
            assert abs(together.mean()) < 0.25, name


@pytest.mark.parametrize("radius", [3.0, 8.0])
def test_a_circle_sums_the_squares_of_its_rows(radius: float) -> None:
    half = int(np.ceil(radius + 0.5))
    tables = aperture_table(radius, half, 4)[:, :, : (2 * half + 1) ** 2].reshape(
        -1, 2 * half + 1, 2 * half + 1
    )
    wanted = np.mean(np.sum(tables.sum(axis=2) ** 2, axis=1) - np.sum(tables**2, axis=(1, 2)))
    assert beyond_ellipses(radius, radius, 0.3) == pytest.approx(float(wanted), rel=0.03)


def test_an_ellipse_along_rows_shares_more_than_one_across() -> None:
    y, x = np.mgrid[-200:201, -200:201] / 10.0
    for theta in (0.0, 0.6, 0.5 * np.pi):
        along = (x * np.cos(theta) + y * np.sin(theta)) / 12.0
        across = (y * np.cos(theta) - x * np.sin(theta)) / 5.0
        inside = (along**2 + across**2 < 1.0).astype(float)
        wanted = np.sum((inside.sum(axis=1) / 10.0) ** 2) / 10.0 - inside.sum() / 100.0
        assert beyond_ellipses(12.0, 5.0, theta) == pytest.approx(float(wanted), rel=0.02)


def test_a_fit_weighs_rows_with_its_model() -> None:
    model = PsfModel.moffat(3.0, SHAPE)
    random, half = np.random.default_rng(3), 5
    psf = FramePsf(model, model.shape, 14.0)
    grid = np.arange(-half, half + 1.0)
    y, x = (one.reshape(-1) for one in np.meshgrid(grid, grid, indexing="ij"))
    star = psf.values(psf.coefficients(np.array([255.5]), np.array([255.5])), x, y).reshape(11, 11)
    rows = random.normal(0.0, 1.0, (20000, 11))
    fitted = rows @ star.sum(axis=1) / np.sum(star**2)
    assert beyond_fit(psf, half) == pytest.approx(float(fitted.var() - 1.0 / np.sum(star**2)), rel=0.05)


def test_levels_of_rows_are_smooth_unless_they_are_not() -> None:
    random, rows = np.random.default_rng(4), np.arange(2000)
    ramp = 300.0 + 40.0 * np.exp(-rows / 15.0) + 3.0 * np.sin(rows / 600.0)
    noisy = ramp[:, None] + random.normal(0.0, 5.0, (2000, 8))
    noisy[700] = np.nan
    zero = overscan_level(StoredImage(noisy.astype(np.float32), {}, 0), Detector(overscan_x=(0, 8)))
    assert zero is not None and np.flatnonzero(np.isnan(zero.levels)).tolist() == [700]
    off = zero.levels - ramp
    plain = np.median(noisy, axis=1) - ramp
    assert np.nanstd(off[100:]) < 0.35 * np.nanstd(plain)
    assert np.abs(off[:60]).max() < 4.0 * np.nanstd(plain)
    jitter = ramp + random.normal(0.0, 4.0, 2000)
    noisy = jitter[:, None] + random.normal(0.0, 5.0, (2000, 8))
    zero = overscan_level(StoredImage(noisy.astype(np.float32), {}, 0), Detector(overscan_x=(0, 8)))
    assert zero is not None and zero.own_error == pytest.approx(zero.error) == pytest.approx(
        float(np.std(zero.levels - jitter)), rel=0.1
    )

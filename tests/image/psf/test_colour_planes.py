"""Errors of stars on one colour plane of a mosaic, whether a pixel of it is one raw pixel or the mean of two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from skylake.cameras import Profile
from skylake.core.camera import Camera
from skylake.core.frame import FileContent
from skylake.core.frame_step import Step
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.reduction.frame_record import ReducedFrame, ReduceParams
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.simulate import Moffat, render

GAIN, READ_NOISE_E, SKY_ADU = 1.5, 8.0, 30.0
SHAPE = (600, 600)
N_FRAMES = 8
Coloured = Callable[[str, np.random.Generator], ReducedFrame]


def star_places() -> tuple[np.ndarray, np.ndarray]:
    """Stars far from each other, in raw pixels."""
    x, y = np.mgrid[60:560:60, 60:560:60].reshape(2, -1).astype(float)
    shake = np.random.default_rng(4).uniform(-3.0, 3.0, (2, x.size))
    return x + shake[0], y + shake[1]


@pytest.fixture(scope="module")
def light() -> np.ndarray:
    x, y = star_places()
    flux = np.geomspace(3e3, 6e5, x.size)
    return np.asarray(render(SHAPE, x, y, flux, Moffat(5.0)) + SKY_ADU)


@pytest.fixture(scope="module")
def coloured(
    light: np.ndarray,
    fits_bytes: Callable[..., bytes],
    content_of: Callable[..., FileContent],
    camera: Camera,
) -> Coloured:
    """A function that reduces a colour plane of a mosaic of grey stars, with noise of its own each time."""

    def go(colour: Any, random: np.random.Generator) -> ReducedFrame:
        noisy = random.poisson(light * GAIN) / GAIN + random.normal(0.0, READ_NOISE_E / GAIN, SHAPE)
        here = replace(
            camera,
            detector=replace(camera.detector, bayer_pattern="RGGB", width_px=None, height_px=None),
            reduction=replace(camera.reduction, steps=("bayer",), colour=colour),
        )
        data = fits_bytes(noisy, GAIN=GAIN, RDNOISE=READ_NOISE_E)
        return reduce_frame(
            content_of(data), Profile(here, (), "lab.toml"), ReduceParams(finish=Step, unplaced=True)
        )

    return go


@pytest.mark.parametrize(("colour", "n_averaged"), [("R", 1), ("G", 2)])
def test_errors_of_a_plane_are_what_stars_scatter_by(
    coloured: Coloured, colour: str, n_averaged: int
) -> None:
    random, centre = np.random.default_rng(5), 0.5 if colour == "G" else 0.0
    places = np.column_stack([(one - centre) / 2.0 for one in star_places()])
    values, errors = [], []
    for _ in range(N_FRAMES):
        reduced = coloured(colour, random)
        row, sources, extracted = reduced.row, reduced.sources, reduced.finished
        assert sources is not None and isinstance(extracted, Extracted)
        assert row["gain_e_per_adu"] == extracted.gain == pytest.approx(GAIN * n_averaged)
        assert row["read_noise_e"] == pytest.approx(READ_NOISE_E * np.sqrt(n_averaged))
        # In the electrons of its gain the noise of the sky is that of photons and reading.
        told = np.hypot(np.sqrt(SKY_ADU * row["gain_e_per_adu"]), row["read_noise_e"]) / row["gain_e_per_adu"]
        assert row["sky_rms_adu"] == pytest.approx(told, rel=0.05)
        distance, which = cKDTree(np.column_stack([sources.x, sources.y])).query(places)
        near = distance < 1.0
        values.append(np.where(near, sources.flux["aper2"][which], np.nan))
        errors.append(np.where(near, sources.flux_err["aper2"][which], np.nan))
    flux = np.array(values)
    pull = (flux - flux.mean(axis=0)) / np.sqrt(1.0 - 1.0 / N_FRAMES) / np.array(errors)
    pull = pull[np.isfinite(pull)]
    assert pull.size > 400
    assert 0.9 < pull.std() < 1.1

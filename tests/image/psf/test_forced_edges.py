"""Targets at the edge of a frame, on masked pixels, and on a frame whose stars have another form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from scipy.signal import fftconvolve

from skylake.core.camera import Camera
from skylake.core.flags import PixelFlag, SourceFlag
from skylake.core.frame import Image
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import ForcedMeasurements, force_targets, measure_targets
from skylake.image.psf.psf_model import PsfModel, solve_psf
from skylake.image.psf.psf_stars import psf_of_frame, sums_of_frame
from skylake.image.psf.targets_on_frame import TargetStars
from skylake.image.wcs.header_wcs import header_pointing
from skylake.simulate import Moffat

Floats = npt.NDArray[np.float64]
SHAPE = (320, 320)
EXPOSURE_S = 20.0
RADII = (3.0, 5.0, 8.0)


@pytest.fixture(scope="module")
def extracted(
    measure: Callable[..., Any], camera: Camera, as_image: Callable[..., Image]
) -> Callable[..., Extracted]:
    """A function that brings a field to where forced photometry begins."""

    def bring(field: Any, image: Image | None = None) -> Extracted:
        image = image or as_image(field.pixels)
        done = measure(field, image)
        corrections = aperture_corrections(
            image, done.background, done.signal, done.detections, done.sources, camera.apertures
        )
        cards = {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 120.0, "CRVAL2": -25.0, "CRPIX1": 160.5,
            "CRPIX2": 160.5, "CD1_1": -8.0 / 3600.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 8.0 / 3600.0,
        }  # fmt: skip
        pointing = header_pointing(fits.Header(cards), camera, SHAPE, (0, 0))
        state = {"status": "ok", "night": 20240408, "mjd_mid": 60408.0}
        return Extracted(
            state, camera, 2.0, EXPOSURE_S, image, done.background, done.signal, done.detections, done.sources,
            corrections, pointing,
        )  # fmt: skip

    return bring


@pytest.fixture(scope="module")
def model(extracted: Callable[..., Extracted], grid_field: Callable[..., Any]) -> PsfModel:
    sums = sums_of_frame(extracted(grid_field(31, shape=SHAPE)))
    assert sums is not None
    return solve_psf(sums)


def at_truth(one: Extracted, x: Floats, y: Floats, model: PsfModel) -> ForcedMeasurements:
    nothing = np.zeros(len(x))
    targets = TargetStars(np.arange(len(x)), nothing, nothing, nothing, nothing, 1)
    return measure_targets(one, targets, x, y, psf_of_frame(model, one))


def masked(image: Image, rows: Any, columns: Any, bit: PixelFlag) -> Image:
    """The image with some pixels of one kind, of no sensible value."""
    mask, pixels = image.mask.copy(), image.pixels.copy()
    mask[rows, columns] |= np.uint8(bit)
    pixels[rows, columns] = 60000.0 if bit == PixelFlag.SATURATED else 300.0
    return Image(pixels, mask, (0, 0))


@pytest.mark.parametrize(("bit", "told"), [(PixelFlag.HOT, True), (PixelFlag.SATURATED, False)])
def test_a_masked_pixel_counts_in_the_largest_aperture(
    extracted: Callable[..., Extracted],
    grid_field: Callable[..., Any],
    as_image: Callable[..., Image],
    model: PsfModel,
    bit: PixelFlag,
    told: bool,
) -> None:
    field = grid_field(51, shape=SHAPE)
    chosen = np.arange(len(field.x)) % 2 == 0
    # Beyond the aperture of calibrations (5 px) and within the largest (8 px).
    rows, columns = np.rint(field.y[chosen]).astype(int), np.rint(field.x[chosen]).astype(int) + 6
    one = extracted(field, masked(as_image(field.pixels), rows, columns, bit))
    found = at_truth(one, field.x, field.y, model)
    flagged = (found.flags & int(SourceFlag.BAD_PIXEL)) != 0
    assert flagged.tolist() == (chosen & told).tolist()
    assert (found.n_bad == 0).all()


def test_a_masked_pixel_beyond_the_aperture_does_not_count(
    extracted: Callable[..., Extracted],
    grid_field: Callable[..., Any],
    as_image: Callable[..., Image],
    model: PsfModel,
) -> None:
    field = grid_field(51, shape=SHAPE)
    rows, columns = np.rint(field.y).astype(int), np.rint(field.x).astype(int) + 10
    one = extracted(field, masked(as_image(field.pixels), rows, columns, PixelFlag.HOT))
    found = at_truth(one, field.x, field.y, model)
    assert not (found.flags & int(SourceFlag.BAD_PIXEL)).any()


def test_light_of_stars_beyond_the_edge_is_removed(
    extracted: Callable[..., Extracted], make_field: Callable[..., Any], model: PsfModel
) -> None:
    """Half of the stars of the edge have a brighter neighbour just beyond it."""
    random = np.random.default_rng(61)
    y, x = np.mgrid[30 : SHAPE[0] - 30 : 40, 60 : SHAPE[1] - 30 : 40].reshape(2, -1) + random.uniform(
        -3, 3, (2, 1)
    )
    rows = np.arange(24.0, SHAPE[0] - 24.0, 24.0)
    at_edge, beyond = np.full(rows.size, 1.5), np.full(rows.size, -2.5)
    xs, ys = np.concatenate([x, at_edge, beyond]), np.concatenate([y, rows, rows + 1.0])
    flux = np.concatenate([np.full(x.size, 5e4), np.full(rows.size, 2e4), np.full(rows.size, 6e4)])
    field = make_field(xs, ys, flux, SHAPE, seed=61)
    one = extracted(field)
    ra, dec = one.pointing.to_sky(xs, ys)
    everything = TargetStars(np.arange(len(xs)), ra, dec, ra, dec, 1)
    found = force_targets(one, lambda *_: everything, model)
    assert found is not None
    assert (found.x >= -0.5).all()
    assert set(found.star_id.tolist()) == set(range(len(xs) - rows.size))
    edge = np.flatnonzero((found.star_id >= x.size) & (found.star_id < x.size + rows.size))
    true = 2e4 * field.held(14.0)[0] / EXPOSURE_S
    assert np.median(found.flux["psf"][edge]) / true == pytest.approx(1.0, abs=0.02)
    # Without the neighbours in the list their light stays.
    listed = everything.take(np.arange(len(xs) - rows.size))
    alone = force_targets(one, lambda *_: listed, model)
    assert alone is not None
    spoiled = np.median(alone.flux["psf"][alone.star_id >= x.size]) / true
    assert spoiled > 1.05


def test_a_frame_of_rings_does_not_pass_for_its_night(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: PsfModel
) -> None:
    yy, xx = np.mgrid[-9:10, -9:10]
    ring = ((np.hypot(xx, yy) < 7.0) & (np.hypot(xx, yy) > 3.0)).astype(float)
    field = grid_field(44, flux=(2e4, 3e5), shape=SHAPE)
    blurred = fftconvolve(field.pixels - 300.0, ring / ring.sum(), mode="same") + 300.0
    blurred += np.random.default_rng(4).normal(0.0, 12.0, SHAPE)
    defocused = at_truth(
        extracted(replace(field, pixels=blurred.astype(np.float32))), field.x, field.y, model
    )
    assert defocused.psf_chi2 > 10.0
    assert (defocused.flags & SourceFlag.FIT_FAILED).all()
    for psf in (None, Moffat(4.2), Moffat(3.0, 0.2, 30.0)):
        other = grid_field(45, flux=(2e4, 3e5), psf=psf, shape=SHAPE)
        focused = at_truth(extracted(other), other.x, other.y, model)
        assert 0.7 < focused.psf_chi2 < 2.0
        assert not (focused.flags & SourceFlag.FIT_FAILED).any()

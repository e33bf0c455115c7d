"""Stars of which a bad pixel hides a part, on images with variances that the sky contradicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.camera import Camera, ReductionSteps
from skylake.core.flags import PixelFlag, SourceFlag
from skylake.core.frame import Image, RawImage
from skylake.image.detrend.detrend_chain import Conditions, detrend_image
from skylake.image.masters.master_file import MasterFrame
from skylake.simulate import render

Floats = npt.NDArray[np.float64]
SHAPE, GAIN, SKY, PEDESTAL, EXPOSURE_S = (512, 512), 2.0, 50.0, 200.0, 20.0
NAMES = {"aper1": 3.0, "aper2": 5.0, "aper3": 8.0}


def stars(make_field: Callable[..., Any], seed: int, flux: float) -> Any:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[30:482:32, 30:482:32].reshape(2, -1)
    x, y = (values + random.uniform(-0.5, 0.5, x.size) for values in (x, y))
    # Bright stars show the profile.
    return make_field(x, y, np.where(np.arange(x.size) % 4 == 0, 6e4, flux), SHAPE, seed=seed, sky=SKY)


def reduced(field: Any, true_e: float, told_e: float) -> Image:
    """The field as a detector of some read noise shows it, reduced with what its header shows."""
    random = np.random.default_rng(round(float(field.x.sum())))
    electrons = random.poisson((render(SHAPE, field.x, field.y, field.flux, field.psf) + SKY) * GAIN)
    raw = PEDESTAL + (electrons + random.normal(0.0, true_e, SHAPE)) / GAIN
    plane = np.full(SHAPE, PEDESTAL, np.float32)
    master = MasterFrame("bias", plane, np.zeros_like(plane), None, (0, 0))
    camera = Camera("lab", reduction=ReductionSteps(("bias",)))
    conditions = Conditions(gain=GAIN, read_noise=told_e, masters={"bias": master}, gain_known=True)
    return detrend_image(RawImage(raw.astype(np.float32), {}, 0), camera, conditions)


def spoil(image: Image, field: Any, chosen: npt.NDArray[np.bool_], offset: tuple[int, int]) -> None:
    rows, columns = (
        np.rint(place[chosen]).astype(int) + shift
        for place, shift in zip((field.y, field.x), offset, strict=True)
    )
    image.mask[rows, columns] |= np.uint8(PixelFlag.HOT | PixelFlag.REPAIRED)
    around = [(0, -1), (0, 1), (-1, 0), (1, 0)]
    image.pixels[rows, columns] = np.mean(
        [image.pixels[rows + down, columns + right] for down, right in around], 0
    )


@pytest.mark.parametrize(("true_e", "told_e"), [(30.0, 5.0), (5.0, 30.0), (5.0, 5.0)])
@pytest.mark.parametrize("offset", [(0, 1), (2, 2)])
def test_errors_are_real_whatever_read_noise_the_header_shows(
    true_e: float, told_e: float, offset: tuple[int, int], make_field: Callable[..., Any],
    measure: Callable[..., Any],
) -> None:  # fmt: skip
    pulls: dict[str, list[Floats]] = {name: [] for name in (*NAMES, "x", "y")}
    for seed in (1, 2):
        field = stars(make_field, seed, 12000.0)
        image = reduced(field, true_e, told_e)
        chosen = np.arange(field.x.size) % 4 != 0
        spoil(image, field, chosen, offset)
        sources = measure(field, image).sources
        star, distance = field.nearest(sources.x, sources.y)
        some = chosen & (distance < 1.5)
        assert ((sources.flags[star[some]] & int(SourceFlag.BAD_PIXEL)) != 0).all()
        for name, radius in NAMES.items():
            off = EXPOSURE_S * sources.flux[name][star] - field.flux * field.held(radius)
            pulls[name].append((off / (EXPOSURE_S * sources.flux_err[name][star]))[some])
        pulls["x"].append(((sources.x[star] - field.x) / sources.x_err[star])[some])
        pulls["y"].append(((sources.y[star] - field.y) / sources.y_err[star])[some])
    for name, parts in pulls.items():
        together = np.concatenate(parts)
        assert 0.88 < together.std() < 1.12, name
        assert abs(together.mean()) < 0.15, name


def test_circles_without_a_bad_pixel_are_as_without_any(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    field = stars(make_field, 3, 12000.0)
    image, spoilt = reduced(field, 15.0, 5.0), reduced(field, 15.0, 5.0)
    # Inside the largest circle, and beyond the pixels that show how bright a star is.
    spoil(spoilt, field, np.ones(field.x.size, bool), (0, 7))
    plain, found = (measure(field, one).sources for one in (image, spoilt))
    star, distance = field.nearest(plain.x, plain.y)
    same, other = field.nearest(found.x, found.y)
    both = (distance < 1.5) & (other < 1.5)
    assert ((found.flags[same[both]] & int(SourceFlag.BAD_PIXEL)) != 0).all()
    for name in ("aper1", "aper2"):
        # The sky is measured anew; but for that nothing is another.
        error = plain.flux_err[name][star[both]]
        np.testing.assert_allclose(found.flux_err[name][same[both]], error, rtol=0.01)
        assert np.abs(found.flux[name][same[both]] - plain.flux[name][star[both]]).max() < 0.1 * error.min()

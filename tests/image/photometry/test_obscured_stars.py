"""Stars of which a bad pixel hides a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.flags import PixelFlag, SourceFlag
from skylake.core.frame import Image
from skylake.simulate import Moffat

Floats = npt.NDArray[np.float64]
EXPOSURE_S = 20.0
RADII = (3.0, 5.0, 8.0)
#: Offsets of bad pixels from the middle of a star, in y and x.
OBSCURED = {
    "centre": [(0, 0)],
    "beside": [(0, 1)],
    "column": [(k, 0) for k in range(-9, 10)],
    "outside": [(0, 4)],
}


def spoilt(field: Any, chosen: npt.NDArray[np.bool_], offsets: list[tuple[int, int]]) -> Image:
    """The image with bad pixels in some stars, whose values say nothing."""
    pixels, mask = field.pixels.copy(), np.zeros(field.pixels.shape, np.uint8)
    for down, across in offsets:
        rows, columns = (
            np.rint(field.y[chosen]).astype(int) + down,
            np.rint(field.x[chosen]).astype(int) + across,
        )
        mask[rows, columns] = int(PixelFlag.HOT | PixelFlag.REPAIRED)
        # As repair leaves them: about what their neighbours have.
        pixels[rows, columns] = 0.5 * (pixels[rows, columns - 2] + pixels[rows, columns + 2])
    return Image(pixels, mask, (0, 0))


def compared(
    field: Any, measure: Callable[..., Any], offsets: list[tuple[int, int]]
) -> tuple[Any, npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    chosen = np.arange(len(field.x)) % 3 == 0
    done = measure(field, spoilt(field, chosen, offsets))
    index, distance = field.nearest(done.sources.x, done.sources.y)
    assert distance.max() < 1.5
    return done.sources, index, chosen


@pytest.mark.parametrize("where", OBSCURED)
@pytest.mark.parametrize("fwhm", [2.5, 4.0])
def test_a_bad_pixel_does_not_make_a_star_fainter(
    grid_field: Callable[..., Any], measure: Callable[..., Any], where: str, fwhm: float
) -> None:
    field = grid_field(71, flux=(5e4, 3e5), psf=Moffat(fwhm))
    found, index, chosen = compared(field, measure, OBSCURED[where])
    for number in (1, 2, 3):
        ratio = found.flux[f"aper{number}"][index] * EXPOSURE_S / field.flux
        assert np.median(ratio[chosen]) / np.median(ratio[~chosen]) == pytest.approx(1.0, abs=0.01)
    flagged = (found.flags[index] & int(SourceFlag.BAD_PIXEL)) != 0
    assert flagged.tolist() == chosen.tolist()
    off = np.hypot(found.x[index] - field.x, found.y[index] - field.y)
    assert np.median(off[chosen]) < 0.05


@pytest.mark.parametrize("where", ["centre", "beside"])
def test_errors_hold_what_stands_in_for_a_pixel(
    grid_field: Callable[..., Any], measure: Callable[..., Any], where: str
) -> None:
    pulls = []
    for seed in (81, 82, 83):
        field = grid_field(seed, flux=(3e3, 1e5), step=26)
        found, index, chosen = compared(field, measure, OBSCURED[where])
        ratio = found.flux["aper1"][index] * EXPOSURE_S / field.flux
        error = found.flux_err["aper1"][index] * EXPOSURE_S / field.flux
        usual = np.median(ratio[~chosen])
        pulls.append((ratio[chosen] - usual) / error[chosen])
    low, middle, high = np.percentile(np.concatenate(pulls), [15.865, 50.0, 84.135])
    assert 0.8 < 0.5 * (high - low) < 1.15
    assert abs(middle) < 0.3


def test_few_stars_are_filled_from_a_plain_profile(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    places = np.array([60.0, 130.0, 200.0])
    field = make_field(places + 0.2, places[::-1] - 0.3, np.full(3, 2e5), (256, 256), seed=91)
    found, index, chosen = compared(field, measure, OBSCURED["centre"])
    ratio = found.flux["aper2"][index] / field.flux
    assert ratio[chosen] / np.median(ratio[~chosen]) == pytest.approx(1.0, abs=0.03)


def test_a_star_of_which_nothing_is_left_has_no_flux_made_up(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    field = grid_field(72, flux=(5e4, 3e5))
    square = [(down, across) for down in range(-2, 3) for across in range(-2, 3)]
    done = measure(field, spoilt(field, np.arange(len(field.x)) % 3 == 0, square))
    sources = done.sources
    spoiled = (sources.flags & int(SourceFlag.BAD_PIXEL)) != 0
    assert np.isfinite(sources.flux["aper3"][~spoiled]).all()
    assert (sources.flux["aper3"][spoiled] * EXPOSURE_S < 2.0 * field.flux.max()).all()


@pytest.mark.parametrize("offset", [(0, 0), (0, 1), (2, 0)])
@pytest.mark.parametrize("fwhm", [2.5, 4.0])
def test_shapes_and_kron_fluxes_survive_bad_pixels(
    grid_field: Callable[..., Any], measure: Callable[..., Any], offset: tuple[int, int], fwhm: float
) -> None:
    field = grid_field(75, flux=(5e4, 3e5), psf=Moffat(fwhm), step=34)
    found, index, chosen = compared(field, measure, [offset])
    flux = found.flux["kron"][index] * EXPOSURE_S / field.flux
    for values in (flux, found.fwhm[index], found.half_light[index]):
        assert np.median(values[chosen]) / np.median(values[~chosen]) == pytest.approx(1.0, abs=0.02)
    failed = (found.flags[index] & int(SourceFlag.KRON_FAILED)) != 0
    assert not failed.any()


def test_errors_of_kron_fluxes_hold_what_stands_in_for_a_pixel(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    pulls = []
    for seed in (84, 85, 86):
        field = grid_field(seed, flux=(2e4, 6e4), step=26)
        found, index, chosen = compared(field, measure, OBSCURED["beside"])
        ratio = found.flux["kron"][index] * EXPOSURE_S / field.flux
        error = found.flux_err["kron"][index] * EXPOSURE_S / field.flux
        pulls.append((ratio[chosen] - np.median(ratio[~chosen])) / error[chosen])
    low, middle, high = np.percentile(np.concatenate(pulls), [15.865, 50.0, 84.135])
    assert 0.8 < 0.5 * (high - low) < 1.15
    assert abs(middle) < 0.3


def test_pixels_are_as_they_were_after_a_measurement(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    field = grid_field(76, flux=(5e4, 3e5))
    image = spoilt(field, np.arange(len(field.x)) % 3 == 0, OBSCURED["centre"])
    pixels, mask = image.pixels.copy(), image.mask.copy()
    done = measure(field, image)
    np.testing.assert_array_equal(image.mask, mask)
    np.testing.assert_array_equal(image.pixels, pixels)
    np.testing.assert_array_equal(done.signal, pixels - done.background.level)

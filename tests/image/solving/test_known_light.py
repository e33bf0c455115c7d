"""Aperture corrections of crowded frames, whose neighbours a catalog knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skylake.core.camera import Camera
from skylake.core.sphere import ra_dec
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.solving.known_light import known_light
from skylake.image.solving.neighbour_pointing import pointing_of_lens
from skylake.image.wcs.header_wcs import CatalogStars, stars_to_pixels
from skylake.image.wcs.lens import Lens
from skylake.simulate import Moffat

SHAPE = (420, 420)
EXPOSURE_S = 20.0


@pytest.mark.parametrize("beta", [3.5, 20.0])
def test_neighbours_that_are_known_are_not_in_the_correction(
    make_field: Callable[..., Any], measure: Callable[..., Any], camera: Camera, beta: float
) -> None:
    """Twenty stars share each aperture; the loneliest still are too bright far out."""
    random = np.random.default_rng(8)
    n = 45000
    flux = np.minimum(30.0 * random.random(n) ** (-1.0 / 0.95), 4e5)
    x, y = random.uniform(-40.0, 460.0, (2, n))
    measured = measure(make_field(x, y, flux, SHAPE, Moffat(2.8, beta=beta), seed=3))
    true = float(measured.field.held(14.0)[0] / measured.field.held(5.0)[0])
    given = (
        measured.image, measured.background, measured.signal, measured.detections, measured.sources, camera.apertures,
    )  # fmt: skip
    plain = aperture_corrections(*given)
    assert plain.crowded and plain.factor["aper2"] - true > 0.005
    axis = np.array([0.3, -0.5, 0.2])
    lens = Lens.aimed(axis, [0.0, 0.0, 1.0], 206265.0 / 20.0, (209.5, 209.5))
    ra, dec = ra_dec(lens.to_vectors(x, y))
    pointing = pointing_of_lens(lens, SHAPE)
    stars = CatalogStars(ra, dec, 12.0 - 2.5 * np.log10(flux))
    np.testing.assert_allclose(stars_to_pixels(pointing, SHAPE, stars), np.column_stack([x, y]), atol=1e-6)
    known = known_light(
        pointing, stars, measured.sources, plain, measured.detections, measured.background, camera, EXPOSURE_S
    )
    assert known is not None
    scale = known.own[known.own > 0].max() / flux[(x > 0) & (x < 420) & (y > 0) & (y < 420)].max()
    assert scale == pytest.approx(1.0, abs=0.05)
    found = aperture_corrections(*given, None, known)
    assert not found.assumed and found.error["aper2"] < 0.006
    assert abs(found.factor["aper2"] - true) < max(3.0 * found.error["aper2"], 0.004)
    assert abs(found.factor["aper2"] - true) < 0.6 * (plain.factor["aper2"] - true)


def test_without_a_star_nothing_is_known(
    make_field: Callable[..., Any], measure: Callable[..., Any], camera: Camera
) -> None:
    measured = measure(make_field([100.0, 300.0], [100.0, 300.0], [1e4, 1e4], SHAPE))
    lens = Lens.aimed([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], 1e4, (209.5, 209.5))
    given = measured.sources, aperture_corrections(
        measured.image, measured.background, measured.signal, measured.detections, measured.sources, camera.apertures
    ), measured.detections, measured.background, camera, EXPOSURE_S  # fmt: skip
    none = CatalogStars(np.zeros(0), np.zeros(0), np.zeros(0))
    assert known_light(pointing_of_lens(lens, SHAPE), none, *given) is None
    far = CatalogStars(np.array([180.0]), np.array([0.0]), np.array([9.0]))
    assert known_light(pointing_of_lens(lens, SHAPE), far, *given) is None

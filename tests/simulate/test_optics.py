from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.core.sphere import separation_deg
from skylake.simulate.optics import SimulatedPointing, field_radius, point_spread
from skylake.simulate.scenario import OpticsParams

pointings = st.builds(
    SimulatedPointing,
    ra_deg=st.floats(0.0, 359.99),
    dec_deg=st.one_of(st.floats(-90.0, 90.0), st.sampled_from([-90.0, 90.0])),
    rotation_deg=st.floats(0.0, 360.0),
    scale_arcsec=st.sampled_from([0.5, 8.0, 73.5]),
    shape=st.just((1000, 800)),
    distortion=st.sampled_from([0.0, 0.003, -0.004, 0.05]),
    mirrored=st.booleans(),
)
GRID = [axis.ravel() for axis in np.meshgrid(np.linspace(-0.5, 799.5, 9), np.linspace(-0.5, 999.5, 9))]


@settings(
    deadline=None,
)
@given(pointings)
def test_sky_to_pixel_undoes_pixel_to_sky(pointing: SimulatedPointing) -> None:
    x, y = pointing.sky_to_pixel(*pointing.pixel_to_sky(*GRID))
    np.testing.assert_allclose(x, GRID[0], atol=1e-5)
    np.testing.assert_allclose(y, GRID[1], atol=1e-5)


@settings(
    deadline=None,
)
@given(pointings, st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_the_header_says_the_same(pointing: SimulatedPointing, origin: tuple[int, int]) -> None:
    header = fits.Header([(name, value) for name, value, _ in pointing.cards(origin)])
    ra, dec = WCS(header).all_pix2world(GRID[0] + origin[0], GRID[1] + origin[1], 0)
    assert (
        separation_deg(ra, dec, *pointing.pixel_to_sky(*GRID)) * 3600.0 < 1e-5 * pointing.scale_arcsec + 1e-8
    ).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_is_the_position_angle_of_the_y_axis(mirrored: bool) -> None:
    pointing = SimulatedPointing(80.0, 10.0, 30.0, 10.0, (101, 101), mirrored=mirrored)
    ra, dec = pointing.pixel_to_sky([50.0, 60.0], [60.0, 50.0])
    east, north = (ra - 80.0) * np.cos(np.radians(10.0)), dec - 10.0
    assert np.degrees(np.arctan2(east, north))[0] == pytest.approx(30.0, abs=0.01)
    # Seen from outside the sphere x runs to the west of y, unless the image is mirrored.
    assert (np.degrees(np.arctan2(east, north))[1] % 360.0) == pytest.approx(
        120.0 if mirrored else 300.0, abs=0.01
    )


def test_the_other_side_of_the_sky_has_no_pixel() -> None:
    x, y = SimulatedPointing(10.0, 20.0, 0.0, 70.0, (100, 100)).sky_to_pixel([190.0, 10.0], [-20.0, 20.0])
    assert np.isnan(x[0]) and np.isnan(y[0])
    assert (x[1], y[1]) == pytest.approx((49.5, 49.5))


def test_the_distortion_is_that_of_the_corners() -> None:
    straight = SimulatedPointing(10.0, 0.0, 0.0, 5.0, (400, 300))
    bent = SimulatedPointing(10.0, 0.0, 0.0, 5.0, (400, 300), distortion=0.01)
    far = [separation_deg(10.0, 0.0, *pointing.pixel_to_sky(0.0, 0.0)) for pointing in (bent, straight)]
    assert np.tan(np.radians(far[0])) / np.tan(np.radians(far[1])) == pytest.approx(1.01, rel=1e-9)


def test_images_of_stars_grow_and_stretch_towards_the_corners() -> None:
    params = OpticsParams(fwhm_edge=0.2, fwhm_tilt=0.0, ellipticity_edge=0.1, ellipticity_tilt=0.0)
    psf = point_spread(params, 3.0, (201, 201), [100.0, 200.0, 0.0, 0.0], [100.0, 200.0, 200.0, 0.0])
    np.testing.assert_allclose(psf.fwhm_px, [3.0, 3.6, 3.6, 3.6])
    np.testing.assert_allclose(psf.ellipticity, [0.0, 0.1, 0.1, 0.1], atol=1e-12)
    np.testing.assert_allclose(np.asarray(psf.angle_deg)[1:] % 180.0, [45.0, 135.0, 45.0])


def test_field_radius_is_one_in_the_corners() -> None:
    *_, squared = field_radius((31, 57))
    assert squared[0, 0] == squared[-1, -1] == squared.max() == pytest.approx(1.0)
    assert squared[15, 28] == 0.0

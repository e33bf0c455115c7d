from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseHighLevelWCS, BaseLowLevelWCS
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import Site
from skylake.core.horizon import Horizon
from skylake.image.wcs.ape14 import ViewWCS
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import VIEW_MARK, lens_of_text, lens_text, view_of_text, view_text
from skylake.image.wcs.sky_view import SkyView

SITE = Site("", -17.8911, 28.7617, 2200.0)
SHAPE = (1040, 1392)
MJD = 58347.0367


def view(tilt_deg=3.0, projection="equisolid", mirrored=True, mjd=MJD):
    tilt = np.radians(tilt_deg)
    lens = Lens.aimed(
        [np.sin(tilt), 0.0, np.cos(tilt)], [0.1, 1.0, 0.0], 340.0, (726.0, 527.0), projection, mirrored
    )
    values = lens.parameters()
    values[6:11] = 0.028, -0.0014, -0.0006, 1e-4, 5e-4
    bent = Lens.from_parameters(values, projection, mirrored)
    return SkyView(bent, Horizon.of(mjd, SITE), SHAPE)


def inner_pixels(number=500, radius=400.0):
    random = np.random.default_rng(3)
    r, a = radius * np.sqrt(random.random(number)), random.uniform(0.0, 2.0 * np.pi, number)
    return 726.0 + r * np.cos(a), 527.0 + r * np.sin(a)


@given(st.floats(0.0, 15.0), st.booleans(), st.floats(55000.0, 62000.0))
def test_pixels_lead_to_the_sky_and_back(tilt, mirrored, mjd):
    seen, (x, y) = view(tilt, "equidistant", mirrored, mjd), inner_pixels(60)
    for there, back in (
        (seen.pixels_to_icrs, seen.icrs_to_pixels),
        (seen.pixels_to_alt_az, seen.alt_az_to_pixels),
    ):
        again = back(*there(x, y))
        assert np.abs(np.array(again) - [x, y]).max() < 1e-5


@given(st.floats(0.0, 15.0), st.booleans(), st.floats(55000.0, 62000.0))
def test_a_view_is_the_same_after_it_was_written(tilt, mirrored, mjd):
    seen = view(tilt, "equisolid", mirrored, mjd)
    again = view_of_text(view_text(seen), SHAPE)
    assert again.lens == seen.lens and again.shape == seen.shape
    assert again.horizon.refraction == seen.horizon.refraction
    assert np.array_equal(again.horizon.axes, seen.horizon.axes)
    assert np.array_equal(again.horizon.velocity, seen.horizon.velocity)


def test_a_lens_and_a_view_are_not_taken_for_each_other():
    seen = view()
    assert VIEW_MARK in view_text(seen) and VIEW_MARK not in lens_text(seen.lens)
    with pytest.raises(ValueError, match="read it with view_of_text"):
        lens_of_text(view_text(seen))
    for text in (lens_text(seen.lens), "{}", "[]", view_text(seen).replace("velocity", "speed")):
        with pytest.raises(ValueError, match=r"no view|no lens"):
            view_of_text(text, SHAPE)


def test_astropy_makes_skycoords_of_pixels_and_back():
    seen, (x, y) = view(), inner_pixels()
    wcs = seen.wcs()
    assert isinstance(wcs, BaseHighLevelWCS)
    sky = wcs.pixel_to_world(x, y)
    assert isinstance(sky, SkyCoord)
    assert sky.is_equivalent_frame(SkyCoord(0, 0, unit="deg").frame)
    again = wcs.world_to_pixel(sky)
    assert np.abs(np.array(again) - [x, y]).max() < 1e-5
    # Any frame will do: astropy turns it to ICRS first.
    galactic = wcs.world_to_pixel(sky.galactic)
    assert np.abs(np.array(galactic) - [x, y]).max() < 1e-3


def test_the_low_level_interface_shows_two_axes_of_the_sky():
    low = ViewWCS(view())
    assert isinstance(low, BaseLowLevelWCS)
    assert (low.pixel_n_dim, low.world_n_dim) == (2, 2)
    assert low.world_axis_physical_types == ["pos.eq.ra", "pos.eq.dec"]
    assert low.world_axis_units == ["deg", "deg"]
    assert low.array_shape == SHAPE
    assert low.pixel_shape == SHAPE[::-1]
    assert low.pixel_bounds == [(-0.5, 1391.5), (-0.5, 1039.5)]
    assert low.axis_correlation_matrix.all()
    # Array indices are rows first.
    ra, dec = low.array_index_to_world_values(400, 700)
    assert np.allclose(low.pixel_to_world_values(700.0, 400.0), [ra, dec])


def test_what_is_below_the_horizon_is_nowhere():
    seen = view(0.0)
    ra, dec = seen.pixels_to_icrs([726.0, 726.0], [527.0, 1037.0])
    assert np.isfinite([ra[0], dec[0]]).all()
    assert np.isnan([ra[1], dec[1]]).all()
    assert np.isnan(seen.alt_az_to_pixels(-5.0, 10.0)).all()
    nadir = seen.icrs_to_pixels((ra[0] + 180.0) % 360.0, -dec[0])
    assert np.isnan(nadir).all()


def test_an_hour_later_stars_are_west_and_the_horizon_stays():
    before = view()
    after = before.at(Horizon.of(MJD + 1.0 / 24.0, SITE))
    ra, dec = before.pixels_to_icrs(726.0, 527.0)
    _, azimuth = after.pixels_to_alt_az(*after.icrs_to_pixels(ra, dec))
    assert azimuth == pytest.approx(270.0, abs=25.0)
    assert np.allclose(before.alt_az_to_pixels(40.0, 77.0), after.alt_az_to_pixels(40.0, 77.0))
    later = SkyCoord(*after.pixels_to_icrs(726.0, 527.0), unit="deg")
    assert (later.ra - SkyCoord(ra, dec, unit="deg").ra).wrap_at(180 * u.deg).deg == pytest.approx(
        15.04, abs=0.3
    )


def test_a_whole_sky_header_is_as_exact_as_it_says():
    """Polynomials run away beyond the last place that they were fitted at, and the sky ends between two of them."""
    bent = Lens.aimed([0.012, 0.005, 1.0], [0.0, 1.0, 0.0], 340.6, (725.96, 526.97), "equidistant", True)
    bent = replace(bent, radial=(-0.02, 0.003, -0.001), decentring=(4e-4, -2e-4))
    seen = SkyView(bent, Horizon.of(MJD, SITE), SHAPE)
    written = seen.header()
    y, x = (axis.ravel() for axis in np.mgrid[0 : SHAPE[0] : 8.0, 0 : SHAPE[1] : 8.0])
    shown = np.isfinite(replace(seen, lowest_deg=5.0).to_vectors(x, y)).all(axis=1)
    ra, dec = WCS(written.header).all_pix2world(x[shown], y[shown], 0)
    off = np.hypot(*(np.array(seen.icrs_to_pixels(ra, dec)) - [x[shown], y[shown]]))
    assert 0.7 * written.residual_px < off.max() < 1.02 * written.residual_px
    # The rim takes part in the fit.
    assert max(written.residual_px, written.inverse_px) < 0.05


@pytest.mark.parametrize("projection", ["equidistant", "equisolid", "stereographic"])
def test_a_fits_header_represents_the_view(projection):
    seen, (x, y) = view(projection=projection), inner_pixels(800, 390.0)
    written = seen.header(0.05)
    assert written.residual_px < 0.05
    ra, dec = WCS(written.header).all_pix2world(x, y, 0)
    there = seen.icrs_to_pixels(ra, dec)
    assert np.hypot(*(np.array(there) - [x, y])).max() < 0.06

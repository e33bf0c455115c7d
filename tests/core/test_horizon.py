from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import Site
from skylake.core.horizon import Horizon, altitude_azimuth, horizontal_vectors
from skylake.core.refraction import Air, Refraction
from skylake.core.sphere import ARCSEC_PER_RADIAN, ra_dec, unit_vectors

LA_PALMA = Site("La Palma", -17.8911, 28.7617, 2200.0)
MJD = 58347.0361


def _over_the_sky(number, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(number, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _by_astropy(vectors, air):
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time

    location = EarthLocation.from_geodetic(LA_PALMA.longitude_deg, LA_PALMA.latitude_deg, LA_PALMA.height_m)
    time = Time(MJD, format="mjd", scale="utc")
    time.delta_ut1_utc = 0.0
    frame = AltAz(
        obstime=time, location=location, pressure=air.pressure_hpa * u.hPa, temperature=air.temperature_c * u.deg_C,
        relative_humidity=0.0, obswl=air.wavelength_um * u.micron,
    )  # fmt: skip
    ra, dec = ra_dec(vectors)
    seen = SkyCoord(ra, dec, unit="deg").transform_to(frame)
    return horizontal_vectors(seen.alt.deg, seen.az.deg)


@pytest.mark.parametrize("pressure", [0.0, 776.0])
def test_directions_agree_with_astropy_to_an_arcsecond(pressure):
    air = Air(pressure, 0.7, height_m=LA_PALMA.height_m)
    stars = _over_the_sky(4000)
    ours = Horizon.of(MJD, LA_PALMA, air).to_horizon(stars)
    theirs = _by_astropy(stars, air)
    high = theirs[:, 2] > np.sin(np.radians(10.0))
    off = np.linalg.norm(ours - theirs, axis=1)[high] * ARCSEC_PER_RADIAN
    assert high.sum() > 1500
    assert off.max() < 1.0


def test_thousands_of_stars_take_milliseconds():
    from time import thread_time

    stars, horizon = _over_the_sky(10_000), Horizon.of(MJD, LA_PALMA)
    begin = thread_time()
    horizon.to_horizon(stars)
    assert thread_time() - begin < 1.0


@given(
    st.floats(50000.0, 65000.0),
    st.floats(-180.0, 180.0),
    st.floats(-90.0, 90.0),
    st.floats(0.0, 5000.0),
    st.integers(0, 1000),
)
def test_the_way_back_leads_to_the_star(mjd, longitude, latitude, height, seed):
    horizon = Horizon.of(mjd, Site("", longitude, latitude, height))
    stars = _over_the_sky(50, seed)
    seen = horizon.to_horizon(stars)
    back = horizon.to_icrs(seen)
    assert np.allclose(np.linalg.norm(seen, axis=1), 1.0, atol=1e-12)
    assert np.abs(back - stars).max() < 1e-9


def test_refraction_is_that_of_the_tables():
    sea_level = Refraction.of(Air(1010.0, 10.0, wavelength_um=0.574))
    lifts = sea_level.lifts(np.radians([0.0, 5.0, 10.0, 45.0, 90.0])) * ARCSEC_PER_RADIAN
    # Pulkovo tables and Bennett (1982), minutes of arc at the horizon within what the weather makes of it.
    assert lifts[0] / 60.0 == pytest.approx(34.5, abs=1.2)
    assert lifts[1] / 60.0 == pytest.approx(9.86, abs=0.15)
    assert lifts[2] / 60.0 == pytest.approx(5.31, abs=0.05)
    assert lifts[3] == pytest.approx(58.2, abs=0.6)
    assert lifts[4] == pytest.approx(0.0, abs=1e-6)


@given(st.floats(0.0, 9000.0), st.floats(0.3, 1.0))
def test_stars_keep_their_order_above_the_horizon(height, wavelength):
    standard = Air.standard(height)
    refraction = Refraction.of(Air(standard.pressure_hpa, standard.temperature_c, wavelength, height))
    true = np.radians(np.linspace(-0.2, 90.0, 500))
    apparent = refraction.apparent(true)
    assert np.all(np.diff(apparent) > 0.0)
    assert np.all(apparent >= true - 1e-9)


def test_the_standard_air_thins_with_height():
    low, high = Air.standard(0.0), Air.standard(2200.0)
    assert low.pressure_hpa == pytest.approx(1013.25)
    assert high.pressure_hpa == pytest.approx(775.4, abs=0.5)
    assert high.temperature_c == pytest.approx(0.7, abs=0.1)


def test_the_air_is_that_of_the_site_and_the_band():
    standard = Air.above(LA_PALMA, "V")
    assert (standard.wavelength_um, standard.height_m) == (0.545, 2200.0)
    assert standard.pressure_hpa == Air.standard(2200.0).pressure_hpa
    told = Air.above(replace(LA_PALMA, pressure_hpa=745.5, temperature_c=8.0), "K")
    assert (told.pressure_hpa, told.temperature_c, told.wavelength_um) == (745.5, 8.0, 2.159)
    assert Air.above(LA_PALMA).wavelength_um == 0.55


def test_a_horizon_lifts_by_the_air_of_its_site():
    site = Site("a cold plateau", 0.0, -75.0, 3200.0, pressure_hpa=640.0, temperature_c=-60.0)
    low = horizontal_vectors(np.array([5.0, 10.0]), 0.0)

    def lift(horizon):
        true = np.degrees(np.arcsin(horizon.to_icrs(low) @ horizon.axes[2]))
        return 3600.0 * (np.array([5.0, 10.0]) - true)

    # Aberration moves them by less than 21 arcsec.
    assert lift(Horizon.of(MJD, site)) == pytest.approx([510.0, 270.0], abs=22.0)
    assert lift(Horizon.of(MJD, replace(site, pressure_hpa=None, temperature_c=None)))[0] < 450.0


def test_no_site_is_no_horizon():
    with pytest.raises(ValueError, match="longitude"):
        Horizon.of(MJD, Site())


@given(st.floats(-89.9, 89.9), st.floats(0.0, 359.9))
def test_altitude_and_azimuth_come_back(altitude, azimuth):
    found = altitude_azimuth(horizontal_vectors(altitude, azimuth))
    assert found[0] == pytest.approx(altitude, abs=1e-9)
    assert np.cos(np.radians(found[1] - azimuth)) == pytest.approx(1.0, abs=1e-12)


def test_the_pole_stands_in_the_north_at_the_latitude():
    altitude, azimuth = altitude_azimuth(
        Horizon.of(51544.5, LA_PALMA, Air(0.0, 0.0)).to_horizon(unit_vectors(0.0, 90.0))
    )
    assert altitude == pytest.approx(LA_PALMA.latitude_deg, abs=0.01)
    assert min(azimuth, 360.0 - azimuth) == pytest.approx(0.0, abs=0.01)

"""Horizon, Sun, Moon, airmass and barycentric time against astropy, which shares only SOFA with us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import erfa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import Site
from skylake.core.ephemeris import (
    _earth_and_tdb,
    airmass,
    alt_az,
    barycentric_jd,
    horizon_axes,
    sun_and_moon,
    terrestrial_time,
)
from skylake.core.sphere import separation_deg, unit_vectors

SITES = [
    Site("La Palma", -17.8792, 28.7624, 2363.0),
    Site("Siding Spring", 149.0661, -31.2733, 1165.0),
    Site("Longyearbyen", 15.8297, 78.2022, 520.0),
    Site("Quito", -78.5, 0.0, 2850.0),
]
#: From the first CCDs to the end of the table of UT1 that comes with astropy.
TIMES = np.array([44239.123, 47892.9, 51544.5, 53735.999999, 56324.25, 57754.5, 59000.0, 60100.375])


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    from astropy.utils import iers

    with iers.conf.set_temp("auto_download", False):
        yield


def astropy_site(site: Site) -> Any:
    import astropy.units as u
    from astropy.coordinates import EarthLocation

    return EarthLocation.from_geodetic(
        site.longitude_deg * u.deg, site.latitude_deg * u.deg, site.height_m * u.m
    )


def stars(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0.0, 360.0, n), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n)))
    ra[:3], dec[:3] = [0.0, 10.0, 359.9999], [90.0, -90.0, 0.0]
    return ra, dec


def test_terrestrial_time_is_that_of_astropy() -> None:
    from astropy.time import Time

    np.testing.assert_allclose(
        terrestrial_time(TIMES), Time(TIMES, format="mjd", scale="utc").tt.mjd, atol=1e-10, rtol=0.0
    )


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_altitudes_and_azimuths_are_those_of_astropy(site: Site) -> None:
    import astropy.units as u
    from astropy.coordinates import AltAz, SkyCoord
    from astropy.time import Time

    ra, dec = stars()
    for mjd in TIMES:
        frame = AltAz(obstime=Time(mjd, format="mjd", scale="utc"), location=astropy_site(site))
        wanted = SkyCoord(ra * u.deg, dec * u.deg).transform_to(frame)
        altitude, azimuth = alt_az(ra, dec, mjd, site)
        np.testing.assert_allclose(altitude, wanted.alt.deg, atol=0.02)
        assert separation_deg(azimuth, altitude, wanted.az.deg, wanted.alt.deg).max() < 0.02
        assert (azimuth >= 0.0).all() and (azimuth < 360.0).all()


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_sun_and_moon_are_those_of_astropy(site: Site) -> None:
    import astropy.units as u
    from astropy.coordinates import GCRS, AltAz, get_body, get_sun
    from astropy.time import Time

    when, place = Time(TIMES, format="mjd", scale="utc"), astropy_site(site)
    frame = AltAz(obstime=when, location=place)
    sun, moon = get_sun(when), get_body("moon", when, place)
    state = sun_and_moon(TIMES, site)
    np.testing.assert_allclose(state.sun_altitude_deg, sun.transform_to(frame).alt.deg, atol=0.02)
    np.testing.assert_allclose(state.moon_altitude_deg, moon.transform_to(frame).alt.deg, atol=0.02)
    seen = GCRS(obstime=when, obsgeoloc=place.get_gcrs_posvel(when)[0])
    for vector, body in ((state.sun, sun), (state.moon, moon.transform_to(seen))):
        wanted = unit_vectors(body.ra.deg, body.dec.deg)
        assert np.degrees(np.linalg.norm(vector - wanted, axis=-1)).max() < 0.02
    centre = get_body("moon", when)
    elongation = sun.separation(centre)
    angle = np.arctan2(sun.distance * np.sin(elongation), centre.distance - sun.distance * np.cos(elongation))
    np.testing.assert_allclose(state.moon_phase, 0.5 * (1.0 + np.cos(angle.to_value(u.rad))), atol=2e-4)


def test_the_moon_is_topocentric() -> None:
    """The parallax of the Moon, up to a degree, decides whether it is up."""
    mjd = np.linspace(60000.0, 60028.0, 400)
    geocentric = sun_and_moon(mjd, Site()).moon
    for site in SITES:
        zenith, _, _ = horizon_axes(mjd, site)
        altitude = np.degrees(np.arcsin(np.sum(geocentric * zenith, axis=-1)))
        lower = altitude - sun_and_moon(mjd, site).moon_altitude_deg
        # 0.95 degrees on the horizon, none overhead; the Earth's flattening tilts it by 0.003.
        assert lower.min() > -0.004
        flat = np.abs(altitude) < 10.0
        assert lower[flat].min() > 0.85 and lower[flat].max() < 1.03


def test_full_and_new_moons_are_those_of_the_almanac() -> None:
    """2023: new on January 21 at 20:53 UTC, full on February 5 at 18:29, first quarter January 28 at 15:19."""
    phase = sun_and_moon(np.array([59965.870, 59980.770, 59972.638]), Site()).moon_phase
    np.testing.assert_allclose(phase, [0.0, 1.0, 0.5], atol=0.006)


def test_without_a_site_there_is_no_altitude_but_a_phase() -> None:
    for site in (Site(), Site(longitude_deg=10.0), Site(latitude_deg=10.0)):
        state = sun_and_moon(TIMES, site)
        assert np.isnan(state.sun_altitude_deg).all() and np.isnan(state.moon_altitude_deg).all()
        assert ((state.moon_phase >= 0.0) & (state.moon_phase <= 1.0)).all()
        np.testing.assert_allclose(np.linalg.norm(state.moon, axis=-1), 1.0)
        with pytest.raises(ValueError, match="no longitude or latitude"):
            alt_az(10.0, 20.0, 60000.0, site)


def test_one_instant_and_many_give_the_same() -> None:
    site = SITES[0]
    many = sun_and_moon(TIMES, site)
    for number, mjd in enumerate(TIMES):
        one = sun_and_moon(mjd, site)
        assert one.sun_altitude_deg.shape == () and one.moon.shape == (3,)
        assert one.moon_altitude_deg == pytest.approx(many.moon_altitude_deg[number], abs=1e-12)
    ra, dec = stars()
    grid, _ = alt_az(ra[:, None], dec[:, None], TIMES, site)
    assert grid.shape == (ra.size, TIMES.size)
    np.testing.assert_allclose(grid[7], alt_az(ra[7], dec[7], TIMES, site)[0], atol=1e-12)


@given(st.floats(40000.0, 60000.0), st.floats(-180.0, 180.0), st.floats(-90.0, 90.0))
def test_zenith_north_and_east_are_a_frame(mjd: float, longitude: float, latitude: float) -> None:
    axes = np.stack(horizon_axes(mjd, Site("", longitude, latitude)))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(-1.0)  # zenith, north, east turn to the left


def test_the_airmass_is_one_overhead_and_grows_downwards() -> None:
    found = airmass(np.linspace(90.0, 0.0, 2000))
    assert found[0] == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(found) >= 0.0).all() and (np.diff(found[5:]) > 0.0).all()
    assert 30.0 < found[-1] < 34.0


def test_the_airmass_is_that_of_true_altitudes() -> None:
    """Young (1994, Appl. Opt. 33, 1108) gives it directly; the two agree to a percent down to the horizon."""
    altitude = np.linspace(0.0, 90.0, 500)
    c = np.sin(np.radians(altitude))
    young = (1.002432 * c**2 + 0.148386 * c + 0.0096467) / (
        c**3 + 0.149864 * c**2 + 0.0102963 * c + 0.000303978
    )
    np.testing.assert_allclose(airmass(altitude), young, rtol=0.011)
    high = altitude > 10.0
    np.testing.assert_allclose(airmass(altitude)[high], young[high], rtol=0.0013)


def test_below_the_horizon_there_is_no_airmass() -> None:
    assert np.isnan(airmass([-1e-9, -10.0, -90.0, np.nan])).all()
    assert airmass(30.0).shape == ()


@pytest.mark.parametrize(
    "site", [*SITES, None], ids=lambda site: site.name if site else "centre of the Earth"
)
def test_barycentric_dates_are_those_of_astropy(site: Site | None) -> None:
    """To a millisecond with the site, at most 21 ms off without."""
    import astropy.units as u
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time

    ra, dec = stars()
    place = astropy_site(site or SITES[0])
    for mjd in TIMES:
        when = Time(mjd, format="mjd", scale="utc", location=place)
        late = when.light_travel_time(SkyCoord(ra * u.deg, dec * u.deg), ephemeris="builtin")
        wanted = when.tdb + late
        found = Time(np.full(ra.size, 2400000.5), barycentric_jd(mjd, ra, dec, site) - 2400000.5,
                     format="jd", scale="tdb")  # fmt: skip
        assert np.abs((found - wanted).to_value(u.ms)).max() < (1.0 if site else 22.5)
    assert isinstance(place, EarthLocation)


def test_the_place_of_the_earth_between_instants_is_that_of_sofa() -> None:
    tt = np.random.default_rng(4).uniform(51544.0, 69000.0, 400)
    place, ahead = _earth_and_tdb(tt)
    _, exact = erfa.epv00(2400000.5, tt)
    assert np.abs(place - exact["p"]).max() * 499.0 < 2e-9
    assert np.abs(ahead * 86400.0 - erfa.dtdb(2400000.5, tt, 0.0, 0.0, 0.0, 0.0)).max() < 1e-8


def test_barycentric_dates_of_one_frame_and_of_one_star() -> None:
    """Times and positions broadcast, and repeated times give what single ones do."""
    site, (ra, dec) = SITES[1], stars()
    one_frame = barycentric_jd(60000.25, ra, dec, site)
    assert one_frame.shape == ra.shape
    np.testing.assert_array_equal(one_frame, barycentric_jd(np.full(ra.size, 60000.25), ra, dec, site))
    mixed = np.resize(TIMES, ra.size)[::-1]
    wanted = [float(barycentric_jd(*row, site)) for row in zip(mixed, ra, dec, strict=True)]
    np.testing.assert_array_equal(barycentric_jd(mixed, ra, dec, site), wanted)
    np.testing.assert_array_equal(
        barycentric_jd(TIMES, 10.0, 20.0, site)[3], barycentric_jd(TIMES[3], 10.0, 20.0, site)
    )


@given(st.floats(45000.0, 60000.0), st.floats(0.0, 360.0), st.floats(-90.0, 90.0))
def test_the_light_time_is_bounded_by_the_orbit(mjd: float, ra: float, dec: float) -> None:
    """What one star gains its antipode loses: the mean of both is TDB."""
    tdb = terrestrial_time(mjd) + 2400000.5
    here, there = barycentric_jd(mjd, ra, dec), barycentric_jd(mjd, ra + 180.0, -dec)
    assert abs(here - tdb) * 86400.0 < 511.0
    assert 0.5 * (here + there) == pytest.approx(float(tdb), abs=0.003 / 86400.0)

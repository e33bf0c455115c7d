"""Geometry on the sphere against astropy and healpy, and the laws that hold at poles and RA 0."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skylake.core.sphere import (
    ARCSEC_PER_RADIAN,
    apply_proper_motion,
    arcsec_of_chord,
    chord,
    healpix_centre,
    healpix_index,
    julian_epoch,
    offset,
    ra_dec,
    separation_deg,
    tangent_basis,
    unit_vectors,
    within,
)

#: What rounding takes at 360 degrees: a few billionths of an arcsecond.
ROUNDING_DEG = 1e-12

ras = st.floats(-720.0, 720.0)
decs = st.floats(-90.0, 90.0)
AWKWARD = [
    (0.0, 0.0, 0.0, 0.0),
    (359.9999999, 0.0, 1e-7, 0.0),
    (0.0, 90.0, 123.0, 90.0),
    (10.0, 90.0, 190.0, -90.0),
    (12.0, 34.0, 192.0, -34.0),
    (12.0, 34.0, 192.0000001, -34.0),
    (45.0, 89.9999999, 225.0, 89.9999999),
    (200.0, -20.0, 200.0, -20.0 + 1e-9),
]


def everywhere(n: int, seed: int = 1) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Positions spread evenly over the sphere, the poles and RA 0 among them."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0.0, 360.0, n), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n)))
    ra[:6], dec[:6] = (
        [0.0, 17.0, 0.0, 359.999999999, 180.0, 90.0],
        [90.0, -90.0, 0.0, 0.0, 89.99999, -89.99999],
    )
    return ra, dec


@given(ras, decs)
@example(-1e-17, 0.0)
@example(360.0, 0.0)
def test_positions_come_back_from_their_vectors(ra: float, dec: float) -> None:
    back_ra, back_dec = ra_dec(unit_vectors(ra, dec))
    assert 0.0 <= back_ra < 360.0
    assert separation_deg(ra, dec, back_ra, back_dec) < ROUNDING_DEG
    assert back_dec == pytest.approx(dec, abs=1e-8)


@given(ras, decs, st.floats(1e-12, 1e12))
def test_the_length_of_a_vector_does_not_move_its_position(ra: float, dec: float, length: float) -> None:
    vector = unit_vectors(ra, dec)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-15)
    assert separation_deg(*ra_dec(vector), *ra_dec(length * vector)) < ROUNDING_DEG


@pytest.mark.parametrize(("ra1", "dec1", "ra2", "dec2"), AWKWARD)
def test_separations_are_those_of_astropy_where_formulae_break(
    ra1: float, dec1: float, ra2: float, dec2: float
) -> None:
    from astropy.coordinates import angular_separation

    wanted = np.degrees(angular_separation(*np.radians([ra1, dec1, ra2, dec2])))
    assert separation_deg(ra1, dec1, ra2, dec2) == pytest.approx(wanted, rel=1e-6, abs=1e-13)


@given(ras, decs, ras, decs)
def test_separations_are_those_of_astropy(ra1: float, dec1: float, ra2: float, dec2: float) -> None:
    from astropy.coordinates import angular_separation

    found = separation_deg(ra1, dec1, ra2, dec2)
    assert found == pytest.approx(
        np.degrees(angular_separation(*np.radians([ra1, dec1, ra2, dec2]))), abs=2e-12
    )
    assert found == separation_deg(ra2, dec2, ra1, dec1)


@given(ras, decs, st.floats(0.0, 179.999), st.floats(-360.0, 360.0))
@example(0.0, 90.0, 1.0, 0.0)
@example(0.0, -90.0, 90.0, 45.0)
def test_an_offset_lies_at_its_distance(ra: float, dec: float, distance: float, angle: float) -> None:
    assert separation_deg(ra, dec, *offset(ra, dec, distance, angle)) == pytest.approx(distance, abs=1e-11)


@given(ras, decs, st.floats(1e-3, 179.0), st.floats(-360.0, 360.0))
@example(0.0, 90.0, 60.0, 0.0)
def test_the_way_back_along_a_great_circle_ends_where_it_began(
    ra: float, dec: float, distance: float, angle: float
) -> None:
    there = offset(ra, dec, distance, angle)
    home, (east, north) = unit_vectors(ra, dec), tangent_basis(*there)
    back = np.degrees(np.arctan2(np.sum(home * east), np.sum(home * north)))
    assert separation_deg(*offset(*there, distance, back), ra, dec) < 1e-9
    assert separation_deg(*offset(ra, dec, -distance, angle + 180.0), *there) < 1e-11


def test_offsets_are_those_of_astropy() -> None:
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    ra, dec = everywhere(300)
    ra, dec = ra[6:], dec[6:]  # astropy's position angle at a pole is another convention
    distance, angle = np.linspace(0.0, 170.0, ra.size), np.linspace(0.0, 720.0, ra.size)
    wanted = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(angle * u.deg, distance * u.deg)
    assert separation_deg(*offset(ra, dec, distance, angle), wanted.ra.deg, wanted.dec.deg).max() < 1e-11


def test_position_angles_run_from_north_through_east() -> None:
    assert offset(10.0, 0.0, 1.0, 0.0)[1] == pytest.approx(1.0)
    assert offset(10.0, 0.0, 1.0, 90.0)[0] == pytest.approx(11.0)
    ra, dec = offset(np.array([0.2, 359.8]), np.zeros(2), np.full(2, 0.4), np.array([-90.0, 90.0]))
    np.testing.assert_allclose(ra, [359.8, 0.2], atol=1e-12)
    np.testing.assert_allclose(dec, 0.0, atol=1e-15)


@given(ras, decs)
def test_east_north_and_the_position_are_a_right_handed_frame(ra: float, dec: float) -> None:
    east, north = tangent_basis(ra, dec)
    axes = np.stack([unit_vectors(ra, dec), east, north])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(axes) == pytest.approx(1.0)


@given(st.floats(0.0, 648000.0))
def test_chords_and_angles_are_inverse(arcsec: float) -> None:
    # Near 180 degrees the chord hardly grows, so its angle is known to the square root of the rounding.
    assert arcsec_of_chord(chord(arcsec)) == pytest.approx(
        arcsec, rel=1e-13, abs=0.02 if arcsec > 6e5 else 1e-12
    )


@given(ras, decs, st.floats(0.001, 7200.0), st.floats(0.0, 360.0))
def test_a_chord_is_the_distance_between_vectors(ra: float, dec: float, arcsec: float, angle: float) -> None:
    there = offset(ra, dec, arcsec / 3600.0, angle)
    length = np.linalg.norm(unit_vectors(ra, dec) - unit_vectors(*there))
    assert length == pytest.approx(chord(arcsec), abs=2e-15)


def test_proper_motions_move_stars_as_in_astropy() -> None:
    """Without distance and radial velocity, to a microarcsecond, at poles and RA 0 too."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from astropy.time import Time

    ra, dec = everywhere(400)
    rng = np.random.default_rng(2)
    pm_ra, pm_dec = rng.normal(0.0, 3000.0, (2, ra.size))
    years = rng.uniform(-120.0, 120.0, ra.size)
    # A star exactly on the pole has no east to move along in astropy's spherical coordinates.
    inside = np.abs(dec) < 90.0
    ra, dec, pm_ra, pm_dec, years = (x[inside] for x in (ra, dec, pm_ra, pm_dec, years))
    epoch = Time(2000.0, format="jyear", scale="tdb")
    stars = SkyCoord(
        ra * u.deg,
        dec * u.deg,
        pm_ra_cosdec=pm_ra * u.mas / u.yr,
        pm_dec=pm_dec * u.mas / u.yr,
        obstime=epoch,
    )
    with warnings.catch_warnings():
        # astropy puts stars without a distance at 10 Mpc and says so.
        warnings.filterwarnings("ignore", "ERFA function .*distance overridden")
        wanted = stars.apply_space_motion(new_obstime=epoch + years * u.yr)
    apart = separation_deg(*apply_proper_motion(ra, dec, pm_ra, pm_dec, years), wanted.ra.deg, wanted.dec.deg)
    assert apart.max() * 3.6e9 < 1.0


def test_a_star_passes_the_pole_and_goes_on() -> None:
    """A parallel of declination would never lead over the pole; a great circle does."""
    ra, dec = apply_proper_motion(0.0, 90.0 - 1.0 / 3600.0, 0.0, 1000.0, 2.0)
    assert ra == pytest.approx(180.0)
    assert dec == pytest.approx(90.0 - 1.0 / 3600.0, abs=1e-10)
    ra, dec = apply_proper_motion([40.0], [90.0], [0.0], [-1000.0], 3.6)
    assert (ra, dec) == (pytest.approx([40.0]), pytest.approx([89.999]))


@given(ras, decs, st.floats(-5000, 5000), st.floats(-5000, 5000), st.floats(-150.0, 150.0))
def test_the_distance_moved_is_the_proper_motion(
    ra: float, dec: float, pm_ra: float, pm_dec: float, years: float
) -> None:
    moved = apply_proper_motion(ra, dec, pm_ra, pm_dec, years)
    wanted = np.degrees(np.arctan(np.hypot(pm_ra, pm_dec) * abs(years) / 1000.0 / ARCSEC_PER_RADIAN))
    assert separation_deg(ra, dec, *moved) == pytest.approx(wanted, rel=1e-9, abs=1e-13)


def test_unknown_motions_are_zero_and_unknown_places_stay_nan() -> None:
    nan = float("nan")
    ra, dec = apply_proper_motion(
        np.array([10.0, 10.0, nan, 350.0]), np.array([20.0, 89.99, 5.0, nan]), [nan, nan, 1.0, 1.0],
        [nan, 1000.0, 1.0, 1.0], np.full(4, 3.6),
    )  # fmt: skip
    np.testing.assert_allclose(ra[:2], [10.0, 10.0])
    np.testing.assert_allclose(dec[:2], [20.0, 89.991])
    assert np.isnan(ra[2:]).all() and np.isnan(dec[2:]).all()
    assert np.isnan(separation_deg(nan, 0.0, 0.0, 0.0)) and np.isnan(offset(0.0, nan, 1.0, 1.0)).all()


@pytest.mark.parametrize("order", [0, 1, 3, 8])
def test_low_orders_are_those_of_healpy(order: int) -> None:
    import healpy

    ra, dec = everywhere(5000)
    inner = np.ones(ra.size, bool)
    inner[:4] = False  # on the border of pixels each library may choose its own
    wanted = healpy.ang2pix(2**order, ra, dec, nest=True, lonlat=True)
    np.testing.assert_array_equal(healpix_index(ra, dec, order)[inner], wanted[inner])


@given(hnp.arrays(float, 20, elements=ras), hnp.arrays(float, 20, elements=decs), st.integers(0, 28))
def test_a_pixel_lies_in_its_parent(
    ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64], order: int
) -> None:
    fine = healpix_index(ra, dec)
    assert fine.dtype == np.int64 and fine.min() >= 0 and fine.max() < 12 * 4**29
    np.testing.assert_array_equal(healpix_index(ra, dec, order), fine >> 2 * (29 - order))


@given(st.integers(0, 29), st.data())
def test_the_centre_of_a_pixel_lies_in_it(order: int, data: st.DataObject) -> None:
    pixel = data.draw(st.integers(0, 12 * 4**order - 1))
    assert healpix_index(*healpix_centre([pixel], order), order) == [pixel]


def test_positions_that_are_none_have_no_pixel() -> None:
    assert healpix_index([], []).shape == (0,)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            healpix_index([1.0, bad], [0.0, 0.0])
        with pytest.raises(ValueError, match="finite"):
            healpix_index([1.0, 0.0], [0.0, bad])


def test_julian_epochs_are_those_of_astropy() -> None:
    from astropy.time import Time

    mjd = np.array([33282.0, 51544.5, 56324.25, 60000.0])
    np.testing.assert_allclose(julian_epoch(mjd), Time(mjd, format="mjd", scale="tt").jyear, atol=1e-11)


@given(ras, decs, ras, decs, st.floats(0.0, 180.0))
@example(0.0, 90.0, 123.0, 90.0, 1e-9)
@example(359.9, 0.0, 0.1, 0.0, 0.2000001)
@example(12.0, 34.0, 192.0, -34.0, 179.9999999)
def test_places_within_a_radius_are_those_no_farther_away(
    ra1: float, dec1: float, ra2: float, dec2: float, radius: float
) -> None:
    distance = float(separation_deg(ra1, dec1, ra2, dec2))
    # Beside the edge, where rounding may put a place on either side of it.
    for limit in (radius, distance * (1.0 - 1e-7) - 1e-9, distance * (1.0 + 1e-7) + 1e-9):
        if 0.0 <= limit <= 180.0 and abs(distance - limit) > 1e-10:
            assert bool(within(ra1, dec1, limit, ra2, dec2)) == (distance <= limit)


def test_nowhere_is_within_no_radius() -> None:
    for radius in (0.1, 90.0, 179.0):
        assert not within(10.0, 20.0, radius, [np.nan, 10.0], [20.0, np.nan]).any()
    assert within(10.0, 20.0, 0.0, 10.0, 20.0)

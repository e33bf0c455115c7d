"""Refraction over a field, against the whole of it as the horizon of a site has it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.astrometry_settings import Astrometry
from skylake.core.camera import Site
from skylake.core.horizon import Horizon, horizontal_vectors
from skylake.core.refraction import Air
from skylake.core.sphere import ra_dec, unit_vectors
from skylake.image.solving.refined_wcs import refine_pointing
from skylake.image.solving.solve_near_expected import pointing_of
from skylake.image.wcs.field_refraction import Bending, bending_of
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import lens_of_text, lens_text
from skylake.image.wcs.star_matching import Sources

SITE = Site("a hill", -70.4, -24.6, 2600.0)
MJD, SHAPE = 60400.2, (768, 1024)
HORIZON = Horizon.of(MJD, SITE, Air(700.0, 5.0, 0.545, 2600.0))


def bent(altitude=30.0, azimuth=70.0):
    """The refraction over a field in the east, and its middle."""
    middle = (horizontal_vectors(altitude, azimuth)) @ HORIZON.axes
    zenith = HORIZON.axes[2]
    return Bending(tuple(zenith.tolist()), tuple(middle.tolist()), Air(700.0, 5.0, 0.545, 2600.0)), middle


@given(st.floats(1.0, 89.9), st.integers(0, 2**32 - 1))
def test_what_the_air_does_is_undone(altitude, seed):
    bending, middle = bent(altitude)
    stars = middle + 0.2 * np.random.default_rng(seed).normal(size=(20, 3))
    stars /= np.linalg.norm(stars, axis=1)[:, None]
    stars = stars[stars @ bending.zenith > 0.01]
    assert bending.true(bending.apparent(stars)) == pytest.approx(stars, abs=1e-9)
    assert bending.apparent(middle) == pytest.approx(middle, abs=1e-12)
    assert np.linalg.norm(bending.apparent(stars), axis=-1) == pytest.approx(1.0)


def test_lower_stars_are_pressed_together_as_the_tables_say():
    bending, _ = bent(30.0)
    low, high = horizontal_vectors([25.0, 35.0], [70.0, 70.0]) @ HORIZON.axes
    apart = math.degrees(math.acos(bending.apparent(low) @ bending.apparent(high))) * 3600.0
    # 58.2" tan z - 0.067" tan^3 z at 1010 hPa and 10 degrees (Smart 1977, sec. 37), as dense as the air is.
    tangents = 1.0 / np.tan(np.radians([25.03, 35.02]))
    whole = (58.2 * tangents - 0.067 * tangents**3) * (700.0 / 1010.0) * (283.15 / 278.15)
    by_hand = whole[0] - whole[1]
    assert 36000.0 - apart == pytest.approx(by_hand, rel=0.01)


def test_a_turn_of_the_frame_turns_the_air_along():
    bending, middle = bent()
    matrix = Lens.aimed([0.3, -0.5, 0.7], [0.0, 0.0, 1.0], 1.0, (0.0, 0.0)).matrix
    lens = replace(Lens.aimed(middle, [0.0, 0.0, 1.0], 1500.0, (511.5, 383.5)), bending=bending)
    x, y = np.array([3.0, 700.0, 1000.0]), np.array([4.0, 300.0, 760.0])
    there = lens.turned(matrix).to_vectors(x, y)
    assert there @ matrix.T == pytest.approx(lens.to_vectors(x, y), abs=1e-9)
    assert np.array(lens.turned(matrix).to_pixels(there)) == pytest.approx(np.array([x, y]), abs=1e-5)


def test_a_lens_with_air_is_written_and_read_to_the_last_digit():
    bending, middle = bent()
    lens = replace(Lens.aimed(middle, [0.0, 0.0, 1.0], 1500.0, (511.5, 383.5)), bending=bending)
    assert lens_of_text(lens_text(lens)) == lens
    with pytest.raises(ValueError, match="is no lens"):
        lens_of_text(lens_text(lens).replace("pressure_hpa", "pressure"))


def drawn(field_deg, altitude, seed=1, noise=0.02):
    """Stars seen through the whole air by a lens without distortion, and a pointing that is some pixels off."""
    random = np.random.default_rng(seed)
    middle = horizontal_vectors(altitude, 70.0)
    focal = 512.0 / math.tan(math.radians(0.5 * field_deg))
    lens = Lens.aimed(middle, [0.0, 0.0, 1.0], focal, (511.5, 383.5))
    x, y = random.uniform(0.0, 1023.0, 300), random.uniform(0.0, 767.0, 300)
    icrs, mag = HORIZON.to_icrs(lens.to_vectors(x, y)), random.uniform(5.0, 9.0, 300)
    off = noise * random.standard_normal((2, 300))
    sources = Sources.ranked(x + off[0], y + off[1], np.full(300, noise), 10.0 ** (-0.4 * mag))
    rough = replace(lens.turned(HORIZON.axes), x0=513.0)
    return CatalogStars(*ra_dec(icrs), mag), sources, pointing_of(rough, SHAPE), middle


@pytest.mark.parametrize(("field_deg", "altitude"), [(20.0, 30.0), (40.0, 45.0), (75.0, 60.0)])
def test_residuals_fall_to_the_noise_without_refraction(field_deg, altitude):
    stars, sources, rough, middle = drawn(field_deg, altitude)
    icrs = HORIZON.to_icrs(middle)
    bending = Bending(tuple(HORIZON.axes[2].tolist()), tuple(icrs.tolist()), Air(700.0, 5.0, 0.545, 2600.0))
    without = refine_pointing(rough, stars, sources, SHAPE, 30.0)
    told = refine_pointing(rough, stars, sources, SHAPE, 30.0, bending=bending)
    assert len(told.refinement.stars) > 295
    # Without, parameters of the lens are spent on the air.
    assert len(told.refinement.fit.freed) < len(without.refinement.fit.freed)
    assert told.refinement.rms_px < min(1.05 * without.refinement.rms_px, 1.1 * 0.02 * math.sqrt(2.0))
    # The lens of the pointing leads from the ICRS, and so does the header.
    x, y = told.lens.to_pixels(unit_vectors(stars.ra_deg, stars.dec_deg))
    ranked = np.argsort(stars.mag)
    assert np.hypot(x[ranked] - sources.x, y[ranked] - sources.y).max() < 0.12
    ra, dec = told.pointing.to_sky(sources.x, sources.y)
    away = unit_vectors(ra, dec) - unit_vectors(stars.ra_deg, stars.dec_deg)[ranked]
    assert np.linalg.norm(away, axis=1).max() * told.lens.focal_px < 0.15


def test_it_is_reported_why_there_is_no_refraction(camera):
    known = replace(camera, site=SITE, astrometry=Astrometry())
    ra, dec = ra_dec(HORIZON.axes[2])
    assert bending_of(known, "V", MJD, float(ra), float(dec))[1] == "applied"
    assert bending_of(known, "V", None, 0.0, 0.0) == (None, "no_time")
    assert bending_of(known, "V", MJD, float(ra) + 180.0, -float(dec)) == (None, "below_horizon")
    assert bending_of(replace(known, site=Site()), "V", MJD, 0.0, 0.0) == (None, "no_site")
    assert bending_of(replace(known, astrometry=Astrometry(refraction=False)), "V", MJD, 0.0, 0.0) == (
        None,
        "off",
    )


def test_a_field_has_the_air_of_the_profile_and_the_band(camera):
    site = replace(SITE, pressure_hpa=745.5, temperature_c=8.0)
    bending, _ = bending_of(replace(camera, site=site), "K", MJD, *map(float, ra_dec(HORIZON.axes[2])))
    assert bending.air == Air(745.5, 8.0, 2.159, 2600.0)

from __future__ import annotations

import numpy as np
import pytest

from skylake.errors import ConfigurationError
from skylake.simulate.observatory import observatory
from skylake.simulate.scenario import AtmosphereParams, Scenario, StarParams
from skylake.simulate.stamps import Moffat
from skylake.simulate.world import field_stars, world

BARE = 'name = "bare"\n[[header.time]]\ncards = ["DATE-OBS"]\n[filters.V]\nband = "V"\n'


def test_gaps_of_the_profile_are_filled(profile_file) -> None:
    place = observatory(Scenario(camera=profile_file(BARE)))
    assert place.shape == place.stored_shape == (1024, 1024)
    assert place.scale_arcsec == 5.0 and place.origin_px == (0, 0)
    np.testing.assert_array_equal(place.colour_offset([0.1, 1.5]), 0.0)


def test_a_larger_telescope_sees_fainter_stars(profile_file) -> None:
    small, large = (
        observatory(Scenario(camera=profile_file(BARE + f"[optics]\ndiameter_m = {size}\n", f"{size}.toml")))
        for size in (0.1, 1.0)
    )
    assert large.zeropoint_e - small.zeropoint_e == pytest.approx(5.0)
    assert large.detection_limit - small.detection_limit > 2.0


def test_the_zeropoint_may_be_given() -> None:
    place = observatory(
        Scenario(atmosphere=AtmosphereParams(zeropoint=19.0, sky_adu_per_s=7.0, extinction=0.2))
    )
    camera = place.profile.base
    assert place.zeropoint_adu(camera) == pytest.approx(19.0)
    assert place.sky_e_per_s == pytest.approx(7.0 * camera.detector.gain_e_per_adu)
    assert place.extinction == 0.2


def test_a_star_at_the_limit_has_five_times_its_noise() -> None:
    place = observatory(Scenario(exposure_s=20.0))
    electrons = 10.0 ** (-0.4 * (place.detection_limit + place.extinction - place.zeropoint_e)) * 20.0
    variance = (place.sky_e_per_s + 0.05) * 20.0 + 8.0**2
    assert electrons / np.sqrt(electrons + float(Moffat(2.5).noise_pixels) * variance) == pytest.approx(5.0)


def test_a_frame_holds_about_as_many_stars_as_asked_for() -> None:
    scenario = Scenario(stars=StarParams(per_frame=3000.0))
    here, stars = world(scenario), field_stars(scenario, 0)
    x, y = (np.abs(stars.ra_deg - here.fields[0].ra_deg), np.abs(stars.dec_deg - here.fields[0].dec_deg))
    half = 512 * 8.0 / 3600.0
    inside = (x * np.cos(np.radians(here.fields[0].dec_deg)) < half) & (y < half)
    count = (inside & (stars.v_mag < here.observatory.v_limit)).sum()
    assert count == pytest.approx(3000.0, rel=0.08)


def test_density_may_be_given_instead() -> None:
    params = StarParams(density_per_deg2=50.0, density_mag=11.0, slope=0.4)
    law = world(Scenario(stars=params, frames_per_night=2)).law
    assert law.brighter_than(11.0) == 50.0
    assert law.brighter_than(13.5) == pytest.approx(500.0)


def test_levels_beyond_16_bits_need_other_pixels(profile_file) -> None:
    deep = profile_file(BARE + "[detector]\nsaturation_adu = 100000.0\n")
    with pytest.raises(ConfigurationError, match="int32"):
        observatory(Scenario(camera=deep))
    assert observatory(Scenario(camera=deep, pixel_form="int32")).shape == (1024, 1024)

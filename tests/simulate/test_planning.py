from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from skylake.core.ephemeris import airmass, alt_az
from skylake.core.sphere import separation_deg
from skylake.errors import ConfigurationError
from skylake.simulate.planning import plan
from skylake.simulate.scenario import AtmosphereParams, HeaderParams, Scenario, ScheduleParams
from skylake.simulate.world import world


def test_plans_are_small_values_that_follow_from_the_scenario(small_scenario: Scenario) -> None:
    frames = plan(small_scenario)
    assert frames == plan(replace(small_scenario))
    assert len(pickle.dumps(frames[0])) < 2500
    assert frames != plan(replace(small_scenario, seed=2))
    assert frames[7].file == "frames/20240408/small_20240408_0002.fits"


def test_fractions_of_headers_clouds_and_streaks_are_kept(small_scenario: Scenario) -> None:
    scenario = replace(
        small_scenario,
        frames_per_night=20,
        streak_fraction=0.1,
        header=HeaderParams(wrong_wcs_fraction=0.2, absent_wcs_fraction=0.05),
        atmosphere=AtmosphereParams(cloudy_fraction=0.33),
    )
    frames = plan(scenario)
    assert Counter(frame.wcs for frame in frames) == {"good": 30, "wrong": 8, "absent": 2}
    assert sum(frame.streak is not None for frame in frames) == 4
    assert sum(not frame.clouds.clear for frame in frames) == 13


def test_wrong_headers_point_elsewhere(small_scenario: Scenario) -> None:
    params = HeaderParams(wrong_wcs_fraction=1.0, wrong_offset_arcmin=50.0)
    frames = plan(replace(small_scenario, frames_per_night=20, header=params))
    true, told = [f.pointing for f in frames], [f.header_pointing for f in frames]
    off = 60.0 * separation_deg(
        [p.ra_deg for p in true],
        [p.dec_deg for p in true],
        [p.ra_deg for p in told],
        [p.dec_deg for p in told],
    )
    assert (off > 24.9).all() and (off < 50.1).all() and np.ptp(off) > 10.0
    turned = [a.rotation_deg != b.rotation_deg for a, b in zip(true, told, strict=True)]
    assert 0.2 < np.mean(turned) < 0.8


def test_the_zeropoint_holds_extinction_and_clouds(small_scenario: Scenario) -> None:
    still = AtmosphereParams(
        night_rms_mag=0.0, drift_mag=0.0, zeropoint=18.0, extinction=0.3, cloudy_fraction=0.5
    )
    frames = plan(replace(small_scenario, atmosphere=still))
    site = world(small_scenario).observatory.profile.base.site
    for frame in frames:
        altitude, _ = alt_az(frame.pointing.ra_deg, frame.pointing.dec_deg, frame.mjd_mid, site)
        assert frame.airmass == pytest.approx(float(airmass(altitude)))
        assert frame.zeropoint == pytest.approx(18.0 - 0.3 * frame.airmass - frame.clouds.mag)
        assert frame.clouds.clear == (frame.clouds.mag == 0.0)


def test_zeropoint_and_sky_follow_the_gain_through_dated_blocks() -> None:
    """The shipped profile gives a gain of 2.4 before 2024-04-01 and of 1.5 later."""
    still = AtmosphereParams(night_rms_mag=0.0, drift_mag=0.0, extinction=0.0, moonlight=False)
    frames = plan(Scenario(first_night=20240330, nights=3, frames_per_night=2, atmosphere=still))
    assert frames[-1].zeropoint - frames[0].zeropoint == pytest.approx(2.5 * np.log10(2.4 / 1.5))
    assert frames[-1].sky_adu_per_s / frames[0].sky_adu_per_s == pytest.approx(2.4 / 1.5)


def test_dithers_are_small_and_rotation_is_that_asked_for(small_scenario: Scenario) -> None:
    frames = plan(replace(small_scenario, schedule=ScheduleParams(dither_px=4.0, rotation_deg=33.0)))
    field = world(small_scenario).fields[0]
    away = [
        3600.0
        / 8.0
        * float(separation_deg(field.ra_deg, field.dec_deg, f.pointing.ra_deg, f.pointing.dec_deg))
        for f in frames
    ]
    assert 0.5 < max(away) < 4.0 * np.sqrt(2.0) + 0.1
    assert {f.pointing.rotation_deg for f in frames} == {33.0}
    turned = plan(replace(small_scenario, schedule=ScheduleParams(rotation="random")))
    assert np.ptp([f.pointing.rotation_deg for f in turned]) > 90.0


def test_on_an_altazimuth_mount_the_zenith_is_up(small_scenario: Scenario) -> None:
    site = world(small_scenario).observatory.profile.base.site
    for frame in plan(replace(small_scenario, schedule=ScheduleParams(rotation="parallactic"))):
        x, y = frame.pointing.centre_px
        ra, dec = frame.pointing.pixel_to_sky([x, x, x + 20.0], [y, y + 20.0, y])
        altitude, _ = alt_az(ra, dec, frame.mjd_mid, site)
        # Straight up along +y, level along x.
        assert altitude[1] - altitude[0] == pytest.approx(20.0 * 8.0 / 3600.0, rel=0.01)
        assert abs(altitude[2] - altitude[0]) < 0.1 * (altitude[1] - altitude[0])


def test_profiles_that_cannot_be_simulated_are_named(profile_file) -> None:
    path = profile_file('like = "sim"\nname = "red"\n[filters.Ks]\nband = "K"\ncolour = "J-K"\n')
    with pytest.raises(ConfigurationError, match=r"camera\.toml.*filters\.Ks"):
        plan(Scenario(camera=path, filter="Ks"))
    with pytest.raises(ConfigurationError, match="'X'"):
        plan(Scenario(camera=path, filter="X"))
    bare = profile_file('name = "bare"\n[[header.time]]\ncards = ["DATE-OBS"]\n', "bare.toml")
    with pytest.raises(ConfigurationError, match="no filter"):
        plan(Scenario(camera=bare))

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import Site
from skylake.core.ephemeris import sun_and_moon
from skylake.core.sphere import ra_dec
from skylake.simulate.atmosphere import (
    airmass_at,
    clouds_of_night,
    scintillation,
    seeing_wander,
    sky_brightening,
    zeropoint_wander,
)
from skylake.simulate.scenario import AtmosphereParams

PARAMS = AtmosphereParams()
SITE = Site("peak", -70.4, -24.6, 2600.0)


@given(st.integers(1, 120), st.floats(0.0, 1.0), st.integers(0, 1000))
def test_clouds_take_the_wanted_number_of_frames(count: int, fraction: float, seed: int) -> None:
    cloudy = round(fraction * count)
    clouds = clouds_of_night(np.random.default_rng(seed), count, cloudy, PARAMS)
    assert len(clouds) == count
    assert sum(not cloud.clear for cloud in clouds) == cloudy
    assert all(cloud.clear == (cloud.mag == 0.0) and cloud.mag >= 0.0 for cloud in clouds)


def test_clouds_come_in_spells() -> None:
    lengths = []
    for seed in range(40):
        clouds = clouds_of_night(np.random.default_rng(seed), 100, 24, PARAMS)
        thick = np.array([not cloud.clear for cloud in clouds])
        lengths.append(np.diff(np.concatenate([[False], thick, [False]]).astype(int)).clip(0).sum())
    assert set(lengths) == {3}


def test_scintillation_is_that_of_young() -> None:
    """One metre, zenith, sea level, one second: 0.09 * 100^(-2/3) / sqrt(2) = 0.295 %."""
    assert scintillation(PARAMS, 1.0, Site(), 1.0, 1.0) == pytest.approx(0.002954, rel=1e-3)
    assert scintillation(PARAMS, 1.0, SITE, 2.0, 4.0) == pytest.approx(
        0.002954 * 2.0**1.75 / 2.0 * np.exp(-2600.0 / 8000.0), rel=1e-3
    )
    assert scintillation(PARAMS, None, SITE, 2.0, 4.0) == 0.001
    assert scintillation(replace(PARAMS, scintillation=0.0), 0.1, SITE, 2.0, 4.0) == 0.0


def test_an_unknown_site_has_airmass_one() -> None:
    np.testing.assert_array_equal(airmass_at([10.0, 20.0], [0.0, -60.0], 60408.0, Site()), [1.0, 1.0])


def test_the_moon_brightens_the_sky_near_it_and_when_full() -> None:
    # Full Moon on 2024-04-23 at 23:49 UTC, high over Chile some hours later.
    state = sun_and_moon(60424.2, SITE)
    moon_ra, moon_dec = (float(value) for value in ra_dec(state.moon))
    near, far = (sky_brightening(moon_ra + away, moon_dec, 0.12, 1.1, state, PARAMS) for away in (20.0, 80.0))
    assert near > far > 3.0
    # A full Moon at 60 degrees takes three to four magnitudes off the depth of a dark sky.
    assert 2.0 < 2.5 * np.log10(sky_brightening(moon_ra + 60.0, moon_dec, 0.172, 1.15, state, PARAMS)) < 4.0
    assert sky_brightening(moon_ra + 60.0, moon_dec, 0.12, 1.1, sun_and_moon(60424.7, SITE), PARAMS) == 1.0
    assert sky_brightening(moon_ra, moon_dec, 0.12, 1.1, state, replace(PARAMS, moonlight=False)) == 1.0


def test_nights_differ_and_drift_slowly() -> None:
    nights = np.array([zeropoint_wander(np.random.default_rng(seed), 80, PARAMS) for seed in range(200)])
    assert nights.mean(axis=1).std() == pytest.approx(0.02, rel=0.25)
    assert np.abs(np.diff(nights, axis=1)).max() < 0.002
    assert np.ptp(nights, axis=1).max() <= 0.0201


def test_seeing_wanders_about_its_median() -> None:
    factors = np.concatenate([seeing_wander(np.random.default_rng(seed), 50, 0.08) for seed in range(200)])
    assert np.log(factors).std() == pytest.approx(0.08, rel=0.1)
    assert np.median(factors) == pytest.approx(1.0, abs=0.01)

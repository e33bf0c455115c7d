from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skylake.core.ephemeris import barycentric_jd
from skylake.core.sphere import separation_deg
from skylake.simulate.scenario import Scenario, SpecialParams, StarParams
from skylake.simulate.specials import TRANSIENT_ID
from skylake.simulate.stamps import Moffat
from skylake.simulate.variables import Kind, magnitude_change
from skylake.simulate.world import field_stars, world

SCENARIO = Scenario(stars=StarParams(per_frame=1500.0))


def changes(scenario: Scenario) -> dict[Kind, np.ndarray]:
    here = world(scenario)
    stars, times = here.specials, np.array([slot.mjd_start for slot in here.slots])
    curves = {}
    for i, kind in enumerate(stars.kind):
        time = barycentric_jd(times, stars.ra_deg[i], stars.dec_deg[i], here.observatory.profile.base.site)
        curves[Kind(kind)] = magnitude_change(
            kind, stars.period_d[i], stars.amplitude_mag[i], stars.epoch_bjd[i], time
        )
    return curves


def test_two_nights_show_how_each_star_varies() -> None:
    curves = changes(SCENARIO)
    assert np.ptp(curves[Kind.ECLIPSING]) > 0.5 and (curves[Kind.ECLIPSING] == 0.0).sum() > 20
    assert np.ptp(curves[Kind.RR_LYRAE]) > 0.7
    assert np.ptp(curves[Kind.TRANSIT]) == pytest.approx(0.03, rel=0.02)
    # An eclipse in either night.
    for night in (slice(0, 60), slice(60, 120)):
        assert curves[Kind.ECLIPSING][night].max() > 0.2
        assert curves[Kind.TRANSIT][night].max() == pytest.approx(0.03, rel=0.02)


def test_the_transient_is_not_there_at_first_and_fades_at_last() -> None:
    change = changes(SCENARIO)[Kind.TRANSIENT]
    assert np.isinf(change[0]) and change.min() < 0.2
    assert 3.0 < change[-1] < 3.5


def test_special_stars_are_bright_unsaturated_and_lonely() -> None:
    here = world(SCENARIO)
    place, stars = here.observatory, here.specials
    flux = 10.0 ** (
        -0.4 * (stars.v_mag - place.zeropoint_adu(place.profile.base) - 0.12 * (stars.b_minus_v - 0.7))
    )
    electrons = flux * 30.0 * 1.5
    noise = np.sqrt(electrons + float(Moffat(2.5).noise_pixels) * (place.sky_e_per_s * 30.0 + 64.0))
    assert (electrons / noise > 200.0).all()
    others = field_stars(SCENARIO, 0)
    matter = others.take((others.v_mag < stars.v_mag.max() + 4.5) & (others.star_id > 100))
    for ra, dec in zip(stars.ra_deg, stars.dec_deg, strict=True):
        distance = separation_deg(ra, dec, matter.ra_deg, matter.dec_deg).min() * 3600.0 / 8.0
        assert distance > 12.0


def test_depth_and_presence_are_a_choice() -> None:
    deep = replace(SCENARIO, specials=SpecialParams(transit_depth_mag=0.2, transient=False))
    assert np.ptp(changes(deep)[Kind.TRANSIT]) == pytest.approx(0.2, rel=0.02)
    assert TRANSIENT_ID not in world(deep).specials.star_id
    none = replace(SCENARIO, specials=SpecialParams(variables=False, transient=False))
    assert len(world(none).specials) == 0
    assert (field_stars(none, 0).star_id > 100).all()

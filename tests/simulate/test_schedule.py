from __future__ import annotations

import numpy as np
import pytest

from skylake.core.batch import night_of
from skylake.core.camera import Site
from skylake.core.ephemeris import alt_az, sun_and_moon
from skylake.core.sphere import unit_vectors
from skylake.errors import UsageError
from skylake.simulate.scenario import Scenario, ScheduleParams
from skylake.simulate.schedule import choose_fields, dark_hours, nights_of, schedule

CHILE, LA_PALMA = Site("peak", -70.4, -24.6, 2600.0), Site("island", -17.9, 28.8, 2363.0)
SITES = [CHILE, LA_PALMA, Site("dome", 0.0, -70.0, 3000.0), Site()]


def made(site: Site, **changes):
    scenario = Scenario(**changes)
    fields = choose_fields(scenario, site)
    return scenario, fields, schedule(scenario, site, fields)


def test_nights_are_days_of_the_calendar() -> None:
    assert nights_of(Scenario(first_night=20240228, nights=4)) == [20240228, 20240229, 20240301, 20240302]
    with pytest.raises(UsageError, match="20240231"):
        nights_of(Scenario(first_night=20240231))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("fields", [0, 5])
def test_frames_are_taken_in_the_dark_of_fields_that_are_up(site: Site, fields: int) -> None:
    _, pointings, slots = made(site, nights=2, frames_per_night=30, schedule=ScheduleParams(fields=fields))
    assert len(pointings) == fields + 1 and len(slots) == 60
    starts = np.array([slot.mjd_start for slot in slots])
    assert (np.diff(starts) > 30.0 / 86400.0).all()
    assert [slot.number for slot in slots] == [*range(1, 31), *range(1, 31)]
    assert all(night_of(slot.mjd_start, site.longitude_deg) == slot.night for slot in slots)
    if site.known:
        assert (sun_and_moon(starts, site).sun_altitude_deg < -14.99).all()
        where = [pointings[slot.field] for slot in slots]
        altitude, _ = alt_az(
            [f.ra_deg for f in where], [f.dec_deg for f in where], starts + 15.0 / 86400.0, site
        )
        assert altitude.min() > 35.0


def test_the_target_gets_its_share_and_survey_fields_the_rest() -> None:
    params = ScheduleParams(fields=4, target_fraction=0.3)
    _, _, slots = made(CHILE, nights=1, frames_per_night=100, schedule=params)
    visits = np.bincount([slot.field for slot in slots], minlength=5)
    assert 15 <= visits[0] <= 45
    assert (visits[1:] > 4).all()


def test_all_frames_are_of_the_target_without_survey_fields() -> None:
    *_, slots = made(CHILE, schedule=ScheduleParams(target_fraction=0.2))
    assert {slot.field for slot in slots} == {0}


def test_fields_keep_away_from_the_moon() -> None:
    # Full Moon.
    _, fields, slots = made(CHILE, first_night=20240423, nights=1, schedule=ScheduleParams(fields=6))
    moon = sun_and_moon([slot.mjd_start for slot in slots], CHILE).moon
    star = unit_vectors(
        [fields[slot.field].ra_deg for slot in slots], [fields[slot.field].dec_deg for slot in slots]
    )
    assert np.degrees(np.arccos((moon * star).sum(axis=1))).min() > 25.0


def test_the_cadence_is_kept() -> None:
    _, _, slots = made(CHILE, nights=1, frames_per_night=40, schedule=ScheduleParams(cadence_s=90.0))
    starts = np.array([slot.mjd_start for slot in slots])
    np.testing.assert_allclose(np.diff(starts) * 86400.0, 90.0, atol=1e-4)
    first, last = dark_hours(20240407, CHILE, ScheduleParams())
    assert first < starts[0] and starts[-1] < last


@pytest.mark.parametrize(
    ("site", "changes", "told"),
    [
        (CHILE, {"frames_per_night": 2000}, "do not fit"),
        (CHILE, {"schedule": ScheduleParams(cadence_s=10.0)}, "do not fit"),
        (CHILE, {"schedule": ScheduleParams(target=(10.0, 80.0))}, "rises above"),
        (Site("cape", 20.0, 71.0), {"first_night": 20240621}, "does not sink"),
    ],
)
def test_impossible_timetables_are_refused(site: Site, changes: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        made(site, **changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"nights": 0}, "nights"),
        ({"frames_per_night": 10000}, "frames_per_night"),
        ({"exposure_s": 0.0}, "exposure_s"),
        ({"streak_fraction": 1.2}, "streak_fraction"),
        ({"schedule": ScheduleParams(target_fraction=-0.1)}, "schedule.target_fraction"),
        ({"pixel_form": "scaled16", "file_form": "fits.fz"}, "pixel_form"),
    ],
)
def test_senseless_scenarios_are_refused(changes: dict, key: str) -> None:
    with pytest.raises(UsageError, match=key):
        Scenario(**changes)

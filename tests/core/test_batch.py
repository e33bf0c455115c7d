"""Nights: local noon to local noon, by the longitude of the site."""

from __future__ import annotations

import math
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skylake.core.batch import UNDATED, Batch, is_plain_name, night_of, night_span

#: Ten microseconds: what a Modified Julian Date of double precision can distinguish, and some more.
INSTANT = 1e-5 / 86400.0

longitudes = st.floats(-180.0, 180.0)
sites = st.none() | longitudes
nights = st.dates(date(1900, 1, 1), date(2150, 12, 31)).map(lambda d: d.year * 10000 + d.month * 100 + d.day)


@given(nights, sites, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@example(20240229, -70.4, 0.0, 1.0)
@example(19991231, 179.9, 0.0, 1.0)
def test_instants_between_two_local_noons_share_their_night(
    night: int, longitude: float | None, one: float, other: float
) -> None:
    noon, next_noon = night_span(night, longitude)
    assert next_noon - noon == 1.0
    for share in (one, other):
        instant = noon + INSTANT + share * (1.0 - 2.0 * INSTANT)
        assert night_of(instant, longitude) == night


@given(nights, sites)
def test_the_instants_outside_belong_to_the_neighbours(night: int, longitude: float | None) -> None:
    noon, next_noon = night_span(night, longitude)
    assert night_of(noon - INSTANT, longitude) < night < night_of(next_noon + INSTANT, longitude)


@given(st.floats(20000.0, 80000.0), sites)
def test_an_instant_lies_in_the_span_of_its_night(mjd: float, longitude: float | None) -> None:
    first, last = night_span(night_of(mjd, longitude), longitude)
    assert first - INSTANT <= mjd < last + INSTANT


@given(st.floats(20000.0, 80000.0), longitudes)
def test_local_midnight_belongs_to_the_evening_before(mjd: float, longitude: float) -> None:
    """The night is the date that clocks on site show six hours before local midnight."""
    midnight = math.floor(mjd) - longitude / 360.0
    evening = date.fromordinal(math.floor(mjd) - 1 + date(1858, 11, 17).toordinal())
    assert night_of(midnight, longitude) == int(evening.strftime("%Y%m%d"))


@given(st.floats(20000.0, 80000.0))
def test_without_a_longitude_nights_run_from_noon_to_noon_utc(mjd: float) -> None:
    assert night_of(mjd, None) == night_of(mjd, 0.0)


@given(nights, st.floats(-179.9, -0.1))
def test_longitudes_may_count_to_360(night: int, longitude: float) -> None:
    """342 degrees east is 18 degrees west, and the date line stays where it is."""
    middle = night_span(night, longitude)[0] + 0.5
    assert night_of(middle, longitude + 360.0) == night
    assert night_span(night, longitude + 360.0) == pytest.approx(night_span(night, longitude), abs=INSTANT)


def test_nights_of_observatories() -> None:
    """The evening of 2013-02-01 at La Palma, in Chile, in Hawaii and in Australia."""
    assert night_of(56324.9, -17.88) == 20130201  # 21:36 UTC
    assert night_of(56325.2, -70.4) == 20130201  # 04:48 UTC of the 2nd, just after local midnight
    assert night_of(56325.6, -155.47) == 20130201  # 14:24 UTC of the 2nd, four in the morning
    assert night_of(56324.4, 149.07) == 20130201  # 09:36 UTC, half past seven in the evening
    assert night_of(56324.6, 149.07) == 20130201  # half past midnight there
    assert night_span(20130201, None) == (56324.5, 56325.5)


def test_a_batch_sorts_by_camera_and_night_and_names_itself() -> None:
    batches = [Batch("b", 20240101), Batch("a", 20240102), Batch("a", UNDATED), Batch("a", 20240101)]
    assert [str(batch) for batch in sorted(batches)] == [
        "a-00000000",
        "a-20240101",
        "a-20240102",
        "b-20240101",
    ]
    assert len({Batch("a", 1), Batch("a", 1)}) == 1


@pytest.mark.parametrize("name", ["a", "skycam-z", "Z9_1.b", "2mass"])
def test_plain_names(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "a b", "-a", "_a", "é", "a\n", "a;b", "a'b", "a\0"]
)
def test_names_that_could_leave_their_folder_are_refused(name: str) -> None:
    assert not is_plain_name(name)

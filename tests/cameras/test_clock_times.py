"""Texts and numbers of clocks to UTC."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.cameras.clock_times import (
    EARLIEST_MJD,
    LATEST_MJD,
    calendar_mjd,
    is_plausible,
    iso_of_mjd,
    parse_time,
    scale_of,
)
from skylake.core.camera import TimeCards

ISO = TimeCards(("DATE-OBS",))
PAIR = TimeCards(("DATE-OBS", "UT"))
SECOND = 1.0 / 86400.0
#: 2024-04-08T03:10:20 UTC.
MJD = 60408.0 + (3 * 3600 + 10 * 60 + 20) * SECOND


@given(st.floats(EARLIEST_MJD, LATEST_MJD - 1.0))
def test_a_time_written_is_the_time_read(mjd: float) -> None:
    assert parse_time(ISO, [iso_of_mjd(mjd)]) == pytest.approx(mjd, abs=1e-3 * SECOND)
    assert parse_time(PAIR, iso_of_mjd(mjd).split("T")) == pytest.approx(mjd, abs=1e-3 * SECOND)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "hours"),
    [("Z", 0), ("+00:00", 0), ("-00:00", 0), ("+0200", 2), ("-07:00", -7), ("+05:30", 5.5), ("+02", 2)],
)
def test_an_offset_in_the_text_is_taken_off(text: str, hours: float) -> None:
    assert parse_time(ISO, [f"2024-04-08T03:10:20{text}"]) == pytest.approx(MJD - hours / 24.0, abs=1e-9)
    assert parse_time(PAIR, ["2024-04-08", f"03:10:20.0{text}"]) == pytest.approx(
        MJD - hours / 24.0, abs=1e-9
    )


@pytest.mark.parametrize("text", ["+25:00", "+2", "z1", "+00:75", "UTC"])
def test_what_is_no_offset_is_no_time(text: str) -> None:
    assert parse_time(ISO, [f"2024-04-08T03:10:20{text}"]) is None


def test_the_offset_in_the_text_goes_before_the_profile() -> None:
    local = TimeCards(("DATE-OBS",), zone_hours=-7.0)
    assert parse_time(local, ["2024-04-08T03:10:20"]) == pytest.approx(MJD + 7.0 / 24.0, abs=1e-9)
    assert parse_time(local, ["2024-04-08T03:10:20-06:00"]) == pytest.approx(MJD + 6.0 / 24.0, abs=1e-9)


def test_scales_differ_by_leap_seconds() -> None:
    """37 s between TAI and UTC since 2017, and 32.184 s more to TT."""
    for scale, ahead in (("utc", 0.0), ("tai", 37.0), ("tt", 69.184)):
        told = parse_time(ISO, [iso_of_mjd(MJD + ahead * SECOND)], scale)  # type: ignore[arg-type]
        assert told == pytest.approx(MJD, abs=2e-3 * SECOND)


@pytest.mark.parametrize("scale", ["utc", "tai", "tt"])
@pytest.mark.parametrize("year", [1, 1700, 1905, 1959, 2099, 2150, 9999])
def test_no_year_warns(year: int, scale: str) -> None:
    told = parse_time(ISO, [f"{year:04d}-06-01T00:00:00"], scale)  # type: ignore[arg-type]
    assert told is not None and is_plausible(told) == (1900 <= year < 2100)


def test_the_names_of_scales_are_those_of_the_standard() -> None:
    names = {
        "UTC": "utc",
        "utc ": "utc",
        "UT": "utc",
        "UTC(NIST)": "utc",
        "TAI": "tai",
        "TT(TAI)": "tt",
        "TDB": "tt",
    }
    assert {name: scale_of(name) for name in names} == names
    assert {scale_of(name) for name in ("LOCAL", "TCG", "TCB", "GPS", "", "XUTC")} == {None}


def test_numbers_that_are_not_finite_are_no_times() -> None:
    for form in ("mjd", "jd", "unix"):
        cards = TimeCards(("T",), format=form)  # type: ignore[arg-type]
        assert all(parse_time(cards, [value]) is None for value in ("nan", "inf", "-inf", "x", ""))
    assert parse_time(TimeCards(("T",), format="jd"), ["2460408.5"]) == 60408.0


def test_the_limits_are_the_years_1900_to_2100() -> None:
    assert calendar_mjd(1900, 1, 1) == EARLIEST_MJD and calendar_mjd(2100, 1, 1) == LATEST_MJD
    assert not is_plausible(LATEST_MJD) and not is_plausible(float("nan"))

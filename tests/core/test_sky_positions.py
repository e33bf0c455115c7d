from __future__ import annotations

import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.sky_positions import begins_position, position_of
from skylake.errors import UsageError

RA = st.floats(0.0, 359.999)
DEC = st.floats(-89.999, 89.999)


@given(RA, DEC)
def test_a_position_is_read_as_astropy_writes_it(ra: float, dec: float) -> None:
    place = SkyCoord(ra * u.deg, dec * u.deg)
    for style in ("hmsdms", "decimal"):
        found = position_of(place.to_string(style, precision=9))
        assert found == pytest.approx((ra, dec), abs=1e-8)
    for separator in (":", " "):
        found = position_of(place.to_string("hmsdms", sep=separator, precision=8))
        assert found == pytest.approx((ra, dec), abs=1e-8)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("12:34:56.7, -01:23:45", (188.73625, -1.3958333)),
        ("12h34m56.7s -1d23m45s", (188.73625, -1.3958333)),
        ("188.73625,-1.3958333", (188.73625, -1.3958333)),
        ("188d44m10.5s \N{MINUS SIGN}0:30", (188.73625, -0.5)),
        ("-0.5 -0:00:36", (359.5, -0.01)),
        ("12h 5", (180.0, 5.0)),
    ],
)
def test_other_ways_to_write_one(text: str, place: tuple[float, float]) -> None:
    assert position_of(text) == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["RR Lyr", "2", "4049-1234-1", "V0376 Peg", "HD 209458", "BD+20 307", "", "1 2 3"]
)
def test_a_name_is_no_position(text: str) -> None:
    assert position_of(text) is None


@pytest.mark.parametrize("text", ["10.0 95.0", "25:00:00 10:00:00", "400.0 0.0"])
def test_a_place_outside_of_the_sky_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no such position; write right ascension"):
        position_of(text)


def test_sixty_minutes_are_refused() -> None:
    with pytest.raises(UsageError, match="12:60:00: minutes and seconds are below 60"):
        position_of("12:60:00 1:00:00")


def test_integers_are_identifiers() -> None:
    assert not begins_position("188") and not begins_position("RR")
    assert begins_position("188.7") and begins_position("12:34:56") and begins_position("-0.5")

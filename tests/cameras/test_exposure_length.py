"""How long a frame was exposed: units, cards that hold no number, and what is reported of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from astropy.io import fits

from skylake.cameras import HeaderReading, Profile, Reading, load, read_header
from skylake.core.camera import Camera, HeaderDialect, TimeCards, ValueCards
from skylake.core.flags import FrameFlag

GENERIC = load("generic")


def header(exposure: object, comment: str = "", **cards: object) -> fits.Header:
    return fits.Header([("DATE-OBS", "2024-04-08T03:10:20"), ("EXPTIME", exposure, comment), *cards.items()])


def scaled(scale: float) -> Profile:
    dialect = HeaderDialect(time=(TimeCards(("DATE-OBS",)),), exposure=ValueCards(("EXPTIME",), scale))
    return Profile(Camera("lab", header=dialect), (), "lab.toml")


def of(reading: HeaderReading, quantity: str) -> Reading:
    (found,) = [one for one in reading.readings if one.quantity == quantity]
    return found


OTHER_UNITS = [
    ("[ms] exposure", 1.0, "scale = 0.001"),
    ("Exposure time in milliseconds", 1.0, "scale = 0.001"),
    ("exposure (hr)", 1.0, "scale = 3600"),
    ("total time, minutes", 1.0, "scale = 60"),
    ("[s] exposure", 0.001, "scale = 1 there"),
]


@pytest.mark.parametrize(("comment", "scale", "mend"), OTHER_UNITS)
def test_a_comment_with_another_unit_fails_the_frame(comment: str, scale: float, mend: str) -> None:
    reading = read_header(header(20.0, comment), scaled(scale))
    assert reading.problem is not None and reading.problem[0] == "ambiguous_header"
    assert "EXPTIME is in" in reading.problem[1] and mend in reading.problem[1]
    assert of(reading, "exposure_s").verdict == "ambiguous"


FITTING = [
    ("[ms] exposure", 0.001), ("[s] Exposure", 1.0), ("seconds", 1.0), ("", 1.0), ("commanded h", 1.0),
    ("seconds, of at most two hours", 1.0), ("[s] not in minutes", 1.0), ("milliseconds", 0.001),
]  # fmt: skip


@pytest.mark.parametrize(("comment", "scale"), FITTING)
def test_a_comment_with_the_same_unit_changes_nothing(comment: str, scale: float) -> None:
    reading = read_header(header(20.0, comment), scaled(scale))
    assert reading.problem is None and reading.exposure_s == pytest.approx(20.0 * scale)


@pytest.mark.parametrize(
    ("value", "told"), [("ten", "EXPTIME = 'ten' is no number"), (-5.0, "EXPTIME = -5 lies")]
)
def test_a_card_that_is_left_out_is_named(value: object, told: str) -> None:
    alone = read_header(header(value), GENERIC)
    assert alone.flags & FrameFlag.EXPOSURE_ASSUMED and alone.exposure_s == 1.0
    note = of(alone, "exposure_s").note
    assert told in note and note.endswith("; 1 s is assumed")
    beside = read_header(header(value, EXPOSURE=20.0), GENERIC)
    assert beside.exposure_s == 20.0 and told in of(beside, "exposure_s").note
    assert not beside.flags & FrameFlag.EXPOSURE_ASSUMED


def test_a_profile_without_cards_is_believed_without_warning() -> None:
    camera = replace(GENERIC.base, header=replace(GENERIC.base.header, exposure=ValueCards()))
    reading = read_header(header(20.0), replace(GENERIC, base=camera))
    told = of(reading, "exposure_s")
    assert (told.value, told.verdict) == (1.0, "ok") and "no cards" not in told.note
    assert reading.flags & FrameFlag.EXPOSURE_ASSUMED and reading.exposure_s == 1.0


@pytest.mark.parametrize(("value", "unit"), [(20000.0, "milliseconds"), (0.0056, "minutes or hours")])
def test_an_exposure_that_few_frames_have_is_taken_and_remarked(value: float, unit: str) -> None:
    reading = read_header(header(value), GENERIC)
    assert reading.problem is None and reading.exposure_s == value
    assert unit in of(reading, "exposure_s").note
    assert of(read_header(header(20.0), GENERIC), "exposure_s").note == ""


@pytest.mark.parametrize(
    ("value", "scale", "advice"),
    [
        (60, 0.001, "is in seconds, header.exposure.scale = 1 instead of 0.001"),
        (60_000_000, 0.001, "is in microseconds, header.exposure.scale = 1e-06 instead of 0.001"),
        (300, 60.0, "is in seconds, header.exposure.scale = 1 instead of 60"),
        (0.0001, 60.0, "is in hours, header.exposure.scale = 3600 instead of 60"),
        (20000, 1.0, "is in milliseconds, header.exposure.scale = 0.001 in"),
        (20, 1e-6, "is in milliseconds, header.exposure.scale = 0.001 instead of 1e-06"),
        (5e9, 1e-6, "see whether header.exposure.scale = 1e-06 of the profile is right"),
    ],
)
def test_advice_on_an_unusual_exposure_knows_the_scale(value: float, scale: float, advice: str) -> None:
    """It is judged as it is scaled: to write a scale down that stands there already helps nobody."""
    assert advice in of(read_header(header(value), scaled(scale)), "exposure_s").note


@pytest.mark.parametrize(("value", "scale"), [(60_000, 0.001), (500, 0.001), (20, 60.0), (0.02, 1.0)])
def test_a_usual_exposure_is_not_remarked_in_any_unit(value: float, scale: float) -> None:
    assert of(read_header(header(value), scaled(scale)), "exposure_s").note == ""


def test_an_unreadable_time_is_named_beside_a_good_one() -> None:
    cards = {"DATE-OBS": "08.04.2024 03:10", "EXPTIME": 20.0, "MJD-OBS": 60408.1}
    reading = read_header(cards, GENERIC)
    assert reading.problem is None and reading.mjd_start == 60408.1
    found = of(reading, "mjd_start")
    assert (
        found.verdict == "ambiguous"
        and "DATE-OBS = 08.04.2024 03:10 is no iso time and is left out" in found.note
    )


def test_a_day_with_a_clock_card_is_not_unreadable() -> None:
    reading = read_header({"DATE-OBS": "2024-04-08", "UT": "03:10:20", "EXPTIME": 20.0}, GENERIC)
    assert reading.problem is None
    assert (of(reading, "mjd_start").verdict, of(reading, "mjd_start").note) == ("ok", "")

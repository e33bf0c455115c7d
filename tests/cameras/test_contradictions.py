"""A header that contradicts itself is decided by what speaks for one of its values, or refused with all of them."""

from __future__ import annotations

from typing import Any

import pytest
from astropy.io import fits

from skylake.cameras import HeaderReading, Profile, load, read_header
from skylake.cameras.clock_times import calendar_mjd
from skylake.core.camera import Camera, HeaderDialect, TimeCards, ValueCards
from skylake.core.doubts import Doubt, doubted
from skylake.core.flags import FrameFlag

GENERIC = load("generic")


def read(*cards: tuple[str, Any], profile: Profile = GENERIC) -> HeaderReading:
    """Read a good header with further cards, which may stand there already."""
    header = fits.Header(
        [("DATE-OBS", "2022-03-09T21:14:00"), ("EXPTIME", 40.0), ("FILTER", "V"), ("GAIN", 1.2)]
    )
    for card in cards:
        header.append(card)
    return read_header(header, profile)


def replaced(*cards: tuple[str, Any], profile: Profile = GENERIC) -> HeaderReading:
    header = fits.Header(
        [("DATE-OBS", "2022-03-09T21:14:00"), ("EXPTIME", 40.0), ("FILTER", "V"), ("GAIN", 1.2)]
    )
    header.update(cards)
    return read_header(header, profile)


def lab(**dialect: Any) -> Profile:
    return Profile(Camera("lab", header=HeaderDialect(**dialect)), (), "lab.toml")


def only(reading: HeaderReading) -> Doubt:
    """Return the one doubt of a reading, whose sentence has all that its header states."""
    (doubt,) = reading.doubts
    for source, value in doubt.stated:
        assert source in doubt.sentence and value in doubt.sentence
    return doubt


def refused(reading: HeaderReading) -> Doubt:
    doubt = only(reading)
    assert reading.problem == ("ambiguous_header", doubt.sentence) and doubt.taken == ""
    assert doubted(reading.doubts).notes.always == (), "the message says it already"
    return doubt


def decided(reading: HeaderReading) -> Doubt:
    doubt = only(reading)
    assert reading.problem is None and doubt.reason is None
    part = doubted(reading.doubts)
    assert part.columns == {"flags": FrameFlag.HEADER_DOUBTED} and part.notes.always == (doubt.sentence,)
    return doubt


@pytest.mark.parametrize(
    ("name", "value", "quantity"),
    [
        ("EXPTIME", 75.0, "exposure_s"),
        ("DATE-OBS", "2022-03-09T22:10:00", "mjd_start"),
        ("FILTER", "R", "filter"),
    ],
)
def test_a_card_that_stands_twice_with_other_values_is_refused(name: str, value: Any, quantity: str) -> None:
    doubt = refused(read((name, value)))
    assert doubt.quantity == quantity and [source for source, _ in doubt.stated] == [name, name]
    assert "delete the wrong" in doubt.sentence
    # Advice that is followed succeeds.
    assert replaced((name, value)).problem is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("EXPTIME", 40), ("EXPTIME", "40.00"), ("DATE-OBS", "2022-03-09T21:14:00.000"), ("DATE-OBS", "2022-03-09"),
     ("FILTER", " v "), ("GAIN", 1.2001), ("FILTER", ""), ("FILTER", None), ("DATE-OBS", ""), ("EXPTIME", None)],
)  # fmt: skip
def test_a_card_that_stands_twice_and_means_the_same_is_one(name: str, value: Any) -> None:
    reading = read((name, value))
    assert reading.problem is None and reading.doubts == []
    assert (reading.exposure_s, reading.gain, reading.filter) == (40.0, 1.2, "V")


def test_a_card_without_a_value_does_not_hide_another() -> None:
    header = fits.Header(
        [("DATE-OBS", "2022-03-09T21:14:00"), ("EXPTIME", 40.0), ("FILTER", ""), ("FILTER", "V")]
    )
    reading = read_header(header, GENERIC)
    assert (reading.problem, reading.doubts, reading.filter) == (None, [], "V")


@pytest.mark.parametrize("key", ["kind", "readout", "binning", "time_scale"])
def test_a_text_by_which_a_frame_is_reduced_stands_once(key: str) -> None:
    profile = lab(time=(TimeCards(("DATE-OBS",)),), exposure=ValueCards(("EXPTIME",)), **{key: ("WORD",)})
    doubt = refused(read(("WORD", "UTC"), ("WORD", "TT"), profile=profile))
    assert (doubt.quantity, doubt.stated) == (key, (("WORD", "UTC"), ("WORD", "TT")))
    assert f"leave WORD out of header.{key}" in doubt.sentence
    without = lab(time=(TimeCards(("DATE-OBS",)),), exposure=ValueCards(("EXPTIME",)), **{key: ()})
    assert read(("WORD", "UTC"), ("WORD", "TT"), profile=without).problem is None


def test_numbers_of_the_detector_that_contradict_each_other_are_left_out() -> None:
    reading = read(("GAIN", 2.6))
    assert (
        decided(reading).stated == (("GAIN", "1.2"), ("GAIN", "2.6")) and decided(reading).taken == "profile"
    )
    assert reading.gain == 1.0 and reading.flags & FrameFlag.GAIN_ASSUMED
    other = read(("GAIN", 2.6), ("EGAIN", 1.3))
    assert (
        decided(other).taken == "EGAIN"
        and other.gain == 1.3
        and "EGAIN = 1.3 is used" in decided(other).sentence
    )
    # A setting is no gain, so that one of the two is left.
    setting = read(("GAIN", 139.0))
    assert setting.gain == 1.2 and setting.doubts == []
    cold = lab(time=(TimeCards(("DATE-OBS",)),), temperature=ValueCards(("CCD-TEMP",)))
    assert (
        decided(read(("CCD-TEMP", -10.0), ("CCD-TEMP", 18.0), profile=cold)).quantity == "ccd_temperature_c"
    )
    near = read(("CCD-TEMP", -10.0), ("CCD-TEMP", -10.2), profile=cold)
    assert near.ccd_temperature_c == -10.0 and near.doubts == []
    full = read(("SATURATE", 4e4), ("SATURATE", 6e4))
    assert decided(full).quantity == "saturation_adu" and full.saturation_adu is None


def test_two_gains_are_doubted_though_the_profile_prefers_one() -> None:
    doubt = decided(replaced(("EGAIN", 0.8)))
    assert doubt.taken == "EGAIN" and doubt.stated == (("EGAIN", "0.8"), ("GAIN", "1.2"))
    alone = lab(time=(TimeCards(("DATE-OBS",)),), gain=ValueCards(("EGAIN",)))
    assert replaced(("EGAIN", 0.8), profile=alone).doubts == [], "the fix of the sentence"


def test_a_unit_that_a_comment_contradicts_is_stated_with_the_scale_of_the_profile() -> None:
    header = fits.Header([("DATE-OBS", "2022-03-09T21:14:00"), ("EXPTIME", 40.0, "[ms] exposure")])
    assert refused(read_header(header, GENERIC)).stated == (("EXPTIME", "ms"), ("profile", "1"))


def test_one_reason_is_one_doubt_however_many_cards_have_a_time() -> None:
    clocks = ("MJD-OBS", calendar_mjd(2022, 3, 9, 21, 14)), ("DATE-BEG", "2022-03-09T21:14:00")
    assert refused(replaced(*clocks, ("TIMESYS", "LOCAL"))).stated == (("TIMESYS", "LOCAL"),)


def test_amplifiers_are_averaged_without_a_gain_that_stands_twice() -> None:
    mean = lab(time=(TimeCards(("DATE-OBS",)),), gain=ValueCards(("GAIN1", "GAIN2"), combine="mean"))
    reading = read(("GAIN1", 2.0), ("GAIN2", 3.0), ("GAIN2", 9.0), profile=mean)
    assert reading.gain == 2.0 and decided(reading).taken == "GAIN1"


def test_two_names_of_a_target_leave_it_without_one() -> None:
    reading = read(("OBJECT", "M 31"), ("OBJECT", "M 33"))
    assert decided(reading).quantity == "object" and reading.object is None


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("2022-03-09T21:40:00", "DATE-END = 2022-03-09T21:40:00 is 1560 s after the start, DATE-OBS"),
        ("2022-03-09T21:05:00", "is 540 s before the start"),
        ("2022-03-09T21:14:00", "is 0 s after the start"),
        ("2022-03-10T21:14:40", "is 86440 s after the start"),
    ],
)
def test_an_end_that_contradicts_start_and_length_is_refused(end: str, words: str) -> None:
    doubt = refused(read(("DATE-END", end)))
    assert words in doubt.sentence and "but EXPTIME = 40 s" in doubt.sentence
    assert [source for source, _ in doubt.stated] == ["DATE-OBS", "DATE-END", "EXPTIME"]
    # The fix: a profile that does not look at the end.
    plain = lab(time=(TimeCards(("DATE-OBS",)),))
    assert read(("DATE-END", end), profile=plain).problem is None


@pytest.mark.parametrize("end", ["2022-03-09T21:14:40", "2022-03-09T21:14:39", "2022-03-09T21:16:10"])
def test_an_end_may_hold_the_readout(end: str) -> None:
    assert read(("DATE-END", end)).doubts == []
    number = calendar_mjd(2022, 3, 9, 21, 14, 45.0)
    assert read(("MJD-END", number)).doubts == []


def test_without_an_exposure_the_end_is_after_the_start() -> None:
    ways = TimeCards(("DATE-OBS",)), TimeCards(("DATE-END",), refers_to="end", fallback=True)
    end = lab(exposure=ValueCards(()), time=ways)
    assert read(("DATE-END", "2022-03-09T21:40:00"), profile=end).problem is None
    doubt = refused(read(("DATE-END", "2022-03-09T21:10:00"), profile=end))
    assert "240 s before" in doubt.sentence and "EXPTIME" not in doubt.sentence


PAIR = lab(time=(TimeCards(("DATE-OBS", "TIME-OBS")),))


@pytest.mark.parametrize(
    ("day", "clock"),
    [
        ("2022-03-09", "2022-03-08T21:14:00"),
        ("2022-03-09T21:14:00", "2022-03-10T21:14:00"),
        ("2022-03-09T21:14:00", "21:44:00"),
    ],
)
def test_a_second_clock_with_another_time_is_refused(day: str, clock: str) -> None:
    doubt = refused(replaced(("DATE-OBS", day), ("TIME-OBS", clock), profile=PAIR))
    assert doubt.stated == (("DATE-OBS", day), ("TIME-OBS", clock)) and "two times" in doubt.sentence


@pytest.mark.parametrize(
    ("day", "clock"),
    [
        ("2022-03-09", "21:14:00"),
        ("2022-03-09T00:00:00", "21:14:00"),
        ("2022-03-09T21:14:00", "21:14:00.4"),
        ("2022-03-09", "2022-03-09T21:14:00"),
    ],
)
def test_a_second_clock_of_the_same_time_is_none(day: str, clock: str) -> None:
    reading = replaced(("DATE-OBS", day), ("TIME-OBS", clock), profile=PAIR)
    assert reading.doubts == [] and reading.mjd_start == pytest.approx(
        calendar_mjd(2022, 3, 9, 21, 14), abs=1e-5
    )


def test_cards_that_put_the_start_elsewhere_are_all_in_the_sentence() -> None:
    doubt = refused(read(("DATE-BEG", "2022-03-09T20:59:00")))
    assert doubt.stated == (("DATE-OBS", "2022-03-09T21:14:00"), ("DATE-BEG", "2022-03-09T20:59:00"))


@pytest.mark.parametrize("date", ["1970-01-01T00:00:07", "1980-01-06T00:03:00", "1980-01-01T00:00:00", "2000-01-01T00:10:00"])  # fmt: skip # noqa: E501
def test_a_clock_that_was_never_set_is_doubted(date: str) -> None:
    doubt = decided(replaced(("DATE-OBS", date)))
    assert f"DATE-OBS = {date} is on {date[:10]}, where clocks begin that were never set" in doubt.sentence
    zone = lab(time=(TimeCards(("DATE-OBS",), zone_hours=9.0),))
    assert decided(replaced(("DATE-OBS", date), profile=zone)).quantity == "mjd_start"


def test_the_days_beside_are_not_doubted() -> None:
    for date in ("1969-12-31T23:00:00", "1980-01-02T01:00:00", "2000-01-02T00:00:01"):
        assert replaced(("DATE-OBS", date)).doubts == []

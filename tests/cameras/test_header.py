"""Headers to values: what is read, what is left out, and what fails the frame."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.cameras import HeaderReading, Profile, Reading, load, read_header
from skylake.core.batch import night_of
from skylake.core.camera import Camera, HeaderDialect, TimeCards, ValueCards
from skylake.core.flags import FrameFlag

GOOD = {"DATE-OBS": "2024-04-08T03:10:20", "EXPTIME": 20.0, "FILTER": "V", "GAIN": 1.5, "RDNOISE": 8.0}
MJD = 60408.13217592593
SECOND = 1.0 / 86400.0
GENERIC = load("generic")


def read(profile: Profile | None = None, **changes: Any) -> HeaderReading:
    """Read the good header with some cards changed; None takes a card away, _ stands for -."""
    cards = GOOD | {name.replace("_", "-"): value for name, value in changes.items()}
    return read_header(
        {name: value for name, value in cards.items() if value is not None}, profile or GENERIC
    )


def lab(**header: Any) -> Profile:
    """A camera with a dialect of its own."""
    dialect = HeaderDialect(**({"time": (TimeCards(("DATE-OBS",)),)} | header))
    return Profile(Camera("lab", header=dialect), (), "lab.toml")


def of(reading: HeaderReading, quantity: str) -> Reading:
    (found,) = [one for one in reading.readings if one.quantity == quantity]
    return found


def failed(reading: HeaderReading) -> tuple[str, str]:
    assert reading.problem is not None
    reason, sentence = reading.problem
    assert len(sentence) < 260 and "\n" not in sentence and not sentence.endswith(".")
    return str(reason), sentence


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "infinite exposure": ({"EXPTIME": "INF"}, "EXPTIME = inf s.*header.exposure"),
    "no number": ({"EXPTIME": float("nan")}, "EXPTIME = nan s"),
    "a long exposure": ({"EXPTIME": 1e12}, r"EXPTIME = 1e\+12 s is no exposure of up to 86400 s"),
    "a short exposure": ({"EXPTIME": 1e-30}, "EXPTIME = 1e-30 s"),
    "year 1": ({"DATE_OBS": "0001-01-01T00:00:00"}, "DATE-OBS = 0001-01-01T00:00:00 is no time between 1900 and 2100"),
    "year 9999": ({"DATE_OBS": "9999-12-31T23:59:59"}, "DATE-OBS = 9999.*header.time"),
    "year 2150": ({"DATE_OBS": "2150-01-01T00:00:00"}, "DATE-OBS = 2150"),
    "a Julian date of nothing": ({"DATE_OBS": None, "JD": 0.0}, "JD = 0.0 is no time"),
    "a long text": ({"DATE_OBS": None, "MJD_OBS": "9" * 200}, "MJD-OBS = 9{40} is no"),
}  # fmt: skip


@pytest.mark.parametrize(("cards", "sentence"), BAD.values(), ids=BAD.keys())
def test_a_value_that_no_frame_can_have_names_its_card(cards: dict[str, Any], sentence: str) -> None:
    reading = read(**cards)
    reason, told = failed(reading)
    assert reason == "bad_header" and re.search(sentence, told)
    quantity = "exposure_s" if "EXPTIME" in cards else "mjd_start"
    assert (of(reading, quantity).value, of(reading, quantity).verdict) == (None, "wrong")


@given(
    exposure=st.floats() | st.text("INFNAe+-.0123456789", max_size=8),
    date=st.text("0123456789-T:Z+", max_size=22) | st.dates().map(lambda day: f"{day}T00:00:00"),
    mjd=st.floats() | st.none(),
)
def test_any_header_that_is_read_has_a_night(exposure: Any, date: str, mjd: float | None) -> None:
    reading = read(EXPTIME=exposure, DATE_OBS=date, MJD_OBS=mjd)
    assert math.isfinite(reading.exposure_s) and 0.0 < reading.exposure_s <= 86400.0
    if reading.mjd_mid is not None:
        assert 18991231 <= night_of(reading.mjd_mid, -180.0) <= 21000101
    else:
        assert reading.problem is not None


def test_the_longest_exposure_is_that_of_the_profile() -> None:
    long = lab(exposure=ValueCards(("EXPTIME",), maximum=200000.0))
    assert read(long, EXPTIME=150000.0).exposure_s == 150000.0
    assert failed(read(lab(), EXPTIME=150000.0))[0] == "bad_header"
    short = lab(exposure=ValueCards(("EXPTIME",), minimum=0.5))
    assert read(short, EXPTIME=0.1).flags & FrameFlag.EXPOSURE_ASSUMED, "a placeholder of the profile"
    assert read(lab(), EXPTIME=-1.0).flags & FrameFlag.EXPOSURE_ASSUMED


def test_a_good_card_stands_in_for_a_bad_one_and_says_so() -> None:
    reading = read(EXPTIME="INF", EXPOSURE=20.0, DATE_OBS="0001-01-01T00:00:00", MJD_OBS=MJD)
    assert reading.problem is None and reading.exposure_s == 20.0 and reading.mjd_start == MJD
    assert "EXPTIME = inf" in of(reading, "exposure_s").note
    assert "DATE-OBS = 0001" in of(reading, "mjd_start").note


@pytest.mark.parametrize("value", [1e300, "INF", "NAN", -1e300, 2e4])
def test_a_detector_that_there_cannot_be_is_left_out(value: Any) -> None:
    reading = read(lab(), GAIN=value, RDNOISE=value)
    assert (reading.gain, reading.read_noise) == (1.0, 10.0)
    assert reading.flags & FrameFlag.GAIN_ASSUMED and reading.flags & FrameFlag.READ_NOISE_ASSUMED
    for quantity, card in (("gain", "GAIN"), ("read_noise", "RDNOISE")):
        note = of(reading, quantity).note
        assert (
            of(reading, quantity).verdict == "assumed" and note.startswith(f"{card} = ") and "outside" in note
        )
    assert read(SATURATE=1e300).saturation_adu is None
    assert "SATURATE = 1e+300" in of(read(SATURATE=1e300), "saturation_adu").note


def test_a_setting_of_the_gain_is_no_gain() -> None:
    """As MaxIm, N.I.N.A. and all of ASCOM write it."""
    both = read(GAIN=139, EGAIN=0.25)
    assert both.gain == 0.25 and of(both, "gain").source == "EGAIN"
    assert "GAIN = 139" in of(both, "gain").note
    alone = read(GAIN=139)
    assert (
        alone.gain == 1.0 and alone.flags & FrameFlag.GAIN_ASSUMED and "GAIN = 139" in of(alone, "gain").note
    )
    assert read(GAIN=2.7).gain == 2.7 and not read(GAIN=2.7).flags & FrameFlag.GAIN_ASSUMED


def test_gains_that_differ_are_reported_and_fail_no_frame() -> None:
    reading = read(GAIN=10.0, EGAIN=0.8)
    assert reading.problem is None and reading.gain == 0.8
    assert of(reading, "gain").verdict == "ambiguous" and "GAIN = 10 differs" in of(reading, "gain").note
    assert of(read(GAIN=0.8, EGAIN=0.81), "gain").verdict == "ok"
    mean = lab(gain=ValueCards(("GAIN1", "GAIN2"), combine="mean"))
    assert of(read(mean, GAIN1=1.0, GAIN2=3.0), "gain") == Reading("gain", 2.0, "GAIN1 GAIN2")


@pytest.mark.parametrize(("system", "ahead"), [("UTC", 0.0), ("TAI", 37.0), ("TT", 69.184), ("TDB", 69.184)])
def test_the_header_names_its_scale(system: str, ahead: float) -> None:
    assert read(TIMESYS=system).mjd_start == pytest.approx(MJD - ahead * SECOND, abs=1e-3 * SECOND)
    number = read(TIMESYS=system, DATE_OBS=None, MJD_OBS=MJD)
    assert number.mjd_start == pytest.approx(MJD - ahead * SECOND, abs=1e-3 * SECOND)


def test_a_scale_that_cannot_be_known_is_ambiguous() -> None:
    reason, sentence = failed(read(TIMESYS="LOCAL"))
    assert (
        reason == "ambiguous_header" and "TIMESYS = 'LOCAL'" in sentence and "header.time.scale" in sentence
    )
    assert of(read(TIMESYS="LOCAL"), "mjd_start").verdict == "ambiguous"
    # A profile that says what the clock is has the last word.
    known = lab(time=(TimeCards(("DATE-OBS",), scale="utc", zone_hours=2.0),))
    assert read(known, TIMESYS="LOCAL").mjd_start == pytest.approx(MJD - 2.0 / 24.0, abs=1e-9)


def test_a_scale_that_contradicts_the_profile_is_ambiguous() -> None:
    stated = lab(time=(TimeCards(("DATE-OBS",), scale="utc"),))
    reason, sentence = failed(read(stated, TIMESYS="TAI"))
    assert reason == "ambiguous_header" and "TIMESYS = 'TAI' contradicts DATE-OBS" in sentence
    assert read(stated, TIMESYS="UTC").mjd_start == pytest.approx(MJD, abs=1e-9)
    deaf = lab(time=(TimeCards(("DATE-OBS",), scale="utc"),), time_scale=())
    assert read(deaf, TIMESYS="TAI").mjd_start == pytest.approx(MJD, abs=1e-9)
    assert failed(read(TIMESYS="TAI", DATE_OBS="2024-04-08T03:10:20Z"))[0] == "ambiguous_header"


def test_an_offset_that_contradicts_the_zone_is_ambiguous() -> None:
    local = lab(time=(TimeCards(("DATE-OBS",), zone_hours=-7.0),))
    assert read(local, DATE_OBS="2024-04-07T20:10:20-07:00").mjd_start == pytest.approx(MJD, abs=1e-9)
    reason, sentence = failed(read(local, DATE_OBS="2024-04-08T03:10:20Z"))
    assert reason == "ambiguous_header" and "+0 h" in sentence and "-7 h" in sentence


STANDARD: dict[str, tuple[dict[str, Any], float]] = {
    "DATE-BEG": ({"DATE_BEG": "2024-04-08T03:10:20"}, 0.0),
    "MJD-BEG": ({"MJD_BEG": MJD}, 0.0),
    "DATE-AVG": ({"DATE_AVG": "2024-04-08T03:10:30.0"}, 0.0),
    "MJD-AVG": ({"MJD_AVG": MJD}, -10.0),
    "DATE-END": ({"DATE_END": "2024-04-08T03:10:40"}, 0.0),
    "DATE-OBS UTC-OBS": ({"DATE_OBS": "2024-04-08", "UTC_OBS": "03:10:20.00"}, 0.0),
}  # fmt: skip


@pytest.mark.parametrize(("cards", "later"), STANDARD.values(), ids=STANDARD.keys())
def test_the_standard_cards_show_the_time(cards: dict[str, Any], later: float) -> None:
    reading = read(**({"DATE_OBS": None} | cards))
    assert reading.problem is None
    assert reading.mjd_start == pytest.approx(MJD + later * SECOND, abs=1e-3 * SECOND)


def test_an_end_with_readout_agrees_but_another_start_does_not() -> None:
    assert read(DATE_END="2024-04-08T03:11:05").mjd_start == pytest.approx(MJD, abs=1e-9)
    assert read(DATE_AVG="2024-04-08T03:10:30").problem is None
    assert failed(read(DATE_AVG="2024-04-08T03:10:20"))[0] == "ambiguous_header"
    assert failed(read(UTC_OBS="03:20:20"))[0] == "ambiguous_header"


def test_texts_are_cut_to_what_a_row_holds_and_say_so() -> None:
    reading = read(FILTER="F" * 100, OBJECT="M 31 " * 100, IMAGETYP="x" * 300)
    assert reading.problem is None and reading.filter == "F" * 64 and len(reading.object or "") <= 256
    assert reading.object is not None and reading.object.startswith("M 31 M 31")
    for quantity in ("filter", "object", "kind"):
        assert "characters" in of(reading, quantity).note
    assert len(failed(read(IMAGETYP="bias " * 60))[1]) < 150
    short = read(OBJECT="M 31")
    assert short.object == "M 31" and not [one for one in short.readings if one.quantity == "object"]


def test_a_filter_is_known_by_its_whole_name() -> None:
    name = "filter " * 12
    base = replace(GENERIC.base, filters={"V": replace(GENERIC.base.filters["V"], aliases=(name.strip(),))})
    assert read(replace(GENERIC, base=base), FILTER=name).band == "V"


def test_a_reading_knows_what_its_profile_is_called(tmp_path):
    """By its name where it came with skylake, by its path where it did not: what --camera takes."""
    own = tmp_path / "own.toml"
    own.write_text('name = "camera"\nlike = "generic"\n')
    assert read_header({}, load("generic")).profile == "generic"
    assert read_header({}, load(own)).profile == str(own)
    own.write_text(own.read_text() + '[[chip]]\nname = "C1"\n[[chip]]\nname = "C2"\n')
    assert read_header({}, load(f"{own}:C2")).profile == f"{own}:C2"

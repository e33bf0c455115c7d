"""What a header shows that can hardly be so is taken, or left out, and reported."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from astropy.io import fits

from skylake.cameras import HeaderReading, Profile, read_header
from skylake.cameras.calibration_suspects import suspected_kind
from skylake.cameras.clock_times import iso_of_mjd, now_mjd
from skylake.core.camera import Camera, Detector, HeaderDialect, TimeCards, ValueCards
from skylake.core.doubts import doubted
from skylake.core.flags import FrameFlag

DIALECT = {
    "time": (TimeCards(("DATE-OBS",)),), "exposure": ValueCards(("EXPTIME",), minimum=0.0),
    "gain": ValueCards(("GAIN",)),
}  # fmt: skip


def read(dialect: dict[str, Any] | None = None, **cards: object) -> HeaderReading:
    header = fits.Header([("DATE-OBS", "2024-04-08T03:10:20"), ("EXPTIME", 20.0), ("GAIN", 1.5)])
    header.update({name.replace("_", "-"): value for name, value in cards.items()})
    told = HeaderDialect(**(DIALECT | (dialect or {})))
    camera = Camera("lab", header=told, detector=Detector(gain_e_per_adu=2.5))
    return read_header(header, Profile(camera, (), "lab.toml"))


def is_doubted(reading: HeaderReading) -> bool:
    assert reading.problem is None
    part = doubted(reading.doubts)
    assert part.notes.always == tuple(doubt.sentence for doubt in reading.doubts)
    assert bool(reading.doubts) == bool(part.columns.get("flags", 0) & FrameFlag.HEADER_DOUBTED)
    for doubt in reading.doubts:
        assert all(source in doubt.sentence for source, _ in doubt.stated) and doubt.taken
    return bool(reading.doubts)


def test_a_usual_header_is_not_doubted() -> None:
    assert not is_doubted(read())


@pytest.mark.parametrize(
    ("exposure", "limit"), [(30000.0, {"maximum": 40000.0}), (0.001, {"minimum": 0.0005})]
)
def test_an_unusual_exposure_is_doubted_unless_allowed(exposure: float, limit: dict[str, float]) -> None:
    reading = read(EXPTIME=exposure)
    assert is_doubted(reading) and reading.exposure_s == exposure
    sentence = reading.doubts[0].sentence
    assert f"exposure of {exposure:g} s is unusual; if EXPTIME is in " in sentence
    assert "header.exposure.scale = " in sentence and f"header.exposure.{next(iter(limit))}" in sentence
    assert not is_doubted(read({"exposure": ValueCards(("EXPTIME",), **limit)}, EXPTIME=exposure))


@pytest.mark.parametrize("gain", [139, 150, 300])
def test_a_gain_setting_is_left_out_unless_there_is_a_limit(gain: int) -> None:
    reading = read(GAIN=gain)
    assert is_doubted(reading) and reading.gain == 2.5 and FrameFlag.GAIN_ASSUMED in reading.flags
    sentence = reading.doubts[0].sentence
    assert reading.doubts[0].stated == (("GAIN", str(gain)),) and reading.doubts[0].taken == "profile"
    assert f"GAIN = {gain} lies outside" in sentence and "2.5 electrons per ADU" in sentence
    assert "header.gain.maximum" in sentence
    known = read({"gain": ValueCards(("GAIN",), maximum=30.0)}, GAIN=gain)
    assert not is_doubted(known) and known.gain == 2.5
    allowed = read({"gain": ValueCards(("GAIN",), maximum=400.0)}, GAIN=gain)
    assert not is_doubted(allowed) and allowed.gain == gain


def test_the_clock_is_that_of_the_machine() -> None:
    before, mjd, after = time.time(), now_mjd(), time.time()
    assert before - 1.0 <= (mjd - 40587.0) * 86400.0 <= after + 1.0
    days = [time.strftime("%Y-%m-%d", time.gmtime(seconds)) for seconds in (before - 1.0, after + 1.0)]
    assert iso_of_mjd(mjd)[:10] in days


@pytest.mark.parametrize(
    ("ahead_days", "words"),
    [(-0.1, None), (0.01, None), (0.3, "in 7.2 hours .*zone_hours"), (900.0, "in 900 days")],
)
def test_a_time_that_is_still_to_come_is_reported(ahead_days: float, words: str | None) -> None:
    reading = read(DATE_OBS=iso_of_mjd(now_mjd() + ahead_days))
    assert is_doubted(reading) == (words is not None)
    (row,) = [one for one in reading.readings if one.quantity == "mjd_start"]
    assert row.verdict == ("ok" if words is None else "ambiguous")
    for sentence in (doubt.sentence for doubt in reading.doubts):
        assert sentence == row.note and "correct the header" in sentence
        assert re.search(f"of DATE-OBS, .* UTC, is still to come, {words}", sentence)


@pytest.mark.parametrize(
    ("cards", "file", "words"),
    [
        ({"IMAGETYP": "Flat Field"}, "a.fits", "a flat (IMAGETYP = 'Flat Field')"),
        ({"OBJECT": "bias"}, "a.fits", "a bias (OBJECT = 'bias')"),
        ({"OBJECT": "Flat field V 3"}, "a.fits", "a flat (OBJECT = 'Flat field V 3')"),
        ({}, "lab_20240101_dark_0001.fits.gz", "a dark (by the name of its file)"),
        ({"EXPTIME": 0}, "a.fits", "a bias (EXPTIME = 0)"),
        ({"OBJECT": "Dark nebula B33"}, "flatiron_dark_nebula.fits", None),
        ({"IMAGETYP": "Light Frame"}, "M31.fits", None),
    ],
)
def test_a_frame_of_no_kind_may_look_like_a_calibration_frame(
    cards: dict[str, object], file: str, words: str | None
) -> None:
    reading = read(**cards)
    header = fits.Header([("EXPTIME", 20.0)])
    header.update(cards)
    told = suspected_kind(header, reading, file)
    assert (told is None) == (words is None)
    if words is not None:
        assert told is not None and words in told and "header.kind of lab.toml" in told


def test_a_frame_whose_card_shows_its_kind_is_of_that_kind() -> None:
    reading = read({"kind": ("OBSTYPE",)}, OBSTYPE="object")
    assert suspected_kind({"OBSTYPE": "object", "IMAGETYP": "bias"}, reading, "bias.fits") is None

"""The time of an exposure, from all time cards of its header."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

from skylake.cameras.clock_times import (
    SECONDS_PER_DAY,
    calendar_mjd,
    is_plausible,
    iso_of_mjd,
    lone_times,
    now_mjd,
    offset_hours,
    parse_time,
    scale_of,
)
from skylake.cameras.header_values import (
    MAX_NAME,
    MAX_SHOWN,
    Cards,
    HeaderReading,
    Reading,
    Verdict,
    read_text,
    values_of,
)
from skylake.core.camera import Camera, Scale, TimeCards
from skylake.core.doubts import Doubt
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason

#: Clocks of cameras and computers may differ by half an hour; most time zones by more.
_AHEAD_DAYS = 0.5 / 24.0
#: An end may be later than start and exposure make it by the time that slow cameras and computers need to read out an
#: image and to store it, s.
_READOUT_S = 120.0
#: MJD of the days at which clocks begin that were never set: of Unix, of DOS, of GPS, and of clock chips.
_UNSET_CLOCKS = {40587: "1970-01-01", 44239: "1980-01-01", 44244: "1980-01-06", 51544: "2000-01-01"}
#: Cards without a time that a sentence names.
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Start:
    """The start of the exposure (MJD, UTC) by a way to read it, what its cards say, and the zone of their clock."""

    stated: tuple[tuple[str, str], ...]
    mjd: float
    zone_hours: float

    @property
    def source(self) -> str:
        return " ".join(name for name, _ in self.stated)

    @property
    def text(self) -> str:
        return _text(self.stated)


@dataclass(slots=True)
class _ClockReadings:
    """The times in the cards of a header.

    ``ends`` are starts by ends of exposures that count only where no other card gives a time. ``refused`` are
    impossible times, ``unread`` cards whose values are not times, with a sentence on each, and ``doubts``
    contradictions between clocks.
    """

    starts: list[_Start] = field(default_factory=list)
    ends: list[_Start] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unread: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)


def read_time(reading: HeaderReading, cards: Cards, file_name: str) -> None:
    """Read the time of a frame, whose exposure was read before; see :class:`HeaderReading`."""
    header = reading.camera.header
    readings = _ClockReadings()
    for way in sorted(header.time, key=lambda way: way.fallback):
        if not (way.fallback and readings.starts):
            _follow(way, cards, reading, readings)
        elif way.refers_to == "end":
            ends = _ClockReadings()
            _follow(way, cards, reading, ends)
            readings.ends += ends.starts
    starts = readings.starts
    if not starts and not readings.doubts and (mjd := _file_time(reading.camera, file_name)) is not None:
        starts.append(_Start((("file name", file_name),), mjd, header.file_time_zone_hours))
        reading.flags |= FrameFlag.TIME_FROM_NAME
    doubts = (
        readings.doubts or _other_starts(starts, header.time_tolerance_s) or _other_ends(reading, readings)
    )
    if doubts:
        source = ", ".join(dict.fromkeys(start.source for start in starts))
        reading.readings.append(Reading("mjd_start", None, source, "ambiguous", doubts[0].sentence))
        # Several ways may have one reason.
        for doubt in dict.fromkeys(doubts):
            reading.doubt(doubt)
    elif not starts and readings.refused:
        note = (
            f"{readings.refused[0]} is no time between 1900 and 2100; correct the header or name another card"
        )
        _refuse(reading, Reason.BAD_HEADER, f"{note} in header.time of the profile", "wrong")
    elif not starts:
        verdict: Verdict = "wrong" if readings.unread else "missing"
        _refuse(reading, Reason.NO_TIME, _no_time(reading.camera, readings.unread), verdict)
    else:
        _accept(reading, starts[0], readings)


def _follow(way: TimeCards, cards: Cards, reading: HeaderReading, readings: _ClockReadings) -> None:
    """Read the time in one way; in several if a card stands in the header more than once."""
    for values in product(*(values_of(cards, name) for name in way.cards)):
        stated = _stated(way.cards, values)
        text = _text(stated)
        scale, doubt = _scale_and_zone(way, list(values), reading.camera, cards)
        mjd = parse_time(way, list(values), scale)
        if mjd is None:
            if any(str(value).strip() for value in values):
                readings.unread.append((way.cards, f"{text} is no {way.format} time"))
            continue
        if not is_plausible(mjd):
            readings.refused.append(text)
            continue
        tolerance_s = reading.camera.header.time_tolerance_s
        if any(
            abs(lone - mjd) * SECONDS_PER_DAY > tolerance_s for lone in lone_times(way, list(values), scale)
        ):
            doubt = _ambiguous(
                stated,
                f"{text}: these are two times; name the right card alone in header.time of the profile",
            )
        if doubt is not None:
            readings.doubts.append(doubt)
        back = {"start": 0.0, "mid": 0.5, "end": 1.0}[way.refers_to]
        start = mjd - back * reading.exposure_s / SECONDS_PER_DAY
        readings.starts.append(_Start(stated, start, way.zone_hours))


def _stated(names: Iterable[str], values: Iterable[object]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value).strip()[:MAX_SHOWN]) for name, value in zip(names, values, strict=True))


def _text(stated: tuple[tuple[str, str], ...]) -> str:
    return " + ".join(f"{name} = {value}" for name, value in stated)


def _ambiguous(stated: tuple[tuple[str, str], ...], sentence: str) -> Doubt:
    return Doubt("mjd_start", stated, "", sentence, Reason.AMBIGUOUS_HEADER)


def _scale_and_zone(
    way: TimeCards, values: list[object], camera: Camera, cards: Cards
) -> tuple[Scale, Doubt | None]:
    """Return the scale of a clock, and a doubt if header and profile contradict one another."""
    name = " + ".join(way.cards)
    offset = offset_hours(way, values)
    if offset is not None and way.zone_hours not in (0.0, offset):
        return "utc", _ambiguous(
            ((name, f"{offset:+g} h"), ("profile", f"{way.zone_hours:+g} h")),
            f"{name} states {offset:+g} h from UTC and the profile {way.zone_hours:+g} h; fix header.time.zone_hours",
        )
    # An offset from UTC states the scale, too.
    stated = way.scale or (None if offset is None else "utc")
    card = next((card for card in camera.header.time_scale if read_text(cards, card)), None)
    if card is None:
        return stated or "utc", None
    system = str(read_text(cards, card))[:MAX_SHOWN]
    known = scale_of(system)
    if known is None and way.scale is None:
        return "utc", _ambiguous(
            ((card, system),),
            f"{card} = {system!r} names no scale that leads to UTC; give header.time.scale and zone_hours",
        )
    if known is not None and stated not in (None, known):
        return known, _ambiguous(
            ((card, system), (name, str(stated).upper())),
            f"{card} = {system!r} contradicts {name}, which is {str(stated).upper()}; fix header.time.scale of the "
            "profile, or empty header.time_scale where the card is wrong",
        )
    return known or stated or "utc", None


def _other_starts(starts: list[_Start], tolerance_s: float) -> list[Doubt]:
    """Return a doubt if cards give starts that differ by more than a tolerance."""
    times = [start.mjd for start in starts]
    if not times or (max(times) - min(times)) * SECONDS_PER_DAY <= tolerance_s:
        return []
    starts_text = ", ".join(f"{start.text} puts it at {iso_of_mjd(start.mjd)}" for start in starts)
    sources = list(dict.fromkeys(start.source for start in starts))
    several = "keep only the right ones in header.time of the profile"
    fix = several if len(sources) > 1 else f"delete the wrong card {sources[0]}"
    return [
        _ambiguous(
            tuple(pair for start in starts for pair in start.stated),
            f"the time cards disagree on the start of the exposure ({starts_text}); {fix}",
        )
    ]


def _other_ends(reading: HeaderReading, readings: _ClockReadings) -> list[Doubt]:
    """Return a doubt if an end of the exposure is not where its start and its length put it."""
    for end in readings.ends:
        start = readings.starts[0]
        late_s = (end.mjd - start.mjd) * SECONDS_PER_DAY
        # To the millisecond, as clocks of headers are.
        lasted_s = round(late_s + reading.exposure_s, 3)
        # Where the exposure is not known, the end needs only be after the start.
        known = reading.exposure_known and FrameFlag.EXPOSURE_ASSUMED not in reading.flags
        is_early = (late_s if known else lasted_s) < -reading.camera.header.time_tolerance_s
        if not is_early and not (known and late_s > _READOUT_S):
            continue
        length = [
            (one.source, f"{one.value:g} s")
            for one in reading.readings
            if one.quantity == "exposure_s" and known
        ]
        when = f"{abs(lasted_s):.6g} s {'before' if lasted_s < 0.0 else 'after'} the start, {start.text}"
        but = "".join(f", but {source} = {value}" for source, value in length)
        sentence = (
            f"{end.text} is {when}{but}; correct the header, or leave the wrong card out of header.time or "
            "header.exposure of the profile"
        )
        return [_ambiguous((*start.stated, *end.stated, *length), sentence)]
    return []


def _no_time(camera: Camera, unread: list[tuple[tuple[str, ...], str]]) -> str:
    """Return why no card gives the time: all are missing, or their values are not times."""
    if unread:
        reasons = ", ".join(text for _, text in unread[:_MOST_SHOWN])
        return f"the time cannot be read ({reasons}); correct the header or fix header.time of the profile"
    tried = "; ".join(" + ".join(way.cards) for way in camera.header.time) or "no cards"
    return f"no card gives the time (looked at {tried}); add the right one to header.time of the profile"


def _refuse(reading: HeaderReading, reason: Reason, note: str, verdict: Verdict) -> None:
    reading.readings.append(Reading("mjd_start", None, "", verdict, note))
    reading.fail(reason, note)


def _accept(reading: HeaderReading, first: _Start, readings: _ClockReadings) -> None:
    source, start = first.source, first.mjd
    reading.time_source = source[:MAX_NAME]
    half = 0.5 * reading.exposure_s / SECONDS_PER_DAY
    reading.mjd_start, reading.mjd_mid, reading.mjd_end = start, start + half, start + 2 * half
    notes = (
        [f"{', '.join(readings.refused)}: no time between 1900 and 2100, left out"]
        if readings.refused
        else []
    )
    # A day alone is not a time, but part of one if a card of its own has the clock.
    used = {name for read in readings.starts for name, _ in read.stated}
    odd = [text for names, text in readings.unread if not used & set(names)]
    if odd:
        notes.append(f"{', '.join(odd[:_MOST_SHOWN])} and is left out; correct the header or fix header.time")
    ahead = start - now_mjd()
    unset = _UNSET_CLOCKS.get(math.floor(start + first.zone_hours / 24.0))
    if ahead > _AHEAD_DAYS:
        notes.append(_to_come(source, start, ahead))
        reading.doubt(Doubt("mjd_start", ((source, iso_of_mjd(start)[:19]),), source, notes[-1]))
    elif unset is not None:
        notes.append(
            f"{first.text} is on {unset}, where clocks begin that were never set; correct the header if so"
        )
        reading.doubt(Doubt("mjd_start", first.stated, source, notes[-1]))
    verdict: Verdict = "ambiguous" if odd or ahead > _AHEAD_DAYS or unset is not None else "ok"
    reading.readings.append(Reading("mjd_start", start, source, verdict, "; ".join(notes)))


def _to_come(source: str, start: float, ahead: float) -> str:
    """Return the remark on a time in the future of the clock of this machine."""
    when = f"{24.0 * ahead:.1f} hours" if ahead < 1.0 else f"{ahead:.0f} days"
    zone = ", or give header.time.zone_hours" if ahead < 1.0 else ""
    return (
        f"the time of {source}, {iso_of_mjd(start)[:19]} UTC, is still to come, in {when} by the clock of this "
        f"machine; correct the header{zone}, or set the clock"
    )


def _file_time(camera: Camera, file_name: str) -> float | None:
    if camera.header.file_time is None or not (match := re.search(camera.header.file_time, file_name)):
        return None
    parts = match.groupdict()
    year, month, day, hour, minute = (
        int(parts.get(name) or 0) for name in ("year", "month", "day", "hour", "minute")
    )
    mjd = calendar_mjd(year, month, day, hour, minute, float(parts.get("second") or 0.0))
    return mjd - camera.header.file_time_zone_hours / 24.0 if mjd is not None and is_plausible(mjd) else None

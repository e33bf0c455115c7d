"""The time of an exposure, from all time cards of its header."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from skylake.cameras.clock_times import (
    SECONDS_PER_DAY,
    calendar_mjd,
    is_plausible,
    iso_of_mjd,
    now_mjd,
    offset_hours,
    parse_time,
    scale_of,
)
from skylake.cameras.header_values import MAX_NAME, Cards, HeaderReading, Reading, Verdict, read_text
from skylake.core.camera import Camera, Scale, TimeCards
from skylake.core.doubts import Doubt
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason

#: Characters of a card's text that a sentence shows.
_MAX_SHOWN = 40
#: Clocks of cameras and computers may differ by half an hour; most time zones by more.
_AHEAD_DAYS = 0.5 / 24.0
#: Cards without a time that a sentence names.
_MOST_SHOWN = 3
_VERDICTS: dict[Reason, Verdict] = {
    Reason.NO_TIME: "missing",
    Reason.BAD_HEADER: "wrong",
    Reason.AMBIGUOUS_HEADER: "ambiguous",
}


@dataclass(slots=True)
class _ClockReadings:
    """The times in the cards of a header.

    ``starts`` holds cards and start of exposure, ``refused`` impossible times, ``unread`` cards whose values are not
    times, with a sentence on each, and ``doubts`` reasons why a clock is not known.
    """

    starts: list[tuple[str, float]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unread: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def read_time(reading: HeaderReading, cards: Cards, file_name: str) -> None:
    """Read the time of a frame, whose exposure was read before; see :class:`HeaderReading`."""
    header = reading.camera.header
    readings = _ClockReadings()
    for way in sorted(header.time, key=lambda way: way.fallback):
        if not (way.fallback and readings.starts) and all(name in cards for name in way.cards):
            _follow(way, cards, reading, readings)
    starts = readings.starts
    if not starts and not readings.doubts and (mjd := _file_time(reading.camera, file_name)) is not None:
        starts.append(("file name", mjd))
        reading.flags |= FrameFlag.TIME_FROM_NAME
    source = ", ".join(name for name, _ in starts)
    if readings.doubts:
        _refuse(reading, Reason.AMBIGUOUS_HEADER, source, readings.doubts[0])
    elif not starts and readings.refused:
        note = (
            f"{readings.refused[0]} is no time between 1900 and 2100; correct the header or name another card"
        )
        _refuse(reading, Reason.BAD_HEADER, "", f"{note} in header.time of the profile")
    elif not starts:
        _refuse(reading, Reason.NO_TIME, "", _no_time(reading.camera, readings.unread), bool(readings.unread))
    elif _spread_s(starts) > header.time_tolerance_s:
        starts_text = ", ".join(f"{name} gives MJD {mjd:.6f}" for name, mjd in starts)
        note = (
            f"the time cards disagree ({starts_text}); keep only the right ones in header.time of the profile"
        )
        _refuse(reading, Reason.AMBIGUOUS_HEADER, source, note)
    else:
        _accept(reading, *starts[0], readings)


def _follow(way: TimeCards, cards: Cards, reading: HeaderReading, readings: _ClockReadings) -> None:
    values = [cards[name] for name in way.cards]
    scale, doubt = _scale_and_zone(way, values, reading.camera, cards)
    mjd = parse_time(way, values, scale)
    text = " + ".join(f"{name} = {str(cards[name]).strip()[:_MAX_SHOWN]}" for name in way.cards)
    if mjd is None:
        if any(str(value).strip() for value in values):
            readings.unread.append((way.cards, f"{text} is no {way.format} time"))
        return
    if not is_plausible(mjd):
        readings.refused.append(text)
        return
    if doubt is not None:
        readings.doubts.append(doubt)
    back = {"start": 0.0, "mid": 0.5, "end": 1.0}[way.refers_to]
    readings.starts.append((" ".join(way.cards), mjd - back * reading.exposure_s / SECONDS_PER_DAY))


def _scale_and_zone(
    way: TimeCards, values: list[object], camera: Camera, cards: Cards
) -> tuple[Scale, str | None]:
    """Return the scale of a clock, and a sentence if header and profile contradict one another."""
    name = " + ".join(way.cards)
    offset = offset_hours(way, values)
    if offset is not None and way.zone_hours not in (0.0, offset):
        return "utc", (
            f"{name} states {offset:+g} h from UTC and the profile {way.zone_hours:+g} h; fix header.time.zone_hours"
        )
    # An offset from UTC states the scale, too.
    stated = way.scale or (None if offset is None else "utc")
    card = next((card for card in camera.header.time_scale if read_text(cards, card)), None)
    if card is None:
        return stated or "utc", None
    system = str(read_text(cards, card))[:_MAX_SHOWN]
    known = scale_of(system)
    if known is None and way.scale is None:
        return "utc", (
            f"{card} = {system!r} names no scale that leads to UTC; give header.time.scale and zone_hours"
        )
    if known is not None and stated not in (None, known):
        return known, (
            f"{card} = {system!r} contradicts {name}, which is {str(stated).upper()}; fix header.time.scale of the "
            "profile, or empty header.time_scale where the card is wrong"
        )
    return known or stated or "utc", None


def _no_time(camera: Camera, unread: list[tuple[tuple[str, ...], str]]) -> str:
    """Return why no card gives the time: all are missing, or their values are not times."""
    if unread:
        reasons = ", ".join(text for _, text in unread[:_MOST_SHOWN])
        return f"the time cannot be read ({reasons}); correct the header or fix header.time of the profile"
    tried = "; ".join(" + ".join(way.cards) for way in camera.header.time) or "no cards"
    return f"no card gives the time (looked at {tried}); add the right one to header.time of the profile"


def _spread_s(starts: list[tuple[str, float]]) -> float:
    times = [mjd for _, mjd in starts]
    return (max(times) - min(times)) * SECONDS_PER_DAY


def _refuse(reading: HeaderReading, reason: Reason, source: str, note: str, unread: bool = False) -> None:
    verdict = "wrong" if unread else _VERDICTS[reason]
    reading.readings.append(Reading("mjd_start", None, source, verdict, note))
    reading.fail(reason, note)


def _accept(reading: HeaderReading, source: str, start: float, readings: _ClockReadings) -> None:
    reading.time_source = source[:MAX_NAME]
    half = 0.5 * reading.exposure_s / SECONDS_PER_DAY
    reading.mjd_start, reading.mjd_mid, reading.mjd_end = start, start + half, start + 2 * half
    notes = (
        [f"{', '.join(readings.refused)}: no time between 1900 and 2100, left out"]
        if readings.refused
        else []
    )
    # A day alone is not a time, but part of one if a card of its own has the clock.
    used = {name for cards, _ in readings.starts for name in cards.split()}
    odd = [text for names, text in readings.unread if not used & set(names)]
    if odd:
        notes.append(f"{', '.join(odd[:_MOST_SHOWN])} and is left out; correct the header or fix header.time")
    ahead = start - now_mjd()
    if ahead > _AHEAD_DAYS:
        notes.append(_to_come(source, start, ahead))
        reading.doubt(Doubt("mjd_start", ((source, iso_of_mjd(start)[:19]),), source, notes[-1]))
    verdict: Verdict = "ambiguous" if odd or ahead > _AHEAD_DAYS else "ok"
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

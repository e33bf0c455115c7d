"""Convert clock times of headers to Modified Julian Dates and back."""

from __future__ import annotations

import math
import re
import time
import warnings
from datetime import date, datetime, timedelta

from skylake.core.camera import Scale, TimeCards

SECONDS_PER_DAY = 86400.0
_MJD_ZERO = date(1858, 11, 17)
#: Observations are from the years 1900 to 2100: MJD of their first days.
EARLIEST_MJD, LATEST_MJD = 15020.0, 88069.0
_HMS = r"(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d*)?))?(?P<zone>Z|[+-](?:0\d|1[0-4])(?::?[0-5]\d)?)?"
_ISO = re.compile(rf"\s*(?P<year>\d{{4}})-(?P<month>\d\d?)-(?P<day>\d\d?)(?:[T ]{_HMS})?\s*\Z")
#: The form of FITS dates before 1999, always of the twentieth century.
_OLD = re.compile(r"\s*(?P<day>\d\d)/(?P<month>\d\d)/(?P<year>\d\d)\s*\Z")
_CLOCK = re.compile(rf"\s*{_HMS}\s*\Z")
#: Values of TIMESYS, by Rots et al. (2015, A&A 574, A36), without the realization in brackets. UT1 and GMT
#: are within a second of UTC, TDB within 2 ms of TT.
_SCALES: dict[str, Scale] = {
    **dict.fromkeys(("UTC", "UT", "UT1", "GMT"), "utc"),
    **dict.fromkeys(("TAI", "IAT"), "tai"),
    **dict.fromkeys(("TT", "TDT", "ET", "TDB"), "tt"),
}


def calendar_mjd(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: float = 0.0
) -> float | None:
    """Return the MJD of a calendar date and clock; None if there is no such date or clock."""
    if not (0 <= hour <= 24 and 0 <= minute < 60 and 0 <= second < 61):
        return None
    try:
        days = (date(year, month, day) - _MJD_ZERO).days
    except ValueError:
        return None
    return days + (hour * 3600 + minute * 60 + second) / SECONDS_PER_DAY


def scale_of(name: str) -> Scale | None:
    """Return the scale that a value of TIMESYS names; None for those that cannot be turned to UTC."""
    return _SCALES.get(name.partition("(")[0].strip().upper())


def parse_time(cards: TimeCards, values: list[object], scale: Scale = "utc") -> float | None:
    """Return the MJD (UTC) that header values give, or None if they are no time.

    Parameters
    ----------
    cards : TimeCards
        Format and zone of the clock. An offset in the text, such as Z or +02:00, goes before the zone.
    values : list
        The values of the cards, in the order of ``cards.cards``.
    scale : str
        ``utc``, ``tai`` or ``tt``.
    """
    local = _iso(values) if cards.format == "iso" else _number(cards.format, values[0])
    if local is None:
        return None
    offset = offset_hours(cards, values)
    return _utc(local - (cards.zone_hours if offset is None else offset) / 24.0, scale)


def offset_hours(cards: TimeCards, values: list[object]) -> float | None:
    """Return the offset from UTC that the text of a time states itself, hours; None if it states none."""
    match = _clock(values) if cards.format == "iso" else None
    zone = match["zone"] if match else None
    if zone is None:
        return None
    if zone == "Z":
        return 0.0
    hours = int(zone[1:3]) + int(zone[3:].lstrip(":") or 0) / 60.0
    return -hours if zone[0] == "-" else hours


def lone_times(cards: TimeCards, values: list[object], scale: Scale = "utc") -> list[float]:
    """Return the MJD (UTC) of each of a date and a clock that is a time by itself; empty for most.

    Midnight beside the date stands for no clock.
    """
    if cards.format != "iso" or len(values) < 2:
        return []
    times = [parse_time(cards, [value], scale) for value in values]
    clock = _ISO.match(str(values[0]))
    if clock is not None and not any(float(clock[part] or 0.0) for part in ("hour", "minute", "second")):
        times[0] = None
    return [mjd for mjd in times if mjd is not None]


def _clock(values: list[object]) -> re.Match[str] | None:
    """Return the time of day that the last of the values gives."""
    return (_CLOCK.match(str(values[1])) if len(values) > 1 else None) or _ISO.match(str(values[-1]))


def _iso(values: list[object]) -> float | None:
    day = _ISO.match(str(values[0])) or _OLD.match(str(values[0]))
    clock = _clock(values)
    if day is None or clock is None or clock["hour"] is None:
        return None
    year = int(day["year"]) + (1900 if len(day["year"]) == 2 else 0)
    second = float(clock["second"] or 0.0)
    return calendar_mjd(
        year, int(day["month"]), int(day["day"]), int(clock["hour"]), int(clock["minute"]), second
    )


def _number(form: str, value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    mjd = {"mjd": number, "jd": number - 2400000.5, "unix": number / SECONDS_PER_DAY + 40587.0}[form]
    return mjd if math.isfinite(mjd) else None


def _utc(mjd: float, scale: str) -> float:
    if scale == "utc" or not is_plausible(mjd):
        return mjd
    import erfa

    tai = mjd - 32.184 / SECONDS_PER_DAY if scale == "tt" else mjd
    with warnings.catch_warnings():
        # Before 1960 there was no UTC, and leap seconds are known for some years ahead only.
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        first, second = erfa.taiutc(2400000.5, tai)
    return float((first - 2400000.5) + second)


def now_mjd() -> float:
    """Return the MJD (UTC) that the clock of this machine shows."""
    return time.time() / SECONDS_PER_DAY + 40587.0


def is_plausible(mjd: float) -> bool:
    """Return whether a frame can be of that time."""
    return EARLIEST_MJD <= mjd < LATEST_MJD


def iso_of_mjd(mjd: float, zone_hours: float = 0.0) -> str:
    """Return the ISO 8601 text, to the millisecond, that a clock of the zone shows."""
    milliseconds = round((mjd + zone_hours / 24.0) * SECONDS_PER_DAY * 1000.0)
    shown = datetime(1858, 11, 17) + timedelta(milliseconds=milliseconds)
    return shown.isoformat(timespec="milliseconds")

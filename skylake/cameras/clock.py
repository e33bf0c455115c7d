"""Clock readings of headers to Modified Julian Dates and back."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

from skylake.core.camera import TimeCards

SECONDS_PER_DAY = 86400.0
_MJD_ZERO = date(1858, 11, 17)
_ISO = re.compile(
    r"\s*(?P<year>\d{4})-(?P<month>\d\d?)-(?P<day>\d\d?)"
    r"(?:[T ](?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d*)?))?Z?)?\s*\Z"
)
#: The form of FITS dates before 1999, always of the twentieth century.
_OLD = re.compile(r"\s*(?P<day>\d\d)/(?P<month>\d\d)/(?P<year>\d\d)\s*\Z")
_CLOCK = re.compile(r"\s*(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d*)?))?\s*\Z")


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


def parse_time(cards: TimeCards, values: list[object]) -> float | None:
    """Return the MJD (UTC) that header values tell, or None if they do not tell a time.

    Parameters
    ----------
    cards : TimeCards
        Format, scale and zone of the clock.
    values : list
        The values of the cards, in the order of ``cards.cards``.
    """
    local = _iso(values) if cards.format == "iso" else _number(cards.format, values[0])
    if local is None:
        return None
    return _utc(local - cards.zone_hours / 24.0, cards.scale)


def _iso(values: list[object]) -> float | None:
    day = _ISO.match(str(values[0])) or _OLD.match(str(values[0]))
    if day is None:
        return None
    parts = day.groupdict()
    year = int(parts["year"]) + (1900 if len(parts["year"]) == 2 else 0)
    if len(values) > 1:
        clock = _CLOCK.match(str(values[1])) or _ISO.match(str(values[1]))
        parts = clock.groupdict() if clock else {}
    if parts.get("hour") is None:
        return None
    second = float(parts["second"] or 0.0)
    return calendar_mjd(
        year, int(day["month"]), int(day["day"]), int(parts["hour"]), int(parts["minute"]), second
    )


def _number(form: str, value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    mjd = {"mjd": number, "jd": number - 2400000.5, "unix": number / SECONDS_PER_DAY + 40587.0}[form]
    # Years 1858 to 2132: anything else is a placeholder or another quantity.
    return mjd if 0.0 < mjd < 1e5 else None


def _utc(mjd: float, scale: str) -> float:
    if scale == "utc":
        return mjd
    import erfa

    tai = mjd - 32.184 / SECONDS_PER_DAY if scale == "tt" else mjd
    first, second = erfa.taiutc(2400000.5, tai)
    return float((first - 2400000.5) + second)


def iso_of_mjd(mjd: float, zone_hours: float = 0.0) -> str:
    """Return the ISO 8601 text, to the millisecond, that a clock of the zone shows."""
    milliseconds = round((mjd + zone_hours / 24.0) * SECONDS_PER_DAY * 1000.0)
    shown = datetime(1858, 11, 17) + timedelta(milliseconds=milliseconds)
    return shown.isoformat(timespec="milliseconds")

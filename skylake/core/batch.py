"""The unit of work and of commit: one night of one camera."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date

#: Night of frames whose time is unknown. They still need a row, and a row needs a night.
UNDATED = 0

_MJD_OF_ORDINAL_ZERO = date(1858, 11, 17).toordinal()
#: Names become names of files, with more words before and behind.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")


@dataclass(frozen=True, slots=True, order=True)
class Batch:
    """One night of one camera.

    Attributes
    ----------
    camera : str
        Name of the camera.
    night : int
        YYYYMMDD of the local evening, or 0 for frames without a time.
    """

    camera: str
    night: int

    def __str__(self) -> str:
        return f"{self.camera}-{self.night:08d}"


def night_of(mjd_utc: float, longitude_deg: float | None) -> int:
    """Return the observing night as YYYYMMDD of the local evening.

    A night runs from local noon to local noon, by the mean solar time of the site's longitude.

    Parameters
    ----------
    mjd_utc : float
        Modified Julian Date, UTC.
    longitude_deg : float or None
        Longitude of the site, degrees, east positive, whether to 180 or to 360; None takes noon UTC.
    """
    local = mjd_utc + _ahead_of_utc(longitude_deg)
    evening = date.fromordinal(math.floor(local - 0.5) + _MJD_OF_ORDINAL_ZERO)
    return evening.year * 10000 + evening.month * 100 + evening.day


def night_span(night: int, longitude_deg: float | None) -> tuple[float, float]:
    """Return the first and last instant of a night as Modified Julian Dates, UTC."""
    noon = _evening(night).toordinal() - _MJD_OF_ORDINAL_ZERO + 0.5
    start = noon - _ahead_of_utc(longitude_deg)
    return start, start + 1.0


def days_between(first: int, second: int) -> int:
    """Return how many days one night is after another, both as YYYYMMDD."""
    return _evening(second).toordinal() - _evening(first).toordinal()


def _evening(night: int) -> date:
    return date(night // 10000, night // 100 % 100, night % 100)


def _ahead_of_utc(longitude_deg: float | None) -> float:
    """Return mean solar time minus UTC, days; the date line is at 180 degrees, so 342 is 18 west."""
    return math.remainder(longitude_deg or 0.0, 360.0) / 360.0


def is_plain_name(name: str) -> bool:
    """Return whether a name of a camera or catalog is safe as a name of files and SQL tables."""
    return bool(_NAME.match(name))

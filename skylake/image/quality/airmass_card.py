"""The airmass that a header states against the one that site, time and pointing give: a wrong site shows so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from skylake.cameras import HeaderReading
from skylake.cameras.header_values import read_text
from skylake.core.camera import Site
from skylake.core.doubts import Doubt
from skylake.core.ephemeris import airmass, alt_az
from skylake.core.frame_row import FrameRow

_CARD = "AIRMASS"
#: Others are placeholders, as 0, -1 and 99.99.
_LEAST, _LARGEST = 0.99, 30.0
#: Cards hold the airmass of the telescope, at the start or the end; formulas differ below 10 degrees. What differs by
#: less than this part, or by fewer degrees of altitude, agrees.
_TOLERANCE, _TOLERANCE_DEG = 0.1, 5.0


def airmass_doubts(header: Mapping[str, object], row: FrameRow, reading: HeaderReading) -> tuple[Doubt, ...]:
    """Return the doubt about site or time of a frame whose header states another airmass; else none.

    Parameters
    ----------
    header : mapping
    row : FrameRow
        With time and pointing, if they are known.
    reading : HeaderReading
        To which the doubt is added; its camera has a site. The whole sky has no airmass.
    """
    camera = reading.camera
    ra, dec, mjd = row.get("ra_deg"), row.get("dec_deg"), row.get("mjd_mid")
    stated = _stated(header)
    if stated is None or ra is None or dec is None or mjd is None or not camera.site.known:
        return ()
    if camera.astrometry.all_sky:
        return ()

    def altitude_at(site: Site) -> float:
        return float(alt_az(ra, dec, mjd, site)[0])

    altitude = altitude_at(camera.site)
    if _agrees(stated, altitude):
        return ()
    computed = f"{float(airmass(altitude)):.2f}" if altitude > 0.0 else "below the horizon"
    given = f"{altitude:.0f} degrees of altitude" if altitude > 0.0 else f"{-altitude:.0f} degrees under it"
    sentence = (
        f"{_CARD} = {stated:g} contradicts site and time, which give {computed} ({given}) and are used; see "
        f"[site] and header.time of the profile{_fix(stated, camera.site, altitude_at)}, or correct the card"
    )
    values = ((_CARD, f"{stated:g}"), ("site and time", computed))
    reading.doubt(Doubt("airmass", values, "site and time", sentence))
    return (reading.doubts[-1],)


def _stated(header: Mapping[str, object]) -> float | None:
    """Return the airmass of a header; None for a placeholder."""
    try:
        value = float(read_text(header, _CARD) or "nan")
    except ValueError:
        return None
    return value if _LEAST <= value <= _LARGEST else None


def _agrees(stated: float, altitude_deg: float) -> bool:
    apart = abs(math.degrees(math.asin(min(1.0, 1.0 / stated))) - altitude_deg)
    if apart <= _TOLERANCE_DEG:
        return True
    return altitude_deg > 0.0 and abs(stated / float(airmass(altitude_deg)) - 1.0) <= _TOLERANCE


def _fix(stated: float, site: Site, altitude_at: Callable[[Site], float]) -> str:
    """Return which sign of the site would make both agree, as a part of a sentence; empty if none would."""
    longitude, latitude = site.longitude_deg or 0.0, site.latitude_deg or 0.0
    for key, value, other in (
        ("longitude_deg", -longitude, replace(site, longitude_deg=-longitude)),
        ("latitude_deg", -latitude, replace(site, latitude_deg=-latitude)),
    ):
        if _agrees(stated, altitude_at(other)):
            return f" ({key} = {value:g} would agree)"
    return ""

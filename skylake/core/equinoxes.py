"""Equinoxes of coordinates in headers, as rotations from the ICRS."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import erfa
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_MJD_ZERO = 2400000.5
#: Years outside are no equinoxes of anything that was observed with an electronic detector.
_FIRST_YEAR, _LAST_YEAR = 1850.0, 2150.0
_YEAR = re.compile(r"\s*([JB]?)\s*(\d{4}(?:\.\d*)?)\s*\Z", re.IGNORECASE)
#: Systems of the equator of the date: mean or apparent places of FITS (Calabretta & Greisen 2002, A&A 395, 1077).
_OF_DATE = {"GAPPT", "APPARENT", "DATE", "TOPOCENTRIC", "CURRENT", "JNOW"}


def equinox_of(header: Mapping[str, Any]) -> str:
    """Return what coordinates of a header refer to: ``icrs``, ``date``, or a year such as ``J2000`` and ``B1950``.

    ``RADESYS`` (or ``RADECSYS``) gives it with ``EQUINOX`` (or ``EPOCH``); the usual equinox of FK4 is B1950, that of
    FK5 J2000. A header that says nothing that is understood means the ICRS.
    """
    system = str(header.get("RADESYS") or header.get("RADECSYS") or "").strip().upper()
    if system == "ICRS":
        return "icrs"
    if system in _OF_DATE:
        return "date"
    for card in ("EQUINOX", "EPOCH"):
        text = str(header.get(card, "")).strip().upper()
        if text in _OF_DATE:
            return "date"
        year = _YEAR.match(text)
        if year is not None and card == "EPOCH" and not (year[1] or float(year[2]) % 50.0 == 0.0):
            # Others of that name are dates of observation.
            continue
        if year is not None and _FIRST_YEAR <= float(year[2]) <= _LAST_YEAR:
            # Years before 1984 are Besselian (FITS standard 4.0, section 8.3).
            old = system.startswith("FK4") or float(year[2]) < 1984.0
            return f"{year[1].upper() or ('B' if old else 'J')}{float(year[2]):g}"
    return {"FK4": "B1950", "FK4-NO-E": "B1950", "FK5": "J2000"}.get(system, "icrs")


def equator(equinox: str, mjd_utc: float | None = None) -> Floats:
    """Return the rotation from the ICRS to an equator and equinox, shape (3, 3).

    Precession is that of IAU 2006; for an equinox of the date nutation is with it. The terms of aberration in FK4, and
    the aberration of apparent places (20 arcsec), are left out.

    Parameters
    ----------
    equinox : str
        As :func:`equinox_of` gives it.
    mjd_utc : float or None
        Of the frame, for ``date``; without it the ICRS is taken.

    Raises
    ------
    ValueError
        If it is no equinox.
    """
    if equinox == "icrs" or (equinox == "date" and (mjd_utc is None or not math.isfinite(mjd_utc))):
        return np.eye(3)
    if equinox == "date":
        return np.asarray(erfa.pnm06a(_MJD_ZERO, mjd_utc))
    year = _YEAR.match(equinox)
    if year is None:
        raise ValueError(f"{equinox!r} is no equinox")
    days = erfa.epb2jd(float(year[2])) if year[1].upper() == "B" else erfa.epj2jd(float(year[2]))
    return np.asarray(erfa.pmat06(*days))

"""Positions as observers write them: degrees, or hours, minutes and seconds."""

from __future__ import annotations

import re

from skylake.errors import StarError

_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_DECIMAL = re.compile(rf"[+-]?(?:{_NUMBER})\Z")
_COLONS = re.compile(rf"([+-]?)(\d+):(\d+)(?::({_NUMBER}))?\Z")
_LETTERS = re.compile(rf"([+-]?)(\d+)(h|d|°)(?:(\d+)[m'])?(?:({_NUMBER})(?:s|\"|''))?\Z")
#: Degrees of an hour of right ascension.
_HOUR = 15.0


def position_of(text: str) -> tuple[float, float] | None:
    """Return the position that a text gives, or None for a text that is no position.

    Parameters
    ----------
    text : str
        Right ascension and declination, separated by blanks or a comma: ``188.7362 -1.3958``,
        ``12:34:56.7 -01:23:45``, ``12h34m56.7s -1d23m45s`` or ``12 34 56.7 -01 23 45``. Parts of a right ascension
        are hours unless marked ``d``; decimal numbers are degrees.

    Returns
    -------
    tuple of float or None
        Right ascension from 0 to 360 and declination, degrees.

    Raises
    ------
    StarError
        If it is a position, but not one of the sky.
    """
    words = text.replace(",", " ").replace("\N{MINUS SIGN}", "-").split()
    if len(words) in (4, 6) and all(map(_DECIMAL.match, words)):
        half = len(words) // 2
        words = [":".join(words[:half]), ":".join(words[half:])]
    if len(words) != 2:
        return None
    ra, dec = _angle(words[0], _HOUR), _angle(words[1], 1.0)
    if ra is None or dec is None:
        return None
    if not (-180.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        raise StarError(
            f"{text}: there is no such position; write right ascension and declination in degrees, as in 188.7362 "
            "-1.3958, or as 12:34:56.7 -01:23:45"
        )
    return ra % 360.0, dec


def begins_position(word: str) -> bool:
    """Return whether a word can only be the first half of a position: a plain integer may be a star."""
    return not word.isdigit() and _angle(word, _HOUR) is not None


def _angle(word: str, per_part: float) -> float | None:
    """Return an angle in degrees; `per_part` is the unit of parts that are separated by colons."""
    if _DECIMAL.match(word):
        return float(word)
    found = _COLONS.match(word)
    if found is not None:
        sign, first, minutes, seconds = found.groups()
    else:
        marked = _LETTERS.match(word.lower())
        if marked is None:
            return None
        sign, first, unit, minutes, seconds = marked.groups()
        per_part = _HOUR if unit == "h" else 1.0
    parts = float(minutes or 0), float(seconds or 0)
    if max(parts) >= 60.0:
        raise StarError(f"{word}: minutes and seconds are below 60; correct them")
    angle = (float(first) + parts[0] / 60.0 + parts[1] / 3600.0) * per_part
    return -angle if sign == "-" else angle

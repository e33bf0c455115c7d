"""Recognise calibration frames whose header does not give their kind."""

from __future__ import annotations

import re
from pathlib import PurePath

from skylake.cameras.frame_kinds import CalibrationKind, calibration_kind
from skylake.cameras.header_values import Cards, HeaderReading, read_text

#: Cards that usually give the kind of a frame.
_KIND_CARDS = ("OBSTYPE", "IMAGETYP", "FRAMETYP", "FRAME", "CCDTYPE", "IMGTYPE")
#: Words next to the kind in the name of a target or a file; names of stars and nebulae have other words.
_BESIDE = {"frame", "field", "sky", "dome", "master", "twilight", "light", "test", ""}
_WORDS = re.compile(r"[a-z]+")


def suspected_kind(cards: Cards, reading: HeaderReading, file_name: str) -> str | None:
    """Return what makes a frame that is taken for one of the sky look like a calibration frame; None if nothing does.

    Parameters
    ----------
    cards : mapping
    reading : HeaderReading
        What the header says under a profile.
    file_name : str
        Name of the file, without its folders.

    Returns
    -------
    str or None
        A sentence that says how to fix it.
    """
    header = reading.camera.header
    if reading.kind is not None:
        return None
    for name in _KIND_CARDS:
        text = read_text(cards, name)
        kind = calibration_kind(text, header)
        if kind is not None and name not in header.kind:
            advice = f"name {name} in header.kind of {reading.profile}"
            return _sentence(kind, f"{name} = {text!r}", advice)
    advice = f"leave it out, or name the card that gives its kind in header.kind of {reading.profile}"
    for name in header.object:
        text = read_text(cards, name)
        kind = _only_kind(text or "", reading)
        if kind is not None:
            return _sentence(kind, f"{name} = {text!r}", advice)
    kind = _only_kind(re.sub(r"\.fit.*", "", PurePath(file_name).name, flags=re.IGNORECASE), reading)
    if kind is not None:
        return _sentence(kind, "by the name of its file", advice)
    zero = next((name for name in header.exposure.cards if _is_zero(cards, name)), None)
    return None if zero is None else _sentence("bias", f"{zero} = 0", advice)


def _sentence(kind: CalibrationKind, why: str, advice: str) -> str:
    return f"the frame looks like a {kind} ({why}), and is taken for one of the sky: {advice}"


def _only_kind(text: str, reading: HeaderReading) -> CalibrationKind | None:
    """Return the kind that a text names, if it has only numbers otherwise."""
    words = _WORDS.findall(text.lower())
    kinds = {kind for word in words if (kind := calibration_kind(word, reading.camera.header)) is not None}
    others = [
        word for word in words if len(word) > 1 and calibration_kind(word, reading.camera.header) is None
    ]
    if len(kinds) != 1 or not set(others) <= _BESIDE | set(reading.camera.name.lower().split("-")):
        return None
    return kinds.pop()


def _is_zero(cards: Cards, name: str) -> bool:
    try:
        return float(read_text(cards, name) or "nan") == 0.0
    except ValueError:
        return False

"""The kind, binning and readout of a frame from its header, as its profile defines them."""

from __future__ import annotations

import re
from typing import Literal

from skylake.cameras.header_values import MAX_TITLE, Cards, cut, read_text
from skylake.core.camera import HeaderDialect

CalibrationKind = Literal["bias", "dark", "flat"]

#: A dark of the flats is called both, and is a dark.
_ORDER: tuple[CalibrationKind, ...] = ("bias", "dark", "flat")
_MAX_BINNING = 64


def calibration_kind(text: str | None, header: HeaderDialect) -> CalibrationKind | None:
    """Return which master a frame is for by the text of its kind card; None for a frame of the sky.

    A whole value of ``science_kinds`` counts more than a word in it.
    """
    stated = (text or "").strip().lower()
    names = {"bias": header.bias_kinds, "dark": header.dark_kinds, "flat": header.flat_kinds}
    for kind in _ORDER:
        if stated in names[kind]:
            return kind
    if stated in (value.lower() for value in header.science_kinds):
        return None
    words = set(re.findall(r"[a-z0-9]+", stated))
    for kind in _ORDER:
        if words & set(names[kind]):
            return kind
    return None


def read_binning(cards: Cards, header: HeaderDialect) -> str:
    """Return the binning as ``columns x rows``, such as ``2x2``; ``1x1`` where no card gives it."""
    numbers: list[int] = []
    for name in header.binning:
        text = read_text(cards, name) or ""
        numbers += [int(float(number)) for number in re.findall(r"\d+(?:\.0*)?", text)]
    usable = [number for number in numbers if 1 <= number <= _MAX_BINNING]
    if not usable:
        return "1x1"
    return f"{usable[0]}x{usable[1] if len(usable) > 1 else usable[0]}"


def read_readout(cards: Cards, header: HeaderDialect) -> str | None:
    """Return how the detector was read out, such as ``OFFSET=10; READOUTM=fast``; None where no card gives it.

    Equal numbers are written alike, and neither case nor the number of blanks makes a difference.
    """
    values = [(name, read_text(cards, name)) for name in header.readout]
    return (
        cut("; ".join(f"{name}={_plain(text)}" for name, text in values if text is not None), MAX_TITLE)[0]
        or None
    )


def _plain(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return " ".join(text.lower().split())

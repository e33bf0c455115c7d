"""The length of an exposure, from all exposure cards of its header."""

from __future__ import annotations

import re
from statistics import fmean

from skylake.cameras.header_values import (
    MAX_SHOWN,
    Cards,
    HeaderReading,
    Numbers,
    Reading,
    Verdict,
    read_numbers,
    read_text,
    shown,
    stated,
)
from skylake.core.camera import ValueCards
from skylake.core.doubts import Doubt
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason

#: Two exposure cards that differ by more than this fraction are ambiguous.
_TOLERANCE = 0.01
#: An exposure shorter than a microsecond, and not 0, is damage.
_SHORTEST_S = 1e-6
#: Most exposures are within this range; for others the unit of the card may be wrong.
_USUAL_S = (0.02, 3600.0)
#: If the card is taken to be in a smaller unit than seconds, half a minute of seconds comes out short.
_USUAL_SCALED_S = 0.5
#: Units that cards have, as scales.
_LADDER = {
    1e-6: "microseconds",
    1e-3: "milliseconds",
    1.0: "seconds",
    60.0: "minutes",
    3600.0: "hours",
}
#: Units that comments of cards state: in brackets, as the FITS standard 4.0 (section 4.3.2) asks, or in words.
_SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "msec": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
}
_WORDS = {"microsecond": "us", "millisecond": "ms", "second": "s", "minute": "min", "hour": "h"}
_IN_BRACKETS = re.compile(r"[\[(]\s*(us|msec|ms|sec|s|min|hr|h)\s*[\])]", re.IGNORECASE)
_IN_WORDS = re.compile(rf"\b({'|'.join(_WORDS)})s?\b", re.IGNORECASE)


def read_exposure(reading: HeaderReading, cards: Cards) -> None:
    """Read the exposure of a frame, seconds; an impossible one fails the frame, an unknown one is assumed."""
    wanted = reading.camera.header.exposure
    numbers = read_numbers(cards, wanted, "exposure_s")
    broken = numbers.high + [card for card in numbers.usable if 0.0 < card[1] < _SHORTEST_S]
    usable = [card for card in numbers.usable if card not in broken]
    values = [value for _, value in usable]
    source = " ".join(name for name, _ in usable)
    other_unit = next(
        (text for name, _ in usable + broken if (text := _other_unit(name, cards, wanted))), None
    )
    disagree = wanted.combine == "first" and values and max(values) - min(values) > _TOLERANCE * max(values)
    if other_unit is not None:
        _contradict(reading, source, *other_unit)
    elif numbers.contradicted or disagree:
        _contradict(reading, source, *_disagreeing(numbers.contradicted or usable))
    elif broken and not usable:
        name, value = broken[0]
        note = (
            f"{name} = {value:g} s is no exposure of up to {numbers.limits[1]:g} s; correct the header or fix "
            "header.exposure of the profile"
        )
        reading.readings.append(Reading("exposure_s", None, name, "wrong", note))
        reading.fail(Reason.BAD_HEADER, note)
    elif not wanted.cards:
        _assume(reading, "profile", "header.exposure.cards = [] says that no card gives it: 1 s", "ok")
    elif not usable:
        _assume(reading, "profile", _why_none(cards, wanted, numbers))
    elif (exposure := fmean(values) if wanted.combine == "mean" else values[0]) == 0.0:
        _assume(reading, source, f"{usable[0][0]} says 0; 1 s is assumed")
    else:
        reading.exposure_s = exposure
        used = source if wanted.combine == "mean" else usable[0][0]
        unusual = _unusual(used, exposure, wanted.scale)
        if unusual and not _allowed(exposure, wanted):
            limit = "maximum" if exposure > _USUAL_S[1] else "minimum"
            sentence = (
                f"an exposure of {exposure:g} s is {unusual}; if it is right, set header.exposure.{limit} of the "
                "profile"
            )
            reading.doubt(Doubt("exposure_s", ((used, f"{exposure:g} s"),), used, sentence))
        notes = [numbers.refusal, _unread(cards, wanted), unusual]
        reading.readings.append(Reading("exposure_s", exposure, used, "ok", "; ".join(filter(None, notes))))


def _other_unit(
    name: str, cards: Cards, wanted: ValueCards
) -> tuple[tuple[tuple[str, str], ...], str] | None:
    """Return what is stated, and a sentence, if the comment of a card has another unit than the profile; else None."""
    comments = getattr(cards, "comments", None)
    text = "" if comments is None else str(comments[name])
    units = {one.lower() for one in _IN_BRACKETS.findall(text)} or {
        _WORDS[one.lower()] for one in _IN_WORDS.findall(text)
    }
    if len(units) != 1:
        return None
    (unit,) = units
    scale = _SECONDS[unit]
    if abs(scale / wanted.scale - 1.0) < _TOLERANCE:
        return None
    return ((name, unit), ("profile", f"{wanted.scale:g}")), (
        f"{name} is in {unit} by its comment ({text.strip()[:MAX_SHOWN]!r}), and header.exposure.scale of the "
        f"profile is {wanted.scale:g}; give scale = {scale:g} there, or correct the comment of the card"
    )


def _why_none(cards: Cards, wanted: ValueCards, numbers: Numbers) -> str:
    """Return why no card gives an exposure: the values of the present cards, or the names that were tried."""
    reason = "; ".join(filter(None, [numbers.refusal, _unread(cards, wanted)]))
    reason = reason or f"none of {', '.join(wanted.cards)} holds a number of seconds"
    return f"{reason}; 1 s is assumed"


def _unread(cards: Cards, wanted: ValueCards) -> str:
    """Return which cards hold no number, as text; empty if all do."""
    sentences = []
    for name in wanted.cards:
        text = read_text(cards, name)
        try:
            float(text or 0.0)
        except ValueError:
            sentences.append(f"{name} = {str(text)[:MAX_SHOWN]!r} is no number and is left out")
    return "; ".join(sentences)


def _unusual(name: str, exposure_s: float, scale: float) -> str:
    """Return the remark on an exposure that few frames have, with the unit that would make it usual; else nothing."""
    low, high = _USUAL_S
    low = max(low, _USUAL_SCALED_S) if scale < 1.0 else low
    if low <= exposure_s <= high:
        return ""
    smaller = [one for one in _LADDER if one < scale * (1.0 - _TOLERANCE)]
    larger = [one for one in _LADDER if one > scale * (1.0 + _TOLERANCE)]
    # Minutes and hours are as likely as each other where seconds are too short; next to others it is the next unit.
    others = smaller[-1:] if exposure_s > high else larger[: 2 if scale == 1.0 else 1]
    if not others:
        return f"unusual; see whether header.exposure.scale = {scale:g} of the profile is right"
    units, scales = (
        " or ".join(_LADDER[other] for other in others),
        " or ".join(f"{other:g}" for other in others),
    )
    now = "" if scale == 1.0 else f" instead of {scale:g}"
    return f"unusual; if {name} is in {units}, header.exposure.scale = {scales}{now} in the profile says so"


def _allowed(exposure_s: float, wanted: ValueCards) -> bool:
    """Return whether a profile sets a limit of its own on the side of an unusual exposure, which has passed it."""
    return bool(wanted.minimum) if exposure_s < _USUAL_S[1] else wanted.maximum is not None


def _disagreeing(numbers: list[tuple[str, float]]) -> tuple[tuple[tuple[str, str], ...], str]:
    """Return what cards of different exposures state, and the problem."""
    names = list(dict.fromkeys(name for name, _ in numbers))
    fix = (
        "name the right one in header.exposure.cards"
        if len(names) > 1
        else f"delete the wrong card {names[0]}"
    )
    return stated(numbers), f"exposure: the cards disagree ({shown(numbers)}); {fix}"


def _contradict(
    reading: HeaderReading, source: str, told: tuple[tuple[str, str], ...], sentence: str
) -> None:
    reading.readings.append(Reading("exposure_s", None, source, "ambiguous", sentence))
    reading.doubt(Doubt("exposure_s", told, "", sentence, Reason.AMBIGUOUS_HEADER))


def _assume(reading: HeaderReading, source: str, note: str, verdict: Verdict = "assumed") -> None:
    reading.flags |= FrameFlag.EXPOSURE_ASSUMED
    reading.readings.append(Reading("exposure_s", 1.0, source, verdict, note))

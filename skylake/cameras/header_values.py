"""The result of reading a header, and functions for the texts and numbers of its cards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal, cast

from skylake.core.camera import Camera, ValueCards
from skylake.core.doubts import Doubt
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason

Verdict = Literal["ok", "assumed", "missing", "ambiguous", "wrong"]
Cards = Mapping[str, object]

#: Longest name of a filter or a kind of frame.
MAX_NAME = 64
#: Longest name of a target.
MAX_TITLE = 256
#: Characters of a card's text that a sentence shows.
MAX_SHOWN = 40
#: Numbers that two cards of one name may differ by and mean the same: a fraction, and for temperatures degrees.
_SAME_FRACTION, _SAME_DEGREES = 0.01, 0.5
#: Limits that no camera exceeds, used without limits in the profile: a day, a sensor with 8-bit wells, an infrared
#: array … Software for CMOS cameras writes settings such as 139 or 300 into GAIN.
_PLAUSIBLE: dict[str, tuple[float, float]] = {
    "exposure_s": (0.0, 86400.0),
    "gain": (1e-3, 1e2),
    "read_noise": (0.0, 1e4),
    "saturation_adu": (1.0, 1e10),
    "ccd_temperature_c": (-273.15, 200.0),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading one quantity.

    Attributes
    ----------
    quantity : str
        Canonical name, that of the column in ``frames``.
    value : object
        The value, in the unit of that column; None if there is none.
    source : str
        The card or cards, ``profile`` or ``file name``.
    verdict : str
        ``ok``, ``assumed``, ``missing``, ``ambiguous`` or ``wrong``.
    note : str
        What to do about it, if anything.
    """

    quantity: str
    value: object
    source: str
    verdict: Verdict = "ok"
    note: str = ""


@dataclass(slots=True)
class HeaderReading:
    """All that the header of a frame gives under a profile.

    ``problem`` is None for a frame that can be processed, else the reason and sentence under which it
    is filed. Times are MJD, UTC; gain and read noise are those of a raw pixel, and ``header_gain`` is the gain that
    a card says, whatever is taken in its place. ``profile`` is what ``--camera`` takes for the profile that it was
    read under. ``doubts`` are values that the header contradicts itself in, or that hardly any frame has.
    """

    camera: Camera
    mjd_start: float | None = None
    mjd_mid: float | None = None
    mjd_end: float | None = None
    time_source: str | None = None
    exposure_s: float = 1.0
    filter: str | None = None
    band: str | None = None
    object: str | None = None
    kind: str | None = None
    gain: float = 1.0
    header_gain: float | None = None
    readout: str | None = None
    read_noise: float = 0.0
    saturation_adu: float | None = None
    ccd_temperature_c: float | None = None
    flags: FrameFlag = field(default_factory=lambda: FrameFlag(0))
    readings: list[Reading] = field(default_factory=list)
    problem: tuple[Reason, str] | None = None
    profile: str = "the profile"
    doubts: list[Doubt] = field(default_factory=list)

    @property
    def n_averaged(self) -> int:
        """Raw pixels of which a pixel of the reduced image is the mean: two in a plane of both greens, else one."""
        reduction = self.camera.reduction
        return 2 if "bayer" in reduction.steps and reduction.colour == "G" else 1

    @property
    def image_gain(self) -> float:
        """Electrons of all raw pixels of a pixel of the reduced image per its ADU: a mean has fewer ADU than a sum."""
        return self.gain * self.n_averaged

    @property
    def image_read_noise(self) -> float:
        """Read noise of a pixel of the reduced image in these electrons, rms."""
        return self.read_noise * math.sqrt(self.n_averaged)

    @property
    def exposure_known(self) -> bool:
        """Whether the exposure is known or assumed; else ``exposure_s`` is 1 s and says nothing."""
        return all(reading.value is not None for reading in self.readings if reading.quantity == "exposure_s")

    def fail(self, reason: Reason, message: str) -> None:
        """File the frame under a reason, unless an earlier one was found."""
        if self.problem is None:
            self.problem = (reason, message)

    def doubt(self, doubt: Doubt) -> None:
        """Note a doubt, and file the frame under its reason if it has one."""
        self.doubts.append(doubt)
        if doubt.reason is not None:
            self.fail(doubt.reason, doubt.sentence)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of some cards, scaled to our unit: card and value.

    ``low`` and ``high`` are those outside their limits; a number that is not finite is a high one. ``contradicted``
    are those of cards that stand twice in the header with different numbers.
    """

    usable: list[tuple[str, float]]
    low: list[tuple[str, float]]
    high: list[tuple[str, float]]
    limits: tuple[float, float]
    contradicted: list[tuple[str, float]] = field(default_factory=list)

    def pick(self, wanted: ValueCards) -> tuple[float, str] | None:
        """Return the value that counts and its cards; None if there is none."""
        if not self.usable:
            return None
        if wanted.combine == "mean":
            return fmean(value for _, value in self.usable), " ".join(name for name, _ in self.usable)
        return self.usable[0][1], self.usable[0][0]

    @property
    def refusal(self) -> str:
        """Which values are left out, and why; empty if none is."""
        outside = shown(self.low + self.high)
        outside = (
            outside and f"{outside} lies outside {self.limits[0]:g} to {self.limits[1]:g} and is left out"
        )
        twice = shown(self.contradicted)
        twice = twice and f"{twice} contradict each other and are left out"
        return "; ".join(filter(None, [outside, twice]))


def shown(numbers: Iterable[tuple[str, float]]) -> str:
    """Return cards and their numbers as text."""
    return ", ".join(f"{name} = {value:g}" for name, value in numbers)


def stated(numbers: Iterable[tuple[str, float]]) -> tuple[tuple[str, str], ...]:
    """Return cards and their numbers as a doubt states them."""
    return tuple((name, f"{value:g}") for name, value in numbers)


def read_numbers(cards: Cards, wanted: ValueCards, quantity: str) -> Numbers:
    """Return the numbers that the cards of a quantity hold, without texts that are not numbers."""
    low, high = _PLAUSIBLE[quantity]
    low = low if wanted.minimum is None else wanted.minimum
    high = high if wanted.maximum is None else wanted.maximum
    numbers = Numbers([], [], [], (low, high))
    for name in wanted.cards:
        usable: list[tuple[str, float]] = []
        for content in values_of(cards, name):
            try:
                value = float(str(content)) * wanted.scale
            except ValueError:
                continue
            part = usable
            if not math.isfinite(value) or value > high:
                part = numbers.high
            elif value < low:
                part = numbers.low
            part.append((name, value))
        if _are_one([value for _, value in usable], quantity):
            numbers.usable.extend(usable[:1])
        else:
            numbers.contradicted.extend(usable)
    return numbers


def _are_one(values: list[float], quantity: str) -> bool:
    """Return whether the numbers of cards of one name mean the same; so does a single one, or none."""
    if len(values) < 2:
        return True
    tolerance = _SAME_DEGREES if quantity == "ccd_temperature_c" else _SAME_FRACTION * max(map(abs, values))
    return max(values) - min(values) <= tolerance


def values_of(cards: Cards, name: str) -> list[object]:
    """Return the different values of the cards of a name, in their order; empty if there is none.

    Software that appends a card where it should replace one leaves two, and readers take the first or the last. Values
    that are alike but for case, blanks or the form of a number are one. A card without a value says nothing beside one
    that has a value.
    """
    if name not in cards:
        return []
    header = cast("Any", cards)
    # Other mappings than headers hold a name once.
    count = header.count(name) if hasattr(header, "count") else 1
    contents = [header[name]] if count == 1 else [header[name, place] for place in range(count)]
    different = list({_alike(content): content for content in reversed(contents)}.values())[::-1]
    return [content for content in different if content is not None and str(content).strip()] or different


def _alike(content: object) -> object:
    text = " ".join(str(content).lower().split())
    try:
        return float(text)
    except ValueError:
        return text


def read_text(cards: Cards, name: str) -> str | None:
    """Return the text of a card without blanks around it; None if there is none."""
    value = next(iter(values_of(cards, name)), None)
    text = str(value).strip() if value is not None else ""
    return text or None


def cut(text: str, length: int) -> tuple[str, str]:
    """Return the beginning of a text, and a note if that is not all of it."""
    if len(text) <= length:
        return text, ""
    return text[:length].rstrip(), f"the text has {len(text)} characters, of which {length} are kept"

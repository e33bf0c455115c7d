"""Header cards to canonical values, each with the card it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from skylake.cameras.clock import SECONDS_PER_DAY, calendar_mjd, parse_time
from skylake.cameras.profile import Profile
from skylake.core.camera import Camera, TimeCards, ValueCards
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason

Verdict = Literal["ok", "assumed", "missing", "ambiguous", "wrong"]
Cards = Mapping[str, object]

_CALIBRATION_KINDS = re.compile(r"\b(bias|zero|dark|flat|arc|lamp|focus|test|skyflat|domeflat)\b")
#: Two exposure cards that differ by more than this fraction are ambiguous.
_EXPOSURE_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Reading:
    """What one quantity was read as.

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
        What to do about it, if something is to be done.
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
    is filed. Times are MJD, UTC.
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
    read_noise: float = 0.0
    saturation_adu: float | None = None
    ccd_temperature_c: float | None = None
    flags: FrameFlag = field(default_factory=lambda: FrameFlag(0))
    readings: list[Reading] = field(default_factory=list)
    problem: tuple[Reason, str] | None = None

    def fail(self, reason: Reason, message: str) -> None:
        """File the frame under a reason, unless an earlier one was found."""
        if self.problem is None:
            self.problem = (reason, message)


def read_header(cards: Cards, profile: Profile, file_name: str = "") -> HeaderReading:
    """Read a header by the dialect of a profile.

    Parameters
    ----------
    cards : mapping
        Cards by name; an :class:`astropy.io.fits.Header` will do.
    profile : Profile
        The camera. Its dated blocks may change the dialect, so the time is read, the block in force is
        taken, and all is read again under it.
    file_name : str
        Name of the file, for profiles whose file names tell the time.
    """
    first = _read_under(profile.base, cards, file_name)
    camera = profile.at(first.mjd_start)
    return first if camera is profile.base else _read_under(camera, cards, file_name)


def _read_under(camera: Camera, cards: Cards, file_name: str) -> HeaderReading:
    reading = HeaderReading(camera)
    _read_exposure(reading, cards)
    _read_time(reading, cards, file_name)
    _read_kind(reading, cards)
    _read_filter(reading, cards)
    _read_detector(reading, cards)
    return reading


def _text(cards: Cards, name: str) -> str | None:
    value = cards.get(name)
    text = str(value).strip() if value is not None else ""
    return text or None


def _numbers(cards: Cards, wanted: ValueCards) -> list[tuple[str, float]]:
    """Return the cards that hold a usable number, scaled to our unit."""
    found = []
    for name in wanted.cards:
        try:
            value = float(str(cards[name])) * wanted.scale
        except (KeyError, ValueError):
            continue
        if wanted.minimum is not None and not value >= wanted.minimum:
            continue
        if wanted.maximum is not None and not value <= wanted.maximum:
            continue
        if value == value:
            found.append((name, value))
    return found


def _pick(cards: Cards, wanted: ValueCards) -> tuple[float, str] | None:
    found = _numbers(cards, wanted)
    if not found:
        return None
    if wanted.combine == "mean":
        return fmean(value for _, value in found), " ".join(name for name, _ in found)
    return found[0][1], found[0][0]


def _read_exposure(reading: HeaderReading, cards: Cards) -> None:
    wanted = reading.camera.header.exposure
    found = _numbers(cards, wanted)
    values = [value for _, value in found]
    source = " ".join(name for name, _ in found)
    if not found:
        reading.flags |= FrameFlag.EXPOSURE_ASSUMED
        note = f"none of {', '.join(wanted.cards) or 'no cards'} holds a number; 1 s is assumed"
        reading.readings.append(Reading("exposure_s", 1.0, "profile", "assumed", note))
        return
    if wanted.combine == "first" and max(values) - min(values) > _EXPOSURE_TOLERANCE * max(values):
        told = ", ".join(f"{name} = {value:g}" for name, value in found)
        note = f"the cards disagree ({told}); name the right one in header.exposure.cards"
        reading.readings.append(Reading("exposure_s", None, source, "ambiguous", note))
        reading.fail(Reason.AMBIGUOUS_HEADER, f"exposure: {note}")
        return
    reading.exposure_s = fmean(values) if wanted.combine == "mean" else values[0]
    if reading.exposure_s == 0.0:
        reading.exposure_s = 1.0
        reading.flags |= FrameFlag.EXPOSURE_ASSUMED
        reading.readings.append(
            Reading("exposure_s", 1.0, source, "assumed", "the header says 0; 1 s is assumed")
        )
        return
    used = source if wanted.combine == "mean" else found[0][0]
    reading.readings.append(Reading("exposure_s", reading.exposure_s, used))


def _read_time(reading: HeaderReading, cards: Cards, file_name: str) -> None:
    header = reading.camera.header
    found: list[tuple[str, float]] = []
    for way in header.time:
        if any(name not in cards for name in way.cards):
            continue
        mjd = parse_time(way, [cards[name] for name in way.cards])
        if mjd is not None:
            found.append((" ".join(way.cards), _start(mjd, way, reading.exposure_s)))
    if not found and (mjd := _file_time(reading.camera, file_name)) is not None:
        found.append(("file name", mjd))
        reading.flags |= FrameFlag.TIME_FROM_NAME
    if not found:
        tried = "; ".join(" + ".join(way.cards) for way in header.time) or "no cards"
        note = f"no card tells the time (looked at {tried}); add the right one to header.time of the profile"
        reading.readings.append(Reading("mjd_start", None, "", "missing", note))
        reading.fail(Reason.NO_TIME, note)
        return
    times = [mjd for _, mjd in found]
    if (max(times) - min(times)) * SECONDS_PER_DAY > header.time_tolerance_s:
        told = ", ".join(f"{name} gives MJD {mjd:.6f}" for name, mjd in found)
        note = f"the time cards disagree ({told}); keep only the right ones in header.time of the profile"
        source = ", ".join(name for name, _ in found)
        reading.readings.append(Reading("mjd_start", None, source, "ambiguous", note))
        reading.fail(Reason.AMBIGUOUS_HEADER, note)
        return
    reading.time_source, start = found[0]
    half = 0.5 * reading.exposure_s / SECONDS_PER_DAY
    reading.mjd_start, reading.mjd_mid, reading.mjd_end = start, start + half, start + 2 * half
    reading.readings.append(Reading("mjd_start", start, reading.time_source))


def _start(mjd: float, way: TimeCards, exposure_s: float) -> float:
    back = {"start": 0.0, "mid": 0.5, "end": 1.0}[way.refers_to]
    return mjd - back * exposure_s / SECONDS_PER_DAY


def _file_time(camera: Camera, file_name: str) -> float | None:
    if camera.header.file_time is None or not (match := re.search(camera.header.file_time, file_name)):
        return None
    parts = match.groupdict()
    year, month, day, hour, minute = (
        int(parts.get(name) or 0) for name in ("year", "month", "day", "hour", "minute")
    )
    mjd = calendar_mjd(year, month, day, hour, minute, float(parts.get("second") or 0.0))
    return None if mjd is None else mjd - camera.header.file_time_zone_hours / 24.0


def _read_kind(reading: HeaderReading, cards: Cards) -> None:
    header = reading.camera.header
    for name in header.kind:
        kind = _text(cards, name)
        if kind is None:
            continue
        reading.kind = kind
        wanted = tuple(value.lower() for value in header.science_kinds)
        science = kind.lower() in wanted if wanted else not _CALIBRATION_KINDS.search(kind.lower())
        reading.readings.append(Reading("kind", kind, name))
        if not science:
            reading.fail(
                Reason.NOT_SCIENCE, f"the card {name} says {kind!r}, which is not a frame of the sky"
            )
        return


def _read_filter(reading: HeaderReading, cards: Cards) -> None:
    camera = reading.camera
    reading.object = next((text for card in camera.header.object if (text := _text(cards, card))), None)
    source = next((card for card in camera.header.filter if _text(cards, card)), None)
    name = _text(cards, source) if source else camera.default_filter
    if source is None and name is not None:
        reading.flags |= FrameFlag.FILTER_ASSUMED
    if name is None:
        note = "no filter card and no default_filter in the profile: the frame gets no zeropoint"
        reading.readings.append(Reading("filter", None, "", "missing", note))
        reading.flags |= FrameFlag.FILTER_UNKNOWN
        return
    reading.filter = name
    band = camera.filter_band(name)
    if band is None:
        note = f"filter {name!r} has no [filters.{name}] in the profile: the frame gets no zeropoint"
        reading.flags |= FrameFlag.FILTER_UNKNOWN
        reading.readings.append(Reading("filter", name, source or "profile", "missing", note))
        return
    reading.band = band.band
    verdict: Verdict = "ok" if source else "assumed"
    reading.readings.append(Reading("filter", name, source or "profile", verdict))
    reading.readings.append(Reading("band", band.band, "profile"))


def _read_detector(reading: HeaderReading, cards: Cards) -> None:
    header, detector = reading.camera.header, reading.camera.detector
    for quantity, wanted, fallback, flag in (
        ("gain", header.gain, detector.gain_e_per_adu, FrameFlag.GAIN_ASSUMED),
        ("read_noise", header.read_noise, detector.read_noise_e, FrameFlag.READ_NOISE_ASSUMED),
    ):
        picked = _pick(cards, wanted)
        if picked is None:
            reading.flags |= flag
            reading.readings.append(Reading(quantity, fallback, "profile", "assumed"))
        else:
            reading.readings.append(Reading(quantity, picked[0], picked[1]))
        setattr(reading, quantity, fallback if picked is None else picked[0])
    saturation = _pick(cards, header.saturation)
    reading.saturation_adu = saturation[0] if saturation else detector.saturation_adu
    source = saturation[1] if saturation else "profile"
    if reading.saturation_adu is None:
        note = "neither header nor profile give the saturation level: no source is flagged SATURATED"
        reading.readings.append(Reading("saturation_adu", None, "", "missing", note))
    else:
        reading.readings.append(Reading("saturation_adu", reading.saturation_adu, source))
    if (temperature := _pick(cards, header.temperature)) is not None:
        reading.ccd_temperature_c = temperature[0]
        reading.readings.append(Reading("ccd_temperature_c", temperature[0], temperature[1]))


def describe_header(cards: Cards, reading: HeaderReading) -> list[Reading]:
    """Return what `camera check` shows: the readings, and the size against the profile's."""
    rows = list(reading.readings)
    shape = reading.camera.image_shape
    width, height = cards.get("ZNAXIS1", cards.get("NAXIS1")), cards.get("ZNAXIS2", cards.get("NAXIS2"))
    if shape is not None and (height, width) != shape:
        note = f"the profile says {shape[1]} x {shape[0]} px; mend detector.width_px and height_px"
        rows.append(Reading("size", f"{width} x {height}", "NAXIS1 NAXIS2", "wrong", note))
    else:
        rows.append(Reading("size", f"{width} x {height}", "NAXIS1 NAXIS2"))
    return rows

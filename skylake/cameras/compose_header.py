"""Write canonical values as header cards in the dialect of a profile, for the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from skylake.cameras.clock_times import SECONDS_PER_DAY, iso_of_mjd
from skylake.core.camera import Camera, TimeCards, ValueCards

Card = tuple[str, object, str]


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """The values to write into a header."""

    mjd_start: float
    exposure_s: float
    filter: str | None = None
    object: str | None = None
    temperature_c: float | None = None


def compose_header(camera: Camera, facts: FrameFacts) -> list[Card]:
    """Return the cards that the camera itself would have written: name, value, comment."""
    cards: list[Card] = []
    for way in camera.header.time:
        cards += _time_cards(way, facts)
    cards += _value_cards(camera.header.exposure, facts.exposure_s, "exposure time")
    cards += _value_cards(camera.header.gain, camera.detector.gain_e_per_adu, "electrons per ADU")
    cards += _value_cards(camera.header.read_noise, camera.detector.read_noise_e, "electrons, rms")
    if facts.temperature_c is not None:
        cards += _value_cards(camera.header.temperature, facts.temperature_c, "detector temperature")
    if facts.filter is not None and camera.header.filter:
        cards.append((camera.header.filter[0], facts.filter, "filter"))
    if facts.object is not None and camera.header.object:
        cards.append((camera.header.object[0], facts.object, "target"))
    if camera.header.kind:
        kinds = camera.header.science_kinds
        cards.append((camera.header.kind[0], kinds[0].upper() if kinds else "EXPOSE", "kind of frame"))
    return cards


def _time_cards(way: TimeCards, facts: FrameFacts) -> list[Card]:
    later = {"start": 0.0, "mid": 0.5, "end": 1.0}[way.refers_to]
    scale = way.scale or "utc"
    mjd = facts.mjd_start + later * facts.exposure_s / SECONDS_PER_DAY + _ahead_of_utc(facts, scale)
    comment = f"{way.refers_to} of exposure, {scale.upper()}{way.zone_hours:+g} h"
    if way.format == "iso":
        parts = iso_of_mjd(mjd, way.zone_hours).split("T")
        values: list[object] = ["T".join(parts)] if len(way.cards) == 1 else list(parts)
    else:
        local = mjd + way.zone_hours / 24.0
        values = [
            {"mjd": local, "jd": local + 2400000.5, "unix": (local - 40587.0) * SECONDS_PER_DAY}[way.format]
        ]
    return [(name, value, comment) for name, value in zip(way.cards, values, strict=True)]


def _ahead_of_utc(facts: FrameFacts, scale: str) -> float:
    if scale == "utc":
        return 0.0
    import erfa

    first, second = erfa.utctai(2400000.5, facts.mjd_start)
    tai_minus_utc = float((first - 2400000.5) + second) - facts.mjd_start
    return tai_minus_utc + (32.184 / SECONDS_PER_DAY if scale == "tt" else 0.0)


def _value_cards(wanted: ValueCards, value: float, comment: str) -> list[Card]:
    names = wanted.cards if wanted.combine == "mean" else wanted.cards[:1]
    return [(name, value / wanted.scale, comment) for name in names]

"""The profile that `skylake camera new` writes: what the headers of some frames show of their camera, in TOML."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from skylake.cameras.header_values import cut, read_text
from skylake.cameras.profile_toml import text_of
from skylake.cli.camera_check import MAY_HOLD
from skylake.errors import UsageError

if TYPE_CHECKING:
    from skylake.cameras import HeaderReading

_NAMES = ("INSTRUME", "CAMERA", "DETECTOR")
#: Cards of the site, with what they hold: degrees, as a number or as 17 52 34 W, and metres.
_LONGITUDE = ("SITELONG", "LONGITUD", "LONG-OBS", "OBS-LONG", "GEOLON", "OBSGEO-L")
_LATITUDE = ("SITELAT", "LATITUDE", "LAT-OBS", "OBS-LAT", "GEOLAT", "OBSGEO-B")
_HEIGHT = ("SITEELEV", "ALT-OBS", "OBS-ELEV", "OBSGEO-H")
#: Millimetres, as MaxIm and N.I.N.A. write it.
_DIAMETER_MM = ("APTDIA",)
_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
#: A date and a time of day, as names of files have them.
_TIME_IN_NAME = (
    r"(?P<year>\d{4})[-_]?(?P<month>\d\d)[-_]?(?P<day>\d\d)[-_T ]"
    r"(?P<hour>\d\d)[-_:h]?(?P<minute>\d\d)[-_:m]?(?P<second>\d\d)"
)
_WIDTH = 48
#: Longest name of a camera that is taken from a card.
_MAX_NAME = 40


@dataclass(frozen=True, slots=True)
class _Frame:
    """The header of a frame, its size in pixels, and what the profile `generic` reads in it."""

    file: Path
    cards: Any
    height_px: int
    width_px: int
    reading: HeaderReading


def draft_profile(files: Sequence[Path], name: str | None) -> str:
    """Return a profile for the camera of some frames, as TOML with a comment on each value.

    Keys that no header shows are comments, with the usual value; all that is usual comes from `generic`.

    Parameters
    ----------
    files : sequence of Path
        Frames of one camera.
    name : str or None
        Of the camera; None takes that of its instrument.

    Raises
    ------
    FrameError
        If a file cannot be read.
    UsageError
        If the frames have several sizes.
    """
    frames = [_read(file) for file in files]
    sizes = {(frame.width_px, frame.height_px): frame.file for frame in frames}
    if len(sizes) > 1:
        shown = ", ".join(f"{file} has {width} x {height} px" for (width, height), file in sizes.items())
        raise UsageError(f"the frames are not of one camera ({shown}); name those of one size")
    lines = [*_head(frames, name), *_site(frames), *_header(frames), *_detector(frames), *_optics(frames)]
    return "\n".join([*lines, *_filters(frames)]) + "\n"


def _read(file: Path) -> _Frame:
    from skylake import cameras
    from skylake.image.fitsio.read_fits import open_stored, read_file

    raw = open_stored(read_file(file), None)
    reading = cameras.read_header(raw.header, cameras.load("generic"), file.name)
    return _Frame(file, raw.header, *raw.shape, reading)


def _head(frames: Sequence[_Frame], name: str | None) -> Iterator[str]:
    instrument = _common(_texts(frames, _NAMES))
    shown = re.sub(r"[^a-z0-9]+", "-", (instrument or "").lower()).strip("-")[:_MAX_NAME]
    parts = filter(None, (instrument, _common(_texts(frames, ("TELESCOP",)))))
    yield f"# What the headers of {len(frames)} frame{'s' * (len(frames) > 1)} show of their camera, and the usual"
    yield "# values, as comments, of what they do not show. `skylake camera check` says how frames are read with it."
    yield f"name = {text_of(name or shown or 'my-camera')}"
    yield f"description = {text_of(' on '.join(parts))}"
    yield 'like = "generic"'
    if not _names_of(frames, "filter"):
        yield _line("# default_filter", "V", "no card names the filter of these frames")


def _site(frames: Sequence[_Frame]) -> Iterator[str]:
    yield from ("", "[site]")
    for key, cards, usual, unit in (
        ("longitude_deg", _LONGITUDE, -17.88, "degrees, east is positive: see the sign"),
        ("latitude_deg", _LATITUDE, 28.76, "degrees, north is positive"),
        ("height_m", _HEIGHT, 2350.0, "metres above the sea"),
    ):
        yield _of_cards(key, _numbers(frames, cards, _angle), usual, unit)


def _header(frames: Sequence[_Frame]) -> Iterator[str]:
    """Return how the cards are read that `generic` does not know, or of which it knows several."""
    filters = _names_of(frames, "filter")
    yield from ("", "[header]")
    if filters:
        yield _line("filter", filters, "the card of the filter")
    if not any("CTYPE1" in frame.cards for frame in frames):
        yield _line("wcs", "none", "no WCS: it is found from the stars")
    undated = [frame for frame in frames if frame.reading.mjd_start is None]
    if undated:
        yield from _time(undated)
    for section, quantity, unit in (
        ("exposure", "exposure_s", "seconds; for milliseconds give scale = 0.001, too"),
        ("gain", "gain", "electrons per ADU; a setting such as 139 is none"),
        ("read_noise", "read_noise", "electrons, rms"),
        ("saturation", "saturation_adu", "ADU of raw pixels"),
        ("temperature", "ccd_temperature_c", "degrees Celsius"),
    ):
        cards = _names_of(frames, quantity)
        if cards:
            shown = _numbers(frames, cards, _number)
            yield from (
                "",
                f"[header.{section}]",
                _line("cards", cards, "; ".join(filter(None, (unit, _range(shown))))),
            )


def _time(frames: Sequence[_Frame]) -> Iterator[str]:
    """Return where frames may have their time, of which no usual card gives one."""
    from skylake.cameras.clock_times import is_plausible, parse_time
    from skylake.core.camera import TimeCards

    if all(re.search(_TIME_IN_NAME, frame.file.name) for frame in frames):
        yield f"file_time = '{_TIME_IN_NAME}'"
        yield _line("file_time_zone_hours", 0.0, "hours, the clock of the names minus UTC")
        return
    for card in frames[0].cards:
        value = parse_time(TimeCards((card,)), [frames[0].cards[card]], "utc") if card else None
        if value is not None and is_plausible(value) and all(card in frame.cards for frame in frames):
            yield from ("", "[[header.time]]", _line("cards", [card], "start of the exposure, UTC"))
            return
    yield _line("# file_time", _TIME_IN_NAME, "no card gives the time; if names of files do, say how")


def _detector(frames: Sequence[_Frame]) -> Iterator[str]:
    yield from ("", "[detector]")
    yield _line("width_px", frames[0].width_px, "pixels of raw frames")
    yield _line("height_px", frames[0].height_px, "pixels of raw frames")
    for key, quantity, usual, unit in (
        ("gain_e_per_adu", "gain", 1.0, "electrons per ADU, where a header has none"),
        ("read_noise_e", "read_noise", 10.0, "electrons, rms, where a header has none"),
        ("saturation_adu", "saturation_adu", 65535.0, "ADU, raw level from which a pixel is saturated"),
    ):
        yield _of_cards(key, _numbers(frames, _names_of(frames, quantity), _positive), usual, unit)
    pattern = _common(text.upper() for text in _texts(frames, ("BAYERPAT",)) if text.upper() in _PATTERNS)
    if pattern:
        yield _line("bayer_pattern", pattern, "colours of the first two rows, from BAYERPAT")
        yield from ("", "[reduction]")
        yield _line("steps", ["bayer"], "take one colour of the mosaic")
        yield _line("colour", "G", "R, G, B, or one of both greens: G1, G2")


def _optics(frames: Sequence[_Frame]) -> Iterator[str]:
    yield from ("", "[optics]")
    scales = {str(frame.file): scale for frame in frames if (scale := _scale(frame)) is not None}
    yield _of_cards(
        "pixel_scale_arcsec", scales, 9.0, "arcsec per raw pixel, from the WCS of headers", digits=5
    )
    diameters = _numbers(frames, _DIAMETER_MM, lambda text: _positive(text) / 1000.0)
    yield _of_cards("diameter_m", diameters, 0.1, "metres, of the entrance pupil")


def _filters(frames: Sequence[_Frame]) -> Iterator[str]:
    """Return a block for each filter that `generic` has no band for; the user must name the band."""
    named = Counter(_texts(frames, _names_of(frames, "filter")))
    unknown = {
        name: number for name, number in named.items() if not frames[0].reading.camera.filter_key(name)
    }
    for name, number in sorted(unknown.items()):
        yield from (
            "",
            f"# [filters.{tomlkit.key(name).as_string()}]".ljust(_WIDTH)
            + f"# of {number} frames: name its band for zeropoints",
        )
        yield from ('# band = "V"', '# colour = "B-V"', "# pivot_colour = 0.7")


def _names_of(frames: Sequence[_Frame], quantity: str) -> list[str]:
    """Return the cards that hold a quantity: those that `generic` has read, else others that usually do."""
    read = [
        one.source
        for frame in frames
        for one in frame.reading.readings
        if one.quantity == quantity and one.source and one.source in frame.cards
        if quantity == "filter" or isinstance(one.value, float | int)
    ]
    # A value that no detector has, as a setting of the gain, is left out under another profile, too.
    notes = [one.note for frame in frames for one in frame.reading.readings if one.quantity == quantity]
    refused = " ".join(note.partition(" lies outside ")[0] for note in notes if " lies outside " in note)
    others = [
        card
        for card in MAY_HOLD[quantity]
        if any(read_text(frame.cards, card) for frame in frames) and f"{card} = " not in refused
    ]
    return list(dict.fromkeys(read)) or others[:1]


def _texts(frames: Iterable[_Frame], cards: Sequence[str]) -> list[str]:
    """Return the texts of the first card that a header has, of each header that has one."""
    found = (next(filter(None, (read_text(frame.cards, card) for card in cards)), None) for frame in frames)
    return [cut(text, _MAX_NAME)[0] for text in found if text]


def _numbers(
    frames: Iterable[_Frame], cards: Sequence[str], read: Callable[[str], float]
) -> dict[str, float]:
    """Return the number that each frame has in the first of some cards, by card and file."""
    found = {}
    for frame in frames:
        for card in cards:
            text = read_text(frame.cards, card)
            if text is not None and math.isfinite(value := read(text)):
                found[f"{card} {frame.file}"] = float(value)
                break
    return found


def _number(text: str) -> float:
    """Return a number; NaN for a text that is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _positive(text: str) -> float:
    """Return a number above 0; NaN for any other text."""
    value = _number(text)
    return value if value > 0.0 else float("nan")


def _angle(text: str) -> float:
    """Return an angle as degrees, or a number as it is; NaN for a text that is neither."""
    from astropy.coordinates import Angle
    from astropy.units import UnitsError

    try:
        return float(text) if re.fullmatch(r"[-+.\deE]+", text) else float(Angle(text, unit="deg").deg)
    except (ValueError, UnitsError):
        return float("nan")


def _scale(frame: _Frame) -> float | None:
    """Return the pixel scale of the WCS of a header, arcsec; None if it has none of use."""
    from skylake.errors import FrameError
    from skylake.image.wcs.header_wcs import header_pointing

    try:
        pointing = header_pointing(
            frame.cards, frame.reading.camera, (frame.height_px, frame.width_px), (0.0, 0.0)
        )
    except FrameError:
        return None
    return pointing.pixel_scale_arcsec


def _of_cards(key: str, shown: Mapping[str, float], usual: float, unit: str, digits: int = 8) -> str:
    """Return a line with the median of what frames show, or as a comment with the usual value."""
    if not shown:
        return _line(f"# {key}", usual, f"{unit}; no header shows it")
    cards = ", ".join(dict.fromkeys(place.split()[0] for place in shown if " " in place))
    middle = sorted(shown.values())[len(shown) // 2]
    told = "; ".join(filter(None, (unit, cards and f"from {cards}", _range(shown))))
    return _line(key, float(f"{middle:.{digits}g}"), told)


def _range(shown: Mapping[str, float]) -> str:
    """Return the least and the largest that frames show; empty if they are one."""
    texts = [f"{bound(shown.values(), default=0.0):g}" for bound in (min, max)]
    return f"{texts[0]} to {texts[1]} in these frames" if texts[0] != texts[1] else ""


def _common(texts: Iterable[str]) -> str | None:
    """Return the text that most have; None if there is none."""
    counts = Counter(texts).most_common(1)
    return counts[0][0] if counts else None


def _line(key: str, value: Any, comment: str) -> str:
    return f"{key} = {text_of(value)}".ljust(_WIDTH) + f"# {comment}"

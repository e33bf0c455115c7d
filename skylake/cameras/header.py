"""Read header cards as canonical values, and record from which card each comes."""

from __future__ import annotations

import re

from skylake.cameras.chips import refuse_other_chip
from skylake.cameras.exposure_length import read_exposure
from skylake.cameras.exposure_times import read_time
from skylake.cameras.frame_kinds import calibration_kind, read_readout
from skylake.cameras.header_values import (
    MAX_NAME,
    MAX_SHOWN,
    MAX_TITLE,
    Cards,
    HeaderReading,
    Numbers,
    Reading,
    Verdict,
    cut,
    read_numbers,
    read_text,
    shown,
    stated,
    values_of,
)
from skylake.cameras.profile import Profile
from skylake.core.camera import Camera
from skylake.core.doubts import Doubt
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason

_CALIBRATION_KINDS = re.compile(r"\b(bias|zero|dark|flat|arc|lamp|focus|test|skyflat|domeflat)\b")
#: Two cards of a gain that differ by more than this fraction do not mean the same.
_VALUE_TOLERANCE = 0.1


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
        Name of the file, for profiles whose file names give the time.
    """
    first = _read_under(profile.base, profile, cards, file_name)
    camera = profile.at(first.mjd_start)
    return first if camera is profile.base else _read_under(camera, profile, cards, file_name)


def _read_under(camera: Camera, profile: Profile, cards: Cards, file_name: str) -> HeaderReading:
    reading = HeaderReading(camera, profile=profile.call_name)
    refuse_other_chip(reading, cards, file_name)
    _compare_texts(reading, cards)
    read_exposure(reading, cards)
    read_time(reading, cards, file_name)
    _read_kind(reading, cards)
    _read_object(reading, cards)
    _read_filter(reading, cards)
    _read_detector(reading, cards)
    _read_readout(reading, cards)
    return reading


def _compare_texts(reading: HeaderReading, cards: Cards) -> None:
    """Refuse a frame with a card that stands twice with different texts, if the frame is reduced by what it says."""
    header = reading.camera.header
    for key in ("kind", "filter", "readout", "binning", "time_scale"):
        for name in getattr(header, key):
            texts = [str(value).strip()[:MAX_SHOWN] for value in values_of(cards, name)]
            if len(texts) > 1:
                sentence = (
                    f"the card {name} stands in the header more than once, as {' and '.join(map(repr, texts))}; "
                    f"delete the wrong one, or leave {name} out of header.{key} of the profile"
                )
                told = tuple((name, text) for text in texts)
                reading.doubt(Doubt(key, told, "", sentence, Reason.AMBIGUOUS_HEADER))


def _read_kind(reading: HeaderReading, cards: Cards) -> None:
    header = reading.camera.header
    for name in header.kind:
        text = read_text(cards, name)
        if text is None:
            continue
        reading.kind, note = cut(text, MAX_NAME)
        wanted = tuple(value.lower() for value in header.science_kinds)
        science = text.lower() in wanted if wanted else not _CALIBRATION_KINDS.search(text.lower())
        # A frame that calib build uses for a master is not also a frame of the sky.
        science = science and calibration_kind(reading.kind, header) is None
        reading.readings.append(Reading("kind", reading.kind, name, "ok", note))
        if not science:
            reading.fail(
                Reason.NOT_SCIENCE, f"the card {name} says {reading.kind!r}, which is not a frame of the sky"
            )
        return


def _read_object(reading: HeaderReading, cards: Cards) -> None:
    for name in reading.camera.header.object:
        if (text := read_text(cards, name)) is None:
            continue
        texts = [str(value).strip()[:MAX_SHOWN] for value in values_of(cards, name)]
        if len(texts) > 1:
            sentence = (
                f"{name} names {' and '.join(map(repr, texts))}, and neither is taken; delete the wrong card"
            )
            reading.doubt(Doubt("object", tuple((name, text) for text in texts), "", sentence))
            return
        reading.object, note = cut(text, MAX_TITLE)
        if note:
            reading.readings.append(Reading("object", reading.object, name, "ok", note))
        return


def _read_filter(reading: HeaderReading, cards: Cards) -> None:
    camera = reading.camera
    source = next((card for card in camera.header.filter if read_text(cards, card)), None)
    text = read_text(cards, source) if source else camera.default_filter
    if source is None and text is not None:
        reading.flags |= FrameFlag.FILTER_ASSUMED
    if text is None:
        note = "no filter card and no default_filter in the profile: the frame gets no zeropoint; give default_filter"
        reading.readings.append(Reading("filter", None, "", "missing", note))
        reading.flags |= FrameFlag.FILTER_UNKNOWN
        return
    name, shortened = cut(text, MAX_NAME)
    reading.filter = name
    band = camera.filter_band(text)
    if band is None:
        note = f"filter {name!r} has no [filters.{name}] in the profile: the frame gets no zeropoint"
        note = f"{note}; {shortened}" if shortened else note
        reading.flags |= FrameFlag.FILTER_UNKNOWN
        reading.readings.append(Reading("filter", name, source or "profile", "missing", note))
        return
    reading.band = band.band
    verdict: Verdict = "ok" if source else "assumed"
    reading.readings.append(Reading("filter", name, source or "profile", verdict, shortened))
    reading.readings.append(Reading("band", band.band, "profile"))


def _read_detector(reading: HeaderReading, cards: Cards) -> None:
    header, detector = reading.camera.header, reading.camera.detector
    for quantity, wanted, fallback, flag, key in (
        ("gain", header.gain, detector.gain_e_per_adu, FrameFlag.GAIN_ASSUMED, "detector.gain_e_per_adu"),
        (
            "read_noise",
            header.read_noise,
            detector.read_noise_e,
            FrameFlag.READ_NOISE_ASSUMED,
            "detector.read_noise_e",
        ),
    ):
        numbers = read_numbers(cards, wanted, quantity)
        picked = numbers.pick(wanted)
        if picked is None:
            reading.flags |= flag
            note = numbers.refusal or f"no number in {', '.join(wanted.cards) or 'any card'}"
            note = f"{note}; {key} of the profile is used: check that it is that of the detector"
            reading.readings.append(Reading(quantity, fallback, "profile", "assumed", note))
            if quantity == "gain" and numbers.high and wanted.maximum is None:
                reading.doubt(_no_gain(numbers, fallback))
        else:
            verdict, note = _others(numbers, wanted.combine)
            reading.readings.append(Reading(quantity, picked[0], picked[1], verdict, note))
            if verdict == "ambiguous":
                sentence = f"{picked[1]} = {picked[0]:g} is used, and {note}"
                reading.doubt(Doubt(quantity, stated(numbers.usable), picked[1], sentence))
        _doubt_repeated(reading, quantity, numbers, picked, f"{key} = {fallback:g} of the profile is used")
        setattr(reading, quantity, fallback if picked is None else picked[0])
    # A profile may take another gain, as that of a photon transfer, in its place.
    reading.header_gain = None if FrameFlag.GAIN_ASSUMED in reading.flags else reading.gain
    numbers = read_numbers(cards, header.saturation, "saturation_adu")
    saturation = numbers.pick(header.saturation)
    reading.saturation_adu = saturation[0] if saturation else detector.saturation_adu
    source = saturation[1] if saturation else "profile"
    otherwise = "detector.saturation_adu of the profile is used"
    _doubt_repeated(reading, "saturation_adu", numbers, saturation, otherwise)
    if reading.saturation_adu is None:
        note = "no saturation level: no source is flagged SATURATED; give detector.saturation_adu"
        note = f"{numbers.refusal}; {note}" if numbers.refusal else note
        reading.readings.append(Reading("saturation_adu", None, "", "missing", note))
    else:
        reading.readings.append(
            Reading("saturation_adu", reading.saturation_adu, source, "ok", numbers.refusal)
        )
    numbers = read_numbers(cards, header.temperature, "ccd_temperature_c")
    temperature = numbers.pick(header.temperature)
    _doubt_repeated(reading, "ccd_temperature_c", numbers, temperature, "masters of any temperature fit")
    if temperature is not None:
        reading.ccd_temperature_c = temperature[0]
        reading.readings.append(Reading("ccd_temperature_c", temperature[0], temperature[1]))


def _doubt_repeated(
    reading: HeaderReading,
    quantity: str,
    numbers: Numbers,
    picked: tuple[float, str] | None,
    otherwise: str,
) -> None:
    """Doubt a card that stands twice with different numbers, which are left out: another card is picked, or none."""
    if not numbers.contradicted:
        return
    use = otherwise if picked is None else f"{picked[1]} = {picked[0]:g} is used"
    sentence = (
        f"{shown(numbers.contradicted)} contradict each other and are left out: {use}; delete the wrong card"
    )
    reading.doubt(
        Doubt(quantity, stated(numbers.contradicted), "profile" if picked is None else picked[1], sentence)
    )


def _no_gain(numbers: Numbers, fallback: float) -> Doubt:
    """Return the doubt about an implausible gain, for a profile without limits of its own."""
    sentence = (
        f"{numbers.refusal}, as a setting of the camera is no gain; {fallback:g} electrons per ADU of "
        "detector.gain_e_per_adu are used: check that they are right, and set header.gain.maximum of the profile"
    )
    return Doubt("gain", stated(numbers.high), "profile", sentence)


def _read_readout(reading: HeaderReading, cards: Cards) -> None:
    names = reading.camera.header.readout
    reading.readout = read_readout(cards, reading.camera.header)
    if reading.readout is not None:
        reading.readings.append(Reading("readout", reading.readout, " ".join(names)))
    elif names:
        note = f"nothing in {', '.join(names)}: masters of any readout fit; fix header.readout of the profile"
        reading.readings.append(Reading("readout", None, "", "missing", note))


def _others(numbers: Numbers, combine: str) -> tuple[Verdict, str]:
    """Return verdict and note on the cards that were not taken.

    The first card is used, so the frame is processed; but people should know.
    """
    first = numbers.usable[0][1]
    other = [
        f"{name} = {value:g}"
        for name, value in numbers.usable[1:]
        if abs(value - first) > _VALUE_TOLERANCE * max(abs(value), abs(first))
    ]
    if combine == "mean" or not other:
        return "ok", numbers.refusal
    return (
        "ambiguous",
        f"{', '.join(other)} differs and is left out; name the right card alone in the profile",
    )


def describe_header(cards: Cards, reading: HeaderReading) -> list[Reading]:
    """Return what `camera check` shows: the readings, and the size against the profile's."""
    rows = list(reading.readings)
    shape = reading.camera.image_shape
    width, height = cards.get("ZNAXIS1", cards.get("NAXIS1")), cards.get("ZNAXIS2", cards.get("NAXIS2"))
    if shape is not None and (height, width) != shape:
        note = f"the profile says {shape[1]} x {shape[0]} px; fix detector.width_px and height_px"
        rows.append(Reading("size", f"{width} x {height}", "NAXIS1 NAXIS2", "wrong", note))
    else:
        rows.append(Reading("size", f"{width} x {height}", "NAXIS1 NAXIS2"))
    return rows

"""The blocks ``[[chip]]`` of a profile: what holds for one detector of a camera of several.

Each is a camera of its own, with the keys of the profile and its own on top; so it has a name of its own in a
lake, masters of its own, and zeropoints of its own. What they share is the exposure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skylake.cameras.header_values import HeaderReading, read_text
from skylake.core.batch import is_plain_name
from skylake.core.camera import Camera
from skylake.core.reasons import Reason
from skylake.errors import ConfigurationError

Merge = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


def chip_blocks(data: Mapping[str, Any], place: str) -> list[str]:
    """Return the names of the chips of a profile, in their order; none for a camera of one detector.

    Raises
    ------
    ConfigurationError
        If a block has no name, one that another has, or keys of the whole camera.
    """
    names = _named(data.get("chip", []), place, "[[chip]]")
    for number, period in enumerate(data.get("period", []), start=1):
        where = f"[[period]] number {number}: [[period.chip]]"
        unknown = [name for name in _named(period.get("chip", []), place, where) if name not in names]
        if unknown:
            raise ConfigurationError(
                f"{place}: {where}: there is no [[chip]] {unknown[0]!r}; add it or fix the name"
            )
    if len(names) == 1:
        raise ConfigurationError(f"{place}: [[chip]]: there is one alone; move its keys out of the block")
    return names


def _named(blocks: Any, place: str, where: str) -> list[str]:
    names: list[str] = []
    for number, block in enumerate(blocks if isinstance(blocks, list) else [blocks], start=1):
        name = str(block.get("name", "")) if isinstance(block, dict) else ""
        if not is_plain_name(name):
            raise ConfigurationError(
                f"{place}: {where} number {number}: name: give one of letters, digits, '.', '_' and '-'"
            )
        if name in names:
            raise ConfigurationError(f"{place}: {where}: two have the name {name!r}; rename one")
        names.append(name)
    return names


def of_chip(data: Mapping[str, Any], changes: Mapping[str, Any], chip: str, merge: Merge) -> dict[str, Any]:
    """Return the keys of a camera, or of one of its chips, as they are in a period.

    Keys of a period override those of the camera, keys of the chip override both, and keys of the chip in the period
    override all.
    """
    whole = _without(merge(_without(data), _without(changes)))
    if not chip:
        return whole
    for one in (data, changes):
        for block in one.get("chip", []):
            if str(block["name"]) == chip:
                whole = merge(whole, {key: value for key, value in block.items() if key != "name"})
    camera = str(data.get("name", ""))
    return merge(whole, {"name": f"{camera}-{chip}", "place": {"mosaic": camera, "chip": chip}})


def _without(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in ("chip", "period")}


def is_pattern(text: str | None) -> bool:
    """Return whether a text is a regular expression, or there is none."""
    try:
        re.compile(text or "")
    except re.error:
        return False
    return True


def chip_of(cameras: Sequence[Camera], header: Mapping[str, object] | None, file_name: str) -> int | None:
    """Return the detector of a file, for detectors with files of their own.

    Parameters
    ----------
    cameras : sequence of Camera
    header : mapping or None
        The cards of its image; None where it cannot be read.
    file_name : str

    Returns
    -------
    int or None
        None if no detector's name or card fits.
    """
    for number, camera in enumerate(cameras):
        if fits(camera, header, file_name):
            return number
    return None


def fits(camera: Camera, header: Mapping[str, object] | None, file_name: str) -> bool:
    """Return whether name and card of a file are those of a detector."""
    place = camera.place
    if place.file is not None and re.search(place.file, file_name) is None:
        return False
    if place.card is None:
        return True
    return header is not None and read_text(header, place.card) == place.value


def refuse_other_chip(reading: HeaderReading, header: Mapping[str, object], file_name: str) -> None:
    """Fail a frame that is not of this detector: files of no chip are filed under the first."""
    place = reading.camera.place
    if not place.has_own_files or fits(reading.camera, header, file_name):
        return
    stated = f"{place.card} = {read_text(header, place.card)!r}" if place.card else f"the name {file_name!r}"
    reading.fail(
        Reason.BAD_HEADER,
        f"{stated} is that of no chip of {place.mosaic}; fix [[chip]] of the profile or leave it out",
    )

"""Watch lists: the stars and places of which a user wants to hear, a JSON file each in the lake.

They hold no address and nothing that could be run: where alerts go is said in the user's own configuration.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skylake.core.batch import is_plain_name
from skylake.core.ids import config_sha256
from skylake.core.sphere import IntArray
from skylake.durable import open_in_place, replace_durably, sync_folder, text_of
from skylake.errors import LakeError, UnknownName, UsageError, cannot_be_written
from skylake.inside import inside
from skylake.lake.layout import Layout
from skylake.sky.pixels import cone_ranges, merge_ranges
from skylake.sky.sky_region import SkyRegion


@dataclass(frozen=True, slots=True)
class WatchedPlace:
    """A star or place of a list.

    Attributes
    ----------
    star : str
        As the user has named it.
    ra_deg, dec_deg : float
        Position, ICRS.
    """

    star: str
    ra_deg: float
    dec_deg: float


@dataclass(frozen=True, slots=True)
class WatchList:
    """What to watch, and what counts as a change.

    Attributes
    ----------
    name : str
    places : tuple of WatchedPlace
        Empty for a list that is a coverage map.
    moc : str
        Coverage map in the text form of the standard; empty for a list of places.
    from_night : int
        The first night that is watched.
    radius_arcsec : float
        How far from its place a star may be.
    by_mag, sigma : float
        The least change, in magnitudes and in standard deviations.
    source : str
        Name of the file that it was made from.
    is_delivered : bool
        Whether somebody's configuration says where its alerts go.
    """

    name: str
    places: tuple[WatchedPlace, ...]
    moc: str
    from_night: int
    radius_arcsec: float
    by_mag: float
    sigma: float
    source: str
    is_delivered: bool = False

    @property
    def checksum(self) -> str:
        """SHA-256 of what alerts depend on."""
        unused = ("source", "is_delivered")
        return config_sha256({name: one for name, one in asdict(self).items() if name not in unused})

    @property
    def ranges(self) -> IntArray:
        """Ranges of the HEALPix index, order 29, that cover what is watched."""
        if self.moc:
            return SkyRegion.of_moc_text(self.moc).ranges
        reach = self.radius_arcsec / 3600.0
        cones = [cone_ranges(place.ra_deg, place.dec_deg, reach) for place in self.places]
        return merge_ranges(np.concatenate(cones))


def read_watch_list(layout: Layout, name: str) -> WatchList:
    """Return a watch list of a lake.

    Raises
    ------
    UnknownName
        If there is none of the name.
    LakeError
        If its file cannot be read.
    """
    if not is_plain_name(name) or not (path := _file(layout, name)).is_file():
        known = ", ".join(watch_list_names(layout))
        has = f"the lists are {known}" if known else "make one with `skylake watch add`"
        raise UnknownName(f"there is no watch list {name!r}; {has}")
    try:
        values: dict[str, Any] = json.loads(text_of(path))
        places = tuple(WatchedPlace(**one) for one in values.pop("places"))
        if values["name"] != name:
            raise ValueError(f"it is named {values['name']!r} inside")
        return WatchList(places=places, **values)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LakeError(
            f"{path}: the watch list cannot be read ({error}); remove the file, and add the list again"
        ) from error


def watch_list_names(layout: Layout) -> list[str]:
    """Return the names of the watch lists of a lake."""
    return sorted(path.stem for path in layout.watch_lists.glob("*.json") if is_plain_name(path.stem))


def watch_lists(layout: Layout) -> list[WatchList]:
    """Return the watch lists of a lake."""
    return [read_watch_list(layout, name) for name in watch_list_names(layout)]


def add_watch_list(layout: Layout, made: WatchList) -> None:
    """Keep a new watch list in a lake.

    Raises
    ------
    UsageError
        If the name cannot be that of a file, or is taken.
    LakeError
        If the lake cannot be written.
    """
    if not is_plain_name(made.name):
        raise UsageError(f"{made.name!r} cannot be the name of a watch list; use letters, digits, - and _")
    path = _file(layout, made.name)
    if path.exists():
        raise UsageError(
            f"there is a watch list {made.name!r} already; take another name, or remove it with `skylake "
            f"watch remove LAKE {made.name}`"
        )
    try:
        path.parent.mkdir(exist_ok=True)
        _delivered_file(layout, made.name).unlink(missing_ok=True)
        replace_durably(path, json.dumps(asdict(made), indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise cannot_be_written(path, error, "the watch list") from error


def remove_watch_list(layout: Layout, name: str) -> None:
    """Remove a watch list; its alerts stay.

    Raises
    ------
    UnknownName
        If there is none of the name.
    LakeError
        If the lake cannot be written.
    """
    if name not in watch_list_names(layout):
        read_watch_list(layout, name)
    path = _file(layout, name)
    try:
        path.unlink(missing_ok=True)
        _delivered_file(layout, name).unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_be_written(path, error, "the watch list") from error


def delivered_alerts(layout: Layout, name: str) -> set[int]:
    """Return the identifiers of the alerts of a list that were delivered."""
    path = _delivered_file(layout, name)
    lines = path.read_text(encoding="ascii").split("\n")[:-1] if path.is_file() else []
    # A line that a loss of power has cut short is no number, or another alert's: that one is delivered again.
    return {int(line) for line in lines if line.isdigit()}


def note_delivered(layout: Layout, name: str, alerts: Iterable[int]) -> None:
    """Remember that alerts of a list were delivered.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    path = _delivered_file(layout, name)
    try:
        with os.fdopen(
            open_in_place(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a", encoding="ascii"
        ) as stream:
            # A line of its own, even where the last one was cut short.
            stream.write("".join(f"\n{one}\n" for one in alerts))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise cannot_be_written(path, error, "what was delivered") from error


def _file(layout: Layout, name: str) -> Path:
    return inside(layout.root, f"{layout.watch_lists.name}/{name}.json")


def _delivered_file(layout: Layout, name: str) -> Path:
    return inside(layout.root, f"{layout.watch_lists.name}/{name}.delivered")

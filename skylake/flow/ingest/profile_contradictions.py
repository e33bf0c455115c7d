"""What many frames of a run say against the profile of their camera, in one sentence."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from skylake.cameras import Profile
from skylake.core.batch import UNDATED
from skylake.core.camera import Camera
from skylake.core.corrections import correction, corrections_in

#: Values that differ by no more than this part say the same.
_ALIKE = 0.02

_Told = tuple[dict[str, Any], dict[str, Any]]
"""The row of a frame, and the values that it wants."""


@dataclass(slots=True)
class Contradiction:
    """Frames that want the same values in the profile of their camera.

    Attributes
    ----------
    camera : str
    values : dict
        The median of each key.
    files : list of str
    sentence : str
    """

    camera: str
    values: dict[str, Any]
    files: list[str] = field(repr=False)
    sentence: str


def contradictions(rows: Iterable[dict[str, Any]], profile: Profile) -> list[Contradiction]:
    """Return what all frames of nights say in the same way, and at least two.

    A few frames of another camera among many good ones tell nothing of the profile; each has its own sentence.

    Parameters
    ----------
    rows : iterable of dict
        file, night, mjd_mid and message of all frames of a run that are of the sky.
    profile : Profile
    """
    rows = list(rows)
    groups: list[list[_Told]] = []
    for row in rows:
        wanted = corrections_in(row["message"])
        if not wanted:
            continue
        for group in groups:
            if _alike(wanted, group[0][1]):
                group.append((row, wanted))
                break
        else:
            groups.append([(row, wanted)])
    frames = Counter(row["night"] for row in rows)
    agreed = [_of_whole_nights(group, frames) for group in groups]
    return [_contradiction(group, profile) for group in agreed if len(group) > 1]


def _of_whole_nights(group: Sequence[_Told], frames: Mapping[int, int]) -> list[_Told]:
    """Return what a group has of the nights all of whose frames are in it."""
    mine = Counter(row["night"] for row, _ in group)
    return [(row, wanted) for row, wanted in group if mine[row["night"]] == frames[row["night"]]]


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def same(first: Any, second: Any) -> bool:
        if isinstance(first, float) and isinstance(second, float):
            return math.isclose(first, second, rel_tol=_ALIKE)
        return bool(first == second)

    return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)


def _contradiction(group: Sequence[_Told], profile: Profile) -> Contradiction:
    first = group[0][1]
    values = {
        key: float(np.median([wanted[key] for _, wanted in group])) if isinstance(value, float) else value
        for key, value in first.items()
    }
    rows = [row for row, _ in group]
    times = [row["mjd_mid"] for row in rows if row["mjd_mid"] is not None]
    camera = profile.at(min(times, default=None))
    has = " and ".join(f"{key} = {_shown(_value(camera, key))}" for key in values)
    nights = sorted({row["night"] for row in rows} - {UNDATED})
    when = f" of {nights[0]}" if nights else ""
    if len(nights) > 1:
        when = f" of {len(nights)} nights from {nights[0]} to {nights[-1]}"
    advice = f"{_advice(values, profile, camera)}, and run again with --redo"
    sentence = f"{profile.name}: all {len(rows)} frames{when} contradict {has}: {advice}"
    return Contradiction(profile.name, values, [row["file"] for row in rows], sentence)


def _advice(values: dict[str, Any], profile: Profile, camera: Camera) -> str:
    """Return the advice, with the place to follow it: a shipped profile is no file of the user's."""
    advice = correction(values)
    dated = any(_value(camera, key) != _value(profile.base, key) for key in values)
    if profile.call_name == profile.source:
        place = profile.source
    else:
        place = f'a file of your own with like = "{profile.call_name}" and name = "{profile.name}"'
    return advice.replace("in the profile", f"in {'a [[period]] of ' if dated else ''}{place}")


def _value(camera: Camera, key: str) -> Any:
    return reduce(getattr, key.split("."), camera)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:g}"
    return json.dumps(value, default=str)

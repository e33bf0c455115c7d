"""Values of a profile that many frames of a run contradict, and exposures in a wrong unit, in one sentence each."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.batch import UNDATED
from skylake.core.camera import Camera
from skylake.core.corrections import correction
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Status
from skylake.errors import Corrections
from skylake.lake import Snapshot

#: Values that differ by no more than this share agree.
_ALIKE = 0.02

_OVERLAP_COLUMNS = ["file", "mjd_start", "exposure_s", "status", "flags"]
_SECONDS_PER_DAY = 86400.0
#: An exposure so many times longer than the time to the next start is not explained by rounded or shifted times.
_LONGER = 2.0
#: At least so many frames must have one, and more than half: a single one may have been aborted.
_FEWEST = 2


@dataclass(slots=True)
class Contradiction:
    """Frames that need the same values in the profile of their camera.

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


@dataclass(frozen=True, slots=True)
class ReportedFrame:
    """A frame of the sky as a run reduced it.

    Attributes
    ----------
    file : str
    night : int
    mjd_mid : float or None
    corrections : mapping
        Keys of the profile that the frame contradicts, and the values that it needs.
    """

    file: str
    night: int
    mjd_mid: float | None
    corrections: Corrections


def contradictions(frames: Sequence[ReportedFrame], profile: Profile) -> list[Contradiction]:
    """Return the contradictions that all frames of a night share, if there are at least two frames.

    A few frames of another camera among many good ones do not contradict the profile; each has its own message.

    Parameters
    ----------
    frames : sequence of ReportedFrame
        All frames of a run that are of the sky.
    profile : Profile
    """
    groups: list[list[ReportedFrame]] = []
    for frame in frames:
        if not frame.corrections:
            continue
        for group in groups:
            if _alike(frame.corrections, group[0].corrections):
                group.append(frame)
                break
        else:
            groups.append([frame])
    counts = Counter(frame.night for frame in frames)
    agreed = [_of_whole_nights(group, counts) for group in groups]
    return [_contradiction(group, profile) for group in agreed if len(group) > 1]


def _of_whole_nights(group: Sequence[ReportedFrame], counts: Mapping[int, int]) -> list[ReportedFrame]:
    """Return the frames of a group from nights whose frames are all in it."""
    mine = Counter(frame.night for frame in group)
    return [frame for frame in group if mine[frame.night] == counts[frame.night]]


def _alike(one: Corrections, other: Corrections) -> bool:
    def same(first: Any, second: Any) -> bool:
        if isinstance(first, float) and isinstance(second, float):
            return math.isclose(first, second, rel_tol=_ALIKE)
        return bool(first == second)

    return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)


def _contradiction(group: Sequence[ReportedFrame], profile: Profile) -> Contradiction:
    values = {
        key: float(np.median([frame.corrections[key] for frame in group]))
        if isinstance(value, float)
        else value
        for key, value in group[0].corrections.items()
    }
    times = [frame.mjd_mid for frame in group if frame.mjd_mid is not None]
    camera = profile.at(min(times, default=None))
    has = " and ".join(f"{key} = {_shown(_value(camera, key))}" for key in values)
    nights = sorted({frame.night for frame in group} - {UNDATED})
    when = f" of {nights[0]}" if nights else ""
    if len(nights) > 1:
        when = f" of {len(nights)} nights from {nights[0]} to {nights[-1]}"
    advice = f"{_advice(values, profile, camera)}, and run again with --redo"
    sentence = f"{profile.name}: all {len(group)} frames{when} contradict {has}: {advice}"
    return Contradiction(profile.name, values, [frame.file for frame in group], sentence)


def _advice(values: Corrections, profile: Profile, camera: Camera) -> str:
    """Return the advice, naming the file to change: a profile that skylake includes cannot be edited."""
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


def overlapping(snapshot: Snapshot, profile: Profile, nights: Collection[int]) -> list[str]:
    """Return a sentence if exposures of a camera last beyond the start of the next frame; else nothing.

    A detector takes one frame at a time, so an exposure that lasts far beyond the next start has another unit than the
    profile says. Frames with equal starts, as in a series faster than the clock, do not count, nor do exposures that
    are not from the header.

    Parameters
    ----------
    snapshot : Snapshot
    profile : Profile
    nights : collection of int
        Which nights are looked at.
    """
    asked = set(nights)
    rows = snapshot.read(
        "frames", _OVERLAP_COLUMNS, lambda part: part.camera == profile.name and part.night in asked
    )
    timed = pc.and_(pc.is_valid(rows["mjd_start"]), pc.is_valid(rows["exposure_s"]))
    by_card = pc.equal(pc.bit_wise_and(rows["flags"], int(FrameFlag.EXPOSURE_ASSUMED)), 0)
    shown = pc.and_(pc.not_equal(rows["status"], Status.SKIPPED.value), pc.and_(timed, by_card))
    rows = rows.filter(shown).sort_by([("mjd_start", "ascending"), ("file", "ascending")])
    start = rows["mjd_start"].to_numpy()
    if start.size <= _FEWEST:
        return []
    # Of frames with the same start the last one is compared with the next start.
    last = np.flatnonzero(np.diff(start) > 0.0)
    gap = (start[last + 1] - start[last]) * _SECONDS_PER_DAY
    exposure = rows["exposure_s"].to_numpy()[last]
    over = exposure > _LONGER * gap
    if np.count_nonzero(over) < max(_FEWEST, over.size // 2 + 1):
        return []
    first, n_over = int(np.argmax(over)), np.count_nonzero(over)
    file, cards = rows["file"][int(last[first])].as_py(), profile.base.header.exposure.cards
    sentence = (
        f"{profile.name}: {n_over} of {over.size} exposures last beyond the start of the next frame, so the exposure "
        f"({', '.join(cards)}) is read in a wrong unit ({file}: {exposure[first]:g} s, and the next begins "
        f"{gap[first]:.3g} s later); if it is in milliseconds give header.exposure.scale = 0.001 in the profile "
        f"{profile.call_name}, then ingest with --redo"
    )
    return [sentence]

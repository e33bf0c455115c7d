"""Frames whose sky came from one side of them in time, and could come from both by now."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Status
from skylake.flow.skyframes import MINUTES_PER_DAY, SkyFrame, takes_sky
from skylake.lake import Snapshot

_COLUMNS = ["night", "mjd_mid", "filter", "exposure_s", "flags", "status", "file"]
#: Frames of these may show the sky of others; they have a time.
_TELLING = pa.array([Status.OK.value, Status.REJECTED.value])


def nights_with_later_sky(snapshot: Snapshot, profile: Profile) -> list[int]:
    """Return the nights of a camera in which a frame has neighbours on both sides, but a sky from one side alone.

    While a night is taken in frame by frame, the sky of each is that of the frames before; nothing is done anew by
    itself, and so these nights are told.

    Parameters
    ----------
    snapshot : Snapshot
    profile : Profile
    """
    if not takes_sky(profile):
        return []
    rows = snapshot.read("frames", _COLUMNS, lambda part: part.camera == profile.name)
    flagged = pc.not_equal(pc.bit_wise_and(rows["flags"], int(FrameFlag.SKY_ONE_SIDED)), 0)
    nights = pc.unique(rows["night"].filter(flagged))
    telling = pc.and_(pc.is_in(rows["night"], nights), pc.is_in(rows["status"], _TELLING))
    found, frames = set(), rows.filter(telling).sort_by("mjd_mid").to_pylist()
    times = [row["mjd_mid"] for row in frames]
    for row in frames:
        if row["flags"] & FrameFlag.SKY_ONE_SIDED and row["night"] not in found:
            span = profile.at(row["mjd_mid"]).reduction.sky.within_minutes / MINUTES_PER_DAY
            near = frames[
                bisect_left(times, row["mjd_mid"] - span) : bisect_right(times, row["mjd_mid"] + span)
            ]
            others = [one["mjd_mid"] for one in near if _like(one).is_like(_like(row))]
            if others[0] < row["mjd_mid"] < others[-1]:
                found.add(row["night"])
    return sorted(found)


def _like(row: dict[str, Any]) -> SkyFrame:
    return SkyFrame(row["file"], row["mjd_mid"], row["filter"], row["exposure_s"] or 0.0)

"""Find frames whose sky came from one side in time, and could come from both by now."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Status
from skylake.flow.sky.sky_frames import SkyFrame, neighbours_of, takes_sky
from skylake.lake import Snapshot

_COLUMNS = ["mjd_mid", "filter", "exposure_s", "width_px", "height_px", "flags", "status", "file"]


def nights_with_later_sky(snapshot: Snapshot, profile: Profile, nights: Collection[int]) -> list[int]:
    """Return the nights in which a frame would have a sky from both sides, but has one from one side alone.

    While a night is taken in frame by frame, the sky of each is that of the frames before; nothing is repeated by
    itself, and so these nights are reported. The neighbours are those that the frame would have now. Only good ones
    of these count, as nobody knows whether the others show a sky: a night that was done again is reported no more.

    Parameters
    ----------
    snapshot : Snapshot
    profile : Profile
    nights : collection of int
        Which nights are asked for.
    """
    if not takes_sky(profile):
        return []
    return [night for night in sorted(set(nights)) if _has_later_sky(snapshot, profile, night)]


def _has_later_sky(snapshot: Snapshot, profile: Profile, night: int) -> bool:
    rows = snapshot.read("frames", _COLUMNS, lambda part: part.camera == profile.name and part.night == night)
    flagged = pc.not_equal(pc.bit_wise_and(rows["flags"], int(FrameFlag.SKY_ONE_SIDED)), 0)
    halves = [_like(row, profile) for row in rows.filter(flagged).to_pylist()]
    if not halves:
        return False
    shown = pc.and_(pc.is_valid(rows["mjd_mid"]), pc.not_equal(rows["status"], Status.SKIPPED.value))
    frames = sorted(
        (_like(row, profile) for row in rows.filter(shown).to_pylist()), key=lambda frame: frame.order
    )
    good = set(rows.filter(pc.equal(rows["status"], Status.OK.value))["file"].to_pylist())
    for here in halves:
        near = neighbours_of(here, frames, profile.at(here.mjd).reduction.sky)
        if {frame.order > here.order for frame in near if frame.file in good} == {False, True}:
            return True
    return False


def _like(row: dict[str, Any], profile: Profile) -> SkyFrame:
    size = None if row["width_px"] is None else (row["height_px"], row["width_px"])
    called = profile.at(row["mjd_mid"]).called_filter(row["filter"])
    return SkyFrame(row["file"], row["mjd_mid"], called, row["exposure_s"] or 0.0, size)

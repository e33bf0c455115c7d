"""Exposures that last beyond the start of the next frame, which tells that their unit was read wrongly."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Status
from skylake.lake import Snapshot

_COLUMNS = ["file", "mjd_start", "exposure_s", "status", "flags"]
_SECONDS_PER_DAY = 86400.0
#: An exposure so many times longer than the time to the next start is no matter of rounded or shifted times.
_LONGER = 2.0
#: So many frames must do so, and they must be the larger part: a single one was broken off.
_FEWEST = 2


def overlapping(snapshot: Snapshot, profile: Profile, nights: Collection[int]) -> list[str]:
    """Return a sentence if exposures of a camera overlap the start of the frames after them; else nothing.

    The frames of a detector follow each other, so an exposure that lasts far beyond the next start is in another unit
    than the profile takes it for. Starts that are alike, as of a series faster than the clock, tell nothing of it, nor
    do exposures that no card tells.

    Parameters
    ----------
    snapshot : Snapshot
    profile : Profile
    nights : collection of int
        Which nights are looked at.
    """
    asked = set(nights)
    rows = snapshot.read("frames", _COLUMNS, lambda part: part.camera == profile.name and part.night in asked)
    timed = pc.and_(pc.is_valid(rows["mjd_start"]), pc.is_valid(rows["exposure_s"]))
    by_card = pc.equal(pc.bit_wise_and(rows["flags"], int(FrameFlag.EXPOSURE_ASSUMED)), 0)
    shown = pc.and_(pc.not_equal(rows["status"], Status.SKIPPED.value), pc.and_(timed, by_card))
    rows = rows.filter(shown).sort_by([("mjd_start", "ascending"), ("file", "ascending")])
    start = rows["mjd_start"].to_numpy()
    if start.size <= _FEWEST:
        return []
    # The last frame of each moment is the one that the next moment follows.
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

"""Which measurements an export leaves out of a light curve, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.counted import counted
from skylake.core.flags import SPOILED, SourceFlag

#: Number of measurements that are left out, by the reason in words.
LeftOut = Counter[str]
_NO_MAGNITUDE = "without a magnitude"


def flagged(flags: int) -> str | None:
    """Return that a measurement has flags which spoil photometry; None if it has none."""
    names = [str(flag.name) for flag in SourceFlag(flags & int(SPOILED))]
    return f"with the flag{'s' * (len(names) > 1)} {' and '.join(names)}" if names else None


def left_out_points(points: Iterable[Mapping[str, Any]], otherwise: str = _NO_MAGNITUDE) -> LeftOut:
    """Return why points are left out: for their flags, for want of a magnitude, or `otherwise`."""
    return Counter(
        flagged(point["flags"]) or (_NO_MAGNITUDE if point["mag"] is None else otherwise) for point in points
    )


def left_out_rows(points: pa.Table, is_written: npt.NDArray[np.bool_]) -> LeftOut:
    """Return why rows of a table of measurements are left out, for their flags or for want of a magnitude."""
    flags = points["flags"].to_numpy()[~is_written]
    reasons: LeftOut = Counter()
    for value, count in zip(*np.unique(flags, return_counts=True), strict=True):
        reasons[flagged(int(value)) or _NO_MAGNITUDE] += int(count)
    return reasons


def left_out_in_words(left_out: LeftOut) -> str:
    """Return how many measurements are left out for which reasons, those of most of them first."""
    reasons = [f"{count} {reason}" for reason, count in left_out.most_common()]
    points = counted(left_out.total(), "point")
    if len(reasons) == 1:
        return f"left out: {points} {next(iter(left_out))}"
    return f"left out: {points} ({', '.join(reasons)})"

"""Offsets that the measurements of a star have from night to night, as the solutions of a camera tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.lake import Snapshot

_FRAME_COLUMNS = ("frame_id", "night")
_SOLUTION_COLUMNS = ("camera", "band", "version", "night_scatter_mag")


@dataclass(frozen=True, slots=True)
class NightErrors:
    """Noise that the measurements of a star share within a night, and that differs from night to night.

    Attributes
    ----------
    scatter : mapping
        Its standard deviation by camera and band, magnitudes; those without any are left out.
    frames : pyarrow.Table
        ``frame_id`` and ``night``.
    """

    scatter: Mapping[tuple[str, str], float]
    frames: pa.Table

    def nights(self, frame_id: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Return the night of each frame; that of a frame which is not known is 0."""
        place = pc.index_in(frame_id, self.frames["frame_id"])
        return np.asarray(pc.fill_null(self.frames["night"].take(place), 0).to_numpy(), np.int64)


def night_errors(snapshot: Snapshot) -> NightErrors | None:
    """Return the offsets by the newest solution of each camera and band; None if none tells any."""
    known = pc.field("night_scatter_mag") > 0.0
    solutions = snapshot.read("global_solutions", _SOLUTION_COLUMNS, filter=known).sort_by("version")
    scatter = {(row["camera"], row["band"]): row["night_scatter_mag"] for row in solutions.to_pylist()}
    if not scatter:
        return None
    frames = snapshot.whole("frames", _FRAME_COLUMNS)
    return NightErrors(scatter, snapshot.read("frames", _FRAME_COLUMNS) if frames is None else frames)

"""Which frames cover targets that they were not measured at."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.batch import UNDATED
from skylake.core.reasons import Status
from skylake.core.sphere import unit_vectors
from skylake.errors import LakeError
from skylake.flow.forced.target_list import TargetList, parts_of
from skylake.lake import Part, Snapshot

_PLACE = ("ra_deg", "dec_deg", "pixel_scale_arcsec", "width_px", "height_px")
_COLUMNS = ["frame_id", "night", "targets_version", *_PLACE]
#: No part of a frame is farther from its centre, degrees.
_MOST_DEG = 90.0


@dataclass(frozen=True, slots=True)
class Lacking:
    """Frames of a night that lack targets.

    Attributes
    ----------
    snapshot : Snapshot
    camera, night : str, int
    version : int
        Of the list in force.
    frame_id : ndarray of int64
    """

    snapshot: Snapshot
    camera: str
    night: int
    version: int
    frame_id: npt.NDArray[np.int64]

    @property
    def files(self) -> list[str]:
        """Their files, those measured with the oldest list first, so that all have their turn while lists grow."""
        rows = self._rows().sort_by([("targets_version", "ascending"), ("file", "ascending")])
        return list(dict.fromkeys(rows["file"].to_pylist()))

    def behind(self, snapshot: Snapshot) -> set[str]:
        """Return the files of those that a later snapshot has measured with an earlier list, or with none."""
        rows = self._rows(snapshot)
        return set(rows.filter(pc.less(rows["targets_version"], self.version))["file"].to_pylist())

    def _rows(self, snapshot: Snapshot | None = None) -> pa.Table:
        rows = (snapshot or self.snapshot).read(
            "frames",
            ["file", "targets_version"],
            lambda part: (part.camera, part.night) == (self.camera, self.night),
            pc.field("frame_id").isin(pa.array(self.frame_id)),
        )
        return rows.set_column(1, "targets_version", rows["targets_version"].fill_null(0))


def lacking(
    snapshot: Snapshot, camera: str, nights: Collection[int] | None = None, before: int | None = None
) -> list[Lacking]:
    """Return the nights of a camera whose frames cover targets they were not measured at, the oldest list first.

    Each distinct pointing is compared once with the targets that are new to it, and names of files are read only of
    nights that are asked for them.

    Parameters
    ----------
    snapshot : Snapshot
    camera : str
    nights : collection of int or None
        Nights to look at; None takes all.
    before : int or None
        Leave out frames that were measured with this version of the list or a later one; None leaves out none.

    Raises
    ------
    LakeError
        If the camera has no list of targets, or cannot be read.
    """
    lists = parts_of(snapshot, camera)
    if not lists:
        raise no_list(snapshot.layout.root, camera)
    last = TargetList.of(snapshot, camera, max(lists), lists)
    frames = _frames_behind(snapshot, camera, last.version if before is None else before, nights)
    measured = frames["targets_version"].fill_null(0).to_numpy()
    covers = np.zeros(frames.num_rows, bool)
    listed = last.stored(["star_id", "ra_deg", "dec_deg", "version"])
    for version in np.unique(measured).tolist():
        mine = np.flatnonzero(measured == version)
        new = _new_since(snapshot, last, listed, lists, version)
        covers[mine] = covered_by(frames.take(pa.array(mine)), new)
    night = frames["night"].to_numpy()
    order = np.lexsort((night, measured))
    order = order[covers[order]]
    by_night: dict[int, list[int]] = {}
    for row in order.tolist():
        by_night.setdefault(int(night[row]), []).append(row)
    frame_id = frames["frame_id"].to_numpy()
    return [Lacking(snapshot, camera, one, last.version, frame_id[rows]) for one, rows in by_night.items()]


def no_list(root: Path, camera: str) -> LakeError:
    """Return the error of a camera without targets."""
    return LakeError(f"{root}: {camera} has no list of targets; `skylake targets` makes one")


def _frames_behind(snapshot: Snapshot, camera: str, before: int, nights: Collection[int] | None) -> pa.Table:
    """Return the good frames of some nights that were measured with a list before a version, or with none."""
    good = (pc.field("status") == Status.OK.value) & (pc.field("night") != UNDATED)
    behind = pc.field("targets_version").is_null() | (pc.field("targets_version") < before)
    return snapshot.read(
        "frames",
        _COLUMNS,
        lambda part: part.camera == camera and (nights is None or part.night in nights),
        good & behind,
    )


def _new_since(
    snapshot: Snapshot, last: TargetList, listed: pa.Table, lists: dict[int, Part], version: int
) -> pa.Table:
    """Return the targets of a list that an earlier version lacks."""
    if version >= last.base_version:
        return listed.filter(pc.greater(listed["version"], version))
    if version not in lists:
        return listed
    known = TargetList.of(snapshot, last.camera, version, lists).rows(["star_id"])["star_id"]
    return listed.filter(pc.invert(pc.is_in(listed["star_id"], known.combine_chunks())))


def covered_by(frames: pa.Table, targets: pa.Table) -> npt.NDArray[np.bool_]:
    """Return whether a target lies within the circle about each frame, shape (n,); False without a place."""
    from scipy.spatial import cKDTree

    if targets.num_rows == 0:
        return np.zeros(frames.num_rows, bool)
    ra, dec, scale, width, height = (
        frames[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in _PLACE
    )
    radius = np.minimum(0.5 * np.hypot(width, height) * scale / 3600.0, _MOST_DEG)
    known = np.isfinite(ra) & np.isfinite(radius)
    pointings, which = np.unique(np.column_stack([ra, dec, radius])[known], axis=0, return_inverse=True)
    tree = cKDTree(unit_vectors(targets["ra_deg"].to_numpy(), targets["dec_deg"].to_numpy()))
    away, _ = tree.query(unit_vectors(pointings[:, 0], pointings[:, 1]))
    covers = np.zeros(frames.num_rows, bool)
    covers[known] = (away <= 2.0 * np.sin(0.5 * np.radians(pointings[:, 2])))[which.reshape(-1)]
    return covers

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
_COLUMNS = ["file", "night", "targets_version", *_PLACE]
#: No part of a frame is farther from its centre, degrees.
_MOST_DEG = 90.0


@dataclass(frozen=True, slots=True)
class Lacking:
    """Frames of a night that lack targets.

    Attributes
    ----------
    night : int
    version : int
        Of the list in force.
    files : list of str
        Their files, those measured with the oldest list first, so that all have their turn while lists grow.
    """

    night: int
    version: int
    files: list[str]


def lacking(
    snapshot: Snapshot, camera: str, nights: Collection[int] | None = None, before: int | None = None
) -> list[Lacking]:
    """Return the nights of a camera whose frames cover targets they were not measured at, the oldest list first.

    Each distinct pointing is compared once with the targets that are new to it.

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
    night = frames["night"].to_numpy()
    covers, pointings = np.zeros(frames.num_rows, bool), Pointings.of(frames)
    listed = last.stored(["star_id", "ra_deg", "dec_deg", "version"])
    places = unit_vectors(listed["ra_deg"].to_numpy(), listed["dec_deg"].to_numpy())
    for version in np.unique(measured).tolist():
        mine = np.flatnonzero(measured == version)
        covers[mine] = pointings.cover(mine, places[_is_new_since(snapshot, last, listed, lists, version)])
    files = np.asarray(frames["file"].to_pylist(), object)
    order = np.lexsort((pc.rank(frames["file"]).to_numpy(), night, measured))
    by_night: dict[int, list[str]] = {}
    for row in order[covers[order]].tolist():
        by_night.setdefault(int(night[row]), []).append(files[row])
    return [Lacking(one, last.version, list(dict.fromkeys(some))) for one, some in by_night.items()]


def behind(snapshot: Snapshot, camera: str, night: int, version: int) -> set[str]:
    """Return the files of a night whose good frames were measured with a list before a version, or with none."""
    return set(_frames_behind(snapshot, camera, version, [night])["file"].to_pylist())


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


def _is_new_since(
    snapshot: Snapshot, last: TargetList, listed: pa.Table, lists: dict[int, Part], version: int
) -> npt.NDArray[np.bool_]:
    """Return which targets of a list an earlier version lacks."""
    if version >= last.base_version:
        return np.asarray(listed["version"].to_numpy() > version)
    if version not in lists:
        return np.ones(listed.num_rows, bool)
    known = TargetList.of(snapshot, last.camera, version, lists).rows(["star_id"])["star_id"]
    return ~np.isin(listed["star_id"].to_numpy(), known.to_numpy())


@dataclass(frozen=True, slots=True)
class Pointings:
    """Circles about frames, each that several frames share once.

    Attributes
    ----------
    centre : ndarray of float64, shape (m, 3)
        Unit vectors.
    chord : ndarray of float64, shape (m,)
        From the centre to the circle.
    of_frame : ndarray of int64, shape (n,)
        The circle of each frame; -1 without a place.
    """

    centre: npt.NDArray[np.float64]
    chord: npt.NDArray[np.float64]
    of_frame: npt.NDArray[np.int64]

    @classmethod
    def of(cls, frames: pa.Table) -> Pointings:
        """Return those of some frames."""
        ra, dec, scale, width, height = (
            frames[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in _PLACE
        )
        radius = np.minimum(0.5 * np.hypot(width, height) * scale / 3600.0, _MOST_DEG)
        known = np.isfinite(ra) & np.isfinite(radius)
        circles, which = np.unique(np.column_stack([ra, dec, radius])[known], axis=0, return_inverse=True)
        of_frame = np.full(len(ra), -1, np.int64)
        of_frame[known] = which.reshape(-1)
        chords = 2.0 * np.sin(0.5 * np.radians(circles[:, 2]))
        return cls(unit_vectors(circles[:, 0], circles[:, 1]), chords, of_frame)

    def cover(self, frames: npt.NDArray[np.int64], targets: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return whether a target, given as unit vectors, lies within the circle about each of some frames."""
        from scipy.spatial import cKDTree

        which = self.of_frame[frames]
        covers = np.zeros(len(frames), bool)
        used, place = np.unique(which[which >= 0], return_inverse=True)
        if len(targets) and len(used):
            away, _ = cKDTree(targets).query(self.centre[used])
            covers[which >= 0] = (away <= self.chord[used])[place.reshape(-1)]
        return covers

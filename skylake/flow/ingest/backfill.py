"""Backfill: measure targets on the frames that were reduced before they were targets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.batch import UNDATED
from skylake.core.counted import counted
from skylake.core.reasons import Status
from skylake.core.sphere import unit_vectors
from skylake.durable import replace_durably
from skylake.errors import LakeError, cannot_be_written
from skylake.flow.compaction.unbundle import unbundle
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress
from skylake.flow.forced.target_list import part_name, parts_of
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.ingest.table_rows import is_of_table
from skylake.lake import Lake, Snapshot

_PLACE = ("ra_deg", "dec_deg", "pixel_scale_arcsec", "width_px", "height_px")
_COLUMNS = ["frame_id", "night", "targets_version", *_PLACE]
#: Tables that measurements of targets change.
_CHANGED = ("frames", "forced_sources")
#: No part of a frame is farther from its centre, degrees.
_MOST_DEG = 90.0
#: Files of up to this level, which hold some 64 nights, are written anew when one of their nights is measured.
_MOST_LEVEL = 2


@dataclass(slots=True)
class BackfillReport:
    """What a backfill did to a camera.

    Attributes
    ----------
    camera : str
    n_frames, n_nights : int
        Frames and nights that were measured again.
    n_left : int
        Nights that lack targets still.
    n_merged : int
        Those of them that are left because they share files with so many others that all would be written anew.
    missing : list of str
        Files that are not where they were.
    """

    camera: str
    n_frames: int = 0
    n_nights: int = 0
    n_left: int = 0
    n_merged: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The report as a sentence."""
        done = f"{counted(self.n_frames, 'frame')} of {counted(self.n_nights, 'night')}"
        text = f"backfill {self.camera}: {done} measured"
        if self.n_left:
            text += f", {counted(self.n_left, 'night')} left"
        if self.n_merged:
            text += (
                f", {self.n_merged} of them for `skylake backfill`, which is faster with many nights at once"
            )
        return text

    @property
    def advice(self) -> str | None:
        """What to do about files that are gone; None if all are there."""
        if not self.missing:
            return None
        return (
            f"{counted(len(self.missing), 'frame')} of {self.camera} lack targets and cannot be read again, such as "
            f"{self.missing[0]}; put the files back, or `skylake ingest --redo` them where they are now"
        )


def backfill(
    lake: Lake,
    camera: str,
    workers: Workers,
    progress: Progress,
    limit: int | None = None,
    most_frames: int | None = None,
    unattended: bool = False,
    most_level: int = _MOST_LEVEL,
) -> BackfillReport:
    """Measure the targets in force of a camera on those frames that cover targets they lack.

    Frames measured with the oldest list come first, night by night; each night is one commit, so a run that is
    interrupted goes on where it was.

    Parameters
    ----------
    lake : Lake
    camera : str
    workers : Workers
    progress : Progress
    limit, most_frames : int or None
        Nights and frames, at most; None takes all.
    unattended : bool
        Leave out nights that were made with another profile than that in force, those in files of many nights, and
        frames that were tried in vain.
    most_level : int
        Of files that may be written anew for a night if unattended, so that a run costs the same however many nights
        there are.

    Raises
    ------
    LakeError
        If the camera has no list of targets, or the lake cannot be read or written.
    """
    report = BackfillReport(camera)
    profile, snapshot = lake.profile(camera), lake.snapshot()
    waiting = lacking(snapshot, camera)
    in_vain = _read_memory(lake, camera)
    if unattended:
        own = {"configuration": profile.sha256}
        waiting = [one for one in waiting if _made_with(snapshot, one, own)]
        within = [one for one in waiting if _level(snapshot, one) <= most_level]
        report.n_merged = report.n_left = len(waiting) - len(within)
        waiting = within
    # Files that several of these nights share are written once, and not again for each night.
    chosen = waiting[:limit]
    if not unattended:
        unbundle(lake, workers, {table: _names(snapshot, table, chosen) for table in _CHANGED}, progress)
    for one in waiting:
        room = np.inf if most_frames is None else most_frames - report.n_frames
        if room <= 0 or (limit is not None and report.n_nights >= limit):
            report.n_left += 1
            continue
        files = [file for file in one.files if not (unattended and in_vain.get(file) == one.version)]
        there = [file for file in files if Path(file).is_file()]
        report.missing += sorted(file for file in set(files) - set(there) if not is_of_table(file))
        if not there:
            continue
        some = there[: int(min(room, len(there)))]
        options = IngestOptions(redo=True, first_night=one.night, last_night=one.night)
        ingest(lake, profile, some, workers, options, progress)
        report.n_frames, report.n_nights = report.n_frames + len(some), report.n_nights + 1
        report.n_left += len(some) < len(there)
        left = set(some).intersection(replace(one, snapshot=lake.snapshot()).behind)
        in_vain |= dict.fromkeys(left, one.version)
    if in_vain != _read_memory(lake, camera):
        _write_memory(lake, camera, in_vain)
    return report


def _made_with(snapshot: Snapshot, night: Lacking, configuration: Mapping[str, str]) -> bool:
    """Return whether all frames of a night were made with a profile."""
    names = ("configuration", "earlier_configurations")
    return all(
        {name: part.inputs[name] for name in names if name in part.inputs} == configuration
        for part in snapshot.parts("frames").values()
        if (part.camera, part.night) == (night.camera, night.night)
    )


def _level(snapshot: Snapshot, night: Lacking) -> int:
    """Return the level of the largest files with measurements of a night, 0 for files of its own."""
    levels = [0]
    for table in _CHANGED:
        version = snapshot.version(table)
        names = _names(snapshot, table, [night])
        levels += [
            version.bundles[version.bundle_of[name]].level for name in names if name in version.bundle_of
        ]
    return max(levels)


def _names(snapshot: Snapshot, table: str, nights: Sequence[Lacking]) -> list[str]:
    """Return the names of the parts of a table that have some nights."""
    wanted = {(one.camera, one.night) for one in nights}
    return [name for name, part in snapshot.parts(table).items() if (part.camera, part.night) in wanted]


def _read_memory(lake: Lake, camera: str) -> dict[str, int]:
    """Return the files of frames that could not be measured, each with the version of the list."""
    try:
        found: dict[str, int] = json.loads(lake.layout.backfill_memory(camera).read_bytes())
    except (OSError, ValueError):
        # No data are lost: such frames are tried once more.
        return {}
    return found


def _write_memory(lake: Lake, camera: str, in_vain: Mapping[str, int]) -> None:
    try:
        replace_durably(
            lake.layout.backfill_memory(camera), json.dumps(in_vain, indent=0, sort_keys=True) + "\n"
        )
    except OSError as error:
        raise cannot_be_written(lake.root, error) from error


def lacking(snapshot: Snapshot, camera: str) -> list[Lacking]:
    """Return the nights of a camera whose frames cover targets they were not measured at, the oldest list first.

    Each distinct pointing is compared once with the targets that are new to it, and names of files are read only of
    nights that are asked for them.

    Raises
    ------
    LakeError
        If the camera has no list of targets, or cannot be read.
    """
    versions = parts_of(snapshot, camera)
    if not versions:
        raise LakeError(
            f"{snapshot.layout.root}: {camera} has no list of targets; `skylake targets` makes one"
        )
    last = max(versions)
    good = (pc.field("status") == Status.OK.value) & (pc.field("night") != UNDATED)
    behind = pc.field("targets_version").is_null() | (pc.field("targets_version") < last)
    frames = snapshot.read("frames", _COLUMNS, lambda part: part.camera == camera, good & behind)
    measured = frames["targets_version"].fill_null(0).to_numpy()
    night = frames["night"].to_numpy()
    listed = snapshot.read_part("targets", part_name(camera, last), ["star_id", "ra_deg", "dec_deg"])
    covers = np.zeros(frames.num_rows, bool)
    for version in np.unique(measured).tolist():
        known = snapshot.read_part("targets", part_name(camera, version), ["star_id"])["star_id"]
        new = listed.filter(pc.invert(pc.is_in(listed["star_id"], known.combine_chunks())))
        mine = np.flatnonzero(measured == version)
        covers[mine] = covered_by(frames.take(pa.array(mine)), new)
    order = np.lexsort((night, measured))
    order = order[covers[order]]
    by_night: dict[int, list[int]] = {}
    for row in order.tolist():
        by_night.setdefault(int(night[row]), []).append(row)
    frame_id = frames["frame_id"].to_numpy()
    return [Lacking(snapshot, camera, one, last, frame_id[rows]) for one, rows in by_night.items()]


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
        """Their files, in order."""
        return self._files(None)

    @property
    def behind(self) -> list[str]:
        """The files of those that the snapshot has measured with an earlier list, or with none."""
        version = pc.field("targets_version")
        return self._files(version.is_null() | (version < self.version))

    def _files(self, which: pc.Expression | None) -> list[str]:
        chosen = pc.field("frame_id").isin(pa.array(self.frame_id))
        rows = self.snapshot.read(
            "frames",
            ["file"],
            lambda part: (part.camera, part.night) == (self.camera, self.night),
            chosen if which is None else chosen & which,
        )
        return sorted(set(rows["file"].to_pylist()))


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

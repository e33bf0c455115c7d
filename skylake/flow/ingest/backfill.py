"""Backfill: measure targets on the frames that were reduced before they were targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.batch import UNDATED
from skylake.core.counted import counted
from skylake.core.reasons import Status
from skylake.core.sphere import separation_deg
from skylake.errors import LakeError
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress
from skylake.flow.forced.target_list import part_name, parts_of
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.lake import Lake, Snapshot

_COLUMNS = [
    "file", "night", "ra_deg", "dec_deg", "pixel_scale_arcsec", "width_px", "height_px", "targets_version",
]  # fmt: skip
#: No part of a frame is farther from its centre, degrees.
_MOST_DEG = 90.0


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
    missing : list of str
        Files that are not where they were.
    """

    camera: str
    n_frames: int = 0
    n_nights: int = 0
    n_left: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The report as a sentence."""
        done = f"{counted(self.n_frames, 'frame')} of {counted(self.n_nights, 'night')}"
        text = f"backfill {self.camera}: {done} measured"
        if self.n_left:
            text += f", {counted(self.n_left, 'night')} left"
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
    lake: Lake, camera: str, workers: Workers, progress: Progress, limit: int | None = None
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
    limit : int or None
        Nights, at most; None takes all.

    Raises
    ------
    LakeError
        If the camera has no list of targets, or the lake cannot be written.
    """
    report = BackfillReport(camera)
    profile = lake.profile(camera)
    waiting = list(lacking(lake.snapshot(), camera))
    for night, files in waiting:
        there = [file for file in files if Path(file).is_file()]
        report.missing += sorted(file for file in set(files) - set(there) if not _is_of_table(file))
        if limit is not None and report.n_nights >= limit:
            report.n_left += bool(there)
        elif there:
            ingest(
                lake,
                profile,
                there,
                workers,
                IngestOptions(redo=True, first_night=night, last_night=night),
                progress,
            )
            report.n_frames, report.n_nights = report.n_frames + len(there), report.n_nights + 1
    return report


def lacking(snapshot: Snapshot, camera: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the nights and files of the frames that cover targets they were not measured at, the oldest list first.

    Raises
    ------
    LakeError
        If the camera has no list of targets.
    """
    versions = parts_of(snapshot, camera)
    if not versions:
        raise LakeError(
            f"{snapshot.layout.root}: {camera} has no list of targets; `skylake targets` makes one"
        )
    last = max(versions)
    good = (pc.field("status") == Status.OK.value) & (pc.field("night") != UNDATED)
    frames = snapshot.read("frames", _COLUMNS, lambda part: part.camera == camera, good)
    measured = frames["targets_version"].fill_null(0).to_numpy()
    listed = snapshot.read_part("targets", part_name(camera, last), ["star_id", "ra_deg", "dec_deg"])
    found: dict[tuple[int, int], list[str]] = {}
    for version in np.unique(measured[measured < last]).tolist():
        known = snapshot.read_part("targets", part_name(camera, version), ["star_id"])["star_id"]
        new = listed.filter(pc.invert(pc.is_in(listed["star_id"], known.combine_chunks())))
        for row in frames.filter(pa.array(measured == version)).to_pylist():
            if _covers(row, new):
                found.setdefault((version, row["night"]), []).append(row["file"])
    by_night: dict[int, list[str]] = {}
    for (_, night), files in sorted(found.items()):
        by_night.setdefault(night, []).extend(files)
    yield from ((night, sorted(set(files))) for night, files in by_night.items())


def _is_of_table(file: str) -> bool:
    """Return whether a frame came as rows of a table, which have no pixels to measure targets on."""
    return "#" in file and Path(file.rpartition("#")[0]).is_file()


def _covers(row: Mapping[str, Any], targets: pa.Table) -> bool:
    """Return whether a target lies within the circle about a frame."""
    if targets.num_rows == 0 or row["ra_deg"] is None or row["pixel_scale_arcsec"] is None:
        return False
    radius = 0.5 * np.hypot(row["width_px"], row["height_px"]) * row["pixel_scale_arcsec"] / 3600.0
    ra, dec = targets["ra_deg"].to_numpy(), targets["dec_deg"].to_numpy()
    away = separation_deg(row["ra_deg"], row["dec_deg"], ra, dec)
    return bool(np.any(away <= min(radius, _MOST_DEG)))

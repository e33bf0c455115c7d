"""The options of an ingest, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from skylake.core.batch import UNDATED, Batch
from skylake.core.camera import Camera
from skylake.core.counted import counted
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason, Status
from skylake.flow.ingest.chunk_rows import Chunk
from skylake.flow.ingest.profile_contradictions import Contradiction, ReportedFrame
from skylake.image.solving.expected_pointing import Attitude
from skylake.lake import Part

_PROBLEM = ("camera", "file", "status", "reason", "message")
_REPORTED = [*_PROBLEM, "frame_id", "night", "mjd_mid"]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What to ingest.

    Attributes
    ----------
    redo : bool
        Reduce frames again that the lake holds already.
    first_night, last_night : int or None
        Nights (YYYYMMDD) to take; frames without a time are then left out.
    attitudes : dict
        File to how the telescope pointed, for frames whose siblings in a mosaic show it.
    neighbours : bool
        Whether a frame whose stars do not show where it points is placed by the frames before and after.
    retry : frozenset of str
        Reasons of frames to reduce again, even if the lake has nothing new for them.
    """

    redo: bool = False
    first_night: int | None = None
    last_night: int | None = None
    attitudes: Mapping[str, Attitude] = field(default_factory=dict)
    neighbours: bool = True
    retry: frozenset[str] = frozenset()

    def takes(self, night: int) -> bool:
        """Return whether a night is to be taken."""
        first = self.first_night is None or night >= self.first_night
        return first and (self.last_night is None or night <= self.last_night)


@dataclass(slots=True)
class IngestReport:
    """What an ingest did.

    Attributes
    ----------
    counts : dict
        Frames by status.
    problems : list of dict
        camera, file, status, reason and message of each frame that is not ok or lacks its targets.
    batches : list of dict
        camera, night, frames, ok, sources and forced_sources of each batch that was committed.
    n_known : int
        Files that the lake held already.
    repeated : list of str
        Files with the content of another.
    complaints : list of str
        Sentences about folders that cannot be read.
    n_otherwise : int
        Nights of the camera in the lake that were made, all or in part, with another configuration of it.
    unchecked : list of str
        Good files whose WCS could not be checked, since the catalog has too few stars where it points.
    unexposed : list of str
        Good files without an exposure in their header, although the profile names cards for it.
    contradicting : list of str
        Good files whose stars contradict the profile, or with a message on header or pixels, each with its sentence.
    contradictions : list of Contradiction
        Values of the profile that several frames contradict in the same way.
    half_skies : list of int
        Nights with frames whose sky was made from frames on one side only, although both sides are in the lake now.
    overlapping : list of str
        A sentence for each camera whose exposures last beyond the start of the next frame.
    kept : list of str
        A sentence for each file that failed or could not be placed now, and whose good frame the lake keeps.
    """

    counts: dict[str, int] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    batches: list[dict[str, Any]] = field(default_factory=list)
    n_known: int = 0
    repeated: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    n_otherwise: int = 0
    unchecked: list[str] = field(default_factory=list)
    unexposed: list[str] = field(default_factory=list)
    contradicting: list[str] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    half_skies: list[int] = field(default_factory=list)
    overlapping: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def n_without_targets(self) -> int:
        """Good frames whose targets could not be measured."""
        return sum(problem["reason"] == Reason.TARGETS_FAILED for problem in self.problems)

    @property
    def all_well(self) -> bool:
        """Whether every frame was used, with its targets, or skipped on purpose."""
        return not (self.complaints or self.kept or self.n_without_targets) and not any(
            self.counts.get(status) for status in (Status.REJECTED.value, Status.FAILED.value)
        )

    def add(self, further: IngestReport) -> None:
        """Add the report of another chip."""
        self._count(further.counts)
        self.problems += further.problems
        self.batches += further.batches
        self.n_known += further.n_known
        self.repeated += further.repeated
        self.complaints += [one for one in further.complaints if one not in self.complaints]
        self.n_otherwise += further.n_otherwise
        self.unchecked += further.unchecked
        self.unexposed += further.unexposed
        self.contradicting += further.contradicting
        self.contradictions += further.contradictions
        self.overlapping += further.overlapping
        self.kept += further.kept
        self.half_skies = sorted({*self.half_skies, *further.half_skies})

    def replace(self, camera: str, again: IngestReport, files: Collection[str]) -> None:
        """Replace the results of some frames of a camera by those of their second reduction."""
        for batch in again.batches:
            for one in self.batches:
                if (one["camera"], one["night"]) == (batch["camera"], batch["night"]):
                    one["ok"] += batch["ok"]
                    one |= {name: batch[name] for name in ("sources", "forced_sources")}
        before = [one for one in self.problems if one["file"] in files and one["camera"] == camera]
        for problem in before:
            self.problems.remove(problem)
            self.counts[problem["status"]] -= 1
        self.counts = {status: number for status, number in self.counts.items() if number}
        self._count(again.counts)
        self.problems += again.problems

    def add_batch(
        self, camera: Camera, batch: Batch, chunks: Sequence[Chunk], parts: Sequence[Part]
    ) -> tuple[list[ReportedFrame], str]:
        """Add a batch that was committed; return its frames of the sky, and a line for people."""
        _, sources, forced = parts
        rows = [row for chunk in chunks for row in _reported(chunk)]
        statuses = [row["status"] for row in rows]
        self._count(Counter(statuses))
        self.problems += [{name: row[name] for name in _PROBLEM} for row in rows if row["reason"] is not None]
        self.unchecked += [file for chunk in chunks for file in unchecked_files(chunk.frames)]
        self.contradicting += [one for chunk in chunks for one in contradicting_files(chunk.frames)]
        self.unexposed += [file for chunk in chunks for file in unexposed_files(chunk.frames, camera)]
        n_ok = statuses.count(Status.OK.value)
        entry = {"camera": batch.camera, "night": batch.night, "frames": len(rows), "ok": n_ok}
        self.batches.append(entry | {"sources": sources.n_rows, "forced_sources": forced.n_rows})
        targets = f", {forced.n_rows} measurements of targets" if forced.n_rows else ""
        line = f"{n_ok} of {counted(len(rows), 'frame')} ok, {counted(sources.n_rows, 'source')} in the night{targets}"
        shown = [
            ReportedFrame(row["file"], row["night"], row["mjd_mid"], row["corrections"])
            for row in rows
            if row["status"] != Status.SKIPPED
        ]
        name = batch if batch.night != UNDATED else f"{batch.camera}, frames without a time"
        return shown, f"ingest {name}: {line}"

    def _count(self, counts: Mapping[str, int]) -> None:
        for status, number in counts.items():
            self.counts[status] = self.counts.get(status, 0) + number


def _reported(chunk: Chunk) -> list[dict[str, Any]]:
    """Return the columns of the frames of a chunk that are reported."""
    rows: list[dict[str, Any]] = chunk.frames.select(_REPORTED).to_pylist()
    return [row | {"corrections": chunk.corrections.get(row["frame_id"], {})} for row in rows]


def unchecked_files(frames: pa.Table) -> list[str]:
    """Return the files of good frames that point where the catalog has too few stars to check their WCS."""
    rows = frames.select(["file", "status", "flags", "wcs_expected"]).to_pylist()
    return [
        row["file"]
        for row in rows
        # Without a catalog no stars are expected; such frames need no report.
        if row["status"] == Status.OK
        and row["flags"] & FrameFlag.WCS_UNCHECKED
        and row["wcs_expected"] is not None
    ]


def contradicting_files(frames: pa.Table) -> list[str]:
    """Return the files of good frames that have a message, each with its message."""
    rows = frames.select(["file", "status", "reason", "message"]).to_pylist()
    return [
        f"{row['file']}: {row['message']}"
        for row in rows
        if row["status"] == Status.OK and row["reason"] is None and row["message"] is not None
    ]


def unexposed_files(frames: pa.Table, camera: Camera) -> list[str]:
    """Return the files of good frames without an exposure in their header, although the profile names cards for it."""
    rows = frames.select(["file", "status", "flags"]).to_pylist() if camera.header.exposure.cards else []
    return [
        row["file"]
        for row in rows
        if row["status"] == Status.OK and row["flags"] & FrameFlag.EXPOSURE_ASSUMED
    ]

"""Backfill: measure targets on the frames that were reduced before they were targets.

The command looks at all nights of a camera. The nightly run looks at some nights a day, from the first to the last and
from the start again once the list has grown, and remembers how far it has come: so it costs the same however many
nights there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from skylake.cameras import Profile
from skylake.core.batch import UNDATED, Batch
from skylake.core.counted import counted
from skylake.durable import content_of, replace_durably
from skylake.errors import cannot_be_written
from skylake.flow.compaction.unbundle import unbundle
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress
from skylake.flow.forced.target_list import list_name, parts_of
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.ingest.lacking_targets import Lacking, behind, lacking, no_list
from skylake.flow.ingest.table_rows import is_of_table
from skylake.lake import Lake

#: Tables that measurements of targets change.
_CHANGED = ("frames", "forced_sources")
#: Nights that a nightly run looks at.
_MOST_EXAMINED = 32
#: Nights whose files a nightly run writes anew at most, as those that it measures share files with others: two bundles
#: of the second level, or one that has got larger since not every night was compacted.
_MOST_WRITTEN = 128


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
    n_merged, n_otherwise : int
        Those of them that nightly runs leave out: they share files with too many others, or were made with another
        profile.
    n_unseen : int
        Nights that were not compared with the list in force so far.
    missing : list of str
        Files that are not where they were.
    """

    camera: str
    n_frames: int = 0
    n_nights: int = 0
    n_left: int = 0
    n_merged: int = 0
    n_otherwise: int = 0
    n_unseen: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The report as a sentence."""
        done = f"{counted(self.n_frames, 'frame')} of {counted(self.n_nights, 'night')}"
        text = f"backfill {self.camera}: {done} measured"
        if self.n_left:
            text += f", {counted(self.n_left, 'night')} left"
        if self.n_unseen:
            text += f", {counted(self.n_unseen, 'night')} not yet compared with the newest targets"
        kinds = {"made with another profile": self.n_otherwise, "in files of many nights": self.n_merged}
        kinds = {what: count for what, count in kinds.items() if count}
        if kinds:
            why = " and ".join(f"{count} {what}" for what, count in kinds.items())
            text += f"; `skylake backfill` measures {counted(sum(kinds.values()), 'night')} of these: {why}"
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


@dataclass(slots=True)
class _Memory:
    """What a backfill remembers of a camera; a lost memory costs time and nothing else.

    Attributes
    ----------
    in_vain : dict
        Files of frames that could not be measured, each with the version of the list.
    began_with : str
        List with which nightly runs began at the first night.
    night : int
        Last night that they have looked at since.
    left_out : dict
        Nights that lack targets and are left to the command, each with the checksum of its frames.
    """

    in_vain: dict[str, int] = field(default_factory=dict)
    began_with: str = ""
    night: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, lake: Lake, camera: str) -> _Memory:
        """Return what is remembered of a camera."""
        try:
            values = json.loads(content_of(lake.layout.backfill_memory(camera)))
            return cls(**values)
        except (OSError, ValueError, TypeError):
            # No data are lost: such frames are tried, and such nights looked at, once more.
            return cls()

    def write(self, lake: Lake, camera: str) -> None:
        """Remember it for the next run, if anything is new."""
        if self == _Memory.read(lake, camera):
            return
        try:
            text = json.dumps(asdict(self), indent=0, sort_keys=True)
            replace_durably(lake.layout.backfill_memory(camera), text + "\n")
        except OSError as error:
            raise cannot_be_written(lake.root, error) from error


def backfill(
    lake: Lake, camera: str, workers: Workers, progress: Progress, limit: int | None = None
) -> BackfillReport:
    """Measure the targets in force of a camera on those frames that cover targets they lack.

    Each night is one commit, so a run that is interrupted goes on where it was.

    Parameters
    ----------
    lake : Lake
    camera : str
    workers : Workers
    progress : Progress
    limit : int or None
        Nights, at most, those measured with the oldest list; None takes all.

    Raises
    ------
    LakeError
        If the camera has no list of targets, or the lake cannot be read or written.
    """
    report, memory = BackfillReport(camera), _Memory.read(lake, camera)
    waiting = lacking(lake.snapshot(), camera)
    chosen: list[tuple[Lacking, list[str]]] = []
    for one in waiting:
        if limit is not None and len(chosen) >= limit:
            report.n_left += 1
        elif some := _there(one, report):
            chosen.append((one, some))
    _measure(lake, lake.profile(camera), chosen, workers, progress, report, memory)
    memory.write(lake, camera)
    return report


def backfill_nightly(
    lake: Lake, camera: str, workers: Workers, progress: Progress, most_frames: int
) -> BackfillReport:
    """Measure the targets in force of a camera on some frames that cover targets they lack, a part of them each day.

    Nights are looked at in their order, from where the last run ended. Left to :func:`backfill` are nights that were
    made with another profile than that in force, and those in files of many nights. Frames that were tried in vain are
    left alone until the list grows.

    Parameters and errors are those of :func:`backfill`, except that `most_frames` bounds the frames.
    """
    report, memory = BackfillReport(camera), _Memory.read(lake, camera)
    course = _Course(lake, camera, memory)
    chosen = course.choose(most_frames, report)
    _measure(lake, course.profile, chosen, workers, progress, report, memory)
    course.count(report)
    memory.write(lake, camera)
    return report


def _there(night: Lacking, report: BackfillReport, in_vain: Mapping[str, int] | None = None) -> list[str]:
    """Return the files of a night that can be measured, and report those that are gone."""
    files = [file for file in night.files if (in_vain or {}).get(file) != night.version]
    there = [file for file in files if Path(file).is_file()]
    report.missing += sorted(file for file in set(files) - set(there) if not is_of_table(file))
    return there


def _measure(
    lake: Lake,
    profile: Profile,
    chosen: Sequence[tuple[Lacking, list[str]]],
    workers: Workers,
    progress: Progress,
    report: BackfillReport,
    memory: _Memory,
) -> None:
    """Reduce some frames of some nights again, and note those that could not be measured."""
    if not chosen:
        return
    nights = [one.night for one, _ in chosen]
    names = [_part_of(profile.name, night) for night in nights]
    # Files that several of these nights share are written once, and not again for each night.
    unbundle(lake, workers, dict.fromkeys(_CHANGED, names), progress)
    options = IngestOptions(redo=True, first_night=min(nights), last_night=max(nights))
    ingest(lake, profile, [file for _, some in chosen for file in some], workers, options, progress)
    after = lake.snapshot()
    for one, some in chosen:
        report.n_frames, report.n_nights = report.n_frames + len(some), report.n_nights + 1
        left = behind(after, profile.name, one.night, one.version).intersection(some)
        memory.in_vain |= dict.fromkeys(left, one.version)


def _part_of(camera: str, night: int) -> str:
    """Return the name of what a night has in each of the tables of frames."""
    return str(Batch(camera, night))


class _Course:
    """The nights of a camera in their order, and how far nightly runs have come.

    Parameters
    ----------
    lake : Lake
    camera : str
    memory : _Memory
        Is kept up to date.

    Raises
    ------
    LakeError
        If the camera has no list of targets.
    """

    def __init__(self, lake: Lake, camera: str, memory: _Memory) -> None:
        self.camera, self.memory = camera, memory
        self.profile, self.snapshot = lake.profile(camera), lake.snapshot()
        lists = parts_of(self.snapshot, camera)
        if not lists:
            raise no_list(lake.root, camera)
        self.last = max(lists)
        parts = (part for part in self.snapshot.parts("frames").values() if part.camera == camera)
        self.nights = {part.night: part for part in parts if part.night is not None and part.night != UNDATED}
        memory.left_out = {night: sha for night, sha in memory.left_out.items() if int(night) in self.nights}
        begun = {list_name(part): version for version, part in lists.items()}.get(memory.began_with, 0)
        if not begun or (begun < self.last and memory.night >= max(self.nights, default=0)):
            begun, memory.began_with, memory.night = self.last, list_name(lists[self.last]), 0
        #: Frames measured with this version or a later one have had their turn.
        self.begun = begun
        self._opened: dict[tuple[str, str], int] = {}
        self._examined: set[int] = set()
        self._waiting: set[int] = set()

    def choose(self, most_frames: int, report: BackfillReport) -> list[tuple[Lacking, list[str]]]:
        """Return the nights to measure with their files, and note how far the nights are looked at then."""
        left_out = sorted(map(int, self.memory.left_out))
        again = set([night for night in left_out if self._is_changed(night)][:_MOST_EXAMINED])
        ahead = set(sorted(night for night in self.nights if night > self.memory.night)[:_MOST_EXAMINED])
        self._examined = again | ahead
        found: dict[int, Lacking] = {}
        if self._examined:
            some_nights = lacking(self.snapshot, self.camera, self._examined, self.begun)
            found = {one.night: one for one in some_nights}
        self._waiting = {night for night in found if not self._is_left_out(night)}
        chosen: list[tuple[Lacking, list[str]]] = []
        room = most_frames
        for night in sorted(self._examined):
            if night in self._waiting:
                there = _there(found[night], report, self.memory.in_vain)
                if there and (room <= 0 or not self._opens(night)):
                    break
                if there:
                    chosen.append((found[night], there[:room]))
                room -= len(there)
                if room < 0:
                    break
                self._waiting.remove(night)
            self.memory.left_out.pop(str(night), None)
            if night in found and self._is_left_out(night):
                self.memory.left_out[str(night)] = self.nights[night].checksum[:16]
            if night in ahead:
                self.memory.night = night
        return chosen

    def count(self, report: BackfillReport) -> None:
        """Report how many nights are left."""
        left_out = {int(night) for night in self.memory.left_out}
        report.n_left = len(left_out | self._waiting)
        report.n_otherwise = sum(not self._is_as_profile(night) for night in left_out)
        report.n_merged = sum(self._is_as_profile(night) and self._is_left_out(night) for night in left_out)
        seen = self._examined | left_out
        if self.begun == self.last:
            seen |= {night for night in self.nights if night <= self.memory.night}
        report.n_unseen = len(self.nights.keys() - seen)

    def _is_changed(self, night: int) -> bool:
        """Return whether a night that was left out has changed since, or need not be left out any more."""
        known = self.memory.left_out[str(night)]
        return known != self.nights[night].checksum[:16] or not self._is_left_out(night)

    def _is_left_out(self, night: int) -> bool:
        return not self._is_as_profile(night) or max(self._bundles(night).values(), default=0) > _MOST_WRITTEN

    def _is_as_profile(self, night: int) -> bool:
        """Return whether all frames of a night were made with the profile in force."""
        inputs = self.nights[night].inputs
        return inputs.get("configuration") == self.profile.sha256 and "earlier_configurations" not in inputs

    def _bundles(self, night: int) -> dict[tuple[str, str], int]:
        """Return the bundles that a night is in, by table and name, and the nights of each."""
        name, found = _part_of(self.camera, night), {}
        for table in _CHANGED:
            version = self.snapshot.version(table)
            if name in version.bundle_of:
                bundle = version.bundles[version.bundle_of[name]]
                found[table, bundle.name] = len(bundle.names)
        return found

    def _opens(self, night: int) -> bool:
        """Return whether the files of a night may be written anew too, and note that they are."""
        opened = self._opened | self._bundles(night)
        if any(sum(n for (of, _), n in opened.items() if of == table) > _MOST_WRITTEN for table in _CHANGED):
            return False
        self._opened = opened
        return True

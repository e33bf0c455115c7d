"""Commit the nights of an ingest, with the rows that the lake already has and the frames that move between nights."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skylake import logs
from skylake.cameras import Profile
from skylake.core.batch import Batch
from skylake.errors import LakeError, reason_of
from skylake.flow.compaction.unbundle import cut_crowded, unbundle
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress
from skylake.flow.ingest.chunk_rows import Chunk
from skylake.flow.ingest.gather_night import Existing, masters_configuration
from skylake.flow.ingest.known_files import Known
from skylake.lake import Commit, Lake, Part, Snapshot
from skylake.lake.storage.slices import Slice, read_files

_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Moves:
    """Frames of the lake that leave a night because they now belong to another one.

    A frame moves when the site of its camera was corrected, for example, or its file holds a frame of another
    night now. If the two nights were committed one after the other, both or neither would have the frame in between.

    Attributes
    ----------
    frames : dict
        frame_id of the frames that leave, by the pair of nights: the one that they leave and the one that they go to.
    """

    frames: Mapping[tuple[int, int], frozenset[int]]

    @classmethod
    def find(cls, chunks: Mapping[int, Iterable[Chunk]], known: Known) -> Moves:
        """Find the frames that move when new frames, given by night, are added to those in the lake."""
        found: dict[tuple[int, int], set[int]] = {}
        for night, some in chunks.items():
            ids: set[int] = set()
            for chunk in some:
                ids.update(chunk.frames["frame_id"].to_pylist())
                for name in chunk.frames["file"].to_pylist():
                    old = known.frames.of_file(name)
                    if old is not None and old.night != night:
                        found.setdefault((old.night, night), set()).add(old.frame_id)
            # The file of a frame may have been renamed.
            for other, same in known.frames.nights_of(ids).items():
                if other != night:
                    found.setdefault((other, night), set()).update(same)
        return cls({pair: frozenset(gone) for pair, gone in found.items()})

    @property
    def origins(self) -> set[int]:
        """Nights that frames leave."""
        return {origin for origin, _ in self.frames}

    def leaving(self, night: int) -> frozenset[int]:
        """Return the frames that leave a night."""
        return frozenset().union(*(gone for (origin, _), gone in self.frames.items() if origin == night))

    def together(self, nights: Collection[int]) -> list[list[int]]:
        """Divide nights into groups, in order, so that no frame moves from one group to another."""
        group_of = {night: [night] for night in nights}
        for origin, target in sorted(self.frames):
            first, second = group_of[origin], group_of[target]
            if first is not second:
                first += second
                group_of.update(dict.fromkeys(second, first))
        groups = {id(group): sorted(group) for group in group_of.values()}
        return sorted(groups.values())


def existing_parts(
    snapshot: Snapshot,
    batches: Sequence[Batch],
    chunks: Mapping[int, Sequence[Chunk]],
    moves: Moves,
    known: Known,
    staging: Path,
    workers: Workers,
    progress: Progress,
) -> list[Existing]:
    """Return what the lake holds of some nights of one camera, in their order.

    Detections of frames that stay are copied out of bundles in which several of the nights are.
    """
    staying = [str(batch) for batch in batches if _some_stay(known, batch.night, chunks.get(batch.night, ()))]
    made = {
        table: cut_crowded(snapshot, table, staying, staging / table, workers, progress)
        for table in ("sources", "forced_sources")
    }
    found = []
    for batch in batches:
        slices = {table: _slices(snapshot, table, batch) for table in ("frames", *made)}
        for table, some in made.items():
            if str(batch) in some:
                slices[table] = some[str(batch)][1]
        held = snapshot.part("frames", str(batch))
        inputs = held.inputs if held else {}
        gone = moves.leaving(batch.night)
        found.append(Existing(slices["frames"], slices["sources"], gone, inputs, slices["forced_sources"]))
    return found


def _some_stay(known: Known, night: int, chunks: Iterable[Chunk]) -> bool:
    """Return whether a night has frames in the lake that no new one replaces."""
    ids, files = set(), set()
    for chunk in chunks:
        ids.update(chunk.frames["frame_id"].to_pylist())
        files.update(chunk.frames["file"].to_pylist())
    held = known.frames.of_night(night).items()
    return any(frame not in ids and file not in files for frame, file in held)


def _slices(snapshot: Snapshot, table: str, batch: Batch) -> tuple[Slice, ...]:
    part = snapshot.part(table, str(batch))
    return tuple(snapshot.version(table).slices_of(part)) if part else ()


def failure(batch: Batch, error: BaseException, n_waiting: int = 0) -> LakeError:
    """Return the error of a night that could not be gathered, for which some others have to wait."""
    why = reason_of(error, with_file=True)
    others = f", nor {n_waiting} others published that exchange frames with it" if n_waiting else ""
    return LakeError(f"{batch}: the night could not be gathered ({why}){others}; fix that and run again")


def is_held(snapshot: Snapshot, part: Part) -> bool:
    """Return whether a lake holds a part unchanged, or has no such part where this one has no rows.

    A part in the lake whose files are damaged does not count, so ingesting the night again repairs it.
    """
    held = snapshot.part(part.table, part.name)
    if held is None:
        return part.n_rows == 0
    is_same = (held.checksum, held.inputs) == (part.checksum, part.inputs)
    return is_same and snapshot.version(part.table).has_whole(held)


def loosen_changed(
    lake: Lake, parts: Iterable[Part], later: Collection[str], workers: Workers, progress: Progress
) -> None:
    """Take nights that are going to be replaced out of the bundles that hold them.

    If two nights of a bundle have changed, later nights of the run in that bundle are expected to change as well.

    Parameters
    ----------
    lake : Lake
    parts : iterable of Part
        Parts that have been made.
    later : collection of str
        Names of the parts that are made after these.
    workers : Workers
    progress : Progress
    """
    snapshot = lake.snapshot()
    names: dict[str, set[str]] = {}
    for part in parts:
        if not is_held(snapshot, part):
            names.setdefault(part.table, set()).add(part.name)
    for table, changed in names.items():
        version = snapshot.version(table)
        bundles = [version.bundle_of[name] for name in changed if name in version.bundle_of]
        crowded = {bundle for bundle in bundles if bundles.count(bundle) > 1}
        changed.update(name for name in later if version.bundle_of.get(name) in crowded)
    try:
        unbundle(lake, workers, names, progress)
    except LakeError as error:
        # Nights can be replaced one by one as well, which repairs a bundle that cannot be read whole.
        _log.warning("%s; the nights are replaced one by one", error)


def commit_nights(
    lake: Lake,
    made: Mapping[Batch, Iterable[Part]],
    profile: Profile,
    staging: Path,
    base: int,
    checksums: Mapping[str, str] | None = None,
) -> None:
    """Commit the parts of some batches together, except those that the lake holds already.

    The files of a part are in a folder of `staging` that is named after its batch and table. `checksums` are those of
    the masters that frames may have been reduced with; the ledger records which were used.
    """
    commit = Commit("ingest", ", ".join(map(str, made)), base=base)
    commit.configure(profile.configurations)
    snapshot = lake.snapshot()
    for batch, parts in made.items():
        for part in parts:
            if is_held(snapshot, part):
                continue
            folder = staging / str(batch) / part.table
            if part.n_rows == 0:
                commit.remove(part.table, part.name)
            else:
                commit.replace(part, folder)
            if part.table == "frames" and "masters" in part.inputs:
                rows = read_files("frames", [folder / file.path for file in part.files], ["masters"])
                commit.configure([masters_configuration(rows, checksums or {})])
    lake.commit(commit)

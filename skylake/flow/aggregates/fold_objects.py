"""The job of the tables ``objects`` and ``coverage``: add new nights to the objects of each camera, and to its sky.

A part of each is of one camera, and its inputs say of which nights, one after the other. Later nights are added.
If one of these was replaced or removed, or another came between them, both are made anew from all nights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.ids import config_sha256
from skylake.core.reasons import Status
from skylake.flow.aggregates.plan import PlanSources
from skylake.flow.compaction.unbundle import cut_crowded
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress
from skylake.flow.execution.task_guard import value_of
from skylake.flow.forced.target_list import TargetList
from skylake.flow.staleness import Why, why_stale
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.storage.parts import stage_again
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema import load
from skylake.settings import Objects
from skylake.sky.pixels import PixelTree
from skylake.table.clusters import link_arcsec
from skylake.table.coverage import NAME as COVERAGE
from skylake.table.object_identities import Identities, identities
from skylake.table.object_inheritance import COLUMNS as EARLIER_COLUMNS
from skylake.table.object_inheritance import with_earlier_identifiers
from skylake.table.objects import FRAME_COLUMNS, NAME, TARGET_COLUMNS, Folded, NightSeen, fold

_CLUSTERS = "clusters"
#: The tables that are made together.
_MADE = (NAME, COVERAGE)


@dataclass(frozen=True, slots=True)
class PlannedObjects:
    """The objects of a camera, and what they are made from.

    Attributes
    ----------
    camera : str
    nights : tuple of (Part, Part or None)
        Frames and clusters of each night, in the order of time.
    chain : tuple of str
        Checksum of the first night, of the first two, and so on.
    configuration : dict
    """

    camera: str
    nights: tuple[tuple[Part, Part | None], ...]
    chain: tuple[str, ...]
    configuration: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the part."""
        return self.camera

    @property
    def inputs(self) -> dict[str, str]:
        """What the part is made from."""
        return {"nights": self.chain[-1], "configuration": config_sha256(self.configuration)}

    @property
    def made_from(self) -> list[tuple[str, str]]:
        """The parts of other derived tables that it is made from, as (table, part)."""
        return [(_CLUSTERS, frames.name) for frames, _ in self.nights]

    def why(self, snapshot: Snapshot) -> Why | None:
        """Return why the parts are out of date; None if they are not."""
        for table in _MADE:
            version = snapshot.version(table)
            why = why_stale(version.part(self.name), self.inputs, load(table).sha256)
            if why is not None or self.name in version.lost():
                return why or Why.LOST
        return None

    def n_known(self, snapshot: Snapshot) -> int:
        """Return how many nights, from the first, are in both parts of the lake as they are now."""
        held = []
        for table in _MADE:
            version = snapshot.version(table)
            part = version.part(self.name)
            if part is None or self.name in version.lost() or part.schema_sha256 != load(table).sha256:
                return 0
            held.append(part.inputs)
        before = held[0].get("nights")
        if held[0] != held[1] or held[0].get("configuration") != self.inputs["configuration"]:
            return 0
        return self.chain.index(before) + 1 if before in self.chain else 0


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker makes the objects of a camera from: where its files are.

    ``held`` is the part with the objects of earlier nights, and ``folder`` its version of the table, if it has files
    of its own; ``objects`` and ``coverage`` say where the rows of both tables are.
    """

    camera: str
    inputs: dict[str, str]
    objects: Sequence[Slice]
    coverage: Sequence[Slice]
    held: Part | None
    folder: Path
    #: The objects that are replaced, if all are made anew.
    earlier: Sequence[Slice]
    nights: Sequence[tuple[int, Sequence[Slice], Sequence[Slice]]]
    targets: TargetList | None
    settings: Objects
    tree: PixelTree


def plan_objects(sources: PlanSources) -> list[PlannedObjects]:
    """Return the parts of ``objects``, one for each camera with nights of known date."""
    snapshot = sources.snapshot
    clusters = snapshot.parts(_CLUSTERS)
    by_camera: dict[str, list[Part]] = {}
    for part in snapshot.parts("frames").values():
        if part.camera is not None and part.night:
            by_camera.setdefault(part.camera, []).append(part)
    settings = asdict(sources.lake.settings.objects)
    # Which of them become targets changes nothing in them.
    counting = ("least_detections", "least_share", "forget_nights")
    configuration = {"objects": {name: settings[name] for name in counting}}
    planned = []
    for camera, parts in sorted(by_camera.items()):
        parts.sort(key=lambda part: part.night or 0)
        nights = tuple((part, clusters.get(part.name)) for part in parts)
        planned.append(PlannedObjects(camera, nights, tuple(_chain(nights)), configuration))
    return planned


def _chain(nights: Sequence[tuple[Part, Part | None]]) -> Iterator[str]:
    before = ""
    for frames, clusters in nights:
        # Clusters hold all that frames say of objects. So targets that were measured later leave objects as they are.
        seen = {"frames": frames.checksum} if clusters is None else {"clusters": clusters.checksum}
        own = {"night": frames.night} | seen
        before = config_sha256({"before": before} | own)
        yield before


def stale_objects(sources: PlanSources) -> dict[str, tuple[PlannedObjects | None, Why | None]]:
    """Return what is planned of each camera, None where it is not wanted any more, and why it is out of date."""
    snapshot = sources.snapshot
    found: dict[str, tuple[PlannedObjects | None, Why | None]] = {
        one.name: (one, one.why(snapshot)) for one in plan_objects(sources)
    }
    held = set().union(*(snapshot.parts(table) for table in _MADE))
    return found | dict.fromkeys(held - found.keys(), (None, Why.ORPHANED))


def refresh_objects(
    lake: Lake, sources: PlanSources, workers: Workers, progress: Progress
) -> tuple[int, int, int]:
    """Bring the objects of all cameras, and what they cover, up to date, in one commit.

    A line of the progress says of each camera what has become of its objects.

    Returns
    -------
    (int, int, int)
        Parts that were made, removed and left as they were.

    Raises
    ------
    LakeError
        If the lake cannot be read or written.
    """
    snapshot = sources.snapshot
    state = stale_objects(sources)
    stale = [one for one, why in state.values() if one is not None and why is not None]
    gone = sorted(name for name, (one, _) in state.items() if one is None)
    commit = Commit(f"aggregate {NAME}", "-", base=snapshot.number)
    commit.configure(one.configuration for one in stale)
    for name in gone:
        for table in _MADE:
            if name in snapshot.parts(table):
                commit.remove(table, name)
    with lake.stage(f"read-{NAME}") as place, lake.stage(f"aggregate-{NAME}") as staging:
        jobs = [_job(lake, snapshot, one, place / one.name, workers, progress) for one in stale]
        task = dask.delayed(make_objects, pure=False)
        progress.begin(NAME, len(jobs))
        makers = [partial(task, job, staging) for job in jobs]
        results = run_in_windows(workers, makers, lambda *_: progress.advance())
        progress.end()
        found = [value_of(one, "the objects could not be made", "fix that and run again") for one in results]
        for parts, _ in found:
            for part in parts:
                commit.replace(part, staging / part.table)
        lake.commit(commit)
    for _, counts in found:
        progress.line(counts.line)
    return len(stale), len(gone), len(state) - len(stale) - len(gone)


def _job(
    lake: Lake, snapshot: Snapshot, planned: PlannedObjects, place: Path, workers: Workers, progress: Progress
) -> _Job:
    n_known = planned.n_known(snapshot)
    new = planned.nights[n_known:]
    names = [clusters.name for _, clusters in new if clusters is not None]
    copies = cut_crowded(snapshot, _CLUSTERS, names, place, workers, progress)
    found: Mapping[str, Sequence[Slice]] = {name: slices for name, (_, slices) in copies.items()}
    frames, clusters = snapshot.version("frames"), snapshot.version(_CLUSTERS)
    nights = [
        (
            one.night or 0,
            list(frames.slices_of(one)),
            () if other is None else found.get(other.name) or list(clusters.slices_of(other)),
        )
        for one, other in new
    ]
    targets = TargetList.in_force(snapshot, planned.camera)
    versions = {table: snapshot.version(table) for table in _MADE}
    known: dict[str, Sequence[Slice]] = dict.fromkeys(_MADE, ())
    if n_known:
        known = {table: list(one.slices_of(one.parts[planned.name])) for table, one in versions.items()}
    objects = versions[NAME]
    earlier: Sequence[Slice] = ()
    if not n_known and planned.name in objects.parts and planned.name not in objects.lost():
        earlier = list(objects.slices_of(objects.parts[planned.name]))
    return _Job(
        planned.camera,
        planned.inputs,
        known[NAME],
        known[COVERAGE],
        objects.part(planned.name) if n_known and planned.name in objects.fresh else None,
        objects.folder,
        earlier,
        nights,
        targets,
        lake.settings.objects,
        snapshot.tree(NAME, lake.settings.pixel_order),
    )


def make_objects(job: _Job, staging: Path) -> tuple[list[Part], Identities]:
    """Make the objects and the coverage of one camera; runs on a worker, which holds one night at a time."""
    links: list[float] = []

    def nights() -> Iterator[NightSeen]:
        good = pc.field("status") == Status.OK.value
        for night, frames, clusters in job.nights:
            one = NightSeen(
                night, read_files(_CLUSTERS, clusters), read_files("frames", frames, FRAME_COLUMNS, good)
            )
            links.append(link_arcsec(one.frames))
            yield one

    known = Folded(read_files(NAME, job.objects), read_files(COVERAGE, job.coverage))
    listed = job.targets
    targets = read_files("targets", (), TARGET_COLUMNS) if listed is None else listed.rows(TARGET_COLUMNS)
    made = fold(known, nights(), targets, job.settings, job.camera)
    objects = made.objects
    if job.earlier:
        earlier = read_files(NAME, job.earlier, EARLIER_COLUMNS)
        objects = with_earlier_identifiers(objects, earlier, targets, float(np.median(links)))
    coverage = stage_part(
        made.coverage, COVERAGE, job.camera, staging / COVERAGE, None, job.camera, None, job.inputs
    )
    parts = [_objects_part(job, objects, staging / NAME), coverage]
    return parts, identities(job.camera, known.objects, objects, len(job.nights))


def _objects_part(job: _Job, rows: pa.Table, staging: Path) -> Part:
    """Write the objects; where the nights did not look nothing has changed, and what is there is linked."""
    if job.held is not None:
        return stage_again(rows, job.held, job.folder, staging, job.tree, job.inputs)
    return stage_part(rows, NAME, job.camera, staging, job.tree, job.camera, None, job.inputs)

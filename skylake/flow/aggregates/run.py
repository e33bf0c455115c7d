"""The engine of aggregates: it plans what is out of date, makes it batch by batch on the workers, and commits it.

A part of an aggregate holds the rows of one batch, so a new night costs the same however many there are. A table whose
key does not contain the batch is kept in blocks, a row for each batch and key, which readers merge: see
``skylake.lake.access.gathered_views``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pyarrow as pa

from skylake.cameras import Profile
from skylake.core.counted import counted
from skylake.errors import (
    ConfigurationError,
    LakeError,
    SchemaError,
    SkylakeError,
    UsageError,
    reason_of,
    together,
)
from skylake.flow.aggregates.fold_objects import refresh_objects
from skylake.flow.aggregates.plan import Planned, PlanSources, plan
from skylake.flow.aggregates.reference import reference_table
from skylake.flow.aggregates.users import UserAggregate, read_aggregate, user_aggregates
from skylake.flow.compaction.unbundle import cut_crowded, in_groups
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.retry_commit import retry_superseded
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.forced.target_list import TargetList, version_of
from skylake.flow.watching.make_alerts import make_alerts
from skylake.flow.zeropoints.calibration_in_force import calibration_in_force
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema import TableSchema, load
from skylake.schema.tables import TABLES, in_force, register
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import PixelTree
from skylake.table.aggregate import REFERENCE, Aggregate, Given, Input, built_in
from skylake.table.frames import with_calibrated_bands
from skylake.table.objects import NAME as OBJECTS

#: Aggregates of skylake, in the order in which they are made.
AGGREGATES = (*built_in(), OBJECTS)
#: The table of what has changed among watched stars, which is refreshed with the aggregates.
ALERTS = "alerts"
#: What is read to give frames the bands that they were calibrated in.
_BANDS = {"frames": ("frame_id", "filter", "band"), "zeropoints": ("frame_id", "band")}


@dataclass(slots=True)
class AggregateReport:
    """Parts that were made anew, removed and left as they were, by table.

    ``left`` has a sentence for each table of a user that was left as it is, as there is no file for it; ``failed`` one
    for each file of a user that is no aggregate, or whose table could not be made.
    """

    refreshed: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Making:
    """What the tasks of an aggregate share."""

    aggregate: Aggregate
    schema: TableSchema
    tree: PixelTree | None
    profiles: Mapping[str, Profile]
    settings: Mapping[str, Any]
    catalogs: Mapping[str, ReferenceCatalog]


@dataclass(frozen=True, slots=True)
class PartJob:
    """A part to make, and where its inputs are."""

    name: str
    camera: str
    night: int
    inputs: dict[str, str]
    files: Mapping[str, Sequence[Slice]]
    lists: Sequence[TargetList] = ()


def aggregate(
    lake: Lake,
    names: Sequence[str],
    workers: Workers,
    progress: Progress | None = None,
    files: Sequence[Path] = (),
) -> AggregateReport:
    """Refresh the named aggregates, or all of them without names. Each is one commit.

    Without names, files of the user that fail are reported, and keep no other table from being made.

    Parameters
    ----------
    lake : Lake
    names : sequence of str
    workers : Workers
    progress : Progress or None
    files : sequence of Path
        Files with aggregates of the user, in addition to those in the user's own folder.

    Raises
    ------
    UsageError
        If an aggregate of these names does not exist.
    ConfigurationError
        If the file of an aggregate that is named fails, or one of `files` where aggregates are named.
    """
    progress = progress or Silent()
    # How objects are made follows from no definition: they are those of all nights together.
    known: dict[str, Aggregate | UserAggregate | None] = {**built_in(), OBJECTS: None}
    broken: list[ConfigurationError] = []
    for path in files if names else ():
        read_aggregate(path.resolve())
    if not set(names) <= known.keys() or not names:
        own, broken = user_aggregates(files)
        known |= own
    snapshot = lake.snapshot()
    # A table that no batch has parts in is no aggregate: a match of two tables, say.
    tables = [name for name in snapshot.tables if snapshot.schema(name).layout.batch]
    left = [name for name in tables if name not in (*TABLES, *known)]
    unknown = [name for name in names if name not in (*known, *left, ALERTS)]
    if unknown:
        missing = f"there is no aggregate {unknown[0]!r}"
        raise UsageError(
            f"{together(broken)}; {missing} without it"
            if broken
            else f"{missing}; the aggregates are {', '.join([*known, ALERTS])}"
        )
    report = AggregateReport()
    for name in [one for one in known if not names or one in names]:
        try:
            retry_superseded(
                partial(_refresh_one, lake, name, known[name], workers, report, progress), progress
            )
        except (ConfigurationError, SchemaError) as error:
            if names or not isinstance(known[name], UserAggregate):
                raise
            report.failed.append(f"{name} is not refreshed: {error}")
    # Alerts are made of aggregates, so they come after these.
    if not names or ALERTS in names:
        made, current = make_alerts(lake, workers, progress)
        if made or current or names:
            report.refreshed[ALERTS], report.current[ALERTS] = made, current
    for name in [one for one in left if not names or one in names]:
        which = "no file of yours that can be used" if broken else "no file of yours"
        report.left.append(f"{name} stays as it is: {which} says how it is made")
    if not names:
        report.failed += map(str, broken)
    return report


def _refresh_one(
    lake: Lake,
    name: str,
    made_by: Aggregate | UserAggregate | None,
    workers: Workers,
    report: AggregateReport,
    progress: Progress,
) -> None:
    """Bring one table up to date, and report it."""
    if made_by is not None:
        made, gone, current = _refresh(lake, made_by, workers, progress)
    else:
        made, gone, current = refresh_objects(
            lake, PlanSources(lake, calibration_in_force(lake)), workers, progress
        )
    report.refreshed[name], report.removed[name], report.current[name] = made, gone, current
    progress.line(f"aggregate {name}: {counted(made, 'part')} made, {current} up to date")


def _refresh(
    lake: Lake,
    made_by: Aggregate | UserAggregate,
    workers: Workers,
    progress: Progress,
) -> tuple[int, int, int]:
    """Make the parts whose inputs have changed, remove those that are no longer planned, and commit; count these."""
    definition, schema = definition_of(made_by)
    table = definition.name
    sources = PlanSources(lake, calibration_in_force(lake))
    with in_force(schema):
        planned, held, stale = stale_parts(definition, schema, sources)
        gone = set(held) - {one.name for one in planned}
        commit = Commit(f"aggregate {table}", "-", base=sources.snapshot.number)
        commit.configure(one.configuration for one in stale)
        for name in sorted(gone):
            commit.remove(table, name)
        with lake.stage(f"aggregate-{table}") as staging:
            making = _making(lake, definition, schema, sources)
            for group in in_groups(stale, workers):
                for result in _made(lake, making, group, sources.snapshot, staging, workers, progress):
                    commit.replace(result, staging)
            lake.commit(commit)
    return len(stale), len(gone), len(planned) - len(stale)


def definition_of(made_by: Aggregate | UserAggregate) -> tuple[Aggregate, TableSchema]:
    """Return an aggregate and the schema of its table."""
    if isinstance(made_by, UserAggregate):
        return made_by.aggregate, made_by.schema
    return made_by, load(made_by.name)


def stale_parts(
    definition: Aggregate, schema: TableSchema, sources: PlanSources
) -> tuple[list[Planned], dict[str, Part], list[Planned]]:
    """Return the planned parts, the parts in the lake, and which of the planned ones are out of date."""
    planned = list(plan(definition, sources))
    version = sources.snapshot.version(definition.name)
    held, lost, form = version.parts, version.lost(), schema.sha256
    return planned, held, [one for one in planned if one.why(held.get(one.name), form, lost) is not None]


def _making(lake: Lake, definition: Aggregate, schema: TableSchema, sources: PlanSources) -> Making:
    reads = {one.table for one in definition.inputs}
    is_hats = schema.layout.kind == "hats"
    return Making(
        definition,
        schema,
        sources.snapshot.tree(schema.name, lake.settings.pixel_order) if is_hats else None,
        sources.profiles if definition.profile else {},
        {name: getattr(lake.settings, name) for name in definition.settings},
        sources.catalogs if REFERENCE in reads else {},
    )


def _made(
    lake: Lake,
    making: Making,
    planned: Sequence[Planned],
    snapshot: Snapshot,
    staging: Path,
    workers: Workers,
    progress: Progress,
) -> list[Part]:
    """Make some parts; inputs that share files with other nights are first copied to files of their own."""
    table = making.schema.name
    with lake.stage(f"read-{table}") as place:
        copies = _copies(snapshot, planned, place, workers, progress)
        progress.begin(table, len(planned))
        # One object in the graph, however many tasks share it.
        shared = dask.delayed(making, pure=False, traverse=False)
        task = dask.delayed(make_part, pure=False)
        makers = [partial(task, shared, _job(one, snapshot, copies), staging) for one in planned]
        results = run_in_windows(workers, makers, lambda *_: progress.advance())
        progress.end()
    for result in results:
        if isinstance(result, SkylakeError):
            raise result
        if isinstance(result, BaseException):
            raise LakeError(
                f"{table} could not be made ({reason_of(result, with_file=True)}); fix that and run again"
            ) from result
    return results


def _copies(
    snapshot: Snapshot, planned: Sequence[Planned], place: Path, workers: Workers, progress: Progress
) -> dict[tuple[str, str], Sequence[Slice]]:
    """Copy inputs out of bundles that hold several of them, table by table; return where the copies are."""
    names: dict[str, list[str]] = {}
    for one in planned:
        for table, part in one.parts.items():
            if snapshot.schema(table).layout.kind == "hats":
                names.setdefault(table, []).append(part.name)
    found: dict[tuple[str, str], Sequence[Slice]] = {}
    for table, some in names.items():
        made = cut_crowded(snapshot, table, some, place / table, workers, progress)
        found |= {(table, name): slices for name, (_, slices) in made.items()}
    return found


def _job(one: Planned, snapshot: Snapshot, copies: Mapping[tuple[str, str], Sequence[Slice]]) -> PartJob:
    files: dict[str, Sequence[Slice]] = {
        table: copies.get((table, part.name)) or snapshot.version(table).slices_of(part)
        for table, part in one.parts.items()
    }
    for table, parts in one.around.items():
        files[table] = [*files.get(table, ()), *snapshot.version(table).slices(parts)]
    lists = tuple(TargetList.of(snapshot, one.camera, version_of(part)) for part in one.lists)
    return PartJob(one.name, one.camera, one.night, one.inputs, files, lists)


def make_part(making: Making, job: PartJob, staging: Path) -> Part:
    """Make the part of one batch; runs on a worker."""
    definition, schema = making.aggregate, making.schema
    if schema.name not in TABLES:
        register([schema])
    merged = definition.merge([definition.partial(_given(making, job))])
    rows = of_batch(definition.finish(merged), schema, job.camera, job.night)
    return stage_part(rows, schema.name, job.name, staging, making.tree, job.camera, job.night, job.inputs)


def of_batch(rows: pa.Table, schema: TableSchema, camera: str, night: int) -> pa.Table:
    """Return rows with the columns that name their batch, which functions of aggregates may leave out."""
    values = {"camera": pa.repeat(camera, rows.num_rows), "night": np.full(rows.num_rows, night, np.int32)}
    for name in schema.layout.batch:
        place = rows.schema.get_field_index(name)
        if place < 0:
            rows = rows.append_column(name, pa.array(values[name]))
        else:
            rows = rows.set_column(place, name, pa.array(values[name]))
    return rows


def _given(making: Making, job: PartJob) -> Given:
    """Read what a batch is made from."""
    definition = making.aggregate
    inputs = [one for one in definition.inputs if one.table != REFERENCE]
    has_bands = _replaces_bands(inputs)
    tables = {}
    for one in inputs:
        columns = one.columns
        if has_bands and columns is not None:
            columns = tuple(dict.fromkeys([*columns, *_BANDS.get(one.table, ())]))
        tables[one.table] = read_files(one.table, job.files.get(one.table, ()), columns, one.filter)
        if one.table == "targets":
            listed = [some.rows(columns, one.filter) for some in job.lists]
            tables[one.table] = pa.concat_tables([tables[one.table], *listed])
    if has_bands:
        tables["frames"] = with_calibrated_bands(tables["frames"], tables["zeropoints"])
        for one in inputs:
            if one.columns is not None:
                tables[one.table] = tables[one.table].select(list(one.columns))
    if len(inputs) < len(definition.inputs):
        tables[REFERENCE] = reference_table(
            tables["forced_sources"], tables["zeropoints"], tables["targets"], making.catalogs
        )
    profile = making.profiles.get(job.camera)
    return Given(job.camera, job.night, tables, profile, making.settings)


def _replaces_bands(inputs: Sequence[Input]) -> bool:
    """Return whether frames are given with the bands that they were calibrated in."""
    columns = {one.table: one.columns for one in inputs}
    if not {"frames", "zeropoints"} <= columns.keys():
        return False
    frames = columns["frames"]
    return frames is None or "band" in frames

"""Aggregates: tables that summarise others, refreshed where what they were made from has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.camera import Site
from skylake.core.ids import config_sha256
from skylake.core.reasons import Status
from skylake.errors import LakeError, SkylakeError, UsageError, reason_of
from skylake.flow.aggregates.aggregate_plans import (
    Calibrated,
    Planned,
    bind,
    calibration_in_force,
    cameras_of,
)
from skylake.flow.aggregates.forced_curves import plan_forced_lightcurves
from skylake.flow.compaction.unbundle import cut_crowded, in_groups
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.retry_commit import retry_superseded
from skylake.flow.execution.run_progress import Progress, Silent, counted
from skylake.flow.zeropoints.calibration_parameters import calibration_configuration, camera_of_frames
from skylake.lake import Commit, Lake, Part, stage_part
from skylake.lake.storage.slices import Slice, read_files
from skylake.sky.pixels import Pixel, PixelTree
from skylake.table import calibrated_matches, lightcurves, maps, nights
from skylake.table.frames import with_calibrated_bands

#: Aggregates in the order in which they are made.
AGGREGATES = ("nights", "lightcurves", "forced_lightcurves", "maps")


@dataclass(slots=True)
class AggregateReport:
    """Parts that were made anew, removed and left as they were, by table."""

    refreshed: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)


def aggregate(
    lake: Lake, names: Sequence[str], workers: Workers, progress: Progress | None = None
) -> AggregateReport:
    """Refresh aggregates; without names all of them. Each is one commit.

    Raises
    ------
    UsageError
        If there is no such aggregate.
    """
    progress = progress or Silent()
    unknown = [name for name in names if name not in AGGREGATES]
    if unknown:
        raise UsageError(f"there is no aggregate {unknown[0]!r}; the aggregates are {', '.join(AGGREGATES)}")
    report = AggregateReport()
    for name in [one for one in AGGREGATES if not names or one in names]:
        retry_superseded(partial(_refresh, lake, name, workers, report, progress), progress)
    return report


def _refresh(lake: Lake, table: str, workers: Workers, report: AggregateReport, progress: Progress) -> None:
    """Make the parts whose inputs have changed, remove those that are planned no more, and commit."""
    calibrated = calibration_in_force(lake)
    planned = list(PLANNERS[table](lake, calibrated))
    snapshot = calibrated.snapshot
    held = snapshot.parts(table)
    lost = snapshot.version(table).lost()
    stale = [plan for plan in planned if plan.why(held.get(plan.name), table, lost) is not None]
    gone = set(held) - {plan.name for plan in planned}
    commit = Commit(f"aggregate {table}", "-", base=snapshot.number)
    commit.configure(plan.configuration for plan in stale)
    for name in sorted(gone):
        commit.remove(table, name)
    with lake.stage(f"aggregate-{table}") as staging:
        for group in in_groups(stale, workers):
            for result in _made(lake, table, group, calibrated, staging, workers, progress):
                commit.replace(result, staging)
        lake.commit(commit)
    report.refreshed[table], report.removed[table] = len(stale), len(gone)
    report.current[table] = len(planned) - len(stale)
    progress.line(
        f"aggregate {table}: {counted(len(stale), 'part')} made, {report.current[table]} up to date"
    )


def _plan_nights(lake: Lake, calibrated: Calibrated) -> Iterable[Planned]:
    snapshot = calibrated.snapshot
    task = dask.delayed(make_night, pure=False)
    for part in snapshot.parts("frames").values():
        zeropoints = calibrated.zeropoints(part.name)
        configuration = calibrated.configuration(part.name)
        inputs = {
            "frames": part.checksum,
            "zeropoints": zeropoints.checksum if zeropoints else "",
            "configuration": config_sha256(configuration),
        }
        frames = calibrated.slices("frames", [part.name])
        files = calibrated.slices("zeropoints", [zeropoints.name]) if zeropoints else []
        made_from = (("zeropoints", calibrated.zeropoints_name(part.name)),)
        yield Planned(part.name, inputs, configuration, made_from, bind(task, part, inputs, frames, files))


def _made(
    lake: Lake,
    table: str,
    planned: Sequence[Planned],
    calibrated: Calibrated,
    staging: Path,
    workers: Workers,
    progress: Progress,
) -> list[Part]:
    """Make some parts; matches that are read night by night are copied out of their bundles before."""
    alone = [plan.reads for plan in planned if plan.reads is not None]
    with lake.stage(f"read-{table}") as place:
        made = cut_crowded(calibrated.snapshot, "matches", alone, place, workers, progress)
        calibrated.copies.clear()
        calibrated.copies.update({name: slices for name, (_, slices) in made.items()})
        progress.begin(table, len(planned))
        makers = [partial(plan.task, staging) for plan in planned]
        results = run_in_windows(workers, makers, lambda *_: progress.advance())
        progress.end()
        calibrated.copies.clear()
    for result in results:
        if isinstance(result, SkylakeError):
            raise result
        if isinstance(result, BaseException):
            raise LakeError(
                f"{table} could not be made ({reason_of(result, with_file=True)}); mend that and run again"
            ) from result
    return results


def make_night(
    part: Part, inputs: dict[str, str], frames: list[Slice], zeropoints: list[Slice], staging: Path
) -> Part:
    """Make the rows of ``nights`` of one batch; runs on a worker."""
    held = read_files("frames", frames, [*nights.FRAME_COLUMNS, "frame_id", "filter"])
    calibrated = read_files("zeropoints", zeropoints)
    rows = nights.nights_table(with_calibrated_bands(held, calibrated), calibrated)
    return stage_part(rows, "nights", part.name, staging, None, part.camera, part.night, inputs)


def _plan_lightcurves(lake: Lake, calibrated: Calibrated) -> Iterable[Planned]:
    """Plan one part per pixel: a new night touches only the pixels that it saw."""
    snapshot = calibrated.snapshot
    sites = {camera: lake.profile(camera).base.site for camera in cameras_of(snapshot)}
    configuration = calibrated.configuration(sites={name: asdict(site) for name, site in sites.items()})
    task = dask.delayed(make_lightcurves, pure=False)
    # One object in the graph, however many tasks share it.
    tree = dask.delayed(lake.tree_of("matches"), pure=False, traverse=False)
    by_pixel: dict[Pixel, list[tuple[str, Slice, str]]] = {}
    for batch in snapshot.parts("frames"):
        matches = calibrated.matches(batch)
        if matches is None:
            continue
        slices = snapshot.version("matches").slices_of(matches)
        for file, piece in zip(matches.files, slices, strict=True):
            if file.pixel is not None:
                by_pixel.setdefault(file.pixel, []).append((batch, piece, file.digest))
    for pixel, found in sorted(by_pixel.items()):
        batches = [batch for batch, _, _ in found]
        zeropoints = [one for one in map(calibrated.zeropoints, batches) if one is not None]
        # One digest for all nights: their number grows, and every description would have to name them again.
        inputs = {
            "matches": config_sha256({calibrated.matches_name(batch): digest for batch, _, digest in found}),
            "zeropoints": config_sha256({part.name: part.checksum for part in zeropoints}),
            "configuration": config_sha256(configuration),
        }
        files = (
            [piece for _, piece, _ in found],
            calibrated.slices("frames", batches),
            calibrated.slices("zeropoints", [part.name for part in zeropoints]),
        )
        name = f"Norder{pixel[0]}-Npix{pixel[1]}"
        made_from = tuple(one for batch in batches for one in calibrated.made_from(batch))
        yield Planned(name, inputs, configuration, made_from, bind(task, name, inputs, files, sites, tree))


def make_lightcurves(
    name: str,
    inputs: dict[str, str],
    files: tuple[list[Slice], list[Slice], list[Slice]],
    sites: dict[str, Site],
    tree: PixelTree,
    staging: Path,
) -> Part:
    """Make the light curves of the stars of one pixel; runs on a worker."""
    matches, measured = _photometry(*files)
    return stage_part(
        lightcurves.lightcurves_table(matches, measured, sites),
        "lightcurves",
        name,
        staging,
        tree,
        inputs=inputs,
    )


def _photometry(
    matches: list[Slice], frames: list[Slice], zeropoints: list[Slice]
) -> tuple[pa.Table, calibrated_matches.Photometry]:
    rows = read_files("matches", matches)
    calibrated = calibrated_matches.calibrate_matches(
        rows,
        read_files("frames", frames, calibrated_matches.FRAME_COLUMNS),
        read_files("zeropoints", zeropoints, calibrated_matches.ZEROPOINT_COLUMNS, pc.field("zp").is_valid()),
    )
    return rows, calibrated


def _plan_maps(lake: Lake, calibrated: Calibrated) -> Iterable[Planned]:
    snapshot = calibrated.snapshot
    task = dask.delayed(make_maps, pure=False)
    order = lake.settings.map_order
    profiles = {camera: lake.profile(camera) for camera in cameras_of(snapshot)}
    for part in snapshot.parts("frames").values():
        if part.camera is None or part.night is None:
            continue
        profile = profiles[part.camera]
        configuration = calibrated.configuration(
            part.name, map_order=order, calibration=calibration_configuration(profile, part.night)
        )
        zeropoints = calibrated.zeropoints(part.name)
        matches = calibrated.matches(part.name)
        inputs = {
            "frames": part.checksum,
            "matches": matches.checksum if matches else "",
            "zeropoints": zeropoints.checksum if zeropoints else "",
            "configuration": config_sha256(configuration),
        }
        files = (
            calibrated.slices("frames", [part.name]),
            calibrated.slices("zeropoints", [zeropoints.name]) if zeropoints else [],
        )

        def make(
            staging: Path,
            part: Part = part,
            matches: Part | None = matches,
            rest: tuple[Any, ...] = (inputs, files, profile, order),
        ) -> Any:
            # Where the matches are is asked when the turn of the task comes.
            return task(part, calibrated.matches_alone(matches), *rest, staging)

        made_from = calibrated.made_from(part.name)
        reads = matches.name if matches else None
        yield Planned(part.name, inputs, configuration, made_from, make, reads)


PLANNERS: dict[str, Callable[[Lake, Calibrated], Iterable[Planned]]] = {
    "nights": _plan_nights,
    "lightcurves": _plan_lightcurves,
    "forced_lightcurves": plan_forced_lightcurves,
    "maps": _plan_maps,
}


def make_maps(
    part: Part,
    matches: list[Slice],
    inputs: dict[str, str],
    files: tuple[list[Slice], list[Slice]],
    profile: Profile,
    order: int,
    staging: Path,
) -> Part:
    """Make the map sums of one batch; runs on a worker."""
    good = pc.field("status") == Status.OK.value
    frames = read_files("frames", files[0], [*maps.FRAME_COLUMNS, "filter", "mjd_mid"], good)
    zeropoints = read_files("zeropoints", files[1], maps.ZEROPOINT_COLUMNS)
    rows = maps.maps_table(
        part.camera or "",
        part.night or 0,
        with_calibrated_bands(frames, zeropoints),
        read_files("matches", matches),
        zeropoints,
        camera_of_frames(profile, frames).calibration,
        order,
    )
    return stage_part(rows, "maps", part.name, staging, None, part.camera, part.night, inputs)

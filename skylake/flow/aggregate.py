"""Aggregates: tables that summarise others, refreshed where what they were made from has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.camera import Site
from skylake.core.reasons import Status
from skylake.errors import LakeError, SkylakeError, UsageError, reason_of
from skylake.flow.calibrate import zeropoints_name
from skylake.flow.cluster import Workers, run_in_windows
from skylake.flow.parameters import calibration_sha256, camera_of_frames
from skylake.flow.progress import Progress, Silent
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.snapshot import read_files
from skylake.schema import load
from skylake.sky.pixels import Pixel, PixelTree
from skylake.table import lightcurves, maps, nights, photometry
from skylake.table.matches import matches_name

#: Aggregates in the order in which they are made.
AGGREGATES = ("nights", "lightcurves", "maps")


@dataclass(slots=True)
class AggregateReport:
    """Parts that were made anew, removed and left as they were, by table."""

    refreshed: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """A part of an aggregate: its name, what it is made from, and the task that makes it."""

    name: str
    inputs: dict[str, str]
    task: Callable[[Path], Any]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The calibration that aggregates use, and the files of a snapshot that hold it."""

    snapshot: Snapshot
    catalog: str
    version: int

    def zeropoints(self, batch: str) -> Part | None:
        """Return the part of zeropoints of a batch."""
        return self.snapshot.parts("zeropoints").get(zeropoints_name(batch, self.catalog, self.version))

    def matches(self, batch: str) -> Part | None:
        """Return the part of matches of a batch. Names are compared whole: one catalog may end as another does."""
        return self.snapshot.parts("matches").get(matches_name(batch, self.catalog))

    def files(self, table: str, names: Iterable[str]) -> list[Path]:
        """Return the files of parts by name."""
        root, parts = self.snapshot.folder(table), self.snapshot.parts(table)
        return [root / file.path for name in names if name in parts for file in parts[name].files]


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
    planners = {"nights": _plan_nights, "lightcurves": _plan_lightcurves, "maps": _plan_maps}
    for name in [one for one in AGGREGATES if not names or one in names]:
        calibrated = _calibration(lake)
        planned = list(planners[name](lake, calibrated))
        _refresh(lake, name, planned, calibrated.snapshot, workers, report, progress)
    return report


def _calibration(lake: Lake) -> Calibrated:
    """Return the calibration in force: the default catalog, and the largest version of it."""
    snapshot = lake.snapshot()
    catalog = lake.settings.default_catalog
    rows = snapshot.read("zeropoints", ["version"], filter=pc.field("catalog") == catalog)
    return Calibrated(snapshot, catalog, int(pc.max(rows["version"]).as_py() or 1))


def _refresh(
    lake: Lake,
    table: str,
    planned: list[Planned],
    snapshot: Snapshot,
    workers: Workers,
    report: AggregateReport,
    progress: Progress,
) -> None:
    """Make the parts whose inputs have changed, remove those that are planned no more, and commit."""
    held = snapshot.parts(table)
    form = load(table).sha256
    stale = [
        plan
        for plan in planned
        if plan.name not in held
        or held[plan.name].inputs != plan.inputs
        or held[plan.name].schema_sha256 != form
    ]
    gone = set(held) - {plan.name for plan in planned}
    commit = Commit(f"aggregate {table}", "-", base=snapshot.number)
    for name in sorted(gone):
        commit.remove(table, name)
    progress.begin(table, len(stale))
    with lake.stage(f"aggregate-{table}") as staging:
        makers = [partial(plan.task, staging) for plan in stale]
        for result in run_in_windows(workers, makers, lambda *_: progress.advance()):
            if isinstance(result, SkylakeError):
                raise result
            if isinstance(result, BaseException):
                raise LakeError(
                    f"{table} could not be made ({reason_of(result, with_file=True)}); mend that and run again"
                ) from result
            commit.replace(result, staging)
        lake.commit(commit)
    progress.end()
    report.refreshed[table], report.removed[table] = len(stale), len(gone)
    report.current[table] = len(planned) - len(stale)
    progress.line(f"aggregate {table}: {len(stale)} parts made, {report.current[table]} up to date")


def _plan_nights(lake: Lake, calibrated: Calibrated) -> Iterable[Planned]:
    snapshot = calibrated.snapshot
    task = dask.delayed(make_night, pure=False)
    for part in snapshot.parts("frames").values():
        zeropoints = calibrated.zeropoints(part.name)
        inputs = {"frames": part.checksum, "zeropoints": zeropoints.checksum if zeropoints else ""}
        frames = calibrated.files("frames", [part.name])
        files = calibrated.files("zeropoints", [zeropoints.name]) if zeropoints else []
        yield Planned(part.name, inputs, _bind(task, part, inputs, frames, files))


def _bind(task: Any, *arguments: Any) -> Callable[[Path], Any]:
    return lambda staging: task(*arguments, staging)


def make_night(
    part: Part, inputs: dict[str, str], frames: list[Path], zeropoints: list[Path], staging: Path
) -> Part:
    """Make the rows of ``nights`` of one batch; runs on a worker."""
    rows = nights.nights_table(
        read_files("frames", frames, nights.FRAME_COLUMNS), read_files("zeropoints", zeropoints)
    )
    return stage_part(rows, "nights", part.name, staging, None, part.camera, part.night, inputs)


def _plan_lightcurves(lake: Lake, calibrated: Calibrated) -> Iterable[Planned]:
    """Plan one part per pixel: a new night touches only the pixels that it saw."""
    snapshot = calibrated.snapshot
    sites = {camera: lake.profile(camera).base.site for camera in _cameras(snapshot)}
    task = dask.delayed(make_lightcurves, pure=False)
    # One object in the graph, however many tasks share it.
    tree = dask.delayed(lake.tree, pure=False, traverse=False)
    by_pixel: dict[Pixel, list[tuple[str, Path, str]]] = {}
    root = snapshot.folder("matches")
    for batch in snapshot.parts("frames"):
        matches = calibrated.matches(batch)
        for file in matches.files if matches else ():
            if file.pixel is not None:
                by_pixel.setdefault(file.pixel, []).append((batch, root / file.path, file.sha256))
    for pixel, found in sorted(by_pixel.items()):
        batches = [batch for batch, _, _ in found]
        zeropoints = [one for one in map(calibrated.zeropoints, batches) if one is not None]
        inputs = {f"matches {matches_name(batch, calibrated.catalog)}": sha for batch, _, sha in found}
        inputs |= {f"zeropoints {part.name}": part.checksum for part in zeropoints}
        inputs |= {"sites": repr(sorted(sites.items()))}
        files = (
            [path for _, path, _ in found],
            calibrated.files("frames", batches),
            calibrated.files("zeropoints", [part.name for part in zeropoints]),
        )
        name = f"Norder{pixel[0]}-Npix{pixel[1]}"
        yield Planned(name, inputs, _bind(task, name, inputs, files, sites, tree))


def _cameras(snapshot: Snapshot) -> set[str]:
    return {part.camera for part in snapshot.parts("frames").values() if part.camera is not None}


def make_lightcurves(
    name: str,
    inputs: dict[str, str],
    files: tuple[list[Path], list[Path], list[Path]],
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
    matches: list[Path], frames: list[Path], zeropoints: list[Path]
) -> tuple[pa.Table, photometry.Photometry]:
    rows = read_files("matches", matches)
    calibrated = photometry.calibrate_matches(
        rows,
        read_files("frames", frames, photometry.FRAME_COLUMNS),
        read_files("zeropoints", zeropoints, photometry.ZEROPOINT_COLUMNS, pc.field("zp").is_valid()),
    )
    return rows, calibrated


def _plan_maps(lake: Lake, calibrated: Calibrated) -> Iterable[Planned]:
    snapshot = calibrated.snapshot
    task = dask.delayed(make_maps, pure=False)
    order = lake.settings.map_order
    profiles = {camera: lake.profile(camera) for camera in _cameras(snapshot)}
    for part in snapshot.parts("frames").values():
        if part.camera is None or part.night is None:
            continue
        profile = profiles[part.camera]
        zeropoints = calibrated.zeropoints(part.name)
        matches = calibrated.matches(part.name)
        inputs = {
            "frames": part.checksum,
            "matches": matches.checksum if matches else "",
            "zeropoints": zeropoints.checksum if zeropoints else "",
            "calibration": calibration_sha256(profile, part.night),
            "order": str(order),
        }
        files = (
            calibrated.files("matches", [matches.name]) if matches else [],
            calibrated.files("frames", [part.name]),
            calibrated.files("zeropoints", [zeropoints.name]) if zeropoints else [],
        )
        yield Planned(part.name, inputs, _bind(task, part, inputs, files, profile, order))


def make_maps(
    part: Part,
    inputs: dict[str, str],
    files: tuple[list[Path], list[Path], list[Path]],
    profile: Profile,
    order: int,
    staging: Path,
) -> Part:
    """Make the map sums of one batch; runs on a worker."""
    good = pc.field("status") == Status.OK.value
    frames = read_files("frames", files[1], [*maps.FRAME_COLUMNS, "mjd_mid"], good)
    rows = maps.maps_table(
        part.camera or "",
        part.night or 0,
        frames,
        read_files("matches", files[0]),
        read_files("zeropoints", files[2], maps.ZEROPOINT_COLUMNS),
        camera_of_frames(profile, frames).calibration,
        order,
    )
    return stage_part(rows, "maps", part.name, staging, None, part.camera, part.night, inputs)

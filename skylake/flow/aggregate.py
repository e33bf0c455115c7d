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
from skylake.flow.cluster import Workers, run_in_windows
from skylake.flow.loosen import cut_crowded, in_groups
from skylake.flow.nights import largest_version, zeropoints_name
from skylake.flow.parameters import calibration_configuration, camera_of_frames
from skylake.flow.progress import Progress, Silent
from skylake.flow.stale import Why, why_stale
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.slices import Slice, read_files
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
    """A part of an aggregate: its name, what it is made from, and the task that makes it.

    ``made_from`` names the parts of matches and zeropoints among its inputs, as (table, part); ``reads`` the part
    of matches that the task reads alone, without those of other nights in the same files.
    """

    name: str
    inputs: dict[str, str]
    configuration: dict[str, Any]
    made_from: tuple[tuple[str, str], ...]
    task: Callable[[Path], Any]
    reads: str | None = None

    def why(self, held: Part | None, table: str) -> Why | None:
        """Return why the part has to be made anew, given the one that the lake holds."""
        return why_stale(held, self.inputs, load(table).sha256)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The calibration that aggregates use, and the files of a snapshot that hold it.

    ``copies`` tells where copies of matches are that were made for reading, by name of their part.
    """

    snapshot: Snapshot
    catalog: str
    version: int
    copies: dict[str, tuple[Slice, ...]] = field(default_factory=dict)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """Return the resolved configuration of an aggregate, given what it depends on besides."""
        return {"catalog": self.catalog, "version": self.version, **more}

    def zeropoints_name(self, batch: str) -> str:
        """Return the name of the part of zeropoints of a batch."""
        return zeropoints_name(batch, self.catalog, self.version)

    def made_from(self, batch: str) -> tuple[tuple[str, str], ...]:
        """Return the parts of a batch that a calibration makes, as (table, part)."""
        return ("matches", matches_name(batch, self.catalog)), ("zeropoints", self.zeropoints_name(batch))

    def zeropoints(self, batch: str) -> Part | None:
        """Return the part of zeropoints of a batch."""
        return self.snapshot.parts("zeropoints").get(self.zeropoints_name(batch))

    def matches(self, batch: str) -> Part | None:
        """Return the part of matches of a batch. Names are compared whole: one catalog may end as another does."""
        return self.snapshot.parts("matches").get(matches_name(batch, self.catalog))

    def slices(self, table: str, names: Iterable[str]) -> list[Slice]:
        """Return where the rows of parts are, by name."""
        version = self.snapshot.version(table)
        return version.slices(version.parts[name] for name in names if name in version.parts)

    def matches_alone(self, part: Part | None) -> list[Slice]:
        """Return where the rows of a part of matches are, or a copy of them for as long as there is one."""
        if part is None:
            return []
        return list(self.copies.get(part.name) or self.snapshot.version("matches").slices_of(part))


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
        calibrated = calibration_in_force(lake)
        planned = list(PLANNERS[name](lake, calibrated))
        _refresh(lake, name, planned, calibrated, workers, report, progress)
    return report


def calibration_in_force(lake: Lake, snapshot: Snapshot | None = None) -> Calibrated:
    """Return the calibration in force: the default catalog, and the largest version of it."""
    snapshot = snapshot or lake.snapshot()
    catalog = lake.settings.default_catalog
    return Calibrated(snapshot, catalog, largest_version(snapshot, catalog) or 1)


def _refresh(
    lake: Lake,
    table: str,
    planned: list[Planned],
    calibrated: Calibrated,
    workers: Workers,
    report: AggregateReport,
    progress: Progress,
) -> None:
    """Make the parts whose inputs have changed, remove those that are planned no more, and commit."""
    snapshot = calibrated.snapshot
    held = snapshot.parts(table)
    stale = [plan for plan in planned if plan.why(held.get(plan.name), table) is not None]
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
    progress.line(f"aggregate {table}: {len(stale)} parts made, {report.current[table]} up to date")


def _plan_nights(lake: Lake, calibrated: Calibrated) -> Iterable[Planned]:
    snapshot = calibrated.snapshot
    task = dask.delayed(make_night, pure=False)
    for part in snapshot.parts("frames").values():
        zeropoints = calibrated.zeropoints(part.name)
        configuration = calibrated.configuration()
        inputs = {
            "frames": part.checksum,
            "zeropoints": zeropoints.checksum if zeropoints else "",
            "configuration": config_sha256(configuration),
        }
        frames = calibrated.slices("frames", [part.name])
        files = calibrated.slices("zeropoints", [zeropoints.name]) if zeropoints else []
        made_from = (("zeropoints", calibrated.zeropoints_name(part.name)),)
        yield Planned(part.name, inputs, configuration, made_from, _bind(task, part, inputs, frames, files))


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


def _bind(task: Any, *arguments: Any) -> Callable[[Path], Any]:
    return lambda staging: task(*arguments, staging)


def make_night(
    part: Part, inputs: dict[str, str], frames: list[Slice], zeropoints: list[Slice], staging: Path
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
            "matches": config_sha256(
                {matches_name(batch, calibrated.catalog): digest for batch, _, digest in found}
            ),
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
        yield Planned(name, inputs, configuration, made_from, _bind(task, name, inputs, files, sites, tree))


def _cameras(snapshot: Snapshot) -> set[str]:
    return {part.camera for part in snapshot.parts("frames").values() if part.camera is not None}


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
        configuration = calibrated.configuration(
            map_order=order, calibration=calibration_configuration(profile, part.night)
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
    frames = read_files("frames", files[0], [*maps.FRAME_COLUMNS, "mjd_mid"], good)
    rows = maps.maps_table(
        part.camera or "",
        part.night or 0,
        frames,
        read_files("matches", matches),
        read_files("zeropoints", files[1], maps.ZEROPOINT_COLUMNS),
        camera_of_frames(profile, frames).calibration,
        order,
    )
    return stage_part(rows, "maps", part.name, staging, None, part.camera, part.night, inputs)

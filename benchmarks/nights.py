"""Whether a night costs as much in a lake of a thousand nights as in one of ten.

Needs: skylake alone, 12 GB of disk below --folder and 2 cores. Takes about three hours, a quarter of
one with --quick (to 100 nights).

Lakes of 10, 100 and 1,000 nights are filled with simulated tables: of a narrow camera that points at a dozen fields
all around the sky, and of one that sees a large part of the sky in each frame, so that each night touches every pixel.
All stars of the catalog are targets too, and every third night the list of these has grown by a few new sources. These
nights come together; compaction merges them in the slices that nightly runs would have left.

Further nights are then added one by one, as the nightly run does it: frames with their detections and forced
measurements are committed, earlier frames are compared with the list of targets, the night is calibrated, by the
catalog or by star magnitudes of the camera, each aggregate is renewed, the list grows by what the night has brought,
and all tables are compacted. There are no images, so no earlier frame is measured: that costs the same for each frame.
What a night costs is the median of these nights. Compaction merges every eighth night, so of it the mean counts; where
rows are merged again later, as from 64 nights on, it counts as often.

Bytes are those of new files in the lake, without hard links. CPU seconds are of this process, which does all alone.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from statistics import mean, median
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from archive.make_archive import CATALOG, make_archive
from archive.night_tables import NightTables, night_tables
from archive.scenario import ArchiveScenario
from claims import Claim, conclude

from skylake.core.batch import Batch
from skylake.core.sphere import healpix_index, offset, unit_vectors
from skylake.flow.aggregates import aggregate
from skylake.flow.aggregates.run import AGGREGATES
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline, Workers, workers
from skylake.flow.execution.run_progress import Silent
from skylake.flow.forced.extend_targets import extend_targets
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.forced.target_list import EXTENDS, TargetList, list_name, part_name, parts_of
from skylake.flow.ingest.backfill import backfill_nightly
from skylake.flow.zeropoints.calibrate_nights import Choice, calibrate
from skylake.flow.zeropoints.calibrated_nights import Method
from skylake.lake import Commit, Lake, Part, Retention, stage_part
from skylake.lake.maintenance.compaction_plan import level_of
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema import conform, load
from skylake.settings import Settings
from skylake.simulate import AtmosphereParams, CatalogParams, ScheduleParams, StarParams
from skylake.simulate.schedule import nights_of
from skylake.sky.pixels import PixelTree

#: A camera that sees a quarter of the sky at the pole, in pixels as large as those of a fisheye.
WIDE = """
like = "sim"
name = "wide"
optics.pixel_scale_arcsec = 320.0
calibration.match_radius_arcsec = 640.0
"""
#: HEALPix order of the pixels that tables begin with; a fisheye has coarse ones (see docs/architecture.md).
PIXEL_ORDER = {"narrow": 2, "wide": 1}
#: What is added up for a night of objects, light curves and statistics.
CURVES = ("clusters", "objects", "lightcurves", "forced_lightcurves", "star_statistics")
#: What follows from lists of targets that grow.
TARGETS = ("backfill", "targets")
#: Every so many nights the list of targets has grown by so many.
LIST_NIGHTS, NEW_SOURCES = 3, 5
#: Nights that are added to each lake, and the first of them.
ADDED, FIRST_ADDED = 8, date(2027, 1, 1)


def main() -> None:
    """Fill lakes, add nights, and print claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="lakes of 10 and 100 nights")
    parser.add_argument("--folder", type=Path, help="where the lakes are made for a while")
    parser.add_argument("--camera", choices=["narrow", "wide"], help="of one camera alone")
    parser.add_argument("--method", choices=["frame", "global"], help="of one method alone")
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    counts = (10, 100) if options.quick else (10, 100, 1000)
    claims = []
    for camera in [options.camera] if options.camera else ["narrow", "wide"]:
        for method in [options.method] if options.method else ["frame", "global"]:
            costs = []
            for nights in counts:
                with tempfile.TemporaryDirectory(prefix="skylake-benchmark-", dir=options.folder) as folder:
                    costs.append(cost(Path(folder), camera, Method(method), nights))
            claims += judged(f"{camera}, {method}", counts, costs)
    conclude(claims)


def scenario(folder: Path, camera: str, nights: int) -> ArchiveScenario:
    """Return the nights of a camera before those that are added, which are the same in all lakes."""
    first = FIRST_ADDED - timedelta(days=nights)
    if camera == "narrow":
        return ArchiveScenario(
            nights=nights,
            first_night=int(f"{first:%Y%m%d}"),
            frames_per_night=24,
            stars=StarParams(per_frame=400),
            schedule=ScheduleParams(fields=11, target=(100.0, -25.0)),
            atmosphere=AtmosphereParams(cloudy_fraction=0.1),
        )
    profile = folder / "wide.toml"
    profile.write_text(WIDE, encoding="utf-8")
    return ArchiveScenario(
        camera=str(profile),
        nights=nights,
        first_night=int(f"{first:%Y%m%d}"),
        frames_per_night=8,
        stars=StarParams(per_frame=800),
        schedule=ScheduleParams(target=(0.0, -85.0), minimum_altitude_deg=10.0),
        atmosphere=AtmosphereParams(cloudy_fraction=0.1, sky_adu_per_s=2.0),
        catalog=CatalogParams(position_error_mas=1000.0),
    )


@dataclass(slots=True)
class Cost:
    """What each stage of each added night cost: CPU seconds, seconds and bytes, by stage."""

    cpu: dict[str, list[float]] = field(default_factory=dict)
    clock: dict[str, list[float]] = field(default_factory=dict)
    written: dict[str, list[int]] = field(default_factory=dict)
    n_rows: list[int] = field(default_factory=list)
    n_merges: int = 1

    def typical(self, what: dict[str, list[Any]], stage: str) -> float:
        """Return what a stage costs in a night; rows are merged `n_merges` times."""
        return float(self.n_merges * mean(what[stage]) if stage == "compact" else median(what[stage]))


def cost(folder: Path, camera: str, method: Method, nights: int) -> Cost:
    """Fill a lake with nights, and return what some more cost."""
    wanted = scenario(folder, camera, nights)
    lake = Lake.create(
        folder / "lake", Settings(pixel_order=PIXEL_ORDER[camera], keep_newest=1, keep_days=0, keep_months=0)
    )
    with workers("local", 2) as pool:
        fill(lake, wanted, method, pool)
    found = Cost(n_merges=max(1, level_of(nights)))
    for night in nights_of(replace(wanted, nights=nights + ADDED))[nights:]:
        lake.vacuum(Retention(1, 0, 0))
        add_night(lake, wanted, night, method, found)
    print(
        f"\n{camera}, {method.value}, {nights} nights, {lake.snapshot().n_rows('matches')} matches, "
        f"{round(mean(found.n_rows))} a night"
    )
    for stage in found.cpu:
        cpu, clock = found.typical(found.cpu, stage), found.typical(found.clock, stage)
        megabytes = found.typical(found.written, stage) / 1e6
        print(f"  {stage:20s} {cpu:7.3f} s of CPU {clock:7.3f} s {megabytes:8.3f} MB", flush=True)
    return found


def fill(lake: Lake, wanted: ArchiveScenario, method: Method, pool: Workers) -> None:
    """Fill a lake with nights, and make all that follows from them."""
    make_archive(lake, wanted, pool)
    camera = next(iter(lake.snapshot().parts("frames").values())).camera or ""
    make_targets(lake, camera, TargetOptions(catalog=CATALOG, seen=0), pool)
    grow_lists(lake, camera)
    commit_forced(lake, camera, pool)
    calibrate(lake, pool, choice=Choice(method=method))
    aggregate(lake, [], pool)
    compact(lake, pool)


def grow_lists(lake: Lake, camera: str) -> None:
    """Commit the lists that nightly runs would have made: each with some new sources in the fields of the camera."""
    snapshot, schema = lake.snapshot(), load("targets")
    frames = snapshot.read("frames", ["ra_deg", "dec_deg", "night"], filter=pc.field("status") == "ok")
    n_lists = len(pc.unique(frames["night"])) // LIST_NIGHTS
    held, random = TargetList.in_force(snapshot, camera), np.random.default_rng(1)
    assert held is not None
    commit = Commit("benchmark", "targets")
    with lake.stage("benchmark") as staging:
        before = held.name
        for version in range(held.version + 1, held.version + 1 + n_lists):
            some = frames.take(pa.array(random.integers(0, frames.num_rows, NEW_SOURCES)))
            angle, away = random.uniform(0.0, 360.0, NEW_SOURCES), random.uniform(0.01, 0.1, NEW_SOURCES)
            ra, dec = offset(some["ra_deg"].to_numpy(), some["dec_deg"].to_numpy(), away, angle)
            index = healpix_index(ra, dec)
            columns: dict[str, Any] = {"_healpix_29": index, "star_id": index, "ra_deg": ra, "dec_deg": dec}
            columns |= {"camera": [camera] * NEW_SOURCES, "origin": ["detections"] * NEW_SOURCES}
            numbers = {
                "version": version, "base_version": held.version, "epoch": 2026.0, "n_seen": 3, "n_frames": 3,
            }  # fmt: skip
            columns |= {name: np.full(NEW_SOURCES, value) for name, value in numbers.items()}
            rows = conform(pa.table(columns), schema)
            name = part_name(camera, version)
            part = stage_part(rows, "targets", name, staging, None, camera, None, {EXTENDS: before})
            commit.replace(part, staging)
            before = list_name(part)
        lake.commit(commit)


def commit_forced(lake: Lake, camera: str, pool: Workers) -> None:
    """Commit forced measurements of all nights, each with the list of its time."""
    targets = forced_targets(lake, camera)
    snapshot, tree = lake.snapshot(), lake.tree_of("forced_sources")
    lists = sorted(parts_of(snapshot, camera).items())
    task = dask.delayed(forced_part, pure=False)
    with lake.stage("benchmark") as staging:
        shared = [
            dask.delayed(replace(targets, name=list_name(part), version=version), pure=False, traverse=False)
            for version, part in lists
        ]
        matches = snapshot.version("matches")
        nights = sorted(matches.parts.values(), key=lambda part: part.night or 0)
        made = pool.run(
            [
                task(
                    matches.slices_of(one), shared[min(number // LIST_NIGHTS, len(lists) - 1)], tree, staging
                )
                for number, one in enumerate(nights)
            ]
        )
        commit = Commit("benchmark", "forced")
        for part in made:
            commit.replace(part, staging / "forced_sources")
        lake.commit(commit)


@dataclass(frozen=True, slots=True)
class Targets:
    """The list of targets: its name and version, and the place of each star of the catalog in it."""

    name: str
    version: int
    rows: pa.Table


def forced_targets(lake: Lake, camera: str) -> Targets:
    """Return the list of targets of a camera in force."""
    found = TargetList.in_force(lake.snapshot(), camera)
    assert found is not None
    rows = found.rows(["star_id", "ref_id", "ra_deg", "dec_deg"], pc.field("ref_id").is_valid())
    return Targets(found.name, found.version, rows.sort_by("ref_id"))


def forced_part(slices: Sequence[Slice], targets: Targets, tree: PixelTree, staging: Path) -> Part:
    """Write forced measurements of the night with some matches; runs on a worker."""
    return stage_forced(read_files("matches", slices), targets, tree, staging)


def stage_forced(matches: pa.Table, targets: Targets, tree: PixelTree, staging: Path) -> Part:
    """Write forced measurements of a night: those of its matches, as if their stars had been measured there."""
    ids = targets.rows["ref_id"].to_numpy()
    place = np.minimum(np.searchsorted(ids, matches["ref_id"].to_numpy()), len(ids) - 1)
    is_target = ids[place] == matches["ref_id"].to_numpy()
    matches, rows = matches.filter(pa.array(is_target)), targets.rows.take(pa.array(place[is_target]))
    schema, n = load("forced_sources"), matches.num_rows
    columns: dict[str, Any] = {
        "_healpix_29": rows["star_id"],
        "star_id": rows["star_id"],
        "ra_deg": rows["ra_deg"],
        "dec_deg": rows["dec_deg"],
        "targets_version": np.full(n, targets.version, np.int32),
        "edge_distance_px": np.full(n, 50.0),
        "n_bad": np.zeros(n, np.int32),
        "contamination": np.zeros(n),
        "sky_rms_adu": np.full(n, 5.0),
        "flux_psf": matches["flux_aper2"],
        "flux_psf_err": matches["flux_aper2_err"],
    }
    for number in (1, 2, 3):
        for end in ("", "_err"):
            columns[f"flux_hybrid{number}{end}"] = matches[f"flux_aper{number}{end}"]
    columns |= {
        name: matches[name]
        for name in schema.names
        if name in matches.column_names and name not in columns and name != "more_apertures"
    }
    night, camera = matches["night"][0].as_py(), matches["camera"][0].as_py()
    return stage_part(
        conform(pa.table(columns), schema),
        schema.name,
        str(Batch(camera, night)),
        staging / schema.name,
        tree,
        camera,
        night,
        {"targets": targets.name},
    )


def add_night(lake: Lake, wanted: ArchiveScenario, night: int, method: Method, found: Cost) -> None:
    """Add a night to a lake stage by stage, and note what each costs."""
    tables = with_new_sources(night_tables(wanted, night, CATALOG), night)
    camera = tables.frames["camera"][0].as_py()
    targets = forced_targets(lake, camera)
    batch = Batch(camera, night)
    measured(lake, "ingest", found, lambda: commit_night(lake, batch, tables, targets))
    measured(lake, "backfill", found, lambda: backfill_nightly(lake, camera, Inline(), Silent(), 200))
    measured(lake, "calibrate", found, lambda: calibrate(lake, Inline(), choice=Choice(method=None)))
    for name in AGGREGATES:
        measured(lake, name, found, lambda name=name: aggregate(lake, [name], Inline()))  # type: ignore[misc]
    before = forced_targets(lake, camera).version
    measured(lake, "targets", found, lambda: extend_targets(lake))
    assert forced_targets(lake, camera).version == before + 1, "the night has brought new targets"
    measured(lake, "compact", found, lambda: compact(lake, Inline()))
    found.n_rows.append(tables.matches.num_rows)


def with_new_sources(tables: NightTables, night: int) -> NightTables:
    """Return a night with detections of some sources that were not there before, on all good frames of a field."""
    frames = tables.frames.filter(pc.equal(tables.frames["status"], "ok"))
    places = np.column_stack([frames["ra_deg"].to_numpy(), frames["dec_deg"].to_numpy()])
    pixel_deg = pc.mean(frames["pixel_scale_arcsec"]).as_py() / 3600.0
    fields = np.round(unit_vectors(*places.T) / np.radians(45.0 * pixel_deg))
    _, which, counts = np.unique(fields, axis=0, return_inverse=True, return_counts=True)
    mine = np.flatnonzero(which.reshape(-1) == counts.argmax())
    centre, random = places[mine[0]], np.random.default_rng(night)
    first = pc.index_in(frames["frame_id"].take(pa.array(mine)), tables.sources["frame_id"].combine_chunks())
    like, pieces = tables.sources.take(first.drop_null()), [tables.sources]
    for number in range(NEW_SOURCES):
        ra, dec = offset(*centre, pixel_deg * random.uniform(5.0, 45.0), random.uniform(0.0, 360.0))
        made, n = like, like.num_rows
        values = {
            "_healpix_29": np.full(n, healpix_index(ra, dec)), "ra_deg": np.full(n, ra), "dec_deg": np.full(n, dec),
            "source_no": np.full(n, 1_000_000 + number, np.int32), "flags": np.zeros(n, np.int32),
            "crowding": np.zeros(n, np.float32), "fwhm_px": np.full(n, pc.mean(frames["fwhm_px"]).as_py()),
        }  # fmt: skip
        for name, column in values.items():
            at = made.schema.get_field_index(name)
            made = made.set_column(
                at, made.schema.field(name), pa.array(column, made.schema.field(name).type)
            )
        pieces.append(made)
    return replace(tables, sources=pa.concat_tables(pieces))


def commit_night(lake: Lake, batch: Batch, tables: Any, targets: Targets) -> None:
    """Commit frames, detections and forced measurements."""
    commit = Commit("benchmark", str(batch))
    with lake.stage("benchmark") as staging:
        for table, rows in (("frames", tables.frames), ("sources", tables.sources)):
            tree = lake.tree_of(table) if table == "sources" else None
            part = stage_part(
                rows,
                table,
                str(batch),
                staging / table,
                tree,
                batch.camera,
                batch.night,
                {"n": str(batch.night)},
            )
            commit.replace(part, staging / table)
        part = stage_forced(tables.matches, targets, lake.tree_of("forced_sources"), staging)
        commit.replace(part, staging / part.table)
        lake.commit(commit)


def measured(lake: Lake, stage: str, found: Cost, work: Callable[[], object]) -> None:
    """Do some work, and note what it cost."""
    before = files_of(lake.root)
    began, clock = time.process_time(), time.perf_counter()
    work()
    found.cpu.setdefault(stage, []).append(time.process_time() - began)
    found.clock.setdefault(stage, []).append(time.perf_counter() - clock)
    new = sum(size for inode, size in files_of(lake.root).items() if inode not in before)
    found.written.setdefault(stage, []).append(new)


def files_of(root: Path) -> dict[int, int]:
    """Return the sizes of all files below a folder, each once however many links it has."""
    sizes: dict[int, int] = {}
    folders = [str(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    sizes[entry.inode()] = entry.stat(follow_symlinks=False).st_size
    return sizes


def judged(name: str, counts: Sequence[int], costs: Sequence[Cost]) -> list[Claim]:
    """Return the claims about what a night costs in the largest lake and in the smallest."""
    first, last = costs[0], costs[-1]
    groups = {
        "objects, light curves and statistics": CURVES,
        "all aggregates": AGGREGATES,
        "targets and earlier frames": TARGETS,
        "calibration": ("calibrate",),
        "compaction": ("compact",),
        "the whole night": tuple(first.cpu),
    }
    claims = []
    for group, stages in groups.items():
        for what in ("cpu", "clock", "written"):
            ours, peer = (
                sum(one.typical(getattr(one, what), stage) for stage in stages) for one in (last, first)
            )
            unit = {"cpu": "CPU", "clock": "seconds", "written": "bytes"}[what]
            title = f"{name}: {group}, {unit} at {counts[-1]} nights to {counts[0]}"
            claims.append(Claim(title, ours / peer, None, 1.5))
    return claims


if __name__ == "__main__":
    main()

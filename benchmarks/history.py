"""How long the calibrated history of one star takes out of 10^8 measurements, imports warm.

Needs: skylake alone, 25 GB of disk below --folder and 2 cores. Takes about an hour; about a minute with --quick (10^6
measurements).

Two lakes are filled, one after the other: of detections (`matches` and `lightcurves`), and of forced measurements
(`forced_sources` and `forced_lightcurves`). Their nights are simulated tables (`archive`), which the writers of the
lake commit many at a time; light curves are those of `aggregate`, and bundles those of `compact`. For want of disk
there are no sources, so `objects`, which are made from these, are written from the stars with light curves.

Nightly compaction leaves the most files just before it merges on all levels at once (`FAN_IN`). So there are 383
nights: five bundles of 64 nights, seven of 8, and seven that wait, which are 19 files in a pixel; fewer than 400
nights never leave more. That is the state after the nightly run; the other one is that after `skylake compact --all`.

`lake.lightcurve` reads all points of 20 stars drawn at random, and the median counts. The peer is DuckDB, which reads
the same points from the same files, given the index of the star. The files are in the page cache of the system.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import dask
import duckdb
import numpy as np
import pyarrow as pa
from archive.make_archive import CATALOG, make_archive
from archive.night_tables import night_tables
from archive.scenario import ArchiveScenario
from claims import Claim, conclude
from nights import Targets, forced_targets, stage_forced

import skylake
from skylake.core.batch import Batch
from skylake.flow.aggregates import aggregate
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Workers, workers
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.zeropoints.calibrated_nights import zeropoints_name
from skylake.lake import Commit, Lake, Part, Retention, stage_part
from skylake.lake.maintenance.compaction_plan import FAN_IN
from skylake.lake.storage.parts import stage_sorted_part
from skylake.reading.reader import LakeReader
from skylake.schema import conform, load
from skylake.settings import FILE_NAME, Settings
from skylake.simulate import AtmosphereParams, ScheduleParams, StarParams
from skylake.simulate.schedule import nights_of
from skylake.sky.pixels import PixelTree
from skylake.table.matches import matches_name

#: Seconds that a light curve may take.
TARGET_S = 0.3
STARS = 20
#: One of so many nights shows which fields there are.
SAMPLE = 16
#: What is read of a light curve.
NESTED = ("lightcurve", "lightcurve_errors")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of measurements: their table and that of their light curves, and what `aggregate` makes of them."""

    measured: str
    curves: str
    number: str
    aggregates: tuple[str, ...]
    fluxes: tuple[str, ...]


KINDS = {
    "detected": Kind("matches", "lightcurves", "object_id", ("lightcurves",), ("best", "aper1")),
    "forced": Kind(
        "forced_sources",
        "forced_lightcurves",
        "ref_id",
        ("forced_lightcurves", "repeatability"),
        ("best", "calibrated", "psf"),
    ),
}


def main() -> None:
    """Fill lakes, read stars, and print claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10^6 measurements")
    parser.add_argument("--folder", type=Path, help="where the lakes are made for a while")
    parser.add_argument(
        "--keep", action="store_true", help="leave lakes there, and read those that are there"
    )
    parser.add_argument("--kind", choices=list(KINDS), help="of one kind of measurements alone")
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    claims: list[Claim] = []
    for name in [options.kind] if options.kind else list(KINDS):
        root = Path(tempfile.mkdtemp(prefix="skylake-benchmark-", dir=options.folder))
        if options.keep:
            root.rmdir()
            root = (options.folder or Path.cwd()) / name
        try:
            cluster: Literal["inline", "local"] = "inline" if options.quick else "local"
            claims += claims_of(root, name, scenario(options.quick), cluster)
        finally:
            if not options.keep:
                shutil.rmtree(root)
    conclude(claims)


def scenario(quick: bool) -> ArchiveScenario:
    """Return the nights: of a camera that points at a dozen fields."""
    return ArchiveScenario(
        nights=15 if quick else 383,
        first_night=20260101,
        frames_per_night=160,
        stars=StarParams(per_frame=450 if quick else 2400),
        schedule=ScheduleParams(fields=11, target=(100.0, -25.0)),
        atmosphere=AtmosphereParams(cloudy_fraction=0.1),
    )


def claims_of(
    root: Path, name: str, wanted: ArchiveScenario, cluster: Literal["inline", "local"]
) -> list[Claim]:
    """Return the claims about one kind of measurements, in a lake after the nightly run and in one compacted."""
    kind, claims = KINDS[name], []
    for state in ("nightly", "compacted"):
        lake = kept(root / "nightly") if state == "nightly" else Lake(root / "nightly")
        with workers(cluster, 2) as pool:
            if state == "nightly" and lake.snapshot().n_rows(kind.curves) == 0:
                fill(lake, wanted, kind, pool)
            elif state == "compacted":
                merge(lake, pool, everything=True)
        claims += read_stars(lake.root, kind, f"{name}, {state}")
    return claims


def kept(root: Path) -> Lake:
    """Return a lake that is there, or a new one."""
    if (root / FILE_NAME).is_file():
        return Lake(root)
    return Lake.create(root, Settings(pixel_order=2, keep_newest=1, keep_days=0, keep_months=0))


def fill(lake: Lake, wanted: ArchiveScenario, kind: Kind, pool: Workers) -> None:
    """Fill a lake with nights, and make their light curves."""
    began = time.perf_counter()
    make_archive(lake, replace(wanted, nights=1), pool)
    camera = next(iter(lake.snapshot().parts("frames").values())).camera or ""
    nights = nights_of(wanted)
    targets = None
    if kind is KINDS["forced"]:
        commit_nights(lake, Making(wanted, camera, (), None, lake.tree_of("matches")), nights[::SAMPLE], pool)
        make_targets(lake, camera, TargetOptions(catalog=CATALOG, seen=0), pool)
        targets = forced_targets(lake, camera)
    making = Making(wanted, camera, (kind.measured,), targets, lake.tree_of(kind.measured))
    for some in groups_of(nights):
        commit_nights(lake, making, some, pool)
        aggregate(lake, list(kind.aggregates), pool)
        merge(lake, pool)
        print(f"  {len(some)} nights more after {time.perf_counter() - began:.0f} s", flush=True)
    if targets is None:
        put_objects(lake, kind, camera)


def put_objects(lake: Lake, kind: Kind, camera: str) -> None:
    """Write the objects that the nightly run makes from sources: here, those of the stars with light curves."""
    snapshot, schema = lake.snapshot(), load("objects")
    names = [kind.number, "catalog", "_healpix_29", "ra_deg", "dec_deg"]
    stars = snapshot.read(kind.curves, names).group_by(names).aggregate([])
    columns: dict[str, Any] = {
        "_healpix_29": stars["_healpix_29"],
        "object_id": stars["_healpix_29"],
        "camera": pa.array([camera] * stars.num_rows),
        "status": pa.array(["qualified"] * stars.num_rows),
        "catalog": stars["catalog"],
        "ref_id": stars[kind.number],
    }
    columns |= {f"{start}{name}": stars[name] for name in ("ra_deg", "dec_deg") for start in ("", "ref_")}
    columns |= dict.fromkeys(("pm_ra_mas_yr", "pm_dec_mas_yr"), np.zeros(stars.num_rows))
    counts = [one.name for one in schema.columns if not one.nullable and one.name not in columns]
    columns |= dict.fromkeys(counts, np.ones(stars.num_rows))
    with lake.stage("benchmark") as staging:
        rows, tree = conform(pa.table(columns), schema), lake.tree_of("objects")
        part = stage_part(rows, "objects", camera, staging / "objects", tree, camera, None, {})
        commit = Commit("benchmark", "objects")
        commit.replace(part, staging / "objects")
        lake.commit(commit)


def groups_of(nights: Sequence[int]) -> list[Sequence[int]]:
    """Return the nights in groups that become the bundles of as many nightly runs; the last ones wait together."""
    groups, start = [], 0
    for size in (FAN_IN[0] * FAN_IN[1], FAN_IN[0]):
        for _ in range((len(nights) - start) // size):
            groups.append(nights[start : start + size])
            start += size
    return [*groups, nights[start:]] if start < len(nights) else groups


@dataclass(frozen=True, slots=True)
class Making:
    """How nights are made: everything that a worker needs besides the night."""

    scenario: ArchiveScenario
    camera: str
    tables: tuple[str, ...]
    targets: Targets | None
    tree: PixelTree


def commit_nights(lake: Lake, making: Making, nights: Sequence[int], pool: Workers) -> None:
    """Make nights on the workers, and commit them together."""
    make, shared = dask.delayed(make_night, pure=False), dask.delayed(making, pure=False, traverse=False)
    with lake.stage("benchmark") as staging:
        commit = Commit("benchmark", f"{nights[0]} and later")
        for parts in pool.run([make(night, shared, staging) for night in nights]):
            for part in parts:
                commit.replace(part, staging / part.table)
        lake.commit(commit)


def make_night(night: int, making: Making, staging: Path) -> list[Part]:
    """Write frames, zeropoints and measurements of a night; runs on a worker."""
    tables, batch = night_tables(making.scenario, night, CATALOG, _VERSION), Batch(making.camera, night)
    names = {
        "frames": str(batch),
        "zeropoints": zeropoints_name(str(batch), CATALOG, _VERSION),
        "matches": matches_name(str(batch), CATALOG),
    }
    parts = [
        stage_sorted_part(
            getattr(tables, table), table, name, staging / table,
            making.tree if table == "matches" else None, batch.camera, night, {"n": str(night)},
        )
        for table, name in names.items()
        if table != "matches" or table in making.tables
    ]  # fmt: skip
    if making.targets is not None:
        parts.append(stage_forced(tables.matches, making.targets, making.tree, staging))
    return parts


def merge(lake: Lake, pool: Workers, everything: bool = False) -> None:
    """Compact table by table; what is merged goes at once, for want of disk."""
    for table in lake.snapshot().tables:
        if lake.snapshot().n_rows(table) and lake.snapshot().schema(table).layout.batch:
            compact(lake, pool, [table], everything)
            lake.vacuum(Retention(1, 0, 0))


def read_stars(root: Path, kind: Kind, name: str) -> list[Claim]:
    """Read some stars in every way, and return what the median one takes beside DuckDB."""
    lake, version = skylake.open(root), Lake(root).snapshot().version(kind.curves)
    files = [str(path) for path in version.whole_files()]
    n_rows = Lake(root).snapshot().n_rows(kind.measured)
    print(f"\n{name}: {n_rows} rows of {kind.measured}, {len(files)} files of {kind.curves}", flush=True)
    peer = Peer(files, kind)
    stars = peer.some_stars()
    first, _ = timed(lambda: lake.lightcurve(stars[0].number).arrow())
    print(f"  the first star of the process, imports with it: {first:.3f} s")
    peer.frames(stars[0])
    peer_s, frames = zip(*(timed(partial(peer.frames, star)) for star in stars), strict=True)
    print(f"  DuckDB: {median(peer_s):.4f} s; {median(map(len, frames)):.0f} points a star")
    claims = []
    for way, read in ways(lake, kind).items():
        cpu = time.process_time()
        seconds, tables = zip(*(timed(partial(read, star)) for star in stars), strict=True)
        cpu = (time.process_time() - cpu) / len(stars)
        print(
            f"  {way}: {median(seconds):.4f} s, slowest {max(seconds):.4f} s, {cpu:.4f} s of CPU", flush=True
        )
        claims.append(Claim(f"{name}: one star {way} [s]", median(seconds), median(peer_s), TARGET_S))
        pairs = zip(tables, frames, strict=True)
        wrong = sum(not np.array_equal(table["frame_id"].to_numpy(), ids) for table, ids in pairs)
        claims.append(Claim(f"{name}: stars {way} without all their points", wrong, None, 0.0))
    return claims


def ways(lake: LakeReader, kind: Kind) -> dict[str, Callable[[Star], pa.Table]]:
    """Return the ways to read a star."""
    found: dict[str, Callable[[Star], pa.Table]] = {
        f"by identifier, flux {flux}": lambda star, flux=flux: lake.lightcurve(star.number, flux=flux).arrow()  # type: ignore[misc]
        for flux in kind.fluxes
    }
    return found | {"by position": lambda star: lake.lightcurve(star.ra_deg, star.dec_deg).arrow()}


@dataclass(frozen=True, slots=True)
class Star:
    """A star: its identifier in the catalog, its index and its place."""

    number: int
    index: int
    ra_deg: float
    dec_deg: float


class Peer:
    """DuckDB, which reads the files of light curves itself."""

    def __init__(self, files: Sequence[str], kind: Kind) -> None:
        self.connection, self.kind = duckdb.connect(), kind
        self.connection.execute("SET parquet_metadata_cache = true; SET threads = 2")
        self.files = f"read_parquet({list(files)}, union_by_name = true)"
        nested = [column for column in load(kind.curves).columns if column.name in NESTED]
        self.columns = [(column.name, inner.name) for column in nested for inner in column.columns]

    def some_stars(self) -> list[Star]:
        """Return stars: each that of a measurement drawn at random."""
        found = self.connection.execute(
            f"SELECT {self.kind.number}, _healpix_29, min(ra_deg), min(dec_deg), sum(n_points) FROM {self.files} "
            f"WHERE {self.kind.number} IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()
        counts = np.array([float(row[4]) for row in found])
        drawn = np.random.default_rng(1).choice(len(found), STARS, replace=False, p=counts / counts.sum())
        return [Star(*found[place][:4]) for place in drawn]

    def frames(self, star: Star) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Read all measurements of a star, and return their frames in the order of time."""
        inner = ", ".join(f"unnest({nested}.{name}) AS {name}" for nested, name in self.columns)
        rows = self.connection.sql(
            f"SELECT * FROM (SELECT {inner} FROM {self.files} WHERE _healpix_29 = {star.index} "
            f"AND {self.kind.number} = {star.number}) ORDER BY mjd_mid, frame_id"
        ).to_arrow_table()
        return rows["frame_id"].to_numpy()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Do some work, and return the seconds that it took and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


if __name__ == "__main__":
    main()

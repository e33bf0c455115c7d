"""How fast detections are matched with a catalog, from Parquet to Parquet.

Needs: skylake alone, 3 GB of disk and 6 GB of memory. Takes about 6 minutes, one with --quick (a tenth of the rows).
Other programs run where they are installed: astropy is, and STILTS (Debian: apt install stilts), which reads FITS.

A million detections, and then ten million, are matched with a million stars, the nearest of each within 5 arcsec.
skylake runs its kernel in the graph of lsdb, and lsdb the same graph with its own algorithm; both write identifiers
and distances to Parquet, on one processor. Then the same million is divided into many pixels, which shows what a
partition costs, and clusters of one and of two workers match the largest. Last, a night of detections is matched as
`skylake calibrate` does it, all columns of the table ``matches`` written.

Each claim is one line: ours, peer, ratio, target, met or missed. Times are those of the processor, but for clusters.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import lsdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from archive.field_stars import field_catalog
from archive.make_archive import catalog_columns, make_archive
from archive.scenario import ArchiveScenario
from claims import Claim, conclude

from skylake.core.sphere import healpix_index, offset, unit_vectors
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.zeropoints.crossmatch_night import match_night, with_filters
from skylake.lake import Lake, stage_part
from skylake.schema import conform
from skylake.settings import Settings
from skylake.simulate import ScheduleParams, StarParams
from skylake.sky.catalog_build import build_catalog
from skylake.sky.catalog_columns import catalog_schema
from skylake.sky.hats_compiled import keep_compiled
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.match import nearest_within
from skylake.sky.pixels import PixelTree
from skylake.sky.strip_crossmatch import StripCrossmatch

RADIUS = 5.0
COLUMNS = ["ref_id", "ra_deg", "dec_deg"]
SCHEMA = catalog_schema(("V",), ())


def main() -> None:
    """Make catalogs, match them with each program, and print claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and no ten million")
    parser.add_argument("--largest", type=int, default=10**7, help="the most detections")
    parser.add_argument("--folder", type=Path, help="where catalogs are made for a while")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    keep_compiled()
    size = 10**5 if options.quick else 10**6
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-", dir=options.folder) as name:
        folder = Path(name)
        stars = make_stars(size)
        write(folder / "stars", stars, 0)
        warm_up(folder)
        claims = []
        largest = size if options.quick else options.largest
        for rows in sorted({size, largest}):
            write(folder / "detections", make_detections(stars, rows), 0)
            claims += beside_others(folder, rows, size)
            if rows == size:
                claims += partitions(folder, stars, rows)
            if rows == largest:
                claims += clusters(folder)
            shutil.rmtree(folder / "detections")
        claims += whole_nights(folder, size)
    conclude(claims)


def make_stars(size: int) -> pa.Table:
    """Return stars in a tenth of the sky over RA 0, half of them in a field of 40 square degrees."""
    random = np.random.default_rng(1)
    ra = random.uniform(-35.0, 35.0, size)
    dec = np.degrees(np.arcsin(random.uniform(np.sin(np.radians(-30.0)), np.sin(np.radians(35.0)), size)))
    half = size // 2
    angle = random.uniform(0.0, 360.0, half)
    away = 3.5 * np.sqrt(random.uniform(0.0, 1.0, half))
    ra[:half], dec[:half] = offset(np.full(half, 20.0), np.full(half, 10.0), away, angle)
    return table(ra % 360.0, dec, random.uniform(8.0, 18.0, size))


def make_detections(stars: pa.Table, size: int) -> pa.Table:
    """Return detections of stars with errors of half an arcsecond, one of twenty far from any."""
    random = np.random.default_rng(2)
    chosen = random.integers(0, stars.num_rows, size)
    away = np.where(random.uniform(0.0, 1.0, size) < 0.05, 60.0, random.rayleigh(0.5, size))
    ra, dec = (stars[name].to_numpy()[chosen] for name in ("ra_deg", "dec_deg"))
    ra, dec = offset(ra, dec, away / 3600.0, random.uniform(0.0, 360.0, size))
    return table(ra, dec, stars["mag_V"].to_numpy()[chosen])


def table(ra: np.ndarray, dec: np.ndarray, mag: np.ndarray) -> pa.Table:
    """Return rows of a catalog."""
    columns = {
        "_healpix_29": healpix_index(ra, dec),
        "ref_id": np.arange(len(ra)),
        "ra_deg": ra,
        "dec_deg": dec,
    }
    return conform(pa.table(columns | {"mag_V": mag}), SCHEMA)


def write(target: Path, rows: pa.Table, order: int) -> None:
    """Write a HATS collection with pixels of an order, a margin of 30 arcsec and at most a million rows a pixel."""
    properties = {"skylake_epoch": "2000.0", "skylake_origin": "a benchmark"}
    build_catalog(iter([rows]), SCHEMA, target, PixelTree.uniform(order), 30.0, properties, 10**6)


def warm_up(folder: Path) -> None:
    """Compile and import all that the first match of a process waits for."""
    for ours in (True, False):
        few = pairs_of(folder / "stars", folder / "stars", ours).partitions[:1]
        dask.compute(*few.to_delayed(), scheduler="synchronous")


def pairs_of(left: Path, right: Path, ours: bool) -> Any:
    """Return the match of two collections by lsdb, with our algorithm or with its own."""
    opened = [lsdb.open_catalog(path, columns=COLUMNS) for path in (left, right)]
    wanted: dict[str, Any] = {"algorithm": StripCrossmatch(RADIUS)} if ours else {"radius_arcsec": RADIUS}
    names = {"suffixes": ("_left", "_right"), "suffix_method": "overlapping_columns"}
    return opened[0].crossmatch(opened[1], **wanted, **names, log_changes=False)


def write_pairs(rows: Any, path: Path) -> int:
    """Write the pairs of a partition; return how many there are."""
    kept = rows[["ref_id_left", "ref_id_right", "_dist_arcsec"]]
    pairs = pa.Table.from_pandas(kept, preserve_index=False)
    pq.write_table(pairs, path, compression="zstd", use_dictionary=False)
    return len(rows)


def match_collections(left: Path, right: Path, ours: bool, scheduler: Any = "synchronous") -> int:
    """Match two collections and write the pairs; return how many there are."""
    with tempfile.TemporaryDirectory(dir=left.parent) as folder:
        task = dask.delayed(write_pairs, pure=False)
        parts = pairs_of(left, right, ours).to_delayed()
        written = [task(part, Path(folder) / f"{number}.parquet") for number, part in enumerate(parts)]
        if scheduler == "synchronous":
            return sum(dask.compute(*written, scheduler="synchronous"))
        return sum(future.result() for future in scheduler.compute(written))


@dataclass(frozen=True, slots=True)
class Timed:
    """What a call gave, and the seconds of the processor and of the clock that it took."""

    result: Any
    processor: float
    clock: float


def timed(call: Callable[[], Any], rounds: int = 1) -> Timed:
    """Return the best of some calls."""
    best = None
    for _ in range(rounds):
        clock, processor = time.perf_counter(), time.process_time()
        result = call()
        one = Timed(result, time.process_time() - processor, time.perf_counter() - clock)
        best = one if best is None or one.processor < best.processor else best
    assert best is not None
    return best


def beside_others(folder: Path, rows: int, stars: int) -> list[Claim]:
    """Match with each program on one processor."""
    left, right = folder / "detections", folder / "stars"
    rounds = 3 if rows < 10**7 else 2
    ours = timed(lambda: match_collections(left, right, True), rounds)
    theirs = timed(lambda: match_collections(left, right, False), rounds)
    assert ours.result == theirs.result
    print(f"{rows:.0e} detections, {stars:.0e} stars, {ours.result} pairs; million rows/s of one processor:")
    report = {"skylake, Parquet to Parquet": ours, "lsdb, Parquet to Parquet": theirs}
    places = [read_places(path) for path in (left, right)]
    vectors = [unit_vectors(*place) for place in places]
    report["skylake, in memory"] = timed(lambda: len(nearest_within(*vectors, RADIUS)[0]), rounds)
    report["astropy, in memory"] = timed(lambda: by_astropy(places))
    assert len({one.result for one in report.values()}) == 1
    found = by_stilts(folder, places)
    if found is not None:
        assert found.result == ours.result
        report["stilts, FITS to FITS (clock)"] = found
    for name, one in report.items():
        print(f"  {name}: {rows / one.processor / 1e6:.2f}")
    label = f"{rows:.0e} x {stars:.0e}"
    per_million = 1e6 / rows
    return [
        Claim(
            f"seconds per million rows on index columns, beside lsdb, {label}",
            ours.processor * per_million, theirs.processor * per_million, 1.0 / 2.5,
        ),
        Claim(f"time of ours to lsdb's, {label}", ours.processor / theirs.processor, None, 1.0 / 1.6),
        Claim(
            f"seconds per million rows in memory, beside astropy, {label}",
            report["skylake, in memory"].processor * per_million,
            report["astropy, in memory"].processor * per_million,
            0.25,
        ),
    ]  # fmt: skip


def read_places(collection: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return right ascensions and declinations of a collection."""
    files = sorted((collection / collection.name / "dataset").glob("Norder=*/**/*.parquet"))
    rows = pa.concat_tables([pq.read_table(path, columns=COLUMNS[1:], partitioning=None) for path in files])
    return rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()


def by_astropy(places: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """Match as astropy's guide shows it; return how many pairs there are."""
    from astropy.coordinates import SkyCoord

    left, right = (SkyCoord(*place, unit="deg") for place in places)
    _, separation, _ = left.match_to_catalog_sky(right)
    return int(np.count_nonzero(separation.arcsec <= RADIUS))


def by_stilts(folder: Path, places: list[tuple[np.ndarray, np.ndarray]]) -> Timed | None:
    """Match with ``stilts tskymatch2``; None where it is not installed."""
    program = shutil.which("stilts")
    if program is None:
        print("STILTS is not installed: it is left out")
        return None
    from astropy.io import fits

    for name, (ra, dec) in zip(("left", "right"), places, strict=True):
        columns = [fits.Column(one, "D", array=values) for one, values in (("ra", ra), ("dec", dec))]
        fits.BinTableHDU.from_columns(columns).writeto(folder / f"{name}.fits")
    command = [
        program, "-Xmx6g", "tskymatch2", f"in1={folder}/left.fits", f"in2={folder}/right.fits", "ra1=ra", "dec1=dec",
        "ra2=ra", "dec2=dec", f"error={RADIUS}", "join=1and2", "find=best1", f"out={folder}/out.fits",
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    with fits.open(folder / "out.fits") as opened:
        n_pairs = opened[1].header["NAXIS2"]
    for name in ("left", "right", "out"):
        (folder / f"{name}.fits").unlink()
    return Timed(n_pairs, seconds, seconds)


def partitions(folder: Path, stars: pa.Table, rows: int) -> list[Claim]:
    """Divide both collections into many pixels and see what each costs."""
    write(folder / "fine_stars", stars, 4)
    write(folder / "fine_detections", make_detections(stars, rows), 4)
    taken = []
    for ours in (True, False):
        few, many = (
            (timed(lambda pair=pair, ours=ours: match_collections(*pair, ours)), count_pixels(pair[0]))
            for pair in (
                (folder / "detections", folder / "stars"),
                (folder / "fine_detections", folder / "fine_stars"),
            )
        )
        assert few[0].result == many[0].result
        taken.append(1e3 * (many[0].processor - few[0].processor) / (many[1] - few[1]))
    print(f"{few[1]} and {many[1]} partitions: {taken[0]:.1f} ms for each, lsdb {taken[1]:.1f}")
    for name in ("fine_stars", "fine_detections"):
        shutil.rmtree(folder / name)
    return [Claim("milliseconds for each added partition, beside lsdb", *taken, 0.8 * taken[1])]


def count_pixels(collection: Path) -> int:
    """Return how many pixels a collection has."""
    return len(list((collection / collection.name / "dataset").glob("Norder=*/Dir=*/Npix=*")))


def clusters(folder: Path) -> list[Claim]:
    """Match on a cluster of one worker and of two, of one thread each."""
    from distributed import Client, LocalCluster

    pair, seconds, peak = (folder / "detections", folder / "stars"), {}, 0.0
    for n_workers in (1, 2):
        with (
            LocalCluster(
                n_workers=n_workers, threads_per_worker=1, memory_limit="2GB", dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            assert len(client.run(warm_up, folder)) == n_workers
            seconds[n_workers] = timed(lambda client=client: match_collections(*pair, True, client), 2).clock
            peak = max(peak, *client.run(peak_memory).values())
    print(
        f"a cluster of one worker takes {seconds[1]:.1f} s, of two {seconds[2]:.1f} s; {peak:.2f} GB a worker"
    )
    return [
        Claim("time of two workers to that of one", seconds[2] / seconds[1], None, 1.0 / 1.5),
        Claim("peak memory of a worker, GB", peak, None, 2.0),
    ]


def peak_memory() -> float:
    """Return the largest memory that this process had, GB.

    The kernel's ``ru_maxrss`` also remembers that of the process which started this one.
    """
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024 / 1e9


def whole_nights(folder: Path, size: int) -> list[Claim]:
    """Match a night as a calibration does, and write all columns of ``matches``."""
    frames = 40 if size < 10**6 else 120
    scenario = ArchiveScenario(
        nights=1,
        frames_per_night=frames,
        stars=StarParams(per_frame=size / frames),
        schedule=ScheduleParams(fields=3),
    )
    lake = Lake.create(folder / "lake", Settings(cluster="inline"))
    make_archive(lake, scenario, Inline())
    pq.write_table(
        pa.concat_tables([field_catalog(scenario, field) for field in range(4)]), folder / "stars.parquet"
    )
    import_catalog(lake, "again", "table", [folder / "stars.parquet"], catalog_columns(scenario))
    snapshot = lake.snapshot()
    (part,) = snapshot.parts("sources").values()
    camera = lake.profile(part.camera).base
    known = with_filters(snapshot.read("frames"), camera)
    known = known.filter(pa.compute.equal(known["status"], "ok"))
    reference = ReferenceCatalog.open(lake.layout.catalog("again"))

    def run() -> int:
        matches = match_night(known, part, snapshot.version("sources").slices_of(part), camera, reference)
        with tempfile.TemporaryDirectory(dir=folder) as staging:
            stage_part(
                matches, "matches", "night", Path(staging), lake.tree_of("matches"), part.camera, part.night
            )
        return matches.num_rows

    done = timed(run, 3)
    print(
        f"a night of {part.n_rows} detections: {done.result} matches with all columns in {done.processor:.1f} s"
    )
    claim = "seconds per million detections, all columns of their matches written"
    return [Claim(claim, 1e6 * done.processor / part.n_rows, None, 2.5)]


if __name__ == "__main__":
    main()

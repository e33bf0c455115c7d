"""Whether a lake of ten years stays fast: commits, compaction, cones and the history of one star.

Needs: skylake alone, 35 GB of disk below --folder and 2 cores. Takes about 30 minutes, 3 minutes with
--quick (a hundredth of the rows).

Nights of a simulated camera are committed one by one, with the compaction that the nightly run does after each.
Then the table of detections is merged into one file per pixel, and the same questions are asked through skylake and
through plain DuckDB on the same files: all detections within 10 arcminutes of a place, and the history of one star.
Each place is asked for twice: the first time the rows may have to come from the disk, then they are in memory. What
was read is counted by the operating system.

With --lake the questions alone are put to a lake that is there, as ``python -m archive`` and ``skylake compact``
make it.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import dask
import duckdb
import numpy as np
import psutil
import pyarrow.parquet as pq
from archive.night_tables import night_tables
from archive.scenario import ArchiveScenario
from claims import Claim, conclude

from skylake.core.batch import Batch
from skylake.core.sphere import separation_deg
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Workers, workers
from skylake.lake import Commit, Lake, Part, Retention, stage_part
from skylake.lake.access.open_table import OpenTable
from skylake.settings import Settings
from skylake.simulate import AtmosphereParams, ScheduleParams, StarParams
from skylake.simulate.schedule import nights_of
from skylake.sky.pixels import PixelTree

HISTORY = ["frame_id", "mjd_mid", "ra_deg", "dec_deg", "flux_aper2", "flux_aper2_err", "flags"]


def main() -> None:
    """Grow a lake, compact it, ask it, and print claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="100 nights of 10,000 rows, not 1,000 of 100,000"
    )
    parser.add_argument("--folder", type=Path, help="where the lake is made for a while")
    parser.add_argument("--lake", type=Path, help="only ask a lake that is there")
    options = parser.parse_args()
    if options.lake:
        conclude(questions(Lake(options.lake), 0.1 if options.quick else 0.01))
        return
    nights, frames = (100, 6) if options.quick else (1000, 66)
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="skylake-benchmark-", dir=options.folder) as folder,
        workers("local", 2) as pool,
        Memory() as memory,
    ):
        lake = Lake.create(Path(folder) / "lake", Settings(keep_newest=1, keep_days=0, keep_months=0))
        growth = grow(lake, scenario(nights, frames), pool)
        claims = growth.claims(nights)
        claims += merge_all(lake, pool)
        # In a small lake footers and single row groups are a larger share.
        claims += questions(lake, 0.1 if options.quick else 0.01)
        claims.append(Claim("peak memory of all processes, GB", memory.peak / 1e9, None, 6.0))
    conclude(claims)


def scenario(nights: int, frames: int) -> ArchiveScenario:
    """Return the camera: a dozen fields all around the sky, about 1,560 detections on a frame."""
    return ArchiveScenario(
        nights=nights,
        frames_per_night=frames,
        stars=StarParams(per_frame=2000),
        schedule=ScheduleParams(fields=11),
        atmosphere=AtmosphereParams(cloudy_fraction=0.1),
    )


@dataclass(slots=True)
class Growth:
    """What was measured night by night."""

    stage_s: list[float]
    commit_s: list[float]
    compact_s: list[float]
    write_s: float
    n_rows: int
    most_files: int

    def claims(self, nights: int) -> list[Claim]:
        """Return the claims on commits."""
        spans = slice(5, 15), slice(nights // 10 - 5, nights // 10 + 5), slice(nights - 20, nights)
        staged = [1e3 * median(self.stage_s[span]) for span in spans]
        published = [1e3 * median(self.commit_s[span]) for span in spans]
        for made, publish, count in zip(staged, published, (10, nights // 10, nights), strict=True):
            print(
                f"a night of {self.n_rows // nights} rows at {count} nights: staged (written and forced to disk) "
                f"in {made:.0f} ms, published in {publish:.0f} ms"
            )
        whole = [sum(both) for both in zip(staged, published, strict=True)]
        print(
            f"written {self.n_rows / self.write_s / 1e6:.2f} million rows/s on 2 cores; regular compaction "
            f"{sum(self.compact_s) / nights * 1e3:.0f} ms a night on the mean, {max(self.compact_s):.1f} s at most"
        )
        return [
            Claim(
                f"staging and publishing a night, at {nights} nights to 10", whole[2] / whole[0], None, 1.5
            ),
            Claim(f"publishing alone, at {nights} nights to 10", published[2] / published[0], None, 1.5),
            Claim("files in a pixel, at most", self.most_files, None, 30),
        ]


def grow(lake: Lake, wanted: ArchiveScenario, pool: Workers) -> Growth:
    """Commit the nights one by one, with the compaction of the nightly run after each."""
    growth = Growth([], [], [], 0.0, 0, 0)
    nights = nights_of(wanted)
    write = dask.delayed(write_night, pure=False)
    size = 4 * pool.count
    for start in range(0, len(nights), size):
        with lake.stage("benchmark") as staging:
            tree = lake.tree_of("sources")
            made = pool.run([write(wanted, night, tree, staging) for night in nights[start : start + size]])
            for (parts, seconds), night in zip(made, nights[start : start + size], strict=True):
                growth.write_s += seconds / pool.count
                growth.stage_s.append(seconds)
                commit_night(lake, night, parts, staging, growth)
                began = time.perf_counter()
                compact(lake, pool)
                growth.compact_s.append(time.perf_counter() - began)
        growth.most_files = max(growth.most_files, files_in_a_pixel(lake))
        lake.vacuum(Retention(1, 0, 0))
        if (start // size) % 10 == 0:
            print(f"  {start + size} nights, {growth.n_rows / 1e6:.1f} million rows", flush=True)
    return growth


def write_night(
    wanted: ArchiveScenario, night: int, tree: PixelTree, staging: Path
) -> tuple[list[Part], float]:
    """Make a night and write it; return its parts, and the seconds that writing took."""
    tables = night_tables(wanted, night, "simulated")
    batch = Batch("sim", night)
    began = time.perf_counter()
    parts = [
        stage_part(
            rows,
            table,
            str(batch),
            staging / table,
            tree if table == "sources" else None,
            "sim",
            night,
            {"n": str(night)},
        )
        for table, rows in (("frames", tables.frames), ("sources", tables.sources))
    ]
    return parts, time.perf_counter() - began


def commit_night(lake: Lake, night: int, parts: Sequence[Part], staging: Path, growth: Growth) -> None:
    """Commit a night and note how long that took."""
    commit = Commit("benchmark", str(night))
    for part in parts:
        commit.replace(part, staging / part.table)
    began = time.perf_counter()
    lake.commit(commit)
    growth.commit_s.append(time.perf_counter() - began)
    growth.write_s += growth.commit_s[-1]
    growth.n_rows += next(part.n_rows for part in parts if part.table == "sources")


def files_in_a_pixel(lake: Lake) -> int:
    """Return the files in the pixel that has the most."""
    folders = [path.parent for path in lake.snapshot().version("sources").whole_files()]
    return max(folders.count(folder) for folder in set(folders))


def merge_all(lake: Lake, pool: Workers) -> list[Claim]:
    """Merge all files of each pixel into one."""
    version = lake.snapshot().version("sources")
    before = sum(path.stat().st_size for path in version.whole_files())
    rows, files = version.n_rows, len(version.whole_files())
    began = time.perf_counter()
    compact(lake, pool, ["sources"], everything=True)
    seconds = time.perf_counter() - began
    lake.vacuum(Retention(1, 0, 0))
    version = lake.snapshot().version("sources")
    after = sum(path.stat().st_size for path in version.whole_files())
    print(
        f"compaction of {rows / 1e6:.1f} million rows: {rows / seconds / 1e6:.2f} million rows/s on 2 cores, "
        f"{files} files of {before / rows:.1f} bytes a row became {len(version.whole_files())} of {after / rows:.1f}"
    )
    return [Claim("bytes a row", after / rows, before / rows, 110.0)]


def questions(lake: Lake, share: float) -> list[Claim]:
    """Ask for cones and histories, through skylake and plain DuckDB."""
    table = lake.open("sources")
    total = sum(path.stat().st_size for path in table.files)
    places = some_places(lake, 13)
    pattern = f"{lake.snapshot().folder('sources')}/dataset/**/*.parquet"
    connection = duckdb.connect()
    connection.execute(
        f"CREATE VIEW sources AS SELECT * FROM read_parquet('{pattern}', hive_partitioning = false)"
    )
    claims = []
    for name, columns, radius in (
        ("cone of 10 arcmin", None, 1 / 6),
        ("history of a star", HISTORY, 3 / 3600),
    ):
        mine = ask(partial(through_skylake, table, columns, radius), places)
        theirs = ask(partial(through_duckdb, connection, columns, radius), places)
        if mine.counts != theirs.counts:
            raise SystemExit(f"{name}: skylake finds {mine.counts} rows and DuckDB {theirs.counts}")
        for who, answers in (("skylake", mine), ("DuckDB", theirs)):
            rows, megabytes = median(answers.counts), median(answers.bytes) / 1e6
            print(f"{name}: {rows:.0f} rows, {megabytes:.1f} MB read; {who} {answers.told}")
        claims += [
            Claim(f"{name}, slowest, the first time, s", max(mine.first_s), max(theirs.first_s), 0.3),
            Claim(f"{name}, slowest, again, s", max(mine.again_s), max(theirs.again_s), 0.3),
            Claim(f"{name}, share of the bytes", max(mine.bytes) / total, max(theirs.bytes) / total, share),
        ]
    return claims


def some_places(lake: Lake, count: int) -> list[tuple[float, float]]:
    """Return positions of detections here and there."""
    random = np.random.default_rng(5)
    found = []
    for path in random.choice([str(path) for path in lake.open("sources").files], count):
        rows = pq.ParquetFile(path).read_row_group(0, ["ra_deg", "dec_deg"])
        row = int(random.integers(rows.num_rows))
        found.append((rows["ra_deg"][row].as_py(), rows["dec_deg"][row].as_py()))
    return found


@dataclass(slots=True)
class Answers:
    """Rows and bytes of each question, and the seconds that it took the first time and again."""

    counts: list[int]
    bytes: list[int]
    first_s: list[float]
    again_s: list[float]

    @property
    def told(self) -> str:
        """How long it took."""
        first, again = (f"{1e3 * median(times):.0f} ms" for times in (self.first_s, self.again_s))
        return f"{first} the first time, {again} again"


def ask(question: Callable[[float, float], int], places: Sequence[tuple[float, float]]) -> Answers:
    """Ask at every place twice; before, unmeasured, at one that loads the libraries."""
    question(*places[-1])
    answers = Answers([], [], [], [])
    process = psutil.Process()
    for ra, dec in places[:-1]:
        read, began = process.io_counters().read_chars, time.perf_counter()
        answers.counts.append(question(ra, dec))
        answers.first_s.append(time.perf_counter() - began)
        answers.bytes.append(process.io_counters().read_chars - read)
        began = time.perf_counter()
        question(ra, dec)
        answers.again_s.append(time.perf_counter() - began)
    return answers


def through_skylake(
    table: OpenTable, columns: Sequence[str] | None, radius: float, ra: float, dec: float
) -> int:
    """Count the rows of a cone."""
    return table.arrow(columns, cone=(ra, dec, radius)).num_rows


def through_duckdb(
    connection: Any, columns: Sequence[str] | None, radius: float, ra: float, dec: float
) -> int:
    """Ask plain DuckDB for a box around the place, and choose the rows in the circle."""
    width = radius / np.cos(np.radians(min(abs(dec) + radius, 89.9)))
    rows = connection.sql(
        f"SELECT {', '.join(columns) if columns else '*'} FROM sources "
        f"WHERE dec_deg BETWEEN {dec - radius} AND {dec + radius} AND ra_deg BETWEEN {ra - width} AND {ra + width}"
    ).to_arrow_table()
    distance = separation_deg(ra, dec, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    return int((distance <= radius).sum())


class Memory:
    """The largest memory that this process and its children had together."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.peak = max(self.peak, _resident())


def _resident() -> int:
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            # Pages that processes share are counted once.
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    main()

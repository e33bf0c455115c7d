"""What the encodings of the lake's Parquet files cost and save, in bytes and in time.

Needs: skylake alone; polars is asked too where it is installed. Linux, for the bytes that a cone reads. Takes about
3 minutes on 2 cores, 1 minute with --quick.

The rows are those of `python -m archive`: a month of SkyCamT in the densest pixel of order 3, merged and
sorted as a compaction does, and the file of one night. Beside us, with the very same rows, stand what hats writes by
default (zstd 15, byte streams for floats), what pyarrow and pandas write by default (snappy, dictionaries), and plain
values under snappy. Everything runs on one thread; times are of the processor, so that neighbours on the machine and
its disk matter little, and the best of three counts.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from archive.night_tables import night_tables
from archive.scenario import ArchiveScenario
from claims import Claim, conclude
from hats.io.file_io import file_io as hats_files

from skylake.lake.storage.parts import sort_rows, split
from skylake.schema import load
from skylake.schema.parquet import ROW_GROUP_ROWS, write_options
from skylake.simulate import AtmosphereParams, ScheduleParams, StarParams
from skylake.simulate.schedule import nights_of
from skylake.sky.cone import read_cone
from skylake.sky.hats import Properties, leaf_folder, write_metadata
from skylake.sky.pixels import Pixel, PixelTree

Options = dict[str, Any]
FIVE = ["_healpix_29", "mjd_mid", "frame_id", "flux_aper2", "flux_aper2_err"]
QUERY = "SELECT frame_id, avg(flux_aper2), max(mjd_mid) FROM '{}' WHERE flags = 0 GROUP BY ALL"
CONE_DEG = 10.0 / 60.0
OURS, HATS, PYARROW, PLAIN = "ours", "hats", "pyarrow", "plain, snappy"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one setting costs: bytes per row of the file, and millions of rows a second."""

    bytes_per_row: float
    write: float
    read: float
    five: float
    query: float


def main() -> None:
    """Make the rows, measure, and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the nights")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    pixel, nights = simulated(6 if options.quick else 30)
    merged = {table: sort_rows(pa.concat_tables(pieces), load(table)) for table, pieces in nights.items()}
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as name:
        folder = Path(name)
        compare("sources, one night", nights["sources"][0], folder)
        for table, rows in merged.items():
            by_column(f"{table}, merged", rows.slice(0, 8 * ROW_GROUP_ROWS), folder)
            claims += claims_on(table, compare(f"{table}, merged", rows, folder))
        for table, rows in merged.items():
            claims.append(row_groups(table, rows, pixel, folder))
        many_frames(folder)
        claims.append(readers(merged["sources"], pixel, folder))
    conclude(claims)


def simulated(nights: int) -> tuple[Pixel, dict[str, list[pa.Table]]]:
    """Return the densest pixel of the first night, and its rows night by night."""
    scenario = ArchiveScenario(
        camera="skycam-t", nights=nights, frames_per_night=120, stars=StarParams(per_frame=2000),
        schedule=ScheduleParams(fields=3), atmosphere=AtmosphereParams(cloudy_fraction=0.1),
    )  # fmt: skip
    tree, dates = PixelTree.uniform(3), nights_of(scenario)
    first = night_tables(scenario, dates[0], "simcat").sources
    pixel, _ = max(split(first, load("sources"), tree), key=lambda piece: piece[1].num_rows)
    found: dict[str, list[pa.Table]] = {"sources": [], "matches": []}
    for night in dates:
        made = night_tables(scenario, night, "simcat")
        for table, pieces in found.items():
            here = [rows for place, rows in split(getattr(made, table), load(table), tree) if place == pixel]
            pieces += [rows.combine_chunks() for rows in here]
    assert pixel is not None
    return pixel, found


def settings(schema: pa.Schema) -> dict[str, Options]:
    """Return the settings that are compared."""
    ours = write_options(schema)
    return {
        PLAIN: {"use_dictionary": False},
        PYARROW: {},
        HATS: hats_files.get_parquet_write_table_kwargs(schema),
        "by type alone": typed(schema),
        **{
            f"ours, {name} {level or ''}".strip(): ours | {"compression": name, "compression_level": level}
            for name, level in (("none", None), ("snappy", None), ("lz4", None), ("zstd", 1))
        },
        OURS: ours,
        **{f"ours, zstd {level}": ours | {"compression_level": level} for level in (6, 9, 15)},
    }


def typed(schema: pa.Schema) -> Options:
    """Return our options without dictionaries for what the rows of a frame share."""
    options = write_options(schema)
    frame = {
        "frame_id": "DELTA_BINARY_PACKED",
        "night": "DELTA_BINARY_PACKED",
        "mjd_mid": "BYTE_STREAM_SPLIT",
    }
    numbers = {name: encoding for name, encoding in frame.items() if name in schema.names}
    texts = [name for name in options["use_dictionary"] if name not in numbers]
    return options | {"use_dictionary": texts, "column_encoding": options["column_encoding"] | numbers}


def compare(title: str, rows: pa.Table, folder: Path) -> dict[str, Cost]:
    """Write and read the rows under each setting."""
    print(f"\n{title}: {rows.num_rows} rows")
    print(
        f"{'setting':18s} {'bytes/row':>9s} {'write':>7s} {'read':>7s} {'five':>7s} {'DuckDB':>7s}   [Mrows/s]"
    )
    costs = {}
    for name, options in settings(rows.schema).items():
        cost = costs[name] = measure(rows.combine_chunks(), folder / "rows.parquet", options)
        speeds = f"{cost.write:7.2f} {cost.read:7.2f} {cost.five:7.1f} {cost.query:7.1f}"
        print(f"{name:18s} {cost.bytes_per_row:9.2f} {speeds}", flush=True)
    return costs


def measure(rows: pa.Table, path: Path, options: Options) -> Cost:
    """Return what one setting costs."""

    def speed(action: Callable[..., object], *arguments: Any, **keywords: Any) -> float:
        return rows.num_rows / best_time(action, *arguments, **keywords) / 1e6

    with duckdb.connect(config={"threads": 1}) as connection:
        return Cost(
            write=speed(pq.write_table, rows, path, **options),
            bytes_per_row=path.stat().st_size / rows.num_rows,
            read=speed(pq.read_table, path, use_threads=False),
            five=speed(pq.read_table, path, columns=FIVE, use_threads=False),
            query=speed(lambda: connection.execute(QUERY.format(path)).fetchall()),
        )


def best_time(action: Callable[..., object], *arguments: Any, **keywords: Any) -> float:
    """Return the shortest of three processor times of a call, in seconds."""
    times = []
    for _ in range(3):
        start = time.process_time()
        action(*arguments, **keywords)
        times.append(time.process_time() - start)
    return min(times)


def by_column(title: str, rows: pa.Table, folder: Path) -> None:
    """Print the bytes per row of each column under each encoding, with zstd 3, and the encoding that we choose."""
    encodings = {
        "plain": None, "dictionary": None, "streams": "BYTE_STREAM_SPLIT", "differences": "DELTA_BINARY_PACKED",
    }  # fmt: skip
    print(f"\n{title}: bytes per row of each column, the encoding of ours marked")
    print(f"{'column':18s} {'type':8s}" + "".join(f"{name:>13s}" for name in encodings))
    ours = write_options(rows.schema)
    for field in rows.schema:
        chosen = ours["column_encoding"].get(field.name)
        line = f"{field.name:18s} {field.type!s:8s}"
        for name, encoding in encodings.items():
            size = column_bytes(rows.select([field.name]), folder / "column.parquet", name, encoding)
            is_ours = (name == "dictionary") if chosen is None else (encoding == chosen)
            line += f"{'' if size is None else f'{size:.2f}':>12s}" + ("*" if is_ours else " ")
        print(line, flush=True)


def column_bytes(rows: pa.Table, path: Path, name: str, encoding: str | None) -> float | None:
    """Return the bytes per row of a column, None if its type does not know the encoding."""
    column, kind = rows.column_names[0], rows.schema[0].type
    floating, number = pa.types.is_floating(kind), pa.types.is_integer(kind) and kind.bit_width >= 32
    if encoding and not (number or (floating and encoding == "BYTE_STREAM_SPLIT")):
        return None
    options: Options = {"use_dictionary": [column] if name == "dictionary" else []}
    options |= {"column_encoding": {column: encoding} if encoding else {}}
    pq.write_table(rows, path, **write_options(rows.schema) | options)
    metadata = pq.ParquetFile(path).metadata
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return sum(group.column(0).total_compressed_size for group in groups) / rows.num_rows


def claims_on(table: str, costs: dict[str, Cost]) -> list[Claim]:
    """Return what we claim of a merged table; times are microseconds per row."""
    ours, hats, pyarrow = costs[OURS], costs[HATS], costs[PYARROW]
    name = f"of {table}"
    alone, plain = costs["by type alone"].bytes_per_row, costs[PLAIN].bytes_per_row
    return [
        Claim(f"bytes per row {name}, beside hats", ours.bytes_per_row, hats.bytes_per_row, 1.04 * hats.bytes_per_row),
        Claim(f"bytes per row {name}, beside plain snappy", ours.bytes_per_row, plain, 0.75 * plain),
        Claim(f"bytes per row {name}, beside types alone", ours.bytes_per_row, alone, 0.98 * alone),
        Claim(f"time to write a row {name}, beside hats [us]", 1 / ours.write, 1 / hats.write, 0.3 / hats.write),
        Claim(f"time to read a row {name}, beside pyarrow [us]", 1 / ours.read, 1 / pyarrow.read, 1.6 / pyarrow.read),
    ]  # fmt: skip


def row_groups(table: str, rows: pa.Table, pixel: Pixel, folder: Path) -> Claim:
    """Measure cones under several sizes of row groups; claim the bytes that one reads, beside hats."""
    print(f"\n{table}, merged: {rows.num_rows} rows, cones of 10 arcmin")
    print(
        f"{'row group':>10s} {'bytes/row':>9s} {'footer kB':>9s} {'parse ms':>8s} {'cone kB':>8s} {'cone ms':>8s}"
    )
    ours = write_options(rows.schema)
    sizes = {
        f"{size}": ours | {"row_group_size": size} for size in (8192, 16384, 24576, 32768, 65536, 131072)
    }
    read = {}
    for name, options in (sizes | {HATS: hats_files.get_parquet_write_table_kwargs(rows.schema)}).items():
        root = folder / f"{table}-{name}"
        path = leaf(root, table, rows, pixel, options)
        size, parse = path.stat().st_size / rows.num_rows, 1e3 * best_time(pq.ParquetFile, path)
        footer = pq.ParquetFile(path).metadata.serialized_size / 1e3
        read[name], taken = cones(root, rows)
        print(
            f"{name:>10s} {size:9.2f} {footer:9.1f} {parse:8.2f} {read[name]:8.0f} {1e3 * taken:8.1f}",
            flush=True,
        )
    here, there = read[str(ROW_GROUP_ROWS)], read[HATS]
    return Claim(f"kilobytes that a cone reads of {table}, beside hats", here, there, 0.6 * there)


def leaf(root: Path, table: str, rows: pa.Table, pixel: Pixel, options: Options) -> Path:
    """Write a catalog of one pixel in one file."""
    path = root / leaf_folder(*pixel) / "rows.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(rows, path, **options)
    write_metadata(root, load(table), Properties(table, "source", rows.num_rows), [pixel])
    return path


def cones(root: Path, rows: pa.Table) -> tuple[float, float]:
    """Return the mean kilobytes that a cone around a row reads, and its mean seconds."""
    chosen = rows.take(np.random.default_rng(1).integers(0, rows.num_rows, 30))
    read, taken = [], []
    for ra, dec in zip(chosen["ra_deg"].to_pylist(), chosen["dec_deg"].to_pylist(), strict=True):
        before = bytes_read()
        found = read_cone(root, ra, dec, CONE_DEG)
        read.append(bytes_read() - before)
        assert found.num_rows
        taken.append(best_time(read_cone, root, ra, dec, CONE_DEG))
    return float(np.mean(read)) / 1e3, float(np.mean(taken))


def bytes_read() -> int:
    """Return the bytes that this process has read from files so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))


def many_frames(folder: Path) -> None:
    """Print what identifier and time of a frame cost as the frames of a file grow in number."""
    print("\nframe_id and mjd_mid together, rows of frames at random: bytes per row")
    print(f"{'frames':>10s} {'dictionary':>11s} {'by type':>8s}")
    random, count = np.random.default_rng(1), 8 * ROW_GROUP_ROWS
    for frames in (100, 1000, 10000, 30000, 50000, 100000):
        frame, times = random.integers(0, frames, count), np.sort(random.uniform(57000, 60650, frames))
        rows = pa.table({"frame_id": random.integers(0, 2**62, frames)[frame], "mjd_mid": times[frame]})
        sizes = []
        for options in (write_options(rows.schema), typed(rows.schema)):
            pq.write_table(rows, folder / "frames.parquet", **options)
            sizes.append((folder / "frames.parquet").stat().st_size / count)
        print(f"{frames:10d} {sizes[0]:11.2f} {sizes[1]:8.2f}")


def readers(rows: pa.Table, pixel: Pixel, folder: Path) -> Claim:
    """Ask every reader for the same sums; claim that none differs from pyarrow's own rows in memory."""
    import lsdb

    root = folder / "readers"
    path = leaf(root, "sources", rows, pixel, write_options(rows.schema))
    found = {
        "pyarrow": pq.read_table(path).to_pandas(),
        "pandas": pd.read_parquet(path),
        "DuckDB": duckdb.sql(f"FROM '{path}'").to_arrow_table().to_pandas(),
        "lsdb": lsdb.open_catalog(root).compute().reset_index(),
    }
    try:
        import polars
    except ModuleNotFoundError:
        print("\npolars is not installed: left out")
    else:
        found["polars"] = polars.read_parquet(path).to_arrow().to_pandas()
    wanted = rows.to_pandas()
    differing = [name for name, frame in found.items() if not same(frame, wanted)]
    print(f"\nreaders: {', '.join(found)}; differing: {', '.join(differing) or 'none'}")
    return Claim("readers that differ", float(len(differing)), None, 0.0)


def same(frame: pd.DataFrame, wanted: pd.DataFrame) -> bool:
    """Tell whether two frames hold the same values in the same order."""
    return all(
        np.array_equal(
            np.asarray(frame[name]), np.asarray(wanted[name]), equal_nan=wanted[name].dtype.kind == "f"
        )
        for name in wanted.columns
    )


if __name__ == "__main__":
    main()

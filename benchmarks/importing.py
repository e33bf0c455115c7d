"""Import files of surveys as they are published, beside hats-import: rows a second and peak memory.

Needs: hats-import. Takes about 40 minutes on 2 cores with 10,000,000 rows of each form, 2 minutes with --quick, which
has 300,000 rows of two of them.

The files are generated in the forms that `skylake/surveys/*.toml` describe, with all the columns that are read there.
skylake imports them with their errors, units, flags and a margin of 300 arcseconds. hats-import takes over the columns
as they are, with a margin as wide, in both of its pipelines; it has two workers, skylake one process. The memory is
that of all processes of an import together, sampled ten times a second.

Each claim is one line: ours, peer, ratio, target, met or missed. Times are claimed per million rows.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from claims import Claim, conclude

from skylake.sky.surveys import CutColumns, Form, Names, load_survey

#: Survey, form, and suffix of the file.
FORMS = [
    ("gaia", "archive", "csv"),
    ("gaia", "archive", "parquet"),
    ("refcat2", "tiles", "csv"),
    ("2mass", "psc files", "psc"),
    ("ps1", "archive", "csv"),
    ("apass", "VizieR", "csv"),
    ("tycho2", "VizieR", "csv"),
    ("usnob", "VizieR", "csv"),
    ("skymapper", "archive", "csv"),
    ("vhs", "archive", "csv"),
]
QUICK = FORMS[:2]
MARGIN_ARCSEC = 300.0
MOST_BYTES = 4e9
CHUNK = 500_000


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds for each million rows, by the clock and of all processors, and bytes."""

    seconds: float
    cpu_seconds: float
    n_bytes: float


def main() -> None:
    """Write the files, import each with both programs, and print the claims."""
    if len(sys.argv) > 1 and sys.argv[1] in ("skylake", "hats-import"):
        child(*sys.argv[1:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="300,000 rows of two forms")
    parser.add_argument("--rows", type=int, help="rows of each file")
    parser.add_argument("--only", help="one of the surveys")
    options = parser.parse_args()
    n_rows = options.rows or (300_000 if options.quick else 10_000_000)
    claims = []
    print(f"{n_rows} rows{'':24}  million rows/s   CPU s per million   peak GB")
    for survey, form, suffix in QUICK if options.quick else FORMS:
        if options.only not in (None, survey):
            continue
        with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as name:
            path = Path(name) / f"stars.{suffix}"
            write(form_of(survey, form), path, n_rows)
            costs = {
                program: measured(program, survey, form, path, n_rows)
                for program in ("skylake", "hats-import")
            }
        for program, cost in costs.items():
            what = f"{survey}, {form}, {suffix}, {program}"
            print(
                f"{what:40} {1 / cost.seconds:8.3f} {cost.cpu_seconds:16.1f} {cost.n_bytes / 1e9:13.2f}",
                flush=True,
            )
        ours, peer = costs["skylake"], costs["hats-import"]
        what = f"{survey}, {form}, {suffix}"
        claims.append(
            Claim(f"import of {what}, s per million rows", ours.seconds, peer.seconds, peer.seconds)
        )
        claims.append(
            Claim(f"import of {what}, peak GB", ours.n_bytes / 1e9, peer.n_bytes / 1e9, MOST_BYTES / 1e9)
        )
    conclude(claims)


def form_of(survey: str, name: str) -> Form:
    """Return a form of a survey."""
    return next(form for form in load_survey(survey).form if form.name == name)


def write(form: Form, path: Path, n_rows: int) -> None:
    """Write a file in a form, in pieces."""
    writer: pacsv.CSVWriter | pq.ParquetWriter | None = None
    for start in range(0, n_rows, CHUNK):
        rows = stars(form, start, min(CHUNK, n_rows - start))
        if path.suffix == ".parquet":
            writer = writer or pq.ParquetWriter(path, rows.schema)
        else:
            options = pacsv.WriteOptions(
                include_header=not form.columns, delimiter=form.delimiter, quoting_style="none"
            )
            writer = writer or pacsv.CSVWriter(path, rows.schema, write_options=options)
        writer.write_table(rows)
    assert writer is not None
    writer.close()


def stars(form: Form, start: int, n_rows: int) -> pa.Table:
    """Return stars all over the sky in the columns of a form."""
    random = np.random.default_rng(start)
    scale = {"1e-8 deg": 1e8, "rad": np.radians(1.0)}.get(form.position_unit, 1.0)
    place = np.int64 if scale > 1 else np.float64
    dec = np.degrees(np.arcsin(random.uniform(-1, 1, n_rows)))
    values = {
        first(form.ra): (random.uniform(0, 360, n_rows) * scale).astype(place),
        first(form.dec): (dec * scale).astype(place),
    }
    if form.id:
        ids = np.arange(start, start + n_rows) + 10**9
        values[first(form.id)] = ids if form.name != "psc files" else np.char.add("J", ids.astype(str))
    for part in form.id_parts:
        values[part] = np.arange(start, start + n_rows)
    for name in form.pm:
        values[first(name)] = np.round(random.normal(0, 10, n_rows), 3)
    factor, places = (1000, 0) if form.magnitude_unit else (1, 4)
    for band in form.bands.values():
        if band.sum:
            continue
        values[first(band.magnitude)] = np.round(random.uniform(8, 20, n_rows) * factor, places)
        for name in (band.error, band.signal_to_noise):
            if not isinstance(name, float) and name:
                values[first(name)] = np.round(random.uniform(0.01, 0.1, n_rows) * factor, places)
    cuts = [
        *form.keep_rows,
        *form.keep_magnitudes,
        *(cut for band in form.bands.values() for cut in band.keep),
    ]
    for cut in [*cuts, *([form.variable] if form.variable else [])]:
        values[first(cut.column)] = np.full(n_rows, passing(cut))
    for name in form.columns:
        values.setdefault(name, np.zeros(n_rows, np.int64))
    if form.row_epoch:
        values[first(form.row_epoch)] = np.full(n_rows, 2016.0)
    return pa.table({name: values[name] for name in form.columns or values})


def first(names: Names) -> str:
    """Return the first of the names of a column."""
    return names if isinstance(names, str) else names[0]


def passing(cut: CutColumns) -> object:
    """Return a value that meets a condition."""
    if cut.one_of:
        value = cut.one_of[0]
        return value * 3 if cut.character and isinstance(value, str) else value
    return cut.at_least or 0


def measured(program: str, survey: str, form: str, path: Path, n_rows: int) -> Cost:
    """Import a file in processes of its own."""
    started, before = time.monotonic(), cpu_of_children()
    command = [sys.executable, "-W", "ignore", __file__, program, survey, form, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        peaks: list[int] = []
        watch = threading.Thread(target=sample, args=(run.pid, peaks))
        watch.start()
        out, err = run.communicate()
        watch.join()
    if run.returncode:
        raise SystemExit(f"{program}: {err[-2000:]}")
    # What the program says it took, without the start of Python and its imports.
    seconds = float(out.splitlines()[-1]) if out.strip() else time.monotonic() - started
    per_million = 1e6 / n_rows
    cpu = cpu_of_children() - before
    return Cost(seconds * per_million, cpu * per_million, max(peaks, default=0))


def cpu_of_children() -> float:
    """Return the processor time of processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sample(pid: int, peaks: list[int]) -> None:
    """Add the memory of a process and its children, until it ends."""
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            peaks.append(sum(memory_of(one) for one in [process, *process.children(recursive=True)]))
            time.sleep(0.1)
    except psutil.NoSuchProcess:
        return


def memory_of(process: psutil.Process) -> int:
    """Return the resident memory of a process, 0 if it has ended; pages of files that it maps do not count."""
    try:
        memory = process.memory_info()
        return memory.rss - memory.shared
    except psutil.NoSuchProcess:
        return 0


def child(program: str, survey: str, form: str, path: str) -> None:
    """Import a file with one program, and print the seconds that it took."""
    seconds = (with_skylake if program == "skylake" else with_hats_import)(survey, form, Path(path))
    print(seconds)


def with_skylake(survey: str, form: str, path: Path) -> float:
    """Import a file into a new lake, without the index for plate solving."""
    from skylake.flow.catalogs.import_catalogs import import_catalog
    from skylake.lake import Lake

    lake = Lake.create(path.parent / "lake")
    started = time.perf_counter()
    import_catalog(lake, "stars", survey, [path], None, MARGIN_ARCSEC)
    return time.perf_counter() - started


def with_hats_import(survey: str, form: str, path: Path) -> float:
    """Import a file and make a margin, with two workers."""
    from dask.distributed import Client, LocalCluster
    from hats_import.catalog.arguments import ImportArguments
    from hats_import.catalog.file_readers import CsvPyarrowReader, ParquetPyarrowReader
    from hats_import.margin_cache.margin_cache_arguments import MarginCacheArguments
    from hats_import.pipeline import pipeline_with_client

    class InDegrees(CsvPyarrowReader):  # type: ignore[misc]
        """Reads positions in scaled integers."""

        def read(self, input_file: object, read_columns: list[str] | None = None) -> Iterator[pa.Table]:
            for rows in super().read(input_file, read_columns):
                for name in (first(stated.ra), first(stated.dec)):
                    degrees = pc.multiply(rows[name].cast(pa.float64()), 1e-8)
                    rows = rows.set_column(rows.column_names.index(name), name, degrees)
                yield rows

    stated = form_of(survey, form)
    reader = ParquetPyarrowReader()
    if path.suffix != ".parquet":
        reader = (InDegrees if stated.position_unit == "1e-8 deg" else CsvPyarrowReader)(
            compression=None,
            read_options=pacsv.ReadOptions(column_names=list(stated.columns) or None, block_size=64 << 20),
            parse_options=pacsv.ParseOptions(delimiter=stated.delimiter),
        )
    common = {"output_path": path.parent / "hats", "progress_bar": False, "tmp_dir": path.parent}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=None) as cluster,
        Client(cluster) as client,
    ):
        started = time.perf_counter()
        stars = ImportArguments(
            input_file_list=[path],
            file_reader=reader,
            ra_column=first(stated.ra),
            dec_column=first(stated.dec),
            output_artifact_name="stars",
            pixel_threshold=1_000_000,
            **common,
        )
        pipeline_with_client(stars, client)
        margin = MarginCacheArguments(
            input_catalog_path=path.parent / "hats" / "stars",
            margin_threshold=MARGIN_ARCSEC,
            output_artifact_name="stars_margin",
            **common,
        )
        pipeline_with_client(margin, client)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()

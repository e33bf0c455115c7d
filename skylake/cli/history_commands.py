"""``skylake history``, ``rollback``, ``compact`` and ``vacuum``: the snapshots of a lake and their files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    cluster_options,
    lake_argument,
    open_lake,
    readable_lake_argument,
    require_table,
    start_workers,
)
from skylake.cli.progress_bar import progress
from skylake.places import is_url


@click.command()
@readable_lake_argument
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the last N runs.")
@click.option("--batch", metavar="CAMERA-NIGHT", help="Only runs that wrote or removed rows of a night.")
@click.option(
    "--table",
    metavar="TABLE",
    help="Only runs that wrote or removed rows of a table.",
    shell_complete=completion.tables,
)
@show.as_json
def history(lake: Path, last: int | None, batch: str | None, table: str | None, as_json: bool) -> None:
    """List the runs on LAKE, the newest last: what ran, and which rows it wrote.

    A command is one run, however many commits it makes; the table `ledger` of `skylake sql` lists each of those.
    The number in the first column is the state after the run, which --as-of and rollback take. A snapshot that was
    vacuumed stays in the list and cannot be read any more. Of a published lake only some can be read.
    """
    opened = open_lake(lake)
    if table is not None:
        require_table(opened.snapshot(), table)
    entries = opened.runs(last, batch, table)
    gone = "not published" if is_url(lake) else "vacuumed"

    def text() -> None:
        rows = [
            (
                entry.snapshot,
                f"{entry.time_utc:%Y-%m-%d %H:%M:%S}",
                entry.stage,
                entry.batch,
                ", ".join(f"{table} {count}" for table, count in entry.rows.items()),
                "" if entry.kept else gone,
            )
            for entry in entries
        ]
        show.table(rows, ["snapshot", "time (UTC)", "stage", "batch", "rows written", "state"])

    value = [dataclasses.asdict(entry) | {"time_utc": entry.time_utc.isoformat()} for entry in entries]
    show.result(value, as_json, text)


@click.command()
@lake_argument
@click.argument("as_of", required=False, metavar="[SNAPSHOT|TIME]")
def rollback(lake: Path, as_of: str | None) -> None:
    """Make LAKE as it was at a snapshot or time, or before the last run.

    That is a new snapshot too, so a rollback can be rolled back. The next run of a pipeline ingests
    the frames that are then missing again. A lake whose newest state cannot be read can be rolled back too.
    """
    opened = open_lake(lake)
    wanted = opened.before_last_run() if as_of is None else opened.snapshot(as_of)
    made = opened.rollback(wanted.number)
    click.echo(f"{opened.root}: snapshot {made.number} is as snapshot {wanted.number} was")


@click.command()
@lake_argument
@click.argument("tables", nargs=-1, metavar="[TABLE]...", shell_complete=completion.tables_of_batches)
@click.option("--all", "everything", is_flag=True, help="Merge all files of each pixel into one.")
@cluster_options
@show.as_json
def compact(
    lake: Path,
    tables: tuple[str, ...],
    everything: bool,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Merge the files of many nights in the tables of LAKE, or in those named.

    Every night leaves a file in every pixel that it saw. Compaction merges them as their number grows, sorts the
    rows by position and time, and divides pixels with more rows than the setting pixel_rows. The content of the
    tables stays the same. A compaction that was interrupted goes on where it stopped.
    """
    from skylake.core.counted import counted
    from skylake.flow.compaction.compact_tables import compact as run_compact

    opened = open_lake(lake)
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = run_compact(opened, pool, tables, everything, shown)

    def text() -> None:
        for name, done in report.tables.items():
            divided = (
                f", {counted(done['pixels_divided'], 'pixel')} divided" if done["pixels_divided"] else ""
            )
            before = counted(done["files_before"], "file")
            click.echo(f"compact {name}: {before} became {done['files_after']}{divided}")
        if not report.tables:
            click.echo("compact: nothing to gain")

    show.result(dataclasses.asdict(report), as_json, text)


@click.command()
@lake_argument
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep only the newest N runs; 1 is the current state.",
)
@show.as_json
def vacuum(lake: Path, keep: int | None, as_json: bool) -> None:
    """Remove old snapshots of LAKE, and the files that only they need.

    At most one snapshot of each run stays, that of its end.
    The settings keep_newest, keep_days and keep_months of skylake.toml say which snapshots stay. Those that
    a reader of skylake holds stay in any case.
    """
    from skylake.core.counted import counted
    from skylake.lake import Retention

    opened = open_lake(lake)
    report = opened.vacuum(None if keep is None else Retention(keep, 0, 0))
    text = (
        f"{opened.root}: {counted(len(report.snapshots), 'snapshot')} and "
        f"{counted(report.n_versions, 'version')} of tables removed, {counted(report.n_masters, 'file')} of masters, "
        f"{report.n_bytes / 1e6:.1f} MB freed"
    )
    if report.n_in_use:
        text += f"; {counted(report.n_in_use, 'snapshot')} kept for those who read now"
    show.result(dataclasses.asdict(report), as_json, lambda: click.echo(text))

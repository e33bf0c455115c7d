"""``skylake forget``: take frames, nights and tables of users out of a lake."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skylake.cli import completion, show
from skylake.cli.arguments import cluster_options, lake_argument, open_lake, start_workers
from skylake.cli.progress_bar import progress

if TYPE_CHECKING:
    from skylake.flow.maintenance.forget_frames import ForgetReport


@click.command(short_help="Take frames, whole nights or tables of your own out of a lake.")
@lake_argument
@click.option("--frame", "frames", type=int, multiple=True, metavar="ID", help="A frame by its frame_id.")
@click.option(
    "--batch", "batches", multiple=True, metavar="CAMERA-NIGHT", help="A night of a camera, as sim-20241001."
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.tables,
    help="A table of `skylake crossmatch` or of an aggregate of your own.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_options
@show.as_json
def forget(
    lake: Path,
    frames: tuple[int, ...],
    batches: tuple[str, ...],
    tables: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Take frames and nights out of LAKE, with their sources, matches and zeropoints, or tables of your own.

    It is one commit.
    Light curves and other aggregates are out of date then; `skylake calibrate` and `skylake aggregate` refresh
    them. Older snapshots still have what was forgotten, and `skylake rollback` brings it back, until they are
    vacuumed. A later ingest of the same files takes them up again, and `skylake aggregate` a table whose file is
    still in your folder of aggregates. The options can be given several times.
    """
    from skylake.errors import UsageError
    from skylake.flow.maintenance.forget_frames import find, parse_batch, preview
    from skylake.flow.maintenance.forget_frames import forget as run_forget

    if not frames and not batches and not tables:
        raise UsageError("nothing is named that is to be forgotten; use --frame, --batch or --table")
    opened = open_lake(lake)
    snapshot = opened.snapshot()
    wanted = find(snapshot, frames, map(parse_batch, batches), tables)
    report = preview(snapshot, wanted)
    if not dry_run:
        _ask(report, yes)
        with start_workers(opened, cluster, workers) as pool, progress() as shown:
            report = run_forget(opened, wanted, pool, shown)
    show.result(dataclasses.asdict(report), as_json, lambda: click.echo(_text(report)))


def _ask(report: ForgetReport, yes: bool) -> None:
    """Let the user confirm.

    Raises
    ------
    UsageError
        If there is nobody to ask.
    click.exceptions.Exit
        If the user does not agree.
    """
    from skylake.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "there is nobody to ask whether that is meant; say --yes, or --dry-run to see what goes"
        )
    click.echo(_text(report), err=True)
    if not click.confirm("forget them?", err=True):
        click.echo("nothing was forgotten", err=True)
        raise click.exceptions.Exit(0)


def _text(report: ForgetReport) -> str:
    """Return what was removed, or would be, as a sentence."""
    rows = ", ".join(f"{count} of {table}" for table, count in report.rows.items()) or "none"
    nights = f"; whole nights: {', '.join(report.nights)}" if report.nights else ""
    nights += f"; whole tables: {', '.join(report.tables)}" if report.tables else ""
    if report.snapshot is None:
        return f"forget: these rows would go: {rows}{nights}"
    return f"forget: rows removed: {rows}{nights}; snapshot {report.snapshot} is without them"

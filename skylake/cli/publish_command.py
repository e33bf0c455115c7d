"""``skylake publish``: copy a lake to an object store, from which everybody reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skylake.cli import show
from skylake.cli.arguments import lake_argument, open_lake
from skylake.cli.progress_bar import progress

if TYPE_CHECKING:
    from skylake.lake import PublishReport


@click.command(short_help="Copy the current snapshot to an object store.")
@lake_argument
@click.argument("url")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=7,
    show_default=True,
    metavar="N",
    help="Published snapshots that stay, this one among them.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be sent and removed.")
@show.as_json
def publish(lake: Path, url: str, keep: int, dry_run: bool, as_json: bool) -> None:
    """Copy the current snapshot of LAKE to URL, such as s3://bucket/lake.

    Reading commands take the URL in place of a lake, and lsdb opens the tables there as they are. What is there
    already is not sent again. Readers see the snapshot when all of it is there; a publish that was interrupted is
    finished by the next one.
    """
    from skylake.lake import PublishOptions, publish_snapshot

    snapshot = open_lake(lake).snapshot()
    with progress() as shown:
        options = PublishOptions(keep, dry_run, lambda total: shown.begin("publish", total), shown.advance)
        report = publish_snapshot(snapshot, url, options)
        shown.end()
    show.result(dataclasses.asdict(report), as_json, lambda: _print_report(report))


def _print_report(report: PublishReport) -> None:
    from skylake.core.counted import counted

    be = "would be " if report.dry_run else ""
    if report.tables:
        rows = [(name, *counts.values()) for name, counts in report.tables.items()]
        show.table(rows, ["table", "files sent", "copied there", "there already"])
        click.echo()
    sent, copied = report.bytes_sent / 1e6, report.bytes_copied / 1e6
    click.echo(
        f"publish: snapshot {report.snapshot} in {report.url}; "
        f"{counted(report.n_sent, 'file')} with {sent:.1f} MB {be}sent, "
        f"{report.n_copied} with {copied:.1f} MB {be}copied within the store, "
        f"{counted(len(report.removed), 'old snapshot')} {be}removed"
    )

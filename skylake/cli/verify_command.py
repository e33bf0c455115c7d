"""``skylake verify``: check a lake, and show the command that repairs what is broken."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skylake.cli import show
from skylake.cli.arguments import as_of_option, cluster_options, lake_argument, workers_of
from skylake.cli.progress_bar import progress

if TYPE_CHECKING:
    from skylake.flow.maintenance.verify_lake import VerifyReport


@click.command(short_help="Check that a lake is whole; name damage and its repair.")
@lake_argument
@as_of_option
@click.option("--deep", is_flag=True, help="Read every row of every file too, and ask the hats package.")
@click.option("--hats", is_flag=True, help="Ask the hats package whether it finds tables and catalogs valid.")
@click.option(
    "--only", multiple=True, metavar="CHECK", help="Run this check of sql/checks alone; may be repeated."
)
@click.option(
    "--show",
    "show_n",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Offending rows to show of each check.",
)
@click.option(
    "--recover",
    nargs=2,
    metavar="TABLE PART",
    help="First make the lost description of what a night has in a table again, from its rows and the history.",
)
@cluster_options
@show.as_json
@click.pass_context
def verify(
    ctx: click.Context,
    lake: Path,
    as_of: str | None,
    deep: bool,
    hats: bool,
    only: tuple[str, ...],
    show_n: int,
    recover: tuple[str, str] | None,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Check that LAKE is whole: its links, descriptions, files, counts and rows.

    Without --deep it reads descriptions, footers and small tables, which takes seconds. With --deep it also reads
    every file: checksums of tables, catalogs, indexes and masters, digests of the rows of every part, statistics,
    order, positions, identifiers.
    Nothing in the lake is changed, unless --recover is given. The exit status is 1 if something is broken, and 3 if
    there is no lake.
    """
    from skylake.flow.execution.cluster import Inline
    from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts
    from skylake.flow.maintenance.verify_lake import verify as run_verify
    from skylake.lake import Lake
    from skylake.lake.integrity.recover_part import recover as recover_part

    if recover is not None:
        recover_part(Lake(lake), *recover)
    options = VerifyOptions(as_of, deep, hats, only, show_n)
    facts = open_facts(lake, options)
    with progress() as shown:
        if deep:
            with workers_of(facts.layout.root, facts.settings, cluster, workers) as pool:
                report = run_verify(facts, pool, options, shown)
        else:
            report = run_verify(facts, Inline(), options, shown)
    show.result(dataclasses.asdict(report) | {"all_well": report.all_well}, as_json, lambda: _show(report))
    ctx.exit(0 if report.all_well else 1)


def _show(report: VerifyReport) -> None:
    rows = [
        (
            check["name"],
            "pass" if check["passed"] else f"FAIL ({check['n_found'] or 'error'})",
            check["sentence"],
        )
        for check in report.checks
    ]
    show.table(rows, ["check", "result", "what must hold"])
    for check in report.checks:
        if check["passed"]:
            continue
        click.echo(f"\n{check['name']}: {check['sentence']}")
        for finding in check["findings"]:
            click.echo(f"  {finding['says']}\n    repair: {finding['repair']}")
        more = check["n_found"] - len(check["findings"])
        if more > 0:
            click.echo(f"  … and {more} more")
    broken = len(report.failed)
    depth = "every row was read" if report.deep else "--deep reads every row too"
    verdict = f"{broken} of {len(report.checks)} checks found something" if broken else "all well"
    click.echo(f"\n{report.lake}, snapshot {report.snapshot}: {verdict}; {depth}")

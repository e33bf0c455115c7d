"""``skylake crossmatch``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    Number,
    as_of_option,
    cluster_options,
    lake_argument,
    open_lake,
    start_workers,
)
from skylake.cli.progress_bar import progress
from skylake.core.counted import counted

if TYPE_CHECKING:
    from skylake.sky.crossmatch import How

_EXAMPLE = """\b
skylake crossmatch LAKE lightcurves gaia -o bright_gaia --radius 5 --right-columns G,BP_RP
skylake crossmatch LAKE sources own.csv -o mine --radius 10
skylake crossmatch LAKE stars https://example.org/hats/two_mass -o stars_2mass --how left
"""


@click.command(epilog=_EXAMPLE)
@lake_argument
@click.argument("left", shell_complete=completion.tables_with_positions)
@click.argument("right", shell_complete=completion.catalogs)
@click.option("-o", "name", required=True, metavar="NAME", help="Name of the table that is made.")
@click.option(
    "--radius",
    type=Number(min=0, max=3600, min_open=True),
    default=1.0,
    show_default=True,
    metavar="ARCSEC",
    help="Largest separation of a pair.",
)
@click.option(
    "--n-nearest",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Rows of RIGHT for each row of LEFT, at most.",
)
@click.option(
    "--how",
    type=click.Choice(["inner", "left"]),
    default="inner",
    show_default=True,
    help="Whether rows of LEFT without a match are left out (inner) or kept, with nulls (left).",
)
@click.option(
    "--mutual", is_flag=True, help="Match only pairs of which each is the nearest to the other: one to one."
)
@click.option("--left-columns", metavar="COL,…", help="Columns of LEFT to keep; its positions always are.")
@click.option("--right-columns", metavar="COL,…", help="Columns of RIGHT to keep.")
@click.option(
    "--suffixes",
    nargs=2,
    default=("", "_right"),
    metavar="LEFT RIGHT",
    help="For names of columns that both have; by default those of RIGHT get _right.",
)
@as_of_option
@click.option("--replace", is_flag=True, help="Replace a table of another match.")
@cluster_options
@show.as_json
def crossmatch(
    lake: Path,
    left: str,
    right: str,
    name: str,
    radius: float,
    n_nearest: int,
    how: How,
    mutual: bool,
    left_columns: str | None,
    right_columns: str | None,
    suffixes: tuple[str, str],
    as_of: str | None,
    replace: bool,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Match the positions of LEFT and RIGHT into a new table of LAKE.

    Each is a table of the lake, one of its catalogs (catalogs.NAME if a table has that name too), a file of your own
    with positions (CSV, ECSV, FITS, VOTable or Parquet), or the path or URL of any HATS catalog. Neither needs a
    margin. Positions are compared as they are, without proper motion. The table has the default columns of both sides,
    or those that you name, match_arcsec, and match_no, which counts the neighbours of a row from 1. It is read like
    any other table; the same command again makes it anew if its inputs have changed.
    """
    from skylake.errors import UsageError
    from skylake.flow.catalogs.crossmatch_tables import MatchRequest
    from skylake.flow.catalogs.crossmatch_tables import crossmatch as run_crossmatch
    from skylake.sky.crossmatch import Neighbours

    if mutual and n_nearest > 1:
        raise UsageError("--mutual gives one match for each row; leave out --n-nearest")
    request = MatchRequest(
        left,
        right,
        Neighbours(radius, n_nearest, how, mutual),
        _columns(left_columns),
        _columns(right_columns),
        suffixes,
    )
    opened = open_lake(lake)
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = run_crossmatch(opened, name, request, pool, as_of, replace, shown)
    text = f"{name}: {counted(report.n_rows, 'row')}" + ("" if report.made else ", up to date")
    show.result(dataclasses.asdict(report), as_json, lambda: click.echo(text))


def _columns(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())

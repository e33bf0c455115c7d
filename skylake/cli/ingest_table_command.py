"""``skylake ingest-table``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.arguments import (
    camera_option,
    cluster_options,
    lake_argument,
    moment,
    open_lake,
    start_workers,
)
from skylake.cli.progress_bar import progress
from skylake.cli.run_commands import repeated

if TYPE_CHECKING:
    from skylake.flow.ingest.ingest_tables import TableReport

_EXAMPLE = """\b
skylake ingest-table LAKE photometry.csv --camera C --ra RA --dec DEC --time JD \\
    --mag m --mag-err e --filter band
skylake ingest-table LAKE *.ldac --camera C --x X_IMAGE --y Y_IMAGE \\
    --flux FLUX_APER --flux-err FLUXERR_APER --per-exposure
"""


@click.command("ingest-table", epilog=_EXAMPLE)
@lake_argument
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE…",
)
@camera_option
@click.option(
    "--ra",
    metavar="COL",
    help="Column of right ascension, degrees unless the file or its text say otherwise.",
)
@click.option("--dec", metavar="COL", help="Column of declination, degrees.")
@click.option("--ra-unit", type=click.Choice(["degrees", "hours"]), help="Unit of right ascension.")
@click.option(
    "--x", metavar="COL", help="Column of x, pixels; without --ra the stars show where a frame points."
)
@click.option("--y", metavar="COL", help="Column of y, pixels.")
@click.option(
    "--first-pixel",
    type=click.IntRange(0, 1),
    default=1,
    show_default=True,
    help="Number of the first pixel: 1 in FITS and SExtractor, 0 in Python.",
)
@click.option("--flux", metavar="COL", help="Column of instrumental fluxes, per second.")
@click.option("--flux-err", metavar="COL", help="Column of their errors.")
@click.option("--per-exposure", is_flag=True, help="Fluxes are those of the whole exposure.")
@click.option(
    "--mag", "magnitude", metavar="COL", help="Column of instrumental magnitudes, in place of --flux."
)
@click.option("--mag-err", metavar="COL|NUMBER", help="Their errors: a column, or one number for all.")
@click.option(
    "--time",
    metavar="COL|TIME",
    help="Column of MJD, JD or ISO 8601 (UTC), or one time for all. Otherwise that of the header or name of the file.",
)
@click.option(
    "--time-of",
    type=click.Choice(["start", "mid", "end"]),
    default="mid",
    show_default=True,
    help="What of the exposure the time is.",
)
@click.option("--exposure", metavar="COL|SECONDS", help="Column of exposures, or one for all.")
@click.option("--filter", metavar="COL", help="Column of filters.")
@click.option("--filter-name", metavar="NAME", help="One filter for all; the default is that of the profile.")
@click.option(
    "--frame",
    metavar="COL",
    help="Column that names frames; by default rows of one time and filter are a frame.",
)
@click.option("--redo", is_flag=True, help="Ingest frames again that the lake holds already.")
@cluster_options
@show.as_json
@click.pass_context
def ingest_table(
    ctx: click.Context,
    /,
    lake: Path,
    files: tuple[Path, ...],
    camera_name: str,
    flux_err: str | None,
    mag_err: str | None,
    redo: bool,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
    **columns: Any,
) -> None:
    """Ingest tables of detections: CSV, ECSV, FITS, VOTable or Parquet, and what SExtractor writes.

    Each frame becomes a row of `frames` and its detections rows of `sources`, without pixels; `calibrate` and all
    that follows treats them as any other. The profile of the camera says where it stands, what its filters are, and
    its pixel scale. Frames that the lake holds already are left alone.
    """
    from skylake import cameras
    from skylake.errors import UsageError
    from skylake.flow.ingest.ingest_tables import ingest_tables
    from skylake.flow.ingest.table_rows import TableColumns

    by_flux = columns["flux"] is not None
    error = flux_err if by_flux else mag_err
    if by_flux == (columns["magnitude"] is not None) or error is None or None not in (flux_err, mag_err):
        raise UsageError("give --flux and --flux-err, or --mag and --mag-err")
    if None not in (columns["filter"], columns["filter_name"]):
        raise UsageError("give --filter with a column, or --filter-name, not both")
    columns["error"] = error if by_flux else _number_or_name("--mag-err", error)
    columns["time"] = _time_or_name(columns["time"])
    if columns["exposure"] is not None:
        columns["exposure"] = _number_or_name("--exposure", columns["exposure"])
    wanted = TableColumns(**columns)
    chips = cameras.load_chips(camera_name)
    if len(chips) > 1:
        raise UsageError(f"{camera_name} has several chips; give tables of detections a camera of their own")
    opened = open_lake(lake)
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = ingest_tables(opened, chips[0], files, wanted, pool, redo, shown)
    show.result(dataclasses.asdict(report), as_json, lambda: _show(report))
    ctx.exit(0 if report.ingest.all_well else 1)


def _show(report: TableReport) -> None:
    for file, count in report.left_out.items():
        show.complain(f"{file}: {count} rows were left out, which lack a position, a flux or an error")
    for problem in report.ingest.problems:
        show.complain(f"{problem['file']}: {problem['status']}/{problem['reason']}: {problem['message']}")
    if report.ingest.repeated:
        show.complain(repeated(report.ingest.repeated, "detections as those of another frame"))
    counts = ", ".join(f"{number} {status}" for status, number in sorted(report.ingest.counts.items()))
    known = f", {report.ingest.n_known} known before" if report.ingest.n_known else ""
    click.echo(f"ingest-table: {counts or 'nothing new'}{known}")


def _number_or_name(option: str, text: str) -> float | str:
    """Return a positive number, or the name of a column."""
    from skylake.errors import UsageError

    try:
        number = float(text)
    except ValueError:
        return text
    if not 0.0 < number < float("inf"):
        raise UsageError(f"{option} {text}: give a positive number, or the name of a column")
    return number


def _time_or_name(text: str | None) -> float | str | None:
    """Return a Modified Julian Date, or the name of a column."""
    from skylake.flow.ingest.table_rows import modified_julian_date

    if text is None:
        return None
    try:
        return modified_julian_date(float(text))
    except ValueError:
        try:
            return moment(text)
        except click.BadParameter:
            return text

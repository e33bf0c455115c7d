"""``skylake catalog cone``, ``box`` and ``coverage``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    Command,
    declination,
    open_catalog,
    out_option,
    output_file,
    plot_option,
    radius_arcsec,
    readable_lake_argument,
    right_ascension,
)
from skylake.core.counted import counted

if TYPE_CHECKING:
    from skylake.sky.catalog_search import Limits, Range


def _limits_options(command: Command) -> Command:
    """Add --mag and --colour."""
    for option in (
        click.option(
            "--colour",
            "colours",
            multiple=True,
            metavar="NAME=FROM:TO",
            help="Colours to print, as in B-V=0.2:0.8; may be repeated.",
        ),
        click.option(
            "--mag",
            "magnitudes",
            multiple=True,
            metavar="BAND=FROM:TO",
            help="Magnitudes to print, as in V=8:12, or V=:12 down to 12; may be repeated.",
        ),
    ):
        command = option(command)
    return command


def _limits(magnitudes: tuple[str, ...], colours: tuple[str, ...]) -> Limits:
    from skylake.sky.catalog_search import Limits

    return Limits(*(_ranges(*one) for one in (("--mag", magnitudes), ("--colour", colours))))


def _ranges(option: str, values: tuple[str, ...]) -> dict[str, Range]:
    from skylake.errors import UsageError

    ranges: dict[str, Range] = {}
    for value in values:
        name, _, limits = value.partition("=")
        low, colon, high = limits.partition(":")
        try:
            ends = tuple(float(end) if end else None for end in (low, high))
        except ValueError:
            ends = ()
        known = [end for end in ends if end is not None]
        if not (name and colon and known) or sorted(known) != known or not all(map(math.isfinite, known)):
            example = "V=8:12 or V=:12" if option == "--mag" else "B-V=0.2:0.8"
            raise UsageError(f"{option} {value}: write NAME=FROM:TO, as in {option} {example}")
        if name in ranges:
            raise UsageError(f"{option} {value}: {name} is given twice")
        ranges[name] = ends[0], ends[1]
    return ranges


@click.command(
    context_settings={"ignore_unknown_options": True},  # so that -5.4 is a declination
)
@readable_lake_argument
@click.argument("name", shell_complete=completion.catalogs)
@click.argument("ra", type=right_ascension)
@click.argument("dec", type=declination)
@click.argument("radius_arcsec", type=radius_arcsec)
@_limits_options
@out_option
def cone(
    lake: Path,
    name: str,
    ra: float,
    dec: float,
    radius_arcsec: float,
    magnitudes: tuple[str, ...],
    colours: tuple[str, ...],
    out: Path | None,
) -> None:
    """Print the stars of the catalog NAME within RADIUS_ARCSEC of RA DEC (degrees), as CSV, the nearest first."""
    from skylake.cli.output import write_table
    from skylake.sky.catalog_search import nearest_first

    limits = _limits(magnitudes, colours)
    reference = open_catalog(lake, name)
    write_table(nearest_first(reference, ra, dec, radius_arcsec / 3600.0, limits), out)


@click.command(
    context_settings={"ignore_unknown_options": True},
)
@readable_lake_argument
@click.argument("name", shell_complete=completion.catalogs)
@click.argument("west", metavar="RA_FROM", type=right_ascension)
@click.argument("east", metavar="RA_TO", type=right_ascension)
@click.argument("south", metavar="DEC_FROM", type=declination)
@click.argument("north", metavar="DEC_TO", type=declination)
@_limits_options
@out_option
def box(
    lake: Path,
    name: str,
    west: float,
    east: float,
    south: float,
    north: float,
    magnitudes: tuple[str, ...],
    colours: tuple[str, ...],
    out: Path | None,
) -> None:
    """Print the stars of the catalog NAME in a box (degrees), as CSV.

    Right ascension grows from RA_FROM to RA_TO, through 0 if RA_TO is the smaller number: 350 10 is 20 degrees wide.
    """
    from skylake.cli.output import write_table
    from skylake.errors import UsageError
    from skylake.sky.catalog_search import in_box
    from skylake.sky.cone import Box

    if south > north:
        raise UsageError(f"DEC_FROM {south:g} is north of DEC_TO {north:g}; exchange them")
    limits = _limits(magnitudes, colours)
    reference = open_catalog(lake, name)
    write_table(in_box(reference, Box((west, east), (south, north)), limits), out)


@click.command()
@readable_lake_argument
@click.argument("name", shell_complete=completion.catalogs)
@click.option(
    "--order",
    type=click.IntRange(0, 9),
    metavar="ORDER",
    help="HEALPix order; by default the finest in which pixels with stars have 16 on average.",
)
@click.option(
    "-o",
    "out",
    type=output_file,
    metavar="FILE",
    help="Multi-order coverage map (MOC) to write: .fits, .json, or .txt for ASCII.",
    shell_complete=completion.files,
)
@plot_option
@show.as_json
def coverage(
    lake: Path, name: str, order: int | None, out: Path | None, plot: Path | None, as_json: bool
) -> None:
    """Show how much of the sky the catalog NAME covers: the HEALPix pixels that have stars."""
    from skylake.cli.output import writing
    from skylake.sky.catalog_search import coverage as find_coverage

    found = find_coverage(open_catalog(lake, name), order)
    if out is not None:
        with writing(out):
            found.write_moc(out)
    if plot is not None:
        from skylake.report.plots import sky_map
        from skylake.report.style import save

        label = "stars per square degree"
        with writing(plot):
            save(sky_map(found.pixels, found.stars_per_square_deg, found.order, label, name), plot)
    row = {
        "name": name,
        "stars": int(found.counts.sum()),
        "order": found.order,
        "pixels": len(found.pixels),
        "area_square_deg": found.area_square_deg,
        "sky_fraction": found.sky_fraction,
    }
    text = (
        f"{name}: {counted(int(found.counts.sum()), 'star')} on {found.area_square_deg:.4g} square degrees, "
        f"{100 * found.sky_fraction:.3g} % of the sky ({counted(len(found.pixels), 'pixel')} of order {found.order})"
    )
    show.result(row, as_json, lambda: click.echo(text))

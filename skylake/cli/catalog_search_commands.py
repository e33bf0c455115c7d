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
    import pyarrow as pa

    from skylake.sky.catalog_search import Limits, Range
    from skylake.sky.cone import Box
    from skylake.sky.sky_polygon import Polygon


def _limits_options(command: Command) -> Command:
    """Add --polygon, --mag, --colour and --limit."""
    for option in (
        click.option(
            "--limit",
            type=click.IntRange(min=1),
            metavar="N",
            help="Print at most N stars; those of a cone that are nearest.",
        ),
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
        click.option(
            "--polygon",
            metavar="RA,DEC,RA,DEC,…",
            help="Print stars within these vertices (degrees), joined by great circles.",
        ),
    ):
        command = option(command)
    return command


def _limits(magnitudes: tuple[str, ...], colours: tuple[str, ...]) -> Limits:
    from skylake.sky.catalog_search import Limits

    return Limits(*(_ranges(*one) for one in (("--mag", magnitudes), ("--colour", colours))))


def _polygon(text: str | None) -> Polygon | None:
    from skylake.errors import UsageError
    from skylake.sky.sky_polygon import Polygon

    if text is None:
        return None
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    places = list(zip(numbers[::2], numbers[1::2], strict=False))
    if (
        len(numbers) % 2
        or not places
        or not all(-180 <= ra <= 360 and -90 <= dec <= 90 for ra, dec in places)
    ):
        raise UsageError(
            f"--polygon {text}: write right ascension and declination of each vertex, as in --polygon "
            "196,-21,199,-21,198,-19"
        )
    return Polygon(tuple(places))


def _write(stars: pa.Table, limit: int | None, out: Path | None) -> None:
    """Write the first stars, and say how many there are besides."""
    from skylake.cli.output import write_table

    if limit is not None and stars.num_rows > limit:
        show.complain(f"left out: {counted(stars.num_rows - limit, 'star')} beyond --limit {limit}")
    write_table(stars if limit is None else stars.slice(0, limit), out)


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
    polygon: str | None,
    magnitudes: tuple[str, ...],
    colours: tuple[str, ...],
    limit: int | None,
    out: Path | None,
) -> None:
    """Print the stars of the catalog NAME within RADIUS_ARCSEC of RA DEC (degrees), as CSV, the nearest first."""
    from skylake.sky.catalog_search import nearest_first

    limits, area = _limits(magnitudes, colours), _polygon(polygon)
    stars = nearest_first(open_catalog(lake, name), ra, dec, radius_arcsec / 3600.0, limits)
    if area is not None:
        stars = stars.filter(area.holds(stars["ra_deg"].to_numpy(), stars["dec_deg"].to_numpy()))
    _write(stars, limit, out)


@click.command(
    context_settings={"ignore_unknown_options": True},
)
@readable_lake_argument
@click.argument("name", shell_complete=completion.catalogs)
@click.argument("west", metavar="RA_FROM", type=right_ascension, required=False)
@click.argument("east", metavar="RA_TO", type=right_ascension, required=False)
@click.argument("south", metavar="DEC_FROM", type=declination, required=False)
@click.argument("north", metavar="DEC_TO", type=declination, required=False)
@_limits_options
@out_option
def box(
    lake: Path,
    name: str,
    west: float | None,
    east: float | None,
    south: float | None,
    north: float | None,
    polygon: str | None,
    magnitudes: tuple[str, ...],
    colours: tuple[str, ...],
    limit: int | None,
    out: Path | None,
) -> None:
    """Print the stars of the catalog NAME in a box (degrees), in a --polygon, or in both, as CSV.

    Right ascension grows from RA_FROM to RA_TO, through 0 if RA_TO is the smaller number: 350 10 is 20 degrees wide.
    With --polygon the box may be left out.
    """
    from skylake.errors import UsageError
    from skylake.sky.cone import Box

    areas: list[Box | Polygon] = []
    if (area := _polygon(polygon)) is not None:
        areas.append(area)
    if west is not None and east is not None and south is not None and north is not None:
        if south > north:
            raise UsageError(f"DEC_FROM {south:g} is north of DEC_TO {north:g}; exchange them")
        areas.append(Box((west, east), (south, north)))
    elif west is not None or not areas:
        raise click.UsageError("give RA_FROM, RA_TO, DEC_FROM and DEC_TO, or --polygon")
    limits = _limits(magnitudes, colours)
    reference = open_catalog(lake, name)
    stars = reference.area(areas[0], limits.expression(reference))
    for other in areas[1:]:
        stars = stars.filter(other.holds(stars["ra_deg"].to_numpy(), stars["dec_deg"].to_numpy()))
    _write(stars, limit, out)


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

"""``skylake sql``, ``cone``, ``map`` and ``flags``: query a lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    as_of_option,
    bits,
    declination,
    healpix_file,
    night,
    open_snapshot,
    out_option,
    plot_option,
    radius_arcsec,
    readable_lake_argument,
    require_table,
    right_ascension,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from skylake.lake import Snapshot

_FORMATS = ("table", "csv", "json", "parquet", "ecsv", "fits", "votable")
_FLAGS_EXAMPLE = """\b
skylake flags 18 --table sources
skylake flags 0x440e --table frames
"""
_SQL_EXAMPLE = """\b
skylake sql LAKE "SELECT night, status, count(*) FROM frames GROUP BY ALL ORDER BY ALL"
"""


_all_option = click.option(
    "--all", "whole", is_flag=True, help="Print all rows and columns on a terminal, too."
)


@click.command(short_help="Run a query over the tables with DuckDB.", epilog=_SQL_EXAMPLE)
@readable_lake_argument
@click.argument("query")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), help="Format; a table on the screen by default."
)
@out_option
@as_of_option
@_all_option
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File outside of the lake that the query reads, as in FROM 'stars.csv'; may be repeated.",
)
@click.option(
    "--unsafe", is_flag=True, help="Allow everything that DuckDB can do: to write files, to load extensions."
)
def sql(
    lake: Path,
    query: str,
    form: str | None,
    out: Path | None,
    as_of: str | None,
    whole: bool,
    files: tuple[Path, ...],
    unsafe: bool,
) -> None:
    """Run a QUERY over the tables of LAKE with DuckDB, or the query in a file given as @FILE.

    The query reads the tables and the files given by --file, and nothing else; it cannot write. If there are
    several statements, the result of each that has one is printed. A terminal shows the first 50 rows, and the
    columns that fit; --all, --format, -o and a pipe get all.

    Tables have their names (frames, sources, forced_sources, matches, zeropoints, nights, photometric_nights,
    lightcurves, forced_lightcurves, maps, clusters, repeatability, seeing, star_statistics, objects, coverage, alerts,
    targets, masters, star_magnitudes, global_solutions, and those of aggregates of your own), reference catalogs those
    of the schema `catalogs`. Views join them: calibrated_frames, calibrated_sources, calibrated_forced,
    calibrated_matches, lightcurve_points, forced_lightcurve_points, relative_lightcurve_points, zeropoints_in_force,
    transparency, star_variability, variable_stars, objects_in_force, object_bands, object_vetoes, new_objects,
    candidates, targets_in_force. The functions source_flags(flags) and frame_flags(flags) give the names of the bits
    that are set. The views parts, ledger and configurations show where rows come from.
    """
    from skylake.cli.output import print_table, write_table
    from skylake.lake.access.duckdb_tables import restrict
    from skylake.reading.queries import answers

    query, is_shown = _query(query), out is None and form is None
    snapshot = open_snapshot(lake, as_of)
    with snapshot.duckdb() as connection:
        if not unsafe:
            restrict(connection, snapshot, files)
        found = answers(
            connection, snapshot, query, only_reads=not unsafe, only_one=not is_shown and form != "table"
        )
        for number, table in enumerate(found):
            if number:
                click.echo()
            if is_shown:
                print_table(table, whole)
            else:
                write_table(table, out, form)


def _query(text: str) -> str:
    """Return the query, from a file if one is named."""
    from skylake.errors import UsageError

    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise UsageError(f"{text[1:]}: the query cannot be read ({why}); name a file of SQL") from error
    if not text.strip():
        raise UsageError('the query is empty; write one, as in "SELECT count(*) FROM frames"')
    return text


@click.command(
    short_help="Print the rows of a table around a position.",
    context_settings={"ignore_unknown_options": True},  # so that -5.4 is a declination
)
@readable_lake_argument
@click.argument("table", shell_complete=completion.tables_with_positions)
@click.argument("ra", type=right_ascension)
@click.argument("dec", type=declination)
@click.argument("radius_arcsec", type=radius_arcsec)
@out_option
@as_of_option
def cone(
    lake: Path, table: str, ra: float, dec: float, radius_arcsec: float, out: Path | None, as_of: str | None
) -> None:
    """Print the rows of TABLE (sources, matches, lightcurves …) within RADIUS_ARCSEC of RA DEC (degrees), as CSV."""
    from skylake.cli.output import write_table

    snapshot = open_snapshot(lake, as_of)
    require_table(snapshot, table)
    write_table(snapshot.cone(table, ra, dec, radius_arcsec / 3600.0), out)


@click.command("map")
@readable_lake_argument
@click.argument("name", shell_complete=completion.maps)
@click.option(
    "-o",
    "out",
    type=healpix_file,
    metavar="FILE.fits",
    help="HEALPix map to write.",
    shell_complete=completion.files,
)
@plot_option
@click.option("--camera", metavar="C", help="Of one camera.", shell_complete=completion.cameras)
@click.option("--band", metavar="B", help="Of one band.")
@click.option("--night", type=night, metavar="YYYYMMDD", help="Of one night.")
@_all_option
@as_of_option
def map_(
    lake: Path,
    name: str,
    out: Path | None,
    plot: Path | None,
    camera: str | None,
    band: str | None,
    night: int | None,
    whole: bool,
    as_of: str | None,
) -> None:
    """Make the HEALPix map NAME: visits, exposure, matches, residual, residual_err, limit, half_limit or completeness.

    The FITS file is NESTED, in equatorial coordinates, as healpy and others read it. Without a file the pixels are
    printed, on a terminal the first 50.
    """
    import pyarrow as pa

    from skylake.cli.camera_names import name_in_lake
    from skylake.cli.output import print_table, writing
    from skylake.errors import UsageError
    from skylake.report.files import write_healpix_fits
    from skylake.report.plots import sky_map
    from skylake.report.style import save
    from skylake.table.combine_maps import MAPS, combine

    if name not in MAPS:
        raise UsageError(f"there is no map {name!r}; the maps are {', '.join(MAPS)}")
    snapshot = open_snapshot(lake, as_of)
    camera = None if camera is None else name_in_lake(snapshot, camera)
    chosen: dict[str, Any] = {"camera": camera, "band": band, "night": night}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    which = ", ".join(f"{key} {value}" for key, value in chosen.items()) or "all cameras and nights"
    made, kind = combine(_map_rows(snapshot, chosen, which), name), MAPS[name]
    if len(made.pixels) == 0:
        raise UsageError(
            f"the map {name} has no pixel yet; `skylake calibrate` and then `skylake aggregate` fill the maps"
        )
    if out is not None:
        cards = [(key.upper(), value, f"{key} of the map") for key, value in chosen.items()]
        cards.append(("SNAPSHOT", snapshot.number, "snapshot of the lake"))
        with writing(out):
            write_healpix_fits(out, made.full(), made.order, name, kind.unit, cards)
        click.echo(f"wrote {out}", err=True)
    if plot is not None:
        with writing(plot):
            save(sky_map(made.pixels, made.values, made.order, kind.label, f"{kind.label}: {which}"), plot)
        click.echo(f"wrote {plot}", err=True)
    if out is None and plot is None:
        print_table(pa.table({"healpix_pixel": made.pixels, name: made.values}), whole)


def _map_rows(snapshot: Snapshot, chosen: dict[str, Any], which: str) -> pa.Table:
    """Return the rows of ``maps`` whose columns have the chosen values; `which` names these in words."""
    import functools
    import operator

    import pyarrow.compute as pc

    from skylake.errors import UsageError

    filters = [pc.field(key) == value for key, value in chosen.items()]
    rows = snapshot.read("maps", filter=functools.reduce(operator.and_, filters) if filters else None)
    if chosen and rows.num_rows == 0:
        raise UsageError(
            f"the maps hold nothing of {which}; `skylake status` lists cameras, nights and bands"
        )
    return rows


@click.command(epilog=_FLAGS_EXAMPLE)
@click.argument("value", type=bits)
@click.option(
    "--table",
    type=click.Choice(["sources", "frames"]),
    help="Whose flags: of sources, also in matches and light curves, or of frames; both without the option.",
)
@show.as_json
def flags(value: int, table: Literal["sources", "frames"] | None, as_json: bool) -> None:
    """Explain the bits of a flags VALUE, such as 18 or 0x12, of a source or of a frame."""
    from skylake.errors import UsageError
    from skylake.schema import flag_texts

    asked: tuple[Literal["sources", "frames"], ...] = ("sources", "frames") if table is None else (table,)
    bits_of = {name: flag_texts(name) for name in asked}
    largest = {name: sum(bit for bit, _ in texts.values()) for name, texts in bits_of.items()}
    # A value with bits that one of the two does not have belongs to the other.
    known = [name for name in asked if value >= 0 and not value & ~largest[name]]
    if not known:
        its, are = ("their largest value is", "") if table else ("their largest values are", " and frames")
        most = " and ".join(str(one) for one in largest.values())
        raise UsageError(f"{value} has bits that the flags of {asked[0]}{are} do not; {its} {most}")
    rows = [
        (name, bit, flag, text)
        for name in known
        for flag, (bit, text) in bits_of[name].items()
        if value & bit
    ]

    def text() -> None:
        if not rows:
            click.echo("no flag is set")
        elif table is None:
            show.table(rows, ["table", "value", "name", "meaning"])
        else:
            show.table([row[1:] for row in rows], ["value", "name", "meaning"])

    flags = [dict(zip(("table", "value", "name", "meaning"), row, strict=True)) for row in rows]
    show.result(flags, as_json, text)

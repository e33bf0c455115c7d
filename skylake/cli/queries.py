"""``skylake sql``, ``lc``, ``cone``, ``map`` and ``flags``: ask a lake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skylake.cli import show
from skylake.cli.arguments import lake_argument, open_lake

_FORMATS = ("table", "csv", "json", "parquet", "ecsv", "fits", "votable")
out_option = click.option(
    "-o",
    "out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write; its suffix tells the format.",
)


@click.command(short_help="Run a query over the tables with DuckDB.")
@lake_argument
@click.argument("query")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), help="Format; a table on the screen by default."
)
@out_option
def sql(lake: Path, query: str, form: str | None, out: Path | None) -> None:
    r"""Run a QUERY over the tables of LAKE with DuckDB, or the query in a file given as @FILE.

    Tables have their names (frames, sources, matches, zeropoints, nights, lightcurves, maps), reference
    catalogs those of the schema `catalogs`. Views join them: calibrated_frames, calibrated_sources,
    calibrated_matches, lightcurve_points, zeropoints_in_force.

    \b
    skylake sql LAKE "SELECT night, status, count(*) FROM frames GROUP BY ALL ORDER BY ALL"
    """
    import duckdb

    from skylake.cli.output import write_table
    from skylake.errors import UsageError

    if query.startswith("@"):
        try:
            query = Path(query[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{query[1:]}: the query cannot be read ({error.strerror})") from error
    snapshot = open_lake(lake).snapshot()
    with snapshot.duckdb() as connection:
        try:
            answer = connection.sql(query)
            if not answer:  # a statement without rows, such as SET
                return
            table = answer.to_arrow_table()
        except duckdb.Error as error:
            raise UsageError(f"the query failed: {' '.join(str(error).split())}") from error
    write_table(table, out, form or ("table" if out is None else None))


@click.command()
@lake_argument
@click.option(
    "--object", "object_id", metavar="ID", help="Identifier of the star, or its name in its catalog."
)
@click.option("--ra", type=float, metavar="A", help="Right ascension, degrees.")
@click.option("--dec", type=float, metavar="D", help="Declination, degrees.")
@click.option("--radius", type=click.FloatRange(min=0), default=60.0, show_default=True, metavar="ARCSEC",
              help="How far from the position the star may be.")  # fmt: skip
@out_option
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Picture to write (.png, .svg or .pdf)."
)
def lc(
    lake: Path,
    object_id: str | None,
    ra: float | None,
    dec: float | None,
    radius: float,
    out: Path | None,
    plot: Path | None,
) -> None:
    """Print the light curve of one star, as CSV; by identifier or by position."""
    import pyarrow as pa

    from skylake.cli.output import write_table
    from skylake.errors import UsageError
    from skylake.report.curves import curve_at, curve_of_object

    snapshot = open_lake(lake).snapshot()
    if object_id is not None and ra is None and dec is None:
        curve = curve_of_object(snapshot, _identifier(object_id))
    elif object_id is None and ra is not None and dec is not None:
        curve = curve_at(snapshot, ra, dec, radius)
    else:
        raise UsageError("name a star: either --object ID, or --ra and --dec")
    if plot is not None:
        from skylake.report.page import curve_figure
        from skylake.report.style import save

        save(curve_figure(curve), plot)
        click.echo(f"wrote {plot}", err=True)
    table = pa.Table.from_pylist(curve["points"])
    if out is not None or plot is None:
        write_table(table, out)


def _identifier(text: str) -> int:
    from skylake.core.ids import text_id

    return int(text) if text.isdigit() else text_id(text)


@click.command(
    short_help="Print the rows of a table around a position.",
    context_settings={"ignore_unknown_options": True},  # so that -5.4 is a declination
)
@lake_argument
@click.argument("table")
@click.argument("ra", type=float)
@click.argument("dec", type=float)
@click.argument("radius_arcsec", type=click.FloatRange(min=0))
@out_option
def cone(lake: Path, table: str, ra: float, dec: float, radius_arcsec: float, out: Path | None) -> None:
    """Print the rows of TABLE (sources, matches or lightcurves) within RADIUS_ARCSEC of RA DEC (degrees), as CSV."""
    from skylake.cli.output import write_table

    write_table(open_lake(lake).snapshot().cone(table, ra, dec, radius_arcsec / 3600.0), out)


@click.command("map")
@lake_argument
@click.argument("name")
@click.option("-o", "out", type=click.Path(path_type=Path), metavar="FILE.fits", help="HEALPix map to write.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Picture to write (.png, .svg or .pdf)."
)
@click.option("--camera", metavar="C", help="Of one camera.")
@click.option("--band", metavar="B", help="Of one band.")
@click.option("--night", type=int, metavar="YYYYMMDD", help="Of one night.")
def map_(
    lake: Path,
    name: str,
    out: Path | None,
    plot: Path | None,
    camera: str | None,
    band: str | None,
    night: int | None,
) -> None:
    """Make the HEALPix map NAME: visits, exposure, matches, residual or residual_err.

    The FITS file is NESTED, in equatorial coordinates, as healpy and others read it.
    """
    import functools
    import operator

    import pyarrow.compute as pc

    from skylake.errors import UsageError
    from skylake.report.files import write_healpix_fits
    from skylake.report.plots import sky_map
    from skylake.report.style import save
    from skylake.table.combine import MAPS, combine

    if name not in MAPS:
        raise UsageError(f"there is no map {name!r}; the maps are {', '.join(MAPS)}")
    snapshot = open_lake(lake).snapshot()
    chosen: dict[str, Any] = {"camera": camera, "band": band, "night": night}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    filters = [pc.field(key) == value for key, value in chosen.items()]
    rows = snapshot.read("maps", filter=functools.reduce(operator.and_, filters) if filters else None)
    made = combine(rows, name)
    kind = MAPS[name]
    which = ", ".join(f"{key} {value}" for key, value in chosen.items()) or "all cameras and nights"
    if out is not None:
        cards = [(key.upper(), value, f"{key} of the map") for key, value in chosen.items()]
        cards.append(("SNAPSHOT", snapshot.number, "snapshot of the lake"))
        write_healpix_fits(out, made.full(), made.order, name, kind.unit, cards)
        click.echo(f"wrote {out}", err=True)
    if plot is not None:
        save(sky_map(made.pixels, made.values, made.order, kind.label, f"{kind.label}: {which}"), plot)
        click.echo(f"wrote {plot}", err=True)
    if out is None and plot is None:
        show.table(zip(made.pixels.tolist(), made.values.tolist(), strict=True), ["healpix_pixel", name])


@click.command()
@click.argument("value", type=int)
@click.option("--table", type=click.Choice(["sources", "frames"]), default="sources", show_default=True,
              help="Whose flags.")  # fmt: skip
@show.as_json
def flags(value: int, table: str, as_json: bool) -> None:
    """Tell what the bits of a flags VALUE mean."""
    from skylake.errors import UsageError
    from skylake.schema import flag_texts

    texts = flag_texts("sources" if table == "sources" else "frames")
    known = sum(bit for bit, _ in texts.values())
    if value < 0 or value & ~known:
        raise UsageError(f"{value} has bits that the flags of {table} do not; their largest value is {known}")
    rows = [(bit, name, text) for name, (bit, text) in texts.items() if value & bit]

    def text() -> None:
        show.table(rows, ["value", "name", "meaning"]) if rows else click.echo("no flag is set")

    show.result([{"value": b, "name": n, "meaning": t} for b, n, t in rows], as_json, text)

"""``skylake catalog``: reference catalogs of a lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
from click.shell_completion import CompletionItem

from skylake.cli import completion, show
from skylake.cli.arguments import (
    Number,
    lake_argument,
    open_catalog,
    open_lake,
    readable_lake_argument,
    require_catalog,
)
from skylake.cli.catalog_search_commands import box, cone, coverage
from skylake.cli.progress_bar import progress
from skylake.core.counted import counted

if TYPE_CHECKING:
    from skylake.flow.catalogs.import_catalogs import CatalogReport
    from skylake.sky.catalog_columns import CatalogColumns


class FileOrUrl(click.ParamType[str]):
    """A file or folder that is there, or a URL."""

    name = "file"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        if "://" not in value and not Path(value).exists():
            self.fail(f"Path {value!r} does not exist.", param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave it to the shell to offer files."""
        return completion.files(ctx, param, incomplete)


_IMPORT_EXAMPLE = """\b
skylake catalog import LAKE apass --format apass apass.csv
skylake catalog import LAKE bigsky --format table stars.parquet --ra ra --dec dec \\
    --mag V=V --mag-err V=0.05 --colour B-V=B-V --pm pmra,pmdec
"""


class _TableOptions(TypedDict):
    """The options that name the columns of a table."""

    ra: str | None
    ra_unit: str | None
    dec: str | None
    identifier: str | None
    mag: tuple[str, ...]
    mag_err: tuple[str, ...]
    colour: tuple[str, ...]
    pm: str | None
    pm_ra_coordinate: bool
    epoch: float | None
    unit: tuple[str, ...]


@click.group()
def catalog() -> None:
    """Import, list and ask the reference catalogs of a lake."""


@catalog.command("import", epilog=_IMPORT_EXAMPLE)
@lake_argument
@click.argument("name")
@click.argument("files", nargs=-1, type=FileOrUrl(), metavar="FILE…")
@click.option(
    "--format",
    "kind",
    required=True,
    metavar="FORMAT",
    shell_complete=completion.formats,
    help="A survey: 2mass, apass, brightstar, gaia, hipparcos, ps1, refcat2, skymapper, tycho2, usnob, vhs, vsx, "
    "or the path of a TOML file that describes one; tycho2 also reads the index files of Debian's package "
    "astrometry-data-tycho2-07-littleendian. hats: a HATS catalog, by its path or URL, that is used where it is, its "
    "columns those of a survey or given by the options. table: any other CSV, ECSV, FITS, VOTable or Parquet, its "
    "columns given by the options below.",
)
@click.option(
    "--unit",
    multiple=True,
    metavar="COL=UNIT",
    help="Unit of a column, if the file has none or a wrong one: rad, hourangle, nJy, uJy, rad/yr; may be repeated. "
    "Fluxes become AB magnitudes.",
)
@click.option(
    "--ra",
    metavar="COL",
    help="Column of right ascension, degrees unless the file or its text say otherwise.",
)
@click.option("--ra-unit", type=click.Choice(["degrees", "hours"]), help="Unit of right ascension.")
@click.option("--dec", metavar="COL", help="Column of declination, degrees.")
@click.option("--id", "identifier", metavar="COL", help="Column of the identifier, integer or text.")
@click.option(
    "--mag", multiple=True, metavar="BAND=COL", help="Column of magnitudes in a band; may be repeated."
)
@click.option(
    "--mag-err",
    multiple=True,
    metavar="BAND=COL|NUMBER",
    help="Their errors: a column, or one number for all.",
)
@click.option(
    "--colour", multiple=True, metavar="NAME=COL", help="Column of a colour such as B-V; may be repeated."
)
@click.option(
    "--pm", metavar="RACOL,DECCOL", help="Columns of proper motion in mas/yr, in RA with the factor cos(dec)."
)
@click.option("--pm-ra-coordinate", is_flag=True, help="The proper motion in RA lacks the factor cos(dec).")
@click.option(
    "--epoch",
    type=Number(1000, 3000),
    metavar="YEAR",
    help="Epoch of the positions; that of the survey, or 2000 of a table, if it is not given.",
)
@click.option(
    "--margin",
    type=Number(min=1),
    default=300.0,
    show_default=True,
    metavar="ARCSEC",
    help="Width of the margin cache; `calibrate` widens it if matches reach farther.",
)
@click.option("--replace", is_flag=True, help="Replace a catalog of that name.")
@click.option(
    "--index/--no-index",
    "indexed",
    default=True,
    help="Whether to build the index with which frames without a usable WCS are solved, one file of up to 500 MB; "
    "`catalog index` builds it later.",
)
@show.as_json
def import_(
    lake: Path,
    name: str,
    files: tuple[str, ...],
    kind: str,
    margin: float,
    replace: bool,
    indexed: bool,
    as_json: bool,
    **table: Unpack[_TableOptions],
) -> None:
    """Import FILE… into LAKE as the reference catalog NAME.

    The first catalog of a lake solves frames, and each camera is calibrated with the one that suits it best, unless
    [catalog] in skylake.toml or in its profile names others. The stars are divided into the pixels of the lake, with
    a margin cache, as a HATS collection that lsdb opens. The index that finds where frames point is built too. An
    import that was interrupted goes on with the same command.
    """
    import dataclasses

    from skylake.flow.catalogs.import_catalogs import import_catalog, index_imported, use_in_place

    opened = open_lake(lake)
    with progress() as shown:
        if kind == "hats":
            columns = _columns(table) if table["ra"] else None
            units = _pairs("--unit", table["unit"])
            report = use_in_place(opened, name, _one(files), columns, replace, table["epoch"], units)
        else:
            columns, form, not_checked = _columns_of(kind, _local(files), table)
            report = import_catalog(opened, name, kind, _local(files), columns, margin, replace, shown)
            report.form, report.not_checked = form, not_checked
        if indexed and not report.lists_variables:
            index_imported(opened, report, shown)
    _complain(name, report, columns, table)
    text = f"{name}: {counted(report.n_rows, 'star')} in {counted(report.n_pixels, 'pixel')}" + (
        f", which {uses_text(report.use)} frames" if report.use else ""
    )
    if report.sure_deg is not None:
        text += f"\n{name}: {_index_text(report.n_asterisms, report.index_bytes, report.sure_deg)}"
    show.result(dataclasses.asdict(report), as_json, lambda: click.echo(text))


def _local(files: tuple[str, ...]) -> tuple[Path, ...]:
    from skylake.errors import UsageError
    from skylake.places import is_url

    for file in files:
        if is_url(file):
            raise UsageError(
                f"{file}: files are imported from disks; fetch it, or use a HATS catalog with --format hats"
            )
    return tuple(map(Path, files))


def _one(files: tuple[str, ...]) -> str:
    from skylake.errors import UsageError
    from skylake.places import is_url

    if len(files) != 1:
        raise UsageError("--format hats takes one catalog, by its path or URL")
    return files[0] if is_url(files[0]) else str(Path(files[0]).resolve())


def _columns_of(
    kind: str, files: tuple[Path, ...], table: _TableOptions
) -> tuple[CatalogColumns | None, str | None, list[str]]:
    """Return the columns of the files, the form of the survey and its columns of quality that the files lack."""
    from dataclasses import replace

    from skylake.errors import UsageError
    from skylake.flow.catalogs.import_catalogs import is_debian_index, survey_columns

    if kind == "table":
        return _columns(table), None, []
    named = [key for key in ("ra", "dec", "identifier", "mag", "mag_err", "colour", "pm") if table[key]]
    if named:
        option = "id" if named[0] == "identifier" else named[0].replace("_", "-")
        raise UsageError(f"--{option} names a column of --format table; {kind} knows its own columns")
    if is_debian_index(kind, files):
        return None, None, []
    found = survey_columns(kind, files)
    epoch = found.columns.epoch if table["epoch"] is None else table["epoch"]
    columns = replace(found.columns, epoch=epoch, units=_pairs("--unit", table["unit"]))
    return columns, found.form, list(found.absent)


def _complain(name: str, report: CatalogReport, columns: CatalogColumns | None, table: _TableOptions) -> None:
    """Report rows that were left out, and what the catalog cannot be used for."""
    for reason, n_rows in report.dropped.items():
        show.complain(
            f"{name}: {n_rows} rows were left out ({reason}; the first is {report.first_dropped[reason]})"
        )
    if report.not_checked:
        show.complain(
            f"{name}: the file has no column {' or '.join(report.not_checked)}, so the stars' quality was not checked "
            "by it"
        )
    if report.without_id:
        show.complain(
            f"{name}: {report.without_id} rows have no identifier; theirs are made from their positions"
        )
    if report.ra_may_be_hours:
        show.complain(
            f"{name}: every right ascension is below 24 and was read as degrees; if the column {table['ra']} holds "
            "hours, import it again with --ra-unit hours --replace (--ra-unit degrees settles the question)"
        )
    if report.n_equal:
        show.complain(
            f"{name}: {counted(report.n_equal, 'row')} stood there twice, equal in all columns, and count once"
        )
    for magnitude, count in report.zeros.items():
        number = counted(abs(count), "magnitude")
        show.complain(
            f"{name}: {number} of exactly 0 in {magnitude} were taken for missing ones: no such stars are there"
            if count < 0
            else f"{name}: {number} of exactly 0 in {magnitude} were taken as measured; if they are missing, leave "
            "them blank in the file and import it again"
        )
    if report.n_duplicate_ids:
        column = columns and columns.id
        where = f"in the column {column}" if isinstance(column, str) else "made from equal positions"
        show.complain(
            f"{name}: {report.n_duplicate_ids} stars have the identifier of another ({where}), and their light "
            "curves are mixed; name a column of unique identifiers with --id"
        )
    if columns is not None and not columns.magnitudes:
        show.complain(
            f"{name}: the catalog has no magnitudes, so it checks positions and calibrates nothing; import it again "
            "with --mag BAND=COLUMN and --replace"
        )
    elif report.without_index is not None:
        show.complain(f"{report.without_index}; without an index no frame is solved by its stars")


def uses_text(uses: list[str]) -> str:
    """Return what a catalog does, of `solve` and `calibrate`, to go on with what it is done to."""
    words = {"solve": "solves", "calibrate": "calibrates"}
    return " and ".join(dict.fromkeys(words[use.partition(":")[0]] for use in uses))


def _columns(table: _TableOptions) -> CatalogColumns:
    from skylake.errors import UsageError
    from skylake.sky.catalog_columns import CatalogColumns

    ra, dec, motion_columns = table["ra"], table["dec"], table["pm"]
    if ra is None or dec is None:
        raise UsageError("a table needs --ra and --dec, the columns of its positions")
    motion = motion_columns.split(",") if motion_columns else [None, None]
    if len(motion) != 2:
        raise UsageError(f"--pm {motion_columns}: give two columns, as in --pm pmra,pmdec")
    return CatalogColumns(
        ra=ra,
        dec=dec,
        id=table["identifier"],
        pm_ra=motion[0],
        pm_dec=motion[1],
        pm_ra_is_coordinate=table["pm_ra_coordinate"],
        epoch=2000.0 if table["epoch"] is None else table["epoch"],
        units=_pairs("--unit", table["unit"]),
        magnitudes=_pairs("--mag", table["mag"]),
        magnitude_errors={
            band: _number_or_name(value) for band, value in _pairs("--mag-err", table["mag_err"]).items()
        },
        colours=_pairs("--colour", table["colour"]),
        ra_unit=table["ra_unit"],  # type: ignore[arg-type]
    )


def _pairs(option: str, values: tuple[str, ...]) -> dict[str, str]:
    from skylake.errors import UsageError

    pairs: dict[str, str] = {}
    for value in values:
        name, equals, column = value.partition("=")
        if not (name and equals and column):
            form = (
                "COLUMN=UNIT, as in --unit ra=rad"
                if option == "--unit"
                else f"NAME=COLUMN, as in {option} V=Vmag"
            )
            raise UsageError(f"{option} {value}: write {form}")
        if name in pairs:
            raise UsageError(f"{option} {value}: {name} is given twice")
        pairs[name] = column
    return pairs


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@catalog.command("list")
@readable_lake_argument
@show.as_json
def list_(lake: Path, as_json: bool) -> None:
    """List the catalogs of LAKE, and what each is used for."""
    from skylake.flow.catalogs.catalog_uses import catalog_uses
    from skylake.sky.lake_catalogs import ReferenceCatalog

    opened = open_lake(lake)
    snapshot = opened.snapshot()
    catalogs = [ReferenceCatalog.open(snapshot.catalog(name)) for name in snapshot.catalogs()]
    uses = catalog_uses(opened)
    rows = [
        {
            "name": reference.name,
            "stars": reference.n_rows,
            "bands": " ".join(reference.bands),
            "colours": " ".join(reference.colours),
            "epoch": reference.epoch,
            "margin_arcsec": None if reference.in_place else reference.margin_arcsec,
            "use": " ".join(uses[reference.name]),
        }
        for reference in catalogs
    ]
    header = ["name", "stars", "bands", "colours", "epoch", "margin_arcsec", "use"]
    show.result(rows, as_json, lambda: show.table([[row[key] for key in header] for row in rows], header))


@catalog.command("show")
@readable_lake_argument
@click.argument("name", shell_complete=completion.catalogs)
@show.as_json
def show_(lake: Path, name: str, as_json: bool) -> None:
    """Show the columns of the catalog NAME, with units and meanings.

    A magnitude says which band it is: g of the SDSS, of Pan-STARRS1 and of APASS differ.
    """
    from skylake.sky.hats import read_common_metadata

    reference = open_catalog(lake, name)
    schema = read_common_metadata(reference.root)
    rows = []
    for field in schema:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        meaning = [metadata.get("description", ""), _survey_meaning(field.name, reference.survey)]
        rows.append([field.name, str(field.type), metadata.get("unit", ""), "; ".join(filter(None, meaning))])
    header = ["column", "type", "unit", "meaning"]
    show.result(
        [dict(zip(header, row, strict=True)) for row in rows], as_json, lambda: show.table(rows, header)
    )


def _survey_meaning(column: str, survey: str) -> str:
    """Return whose band the magnitudes of a column are in, if its name leaves that open; else nothing."""
    from skylake.core.bands import own_bands, survey_band

    name = column.removeprefix("mag_")
    if name == column:
        return ""
    band = survey_band(name, survey)
    if band != name:
        return f"the band {band}"
    own = own_bands(name)
    return f"whether it is {', '.join(own[:-1])} or {own[-1]} is not known" if len(own) > 1 else ""


@catalog.command()
@lake_argument
@click.argument("name", shell_complete=completion.catalogs)
@click.option(
    "--scales",
    nargs=2,
    type=Number(0.1, 120.0),
    default=(0.5, 60.0),
    show_default=True,
    metavar="NARROWEST WIDEST",
    help="Widths of the pictures that are to be solved, degrees.",
)
@click.option(
    "--band", metavar="BAND", help="Band that stars are ranked by; the first of the catalog otherwise."
)
@show.as_json
def index(lake: Path, name: str, scales: tuple[float, float], band: str | None, as_json: bool) -> None:
    """Build the index of the catalog NAME that `skylake solve` looks star patterns up in.

    It is one file beside the catalog, rebuilt when the catalog is replaced.
    """
    from skylake.errors import UsageError
    from skylake.flow.astrometry.solve_frames import index_catalog

    if scales[0] >= scales[1]:
        raise UsageError(f"--scales {scales[0]:g} {scales[1]:g}: give the narrowest first")
    snapshot = open_lake(lake).snapshot()
    require_catalog(snapshot, name)
    built, path = index_catalog(snapshot, name, band, *scales)
    row = {
        "name": name,
        "stars": built.n_stars,
        "asterisms": built.n_asterisms,
        "bytes": path.stat().st_size,
        "file": str(path),
        "sure_deg": built.sure_deg,
    }
    text = f"{name}: {_index_text(built.n_asterisms, path.stat().st_size, built.sure_deg)}"
    show.result(row, as_json, lambda: click.echo(text))


def _index_text(n_asterisms: int, n_bytes: int, sure_deg: float) -> str:
    return (
        f"index of {n_asterisms} asterisms, {n_bytes / 1e6:.0f} MB, for pictures of {sure_deg:.2g} degrees and more; "
        "of narrower ones some are not solved, and a deeper catalog solves more"
    )


for command in (cone, box, coverage):
    catalog.add_command(command)

"""Import reference catalogs into a lake."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from skylake.core.bands import System
from skylake.core.batch import is_plain_name
from skylake.core.counted import counted
from skylake.errors import CatalogError, UsageError
from skylake.flow.catalogs.catalog_uses import catalog_uses
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.lake import Lake
from skylake.settings import confirm
from skylake.sky.asterism_index import index_path, renew_index
from skylake.sky.catalog_build import build_catalog, put_catalog
from skylake.sky.catalog_columns import CatalogColumns, require_columns, system_of
from skylake.sky.catalog_files import files_of, read_batches, read_header
from skylake.sky.catalog_values import RawRows, first_number
from skylake.sky.hats_in_place import columns_of, first_epoch, recorded, write_in_place
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.star_files import StarFiles
from skylake.sky.surveys import Found, Survey, find_columns, find_survey, load_survey, of_release
from skylake.sky.tycho2 import FOLDER, is_index, read_tycho2, tycho2_columns

#: Width of the margin around pixels. Wide enough for the match radius of a wide-field camera and the fastest
#: star of the sky over a quarter of a century. For a fisheye with pixels of minutes of arc `calibrate` widens it.
MARGIN_ARCSEC = 300.0
#: Files that the catalog names as its origin.
_MOST_NAMED = 20
#: Rows that are read at a time to find an epoch.
_FEW_ROWS = 1000


@dataclass(slots=True)
class CatalogReport:
    """What an import did.

    Attributes
    ----------
    name : str
    n_rows : int
        Stars in the catalog.
    n_pixels : int
        Pixels that hold them.
    dropped : dict
        Rows left out, by reason.
    first_dropped : dict
        The first row left out, by reason.
    ra_may_be_hours : bool
        Whether every right ascension is below 24, and nothing says whether that is degrees or hours.
    form : str or None
        Form of the survey that the files have.
    not_checked : list of str
        Columns of quality that the survey has and the files have not.
    without_id : int
        Rows whose identifier is missing and was made from the position.
    lists_variables : bool
        Whether it lists variable stars only, and is neither for solving nor for calibrating.
    n_duplicate_ids : int
        Stars whose identifier another star has.
    n_equal : int
        Rows that were left out since another one is equal to them.
    zeros : dict
        Column of magnitudes to the number of them that are exactly 0; negative where these were taken for missing.
    use : list of str
        What it is in force for, as :func:`skylake.flow.catalogs.catalog_uses.catalog_uses` says.
    n_asterisms, index_bytes : int
        Of its index for plate solving; 0 where none was built.
    sure_deg : float or None
        Width from which on pictures are nearly certain to be solved with it.
    without_index : str or None
        Why it can have none, a sentence.
    """

    name: str
    n_rows: int = 0
    n_pixels: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    first_dropped: dict[str, str] = field(default_factory=dict)
    ra_may_be_hours: bool = False
    form: str | None = None
    not_checked: list[str] = field(default_factory=list)
    without_id: int = 0
    lists_variables: bool = False
    n_duplicate_ids: int = 0
    n_equal: int = 0
    zeros: dict[str, int] = field(default_factory=dict)
    use: list[str] = field(default_factory=list)
    n_asterisms: int = 0
    index_bytes: int = 0
    sure_deg: float | None = None
    without_index: str | None = None


def import_catalog(
    lake: Lake,
    name: str,
    kind: str,
    files: Sequence[Path],
    columns: CatalogColumns | None = None,
    margin_arcsec: float = MARGIN_ARCSEC,
    replace: bool = False,
    progress: Progress | None = None,
) -> CatalogReport:
    """Import a catalog; the first one solves, and calibrates as long as it is the only one.

    Parameters
    ----------
    lake : Lake
    name : str
        Name that the catalog gets.
    kind : str
        Format: ``table`` for any table whose columns are given, else a survey, as :func:`load_survey` takes it;
        ``tycho2`` also for the index files of Debian's package.
    files : sequence of Path
    columns : CatalogColumns or None
        Which column holds what; needed for ``table``. Of a survey, what :func:`survey_columns` found.
    margin_arcsec : float
        Width of the margin cache.
    replace : bool
        Whether a catalog of that name may be replaced.

    Raises
    ------
    UsageError
        If the name is taken or is no plain name, or options are missing.
    CatalogError
        If the files cannot be read.
    """
    target = _free(lake, name, replace)
    report = CatalogReport(name)
    progress = progress or Silent()
    survey = None if kind == "table" else load_survey(kind)
    if kind == "table" and (columns is None or not files):
        raise UsageError("a table needs files and the columns of its positions and magnitudes; see --help")
    stars: StarFiles | Iterator[pa.Table]
    if survey is not None and columns is None and is_debian_index(kind, files):
        folder = files[0] if files else Path(FOLDER)
        columns, stars = tycho2_columns(folder), _watch(read_tycho2(folder), progress)
    else:
        if columns is None:
            found = survey_columns(kind, files)
            columns, report.form, report.not_checked = found.columns, found.form, list(found.absent)
        columns.require_stated_units()
        stars = StarFiles(files, columns, advance=progress.advance)
    progress.begin(f"catalog {name}", 0)
    built = build_catalog(
        stars, columns.schema, target, lake.tree, margin_arcsec, _properties(columns, survey, files)
    )
    progress.end()
    report.n_rows, report.n_pixels, report.n_duplicate_ids = (
        built.n_rows,
        built.n_pixels,
        built.n_duplicate_ids,
    )
    report.n_equal, report.zeros = built.n_equal, built.zeros
    if isinstance(stars, StarFiles):
        total = stars.report
        report.dropped, report.first_dropped, report.without_id = (
            total.dropped,
            total.firsts,
            total.without_id,
        )
        report.ra_may_be_hours = survey is None and total.may_be_hours
    report.lists_variables = survey is not None and survey.variables
    _name_for_uses(lake, report)
    progress.line(f"catalog {name}: {counted(report.n_rows, 'star')} in {counted(report.n_pixels, 'pixel')}")
    return report


def use_in_place(
    lake: Lake,
    name: str,
    address: str,
    columns: CatalogColumns | None = None,
    replace: bool = False,
    epoch: float | None = None,
    units: Mapping[str, str] | None = None,
) -> CatalogReport:
    """Use a HATS catalog where it is: the lake keeps its address and which of its columns hold what.

    Parameters
    ----------
    lake : Lake
    name : str
        Name that the catalog gets.
    address : str
        Path or URL of a HATS catalog or collection.
    columns : CatalogColumns or None
        Which column holds what; None takes those of the survey whose columns it has.
    replace : bool
        Whether a catalog of that name may be replaced.
    epoch : float or None
        Epoch of the positions; None takes that of the columns.
    units : mapping of str to str, optional
        Column to unit, whatever the catalog says.

    Raises
    ------
    UsageError
        If the name is taken or is no plain name.
    ConfigurationError
        If the user's own file, which notes the address, cannot be used.
    CatalogError, LakeError
        If the catalog cannot be reached or read, or its columns are those of no survey.
    """
    target = _free(lake, name, replace)
    report, survey = CatalogReport(name), None
    available = columns_of(address)
    if columns is None:
        survey, found = find_survey(available, address)
        found = dataclasses.replace(
            found, columns=of_release(survey, found.columns, first_epoch(address, found.columns))
        )
        columns, report.form, report.not_checked = found.columns, found.form, list(found.absent)
    columns = dataclasses.replace(
        columns,
        epoch=columns.epoch if epoch is None else epoch,
        units={**columns.units, **(units or {})},
    )
    columns.require_stated_units()
    require_columns(available, columns.wanted, address)
    source, report.n_rows, checksum = recorded(address, columns)
    report.n_pixels = len(source.pixels())
    properties = _properties(columns, survey, [Path(address)])
    confirm(lake.root, name, source.address)
    put_catalog(target, lambda folder: write_in_place(folder, source, report.n_rows, checksum, properties))
    report.lists_variables = survey is not None and survey.variables
    _name_for_uses(lake, report)
    return report


def _free(lake: Lake, name: str, replace: bool) -> Path:
    """Return the folder for a new catalog."""
    if not is_plain_name(name):
        raise UsageError(
            f"{name!r} is no name for a catalog; use letters, digits, '.', '_' and '-', at most 100 of them"
        )
    target = lake.layout.catalog(name)
    if target.exists() and not replace:
        raise UsageError(f"the lake has a catalog {name!r} already; give another name or --replace")
    return target


def _name_for_uses(lake: Lake, report: CatalogReport) -> None:
    """Let a catalog solve frames if no other does, and note what it is used for."""
    if not lake.settings.catalog.solve and not report.lists_variables:
        lake.set("catalog.solve", report.name)
    report.use = catalog_uses(lake)[report.name]


def index_imported(lake: Lake, report: CatalogReport, progress: Progress | None = None) -> None:
    """Build the index of a catalog that was imported, for the pictures that an earlier one of its name was made for.

    A catalog with too few stars, or without magnitudes, has none: the report says so.

    Raises
    ------
    CatalogError
        If the index cannot be written.
    """
    progress = progress or Silent()
    catalog = ReferenceCatalog.open(lake.layout.catalog(report.name))
    progress.begin(f"index of {report.name}", 0)
    try:
        index = renew_index(catalog)
    except CatalogError as error:
        if isinstance(error.__cause__, OSError):
            raise
        report.without_index = str(error)
    else:
        report.n_asterisms, report.sure_deg = index.n_asterisms, index.sure_deg
        report.index_bytes = index_path(catalog).stat().st_size
    finally:
        progress.end()


def survey_columns(kind: str, files: Sequence[Path]) -> Found:
    """Return which columns of files hold what, by the form of a survey that the first file has.

    Where rows have an epoch, the first row gives the release.

    Raises
    ------
    UsageError
        If there is no such survey, or no file.
    CatalogError
        If the file fits no form of it.
    """
    survey = load_survey(kind)
    if not files:
        raise UsageError(f"name the files of {survey.title} that are to be imported")
    path = files_of(files[0])[0] if files[0].is_dir() else files[0]
    header = read_header(path, survey.names)
    found = find_columns(survey, header.names, str(path), header.first_line)
    if not survey.releases or found.columns.row_epoch is None:
        return found
    return dataclasses.replace(
        found, columns=of_release(survey, found.columns, _first_epoch(path, found.columns))
    )


def _first_epoch(path: Path, columns: CatalogColumns) -> float:
    """Return the epoch of the first row of a file that has one; NaN if none has."""
    wanted = [str(columns.row_epoch)]
    for batch in read_batches(path, wanted, _FEW_ROWS, columns.names, columns.delimiter):
        rows = RawRows(batch.table, batch.units, batch.source, np.arange(batch.table.num_rows))
        known = first_number(rows, wanted[0])
        if math.isfinite(known):
            return known
    return math.nan


def is_debian_index(kind: str, files: Sequence[Path]) -> bool:
    """Return whether Tycho-2 is to be read from the index files of Debian's package."""
    return kind == "tycho2" and (not files or is_index(files[0]))


def _properties(columns: CatalogColumns, survey: Survey | None, files: Sequence[Path]) -> dict[str, str]:
    """Return what the catalog says of where it comes from."""
    systems: dict[str, System | None] = {band: system_of(band, columns.systems) for band in columns.bands}
    values = {
        "skylake_epoch": repr(columns.epoch),
        "skylake_origin": " ".join(path.name for path in files[:_MOST_NAMED]),
        "skylake_systems": " ".join(f"{band}={system}" for band, system in systems.items() if system),
    }
    if survey is not None:
        values |= {
            "skylake_survey": columns.survey or survey.name,
            "skylake_variables": str(survey.variables).lower(),
        }
    return values


def _watch(batches: Iterator[pa.Table], progress: Progress) -> Iterator[pa.Table]:
    for batch in batches:
        progress.advance(batch.num_rows)
        yield batch

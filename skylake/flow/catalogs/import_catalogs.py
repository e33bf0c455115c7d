"""Import reference catalogs into a lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from skylake.core.batch import is_plain_name
from skylake.errors import CatalogError, UsageError
from skylake.flow.catalogs.catalog_uses import catalog_uses
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.lake import Lake
from skylake.sky.asterism_index import index_path, renew_index
from skylake.sky.catalog_build import build_catalog
from skylake.sky.catalog_columns import CatalogColumns, ImportReport
from skylake.sky.catalog_files import import_batches
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.tycho2 import FOLDER, read_tycho2, tycho2_columns

#: Width of the margin around pixels. Wide enough for the match radius of a wide-field camera and the fastest
#: star of the sky over a quarter of a century. For a fisheye with pixels of minutes of arc `calibrate` widens it.
MARGIN_ARCSEC = 300.0


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
    n_duplicate_ids : int
        Stars whose identifier another star of their pixel has.
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
    n_duplicate_ids: int = 0
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
    kind : {'table', 'tycho2'}
        Format: any table whose columns are given, or the index files of Debian's Tycho-2 package.
    files : sequence of Path
    columns : CatalogColumns or None
        Which column holds what; needed for 'table'.
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
    if not is_plain_name(name):
        raise UsageError(
            f"{name!r} is no name for a catalog; use letters, digits, '.', '_' and '-', at most 100 of them"
        )
    target = lake.layout.catalog(name)
    if target.exists() and not replace:
        raise UsageError(f"the lake has a catalog {name!r} already; give another name or --replace")
    report = CatalogReport(name)
    progress = progress or Silent()
    if kind == "tycho2":
        folder = files[0] if files else Path(FOLDER)
        columns = tycho2_columns(folder)
        batches: Iterator[pa.Table] = _watch(read_tycho2(folder), progress)
    elif columns is None or not files:
        raise UsageError("a table needs files and the columns of its positions and magnitudes; see --help")
    else:
        batches = _watch(_counted(files, columns, report), progress)
    progress.begin(f"catalog {name}", 0)
    built = build_catalog(
        batches,
        columns.schema,
        target,
        lake.tree,
        margin_arcsec,
        {
            "skylake_epoch": repr(columns.epoch),
            "skylake_origin": " ".join(path.name for path in files),
            # In whose system its magnitudes are, which a user's own table does not say.
            **({} if kind == "table" else {"skylake_survey": kind}),
        },
    )
    progress.end()
    report.n_rows, report.n_pixels, report.n_duplicate_ids = (
        built.n_rows,
        built.n_pixels,
        built.n_duplicate_ids,
    )
    if not lake.settings.catalog.solve:
        lake.set("catalog.solve", name)
    report.use = catalog_uses(lake)[name]
    progress.line(f"catalog {name}: {report.n_rows} stars in {report.n_pixels} pixels")
    return report


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


def _counted(files: Sequence[Path], columns: CatalogColumns, report: CatalogReport) -> Iterator[pa.Table]:
    total = ImportReport()
    for table, counts in import_batches(files, columns):
        total += counts
        yield table
    report.dropped, report.first_dropped = total.dropped, total.firsts
    report.ra_may_be_hours = total.may_be_hours


def _watch(batches: Iterator[pa.Table], progress: Progress) -> Iterator[pa.Table]:
    for batch in batches:
        progress.advance(batch.num_rows)
        yield batch

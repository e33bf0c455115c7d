"""What makes a version of a table a HATS catalog that other readers open: metadata, coverage, an empty file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from skylake.durable import Linker
from skylake.schema import arrow_schema, load
from skylake.sky.hats import (
    Properties,
    find_pixels,
    leaf_files,
    read_properties,
    write_common_metadata,
    write_empty_file,
    write_metadata,
)
from skylake.sky.hats_coverage import (
    COVERAGE_FILES,
    COVERAGE_ORDER,
    count_rows,
    read_coverage,
    simplified,
    sky_fraction,
    write_coverage,
)

#: Property of a version: the order of the cells that its coverage fills.
_COVERAGE_ORDER = "skylake_coverage_order"


def write_table_metadata(
    folder: Path, table: str, n_rows: int, base: Path | None = None, added: Iterable[Path] | None = None
) -> None:
    """Write the schema of a version, its empty file if it has no rows, and what makes it a HATS catalog.

    A commit that adds no sky links the coverage of the version before. Its cost does not depend on the rows of the
    table: what a part has left that is gone stays covered until everything is merged into one bundle.

    Parameters
    ----------
    folder : Path
    table : str
    n_rows : int
        Rows of a HATS table; of others the files are looked for.
    base : Path or None
        Version whose coverage that of the added files is put to; None where all files are to be read.
    added : iterable of Path or None
        Files that the base does not have.
    """
    schema = load(table)
    form, layout = arrow_schema(schema), schema.layout
    if layout.kind != "hats":
        write_common_metadata(folder, form)
        if not any((folder / "dataset").glob("[!.]*.parquet")):
            write_empty_file(folder, form)
        return
    pixels = find_pixels(folder)
    fraction, order = _write_coverage(folder, n_rows, base, added or ())
    extra = {
        "skylake_schema_version": str(schema.version),
        "skylake_schema_sha256": schema.sha256,
        "hats_order": str(max((order for order, _ in pixels), default=0)),
        "moc_sky_fraction": f"{fraction:.6g}",
        _COVERAGE_ORDER: str(order),
    }
    if layout.default:
        extra["hats_cols_default"] = " ".join(layout.default)
    properties = Properties(table, layout.catalog_type or "object", n_rows, layout.ra or "", layout.dec or "")
    write_metadata(folder, schema, properties, pixels, extra)
    if not pixels:
        write_empty_file(folder, form)


def _write_coverage(folder: Path, n_rows: int, base: Path | None, added: Iterable[Path]) -> tuple[float, int]:
    """Write or link the coverage of a version, and return its share of the sky and the order of its cells."""
    known = _known_coverage(base) if base is not None and n_rows else None
    if known is None or base is None:
        rows = count_rows(path for _, path in leaf_files(folder, find_pixels(folder)))
        cells, order = simplified(rows > 0)
        write_coverage(folder, cells)
        return sky_fraction(cells), order
    order = int(read_properties(base).get(_COVERAGE_ORDER, COVERAGE_ORDER))
    cells = known | (count_rows(added) > 0)
    if (cells == known).all():
        link = Linker()
        for name in COVERAGE_FILES:
            link(base / name, folder / name)
    else:
        cells, order = simplified(cells, order)
        write_coverage(folder, cells)
    return sky_fraction(cells), order


def _known_coverage(base: Path) -> npt.NDArray[np.bool_] | None:
    """Return what a version covers; None where an older skylake wrote it, or it is damaged."""
    if not all((base / name).is_file() for name in COVERAGE_FILES):
        return None
    try:
        return read_coverage(base)
    except ValueError:
        # What the rows of the new version cover is found from these; `skylake verify` reports the old one.
        return None

"""A user's own table, in a file of any format, as one that is matched by position."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skylake import logs
from skylake.core.counted import counted
from skylake.core.sphere import INDEX_ORDER, healpix_index
from skylake.errors import UsageError
from skylake.sky.catalog_files import read_batches, read_header
from skylake.sky.catalog_values import RawRows, declination, right_ascension
from skylake.sky.hats_files import INDEX, HatsFiles
from skylake.sky.pixels import Pixel
from skylake.sky.star_columns import DEC_NAMES, RA_NAMES, position_columns

_log = logs.get(__name__)

#: Rows and bytes of such a table, which is sorted in memory.
_MOST_ROWS, _MOST_BYTES = 5_000_000, 400_000_000
_ROW_GROUP = 65_536
#: What texts of a column without types are read as, the first that fits all of them.
_SPELT: tuple[tuple[str, pa.DataType], ...] = (
    (r"^(0|-?[1-9]\d{0,17})$", pa.int64()),
    (r"(?i)^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$", pa.float64()),
)


def files_of_table(path: Path, columns: Sequence[str] | None, folder: Path) -> HatsFiles:
    """Return a table with positions in a file as a HATS table, whose files are written into a folder.

    Parameters
    ----------
    path : Path
        CSV, ECSV, FITS, VOTable or Parquet. Its positions are known by their UCDs or names, and become degrees.
    columns : sequence of str or None
        Columns that are wanted besides; None for all.
    folder : Path
        An empty one.

    Raises
    ------
    UsageError
        If it has no positions, or too many rows.
    CatalogError
        If it cannot be read, or lacks a column.
    """
    header = read_header(path, (*RA_NAMES, *DEC_NAMES))
    position = position_columns(header.names, header.ucds)
    if position is None:
        raise UsageError(
            f"{path}: no columns of {', '.join(header.names[:20])} are positions; call two of them ra and dec"
        )
    names = [name for name in columns or header.names if name not in ("", INDEX)]
    names = list(dict.fromkeys([*position, *names]))
    tables, n_rows, n_bytes = [], 0, 0
    for batch in read_batches(path, names):
        n_rows, n_bytes = n_rows + batch.table.num_rows, n_bytes + batch.table.nbytes
        if n_rows > _MOST_ROWS or n_bytes > _MOST_BYTES:
            raise UsageError(
                f"{path}: the table has more than {_MOST_ROWS} rows or {_MOST_BYTES // 10**6} MB; name fewer columns, "
                "or import it as a catalog"
            )
        rows = RawRows(batch.table, batch.units, str(path), batch.first_row + np.arange(batch.table.num_rows))
        tables.append(_placed(rows, position))
    if not n_rows:
        raise UsageError(f"{path}: the table has no rows")
    table = pa.concat_tables(tables)
    if table.num_rows < n_rows:
        _log.warning("%s: %s without a position left out", path, counted(n_rows - table.num_rows, "row"))
    units = {**batch.units, **dict.fromkeys(position, "deg")}
    table = _typed(table, units, header.ucds).sort_by(INDEX)
    with path.open("rb") as stream:
        identity = hashlib.file_digest(stream, "sha256").hexdigest()
    files = _files(table, folder)
    return HatsFiles(str(path), *position, table.schema, tuple(table.column_names), files, identity)


def _placed(rows: RawRows, position: tuple[str, str]) -> pa.Table:
    """Return the rows that have a position, with it in degrees and its index."""
    ra, dec = right_ascension(rows, position[0], None) % 360.0, declination(rows, position[1])
    has_position = np.isfinite(ra) & (np.abs(dec) <= 90.0)
    ra, dec = ra[has_position], dec[has_position]
    table = rows.table.filter(pa.array(has_position))
    for name, values in zip(position, (ra, dec), strict=True):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table.append_column(INDEX, pa.array(healpix_index(ra, dec)))


def _typed(table: pa.Table, units: Mapping[str, str], ucds: Mapping[str, str]) -> pa.Table:
    """Return a table with numbers where texts spell nothing else, and with units and UCDs as metadata."""
    columns, fields = [], []
    for name in table.column_names:
        column = table[name]
        if pa.types.is_large_string(column.type) or pa.types.is_string(column.type):
            texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
            column = pc.if_else(pc.equal(texts, ""), None, texts)
            kinds = (
                kind for spelt, kind in _SPELT if pc.all(pc.match_substring_regex(column, spelt)).as_py()
            )
            column = column.cast(next(kinds, pa.string()))
        columns.append(column)
        known = {"unit": units.get(name, ""), "ucd": ucds.get(name, "")}
        fields.append(
            pa.field(name, column.type, metadata={key: text for key, text in known.items() if text})
        )
    return pa.table(columns, schema=pa.schema(fields))


def _files(table: pa.Table, folder: Path) -> dict[Pixel, dict[Path, int | None]]:
    """Write the rows of each of the twelve base pixels."""
    pixels = table[INDEX].to_numpy() >> (2 * INDEX_ORDER)
    leaves: dict[Pixel, dict[Path, int | None]] = {}
    for pixel in np.unique(pixels).tolist():
        first, last = np.searchsorted(pixels, [pixel, pixel + 1])
        path = folder / f"{pixel}.parquet"
        pq.write_table(table.slice(first, last - first), path, row_group_size=_ROW_GROUP)
        leaves[0, pixel] = {path: int(last - first)}
    return leaves

"""Read tables that others made, a batch of rows at a time: catalogs, lists of stars, detections.

All formats are read in pieces, so that memory is bounded by the batch, however large the table is or says that it is;
:mod:`skylake.sky.catalog_limits` has the bounds. No other file is opened than the one that is named.
"""

from __future__ import annotations

import csv
import glob
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skylake.errors import CatalogError
from skylake.sky.catalog_columns import require_columns
from skylake.sky.catalog_limits import (
    HEADER_BYTES,
    MAX_CELL,
    PAGE_BYTES,
    PIECE_BYTES,
    PIECE_ROWS,
    Piece,
    in_batches,
    is_gzip,
    open_unpacked,
    quiet,
    require_rows,
)
from skylake.sky.catalog_text import read_text, text_header, yaml_units
from skylake.sky.catalog_votable import attributes_of, masked_column, names_of, read_votable, votable_tables
from skylake.sky.hats import primary_of

if TYPE_CHECKING:
    import duckdb

_HEAD_BYTES = 65_536
_SUFFIXES = {
    ".fits": "FITS",
    ".fit": "FITS",
    ".fts": "FITS",
    ".fz": "FITS",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".vot": "VOTable",
    ".votable": "VOTable",
}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"BZh": "compressed with bzip2; run bunzip2",
    b"\xfd7zXZ": "compressed with xz; run unxz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; run unzstd",
    b"\x1f\x9d": "compressed with compress; run uncompress",
    b"\x89HDF": "an HDF5 file; save the table as Parquet, FITS or CSV",
    b"%PDF": "a PDF document; save the table as CSV",
    b"<!DOCTYPE html": "a web page; fetch the table itself",
    b"<!doctype html": "a web page; fetch the table itself",
    b"<html": "a web page; fetch the table itself",
}
#: What the libraries raise for files that are not what they seem. A CatalogError is none of these.
_DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, AttributeError),
    *(zlib.error, csv.Error, pa.ArrowException, expat.ExpatError),
)
#: Bytes of all headers of a FITS file: one for each of hundreds of chips.
_FITS_HEADER_BYTES = 64 * HEADER_BYTES
_TABLES = ("BINTABLE", "TABLE")


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Some rows of a file, as they are in it.

    Attributes
    ----------
    table : pyarrow.Table, (n,)
        The wanted columns; masked values are null. Columns of text files are text.
    units : mapping of str to str
        Column to unit, where the file gives one.
    source : str
        The file.
    first_row : int
        Rows of the file before these.
    """

    table: pa.Table
    units: Mapping[str, str]
    source: str
    first_row: int


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a file says of its columns.

    Attributes
    ----------
    names : tuple of str
        Of several tables, those of the one with most of the columns that were asked for.
    first_line : str
        The first line of a text file that is no comment; a row, if the file has no header.
    ucds : mapping of str to str
        Column to UCD, where the file gives one.
    """

    names: tuple[str, ...]
    first_line: str = ""
    ucds: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path, expected: Sequence[str]) -> FileHeader:
    """Return the columns of a file, of which some are expected.

    Raises
    ------
    CatalogError
        If the file is missing, empty, damaged or no table; the sentence names the file.
    """
    kind = _kind(path)
    with catalog_errors(path, kind):
        if kind in ("text", "ECSV"):
            return FileHeader(*text_header(path, expected))
        if kind == "Parquet":
            schema = pq.read_schema(path)
            return FileHeader(tuple(schema.names), ucds=parquet_attributes(schema, "ucd"))
        if kind == "FITS":
            with open_fits(path) as hdus:
                headers = [FileHeader(tuple(table.columns.names)) for table in _tables(hdus)]
        else:
            with open_unpacked(path) as stream:
                found = votable_tables(stream, str(path))
            headers = [
                FileHeader(tuple(names_of(fields)), ucds=attributes_of(fields, "ucd")) for fields in found
            ]
    return max(headers, key=lambda header: len(set(header.names) & set(expected)), default=FileHeader(()))


def read_batches(
    path: str | Path,
    wanted_columns: Sequence[str],
    batch_rows: int = 500_000,
    names: Sequence[str] = (),
    delimiter: str = ",",
) -> Iterator[RawBatch]:
    """Yield the wanted columns of a file, at most `batch_rows` rows at a time, fewer where rows are long.

    The format is recognised by the first bytes: Parquet, FITS, VOTable, ECSV, else text with a header line; any
    but Parquet may be gzipped. A folder means the files that :func:`files_of` finds in it.

    Parameters
    ----------
    path : path
    wanted_columns : sequence of str
    batch_rows : int
    names, delimiter
        All columns of a text file without a header, and what separates them.

    Raises
    ------
    CatalogError
        If the file is missing, empty, damaged, no table, or lacks a column; the sentence names the file.
    """
    path, first_row = Path(path), 0
    if path.is_dir():
        for part in files_of(path):
            yield from read_batches(part, wanted_columns, batch_rows, names, delimiter)
        return
    kind, wanted = _kind(path), tuple(wanted_columns)
    with catalog_errors(path, kind):
        is_plain = kind == "text"
        pieces = (
            read_text(path, wanted, tuple(names), delimiter) if is_plain else _READERS[kind](path, wanted)
        )
        for table, units in in_batches(pieces, batch_rows):
            yield RawBatch(_without_masked(table, wanted_columns), units, str(path), first_row)
            first_row += table.num_rows
            require_rows(path, first_row)


def _without_masked(table: pa.Table, wanted: Sequence[str]) -> pa.Table:
    """Return the wanted columns, null where the column ``<name>.mask`` that astropy may write says so."""
    columns = []
    for name in wanted:
        values = table.column(name)
        if f"{name}.mask" in table.column_names:
            mask = pc.utf8_lower(table.column(f"{name}.mask").cast(pa.string()))
            values = pc.if_else(pc.equal(mask, "true").fill_null(False), None, values)
        columns.append(values)
    return pa.table(columns, names=list(wanted))


@contextmanager
def catalog_errors(path: Path, kind: str) -> Iterator[None]:
    """Turn what the libraries raise for a damaged file into one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise CatalogError(f"{path}: there is no such file; correct the path") from error
    except PermissionError as error:
        raise CatalogError(f"{path}: the file may not be read; change its permissions") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CatalogError(
            f"{path}: damaged, truncated or no {kind} table ({reason}); fetch or export it again"
        ) from error


def is_text(path: Path) -> bool:
    """Return whether a file is plain text: CSV and the like, or lines.

    Raises
    ------
    CatalogError
        If the file is missing, empty, or of a kind that no table has.
    """
    return _kind(path) == "text"


def _kind(path: Path) -> str:
    with catalog_errors(path, "readable"):
        if path.exists() and not path.is_file():
            raise CatalogError(
                f"{path}: this is no file with a table; save the table as a file and name that"
            )
        with open_unpacked(path) as file:
            head = file.read(_HEAD_BYTES)
    if not head.strip():
        raise CatalogError(f"{path}: the file is empty; fetch or export it again")
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise CatalogError(f"{path}: the file is {what}")
    kind = _kind_of_content(head)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    expected = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if kind is None and (expected or b"\0" in head):
        raise CatalogError(f"{path}: the file is no {expected or 'table'}; fetch or export it again")
    return kind or "text"


def _kind_of_content(head: bytes) -> str | None:
    """Return the format that a file begins with; None if it begins like none, as CSV does."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith(b"PAR1"):
        return "Parquet"
    if head.startswith(b"SIMPLE  ="):
        return "FITS"
    if start.startswith(b"# %ecsv"):
        return "ECSV"
    return "VOTable" if start.startswith(b"<") and b"votable" in start else None


def files_of(folder: Path) -> list[Path]:
    """Return the files that a folder stands for, in the order of their names.

    Of a HATS collection or catalog they are its leaves without margins, else all Parquet files below the folder, or,
    if it has none, all files.

    Raises
    ------
    CatalogError
        If there is none.
    """
    folder = primary_of(folder)
    # Beside its leaves a HATS catalog keeps a sample of itself.
    is_hats = (folder / "hats.properties").is_file() or (folder / "properties").is_file()
    every = [
        path
        for path in sorted((folder / "dataset" if is_hats else folder).rglob("*"))
        if path.is_file() and _is_data(path.relative_to(folder).parts, is_hats)
    ]
    parts = [path for path in every if path.suffix == ".parquet"] or every
    if not parts:
        raise CatalogError(f"{folder}: the folder holds no files; name the files to import")
    return parts


def _is_data(parts: tuple[str, ...], is_hats: bool) -> bool:
    hidden = any(part.startswith((".", "_")) for part in parts)
    return not hidden and (not is_hats or any(part.startswith("Npix=") for part in parts))


def _read_parquet(path: Path, wanted: tuple[str, ...]) -> Iterator[Piece]:
    """Yield rows as DuckDB reads them, which refuses pages that do not fit into the memory that it is given."""
    # Commands that read no such file import this one too.
    import duckdb

    schema = pq.read_schema(path)
    require_columns(schema.names, wanted, str(path))
    names = [*wanted, *(f"{name}.mask" for name in wanted if f"{name}.mask" in schema.names)]
    for name in wanted:
        if pa.types.is_nested(schema.field(name).type):
            raise CatalogError(
                f"{path}: the column {name!r} holds arrays; give a column with one value a row"
            )
    units = parquet_attributes(schema, "unit")
    options: dict[str, Any] = {"memory_limit": f"{PAGE_BYTES >> 20}MiB", "max_temp_directory_size": "0KiB"}
    try:
        with duckdb.connect(config=options) as connection:
            connection.execute("SET threads = 1; SET enable_progress_bar = false")
            file = glob.escape(str(path))
            rows = connection.read_parquet(file, hive_partitioning=False, binary_as_string=True)
            cells = [_bounded_cell(rows, schema.names.index(name)) for name in names]
            for batch in rows.project(", ".join(cells)).to_arrow_reader(PIECE_ROWS):
                yield pa.Table.from_batches([batch]).rename_columns(names), units
    except duckdb.OutOfMemoryException as error:
        raise CatalogError(
            f"{path}: its pages have more than {PAGE_BYTES >> 20} MB; write it again with smaller row groups"
        ) from error
    except duckdb.Error as error:
        raise ValueError(str(error)) from error


def _bounded_cell(rows: duckdb.DuckDBPyRelation, number: int) -> str:
    """Return a column in SQL, by its number since g and G are one name there; texts that are too long are refused."""
    quoted = '"' + rows.columns[number].replace('"', '""') + '"'
    if str(rows.types[number]) != "VARCHAR":
        return quoted
    return f"CASE WHEN strlen({quoted}) > {MAX_CELL} THEN error('a cell is longer than {MAX_CELL}') ELSE {quoted} END"


def parquet_attributes(schema: pa.Schema, key: str) -> dict[str, str]:
    """Return the units or UCDs that skylake, astropy or the IVOA note *Parquet in the VO* put into the metadata."""
    found: dict[str, str] = {}
    metadata = schema.metadata or {}
    if key == "unit" and b"table_meta_yaml" in metadata:
        found |= yaml_units(metadata[b"table_meta_yaml"].decode().splitlines())
    if b"IVOA.VOTable-Parquet.content" in metadata:
        header = io.BytesIO(metadata[b"IVOA.VOTable-Parquet.content"])
        for fields in votable_tables(header, "its VOTable header"):
            found |= attributes_of(fields, key)
    for item in schema:
        if key.encode() in (item.metadata or {}):
            found[item.name] = item.metadata[key.encode()].decode()
    return found


@contextmanager
def open_fits(path: Path) -> Iterator[Any]:
    """Open a FITS file with bounded headers, its data mapped into memory; gzip is unpacked into a temporary file.

    Raises
    ------
    CatalogError, ValueError, OSError
        If its headers are too long, or it is damaged.
    """
    from astropy.io import fits

    with ExitStack() as stack:
        file = stack.enter_context(_Headers(path))
        if is_gzip(path):
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stack.enter_context(open_unpacked(path)), unpacked)
            unpacked.seek(0)
            file = _Headers(unpacked.fileno(), closefd=False)
        try:
            with quiet():
                hdus = stack.enter_context(fits.open(file, memmap=True))
            yield hdus
        except fits.VerifyError as error:
            raise ValueError(str(error)) from error


def _tables(hdus: Any) -> list[Any]:
    with quiet():
        return [hdu for hdu in hdus if hdu.header.get("XTENSION") in _TABLES]


class _Headers(io.FileIO):
    """A FITS file of which headers are read, and data mapped into memory."""

    n_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size) or b""
        self.n_read += len(block)
        if self.n_read > _FITS_HEADER_BYTES:
            raise ValueError(f"its headers have more than {_FITS_HEADER_BYTES >> 20} MB")
        return block


def _read_fits(path: Path, wanted: tuple[str, ...]) -> Iterator[Piece]:
    with open_fits(path) as hdus:
        with quiet():
            table = _fits_table(path, _tables(hdus), wanted)
            data = table.data
        for name in wanted:
            cell = data.dtype[name]
            if cell.shape or cell.itemsize > MAX_CELL:
                raise CatalogError(
                    f"{path}: the column {name!r} holds arrays or long texts; give a column with one value a row"
                )
        units = {name: str(table.columns[name].unit or "") for name in wanted}
        n_rows = max(1, min(PIECE_ROWS, PIECE_BYTES // max(1, data.dtype.itemsize)))
        for start in range(0, len(data), n_rows):
            with quiet():
                rows = data[start : start + n_rows]
                columns = [_fits_column(path, rows, table.columns[name]) for name in wanted]
            yield pa.table(columns, names=list(wanted)), units


def _fits_table(path: Path, tables: list[Any], wanted: tuple[str, ...]) -> Any:
    """Return the first table that has all the wanted columns."""
    for table in tables:
        if table.header.get("ZTABLE", False):
            raise CatalogError(f"{path}: the table is compressed with fpack; run funpack")
        if set(wanted) <= set(table.columns.names):
            return table
    if not tables:
        raise CatalogError(f"{path}: the FITS file holds no table; fetch or export it again")
    # An error, for the table that looks most like the one that was meant.
    likely = max(tables, key=lambda table: len(set(wanted) & set(table.columns.names)))
    require_columns(likely.columns.names, wanted, str(path))
    return likely


def _fits_column(path: Path, rows: Any, column: Any) -> pa.Array:
    stored = rows.view(np.ndarray)[column.name]
    if stored.dtype.kind == "S" and column.format.format == "A":
        return pa.array(stored).cast(pa.string())
    values = np.asarray(rows.field(column.name))
    mask = np.zeros(values.shape, bool)
    if stored.dtype.kind == "S":
        mask = np.isin(np.char.strip(stored), [b"", str(column.null or "").strip().encode()])
    elif column.null is not None and stored.dtype.kind in "iu":
        mask = stored == column.null
    return masked_column(str(path), column.name, np.ma.MaskedArray(values, mask))


_READERS = {
    "ECSV": read_text,
    "FITS": _read_fits,
    "VOTable": read_votable,
    "Parquet": _read_parquet,
}

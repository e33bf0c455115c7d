"""Read tables of stars from files, a batch of rows at a time.

CSV and its relatives, ECSV, FITS tables and Parquet are read in pieces, so memory is bounded by the batch:
text by blocks of 8 MiB, Parquet by its row groups. VOTable goes through astropy, which loads the file; so
does gzipped FITS.
"""

from __future__ import annotations

import csv
import gzip
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skylake.errors import CatalogError
from skylake.sky.catalog_columns import require_columns
from skylake.sky.catalog_text import Piece, read_text, text_header, yaml_units
from skylake.sky.hats import primary_of

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
_DAMAGE = (OSError, EOFError, ValueError, TypeError, LookupError, zlib.error, csv.Error, pa.ArrowException)
_GZIP = b"\x1f\x8b"
#: Tables that are loaded whole may unpack to so many bytes, or to so many times the bytes of their file.
_SMALL_BYTES, _MAX_PACKING = 1 << 26, 200
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
    """

    names: tuple[str, ...]
    first_line: str = ""


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
            return FileHeader(tuple(pq.read_schema(path).names))
        tables = _fits_names(path) if kind == "FITS" else _votable_names(path)
        return FileHeader(max(tables, key=lambda names: len(set(names) & set(expected)), default=()))


def _fits_names(path: Path) -> list[tuple[str, ...]]:
    from astropy.io import fits

    with quiet(), fits.open(path, memmap=True) as hdus:
        return [tuple(hdu.columns.names) for hdu in hdus if hdu.header.get("XTENSION") in _TABLES]


def _votable_names(path: Path) -> list[tuple[str, ...]]:
    from astropy.io import votable

    with quiet():
        tables = votable.parse(path, verify="ignore", table_number=None).iter_tables()
        return [tuple(item.name for item in table.fields) for table in tables]


def read_batches(
    path: str | Path,
    wanted_columns: Sequence[str],
    batch_rows: int = 500_000,
    names: Sequence[str] = (),
    delimiter: str = ",",
) -> Iterator[RawBatch]:
    """Yield the wanted columns of a file, at most `batch_rows` rows at a time.

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
        if kind == "text":
            pieces = read_text(path, wanted, batch_rows, tuple(names), delimiter)
        else:
            pieces = _READERS[kind](path, wanted, batch_rows)
        for table, units in pieces:
            yield RawBatch(_without_masked(table, wanted_columns), units, str(path), first_row)
            first_row += table.num_rows


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


def _kind(path: Path) -> str:
    with catalog_errors(path, "readable"):
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if _is_gzip(path):
            with gzip.open(path) as unpacked:
                head = unpacked.read(_HEAD_BYTES)
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


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP


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


def _read_parquet(path: Path, wanted: tuple[str, ...], batch_rows: int) -> Iterator[Piece]:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        require_columns(schema.names, wanted, str(path))
        masks = [f"{name}.mask" for name in wanted if f"{name}.mask" in schema.names]
        units = parquet_units(schema)
        for batch in file.iter_batches(batch_rows, columns=[*wanted, *masks]):
            yield pa.Table.from_batches([batch]), units


def parquet_units(schema: pa.Schema) -> dict[str, str]:
    """Return the units that skylake, astropy or the IVOA note *Parquet in the VO* put into the metadata."""
    units: dict[str, str] = {}
    metadata = schema.metadata or {}
    if b"table_meta_yaml" in metadata:
        units |= yaml_units(metadata[b"table_meta_yaml"].decode().splitlines())
    if b"IVOA.VOTable-Parquet.content" in metadata:
        root = ElementTree.fromstring(metadata[b"IVOA.VOTable-Parquet.content"])
        units |= {
            item.get("name", ""): item.get("unit", "") for item in root.iter() if item.tag.endswith("FIELD")
        }
    for item in schema:
        if b"unit" in (item.metadata or {}):
            units[item.name] = item.metadata[b"unit"].decode()
    return units


def _read_fits(path: Path, wanted: tuple[str, ...], batch_rows: int) -> Iterator[Piece]:
    from astropy.io import fits

    try:
        yield from _fits_pieces(path, wanted, batch_rows)
    except fits.VerifyError as error:
        raise ValueError(str(error)) from error


def _fits_pieces(path: Path, wanted: tuple[str, ...], batch_rows: int) -> Iterator[Piece]:
    from astropy.io import fits

    with quiet():
        hdus = fits.open(path, memmap=True)
    with hdus:
        with quiet():
            table = _fits_table(path, [hdu for hdu in hdus if hdu.header.get("XTENSION") in _TABLES], wanted)
            if _is_gzip(path):
                _refuse_inflated(path, table.size)
            data = table.data
        units = {name: str(table.columns[name].unit or "") for name in wanted}
        for start in range(0, len(data), batch_rows):
            with quiet():
                rows = data[start : start + batch_rows]
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
    if stored.dtype.kind == "S" and stored.ndim == 1 and column.format.format == "A":
        return pa.array(stored).cast(pa.string())
    values = np.asarray(rows.field(column.name))
    mask = np.zeros(values.shape, bool)
    if stored.dtype.kind == "S":
        mask = np.isin(np.char.strip(stored), [b"", str(column.null or "").strip().encode()])
    elif column.null is not None and stored.dtype.kind in "iu" and stored.ndim == 1:
        mask = stored == column.null
    return _array(path, column.name, np.ma.MaskedArray(values, mask))


def _array(path: Path, name: str, values: np.ma.MaskedArray[Any, Any]) -> pa.Array:
    """Return a column of numbers or texts, null where masked."""
    if values.ndim != 1:
        raise CatalogError(f"{path}: the column {name!r} holds arrays; give a column with one value a row")
    mask = np.ma.getmaskarray(values)
    data = np.ma.getdata(values)
    return pa.array(np.ascontiguousarray(data, data.dtype.newbyteorder("=")), mask=mask)


def _refuse_inflated(path: Path, n_bytes: int) -> None:
    """Raise for a table that would fill the memory once it is unpacked."""
    n_packed = path.stat().st_size
    if n_bytes > max(_SMALL_BYTES, _MAX_PACKING * n_packed):
        raise CatalogError(
            f"{path}: {n_packed} bytes would unpack to {n_bytes} or more, which no table of stars does; fetch or "
            "export it again"
        )


def _read_votable(path: Path, wanted: tuple[str, ...], batch_rows: int) -> Iterator[Piece]:
    from astropy.io import votable

    if _is_gzip(path):
        length = 0
        with gzip.open(path) as unpacked:
            while piece := unpacked.read(_HEAD_BYTES):
                length += len(piece)
                _refuse_inflated(path, length)
    with quiet():
        tables = list(votable.parse(path, verify="ignore").iter_tables())
    if not tables:
        raise CatalogError(f"{path}: the VOTable holds no table; fetch or export it again")
    table = next(
        (table for table in tables if set(wanted) <= {item.name for item in table.fields}), tables[0]
    )
    require_columns([item.name for item in table.fields], wanted, str(path))
    fields = {item.name: item for item in table.fields}
    units = {name: str(fields[name].unit or "") for name in wanted}
    for start in range(0, len(table.array), batch_rows):
        rows = table.array[start : start + batch_rows]
        columns = [_array(path, name, rows[fields[name].ID]) for name in wanted]
        yield pa.table(columns, names=list(wanted)), units


@contextmanager
def quiet() -> Iterator[None]:
    """Keep astropy's warnings about the small sins of files from the user; large ones raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


_READERS = {
    "ECSV": read_text,
    "FITS": _read_fits,
    "VOTable": _read_votable,
    "Parquet": _read_parquet,
}

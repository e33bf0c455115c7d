"""Read tables of VOTable documents, and what the service that made them says of them.

A parser of events follows the document. It hands on some rows at a time, which astropy reads as a document of their
own, so a file may be larger than memory. Binary streams, which cannot be cut, are bounded; other files are not opened.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

import numpy as np
import pyarrow as pa

from skylake import logs
from skylake.errors import CatalogError
from skylake.sky.catalog_columns import require_columns
from skylake.sky.catalog_limits import (
    MAX_CELL,
    MAX_ROW,
    PIECE_BYTES,
    PIECE_ROWS,
    Piece,
    open_unpacked,
    quiet,
)

_log = logs.get(__name__)

_BLOCK_BYTES = 1 << 20
#: Bytes of a binary stream: astropy needs ten times as much where cells are short texts.
_STREAM_BYTES = 128 << 20
#: Columns of a document.
_MOST_FIELDS = 10_000
#: Attributes of a FIELD that say how its cells are read.
_FORM = ("ID", "name", "datatype", "arraysize", "width", "precision", "unit")
#: Characters of what a service says of an error.
_MOST_SAID = 500

#: The attributes of a FIELD, with the `null` of its VALUES.
Field = dict[str, str]


def votable_tables(stream: BinaryIO, source: str) -> list[list[Field]]:
    """Return the columns of each table of a document; the source is for messages.

    Raises
    ------
    CatalogError
        If it takes in other files, or its elements are too large.
    expat.ExpatError
        If it is damaged.
    """
    document = _Document(source, None)
    for _ in document.pieces(stream):
        pass
    return document.tables


def names_of(fields: Iterable[Field]) -> list[str]:
    """Return the names of columns."""
    return [field.get("name") or field.get("ID", "") for field in fields]


def attributes_of(fields: list[Field], key: str) -> dict[str, str]:
    """Return an attribute of the columns that have it."""
    return {name: field[key] for name, field in zip(names_of(fields), fields, strict=True) if key in field}


def read_votable(path: Path, wanted: tuple[str, ...]) -> Iterator[Piece]:
    """Yield the wanted columns of the first table that has all of them, some rows at a time.

    Raises
    ------
    CatalogError
        If there is none, the service reports an error, or the document is one that `votable_tables` refuses.
    expat.ExpatError, ValueError
        If it is damaged.
    """
    document, n_rows = _Document(str(path), wanted), 0
    with open_unpacked(path) as stream:
        for piece in document.pieces(stream):
            columns, units = _columns(piece, document.indices, wanted, str(path))
            n_rows += columns.num_rows
            yield columns, units
    if document.status == "ERROR":
        raise CatalogError(f"{path}: the service reports an error ({document.said.strip()}); ask it again")
    if not document.tables:
        raise CatalogError(f"{path}: the VOTable holds no table; fetch or export it again")
    if document.indices is None:
        require_columns(names_of(document.tables[0]), wanted, str(path))
    if document.status == "OVERFLOW":
        _log.warning(
            "%s: the service cut the table off after %d rows (QUERY_STATUS OVERFLOW), so rows are missing; ask for "
            "less sky at a time",
            path,
            n_rows,
        )


def _columns(piece: bytes, indices: list[int] | None, wanted: tuple[str, ...], source: str) -> Piece:
    from astropy.io import votable

    with quiet():
        table = votable.parse(io.BytesIO(piece), columns=indices, verify="ignore").get_first_table()
    fields = {item.name: item for item in table.fields}
    units = {name: str(fields[name].unit or "") for name in wanted}
    columns = [masked_column(source, name, table.array[fields[name].ID]) for name in wanted]
    return pa.table(columns, names=list(wanted)), units


def masked_column(source: str, name: str, values: np.ma.MaskedArray[Any, Any]) -> pa.Array:
    """Return a column of numbers or texts, null where masked."""
    if values.ndim != 1:
        raise CatalogError(f"{source}: the column {name!r} holds arrays; give a column with one value a row")
    data = np.ma.getdata(values)
    return pa.array(np.ascontiguousarray(data, data.dtype.newbyteorder("=")), mask=np.ma.getmaskarray(values))


class _Document:
    """A document as far as it is read.

    Parameters
    ----------
    source : str
        The file, for messages.
    wanted : tuple of str or None
        Columns of the table whose rows are asked for; None for no rows.
    """

    def __init__(self, source: str, wanted: tuple[str, ...] | None) -> None:
        self.tables: list[list[Field]] = []
        #: Numbers of the wanted columns in the table that has them.
        self.indices: list[int] | None = None
        self.status = self.said = ""
        self._source, self._wanted, self._encoding = source, wanted, "utf-8"
        self._parser = expat.ParserCreate()
        self._parser.XmlDeclHandler = self._declaration
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler, self._parser.EndElementHandler = self._start, self._end
        # What the rows of a piece stand between, where the next ones start, and where whole pieces start and end.
        self._head = self._tail = b""
        self._first: int | None = None
        self._whole: list[tuple[int, int]] = []
        self._n_rows = self._n_fields = 0
        self._data = ""

    def pieces(self, stream: BinaryIO) -> Iterator[bytes]:
        """Yield documents of some rows of the table that has the wanted columns."""
        held, origin, n_read, is_last = b"", 0, 0, False
        while not is_last:
            block = stream.read(_BLOCK_BYTES)
            held, n_read, is_last = held + block, n_read + len(block), not block
            self._parser.Parse(block, is_last)
            for start, end in self._whole:
                yield self._head + held[start - origin : end - origin] + self._tail
            self._whole = []
            # The parser keeps an element whole that has not ended.
            unread = self._parser.CurrentByteIndex
            kept = min(unread, n_read if self._first is None else self._first)
            held, origin = held[kept - origin :], kept
            is_stream = self._data.startswith("BINARY")
            if (
                len(held) > (_STREAM_BYTES if is_stream else PIECE_BYTES + MAX_ROW)
                or n_read - unread > 2 * MAX_ROW
            ):
                what = (
                    f"its binary stream has more than {_STREAM_BYTES >> 20} MB"
                    if is_stream
                    else (f"an element of it has more than {MAX_ROW >> 20} MB")
                )
                raise CatalogError(f"{self._source}: {what}; save the table as Parquet, FITS or CSV")

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self._encoding = encoding or self._encoding

    def _doctype(self, *_: Any) -> None:
        raise CatalogError(
            f"{self._source}: the document has a DOCTYPE, by which XML takes in other files; delete that line"
        )

    def _start(self, tag: str, attributes: Field) -> None:
        tag = tag.rpartition(":")[2]
        if tag == "TR" and self._first is not None:
            self._next_row()
        elif tag in ("TR", "STREAM") and self._data:
            self._first = self._parser.CurrentByteIndex
        elif tag == "TABLE":
            self.tables.append([])
        elif tag == "FIELD" and self.tables:
            self.tables[-1].append(attributes)
        elif tag == "VALUES" and self.tables and self.tables[-1] and "null" in attributes:
            self.tables[-1][-1]["null"] = attributes["null"]
        elif tag in ("TABLEDATA", "BINARY", "BINARY2") and self.tables:
            self._choose(tag)
        elif tag == "INFO" and attributes.get("name") == "QUERY_STATUS":
            self.status, self.said = attributes.get("value", "").upper(), ""
            # Only here, as a call for the text of each cell takes time.
            self._parser.CharacterDataHandler = self._text
        if tag in ("TABLE", "FIELD"):
            self._n_fields += 1
        if "href" in attributes and tag == "STREAM":
            raise CatalogError(
                f"{self._source}: its rows are in another file ({attributes['href'][:100]}), which is not fetched; "
                "fetch that file and name it"
            )
        if self._n_fields > _MOST_FIELDS:
            raise CatalogError(f"{self._source}: the document has more than {_MOST_FIELDS} columns")

    def _next_row(self) -> None:
        assert self._first is not None
        here = self._parser.CurrentByteIndex
        self._n_rows += 1
        if self._n_rows == PIECE_ROWS // 2 or here - self._first > PIECE_BYTES:
            self._whole.append((self._first, here))
            self._first, self._n_rows = here, 0

    def _choose(self, tag: str) -> None:
        """Take the rows that begin if their table has the wanted columns."""
        fields = self.tables[-1]
        names = names_of(fields)
        if self._wanted is None or self.indices is not None or not set(self._wanted) <= set(names):
            return
        require_columns(names, self._wanted, self._source)
        self.indices, self._data = sorted(map(names.index, self._wanted)), tag
        for name, field in zip(names, fields, strict=True):
            field["name"] = name
            size = field.get("arraysize", "1")
            n_values = math.prod(int(part) for part in size.rstrip("*").split("x") if part.isdigit())
            if not n_values or (n_values > MAX_CELL and name in self._wanted):
                raise CatalogError(
                    f"{self._source}: the column {name!r} holds arrays of {size} values; give one with one value a row"
                )
        columns = "".join(
            "<FIELD "
            + " ".join(f'{key}="{escape(field[key])}"' for key in _FORM if key in field)
            + ">"
            + (f'<VALUES null="{escape(field["null"])}"/>' if "null" in field else "")
            + "</FIELD>"
            for field in fields
        )
        start = f'<VOTABLE version="1.4"><RESOURCE><TABLE>{columns}<DATA><{tag}>'
        self._head = f'<?xml version="1.0" encoding="{self._encoding}"?>{start}'.encode(self._encoding)
        self._tail = f"</{tag}></DATA></TABLE></RESOURCE></VOTABLE>".encode(self._encoding)

    def _end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        if tag == "INFO":
            self._parser.CharacterDataHandler = None
        if self._data and tag == self._data:
            if self._first is not None:
                self._whole.append((self._first, self._parser.CurrentByteIndex))
            self._first, self._data = None, ""

    def _text(self, text: str) -> None:
        if len(self.said) < _MOST_SAID:
            self.said += text

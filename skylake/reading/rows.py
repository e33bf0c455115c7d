"""Rows that were read, as Arrow, pandas, polars or astropy, with their units."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skylake.lake.access.open_table import import_polars
from skylake.schema import meanings

if TYPE_CHECKING:
    import astropy.table
    import numpy as np
    import pandas as pd
    import polars as pl

#: Rows and columns that a notebook shows.
_SHOWN_ROWS, _SHOWN_COLUMNS = 10, 12


class Rows:
    """The result of a query: rows in memory.

    Arrow, polars and others also take the object itself, as in ``polars.DataFrame(rows)``.

    Parameters
    ----------
    table : pyarrow.Table
        Its fields may have their units as metadata; those without any get the unit that a column of their name has in
        the tables of a lake.

    Examples
    --------
    >>> rows = lake.sql("SELECT mjd_mid, fwhm_px FROM frames")
    >>> rows.units
    {'mjd_mid': 'd', 'fwhm_px': 'pixel'}
    >>> rows.pandas()["fwhm_px"].median()
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = pa.Table.from_arrays(table.columns, schema=described(table.schema, meanings()))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(self._table.column_names)

    @property
    def units(self) -> dict[str, str]:
        """Unit of each column that has one, as a VOUnit."""
        return units_of(self._table.schema)

    def arrow(self) -> pa.Table:
        """Return the rows as an Arrow table; the metadata of its fields hold ``unit`` and ``description``."""
        return self._table

    def pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas frame; ``attrs["units"]`` has the unit of each column that has one.

        A null becomes NaN in a column of numbers and None in one of texts.
        """
        return to_pandas(self._table)

    def polars(self) -> pl.DataFrame:
        """Return the rows as a polars frame. polars keeps no units; :attr:`units` has them.

        Raises
        ------
        UsageError
            If polars is not installed.
        """
        return to_polars(self._table)

    def astropy(self) -> astropy.table.Table:
        """Return the rows as an astropy table; its columns have their unit, their description and, as ``meta``, UCD.

        A null is masked. Nested columns hold lists and dictionaries; times are texts, ISO 8601.
        """
        return to_astropy(self._table)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self.columns)}; rows: {len(self)}>"

    def _repr_html_(self) -> str:
        shown = self._table.slice(0, _SHOWN_ROWS).select(self.columns[:_SHOWN_COLUMNS])
        units = self.units
        header = [f"{name} [{units[name]}]" if name in units else name for name in shown.column_names]
        more = f"rows: {len(self)}, columns: {len(self.columns)}"
        return html_table([list(row.values()) for row in shown.to_pylist()], header, more)


def described(schema: pa.Schema, known: Mapping[str, Mapping[Any, Any]]) -> pa.Schema:
    """Return a schema in which fields without metadata have those of their name."""
    return pa.schema(
        [
            field.with_metadata(known[field.name]) if not field.metadata and known.get(field.name) else field
            for field in schema
        ],
        schema.metadata,
    )


def units_of(schema: pa.Schema) -> dict[str, str]:
    """Return the units that the metadata of fields hold, by name."""
    return {
        field.name: field.metadata[b"unit"].decode() for field in schema if b"unit" in (field.metadata or {})
    }


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as a pandas frame, with the units in its ``attrs``."""
    frame: pd.DataFrame = table.to_pandas()
    frame.attrs["units"] = units_of(table.schema)
    return frame


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as a polars frame.

    Raises
    ------
    UsageError
        If polars is not installed.
    """
    frame: pl.DataFrame = import_polars().from_arrow(table)
    return frame


def to_astropy(table: pa.Table) -> astropy.table.Table:
    """Return an Arrow table as an astropy table; columns with nulls are masked."""
    import numpy as np
    from astropy.table import Column, MaskedColumn, Table

    result = Table()
    for field in table.schema:
        column, metadata = table[field.name], field.metadata or {}
        unit, text, ucd = (metadata.get(key, b"").decode() for key in (b"unit", b"description", b"ucd"))
        known = {"unit": unit or None, "description": text or None, "meta": {"ucd": ucd} if ucd else None}
        values, mask = _plain_values(column), np.asarray(column.is_null())
        result[field.name] = (
            MaskedColumn(values, mask=mask, **known) if mask.any() else Column(values, **known)
        )
    return result


def _plain_values(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """Return the values of a column in numpy's types, with anything in the place of nulls."""
    import numpy as np

    kind = column.type
    if pa.types.is_nested(kind):
        values = np.empty(len(column), object)
        values[:] = column.to_pylist()
        return values
    if pa.types.is_decimal(kind):
        # Sums of whole numbers are such in DuckDB.
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            column = column.cast(pa.float64())
    elif pa.types.is_temporal(kind):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.asarray(column.fill_null("").to_pylist(), str)
    if pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy())
    return np.asarray(column.fill_null(False if pa.types.is_boolean(kind) else 0).to_numpy())


def html_table(rows: Iterable[Sequence[Any]], header: Sequence[str], caption: str = "") -> str:
    """Return rows as an HTML table that needs nothing from outside; whatever is in them is text."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    lines = ["".join(f"<td>{html.escape(_shown(value))}</td>" for value in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    element = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{element}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)

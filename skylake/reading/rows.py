"""Rows that were read, as Arrow, pandas or polars, with their units."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skylake.lake.access.open_table import import_polars
from skylake.schema import meanings

if TYPE_CHECKING:
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
        self._table = with_units(table)

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


def with_units(table: pa.Table) -> pa.Table:
    """Return a table in which fields without metadata get the unit and description of that name in the lake."""
    known = meanings()
    fields = []
    for field in table.schema:
        unit, text = ("", "") if field.metadata else known.get(field.name, ("", ""))
        metadata = {key: value for key, value in (("unit", unit), ("description", text)) if value}
        fields.append(field.with_metadata(metadata) if metadata else field)
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, table.schema.metadata))


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

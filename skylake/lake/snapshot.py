"""Read a lake as it was at one instant."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as pds

from skylake.durable import hold
from skylake.errors import LakeError
from skylake.lake.layout import PARTS_FOLDER, Layout
from skylake.lake.parts import Part
from skylake.lake.schemas import open_catalog, require_known
from skylake.schema import arrow_schema, load
from skylake.sky.cone import read_cone

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


class Snapshot:
    """One version of every table of a lake.

    A snapshot is resolved once, when it is made; what is committed later is not seen. All ways of
    reading give the same rows.

    Parameters
    ----------
    layout : Layout
    number : int
    """

    def __init__(self, layout: Layout, number: int) -> None:
        self.layout = layout
        self.number = number
        self._parts: dict[str, dict[str, Part]] = {}
        try:
            # As long as this object lives, a vacuum leaves the snapshot alone.
            weakref.finalize(self, os.close, hold(layout.snapshot(number)))
        except FileNotFoundError as error:
            raise LakeError(f"{layout.root}: there is no snapshot {number}") from error
        require_known(layout.root, layout.snapshot(number))

    def __reduce__(self) -> tuple[type[Snapshot], tuple[Layout, int]]:
        """Open the same snapshot in another process."""
        return (Snapshot, (self.layout, self.number))

    def folder(self, table: str) -> Path:
        """Return the folder of a table, free of links: for lsdb, DuckDB and others, which read lazily."""
        load(table)
        return (self.layout.snapshot(self.number) / table).resolve()

    def parts(self, table: str) -> dict[str, Part]:
        """Return the parts of a table by name."""
        if table not in self._parts:
            paths = sorted((self.folder(table) / PARTS_FOLDER).glob("*.json"))
            found = (Part.from_json(path.read_text(encoding="utf-8")) for path in paths)
            self._parts[table] = {part.name: part for part in found}
        return self._parts[table]

    def part(self, table: str, name: str) -> Part | None:
        """Return one part of a table, without reading about the others; None if there is none of that name."""
        try:
            text = (self.folder(table) / PARTS_FOLDER / f"{name}.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return Part.from_json(text)

    def read_part(self, table: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of one part; none if there is no such part."""
        part, root = self.part(table, name), self.folder(table)
        return read_files(table, [root / file.path for file in part.files] if part else [], columns)

    def files(self, table: str, where: Callable[[Part], bool] | None = None) -> list[Path]:
        """Return the files of a table, or of those parts for which `where` holds."""
        root = self.folder(table)
        return [
            root / file.path
            for part in self.parts(table).values()
            if where is None or where(part)
            for file in part.files
        ]

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        where: Callable[[Part], bool] | None = None,
        filter: Any = None,
    ) -> pa.Table:
        """Return rows as Arrow.

        Parameters
        ----------
        table : str
        columns : sequence of str or None
            Columns to read.
        where : callable or None
            Chooses parts.
        filter : pyarrow.compute.Expression or None
            Chooses rows.
        """
        return read_files(table, self.files(table, where), columns, filter)

    def n_rows(self, table: str) -> int:
        """Return the number of rows of a table, from its parts."""
        return sum(part.n_rows for part in self.parts(table).values())

    def cone(
        self,
        table: str,
        ra_deg: float,
        dec_deg: float,
        radius_deg: float,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Return the rows of a HATS table within a cone."""
        schema = load(table)
        if schema.layout.kind != "hats":
            raise LakeError(
                f"the rows of {table} have no index of positions; use a query by ra_deg and dec_deg"
            )
        return read_cone(self.folder(table), ra_deg, dec_deg, radius_deg, columns, arrow_schema(schema))

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with a view for each table and reference catalog."""
        from skylake.lake.sql import connect

        return connect(self)

    def pandas(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return rows as a pandas frame."""
        frame: pd.DataFrame = self.read(table, columns).to_pandas()
        return frame

    def lsdb(self, table: str, **options: Any) -> Any:
        """Return a HATS table as a lazy lsdb catalog; `options` go to :func:`lsdb.open_catalog`."""
        return open_catalog(self.folder(table), table, **options)

    def catalogs(self) -> list[str]:
        """Return the names of the reference catalogs."""
        found = self.layout.catalogs.glob("*/collection.properties")
        return sorted(path.parent.name for path in found)


def read_files(
    table: str, files: Iterable[Path], columns: Sequence[str] | None = None, filter: Any = None
) -> pa.Table:
    """Return the rows of files of a table; without files, a table without rows."""
    schema = arrow_schema(load(table))
    paths = [str(path) for path in files]
    if not paths:
        empty = schema.empty_table()
        return empty if columns is None else empty.select(list(columns))
    dataset = pds.dataset(paths, schema=schema, format="parquet")
    return dataset.to_table(columns=None if columns is None else list(columns), filter=filter)

"""A table opened for reading with Arrow, pandas, polars, dask, DuckDB or lsdb."""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skylake.errors import UsageError, no_column
from skylake.lake.access.gathered_views import gather, needed, needed_inner
from skylake.lake.storage.slices import read_files
from skylake.places import arrow_dataset
from skylake.schema import TableSchema, arrow_schema
from skylake.schema.arrow import filter_columns

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as pds

    from skylake.lake.commits.snapshot import Snapshot
    from skylake.lake.commits.table_version import Version

Columns = Sequence[str] | None


class OpenTable:
    """A table as it was at one snapshot. Every way of reading gives the same rows.

    What is read lazily (:meth:`dataset`, :meth:`dask`, :meth:`duckdb`, :meth:`lsdb`, :meth:`lazy_polars`) stays
    readable for as long as it is kept, whatever is committed or vacuumed meanwhile.

    Parameters
    ----------
    snapshot : Snapshot
    name : str
    """

    def __init__(self, snapshot: Snapshot, name: str) -> None:
        self.schema: TableSchema = snapshot.schema(name)
        self.snapshot, self.name = snapshot, name

    def __len__(self) -> int:
        if self.schema.in_blocks:
            keys = list(self.schema.primary_key)
            return int(read_files(self.name, self.files, keys).group_by(keys).aggregate([]).num_rows)
        return self.snapshot.n_rows(self.name)

    @property
    def form(self) -> pa.Schema:
        """Arrow schema of the rows that are read, with units and texts as metadata of its fields."""
        own = arrow_schema(self.schema)
        return pa.schema([own.field(name) for name in self.schema.merged_names], metadata=own.metadata)

    @property
    def _version(self) -> Version:
        return self.snapshot.version(self.name)

    @property
    def files(self) -> list[Path]:
        """Files of the table."""
        return self._version.whole_files()

    def partitions(self) -> list[list[Path]]:
        """Return the files of each pixel or, of a table without pixels, each file by itself.

        Without pixels, blocks of a key may be in any file: those of such a table are together.
        """
        if self.schema.layout.kind != "hats" and self.schema.in_blocks:
            return [self.files] if self.files else []
        groups: dict[Path, list[Path]] = {}
        for path in self.files:
            groups.setdefault(path.parent if self.schema.layout.kind == "hats" else path, []).append(path)
        return list(groups.values())

    def dataset(self) -> pds.Dataset:
        """Return the table as an Arrow dataset, which reads the columns and row groups that a query needs.

        A table in blocks is read and merged at once.

        Raises
        ------
        LakeError
            If a file is missing, has another size than it was written with, or is one too many.
        """
        import pyarrow.dataset as pds

        self._version.require_files()
        if self.schema.in_blocks:
            return pds.dataset(self.snapshot.merged(self.name))
        dataset = arrow_dataset(self.files, arrow_schema(self.schema))
        weakref.finalize(dataset, _let_go, self.snapshot)
        return dataset

    def arrow(
        self, columns: Columns = None, filter: Any = None, cone: tuple[float, float, float] | None = None
    ) -> pa.Table:
        """Return rows as an Arrow table.

        Parameters
        ----------
        columns : sequence of str or None
            Columns to read; None reads all.
        filter : pyarrow.compute.Expression or None
            Chooses rows, as in ``pyarrow.compute.field("night") == 20240501``.
        cone : (ra, dec, radius) or None
            Degrees; chooses rows of a table with positions. Only the row groups that it touches are read.

        Raises
        ------
        UsageError
            If there is no such column, or the filter is none of this table.
        LakeError
            If a cone is asked for of a table without positions.
        """
        self._require(columns)
        named = filtered_by(filter, self.form, self.name)
        if self.schema.in_blocks:
            return self._merged(columns, filter, named, cone)
        if cone is None:
            return read_files(self.name, self.files, columns, filter)
        return self.snapshot.cone(self.name, *cone, columns, filter)

    def _merged(
        self, columns: Columns, filter: Any, named: set[str], cone: tuple[float, float, float] | None
    ) -> pa.Table:
        """Return merged rows. A filter by the key alone chooses what is read, another one what is returned."""
        inner = None if columns is None else list(dict.fromkeys([*columns, *sorted(named)]))
        if cone is not None:
            rows = self.snapshot.cone(self.name, *cone, inner, filter)
        elif named <= set(self.schema.primary_key):
            return self.snapshot.merged(self.name, columns, None, filter)
        else:
            rows = self.snapshot.merged(self.name, inner, filter)
        return rows if columns is None else rows.select(list(columns))

    def pandas(self, columns: Columns = None, **options: Any) -> pd.DataFrame:
        """Return rows as a pandas frame; `options` are those of :meth:`arrow`."""
        frame: pd.DataFrame = self.arrow(columns, **options).to_pandas()
        return frame

    def polars(self, columns: Columns = None, **options: Any) -> pl.DataFrame:
        """Return rows as a polars frame, without a copy; `options` are those of :meth:`arrow`."""
        frame: pl.DataFrame = import_polars().from_arrow(self.arrow(columns, **options))
        return frame

    def lazy_polars(self) -> pl.LazyFrame:
        """Return the table as a lazy polars frame."""
        frame: pl.LazyFrame = import_polars().scan_pyarrow_dataset(self.dataset())
        return frame

    def duckdb(self) -> duckdb.DuckDBPyRelation:
        """Return the table as a DuckDB relation; its connection lives as long as the relation."""
        return self.snapshot.duckdb().table(self.name)

    def dask(self, columns: Columns = None) -> Any:
        """Return the table as a dask frame, with a partition for each pixel or, without pixels, each file."""
        import dask
        import dask.dataframe as dd

        self._require(columns)
        self._version.require_files()
        names = list(columns or self.schema.merged_names)
        meta = read_files(self.name, [], names).to_pandas()
        groups = self.partitions()
        if not groups:
            return dd.from_pandas(meta, npartitions=1)
        # Otherwise dask would turn object columns of pandas, such as nullable booleans and nested rows, into strings.
        with dask.config.set({"dataframe.convert-string": False}):
            return dd.from_map(
                _read_frame,
                groups,
                snapshot=self.snapshot,
                name=self.name,
                columns=names,
                meta=meta,
            )

    def lsdb(self, **options: Any) -> Any:
        """Return the table as a lazy lsdb catalog; `options` go to :func:`lsdb.open_catalog`."""
        return self.snapshot.lsdb(self.name, **options)

    def _require(self, columns: Columns) -> None:
        for name in columns or ():
            if name not in self.schema.merged_names:
                raise UsageError(no_column(self.name, name, self.schema.merged_names))


def filtered_by(filter: Any, schema: pa.Schema, name: str) -> set[str]:
    """Return the columns that a filter needs: those without which it cannot be applied.

    Parameters
    ----------
    filter : pyarrow.compute.Expression or None
    schema : pyarrow.Schema
        Of the rows that it chooses from.
    name : str
        Of the table or view, for the sentence of an error.

    Raises
    ------
    UsageError
        If it is no expression, names a column that there is not, or compares what cannot be compared.
    """
    import pyarrow.compute as pc

    if filter is None:
        return set()
    if not isinstance(filter, pc.Expression):
        raise UsageError(
            f"the filter of {name} is not an expression of pyarrow, such as "
            f"pyarrow.compute.field({schema.names[0]!r}) > 0"
        )
    try:
        return set(filter_columns(filter, schema))
    except pa.ArrowException as error:
        if unknown := re.search(r"No match for FieldRef\.Name\((.*?)\)", str(error)):
            raise UsageError(no_column(name, unknown[1], schema.names)) from error
        raise UsageError(f"{name}: the filter {filter} cannot be applied ({error})") from error


def _let_go(snapshot: Snapshot) -> None:
    """Release a snapshot that this pending function has kept."""


def _read_frame(
    paths: list[Path], snapshot: Snapshot, name: str, columns: list[str] | None = None
) -> pd.DataFrame:
    """Read one partition; dask narrows `columns` to those that a query needs.

    The snapshot is sent with the task, and the process that runs it holds the snapshot.
    """
    schema = snapshot.schema(name)
    if schema.in_blocks:
        inner = needed_inner(schema, columns)
        rows = gather([read_files(name, paths, needed(schema, columns), inner=inner)], schema, columns)
    else:
        rows = read_files(name, paths, columns)
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def import_polars() -> Any:
    """Return the module polars, which is an extra.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        import polars
    except ImportError as error:
        raise UsageError(
            'polars is not installed; run `pip install -e ".[polars]"` in the folder of the source of skylake'
        ) from error
    return polars

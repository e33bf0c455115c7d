"""Read a lake as it was in one snapshot."""

from __future__ import annotations

import os
import shlex
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skylake.core.batch import is_plain_name
from skylake.durable import hold
from skylake.errors import LakeError, UsageError
from skylake.inside import links_in, require_no_link
from skylake.lake.access.gathered_views import gather, gather_frame, needed, needed_inner
from skylake.lake.commits.new_tables import empty_version, is_addition
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import Layout
from skylake.lake.storage.damaged_files import damaged, reading
from skylake.lake.storage.parts import Part
from skylake.lake.storage.schema_versions import open_catalog, require_known
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema import TableSchema, arrow_schema, load, table_names
from skylake.schema.tables import register
from skylake.sky.cone import WrongCount, read_cone
from skylake.sky.hats import COLLECTION_FILE, pixel_of
from skylake.sky.pixels import PixelTree

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

#: Values, rows times columns, that a snapshot keeps in memory: some hundred megabytes.
_MOST_VALUES = 40_000_000


class Snapshot:
    """One version of every table of a lake.

    A snapshot is resolved once, when it is made; it does not see later commits. All ways of
    reading give the same rows.

    Parameters
    ----------
    layout : Layout
    number : int
    """

    def __init__(self, layout: Layout, number: int) -> None:
        self.layout = layout
        self.number = number
        self._versions: dict[str, Version] = {}
        self._whole: dict[tuple[str, ...], pa.Table] = {}
        try:
            # As long as this object lives, a vacuum leaves the snapshot alone.
            weakref.finalize(self, os.close, hold(layout.snapshot(number)))
        except FileNotFoundError as error:
            raise LakeError(f"{layout.root}: there is no snapshot {number}") from error
        self._of_users: dict[str, TableSchema] = require_known(layout.root, layout.snapshot(number))

    def __reduce__(self) -> tuple[type[Snapshot], tuple[Layout, int]]:
        """Open the same snapshot in another process."""
        return (Snapshot, (self.layout, self.number))

    def __dask_tokenize__(self) -> tuple[str, int]:
        """Return the key for dask, since the pickle may depend on what its file system has cached of the store."""
        return (str(self.layout.root), self.number)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables: skylake's own in the order in which they are made, then those of users."""
        return (*table_names(), *self._of_users)

    def schema(self, table: str) -> TableSchema:
        """Return the schema of a table; for a table of a user, the schema in this snapshot."""
        if table in self._of_users:
            register([self._of_users[table]])
        return load(table)

    def folder(self, table: str) -> Path:
        """Return the folder of a table, free of links: for lsdb, DuckDB and others, which read lazily.

        Raises
        ------
        LakeError
            If it is not there.
        """
        self.schema(table)
        if is_addition(self.layout, self.number, table):
            return empty_version(table)
        folder = (self.layout.snapshot(self.number) / table).resolve()
        if folder.parent != self.layout.versions(table) and folder.is_dir():
            raise LakeError(
                f"{self.layout.snapshot(self.number) / table}: the link leads to {folder}, which is no version of the "
                f"table; `skylake verify {shlex.quote(str(self.layout.root))}` gives the command that replaces it"
            )
        if not folder.is_dir():
            raise LakeError(
                f"{self.layout.root}: snapshot {self.number} has lost its table {table}; `skylake verify` shows the "
                "command that repairs it"
            )
        return folder

    def collection(self, table: str) -> Path | None:
        """Return the folder of the HATS collection of a table and its margin; None for one that has no margin.

        Tables of older lakes have none until the next commit to them.
        """
        folder = self.folder(table)
        collection = self.layout.root / "_margins" / table / folder.name
        is_there = folder.parent == self.layout.versions(table) and (collection / COLLECTION_FILE).is_file()
        return collection if is_there else None

    def version(self, table: str) -> Version:
        """Return the version of a table: its parts, bundles and files."""
        self.schema(table)
        if table not in self._versions:
            self._versions[table] = Version(self.folder(table))
        return self._versions[table]

    def tree(self, table: str, order: int) -> PixelTree:
        """Return the pixels into which a table is divided; where it has no rows yet, of the given order."""
        return PixelTree.completed(self.version(table).pixels, order)

    def parts(self, table: str) -> dict[str, Part]:
        """Return the parts of a table by name."""
        return self.version(table).parts

    def part(self, table: str, name: str) -> Part | None:
        """Return one part of a table without reading the descriptions of others; None if it does not exist."""
        return self.version(table).part(name)

    def read_part(self, table: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of one part; none if there is no such part."""
        version = self.version(table)
        part = version.part(name)
        return read_files(table, version.slices_of(part) if part else [], columns)

    def slices(self, table: str, where: Callable[[Part], bool] | None = None) -> list[Slice]:
        """Return where the rows of a table are, or those of the parts for which `where` holds."""
        version = self.version(table)
        if where is None:
            return [Slice(path) for path in version.whole_files()]
        return version.slices(part for part in version.parts.values() if where(part))

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
        return read_files(table, self.slices(table, where), columns, filter)

    def whole(self, table: str, columns: Sequence[str], most_values: int = _MOST_VALUES) -> pa.Table | None:
        """Return columns of all rows of a table, kept in memory as long as this object; None if they are too many.

        For tables that are small beside what they belong to, as ``zeropoints`` beside detections. All that is kept has
        no more than `most_values`, rows times columns.
        """
        wanted = (table, *columns)
        if wanted not in self._whole:
            values = sum(len(one) * rows.num_rows for one, rows in self._whole.items())
            if values + len(wanted) * self.n_rows(table) > most_values:
                return None
            self._whole[wanted] = self.read(table, columns)
        return self._whole[wanted]

    def once(self, name: str, make: Callable[[Snapshot], pa.Table]) -> pa.Table:
        """Return what is made of this snapshot under a name, kept in memory as long as this object."""
        if (name,) not in self._whole:
            self._whole[(name,)] = make(self)
        return self._whole[(name,)]

    def merged(
        self, table: str, columns: Sequence[str] | None = None, filter: Any = None, of: Any = None
    ) -> pa.Table:
        """Return rows as Arrow, those of a table in blocks merged: one for each key.

        Parameters
        ----------
        table : str
        columns : sequence of str or None
            Columns to return; None returns all.
        filter : pyarrow.compute.Expression or None
            Chooses rows by any column of those that are returned.
        of : pyarrow.compute.Expression or None
            Selects rows by columns that all blocks of a key share, such as the key itself; other rows are not read.
        """
        schema = self.schema(table)
        if not schema.in_blocks:
            rows = self.read(table, columns, filter=of)
            return rows if filter is None else rows.filter(filter)
        wanted, inner = needed(schema, columns), needed_inner(schema, columns)
        # All blocks of a key are in one pixel; without pixels they are anywhere.
        leaves = ([read_files(table, files, wanted, of, inner)] for files in [[], *self._leaves(table)])
        merged = pa.concat_tables([gather(blocks, schema, columns) for blocks in leaves])
        return merged if filter is None else merged.filter(filter)

    def _leaves(self, table: str) -> list[list[Path]]:
        """Return the files of a table, those of each pixel together."""
        groups: dict[object, list[Path]] = {}
        for path in self.version(table).whole_files():
            groups.setdefault(pixel_of(str(path)), []).append(path)
        return list(groups.values())

    def n_rows(self, table: str) -> int:
        """Return the number of rows in the files of a table, from the descriptions of its parts.

        Of a table in blocks it is the number of blocks: a light curve has one for each camera and night.
        """
        return self.version(table).n_rows

    def cone(
        self,
        table: str,
        ra_deg: float,
        dec_deg: float,
        radius_deg: float,
        columns: Sequence[str] | None = None,
        filter: Any = None,
    ) -> pa.Table:
        """Return the rows of a HATS table within a cone, those of them for which a filter holds.

        Raises
        ------
        LakeError
            If the table has no positions, or a file that the cone touches is missing or damaged.
        """
        schema = self.schema(table)
        if schema.layout.kind != "hats":
            raise LakeError(
                f"the rows of {table} have no index of positions; use a query by ra_deg and dec_deg"
            )
        version = self.version(table)
        place, form = (ra_deg, dec_deg, radius_deg), arrow_schema(schema)
        inner = needed(schema, columns) if schema.in_blocks else columns
        chosen = None if schema.in_blocks else filter
        try:
            with reading(version.whole_files):
                rows = read_cone(version.folder, *place, inner, chosen, form, version.leaves)
        except WrongCount as error:
            raise damaged(error.path, error.why) from error
        if not schema.in_blocks:
            return rows
        merged = gather([rows], schema, columns)
        return merged if filter is None else merged.filter(filter)

    def require_there(self) -> None:
        """Require that no table has been removed: a lake on disk keeps what is read."""

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with a view for each table and reference catalog."""
        from skylake.lake.access.duckdb_tables import connect

        return connect(self)

    def pandas(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return rows as a pandas frame, those of a table in blocks merged."""
        frame: pd.DataFrame = self.merged(table, columns).to_pandas()
        return frame

    def lsdb(self, table: str, **options: Any) -> Any:
        """Return a HATS table as a lazy lsdb catalog; `options` go to :func:`lsdb.open_catalog`.

        The rows of a table in blocks are merged, partition by partition.

        The snapshot stays for as long as the catalog is used, and whatever is made from it.

        Raises
        ------
        UsageError
            If ``filters`` are given of a table in blocks, which would choose single nights.
        """
        self.version(table).require_files()
        schema = self.schema(table)
        if not schema.in_blocks:
            return open_catalog(self.folder(table), table, self, self._margin(table), **options)
        if options.get("filters") is not None:
            raise UsageError(
                f"the files of {table} have a row for each night, which `filters` would choose before the nights are "
                'merged; filter what lsdb() returns, as in .query("n_points > 30")'
            )
        wanted = options.pop("columns", None)
        wanted = None if wanted == "all" else wanted
        inner = [name for name in needed(schema, wanted) if name != "_healpix_29"]
        catalog = open_catalog(self.folder(table), table, self, self._margin(table), columns=inner, **options)
        return catalog.map_partitions(gather_frame, schema, wanted)

    def _margin(self, table: str) -> Path | None:
        collection = self.collection(table)
        return None if collection is None else collection / f"{table}_margin"

    def catalogs(self) -> list[str]:
        """Return the names of the reference catalogs."""
        collections = self.layout.catalogs.glob("*/collection.properties")
        return sorted(path.parent.name for path in collections if is_plain_name(path.parent.name))

    def catalog(self, name: str) -> Path:
        """Return the folder of a reference catalog, which need not be there.

        Raises
        ------
        LakeError
            If what is in it is a link.
        """
        folder = self.layout.catalog(name)
        for link in links_in(folder):
            require_no_link(link, self.layout.root)
        return folder

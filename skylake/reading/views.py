"""Views of a lake that apply the calibration in force, as they are read.

A row of such a view comes from one row of its table. So a pixel, a cone or a file of the view is the view over the
same pixel, cone or file of the table, and DuckDB computes it as ``sql/duckdb/views.sql`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skylake.errors import LakeError
from skylake.lake.access.duckdb_tables import connect, quoted
from skylake.lake.access.open_table import OpenTable, filtered_by
from skylake.lake.storage.damaged_files import naming_damage
from skylake.lake.storage.slices import read_files
from skylake.reading.rows import described
from skylake.reading.tables import Cone, Names, Readable, require_positions
from skylake.schema import arrow_schema, load, meanings

if TYPE_CHECKING:
    import pandas as pd

    from skylake.lake import Snapshot

_INDEX = "_healpix_29"
#: More than the rounding error of a difference of declinations.
_ROUNDING_DEG = 1e-9
#: No detection lies farther from its star.
_FARTHEST_ARCSEC = 3600.0
#: Rows that are filtered at a time.
_BATCH = 65_536
#: Units of columns that no table has.
_UNITS = {
    "total_flux": "adu/s",
    "total_flux_err": "adu/s",
    "neighbour_flux": "adu/s",
    "neighbour_flux_err": "adu/s",
    "residual": "mag",
    "mag_limit_counts": "mag",
    "mag_limit_injected": "mag",
    "mag_psf": "mag",
    "mag_psf_err": "mag",
    "mag_psf_random_err": "mag",
}


@dataclass(frozen=True, slots=True)
class ViewOf:
    """A view, the table whose rows it has, and what a row is."""

    name: str
    table: str
    description: str

    @property
    def inputs(self) -> set[str]:
        """Tables that the view is computed from."""
        # A match needs its detection, and a detection the light of neighbours that its match knows.
        others = {"matches": {"sources"}, "sources": {"matches"}}
        return {self.table, "frames", "zeropoints"} | others.get(self.table, set())


VIEWS = {
    view.name: view
    for view in (
        ViewOf(
            "calibrated_frames",
            "frames",
            "One row per frame and catalog, with the zeropoint in force and limiting magnitudes; null for a frame "
            "that is not calibrated.",
        ),
        ViewOf(
            "calibrated_sources",
            "sources",
            "One row per detection on a calibrated frame and catalog, with its magnitude as a star of the pivot "
            "colour and the errors.",
        ),
        ViewOf(
            "calibrated_matches",
            "matches",
            "One row per match of a detection with a star of a catalog, with its magnitude at the colour of the star "
            "and the residual, catalog minus calibrated.",
        ),
        ViewOf(
            "calibrated_forced",
            "forced_sources",
            "One row per forced measurement of a target on a calibrated frame and catalog, with its magnitudes as a "
            "star of the pivot colour.",
        ),
    )
}


class View(Readable):
    """A view that applies the calibration in force. It is computed when it is read.

    Examples
    --------
    >>> sources = lake["calibrated_sources"]
    >>> sources.pandas(["mjd_mid", "mag", "mag_err"], cone=(197.31655, -19.82025, 0.01))
    """

    def __init__(self, snapshot: Snapshot, name: str) -> None:
        self._view = VIEWS[name]
        self._opened = OpenTable(snapshot, self._view.table)
        super().__init__(snapshot, name, self._view.description)

    @cached_property
    def _schema(self) -> pa.Schema:
        return _described(_computed(self._snapshot, self._view, "*", []).schema, self._view.table)

    def _n_rows(self) -> int:
        return int(_computed(self._snapshot, self._view, "count(*)", None)[0][0].as_py())

    def _arrow(self, columns: Names, filter: Any, cone: Cone) -> pa.Table:
        wanted = list(self.columns if columns is None else columns)
        needed = filtered_by(filter, self._schema, self.name) | ({"ra_deg", "dec_deg"} if cone else set())
        files = None if cone is None else self._files_within(cone)
        read = list(dict.fromkeys([*wanted, *sorted(needed)]))
        found = read_view(self._snapshot, self._view, read, files, filter, cone)
        return found.select(wanted).cast(pa.schema([self._schema.field(name) for name in wanted]))

    def _files_within(self, cone: tuple[float, float, float]) -> list[Path]:
        """Return the files of the table with rows that a cone may hold."""
        from skylake.sky.cone import touched_leaves

        if self._opened.schema.layout.kind != "hats":
            raise LakeError(
                f"the rows of {self.name} have no index of positions; choose them by a filter of ra_deg and dec_deg"
            )
        self._require_files()
        leaves = self._snapshot.version(self._view.table).leaves
        return [path for pixel in touched_leaves(leaves, *cone) for path in leaves[pixel]]

    def _require_files(self) -> None:
        """Refuse tables that lack a file or have one too many, which readers of single files do not notice."""
        for name in self._view.inputs:
            self._snapshot.version(name).require_files()

    def _dask(self, columns: Names) -> Any:
        import dask
        import dask.dataframe as dd

        wanted = list(columns or self.columns)
        meta = self._schema.empty_table().select(wanted).to_pandas()
        self._require_files()
        files = self._opened.partitions()
        if not files:
            return dd.from_pandas(meta, npartitions=1)
        # As in OpenTable.dask: otherwise dask would turn object columns of pandas into strings.
        with dask.config.set({"dataframe.convert-string": False}):
            return dd.from_map(
                _read_frame, files, snapshot=self._snapshot, view=self._view, columns=wanted, meta=meta
            )

    def _lsdb(self, columns: Names, **options: Any) -> Any:
        if options:
            raise TypeError(f"lsdb() of a view has no argument {next(iter(options))!r}")
        require_positions(self.name, self._opened)
        self._require_files()
        place = ["ra_deg", "dec_deg"]
        asked = {*(columns or self.columns), *place} - {_INDEX}
        wanted = [name for name in self.columns if name in asked]
        catalog = self._opened.lsdb(columns=place)
        meta = _with_index(self._schema.empty_table().select(wanted))
        return catalog.map_partitions(
            _read_pixel, self._snapshot, self._view, wanted, meta=meta, include_pixel=True
        )


def read_view(
    snapshot: Snapshot,
    view: ViewOf,
    columns: Sequence[str],
    files: Sequence[Path] | None = None,
    filter: Any = None,
    cone: Cone = None,
) -> pa.Table:
    """Return rows of a view: those that come from some files of its table, from all of them for None.

    Columns that `filter` and `cone` need have to be among `columns`.
    """
    select, where = ", ".join(map(quoted, columns)), ""
    if cone is not None:
        from skylake.core.sphere import within

        ra, dec, radius = cone
        # Statistics of files select row groups by declination; rows within the cone are selected below.
        where = f"WHERE dec_deg BETWEEN {dec - radius - _ROUNDING_DEG!r} AND {dec + radius + _ROUNDING_DEG!r}"
    found = _computed(snapshot, view, select, files, where, filter)
    if cone is None:
        return found
    places = (found[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    return found.filter(pa.array(within(ra, dec, radius, *places)))


def _computed(
    snapshot: Snapshot,
    view: ViewOf,
    select: str,
    files: Sequence[Path] | None,
    where: str = "",
    filter: Any = None,
) -> pa.Table:
    """Return the rows of a view that DuckDB computes over some files of its table."""
    import pyarrow.dataset as pds

    with naming_damage(snapshot.layout.root), connect(snapshot, _files(snapshot, view, files)) as connection:
        relation = connection.sql(f"SELECT {select} FROM {view.name} {where}")
        if filter is None:
            return relation.to_arrow_table()
        return pds.Scanner.from_batches(relation.to_arrow_reader(_BATCH), filter=filter).to_table()


def _files(snapshot: Snapshot, view: ViewOf, files: Sequence[Path] | None) -> dict[str, Sequence[Path]]:
    """Return the files that each table needs; none for a table that has no part in the view."""
    found: dict[str, Sequence[Path]] = {name: [] for name in snapshot.tables if name not in view.inputs}
    if files is not None:
        found[view.table] = files
        if view.table == "matches":
            found["sources"] = _files_of_sources(snapshot, files)
        elif view.table == "sources":
            found["matches"] = _files_of_matches(snapshot, files)
        if not files:
            found |= {"frames": [], "zeropoints": []}
    return found


def _files_of_sources(snapshot: Snapshot, matches: Sequence[Path]) -> list[Path]:
    """Return the files with the sources of some matches; a match is in the pixel of its star, not of its source."""
    from skylake.core.sphere import healpix_index
    from skylake.sky.pixels import pixel_range

    if not matches:
        return []
    rows = read_files("matches", matches, ["source_ra_deg", "source_dec_deg"])
    index = np.sort(healpix_index(*(column.to_numpy() for column in rows.columns)))
    leaves = snapshot.version("sources").leaves
    counts = {pixel: np.diff(np.searchsorted(index, pixel_range(*pixel)))[0] for pixel in leaves}
    return [path for pixel, files in leaves.items() if counts[pixel] for path in files]


def _files_of_matches(snapshot: Snapshot, files: Sequence[Path]) -> list[Path]:
    """Return the files that may have matches of some sources, each in the pixel of its star."""
    from skylake.sky.pixels import grown_ranges, pixel_range

    chosen = set(files)
    pixels = [
        pixel for pixel, held in snapshot.version("sources").leaves.items() if not chosen.isdisjoint(held)
    ]
    near = np.concatenate(
        [np.zeros((0, 2), np.int64), *(grown_ranges(one, _FARTHEST_ARCSEC) for one in pixels)]
    )
    leaves = snapshot.version("matches").leaves
    touched = [pixel for pixel in leaves if _overlap(near, *pixel_range(*pixel))]
    return [path for pixel in touched for path in leaves[pixel]]


def _overlap(ranges: np.ndarray[tuple[int, int], np.dtype[np.int64]], low: int, high: int) -> bool:
    return bool(((ranges[:, 0] < high) & (low < ranges[:, 1])).any())


def _described(schema: pa.Schema, table: str) -> pa.Schema:
    """Return the schema of a view with units and texts: of the columns of its table, and of others by their names."""
    own = {field.name: field.metadata for field in arrow_schema(load(table))}
    return described(schema, {**meanings_of_view(table), **own})


def meanings_of_view(table: str) -> dict[str, Mapping[str, str]]:
    """Return what names of columns mean in a view of the rows of a table, with their calibration."""
    others = {name: {"unit": unit} for name, unit in _UNITS.items()}
    return {**others, **meanings(), **meanings(load("zeropoints")), **meanings(load(table))}


def _read_frame(
    paths: list[Path], snapshot: Snapshot, view: ViewOf, columns: list[str] | None = None
) -> pd.DataFrame:
    """Read one partition for dask, which narrows `columns` to those that a query needs."""
    assert columns is not None
    frame: pd.DataFrame = read_view(snapshot, view, columns, paths).to_pandas()
    return frame


def _read_pixel(_: Any, pixel: Any, snapshot: Snapshot, view: ViewOf, columns: list[str]) -> Any:
    """Read one pixel for lsdb; lsdb has read the same rows of its table, without the calibrated columns."""
    leaves = snapshot.version(view.table).leaves
    return _with_index(read_view(snapshot, view, columns, list(leaves[pixel.order, pixel.pixel])))


def _with_index(rows: pa.Table) -> Any:
    """Return rows as lsdb holds them: nested columns as such, and the index of positions."""
    from nested_pandas.nestedframe.io import from_pyarrow

    from skylake.core.sphere import healpix_index

    index = healpix_index(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    return from_pyarrow(rows.append_column(_INDEX, pa.array(index))).set_index(_INDEX)

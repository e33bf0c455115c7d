"""Tables with a row for each star, camera and band that commands make of the light curves of a lake.

`skylake detrend`, `periods` and `statistics` differ in the rows that they make of a field. What they have in common
is here: which stars are taken, pieces of the sky for workers, and one commit, or none where nothing would change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.unlisted_stars import DETECTIONS
from skylake.core.ids import config_sha256
from skylake.core.sphere import healpix_index
from skylake.errors import LakeError, UsageError
from skylake.flow.curves.field_blocks import (
    LEAST_MEASUREMENTS,
    MOST_POINTS,
    CurveSource,
    FieldBlock,
    field_blocks,
)
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.own_tables import TableRequest, commit_table, held_part
from skylake.lake import Lake, Snapshot
from skylake.lake.access.curve_rows import TABLES, curve_pieces
from skylake.lake.access.relative_curves import relative_curves, why_no_curves
from skylake.lake.layout import part_file
from skylake.lake.storage.parts import PartFile, sort_rows, write_part_file
from skylake.schema import TableSchema, conform
from skylake.schema.digest import add_digests
from skylake.sky.pixels import Pixel, ranges_around
from skylake.sky.sky_region import SkyRegion

Places = npt.NDArray[np.intp]
#: A star as light curves name it: camera, band, catalog, identifier.
Name = tuple[str, str, str, int]
#: The one part of a table of detrended light curves.
DETREND = "detrend"
#: Counts the changes of detrending, periods and statistics that give other values: tables from before are out of date.
_METHOD = 3
#: Catalog of targets that no catalog has.
_OF_TARGETS = "detections"
#: Around a candidate, arcseconds: as a target it may have another place than in its catalog.
_REACH_ARCSEC, _CELL_ORDER = 30.0, 12


@dataclass(frozen=True, slots=True)
class StarChoice:
    """Which stars of a lake are taken.

    Attributes
    ----------
    region : SkyRegion
    names : frozenset or None
        Only these of the region; None takes all.
    """

    region: SkyRegion
    names: frozenset[Name] | None = None

    @property
    def names_sha256(self) -> str | None:
        """A checksum of the names; None for all."""
        return None if self.names is None else config_sha256({"names": sorted(self.names)})

    def among(self, field: FieldBlock, least_points: int) -> Places:
        """Return the places of the stars of a field that are taken, of those with enough good measurements."""
        chosen = field.is_wanted & (field.block.curves.is_good.sum(axis=1) >= least_points)
        if self.names is not None:
            stars = zip(*(field.rows[name].to_pylist() for name in ("catalog", "object_id")), strict=True)
            chosen &= np.array([(field.camera, field.band, *star) in self.names for star in stars], bool)
        return np.flatnonzero(chosen)


@dataclass(frozen=True, slots=True)
class CurveJob:
    """What a command makes of the light curves of a lake.

    Attributes
    ----------
    kind : str
        The command, which is also the name of the one part of its table.
    source : CurveSource
    stars : StarChoice
    options : mapping
        How rows are made; another request has others.
    rows_of : callable
        Given a snapshot, a field, the places of the stars that are taken, and the schema, returns their rows. It is
        sent to workers.
    least_points : int
        Stars with fewer good measurements are not taken.
    least_stars : int
        Fields with fewer stars get others from around, which are not taken.
    """

    kind: str
    source: CurveSource
    stars: StarChoice
    options: Mapping[str, Any]
    rows_of: Callable[[Snapshot, FieldBlock, Places, TableSchema], pa.Table]
    least_points: int = LEAST_MEASUREMENTS
    least_stars: int = 0


@dataclass(frozen=True, slots=True)
class CurveTableReport:
    """A table that was made of light curves.

    Attributes
    ----------
    table : str
    n_rows : int
    n_pieces : int
        Pieces of the sky that were worked on; 0 where the table was up to date.
    snapshot : int
        First snapshot that has it.
    made : bool
        False if the lake had the table already, made of the same light curves in the same way.
    """

    table: str
    n_rows: int
    n_pieces: int
    snapshot: int
    made: bool


def choose_stars(snapshot: Snapshot, source: CurveSource, region: SkyRegion | None) -> StarChoice:
    """Return the stars of a part of the sky, or those that vary.

    Parameters
    ----------
    snapshot : Snapshot
    source : CurveSource
    region : SkyRegion or None
        None takes the stars of the view ``variable_stars`` only.

    Raises
    ------
    UsageError
        If there is no such table of detrended light curves.
    LakeError
        If no star varies.
    """
    if source.detrended is not None and (
        source.detrended not in snapshot.tables or snapshot.part(source.detrended, DETREND) is None
    ):
        raise UsageError(
            f"the lake has no table {source.detrended!r} of detrended light curves; `skylake detrend` makes one"
        )
    return _candidates(snapshot) if region is None else StarChoice(region)


def _candidates(snapshot: Snapshot) -> StarChoice:
    """Return the stars of the view ``variable_stars``, and the places where they are."""
    query = "SELECT camera, band, catalog, object_id, ra_deg, dec_deg FROM variable_stars"
    with snapshot.duckdb() as connection:
        rows = connection.sql(query).to_arrow_table()
    columns = (rows[name].to_pylist() for name in ("camera", "band", "catalog", "object_id"))
    names = set(zip(*columns, strict=True))
    # Some of these are targets, and have forced light curves as such.
    names |= {(*name[:2], _OF_TARGETS, name[3]) for name in names if name[2] == DETECTIONS}
    ra, dec = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    if rows.num_rows == 0:
        raise LakeError(
            f"{snapshot.layout.root}: no star varies beyond noise, by the view variable_stars; take all by --all"
        )
    return StarChoice(SkyRegion(ranges_around(ra, dec, _REACH_ARCSEC, _CELL_ORDER)), frozenset(names))


def make_curve_table(
    lake: Lake,
    current: Snapshot,
    job: CurveJob,
    schema: TableSchema,
    workers: Workers,
    replace: bool = False,
    progress: Progress | None = None,
) -> CurveTableReport:
    """Make a table of the light curves of a lake, in one commit.

    A table that the same request has made before is made anew where light curves have changed, and left alone
    otherwise. Each task has a piece of the sky with about two million measurements.

    Parameters
    ----------
    lake : Lake
    current : Snapshot
        That is read.
    job : CurveJob
    schema : TableSchema
        Its name is that of the table.
    workers : Workers
    replace : bool
        Whether a table that another request has made may be replaced.
    progress : Progress or None

    Raises
    ------
    UsageError
        If the name cannot be used.
    LakeError
        If there are no such light curves, they do not fit into memory, or the lake cannot be written.
    """
    source, region = job.source, job.stars.region
    configuration = {"source": asdict(source), "region": _region_sha256(region), **job.options}
    request = TableRequest(job.kind, schema, configuration, {"curves": identity_of(current, source)})
    held = held_part(current, request, replace)
    if held is not None:
        return CurveTableReport(schema.name, held.n_rows, 0, current.number, made=False)
    pieces = _pieces_of(current, source, region)

    def tasks(staging: Path) -> list[Any]:
        work = dask.delayed(make_piece, pure=False)
        return [work((lake.root, current.number), job, schema, pixel, staging) for pixel in pieces]

    part, made = commit_table(lake, current, request, source.table, tasks, workers, progress or Silent())
    return CurveTableReport(schema.name, part.n_rows, len(pieces), made.number, made=True)


def make_piece(
    place: tuple[Path, int], job: CurveJob, schema: TableSchema, pixel: Pixel, staging: Path
) -> PartFile | None:
    """Write the rows of the stars of a piece, None if there are none; runs on a worker."""
    root, number = place
    snapshot = Lake(root).snapshot(number)
    made = []
    for field in field_blocks(snapshot, job.source, pixel, job.stars.region, job.least_stars):
        chosen = job.stars.among(field, job.least_points)
        if chosen.size:
            made.append(job.rows_of(snapshot, field, chosen, schema))
    if not made:
        return None
    rows = sort_rows(pa.concat_tables(made), schema)
    return write_part_file(rows, staging, part_file(schema.name, job.kind, pixel))


def star_columns(field: FieldBlock, chosen: Places) -> dict[str, Any]:
    """Return the columns that say which star a row is of."""
    rows, n = field.rows.take(pa.array(chosen)), len(chosen)
    ra, dec = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    names = ("object_id", "catalog", "ra_deg", "dec_deg")
    return {name: rows[name] for name in names} | {
        "_healpix_29": healpix_index(ra, dec),
        "camera": pa.array([field.camera] * n, pa.string()),
        "band": pa.array([field.band] * n, pa.string()),
    }


def table_of(columns: Mapping[str, Any], schema: TableSchema) -> pa.Table:
    """Return columns as rows of a table; NaN is null."""
    arrays = {
        name: pa.array(columns[name], from_pandas=True)
        if isinstance(columns[name], np.ndarray)
        else columns[name]
        for name in schema.names
    }
    return conform(pa.table(arrays), schema)


def identity_of(snapshot: Snapshot, source: CurveSource) -> str:
    """Return a checksum of the light curves that are read, and of how they are worked on."""
    # The objects of a camera change with each of its nights, and with its calibration.
    more = {"detected": ("objects",), "relative": ("frames",)}.get(source.kind, ())
    tables = (source.table, *(more if source.detrended is None else ()))
    curves = add_digests(part.checksum for table in tables for part in snapshot.version(table).parts.values())
    return config_sha256({"curves": curves, "method": _METHOD})


def _pieces_of(snapshot: Snapshot, source: CurveSource, region: SkyRegion) -> list[Pixel]:
    """Return the pieces in which the light curves of a region are worked on."""
    pieces = [pixel for pixel, _ in curve_pieces(snapshot, source.table, region, MOST_POINTS)]
    if pieces:
        return pieces
    is_relative = source.table == TABLES["relative"][0]
    if relative_curves(snapshot).num_rows if is_relative else snapshot.n_rows(source.table):
        what = "a relative light curve" if is_relative else f"a light curve in {source.table}"
        raise LakeError(f"no star of that part of the sky has {what}; name another part")
    if why := why_no_curves(snapshot, source.kind):
        raise LakeError(f"{snapshot.layout.root}: {why}")
    advice = (
        "`skylake aggregate` makes them" if snapshot.n_rows("zeropoints") else "run `skylake run nightly`"
    )
    raise LakeError(f"{snapshot.layout.root}: {source.table} is empty; {advice}")


def _region_sha256(region: SkyRegion) -> str:
    """Return a checksum of a part of the sky."""
    return config_sha256({"ranges": region.ranges.tolist(), "cone": region.cone})

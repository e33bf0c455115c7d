"""``skylake detrend``: the light curves of a lake, detrended into a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa

from skylake.core.ids import config_sha256
from skylake.errors import LakeError
from skylake.flow.curves.detrend_field import DetrendChoice, detrend_field, detrended_rows
from skylake.flow.curves.field_blocks import MOST_POINTS, CurveSource, field_blocks
from skylake.flow.curves.frame_conditions import with_conditions
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.own_tables import TableRequest, commit_table, held_part
from skylake.lake import Lake, Snapshot
from skylake.lake.access.curve_rows import curve_pieces
from skylake.lake.layout import part_file
from skylake.lake.storage.parts import PartFile, sort_rows, write_part_file
from skylake.schema import TableSchema
from skylake.schema.digest import add_digests
from skylake.schema.tables import on_request
from skylake.sky.pixels import Pixel
from skylake.sky.sky_region import SkyRegion

#: The one part of such a table.
PART = "detrend"


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


def detrend_lake(
    lake: Lake,
    name: str,
    source: CurveSource,
    region: SkyRegion,
    choice: DetrendChoice,
    workers: Workers,
    replace: bool = False,
    progress: Progress | None = None,
) -> CurveTableReport:
    """Detrend the light curves of a part of the sky into a table of the lake, in one commit.

    A table that the same request has made before is made anew where light curves have changed, and left alone
    otherwise. Each task has a piece of the sky with about two million measurements.

    Parameters
    ----------
    lake : Lake
    name : str
        The table.
    source : CurveSource
    region : SkyRegion
    choice : DetrendChoice
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
    current = lake.snapshot()
    schema = on_request("detrended", name)
    request = TableRequest(
        PART,
        schema,
        {"source": asdict(source), "region": region_sha256(region), "choice": asdict(choice)},
        {"curves": identity_of(current, source)},
    )
    held = held_part(current, request, replace)
    if held is not None:
        return CurveTableReport(name, held.n_rows, 0, current.number, made=False)
    pieces = pieces_of(current, source, region)

    def tasks(staging: Path) -> list[Any]:
        work = dask.delayed(detrend_piece, pure=False)
        place = (lake.root, current.number)
        return [work(place, source, pixel, region, choice, schema, staging) for pixel in pieces]

    progress = progress or Silent()
    part, made = commit_table(lake, current, request, source.table, tasks, workers, progress)
    return CurveTableReport(name, part.n_rows, len(pieces), made.number, made=True)


def detrend_piece(
    place: tuple[Path, int],
    source: CurveSource,
    pixel: Pixel,
    region: SkyRegion,
    choice: DetrendChoice,
    schema: TableSchema,
    staging: Path,
) -> PartFile | None:
    """Detrend the stars of a piece and write their rows; runs on a worker."""
    root, number = place
    snapshot = Lake(root).snapshot(number)
    made = []
    for field in field_blocks(snapshot, source, pixel, region):
        whole = with_conditions(snapshot, field)
        made.append(detrended_rows(whole, detrend_field(whole, choice), source, choice, schema))
    return written(made, schema, PART, pixel, staging)


def written(
    tables: list[pa.Table], schema: TableSchema, part: str, pixel: Pixel, staging: Path
) -> PartFile | None:
    """Write the rows of a piece; None if there are none."""
    if not tables:
        return None
    rows = sort_rows(pa.concat_tables(tables), schema)
    return write_part_file(rows, staging, part_file(schema.name, part, pixel))


def pieces_of(snapshot: Snapshot, source: CurveSource, region: SkyRegion) -> list[Pixel]:
    """Return the pieces in which the light curves of a region are worked on.

    Raises
    ------
    LakeError
        If there are none.
    """
    pieces = [pixel for pixel, _ in curve_pieces(snapshot, source.table, region, MOST_POINTS)]
    if pieces:
        return pieces
    table = source.table
    if snapshot.n_rows(table):
        raise LakeError(f"no star of that part of the sky has a light curve in {table}; name another part")
    advice = (
        "`skylake aggregate` makes them" if snapshot.n_rows("zeropoints") else "run `skylake run nightly`"
    )
    raise LakeError(f"{snapshot.layout.root}: {table} is empty; {advice}")


def identity_of(snapshot: Snapshot, source: CurveSource) -> str:
    """Return a checksum of the light curves that are read."""
    parts = snapshot.version(source.table).parts.values()
    return add_digests(part.checksum for part in parts)


def region_sha256(region: SkyRegion) -> str:
    """Return a checksum of a part of the sky."""
    return config_sha256({"ranges": region.ranges.tolist(), "cone": region.cone})

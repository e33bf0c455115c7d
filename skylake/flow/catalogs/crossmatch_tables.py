"""``skylake crossmatch``: match two HATS tables into a table of the lake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa

from skylake.errors import UsageError
from skylake.flow.catalogs.own_files import files_of_table
from skylake.flow.execution.cluster import Inline, Workers
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.own_tables import TableRequest, commit_table, held_part
from skylake.lake import Lake, Snapshot
from skylake.lake.access.gathered_views import gather, needed
from skylake.lake.layout import part_file
from skylake.lake.storage.parts import PartFile, sort_rows, write_part_file
from skylake.places import is_url
from skylake.schema import TableSchema, arrow_schema, conform
from skylake.schema.digest import add_digests
from skylake.sky.crossmatch import (
    Neighbours,
    match_graph,
    partitions,
    reads_few,
    result_schema,
    rows_of,
    sides,
)
from skylake.sky.hats_files import HatsFiles, open_hats
from skylake.sky.hats_in_place import files_in_place
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import Pixel

#: The one part of such a table.
PART = "crossmatch"
_CATALOGS = "catalogs."
#: A match of so few rows is done before workers have started.
_FEW_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class MatchRequest:
    """What is matched with what.

    Attributes
    ----------
    left, right : str
        Tables or catalogs of the lake by name, tables in files, or HATS catalogs by path or URL.
    neighbours : Neighbours
    left_columns, right_columns : tuple of str or None
        Columns of the result; None takes those that a table recommends, or all.
    suffixes : (str, str)
        For the names of columns that both sides have.
    """

    left: str
    right: str
    neighbours: Neighbours
    left_columns: tuple[str, ...] | None = None
    right_columns: tuple[str, ...] | None = None
    suffixes: tuple[str, str] = ("", "_right")

    @property
    def text(self) -> str:
        """The match in one sentence, for the description of its table."""
        kind = "mutual nearest" if self.neighbours.mutual else f"{self.neighbours.n_nearest} nearest"
        return (
            f"Crossmatch of {self.left} with {self.right}: {kind} within {self.neighbours.radius_arcsec:g} arcsec, "
            f"{self.neighbours.how}"
        )


@dataclass(frozen=True, slots=True)
class CrossmatchReport:
    """What a match gave.

    Attributes
    ----------
    table : str
    n_rows : int
    n_partitions : int
        Partitions that were matched; 0 where the table was up to date.
    snapshot : int
        First snapshot that has it.
    made : bool
        False if the lake had the table already, made of the same rows in the same way.
    """

    table: str
    n_rows: int
    n_partitions: int
    snapshot: int
    made: bool


def crossmatch(
    lake: Lake,
    name: str,
    request: MatchRequest,
    workers: Workers,
    as_of: str | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> CrossmatchReport:
    """Match two HATS tables into a table of the lake, in one commit.

    A table that the same request has made before is made anew where its inputs have changed, and left alone otherwise.

    Parameters
    ----------
    lake : Lake
    name : str
        The table.
    request : MatchRequest
    workers : Workers
        Where partitions are matched, unless the tables are so small that this process does it sooner.
    as_of : str or None
        Snapshot or time at which tables of the lake are read; None reads them as they are.
    replace : bool
        Whether a table that another request has made may be replaced.
    progress : Progress or None

    Raises
    ------
    UsageError
        If a side, a column or a name cannot be used.
    CatalogError, LakeError
        If files cannot be read, or the lake cannot be written.
    """
    progress = progress or Silent()
    current = lake.snapshot()
    snapshot = current if as_of is None else lake.snapshot(as_of)
    with lake.stage("crossmatch-files") as folder:
        return _crossmatch(lake, name, request, workers, (current, snapshot), replace, progress, folder)


def _crossmatch(
    lake: Lake,
    name: str,
    request: MatchRequest,
    workers: Workers,
    snapshots: tuple[Snapshot, Snapshot],
    replace: bool,
    progress: Progress,
    folder: Path,
) -> CrossmatchReport:
    """Match two tables; those of files of the user are written into a folder for it."""
    current, snapshot = snapshots
    tables = (
        open_side(snapshot, request.left, request.left_columns, folder / "left"),
        open_side(snapshot, request.right, request.right_columns, folder / "right"),
    )
    left, right = sides(*tables, (request.left_columns, request.right_columns), request.suffixes)
    schema = result_schema(name, left, right, request.text)
    identities = {"left": tables[0].identity, "right": tables[1].identity}
    wanted = TableRequest(PART, schema, asdict(request), identities)
    held = held_part(current, wanted, replace)
    if held is not None:
        return CrossmatchReport(name, held.n_rows, 0, current.number, made=False)
    pixels = partitions(*tables, request.neighbours)
    if reads_few(*tables, request.neighbours, pixels, _FEW_ROWS):
        workers = Inline()
    frames = match_graph(left, right, request.neighbours, pixels) if pixels else []

    def tasks(staging: Path) -> list[Any]:
        write = dask.delayed(write_partition, pure=False)
        return [write(frame, pixel, schema, staging) for frame, pixel in zip(frames, pixels, strict=True)]

    made_of = f"{request.left}, {request.right}"
    part, made = commit_table(lake, current, wanted, made_of, tasks, workers, progress)
    return CrossmatchReport(name, part.n_rows, len(pixels), made.number, made=True)


def open_side(
    snapshot: Snapshot, name: str, columns: Sequence[str] | None = None, folder: Path | None = None
) -> HatsFiles:
    """Open a table or catalog of a lake by name, a table in a file, or a HATS catalog by its path or URL.

    Of a file the wanted columns, or all, are written into a folder that is made.

    Raises
    ------
    UsageError
        If there is none.
    LakeError
        If a table of that name has no positions.
    """
    if name in snapshot.tables:
        return _table(snapshot, name)
    if (catalog := name.removeprefix(_CATALOGS)) in snapshot.catalogs():
        reference = ReferenceCatalog.open(snapshot.catalog(catalog))
        if reference.in_place is None:
            return open_hats(snapshot.catalog(catalog))
        return files_in_place(reference.in_place, reference.name, reference.checksum)
    if not is_url(name) and not Path(name).exists():
        tables = [one for one in snapshot.tables if snapshot.schema(one).layout.kind == "hats"]
        known = ", ".join([*tables, *(_CATALOGS + one for one in snapshot.catalogs())])
        raise UsageError(
            f"there is no {name!r}; name one of {known}, a file with a table, or the path or URL "
            "of a HATS catalog"
        )
    if folder is not None and not is_url(name) and Path(name).is_file():
        folder.mkdir()
        return files_of_table(Path(name), columns, folder)
    return open_hats(name)


def _table(snapshot: Snapshot, name: str) -> HatsFiles:
    """Return the files of a table of a lake."""
    schema, version = snapshot.schema(name), snapshot.version(name)
    layout = schema.layout
    if layout.kind != "hats" or layout.ra is None or layout.dec is None:
        raise UsageError(f"the rows of {name} have no positions, so nothing can be matched with them")
    blocks = schema.in_blocks
    return HatsFiles(
        name,
        layout.ra,
        layout.dec,
        arrow_schema(schema),
        schema.merged_names,
        version.leaves,
        add_digests(part.checksum for part in version.parts.values()),
        reads=partial(needed, schema) if blocks else None,
        makes=partial(_gathered, schema) if blocks else None,
    )


def _gathered(schema: TableSchema, rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    return gather([rows], schema, columns)


def write_partition(frame: Any, pixel: Pixel, schema: TableSchema, staging: Path) -> PartFile | None:
    """Write the rows of a partition; runs on a worker."""
    rows = rows_of(frame, pixel, schema.names)
    if rows.num_rows == 0:
        return None
    rows = sort_rows(conform(rows, schema), schema)
    return write_part_file(rows, staging, part_file(schema.name, PART, pixel))

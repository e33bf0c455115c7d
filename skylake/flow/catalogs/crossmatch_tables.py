"""``skylake crossmatch``: match two HATS tables into a table of the lake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa

from skylake.core.ids import config_sha256
from skylake.errors import ConfigurationError, UsageError
from skylake.flow.execution.cluster import Inline, Workers
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.execution.task_guard import value_of
from skylake.lake import Commit, Lake, Part, Snapshot
from skylake.lake.access.gathered_views import gather, needed
from skylake.lake.layout import part_file
from skylake.lake.storage.parts import PartFile, sort_rows, write_part_file
from skylake.places import is_url
from skylake.schema import TableSchema, arrow_schema, conform
from skylake.schema.digest import add_digests
from skylake.schema.tables import in_force, require_plain_names
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
        Tables or catalogs of the lake by name, or HATS catalogs by path or URL.
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
    tables = open_side(snapshot, request.left), open_side(snapshot, request.right)
    left, right = sides(*tables, (request.left_columns, request.right_columns), request.suffixes)
    schema = result_schema(name, left, right, request.text)
    configuration = {"crossmatch": asdict(request)}
    inputs = {
        "configuration": config_sha256(configuration),
        "left": tables[0].identity,
        "right": tables[1].identity,
    }
    held = _held(current, schema, inputs, replace)
    if held is not None:
        return CrossmatchReport(name, held.n_rows, 0, current.number, made=False)
    pixels = partitions(*tables, request.neighbours)
    if reads_few(*tables, request.neighbours, pixels, _FEW_ROWS):
        workers = Inline()
    commit = Commit(f"crossmatch {name}", f"{request.left}, {request.right}", base=current.number)
    commit.configure([configuration])
    with in_force(schema), lake.stage(f"crossmatch-{name}") as staging:
        frames = match_graph(left, right, request.neighbours, pixels) if pixels else []
        files = _written(frames, pixels, schema, staging, workers, progress)
        part = Part(name, PART, files, inputs=inputs, schema_sha256=schema.sha256)
        commit.replace(part, staging)
        made = lake.commit(commit)
    return CrossmatchReport(name, part.n_rows, len(pixels), made.number, made=True)


def _held(snapshot: Snapshot, schema: TableSchema, inputs: dict[str, str], replace: bool) -> Part | None:
    """Return the part that the lake has already, if it was made in the same way of the same rows.

    Raises
    ------
    UsageError
        If the name cannot be used.
    """
    name = schema.name
    try:
        require_plain_names(schema)
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    if name not in snapshot.tables:
        if name in _views(snapshot):
            raise UsageError(f"the name {name!r} is that of a view of skylake; give another name")
        return None
    part = snapshot.part(name, PART)
    if part is None:
        raise UsageError(f"the lake has a table {name!r} that is no crossmatch; give another name")
    if part.inputs["configuration"] == inputs["configuration"]:
        version = snapshot.version(name)
        is_same = part.inputs == inputs and part.schema_sha256 == schema.sha256
        return part if is_same and version.has_whole(part) else None
    if not replace:
        raise UsageError(f"the lake has a table {name!r} of another match; give another name or --replace")
    return None


def _views(snapshot: Snapshot) -> set[str]:
    """Return the names that SQL has besides those of tables."""
    query = """SELECT table_name FROM information_schema.tables
        UNION SELECT schema_name FROM information_schema.schemata"""
    return {name for (name,) in snapshot.duckdb().execute(query).fetchall()}


def open_side(snapshot: Snapshot, name: str) -> HatsFiles:
    """Open a table or catalog of a lake by name, or a HATS catalog by its path or URL.

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
        raise UsageError(f"there is no {name!r}; name one of {known}, or the path or URL of a HATS catalog")
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


def _written(
    frames: Sequence[Any],
    pixels: Sequence[Pixel],
    schema: TableSchema,
    staging: Path,
    workers: Workers,
    progress: Progress,
) -> tuple[PartFile, ...]:
    """Compute the partitions of a match, each written by the worker that has made it."""
    write = dask.delayed(write_partition, pure=False)
    tasks = [write(frame, pixel, schema, staging) for frame, pixel in zip(frames, pixels, strict=True)]
    progress.begin(f"crossmatch {schema.name}", len(tasks))
    results = workers.run(tasks, lambda *_: progress.advance())
    progress.end()
    files = [value_of(result, f"{schema.name} could not be matched") for result in results]
    return tuple(sorted((file for file in files if file is not None), key=lambda file: file.path))


def write_partition(frame: Any, pixel: Pixel, schema: TableSchema, staging: Path) -> PartFile | None:
    """Write the rows of a partition; runs on a worker."""
    rows = rows_of(frame, pixel, schema.names)
    if rows.num_rows == 0:
        return None
    rows = sort_rows(conform(rows, schema), schema)
    return write_part_file(rows, staging, part_file(schema.name, PART, pixel))

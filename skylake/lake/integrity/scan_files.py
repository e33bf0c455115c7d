"""Read every row of a file, block by block, and compare it with what the lake recorded of it.

Memory is bounded by a block of some thousand rows, whatever the size of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skylake.core.sphere import INDEX_ORDER, healpix_centre, healpix_index, separation_deg
from skylake.lake.integrity.file_footers import first_line
from skylake.lake.storage.merge_files import INDEX, find_members
from skylake.lake.storage.parts import Key, file_sha256
from skylake.schema import TableSchema, load
from skylake.schema.digest import add_digests, group_digests
from skylake.sky.pixels import pixel_range

#: Rows that are read together.
_BLOCK = 32768
#: Largest distance of a position from the centre of its cell of order 29; cells are 0.4 milliarcseconds wide.
_CELL_ARCSEC = 0.002


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file, and what the lake has recorded of it.

    Attributes
    ----------
    table, path : str
        The path is relative to `folder`.
    folder : Path
        Of the version.
    members : tuple of (str, Key)
        Names and keys of the parts whose rows it holds. An empty key takes all rows.
    pixel : (order, number) or None
    """

    table: str
    path: str
    folder: Path
    members: tuple[tuple[str, Key], ...]
    pixel: tuple[int, int] | None


@dataclass(slots=True)
class Scan:
    """What was found in a file: rows of the relations ``…_scans``."""

    recorded: RecordedFile
    sha256: str | None = None
    n_rows: int = 0
    n_foreign: int = 0
    n_outside: int = 0
    n_misplaced: int = 0
    n_unsorted: int = 0
    problem: str | None = None
    shares: dict[int, tuple[int, str]] = field(default_factory=dict)
    nan: dict[str, int] = field(default_factory=dict)
    statistics: list[tuple[Any, ...]] = field(default_factory=list)

    def relations(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield rows and the relations that they belong to."""
        place = (self.recorded.table, self.recorded.path)
        yield (
            "file_scans",
            (
                *place,
                self.sha256,
                self.n_rows,
                self.n_foreign,
                self.n_outside,
                self.n_misplaced,
                self.n_unsorted,
                self.problem,
            ),
        )
        for number, (name, _) in enumerate(self.recorded.members if self.problem is None else ()):
            rows, digest = self.shares.get(number, (0, "0"))
            yield "part_scans", (*place, name, rows, int(digest, 16))
        for column, count in self.nan.items():
            yield "nan_scans", (*place, column, count)
        for row in self.statistics:
            yield "statistics_scans", (*place, *row)


def scan_files(files: Sequence[RecordedFile]) -> list[Scan]:
    """Scan some files; runs on a worker."""
    return [scan_file(file) for file in files]


def scan_file(recorded: RecordedFile) -> Scan:
    """Read a file whole, and return what was found; a file that cannot be read says so."""
    scan = Scan(recorded)
    path = recorded.folder / recorded.path
    try:
        scan.sha256 = file_sha256(path)
        _scan_rows(scan, path, load(recorded.table))
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        scan.problem = first_line(error)
    return scan


def _scan_rows(scan: Scan, path: Path, schema: TableSchema) -> None:
    last: pa.Table | None = None
    with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
        for number in range(file.metadata.num_row_groups):
            ends: dict[str, _ColumnRange] = {}
            for batch in file.iter_batches(_BLOCK, row_groups=[number], use_threads=False):
                block = pa.Table.from_batches([batch])
                _count_members(scan, block)
                _count_nan(scan, block)
                if scan.recorded.pixel is not None:
                    _count_places(scan, block, schema)
                scan.n_unsorted += _unsorted(block if last is None else _joined(last, block), schema)
                last = block.slice(block.num_rows - 1)
                for name in block.column_names:
                    ends.setdefault(name, _ColumnRange()).add(block[name])
            _compare_statistics(scan, file.metadata, number, ends)


def _joined(last: pa.Table, block: pa.Table) -> pa.Table:
    return pa.concat_tables([last, block])


def _count_members(scan: Scan, block: pa.Table) -> None:
    """Add the rows and digests of each part."""
    scan.n_rows += block.num_rows
    keys = [key for _, key in scan.recorded.members]
    if not keys:
        return
    member = np.zeros(block.num_rows, np.intp)
    if all(keys):
        member, known = find_members(block, keys)
        scan.n_foreign += int(np.count_nonzero(~known))
        member = np.where(known, member, len(keys))
    counts = np.bincount(member, minlength=len(keys) + 1)
    digests = group_digests(block, member, len(keys) + 1)
    for number in np.flatnonzero(counts[: len(keys)]):
        rows, so_far = scan.shares.get(int(number), (0, "0"))
        scan.shares[int(number)] = rows + int(counts[number]), add_digests([so_far, digests[number]])


def _count_nan(scan: Scan, block: pa.Table) -> None:
    for name in block.column_names:
        for place, values in _leaves(name, block[name]):
            if pa.types.is_floating(values.type):
                count = pc.sum(pc.is_nan(values)).as_py() or 0
                if count:
                    scan.nan[place] = scan.nan.get(place, 0) + count


def _leaves(name: str, values: pa.ChunkedArray) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield the flat columns of a column."""
    if pa.types.is_struct(values.type):
        for place, inner in zip(values.type, values.flatten(), strict=True):
            yield from _leaves(f"{name}.{place.name}", inner)
    elif pa.types.is_list(values.type):
        yield from _leaves(name, pc.list_flatten(values))
    else:
        yield name, values


def _count_places(scan: Scan, block: pa.Table, schema: TableSchema) -> None:
    """Count rows that lie in another pixel, and those whose position is not where their index says."""
    index = block[INDEX].to_numpy()
    assert scan.recorded.pixel is not None
    low, high = pixel_range(*scan.recorded.pixel)
    scan.n_outside += int(np.count_nonzero((index < low) | (index >= high)))
    ra, dec = (block[name].to_numpy() for name in (schema.layout.ra, schema.layout.dec))
    valid = (np.abs(dec) <= 90.0) & np.isfinite(ra) & (index >= 0) & (index < 12 << 2 * INDEX_ORDER)
    scan.n_misplaced += int(np.count_nonzero(~valid))
    ra, dec, index = ra[valid], dec[valid], index[valid]
    differing = np.flatnonzero(healpix_index(ra, dec) != index)
    # A position on the border of two cells may be counted to either.
    centre = healpix_centre(index[differing], INDEX_ORDER)
    apart = separation_deg(ra[differing], dec[differing], *centre) * 3600.0
    scan.n_misplaced += int(np.count_nonzero(apart > _CELL_ARCSEC))


def _unsorted(rows: pa.Table, schema: TableSchema) -> int:
    """Return how many rows should come before the row above them in the order of the schema."""
    names = dict.fromkeys([*schema.layout.sort, *schema.primary_key])
    equal = np.ones(max(rows.num_rows - 1, 0), bool)
    smaller = np.zeros(len(equal), bool)
    for name in names:
        if not equal.any():
            break
        values = _ranks(rows[name])
        smaller |= equal & (values[1:] < values[:-1])
        equal &= values[1:] == values[:-1]
    return int(np.count_nonzero(smaller))


def _ranks(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return ranks that compare like the values of a column, nulls last."""
    if column.null_count or pa.types.is_string(column.type):
        ranks = pc.rank(column, "ascending", tiebreaker="dense")
        return np.asarray(ranks.to_numpy())
    return np.asarray(column.to_numpy())


@dataclass(slots=True)
class _ColumnRange:
    """Least and largest value of a column so far, and its nulls."""

    least: Any = None
    largest: Any = None
    nulls: int = 0

    def add(self, values: pa.ChunkedArray) -> None:
        self.nulls += values.null_count
        if pa.types.is_nested(values.type):
            return
        ends = pc.min_max(values)
        least, largest = ends["min"].as_py(), ends["max"].as_py()
        if least is not None:
            self.least = least if self.least is None else min(self.least, least)
            self.largest = largest if self.largest is None else max(self.largest, largest)


def _compare_statistics(
    scan: Scan, metadata: pq.FileMetaData, number: int, ends: dict[str, _ColumnRange]
) -> None:
    """Report statistics that would make a reader skip rows."""
    group = metadata.row_group(number)
    for place in range(group.num_columns):
        column = group.column(place)
        statistics, extremes = column.statistics, ends.get(column.path_in_schema)
        if statistics is None or extremes is None:
            continue
        if statistics.has_min_max and extremes.least is not None:
            stored = statistics.min, statistics.max
            if stored[0] > extremes.least or stored[1] < extremes.largest:
                is_range = f"{extremes.least} to {extremes.largest}"
                scan.statistics.append(
                    (number, column.path_in_schema, f"{stored[0]} to {stored[1]}", is_range)
                )
        if statistics.has_null_count and statistics.null_count != extremes.nulls:
            scan.statistics.append(
                (number, column.path_in_schema, f"{statistics.null_count} nulls", f"{extremes.nulls} nulls")
            )

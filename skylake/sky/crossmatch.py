"""Match any two HATS tables by position, as one graph of lsdb.

lsdb runs an algorithm on pairs of partitions. What it pairs here is made for the match: the left side is divided where
the right side is finer, and each partition of the right side holds all rows that can reach the one on the left, those
of neighbouring pixels included. So neither side needs a margin cache. For mutual matches a partition of the left side
also holds its rivals, rows of neighbouring pixels that may be nearer to a star; the writer leaves them out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from skylake.core.sphere import IntArray
from skylake.errors import CatalogError, UsageError, reason_of
from skylake.places import is_url, place
from skylake.schema import Column, TableLayout, TableSchema
from skylake.schema.arrow import column_of
from skylake.sky.cone import read_ranges
from skylake.sky.hats_compiled import keep_compiled
from skylake.sky.hats_files import INDEX, HatsFiles, files_in
from skylake.sky.match import Indices, mutual_within, nearest_within
from skylake.sky.pixels import Pixel, grown_ranges, pixel_range, refined
from skylake.sky.strip_crossmatch import PartitionCrossmatch, positions

_ADDED = (
    Column("match_arcsec", "double", "Separation of the pair", unit="arcsec", ucd="pos.angDistance"),
    Column("match_no", "int", "Number of the neighbour, 1 for the nearest", ucd="meta.number"),
)
_TYPES = {"match_arcsec": pa.float64(), "match_no": pa.int32()}
#: What the positions are called that only the match needs.
_HIDDEN = ("_match_ra", "_match_dec")
#: A match in more pixels is none of a few rows.
_MANY_PIXELS = 100

How = Literal["inner", "left"]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Which neighbours are matched.

    Attributes
    ----------
    radius_arcsec : float
    n_nearest : int
        So many of the right side for each row of the left, at most.
    how : {'inner', 'left'}
        Whether rows of the left side without a match are left out.
    mutual : bool
        Whether a row of the left side has to be the nearest one to its match, too.
    """

    radius_arcsec: float
    n_nearest: int = 1
    how: How = "inner"
    mutual: bool = False


class NearestWithin(PartitionCrossmatch):
    """The nearest neighbours within a radius, by the positions as they are in both tables.

    Rows with a position that is null or NaN match nothing. For mutual neighbours both partitions have all rows that
    may be rivals.

    Parameters
    ----------
    neighbours : Neighbours
    """

    extra_columns = pd.DataFrame(
        {name: pd.Series(dtype=pd.ArrowDtype(kind)) for name, kind in _TYPES.items()}
    )

    def __init__(self, neighbours: Neighbours) -> None:
        super().__init__()
        self.neighbours = neighbours

    def perform_crossmatch(self, crossmatch_args: Any) -> tuple[Indices, Indices, pd.DataFrame]:
        """Match two partitions; see the base class."""
        left = positions(crossmatch_args.left_df, crossmatch_args.left_catalog_info)
        right = positions(crossmatch_args.right_df, crossmatch_args.right_catalog_info)
        wanted = self.neighbours
        if wanted.mutual:
            i, j, separation = mutual_within(left, right, wanted.radius_arcsec)
        else:
            i, j, separation = nearest_within(left, right, wanted.radius_arcsec, wanted.n_nearest)
        number = np.arange(len(i)) - np.searchsorted(i, i) + 1
        values = {"match_arcsec": separation, "match_no": number}
        extra = pd.DataFrame(
            {name: pd.Series(value, dtype=pd.ArrowDtype(_TYPES[name])) for name, value in values.items()}
        )
        return i, j, extra


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a match.

    Attributes
    ----------
    table : HatsFiles
    names : mapping
        Columns of the table, and what each is called in the result. Positions that it has not are read besides.
    """

    table: HatsFiles
    names: Mapping[str, str]

    @property
    def positions(self) -> tuple[str, str]:
        """Names of the positions while it is matched."""
        ra, dec = self.table.ra, self.table.dec
        return self.names.get(ra, _HIDDEN[0]), self.names.get(dec, _HIDDEN[1])


def sides(
    left: HatsFiles,
    right: HatsFiles,
    columns: tuple[Sequence[str] | None, Sequence[str] | None],
    suffixes: tuple[str, str],
) -> tuple[Side, Side]:
    """Return both sides of a match with the names of their columns, which get a suffix where both have them.

    Names that differ only in case count as equal, as in SQL. What is no letter or digit becomes an underscore. The
    left side always has its positions.

    Raises
    ------
    UsageError
        If there is no such column, or two of the result have one name.
    """
    of_left = left.columns(columns[0])
    of_left = [*(name for name in (left.ra, left.dec) if name not in of_left), *of_left]
    of_right = right.columns(columns[1])
    both = {_plain(name).lower() for name in of_left} & {_plain(name).lower() for name in of_right}
    named = [
        {name: _plain(name) + (suffix if _plain(name).lower() in both else "") for name in names}
        for names, suffix in ((of_left, suffixes[0]), (of_right, suffixes[1]))
    ]
    taken = [INDEX, *(column.name for column in _ADDED)]
    for name in (*named[0].values(), *named[1].values()):
        if name.lower() in taken:
            raise UsageError(
                f"two columns of the result are called {name}; choose others with --left-columns and --right-columns, "
                "or other --suffixes"
            )
        taken.append(name.lower())
    return Side(left, named[0]), Side(right, named[1])


def _plain(name: str) -> str:
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{plain}" if plain[:1].isdigit() else plain


def result_schema(name: str, left: Side, right: Side, description: str) -> TableSchema:
    """Return the schema of the table that a match makes.

    Raises
    ------
    UsageError
        If a column has a type that no table of a lake has.
    """
    index = Column(
        INDEX, "long", "HEALPix index of the position (NESTED, order 29)", False, None, "pos.healpix"
    )
    columns = [index]
    for side in (left, right):
        for source, target in side.names.items():
            column = column_of(side.table.schema.field(source), target)
            if column is None:
                kind = side.table.schema.field(source).type
                raise UsageError(
                    f"{side.table.name}: the column {source} is of the type {kind}, which no table of a lake has; "
                    "choose others with --left-columns and --right-columns"
                )
            columns.append(column)
    ra, dec = left.positions
    key = (INDEX, ra, dec, "match_no")
    return TableSchema(
        name, 1, description, (*columns, *_ADDED), key, TableLayout("hats", key, "object", ra, dec)
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads a partition of one side."""

    table: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    schema: pa.Schema
    file_schema: pa.Schema
    reads: tuple[str, ...]
    makes: Callable[[pa.Table, Sequence[str]], pa.Table] | None

    def frame(self, rows: pa.Table) -> Any:
        """Return rows as lsdb wants them."""
        from nested_pandas import NestedFrame

        named = rows.select([INDEX, *self.columns]).rename_columns([INDEX, *self.names])
        frame = named.replace_schema_metadata(None).to_pandas(types_mapper=pd.ArrowDtype)
        # lsdb takes the index of order 29 for plain integers.
        frame[INDEX] = frame[INDEX].astype(np.int64)
        return NestedFrame(frame.set_index(INDEX))


def read_partition(
    pixel: Any, reader: _Reader, radius_arcsec: float | None, files: Sequence[tuple[str, int | None]]
) -> Any:
    """Return the rows of one side for a partition; runs on a worker."""
    ranges = _reached((pixel.order, pixel.pixel), radius_arcsec)
    known = [(place(path), n_rows) for path, n_rows in files]
    try:
        rows = read_ranges(known, ranges, reader.file_schema, reader.reads)
    except (OSError, ValueError, pa.ArrowException) as error:
        lost = next((path for path, _ in known if not path.exists()), None)
        why = "a file of it is missing" if lost is not None else reason_of(error)
        raise CatalogError(
            f"{lost or reader.table}: the table cannot be read ({why}); fetch it again, or verify its lake"
        ) from error
    if reader.makes is not None:
        rows = reader.makes(rows, [INDEX, *reader.columns])
    return reader.frame(rows)


def _reader(side: Side) -> _Reader:
    table, (ra, dec) = side.table, side.positions
    renamed = {**side.names, table.ra: ra, table.dec: dec}
    columns = tuple(renamed)
    reads = columns if table.reads is None else tuple(table.reads([INDEX, *columns]))
    in_files = table.file_schema or table.schema
    return _Reader(table.name, columns, tuple(renamed.values()), table.schema, in_files, reads, table.makes)


def partitions(left: HatsFiles, right: HatsFiles, neighbours: Neighbours) -> list[Pixel]:
    """Return the pixels in which two tables are matched, in the order of the space-filling curve."""
    pixels = refined(left.leaves, right.leaves)
    if neighbours.how == "left":
        return pixels
    others = _Leaves(right.leaves)
    return [one for one in pixels if others.touched(_reached(one, neighbours.radius_arcsec))]


def reads_few(
    left: HatsFiles, right: HatsFiles, neighbours: Neighbours, pixels: Sequence[Pixel], most: int
) -> bool:
    """Tell whether a match in some pixels reads at most so many rows; False where it takes long to know."""
    if len(pixels) > _MANY_PIXELS:
        return False
    total = 0.0
    for table, radius in ((left, None), (right, neighbours.radius_arcsec)):
        leaves = _Leaves(table.leaves)
        for leaf in {leaf for pixel in pixels for leaf in leaves.touched(_reached(pixel, radius))}:
            for path, n_rows in table.leaves[leaf].items():
                if n_rows is None and is_url(path):
                    return False
                total += _n_rows_of(path) if n_rows is None else n_rows
                if total > most:
                    return False
    return True


def _n_rows_of(path: Path) -> float:
    """Return how many rows a file has; infinitely many if it cannot be read, which the match itself reports."""
    try:
        return float(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return float("inf")


class _Leaves:
    """The pixels of a table in the order of the space-filling curve, which do not overlap."""

    def __init__(self, pixels: Iterable[Pixel]) -> None:
        self.pixels = sorted(pixels, key=lambda one: pixel_range(*one))
        ranges = np.array([pixel_range(*one) for one in self.pixels], np.int64).reshape(-1, 2)
        self._starts, self._ends = ranges[:, 0], ranges[:, 1]

    def touched(self, ranges: IntArray) -> list[Pixel]:
        """Return the pixels that sorted ranges of the index touch."""
        first = np.searchsorted(self._ends, ranges[:, 0], side="right")
        last = np.searchsorted(self._starts, ranges[:, 1], side="left")
        counts = np.zeros(len(self.pixels) + 1, np.int64)
        np.add.at(counts, first, first < last)
        np.subtract.at(counts, last, first < last)
        return [self.pixels[place] for place in np.flatnonzero(np.cumsum(counts[:-1]) > 0)]


def _reached(pixel: Pixel, radius_arcsec: float | None) -> IntArray:
    """Return the ranges of the index of a pixel, with its surroundings if there is a radius."""
    if radius_arcsec is None:
        return np.array([pixel_range(*pixel)], np.int64)
    return grown_ranges(pixel, radius_arcsec)


def match_graph(left: Side, right: Side, neighbours: Neighbours, pixels: Sequence[Pixel]) -> list[Any]:
    """Return the partitions of a match, as delayed frames of lsdb, one for each of some pixels.

    A partition may have rows of the left side that lie in neighbouring pixels, which is to leave out.
    """
    keep_compiled()
    radius = neighbours.radius_arcsec
    # A rival is as near to a star as the radius, and the star to its pixel.
    reach = 2.0 * radius if neighbours.mutual else None
    with warnings.catch_warnings():
        # The partitions of the right side have their surroundings in them.
        warnings.filterwarnings("ignore", "Right catalog does not have a margin cache", RuntimeWarning)
        matched = _catalog(left, pixels, reach).crossmatch(
            _catalog(right, pixels, radius),
            algorithm=NearestWithin(neighbours),
            how=neighbours.how,
            suffixes=("", "_right"),
            suffix_method="overlapping_columns",
            log_changes=False,
        )
    found = [(one.order, one.pixel) for one in matched.get_healpix_pixels()]
    by_pixel = dict(zip(found, matched.to_delayed(), strict=True))
    return [by_pixel[pixel] for pixel in pixels]


def _catalog(side: Side, pixels: Sequence[Pixel], radius_arcsec: float | None) -> Any:
    """Return a side as a catalog of lsdb with given partitions, those of the right side with their surroundings."""
    import lsdb
    from hats import HealpixPixel
    from hats.catalog import Catalog, TableProperties
    from lsdb.operations.lsdb_ops import FromHealpixMap

    leaves, reader = _Leaves(side.table.leaves), _reader(side)
    files = [files_in(side.table.leaves, leaves.touched(_reached(pixel, radius_arcsec))) for pixel in pixels]
    healpix = [HealpixPixel(*pixel) for pixel in pixels]
    meta = reader.frame(reader.schema.empty_table())
    operation = FromHealpixMap(
        read_partition,
        healpix,
        reader,
        radius_arcsec,
        meta=meta,
        map_kwargs={"files": files},
        verify_meta=False,
    )
    ra, dec = side.positions
    info = TableProperties(
        catalog_name="side",
        catalog_type="object",
        total_rows=0,
        ra_column=ra,
        dec_column=dec,
        healpix_column=INDEX,
        healpix_order=29,
    )
    return lsdb.Catalog(operation, Catalog(info, healpix, schema=reader.schema))


def rows_of(frame: Any, pixel: Pixel, names: Sequence[str]) -> pa.Table:
    """Return the rows of a partition that lie in its pixel, with some columns."""
    low, high = pixel_range(*pixel)
    index = frame.index.to_numpy()
    own = pd.DataFrame(frame[(index >= low) & (index < high)].reset_index())
    return pa.Table.from_pandas(own, preserve_index=False).select(list(names))

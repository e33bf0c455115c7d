"""Rows of a HATS catalog within a cone, a box or ranges of its index, read with as few row groups as possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import IntArray, within
from skylake.errors import CatalogError
from skylake.places import parquet_format
from skylake.sky.footers import read_footer
from skylake.sky.hats import Leaves, leaf_files, read_common_metadata, read_pixels
from skylake.sky.pixels import Pixel, box_ranges, cone_ranges, pixel_range
from skylake.sky.sky_polygon import Polygon

if TYPE_CHECKING:
    import pyarrow.dataset as pds

_INDEX = "_healpix_29"
#: More than what rounding takes from a difference of declinations.
_ROUNDING_DEG = 1e-9
#: Bins in which magnitudes are counted, rows that are counted at a time, and how many times too many may be read.
_MAGNITUDES = np.round(np.arange(-30.0, 60.05, 0.1), 1)
_BATCH = 65_536
_SURELY = 4


class WrongCount(CatalogError):
    """A file has another number of rows than it should have.

    Parameters
    ----------
    path : Path
    why : str
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path, self.why = path, why

    def __reduce__(self) -> tuple[type[WrongCount], tuple[Path, str]]:
        """Rebuild from both arguments."""
        return (type(self), (self.path, self.why))


def read_cone(
    root: Path,
    ra_deg: float,
    dec_deg: float,
    radius_deg: float,
    columns: Sequence[str] | None = None,
    filter: Any = None,
    schema: pa.Schema | None = None,
    leaves: Leaves | None = None,
) -> pa.Table:
    """Return the rows of a catalog within a cone; without rows where no file touches it.

    Parameters
    ----------
    root : Path
        A HATS catalog with a folder per pixel.
    ra_deg, dec_deg, radius_deg : float
    columns : sequence of str or None
        Columns to read; None reads all.
    filter : pyarrow.compute.Expression or None
        Chooses rows.
    schema : pyarrow.Schema or None
        Schema of the rows; None takes that of the catalog. What a file lacks is null, what is narrower is widened.
    leaves : mapping or None
        The files of each pixel and their rows, as they ought to be; None takes those that are in the folders of the
        pixels that the catalog lists.

    Raises
    ------
    WrongCount
        If a file has another number of rows than it should have.
    OSError, pyarrow.ArrowInvalid
        If a file is missing or cannot be read.
    """
    ranges = cone_ranges(ra_deg, dec_deg, radius_deg)
    dataset = _dataset(root, ranges, schema or read_common_metadata(root), leaves)
    table = dataset.to_table(columns=_with_positions(columns), filter=_near(ranges, filter))
    table = table.filter(pa.array(_inside(table, ra_deg, dec_deg, radius_deg)))
    return table if columns is None else table.select(list(columns))


@dataclass(frozen=True, slots=True)
class Box:
    """A box of right ascension and declination.

    Attributes
    ----------
    ra_deg : (float, float)
        Western and eastern limit; where the second is not the larger one, the box goes through RA 0.
    dec_deg : (float, float)
        Southern and northern limit.
    """

    ra_deg: tuple[float, float]
    dec_deg: tuple[float, float]

    @property
    def width_deg(self) -> float:
        """Extent in right ascension, at most 360."""
        extent = self.ra_deg[1] - self.ra_deg[0]
        # All around may be more than 360 degrees by rounding.
        return min(extent, 360.0) if 0.0 <= extent <= 360.0 + _ROUNDING_DEG else extent % 360.0

    @property
    def ranges(self) -> IntArray:
        """Ranges of the index that cover it."""
        return box_ranges(self.ra_deg[0], self.width_deg, *self.dec_deg)

    def holds(
        self, ra_deg: npt.NDArray[np.float64], dec_deg: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Return which positions are in the box, its limits included; a NaN is not."""
        south, north = self.dec_deg
        east = (ra_deg - self.ra_deg[0]) % 360.0
        # What rounding puts just west of the western limit would be nearly 360 degrees east of it.
        in_ra = (east <= self.width_deg) | (east >= 360.0 - _ROUNDING_DEG)
        return np.asarray(in_ra & (dec_deg >= south) & (dec_deg <= north))


def read_area(root: Path, area: Box | Polygon, filter: Any = None) -> pa.Table:
    """Return the rows of a catalog in a box of right ascension and declination, or in a polygon.

    Parameters
    ----------
    root : Path
        A HATS catalog with a folder per pixel.
    area : Box or Polygon
    filter : pyarrow.compute.Expression or None
        Chooses rows.

    Raises
    ------
    OSError, pyarrow.ArrowInvalid
        If a file is missing or cannot be read.
    """
    ranges = area.ranges
    table = _dataset(root, ranges, read_common_metadata(root), None).to_table(filter=_near(ranges, filter))
    ra, dec = (np.asarray(table[name], float) for name in ("ra_deg", "dec_deg"))
    return table.filter(pa.array(area.holds(ra, dec)))


def read_ranges(
    files: Sequence[tuple[Path, int | None]],
    ranges: IntArray,
    schema: pa.Schema,
    columns: Sequence[str],
    filter: Any = None,
) -> pa.Table:
    """Return the rows of some files of a HATS table whose index is in ranges, in the order of files and rows.

    Parameters
    ----------
    files : sequence of (Path, int or None)
        With the rows that each ought to have.
    ranges : ndarray of int64, shape (n, 2)
        Half open, sorted, of order 29; at least one.
    schema : pyarrow.Schema
        What a file lacks is null, what is narrower is widened.
    columns : sequence of str
        Those to read; the index comes along.
    filter : pyarrow.compute.Expression or None
        Chooses rows.

    Raises
    ------
    WrongCount
        If a file has another number of rows than it should have.
    OSError, pyarrow.ArrowInvalid
        If a file is missing or cannot be read.
    """
    wanted = list(dict.fromkeys([_INDEX, *columns]))
    table = _of_files(files, ranges, schema).to_table(columns=wanted, filter=_near(ranges, filter))
    index = np.asarray(table[_INDEX], np.int64)
    position = np.searchsorted(ranges[:, 1], index, side="right")
    inside = ranges[np.minimum(position, len(ranges) - 1), 0] <= index
    return table.filter(pa.array(inside & (position < len(ranges))))


def _with_positions(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(dict.fromkeys([*columns, "ra_deg", "dec_deg"]))


def _near(ranges: IntArray, filter: Any) -> Any:
    """Return a filter by which rows far away are dropped before the other columns are put together."""
    near = _between(ranges)
    return near if filter is None else near & filter


def faintest_of(
    root: Path, ra_deg: float, dec_deg: float, radius_deg: float, column: str, most: int
) -> float:
    """Return the value of a column up to which a cone has about `most` rows, read batch by batch; infinity for all.

    Parameters
    ----------
    root : Path
        A HATS catalog with a folder per pixel.
    ra_deg, dec_deg, radius_deg : float
    column : str
        Magnitudes; rows without one do not count.
    most : int
        Rows. Four times as many may come where files show that there are no more, since to count takes as long as to
        read.
    """
    ranges = cone_ranges(ra_deg, dec_deg, radius_deg)
    dataset = _dataset(root, ranges, read_common_metadata(root), None)
    if dataset.count_rows() <= _SURELY * most:
        return float("inf")
    counts = np.zeros(len(_MAGNITUDES) - 1, np.int64)
    batches = dataset.to_batches(
        columns=["ra_deg", "dec_deg", column],
        filter=_between(ranges),
        batch_size=_BATCH,
        batch_readahead=2,
        fragment_readahead=1,
    )
    for batch in batches:
        inside = _inside(batch, ra_deg, dec_deg, radius_deg)
        values = np.asarray(batch[column].to_numpy(zero_copy_only=False), float)[inside]
        counts += np.histogram(values[np.isfinite(values)], _MAGNITUDES)[0]
    total = np.cumsum(counts)
    if total[-1] <= most:
        return float("inf")
    # The first bins that have any are taken, though they may have too many.
    return float(
        _MAGNITUDES[1 + max(np.searchsorted(total, most, side="right") - 1, np.flatnonzero(counts)[0])]
    )


def _inside(rows: Any, ra_deg: float, dec_deg: float, radius_deg: float) -> npt.NDArray[np.bool_]:
    """Return which rows are within a cone."""
    ra, dec = np.asarray(rows["ra_deg"]), np.asarray(rows["dec_deg"])
    # Most rows that came along are found to be outside by their declination alone.
    inside = np.abs(dec - dec_deg) <= radius_deg + _ROUNDING_DEG
    inside[inside] = within(ra_deg, dec_deg, radius_deg, ra[inside], dec[inside])
    return inside


def _between(ranges: IntArray) -> Any:
    """Return the condition that a row is within the outermost bounds of ranges."""
    import pyarrow.compute as pc

    index = pc.field(_INDEX)
    return (index >= int(ranges[0, 0])) & (index < int(ranges[-1, 1]))


def _dataset(root: Path, ranges: IntArray, schema: pa.Schema, leaves: Leaves | None) -> pds.FileSystemDataset:
    """Return the row groups of a catalog that ranges of the index touch."""
    pixels = touched_pixels(read_pixels(root) if leaves is None else sorted(leaves), ranges)
    files: list[tuple[Path, int | None]] = (
        [(path, None) for _, path in leaf_files(root, pixels)]
        if leaves is None
        else [file for pixel in pixels for file in leaves[pixel].items()]
    )
    return _of_files(files, ranges, schema)


def _of_files(
    files: Sequence[tuple[Path, int | None]], ranges: IntArray, schema: pa.Schema
) -> pds.FileSystemDataset:
    """Return the row groups of some files that ranges of the index touch."""
    import pyarrow.dataset as pds

    fragments = [
        fragment for path, n_rows in files if (fragment := _fragment(path, ranges, n_rows)) is not None
    ]
    return pds.FileSystemDataset(fragments, schema, parquet_format())


def _fragment(path: Path, ranges: IntArray, n_rows: int | None) -> pds.ParquetFileFragment | None:
    """Return those row groups of a file whose statistics do not exclude the ranges; None if there are none."""
    footer = read_footer(path)
    if n_rows is not None and footer.n_rows != n_rows:
        raise WrongCount(path, f"the file has {footer.n_rows} rows instead of {n_rows}")
    groups = footer.touched(ranges)
    # The metadata goes with the subset, so that it is not read again.
    return footer.fragment.subset(row_group_ids=groups) if groups else None


def touched_leaves(leaves: Leaves, ra_deg: float, dec_deg: float, radius_deg: float) -> list[Pixel]:
    """Return the pixels among those of a catalog that a cone touches."""
    return touched_pixels(sorted(leaves), cone_ranges(ra_deg, dec_deg, radius_deg))


def touched_pixels(pixels: Iterable[Pixel], ranges: IntArray) -> list[Pixel]:
    """Return those of some pixels that ranges of the index touch, in their order."""
    return [pixel for pixel in pixels if _touches(ranges, *pixel_range(*pixel))]


def _touches(ranges: IntArray, start: int, end: int) -> bool:
    """Return whether the half-open range [start, end) meets any of sorted ranges."""
    position = int(np.searchsorted(ranges[:, 1], start, side="right"))
    return position < len(ranges) and int(ranges[position, 0]) < end

"""Which places the frames of a camera cover, counted on cells of the sky that are small beside an image.

:class:`Coverage` is that of a night, the table ``coverage`` that of all nights. A night adds to the table and reads no
frames of the past.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import INDEX_ORDER, unit_vectors
from skylake.schema import conform, empty_table, load
from skylake.table.maps import pixels_of_region

Integers = npt.NDArray[np.int64]

NAME = "coverage"
#: Columns of ``frames`` that say what it covers.
PLACE_COLUMNS = ("ra_deg", "dec_deg", "pixel_scale_arcsec", "width_px", "height_px", "s_region")
#: Cells along the smaller side of an image, about.
_CELLS = 64
#: Side of a HEALPix cell of order 0, degrees, and the finest order that is used.
_ORDER_ZERO_DEG, _FINEST = 58.6, 13
#: A camera that sees the whole sky sees stars down to so far from the zenith, degrees.
_WHOLE_SKY_DEG = 80.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """On how many frames each cell of the sky is.

    Attributes
    ----------
    order : int
        Of the cells, NESTED.
    cells, counts : ndarray of int64, shape (n,)
        Cells that any frame covers, in order, and on how many frames each is.
    size_deg : float
        Smaller side of the images; 0 without frames.
    """

    order: int
    cells: Integers
    counts: Integers
    size_deg: float

    def frames_at(self, index: Integers) -> Integers:
        """Return on how many frames places are, given by their HEALPix indices (NESTED, order 29)."""
        return _values_at(self.cells, self.counts, _cell_of(index, self.order))

    def at_order(self, order: int) -> Coverage:
        """Return the same on cells of another order; a coarser one has the mean of those in it, rounded."""
        step = 2 * (self.order - order)
        if step <= 0:
            cells = np.arange(1 << -step) + (self.cells[:, None] << -step)
            return Coverage(order, cells.ravel(), np.repeat(self.counts, 1 << -step), self.size_deg)
        cells, which = np.unique(self.cells >> step, return_inverse=True)
        total = np.bincount(which, self.counts, len(cells)) / (1 << step)
        counts = np.floor(total + 0.5).astype(np.int64)
        return Coverage(order, cells[counts > 0], counts[counts > 0], self.size_deg)


@dataclass(frozen=True, slots=True)
class SkySeen:
    """What the frames of all nights of a camera cover: a row of ``coverage`` for each cell.

    Attributes
    ----------
    order : int
        Of the cells, NESTED: that of the first night.
    cells : ndarray of int64, shape (n,)
        In order.
    nights, frames : ndarray of int64, shape (n,)
        Nights and frames that cover each.
    first, last : ndarray of int64, shape (n,)
        The first and the last of these nights, YYYYMMDD.
    """

    order: int
    cells: Integers
    nights: Integers
    frames: Integers
    first: Integers
    last: Integers

    @classmethod
    def of(cls, rows: pa.Table) -> SkySeen:
        """Return what rows of ``coverage`` of one camera say."""
        rows = rows.sort_by("healpix_pixel")
        names = ("healpix_pixel", "n_nights", "n_frames", "night_first", "night_last")
        order = int(rows["healpix_order"][0].as_py()) if rows.num_rows else 0
        return cls(order, *(rows[name].to_numpy().astype(np.int64) for name in names))

    def table(self, camera: str) -> pa.Table:
        """Return the rows of ``coverage`` of a camera."""
        n = len(self.cells)
        if n == 0:
            return empty_table(load(NAME))
        columns = {
            "camera": pa.repeat(camera, n),
            "healpix_order": np.full(n, self.order),
            "healpix_pixel": self.cells,
            "n_nights": self.nights,
            "n_frames": self.frames,
            "night_first": self.first,
            "night_last": self.last,
        }
        return conform(pa.table(columns), load(NAME))

    def after(self, covered: Coverage, night: int) -> SkySeen:
        """Return the same after a later night."""
        if len(covered.cells) == 0:
            return self
        order = self.order if len(self.cells) else covered.order
        covered = covered.at_order(order)
        cells = np.union1d(self.cells, covered.cells)
        old, new = np.searchsorted(cells, self.cells), np.searchsorted(cells, covered.cells)
        nights, frames, last = (np.zeros(len(cells), np.int64) for _ in range(3))
        first = np.full(len(cells), night, np.int64)
        nights[old], frames[old], first[old], last[old] = self.nights, self.frames, self.first, self.last
        nights[new] += 1
        frames[new] += covered.counts
        last[new] = night
        return SkySeen(order, cells, nights, frames, first, last)

    def well_inside(self, index: Integers) -> tuple[Integers, Integers]:
        """Return how many nights and frames cover places and all that is around them.

        A place at an edge, where it is covered or not by the error of a cell, has the least of its cell and those
        around it.

        Parameters
        ----------
        index : ndarray of int64, shape (n,)
            HEALPix indices (NESTED, order 29).
        """
        import healpy

        if len(self.cells) == 0 or len(index) == 0:
            return np.zeros(len(index), np.int64), np.zeros(len(index), np.int64)
        cell = _cell_of(index, self.order)
        around = np.vstack([cell, healpy.get_all_neighbours(2**self.order, cell, nest=True)])
        # Some cells have seven neighbours.
        around = np.where(around < 0, cell, around)
        nights, frames = (_values_at(self.cells, one, around) for one in (self.nights, self.frames))
        return nights.min(axis=0), frames.min(axis=0)


def _cell_of(index: Integers, order: int) -> Integers:
    return np.asarray(index, np.int64) >> (2 * (INDEX_ORDER - order))


def _values_at(cells: Integers, values: Integers, wanted: Integers) -> Integers:
    """Return the values of some cells; 0 for those that are not there."""
    if len(cells) == 0:
        return np.zeros(wanted.shape, np.int64)
    place = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
    return np.where(cells[place] == wanted, values[place], 0)


def coverage_of(frames: pa.Table) -> Coverage:
    """Return what some frames cover.

    A cell is covered if its centre is on the image. A frame without an outline, as of the whole sky, covers a circle
    about its centre.

    Parameters
    ----------
    frames : pyarrow.Table
        :data:`PLACE_COLUMNS`; frames without a place or a size cover nothing.
    """
    rows = [
        row
        for row in frames.select(list(PLACE_COLUMNS)).to_pylist()
        if all(row[name] is not None for name in PLACE_COLUMNS[:-1])
    ]
    sizes = [_size_deg(row) for row in rows]
    if not rows:
        return Coverage(0, np.zeros(0, np.int64), np.zeros(0, np.int64), 0.0)
    size = float(np.median(sizes))
    order = int(np.clip(np.ceil(np.log2(_ORDER_ZERO_DEG * _CELLS / size)), 0, _FINEST))
    pieces = [np.repeat(pixels, count) for pixels, count in _held(rows, sizes, order)]
    cells, counts = np.unique(np.concatenate(pieces), return_counts=True)
    return Coverage(order, cells, counts.astype(np.int64), size)


def _held(
    rows: list[dict[str, float | str | None]], sizes: list[float], order: int
) -> Iterator[tuple[Integers, int]]:
    """Yield the cells of each outline, and on how many frames it is; those of a camera that stands still are alike."""
    import healpy

    regions: dict[tuple[object, ...], int] = {}
    for row, size in zip(rows, sizes, strict=True):
        place: tuple[object, ...] = (row["ra_deg"], row["dec_deg"], size)
        key = (row["s_region"],) if row["s_region"] else place
        regions[key] = regions.get(key, 0) + 1
    for key, count in regions.items():
        if len(key) == 1:
            yield pixels_of_region(str(key[0]), order), count
            continue
        ra, dec, size = (float(value) for value in key)  # type: ignore[arg-type]
        radius = np.radians(_radius_deg(size))
        found = healpy.query_disc(2**order, unit_vectors(ra, dec), radius, nest=True)
        yield np.asarray(found, np.int64), count


def circle_deg(frame: Mapping[str, Any]) -> float:
    """Return the radius of the circle that a frame without an outline covers, degrees.

    Parameters
    ----------
    frame : mapping
        :data:`PLACE_COLUMNS`, without null of the size.
    """
    return _radius_deg(_size_deg(frame))


def _size_deg(frame: Mapping[str, Any]) -> float:
    return float(min(frame["width_px"], frame["height_px"]) * frame["pixel_scale_arcsec"] / 3600.0)


def _radius_deg(size_deg: float) -> float:
    return min(0.5 * size_deg, _WHOLE_SKY_DEG)

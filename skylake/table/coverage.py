"""Which places the frames of a night cover, counted on cells of the sky that are small beside an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import INDEX_ORDER, unit_vectors
from skylake.table.maps import pixels_of_region

Integers = npt.NDArray[np.int64]

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
        if len(self.cells) == 0:
            return np.zeros(len(index), np.int64)
        cell = np.asarray(index, np.int64) >> (2 * (INDEX_ORDER - self.order))
        place = np.minimum(np.searchsorted(self.cells, cell), len(self.cells) - 1)
        return np.where(self.cells[place] == cell, self.counts[place], 0)


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
    sizes = [min(row["width_px"], row["height_px"]) * row["pixel_scale_arcsec"] / 3600.0 for row in rows]
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
        radius = np.radians(min(0.5 * size, _WHOLE_SKY_DEG))
        found = healpy.query_disc(2**order, unit_vectors(ra, dec), radius, nest=True)
        yield np.asarray(found, np.int64), count

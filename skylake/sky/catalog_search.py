"""Stars of a reference catalog in a cone or box, within limits of magnitude and colour; and the sky that it covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.bands import colour_column, mag_column
from skylake.core.sphere import INDEX_ORDER, separation_deg
from skylake.errors import UsageError
from skylake.sky.lake_catalogs import ReferenceCatalog

#: From and to; None is no limit.
Range = tuple[float | None, float | None]
_INDEX = "_healpix_29"
#: Finest order at which stars are counted, and how many of them a pixel should have on average.
FINEST = 9
_STARS_IN_PIXEL = 16
#: Error of a difference of two magnitudes below 32 that are stored as float32.
_ROUNDING = 4e-6
_SKY_SQUARE_DEG = 129_600.0 / np.pi


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of magnitude by band and of colour by name, both ends included."""

    magnitudes: Mapping[str, Range]
    colours: Mapping[str, Range]

    def expression(self, catalog: ReferenceCatalog) -> Any:
        """Return the limits as a filter of Arrow, None without any. Stars that lack a value are outside.

        Raises
        ------
        CatalogError
            If the catalog has no such band or colour.
        """
        conditions = [
            condition
            for band, limits in self.magnitudes.items()
            for condition in _between(_magnitude(catalog, band), limits)
        ]
        conditions += [
            condition
            for colour, limits in self.colours.items()
            for condition in _colour_between(catalog, colour, limits)
        ]
        expression = None
        for condition in conditions:
            expression = condition if expression is None else expression & condition
        return expression


def _between(value: Any, limits: Range, tolerance: float = 0.0) -> list[Any]:
    low, high = limits
    # A comparison with null is null, which a filter takes for false. Limits are rounded as the stored values are, so
    # that a star at the limit is within.
    conditions = [] if low is None else [value >= pa.scalar(low - tolerance, pa.float32())]
    return conditions if high is None else [*conditions, value <= pa.scalar(high + tolerance, pa.float32())]


def _magnitude(catalog: ReferenceCatalog, band: str) -> Any:
    import pyarrow.compute as pc

    if band not in catalog.bands:
        raise UsageError(
            f"the catalog {catalog.name} has no magnitudes {band!r}; it has {', '.join(catalog.bands) or 'none'}"
        )
    return pc.field(mag_column(band))


def _colour_between(catalog: ReferenceCatalog, colour: str, limits: Range) -> list[Any]:
    import pyarrow.compute as pc

    if colour in catalog.colours:
        return _between(pc.field(colour_column(colour)), limits)
    blue, _, red = colour.partition("-")
    if blue not in catalog.bands or red not in catalog.bands:
        raise UsageError(
            f"the catalog {catalog.name} has no colour {colour!r}; it has {', '.join(catalog.colours) or 'none'}, and "
            f"magnitudes in {', '.join(catalog.bands) or 'no band'}"
        )
    return _between(pc.field(mag_column(blue)) - pc.field(mag_column(red)), limits, _ROUNDING)


def nearest_first(
    catalog: ReferenceCatalog, ra_deg: float, dec_deg: float, radius_deg: float, limits: Limits
) -> pa.Table:
    """Return the stars in a cone with their distance in arcseconds, the nearest first."""
    rows = catalog.cone(ra_deg, dec_deg, radius_deg, filter=limits.expression(catalog))
    ra, dec = (np.asarray(rows[name], float) for name in ("ra_deg", "dec_deg"))
    distance = separation_deg(ra_deg, dec_deg, ra, dec) * 3600.0
    text = {"unit": "arcsec", "description": "Distance from the centre of the cone"}
    rows = rows.append_column(pa.field("distance_arcsec", pa.float64(), metadata=text), pa.array(distance))
    return rows.take(np.argsort(distance, kind="stable"))


@dataclass(frozen=True, slots=True)
class Coverage:
    """The pixels of one order that have stars.

    Attributes
    ----------
    order : int
    pixels : ndarray of int64
        NESTED numbers, sorted.
    counts : ndarray of int64
        Stars in each.
    """

    order: int
    pixels: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @property
    def sky_fraction(self) -> float:
        """Covered part of the sky."""
        return float(len(self.pixels) / (12 * 4**self.order))

    @property
    def area_square_deg(self) -> float:
        """Covered area."""
        return float(self.sky_fraction * _SKY_SQUARE_DEG)

    @property
    def stars_per_square_deg(self) -> npt.NDArray[np.float64]:
        """Density of stars in each pixel."""
        return np.asarray(self.counts * (12 * 4**self.order) / _SKY_SQUARE_DEG)

    def write_moc(self, path: Path) -> None:
        """Write the pixels as a multi-order coverage map: FITS, JSON, or ASCII for .txt.

        Raises
        ------
        UsageError
            If the suffix names no format.
        OSError
            If it cannot be written.
        """
        from mocpy import MOC

        forms = {".fits": "fits", ".json": "json", ".txt": "ascii"}
        if path.suffix.lower() not in forms:
            raise UsageError(f"{path}: the suffix names no format of coverage maps; use .fits, .json or .txt")
        depth = np.full(len(self.pixels), self.order, np.uint8)
        moc = MOC.from_healpix_cells(self.pixels.astype(np.uint64), depth, self.order)
        form = forms[path.suffix.lower()]
        if form == "fits":
            moc.save(path, format=form, overwrite=True)
        else:
            path.write_text(moc.to_string(form) + "\n", encoding="ascii")


def coverage(catalog: ReferenceCatalog, order: int | None = None) -> Coverage:
    """Return where a catalog has stars.

    Parameters
    ----------
    catalog : ReferenceCatalog
    order : int or None
        Order of the pixels, at most :data:`FINEST`; None takes the finest in which those with stars have 16 on
        average, so that a gap is one of the catalog and not between two stars.

    Raises
    ------
    CatalogError
        If a file is missing or damaged.
    """
    counts = np.zeros(12 * 4**FINEST, np.int64)
    for batch in catalog.batches([_INDEX]):
        pixels = batch[_INDEX].to_numpy() >> (2 * (INDEX_ORDER - FINEST))
        # Rows are sorted by the index, so a batch has few pixels.
        found, some = np.unique(pixels, return_counts=True)
        counts[found] += some
    at = FINEST
    while at > 0 if order is None else at > order:
        if order is None and counts.sum() >= _STARS_IN_PIXEL * np.count_nonzero(counts):
            break
        counts, at = counts.reshape(-1, 4).sum(axis=1), at - 1
    pixels = np.flatnonzero(counts).astype(np.int64)
    return Coverage(at, pixels, counts[pixels])

"""Copy the stars around detections from a catalog that is used in place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from skylake.core.sphere import INDEX_ORDER, IntArray, healpix_index
from skylake.sky.catalog_build import build_catalog
from skylake.sky.hats import leaf_files, read_pixels, read_properties
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import PixelTree, merge_ranges

#: Cells by which detections are located have this order, 0.23 degrees, or are larger than the margin.
_FINEST_ORDER = 8
#: Side of a cell of order 0, arcseconds, where it is narrowest.
_NARROWEST_ARCSEC = 140_000.0
#: The copy has a margin for stars that move, arcseconds.
_SPARE_ARCSEC = 60.0


@contextmanager
def stars_around(
    detections: Path, reference: ReferenceCatalog, radius_arcsec: float
) -> Iterator[Path | None]:
    """Give the collection of a catalog to match detections with: of one in place, a copy of the stars around them.

    Parameters
    ----------
    detections : Path
        HATS catalog with ``ra_deg`` and ``dec_deg``.
    reference : ReferenceCatalog
    radius_arcsec : float
        Radius of the match.

    Yields
    ------
    Path or None
        None where a catalog in place has no star near the detections.

    Raises
    ------
    CatalogError, LakeError
        If a catalog in place cannot be reached or read.
    """
    if reference.in_place is None:
        yield reference.collection
        return
    margin = radius_arcsec + _SPARE_ARCSEC
    pixels = read_pixels(detections)
    tables = reference.in_place.tables(_ranges_around(detections, margin), None)
    with tempfile.TemporaryDirectory(prefix="skylake-stars-") as folder:
        target = Path(folder) / reference.name
        stars = [table for table in tables if table.num_rows]
        if not stars:
            yield None
            return
        known = read_properties(reference.root)
        properties = {name: value for name, value in known.items() if name.startswith("skylake_")}
        tree = PixelTree.completed(pixels, 0)
        build_catalog(stars, reference.in_place.columns.schema, target, tree, margin, properties)
        yield target


def _ranges_around(detections: Path, margin_arcsec: float) -> IntArray:
    """Return ranges of indices that cover all places within a margin of detections."""
    from cdshealpix import nested

    order = int(np.clip(np.floor(np.log2(_NARROWEST_ARCSEC / margin_arcsec)), 0, _FINEST_ORDER))
    cells = np.zeros(0, np.int64)
    shift = 2 * (INDEX_ORDER - order)
    for _, path in leaf_files(detections, read_pixels(detections)):
        rows = pq.read_table(path, columns=["ra_deg", "dec_deg"], partitioning=None)
        ra, dec = (np.asarray(rows[name].to_numpy(), float) for name in ("ra_deg", "dec_deg"))
        known = np.isfinite(ra) & np.isfinite(dec)
        cells = np.union1d(cells, healpix_index(ra[known], dec[known]) >> shift)
    if not len(cells):
        return np.zeros((0, 2), np.int64)
    # A cell is wider than the margin, so what is within that of it lies in it or in one of its neighbours.
    near = np.asarray(nested.neighbours(cells.astype(np.uint64), order)).astype(np.int64)
    every = np.unique(near[near >= 0])
    return merge_ranges(np.column_stack([every << shift, (every + 1) << shift]))

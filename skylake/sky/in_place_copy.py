"""Copy the stars around detections from a catalog that is used in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from skylake.core.sphere import IntArray
from skylake.scratch import scratch_folder
from skylake.sky.catalog_build import build_catalog
from skylake.sky.hats import leaf_files, read_pixels, read_properties
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import PixelTree, merge_ranges, ranges_around

#: Cells by which detections are located have this order, 0.23 degrees, or are larger than the margin.
_FINEST_ORDER = 8
#: The copy has a margin for stars that move, arcseconds.
_SPARE_ARCSEC = 60.0


@contextmanager
def stars_around(
    detections: Path, reference: ReferenceCatalog, radius_arcsec: float, columns: Sequence[str] | None = None
) -> Iterator[Path | None]:
    """Give the collection of a catalog to match detections with: of one in place, a copy of the stars around them.

    Parameters
    ----------
    detections : Path
        HATS catalog with ``ra_deg`` and ``dec_deg``.
    reference : ReferenceCatalog
    radius_arcsec : float
        Radius of the match.
    columns : sequence of str or None
        Columns that a copy needs beside positions and proper motions; None is all.

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
    known = None if columns is None else [*columns, "pm_ra_mas_yr", "pm_dec_mas_yr"]
    needed = reference.in_place.narrowed(known)
    tables = reference.in_place.tables(_ranges_around(detections, margin), known)
    with scratch_folder("stars") as folder:
        target = folder / reference.name
        stars = [table for table in tables if table.num_rows]
        if not stars:
            yield None
            return
        stated = read_properties(reference.root)
        properties = {name: value for name, value in stated.items() if name.startswith("skylake_")}
        tree = PixelTree.completed(pixels, 0)
        build_catalog(stars, needed.schema, target, tree, margin, properties)
        yield target


def _ranges_around(detections: Path, margin_arcsec: float) -> IntArray:
    """Return ranges of indices that cover all places within a margin of detections."""
    found = [np.zeros((0, 2), np.int64)]
    for _, path in leaf_files(detections, read_pixels(detections)):
        rows = pq.read_table(path, columns=["ra_deg", "dec_deg"], partitioning=None)
        ra, dec = (np.asarray(rows[name].to_numpy(), float) for name in ("ra_deg", "dec_deg"))
        found.append(ranges_around(ra, dec, margin_arcsec, _FINEST_ORDER))
    return merge_ranges(np.concatenate(found))

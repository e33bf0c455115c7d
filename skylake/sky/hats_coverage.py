"""Where on the sky a HATS catalog has rows: its MOC, as readers of HATS, of MOCs and of JSON look for it.

``point_map.fits`` is what hats reads, a HEALPix map; ``coverage.fits`` and ``coverage.json`` are the same as MOCs
(Fernique et al. 2022, *MOC: Multi-Order Coverage map*, a recommendation of the IVOA). Readers leave out what they take
to be outside, so a map may cover more than there is and never less.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from skylake.core.sphere import INDEX_ORDER, IntArray
from skylake.durable import replacing, text_of
from skylake.places import arrow_dataset
from skylake.schema.parquet import write_parquet
from skylake.sky.hats import find_pixels, leaf_files
from skylake.sky.pixels import Pixel

#: Cells of the maps are 14 arcminutes wide, so that the map of the whole sky has less than a megabyte.
COVERAGE_ORDER = 8
#: What hats reads, and the MOC as FITS and JSON.
POINT_MAP, MOC_FITS, MOC_JSON = "point_map.fits", "coverage.fits", "coverage.json"
COVERAGE_FILES = (POINT_MAP, MOC_FITS, MOC_JSON)
#: Rows of a reference catalog in each cell, which lsdb shows as its density.
SKYMAP = "skymap.fits"
#: One row of each pixel, as hats-import writes them.
THUMBNAIL = "data_thumbnail.parquet"
#: Stretches of covered cells that a map of a growing table may have, and those that it keeps when it has more.
MOST_STRETCHES, KEPT_STRETCHES = 4096, 256
_INDEX = "_healpix_29"
_N_CELLS = 12 << (2 * COVERAGE_ORDER)
_SHIFT = 2 * (INDEX_ORDER - COVERAGE_ORDER)


def cell_of(index: int) -> int:
    """Return the cell of the map that an order-29 index lies in."""
    return index >> _SHIFT


def count_rows(files: Iterable[Path]) -> IntArray:
    """Return how many rows some files have in each cell of the map, shape (cells,).

    Raises
    ------
    OSError, pyarrow.ArrowException
        If a file cannot be read.
    """
    counts = np.zeros(_N_CELLS, np.int64)
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=[_INDEX], use_threads=False):
                cells, rows = np.unique(np.asarray(batch.column(0)) >> _SHIFT, return_counts=True)
                counts[cells] += rows
    return counts


def read_coverage(root: Path) -> npt.NDArray[np.bool_] | None:
    """Return which cells a catalog covers, shape (cells,); None where it does not say.

    Raises
    ------
    ValueError
        If its map is damaged.
    """
    from mocpy import MOC

    try:
        moc = MOC.from_string(text_of(root / MOC_JSON), format="json")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"the coverage cannot be read ({type(error).__name__}: {error})") from error
    cells = np.zeros(_N_CELLS, bool)
    for start, end in np.asarray(moc.to_depth29_ranges, np.int64).reshape(-1, 2) >> _SHIFT:
        cells[start:end] = True
    return cells


def uncovered(root: Path) -> str | None:
    """Return in words that a catalog has rows which its coverage leaves out; None if it has none, or no coverage."""
    try:
        known = read_coverage(root)
        if known is None:
            return None
        n_rows = count_rows(path for _, path in leaf_files(root, find_pixels(root)))[~known].sum()
    except (OSError, ValueError, pa.ArrowException) as error:
        return f"its coverage cannot be compared with its rows ({type(error).__name__})"
    return f"{n_rows} rows lie outside its coverage" if n_rows else None


def simplified(
    cells: npt.NDArray[np.bool_], order: int = COVERAGE_ORDER
) -> tuple[npt.NDArray[np.bool_], int]:
    """Return coverage that has few stretches of cells, by filling coarser cells if there are too many.

    The detections of a wide field lie in cells far from each other. Night after night some would be new, and each
    night would write larger maps; of coarse cells none is new after some nights.

    Parameters
    ----------
    cells : ndarray of bool, shape (cells,)
        Of :data:`COVERAGE_ORDER`, NESTED.
    order : int
        Order of the cells that are filled in any case.

    Returns
    -------
    (ndarray of bool, int)
        All that was covered, in at most :data:`MOST_STRETCHES` stretches, and the order of the cells that are filled.
    """
    most = MOST_STRETCHES
    filled = _filled(cells, order)
    while _stretches(filled) > most:
        order, most = order - 1, KEPT_STRETCHES
        filled = _filled(cells, order)
    return filled, order


def _filled(cells: npt.NDArray[np.bool_], order: int) -> npt.NDArray[np.bool_]:
    share = 1 << (2 * (COVERAGE_ORDER - order))
    return np.repeat(cells.reshape(-1, share).any(axis=1), share)


def _stretches(cells: npt.NDArray[np.bool_]) -> int:
    return int(cells[0]) + int(np.count_nonzero(cells[1:] & ~cells[:-1]))


def write_coverage(root: Path, cells: npt.NDArray[Any]) -> None:
    """Write the maps of a catalog.

    Parameters
    ----------
    root : Path
    cells : ndarray, shape (cells,)
        Of :data:`COVERAGE_ORDER`, NESTED: whether there are rows, or how many.
    """
    from mocpy import MOC

    filled = np.flatnonzero(cells)
    moc = MOC.from_healpix_cells(
        filled.astype(np.uint64), np.full(len(filled), COVERAGE_ORDER, np.uint8), COVERAGE_ORDER
    )
    # Existing files are replaced, never changed in place: they may be hard links into older versions.
    for name, kind in ((MOC_FITS, "fits"), (MOC_JSON, "json")):
        with replacing(root / name, durable=False) as stream:
            moc.save(stream.name, format=kind, overwrite=True)
    write_map(root / POINT_MAP, cells)


def write_map(path: Path, cells: npt.NDArray[Any]) -> None:
    """Write a HEALPix map in the one of its two forms that is smaller."""
    from cdshealpix.skymap import SkymapImplicit

    largest = int(cells.max(initial=0))
    values = cells.astype(np.uint8 if largest < 256 else np.int32)
    sky = SkymapImplicit(values, null_value=0)
    width = values.dtype.itemsize
    is_sparse = np.count_nonzero(values) * (8 + width) < len(values) * width
    with replacing(path, durable=False) as stream:
        (sky.to_explicit() if is_sparse else sky).to_fits(stream.name)


def sky_fraction(cells: npt.NDArray[Any]) -> float:
    """Return the share of the sky that the cells with rows have."""
    return np.count_nonzero(cells) / len(cells)


def write_thumbnail(root: Path, schema: pa.Schema) -> None:
    """Write the first row of each pixel of a catalog to one small file, which shows what the catalog holds.

    Parameters
    ----------
    root : Path
    schema : pyarrow.Schema
        Of the file; what a row lacks of it is null.
    """
    first: dict[Pixel, Path] = {}
    for pixel, path in leaf_files(root, find_pixels(root)):
        first.setdefault(pixel, path)
    # Batches of one row would cut the whole row group into batches, some milliseconds for each hundred rows.
    rows = [
        arrow_dataset([path], schema).head(1, batch_readahead=0, fragment_readahead=0)
        for path in first.values()
    ]
    table = pa.concat_tables([pa.Table.from_batches([], schema), *rows]).sort_by(_INDEX)
    write_parquet(table, root / THUMBNAIL, durable=False)


def describe_catalog(root: Path, schema: pa.Schema) -> dict[str, str]:
    """Write the maps and the thumbnail of a reference catalog whose leaves are there, and return properties of it.

    Parameters
    ----------
    root : Path
    schema : pyarrow.Schema

    Returns
    -------
    dict
        Entries for ``hats.properties``: what is covered, and the columns that readers load where none are named.
    """
    pixels = find_pixels(root)
    counts = count_rows(path for _, path in leaf_files(root, pixels))
    write_coverage(root, counts)
    write_map(root / SKYMAP, counts)
    write_thumbnail(root, schema)
    measured = re.compile(r"ref_id|(ra|dec)_deg|pm_\w+|mag_\w+|colour_\w+")
    return {
        "hats_cols_default": " ".join(name for name in schema.names if measured.fullmatch(name)),
        "hats_order": str(max((order for order, _ in pixels), default=0)),
        "hats_skymap_order": str(COVERAGE_ORDER),
        "moc_sky_fraction": f"{sky_fraction(counts):.6g}",
    }

"""Rows of a HATS catalog within a cone, read with as few row groups as the statistics allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skylake.core.sphere import IntArray, separation_deg
from skylake.sky.hats import find_pixels, leaf_files
from skylake.sky.pixels import cone_ranges, pixel_range

_INDEX = "_healpix_29"


def read_cone(
    root: Path,
    ra_deg: float,
    dec_deg: float,
    radius_deg: float,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Return the rows of a catalog within a cone; without rows where no file touches it.

    Parameters
    ----------
    root : Path
        A HATS catalog with a folder per pixel.
    ra_deg, dec_deg, radius_deg : float
    columns : sequence of str or None
        Columns to read; None reads all.
    """
    ranges = cone_ranges(ra_deg, dec_deg, radius_deg)
    pixels = [pixel for pixel in find_pixels(root) if _touches(ranges, *pixel_range(*pixel))]
    needed = None if columns is None else list(dict.fromkeys([*columns, _INDEX, "ra_deg", "dec_deg"]))
    schema = pq.read_schema(root / "dataset" / "_common_metadata")
    tables = [schema.empty_table() if needed is None else schema.empty_table().select(needed)]
    for _, path in leaf_files(root, pixels):
        with pq.ParquetFile(path) as file:
            groups = _row_groups(file, ranges)
            if groups:
                tables.append(file.read_row_groups(groups, columns=needed))
    table = pa.concat_tables(tables)
    distance = separation_deg(ra_deg, dec_deg, table["ra_deg"].to_numpy(), table["dec_deg"].to_numpy())
    table = table.filter(pa.array(distance <= radius_deg))
    return table if columns is None else table.select(list(columns))


def _touches(ranges: IntArray, start: int, end: int) -> bool:
    """Tell whether the half-open range [start, end) meets any of sorted ranges."""
    position = int(np.searchsorted(ranges[:, 1], start, side="right"))
    return position < len(ranges) and int(ranges[position, 0]) < end


def _row_groups(file: pq.ParquetFile, ranges: IntArray) -> list[int]:
    metadata = file.metadata
    index = file.schema_arrow.get_field_index(_INDEX)
    chosen = []
    for number in range(metadata.num_row_groups):
        statistics = metadata.row_group(number).column(index).statistics
        unknown = statistics is None or not statistics.has_min_max
        if unknown or _touches(ranges, statistics.min, statistics.max + 1):
            chosen.append(number)
    return chosen

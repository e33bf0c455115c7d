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
    schema: pa.Schema | None = None,
) -> pa.Table:
    """Return the rows of a catalog within a cone; without rows where no file touches it.

    Parameters
    ----------
    root : Path
        A HATS catalog with a folder per pixel.
    ra_deg, dec_deg, radius_deg : float
    columns : sequence of str or None
        Columns to read; None reads all.
    schema : pyarrow.Schema or None
        Schema of the rows; None takes that of the catalog. What a file lacks is null, what is narrower is widened.
    """
    ranges = cone_ranges(ra_deg, dec_deg, radius_deg)
    pixels = [pixel for pixel in find_pixels(root) if _touches(ranges, *pixel_range(*pixel))]
    needed = None if columns is None else list(dict.fromkeys([*columns, _INDEX, "ra_deg", "dec_deg"]))
    schema = schema or pq.read_schema(root / "dataset" / "_common_metadata")
    wanted = pa.schema(schema if needed is None else [schema.field(name) for name in needed], schema.metadata)
    tables = [wanted.empty_table()]
    for _, path in leaf_files(root, pixels):
        with pq.ParquetFile(path) as file:
            groups = _row_groups(file, ranges)
            if groups:
                tables.append(_read(file, groups, wanted))
    table = pa.concat_tables(tables)
    distance = separation_deg(ra_deg, dec_deg, table["ra_deg"].to_numpy(), table["dec_deg"].to_numpy())
    table = table.filter(pa.array(distance <= radius_deg))
    return table if columns is None else table.select(list(columns))


def _read(file: pq.ParquetFile, groups: list[int], schema: pa.Schema) -> pa.Table:
    """Return the rows of row groups under a schema, which may be newer than that of the file."""
    held = [name for name in schema.names if name in file.schema_arrow.names]
    rows = file.read_row_groups(groups, columns=held)
    columns = [
        rows[field.name].cast(field.type) if field.name in held else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


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

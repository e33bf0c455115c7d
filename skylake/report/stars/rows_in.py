"""Rows of tables of light curves in ranges of the HEALPix index, those of a star merged."""

from __future__ import annotations

import pyarrow as pa

from skylake.core.sphere import IntArray
from skylake.lake import Snapshot
from skylake.lake.access.gathered_views import gather, needed
from skylake.lake.storage.damaged_files import damaged, reading
from skylake.schema import arrow_schema
from skylake.sky.cone import WrongCount, read_ranges, touched_pixels


def rows_in(snapshot: Snapshot, table: str, ranges: IntArray) -> pa.Table:
    """Return the rows of a table in blocks whose index is in ranges, one for each key.

    Only the row groups that the ranges touch are read.

    Parameters
    ----------
    snapshot : Snapshot
    table : str
    ranges : ndarray of int64, shape (n, 2)
        Half open, sorted, of order 29; at least one.

    Raises
    ------
    LakeError
        If a file is missing or damaged.
    """
    schema, leaves = snapshot.schema(table), snapshot.version(table).leaves
    pixels = touched_pixels(sorted(leaves), ranges)
    files = [file for pixel in pixels for file in leaves[pixel].items()]
    form, columns = arrow_schema(schema), needed(schema, None)
    if not files:
        return gather([form.empty_table().select(columns)], schema)
    try:
        with reading(lambda: [path for path, _ in files]):
            blocks = read_ranges(files, ranges, form, columns)
    except WrongCount as error:
        raise damaged(error.path, error.why) from error
    return gather([blocks.select(columns)], schema)

"""Rows of a HATS table of a lake in ranges of the HEALPix index."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from skylake.core.sphere import IntArray
from skylake.lake.access.gathered_views import gather, needed
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.storage.damaged_files import damaged, reading
from skylake.schema import arrow_schema
from skylake.sky.cone import WrongCount, read_ranges, touched_pixels


def rows_in(snapshot: Snapshot, table: str, ranges: IntArray) -> pa.Table:
    """Return the rows of a table whose index is in ranges, those of a table in blocks merged: one for each key.

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
    schema = snapshot.schema(table)
    columns = needed(schema, None) if schema.in_blocks else schema.names
    rows = stored_rows(snapshot, table, ranges, columns)
    return gather([rows], schema) if schema.in_blocks else rows


def stored_rows(snapshot: Snapshot, table: str, ranges: IntArray, columns: Sequence[str]) -> pa.Table:
    """Return such rows as files have them, with some columns and the index.

    Raises
    ------
    LakeError
        If a file is missing or damaged.
    """
    schema, leaves = snapshot.schema(table), snapshot.version(table).leaves
    pixels = touched_pixels(sorted(leaves), ranges)
    files = [file for pixel in pixels for file in leaves[pixel].items()]
    form, names = arrow_schema(schema), list(dict.fromkeys(["_healpix_29", *columns]))
    if not files:
        return form.empty_table().select(names)
    try:
        with reading(lambda: [path for path, _ in files]):
            return read_ranges(files, ranges, form, names).select(names)
    except WrongCount as error:
        raise damaged(error.path, error.why) from error

"""Small tables beside the profiles of the lake: what was learnt of a camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.durable import sync_file, sync_folder
from skylake.errors import LakeError, cannot_be_written
from skylake.lake.layout import Layout


def read_rows(
    path: Path, schema: pa.Schema, what: str, mend: str, later: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the rows of such a table; none if there is no file.

    Parameters
    ----------
    path : Path
    schema : pyarrow.Schema
        What the columns are.
    what, mend : str
        What is in the file, and what people do once they have removed one that cannot be read.
    later : sequence of str
        Columns that a file of an older program may lack; they are None then.

    Raises
    ------
    LakeError
        If the file is there and cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LakeError(f"{path}: {what} cannot be read ({error.strerror})") from error
    try:
        table = pq.read_table(pa.BufferReader(content))
        lacking = [name for name in later if name not in table.column_names]
        held = pa.schema([one for one in schema if one.name not in lacking])
        rows: list[dict[str, Any]] = table.cast(held).to_pylist()
    except (pa.ArrowException, ValueError, OSError) as error:
        raise LakeError(f"{path}: {what} cannot be read; remove the file and {mend}") from error
    return [row | dict.fromkeys(lacking) for row in rows]


def replace_rows(layout: Layout, path: Path, rows: pa.Table) -> None:
    """Write such a table in place of the one that is there.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, temporary, compression="zstd")
        # A loss of power must not leave an empty file under the name.
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_be_written(layout.root, error) from error

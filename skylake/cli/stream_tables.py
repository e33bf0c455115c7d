"""Write tables that come piece by piece, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli.output import format_of, to_file, writing
from skylake.core.counted import counted
from skylake.errors import LakeError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def write_stream(tables: Iterable[pa.Table], out: Path, form: str | None = None) -> int:
    """Write tables of one schema into one file, Parquet or CSV, and return the number of rows.

    Raises
    ------
    UsageError
        If the format cannot be written piece by piece.
    LakeError
        If there is no row.
    """
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    form = form or format_of(out)
    if form not in ("parquet", "csv"):
        raise UsageError(f"{out}: many stars go to one file as .parquet or .csv; a folder takes any format")
    n_rows, writer = 0, None
    with writing(out):
        try:
            for table in tables:
                if table.num_rows == 0:
                    continue
                if writer is None:
                    made: Any = (
                        pq.ParquetWriter(out, table.schema, compression="zstd", write_page_checksum=True)
                        if form == "parquet"
                        else pc.CSVWriter(
                            out, table.schema, write_options=pc.WriteOptions(quoting_style="needed")
                        )
                    )
                    writer = made
                writer.write_table(table)
                n_rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    if writer is None:
        raise LakeError(
            "no star there has a light curve; `skylake map LAKE visits` shows where there are frames"
        )
    click.echo(f"wrote {counted(n_rows, 'row')} to {out}", err=True)
    return n_rows


def in_one_schema(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables with the columns of the first: what others lack is null, and what they have beyond is left out."""
    import pyarrow as pa

    schema: pa.Schema | None = None
    for table in tables:
        schema = schema or table.schema
        columns = [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(len(table), field.type)
            for field in schema
        ]
        yield pa.Table.from_arrays(columns, schema=schema)


def write_each_star(tables: Iterable[pa.Table], folder: Path, form: str) -> int:
    """Write the rows of each star into a file of its own, and return the number of stars.

    Raises
    ------
    LakeError
        If there is none.
    """
    import numpy as np

    n_stars, suffix = 0, {"votable": "vot"}.get(form, form)
    for table in tables:
        pairs = zip(table["catalog"].to_pylist(), table["object_id"].to_pylist(), strict=True)
        names = np.array([f"{catalog}-{star}" for catalog, star in pairs], str)
        starts = np.flatnonzero(np.append(len(names) > 0, names[1:] != names[:-1])).tolist()
        for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
            out = folder / f"{names[start]}.{suffix}"
            with writing(out):
                to_file(table.slice(start, end - start), out, form)
            n_stars += 1
    if n_stars == 0:
        raise LakeError(
            "no star there has a light curve; `skylake map LAKE visits` shows where there are frames"
        )
    click.echo(f"wrote {counted(n_stars, 'file')} into {folder}", err=True)
    return n_stars

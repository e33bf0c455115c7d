"""Write tables in the formats that astronomers use."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skylake.cli import show
from skylake.core.counted import counted
from skylake.errors import SkylakeError, UsageError, reason_of

if TYPE_CHECKING:
    import pyarrow as pa

#: Formats by the suffix of the file.
FORMATS = {
    ".csv": "csv",
    ".json": "json",
    ".parquet": "parquet",
    ".ecsv": "ecsv",
    ".fits": "fits",
    ".vot": "votable",
    ".xml": "votable",
}
#: Rows that a terminal shows.
_ROWS = 50
#: Units that FITS and VOUnit lack, and their replacement: electrons are a number, and kelvin is the only unit of
#: temperature. The names of these columns end in _e and _c.
_STANDARD_UNITS = {"electron": "", "electron/adu": "adu**-1", "deg_C": ""}


def format_of(path: Path) -> str:
    """Return the format of a file by its suffix."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path}: the suffix names no format; use {', '.join(FORMATS)}") from None


def print_table(table: pa.Table, whole: bool) -> None:
    """Print a table for people; on a terminal, unless it is to be `whole`, the first rows and the columns that fit."""
    is_whole = whole or not sys.stdout.isatty()
    flat = _flat(_shortest(table if is_whole else table.slice(0, _ROWS)))
    width = math.inf if is_whole else shutil.get_terminal_size().columns
    n_columns = show.table([list(row.values()) for row in flat.to_pylist()], flat.column_names, width)
    shown = [
        f"{n_shown} of {counted(number, what)}"
        for n_shown, number, what in (
            (flat.num_rows, table.num_rows, "row"),
            (n_columns, table.num_columns, "column"),
        )
        if n_shown < number
    ]
    if shown:
        click.echo(f"{' and '.join(shown)}; --all prints all", err=True)


def write_table(
    table: pa.Table, out: Path | None, form: str | None = None, about: Mapping[str, str | float] | None = None
) -> None:
    """Write a table to a file, or to standard output as CSV (or in the format asked for).

    Nested columns become JSON texts in formats that have none. Formats with a header get `about` there.
    """
    form = form or ("csv" if out is None else format_of(out))
    if out is None:
        _to_standard_output(table, form)
        return
    with writing(out):
        to_file(table, out, form, about)
    click.echo(f"wrote {counted(table.num_rows, 'row')} to {out}", err=True)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Make the folder of a file that the block writes; report its errors in one sentence."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise SkylakeError(f"{out}: cannot be written ({reason_of(error)}); name another file") from error


def _to_standard_output(table: pa.Table, form: str) -> None:
    if form == "table":
        print_table(table, whole=True)
    elif form == "json":
        click.echo(show.json_text(_shortest(table).to_pylist()))
    elif form == "csv":
        sys.stdout.write(_csv(table))
    else:
        raise UsageError(f"{form} goes to a file; name one with -o")


def write_text(text: str, out: Path | None) -> None:
    """Write a text to a file, or to standard output."""
    if out is None:
        sys.stdout.write(text)
        return
    with writing(out):
        out.write_text(text, encoding="utf-8")
    click.echo(f"wrote {out}", err=True)


def to_file(table: pa.Table, out: Path, form: str, about: Mapping[str, str | float] | None = None) -> None:
    """Write a table to a file in a format; `about` goes to the headers of ECSV, FITS, VOTable and Parquet."""
    if form == "parquet":
        import pyarrow.parquet as pq

        texts = {name: str(value) for name, value in (about or {}).items()}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **texts})
        pq.write_table(table, out, compression="zstd", write_page_checksum=True)
    elif form == "json":
        out.write_text(show.json_text(_shortest(table).to_pylist()) + "\n", encoding="utf-8")
    elif form == "csv":
        out.write_text(_csv(table), encoding="utf-8")
    elif form == "table":
        raise UsageError(
            "the format 'table' is for the screen; use csv, json, parquet, ecsv, fits or votable"
        )
    else:
        import pyarrow as pa

        from skylake.reading.rows import described, to_astropy
        from skylake.schema import meanings

        rows = _flat(table) if form != "fits" else _ascii(_flat(table))
        schema = described(rows.schema, meanings())
        made = to_astropy(pa.Table.from_arrays(rows.columns, schema=schema))
        for field in schema if form != "ecsv" else ():
            unit = (field.metadata or {}).get(b"unit", b"").decode()
            if unit in _STANDARD_UNITS:
                made[field.name].unit = _STANDARD_UNITS[unit] or None
        if about and form == "votable":
            # Of what is said of a whole table it keeps the description only.
            made.meta["description"] = ", ".join(f"{name} {value}" for name, value in about.items())
        else:
            made.meta.update(about or {})
        made.write(out, format={"ecsv": "ascii.ecsv"}.get(form, form), overwrite=True)


def _csv(table: pa.Table) -> str:
    import io

    import pyarrow.csv as pc

    sink = io.BytesIO()
    pc.write_csv(_flat(table), sink, pc.WriteOptions(quoting_style="needed"))
    return sink.getvalue().decode()


def _shortest(table: pa.Table) -> pa.Table:
    """Return the table with single precision as the shortest decimal numbers: 0.1, not 0.10000000149."""
    import pyarrow as pa

    for position, field in enumerate(table.schema):
        if field.type == pa.float32():
            short = table.column(position).cast(pa.string()).cast(pa.float64())
            table = table.set_column(position, field.name, short)
    return table


def _flat(table: pa.Table) -> pa.Table:
    """Return the table with nested columns as JSON texts."""
    import pyarrow as pa

    for position, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [
                None if value is None else json.dumps(value, default=str)
                for value in table.column(position).to_pylist()
            ]
            table = table.set_column(position, field.name, pa.array(texts, pa.string()))
    return table


def _ascii(table: pa.Table) -> pa.Table:
    """Return the table with texts in ASCII, all that FITS knows; other letters as escapes of Python."""
    import pyarrow as pa

    for position, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            texts = [
                None if value is None else value.encode("ascii", "backslashreplace").decode()
                for value in table.column(position).to_pylist()
            ]
            table = table.set_column(position, field, pa.array(texts, field.type))
    return table

"""Write tables in the formats that astronomers use."""

from __future__ import annotations

import json
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
#: Units that FITS and VOUnit lack, and their replacement: electrons are a number, and kelvin is the only unit of
#: temperature. The names of these columns end in _e and _c.
_STANDARD_UNITS = {"electron": "", "electron/adu": "adu**-1", "deg_C": ""}


def format_of(path: Path) -> str:
    """Return the format of a file by its suffix."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path}: the suffix names no format; use {', '.join(FORMATS)}") from None


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
        flat = _flat(_shortest(table))
        show.table([list(row.values()) for row in flat.to_pylist()], flat.column_names)
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
        rows = _flat(table) if form != "fits" else _ascii(_flat(table))
        units = {} if form == "ecsv" else _STANDARD_UNITS
        made = _astropy_table(rows, units)
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


def _astropy_table(table: pa.Table, units: Mapping[str, str]):  # type: ignore[no-untyped-def]
    """Return an astropy table with units, replaced where `units` says so, descriptions and masks."""
    import numpy as np
    import pyarrow as pa
    from astropy.table import MaskedColumn, Table

    from skylake.schema import meanings

    known = meanings()
    result = Table()
    for field in table.schema:
        column = table[field.name]
        mask = np.asarray(column.is_null())
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            values = np.asarray(column.fill_null("").to_pylist(), str)
        elif pa.types.is_boolean(field.type):
            values = np.asarray(column.fill_null(False).to_numpy(), bool)
        elif pa.types.is_temporal(field.type) or pa.types.is_decimal(field.type):
            values = np.asarray(column.cast(pa.string()).fill_null("").to_pylist(), str)
        else:
            values = column.fill_null(0).to_numpy()
        unit, text = _meaning(field, known)
        unit = units.get(unit or "", unit) or None
        result[field.name] = MaskedColumn(values, mask=mask, unit=unit, description=text)
    return result


def _meaning(field: pa.Field, known: Mapping[str, tuple[str, str]]) -> tuple[str | None, str | None]:
    """Return unit and description of a column: its own, or those that its name has in the tables of a lake."""
    metadata = field.metadata or {}
    unit, text = (metadata.get(key, b"").decode() for key in (b"unit", b"description"))
    if not metadata and field.name in known:
        unit, text = known[field.name]
    return unit or None, text or None

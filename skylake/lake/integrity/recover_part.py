"""Rebuild the lost description of a part from its files and the ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.durable import replace_text, text_of
from skylake.errors import LakeError
from skylake.lake.commits.commit import committing
from skylake.lake.lake import Lake
from skylake.lake.layout import PARTS_FOLDER, Layout
from skylake.lake.storage.parts import Key, Part, PartFile, file_sha256, key_of
from skylake.lake.storage.slices import read_files
from skylake.schema import TableSchema, load
from skylake.schema.digest import rows_digest


def recovered(layout: Layout, folder: Path, table: str, name: str) -> Part | None:
    """Return a part with the lost description rebuilt; None if its files do not match the ledger.

    Parameters
    ----------
    layout : Layout
    folder : Path
        Of the version of the table.
    table, name : str
    """
    schema, record = load(table), recorded(layout, table, name)
    if record is None or not record.get("inputs"):
        return None
    try:
        files = [
            _read(folder, path, schema) for path in sorted((folder / "dataset").rglob(f"{name}.parquet"))
        ]
    except (OSError, KeyError, pa.ArrowException):
        return None
    keys, forms = {key for _, key, _ in files}, {form for *_, form in files}
    if len(keys) != 1 or len(forms) != 1:
        return None
    key, form = keys.pop(), forms.pop()
    values = dict(key)
    if "camera" not in values or "night" not in values:
        return None
    part = Part(
        table,
        name,
        tuple(sorted((file for file, *_ in files), key=lambda file: file.path)),
        str(values["camera"]),
        int(values["night"]),
        key,
        record["inputs"],
        record["software_version"],
        form,
    )
    return part if (part.n_rows, part.checksum) == (record["rows"], record["checksum"]) else None


def _read(folder: Path, path: Path, schema: TableSchema) -> tuple[PartFile, Key, str]:
    """Return the description of a file, the key of its rows, and the schema that they were written under."""
    form = (pq.read_schema(path).metadata or {})[b"skylake.schema_sha256"].decode()
    rows = read_files(schema.name, [path])
    place, size = str(path.relative_to(folder)), path.stat().st_size
    file = PartFile(place, rows.num_rows, rows_digest(rows), size, file_sha256(path))
    return file, key_of(rows, schema), form


def recorded(layout: Layout, table: str, name: str) -> dict[str, Any] | None:
    """Return the entry of a part in the newest record of the ledger that has one; None without such a record."""
    for path in sorted(layout.ledger.glob("[0-9]*.json"), reverse=True):
        try:
            text = text_of(path)
            # Most records are for other nights, and are long.
            part: dict[str, Any] | None = (
                json.loads(text)["replaced"].get(table, {}).get(name) if name in text else None
            )
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        if part is not None:
            return part
    return None


def recover(lake: Lake, table: str, name: str) -> Path:
    """Write the description of a part of the current snapshot again, and return its path.

    Raises
    ------
    LakeError
        If the description exists, or the files do not match the ledger.
    """
    with committing(lake.layout):
        snapshot = lake.snapshot()
        path = snapshot.folder(table) / PARTS_FOLDER / f"{name}.json"
        if snapshot.part(table, name) is not None:
            raise LakeError(f"{path}: {name} of {table} is described already")
        part = recovered(lake.layout, snapshot.folder(table), table, name)
        if part is None:
            raise LakeError(
                f"{path}: the files of {name} do not hold what the ledger says of it; `skylake verify` shows the "
                "command that repairs it"
            )
        replace_text(path, part.to_json())
    return path

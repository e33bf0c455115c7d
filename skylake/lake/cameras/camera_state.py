"""Small Parquet tables with the state of cameras, stored beside their profiles."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.durable import Linker, content_of, partial_path, replacing, sync_folder
from skylake.errors import LakeError, cannot_be_written
from skylake.inside import links_in, require_no_link
from skylake.lake.layout import CAMERAS_FOLDER, Layout

#: Key in the footer whose value is the SHA-256 of the file, written with zeros in the place of that.
_KEY, _MARK, _ZEROS = "skylake.sha256", "sha256:", "0" * 64
_SEAL = re.compile(rf"{re.escape(_KEY)}.{{1,4}}{_MARK}([0-9a-f]{{64}})".encode(), re.DOTALL)


def sealed(rows: pa.Table) -> bytes:
    """Return a small table as the bytes of a Parquet file that states its own SHA-256."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, rows.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({_KEY: _MARK + _ZEROS})
    content: bytes = sink.getvalue().to_pybytes()
    return content.replace((_MARK + _ZEROS).encode(), (_MARK + hashlib.sha256(content).hexdigest()).encode())


def damage_of(content: bytes) -> str | None:
    """Return what is wrong with a file of :func:`sealed`; None if nothing is."""
    seal = _SEAL.search(content)
    if seal is not None:
        unsealed = content[: seal.start(1)] + _ZEROS.encode() + content[seal.end(1) :]
        if hashlib.sha256(unsealed).hexdigest().encode() == seal[1]:
            return None
    return "it has changed since it was written"


def read_rows(path: Path, schema: pa.Schema, what: str, advice: str) -> list[dict[str, Any]]:
    """Return the rows of such a table; none if there is no file.

    Parameters
    ----------
    path : Path
    schema : pyarrow.Schema
        What the columns are.
    what, advice : str
        What is in the file, and what to do after a damaged one was removed.

    Raises
    ------
    LakeError
        If the file is there and cannot be read.
    """
    try:
        content = content_of(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LakeError(f"{path}: {what} cannot be read ({error.strerror})") from error
    try:
        if why := damage_of(content):
            raise ValueError(why)
        rows: list[dict[str, Any]] = (
            pq.read_table(pa.BufferReader(content)).select(schema.names).cast(schema).to_pylist()
        )
    except (pa.ArrowException, ValueError, OSError) as error:
        raise LakeError(f"{path}: {what} cannot be read ({error}); remove the file and {advice}") from error
    return rows


def replace_rows(layout: Layout, path: Path, rows: pa.Table) -> None:
    """Write such a table in place of the present one.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            stream.write(sealed(rows))
    except OSError as error:
        raise cannot_be_written(layout.root, error) from error


def keep_cameras(layout: Layout, snapshot: Path, wanted: Path | None = None) -> None:
    """Keep the state of cameras in a snapshot that is being made, so that a rollback restores it.

    Parameters
    ----------
    layout : Layout
    snapshot : Path
        Its folder.
    wanted : Path or None
        Folder of the snapshot whose state it gets; None, or one of an older skylake, gets the state in force.
    """
    held = None if wanted is None else _held_files(layout, wanted)
    files = layout.of_cameras() if held is None else held
    (snapshot / CAMERAS_FOLDER).mkdir()
    link = Linker()
    for path in files:
        # Files are only ever replaced as a whole, so a hard link is as good as a copy.
        link(path, snapshot / CAMERAS_FOLDER / path.name)


def _held_files(layout: Layout, snapshot: Path) -> list[Path] | None:
    """Return the files of the state that a snapshot keeps, none of which may be a link; None if it keeps none."""
    held = snapshot / CAMERAS_FOLDER
    require_no_link(held, layout.root)
    for link in links_in(held):
        require_no_link(link, layout.root)
    return list(held.iterdir()) if held.is_dir() else None


def restore_cameras(layout: Layout, snapshot: Path) -> None:
    """Put the camera state of a snapshot in force, and nothing else; after an interruption it is done again."""
    held = _held_files(layout, snapshot)
    if held is None:
        return
    folder, link = layout.root / CAMERAS_FOLDER, Linker()
    folder.mkdir(exist_ok=True)
    retained = {path.name for path in held}
    for path in held:
        target, partial = folder / path.name, partial_path(folder / path.name)
        # Renaming a file to another hard link of it would leave both names.
        if not (target.exists() and target.samefile(path)):
            link(path, partial)
            partial.replace(target)
    for path in layout.of_cameras():
        if path.name not in retained:
            path.unlink()
    sync_folder(folder)

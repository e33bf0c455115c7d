"""Parts: the unit in which tables are written, replaced and removed.

A part of ``sources`` is one night of one camera; it has a file in every pixel that it touches. Workers
write parts into the staging folder; only a commit makes them visible.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skylake.core.ids import config_sha256
from skylake.durable import Linker, opened, sync_files
from skylake.inside import relative_name
from skylake.lake.layout import part_file
from skylake.revision import code_version
from skylake.schema import TableSchema, conform, load
from skylake.schema.digest import add_digests, group_digests, rows_digest
from skylake.schema.parquet import write_parquet
from skylake.sky.hats import pixel_of
from skylake.sky.pixels import Pixel, PixelTree

_READ_BYTES = 1 << 20


Key = tuple[tuple[str, str | int], ...]
"""Columns and values that all rows of a batch have, and no others."""


def require_plain(name: str) -> None:
    """Refuse the name of a part or bundle that would lead out of the folder of its description.

    Raises
    ------
    ValueError
        If it is a path.
    """
    if "/" in name:
        raise ValueError(f"{name} is no name of a part")


@dataclass(frozen=True, slots=True)
class PartFile:
    """Rows of a part in one file.

    Attributes
    ----------
    path : str
        Relative to the version. The file may hold rows of other parts too.
    n_rows : int
        Rows of the part.
    digest : str
        Of these rows, whatever their order; see :mod:`skylake.schema.digest`.
    n_bytes : int
    sha256 : str
        Size and checksum of the file when it was written for this part alone; 0 and empty otherwise.
    """

    path: str
    n_rows: int
    digest: str
    n_bytes: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        relative_name(self.path)

    @property
    def pixel(self) -> Pixel | None:
        """Pixel of the file in a HATS table."""
        return pixel_of(self.path)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a table.

    Attributes
    ----------
    table, name : str
    files : tuple of PartFile
        Sorted by path; none for a part without rows.
    camera : str or None
    night : int or None
        Batch that the part belongs to, if it belongs to one.
    key : tuple of (str, value)
        What distinguishes its rows from those of other parts in the same file. If it is empty, the part is never
        merged with others.
    inputs : dict
        What the part was made from: names to checksums. Equal inputs make equal parts. The one named
        ``configuration`` is that of the resolved configuration, which the ledger keeps.
    software_version : str
        Code that made it, with its commit where it ran from a checkout.
    schema_sha256 : str
        Schema under which the rows were written.
    """

    table: str
    name: str
    files: tuple[PartFile, ...]
    camera: str | None = None
    night: int | None = None
    key: Key = ()
    inputs: dict[str, str] = field(default_factory=dict)
    software_version: str = field(default_factory=code_version)
    schema_sha256: str = ""

    def __post_init__(self) -> None:
        require_plain(self.name)

    @property
    def n_rows(self) -> int:
        """Rows in all files."""
        return sum(file.n_rows for file in self.files)

    @property
    def checksum(self) -> str:
        """Digest of all rows; it does not depend on the files that hold them."""
        return _digest_of(tuple(file.digest for file in self.files))

    @property
    def inputs_sha256(self) -> str:
        """SHA-256 over what the part was made from."""
        return config_sha256(self.inputs)

    def to_json(self) -> str:
        """Return the description that is kept beside the files."""
        lines = (
            f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(self.to_values().items())
        )
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def to_values(self) -> dict[str, Any]:
        """Return the values of the description; sums over the files are for readers of the plain JSON."""
        # Field by field: asdict copies every text, and a part may have hundreds of files.
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        files = [{one.name: getattr(file, one.name) for one in fields(file)} for file in self.files]
        return own | {"files": files, "n_rows": self.n_rows, "checksum": self.checksum}

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Return the part that a description describes."""
        return cls.from_values(json.loads(text))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Part:
        """Return the part with the values of a description."""
        files = tuple(PartFile(**file) for file in values["files"])
        key = tuple((name, value) for name, value in values["key"])
        own = {name: value for name, value in values.items() if name not in ("n_rows", "checksum")}
        return cls(**(own | {"files": files, "key": key}))


@lru_cache(maxsize=1 << 16)
def _digest_of(digests: tuple[str, ...]) -> str:
    """Return the digest of the rows of some files; plans ask for those of the same parts time and again."""
    return add_digests(digests)


def stage_part(
    rows: pa.Table,
    table: str,
    name: str,
    staging: Path,
    tree: PixelTree | None = None,
    camera: str | None = None,
    night: int | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Part:
    """Write the rows of a part below a staging folder.

    The same rows give the same bytes: they are conformed to the schema and sorted by it.

    Parameters
    ----------
    rows : pyarrow.Table
        In any order.
    table, name : str
    staging : Path
        Folder of this table in the staging area.
    tree : PixelTree or None
        Pixels of a HATS table.
    camera, night, inputs
        As in :class:`Part`.
    """
    schema = load(table)
    rows = sort_rows(conform(rows, schema), schema)
    return stage_sorted_part(rows, table, name, staging, tree, camera, night, inputs)


def stage_sorted_part(
    rows: pa.Table,
    table: str,
    name: str,
    staging: Path,
    tree: PixelTree | None,
    camera: str | None,
    night: int | None,
    inputs: Mapping[str, str] | None = None,
) -> Part:
    """Write a part as :func:`stage_part` does, whose rows are conformed and in order already."""
    schema = load(table)
    files = _written(rows, schema, name, staging, tree)
    key = key_of(rows, schema)
    return Part(table, name, files, camera, night, key, dict(inputs or {}), schema_sha256=schema.sha256)


def stage_again(
    rows: pa.Table, held: Part, folder: Path, staging: Path, tree: PixelTree, inputs: Mapping[str, str]
) -> Part:
    """Write a part again to a new folder; files of pixels whose rows stay as they are become links.

    Parameters
    ----------
    rows : pyarrow.Table
        All rows of the part, in any order.
    held : Part
        The part as it is, under the schema in force.
    folder : Path
        Version of the table with the files of `held`.
    staging, tree, inputs
        As in :func:`stage_part`.
    """
    schema = load(held.table)
    rows = sort_rows(conform(rows, schema), schema)
    # A file without a checksum of its own holds rows of other parts too.
    known = {(file.path, file.n_rows, file.digest): file for file in held.files if file.sha256}
    files = _written(rows, schema, held.name, staging, tree, (folder, known))
    return replace(
        held, files=files, key=key_of(rows, schema), inputs=dict(inputs), software_version=code_version()
    )


_Known = tuple[Path, Mapping[tuple[str, int, str], PartFile]]
"""A folder, and files below it by path, number of rows and digest."""


def _written(
    rows: pa.Table,
    schema: TableSchema,
    name: str,
    staging: Path,
    tree: PixelTree | None,
    known: _Known | None = None,
) -> tuple[PartFile, ...]:
    """Write sorted rows to a file for each pixel, or link a known file that has just these rows."""
    pieces = list(split(rows, schema, tree))
    member = np.repeat(np.arange(len(pieces)), [piece.num_rows for _, piece in pieces])
    digests = group_digests(rows, member, len(pieces))
    found = [
        (part_file(schema.name, name, pixel), piece.num_rows, digest)
        for (pixel, piece), digest in zip(pieces, digests, strict=True)
    ]
    folder, same = known or (staging, {})
    link, new = Linker(), []
    for one, (_, piece) in zip(found, pieces, strict=True):
        target = staging / one[0]
        # A worker that died may have left a link, and nothing may be written through it.
        target.unlink(missing_ok=True)
        if one in same:
            target.parent.mkdir(parents=True, exist_ok=True)
            link(folder / one[0], target)
        else:
            write_parquet(piece, target, durable=False)
            new.append(target)
    sync_files(new)
    return tuple(same.get(one) or _as_written(staging, *one) for one in found)


def key_of(rows: pa.Table, schema: TableSchema) -> Key:
    """Return the key of a part from its rows; empty if they belong to several batches."""
    import pyarrow.compute as pc

    key: list[tuple[str, str | int]] = []
    for name in schema.layout.batch if rows.num_rows else ():
        ends = pc.min_max(rows[name])
        value = ends["min"].as_py()
        if value is None or value != ends["max"].as_py():
            return ()
        key.append((name, value))
    return tuple(key)


def sort_rows(rows: pa.Table, schema: TableSchema) -> pa.Table:
    """Return rows in the order of the schema; ties are broken by the primary key, then the batch."""
    from skylake.table.blocks import in_order

    blocks = schema.layout.batch if schema.in_blocks else ()
    return in_order(rows, dict.fromkeys([*schema.layout.sort, *schema.primary_key, *blocks]))


def split(
    rows: pa.Table, schema: TableSchema, tree: PixelTree | None
) -> Iterator[tuple[Pixel | None, pa.Table]]:
    """Yield sorted rows pixel by pixel; those of a table without pixels in one piece, if there are any."""
    import pyarrow.compute as pc

    if rows.num_rows == 0:
        return
    if schema.layout.kind != "hats":
        yield None, rows
        return
    if tree is None:
        raise ValueError(f"the rows of {schema.name} lie in pixels; a pixel tree is needed")
    position = tree.assign(rows["_healpix_29"].to_numpy())
    runs = pc.run_end_encode(pa.array(position, pa.int64()))
    start = 0
    for end, pixel in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        yield tree.pixels[pixel], rows.slice(start, end - start)
        start = end


def write_part_file(rows: pa.Table, staging: Path, path: str) -> PartFile:
    """Write one file of a part and return what is known of it."""
    write_parquet(rows, staging / path)
    return _as_written(staging, path, rows.num_rows, rows_digest(rows))


def _as_written(staging: Path, path: str, n_rows: int, digest: str) -> PartFile:
    target = staging / path
    return PartFile(path, n_rows, digest, target.stat().st_size, file_sha256(target))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with opened(path) as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def is_as_written(folder: Path, file: PartFile) -> bool:
    """Return whether a file below a folder has the bytes that it was written with, as far as its part states them."""
    path = folder / file.path
    try:
        if not file.sha256:
            return path.is_file()
        return path.stat().st_size == file.n_bytes and file_sha256(path) == file.sha256
    except OSError:
        return False

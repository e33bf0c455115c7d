"""Sizes and footers of the files of a lake, read by several threads at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.durable import opened
from skylake.errors import CatalogError
from skylake.lake.layout import Layout
from skylake.lake.storage.fact_relations import UNREADABLE, Relations
from skylake.lake.storage.parts import file_sha256
from skylake.schema import arrow_schema, load
from skylake.schema.deployed import known_schemas
from skylake.settings import Catalogs
from skylake.sky.hats import (
    EMPTY_FILE,
    IN_PLACE,
    OBJECTS,
    Objects,
    files_below,
    read_collection,
    read_objects,
    read_properties,
)

_THREADS = 16
_INDEX = "_healpix_29"
#: Files of `dataset` that hold no rows.
_METADATA = {"_common_metadata", "_metadata", EMPTY_FILE}


def add_disk_files(relations: Relations, folders: Mapping[str, Path]) -> None:
    """Add every file below `dataset` of some versions, with what its footer says."""
    files = [(table, folder, path) for table, folder in folders.items() for path in data_files(folder)]
    known: dict[tuple[str, bytes], pq.ParquetSchema] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for values in pool.map(partial(_read_file, known), files, chunksize=16):
            relations.add("disk_files", **values)


def data_files(folder: Path) -> Iterator[Path]:
    """Yield all files of a version that are not metadata, whatever they are called."""
    for inner, _, names in os.walk(folder / "dataset"):
        for name in sorted(names):
            if not (name in _METADATA and Path(inner) == folder / "dataset"):
                yield Path(inner) / name


def _read_file(
    known: dict[tuple[str, bytes], pq.ParquetSchema], file: tuple[str, Path, Path]
) -> dict[str, Any]:
    table, folder, path = file
    values: dict[str, Any] = {"table_name": table, "path": str(path.relative_to(folder))}
    try:
        values["n_bytes"] = path.stat().st_size
        with opened(path) as stream:
            metadata = pq.read_metadata(stream)
        return values | _footer(known, table, metadata)
    except (OSError, pa.ArrowException) as error:
        return values | {"problem": first_line(error)}


def first_line(error: BaseException) -> str:
    """Return the first line of an error, without the pages that some libraries add."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _footer(
    known: dict[tuple[str, bytes], pq.ParquetSchema], table: str, metadata: pq.FileMetaData
) -> dict[str, Any]:
    texts = metadata.metadata or {}
    lows, highs, complete = [], [], True
    names = [metadata.schema.column(i).path for i in range(len(metadata.schema))]
    place = names.index(_INDEX) if _INDEX in names else None
    for number in range(metadata.num_row_groups if place is not None else 0):
        statistics = metadata.row_group(number).column(place).statistics
        if statistics is None or not statistics.has_min_max:
            complete = False
            continue
        lows.append(statistics.min)
        highs.append(statistics.max)
    return {
        "n_rows": metadata.num_rows,
        "n_row_groups": metadata.num_row_groups,
        "schema_sha256": texts.get(b"skylake.schema_sha256", b"").decode() or None,
        "drift": _drift(known, table, metadata),
        "index_min": min(lows, default=None),
        "index_max": max(highs, default=None),
        "has_statistics": complete,
    }


def _drift(
    known: dict[tuple[str, bytes], pq.ParquetSchema], table: str, metadata: pq.FileMetaData
) -> str | None:
    """Return how a file departs from the schema that it names; None if it does not.

    Files of one form are compared only once, since comparing a schema costs more than reading it.
    """
    texts = metadata.metadata or {}
    form = texts.get(b"ARROW:schema", b"")
    like = known.get((table, form))
    if like is not None and like.equals(metadata.schema):
        return None
    wanted = known_schemas(table).get(texts.get(b"skylake.schema_sha256", b"").decode())
    if wanted is None:
        other = schema_drift(metadata.schema.to_arrow_schema(), arrow_schema(load(table)))
        return other or "it names no schema that was ever deployed"
    drift = schema_drift(metadata.schema.to_arrow_schema(), arrow_schema(wanted))
    if drift is None:
        known[table, form] = metadata.schema
    return drift


def schema_drift(written: pa.Schema, wanted: pa.Schema) -> str | None:
    """Return in words where the columns of two schemas differ first; None if they do not."""
    if written.equals(wanted):
        return None
    for field in wanted:
        if field.name not in written.names:
            if field.nullable and pa.types.is_struct(field.type):
                continue  # it is null in all rows
            return f"the column {field.name} is missing"
        held = written.field(field.name)
        if held.type != field.type:
            return f"the column {field.name} is {held.type} instead of {field.type}"
        if held.nullable != field.nullable:
            return f"the column {field.name} {'may' if held.nullable else 'may not'} be null"
    extra = [name for name in written.names if name not in wanted.names]
    if extra:
        return f"the column {extra[0]} is not in the schema"
    order = [name for name in wanted.names if name in written.names]
    return None if written.names == order else "the columns are in another order"


def add_catalogs(
    relations: Relations, layout: Layout, named: Mapping[str, Catalogs], foreign: Sequence[Path] = ()
) -> None:
    """Add every reference catalog, and the margins of each, with the rows that its files have.

    Parameters
    ----------
    relations : Relations
    layout : Layout
    named : mapping
        Catalogs that should be there, by who names them.
    foreign : sequence of Path
        Links that do not belong in the lake; their targets are not checked.
    """
    folders = sorted(path for path in layout.catalogs.glob("[!.]*") if path.is_dir())
    for path in folders:
        if any(link.is_relative_to(path) for link in foreign):
            continue
        try:
            outer = read_collection(path)
            inner = [outer["hats_primary_table_url"], *outer["all_margins"].split()]
        except (OSError, ValueError, KeyError, CatalogError) as error:
            relations.add(
                "lake_catalogs",
                catalog=path.name,
                folder=str(path.relative_to(layout.root)),
                problem=f"its collection.properties cannot be used ({type(error).__name__}: {first_line(error)})",
            )
            continue
        is_listed = _add_catalog_files(relations, layout, path)
        # The lake has no stars to check of a catalog that is used in place.
        for name in () if IN_PLACE in outer else inner:
            values = catalog_counts(layout, path / name)
            relations.add("lake_catalogs", catalog=path.name, is_listed=is_listed, **values)
    there = {path.name for path in folders}
    wanted: dict[str, str] = {}
    for who, chosen in named.items():
        for name in {chosen.solve, chosen.calibrate} - {"", *there}:
            wanted.setdefault(name, who)
    for name, who in sorted(wanted.items()):
        relations.add(
            "lake_catalogs",
            catalog=name,
            folder=f"catalogs/{name}",
            problem=f"{who} {'name' if who == 'the settings' else 'names'} it, and it is missing",
        )


def _add_catalog_files(relations: Relations, layout: Layout, collection: Path) -> bool:
    """Add the imported files of a catalog, and those that are there; return whether the former are known."""
    recorded: Objects | None = None
    try:
        recorded = read_objects(collection)
    except UNREADABLE as error:
        relations.problem(str((collection / OBJECTS).relative_to(layout.root)), "list of a catalog", error)
    there = {path.relative_to(collection).as_posix(): path.stat().st_size for path in files_below(collection)}
    for name in sorted(there.keys() | (recorded or {}).keys()):
        n_bytes, sha256 = (recorded or {}).get(name, (None, None))
        relations.add(
            "catalog_files",
            catalog=collection.name,
            file=(collection / name).relative_to(layout.root).as_posix(),
            n_bytes_recorded=n_bytes,
            sha256=sha256,
            n_bytes=there.get(name),
        )
    return recorded is not None


def add_catalog_scans(layout: Layout, relations: Relations) -> None:
    """Read every file of every catalog, and the indexes of catalogs.

    If a catalog does not state the checksums of its files, at least the pages of these have some.
    """
    # It loads the compiler of kernels, which the fast checks do not need.
    from skylake.sky.asterism_file import damage_of

    columns = ("file", "sha256", "n_bytes")
    files = [
        relation[:2] for relation in relations.values("catalog_files", *columns) if relation[2] is not None
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scans = pool.map(lambda one: _scan_catalog_file(layout.root / one[0], one[1] is not None), files)
        for (file, _), (sha256, problem) in zip(files, scans, strict=True):
            relations.add("catalog_scans", file=file, sha256=sha256, problem=problem)
    for path in sorted(layout.catalogs.glob("[!.]*.asterisms")):
        relations.add(
            "index_scans", catalog=path.stem, file=str(path.relative_to(layout.root)), problem=damage_of(path)
        )


def _scan_catalog_file(path: Path, is_listed: bool) -> tuple[str | None, str | None]:
    """Return the SHA-256 of a file of a catalog, and the problem with it, if its own checksums show one."""
    try:
        if not is_listed and path.suffix == ".parquet":
            with opened(path) as stream, pq.ParquetFile(stream, page_checksum_verification=True) as file:
                for _ in file.iter_batches(use_threads=False):
                    pass
        return file_sha256(path), None
    except (OSError, pa.ArrowException) as error:
        return None, first_line(error)


def catalog_counts(layout: Layout, root: Path) -> dict[str, Any]:
    """Return the rows that a HATS catalog records, those that its files have, and what is wrong with it."""
    values: dict[str, Any] = {"folder": str(root.relative_to(layout.root))}
    try:
        values["n_rows_recorded"] = int(read_properties(root)["hats_nrows"])
        files = list(data_files(root))
        with ThreadPoolExecutor(_THREADS) as pool:
            counts = list(pool.map(_count, files))
        broken = [
            f"{path.name} of {path.parent.name}: {count}"
            for path, count in zip(files, counts, strict=True)
            if isinstance(count, str)
        ]
        values |= {
            "n_rows": sum(count for count in counts if isinstance(count, int)),
            "n_files": len(files),
            "problem": broken[0] if broken else None,
        }
    except (OSError, ValueError, KeyError) as error:
        values["problem"] = f"{type(error).__name__}: {first_line(error)}"
    return values


def _count(path: Path) -> int | str:
    try:
        with opened(path) as stream:
            return int(pq.read_metadata(stream).num_rows)
    except (OSError, pa.ArrowException) as error:
        return first_line(error)

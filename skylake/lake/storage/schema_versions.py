"""Read files of older schemas with the current schema, and refuse files of newer ones.

A version of a table may mix files of all schemas that were deployed until it was made; its ``_common_metadata``
names the newest of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from skylake.durable import content_of
from skylake.errors import ConfigurationError, LakeError
from skylake.places import is_url, place
from skylake.revision import VERSION
from skylake.schema import TableSchema, arrow_schema, load, table_names
from skylake.schema.arrow import SCHEMA
from skylake.schema.deployed import deployed_sha256
from skylake.schema.tables import register, require_plain_names, schema_of
from skylake.scratch import scratch_folder
from skylake.sky.hats import read_common_metadata, require_own_parts, write_common_metadata
from skylake.sky.hats_compiled import keep_compiled
from skylake.sky.hats_coverage import POINT_MAP


def require_known(root: Path, snapshot: Path) -> dict[str, TableSchema]:
    """Refuse a snapshot that this skylake would misread, and register the tables of its users.

    Parameters
    ----------
    root : Path
        The lake, for the sentence.
    snapshot : Path
        Folder with a link for each table.

    Returns
    -------
    dict of str to TableSchema
        The schemas of tables of users, by name.

    Raises
    ------
    LakeError
        If a newer skylake has written it, or one whose schemas were never deployed.
    """
    links = sorted(path for path in snapshot.iterdir() if path.is_symlink())
    own = user_schemas({link.name: link for link in links})
    require_known_forms(root, {link.name: form_of(link) for link in links if link.name not in own})
    return own


def user_schemas(folders: Mapping[str, Path]) -> dict[str, TableSchema]:
    """Return the schemas of the tables of users, and register them.

    Parameters
    ----------
    folders : mapping
        Folder of a version of each table, by name.
    """
    found = {}
    for name, folder in folders.items():
        schema = None if name in table_names() else user_schema(folder)
        if schema is not None and schema.name == name:
            found[name] = schema
    register(found.values())
    return found


def user_schema(root: Path) -> TableSchema | None:
    """Return the schema that a version of a table of a user keeps; None if there is no usable one."""
    try:
        if is_url(str(root)):
            return _user_schema(str(root))
        status = (root / "dataset" / "_common_metadata").stat()
    except OSError:
        return None
    return _known_user_schema(str(root), status.st_ino, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _known_user_schema(root: str, *_: int) -> TableSchema | None:
    return _user_schema(root)


def _user_schema(root: str) -> TableSchema | None:
    try:
        values = json.loads((read_common_metadata(place(root)).metadata or {})[SCHEMA.encode()])
        schema = schema_of(values, root)
        require_plain_names(schema)
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError, ConfigurationError):
        # The schema of a table of a user is checked when the lake is opened.
        return None
    return schema


def require_known_forms(root: Path, forms: Mapping[str, tuple[int, str] | None]) -> None:
    """Refuse tables that this skylake would misread, as :func:`require_known` does.

    Parameters
    ----------
    root : Path
    forms : mapping
        Version and checksum of the schema of each table; None where nothing states them.
    """
    for table, form in forms.items():
        if table not in table_names():
            raise LakeError(
                f"{root}: the lake has the table {table}, which this skylake ({VERSION}) does not know; "
                "upgrade skylake"
            )
        known = load(table)
        if form is None or form == (known.version, known.sha256):
            continue
        version, sha256 = form
        if version > known.version:
            raise LakeError(
                f"{root}: {table} was written under version {version} of its schema, and this skylake "
                f"({VERSION}) knows none after {known.version}; upgrade skylake"
            )
        if deployed_sha256(table).get(version) != sha256:
            raise LakeError(
                f"{root}: {table} was written under a version {version} of its schema that is not the one deployed; "
                "use the skylake that wrote it"
            )


def form_of(root: Path) -> tuple[int, str] | None:
    """Return version and checksum of the schema of a version of a table; None where nothing states them."""
    try:
        status = (root / "dataset" / "_common_metadata").stat()
    except OSError:
        # A lake of the first schemas has none for flat tables. Readers report damage.
        return None
    return _form_of(str(root), status.st_ino, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _form_of(root: str, *_: int) -> tuple[int, str] | None:
    """Return the form of a version, cached as long as its metadata file is the same."""
    try:
        metadata = read_common_metadata(Path(root)).metadata or {}
        return int(metadata[b"skylake.schema_version"]), metadata[b"skylake.schema_sha256"].decode()
    except (OSError, pa.ArrowInvalid, KeyError, ValueError):
        return None


def open_catalog(
    root: Path, table: str, holder: object = None, margin: Path | None = None, **options: Any
) -> Any:
    """Open a version of a HATS table with lsdb, under the present schema.

    lsdb reads every file with the schema of ``_common_metadata``. If that is an older one, lsdb gets a folder with the
    present schema, whose leaves are those of `root`; nothing is written to the lake.

    Parameters
    ----------
    root : Path
        Folder of the version, free of links.
    table : str
    holder : object
        An object to keep for as long as the catalog and all that is made from it.
    margin : Path or None
        Margin of the version, which is left out where it has an older schema than the present one.
    **options
        For :func:`lsdb.open_catalog`.
    """
    import lsdb
    from hats.io.file_io import get_upath

    keep_compiled()
    schema = arrow_schema(load(table))
    # For Arrow, with which lsdb reads files.
    options = {"page_checksum_verification": True} | options
    # Not the default columns alone: all ways of reading from Python give the same.
    if options.get("columns") is None:
        options["columns"] = "all"
    if margin is not None and read_common_metadata(margin).equals(schema):
        options = {"margin_cache": margin} | options
    held = {"path_generator": partial(_leaf, root, holder, options.get("margin_cache"))} | options
    require_own_parts(root)
    if read_common_metadata(root).equals(schema):
        # A published lake need not be held: only a later publish removes its files.
        return lsdb.open_catalog(root, **(options if is_url(root) else held))
    with scratch_folder("schema") as folder:
        for name in ("hats.properties", "partition_info.csv"):
            (folder / name).write_bytes(content_of(root / name))
        if (root / POINT_MAP).is_file():
            (folder / POINT_MAP).write_bytes(content_of(root / POINT_MAP))
        (folder / "dataset").mkdir()
        write_common_metadata(folder, schema)
        catalog = lsdb.open_catalog(folder, **held)
    catalog.hc_structure.catalog_path = catalog.hc_structure.catalog_base_dir = get_upath(root)
    return catalog


def _leaf(root: Path, holder: object, margin: object, base: Any, *leaf: Any) -> Any:
    """Return the path of a leaf of `root`, wherever lsdb takes it to be, or of its margin.

    lsdb keeps this function with the catalog and with all that is made from it, and so the holder lives as long.
    """
    from hats.io import pixel_catalog_file

    return pixel_catalog_file(base if str(base) == str(margin) else root, *leaf)

"""Collect the physical facts of a lake: links, descriptions, metadata and files on the disk.

Whatever is broken becomes a row that says so; nothing here raises because a lake is damaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.cameras import Profile
from skylake.durable import content_of, opened
from skylake.errors import ConfigurationError, LakeError, UnknownName
from skylake.lake.cameras.camera_state import damage_of
from skylake.lake.cameras.chosen_catalogs import read_choice
from skylake.lake.cameras.master_files import add_master_files
from skylake.lake.commits.internal_links import foreign_links
from skylake.lake.commits.ledger import damage_of_configuration
from skylake.lake.commits.new_tables import linked_tables
from skylake.lake.integrity.file_footers import add_catalogs, add_disk_files, catalog_counts, data_files
from skylake.lake.integrity.part_descriptions import add_descriptions
from skylake.lake.integrity.pointer_facts import add_ledger, add_snapshots
from skylake.lake.layout import Layout
from skylake.lake.storage.fact_relations import UNREADABLE, Relations
from skylake.lake.storage.schema_versions import user_schemas
from skylake.schema import load, table_names
from skylake.schema.deployed import known_schemas
from skylake.settings import Catalogs, Settings, read_settings
from skylake.sky.hats import EMPTY_FILE, find_pixels, read_pixels, read_properties
from skylake.sky.hats_coverage import COVERAGE_FILES, MOC_JSON, cell_of, read_coverage


@dataclass(slots=True)
class Facts:
    """The facts of a lake.

    Attributes
    ----------
    layout : Layout
    settings : Settings
        Defaults where the file is damaged.
    snapshot : int or None
        The snapshot that is verified: the current one, or the newest that is whole if the pointer is broken.
    folders : dict
        Folder of the version of each table that can be reached.
    relations : Relations
    """

    layout: Layout
    settings: Settings
    snapshot: int | None
    folders: dict[str, Path]
    relations: Relations


def gather_facts(layout: Layout, number: int | None = None) -> Facts:
    """Gather the facts of a snapshot, and of the links and the ledger of all.

    Parameters
    ----------
    layout : Layout
    number : int or None
        Snapshot; None takes the current one.

    Raises
    ------
    LakeError
        If there is no lake at all, no such snapshot, or a newer skylake wrote it.
    """
    if not layout.settings_file.is_file() and not layout.snapshots.is_dir():
        raise LakeError(f"{layout.root}: there is no lake")
    if number is not None and not layout.snapshot(number).is_dir():
        raise UnknownName(f"{layout.root}: there is no snapshot {number}; `skylake history` lists them")
    relations = Relations()
    settings = _settings(layout, relations)
    chosen = add_snapshots(layout, relations, number)
    add_ledger(layout, relations)
    pointers = {link for (link,) in relations.values("pointers", "link")}
    foreign = list(foreign_links(layout))
    for link in foreign:
        if (name := str(link.path.relative_to(layout.root))) not in pointers:
            relations.problem(name, "link", link.why)
    folders = {}
    for table in linked_tables(layout.snapshot(chosen)) if chosen is not None else ():
        folder = (layout.snapshot(chosen or 0) / table).resolve()
        if table not in table_names() and table not in user_schemas({table: folder}):
            relations.problem(f"_snapshots/{chosen:06d}/{table}", "table", "its schema is missing", table)
            continue
        # The target of a link in it does not belong to the lake.
        is_own = not any(link.path.is_relative_to(folder) for link in foreign)
        if is_own and folder.is_dir() and folder.parent == layout.versions(table):
            folders[table] = folder
            _add_table(layout, relations, table, folder)
            add_descriptions(layout, relations, table, folder)
    catalogs = {"the settings": settings.catalog}
    for path in sorted((layout.root / "_cameras").glob("*.json")):
        if (profile := _add_camera(layout, relations, path)) is not None:
            catalogs[f"the profile of {profile.name}"] = profile.base.catalog
    for path in sorted((layout.root / "_cameras").glob("[!.]*.catalog")):
        try:
            choice = read_choice(layout, path.stem)
        except LakeError as error:
            relations.problem(str(path.relative_to(layout.root)), "choice of a catalog", error)
        else:
            catalogs[f"the choice for {path.stem}"] = Catalogs(calibrate=choice.calibrate if choice else "")
    for path in sorted((layout.root / "_cameras").glob("[!.]*.parquet")):
        if (why := _damage_of_small_table(path)) is not None:
            relations.problem(str(path.relative_to(layout.root)), "table of a camera", why)
    for path in sorted(layout.configurations.glob("[!.]*.json")):
        if (why := damage_of_configuration(path)) is not None:
            relations.problem(str(path.relative_to(layout.root)), "configuration", why)
    add_disk_files(relations, folders)
    for table, folder in folders.items():
        if (folder / MOC_JSON).exists() and (
            why := _damage_of_coverage(relations, table, folder)
        ) is not None:
            relations.problem(str((folder / MOC_JSON).relative_to(layout.root)), "coverage", why, table)
        margin = layout.margin(table, folder.name)
        if margin.is_dir() and (why := _damage_of_margin(layout, table, folder)) is not None:
            relations.problem(str(margin.relative_to(layout.root)), "margin", why, table)
    add_catalogs(relations, layout, catalogs, [link.path for link in foreign])
    add_master_files(layout, relations)
    return Facts(layout, settings, chosen, folders, relations)


def _settings(layout: Layout, relations: Relations) -> Settings:
    try:
        return read_settings(layout.settings_file)
    except (OSError, ConfigurationError) as error:
        relations.problem(layout.settings_file.name, "settings", error)
        return Settings()


def _damage_of_small_table(path: Path) -> str | None:
    try:
        return damage_of(content_of(path))
    except OSError as error:
        return f"it cannot be read ({error})"


def _add_camera(layout: Layout, relations: Relations, path: Path) -> Profile | None:
    """Add a camera by its kept profile, and return that; None if it cannot be read."""
    from skylake.cameras.profile_json import from_json

    try:
        profile = from_json(path)
    except (*UNREADABLE, ConfigurationError, LakeError) as error:
        relations.problem(str(path.relative_to(layout.root)), "camera profile", error)
        return None
    relations.add("cameras", camera=profile.name)
    return profile


def _add_table(layout: Layout, relations: Relations, table: str, folder: Path) -> None:
    """Add the metadata of a version."""
    schema = load(table)
    values: dict[str, Any] = {"has_metadata": (folder / "dataset" / "_metadata").is_file()}
    place = str(folder.relative_to(layout.root))
    if schema.layout.kind == "hats":
        _add_pixels(relations, table, folder, place)
        try:
            properties = read_properties(folder)
            values["n_rows_recorded"] = int(properties["hats_nrows"])
            values["schema_recorded"] = properties["skylake_schema_sha256"]
        except UNREADABLE as error:
            relations.problem(f"{place}/hats.properties", "properties", error, table)
    if (folder / "dataset" / "_common_metadata").exists() or schema.layout.kind == "hats":
        values["schema_common"] = _schema_common(layout, relations, table, folder)
    for sha256, one in known_schemas(table).items():
        relations.add("schemas", table_name=table, version=one.version, schema_sha256=sha256)
    _add_empty_file(relations, table, folder, place)
    if values["has_metadata"]:
        _add_row_group_metadata(relations, table, folder, place)
    relations.add("lake_tables", table_name=table, kind=schema.layout.kind, folder=place, **values)


def _schema_common(layout: Layout, relations: Relations, table: str, folder: Path) -> str | None:
    """Return the checksum of the schema that a version names."""
    path = folder / "dataset" / "_common_metadata"
    try:
        with opened(path) as stream:
            metadata = pq.read_schema(stream).metadata or {}
        name: str = metadata[b"skylake.table"].decode()
        sha256: str = metadata[b"skylake.schema_sha256"].decode()
        version = int(metadata[b"skylake.schema_version"])
    except (*UNREADABLE, pa.ArrowException) as error:
        place = str(path.relative_to(layout.root))
        relations.problem(place, "common metadata", error, table)
        return None
    if name == table and version > load(table).version:
        raise LakeError(
            f"{layout.root}: {table} was written under version {version} of its schema, and this skylake knows none "
            f"after {load(table).version}; upgrade skylake"
        )
    return sha256


def _add_pixels(relations: Relations, table: str, folder: Path, place: str) -> None:
    """Add the pixels that a table lists, and those that have a folder."""
    try:
        listed = set(read_pixels(folder))
    except UNREADABLE as error:
        listed = set()
        relations.problem(f"{place}/partition_info.csv", "list of pixels", error, table)
    for pixel in sorted(listed | set(find_pixels(folder))):
        n_files = sum(
            1 for _ in folder.glob(f"dataset/Norder={pixel[0]}/Dir=*/Npix={pixel[1]}/[!._]*.parquet")
        )
        relations.add(
            "pixels",
            table_name=table,
            norder=pixel[0],
            npix=pixel[1],
            is_listed=pixel in listed,
            n_files=n_files,
        )


def _add_empty_file(relations: Relations, table: str, folder: Path, place: str) -> None:
    """Note what is wrong with the file of a table without rows, if there is one: lakes of older skylakes have none."""
    path = folder / "dataset" / EMPTY_FILE
    if not path.exists():
        return
    try:
        with opened(path) as stream:
            n_rows = pq.read_metadata(stream).num_rows
        problem: object = f"it has {n_rows} rows, and should have none" if n_rows else None
    except (*UNREADABLE, pa.ArrowException) as error:
        problem = error
    if problem is None and next(data_files(folder), None) is not None:
        problem = "it is there to show the columns of a table without rows, and this one has some"
    if problem is not None:
        relations.problem(f"{place}/dataset/{EMPTY_FILE}", "empty file", problem, table)


def _damage_of_margin(layout: Layout, table: str, folder: Path) -> str | None:
    """Return what is wrong with the margin of a table: a join would find too few pairs, or too many."""
    root = layout.margin(table, folder.name) / f"{table}_margin"
    counts = catalog_counts(layout, root)
    if counts.get("problem") is not None:
        return str(counts["problem"])
    if counts["n_rows"] != counts["n_rows_recorded"]:
        return f"its files have {counts['n_rows']} rows where {counts['n_rows_recorded']} are recorded"
    owners = {path.stem for path in data_files(folder)}
    strange = next((path for path in data_files(root) if path.stem not in owners), None)
    return None if strange is None else f"{strange.name} is of no file of the table"


def _damage_of_coverage(relations: Relations, table: str, folder: Path) -> str | None:
    """Return what is wrong with the coverage of a table: readers would leave out what it does not cover."""
    try:
        cells = read_coverage(folder)
    except ValueError as error:
        return str(error)
    missing = [name for name in COVERAGE_FILES if not (folder / name).is_file()]
    if cells is None or missing:
        return f"{missing[0]} is missing"
    columns = ("table_name", "path", "index_min", "index_max")
    for name, path, *ends in relations.values("disk_files", *columns):
        if name == table and not all(end is None or cells[cell_of(end)] for end in ends):
            return f"{path} has rows outside"
    return None


def _add_row_group_metadata(relations: Relations, table: str, folder: Path, place: str) -> None:
    try:
        with opened(folder / "dataset" / "_metadata") as stream:
            metadata = pq.read_metadata(stream)
        counts: dict[str, int] = {}
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            path = f"dataset/{group.column(0).file_path}"
            counts[path] = counts.get(path, 0) + group.num_rows
    except (*UNREADABLE, pa.ArrowException) as error:
        relations.problem(f"{place}/dataset/_metadata", "row group metadata", error, table)
        return
    relations.extend("metadata_files", ((table, path, rows) for path, rows in counts.items()))

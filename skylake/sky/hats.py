"""The HATS format on disk: leaves, properties, partition list (Caplar et al. 2025, arXiv:2501.02103).

A catalog here keeps a folder per pixel (``hats_npix_suffix=/``), with one or more files in it::

    hats.properties  partition_info.csv  dataset/_common_metadata
    dataset/Norder=2/Dir=0/Npix=17/<part>.parquet
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.core.batch import is_plain_name
from skylake.durable import content_of, opened, replace_text, replacing, text_of
from skylake.errors import CatalogError, reason_of
from skylake.inside import relative_name
from skylake.revision import VERSION
from skylake.schema import TableSchema, arrow_schema
from skylake.schema.parquet import stored_schema, write_parquet
from skylake.sky.pixels import Pixel, pixel_range

_DIRECTORY_SIZE = 10000
#: Footers that are read at a time.
_FOOTER_THREADS = 16
#: Names the catalog and the margins of a collection.
COLLECTION_FILE = "collection.properties"
#: File below ``dataset`` of a table without rows, so that those find its columns who look for files.
EMPTY_FILE = "empty.parquet"
#: File of a catalog of a lake whose stars are elsewhere, and the entry of its collection that gives their address.
SOURCE_FILE, IN_PLACE = "source.json", "skylake_in_place"
#: Files of each pixel of a catalog, with the rows that each should have; None where that is not known.
Leaves = Mapping[Pixel, Mapping[Path, int | None]]
#: File of a reference catalog, or of a published folder, with what is in it; written after all of that.
OBJECTS = "_objects.json"
Objects = dict[str, tuple[int, str]]
"""Size and SHA-256 by path."""
_LEAF = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)(?:/|\Z)")


@dataclass(frozen=True, slots=True)
class Properties:
    """What ``hats.properties`` says of a catalog."""

    name: str
    catalog_type: str
    n_rows: int
    ra: str = "ra_deg"
    dec: str = "dec_deg"
    primary: str | None = None
    """Catalog that a margin belongs to."""
    margin_arcsec: float | None = None


def leaf_folder(order: int, pixel: int) -> str:
    """Return the folder of a pixel relative to its catalog."""
    directory = pixel // _DIRECTORY_SIZE * _DIRECTORY_SIZE
    return f"dataset/Norder={order}/Dir={directory}/Npix={pixel}"


def pixel_of(path: str | Path) -> Pixel | None:
    """Return the pixel of a leaf's path; None if it is in no pixel's folder."""
    match = _LEAF.search(path if isinstance(path, str) else path.as_posix())
    return (int(match[1]), int(match[2])) if match else None


def find_pixels(root: Path) -> list[Pixel]:
    """Return the pixels that have a folder, sorted."""
    folders = [str(root / "dataset")]
    for prefix in ("Norder=", "Dir=", "Npix="):
        folders = [f"{folder}/{name}" for folder in folders for name in _names(folder, prefix)]
    return sorted(pixel for pixel in map(pixel_of, folders) if pixel is not None)


def _names(folder: str, prefix: str) -> list[str]:
    """Return what a folder holds whose names begin so; nothing where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name.startswith(prefix)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_pixels(root: Path) -> list[Pixel]:
    """Return the pixels that a catalog lists, sorted."""
    lines = text_of(root / "partition_info.csv").splitlines()[1:]
    pairs = (line.split(",") for line in lines)
    return sorted((int(pair[0]), int(pair[1])) for pair in pairs)


def leaf_files(root: Path, pixels: Iterable[Pixel]) -> Iterator[tuple[Pixel, Path]]:
    """Yield the files of pixels, in order of name within each."""
    for pixel in pixels:
        for path in sorted((root / leaf_folder(*pixel)).glob("*.parquet")):
            if not path.name.startswith((".", "_")):
                yield pixel, path


def write_metadata(
    root: Path,
    schema: TableSchema | pa.Schema,
    properties: Properties,
    pixels: Iterable[Pixel],
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write the files that make a folder of leaves a HATS catalog.

    Existing files are replaced, never changed in place: they may be hard links into older versions.
    """
    (root / "dataset").mkdir(parents=True, exist_ok=True)
    write_common_metadata(root, schema if isinstance(schema, pa.Schema) else arrow_schema(schema))
    lines = "".join(f"{order},{pixel}\n" for order, pixel in sorted(pixels))
    replace_text(root / "partition_info.csv", "Norder,Npix\n" + lines)
    replace_text(root / "hats.properties", _properties_text(properties, extra or {}))


def write_common_metadata(root: Path, schema: pa.Schema) -> None:
    """Write the schema for readers that want it without opening a leaf."""
    path = root / "dataset" / "_common_metadata"
    with replacing(path, durable=False) as stream:
        pq.write_metadata(schema, stream.name)


def write_empty_file(root: Path, schema: pa.Schema) -> None:
    """Write a file without rows for readers that take the columns from the files of a folder."""
    # Not `schema.empty_table()`, which imports pandas.
    write_parquet(pa.Table.from_batches([], schema), root / "dataset" / EMPTY_FILE, durable=False)


def read_common_metadata(root: Path) -> pa.Schema:
    """Return the schema of a catalog."""
    with opened(root / "dataset" / "_common_metadata") as stream:
        return pq.read_schema(stream)


def write_row_group_metadata(root: Path) -> bool:
    """Write ``dataset/_metadata``: the footers of all files of a catalog, which readers then need not open.

    Validators take it that every pixel has one file. A catalog with more in some pixel, or with files of several
    schemas, gets none, and loses one that it has: such a file is optional, a wrong one is not valid. Nested columns
    that no file has are then left out of ``_common_metadata`` too, which validators compare.

    Parameters
    ----------
    root : Path
        Folder of the catalog.

    Returns
    -------
    bool
        Whether there is one now.

    Raises
    ------
    OSError, pyarrow.ArrowInvalid
        If a file cannot be read.
    """
    path = root / "dataset" / "_metadata"
    leaves = list(leaf_files(root, sorted(find_pixels(root), key=lambda pixel: pixel_range(*pixel))))
    if not leaves or len({pixel for pixel, _ in leaves}) < len(leaves):
        path.unlink(missing_ok=True)
        return False
    schema = read_common_metadata(root)
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        footers = list(pool.map(pq.read_metadata, (leaf for _, leaf in leaves)))
    # A nested column is only in files that have values of it.
    forms = [footer.schema.to_arrow_schema() for footer in footers]
    schema = stored_schema(schema, [name for name in schema.names if name not in forms[0].names])
    if not all(form.equals(schema) for form in forms):
        path.unlink(missing_ok=True)
        return False
    # Validators compare the two.
    write_common_metadata(root, schema)
    for footer, (_, leaf) in zip(footers, leaves, strict=True):
        footer.set_file_path(leaf.relative_to(root / "dataset").as_posix())
    with replacing(path, durable=False) as stream:
        pq.write_metadata(schema, stream.name, metadata_collector=footers)
    return True


def _properties_text(properties: Properties, extra: Mapping[str, str]) -> str:
    values: dict[str, object] = {
        "obs_collection": properties.name,
        "dataproduct_type": properties.catalog_type,
        "hats_nrows": properties.n_rows,
        "hats_col_ra": properties.ra,
        "hats_col_dec": properties.dec,
        "hats_col_healpix": "_healpix_29",
        "hats_col_healpix_order": 29,
        "hats_npix_suffix": "/",
        "hats_version": "v1.0",
        "hats_builder": f"skylake {VERSION}",
    }
    if properties.primary is not None:
        values["hats_primary_table_url"] = properties.primary
        values["hats_margin_threshold"] = properties.margin_arcsec
    values.update(extra)
    return "#HATS catalog\n" + "".join(f"{key}={value}\n" for key, value in values.items())


def read_properties(root: Path, file_name: str = "hats.properties") -> dict[str, str]:
    """Return the properties of a catalog or collection."""
    lines = text_of(root / file_name).splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def read_collection(root: Path) -> dict[str, str]:
    """Return the properties of a collection in a lake, whose catalogs are folders of it.

    Raises
    ------
    CatalogError
        If they lead elsewhere, or their file is none.
    """
    try:
        properties = read_properties(root, COLLECTION_FILE)
    except io.UnsupportedOperation as error:
        raise CatalogError(f"{root / COLLECTION_FILE}: this is no file; import the catalog again") from error
    for key in ("hats_primary_table_url", "all_margins", "default_margin", "all_indexes"):
        if not all(is_plain_name(name) for name in properties.get(key, "").split()):
            raise CatalogError(
                f"{root}: {key} leads out of the catalog; delete that folder and import the catalog"
            )
    return properties


def require_own_parts(root: Path) -> None:
    """Refuse a folder in which the hats package would find a collection whose catalogs are elsewhere.

    The package goes wherever a collection leads, to any URL; and it reads more into the file than is read here.

    Raises
    ------
    CatalogError
        If a catalog, margin, index or extension of the collection is no folder or file of it.
    """
    from hats.catalog.dataset.collection_properties import CollectionProperties

    if not (root / COLLECTION_FILE).is_file():
        return
    try:
        collection = CollectionProperties.read_from_dir(root)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogError(
            f"{root / COLLECTION_FILE}: the file cannot be read ({reason_of(error)})"
        ) from error
    names = [collection.hats_primary_table_url, *(collection.all_margins or ())]
    for parts in (collection.all_indexes, collection.all_extensions):
        names += (parts or {}).values()
    # The collection of a table and its margin names the version of the table that it belongs to.
    table = f"../../../_versions/{root.parent.name}/{root.name}"
    for name in names:
        if not (is_plain_name(name) or name == table):
            raise CatalogError(
                f"{root / COLLECTION_FILE}: {name!r} leads out of the folder; delete the folder"
            )


def primary_of(root: Path) -> Path:
    """Return the folder of a HATS catalog: that of the main catalog of a collection, else the one that is given.

    Raises
    ------
    CatalogError
        If the collection names a catalog that is no folder of it.
    """
    try:
        name = read_properties(root, COLLECTION_FILE)["hats_primary_table_url"]
    except (FileNotFoundError, NotADirectoryError):
        return root
    if not is_plain_name(name):
        raise CatalogError(
            f"{root / COLLECTION_FILE}: the main catalog {name!r} is no folder beside it; name the catalog itself"
        )
    return root / name


def write_collection(
    root: Path, name: str, margin: str, margin_arcsec: float, older_margins: Sequence[str] = ()
) -> None:
    """Write the file that binds a catalog and its margin cache, and older ones of it that are still read."""
    values = {
        "obs_collection": name,
        "hats_primary_table_url": name,
        "all_margins": " ".join([*older_margins, margin]),
        "default_margin": margin,
        "skylake_margin_arcsec": f"{margin_arcsec:g}",
    }
    text = "#HATS Collection\n" + "".join(f"{key}={value}\n" for key, value in values.items())
    replace_text(root / COLLECTION_FILE, text)


def write_margin_collection(root: Path, name: str, primary: str, margin: str) -> None:
    """Write the file that binds a catalog, by its path relative to the folder, and its margin in that folder."""
    values = {
        "obs_collection": name,
        "hats_primary_table_url": primary,
        "all_margins": margin,
        "default_margin": margin,
    }
    text = "#HATS Collection\n" + "".join(f"{key}={value}\n" for key, value in values.items())
    replace_text(root / COLLECTION_FILE, text)


def write_objects(root: Path, known: Objects | None = None) -> None:
    """Write sizes and checksums of all that is in the folder of a catalog, with which it is compared later on.

    Parameters
    ----------
    root : Path
    known : dict or None
        Size and SHA-256 of files that are listed already, by path; those are not read.
    """
    objects = dict(known or {})
    for path in files_below(root):
        name = path.relative_to(root).as_posix()
        if name not in objects:
            with opened(path) as stream:
                objects[name] = path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()
    replace_text(root / OBJECTS, objects_text(objects))


def files_below(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, without those that are not finished and the list of them."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            if not name.startswith(".") and not (name == OBJECTS and folder == str(root)):
                yield Path(folder) / name


def read_objects(root: Path) -> Objects | None:
    """Return what should be in the folder of a catalog; None for one of an older skylake, which does not say.

    Raises
    ------
    OSError, ValueError, LookupError, TypeError
        If the list cannot be read.
    """
    try:
        return objects_of(content_of(root / OBJECTS))
    except FileNotFoundError:
        return None


def objects_of(text: bytes) -> Objects:
    """Return size and SHA-256 by path from a list of objects."""
    listed = json.loads(text)["objects"].items()
    return {relative_name(path): (n_bytes, sha256) for path, (n_bytes, sha256) in listed}


def objects_text(objects: Objects) -> str:
    """Return the list of objects that :func:`objects_of` reads."""
    return json.dumps({"objects": dict(sorted(objects.items()))}) + "\n"


class _WarningCollector(logging.Handler):
    """Collects what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(" ".join(record.getMessage().split()))


def validate(root: Path) -> str | None:
    """Ask ``hats.io.validation.is_valid_catalog`` strictly about a catalog or collection.

    Returns
    -------
    str or None
        What it complains of; None for a valid catalog.
    """
    from hats.io.validation import is_valid_catalog

    try:
        require_own_parts(root)
    except CatalogError as error:
        return str(error)
    # hats says why in the log of the root, where nobody else should see it.
    logger, complaints = logging.getLogger(), _WarningCollector()
    held, logger.handlers = logger.handlers, [complaints]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            is_valid = is_valid_catalog(root, strict=True)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, pa.ArrowException) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        logger.handlers = held
    return None if is_valid else "; ".join(complaints.texts) or "it is not valid"

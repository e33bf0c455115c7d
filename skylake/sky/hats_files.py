"""A HATS table as its files: one of a lake, a catalog, or whatever else is HATS, in a folder or behind a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from skylake.core.ids import config_sha256
from skylake.core.sphere import INDEX_ORDER
from skylake.errors import CatalogError, UsageError, no_column, reason_of
from skylake.places import is_url, key, place, store, trouble
from skylake.sky.hats import Leaves, primary_of
from skylake.sky.pixels import Pixel

INDEX = "_healpix_29"
#: Files whose state is asked for at a time.
_FILE_THREADS = 16
#: What file systems and object stores say of a file that changes with its content.
_STATES = (
    "size",
    "mtime",
    "ETag",
    "etag",
    "LastModified",
    "Last-Modified",
    "Content-MD5",
    "md5Hash",
    "updated",
)


@dataclass(frozen=True, slots=True)
class HatsFiles:
    """A HATS table that can be read.

    Attributes
    ----------
    name : str
        What it is called in sentences.
    ra, dec : str
        Columns of the positions, degrees.
    schema : pyarrow.Schema
        Columns of the rows, with units and meanings as metadata where they are known.
    names : tuple of str
        Columns of the rows.
    leaves : mapping
        Files of each pixel, with the rows that each should have.
    identity : str
        Equal for equal content.
    default_columns : tuple of str
        Columns that it recommends; empty where it recommends none.
    reads : callable or None
        Columns of the files that some columns of the rows are made from; None where files have the rows.
    makes : callable or None
        Makes such rows of those of files that have the same position: of a table in blocks, or of a catalog that is
        used in place.
    file_schema : pyarrow.Schema or None
        Columns of the files, where they are others.
    """

    name: str
    ra: str
    dec: str
    schema: pa.Schema
    names: tuple[str, ...]
    leaves: Leaves
    identity: str
    default_columns: tuple[str, ...] = ()
    reads: Callable[[Sequence[str]], Sequence[str]] | None = None
    makes: Callable[[pa.Table, Sequence[str]], pa.Table] | None = None
    file_schema: pa.Schema | None = None

    def columns(self, chosen: Sequence[str] | None) -> list[str]:
        """Return the columns that were chosen, or those that it recommends, or all but the index.

        Raises
        ------
        UsageError
            If there is no such column.
        """
        known = [name for name in self.names if name != INDEX]
        for name in chosen or ():
            if name not in known:
                raise UsageError(no_column(self.name, name, known))
        names = chosen or self.default_columns or known
        return list(dict.fromkeys(name for name in names if name in known))


def open_hats(where: str | Path) -> HatsFiles:
    """Open a HATS catalog, or the main catalog of a collection, in a folder or behind a URL.

    Raises
    ------
    CatalogError
        If there is none, or it lacks positions or the index of order 29.
    """
    import hats

    root = place(where)
    try:
        main = hats.read_hats(primary_of(root), single_catalog=True, read_moc=False)
        info, pixels = main.catalog_info, [(one.order, one.pixel) for one in main.get_healpix_pixels()]
        leaves = {pixel: dict(_files_of(main, *pixel)) for pixel in sorted(pixels)}
    except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        why = (trouble(error) if is_url(root) else None) or reason_of(error)
        raise CatalogError(f"{where}: no HATS catalog can be read there ({why})") from error
    if info.ra_column is None or info.dec_column is None:
        raise CatalogError(f"{where}: its properties name no columns of positions")
    if (info.healpix_column, info.healpix_order) != (INDEX, INDEX_ORDER) or INDEX not in main.schema.names:
        raise CatalogError(
            f"{where}: the catalog has no column {INDEX}; import it again with hats-import or lsdb"
        )
    return HatsFiles(
        str(where),
        info.ra_column,
        info.dec_column,
        main.schema,
        tuple(main.schema.names),
        leaves,
        _identity(info.model_dump(mode="json"), leaves),
        tuple(info.default_columns or ()),
    )


def _identity(properties: Mapping[str, Any], leaves: Leaves) -> str:
    """Return a checksum that is equal for equal content.

    Catalogs of skylake state that of their content. Of others nothing but the files says that they have changed.
    """
    stated: Any = properties.get("skylake_sha256")
    if stated is None:
        paths = [path for pixel in sorted(leaves) for path in sorted(leaves[pixel])]
        with ThreadPoolExecutor(_FILE_THREADS) as pool:
            stated = list(zip(map(str, paths), pool.map(_state, paths), strict=True))
    return config_sha256({"properties": dict(properties), "pixels": sorted(leaves), "content": stated})


def _state(path: Path) -> dict[str, str] | None:
    """Return what changes with the content of a file; None for one that is missing, which its readers report."""
    try:
        if not is_url(path):
            status = path.stat()
            return {"size": str(status.st_size), "mtime": str(status.st_mtime_ns)}
        facts = store(path).info(key(path))
    except FileNotFoundError:
        return None
    return {name: str(facts[name]) for name in _STATES if name in facts}


def _files_of(catalog: Any, order: int, number: int) -> Iterator[tuple[Path, int | None]]:
    """Yield the files of a pixel: one, or those in a folder of its own."""
    from hats import HealpixPixel
    from hats.io import pixel_catalog_file

    suffix = catalog.catalog_info.npix_suffix or ".parquet"
    path = pixel_catalog_file(catalog.catalog_base_dir, HealpixPixel(order, number), npix_suffix=suffix)
    if suffix not in ("/", "\\"):
        yield (path if is_url(path) else Path(str(path))), None
        return
    if is_url(path):
        names = store(path).ls(path.path, detail=False)
        files = [path / name.rpartition("/")[2] for name in names]
    else:
        files = list(Path(str(path)).glob("*.parquet"))
    for file in sorted(files):
        if file.suffix == ".parquet" and not file.name.startswith((".", "_")):
            yield file, None


def files_in(leaves: Leaves, pixels: Sequence[Pixel]) -> list[tuple[str, int | None]]:
    """Return the files of some pixels, in their order, as texts that :func:`skylake.places.place` reads."""
    return [(str(path), n_rows) for pixel in pixels for path, n_rows in sorted(_leaf(leaves, pixel).items())]


def _leaf(leaves: Leaves, pixel: Pixel) -> Mapping[Path, int | None]:
    return leaves[pixel]

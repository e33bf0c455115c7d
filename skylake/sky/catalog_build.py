"""Build a reference catalog: batches of stars in, a HATS collection with a margin cache out.

Two passes, memory bounded by a batch and a million rows in the first and by a pixel in the second: batches are
dealt out to the pixels, then each pixel is gathered, sorted and written. A margin is made of the pixels in the same
way, with the catalog or, wider, at any later time.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skylake import logs
from skylake.durable import Linker, exchange, in_use, is_in_use, locked_alone, sync_folder, sync_tree
from skylake.errors import CatalogError, reason_of
from skylake.schema import TableSchema, arrow_schema, conform, load
from skylake.schema.parquet import write_parquet
from skylake.sky.hats import (
    COLLECTION_FILE,
    Properties,
    leaf_folder,
    read_common_metadata,
    read_objects,
    read_pixels,
    read_properties,
    write_collection,
    write_metadata,
    write_objects,
)
from skylake.sky.hats_coverage import describe_catalog
from skylake.sky.pixels import Pixel, PixelTree

_log = logs.get(__name__)

#: A pixel with more rows is divided into its children.
MAX_LEAF_ROWS = 1_000_000

#: Repeated identifiers are reported; where they are more than so many and such a share, the column is wrong.
_FEW_DUPLICATES = 20
_DUPLICATE_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class CatalogBuildReport:
    """What was built: rows, pixels, and rows whose ref_id another row has."""

    n_rows: int
    n_pixels: int
    n_duplicate_ids: int


def build_catalog(
    batches: Iterable[pa.Table],
    schema: TableSchema,
    target: Path,
    tree: PixelTree,
    margin_arcsec: float,
    properties: Mapping[str, str],
    max_leaf_rows: int = MAX_LEAF_ROWS,
) -> CatalogBuildReport:
    """Build a catalog and its margin cache as a HATS collection.

    Parameters
    ----------
    batches : iterable of pyarrow.Table
        Stars that conform to `schema`, in any order.
    schema : TableSchema
    target : Path
        Folder to make; its name is the name of the catalog.
    tree : PixelTree
        Division of the sky, that of the lake's tables.
    margin_arcsec : float
        Width of the margin around each pixel.
    properties : mapping
        More entries for ``hats.properties``.
    max_leaf_rows : int
        Pixels with more rows are divided.

    Raises
    ------
    CatalogError
        If there are no stars, or the folder cannot be written.
    """
    try:
        _sweep(target)
        scratch = Path(tempfile.mkdtemp(prefix=_scratch_prefix(target), dir=target.parent))
        with in_use(scratch), _removing(scratch):
            building = scratch / target.name
            report = _build(
                batches, schema, building, target.name, tree, margin_arcsec, properties, max_leaf_rows
            )
            shutil.rmtree(building / "_dealt", ignore_errors=True)
            write_objects(building)
            sync_tree(building)
            with _placing(target):
                _put_in_place(building, target, scratch / "replaced")
            sync_folder(target.parent)
    except OSError as error:
        raise CatalogError(f"{target}: the catalog cannot be written ({reason_of(error)})") from error
    return report


def _scratch_prefix(target: Path) -> str:
    return f".{target.name}.building-"


def _sweep(target: Path) -> None:
    """Make the folder of catalogs, and remove from it what imports left that were killed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for folder in target.parent.glob(f"{_scratch_prefix(target)}*"):
        if not is_in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _removing(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(building: Path, target: Path, aside: Path) -> None:
    """Give a catalog that is whole its name; one that it replaces goes only then, and comes back on failure."""
    replaces = target.exists()
    if replaces and exchange(building, target):
        return
    if replaces:
        target.replace(aside)
    try:
        building.replace(target)
    except OSError:
        if replaces:
            aside.replace(target)
        raise


def _build(
    batches: Iterable[pa.Table],
    schema: TableSchema,
    folder: Path,
    name: str,
    tree: PixelTree,
    margin_arcsec: float,
    properties: Mapping[str, str],
    max_leaf_rows: int,
) -> CatalogBuildReport:
    dealt = _deal(batches, folder / "_dealt" / "main", tree)
    if not dealt.counts:
        raise CatalogError(f"{name}: the files hold no star with a position")
    leaves: list[Pixel] = []
    content = hashlib.sha256()
    n_duplicates = 0
    for number in sorted(dealt.counts):
        rows = _sorted(conform(dealt.gather(number), schema), schema)
        n_duplicates += rows.num_rows - pc.count_distinct(rows["ref_id"]).as_py()
        for pixel, piece in _divide(rows, tree.pixels[number], max_leaf_rows):
            leaves.append(pixel)
            path = folder / name / leaf_folder(*pixel) / f"{name}.parquet"
            write_parquet(piece, path)
            content.update(path.read_bytes())
    n_rows = sum(dealt.counts.values())
    if n_duplicates > max(_FEW_DUPLICATES, _DUPLICATE_SHARE * n_rows):
        raise CatalogError(
            f"{name}: {n_duplicates} of {n_rows} stars have the identifier of another; with --id name a column of "
            "unique identifiers, or leave it out if the catalog has none"
        )
    described = describe_catalog(folder / name, arrow_schema(schema))
    properties = {**properties, **described, "skylake_sha256": content.hexdigest()}
    write_metadata(folder / name, schema, Properties(name, "object", n_rows), leaves, properties)
    margin = f"{name}_margin"
    fine = PixelTree.of(_covering(leaves, tree))
    _write_margin(folder / name, folder / margin, folder / "_dealt" / "margin", fine, margin_arcsec)
    write_collection(folder, name, margin, margin_arcsec)
    return CatalogBuildReport(n_rows, len(leaves), n_duplicates)


def widen_margin(collection: Path, margin_arcsec: float) -> bool:
    """Give a catalog a margin cache at least so wide, made from its own pixels; its files stay as they are.

    The wider margin is beside the one before, which its readers keep. The catalog with both takes the
    place of the one before in one step, so a run that is killed leaves a whole catalog.

    Parameters
    ----------
    collection : Path
        HATS collection of the catalog.
    margin_arcsec : float
        Width of the margin around each pixel.

    Returns
    -------
    bool
        Whether it had to be widened.

    Raises
    ------
    CatalogError
        If the folder cannot be written.
    """
    try:
        if _has_margin(collection, margin_arcsec):
            return False
        with _placing(collection):
            if _has_margin(collection, margin_arcsec):
                return False
            _widen(collection, margin_arcsec)
    except (OSError, KeyError) as error:
        raise CatalogError(f"{collection}: its margin cannot be widened ({reason_of(error)})") from error
    return True


def _has_margin(collection: Path, margin_arcsec: float) -> bool:
    return float(read_properties(collection, COLLECTION_FILE)["skylake_margin_arcsec"]) >= margin_arcsec


def _placing(collection: Path) -> AbstractContextManager[None]:
    """Hold the right to put another folder in the place of a catalog."""
    return locked_alone(
        collection.with_name(f".{collection.name}.placing"),
        lambda: _log.warning("%s: waiting for another run", collection),
    )


def _widen(collection: Path, margin_arcsec: float) -> None:
    name = collection.name
    margin_arcsec = math.ceil(margin_arcsec)
    margin = f"{name}_margin_{margin_arcsec}"
    _sweep(collection)
    scratch = Path(tempfile.mkdtemp(prefix=_scratch_prefix(collection), dir=collection.parent))
    with in_use(scratch), _removing(scratch):
        building = scratch / name
        shutil.copytree(collection, building, copy_function=Linker())
        leaves = read_pixels(building / name)
        tree = PixelTree.completed(leaves, min(order for order, _ in leaves))
        _write_margin(building / name, building / margin, scratch / "dealt", tree, margin_arcsec)
        properties = read_properties(building, COLLECTION_FILE)
        # Those who are reading it have the margin in force; who had one before that has ended long since.
        before = properties["default_margin"]
        for older in set(properties["all_margins"].split()) - {before, margin}:
            shutil.rmtree(building / older, ignore_errors=True)
        write_collection(building, name, margin, margin_arcsec, [before])
        known = read_objects(building)
        # A catalog of an older skylake lists none of its files, which may have changed by now.
        if known is not None:
            same = {path: facts for path, facts in known.items() if path != COLLECTION_FILE}
            write_objects(
                building, {path: facts for path, facts in same.items() if (building / path).exists()}
            )
        sync_tree(building)
        _put_in_place(building, collection, scratch / "replaced")
        sync_folder(collection.parent)


class _PixelRows:
    """Rows of the pixels for the second pass: in memory while they are few, else in files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.counts: dict[int, int] = {}
        self._folder, self._n_held, self._n_files = folder, 0, 0
        self._held: dict[int, list[pa.Table]] = {}

    def add(self, pixel: int, rows: pa.Table) -> None:
        self._held.setdefault(pixel, []).append(rows)
        self.counts[pixel] = self.counts.get(pixel, 0) + rows.num_rows
        self._n_held += rows.num_rows
        if self._n_held > MAX_LEAF_ROWS:
            self._write()

    def _write(self) -> None:
        """Write what is in memory; unlike the catalog it need not survive a loss of power."""
        for pixel, tables in self._held.items():
            path = self._folder / str(pixel) / f"{self._n_files:06d}.arrow"
            path.parent.mkdir(parents=True, exist_ok=True)
            # A third of the time that Parquet takes for many small files.
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            with pa.ipc.new_file(path, tables[0].schema, options=options) as writer:
                for table in tables:
                    writer.write_table(table)
        self._held, self._n_held, self._n_files = {}, 0, self._n_files + 1

    def gather(self, pixel: int) -> pa.Table:
        """Return the rows of a pixel; they are gone then."""
        tables = []
        for path in sorted((self._folder / str(pixel)).glob("*.arrow")):
            with pa.OSFile(str(path)) as stream:
                tables.append(pa.ipc.open_file(stream).read_all())
        return pa.concat_tables(tables + self._held.pop(pixel, []))


def _deal(batches: Iterable[pa.Table], folder: Path, tree: PixelTree) -> _PixelRows:
    """Deal each batch out to the pixels of the tree."""
    dealt = _PixelRows(folder)
    for batch in batches:
        pixels = tree.assign(batch["_healpix_29"].to_numpy())
        for pixel, rows in _groups(pixels):
            dealt.add(pixel, batch.take(rows))
    return dealt


def _groups(keys: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Iterator[tuple[int, pa.Array]]:
    """Yield each key with the rows that have it."""
    if len(keys) == 0:
        return
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order], prepend=-1))
    for start, end in zip(bounds, [*bounds[1:], len(order)], strict=True):
        yield int(keys[order[start]]), pa.array(order[start:end])


def _sorted(rows: pa.Table, schema: TableSchema) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in schema.layout.sort])


def _divide(rows: pa.Table, pixel: Pixel, limit: int) -> Iterator[tuple[Pixel, pa.Table]]:
    """Yield sorted rows of a pixel, divided into children as long as there are too many."""
    order, number = pixel
    if rows.num_rows <= limit or order >= 20:
        if rows.num_rows:
            yield pixel, rows
        return
    index = rows["_healpix_29"].to_numpy()
    shift = 2 * (29 - order - 1)
    edges = np.searchsorted(index, [(4 * number + child) << shift for child in range(5)])
    for child in range(4):
        piece = rows.slice(int(edges[child]), int(edges[child + 1] - edges[child]))
        yield from _divide(piece, (order + 1, 4 * number + child), limit)


def _write_margin(catalog: Path, target: Path, dealt: Path, tree: PixelTree, margin_arcsec: float) -> None:
    """Write the margin cache of a catalog: for each pixel, the rows of other pixels within the margin.

    Pixels without a star of their own have a margin as well, or detections in them would not find the
    stars across the border.

    Parameters
    ----------
    catalog, target : Path
        Folders of the catalog, which is there, and of its margin.
    dealt : Path
        Folder for the pieces of the first pass.
    tree : PixelTree
        Cover of the sky in which all pixels of the catalog are.
    margin_arcsec : float
    """
    name, schema = catalog.name, read_common_metadata(catalog)
    pieces = _PixelRows(dealt)
    for pixel in read_pixels(catalog):
        rows = pq.read_table(catalog / leaf_folder(*pixel) / f"{name}.parquet", partitioning=None)
        which, pixels = tree.margins(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy(), margin_arcsec)
        for neighbour, chosen in _groups(pixels):
            pieces.add(neighbour, rows.take(pa.array(which).take(chosen)))
    filled = []
    for neighbour in sorted(pieces.counts):
        pixel = tree.pixels[neighbour]
        rows = _sorted(pieces.gather(neighbour), load("catalog")).cast(schema)
        write_parquet(rows, target / leaf_folder(*pixel) / f"{name}.parquet")
        filled.append(pixel)
    n_rows = sum(pieces.counts.values())
    known = read_properties(catalog)
    properties = {key: value for key, value in known.items() if key.startswith("skylake_")}
    what = Properties(target.name, "margin", n_rows, primary=name, margin_arcsec=margin_arcsec)
    write_metadata(target, schema, what, filled, properties)


def _covering(leaves: list[Pixel], tree: PixelTree) -> set[Pixel]:
    """Return a cover of the sky with all leaves in it: pixels of the tree, divided where leaves are finer."""
    cover = set(tree.pixels)
    for order, number in leaves:
        # Divide the ancestor that is in the cover, level by level, down to the leaf.
        for up in range(order, 0, -1):
            parent = (order - up, number >> (2 * up))
            if parent in cover:
                cover.remove(parent)
                cover |= {(parent[0] + 1, 4 * parent[1] + child) for child in range(4)}
    return cover

"""Build a reference catalog: batches of stars in, a HATS collection with a margin cache out.

Two passes, memory bounded by some million rows in both: batches become sorted runs on disk, then each pixel is read
from all of them and written. A margin is made of the pixels, with the catalog or, wider, at any later time. Of an
import that is interrupted the runs stay, and the next one of the same files goes on after the last of them.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skylake import logs
from skylake.durable import Linker, exchange, in_use, is_in_use, locked_alone, sync_folder, sync_tree
from skylake.errors import CatalogError, SkylakeError, reason_of
from skylake.inside import links_below, remove_tree
from skylake.schema import TableSchema, arrow_schema, conform, load
from skylake.schema.parquet import write_parquet
from skylake.sky.hats import (
    COLLECTION_FILE,
    Properties,
    leaf_folder,
    read_collection,
    read_common_metadata,
    read_objects,
    read_pixels,
    read_properties,
    write_collection,
    write_metadata,
    write_objects,
)
from skylake.sky.hats_coverage import describe_catalog
from skylake.sky.pixels import Pixel, PixelTree, pixel_range
from skylake.sky.sorted_runs import SortedRuns

_log = logs.get(__name__)

#: A pixel with more rows is divided into its children.
MAX_LEAF_ROWS = 1_000_000

#: Repeated identifiers are reported; where they are more than so many and such a share, the column is wrong.
_FEW_DUPLICATES = 20
_DUPLICATE_SHARE = 0.01
#: Identifiers that are compared all over the sky, 0.8 GB; those of larger catalogs only within each pixel.
_MOST_COMPARED = 100_000_000
#: No pixel is divided further.
_DEEPEST = 20
#: Stars of the whole sky whose magnitude in a band is 0 as it is rounded, at most: of more, 0 means that none was
#: measured; and so it does of more than one where no star is brighter than 3 otherwise.
_MOST_ZEROS, _NO_BRIGHT_STARS = 10, 3.0


@runtime_checkable
class Resumable(Protocol):
    """Batches of stars that can be read on from where an import was interrupted."""

    #: Names what is read and how; an import with another key begins anew.
    key: str
    #: How far the batches have been read that were given so far; it can be written as JSON.
    position: dict[str, Any]

    def go_to(self, position: Mapping[str, Any]) -> bool:
        """Begin behind a position; False if the files up to there have changed since."""

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the batches."""


@dataclass(frozen=True, slots=True)
class CatalogBuildReport:
    """What was built.

    Attributes
    ----------
    n_rows, n_pixels : int
    n_duplicate_ids : int
        Rows whose identifier another row has, with other values.
    n_equal : int
        Rows that were left out since another one is equal to them.
    zeros : dict
        Column of magnitudes to the number of them that are exactly 0; negative where these were taken for missing.
    """

    n_rows: int
    n_pixels: int
    n_duplicate_ids: int
    n_equal: int = 0
    zeros: dict[str, int] = field(default_factory=dict)


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
    batches : iterable of pyarrow.Table, or Resumable
        Stars that conform to `schema`, in any order. With the latter an import that was interrupted goes on.
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
        with _scratch(target, batches) as scratch:
            building = scratch / target.name
            remove_tree(building, scratch, ignore_errors=True)
            runs = _sorted_runs(batches, scratch / "runs")
            try:
                report = _build(
                    runs, schema, building, target.name, tree, margin_arcsec, properties, max_leaf_rows
                )
            except SkylakeError:
                # The same rows would be refused again.
                remove_tree(scratch / "runs", scratch)
                raise
            remove_tree(building / "_dealt", scratch, ignore_errors=True)
            write_objects(building)
            _publish(building, target, scratch)
    except OSError as error:
        raise CatalogError(f"{target}: the catalog cannot be written ({reason_of(error)})") from error
    return report


def put_catalog(target: Path, write: Callable[[Path], object]) -> None:
    """Put a catalog into the lake whose folder a function writes, whole or not at all.

    Raises
    ------
    CatalogError
        If the folder cannot be written.
    """
    try:
        with _scratch(target, None) as scratch:
            building = scratch / target.name
            building.mkdir()
            write(building)
            _publish(building, target, scratch)
    except OSError as error:
        raise CatalogError(f"{target}: the catalog cannot be written ({reason_of(error)})") from error


def _publish(building: Path, target: Path, scratch: Path) -> None:
    sync_tree(building)
    with _placing(target):
        _put_in_place(building, target, scratch / "replaced")
    sync_folder(target.parent)


@contextmanager
def _scratch(target: Path, batches: object) -> Iterator[Path]:
    """Hold a folder for an import: that of one of the same files which was interrupted, if there is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = None
    if isinstance(batches, Resumable):
        folder = target.parent / f"{_scratch_prefix(target)}{batches.key[:16]}"
    _sweep(target, folder)
    if folder is not None and any(links_below(folder)):
        # Nothing may be written through a link that somebody has put here.
        remove_tree(folder, target.parent)
    if folder is None or (folder.exists() and is_in_use(folder)):
        folder = Path(tempfile.mkdtemp(prefix=_scratch_prefix(target), dir=target.parent))
    folder.mkdir(exist_ok=True)
    done = False
    with in_use(folder):
        try:
            yield folder
            done = True
        finally:
            if not done and isinstance(batches, Resumable) and list((folder / "runs").glob("*.json")):
                remove_tree(folder / target.name, folder, ignore_errors=True)
                _log.warning(
                    "%s: the import did not finish; the same command goes on from where it stopped",
                    target.name,
                )
            else:
                remove_tree(folder, target.parent, ignore_errors=True)


def _sorted_runs(batches: Iterable[pa.Table], folder: Path) -> SortedRuns:
    """Read all batches that no run has yet."""
    runs = SortedRuns(folder)
    if not isinstance(batches, Resumable):
        for batch in batches:
            runs.add(batch)
        runs.write()
        return runs
    if runs.position is not None and not batches.go_to(runs.position):
        remove_tree(folder, folder.parent)
        runs = SortedRuns(folder)
    for batch in batches:
        runs.add(batch, batches.position)
    runs.write(batches.position)
    return runs


def _scratch_prefix(target: Path) -> str:
    return f".{target.name}.building-"


def _sweep(target: Path, kept: Path | None = None) -> None:
    """Remove what imports and others of a catalog left that were killed, but for one folder."""
    for folder in target.parent.glob(f"{_scratch_prefix(target)}*"):
        if folder != kept and not is_in_use(folder):
            remove_tree(folder, target.parent, ignore_errors=True)


def drop_unfinished_imports(catalogs: Path, waited_s: float) -> int:
    """Remove what imports of any catalog left that were interrupted longer ago than a time; return the bytes of it.

    Raises
    ------
    OSError
        If it cannot be removed.
    """
    n_bytes = 0
    for folder in catalogs.glob(_scratch_prefix(catalogs / "*") + "*"):
        touched = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
        if time.time() - touched > waited_s and not is_in_use(folder):
            n_bytes += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            remove_tree(folder, catalogs)
    return n_bytes


@contextmanager
def _removing(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        remove_tree(folder, folder.parent, ignore_errors=True)


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
    runs: SortedRuns,
    schema: TableSchema,
    folder: Path,
    name: str,
    tree: PixelTree,
    margin_arcsec: float,
    properties: Mapping[str, str],
    max_leaf_rows: int,
) -> CatalogBuildReport:
    if not runs.n_rows:
        raise CatalogError(f"{name}: the files hold no star with a position")
    leaves = [leaf for pixel in tree.pixels for leaf in _leaves(runs, pixel, max_leaf_rows)]
    content, repeated = hashlib.sha256(), _RepeatedIds()
    zeros = {
        name: -count if _are_missing(count, least) else count for name, (count, least) in runs.zeros.items()
    }
    n_rows = 0
    for pixel in leaves:
        rows = _without_zeros(runs.read(*pixel_range(*pixel)), zeros)
        rows = _sorted(_without_equal(conform(rows, schema)), schema)
        n_rows += rows.num_rows
        repeated.add(rows["ref_id"].to_numpy())
        path = folder / name / leaf_folder(*pixel) / f"{name}.parquet"
        # All files are forced to disk together, before the catalog gets its name.
        write_parquet(rows, path, durable=False)
        content.update(path.read_bytes())
    n_duplicates, example = repeated.count()
    if n_duplicates > max(_FEW_DUPLICATES, _DUPLICATE_SHARE * n_rows):
        raise CatalogError(
            f"{name}: {n_duplicates} of {n_rows} stars have the identifier of another and other values, as "
            f"{_both(folder / name, example)}; import one of the files that contradict, or name a column of "
            "unique identifiers with --format table and --id"
        )
    described = describe_catalog(folder / name, arrow_schema(schema))
    properties = {**properties, **described, "skylake_sha256": content.hexdigest()}
    write_metadata(folder / name, schema, Properties(name, "object", n_rows), leaves, properties)
    margin = f"{name}_margin"
    fine = PixelTree.of(_covering(leaves, tree))
    _write_margin(folder / name, folder / margin, folder / "_dealt", fine, margin_arcsec)
    write_collection(folder, name, margin, margin_arcsec)
    zeros = {column: count for column, count in zeros.items() if count}
    return CatalogBuildReport(n_rows, len(leaves), n_duplicates, runs.n_rows - n_rows, zeros)


def _are_missing(n_zeros: int, brightest: float) -> bool:
    return n_zeros > _MOST_ZEROS or (n_zeros > 1 and brightest > _NO_BRIGHT_STARS)


def _without_zeros(rows: pa.Table, zeros: Mapping[str, int]) -> pa.Table:
    """Return rows with null in the place of magnitudes of 0, and of their errors, where those mean missing ones."""
    # Queries know this file, and would import it too.
    import pyarrow.compute as pc

    for name in (name for name, count in zeros.items() if count < 0):
        is_zero = pc.equal(rows[name], 0.0).fill_null(False)
        for column in (name, f"{name}_err"):
            number = rows.schema.get_field_index(column)
            rows = rows.set_column(number, rows.field(number), pc.if_else(is_zero, None, rows[column]))
    return rows


def _without_equal(rows: pa.Table) -> pa.Table:
    """Return rows, those that are equal in all columns once, as where two downloads overlap."""
    if len(np.unique(rows["ref_id"].to_numpy())) == rows.num_rows:
        return rows
    return rows.group_by(rows.column_names, use_threads=False).aggregate([]).cast(rows.schema)


def _both(catalog: Path, ref_id: int) -> str:
    """Return two stars of one identifier, in words."""
    stars = pq.read_table(catalog / "dataset", partitioning=None, filters=[("ref_id", "==", ref_id)])
    columns = [
        name for name in stars.column_names if name.startswith(("ra_", "dec_", "mag_")) and "_err" not in name
    ]
    texts = [
        ", ".join(f"{name} {row[name]}" for name in columns)
        for row in stars.sort_by("ra_deg").slice(0, 2).to_pylist()
    ]
    return f"{ref_id} ({' and '.join(texts)})"


def _leaves(runs: SortedRuns, pixel: Pixel, limit: int) -> Iterator[Pixel]:
    """Yield a pixel, divided into its children as long as there are too many rows; none where there are no rows."""
    order, number = pixel
    n_rows = runs.count(*pixel_range(order, number))
    if order >= _DEEPEST and n_rows > MAX_LEAF_ROWS:
        raise CatalogError(
            f"{n_rows} stars are within an arcsecond of one place, as in no catalog; export it again"
        )
    if n_rows <= limit or order >= _DEEPEST:
        if n_rows:
            yield pixel
        return
    for child in range(4):
        yield from _leaves(runs, (order + 1, 4 * number + child), limit)


class _RepeatedIds:
    """Counts rows whose identifier another row has."""

    def __init__(self) -> None:
        self._compared: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        self._n_compared = self._n_repeated = 0

    def add(self, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        if self._n_compared + len(ids) > _MOST_COMPARED:
            self._n_repeated += len(ids) - len(np.unique(ids))
            return
        self._compared.append(ids)
        self._n_compared += len(ids)

    def count(self) -> tuple[int, int]:
        """Return how many there are, and one of the identifiers."""
        every = np.concatenate(self._compared)
        every.sort()
        again = every[1:][every[1:] == every[:-1]]
        return self._n_repeated + len(again), int(again[0]) if len(again) else -1


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
    except (OSError, KeyError, ValueError) as error:
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
        shutil.copytree(collection, building, symlinks=True, copy_function=Linker())
        leaves = read_pixels(building / name)
        tree = PixelTree.completed(leaves, min(order for order, _ in leaves))
        _write_margin(building / name, building / margin, scratch / "dealt", tree, margin_arcsec)
        properties = read_collection(building)
        # Those who are reading it have the margin in force; who had one before that has ended long since.
        before = properties["default_margin"]
        for older in set(properties["all_margins"].split()) - {before, margin}:
            remove_tree(building / older, building, ignore_errors=True)
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


class PixelRows:
    """Rows of the margins of pixels: in memory while they are few, else in files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.counts: dict[int, int] = {}
        self._folder, self._n_held, self._n_files = folder, 0, 0
        self._held: dict[int, list[pa.Table]] = {}

    def add(self, pixel: int, rows: pa.Table) -> None:
        """Put rows to those of a pixel."""
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

    def __contains__(self, pixel: int) -> bool:
        """Return whether a pixel has rows, or had some before they were gathered."""
        return pixel in self.counts

    def gather(self, pixel: int) -> pa.Table:
        """Return the rows of a pixel; they are gone then."""
        tables = []
        for path in sorted((self._folder / str(pixel)).glob("*.arrow")):
            with pa.OSFile(str(path)) as stream:
                tables.append(pa.ipc.open_file(stream).read_all())
        return pa.concat_tables(tables + self._held.pop(pixel, []))


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
    pieces = PixelRows(dealt)
    for pixel in read_pixels(catalog):
        rows = pq.read_table(catalog / leaf_folder(*pixel) / f"{name}.parquet", partitioning=None)
        which, pixels = tree.margins(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy(), margin_arcsec)
        for neighbour, chosen in _groups(pixels):
            pieces.add(neighbour, rows.take(pa.array(which).take(chosen)))
    filled = []
    for neighbour in sorted(pieces.counts):
        pixel = tree.pixels[neighbour]
        rows = _sorted(pieces.gather(neighbour), load("catalog")).cast(schema)
        write_parquet(rows, target / leaf_folder(*pixel) / f"{name}.parquet", durable=False)
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

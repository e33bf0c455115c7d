"""The margin of a version of a table: for each pixel, the rows of other pixels near its edge.

lsdb needs it to join onto a table without losing pairs across edges. It lies beside the version, since hats takes
every pixel below the folder of a catalog for one of that catalog, and has a file for each part and bundle of the
version: those of parts that stay are links, so a commit only works on the rows that are new. A bundle that loses some
of its parts gets another name, but most of its files are those that it had: their rows are not read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skylake.durable import Linker, content_of
from skylake.inside import remove_tree
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import Layout
from skylake.lake.storage.parts import sort_rows
from skylake.places import arrow_dataset
from skylake.schema import arrow_schema, load
from skylake.schema.parquet import optional_columns, stored_schema, write_parquet
from skylake.sky.catalog_build import PixelRows
from skylake.sky.hats import (
    Properties,
    find_pixels,
    leaf_files,
    leaf_folder,
    read_common_metadata,
    read_properties,
    write_margin_collection,
    write_metadata,
)
from skylake.sky.hats_files import INDEX
from skylake.sky.pixels import Pixel, PixelTree

#: Rows that are read at a time.
_BLOCK = 65_536


def build_margin(layout: Layout, table: str, number: int, base: Path) -> None:
    """Make the margin of a version that is about to be published, if its table has one.

    Parameters
    ----------
    layout : Layout
    table : str
    number : int
        Of the version, which is there.
    base : Path
        Version that it was built upon.
    """
    if not load(table).layout.margin_arcsec:
        return
    target = layout.margin(table, number)
    if os.path.lexists(target):  # of a commit that was interrupted
        remove_tree(target, layout.root)
    margin = _Margin(table, layout.version(table, number), target)
    before = layout.margin(table, base.name) / f"{table}_margin"
    if (before / "hats.properties").is_file():
        margin.keep(base, before)
    margin.finish()


class _Former(NamedTuple):
    """What a bundle of the version before has left to one with another name."""

    margin: Mapping[Pixel, Path]
    """Files of its margin."""
    same: frozenset[Pixel]
    """Pixels in which both have the same file."""


class _Margin:
    """A margin in the making."""

    def __init__(self, table: str, version: Path, target: Path) -> None:
        self.table, self.version, self.target = table, version, target
        self.schema = load(table)
        self.root = target / f"{table}_margin"
        #: Rows of margins that are too many for the memory.
        self.dealt = target / "_dealt"
        self.tree = _tree(version)
        self.owners = _owners(version)
        self.formers: dict[str, list[_Former]] = {}
        self.n_rows = 0
        self.link = Linker()

    def keep(self, base: Path, before: Path) -> None:
        """Link the files of parts and bundles that a version before had too, if it was divided as this one is."""
        form, known = arrow_schema(self.schema), read_common_metadata(before)
        # A compaction leaves out nested columns without values, which files do not have in any case.
        absent = [name for name in optional_columns(form) if name not in known.names]
        if _tree(base).pixels != self.tree.pixels or not known.equals(stored_schema(form, absent)):
            return
        old = _owners(base)
        kept = {name for name, path in self.owners.items() if name in old and _is_same(path, old[name])}
        self.n_rows = int(read_properties(before)["hats_nrows"])
        gone: dict[str, dict[Pixel, Path]] = {name: {} for name in old.keys() - kept}
        for pixel, path in leaf_files(before, find_pixels(before)):
            if path.stem in kept:
                self._link(path, pixel, path.stem)
            else:
                self.n_rows -= pq.read_metadata(path).num_rows
                gone.setdefault(path.stem, {})[pixel] = path
        self.owners = {name: path for name, path in self.owners.items() if name not in kept}
        self._find_formers(base, gone)

    def _find_formers(self, base: Path, gone: Mapping[str, Mapping[Pixel, Path]]) -> None:
        """Find files of new bundles that a bundle which is gone had under its name."""
        if not self.owners or not gone:
            return
        known = {
            (pixel, _file(path)): path.stem
            for pixel, path in leaf_files(base, find_pixels(base))
            if path.stem in gone
        }
        shared: dict[str, dict[str, set[Pixel]]] = {}
        for pixel, path in leaf_files(self.version, find_pixels(self.version)):
            if path.stem in self.owners and (former := known.get((pixel, _file(path)))) is not None:
                shared.setdefault(path.stem, {}).setdefault(former, set()).add(pixel)
        for owner, pixels_of in shared.items():
            self.formers[owner] = [
                _Former(gone[name], frozenset(pixels)) for name, pixels in pixels_of.items()
            ]

    def _link(self, path: Path, pixel: Pixel, owner: str) -> None:
        folder = self.root / leaf_folder(*pixel)
        folder.mkdir(parents=True, exist_ok=True)
        self.link(path, folder / f"{owner}.parquet")

    def finish(self) -> None:
        """Write the files of all other parts and bundles, and what makes them a HATS catalog and a collection."""
        files: dict[str, dict[Pixel, Path]] = {}
        for pixel, path in leaf_files(self.version, find_pixels(self.version)):
            if path.stem in self.owners:
                files.setdefault(path.stem, {})[pixel] = path
        for owner, paths in files.items():
            formers = self.formers.get(owner, [])
            known = frozenset().union(*(former.same for former in formers))
            near = PixelRows(self.dealt)
            self._add_near_edges((path for pixel, path in paths.items() if pixel not in known), near)
            for former in formers:
                self._take_over(former, owner, near, is_only=len(formers) == 1)
            for place in sorted(near.counts):
                path = self.root / leaf_folder(*self.tree.pixels[place]) / f"{owner}.parquet"
                write_parquet(sort_rows(near.gather(place), self.schema), path, durable=False)
            self.n_rows += sum(near.counts.values())
            remove_tree(self.dealt, self.target, ignore_errors=True)
        layout = self.schema.layout
        name, arcsec = f"{self.table}_margin", layout.margin_arcsec
        what = Properties(name, "margin", self.n_rows, layout.ra or "", layout.dec or "", self.table, arcsec)
        # lsdb wants the columns of the table.
        write_metadata(self.root, read_common_metadata(self.version), what, find_pixels(self.root))
        primary = os.path.relpath(self.version, self.target)
        write_margin_collection(self.target, self.table, primary, name)

    def _take_over(self, former: _Former, owner: str, near: PixelRows, *, is_only: bool) -> None:
        """Link files of the margin of a former bundle, or add to `near` those of their rows that it still has."""
        form = arrow_schema(self.schema)
        same = np.array([pixel in former.same for pixel in self.tree.pixels])
        for place, pixel in enumerate(self.tree.pixels):
            path = former.margin.get(pixel)
            if path is None:
                continue
            index = pq.read_table(path, columns=[INDEX], partitioning=None)[INDEX].to_numpy()
            stays = same[self.tree.assign(index)]
            if is_only and stays.all() and place not in near:
                self._link(path, pixel, owner)
                self.n_rows += len(index)
            elif stays.any():
                near.add(place, arrow_dataset([path], form).to_table().filter(pa.array(stays)))

    def _add_near_edges(self, paths: Iterable[Path], near: PixelRows) -> None:
        """Add the rows of some files that belong to the margin of each pixel."""
        for block in self._blocks(paths):
            ra, dec = (block[name].to_numpy() for name in (self.schema.layout.ra, self.schema.layout.dec))
            rows, pixels = self.tree.margins(ra, dec, self.schema.layout.margin_arcsec)
            for place in np.unique(pixels):
                near.add(int(place), block.take(pa.array(rows[pixels == place])))

    def _blocks(self, paths: Iterable[Path]) -> Iterator[pa.Table]:
        """Yield the rows of some files under the present schema, some at a time."""
        form = arrow_schema(self.schema)
        for path in paths:
            for batch in arrow_dataset([path], form).to_batches(batch_size=_BLOCK):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch], form)


def _tree(version: Path) -> PixelTree:
    pixels = find_pixels(version)
    return PixelTree.completed(pixels, min((order for order, _ in pixels), default=0))


def _owners(version: Path) -> dict[str, Path]:
    """Return the descriptions of the parts and bundles of a version by name, after which files are named."""
    one = Version(version)
    return {**one.fresh, **one.bundle_descriptions}


def _file(path: Path) -> tuple[int, int]:
    """Return what tells a file from others, whatever its name."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two descriptions are the same, and so the files that they describe."""
    return path.samefile(other) or content_of(path) == content_of(other)

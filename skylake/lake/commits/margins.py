"""The margin of a version of a table: for each pixel, the rows of other pixels near its edge.

lsdb needs it to join onto a table without losing pairs across edges. It lies beside the version, since hats takes
every pixel below the folder of a catalog for one of that catalog, and has a file for each part and bundle of the
version: those of parts that stay are links, so a commit only works on the rows that are new.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skylake.durable import Linker
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import Layout
from skylake.lake.storage.parts import sort_rows
from skylake.places import arrow_dataset
from skylake.schema import arrow_schema, load
from skylake.schema.parquet import optional_columns, stored_schema, write_parquet
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
    if target.exists():  # of a commit that was interrupted
        shutil.rmtree(target)
    margin = _Margin(table, layout.version(table, number), target)
    before = layout.margin(table, base.name) / f"{table}_margin"
    if (before / "hats.properties").is_file():
        margin.keep(base, before)
    margin.finish()


class _Margin:
    """A margin in the making."""

    def __init__(self, table: str, version: Path, target: Path) -> None:
        self.table, self.version, self.target = table, version, target
        self.schema = load(table)
        self.root = target / f"{table}_margin"
        self.tree = _tree(version)
        self.owners = _owners(version)
        self.n_rows = 0

    def keep(self, base: Path, before: Path) -> None:
        """Link the files of parts and bundles that a version before had too, if it was divided as this one is."""
        form, known = arrow_schema(self.schema), read_common_metadata(before)
        # A compaction leaves out nested columns without values, which files do not have in any case.
        absent = [name for name in optional_columns(form) if name not in known.names]
        if _tree(base).pixels != self.tree.pixels or not known.equals(stored_schema(form, absent)):
            return
        old = _owners(base)
        kept = {name for name, path in self.owners.items() if name in old and _is_same(path, old[name])}
        link = Linker()
        self.n_rows = int(read_properties(before)["hats_nrows"])
        for pixel, path in leaf_files(before, find_pixels(before)):
            if path.stem in kept:
                folder = self.root / leaf_folder(*pixel)
                folder.mkdir(parents=True, exist_ok=True)
                link(path, folder / path.name)
            else:
                self.n_rows -= pq.read_metadata(path).num_rows
        self.owners = {name: path for name, path in self.owners.items() if name not in kept}

    def finish(self) -> None:
        """Write the files of all other parts and bundles, and what makes them a HATS catalog and a collection."""
        files: dict[str, list[Path]] = {}
        for _, path in leaf_files(self.version, find_pixels(self.version)):
            if path.stem in self.owners:
                files.setdefault(path.stem, []).append(path)
        for owner, paths in files.items():
            for pixel, rows in self._near_edges(paths).items():
                path = self.root / leaf_folder(*pixel) / f"{owner}.parquet"
                write_parquet(sort_rows(rows, self.schema), path, durable=False)
                self.n_rows += rows.num_rows
        layout = self.schema.layout
        name, arcsec = f"{self.table}_margin", layout.margin_arcsec
        what = Properties(name, "margin", self.n_rows, layout.ra or "", layout.dec or "", self.table, arcsec)
        # lsdb wants the columns of the table.
        write_metadata(self.root, read_common_metadata(self.version), what, find_pixels(self.root))
        primary = os.path.relpath(self.version, self.target)
        write_margin_collection(self.target, self.table, primary, name)

    def _near_edges(self, paths: Iterable[Path]) -> Mapping[Pixel, pa.Table]:
        """Return the rows of some files that belong to the margin of each pixel."""
        pieces: dict[Pixel, list[pa.Table]] = {}
        for block in self._blocks(paths):
            ra, dec = (block[name].to_numpy() for name in (self.schema.layout.ra, self.schema.layout.dec))
            rows, pixels = self.tree.margins(ra, dec, self.schema.layout.margin_arcsec)
            for place in np.unique(pixels):
                chosen = block.take(pa.array(rows[pixels == place]))
                pieces.setdefault(self.tree.pixels[place], []).append(chosen)
        return {pixel: pa.concat_tables(tables) for pixel, tables in pieces.items()}

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


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two descriptions are the same, and so the files that they describe."""
    return path.samefile(other) or path.read_bytes() == other.read_bytes()

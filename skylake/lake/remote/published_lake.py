"""Read a lake that was published to an object store, in the same ways as a lake on disk, but without links.

A store has neither links nor an atomic rename. So `current` is a small object with the name of the snapshot in force,
and a snapshot is an object with the folders of its tables and catalogs::

    current                               _snapshots/000042.json
    _snapshots/000042.json                where each table and catalog is
    _versions/sources/000017/…            as on disk, a HATS catalog for anybody
    _versions/sources/000017/_objects.json   sizes and checksums of what is in it; written last
    catalogs/<name>/…  _ledger/  _cameras/  skylake.toml
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from skylake.durable import content_of
from skylake.errors import LakeError
from skylake.lake.commits.new_tables import empty_version
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.commits.table_version import Version, count_rows
from skylake.lake.layout import PARTS_FOLDER, Layout
from skylake.lake.published_layout import Publication, PublishedLayout, objects_in
from skylake.lake.storage.bundles import BUNDLES_FOLDER
from skylake.lake.storage.schema_versions import require_known_forms, user_schemas
from skylake.places import Reaching, read_together
from skylake.scratch import scratch_folder
from skylake.sky.hats import OBJECTS, Leaves, pixel_of
from skylake.sky.pixels import Pixel

_REMOVED = (
    "a later publish has removed it, or the store has lost objects: open the lake again, let `skylake publish --keep` "
    "keep more snapshots than are published while somebody reads, or publish the lake again"
)


class PublishedVersion(Version):
    """A version of a table in a store. Descriptions are fetched together when the first is wanted.

    Parameters
    ----------
    folder : Path
    n_recorded : int
        Rows of the table, as the publisher counted them. A store lists the objects of the moment: while a later
        publish removes the version, these are only some of the descriptions, and finally none.

    Raises
    ------
    LakeError
        From anything that reads descriptions, if some of them are missing.
    """

    def __init__(self, folder: Path, n_recorded: int) -> None:
        super().__init__(folder)
        self._n_recorded = n_recorded

    @cached_property
    def fresh(self) -> dict[str, Path]:
        """Descriptions of the parts that have files of their own, by name."""
        return self._described[PARTS_FOLDER]

    @cached_property
    def bundle_descriptions(self) -> dict[str, Path]:
        """Descriptions of the bundles, by name."""
        return self._described[BUNDLES_FOLDER]

    @cached_property
    def _described(self) -> dict[str, dict[str, Path]]:
        """All descriptions, by kind and name; they list all rows."""
        descriptions = {inner: self._fetched(inner) for inner in (PARTS_FOLDER, BUNDLES_FOLDER)}
        n_rows = count_rows(descriptions[PARTS_FOLDER].values(), descriptions[BUNDLES_FOLDER].values())
        if n_rows != self._n_recorded:
            raise LakeError(
                f"{self.folder}: descriptions of {n_rows} rows are there of {self._n_recorded} that were published; "
                f"{_REMOVED}"
            )
        return descriptions

    @cached_property
    def leaves(self) -> Leaves:
        """Files of each pixel of a HATS table, from the list of objects: one request, whatever the nights."""
        files_by_pixel: dict[Pixel, dict[Path, int | None]] = {}
        try:
            objects = content_of(self.folder / OBJECTS)
        except FileNotFoundError as error:
            raise LakeError(f"{self.folder / OBJECTS}: it no longer exists; {_REMOVED}") from error
        for path in sorted(objects_in(objects, self.folder / OBJECTS)):
            pixel = pixel_of(path)
            if pixel is not None and path.endswith(".parquet"):
                files_by_pixel.setdefault(pixel, {})[self.folder / path] = None
        return files_by_pixel

    @cached_property
    def _kept(self) -> Path:
        """Folder on this machine for descriptions; it goes with this object."""
        held = ExitStack()
        weakref.finalize(self, held.close)
        return held.enter_context(scratch_folder("published"))

    def _fetched(self, inner: str) -> dict[str, Path]:
        folder = self._kept / inner
        folder.mkdir(exist_ok=True)
        paths = {}
        for name, content in read_together(self.folder / inner, ".json").items():
            path = folder / name
            path.write_bytes(content)
            paths[path.stem] = path
        return paths


class PublishedSnapshot(Snapshot):
    """A snapshot of a published lake.

    Reading does not keep it: it stays for as long as the publisher keeps it.
    """

    def __init__(self, layout: Layout, number: int) -> None:
        assert isinstance(layout, PublishedLayout)
        self.layout = layout
        self.number = number
        self._versions: dict[str, Version] = {}
        self._whole: dict[tuple[str, ...], pa.Table] = {}
        with Reaching(layout.root):
            self.publication = layout.publication(number)
        self._of_users = user_schemas(
            {name: layout.root / folder for name, folder in self.publication.tables.items()}
        )
        known = {name: form for name, form in self.publication.schemas.items() if name not in self._of_users}
        require_known_forms(layout.root, known)

    def __reduce__(self) -> tuple[type[Snapshot], tuple[Layout, int]]:
        """Open the same snapshot in another process."""
        return (PublishedSnapshot, (self.layout, self.number))

    def folder(self, table: str) -> Path:
        """Return the place of a table: a HATS catalog or a folder of Parquet files, which never changes."""
        self.schema(table)
        place = self.publication.tables.get(table)
        # Snapshots published before skylake had this table have no rows of it.
        return empty_version(table) if place is None else self.layout.root / place

    def collection(self, table: str) -> Path | None:
        """Return the place of the collection of a table and its margin; None for one that has no margin."""
        place = self.publication.margins.get(table)
        return None if place is None else self.layout.root / place

    def version(self, table: str) -> Version:
        """Return the version of a table: its parts, bundles and files."""
        if table not in self._versions:
            folder, is_there = self.folder(table), table in self.publication.tables
            self._versions[table] = (
                PublishedVersion(folder, self.n_rows(table)) if is_there else Version(folder)
            )
        return self._versions[table]

    def require_there(self) -> None:
        """Require that the snapshot is still published.

        A publish removes the references to a snapshot before any of its files. So if this holds, all files that were
        listed before existed.

        Raises
        ------
        LakeError
            If it is no longer published.
        """
        assert isinstance(self.layout, PublishedLayout)
        text = self.layout.read(self.layout.publication_file(self.number))
        now = Publication.from_json(text, str(self.layout.root)).tables if text is not None else {}
        if not self.publication.tables.items() <= now.items():
            raise LakeError(f"{self.layout.root}: snapshot {self.number} no longer exists; {_REMOVED}")

    def cone(
        self,
        table: str,
        ra_deg: float,
        dec_deg: float,
        radius_deg: float,
        columns: Sequence[str] | None = None,
        filter: Any = None,
    ) -> pa.Table:
        """Return the rows of a HATS table within a cone, those of them for which a filter holds.

        The files come from the list of objects, so that one that is removed in the meantime is an error.
        """
        try:
            return super().cone(table, ra_deg, dec_deg, radius_deg, columns, filter)
        except LakeError:
            self.require_there()
            raise

    def n_rows(self, table: str) -> int:
        """Return the number of rows of a table, as the publisher counted them."""
        return self.publication.rows.get(table, 0)

    def catalogs(self) -> list[str]:
        """Return the names of the reference catalogs."""
        return sorted(self.publication.catalogs)

    def catalog(self, name: str) -> Path:
        """Return the place of a reference catalog."""
        return self.layout.root / self.publication.catalogs.get(name, f"catalogs/{name}")

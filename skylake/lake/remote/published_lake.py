"""Read a lake that was published to an object store: the same reading as of a lake on disk, without links.

A store knows neither links nor a rename that is atomic. So `current` is a small object with the name of the
snapshot in force, and a snapshot is an object that tells where its tables and catalogs are::

    current                               _snapshots/000042.json
    _snapshots/000042.json                where each table and catalog is
    _versions/sources/000017/…            as on disk, a HATS catalog for anybody
    _versions/sources/000017/_objects.json   sizes and checksums of what is in it; written last
    catalogs/<name>/…  _ledger/  _cameras/  skylake.toml
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from skylake.errors import LakeError
from skylake.lake.commits.new_tables import empty_version
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.commits.table_version import Version, count_rows
from skylake.lake.layout import PARTS_FOLDER, Layout
from skylake.lake.storage.bundles import BUNDLES_FOLDER
from skylake.lake.storage.schema_versions import require_known_forms, user_schemas
from skylake.places import Reaching, key, read_keys, read_together, store
from skylake.sky.hats import OBJECTS, Leaves, Objects, objects_of, pixel_of
from skylake.sky.pixels import Pixel

_FORMAT = 1
_REMOVED = (
    "a later publish has removed it, or the store has lost objects: open the lake again, let `skylake publish --keep` "
    "keep more snapshots than are published while somebody reads, or publish the lake again"
)


@dataclass(frozen=True, slots=True)
class Publication:
    """A published snapshot: the content of ``_snapshots/<number>.json``.

    Attributes
    ----------
    snapshot : int
        Number of the snapshot in the lake that it was published from.
    time_utc : str
        When it was committed there; tells lakes apart.
    tables : dict
        Folder of the version of each table, relative to the root.
    rows : dict
        Rows of each table.
    schemas : dict
        Version and checksum of the schema of each table, if they are known.
    catalogs : dict
        Folder of each reference catalog, relative to the root.
    software_version : str
    format : int
        Of this description.
    """

    snapshot: int
    time_utc: str
    tables: dict[str, str]
    rows: dict[str, int]
    schemas: dict[str, tuple[int, str] | None]
    catalogs: dict[str, str] = field(default_factory=dict)
    software_version: str = ""
    format: int = _FORMAT

    @property
    def folders(self) -> dict[str, str]:
        """Folders that the snapshot needs, by table or ``catalogs/<name>``."""
        return self.tables | {f"catalogs/{name}": folder for name, folder in self.catalogs.items()}

    def to_json(self) -> str:
        """Return the description."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Publication:
        """Return the publication that a description describes.

        Raises
        ------
        LakeError
            If it is damaged, or was written by a version of skylake that knows more.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if values["format"] > _FORMAT:
                raise LakeError(f"{where}: it was published by a newer skylake; update this one")
            schemas = {table: form and (form[0], form[1]) for table, form in values.pop("schemas").items()}
            return cls(schemas=schemas, **values)
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(f"{where}: the snapshot is damaged ({error}); publish the lake again") from error


class PublishedLayout(Layout):
    """The objects below the root of a published lake."""

    @property
    def has_settings(self) -> bool:
        """Whether there is a lake."""
        return self.read(self.settings_file) is not None

    def publication_file(self, number: int) -> Path:
        """Object that tells where the tables of a snapshot are."""
        return self.snapshots / f"{number:06d}.json"

    def read(self, where: Path) -> bytes | None:
        """Return an object as it is now; None if it is not there."""
        fs, name = store(where), key(where)
        # fsspec remembers what it has listed, and would take what was published since for missing.
        fs.invalidate_cache(name)
        try:
            content: bytes = fs.cat_file(name)
        except FileNotFoundError:
            return None
        return content

    def current_number(self) -> int | None:
        """Return the number of the snapshot in force; None where nothing was published yet."""
        text = self.read(self.current)
        if text is None:
            return None
        try:
            return int(Path(text.decode()).stem)
        except ValueError as error:
            raise LakeError(
                f"{self.current}: the object is damaged ({error}); publish the lake again"
            ) from error

    def publication(self, number: int) -> Publication:
        """Return where the tables of a snapshot are.

        Raises
        ------
        LakeError
            If there is none of that number, or it is damaged.
        """
        where = self.publication_file(number)
        text = self.read(where)
        if text is None:
            raise LakeError(f"{self.root}: there is no published snapshot {number}")
        return Publication.from_json(text, str(where))

    def published(self) -> set[int]:
        """Return the numbers of all published snapshots, as of now."""
        return self._numbers(self.snapshots)

    def recorded(self) -> set[int]:
        """Return the numbers of all records of the ledger, as of now."""
        return self._numbers(self.ledger)

    def _numbers(self, folder: Path) -> set[int]:
        fs = store(self.root)
        fs.invalidate_cache()
        try:
            names = fs.ls(key(folder), detail=False)
        except FileNotFoundError:
            return set()
        stems = (Path(name).stem for name in names if name.endswith(".json"))
        return {int(stem) for stem in stems if stem.isdigit()}

    def records(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Return records of the ledger by their numbers; they are fetched at the same time."""
        found = read_keys(store(self.root), (key(self.record(number)) for number in numbers))
        return {int(Path(name).stem): text for name, text in found.items()}


class PublishedVersion(Version):
    """A version of a table in a store. Descriptions are fetched together when the first is wanted.

    Parameters
    ----------
    folder : Path
    n_told : int
        Rows of the table, as the publisher counted them. A store lists what is there at the moment: while a later
        publish removes the version that is some of the descriptions, and then none.

    Raises
    ------
    LakeError
        By whatever reads descriptions, if not all of them are there.
    """

    def __init__(self, folder: Path, n_told: int) -> None:
        super().__init__(folder)
        self._n_told = n_told

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
        """All descriptions, by kind and name; they tell of all rows."""
        found = {inner: self._fetched(inner) for inner in (PARTS_FOLDER, BUNDLES_FOLDER)}
        n_rows = count_rows(found[PARTS_FOLDER].values(), found[BUNDLES_FOLDER].values())
        if n_rows != self._n_told:
            raise LakeError(
                f"{self.folder}: descriptions of {n_rows} rows are there of {self._n_told} that were published; "
                f"{_REMOVED}"
            )
        return found

    @cached_property
    def leaves(self) -> Leaves:
        """Files of each pixel of a HATS table, from the list of objects: one request, whatever the nights."""
        found: dict[Pixel, dict[Path, int | None]] = {}
        try:
            objects = (self.folder / OBJECTS).read_bytes()
        except FileNotFoundError as error:
            raise LakeError(f"{self.folder / OBJECTS}: it is there no more; {_REMOVED}") from error
        for path in sorted(objects_of(objects)):
            pixel = pixel_of(path)
            if pixel is not None and path.endswith(".parquet"):
                found.setdefault(pixel, {})[self.folder / path] = None
        return found

    @cached_property
    def _kept(self) -> Path:
        """Folder on this machine for descriptions; it goes with this object."""
        folder = Path(tempfile.mkdtemp(prefix="skylake-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

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

    Nobody is told that it is read: it stays for as long as the publisher keeps it.
    """

    def __init__(self, layout: Layout, number: int) -> None:
        assert isinstance(layout, PublishedLayout)
        self.layout = layout
        self.number = number
        self._versions: dict[str, Version] = {}
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
        # What was published before skylake had the table has no rows of it.
        return empty_version(table) if place is None else self.layout.root / place

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

        A publish that removes it removes what tells of it before any of its files: what was listed before this holds
        was all there.

        Raises
        ------
        LakeError
            If it is published no more.
        """
        assert isinstance(self.layout, PublishedLayout)
        text = self.layout.read(self.layout.publication_file(self.number))
        now = Publication.from_json(text, str(self.layout.root)).tables if text is not None else {}
        if not self.publication.tables.items() <= now.items():
            raise LakeError(f"{self.layout.root}: snapshot {self.number} is there no more; {_REMOVED}")

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

        Which files there are tells the list of objects, so that one that is removed meanwhile is missed.
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


def read_objects(layout: PublishedLayout, folder: str) -> Objects | None:
    """Return size and SHA-256 of what is below a published folder; None if it is not whole."""
    text = layout.read(layout.root / folder / OBJECTS)
    return None if text is None else objects_of(text)


def read_publications(layout: PublishedLayout, numbers: Iterable[int]) -> dict[int, Publication]:
    """Return several published snapshots."""
    names = [key(layout.publication_file(number)) for number in numbers]
    found = read_keys(store(layout.root), names)
    return {int(name[:-5]): Publication.from_json(text, name) for name, text in found.items()}

"""The paths of objects in a published lake, and the descriptions of its snapshots."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skylake.errors import LakeError
from skylake.inside import relative_name
from skylake.lake.layout import Layout
from skylake.places import key, read_keys, store
from skylake.sky.hats import OBJECTS, Objects, objects_of

#: 2 is the first with margins.
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Publication:
    """A published snapshot: the content of ``_snapshots/<number>.json``.

    Attributes
    ----------
    snapshot : int
        Number of the snapshot in the lake that it was published from.
    time_utc : str
        When it was committed there, which distinguishes lakes.
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
    margins : dict
        Folder of the collection that binds a table and its margin, of each table that has one, relative to the root.
    """

    snapshot: int
    time_utc: str
    tables: dict[str, str]
    rows: dict[str, int]
    schemas: dict[str, tuple[int, str] | None]
    catalogs: dict[str, str] = field(default_factory=dict)
    software_version: str = ""
    format: int = _FORMAT
    margins: dict[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> dict[str, str]:
        """Folders that the snapshot needs, by table, ``catalogs/<name>`` or ``margins/<table>``."""
        catalogs = {f"catalogs/{name}": folder for name, folder in self.catalogs.items()}
        return self.tables | catalogs | {f"margins/{name}": folder for name, folder in self.margins.items()}

    def to_json(self) -> str:
        """Return the description."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Publication:
        """Return the publication that a description describes.

        Raises
        ------
        LakeError
            If it is damaged, or was written by a newer skylake.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if values["format"] > _FORMAT:
                raise LakeError(f"{where}: it was published by a newer skylake; update this one")
            schemas = {table: form and (form[0], form[1]) for table, form in values.pop("schemas").items()}
            made = cls(schemas=schemas, **values)
            for name in (*made.folders, *made.folders.values()):
                relative_name(name)
            return made
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(f"{where}: the snapshot is damaged ({error}); publish the lake again") from error


class PublishedLayout(Layout):
    """The objects below the root of a published lake."""

    @property
    def has_settings(self) -> bool:
        """Whether there is a lake."""
        return self.read(self.settings_file) is not None

    def publication_file(self, number: int) -> Path:
        """Object that says where the tables of a snapshot are."""
        return self.snapshots / f"{number:06d}.json"

    def read(self, where: Path) -> bytes | None:
        """Return an object as it is now; None if it does not exist."""
        fs, name = store(where), key(where)
        # fsspec caches its listings, in which newly published objects would be missing.
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
            If no snapshot has that number, or its description is damaged.
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
        records = read_keys(store(self.root), (key(self.record(number)) for number in numbers))
        return {int(Path(name).stem): text for name, text in records.items()}


def read_objects(layout: PublishedLayout, folder: str) -> Objects | None:
    """Return size and SHA-256 of the objects below a published folder; None if it is not whole."""
    where = layout.root / folder / OBJECTS
    text = layout.read(where)
    return None if text is None else objects_in(text, where)


def objects_in(text: bytes, where: Path) -> Objects:
    """Return size and SHA-256 of objects from the list of a published folder.

    Raises
    ------
    LakeError
        If it is damaged, or names an object outside.
    """
    try:
        return objects_of(text)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise LakeError(
            f"{where}: the list of objects is damaged ({error}); publish the lake again"
        ) from error


def read_publications(layout: PublishedLayout, numbers: Iterable[int]) -> dict[int, Publication]:
    """Return several published snapshots."""
    names = [key(layout.publication_file(number)) for number in numbers]
    texts = read_keys(store(layout.root), names)
    return {int(name[:-5]): Publication.from_json(text, name) for name, text in texts.items()}

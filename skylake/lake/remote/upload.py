"""Plan and fill a folder of an object store: send files, or copy objects within the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skylake.durable import replacing
from skylake.errors import LakeError
from skylake.inside import named
from skylake.lake.published_layout import Publication, PublishedLayout, objects_in, read_objects
from skylake.lake.remote.snapshot_files import FolderContents
from skylake.lake.storage.parts import file_sha256
from skylake.places import key, read_together, store
from skylake.sky.hats import OBJECTS, Objects, objects_text

#: Folder of the store with notes of what an active publish is sending where.
UNFINISHED = "_unfinished"
#: Transfers at a time: a store answers many as fast as one.
_TRANSFERS = 10


@dataclass(frozen=True, slots=True)
class Transfer:
    """One object to make: sent from a file, or copied from another object.

    A file must have the size and SHA-256 that are given.
    """

    target: str
    n_bytes: int
    sha256: str
    file: Path | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """The objects that a folder of the store still lacks.

    Attributes
    ----------
    contents : FolderContents
    folder : str
        Relative to the root of the published lake.
    transfers : tuple of Transfer
    n_there : int
        Objects that an earlier publish has made.
    stale : tuple of str
        Objects in the folder that do not belong there.
    """

    contents: FolderContents
    folder: str
    transfers: tuple[Transfer, ...]
    n_there: int
    stale: tuple[str, ...]


class Uploader:
    """Plans and makes the folders of a published lake."""

    def __init__(self, target: PublishedLayout) -> None:
        self.target = target
        self.fs: Any = store(target.root)

    def plan(self, contents: FolderContents, last: Publication | None) -> UploadPlan | str:
        """Return the plan for a folder of a lake, or its place in the store if nothing is to be done.

        Numbers of versions are used again after a rollback and a vacuum, and a catalog may be imported again: if other
        content is in the usual place, there is a second one.
        """
        folder = contents.folder
        held = read_objects(self.target, folder)
        if held is not None and held != contents.objects:
            folder = contents.other_folder
            held = read_objects(self.target, folder)
        return folder if held is not None else self._plan(contents, folder, last)

    def _plan(self, contents: FolderContents, folder: str, last: Publication | None) -> UploadPlan:
        base = None if last is None else last.folders.get(contents.name)
        sources = self._sources(base, read_objects(self.target, base) or {}) if base else {}
        there: set[str] = set()
        for begun, objects in self._begun(contents.name):
            sizes = self.sizes(begun)
            whole = {path: known for path, known in objects.items() if sizes.get(path) == known[0]}
            if begun == folder:
                there = {path for path, known in whole.items() if known == contents.objects.get(path)}
            else:
                sources |= self._sources(begun, whole)
        transfers = (
            self._transfer(contents, folder, path, sources) for path in contents.objects if path not in there
        )
        stale = (self.key(f"{folder}/{path}") for path in self.sizes(folder) if path not in there)
        return UploadPlan(contents, folder, tuple(transfers), len(there), tuple(stale))

    def _transfer(
        self, contents: FolderContents, folder: str, path: str, sources: dict[tuple[int, str], str]
    ) -> Transfer:
        known = contents.objects[path]
        source = sources.get(known)
        file = contents.root / path if source is None else None
        return Transfer(self.key(f"{folder}/{path}"), *known, file, source)

    def _sources(self, folder: str, objects: Objects) -> dict[tuple[int, str], str]:
        """Return where content is in the store."""
        return {known: self.key(f"{folder}/{path}") for path, known in objects.items()}

    def _begun(self, name: str) -> Iterator[tuple[str, Objects]]:
        """Yield the folders, and their planned content, of publishes that did not end."""
        notes = self.target.root / UNFINISHED / name
        for file, text in read_together(notes, ".json").items():
            objects = objects_in(text, notes / file)
            folder = json.loads(text).get("folder")
            named(self.target.root, folder, str(notes / file))
            yield folder, objects

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every object below a folder."""
        root = self.key(folder)
        objects = self.fs.find(root, detail=True)
        return {name[len(root) + 1 :]: info["size"] for name, info in objects.items()}

    def fill(self, plan: UploadPlan, step: Callable[[], None]) -> None:
        """Make the objects of a folder, and then the list of them, which marks it as whole."""
        begun = self.target.root / UNFINISHED / plan.contents.name / f"{plan.folder.replace('/', '-')}.json"
        objects = objects_text(plan.contents.objects)
        # Leftovers of other content are removed before the note of the new content is written.
        for stale in plan.stale:
            self.fs.rm(stale)
        self.write(begun, json.dumps({"folder": plan.folder} | json.loads(objects)))
        self.transfer(plan.transfers, step)
        self.write(self.target.root / plan.folder / OBJECTS, objects)
        self.fs.rm(key(begun))

    def transfer(self, transfers: Iterable[Transfer], step: Callable[[], None]) -> None:
        """Make objects, several at a time."""
        pool = ThreadPoolExecutor(_TRANSFERS)
        try:
            for _ in pool.map(self._make, transfers):
                step()
        finally:
            # After an error or an interruption no further transfer begins.
            pool.shutdown(cancel_futures=True)

    def _make(self, transfer: Transfer) -> None:
        if transfer.source is not None:
            self.fs.cp_file(transfer.source, transfer.target)
            return
        assert transfer.file is not None
        if transfer.file.stat().st_size != transfer.n_bytes:
            raise LakeError(
                f"{transfer.file}: the file has not the size that it was written with; restore it from a copy"
            )
        # Readers trust the list of objects.
        if file_sha256(transfer.file) != transfer.sha256:
            raise LakeError(
                f"{transfer.file}: the file has not the bytes that it was written with; `skylake verify --deep` "
                "shows the command that repairs it"
            )
        self.fs.put_file(str(transfer.file), transfer.target)

    def names(self, folder: str) -> list[str]:
        """Return the names below a folder of the store."""
        self.fs.invalidate_cache()
        try:
            keys = self.fs.ls(self.key(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in keys)

    def remove(self, folder: str) -> None:
        """Remove a folder, beginning with its list of objects, so that the rest is not taken for whole."""
        for name in (f"{folder}/{OBJECTS}", folder):
            self.fs.invalidate_cache()
            if self.fs.exists(self.key(name)):
                self.fs.rm(self.key(name), recursive=True)

    def key(self, path: str) -> str:
        """Return the name of a path below the root within the store."""
        return key(self.target.root / path) if path else key(self.target.root)

    def write(self, where: Path, content: str | bytes) -> None:
        """Write an object whole. A folder on disk needs a temporary name for that; stores do it themselves."""
        whole = content.encode() if isinstance(content, str) else content
        if "file" not in self.fs.protocol:
            self.fs.pipe_file(key(where), whole)
            return
        path = Path(key(where))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as stream:
            stream.write(whole)

"""One version of a table: its parts, bundles and files, from the descriptions beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import pyarrow as pa

from skylake.durable import text_of
from skylake.errors import LakeError
from skylake.lake.layout import PARTS_FOLDER
from skylake.lake.storage.bundles import BUNDLES_FOLDER, Bundle, read_members
from skylake.lake.storage.damaged_files import damaged, require_files
from skylake.lake.storage.parts import Part, PartFile, is_as_written
from skylake.lake.storage.slices import Slice, read_verified
from skylake.places import is_url
from skylake.sky.hats import EMPTY_FILE, Leaves, read_pixels, read_properties
from skylake.sky.pixels import Pixel

#: Descriptions of bundles that are kept in memory: those of twenty tables with as many bundles as compaction leaves.
_BUNDLES = 1024


class Version:
    """An immutable version of a table.

    Parameters
    ----------
    folder : Path
        Free of links.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._has_files = is_url(str(folder))
        self._paths: dict[str, Path] = {}

    @cached_property
    def fresh(self) -> dict[str, Path]:
        """Descriptions of the parts that have files of their own, by name."""
        return _descriptions(self.folder / PARTS_FOLDER)

    @cached_property
    def bundle_descriptions(self) -> dict[str, Path]:
        """Descriptions of the bundles, by name."""
        return _descriptions(self.folder / BUNDLES_FOLDER)

    @cached_property
    def bundles(self) -> dict[str, Bundle]:
        """Bundles by name."""
        return {name: _read_bundle(path) for name, path in self.bundle_descriptions.items()}

    @cached_property
    def bundle_of(self) -> dict[str, str]:
        """Name of the bundle of each part that is in one."""
        return {name: bundle.name for bundle in self.bundles.values() for name in bundle.names}

    @cached_property
    def parts(self) -> dict[str, Part]:
        """All parts by name, in the order of names."""
        parts = [_read_part(path) for path in self.fresh.values()]
        for path in self.bundle_descriptions.values():
            parts += _all_members(path)
        return {part.name: part for part in sorted(parts, key=lambda part: part.name)}

    def lost(self) -> set[str]:
        """Return the parts with files of their own that lack a file, or have one of a wrong size.

        Files of a published lake are not checked, since a query to the store for each would take too long.
        """
        if is_url(str(self.folder)):
            return set()
        return {name for name, path in self.fresh.items() if not self._is_there(_read_part(path))}

    def _is_there(self, part: Part) -> bool:
        try:
            return all(
                (self.folder / file.path).stat().st_size == file.n_bytes or not file.sha256
                for file in part.files
            )
        except OSError:
            return False

    def part(self, name: str) -> Part | None:
        """Return one part without reading the descriptions of others; None if it does not exist."""
        return next(self.parts_named([name]), None)

    def parts_named(self, names: Iterable[str]) -> Iterator[Part]:
        """Yield the parts of some names, as far as they exist."""
        wanted = frozenset(names)
        for name in sorted(wanted & self.fresh.keys()):
            yield _read_part(self.fresh[name])
        for bundle in self.bundles.values():
            if members := wanted & frozenset(bundle.names):
                with _described(self.bundle_descriptions[bundle.name]):
                    described = list(read_members(self.bundle_descriptions[bundle.name], members))
                yield from described

    @cached_property
    def n_rows(self) -> int:
        """Rows of the table."""
        return count_rows(self.fresh.values(), self.bundle_descriptions.values())

    @property
    def pixels(self) -> list[Pixel]:
        """Pixels that have rows, of a HATS table."""
        return read_pixels(self.folder)

    def slices(self, parts: Iterable[Part]) -> list[Slice]:
        """Return where the rows of some parts are."""
        return [piece for part in parts for piece in self.slices_of(part)]

    def slices_of(self, part: Part) -> list[Slice]:
        """Return where the rows of a part are, in the order of its files."""
        keys = (part.key,) if part.name in self.bundle_of else None
        return [Slice(self._path(file.path), keys, file) for file in part.files]

    def _path(self, path: str) -> Path:
        """Return where a file is; one that a thousand parts share is asked for as often."""
        if path not in self._paths:
            self._paths[path] = self.folder / path
        return self._paths[path]

    def has_whole(self, part: Part) -> bool:
        """Return whether the rows of a part are those that were written.

        The bytes of its files decide. In a bundle with changed bytes the rows of the part may still be whole.
        """
        own = {file.path: file for file in part.files}
        if part.name in self.bundle_of:
            files = self.bundles[self.bundle_of[part.name]].files
            own = {file.path: file for file in files if file.path in own}
        wrong = {path for path, file in own.items() if not _is_whole(self.folder, file)}
        if not wrong or part.name not in self.bundle_of:
            return not wrong
        try:
            for file, where in zip(part.files, self.slices_of(part), strict=True):
                if file.path in wrong:
                    read_verified(part.table, where)
        except (LakeError, OSError, pa.ArrowException):
            return False
        return True

    def rest(self, names: Collection[str]) -> tuple[list[Path], list[Slice]]:
        """Return slices with all rows except those of some parts: whole files, and files shared with these parts.

        A file is named after its part or bundle, so only descriptions of bundles with one of the parts are read.
        """
        gone = frozenset(names)
        mixed = [bundle for bundle in self.bundles.values() if not gone.isdisjoint(bundle.names)]
        passed = gone.union(bundle.name for bundle in mixed)
        whole = sorted(
            path
            for path in (self.folder / "dataset").rglob("*.parquet")
            if path.stem not in passed and path.name != EMPTY_FILE
        )
        stay = [(bundle.name, frozenset(bundle.names) - gone) for bundle in mixed]
        members = [part for name, some in stay for part in read_members(self.bundle_descriptions[name], some)]
        return whole, self.slices(members)

    @cached_property
    def described_files(self) -> dict[str, PartFile]:
        """Description of each file of the table, by its path below the folder, sorted.

        Raises
        ------
        LakeError
            If a description is damaged, or one of a HATS table is missing.
        """
        own = [file for path in self.fresh.values() for file in _read_part(path).files]
        merged = [file for bundle in self.bundles.values() for file in bundle.files]
        self._require_rows(sum(file.n_rows for file in (*own, *merged)))
        return {file.path: file for file in sorted([*own, *merged], key=lambda file: file.path)}

    def _require_rows(self, n_rows: int) -> None:
        """Refuse descriptions that do not list all rows of a HATS catalog, as a lost one would hide its files."""
        properties = self.folder / "hats.properties"
        if properties.is_file():
            with _described(properties):
                recorded = int(read_properties(self.folder)["hats_nrows"])
            if recorded != n_rows:
                raise damaged(properties, f"it lists {recorded} rows, and the descriptions of {n_rows}")

    def whole_files(self) -> list[Path]:
        """Return all files of the table."""
        return [self.folder / path for path in self.described_files]

    @cached_property
    def leaves(self) -> Leaves:
        """Files of each pixel of a HATS table, and the rows that they have."""
        files_by_pixel: dict[Pixel, dict[Path, int | None]] = {}
        for path, file in self.described_files.items():
            if file.pixel is not None:
                files_by_pixel.setdefault(file.pixel, {})[self.folder / path] = file.n_rows
        return files_by_pixel

    def require_files(self) -> None:
        """Refuse a version that lacks a file or has one too many, for readers that list its folders themselves.

        Files of a published lake are not checked, since a query to the store for each would take too long.

        Raises
        ------
        LakeError
            If there is one; it is named.
        """
        if not self._has_files:
            require_files(self.folder, {path: file.n_bytes for path, file in self.described_files.items()})
            self._has_files = True


def count_rows(parts: Iterable[Path], bundles: Iterable[Path]) -> int:
    """Return the rows that descriptions of parts and bundles list."""
    return sum(_read_part(path).n_rows for path in parts) + sum(_read_bundle(path).n_rows for path in bundles)


def _descriptions(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


@dataclass(frozen=True, slots=True)
class _Description:
    """A file that does not change, identified by what all of its hard links share."""

    identity: tuple[int, ...]
    path: Path = field(compare=False)


def _is_whole(folder: Path, file: PartFile) -> bool:
    """Return whether a file is as it was written; one that many parts share is read once."""
    try:
        status = (folder / file.path).stat()
    except OSError:
        return False
    return _known_whole((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns), folder, file)


@lru_cache(maxsize=4096)
def _known_whole(identity: tuple[int, ...], folder: Path, file: PartFile) -> bool:
    return is_as_written(folder, file)


def _read_bundle(path: Path) -> Bundle:
    with _described(path):
        description = _description(path)
        return Bundle.read(path) if description is None else _read_known(description)


def _all_members(path: Path) -> tuple[Part, ...]:
    """Return the members of a bundle."""
    with _described(path):
        description = _description(path)
        return tuple(read_members(path)) if description is None else _known_members(description)


def _read_part(path: Path) -> Part:
    with _described(path):
        description = _description(path)
        return _part_in(path) if description is None else _known_part(description)


def _description(path: Path) -> _Description | None:
    """Return what identifies a description; None in a store, which has no links."""
    if is_url(str(path)):
        return None
    status = path.stat()
    return _Description((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns), path)


# Versions share most of their descriptions, and a run looks at each of many versions.


@lru_cache(maxsize=_BUNDLES)
def _read_known(description: _Description) -> Bundle:
    return Bundle.read(description.path)


@lru_cache(maxsize=_BUNDLES)
def _known_members(description: _Description) -> tuple[Part, ...]:
    return tuple(read_members(description.path))


@lru_cache(maxsize=4096)
def _known_part(description: _Description) -> Part:
    return _part_in(description.path)


def _part_in(path: Path) -> Part:
    return Part.from_json(text_of(path))


@contextmanager
def _described(path: Path) -> Iterator[None]:
    """Name the description that cannot be understood."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise LakeError(
            f"{path}: the description is damaged ({error}); `skylake verify` shows the command that repairs it"
        ) from error

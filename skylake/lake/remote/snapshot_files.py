"""List the files of published folders, with paths, sizes and checksums."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skylake.core.ids import config_sha256
from skylake.errors import LakeError
from skylake.inside import links_below, require_no_link
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.storage.fact_relations import UNREADABLE
from skylake.lake.storage.parts import file_sha256
from skylake.sky.hats import OBJECTS, Objects, files_below, read_objects


@dataclass(frozen=True, slots=True)
class FolderContents:
    """An immutable folder of a lake.

    Attributes
    ----------
    name : str
        Name of the table, ``catalogs/<name>`` or ``margins/<table>``.
    root : Path
        The folder.
    folder : str
        Its place in a published lake, relative to the root.
    objects : dict
        Size and SHA-256 by path relative to the folder.
    """

    name: str
    root: Path
    folder: str
    objects: Objects

    @property
    def other_folder(self) -> str:
        """Place for this content where the usual one is taken by other content."""
        digest = config_sha256({"objects": sorted(self.objects.items())})[:16]
        if self.name.startswith("catalogs/"):
            return f"catalogs/{digest}/{self.name.removeprefix('catalogs/')}"
        return f"{self.folder}-{digest}"


def table_contents(snapshot: Snapshot, table: str) -> FolderContents:
    """Return the files of the version of a table, with the checksums of the descriptions."""
    root, version = snapshot.folder(table), snapshot.version(table)
    files = _files(root)
    described = [file for part in version.parts_named(version.fresh) for file in part.files]
    described += [file for bundle in version.bundles.values() for file in bundle.files]
    known = {file.path: file for file in described if file.sha256}
    objects = {}
    for name, path in files.items():
        file = known.get(name)
        objects[name] = (file.n_bytes, file.sha256) if file else _object(path)
    return FolderContents(table, root, f"_versions/{table}/{root.name}", objects)


def margin_contents(
    snapshot: Snapshot, table: str, published: str = "", held: Objects | None = None
) -> FolderContents | None:
    """Return what is in the collection of a table and its margin, but for the table; None where it has no margin.

    Parameters
    ----------
    snapshot : Snapshot
    table : str
    published : str
        Folder of the margin that was published last; empty if none was.
    held : dict or None
        Its files. Those that the lake has linked from there are not read.
    """
    root = snapshot.collection(table)
    if root is None:
        return None
    before, objects = snapshot.layout.root / published, {}
    for name, path in _files(root).items():
        known = (held or {}).get(name)
        objects[name] = known if known and _is_link(path, before / name) else _object(path)
    return FolderContents(f"margins/{table}", root, f"_margins/{table}/{root.name}", objects)


def catalog_contents(snapshot: Snapshot, name: str, held: Objects) -> FolderContents:
    """Return the files of a reference catalog and its margin.

    Parameters
    ----------
    snapshot : Snapshot
    name : str
    held : dict
        Its published files. A catalog of an older skylake does not state the checksums of its files, but its
        properties have one of its content: if that is the same, files of the same size are not read.

    Raises
    ------
    LakeError
        If the list of the catalog's files is damaged.
    """
    root = snapshot.catalog(name)
    files = _files(root)
    try:
        recorded = read_objects(root)
    except UNREADABLE as error:
        raise LakeError(
            f"{root / OBJECTS}: the list of files cannot be read ({error}); import the catalog again with "
            "`skylake catalog import --replace`"
        ) from error
    if recorded is not None:
        # Files that differ from the list are not sent, but reported.
        objects = {path: recorded.get(path) or _object(file) for path, file in files.items()}
        return FolderContents(f"catalogs/{name}", root, f"catalogs/{name}", objects)
    properties = {path: _object(file) for path, file in files.items() if path.endswith(".properties")}
    if any(held.get(path) != known for path, known in properties.items()):
        held = {}
    objects = {
        path: held[path] if path in held and held[path][0] == file.stat().st_size else _object(file)
        for path, file in files.items()
    }
    return FolderContents(f"catalogs/{name}", root, f"catalogs/{name}", objects)


def _files(root: Path) -> dict[str, Path]:
    """Return the files of a folder by their path; what a link leads to is not the lake's, and not published."""
    for link in links_below(root):
        require_no_link(link, root)
    return {path.relative_to(root).as_posix(): path for path in files_below(root)}


def _is_link(path: Path, other: Path) -> bool:
    """Return whether two paths are one file."""
    try:
        return path.samefile(other)
    except FileNotFoundError:
        return False


def _object(file: Path) -> tuple[int, str]:
    return file.stat().st_size, file_sha256(file)

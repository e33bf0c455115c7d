"""Build the next version of a table: hard links to unchanged files, and new files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from skylake.core.ids import config_sha256
from skylake.durable import Linker, replace_text, text_of
from skylake.errors import LakeError, reason_of
from skylake.lake.commits.changes import Commit
from skylake.lake.commits.hats_files import write_table_metadata
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import PARTS_FOLDER, part_file
from skylake.lake.storage.bundles import BUNDLES_FOLDER, COMPACTED, Bundle, read_members
from skylake.lake.storage.merge_files import Merge, merge_files
from skylake.lake.storage.parts import Key, Part, PartFile, sort_rows, split, write_part_file
from skylake.lake.storage.slices import Slice, read_verified
from skylake.schema import arrow_schema, load
from skylake.sky.hats import EMPTY_FILE, find_pixels, write_row_group_metadata
from skylake.sky.hats_coverage import write_thumbnail
from skylake.sky.pixels import Pixel, PixelTree


def bundle_name(table: str, level: int, members: Iterable[Part]) -> str:
    """Return the name of a bundle: equal members make an equal name."""
    content = config_sha256({"table": table, "members": [(part.name, part.checksum) for part in members]})
    return f"{COMPACTED}{level}-{content[:16]}"


def build_version(folder: Path, table: str, base: Path, commit: Commit) -> Path:
    """Make a new version of a table in a new folder, from a base and the changes of a commit.

    Returns
    -------
    Path
        Folder of the version.
    """
    for name in ("dataset", PARTS_FOLDER, BUNDLES_FOLDER):
        (folder / name).mkdir(parents=True)
    builder = _Builder(Version(base), folder, table)
    staged = commit.staged.get(table, [])
    merged = commit.merged.get(table, [])
    gone = commit.removed.get(table, set()) | {part.name for part, _ in staged}
    builder.keep(gone | {name for bundle in merged for name in bundle.bundle.names})
    for bundle in merged:
        builder.add_bundle(bundle.bundle, bundle.members, bundle.staging)
    if merged:
        builder.repartition_retained()
    for part, staging in staged:
        builder.add(part, staging)
    builder.finish()
    if merged and builder.is_hats:
        write_row_group_metadata(folder)
        write_thumbnail(folder, arrow_schema(load(table)))
    return folder


class _Builder:
    """A version in the making."""

    def __init__(self, base: Version, folder: Path, table: str) -> None:
        self.base, self.folder, self.table = base, folder, table
        self.is_hats = load(table).layout.kind == "hats"
        # From the descriptions, as a count that was wrong once would stay wrong for ever.
        self.n_rows = base.n_rows if self.is_hats else 0
        self.link = Linker()
        self.added: list[str] = []
        self._tree: PixelTree | None = None

    def keep(self, gone: set[str]) -> None:
        """Link all that stays; bundles that lose some members are written without them."""
        replaced = set()
        for part in self.base.parts_named(gone):
            self.n_rows -= part.n_rows
        for name, path in self.base.fresh.items():
            if name in gone:
                replaced.add(name)
            else:
                self.link(path, self.folder / PARTS_FOLDER / path.name)
        thinned = []
        for name, bundle in self.base.bundles.items():
            if gone.isdisjoint(bundle.names):
                path = self.base.bundle_descriptions[name]
                self.link(path, self.folder / BUNDLES_FOLDER / path.name)
                continue
            replaced.add(name)
            if not gone.issuperset(bundle.names):
                thinned.append(bundle)
        known = self.base.fresh.keys() | self.base.bundle_descriptions.keys()
        _link_files(self.base.folder, self.folder, known, replaced, self.link)
        for bundle in thinned:
            self._thin(bundle, gone)

    def _thin(self, bundle: Bundle, gone: set[str]) -> None:
        """Write a bundle without some of its members; files in which they have no rows are linked."""
        members = list(read_members(self.base.bundle_descriptions[bundle.name]))
        stay = [part for part in members if part.name not in gone]
        touched = {file.path for part in members if part.name in gone for file in part.files}
        name = bundle_name(self.table, bundle.level, stay)
        files: list[PartFile] = []
        for file in bundle.files:
            path = part_file(self.table, name, file.pixel)
            if file.path not in touched:
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                self.link(self.base.folder / file.path, self.folder / path)
                files.append(replace(file, path=path))
                continue
            held = [(part.key, one) for part in stay for one in part.files if one.path == file.path]
            if held:
                files.append(self._thin_file(self.base.folder / file.path, path, held))
        moved = [_moved(part, self.table, name) for part in stay]
        thin = Bundle(self.table, name, bundle.level, tuple(files), tuple(part.name for part in stay))
        replace_text(self.folder / BUNDLES_FOLDER / f"{name}.json", thin.to_json(moved))

    def _thin_file(self, source: Path, path: str, held: Sequence[tuple[Key, PartFile]]) -> PartFile:
        """Write the rows that some members have in a file of a bundle to another.

        Raises
        ------
        LakeError
            If they are not those that were written: the new file would hide the damage.
        """
        keys = tuple(key for key, _ in held)
        try:
            merged = merge_files(Merge(self.table, path, (Slice(source, keys),), keys), self.folder)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the system, as where the disk is full: it is not the rows
            raise LakeError(
                f"{source}: the rows of other nights in this file cannot be read ({reason_of(error)}); "
                "`skylake verify` shows the command that repairs it"
            ) from error
        expected = {number: (file.n_rows, file.digest) for number, (_, file) in enumerate(held)}
        if merged is None or merged.shares != expected:
            raise LakeError(
                f"{source}: the rows of other nights in this file are not those that were written, so it cannot be "
                "written without one; `skylake verify --deep` shows the command that repairs it"
            )
        return merged.file

    def add_bundle(self, bundle: Bundle, members: Sequence[Part], staging: Path) -> None:
        """Publish a bundle."""
        for file in bundle.files:
            _move(staging / file.path, self.folder / file.path)
        replace_text(self.folder / BUNDLES_FOLDER / f"{bundle.name}.json", bundle.to_json(members))
        self.n_rows += bundle.n_rows

    def add(self, part: Part, staging: Path) -> None:
        """Publish a part, divided as the version is."""
        if self.is_hats and part.files:
            part = refit(part, staging, self.tree(part.files))
        for file in part.files:
            _move(staging / file.path, self.folder / file.path)
            self.added.append(file.path)
        replace_text(self.folder / PARTS_FOLDER / f"{part.name}.json", part.to_json())
        self.n_rows += part.n_rows

    def tree(self, files: Iterable[PartFile]) -> PixelTree:
        """Return the pixels of the version before new parts are added."""
        if self._tree is None:
            order = min(file.pixel[0] for file in files if file.pixel is not None)
            own = find_pixels(self.folder)
            # A pixel stays a pixel even if all of its rows are replaced.
            self._tree = PixelTree.completed([*own, *_disjoint(self.base.pixels, own)], order)
        return self._tree

    def repartition_retained(self) -> None:
        """Divide parts that were committed since a compaction began in the same way as it has divided the table."""
        bundles = Version(self.folder).bundles.values()
        leaves = {file.pixel for bundle in bundles for file in bundle.files if file.pixel is not None}
        if not leaves:
            return
        fresh = Version(self.folder).fresh.values()
        parts = [(path, Part.from_json(text_of(path))) for path in fresh]
        pixels = {file.pixel for _, part in parts for file in part.files if file.pixel is not None}
        if pixels <= leaves:
            return
        # One tree for all of them, or two might divide an empty region differently.
        tree = PixelTree.completed(leaves, min(order for order, _ in pixels))
        for path, part in parts:
            refitted = refit(part, self.folder, tree)
            if refitted is not part:
                replace_text(path, refitted.to_json())

    def finish(self) -> None:
        """Write the metadata of the version."""
        for folder in (PARTS_FOLDER, BUNDLES_FOLDER):
            (self.folder / folder).mkdir(exist_ok=True)
        # A compaction that leaves one bundle has read all rows: what is covered is found anew.
        base = self.base.folder if self.added or not self._is_one_bundle() else None
        added = [self.folder / path for path in self.added]
        write_table_metadata(self.folder, self.table, self.n_rows, base, added)

    def _is_one_bundle(self) -> bool:
        version = Version(self.folder)
        return len(version.bundle_descriptions) == 1 and not version.fresh


def _disjoint(pixels: Iterable[Pixel], others: Iterable[Pixel]) -> list[Pixel]:
    """Return the pixels that do not overlap with others."""
    leaves = set(others)
    above = {pixel for leaf in leaves for pixel in _up(leaf)}
    return [pixel for pixel in pixels if pixel not in above and leaves.isdisjoint(_up(pixel))]


def _up(pixel: Pixel) -> Iterator[Pixel]:
    """Yield a pixel and those that it lies in."""
    order, number = pixel
    return ((order - up, number >> (2 * up)) for up in range(order + 1))


def _moved(part: Part, table: str, stem: str) -> Part:
    """Return a member whose rows lie in the files of another bundle, in the same pixels."""
    files = tuple(replace(file, path=part_file(table, stem, file.pixel)) for file in part.files)
    return replace(part, files=files)


def refit(part: Part, folder: Path, tree: PixelTree) -> Part:
    """Divide the files of a part in a folder again if they do not lie in the pixels of a tree.

    Files that fit stay as they are.
    """
    known = set(tree.pixels)
    unfit = [file for file in part.files if file.pixel not in known]
    if not unfit:
        return part
    schema = load(part.table)
    fit: dict[Pixel | None, PartFile] = {file.pixel: file for file in part.files if file.pixel in known}
    rows = pa.concat_tables(
        [read_verified(part.table, Slice(folder / file.path, None, file)) for file in unfit]
    )
    for file in unfit:
        (folder / file.path).unlink()
        _remove_empty((folder / file.path).parent)
    for pixel, piece in split(sort_rows(rows, schema), schema, tree):
        path = part_file(part.table, part.name, pixel)
        held = fit.get(pixel)
        if held is not None:
            more = read_verified(part.table, Slice(folder / held.path, None, held))
            piece = sort_rows(pa.concat_tables([piece, more]), schema)
        fit[pixel] = write_part_file(piece, folder, path)
    return replace(part, files=tuple(sorted(fit.values(), key=lambda file: file.path)))


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a pixel that has no file left."""
    if not any(folder.iterdir()):
        folder.rmdir()


def _link_files(base: Path, version: Path, known: set[str], gone: set[str], link: Linker) -> None:
    """Link every data file that stays; a file is named after its part or bundle, which is one of the `known`.

    Raises
    ------
    LakeError
        If no description lists a file: some readers see its rows and others do not, and they would stay in addition
        to the rows of a night that is ingested again.
    """
    # Paths are plain strings here: there may be thousands, which take most of the time of a commit.
    start, made, folders = len(str(base)), {f"{version}/dataset"}, [f"{base}/dataset"]
    while folders:
        folder, stays = folders.pop(), []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.endswith(".parquet") and entry.name != EMPTY_FILE:
                    owner = entry.name.removesuffix(".parquet")
                    if owner not in known:
                        raise LakeError(
                            f"{entry.path}: no description lists this file, so nothing can be committed on top of it; "
                            "`skylake verify` shows the command that repairs it"
                        )
                    if owner not in gone:
                        stays.append(entry.name)
        if stays:
            target = f"{version}{folder[start:]}"
            _make_folder(target, made)
            for name in stays:
                link(f"{folder}/{name}", f"{target}/{name}")


def _make_folder(folder: str, made: set[str]) -> None:
    """Make a folder and its parents, except those that were made before."""
    if folder not in made:
        parent, _, _ = folder.rpartition("/")
        _make_folder(parent, made)
        Path(folder).mkdir()
        made.add(folder)


def _move(source: Path, target: Path) -> None:
    """Move a file into a folder, which is made if it is missing."""
    try:
        source.rename(target)
    except FileNotFoundError:
        if target.parent.is_dir():
            raise
        target.parent.mkdir(parents=True)
        _move(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(source, target)

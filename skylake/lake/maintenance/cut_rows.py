"""Cut the rows of some parts out of the files of bundles, in one pass over each file.

The rows of a block are written to disk part by part, and then every part is put together from its pieces of all
blocks. So memory is bounded by a block, and few files are open at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from skylake.errors import LakeError
from skylake.lake.commits.build_version import bundle_name
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import part_file
from skylake.lake.maintenance.compaction_plan import BundlePlan, MergeJob
from skylake.lake.storage.bundles import Bundle, read_members
from skylake.lake.storage.merge_files import Merge, MergedFile, blocks, member_of_rows
from skylake.lake.storage.parts import Key, Part, PartFile, write_part_file
from skylake.lake.storage.slices import Slice
from skylake.schema import load


@dataclass(frozen=True, slots=True)
class BundleCut:
    """A file of a bundle, and the parts whose rows are cut out of it.

    Attributes
    ----------
    table : str
    source : Path
    names : tuple of str
    keys : tuple of Key
        Of the parts.
    wanted : tuple of PartFile
        What each part has in the file.
    """

    table: str
    source: Path
    names: tuple[str, ...]
    keys: tuple[Key, ...]
    wanted: tuple[PartFile, ...]


def crowded(version: Version, names: Iterable[str]) -> set[str]:
    """Return the parts that share a bundle with another one of the given parts."""
    by_bundle: dict[str, set[str]] = {}
    for name in names:
        if name in version.bundle_of:
            by_bundle.setdefault(version.bundle_of[name], set()).add(name)
    return {name for some in by_bundle.values() if len(some) > 1 for name in some}


def plan_cuts(version: Version, table: str, parts: Iterable[Part]) -> list[BundleCut]:
    """Return the cuts that give parts, all members of bundles, files of their own."""
    members: dict[str, list[tuple[Part, PartFile]]] = {}
    for part in parts:
        for file in part.files:
            members.setdefault(file.path, []).append((part, file))
    return [
        BundleCut(
            table,
            version.folder / path,
            tuple(part.name for part, _ in some),
            tuple(part.key for part, _ in some),
            tuple(file for _, file in some),
        )
        for path, some in sorted(members.items())
    ]


def cut_file(cut: BundleCut, folder: Path) -> tuple[PartFile, ...]:
    """Write the rows of each part to a file of its own below a folder.

    Raises
    ------
    LakeError
        If the rows of a part are not what the bundle says.
    """
    schema = load(cut.table)
    merge = Merge(cut.table, "", (Slice(cut.source, cut.keys),), cut.keys)
    files = []
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cut.", dir=folder) as place:
        pieces = [
            _sorted_by_part(block, cut.keys, Path(place) / f"{number}.arrow")
            for number, block in enumerate(blocks(merge, schema))
        ]
        for number, (name, wanted) in enumerate(zip(cut.names, cut.wanted, strict=True)):
            rows = pa.concat_tables([_piece(path, number) for path in pieces])
            made = write_part_file(rows, folder, part_file(cut.table, name, wanted.pixel))
            if (made.n_rows, made.digest) != (wanted.n_rows, wanted.digest):
                raise LakeError(
                    f"{cut.source}: the rows of {name} are not those that were written; run `skylake verify --deep`"
                )
            files.append(made)
    return tuple(files)


def _sorted_by_part(block: pa.Table, keys: Sequence[Key], path: Path) -> Path:
    """Write a block with one batch of rows for each part."""
    member = member_of_rows(block, keys)
    rows = block.take(pa.array(np.argsort(member, kind="stable")))
    start = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        for count in np.bincount(member, minlength=len(keys)):
            piece = rows.slice(start, int(count)).combine_chunks().to_batches()
            writer.write_batch(piece[0] if piece else pa.RecordBatch.from_pylist([], rows.schema))
            start += int(count)
    return path


def _piece(path: Path, number: int) -> pa.Table:
    """Return the rows of one part in a block that was written."""
    with pa.memory_map(str(path)) as source:
        return pa.Table.from_batches([pa.ipc.open_file(source).get_batch(number)])


def cut_parts(
    parts: Iterable[Part], cuts: Iterable[BundleCut], results: Iterable[Sequence[PartFile]]
) -> dict[str, Part]:
    """Return the parts with the files that the cuts made, by name."""
    files: dict[str, list[PartFile]] = {}
    for cut, made in zip(cuts, results, strict=True):
        for name, file in zip(cut.names, made, strict=True):
            files.setdefault(name, []).append(file)
    return {
        part.name: replace(
            part,
            files=tuple(sorted(files.get(part.name, ()), key=lambda file: file.path)),
            schema_sha256=load(part.table).sha256,
        )
        for part in parts
    }


def plan_rest(version: Version, bundle: Bundle, gone: Collection[str]) -> BundlePlan:
    """Return the plan of a bundle without some of its members.

    Files in which these have no rows are reused.
    """
    members = list(read_members(version.bundle_descriptions[bundle.name]))
    stay = tuple(part for part in members if part.name not in gone)
    touched = {file.path for part in members if part.name in gone for file in part.files}
    name = bundle_name(bundle.table, bundle.level, stay)
    places: dict[str, list[int]] = {}
    for number, part in enumerate(stay):
        for file in part.files:
            places.setdefault(file.path, []).append(number)
    jobs = [
        _job(
            version, bundle.table, name, file, {number: stay[number] for number in places[file.path]}, touched
        )
        for file in bundle.files
        if file.path in places
    ]
    return BundlePlan(bundle.table, name, bundle.level, stay, tuple(jobs))


def _job(
    version: Version, table: str, name: str, file: PartFile, stay: Mapping[int, Part], touched: set[str]
) -> MergeJob:
    """Return the job that makes one file of the remaining bundle."""
    keys = tuple(part.key for part in stay.values())
    source = Slice(version.folder / file.path, keys if file.path in touched else None)
    merge = Merge(table, part_file(table, name, file.pixel), (source,), keys, file.pixel)
    if file.path in touched:
        return MergeJob(merge, tuple(stay))
    shares = {}
    for number, part in enumerate(stay.values()):
        own = next(one for one in part.files if one.path == file.path)
        shares[number] = (own.n_rows, own.digest)
    return MergeJob(merge, tuple(stay), MergedFile(replace(file, path=merge.path), shares))

"""Plan a compaction: which parts and bundles become one bundle, and which pixels are divided.

Merging follows a log-structured tree (O'Neil et al. 1996, doi:10.1007/s002360050048): bundles have levels by the
number of their parts, and some of one level become one of the next. Eight parts become a bundle, eight of these one of
64, and 16 of these one of 1,024. So a row is written twice more until there are 1,024 nights, and three times more
until there are 16,384. A pixel has at most 29 files with fewer than 1,024 nights, and at most 44 later.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from skylake.core.sphere import IntArray
from skylake.lake.commits.build_version import bundle_name
from skylake.lake.commits.changes import StagedBundle
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import part_file
from skylake.lake.storage.bundles import Bundle
from skylake.lake.storage.merge_files import INDEX, Merge, MergedFile
from skylake.lake.storage.parts import Part, PartFile
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema import arrow_schema, load
from skylake.schema.parquet import has_empty_columns
from skylake.sky.pixels import Pixel, pixel_range

#: Parts, or bundles of each level, that are merged into one bundle of the next; the last number holds for all further
#: levels. Small numbers give few files, which speeds up every commit and query, but rewrite rows more often, and the
#: more so the more nights there are.
FAN_IN = (8, 8, 16)
#: Values, rows times columns, above which files of a table without pixels are not merged, since they are sorted in
#: memory.
_FLAT_VALUES = 20_000_000
#: Finest pixels; one star with more rows than a pixel should have cannot be divided.
_FINEST_ORDER = 12


@dataclass(frozen=True, slots=True)
class MergeJob:
    """One file of a bundle that is planned.

    Attributes
    ----------
    merge : Merge
        Its rows, and where they are.
    members : tuple of int
        Number among the members of the bundle of each key of `merge`.
    carried : MergedFile or None
        Set if the file is reused unchanged because all of its rows lie in the one source.
    """

    merge: Merge
    members: tuple[int, ...]
    carried: MergedFile | None = None


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """A bundle to make.

    Attributes
    ----------
    table, name : str
    level : int
    parts : tuple of Part
        Members, as they are now.
    jobs : tuple of MergeJob
        Files of the bundle.
    """

    table: str
    name: str
    level: int
    parts: tuple[Part, ...]
    jobs: tuple[MergeJob, ...]

    def staged(self, results: Sequence[MergedFile | None], staging: Path) -> StagedBundle:
        """Return the bundle from the results of the jobs, in their order."""
        made = [(job, merged) for job, merged in zip(self.jobs, results, strict=True) if merged is not None]
        made.sort(key=lambda pair: pair[1].file.path)
        files: list[list[PartFile]] = [[] for _ in self.parts]
        for job, merged in made:
            for number, (n_rows, digest) in merged.shares.items():
                files[job.members[number]].append(PartFile(merged.file.path, n_rows, digest))
        # Reused files have the present schema, and merged files get it.
        form = load(self.table).sha256
        members = tuple(
            replace(part, files=tuple(own), schema_sha256=form)
            for part, own in zip(self.parts, files, strict=True)
        )
        names = tuple(part.name for part in members)
        whole = tuple(merged.file for _, merged in made)
        return StagedBundle(Bundle(self.table, self.name, self.level, whole, names), members, staging)


@dataclass(slots=True)
class _BundleGroup:
    """Parts that have their own files, and bundles, that become one bundle."""

    fresh: list[str] = field(default_factory=list)
    bundles: list[Bundle] = field(default_factory=list)

    @property
    def n_parts(self) -> int:
        return len(self.fresh) + sum(len(bundle.names) for bundle in self.bundles)

    @property
    def level(self) -> int:
        return max(1, level_of(self.n_parts))


def level_of(n_parts: int) -> int:
    """Return the level of a bundle by the number of its parts; parts with files of their own have level 0."""
    level, size = 0, FAN_IN[0]
    while n_parts >= size:
        level += 1
        size *= fan_in(level)
    return level


def fan_in(level: int) -> int:
    """Return how many bundles of a level become one of the next."""
    return FAN_IN[min(level, len(FAN_IN) - 1)]


def joining(n_fresh: int, sizes: Sequence[int]) -> list[int]:
    """Return which bundles are merged with parts that have files of their own.

    Parameters
    ----------
    n_fresh : int
        Number of these parts.
    sizes : sequence of int
        Number of parts of each bundle.

    Returns
    -------
    list of int
        Indices of `sizes`: all of lower levels than the new bundle, and those of its level if they are enough for one
        of the next.
    """
    levels, taken, n_parts = [level_of(size) for size in sizes], set[int](), n_fresh
    while True:
        level = level_of(n_parts)
        left = [index for index in range(len(sizes)) if index not in taken]
        more = [index for index in left if levels[index] < level]
        equal = [index for index in left if levels[index] == level]
        more += equal if len(equal) + 1 >= fan_in(level) else []
        if not more:
            return sorted(taken)
        taken.update(more)
        n_parts += sum(sizes[index] for index in more)


def dense_pixels(version: Version, most_rows: int, everything: bool = False) -> list[Pixel]:
    """Return the pixels of a HATS table that have more than so many rows and may be divided.

    A pixel whose rows lie all in one place was found to be indivisible when its largest file was made. It is
    checked again when it has twice as many rows, or with `everything`.
    """
    merged = [file for bundle in version.bundles.values() for file in bundle.files]
    fresh = [file for part in version.parts_named(version.fresh) for file in part.files]
    counts: Counter[Pixel] = Counter()
    for file in (*merged, *fresh):
        if file.pixel is not None:
            counts[file.pixel] += file.n_rows
    largest: dict[Pixel, int] = {}
    for file in merged:
        if file.pixel is not None:
            largest[file.pixel] = max(file.n_rows, largest.get(file.pixel, 0))
    return [
        pixel
        for pixel, rows in sorted(counts.items())
        if rows > most_rows
        and pixel[0] < _FINEST_ORDER
        and (everything or largest.get(pixel, 0) <= most_rows or rows > 2 * largest[pixel])
    ]


def divide(table: str, pixel: Pixel, files: Iterable[Path], most_rows: int) -> list[Pixel]:
    """Return the pixels into which a dense one is divided so that none has more than so many rows.

    Pixels without rows are left out.
    """
    index = np.sort(read_files(table, files, [INDEX])[INDEX].to_numpy())
    return _divide(index, pixel, most_rows)


def _divide(index: IntArray, pixel: Pixel, most_rows: int) -> list[Pixel]:
    order, number = pixel
    if len(index) <= most_rows or order >= _FINEST_ORDER:
        return [pixel] if len(index) else []
    pixels: list[Pixel] = []
    for child in range(4 * number, 4 * number + 4):
        low, high = np.searchsorted(index, pixel_range(order + 1, child))
        pixels += _divide(index[low:high], (order + 1, child), most_rows)
    # Rows that lie all in one place are not divided by finer pixels.
    return [pixel] if len(pixels) == 1 else pixels


def plan_compaction(
    version: Version,
    table: str,
    everything: bool = False,
    divided: Mapping[Pixel, Sequence[Pixel]] | None = None,
) -> list[BundlePlan]:
    """Return the bundles to make of a table; none if that would not help.

    Parameters
    ----------
    version : Version
    table : str
    everything : bool
        Merge all into one bundle, however few there are.
    divided : mapping or None
        Dense pixels and those into which they are divided.
    """
    divided = divided or {}
    groups = _groups(version, table, everything, bool(divided))
    groups += [
        _BundleGroup([], [bundle]) for bundle in _untouched(version, groups) if _lies_in(bundle, divided)
    ]
    return [_plan(version, table, group, divided) for group in groups]


def _groups(version: Version, table: str, everything: bool, take_fresh: bool) -> list[_BundleGroup]:
    """Return the groups of parts and bundles to merge."""
    mergeable = {part.name: part for part in version.parts_named(version.fresh) if part.key or not part.files}
    bundles = [bundle for bundle in version.bundles.values() if not _is_full(bundle.n_rows, table)]
    if everything:
        group = _BundleGroup(sorted(mergeable), bundles)
        gains = group.fresh or len(bundles) > 1 or _has_outdated(version, group) or _has_empty(version, group)
        return _bounded(version, table, group) if gains else []
    if len(mergeable) < FAN_IN[0] and not (take_fresh and mergeable):
        return []
    *whole, rest = slices_of_nights(list(mergeable.values()))
    groups = [_BundleGroup(names) for names in whole]
    if len(rest) >= FAN_IN[0] or take_fresh:
        joined = joining(len(rest), [len(bundle.names) for bundle in bundles])
        groups.append(_BundleGroup(rest, [bundles[index] for index in joined]))
    return [bounded for group in groups for bounded in _bounded(version, table, group)]


def slices_of_nights(parts: Sequence[Part]) -> list[list[str]]:
    """Return the names of parts that come together in the slices in which nightly compactions would have merged them.

    So replacing a night rewrites a slice, in whatever way the nights came.
    """
    names = [part.name for part in sorted(parts, key=lambda part: (part.night or 0, part.name))]
    sizes = [math.prod(FAN_IN), math.prod(FAN_IN[:2])]
    found = []
    for size in sizes:
        while len(names) > size:
            found.append(names[:size])
            names = names[size:]
    return [*found, names]


def _bounded(version: Version, table: str, group: _BundleGroup) -> list[_BundleGroup]:
    """Divide the groups of a table without pixels, whose rows are sorted in memory."""
    schema = load(table)
    if schema.layout.kind == "hats":
        return [group]
    groups, values = [_BundleGroup()], 0
    holders: list[tuple[int, str | Bundle]] = [(bundle.n_rows, bundle) for bundle in group.bundles]
    holders += [(part.n_rows, part.name) for part in version.parts_named(group.fresh)]
    for n_rows, holder in holders:
        values += n_rows * len(schema.names)
        if values > _FLAT_VALUES and groups[-1].n_parts:
            groups.append(_BundleGroup())
            values = n_rows * len(schema.names)
        if isinstance(holder, Bundle):
            groups[-1].bundles.append(holder)
        else:
            groups[-1].fresh.append(holder)
    # A single bundle need not be rewritten, except to bring it to the present schema.
    return [
        group for group in groups if group.fresh or len(group.bundles) > 1 or _has_outdated(version, group)
    ]


def _has_outdated(version: Version, group: _BundleGroup) -> bool:
    """Return whether bundles of a group have rows of an older schema."""
    return any(
        part.schema_sha256 != load(part.table).sha256
        for bundle in group.bundles
        for part in version.parts_named(bundle.names)
    )


def _has_empty(version: Version, group: _BundleGroup) -> bool:
    """Return whether bundles of a group have files with nested columns without a value."""
    paths = (version.folder / file.path for bundle in group.bundles for file in bundle.files)
    return any(has_empty_columns(path, arrow_schema(load(group.bundles[0].table))) for path in paths)


def _is_full(n_rows: int, table: str) -> bool:
    schema = load(table)
    return schema.layout.kind != "hats" and n_rows * len(schema.names) > _FLAT_VALUES


def _untouched(version: Version, groups: Iterable[_BundleGroup]) -> list[Bundle]:
    taken = {bundle.name for group in groups for bundle in group.bundles}
    return [bundle for bundle in version.bundles.values() if bundle.name not in taken]


def _lies_in(bundle: Bundle, pixels: Iterable[Pixel]) -> bool:
    return not {file.pixel for file in bundle.files}.isdisjoint(pixels)


def _plan(
    version: Version, table: str, group: _BundleGroup, divided: Mapping[Pixel, Sequence[Pixel]]
) -> BundlePlan:
    names = [*group.fresh, *(name for bundle in group.bundles for name in bundle.names)]
    parts = tuple(sorted(version.parts_named(names), key=lambda part: part.name))
    name = bundle_name(table, group.level, parts)
    jobs = [
        job
        for pixel, sources in sorted(_sources(version, parts).items(), key=lambda item: item[0] or (0, 0))
        for job in _jobs(version, table, name, pixel, sources, divided)
    ]
    return BundlePlan(table, name, group.level, parts, tuple(jobs))


_Sources = dict[str, list[tuple[int, Part, PartFile]]]
"""Files, and what parts of which number have in them."""


def _sources(version: Version, parts: Sequence[Part]) -> dict[Pixel | None, _Sources]:
    """Return the files in each pixel."""
    sources: dict[Pixel | None, _Sources] = {}
    for number, part in enumerate(parts):
        for file in part.files:
            sources.setdefault(file.pixel, {}).setdefault(file.path, []).append((number, part, file))
    return sources


def _jobs(
    version: Version,
    table: str,
    name: str,
    pixel: Pixel | None,
    sources: _Sources,
    divided: Mapping[Pixel, Sequence[Pixel]],
) -> list[MergeJob]:
    """Return the jobs of one pixel: one, or as many as it is divided into."""
    # In the order of members, whatever files they lie in: the notes of an interrupted compaction rely on it.
    members = sorted({(number, part.key) for held in sources.values() for number, part, _ in held})
    numbers, keys = tuple(number for number, _ in members), tuple(key for _, key in members)
    slices = tuple(Slice(version.folder / path) for path in sorted(sources))
    if pixel is not None and pixel in divided:
        merges = [
            Merge(table, part_file(table, name, child), slices, keys, child) for child in divided[pixel]
        ]
        return [MergeJob(merge, numbers) for merge in merges]
    merge = Merge(table, part_file(table, name, pixel), slices, keys, pixel)
    return [MergeJob(merge, numbers, _carried(version, merge, sources) if len(sources) == 1 else None)]


def _carried(version: Version, merge: Merge, sources: _Sources) -> MergedFile | None:
    """Return the file of the only source if it belongs to a bundle, and so is sorted already."""
    ((path, held),) = sources.items()
    if any(part.schema_sha256 != load(part.table).sha256 for _, part, _ in held):
        return None
    if has_empty_columns(version.folder / path, arrow_schema(load(merge.table))):
        return None
    bundle = version.bundles.get(version.bundle_of.get(held[0][1].name, ""))
    if bundle is None:
        own = held[0][2]
        return MergedFile(replace(own, path=merge.path), {0: (own.n_rows, own.digest)})
    whole = next(file for file in bundle.files if file.path == path)
    held = sorted(held, key=lambda one: one[0])
    shares = {number: (file.n_rows, file.digest) for number, (_, _, file) in enumerate(held)}
    return MergedFile(replace(whole, path=merge.path), shares)

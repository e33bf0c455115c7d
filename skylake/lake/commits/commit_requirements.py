"""The conditions under which a commit may become the next snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from skylake.core.batch import Batch
from skylake.errors import LakeError, Superseded, reason_of
from skylake.lake.commits.changes import Commit, StagedBundle
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.commits.table_version import Version
from skylake.lake.storage.frame_ids import FrameIds
from skylake.lake.storage.parts import Part, PartFile
from skylake.lake.storage.slices import read_files
from skylake.schema import arrow_schema, load
from skylake.schema.digest import add_digests
from skylake.schema.row_count import row_count

#: Tables that come from the frames themselves; all others are made from these.
_OBSERVED = ("frames", "sources")
#: Frame identifiers of the lake that this process has committed to last.
_FRAME_IDS = FrameIds()


def require(base: Snapshot, commit: Commit) -> None:
    """Refuse a commit that does not fit the lake.

    Parameters
    ----------
    base : Snapshot
        The current snapshot, which the commit is based on.
    commit : Commit

    Raises
    ------
    LakeError
        If a staged file does not match its part, a table has another schema, another process has changed a part
        since it was read, or a frame would be in the lake twice.
    """
    for parts in commit.staged.values():
        for part, staging in parts:
            _require_schema(part)
            _require_files(part.table, part.files, staging)
    for table, names in commit.unbundled.items():
        _require_unchanged(
            [part for part, _ in commit.staged[table] if part.name in names], base.version(table)
        )
    for bundles in commit.merged.values():
        for bundle in bundles:
            _require_files(bundle.bundle.table, bundle.bundle.files, bundle.staging)
            _require_nothing_lost(bundle, base.version(bundle.bundle.table))
    if commit.base is not None and commit.base != base.number:
        then = Snapshot(base.layout, commit.base)
        for table in commit.tables:
            changed = changed_parts(then.version(table), base.version(table))
            for name in sorted(changed & commit.touched(table)):
                raise _changed(base, table, name)
        _require_nights_kept(then, base, commit)
    _require_frames_once(base, commit)


def _require_schema(part: Part) -> None:
    """Refuse a part whose table has another schema."""
    if part.schema_sha256 != load(part.table).sha256:
        raise LakeError(
            f"{part.name} of {part.table} was written under another version of the schema; "
            "use the same version of skylake everywhere and run again"
        )


def _require_files(table: str, files: Iterable[PartFile], staging: Path) -> None:
    """Refuse staged files that do not match their descriptions."""
    schema = arrow_schema(load(table))
    for file in files:
        path = staging / file.path
        try:
            size, rows = path.stat().st_size, row_count(path, schema)
        except (OSError, pa.ArrowInvalid) as error:
            raise LakeError(f"{path}: the staged file cannot be read ({error}); run again") from error
        if (size, rows) != (file.n_bytes, file.n_rows):
            raise LakeError(
                f"{path}: the staged file has {rows} rows in {size} bytes where {file.n_rows} in {file.n_bytes} "
                "were written; run again"
            )


def _require_nothing_lost(staged: StagedBundle, base: Version) -> None:
    """Refuse a bundle that does not hold exactly the rows of its members."""
    bundle = staged.bundle
    held = {part.name: (part.checksum, part.inputs) for part in base.parts_named(bundle.names)}
    expected = {part.name: (part.checksum, part.inputs) for part in staged.members}
    whole = add_digests(file.digest for file in bundle.files)
    if held != expected or whole != add_digests(checksum for checksum, _ in held.values()):
        raise Superseded(
            f"{bundle.name} of {bundle.table} does not hold the rows of its parts, of which another run may have "
            "changed one in the meantime; run again"
        )


def _require_unchanged(parts: Iterable[Part], base: Version) -> None:
    """Refuse parts taken out of a bundle if the lake now holds other parts of the same names."""
    parts = list(parts)
    held = {part.name: (part.checksum, part.inputs) for part in base.parts_named(part.name for part in parts)}
    for part in parts:
        if held.get(part.name) != (part.checksum, part.inputs):
            raise Superseded(
                f"another run has changed {part.name} of {part.table} in the meantime; run again"
            )


def _changed(base: Snapshot, table: str, name: str) -> Superseded:
    return Superseded(
        f"{base.layout.root}: another run has changed {name} of {table} in the meantime; run again"
    )


def _require_nights_kept(then: Snapshot, base: Snapshot, commit: Commit) -> None:
    """Refuse parts that were made from frames or detections that were since removed or changed.

    Rows that summarise a night may be out of date, as after any change of it; for them the night only has to exist.
    """
    nights = _nights_read(commit)
    for table in _OBSERVED:
        old, new = then.version(table), base.version(table)
        if old.folder == new.folder:
            continue
        names = nights.keys() - commit.touched(table)
        before, after = ({part.name: part.checksum for part in one.parts_named(names)} for one in (old, new))
        for name in sorted(names):
            is_gone = name in before and name not in after
            if is_gone or (nights[name] and before.get(name) != after.get(name)):
                raise _changed(base, table, name)


def _nights_read(commit: Commit) -> dict[str, bool]:
    """Return the nights that staged parts are made from, and whether any of their rows belong to single frames."""
    nights: dict[str, bool] = {}
    for table, staged in commit.staged.items():
        unbundled = commit.unbundled.get(table, ())
        for part, _ in staged if table not in _OBSERVED else ():
            if part.name not in unbundled and part.camera is not None and part.night is not None:
                name = str(Batch(part.camera, part.night))
                nights[name] = nights.get(name, False) or _names_frames(table)
    return nights


def _names_frames(table: str) -> bool:
    """Return whether rows of a table, or rows nested in them, belong to one frame each."""
    schema = load(table)
    nested = (inner.name for column in schema.columns for inner in column.columns)
    return "frame_id" in schema.primary_key or "frame_id" in nested


def changed_parts(old: Version, new: Version) -> set[str]:
    """Return the names of the parts that differ between two versions of a table, wherever their rows lie.

    An unchanged part is the same file under two names, which is found without reading it.
    """
    if old.folder == new.folder:
        return set()
    before, after = _descriptions(old), _descriptions(new)
    moved = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    contents = [
        {part.name: (part.checksum, part.inputs) for part in one.parts_named(moved)} for one in (old, new)
    ]
    differing = {name for name in moved if contents[0][name] != contents[1][name]}
    return differing | (before.keys() ^ after.keys())


def _descriptions(version: Version) -> dict[str, int]:
    """Return the inode of the description of each part; members of a bundle share one."""
    inodes = {name: path.stat().st_ino for name, path in version.fresh.items()}
    for bundle, path in version.bundle_descriptions.items():
        inodes |= dict.fromkeys(version.bundles[bundle].names, path.stat().st_ino)
    return inodes


def _require_frames_once(base: Snapshot, commit: Commit) -> None:
    """Refuse frames that would be in the lake twice: in the commit alone, or in it and in parts that stay."""
    import pyarrow.compute as pc

    unbundled = commit.unbundled.get("frames", set())
    staged = [
        (part, staging) for part, staging in commit.staged.get("frames", []) if part.name not in unbundled
    ]
    if not staged:
        return
    files = [staging / file.path for part, staging in staged for file in part.files]
    ids = read_files("frames", files, ["frame_id"])["frame_id"]
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    gone = {part.name for part, _ in staged} | commit.removed.get("frames", set())
    twice += _frames_present(base, ids.combine_chunks(), gone)
    if twice:
        raise Superseded(
            f"{base.layout.root}: frame {min(twice)} would be in the lake twice ({len(set(twice))} such frames): "
            "another run may have ingested it in the meantime; run again, and if that does not help, `skylake forget` "
            "the night that should not have it"
        )


def _frames_present(base: Snapshot, ids: pa.Array, gone: set[str]) -> list[int]:
    """Return which of some frames are in the lake, without some of its parts.

    This reads one column of the table, and nothing of files that the last commit has not changed.
    """
    import pyarrow.compute as pc

    try:
        files, slices = base.version("frames").rest(gone)
        others = _FRAME_IDS.held(files, ids.to_numpy())
        mixed = read_files("frames", slices, ["frame_id"], pc.field("frame_id").isin(ids))["frame_id"]
    except (OSError, pa.ArrowInvalid) as error:
        raise LakeError(
            f"{base.layout.root}: the frames of other nights cannot be read ({reason_of(error, with_file=True)}); "
            "`skylake verify` shows which, and the command that repairs them"
        ) from error
    return [*others, *mixed.to_pylist()]

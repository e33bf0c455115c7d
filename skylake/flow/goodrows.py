"""Good rows stay good: what is wrong with a lake is found before the first frame, and what fails replaces nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.reasons import Status, is_worse_for_no_fault
from skylake.errors import CatalogError, LakeError
from skylake.flow.frames import Chunk, Reduction
from skylake.flow.heldframes import HeldFrames
from skylake.flow.progress import counted
from skylake.lake import Lake, Snapshot
from skylake.sky.asterism_index import open_index
from skylake.sky.catalogs import ReferenceCatalog
from skylake.sky.hats import leaf_files, read_pixels

_COLUMNS = ["file", "wcs_source", "wcs_catalog", "masters"]


def require_means(lake: Lake, snapshot: Snapshot, reduction: Reduction, redone: Collection[str]) -> None:
    """Refuse to begin where the lake lacks what frames are reduced with; nothing has changed then.

    A lake that never had a catalog, an index or masters is whole: its frames tell what they lack, one by one, and are
    tried again. What good frames were made with has to be there before they are done anew.

    Parameters
    ----------
    lake : Lake
    snapshot : Snapshot
    reduction : Reduction
    redone : collection of str
        Files that are going to be reduced though the lake holds them.

    Raises
    ------
    CatalogError
        If the catalog is damaged, or lacks the index by which good frames were placed.
    LakeError
        If good frames were placed by a catalog, or reduced with masters, and there are none now.
    """
    if reduction.catalog is not None:
        _require_whole(reduction.catalog)
    rows = _good(snapshot, reduction.profile, redone) if redone else None
    if rows:
        _require_catalog(lake, reduction, rows)
        _require_masters(reduction, rows)


def _good(snapshot: Snapshot, profile: Profile, files: Collection[str]) -> pa.Table:
    """Return the rows of the good frames among some files."""
    is_mine = (pc.field("status") == Status.OK.value) & pc.field("file").isin(pa.array(files, pa.string()))
    return snapshot.read("frames", _COLUMNS, lambda part: part.camera == profile.name, is_mine)


def _require_whole(catalog: ReferenceCatalog) -> None:
    """Refuse a catalog of which a pixel has lost its file: there would be no stars, and no sign of that."""
    pixels = read_pixels(catalog.root)
    there = {pixel for pixel, path in leaf_files(catalog.root, pixels) if path.stat().st_size}
    lost = [pixel for pixel in pixels if pixel not in there]
    if lost:
        order, number = lost[0]
        raise CatalogError(
            f"{catalog.root}: the catalog is damaged: {len(lost)} of its {counted(len(pixels), 'pixel')}, as "
            f"Norder={order} Npix={number}, have no stars any more; import it again"
        )


def _require_catalog(lake: Lake, reduction: Reduction, rows: pa.Table) -> None:
    camera = reduction.profile.base
    placed = pc.unique(rows["wcs_catalog"].drop_null()).to_pylist()
    if reduction.catalog is None:
        if placed:
            raise LakeError(
                f"{lake.root}: {counted(rows.num_rows, 'good frame')} would be redone without the catalog "
                f"{placed[0]} that placed them; name it in {lake.layout.settings_file.name} again, or another one "
                "that `skylake catalog list` shows"
            )
        return
    n_solved = pc.sum(pc.fill_null(pc.equal(rows["wcs_source"], "solved"), False)).as_py()
    if n_solved and camera.astrometry.solve and not camera.astrometry.all_sky:
        try:
            open_index(reduction.catalog)
        except CatalogError as error:
            raise CatalogError(
                f"{counted(n_solved, 'good frame')} would be redone without what placed them: {error}"
            ) from error


def _require_masters(reduction: Reduction, rows: pa.Table) -> None:
    names = {name for text in pc.unique(rows["masters"]).to_pylist() for name in (text or "").split()}
    # As their names are made: camera, kind, night, checksum.
    used = {name.rsplit("-", 3)[1] for name in names if name.count("-") >= 3}
    profile, library = reduction.profile, reduction.library
    cameras = [profile.base, *(period.camera for period in profile.periods)]
    wanted = used & {step for camera in cameras for step in camera.reduction.steps}
    lacking = sorted(wanted - ({one.kind for one in library.masters} if library else set()))
    if lacking and library is not None:
        raise LakeError(
            f"{library.lake}: {counted(rows.num_rows, 'good frame')} would be redone without the masters of kind "
            f"{lacking[0]} that they were reduced with; "
            + library.how_to(f"make a master of kind {lacking[0]}", profile.name)
        )


def without_worse(chunks: Iterable[Chunk], held: HeldFrames) -> tuple[list[Chunk], list[str]]:
    """Leave out frames that fail now, but are good in the lake.

    Returns
    -------
    chunks : list of Chunk
    kept : list of str
        A sentence for each of them.
    """
    found, kept = [], []
    for chunk in chunks:
        rows = chunk.frames.select(["file", "status", "reason", "message"]).to_pylist()
        stays = []
        for row in rows:
            known = held.of_file(row["file"])
            worse = known is not None and is_worse_for_no_fault(known.reason, row["status"])
            stays.append(not worse)
            if worse:
                kept.append(
                    f"{row['file']}: {row['status']}/{row['reason']}: {row['message']}; the lake keeps the good frame "
                    "that it has of this file"
                )
        found.append(
            chunk if all(stays) else replace(chunk, frames=chunk.frames.filter(pa.array(stays, pa.bool_())))
        )
    return found, kept

"""Good rows are protected: a damaged lake is refused before the first frame, and failures do not replace good rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.counted import counted
from skylake.core.reasons import Reason, Status, is_worse_for_no_fault
from skylake.errors import CatalogError, LakeError
from skylake.flow.ingest.chunk_rows import Chunk
from skylake.flow.ingest.frame_tasks import Reduction
from skylake.flow.ingest.known_files import HeldFrames
from skylake.lake import Lake, Snapshot
from skylake.revision import code_version
from skylake.sky.asterism_index import open_index
from skylake.sky.hats import leaf_files, read_pixels
from skylake.sky.lake_catalogs import ReferenceCatalog

_COLUMNS = [
    "file",
    "wcs_source",
    "wcs_catalog",
    "wcs_geometry",
    "masters",
    "night",
    "frame_id",
    "config_sha256",
]
#: What the row of a frame depends on, apart from the lake and the code.
_MADE = ["frame_id", "config_sha256"]
_KEPT = "the lake keeps the good frame that it has of this file"


def require_means(lake: Lake, snapshot: Snapshot, reduction: Reduction, redone: Collection[str]) -> None:
    """Refuse to begin, before anything changes, if the lake has lost what good frames were reduced with.

    A lake that never had a catalog, an index or masters is accepted: each frame reports what it lacks, and is tried
    again later. But good frames are only reduced again if the lake still has what they were made with.

    Parameters
    ----------
    lake : Lake
    snapshot : Snapshot
    reduction : Reduction
    redone : collection of str
        Files that are going to be reduced although the lake holds them.

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
    """Refuse a catalog that has lost the file of a pixel: stars would be missing without an error."""
    if catalog.in_place is not None:
        return
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
    # Names of masters consist of camera, kind, night and checksum.
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
    """Leave out frames that fail now but are good in the lake.

    Returns
    -------
    chunks : list of Chunk
    kept : list of str
        A sentence for each of them.
    """

    def why(row: dict[str, Any]) -> str | None:
        known = held.of_file(row["file"])
        if known is None or not is_worse_for_no_fault(known.reason, row["status"]):
            return None
        return f"{row['status']}/{row['reason']}: {row['message']}; {_KEPT}"

    return _without(chunks, why)


def without_misplaced(
    chunks: Iterable[Chunk], held: HeldFrames, snapshot: Snapshot, reduction: Reduction
) -> tuple[list[Chunk], list[str]]:
    """Leave out frames that cannot be placed now, but are good in the lake by means that are no longer in force.

    Then another catalog or index, or a lost geometry of the whole sky, is to blame, and not the frame. Call it after
    frames were placed by their neighbours.

    Parameters
    ----------
    chunks : iterable of Chunk
    held : HeldFrames
    snapshot : Snapshot
        Has what good frames were placed with.
    reduction : Reduction
        What frames are placed with now.

    Returns
    -------
    chunks : list of Chunk
    kept : list of str
        A sentence for each of them.
    """
    chunks = list(chunks)
    lost = {
        row["file"]: row
        for chunk in chunks
        for row in chunk.frames.select(["file", "status", "reason", *_MADE]).to_pylist()
        if row["status"] == Status.REJECTED and row["reason"] in (Reason.NO_WCS, Reason.BAD_WCS)
    }
    lost = {file: row for file, row in lost.items() if held.of_file(file) is not None}
    if not lost:
        return chunks, []
    camera = reduction.profile.name
    parts = [part for part in snapshot.parts("frames").values() if part.camera == camera]
    same_code = {part.night for part in parts if part.software_version == code_version()}
    means = {
        row["file"]: _lost_means(row, reduction) or _changed_means(row, lost[row["file"]], same_code)
        for row in _good(snapshot, reduction.profile, lost).to_pylist()
    }

    def why(row: dict[str, Any]) -> str | None:
        changed = means.get(row["file"]) if row["file"] in lost else None
        return changed and f"{row['status']}/{row['reason']}, though it was good {changed}; {_KEPT}"

    return _without(chunks, why)


def _lost_means(row: dict[str, Any], reduction: Reduction) -> str | None:
    """Return which means that placed a good frame is no longer in force, and how to restore it."""
    name, catalog = row["wcs_catalog"], reduction.catalog_name
    if name is not None and name != catalog:
        return (
            f"with the catalog {name}, and {catalog} is in force: build an index of {catalog} for such fields "
            f"(`skylake catalog index`), or name {name} again"
        )
    camera = reduction.profile.base
    known = {one.name for one in reduction.guide.geometries}
    if camera.astrometry.all_sky and row["wcs_geometry"] is not None and row["wcs_geometry"] not in known:
        return (
            f"with a geometry of {camera.name} that the lake has lost: ingest brighter frames of these nights, from "
            f"which it is learned again, or bring _cameras/{camera.name}.geometries.parquet back"
        )
    return None


def _changed_means(row: dict[str, Any], now: dict[str, Any], same_code: Collection[int | None]) -> str | None:
    """Return what must have changed if a frame was solved with the same bytes, profile and code, but is not now."""
    same = row["night"] in same_code and all(row[name] == now[name] for name in _MADE)
    if row["wcs_source"] != "solved" or now["reason"] != Reason.NO_WCS or not same:
        return None
    return (
        f"with the catalog {row['wcs_catalog']} as it was: build an index of it for such fields again "
        "(`skylake catalog index`)"
    )


def _without(
    chunks: Iterable[Chunk], why: Callable[[dict[str, Any]], str | None]
) -> tuple[list[Chunk], list[str]]:
    """Return the chunks without the frames for which there is a reason, and a sentence for each of these frames."""
    found, kept = [], []
    for chunk in chunks:
        rows = chunk.frames.select(["file", "status", "reason", "message"]).to_pylist()
        reasons = [why(row) for row in rows]
        kept += [f"{row['file']}: {one}" for row, one in zip(rows, reasons, strict=True) if one is not None]
        stays = pa.array([one is None for one in reasons], pa.bool_())
        found.append(replace(chunk, frames=chunk.frames.filter(stays)) if any(reasons) else chunk)
    return found, kept

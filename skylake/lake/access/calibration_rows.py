"""The rows of ``frames`` and ``zeropoints`` that calibrate some measurements, in one version of the calibration."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import ZEROPOINT_COLUMNS
from skylake.errors import UnknownName
from skylake.lake.cameras.chosen_catalogs import named_catalog
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.layout import Layout
from skylake.lake.storage.parts import Part

_CHOSEN_BY = ("camera", "night", "band", "catalog")
#: Who needs files with one in so many rows of a table is given all of them.
_MANY = 4


def calibration_rows(
    snapshot: Snapshot,
    measured: pa.Table,
    frame_columns: Sequence[str],
    catalog: str | None = None,
    version: int | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Return frames and zeropoints, of each frame one at most, that go with measurements.

    The whole tables are read where the files of their nights are much of them, and kept for the next star as long as
    the snapshot is; else those files alone.

    Parameters
    ----------
    snapshot : Snapshot
    measured : pyarrow.Table
        ``frame_id``, ``camera`` and ``night`` of the measurements.
    frame_columns : sequence of str
        Columns of ``frames`` to read.
    catalog : str or None
        That of the zeropoints; None takes that which calibrates each camera, or has most of its frames.
    version : int or None
        Of the calibration; None takes the one in force, the largest of each frame.

    Raises
    ------
    UnknownName
        If there is no such version.
    """
    wanted = list(dict.fromkeys([*ZEROPOINT_COLUMNS, *_CHOSEN_BY]))
    frames = _of_frames(snapshot, "frames", frame_columns, measured)
    rows = _of_frames(snapshot, "zeropoints", wanted, measured)
    rows = _of_version(rows.filter(rows["zp"].is_valid()), version)
    rows = (
        _of_cameras(snapshot.layout, rows)
        if catalog is None
        else rows.filter(pc.equal(rows["catalog"], catalog))
    )
    return frames, _in_force(rows)


def _of_frames(snapshot: Snapshot, table: str, columns: Sequence[str], measured: pa.Table) -> pa.Table:
    """Return the rows of a table that belong to the frames of measurements."""
    nights = measured.group_by(["camera", "night"]).aggregate([])
    batches = set(zip(*(nights[name].to_pylist() for name in ("camera", "night")), strict=True))
    seen = pc.field("frame_id").isin(pc.unique(measured["frame_id"]))
    if _MANY * _rows_of_files(snapshot, table, batches) >= snapshot.n_rows(table):
        whole = snapshot.whole(table, list(dict.fromkeys(["frame_id", *columns])))
        if whole is not None:
            return whole.filter(seen).select(list(columns))
    return snapshot.read(table, columns, _of(batches), seen)


def _rows_of_files(snapshot: Snapshot, table: str, batches: Collection[tuple[Any, Any]]) -> int:
    """Return the number of rows in the files that have some of batches; a bundle has many others too."""
    version, chosen = snapshot.version(table), _of(batches)
    paths = {file.path for part in version.parts.values() if chosen(part) for file in part.files}
    return sum(version.described_files[path].n_rows for path in paths)


def _of(batches: Collection[tuple[Any, Any]]) -> Any:
    def chosen(part: Part) -> bool:
        return (part.camera, part.night) in batches

    return chosen


def _of_version(rows: pa.Table, version: int | None) -> pa.Table:
    if version is None:
        return rows
    found = rows.filter(pc.equal(rows["version"], version))
    if found.num_rows == 0:
        known = ", ".join(str(one) for one in sorted(set(rows["version"].to_pylist()))) or "none"
        raise UnknownName(
            f"there is no calibration of version {version} of the frames that show the star; they have {known}"
        )
    return found


def _of_cameras(layout: Layout, rows: pa.Table) -> pa.Table:
    """Return the zeropoints of each camera by the catalog that is in force for it, which may be another for each."""
    counts = rows.group_by(["camera", "catalog"]).aggregate([("frame_id", "count_distinct")])
    known: dict[str, dict[str, int]] = {}
    for row in counts.to_pylist():
        known.setdefault(row["camera"], {})[row["catalog"]] = row["frame_id_count_distinct"]
    if all(len(catalogs) == 1 for catalogs in known.values()):
        return rows
    chosen = {camera: _one_of(layout, camera, catalogs) for camera, catalogs in known.items()}
    pairs = zip(rows["camera"].to_pylist(), rows["catalog"].to_pylist(), strict=True)
    return rows.filter(pa.array([chosen[camera] == catalog for camera, catalog in pairs], pa.bool_()))


def _one_of(layout: Layout, camera: str, frames: Mapping[str, int]) -> str:
    """Return which of some catalogs, each with a number of frames, is in force for a camera."""
    if len(frames) > 1:
        named = named_catalog(layout, camera)
        if named in frames:
            return named
    return max(sorted(frames), key=frames.__getitem__)


def _in_force(rows: pa.Table) -> pa.Table:
    """Return the largest version of each frame."""
    rows = rows.sort_by([("frame_id", "ascending"), ("version", "descending")])
    return rows.take(pa.array(np.unique(rows["frame_id"].to_numpy(), return_index=True)[1]))

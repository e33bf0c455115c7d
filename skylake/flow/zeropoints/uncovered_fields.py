"""What to do about frames none of whose detections matches a star: the catalog may have none there."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.frame_zeropoints import NO_MATCHES
from skylake.core.counted import counted
from skylake.lake import Part, Snapshot
from skylake.sky.lake_catalogs import ReferenceCatalog

#: With fewer stars in its field a frame cannot be calibrated, whatever its profile says.
_FEW_STARS = 5
#: Wider fields reach over so much of a catalog that counting its stars there would take long.
_WIDEST_DEG = 20.0
_COLUMNS = ["frame_id", "file", "ra_deg", "dec_deg", "pixel_scale_arcsec", "width_px", "height_px"]


def unmatched_frames(
    snapshot: Snapshot, names: Collection[str], nights: Collection[int] | None = None
) -> pa.Array:
    """Return the frames without matches in some parts of ``zeropoints``, of all nights or of some."""

    def is_wanted(part: Part) -> bool:
        return part.name in names and (nights is None or part.night in nights)

    rows = snapshot.read("zeropoints", ["frame_id"], is_wanted, pc.field("reason") == NO_MATCHES)
    return rows["frame_id"].combine_chunks()


def of_unmatched(snapshot: Snapshot, camera: str, reference: ReferenceCatalog, frame_id: pa.Array) -> str:
    """Return how many stars a catalog has in the field of the first of some frames without matches, and the fix.

    Parameters
    ----------
    snapshot : Snapshot
    camera : str
    reference : ReferenceCatalog
    frame_id : pyarrow.Array
        Frames of the camera; at least one.

    Returns
    -------
    str
        Part of a sentence; empty for frames that see much of the sky.
    """

    def of_camera(part: Part) -> bool:
        return part.camera == camera

    chosen = pc.field("frame_id").isin(frame_id) & pc.field("ra_deg").is_valid()
    rows = snapshot.read("frames", _COLUMNS, of_camera, chosen)
    if rows.num_rows == 0:
        return ""
    row = rows.sort_by("file").slice(0, 1).to_pylist()[0]
    radius = 0.5 * math.hypot(row["width_px"], row["height_px"]) * (row["pixel_scale_arcsec"] or 0.0) / 3600.0
    if not 0.0 < radius < _WIDEST_DEG:
        return ""
    stars = reference.cone(row["ra_deg"], row["dec_deg"], radius, ["ra_deg", "dec_deg"]).num_rows
    number = counted(stars, "star") if stars else "no star"
    has = f"the catalog {reference.name} has {number} in the field of {row['file']}"
    root = shlex.quote(str(snapshot.layout.root))
    if stars < _FEW_STARS:
        return f"{has}; import one that covers it (`skylake catalog import {root} NAME …`)"
    return f"{has}, and none is where a detection is; check where the frame points with `skylake solve`"

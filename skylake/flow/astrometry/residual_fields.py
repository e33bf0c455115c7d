"""Combine the stored residual fields of frames of a lake."""

from __future__ import annotations

import pyarrow.compute as pc

from skylake.core.reasons import Status
from skylake.image.allsky.geometry_epochs import Geometry
from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.wcs.residual_field import ResidualField
from skylake.lake import Snapshot


def field_of_epoch(snapshot: Snapshot, camera: str, epoch: Epoch) -> tuple[ResidualField | None, int]:
    """Return the mean residual field of the frames of a camera within an epoch, and of how many.

    Returns
    -------
    field : ResidualField or None
        None if no frame has one.
    number : int
        Frames.
    """
    since = (pc.field("mjd_mid") >= epoch.valid_from) & (pc.field("mjd_mid") < epoch.valid_to)
    return _field(snapshot, camera, epoch.shape, since)


def field_of_geometry(
    snapshot: Snapshot, camera: str, geometry: Geometry
) -> tuple[ResidualField | None, int]:
    """Return the mean residual field of a camera that sees the whole sky within the time of a geometry."""
    within = (pc.field("mjd_mid") >= geometry.first_mjd) & (pc.field("mjd_mid") <= geometry.last_mjd)
    return _field(snapshot, camera, geometry.shape, within)


def _field(
    snapshot: Snapshot, camera: str, shape: tuple[int, int], within: pc.Expression
) -> tuple[ResidualField | None, int]:
    wanted = (
        (pc.field("status") == Status.OK.value)
        & pc.field("astrom_field").is_valid()
        & (pc.field("height_px") == shape[0])
        & (pc.field("width_px") == shape[1])
        & within
    )
    rows = snapshot.read("frames", ["astrom_field"], lambda part: part.camera == camera, wanted)
    fields = [ResidualField.of_text(text) for text in rows["astrom_field"].to_pylist()]
    return (ResidualField.together(fields) if fields else None), len(fields)

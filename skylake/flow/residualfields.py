"""The residual fields that frames of a lake have stored, as one."""

from __future__ import annotations

import pyarrow.compute as pc

from skylake.core.reasons import Status
from skylake.image.epochs import Epoch
from skylake.image.residualfield import ResidualField
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
    wanted = (
        (pc.field("status") == Status.OK.value)
        & pc.field("astrom_field").is_valid()
        & (pc.field("height_px") == epoch.shape[0])
        & (pc.field("width_px") == epoch.shape[1])
        & (pc.field("mjd_mid") >= epoch.valid_from)
        & (pc.field("mjd_mid") < epoch.valid_to)
    )
    rows = snapshot.read("frames", ["astrom_field"], lambda part: part.camera == camera, wanted)
    fields = [ResidualField.of_text(text) for text in rows["astrom_field"].to_pylist()]
    return (ResidualField.together(fields) if fields else None), len(fields)

"""What databases ask for beside a light curve, read from the lake: airmass, check star, colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.errors import UsageError
from skylake.lake import Snapshot
from skylake.lake.storage.parts import Part
from skylake.report.stars.constant_star import constant_star_near
from skylake.report.stars.star_curves import CurveChoice, star_curve
from skylake.report.stars.submissions import FORMATS, Submission

#: In place of a check star.
NONE = "none"


def submitted(snapshot: Snapshot, curve: dict[str, Any], form: str, about: Submission) -> str:
    """Return a light curve in the format of a database, with the airmass of each frame.

    Parameters
    ----------
    snapshot : Snapshot
    curve : dict
        As of :func:`skylake.report.curves.curve_of_object`.
    form : {'aavso', 'etd', 'exotic'}
    about : Submission
        Name, observer and check star.

    Raises
    ------
    UsageError
        If the format needs something that is not given.
    """
    frames = _rows(snapshot, curve, "frames", ["frame_id", "airmass"])
    airmass = dict(zip(frames["frame_id"].to_pylist(), frames["airmass"].to_pylist(), strict=True))
    known = Submission(
        about.name,
        about.observer,
        {frame: value for frame, value in airmass.items() if value is not None},
        about.check_name,
        about.check_mags,
        _is_transformed(snapshot, curve),
    )
    return FORMATS[form](curve, known)


def check_star(
    snapshot: Snapshot, curve: dict[str, Any], star: str | None, choice: CurveChoice
) -> dict[str, Any] | None:
    """Return the light curve of the check star that is named; for None of a constant star nearby, if there is one."""
    if star == NONE:
        return None
    found = constant_star_near(snapshot, curve) if star is None else star_curve(snapshot, star, choice)
    if found is not None and (found["catalog"], found["object_id"]) == (curve["catalog"], curve["object_id"]):
        raise UsageError(f"--check {star}: this is the star itself; name another, or none")
    return found


def magnitudes_by_frame(curve: dict[str, Any] | None) -> dict[int, float]:
    """Return the magnitude of a star on each frame."""
    points = [] if curve is None else curve["points"]
    return {point["frame_id"]: point["mag"] for point in points if point["mag"] is not None}


def _is_transformed(snapshot: Snapshot, curve: dict[str, Any]) -> bool:
    """Return whether the colour of the star and a colour term are in its magnitudes."""
    if any(band.get("ref_colour") is None for band in curve["bands"]):
        return False
    terms = _rows(snapshot, curve, "zeropoints", ["frame_id", "colour_term"])["colour_term"]
    return bool(np.any(np.nan_to_num(terms.to_numpy(zero_copy_only=False).astype(float)) != 0.0))


def _rows(snapshot: Snapshot, curve: dict[str, Any], table: str, columns: Sequence[str]) -> pa.Table:
    """Return columns of the frames of a light curve."""
    cameras = {point["camera"] for point in curve["points"]}
    frames = pa.array([point["frame_id"] for point in curve["points"]], pa.int64())

    def of_cameras(part: Part) -> bool:
        return part.camera in cameras

    return snapshot.read(table, columns, of_cameras, pc.field("frame_id").isin(frames))

"""What databases ask for beside a light curve, read from the lake: airmass, check star, colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.unlisted_stars import DETECTIONS
from skylake.errors import StarError
from skylake.lake import Snapshot
from skylake.lake.access.calibration_rows import calibration_rows
from skylake.lake.storage.parts import Part
from skylake.report.stars.constant_star import constant_star_near
from skylake.report.stars.left_out import LeftOut
from skylake.report.stars.star_curves import CurveChoice, star_curve
from skylake.report.stars.submissions import FORMATS, FrameFacts, Submission
from skylake.sky.lake_catalogs import ReferenceCatalog

#: In place of a check star.
NONE = "none"
_FRAME_COLUMNS = ("frame_id", "camera", "night", "airmass", "filter")


def submitted(
    snapshot: Snapshot, curve: dict[str, Any], form: str, about: Submission, version: int | None = None
) -> tuple[str, LeftOut]:
    """Return a light curve in the format of a database, and which points are left out of it.

    Parameters
    ----------
    snapshot : Snapshot
    curve : dict
        As of :func:`skylake.report.curves.curve_of_object`.
    form : {'aavso', 'etd', 'exotic'}
    about : Submission
        Name, observer and check star.
    version : int or None
        Of the calibration; None takes the one in force.

    Raises
    ------
    UsageError
        If the format needs something that is not given; a StarError if this star lacks it.
    """
    return FORMATS[form](curve, replace(about, frames=_facts(snapshot, curve, version)))


def check_star(
    snapshot: Snapshot, curve: dict[str, Any], star: str | None, choice: CurveChoice
) -> dict[str, Any] | None:
    """Return the light curve of the check star that is named; for None of a constant star nearby, if there is one."""
    if star == NONE:
        return None
    found = constant_star_near(snapshot, curve) if star is None else star_curve(snapshot, star, choice)
    if found is not None and (found["catalog"], found["object_id"]) == (curve["catalog"], curve["object_id"]):
        raise StarError(f"--check {star}: this is the star itself; name another, or none")
    return found


def magnitudes_by_frame(curve: dict[str, Any] | None) -> dict[int, float]:
    """Return the magnitude of a star on each frame."""
    points = [] if curve is None else curve["points"]
    return {point["frame_id"]: point["mag"] for point in points if point["mag"] is not None}


def _facts(snapshot: Snapshot, curve: dict[str, Any], version: int | None) -> dict[int, FrameFacts]:
    """Return what is known of the frames of a light curve."""
    frames = _frames(snapshot, curve)
    calibrated = _zeropoints(snapshot, curve, frames, version)
    catalogs = {zeropoint["catalog"] for zeropoint in calibrated.values()} & set(snapshot.catalogs())
    surveys = {name: ReferenceCatalog.open(snapshot.catalog(name)).survey for name in catalogs}
    coloured = {_row_of(curve, band) for band in curve["bands"] if band.get("ref_colour") is not None}
    found = {}
    for frame in frames.to_pylist():
        zeropoint = calibrated.get(frame["frame_id"], {})
        catalog = zeropoint.get("catalog") or ""
        found[frame["frame_id"]] = FrameFacts(
            frame["airmass"],
            frame["filter"],
            catalog,
            surveys.get(catalog, ""),
            bool(zeropoint) and _row_of(curve, zeropoint) in coloured and bool(zeropoint["colour_term"]),
        )
    return found


def _row_of(curve: dict[str, Any], one: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the camera and band of a row of a light curve: detections of all cameras are one in a band."""
    return one["camera"] if curve["measured"] == "forced" else None, one["band"]


def _zeropoints(
    snapshot: Snapshot, curve: dict[str, Any], frames: pa.Table, version: int | None
) -> dict[int, dict[str, Any]]:
    """Return the zeropoints of the points of a light curve by frame: cameras may have different catalogs."""
    points: dict[str | None, list[int]] = {}
    catalogs = {_row_of(curve, band): band.get("zp_catalog") for band in curve["bands"]}
    others = None if curve["catalog"] == DETECTIONS else str(curve["catalog"])
    for point in curve["points"]:
        catalog = catalogs[_row_of(curve, point)] if curve["measured"] == "forced" else others
        points.setdefault(catalog, []).append(point["frame_id"])
    found: dict[int, dict[str, Any]] = {}
    for catalog, numbers in points.items():
        mine = frames.filter(pc.is_in(frames["frame_id"], pa.array(numbers, pa.int64())))
        _, zeropoints = calibration_rows(snapshot, mine, ["frame_id"], catalog, version)
        found |= {row["frame_id"]: row for row in zeropoints.to_pylist()}
    return found


def _frames(snapshot: Snapshot, curve: dict[str, Any]) -> pa.Table:
    """Return the frames of a light curve."""
    cameras = {point["camera"] for point in curve["points"]}
    frames = pa.array([point["frame_id"] for point in curve["points"]], pa.int64())

    def of_cameras(part: Part) -> bool:
        return part.camera in cameras

    return snapshot.read("frames", _FRAME_COLUMNS, of_cameras, pc.field("frame_id").isin(frames))

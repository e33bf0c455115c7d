"""Learn the places of the detectors of a mosaic in its focal plane from the frames of a lake."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.cameras import Profile
from skylake.core.attitudes import place_of_matrix
from skylake.core.camera import Camera
from skylake.core.robust import sigma_mad
from skylake.core.sphere import ARCSEC_PER_RADIAN
from skylake.flow.astrometry.detector_frames import Frames, Overview, n_stars, shape_of
from skylake.image.distortion.focal_plane import FocalPlane, fit_focal_plane
from skylake.image.solving.expected_pointing import PlacedChip, frame_matrix, moved_to, placed_lens
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import lens_of_text
from skylake.lake import Lake, Snapshot
from skylake.lake.cameras.stored_focal_planes import write_focal_plane

Floats = npt.NDArray[np.float64]

#: So many exposures that a chip shares with others give its place.
LEAST_EXPOSURES = 2
#: Dates beyond are no dates: that is how periods without a beginning or an end are written.
_FAR_MJD = 1e8
#: So many angles show near which most lie.
_SOME_ANGLES = 500
#: A frame with fewer stars says nothing of the places.
_LEAST_STARS = 10
#: Exposures whose rotation is off by so much more than that of others, standard deviations and degrees.
_ODD_SIGMAS, _ODD_DEG = 6.0, 0.5


@dataclass(slots=True)
class MosaicReport:
    """What was learned of a focal plane.

    Attributes
    ----------
    chips : list of dict
        chip, camera, the dates of its epoch, its place as learned with errors, as the profile has it, and what it was
        learned from.
    telescope : dict
        How far exposures point from where the cards of the telescope say: medians and scatter.
    odd : list of dict
        Frames whose cards give another rotation than those of other exposures, or that contradict their siblings.
    apart : list of str
        Chips that share no exposure with the others, directly or through other chips: their place is unknown.
    """

    chips: list[dict[str, Any]] = field(default_factory=list)
    telescope: dict[str, Any] = field(default_factory=dict)
    odd: list[dict[str, Any]] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)


def learn_focal_plane(lake: Lake, chips: Sequence[Profile]) -> MosaicReport:
    """Fit the places of the chips of a camera to all its frames in a lake, and keep them there.

    Each stretch of time in which the profile does not change the focal plane is an epoch of its own.

    Parameters
    ----------
    lake : Lake
    chips : sequence of Profile
        As :func:`skylake.cameras.load_chips` gives them.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    snapshot, report = lake.snapshot(), MosaicReport()
    every = Overview.read(snapshot, chips)
    epochs_of_chips: list[list[PlacedChip]] = [[] for _ in chips]
    for start, end in epochs_of(chips):
        rows = (start <= every.mjd) & (every.mjd < end) & (every.n_stars >= _LEAST_STARS)
        frames = every.frames(snapshot, chips, every.subset(np.flatnonzero(rows)))
        cameras = [profile.at(0.5 * (max(start, 1e4) + min(end, 1e5))) for profile in chips]
        placed_chips = _learn(frames, cameras, (start, end), report)
        for number, placed in placed_chips.items():
            epochs_of_chips[number].append(placed)
    for profile, epochs in zip(chips, epochs_of_chips, strict=True):
        if epochs:
            write_focal_plane(lake.layout, profile.name, epochs)
    _report_telescope(every, snapshot, chips, report)
    return report


def epochs_of(chips: Sequence[Profile]) -> list[tuple[float, float]]:
    """Return the stretches of time (MJD) in which profiles do not change the place of any detector."""
    dates = {
        edge
        for profile in chips
        for period in profile.periods
        for edge in (period.start, period.end)
        if abs(edge) < _FAR_MJD
    }
    epochs: list[tuple[float, float]] = []
    for start, end in itertools.pairwise(sorted({-math.inf, math.inf, *dates})):
        if epochs and _planes(chips, epochs[-1][0]) == _planes(chips, start):
            epochs[-1] = epochs[-1][0], end
        else:
            epochs.append((start, end))
    return epochs


def _planes(chips: Sequence[Profile], mjd: float) -> list[tuple[Any, ...]]:
    cameras = [profile.at(max(mjd, -1e8)) for profile in chips]
    return [
        (
            camera.place,
            camera.optics,
            camera.astrometry.mirrored,
            camera.detector.trim_x,
            camera.detector.trim_y,
        )
        for camera in cameras
    ]


def _learn(
    frames: Frames, cameras: Sequence[Camera], period: tuple[float, float], report: MosaicReport
) -> dict[int, PlacedChip]:
    """Return what is learned of each chip in an epoch, and report it."""
    lenses = [_best_lens(frames, number, camera) for number, camera in enumerate(cameras)]
    known = [number for number, lens in enumerate(lenses) if lens is not None]
    rows = [n for n, chip in enumerate(frames.chip) if chip in known]
    if len(known) < 2 or not rows:
        return {}
    some = frames.taken(rows)
    shapes = {int(chip): shape_of(row) for row, chip in zip(some.rows, some.chip, strict=True)}
    start = np.tile(np.eye(3), (len(cameras), 1, 1))
    for number in known:
        declared = placed_lens(cameras[number], shapes[number])
        if declared is not None:
            start[number] = frame_matrix(declared, shapes[number])
    plane = fit_focal_plane(some.orientations(), start, int(some.exposure.max()) + 1)
    report.odd += [
        {"file": row["file"], "why": "it contradicts its siblings"}
        for row, weight in zip(some.rows, plane.weights, strict=True)
        if weight == 0.0
    ]
    placed_chips: dict[int, PlacedChip] = {}
    for number in known:
        shared = _shared(some, number)
        if not np.isfinite(plane.covariance[number]).all():
            report.apart.append(cameras[number].place.chip or cameras[number].name)
            continue
        if len(shared) < LEAST_EXPOSURES:
            continue
        lens = lenses[number]
        assert lens is not None
        placed_chips[number] = _placed(
            lens, shapes[number], [some.rows[row] for row in shared], plane, number, period
        )
        report.chips.append(_chip_row(cameras[number], placed_chips[number], start[number], plane, number))
    return placed_chips


def _best_lens(frames: Frames, chip: int, camera: Camera) -> Lens | None:
    """Return the lens of the frame of a chip with the most stars; that of the profile where no lens was fitted."""
    rows = [row for row, one in zip(frames.rows, frames.chip, strict=True) if one == chip]
    if not rows:
        return None
    fitted = [row for row in rows if row["wcs_lens"] is not None]
    if not fitted:
        return placed_lens(camera, shape_of(rows[0]))
    best = lens_of_text(max(fitted, key=lambda row: (n_stars(row), row["mjd_mid"]))["wcs_lens"])
    # Refraction of that frame does not apply to others.
    return replace(best, bending=None)


def _shared(frames: Frames, chip: int) -> list[int]:
    """Return the frames of a chip of which there is a sibling."""
    count = np.bincount(frames.exposure)
    return [n for n, one in enumerate(frames.chip) if one == chip and count[frames.exposure[n]] > 1]


def _placed(
    lens: Lens,
    shape: tuple[int, int],
    rows: list[dict[str, Any]],
    plane: FocalPlane,
    chip: int,
    period: tuple[float, float],
) -> PlacedChip:
    variances = np.diag(plane.covariance[chip])
    mjd = [row["mjd_mid"] for row in rows]
    return PlacedChip(
        moved_to(lens, shape, plane.places[chip]),
        shape,
        min(mjd),
        max(mjd),
        period,
        len(rows),
        sum(n_stars(row) for row in rows),
        # A turn about the y axis moves the image along x.
        (math.sqrt(variances[1]) * ARCSEC_PER_RADIAN, math.sqrt(variances[0]) * ARCSEC_PER_RADIAN),
        math.degrees(math.sqrt(variances[2])),
        plane.scatter[0] * ARCSEC_PER_RADIAN,
        math.degrees(plane.scatter[1]),
    )


def _chip_row(
    camera: Camera, placed: PlacedChip, start: Floats, plane: FocalPlane, chip: int
) -> dict[str, Any]:
    matrix, covariance = plane.places[chip], plane.covariance[chip]
    x, y, angle = place_of_matrix(matrix)
    declared = *camera.place_arcsec, place_of_matrix(start)[2]
    # Turns about the axes of the image move its centre along them; these are seen in the focal plane.
    moves = np.array([[covariance[1, 1], -covariance[0, 1]], [-covariance[0, 1], covariance[0, 0]]])
    axes = np.array([[-matrix[0, 0], -matrix[1, 0]], [matrix[0, 1], matrix[1, 1]]])
    x_err, y_err = np.sqrt(np.diag(axes @ moves @ axes.T)) * ARCSEC_PER_RADIAN
    turn = (angle - declared[2] + 180.0) % 360.0 - 180.0
    return {
        "chip": camera.place.chip or camera.name,
        "camera": camera.name,
        "from_mjd": _finite(placed.period_mjd[0]),
        "until_mjd": _finite(placed.period_mjd[1]),
        "x_arcsec": x,
        "x_err_arcsec": float(x_err),
        "y_arcsec": y,
        "y_err_arcsec": float(y_err),
        "angle_deg": angle,
        "angle_err_deg": placed.sigma_angle_deg,
        "scale_arcsec": ARCSEC_PER_RADIAN / placed.lens.focal_px,
        "mirrored": placed.lens.mirrored,
        "dx_arcsec": x - declared[0],
        "dy_arcsec": y - declared[1],
        "dangle_deg": turn,
        "exposures": placed.n_exposures,
        "stars": placed.n_stars,
        "scatter_arcsec": placed.scatter_arcsec,
    }


def _finite(value: float) -> float | None:
    return value if abs(value) < _FAR_MJD else None


def _report_telescope(
    every: Overview, snapshot: Snapshot, chips: Sequence[Profile], report: MosaicReport
) -> None:
    """Report how well cards of the telescope say where frames point, and which are far from the others."""
    rows = np.flatnonzero((every.n_stars >= 1) & np.isfinite(every.rotation_deg))
    if rows.size == 0:
        return
    turn = every.rotation_deg[rows]
    # Angles from the one that most are near to, so that 180 degrees is no edge.
    middle = _usual_angle(turn)
    off = (turn - middle + 180.0) % 360.0 - 180.0
    spread = sigma_mad(off)
    report.telescope = {
        "frames": len(rows),
        "rotation_deg": middle,
        "rotation_scatter_deg": spread,
        "offset_arcsec": float(np.median(every.offset_arcsec[rows])),
    }
    odd = np.abs(off) > max(_ODD_SIGMAS * spread, _ODD_DEG)
    names = every.files(snapshot, chips, rows[odd])
    report.odd += [
        {"file": name, "why": f"its cards give a rotation that is {-one:.2f} degrees from that of its stars"}
        for name, one in zip(names, turn[odd], strict=True)
    ]


def _usual_angle(turn: Floats) -> float:
    """Return the median of angles about the one that has most others near it, -180 to 180 degrees."""
    some = np.sort(turn)[:: max(1, math.ceil(turn.size / _SOME_ANGLES))]
    near = np.abs((some[:, None] - some + 180.0) % 360.0 - 180.0)
    middle = some[int(np.argmin(np.median(near, axis=1)))]
    angle = float(middle) + float(np.median((turn - middle + 180.0) % 360.0 - 180.0))
    return (angle + 180.0) % 360.0 - 180.0

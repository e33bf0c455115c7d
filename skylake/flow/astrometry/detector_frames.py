"""Frames of the detectors of a camera in a lake: their exposures and where they point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.attitudes import attitude_of
from skylake.core.sphere import ARCSEC_PER_RADIAN
from skylake.image.distortion.focal_plane import Orientations, exposures_of
from skylake.image.solving.expected_pointing import frame_matrix
from skylake.image.wcs.lens_text import lens_of_text
from skylake.lake import Part, Snapshot

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

COLUMNS = [
    "file",
    "mjd_mid",
    "status",
    "reason",
    "wcs_source",
    "wcs_lens",
    "wcs_matched",
    "wcs_offset_arcsec",
    "ra_deg",
    "dec_deg",
    "rotation_deg",
    "pixel_scale_arcsec",
    "width_px",
    "height_px",
    "astrom_n",
    "astrom_rms_px",
]
#: Columns by which frames are chosen; the other columns are read for the chosen frames only.
_CHOOSING = [
    "frame_id",
    "night",
    "mjd_mid",
    "status",
    "reason",
    "ra_deg",
    "astrom_n",
    "wcs_matched",
    "telescope_offset_arcsec",
    "telescope_rotation_deg",
]
#: The pointing of frames that were rejected for these reasons is unknown.
_UNPLACED = ("no_wcs", "bad_wcs")
#: So many exposures give the place of a chip as well as any: the catalog and the scatter limit it then.
_MOST_EXPOSURES = 1000
#: No place on a frame is known better, pixels, since the catalog is not.
_LEAST_SIGMA_PX = 1e-3


@dataclass(frozen=True, slots=True)
class Frames:
    """Rows of ``frames`` of the chips of a camera: which chip and which exposure each is of."""

    rows: list[dict[str, Any]]
    chip: npt.NDArray[np.intp]
    exposure: npt.NDArray[np.intp]

    @classmethod
    def read(
        cls, snapshot: Snapshot, chips: Sequence[Profile], nights: set[int], frames: Indices | None = None
    ) -> Frames:
        """Read those of some nights, or some of them by their frame_id."""
        rows, chip = [], []
        chosen = None if frames is None else pc.field("frame_id").isin(pa.array(frames, pa.int64()))
        for number, profile in enumerate(chips):
            good = snapshot.read("frames", COLUMNS, _parts(profile.name, nights), chosen).to_pylist()
            good = [row for row in good if row["mjd_mid"] is not None]
            rows += good
            chip += [number] * len(good)
        return cls(rows, np.array(chip, np.intp), exposures_of([row["mjd_mid"] for row in rows], chip))

    def taken(self, which: Sequence[int]) -> Frames:
        """Return some of the frames; exposures are counted again."""
        some = np.asarray(which, np.intp)
        _, exposure = np.unique(self.exposure[some], return_inverse=True)
        return Frames([self.rows[row] for row in some], self.chip[some], exposure.astype(np.intp))

    def exposures(self) -> list[list[int]]:
        """Return the frames of each exposure."""
        exposures: dict[int, list[int]] = {}
        for row, exposure in enumerate(self.exposure.tolist()):
            exposures.setdefault(exposure, []).append(row)
        return list(exposures.values())

    def orientations(self) -> Orientations:
        """Return the attitude of each frame, which must be placed."""
        matrices = np.array([matrix_of(row) for row in self.rows]).reshape(-1, 3, 3)
        sigma = np.array([_sigma(row) for row in self.rows]).reshape(-1, 3)
        return Orientations(self.exposure, self.chip, matrices, sigma)


@dataclass(frozen=True, slots=True)
class Overview:
    """Columns that decide which frames of the chips of a camera are of use, for all nights; arrays of shape (n,).

    Attributes
    ----------
    frame_id, night, mjd, chip, exposure : ndarray
    n_stars : ndarray of int
        That showed where the frame points; -1 for a frame that is not placed.
    offset_arcsec, rotation_deg : ndarray
        How far it points from where the cards of the telescope put it; NaN without them.
    """

    frame_id: Indices
    night: Indices
    mjd: Floats
    chip: Indices
    exposure: Indices
    n_stars: Indices
    offset_arcsec: Floats
    rotation_deg: Floats

    @classmethod
    def read(cls, snapshot: Snapshot, chips: Sequence[Profile]) -> Overview:
        """Read these columns: numbers only, neither lenses nor file names."""
        tables = [
            snapshot.read("frames", _CHOOSING, _parts(chip.name, None), pc.field("mjd_mid").is_valid())
            for chip in chips
        ]
        chip = np.repeat(np.arange(len(chips)), [table.num_rows for table in tables])
        rows = pa.concat_tables(tables)
        numbers = {
            name: np.asarray(rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)
            for name in (
                "mjd_mid",
                "astrom_n",
                "wcs_matched",
                "telescope_offset_arcsec",
                "telescope_rotation_deg",
            )
        }
        stars = np.nan_to_num(
            np.where(numbers["astrom_n"] > 0, numbers["astrom_n"], numbers["wcs_matched"]), nan=0.0
        )
        wrong = pc.fill_null(pc.is_in(rows["reason"], pa.array(_UNPLACED)), False)
        lost = pc.or_(pc.or_(wrong, pc.equal(rows["status"], "failed")), pc.is_null(rows["ra_deg"]))
        mjd = numbers["mjd_mid"]
        return cls(
            rows["frame_id"].to_numpy(),
            rows["night"].to_numpy(),
            mjd,
            chip,
            exposures_of(mjd.tolist(), chip.tolist()),
            np.where(lost.to_numpy(zero_copy_only=False), -1, stars).astype(np.intp),
            numbers["telescope_offset_arcsec"],
            numbers["telescope_rotation_deg"],
        )

    def subset(self, rows: Indices) -> Indices:
        """Return rows of no more exposures than are needed, in nights spread over all of them."""
        for groups in (self.night, self.exposure):
            exposures = np.unique(self.exposure[rows]).size
            chosen_groups = np.unique(groups[rows])[:: max(1, math.ceil(exposures / _MOST_EXPOSURES))]
            rows = rows[np.isin(groups[rows], chosen_groups)]
        return rows

    def frames(self, snapshot: Snapshot, chips: Sequence[Profile], rows: Indices) -> Frames:
        """Read all of some frames."""
        return Frames.read(snapshot, chips, set(self.night[rows].tolist()), self.frame_id[rows])

    def files(self, snapshot: Snapshot, chips: Sequence[Profile], rows: Indices) -> list[str]:
        """Return the files of some frames."""
        files: dict[int, str] = {}
        nights, chosen = (
            set(self.night[rows].tolist()),
            pc.field("frame_id").isin(pa.array(self.frame_id[rows])),
        )
        for profile in chips if len(rows) else ():
            table = snapshot.read("frames", ["frame_id", "file"], _parts(profile.name, nights), chosen)
            files.update(zip(*(table[name].to_pylist() for name in ("frame_id", "file")), strict=True))
        return [files[frame] for frame in self.frame_id[rows].tolist()]


def _parts(camera: str, nights: set[int] | None) -> Callable[[Part], bool]:
    return lambda part: part.camera == camera and (nights is None or part.night in nights)


def is_located(row: dict[str, Any], least_stars: int = 1) -> bool:
    """Return whether the stars of a frame show where it points."""
    wrong = row["reason"] in _UNPLACED or row["status"] == "failed"
    return not wrong and row["ra_deg"] is not None and n_stars(row) >= least_stars


def n_stars(row: dict[str, Any]) -> int:
    """Return how many stars showed where a frame points."""
    return int(row["astrom_n"] or row["wcs_matched"] or 0)


def matrix_of(row: dict[str, Any]) -> Floats:
    """Return the rotation from ICRS to the image of a placed frame, shape (3, 3)."""
    if row["wcs_lens"] is not None:
        return frame_matrix(lens_of_text(row["wcs_lens"]), shape_of(row))
    return attitude_of(row["ra_deg"], row["dec_deg"], row["rotation_deg"])


def shape_of(row: dict[str, Any]) -> tuple[int, int]:
    """Return height and width of a frame."""
    return int(row["height_px"]), int(row["width_px"])


def _sigma(row: dict[str, Any]) -> Floats:
    """Return the standard errors of turns about the axes of an image, rad: its stars lie all over it."""
    height, width = shape_of(row)
    pixel = row["pixel_scale_arcsec"] / ARCSEC_PER_RADIAN
    if row["astrom_rms_px"] is not None:
        each = row["astrom_rms_px"] / math.sqrt(2.0)
    else:
        # The median distance of a two-dimensional normal distribution.
        each = (row["wcs_offset_arcsec"] or 0.0) / row["pixel_scale_arcsec"] / math.sqrt(2.0 * math.log(2.0))
    stars = max(n_stars(row), 2)
    centre = max(each / math.sqrt(stars), _LEAST_SIGMA_PX) * pixel
    # The mean square distance of stars from the centre of the image, which the centroid of few may miss.
    reach = math.sqrt((height**2 + width**2) / 12.0) * pixel
    return np.array([centre, centre, centre / reach])

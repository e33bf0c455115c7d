"""Star magnitudes as frames are calibrated with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.frame_solution import CameraResponse

Floats = npt.NDArray[np.float64]

#: Columns of ``star_magnitudes`` that are needed.
STAR_COLUMNS = ("ref_id", "mag", "mag_err", "mag_systematic_err", "is_variable")


@dataclass(frozen=True, slots=True)
class StarReference:
    """Star magnitudes that frames of one band are calibrated with, and what their solution says of the camera.

    They may be those of several solutions: a full one, which says what the camera is like, and some that extend it.

    Attributes
    ----------
    version : int
        Of the solution, or of the last one that extends it.
    star : ndarray of int64, shape (n,)
        ``ref_id``, ascending; variable stars are none of them.
    mag, mag_err, mag_systematic_err : ndarray, shape (n,)
    camera : CameraResponse
    catalog_scatter : float
        Scatter of catalog magnitudes beyond their errors.
    frame_degree : int
        Largest degree of offsets that single frames have of their own.
    mjd_last : float
        Last frame of the solution; it holds for frames with the optics and the detector of then.
    scintillation : float
        Rms of the frames of the solution by theory, magnitudes; NaN where it is not known.
    """

    version: int
    star: npt.NDArray[np.int64]
    mag: Floats
    mag_err: Floats
    mag_systematic_err: Floats
    camera: CameraResponse
    catalog_scatter: float
    frame_degree: int
    mjd_last: float = np.inf
    scintillation: float = float("nan")

    @classmethod
    def of(cls, stars: pa.Table, solutions: pa.Table) -> StarReference:
        """Return what a full solution and those that extend it say.

        Parameters
        ----------
        stars : pyarrow.Table
            Rows of ``star_magnitudes`` of all of them: :data:`STAR_COLUMNS`.
        solutions : pyarrow.Table
            Rows of ``global_solutions``.
        """
        stars = stars.filter(pc.invert(stars["is_variable"])).sort_by("ref_id")
        (row,) = solutions.filter(pc.is_null(solutions["base_version"])).to_pylist()
        illumination = row["illumination"] or {"coefficient": [], "coefficient_err": []}
        camera = CameraResponse(
            np.array(illumination["coefficient"], float),
            np.array(illumination["coefficient_err"], float),
            row["colour_term"] or 0.0,
            row["colour_term_err"] or 0.0,
            row["photon_scale"],
            row["floor_mag"],
        )
        names = ("mag", "mag_err", "mag_systematic_err")
        mag, mag_err, shared = (stars[name].to_numpy(zero_copy_only=False) for name in names)
        return cls(
            pc.max(solutions["version"]).as_py(),
            stars["ref_id"].to_numpy(),
            mag,
            mag_err,
            shared,
            camera,
            row["catalog_scatter"],
            row["frame_degree"],
            row["mjd_last"],
            row["scintillation_mag"] or float("nan"),
        )

    def floors(self, scintillation: Floats) -> Floats:
        """Return the noise floor of frames: that of the camera, with as much scintillation in it as it can hold.

        Measured is the floor of all frames together; theory says how it differs from frame to frame.

        Parameters
        ----------
        scintillation : ndarray, shape (n,)
            Of the frames, magnitudes; NaN where it is not known.
        """
        floor, mean = self.camera.floor**2, self.scintillation**2
        if not mean > 0.0:
            return np.full(len(scintillation), self.camera.floor)
        changed = min(floor, mean) * (scintillation**2 / mean - 1.0)
        return np.asarray(np.sqrt(floor + np.nan_to_num(changed)))

    def places(self, star: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return where stars stand among those of the reference; -1 for others."""
        if len(self.star) == 0:
            return np.full(len(star), -1)
        place = np.minimum(np.searchsorted(self.star, star), len(self.star) - 1)
        return np.where(self.star[place] == star, place, -1)

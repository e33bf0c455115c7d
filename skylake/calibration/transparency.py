"""Transparency of frames: their zeropoints beside those of clear nights around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import column_floats

Floats = npt.NDArray[np.float64]

#: Columns that a transparency needs.
ZEROPOINT_COLUMNS = (
    "frame_id",
    "camera",
    "night",
    "band",
    "catalog",
    "version",
    "zp",
    "zp_err",
    "zp_fit_err",
    "extinction",
)
FRAME_COLUMNS = ("frame_id", "airmass")
#: A frame is cloudy if more than this is lost, by so many times its error.
_LOST, _SURE = 0.05, 2.0
#: Relative change of a flux per magnitude, of small ones.
RELATIVE_PER_MAG = float(np.log(10.0) / 2.5)


@dataclass(frozen=True, slots=True)
class Transparency:
    """Transparencies of frames; arrays of shape (n,), NaN where not known.

    Attributes
    ----------
    value, error : ndarray
        10^(-0.4 (zp_clear - zp)) at the airmass of the frame, dimensionless, and its standard error, which frames of a
        night share to a part.
    is_cloudy : ndarray of bool
        Whether more than 5 % are lost by twice the error.
    """

    value: Floats
    error: Floats
    is_cloudy: npt.NDArray[np.bool_]


def frame_transparency(zeropoints: pa.Table, frames: pa.Table, nights: pa.Table) -> Transparency:
    """Return the transparency of frames; the view ``transparency`` of ``sql/duckdb`` has the same.

    Parameters
    ----------
    zeropoints : pyarrow.Table
        :data:`ZEROPOINT_COLUMNS` of n frames.
    frames : pyarrow.Table
        :data:`FRAME_COLUMNS` of at least these frames.
    nights : pyarrow.Table
        Rows of ``photometric_nights``.
    """
    key = ("camera", "night", "band", "catalog", "version")
    rows = zip(*(nights[name].to_pylist() for name in key), strict=True)
    known = {row: number for number, row in enumerate(rows)}
    wanted = zip(*(zeropoints[name].to_pylist() for name in key), strict=True)
    place = np.array([known.get(row, -1) for row in wanted], np.intp)
    clear, clear_err, extinction, extinction_err = (
        np.where(place >= 0, column_floats(nights, name)[np.maximum(place, 0)], np.nan)
        for name in ("zp_clear", "zp_clear_err", "extinction", "extinction_err")
    )
    found = pc.index_in(zeropoints["frame_id"], frames["frame_id"])
    airmass = np.array(frames["airmass"].take(found).to_numpy(zero_copy_only=False), float)
    zp, zp_err, fit_err, of_stars = (
        column_floats(zeropoints, name)[: len(place)] for name in ("zp", "zp_err", "zp_fit_err", "extinction")
    )
    beyond = np.where(np.isfinite(of_stars), 0.0, airmass - 1.0)
    lost = clear - extinction * beyond - zp
    error = np.sqrt(
        clear_err**2 + (extinction_err * beyond) ** 2 + np.where(np.isfinite(fit_err), fit_err, zp_err) ** 2
    )
    value = 10.0 ** (-0.4 * lost)
    relative = error * RELATIVE_PER_MAG
    return Transparency(value, value * relative, value * (1.0 + _SURE * relative) < 1.0 - _LOST)

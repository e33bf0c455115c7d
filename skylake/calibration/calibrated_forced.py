"""Calibrated magnitudes of forced measurements, with the zeropoints that were found from detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.calibrated_matches import (
    FRAME_COLUMNS,
    Floats,
    Stars,
    column_floats,
    find_calibration,
    magnitudes,
    photon_errors,
    photon_scale,
    position_offsets,
    shares_of,
    total_factor,
    zeropoints_at,
)
from skylake.core.camera import FLUXES, N_PLAIN_CIRCLES

#: Which flux of the aperture of calibrations: without the light of neighbours, with it, or that of the fit.
ForcedKind = Literal["hybrid", "aper", "psf"]
#: Columns of ``frames`` that forced photometry needs.
FORCED_FRAME_COLUMNS = (
    *FRAME_COLUMNS,
    "exposure_s",
    *(f"{name}_radius_px" for name in FLUXES[:N_PLAIN_CIRCLES]),
)
#: A flux of so many times its error is a detection.
DETECTED_SNR = 5.0


@dataclass(frozen=True, slots=True)
class ForcedPhotometry:
    """Photometry of forced measurements; arrays of shape (n,), NaN where a frame has no calibration.

    Attributes
    ----------
    flux, flux_err : ndarray
        Total flux, ADU/s; it may be negative.
    zp, zp_err : ndarray
        Magnitude of a star of this colour with a total flux of 1 ADU/s.
    zp_random_err, zp_systematic_err : ndarray
        The parts of ``zp_err``: that which differs from frame to frame, and that which the frames of a star share.
    mag, mag_err : ndarray
        NaN for a flux that is not positive.
    mag_limit : ndarray
        Magnitude of a flux of five times its error.
    sky_err : ndarray
        A number that is proportional to the noise of the sky in total flux, ADU/s: it knows nothing of the star.
    version : ndarray of int64
        Of the calibration.
    photon_scale : ndarray
        Factor on the errors of fluxes that repeated measurements show; ``flux_err`` has it.
    """

    flux: Floats
    flux_err: Floats
    zp: Floats
    zp_err: Floats
    mag: Floats
    mag_err: Floats
    mag_limit: Floats
    sky_err: Floats
    version: npt.NDArray[np.int64]
    zp_random_err: Floats
    zp_systematic_err: Floats
    photon_scale: Floats

    @property
    def mag_random_err(self) -> Floats:
        """The part of ``mag_err`` that differs from frame to frame, of the flux and of the zeropoint."""
        return magnitudes(self.flux, self.flux_err, self.zp, self.zp_random_err)[1]


def calibrate_forced(
    forced: pa.Table,
    colour: Floats,
    frames: pa.Table,
    zeropoints: pa.Table,
    kind: ForcedKind = "hybrid",
    colour_err: Floats | None = None,
    circle: str | None = None,
    ref_id: npt.NDArray[np.int64] | None = None,
) -> ForcedPhotometry:
    """Return the photometry of forced measurements.

    Without `circle` the aperture is that of the zeropoint; where the Kron flux was calibrated, it is the largest one.
    The flux of the fit is tied to the growth curve of its frame, so the same zeropoint holds for it.

    Parameters
    ----------
    forced : pyarrow.Table
        Rows of ``forced_sources``.
    colour : ndarray, shape (n,)
        Colour of each star that the colour term refers to; NaN takes the star for one of the pivot colour, and its
        error says how far off that may be.
    frames : pyarrow.Table
        :data:`FORCED_FRAME_COLUMNS` of at least their frames.
    zeropoints : pyarrow.Table
        ``ZEROPOINT_COLUMNS`` of :mod:`skylake.calibration.calibrated_matches`, one row per frame at most.
    kind : {'hybrid', 'aper', 'psf'}
    colour_err : ndarray, shape (n,), or None
        Error of each colour; NaN, or None for all, where it is not known.
    circle : str or None
        Another aperture, as ``aper1``.
    ref_id : ndarray of int64, shape (n,), or None
        Identifiers in the catalog of the zeropoints, -1 for none: of stars that took part in the calibration a part of
        the noise cancels.
    """
    found = find_calibration(forced, frames, zeropoints)
    wanted = _circle_of(found.flux, frames, found.frame)
    if circle is not None:
        wanted = np.full(len(wanted), circle, object)
    flux, flux_err, sky_err = (np.full(forced.num_rows, np.nan) for _ in range(3))
    exposure = column_floats(frames, "exposure_s")[found.frame]
    sky = column_floats(forced, "sky_rms_adu") / np.where(exposure > 0, exposure, 1.0)
    for name in sorted(set(wanted[found.known].tolist())):
        rows, number = found.known & (wanted == name), name.removeprefix("aper")
        factor = total_factor(forced, frames, found, name)
        column = "flux_psf" if kind == "psf" else f"flux_{kind}{number}"
        to_total = np.ones(len(factor)) if kind == "psf" else factor
        flux[rows] = (column_floats(forced, column) * to_total)[rows]
        flux_err[rows] = (column_floats(forced, f"{column}_err") * to_total)[rows]
        sky_err[rows] = (sky * factor)[rows]
    scale = photon_scale(zeropoints, found)
    flux_err *= scale
    share = None if ref_id is None else shares_of(zeropoints, found.zero, ref_id)
    altitude = column_floats(forced, "altitude_deg")
    stars = Stars(colour, altitude, colour_err, share, photon_errors(flux, flux_err))
    offset = position_offsets(zeropoints["position_terms"], found.zero, forced, frames, found.frame)
    zero = zeropoints_at(zeropoints, found, stars, offset, found.known & (wanted != found.flux))
    mag, mag_err = magnitudes(flux, flux_err, zero.zp, zero.error)
    limit, _ = magnitudes(DETECTED_SNR * flux_err, flux_err, zero.zp, zero.error)
    version = zeropoints["version"].to_numpy() if zeropoints.num_rows else np.zeros(1, np.int64)
    return ForcedPhotometry(
        flux,
        flux_err,
        zero.zp,
        zero.error,
        mag,
        mag_err,
        limit,
        sky_err,
        version[found.zero],
        zero.random,
        zero.systematic,
        scale,
    )


def _circle_of(
    flux: npt.NDArray[np.object_], frames: pa.Table, frame: npt.NDArray[np.intp]
) -> npt.NDArray[np.object_]:
    """Return the circle that stands for the calibrated flux of each row: itself, or the largest for the Kron flux."""
    largest, number = np.full(max(frames.num_rows, 1), "", object), 1
    while True:
        known = np.isfinite(column_floats(frames, f"aper{number}_radius_px"))
        if not known.any():
            break
        largest[known] = f"aper{number}"
        number += 1
    return np.where(flux == "kron", largest[frame], flux)

"""Which matches tell how a frame is calibrated: the choice that zeropoints and residual maps share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.camera import Calibration, FilterBand
from skylake.core.ephemeris import airmass
from skylake.core.flags import SPOILED
from skylake.schema.apertures import aperture_floats

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_MAG_PER_RELATIVE = 2.5 / np.log(10.0)


@dataclass(frozen=True, slots=True)
class Band:
    """How the frames of one band of a night are calibrated."""

    band: FilterBand
    flux: str
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Matches:
    """Matches of one band of a night; arrays of shape (n,).

    ``difference`` is the catalog magnitude minus the instrumental one of total flux, ``photon_error`` and
    ``catalog_error`` are the errors of the two, ``colour`` is relative to the pivot, ``airmass`` to the zenith (0
    where frames see degrees, as that of the frame is in its zeropoint), and ``usable`` marks those that may enter
    the fit.
    """

    frame: npt.NDArray[np.int64]
    star: npt.NDArray[np.int64]
    difference: Floats
    photon_error: Floats
    catalog_error: Floats
    colour: Floats
    airmass: Floats
    usable: Mask

    @property
    def error(self) -> Floats:
        """Error of the difference."""
        return np.asarray(np.hypot(self.photon_error, self.catalog_error))

    def rows_of_frames(self) -> dict[int, npt.NDArray[np.intp]]:
        """Return the rows of each frame."""
        order = np.argsort(self.frame, kind="stable")
        frames, starts = np.unique(self.frame[order], return_index=True)
        return dict(zip(frames.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}


def gather(
    matches: pa.Table, correction: dict[int, tuple[float | None, float | None]], band: Band
) -> Matches:
    """Return the matches of some frames as arrays.

    Matches of no use to the fit stay in, marked so: spoiled or crowded detections, those without
    magnitude or colour, beyond the limits of the profile, or too faint. Who is too faint is decided by
    catalog magnitude: a cut in measured flux would prefer stars that noise has made brighter.
    """
    frame = matches["frame_id"].to_numpy()
    known = np.array([key for key, (factor, _) in correction.items() if factor is not None], np.int64)
    matches = matches.filter(pa.array(np.isin(frame, known)))
    frame = matches["frame_id"].to_numpy()
    factor = np.array([correction[key][0] for key in frame.tolist()], float)
    relative = aperture_floats(matches, f"apcor_rel_{band.flux}")
    factor *= np.where(np.isnan(relative), 1.0, relative)
    # What is known of the neighbours' light is taken off; where it is much, the star is not used.
    crowding = np.nan_to_num(_column(matches, "ref_crowding"))
    flux = aperture_floats(matches, f"flux_{band.flux}") * factor / (1.0 + crowding)
    flux_err = aperture_floats(matches, f"flux_{band.flux}_err") * factor
    ref_mag, ref_err = _column(matches, "ref_mag"), _column(matches, "ref_mag_err")
    colour = _column(matches, "ref_colour") if band.band.colour is not None else np.zeros(len(frame))
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = ref_mag + 2.5 * np.log10(np.where(flux > 0, flux, np.nan))
        inst_err = _MAG_PER_RELATIVE * flux_err / np.where(flux > 0, flux, np.nan)
    limits = band.calibration
    usable = np.isfinite(difference) & np.isfinite(inst_err) & np.isfinite(ref_err) & np.isfinite(colour)
    usable &= (matches["flags"].to_numpy() & int(SPOILED)) == 0
    usable &= np.maximum(np.nan_to_num(_column(matches, "crowding")), crowding) <= limits.max_crowding
    usable &= ref_mag <= _faint_limits(frame, ref_mag, inst_err, limits.max_mag_err)
    usable &= (ref_mag >= limits.mag_range[0]) & (ref_mag <= limits.mag_range[1])
    if band.band.colour is not None:
        usable &= (colour >= limits.colour_range[0]) & (colour <= limits.colour_range[1])
    pivot = band.band.pivot_colour if band.band.colour is not None else 0.0
    star = matches["ref_id"].to_numpy()
    beyond = beyond_zenith(_column(matches, "altitude_deg"))
    usable &= np.isfinite(beyond)
    return Matches(frame, star, difference, inst_err, ref_err, colour - pivot, beyond, usable)


def beyond_zenith(altitude_deg: Floats) -> Floats:
    """Return airmasses less that of the zenith; 0 where no altitude is known, NaN below the horizon.

    Parameters
    ----------
    altitude_deg : ndarray, shape (n,)
        Without refraction; NaN for none.
    """
    return np.where(np.isnan(altitude_deg), 0.0, airmass(altitude_deg) - 1.0)


def _faint_limits(frame: npt.NDArray[np.int64], ref_mag: Floats, inst_err: Floats, largest: float) -> Floats:
    """Return, for each match, the catalog magnitude at which errors on its frame reach the largest allowed.

    Against the sky errors grow as the inverse of the flux, so every star with an error within a factor
    of two of the limit tells where it is; infinite where all stars are better than that, minus infinite
    where all are worse.
    """
    limits = np.full(len(frame), np.inf)
    order = np.argsort(frame, kind="stable")
    starts = np.flatnonzero(np.diff(frame[order], prepend=-1))
    for mine in np.split(order, starts[1:]):
        known = mine[np.isfinite(ref_mag[mine]) & np.isfinite(inst_err[mine])]
        near = known[(inst_err[known] >= 0.5 * largest) & (inst_err[known] <= 2.0 * largest)]
        if near.size:
            limits[mine] = np.median(ref_mag[near] - 2.5 * np.log10(inst_err[near] / largest))
        elif known.size and inst_err[known].min() > largest:
            limits[mine] = -np.inf
    return limits


def _column(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)

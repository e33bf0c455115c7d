"""Observations of stars on frames of one band, from the matches of a night: what star magnitudes are solved from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.match_selection import Band, gather
from skylake.core.position_terms import field_coordinates
from skylake.schema.aperture_columns import MORE, aperture_floats

Numbers = npt.NDArray[Any]

#: Columns of ``frames`` that observations are made from.
FRAME_COLUMNS = (
    "frame_id",
    "camera",
    "night",
    "status",
    "flags",
    "filter",
    "band",
    "mjd_mid",
    "exposure_s",
    "airmass",
    "width_px",
    "height_px",
    "apcor_aper1",
    "apcor_aper2",
    "apcor_aper3",
    "apcor_kron",
    MORE,
)


@dataclass(frozen=True, slots=True)
class StarObservations:
    """Usable matches of frames of one band; arrays of shape (n,).

    Attributes
    ----------
    frame, star : ndarray of int64
        ``frame_id`` and ``ref_id``.
    magnitude, error : ndarray
        -2.5 log10 of total flux in ADU/s, without the light of catalog neighbours, and its photon error.
    u, v : ndarray
        Place on the frame, as of :func:`skylake.core.position_terms.field_coordinates`; 0 for frames of unknown size.
    airmass : ndarray
        Beyond that of the zenith; 0 for frames that see degrees.
    colour, colour_err : ndarray
        Relative to the pivot; an error that is not known is 0.
    ref_mag, ref_mag_err : ndarray
        Of the catalog.
    ra_deg, dec_deg, mjd : ndarray
        Place in the catalog, and mid-exposure.
    exposure : ndarray
        Seconds; 1 where it is not known.
    """

    frame: npt.NDArray[np.int64]
    star: npt.NDArray[np.int64]
    magnitude: Numbers
    error: Numbers
    u: Numbers
    v: Numbers
    airmass: Numbers
    colour: Numbers
    colour_err: Numbers
    ref_mag: Numbers
    ref_mag_err: Numbers
    ra_deg: Numbers
    dec_deg: Numbers
    mjd: Numbers
    exposure: Numbers

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: npt.NDArray[Any]) -> StarObservations:
        """Return some of the observations, chosen by index or mask."""
        return StarObservations(*(getattr(self, one.name)[rows] for one in fields(self)))

    @classmethod
    def together(cls, pieces: list[StarObservations]) -> StarObservations:
        """Return the observations of several nights as one."""
        names = [one.name for one in fields(cls)]
        if not pieces:
            return cls(*(np.zeros(0, np.int64 if name in ("frame", "star") else float) for name in names))
        return cls(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in names))


#: How far the colour term of a night may be from that of the season: air, focus and dew change the colours of cameras
#: without a filter by some hundredths of a magnitude.
_NIGHTLY_COLOUR_ERROR = 0.03
#: Extinction before any night tells it, magnitudes per airmass, and its error.
_EXTINCTION = (0.25, 0.25)


@dataclass(frozen=True, slots=True)
class NightlyTerm:
    """What a solution fits to each night in proportion to a property of stars.

    Attributes
    ----------
    kind : {'extinction', 'colour', None}
        The extinction of cameras that see the whole sky; of others, what the colour term of a night has beyond that of
        all nights. None without either.
    values : ndarray, shape (n,)
        The property, by which stars grow fainter: airmass, or minus the colour.
    prior : (float, float)
        Mean and error of the factor.
    """

    kind: Literal["extinction", "colour"] | None
    values: Numbers
    prior: tuple[float, float]


def nightly_term(seen: StarObservations, band: Band) -> NightlyTerm:
    """Return what is to be fitted to each night of some observations."""
    if np.any(seen.airmass):
        return NightlyTerm("extinction", seen.airmass, _EXTINCTION)
    if band.band.colour is not None:
        return NightlyTerm("colour", -np.nan_to_num(seen.colour), (0.0, _NIGHTLY_COLOUR_ERROR))
    return NightlyTerm(None, np.zeros(len(seen), np.float32), (0.0, 0.0))


def star_observations(frames: pa.Table, matches: pa.Table, band: Band) -> StarObservations:
    """Return the usable matches of frames; see :func:`skylake.calibration.match_selection.gather`.

    Parameters
    ----------
    frames : pyarrow.Table
        :data:`FRAME_COLUMNS` of frames of this band.
    matches : pyarrow.Table
        Rows of ``matches`` with one catalog; those of other frames are passed over.
    band : Band

    Returns
    -------
    StarObservations
        Numbers that need few digits are float32.
    """
    factors = aperture_floats(frames, f"apcor_{band.flux}")
    frame_id = frames["frame_id"].to_numpy()
    known = np.isfinite(factors) & (factors > 0.0)
    correction: dict[int, tuple[float | None, float | None]] = {
        key: (factor, None)
        for key, factor in zip(frame_id[known].tolist(), factors[known].tolist(), strict=True)
    }
    matches = matches.filter(pa.array(np.isin(matches["frame_id"].to_numpy(), frame_id[known])))
    data = gather(matches, correction, band)
    rows = np.flatnonzero(data.usable)
    order = np.argsort(frame_id)
    place = order[np.searchsorted(frame_id, data.frame[rows], sorter=order)] if len(rows) else rows
    width, height = (aperture_floats(frames, name)[place] for name in ("width_px", "height_px"))
    x, y = (matches[name].to_numpy()[rows] for name in ("x_px", "y_px"))
    ref_mag = aperture_floats(matches, "ref_mag")[rows]
    u, v = field_coordinates(x, y, width, height)
    short = (
        ref_mag - data.difference[rows],
        data.photon_error[rows],
        np.nan_to_num(u),
        np.nan_to_num(v),
        data.airmass[rows],
        data.colour[rows],
        data.colour_error[rows],
        ref_mag,
        data.catalog_error[rows],
    )
    exposure = aperture_floats(frames, "exposure_s")[place]
    exposure = np.where(exposure > 0.0, exposure, 1.0).astype(np.float32)
    ra, dec, mjd = (matches[name].to_numpy()[rows] for name in ("ra_deg", "dec_deg", "mjd_mid"))
    numbers = (*(np.asarray(one, np.float32) for one in short), ra, dec, mjd, exposure)
    return StarObservations(data.frame[rows], data.star[rows], *numbers)

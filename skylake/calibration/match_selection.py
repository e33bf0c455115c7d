"""Which matches tell how a frame is calibrated: the choice that zeropoints and residual maps share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.camera import FLUXES, Calibration, FilterBand
from skylake.core.ephemeris import airmass
from skylake.core.flags import NO_STANDARD
from skylake.core.group_means import weighted_median
from skylake.core.jit import kernel
from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.scintillation import Scintillation
from skylake.schema.aperture_columns import MORE, aperture_floats

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
#: A match that is off the others of its frame by so many standard deviations, and by so much, does not say how faint
#: the frame sees: it is false, variable or behind a cloud. Colours and airmasses make less difference, magnitudes.
_OFF_SIGMA, _OFF_MAG = 5.0, 1.0
#: Where the sky took off more of a star than that, too much depends on how much exactly.
_MOST_SKY_LIGHT = 0.3
#: Less than that of a star is not left by any sky.
_LEAST_LEFT = 0.05
#: Columns of ``matches`` that say how a star was measured, and what the catalog says of it.
_COLUMNS = (
    "frame_id",
    "ref_id",
    *(
        f"{kind}_{name}{end}"
        for name in FLUXES
        for kind, end in (("flux", ""), ("flux", "_err"), ("apcor_rel", ""))
    ),
    MORE,
    "ref_mag",
    "ref_mag_err",
    "ref_colour",
    "ref_colour_err",
    "ref_crowding",
    "ref_crowding_err",
    "ref_sky_light",
    "crowding",
    "flags",
    "altitude_deg",
    "is_variable",
    "x_px",
    "y_px",
)


class Cut(IntEnum):
    """Why a match takes no part in the fit: the first that applies, in this order."""

    NONE = 0
    MAGNITUDE = 1
    COLOUR = 2
    FLAGS = 3
    FLUX = 4
    NEIGHBOURS = 5
    ERROR = 6
    MAG_RANGE = 7
    COLOUR_RANGE = 8
    HORIZON = 9
    VARIABLE = 10
    BRIGHT = 11


@dataclass(frozen=True, slots=True)
class Band:
    """How the frames of one band of a night are calibrated.

    ``transformation`` names what the magnitudes or colours of the catalog were transformed with, if they were, and
    ``scintillation`` is that of the telescope, where it is known.
    """

    band: FilterBand
    flux: str
    calibration: Calibration
    transformation: str | None = None
    scintillation: Scintillation | None = None


@dataclass(frozen=True, slots=True)
class Matches:
    """Matches of one band of a night; arrays of shape (n,).

    ``magnitude`` is that of the catalog, and ``difference`` it minus the instrumental one of total flux;
    ``photon_error`` and ``catalog_error`` are the errors of the two, that of the light of neighbours with the latter.
    ``colour`` is relative to the pivot, and ``colour_error`` its error, 0 where that is not known;
    ``colour_covariance`` is the covariance of the errors of magnitude and colour. ``airmass`` is relative to the
    zenith (0 where frames see degrees, as that of the frame is in its zeropoint), and ``cut`` is one of :class:`Cut`.
    ``sky_light`` is by how much the difference grows, magnitudes, if the sky took off twice as much light of stars as
    was expected, ``neighbours`` by how much it falls if they brought twice as much. ``x_px`` and ``y_px`` are NaN
    where places are not known.
    """

    frame: npt.NDArray[np.int64]
    star: npt.NDArray[np.int64]
    magnitude: Floats
    difference: Floats
    photon_error: Floats
    catalog_error: Floats
    colour: Floats
    colour_error: Floats
    colour_covariance: Floats
    airmass: Floats
    sky_light: Floats
    neighbours: Floats
    cut: npt.NDArray[np.int8]
    x_px: Floats
    y_px: Floats

    @property
    def usable(self) -> Mask:
        """Which matches may enter the fit."""
        return np.asarray(self.cut == Cut.NONE)

    def catalog_variance(self, rows: npt.NDArray[np.intp], colour_term: Floats | float) -> Floats:
        """Return the variance of ``difference - colour_term * colour`` that the catalog brings, for some rows."""
        shared = colour_term * self.colour_covariance[rows]
        of_colour = (colour_term * self.colour_error[rows]) ** 2
        return np.asarray(np.maximum(self.catalog_error[rows] ** 2 + of_colour - 2.0 * shared, 0.0))

    def by_frame(self, frame_id: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return the usable rows frame by frame, and where those of each frame begin, and the last ends.

        Parameters
        ----------
        frame_id : ndarray of int64, shape (n_frames,)
            All frames that occur, each once.

        Returns
        -------
        rows : ndarray of int, shape (n_usable,)
        starts : ndarray of int, shape (n_frames + 1,)
        """
        rows = np.flatnonzero(self.usable)
        number = places_of(frame_id, self.frame[rows])
        order = np.argsort(number, kind="stable")
        return rows[order], np.searchsorted(number[order], np.arange(len(frame_id) + 1))


def places_of(keys: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return where each wanted key stands among keys, all of which are there, in any order, and once."""
    order = np.argsort(keys, kind="stable")
    if np.all(wanted[1:] >= wanted[:-1]):
        # Matches come frame by frame: where each frame begins is found sooner than the frame of each match.
        ends = np.searchsorted(wanted, keys[order], side="right")
        return np.repeat(order, np.diff(ends, prepend=0))
    return order[np.searchsorted(keys, wanted, sorter=order)]


def gather(
    matches: pa.Table, correction: dict[int, tuple[float | None, float | None]], band: Band
) -> Matches:
    """Return the matches of some frames as arrays.

    Matches of no use to the fit stay in, marked so: spoiled or crowded detections, those without
    magnitude or colour, beyond the limits of the profile, or too faint. Who is too faint is decided by
    catalog magnitude: a cut in measured flux would prefer stars that noise has made brighter.
    """
    corrected = {key: factor for key, (factor, _) in correction.items() if factor is not None}
    keys, factors = np.array(list(corrected), np.int64), np.array(list(corrected.values()), float)
    matches = matches.select([name for name in _COLUMNS if name in matches.column_names])
    known = np.isin(matches["frame_id"].to_numpy(), keys)
    matches = matches if known.all() else matches.filter(pa.array(known))
    frame = matches["frame_id"].to_numpy()
    factor = factors[places_of(keys, frame)]
    relative = aperture_floats(matches, f"apcor_rel_{band.flux}")
    factor *= np.where(np.isnan(relative), 1.0, relative)
    light = catalog_light(matches)
    # Of a star that is as bright as the catalog says, so much is measured.
    left = np.maximum(1.0 + light.crowding - light.sky, _LEAST_LEFT)
    flux = aperture_floats(matches, f"flux_{band.flux}") * factor / left
    flux_err = aperture_floats(matches, f"flux_{band.flux}_err") * factor / left
    ref_mag, ref_err = _column(matches, "ref_mag"), _column(matches, "ref_mag_err")
    colour, colour_err, covariance = _colours(matches, band.band, ref_err)
    ref_err = np.hypot(ref_err, _MAG_PER_RELATIVE * light.error / left)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = ref_mag + 2.5 * np.log10(np.where(flux > 0, flux, np.nan))
        inst_err = _MAG_PER_RELATIVE * flux_err / np.where(flux > 0, flux, np.nan)
    limits = band.calibration
    coloured = band.band.colour is not None
    beyond = beyond_zenith(_column(matches, "altitude_deg"))
    faint = _faint_limits(frame, ref_mag, difference, inst_err, limits.max_mag_err)
    refused = {
        Cut.MAGNITUDE: ~(np.isfinite(ref_mag) & np.isfinite(ref_err)),
        Cut.COLOUR: ~np.isfinite(colour),
        Cut.FLAGS: (matches["flags"].to_numpy() & int(NO_STANDARD)) != 0,
        Cut.FLUX: ~(np.isfinite(difference) & np.isfinite(inst_err)),
        Cut.NEIGHBOURS: ~(_strange_light(matches, light) <= limits.max_crowding)
        | (light.sky > _MOST_SKY_LIGHT),
        Cut.ERROR: ref_mag > faint,
        Cut.MAG_RANGE: (ref_mag < limits.mag_range[0]) | (ref_mag > limits.mag_range[1]),
        Cut.COLOUR_RANGE: coloured & ((colour < limits.colour_range[0]) | (colour > limits.colour_range[1])),
        Cut.HORIZON: ~np.isfinite(beyond),
        Cut.VARIABLE: _column(matches, "is_variable") == 1.0,
    }
    cut = np.select(list(refused.values()), [np.int8(one) for one in refused], np.int8(Cut.NONE))
    pivot = band.band.pivot_colour if coloured else 0.0
    star = matches["ref_id"].to_numpy()
    sky_light, neighbours = (_MAG_PER_RELATIVE * share / left for share in (light.sky, light.crowding))
    return Matches(
        frame,
        star,
        ref_mag,
        difference,
        inst_err,
        ref_err,
        colour - pivot,
        colour_err,
        covariance,
        beyond,
        sky_light,
        neighbours,
        cut.astype(np.int8),
        *_places(matches),
    )


def _places(matches: pa.Table) -> tuple[Floats, Floats]:
    """Return where matches lie on their frames, NaN where the table does not say."""
    if not {"x_px", "y_px"} <= set(matches.column_names):
        nowhere = np.full(matches.num_rows, np.nan)
        return nowhere, nowhere
    return _column(matches, "x_px"), _column(matches, "y_px")


def _colours(matches: pa.Table, band: FilterBand, ref_err: Floats) -> tuple[Floats, Floats, Floats]:
    """Return colours, their errors (0 if not known), and the covariance of these with those of the magnitudes.

    A colour with the band of the magnitude in it has the error of that magnitude too, but for one that is known better
    than the magnitude: it was measured as a colour.
    """
    n = matches.num_rows
    if band.colour is None:
        return np.zeros(n), np.zeros(n), np.zeros(n)
    error = np.nan_to_num(_column(matches, "ref_colour_err"))
    blue, _, red = band.colour.partition("-")
    sign = float(band.band == blue) - float(band.band == red)
    covariance = np.where(error >= ref_err, sign * ref_err**2, 0.0)
    return _column(matches, "ref_colour"), error, covariance


def _strange_light(matches: pa.Table, light: CatalogLight) -> Floats:
    """Return the light of others in each aperture: by the catalog, or seen and not in the catalog, whatever is more.

    What the sky took off does not count: it is that of stars about which nothing is special.
    """
    seen = np.nan_to_num(_column(matches, "crowding"))
    return np.maximum(light.crowding - light.sky, seen - light.crowding)


@dataclass(frozen=True, slots=True)
class CatalogLight:
    """Light of other catalog stars in the aperture of each match, over that of its star; 0 where it is not known.

    ``crowding`` is what they bring, with its ``error``, ``sky`` what the sky that was subtracted took off.
    """

    crowding: Floats
    error: Floats
    sky: Floats


def catalog_light(matches: pa.Table) -> CatalogLight:
    """Return the light of neighbours of matches; those made before the sky was known have crowding alone."""
    names = ("ref_crowding", "ref_crowding_err", "ref_sky_light")
    return CatalogLight(*(np.nan_to_num(_column(matches, name)) for name in names))


def beyond_zenith(altitude_deg: Floats) -> Floats:
    """Return airmasses less that of the zenith; 0 where no altitude is known, NaN below the horizon.

    Parameters
    ----------
    altitude_deg : ndarray, shape (n,)
        Without refraction; NaN for none.
    """
    if np.isnan(altitude_deg).all():
        return np.zeros(len(altitude_deg))
    return np.where(np.isnan(altitude_deg), 0.0, airmass(altitude_deg) - 1.0)


def _faint_limits(
    frame: npt.NDArray[np.int64], ref_mag: Floats, difference: Floats, inst_err: Floats, largest: float
) -> Floats:
    """Return, for each match, the catalog magnitude at which errors on its frame reach the largest allowed.

    Errors are those of a star of the catalog's magnitude, with the zeropoint that the frame's matches have in common:
    a false match has the noise of the frame as well, but a flux of its own. Against the sky errors grow as the inverse
    of the flux, so every star with an error within a factor of two of the limit tells where it is; infinite where all
    stars are better than that, minus infinite where all are worse.
    """
    limits = np.full(len(frame), np.inf)
    order = np.argsort(frame, kind="stable")
    starts = np.append(np.flatnonzero(np.diff(frame[order], prepend=-1)), len(frame))
    _fill_limits(ref_mag, difference, inst_err, order, starts, largest, limits)
    return limits


@kernel(error_model="numpy")
def _fill_limits(
    ref_mag: Floats,
    difference: Floats,
    inst_err: Floats,
    order: npt.NDArray[np.intp],
    starts: npt.NDArray[np.intp],
    largest: float,
    limits: Floats,
) -> None:
    for number in range(len(starts) - 1):
        mine = order[starts[number] : starts[number + 1]]
        known = mine[np.isfinite(difference[mine]) & np.isfinite(inst_err[mine])]
        if len(known) > 0:
            limit = _faint_limit(ref_mag[known], difference[known], inst_err[known], largest)
            for row in mine:
                limits[row] = limit


@kernel(error_model="numpy")
def _faint_limit(ref_mag: Floats, difference: Floats, inst_err: Floats, largest: float) -> float:
    # Faint stars are found where noise makes them brighter, so the better ones say what is common to all.
    weight = np.minimum(1.0, largest / np.maximum(inst_err, 1e-9)) ** 2
    off = difference - weighted_median(difference, weight)
    spread = MAD_TO_SIGMA * weighted_median(np.abs(off), weight)
    true = np.abs(off) <= max(_OFF_MAG, _OFF_SIGMA * spread)
    ref_mag, error = ref_mag[true], inst_err[true] * 10.0 ** (0.4 * off[true])
    near = (error >= 0.5 * largest) & (error <= 2.0 * largest)
    if not near.any():
        # Without any between the bright and the faint, the faint tell: their errors are those of the sky.
        near = error > largest
    if error.min() > 2.0 * largest:
        return -np.inf
    if not near.any():
        return np.inf
    return float(np.median(ref_mag[near] - 2.5 * np.log10(error[near] / largest)))


def _column(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)

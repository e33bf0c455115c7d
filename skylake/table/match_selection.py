"""Which matches tell how a frame is calibrated: the choice that zeropoints and residual maps share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.camera import Calibration, FilterBand
from skylake.core.ephemeris import airmass
from skylake.core.flags import SPOILED
from skylake.core.robust import MAD_TO_SIGMA
from skylake.schema.aperture_columns import aperture_floats

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


@dataclass(frozen=True, slots=True)
class Band:
    """How the frames of one band of a night are calibrated.

    ``transformation`` names what the magnitudes or colours of the catalog were transformed with, if they were.
    """

    band: FilterBand
    flux: str
    calibration: Calibration
    transformation: str | None = None


@dataclass(frozen=True, slots=True)
class Matches:
    """Matches of one band of a night; arrays of shape (n,).

    ``difference`` is the catalog magnitude minus the instrumental one of total flux, ``photon_error`` and
    ``catalog_error`` are the errors of the two, that of the light of neighbours with the latter, ``colour`` is
    relative to the pivot, ``airmass`` to the zenith (0 where frames see degrees, as that of the frame is in its
    zeropoint), and ``cut`` is one of :class:`Cut`. ``sky_light`` is by how much the difference grows, magnitudes, if
    the sky took off twice as much light of stars as was expected, ``neighbours`` by how much it falls if they brought
    twice as much.
    """

    frame: npt.NDArray[np.int64]
    star: npt.NDArray[np.int64]
    difference: Floats
    photon_error: Floats
    catalog_error: Floats
    colour: Floats
    airmass: Floats
    sky_light: Floats
    neighbours: Floats
    cut: npt.NDArray[np.int8]

    @property
    def usable(self) -> Mask:
        """Which matches may enter the fit."""
        return np.asarray(self.cut == Cut.NONE)

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
    light = catalog_light(matches)
    # Of a star that is as bright as the catalog says, so much is measured.
    left = np.maximum(1.0 + light.crowding - light.sky, _LEAST_LEFT)
    flux = aperture_floats(matches, f"flux_{band.flux}") * factor / left
    flux_err = aperture_floats(matches, f"flux_{band.flux}_err") * factor / left
    ref_mag, ref_err = _column(matches, "ref_mag"), _column(matches, "ref_mag_err")
    ref_err = np.hypot(ref_err, _MAG_PER_RELATIVE * light.error / left)
    colour = _column(matches, "ref_colour") if band.band.colour is not None else np.zeros(len(frame))
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
        Cut.FLAGS: (matches["flags"].to_numpy() & int(SPOILED)) != 0,
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
    cut, colour = cut.astype(np.int8), colour - pivot
    return Matches(frame, star, difference, inst_err, ref_err, colour, beyond, sky_light, neighbours, cut)


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
    starts = np.flatnonzero(np.diff(frame[order], prepend=-1))
    for mine in np.split(order, starts[1:]):
        known = mine[np.isfinite(difference[mine]) & np.isfinite(inst_err[mine])]
        if known.size == 0:
            continue
        # Faint stars are found where noise makes them brighter, so the better ones say what is common to all.
        weight = np.minimum(1.0, largest / np.maximum(inst_err[known], 1e-9)) ** 2
        off = difference[known] - _weighted_median(difference[known], weight)
        spread = MAD_TO_SIGMA * _weighted_median(np.abs(off), weight)
        true = np.abs(off) <= max(_OFF_MAG, _OFF_SIGMA * spread)
        known, error = known[true], inst_err[known[true]] * 10.0 ** (0.4 * off[true])
        near = (error >= 0.5 * largest) & (error <= 2.0 * largest)
        # Without any between the bright and the faint, the faint tell: their errors are those of the sky.
        near = near if near.any() else error > largest
        if error.min() > 2.0 * largest:
            limits[mine] = -np.inf
        elif near.any():
            limits[mine] = np.median(ref_mag[known[near]] - 2.5 * np.log10(error[near] / largest))
    return limits


def _weighted_median(values: Floats, weight: Floats) -> float:
    """Return the value that half of the weight is not above."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    return float(values[order[int(np.searchsorted(total, 0.5 * total[-1]))]])


def _column(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)

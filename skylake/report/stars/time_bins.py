"""Points of light curves in bins of time or phase, with errors that their scatter confirms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.flags import SPOILED
from skylake.report.stars.night_errors import NightErrors

Floats = npt.NDArray[np.float64]
_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
#: A flux of a bin of fewer times its error is an upper limit.
_LIMIT_SNR = 5.0
#: Bins with so many points are cut into so many blocks, whose means show noise that is not independent.
_MANY, _BLOCKS = 8, 4
#: Degrees of freedom that the line takes in each bin.
_OF_LINE = 2
#: How far a mean square of n normal deviates is above 1 by chance, times the square root of n; medians are less sure.
_CHANCE = 3.5
_PHASE = {"description": "Phase, from 0 to 1: 0 at the epoch"}
_TEXTS = {
    "n_points": "Points in the bin",
    "mag": "Magnitude of the weighted mean flux of the points; null if it is not positive",
    "mag_err": "Standard error of mag: mag_random_err and mag_systematic_err in quadrature",
    "mag_random_err": "Random part of mag_err, not less than the scatter in bins shows; with the scatter of nights, "
    "except of bins that divide a night",
    "mag_systematic_err": "Part of mag_err that the points of a bin share; binning does not make it smaller",
    "mag_limit": "Magnitude of five times the random error of the mean flux",
    "bjd_tdb": "Weighted mean time at the solar system barycentre, Julian date (TDB)",
    "mjd_mid": "Weighted mean of the times of mid-exposure, MJD (UTC)",
}
_UNITS = {"bjd_tdb": "d", "mjd_mid": "d", "n_points": ""}


def phase_of(bjd: Floats, period_d: float, epoch_bjd: float) -> Floats:
    """Return the phase of times, from 0 up to 1; NaN for NaN.

    Parameters
    ----------
    bjd : ndarray, shape (n,)
        BJD (TDB).
    period_d : float
        Days.
    epoch_bjd : float
        Time of phase 0, BJD (TDB).
    """
    phase = np.mod((bjd - epoch_bjd) / period_d, 1.0)
    return np.asarray(np.where(phase == 1.0, 0.0, phase))


def with_phase(points: pa.Table, period_d: float, epoch_bjd: float) -> pa.Table:
    """Return points with the column ``phase``."""
    phase = phase_of(_floats(points, "bjd_tdb"), period_d, epoch_bjd)
    return points.append_column(pa.field("phase", pa.float64(), metadata=_PHASE), pa.array(phase))


def binned(
    points: pa.Table, width_d: float, period_d: float | None = None, nights: NightErrors | None = None
) -> pa.Table:
    """Return the means of points in bins, of each camera and band on its own.

    The mean is one of flux, so that faint points and negative fluxes count as they should, with weights by random
    errors. Its random error is what those of the points add up to; where points scatter about a line through their
    bin by more, by so much more. In bins of 8 points or more, the means of four consecutive parts are compared, and
    noise that lasts for several frames counts too. Flagged points and those without a magnitude are left out, but not
    forced fluxes below zero.

    Where the scatter of stars from night to night is known, it counts in the weights of nights and in the random
    error. Bins that divide a night are off alike, so for them it is part of the systematic error. It is left out of
    magnitudes that were detrended, which takes some of it off.

    Parameters
    ----------
    points : pyarrow.Table
        Of one star, as ``LightCurve.arrow()``; with ``phase`` if a period is given.
    width_d : float
        Days.
    period_d : float or None
        Period; the bins are then those of the phase, as many as widths go into a period.
    nights : NightErrors or None
        Scatter from night to night; None leaves it out.

    Returns
    -------
    pyarrow.Table
        camera, band, bjd_tdb, mjd_mid, phase if there is one, n_points, mag, mag_err, mag_random_err,
        mag_systematic_err and mag_limit; in the order of time, or of phase.
    """
    good, noise = is_in_bins(points), _calibrated_flux(points)
    points, noise = points.filter(pa.array(good)), noise.of(good)
    place = _floats(points, "phase" if period_d is not None else "bjd_tdb")
    number = _bin_numbers(place, width_d, period_d)
    cameras, bands = (np.asarray(points[name].to_pylist(), object).astype(str) for name in ("camera", "band"))
    keys = np.char.add(np.char.add(bands, "\0"), cameras)
    made = []
    for key in np.unique(keys):
        mine = keys == key
        some = points.filter(pa.array(mine))
        made.append(_bins(some, noise.of(mine), number[mine], _offsets(some, nights)))
    table = pa.concat_tables(made) if made else _empty(period_d is not None)
    return table.sort_by([("phase" if period_d is not None else "bjd_tdb", "ascending")])


def is_in_bins(points: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which points :func:`binned` takes: those with a calibrated flux that no flag spoils."""
    flags = np.asarray(points["flags"].to_numpy(), np.int64)
    return np.asarray(_calibrated_flux(points).is_known & ((flags & int(SPOILED)) == 0))


@dataclass(frozen=True, slots=True)
class _Offsets:
    """The night of each point, shape (n,), and the scatter from night to night, magnitudes."""

    night: npt.NDArray[np.int64]
    scatter: float


def _offsets(points: pa.Table, nights: NightErrors | None) -> _Offsets:
    """Return the nights of the points of one camera and band."""
    key = tuple(points[name][0].as_py() for name in ("camera", "band"))
    if nights is None or key not in nights.scatter or "mag_raw" in points.column_names:
        return _Offsets(np.zeros(points.num_rows, np.int64), 0.0)
    return _Offsets(nights.nights(points["frame_id"]), nights.scatter[key])


@dataclass(frozen=True, slots=True)
class _Fluxes:
    """Fluxes in units of that of magnitude 0; arrays of shape (n,), NaN for a point without.

    Attributes
    ----------
    flux, flux_err : ndarray
        The error knows photons and sky.
    frame_err : ndarray
        Random error of the magnitude that comes from the frame: it counts at the mean flux of a bin, or fluxes that
        are too small by chance would have smaller errors and larger weights.
    """

    flux: Floats
    flux_err: Floats
    frame_err: Floats

    @property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """Which points have a flux with an error."""
        return np.asarray(np.isfinite(self.flux) & (np.hypot(self.flux_err, self.frame_err) > 0.0))

    def of(self, chosen: npt.NDArray[np.bool_]) -> _Fluxes:
        """Return some points."""
        return _Fluxes(self.flux[chosen], self.flux_err[chosen], self.frame_err[chosen])

    def error_at(self, level: Floats) -> Floats:
        """Return the random errors of points of stars with some flux."""
        of_frame = np.maximum(level, 0.0) * self.frame_err / _MAG_PER_RELATIVE
        return np.asarray(np.hypot(self.flux_err, of_frame))


def _calibrated_flux(points: pa.Table) -> _Fluxes:
    """Return fluxes and the parts of their errors: of points with a zeropoint by that, of others by the magnitude."""
    made = _flux_of_magnitude(points)
    if "zp" not in points.column_names:
        return made
    zp = _floats(points, "zp")
    has_zp, scale = np.isfinite(zp), 10.0 ** (-0.4 * zp)
    flux, flux_err = (_floats(points, name) * scale for name in ("flux", "flux_err"))
    frame_err = np.nan_to_num(_floats(points, "zp_random_err"))
    return _Fluxes(
        np.where(has_zp, flux, made.flux),
        np.where(has_zp, flux_err, made.flux_err),
        np.where(has_zp, frame_err, made.frame_err),
    )


def _flux_of_magnitude(points: pa.Table) -> _Fluxes:
    """Return fluxes and the parts of their errors from magnitudes; a flux that is not positive has none."""
    flux, flux_err, mag = (_floats(points, name) for name in ("flux", "flux_err", "mag"))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (-0.4 * mag) / flux
        of_flux = _MAG_PER_RELATIVE * flux_err / flux
    random = _floats(points, "mag_random_err")
    random = np.where(np.isfinite(random), random, _floats(points, "mag_err"))
    frame_err = np.sqrt(np.maximum(random**2 - of_flux**2, 0.0))
    return _Fluxes(flux * scale, flux_err * scale, frame_err)


def _bin_numbers(place: Floats, width_d: float, period_d: float | None) -> npt.NDArray[np.int64]:
    if period_d is not None:
        count = max(round(period_d / width_d), 1)
        return np.minimum(np.floor(place * count), count - 1).astype(np.int64)
    start = np.floor(place.min()) if len(place) else 0.0
    return np.asarray(np.floor((place - start) / width_d), np.int64)


def _bins(points: pa.Table, fluxes: _Fluxes, number: npt.NDArray[np.int64], offsets: _Offsets) -> pa.Table:
    """Return the bins of one camera and band."""
    which = np.unique(number, return_inverse=True)[1].reshape(-1)
    flux = fluxes.flux
    level = np.bincount(which, weights=flux) / np.bincount(which)
    precision = 1.0 / fluxes.error_at(level[which]) ** 2
    nights = _nights_of_bins(which, offsets, np.maximum(level, 0.0), precision)
    weight = precision * nights.share[nights.of_point]
    total = np.bincount(which, weights=weight)

    def mean(values: Floats) -> Floats:
        return np.asarray(np.bincount(which, weights=weight * values) / total)

    level, bjd = mean(flux), _floats(points, "bjd_tdb")
    start = bjd.min()
    has_phase = "phase" in points.column_names
    along = _floats(points, "phase") if has_phase else bjd - start
    scale = _excess(flux, precision, along, bjd, which, nights)
    # What is left of the errors of points, and of the offsets of nights, by the share that each night has in its bin.
    of_points = scale**2 * np.bincount(which, weights=weight**2 / precision) / total**2
    of_nights = np.bincount(nights.bin, nights.variance * (nights.share * nights.precision) ** 2) / total**2
    random = np.sqrt(of_points + np.where(nights.divides, 0.0, of_nights))
    columns = {
        "bjd_tdb": start + mean(bjd - start),
        "mjd_mid": start + mean(_floats(points, "mjd_mid") - start),
    }
    columns |= {"phase": mean(along)} if has_phase else {}
    columns |= {"n_points": np.bincount(which).astype(np.int32)}
    shared = mean(np.nan_to_num(_floats(points, "mag_systematic_err")))
    shared = np.hypot(shared, np.where(nights.divides, offsets.scatter, 0.0))
    return _table(points, columns, level, random, shared)


@dataclass(frozen=True, slots=True)
class _Nights:
    """The nights of bins; arrays of shape (n_nights,), one element for each night of each bin, but as it says.

    Attributes
    ----------
    of_point : ndarray of int, shape (n,)
        The element of each point.
    bin : ndarray of int
    precision : ndarray
        One over the variance of the mean of the points, without offsets.
    variance : ndarray
        Of the offset, in units of flux.
    share : ndarray
        Factor on the weights of the points: 1 without offsets.
    divides : ndarray of bool, shape (n_bins,)
        Whether a bin has a single night, and the night other bins.
    """

    of_point: npt.NDArray[np.intp]
    bin: npt.NDArray[np.intp]
    precision: Floats
    variance: Floats
    share: Floats
    divides: npt.NDArray[np.bool_]


def _nights_of_bins(
    which: npt.NDArray[np.intp], offsets: _Offsets, level: Floats, precision: Floats
) -> _Nights:
    """Return the nights of bins, given the flux of each bin and the precision of each point."""
    keys, of_point = np.unique(np.column_stack([which, offsets.night]), axis=0, return_inverse=True)
    of_point = of_point.reshape(-1)
    of_bin, night = keys.astype(np.intp).T
    total = np.bincount(of_point, weights=precision).astype(float)
    variance = (offsets.scatter * level[of_bin] / _MAG_PER_RELATIVE) ** 2
    is_alone = np.bincount(of_bin)[of_bin] == 1
    _, place, n_bins = np.unique(night, return_inverse=True, return_counts=True)
    divides = np.bincount(of_bin, is_alone & (n_bins[place.reshape(-1)] > 1)) > 0
    return _Nights(of_point, of_bin, total, variance, 1.0 / (1.0 + variance * total), divides)


def _table(
    points: pa.Table, columns: dict[str, npt.NDArray[Any]], level: Floats, random: Floats, shared: Floats
) -> pa.Table:
    """Return bins as a table: their camera, band, times, magnitudes and errors."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mag = np.where(level > 0, -2.5 * np.log10(level), np.nan)
        mag_err = np.where(level > 0, _MAG_PER_RELATIVE * random / level, np.nan)
    columns |= {
        "mag": mag,
        "mag_err": np.hypot(mag_err, shared),
        "mag_random_err": mag_err,
        "mag_systematic_err": shared,
        "mag_limit": -2.5 * np.log10(_LIMIT_SNR * random),
    }
    own = {name: pa.array([points[name][0].as_py()] * len(mag), pa.string()) for name in ("camera", "band")}
    fields, arrays = [], []
    for name, values in {**own, **columns}.items():
        array = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
        fields.append(_field(name, array.type, points.schema))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _field(name: str, kind: pa.DataType, schema: pa.Schema) -> pa.Field:
    if name in ("camera", "band"):
        return pa.field(name, kind, metadata=schema.field(name).metadata)
    if name == "phase":
        return pa.field(name, kind, metadata=_PHASE)
    metadata = {"unit": _UNITS.get(name, "mag"), "description": _TEXTS[name]}
    return pa.field(name, kind, metadata={key: value for key, value in metadata.items() if value})


def _empty(has_phase: bool) -> pa.Table:
    names = ["bjd_tdb", "mjd_mid", *(["phase"] if has_phase else [])]
    schema = pa.schema([pa.field("camera", pa.string()), pa.field("band", pa.string())])
    for name in names:
        schema = schema.append(_field(name, pa.float64(), schema))
    schema = schema.append(_field("n_points", pa.int32(), schema))
    for name in ("mag", "mag_err", "mag_random_err", "mag_systematic_err", "mag_limit"):
        schema = schema.append(_field(name, pa.float64(), schema))
    return schema.empty_table()


def _excess(
    flux: Floats, weight: Floats, along: Floats, bjd: Floats, which: npt.NDArray[np.intp], nights: _Nights
) -> float:
    """Return the factor by which points in bins scatter more than their errors explain; 1 if they do not surely.

    It is that of the median bin, by the chi-square distribution: a few bins on a steep branch of a variable star do
    not count. Where nights have offsets, their parts of bins are taken one by one, if they have enough points.

    Parameters
    ----------
    flux, weight : ndarray, shape (n,)
        Weights are one over the variance.
    along : ndarray, shape (n,)
        Time or phase: signal that changes along a bin as a line does is no scatter.
    bjd : ndarray, shape (n,)
        Blocks are consecutive in time.
    which : ndarray of int, shape (n,)
        The bin of each point.
    nights : _Nights
    """
    from scipy.special import gammainc

    found = _chi_squares(flux, weight, along, bjd, nights.of_point)
    if not len(found[0]):
        alone = weight / (1.0 + weight * nights.variance[nights.of_point])
        found = _chi_squares(flux, alone, along, bjd, which)
    chi2, freedom = found
    if not len(chi2):
        return 1.0

    def is_enough(square: float) -> bool:
        return bool(np.median(gammainc(freedom / 2.0, chi2 / square / 2.0)) <= 0.5)

    # By chance alone it exceeds 1 by as much as this, or more, in one of forty curves.
    if is_enough(1.0 + _CHANCE / np.sqrt(freedom.sum())):
        return 1.0
    low, high = 0.0, 40.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_enough(np.exp(middle)) else (middle, high)
    return float(np.exp(0.5 * high))


def _chi_squares(
    flux: Floats, weight: Floats, along: Floats, bjd: Floats, which: npt.NDArray[np.intp]
) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return the chi-square of the blocks of each group about its line and its degrees of freedom, if it has any."""
    residual, has_line = _about_lines(flux, weight, along, which)
    block, of_bin = _blocks(bjd, which)
    total = np.bincount(block, weights=weight)
    mean = np.bincount(block, weights=weight * residual) / total
    chi2 = np.bincount(of_bin, weights=total * mean**2).astype(float)
    freedom = (np.bincount(of_bin) - _OF_LINE).astype(np.intp)
    used = (freedom > 0) & has_line
    return chi2[used], freedom[used]


def _about_lines(
    flux: Floats, weight: Floats, along: Floats, which: npt.NDArray[np.intp]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return residuals about a line through each bin, and which bins have points at several places."""
    total = np.bincount(which, weights=weight)
    middle = np.bincount(which, weights=weight * along) / total
    level = np.bincount(which, weights=weight * flux) / total
    x, y = along - middle[which], flux - level[which]
    square = np.bincount(which, weights=weight * x * x)
    product = np.bincount(which, weights=weight * x * y)
    has_line = square > 0.0
    slope = np.where(has_line, product / np.where(has_line, square, 1.0), 0.0)
    return y - slope[which] * x, has_line


def _blocks(bjd: Floats, which: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the block of each point, and the bin of each block."""
    order = np.lexsort((bjd, which))
    count = np.bincount(which)
    rank = np.empty(len(which), np.intp)
    rank[order] = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    blocks = np.where(count < _MANY, count, _BLOCKS)
    first = np.cumsum(blocks) - blocks
    block = first[which] + rank * blocks[which] // count[which]
    return block, np.repeat(np.arange(len(count)), blocks)


def _floats(points: pa.Table, name: str) -> Floats:
    return np.asarray(points[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)

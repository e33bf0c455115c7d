"""Periods of many light curves: Lomb-Scargle by nifty-ls where it is installed, else by astropy; box least squares."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from skylake.core.robust import MAD_TO_SIGMA
from skylake.curves.curve_block import CurveBlock, row_medians, star_chunks

Floats = npt.NDArray[np.float64]

#: Frequencies for each resolution element 1 / baseline; the peak is then refined by a parabola.
SAMPLES_PER_PEAK = 8
#: A curve with fewer points has no period.
LEAST_POINTS = 10
#: Measurements farther from the level of their star, in standard deviations, are no part of a search for waves.
_CUT = 7.0


@dataclass(frozen=True, slots=True)
class Periods:
    """The best period of each star; arrays of shape (n_stars,), NaN for stars with too few points.

    Attributes
    ----------
    period : ndarray
        Days.
    power : ndarray
        Share of the variance that a sinusoid of that period explains.
    false_alarm : ndarray
        Chance that white noise has such a peak anywhere in the range of periods (Baluev 2008, MNRAS 385, 1279). Red
        noise has more: hold stars against others of their kind, and mind periods near a day.
    """

    period: Floats
    power: Floats
    false_alarm: Floats


@dataclass(frozen=True, slots=True)
class Transits:
    """The best box of each star; arrays of shape (n_stars,), NaN for stars with too few points.

    Attributes
    ----------
    period, middle, duration : ndarray
        Days; `middle` is the time of the first mid-transit.
    depth, depth_err : ndarray
        Magnitudes.
    false_alarm : ndarray
        Bound on the chance that white noise has such a box: that of one box times the number of boxes tried.
    """

    period: Floats
    middle: Floats
    duration: Floats
    depth: Floats
    depth_err: Floats
    false_alarm: Floats


def lomb_scargle(curves: CurveBlock, shortest_days: float, longest_days: float) -> Periods:
    """Return the period of the highest peak of the generalised Lomb-Scargle periodogram of each star.

    Parameters
    ----------
    curves : CurveBlock
    shortest_days, longest_days : float
        Range of periods.

    Raises
    ------
    ValueError
        If the range of periods is empty.
    """
    _check_range(shortest_days, longest_days)
    n_stars = len(curves.mag)
    found = Periods(*np.full((3, n_stars), np.nan))
    baseline = float(np.ptp(curves.time)) if curves.time.size > 1 else 0.0
    if baseline == 0.0:
        return found
    step = 1.0 / (SAMPLES_PER_PEAK * baseline)
    frequency = np.arange(1.0 / longest_days, 1.0 / shortest_days + step, step)
    for stars in star_chunks(n_stars, 8 * max(len(frequency), 4 * len(curves.time))):
        part = without_outliers(curves.of(stars))
        some = np.flatnonzero(part.is_good.sum(axis=1) >= LEAST_POINTS)
        if some.size == 0:
            continue
        part = part.of(some)
        power = _powers(part, frequency)
        rows = np.arange(stars.start, stars.stop)[some]
        peak, height = _peaks(power)
        found.period[rows] = 1.0 / (frequency[0] + step * peak)
        found.power[rows] = height
        found.false_alarm[rows] = _false_alarm(part, height, 1.0 / shortest_days)
    return found


def box_least_squares(
    curves: CurveBlock, shortest_days: float, longest_days: float, durations_days: Floats
) -> Transits:
    """Return the box that explains each star best (Kovács, Zucker & Mazeh 2002, A&A 391, 369), star by star.

    Parameters
    ----------
    curves : CurveBlock
        Detrended.
    shortest_days, longest_days : float
        Range of periods; the shortest is longer than all durations.
    durations_days : ndarray
        Durations that are tried.

    Raises
    ------
    ValueError
        If the range of periods is empty, or a duration is not shorter than the shortest period.
    """
    from scipy.special import ndtr

    _check_range(shortest_days, longest_days)
    durations = np.atleast_1d(np.asarray(durations_days, float))
    if durations.max() >= shortest_days:
        raise ValueError(
            f"a transit of {durations.max():g} days is not shorter than a period of {shortest_days:g}"
        )
    found = Transits(*np.full((6, len(curves.mag)), np.nan))
    good = curves.is_good
    for star in np.flatnonzero(good.sum(axis=1) >= LEAST_POINTS):
        best, n_boxes = _best_box(
            curves.time[good[star]],
            curves.mag[star, good[star]],
            curves.mag_err[star, good[star]],
            (shortest_days, longest_days),
            durations,
        )
        for name, value in best.items():
            getattr(found, name)[star] = value
        found.false_alarm[star] = min(float(ndtr(-best["depth"] / best["depth_err"])) * n_boxes, 1.0)
    return found


def _best_box(
    time: Floats, mag: Floats, mag_err: Floats, span: tuple[float, float], durations: Floats
) -> tuple[dict[str, float], float]:
    """Return the best box of a star, and the number of boxes that were tried."""
    from astropy.timeseries import BoxLeastSquares

    search = BoxLeastSquares(time, -mag, mag_err)
    periods = search.autoperiod(
        durations, minimum_period=span[0], maximum_period=span[1], minimum_n_transit=2
    )
    result = search.power(periods, durations, objective="snr")
    best = int(np.argmax(np.where(np.isfinite(result.power), result.power, -np.inf)))
    n_boxes = float(np.sum(periods[:, None] / durations))
    return {
        "period": float(result.period[best]),
        "middle": float(result.transit_time[best]),
        "duration": float(result.duration[best]),
        "depth": float(result.depth[best]),
        "depth_err": float(result.depth_err[best]),
    }, n_boxes


def _check_range(shortest_days: float, longest_days: float) -> None:
    if not 0 < shortest_days < longest_days:
        raise ValueError(f"periods from {shortest_days:g} to {longest_days:g} days are no range")


def without_outliers(curves: CurveBlock) -> CurveBlock:
    """Return curves without measurements that are far from the level of their star."""
    off = np.abs(curves.mag - row_medians(np.where(curves.is_good, curves.mag, np.nan))[:, None])
    spread = MAD_TO_SIGMA * row_medians(np.where(curves.is_good, off, np.nan))[:, None]
    with np.errstate(invalid="ignore"):
        far = off > _CUT * np.maximum(spread, curves.mag_err)
    return CurveBlock(curves.time, np.where(far, np.nan, curves.mag), curves.mag_err)


def _powers(curves: CurveBlock, frequency: Floats) -> Floats:
    """Return the normalised power of stars at regular frequencies, of shape (n_stars, n_frequencies)."""
    good = curves.is_good
    if find_spec("nifty_ls") is not None:
        import nifty_ls

        # All stars share the transform of the times: a gap is a measurement of no weight.
        values = np.where(good, curves.mag, np.nanmean(curves.mag))
        errors = np.where(good, curves.mag_err, 1e8)
        made = nifty_ls.lombscargle(
            curves.time, values, errors, fmin=frequency[0], fmax=frequency[-1], Nf=len(frequency), nthreads=1
        )
        return np.atleast_2d(np.asarray(made.power, float))
    from astropy.timeseries import LombScargle

    power = np.empty((len(good), len(frequency)))
    for star, mine in enumerate(good):
        search = LombScargle(curves.time[mine], curves.mag[star, mine], curves.mag_err[star, mine])
        power[star] = search.power(frequency, method="fast", assume_regular_frequency=True)
    return power


def _peaks(power: Floats) -> tuple[Floats, Floats]:
    """Return place and height of the highest peak of each row, by a parabola through three points."""
    rows = np.arange(len(power))
    best = np.argmax(power, axis=1)
    inner = np.clip(best, 1, power.shape[1] - 2)
    low, middle, high = (power[rows, inner + step] for step in (-1, 0, 1))
    bend = low - 2.0 * middle + high
    is_peak = (best == inner) & (bend < 0)
    shift = np.where(is_peak, 0.5 * (low - high) / np.where(is_peak, bend, 1.0), 0.0)
    height = power[rows, best] - np.where(is_peak, 0.25 * (low - high) * shift, 0.0)
    return best + shift, np.clip(height, 0.0, 1.0)


def _false_alarm(curves: CurveBlock, power: Floats, highest: float) -> Floats:
    """Return the chance of such a peak in white noise, by Baluev (2008); as astropy has it."""
    from scipy.special import gammaln

    count = curves.is_good.sum(axis=1).astype(float)
    share = curves.weight / curves.weight.sum(axis=1, keepdims=True)
    variance = (share * (curves.time - (share @ curves.time)[:, None]) ** 2).sum(axis=1)
    width = highest * np.sqrt(4.0 * np.pi * variance)
    gamma = np.sqrt(2.0 / (count - 1.0)) * np.exp(gammaln(0.5 * (count - 1.0)) - gammaln(0.5 * count - 1.0))
    single = (1.0 - power) ** (0.5 * (count - 3.0))
    rate = gamma * width * (1.0 - power) ** (0.5 * (count - 4.0)) * np.sqrt(0.5 * (count - 1.0) * power)
    return np.asarray(single - (1.0 - single) * np.expm1(-rate))

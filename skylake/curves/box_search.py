"""Dips of light curves, seen once or with a period, while external parameters are fitted beside each of them.

A decorrelation alone takes part of a transit for an effect of the air, so what it leaves is no place to look for one.
Here each box is fitted together with the terms: with b the box, W the weights, r the residual without it, X the
terms and A their normal matrix with its prior, its depth is b'Wr / (b'Wb - b'WX A^-1 X'Wb). Sums over boxes
are differences of running sums. Boxes of several nights combine to those of a period as in the search of Kepler
(Jenkins 2002, ApJ 575, 493). That takes the square of the number of nights, so periods are looked for in as many as
bounded time allows, those with the most boxes, and followed from there through all nights. The noise of boxes is that
which all boxes of a duration show once the best one is fitted, slow noise with it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from skylake.core.robust import SHARED_VARIANCE
from skylake.curves.box_search_kernels import best_cycle
from skylake.curves.curve_block import CurveBlock, outlier_weights, row_medians, star_chunks
from skylake.curves.decorrelation import MOST_TERMS, DecorrelationOptions, held_fit, of_terms, precision_of
from skylake.curves.external_parameters import ExternalParameters, parameter_terms
from skylake.curves.red_noise import runs_of_frames
from skylake.curves.signals import Boxes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Boxes are tried at steps of this part of their duration, with so many frames at least.
_STEPS, _LEAST_FRAMES = 4, 3
#: Frequencies times boxes of one duration that are tried for a star at most, about 0.02 s of a processor. Boxes of an
#: hour on nights of eight hours reach it with 40 nights, and those of four hours with 190.
_MOST_TRIALS = 6e6
#: Frequencies to each side that are tried in a longer part of the curve, times how many times as long it is.
_NEAR = 1.5
#: Shares of the best period that are tried too, and finer steps to each side of them.
_SHARES, _FINE = (1, 2, 3), 4
#: A period is this many durations at least.
_LEAST_CYCLE = 5.0
#: A box that terms explain up to this share of its weight cannot be told from them.
_LEAST_SHARE = 0.02
#: How well the scatter of boxes is known, of that of Gaussian values.
_EFFICIENCY = 0.9
#: Degrees of freedom of a scatter that is known.
_GAUSSIAN = 1e8
#: A measurement is held against the median of so many: an outlier is alone, a dip is not.
_NEIGHBOURS = 5
_CHUNK_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class FoundBoxes:
    """The best box of each star; arrays of shape (n_stars,), NaN where there is none.

    Attributes
    ----------
    period : ndarray
        Days; infinite for a dip that was seen once.
    middle, duration : ndarray
        Days; `middle` is the time of one mid-transit.
    snr : ndarray
        Depth over its error, the slow noise of the star included.
    false_alarm : ndarray
        Bound on the chance that noise has such a box: that of one box times the number of boxes tried.
    """

    period: Floats
    middle: Floats
    duration: Floats
    snr: Floats
    false_alarm: Floats


@dataclass(frozen=True, slots=True)
class _Windows:
    """Boxes of one duration on the frames of a block: first frame and the one after the last, arrays (n_boxes,).

    Periods are looked for from `shortest` to `longest` days, in the boxes from each one on up to that of `together`.
    """

    duration: float
    middle: Floats
    start: Integers
    stop: Integers
    #: Boxes of this duration that nights have beside one another.
    n_apart: float
    shortest: float
    longest: float
    together: Integers


def find_boxes(
    curves: CurveBlock,
    parameters: ExternalParameters,
    residual: Floats,
    durations_days: Floats,
    longest_days: float,
    options: DecorrelationOptions | None = None,
) -> FoundBoxes:
    """Return the box that explains each star best beside its external parameters.

    Parameters
    ----------
    curves : CurveBlock
        As :func:`skylake.curves.decorrelation.decorrelate` takes them.
    parameters : ExternalParameters
    residual : ndarray, shape (n_stars, n_frames)
        Of that decorrelation without a signal; NaN rows for stars that are not searched.
    durations_days : ndarray
        Durations that are tried. Periods are five times as long at least.
    longest_days : float
        Longest period that is tried.
    options : DecorrelationOptions
    """
    options = options or DecorrelationOptions()
    n_stars, n_frames = curves.mag.shape
    found = FoundBoxes(*np.full((5, n_stars), np.nan))
    searched = np.flatnonzero(np.isfinite(residual).any(axis=1))
    windows = [_windows(curves.time, one, longest_days) for one in np.atleast_1d(durations_days)]
    windows = [one for one in windows if len(one.middle)]
    if not windows:
        return found
    size = 2 * n_frames + max(len(one.middle) for one in windows)
    for part in star_chunks(len(searched), 8 * MOST_TERMS * size, _CHUNK_BYTES):
        stars = searched[part]
        given = curves.of(stars), parameters.of(stars), residual[stars], options
        sums = _Sums.of(*given)
        best = [
            [sums.judged(box, one.duration, curves.time) for box in _best_of(one, *sums.boxes(one))]
            for one in windows
        ]
        first = _chosen(best, windows, [np.ones(len(stars))] * len(windows))
        left = _Sums.of(*given, Boxes(first.period, first.middle, first.duration))
        chosen = _chosen(best, windows, [_noise(*left.boxes(one)) for one in windows])
        for one in fields(FoundBoxes):
            getattr(found, one.name)[stars] = getattr(chosen, one.name)
    return found


def _windows(time: Floats, duration: float, longest_days: float) -> _Windows:
    """Lay boxes over each run of frames, from the first to the last."""
    ends = np.flatnonzero(np.diff(runs_of_frames(time), append=-1))
    starts = np.append(0, ends[:-1] + 1)[: len(ends)]
    step = duration / _STEPS
    middle = np.concatenate(
        [
            np.arange(time[first], time[last] + 0.5 * step, step)
            for first, last in zip(starts, ends, strict=True)
        ]
        or [np.empty(0)]
    )
    start, stop = (np.searchsorted(time, middle + half * duration) for half in (-0.5, 0.5))
    wide = stop - start >= _LEAST_FRAMES
    apart = np.maximum((time[ends] - time[starts]) / duration, 1.0).sum()
    middle = middle[wide]
    shortest = _LEAST_CYCLE * duration
    longest = min(longest_days, float(np.ptp(middle)) if len(middle) else 0.0)
    # Each frequency has boxes at both ends of the curve within a quarter of their duration.
    cycles = max(float(np.log(longest / shortest)) / duration, 0.0) if longest > 0 else 0.0
    together = _affordable(middle, cycles)
    return _Windows(duration, middle, start[wide], stop[wide], float(apart), shortest, longest, together)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Running sums over the frames of stars, from which those of any box are differences.

    Attributes
    ----------
    count, weight, off : ndarray, shape (n_stars, n_frames + 1)
        Of measurements, of weights, and of weights times residuals.
    terms : ndarray, shape (n_stars, n_terms, n_frames + 1)
        Of weights times terms.
    weighted : ndarray, shape (n_stars, n_terms, n_frames)
        Weights times terms themselves; the last of them is the constant.
    inverse : ndarray, shape (n_stars, n_terms, n_terms)
        Of the normal matrix of the terms with its prior.
    """

    count: Floats
    weight: Floats
    off: Floats
    terms: Floats
    weighted: Floats
    inverse: Floats

    @classmethod
    def of(
        cls,
        curves: CurveBlock,
        parameters: ExternalParameters,
        residual: Floats,
        options: DecorrelationOptions,
        box: Boxes | None = None,
    ) -> _Sums:
        """Fit the terms, and a box, to all measurements but lonely outliers, and sum up."""
        good = curves.is_good
        terms = parameter_terms(parameters, curves.weight)[1]
        n_shapes = 0 if box is None else 1
        shape = terms[:, :0] if box is None else box.columns(curves.time, slice(0, len(terms)))
        design = np.concatenate([terms, shape, np.ones((len(terms), 1, terms.shape[2]))], axis=1)
        lonely = residual - _neighbour_medians(residual)
        weight = curves.weight * outlier_weights(lonely, np.where(good, curves.mag_err, np.nan))
        level = row_medians(np.where(good, curves.mag, np.nan))[:, None]
        values = np.where(good, curves.mag - level, 0.0)
        fit = held_fit(design, values, weight, precision_of(terms.shape[1], n_shapes, options))
        off, weighted = weight * (values - of_terms(design, fit.coefficients)), weight[:, None] * design
        count, total, left, running_terms = map(_running, ((weight > 0).astype(float), weight, off, weighted))
        return cls(count, total, left, running_terms, weighted, fit.inverse)

    def boxes(self, windows: _Windows) -> tuple[Floats, Floats]:
        """Return b'Wr and what terms leave of b'Wb, of shape (n_stars, n_boxes); 0 where a box cannot be told."""

        def inside(sums: Floats) -> Floats:
            return np.asarray(sums[..., windows.stop] - sums[..., windows.start])

        shared, whole = inside(self.terms), inside(self.weight)
        left = whole - (shared * (self.inverse @ shared)).sum(axis=1)
        told = (inside(self.count) >= _LEAST_FRAMES) & (left > _LEAST_SHARE * whole)
        return np.where(told, inside(self.off), 0.0), np.where(told, left, 0.0)

    def judged(self, best: _Best, duration: float, time: Floats) -> _Best:
        """Return boxes with what all of their frames together make of them: terms may explain some of each night."""
        box = Boxes(best.period, best.middle, np.full(len(best.period), duration))
        shape = box.columns(time, slice(0, len(best.period)))[:, 0]
        shared = (self.weighted @ shape[:, :, None])[:, :, 0]
        whole = (self.weighted[:, -1] * shape**2).sum(axis=1)
        left = whole - np.einsum("si,sij,sj->s", shared, self.inverse, shared)
        depth_sum = (np.diff(self.off, axis=1) * shape).sum(axis=1)
        told = np.isfinite(best.snr) & (left > _LEAST_SHARE * whole)
        snr = np.where(told, depth_sum / np.sqrt(np.where(told, left, 1.0)), -np.inf)
        return replace(best, snr=snr)


def _running(values: Floats) -> Floats:
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    np.cumsum(values, axis=-1, out=sums[..., 1:])
    return sums


def _neighbour_medians(values: Floats) -> Floats:
    """Return the median of each value and those beside it that are finite, of shape (n_stars, n_frames)."""
    made = np.full_like(values, np.nan)
    for star, row in enumerate(values):
        known = np.flatnonzero(np.isfinite(row))
        if len(known) >= _NEIGHBOURS:
            around = np.pad(row[known], _NEIGHBOURS // 2, mode="edge")
            made[star, known] = np.median(
                np.lib.stride_tricks.sliding_window_view(around, _NEIGHBOURS), axis=1
            )
    return made


def _noise(depth_sum: Floats, weight_sum: Floats) -> Floats:
    """Return the robust scatter of the boxes of each star over their stated errors."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pulls = np.where(weight_sum > 0, depth_sum / np.sqrt(weight_sum), np.nan)
    kept = outlier_weights(pulls, np.ones_like(pulls))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.nansum(kept * pulls**2, axis=1) / SHARED_VARIANCE / kept.sum(axis=1)))


@dataclass(frozen=True, slots=True)
class _Best:
    """Boxes that stand out most by their stated errors, and how many were tried; arrays of shape (n_stars,)."""

    period: Floats
    middle: Floats
    snr: Floats
    n_tried: float


def _best_of(windows: _Windows, depth_sum: Floats, weight_sum: Floats) -> list[_Best]:
    """Return the best boxes of a duration that are seen once, and those with a period."""
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(weight_sum > 0, depth_sum / np.sqrt(weight_sum), -np.inf)
    best, n_stars = np.argmax(snr, axis=1), len(snr)
    height = snr[np.arange(n_stars), best]
    once = _Best(np.full(n_stars, np.inf), windows.middle[best], height, float(len(windows.middle)))
    if windows.longest <= windows.shortest:
        return [once]
    seasons, season = _seasons(windows.together, weight_sum > 0)
    period, middle, height = np.full((3, n_stars), np.nan)
    cyclic = _Best(period, middle, height, 0.0)
    for number in np.unique(season):
        mine = np.flatnonzero(season == number)
        inside = slice(int(seasons[number]), int(windows.together[seasons[number]]))
        some = _cyclic(windows, depth_sum[mine], weight_sum[mine], inside)
        for name in ("period", "middle", "snr"):
            getattr(cyclic, name)[mine] = getattr(some, name)
        cyclic = replace(cyclic, n_tried=max(cyclic.n_tried, some.n_tried))
    return [once, cyclic]


def _affordable(middle: Floats, cycles_per_day: float) -> Integers:
    """Return up to which box those from each on may be searched together: frequencies times boxes are bounded.

    Frequencies grow with the time that boxes span, so those of a whole archive would take the square of its nights.
    """
    number = np.arange(len(middle))
    low, high = number + 1, np.full(len(middle), len(middle))
    # More boxes span more time, so the bound is found by halving.
    while (low < high).any():
        half = (low + high + 1) // 2
        fits = cycles_per_day * (middle[half - 1] - middle) * (half - number) <= _MOST_TRIALS
        low, high = np.where(fits, half, low), np.where(fits, high, half - 1)
    return low


def _seasons(stop: Integers, told: npt.NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """Return first boxes of the seasons in which periods are looked for, and the season of each star.

    Most stars have the same frames. One with less than half of the boxes in their season that it has in its own best
    one is given to the next season.
    """
    counts = np.zeros((len(told), len(stop) + 1), np.int64)
    np.cumsum(told, axis=1, out=counts[:, 1:])
    inside = counts[:, stop] - counts[:, :-1]
    most, season = inside.max(axis=1), np.full(len(told), -1, np.int64)
    firsts: list[int] = []
    while (left := np.flatnonzero(season < 0)).size:
        first = int(np.argmax(inside[left].sum(axis=0)))
        enough = 2 * inside[left, first] >= most[left]
        season[left[enough] if enough.any() else left] = len(firsts)
        firsts.append(first)
    return np.array(firsts, np.int64), season


def _cyclic(windows: _Windows, depth_sum: Floats, weight_sum: Floats, inside: slice) -> _Best:
    """Return the best boxes with a period of a season, each followed from there through the whole curve."""
    middle = windows.middle[inside]
    since, span = middle - middle[0], float(np.ptp(middle))
    shortest, longest = windows.shortest, min(windows.longest, span)
    if longest <= shortest:
        nothing = np.full(len(depth_sum), np.nan)
        return _Best(nothing, nothing, np.full(len(depth_sum), -np.inf), 0.0)
    # Boxes at both ends of the season stay within a quarter of their duration.
    count = int(np.ceil(np.log(longest / shortest) * span / windows.duration)) + 1
    frequency = np.geomspace(1.0 / longest, 1.0 / shortest, count)
    n_bins = _bins_of(windows, frequency)
    some = (np.ascontiguousarray(one[:, inside]) for one in (depth_sum, weight_sum))
    height, which, first = best_cycle(since, *some, frequency, n_bins)
    found, box, n_tried = frequency[which], first + inside.start, float(n_bins.sum())
    low, high, reach, centre = inside.start, inside.stop, span, middle[0] + 0.5 * span
    while high - low < len(windows.middle):
        reach, before = 2.0 * reach, high - low
        low = int(np.searchsorted(windows.middle, centre - 0.5 * reach))
        high = int(np.searchsorted(windows.middle, centre + 0.5 * reach, side="right"))
        if high - low == before:
            continue
        longer = float(windows.middle[high - 1] - windows.middle[low])
        near = int(np.ceil(_NEAR * longer / span))
        steps, span = 1.0 + np.arange(-near, near + 1) * windows.duration / longer, longer
        n_tried *= len(steps)
        middle = windows.middle[low:high]
        for star in np.flatnonzero(np.isfinite(height)):
            cycles = found[star] * steps
            mine = (np.ascontiguousarray(one[star : star + 1, low:high]) for one in (depth_sum, weight_sum))
            best = best_cycle(middle - middle[0], *mine, cycles, _bins_of(windows, cycles))
            height[star], found[star], box[star] = best[0][0], cycles[best[1][0]], best[2][0] + low
    # Dips at a quarter of their duration from where they should be are in two bins, and in one at twice the period.
    steps = 1.0 + np.arange(-_FINE, _FINE + 1) * windows.duration / (2 * _STEPS * span)
    for star in np.flatnonzero(np.isfinite(height)):
        cycles = np.concatenate([found[star] * times * steps for times in _SHARES])
        cycles = cycles[cycles <= 1.0 / shortest]
        if not cycles.size:
            continue
        since = windows.middle - windows.middle[box[star]] + 0.5 * windows.duration / _STEPS
        best = best_cycle(
            since, depth_sum[star : star + 1], weight_sum[star : star + 1], cycles, _bins_of(windows, cycles)
        )
        if best[0][0] > height[star]:
            height[star], found[star], box[star] = best[0][0], cycles[best[1][0]], best[2][0]
    # These are some more of the same boxes, few beside those of all frequencies.
    return _Best(1.0 / found, windows.middle[box], height, n_tried)


def _bins_of(windows: _Windows, frequency: Floats) -> Integers:
    """Return in how many bins phases are put."""
    return np.ceil(_STEPS / (windows.duration * frequency)).astype(np.int64)


def _chosen(best: list[list[_Best]], windows: list[_Windows], scales: list[Floats]) -> FoundBoxes:
    """Return the likeliest box of each star, where errors are so many times those stated.

    The chance is that of the box which noise has least often: the noise of short boxes is known better, so that one
    may show for certain that there is a dip whose shape a longer one has.
    """
    likeliest, least = np.full((2, len(scales[0])), np.inf)
    found = FoundBoxes(*np.full((5, len(scales[0])), np.nan))
    for boxes, one, scale in zip(best, windows, scales, strict=True):
        # The box that was fitted has taken some of the noise.
        free = max(_EFFICIENCY * one.n_apart - 2.0, 1.0)
        for box in boxes:
            with np.errstate(divide="ignore", invalid="ignore"):
                snr = box.snr / scale
            known = np.isfinite(snr)
            tried = np.log(box.n_tried * len(windows))
            chance = np.where(known, tried + _log_tail(free, snr), np.inf)
            if_known = np.where(known, tried + _log_tail(_GAUSSIAN, snr), np.inf)
            better = if_known < likeliest
            least, likeliest = np.minimum(least, chance), np.minimum(likeliest, if_known)
            found.period[better], found.middle[better] = box.period[better], box.middle[better]
            found.duration[better], found.snr[better] = one.duration, snr[better]
    found.false_alarm[:] = np.where(np.isfinite(least), np.exp(np.minimum(least, 0.0)), np.nan)
    return found


def _log_tail(free: float, snr: Floats) -> Floats:
    """Return the logarithm of the chance that Student's t exceeds a value; the asymptotic form where that is tiny."""
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        chance = np.log(stdtr(free, -snr))
        far = -0.5 * (free + 1.0) * np.log1p(snr**2 / free) - np.log(np.abs(snr)) - 0.5 * np.log(2.0 * np.pi)
    return np.asarray(np.where(chance > -600.0, chance, far))

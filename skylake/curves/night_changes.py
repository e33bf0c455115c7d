"""Which stars are brighter or fainter in one night than in the nights before, beyond what constant stars show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.core.group_means import group_means, group_sums
from skylake.core.group_medians import group_medians
from skylake.core.robust import MAD_TO_SIGMA

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Fewer comparison stars do not show what all stars have in common, nor how much a constant star scatters.
LEAST_COMPARISON = 8
#: Nights before the one in question that a star needs, with comparison stars and without.
LEAST_NIGHTS, LEAST_NIGHTS_ALONE = 3, 5
#: Comparison stars count as much as so many nights of the star itself.
_NIGHTS_OF_COMPARISON = 8.0
#: Scatter of constant stars from night to night, magnitudes, as far as it decides which of them count more.
_USUAL_SCATTER = 0.01
#: Of ten nights the most deviant one counts as the next, so that one bad night does not hide what comes later.
_DEVIANT_SHARE = 0.1
#: The variance of a median in that of a mean, and of their difference: about a median squares are larger.
_MEDIAN_VARIANCE = 0.5 * np.pi
_ABOUT_MEDIAN = _MEDIAN_VARIANCE - 1.0
#: The scatter of a few comparison stars is by chance up to so many times what is expected, as a variance.
_BY_CHANCE = 1.75


@dataclass(frozen=True, slots=True)
class PastNights:
    """Mean magnitudes of earlier nights, star after star; arrays of shape (n,).

    Attributes
    ----------
    mag, err : ndarray
        Of one night, with its random error; no NaN.
    starts : ndarray of int, shape (n_stars + 1,)
        Where the nights of each star begin; a star may have none.
    night : ndarray of int
        Number of the night, and of the band if there are several: what all stars of it share is taken off.
    """

    mag: Floats
    err: Floats
    starts: Places
    night: Places

    @property
    def counts(self) -> Places:
        """Nights of each star."""
        return np.diff(self.starts)

    @property
    def star(self) -> Places:
        """The star of each night."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)


@dataclass(frozen=True, slots=True)
class NightChanges:
    """What differs from the past; arrays of shape (n_judged,), NaN where it cannot be judged.

    Attributes
    ----------
    past_mag, past_scatter : ndarray
        Median of the nightly means, and their standard deviation; NaN with less than two nights.
    n_nights, n_comparison : ndarray of int
        Earlier nights, and comparison stars.
    difference, difference_err : ndarray
        The night minus the past, less what the comparison stars differ by, and the standard error that a constant
        star would have; positive is fainter.
    significance : ndarray
        Normal deviate: 0 on average and 1 wide for constant stars.
    false_alarm : ndarray
        Chance that a constant star differs so much or more, in either direction.
    """

    past_mag: Floats
    past_scatter: Floats
    n_nights: Places
    n_comparison: Places
    difference: Floats
    difference_err: Floats
    significance: Floats
    false_alarm: Floats


def night_changes(
    mag: Floats, err: Floats, past: PastNights, judged: Places, comparison: Places
) -> NightChanges:
    """Hold the mean magnitudes of a night against those of earlier nights.

    The comparison stars of a star, near it and about as bright, show what the night has that no star has (clouds,
    another zeropoint), and by how much constant stars differ from night to night beyond their errors. That is the
    prior of the scatter of the star itself, whose earlier nights make it larger for a star that varies (a moderated
    t-statistic: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3, 3). Of ten earlier nights the most deviant does not count
    fully, so that one bad night does not hide an outburst.

    Parameters
    ----------
    mag, err : ndarray, shape (n_stars,)
        Of the night, with random errors; NaN for a star that was not measured.
    past : PastNights
        Of the same stars.
    judged : ndarray of int, shape (n_judged,)
        The stars to judge.
    comparison : ndarray of int, shape (n_judged, n_most)
        The comparison stars of each; -1 where there are fewer.

    Returns
    -------
    NightChanges
        Not judged are stars with less than 3 earlier nights; with less than 8 comparison stars, of which the errors
        alone say nothing about red noise, those with less than 5.
    """
    past = _without_common(past)
    level, variance = _levels(past)
    counts = past.counts
    has = (comparison >= 0) & (counts[comparison] > 0) & np.isfinite(mag)[comparison]
    n_comparison = has.sum(axis=1)
    is_compared = n_comparison >= LEAST_COMPARISON
    floor = np.where(is_compared, _floor(variance, past, comparison, has & (counts[comparison] >= 2)), 0.0)
    common = _common(mag, err, level, past, comparison, has, floor)
    shift, shift_variance, more = (np.where(is_compared, one, 0.0) for one in common)
    ratio, free = _own_scatter(past, level, judged, floor, is_compared)
    n = counts[judged]
    of_level = np.where(n > 2, _MEDIAN_VARIANCE, 1.0) / np.maximum(n, 1)
    of_level *= _means(past.err**2, past.starts)[judged] + floor
    difference = mag[judged] - level[judged] - shift
    error = np.sqrt(ratio * (err[judged] ** 2 + floor + more + of_level) + shift_variance)
    enough = n >= np.where(is_compared, LEAST_NIGHTS, LEAST_NIGHTS_ALONE)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviate = np.where(enough, difference / error, np.nan)
    significance, false_alarm = _chances(deviate, free)
    return NightChanges(
        level[judged],
        np.sqrt(variance[judged]),
        n,
        n_comparison,
        np.where(enough, difference, np.nan),
        np.where(enough, error, np.nan),
        significance,
        false_alarm,
    )


def _means(values: Floats, starts: Places) -> Floats:
    """Return the mean of each group; 0 for one without values."""
    return np.asarray(group_sums(values, starts) / np.maximum(np.diff(starts), 1))


def _without_common(past: PastNights) -> PastNights:
    """Return nights less what all stars of a night differ by, where these are enough to show that."""
    off = past.mag - np.asarray(group_medians(past.mag, past.starts))[past.star]
    order = np.argsort(past.night, kind="stable")
    n = np.bincount(past.night)
    starts = np.append(0, np.cumsum(n)).astype(np.intp)
    # Faint stars are found where noise makes them brighter, and say less.
    found = group_means(off[order], np.hypot(past.err, _USUAL_SCATTER)[order], starts)
    common = np.where(n >= LEAST_COMPARISON, np.nan_to_num(found.means), 0.0)
    return replace(past, mag=past.mag - common[past.night])


def _levels(past: PastNights) -> tuple[Floats, Floats]:
    """Return the median of the nights of each star, and their variance about it; NaN where it is not known."""
    level = np.asarray(group_medians(past.mag, past.starts))
    squares = _without_deviant((past.mag - level[past.star]) ** 2, past)
    counts = past.counts
    known = counts > 1
    variance = np.full(len(counts), np.nan)
    variance[known] = group_sums(squares, past.starts)[known] / _free(counts)[known]
    return level, variance


def _free(counts: Places) -> Floats:
    """Return by what the sum of squares about the median of so many values is divided to give their variance."""
    return np.asarray(np.where(counts > 2, counts - 1.0 + _ABOUT_MEDIAN, np.maximum(counts - 1.0, 0.0)))


def _without_deviant(squares: Floats, past: PastNights) -> Floats:
    """Return squares of deviations, the largest of each star replaced by the next, and what that takes made good."""
    from scipy.special import ndtri

    star, counts = past.star, past.counts
    order = np.lexsort((squares, star))
    dropped = np.floor(_DEVIANT_SHARE * counts).astype(int)
    last = np.maximum(past.starts[:-1] + counts - 1 - dropped, 0)
    limit = np.zeros(len(counts))
    some = counts > 0
    limit[some] = squares[order][last[some]]
    share = dropped / np.maximum(counts, 1)
    # Of normal deviates: the second moment up to the limit, and the square of the limit for the rest.
    cut = ndtri(1.0 - 0.5 * np.where(dropped > 0, share, 0.5))
    kept = 1.0 - share - 2.0 * cut * np.exp(-0.5 * cut**2) / np.sqrt(2.0 * np.pi) + share * cut**2
    factor = np.where(dropped > 0, 1.0 / kept, 1.0)
    return np.asarray(np.minimum(squares, limit[star]) * factor[star])


def _common(
    mag: Floats,
    err: Floats,
    level: Floats,
    past: PastNights,
    comparison: Places,
    has: npt.NDArray[np.bool_],
    floor: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Return what comparison stars differ by in the night, its variance, and theirs beyond that of other nights."""
    off = np.where(has, (mag - level)[comparison], np.nan)
    nights = np.maximum(past.counts, 1)
    expected = err**2 + _MEDIAN_VARIANCE * _means(past.err**2, past.starts) / nights
    expected = _row_medians(np.where(has, expected[comparison], np.nan)) + floor
    shift = _row_medians(off)
    total = (MAD_TO_SIGMA * _row_medians(np.abs(off - shift[:, None]))) ** 2
    n = np.maximum(has.sum(axis=1), 1)
    return shift, _MEDIAN_VARIANCE * total / n, np.maximum(total - _BY_CHANCE * expected, 0.0)


def _floor(variance: Floats, past: PastNights, comparison: Places, has: npt.NDArray[np.bool_]) -> Floats:
    """Return the variance of constant stars from night to night beyond their errors; 0 where it is not known."""
    free = np.maximum(past.counts - 1.0, 1.0)
    # The median of a variance with few degrees of freedom is below its mean (Wilson & Hilferty 1931).
    centre = (1.0 - 2.0 / (9.0 * free)) ** 3
    total = _row_medians(np.where(has, (variance / centre)[comparison], np.nan))
    expected = _row_medians(np.where(has, _means(past.err**2, past.starts)[comparison], np.nan))
    return np.asarray(np.nan_to_num(np.maximum(total - expected, 0.0)))


def _row_medians(values: Floats) -> Floats:
    """Return the median of the finite values of each row; NaN for a row without any."""
    ordered = np.sort(values, axis=1)
    n = np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    low, high = (
        ordered[rows, np.maximum(n - 1, 0) // 2],
        ordered[rows, np.minimum(n // 2, values.shape[1] - 1)],
    )
    return np.asarray(np.where(n > 0, 0.5 * (low + high), np.nan))


def _own_scatter(
    past: PastNights, level: Floats, judged: Places, floor: Floats, is_compared: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Return the variance of each judged star from night to night in that expected, and its degrees of freedom."""
    of_star = np.zeros(len(past.counts))
    of_star[judged] = floor
    expected = np.maximum(past.err**2 + of_star[past.star], 1e-12)
    squares = _without_deviant((past.mag - level[past.star]) ** 2 / expected, past)
    own = np.maximum(past.counts[judged] - 1.0, 0.0)
    total = group_sums(squares, past.starts)[judged] * own / np.maximum(_free(past.counts)[judged], 1.0)
    prior = np.where(is_compared, _NIGHTS_OF_COMPARISON, 0.0)
    free = prior + own
    ratio = (prior + total) / np.maximum(free, 1.0)
    # Errors that are stated are the least that is possible.
    return np.where(is_compared, ratio, np.maximum(ratio, 1.0)), np.maximum(free, 1.0)


def _chances(deviate: Floats, free: Floats) -> tuple[Floats, Floats]:
    """Return Student's deviates as normal ones, and the chance of one that is larger in either direction."""
    from scipy.special import ndtri, stdtr

    tail = np.maximum(stdtr(free, -np.abs(deviate)), 1e-300)
    return np.asarray(-ndtri(tail) * np.sign(deviate)), np.asarray(np.minimum(2.0 * tail, 1.0))

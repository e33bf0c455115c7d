"""Light curves binned in time, with errors that count noise that lasts from point to point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.group_means import group_means, group_sums
from skylake.core.group_medians import group_medians
from skylake.curves.binning_kernels import scatter_of_bins, scatter_within

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class BinnedCurves:
    """Binned light curves; arrays of shape (n_bins,) but where it says otherwise.

    Attributes
    ----------
    starts : ndarray of int, shape (n_curves + 1,)
        Where the bins of each curve begin, and where the last ends.
    time : ndarray
        Weighted mean of the points, days.
    mag : ndarray
        Robust weighted mean.
    mag_err : ndarray
        White and red part in quadrature; the white one alone where the red one is not known.
    white_err : ndarray
        Error of the mean by the scatter of points about their bins.
    n_points : ndarray of int64
    red_err : ndarray, shape (n_curves,)
        What the bins of a curve scatter by beyond their white errors, about the model; NaN with fewer than 5 bins.
    """

    starts: Places
    time: Floats
    mag: Floats
    mag_err: Floats
    white_err: Floats
    n_points: npt.NDArray[np.int64]
    red_err: Floats


def bin_curves(
    time: Floats,
    mag: Floats,
    mag_err: Floats,
    starts: npt.NDArray[np.integer],
    width_days: float,
    model: Floats | None = None,
) -> BinnedCurves:
    """Bin light curves in time.

    Bins are those of a grid that all curves share, from time 0 in steps of the width, and only bins with points are
    given. A bin has no point of another, so a gap that is longer than a bin is never bridged.

    Parameters
    ----------
    time, mag, mag_err : ndarray, shape (n,)
        Curve after curve, each in the order of time: days, magnitudes and random errors. Points of which one is NaN,
        or the error not positive, do not count.
    starts : ndarray of int, shape (n_curves + 1,)
        Where each curve begins, and where the last ends.
    width_days : float
    model : ndarray, shape (n,)
        The signal of each star: what bins scatter by about it is noise. Without one a star counts as constant, and its
        variability as red noise.

    Raises
    ------
    ValueError
        If the width is not positive.
    """
    if not width_days > 0:
        raise ValueError(f"a bin must be longer than {width_days} days")
    good = np.isfinite(time) & np.isfinite(mag) & np.isfinite(mag_err) & (mag_err > 0)
    signal = np.zeros(len(mag)) if model is None else np.asarray(model, float)
    good &= np.isfinite(signal)
    curve = np.repeat(np.arange(len(starts) - 1), np.diff(starts))[good]
    time, left, mag_err, signal = time[good], (mag - signal)[good], mag_err[good], signal[good]
    number = np.floor(time / width_days)
    is_first = np.ones(len(time), bool)
    is_first[1:] = (np.diff(curve) != 0) | (np.diff(number) != 0)
    bins = np.append(np.flatnonzero(is_first), len(time)).astype(np.intp)
    curves = np.searchsorted(curve[bins[:-1]], np.arange(len(starts))).astype(np.intp)
    means = group_means(left, mag_err, bins)
    weight = means.weights / mag_err**2
    total = np.maximum(group_sums(weight, bins), np.finfo(float).tiny)
    counts = np.diff(bins)
    of_point = np.repeat(np.arange(len(counts)), counts)
    scales = np.ones(len(starts) - 1)
    scatter_within((left - means.means[of_point]) / mag_err, bins, curves, scales)
    of_bin = np.repeat(np.arange(len(scales)), np.diff(curves))
    # As certain as a mean of all of its points, but for what a robust mean loses.
    white = scales[of_bin] / np.sqrt(group_sums(mag_err**-2.0, bins) * _efficiency(counts))
    red = np.full(len(scales), np.nan)
    levels = group_medians(means.means, curves)
    scatter_of_bins(means.means - levels[of_bin], white, curves, red)
    return BinnedCurves(
        curves,
        group_sums(weight * time, bins) / total,
        means.means + group_sums(weight * signal, bins) / total,
        np.hypot(white, np.nan_to_num(red)[of_bin]),
        white,
        counts.astype(np.int64),
        red,
    )


def _efficiency(counts: npt.NDArray[np.integer]) -> Floats:
    """Return the share of the information that a biweight mean keeps of Gaussian points: all of one or two."""
    return np.where(counts > 2, 0.95, 1.0)

"""The robust magnitude of single stars in a night, from their measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.flags import SPOILED_OR_BLENDED
from skylake.core.group_means import group_sums
from skylake.core.group_medians import group_medians
from skylake.core.robust import MAD_TO_SIGMA

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: The variance of a median of more than two values in that of their mean.
_MEDIAN_VARIANCE = 0.5 * np.pi


@dataclass(frozen=True, slots=True)
class NightMedians:
    """Stars in a night; arrays of shape (n_stars,).

    Attributes
    ----------
    mag, err : ndarray
        Median of the good measurements, and its random error: from their errors or from their scatter, whichever is
        larger. NaN without any.
    n_points, n_good, flags : ndarray of int64
        Measurements, good ones, and the flags that any of them has.
    mjd_mid : ndarray
        Median time of the good ones; NaN without any.
    frame_id : ndarray of int64
        The frame of the good one with the smallest error; -1 without any.
    """

    mag: Floats
    err: Floats
    n_points: Integers
    n_good: Integers
    flags: Integers
    mjd_mid: Floats
    frame_id: Integers


def night_medians(
    star: Integers, n_stars: int, mag: Floats, err: Floats, flags: Integers, mjd: Floats, frame_id: Integers
) -> NightMedians:
    """Return the median magnitude of each star in a night.

    Measurements that are blended or flagged otherwise do not count, nor do those without magnitude or error. Two that
    differ much have an error that says so, so that one bad measurement of two is no change of the star.

    Parameters
    ----------
    star : ndarray of int64, shape (n,)
        The star of each measurement.
    n_stars : int
    mag, err : ndarray, shape (n,)
        Magnitudes and random errors; NaN for none.
    flags : ndarray of int64, shape (n,)
    mjd : ndarray, shape (n,)
    frame_id : ndarray of int64, shape (n,)
    """
    every = np.zeros(n_stars, np.int64)
    np.bitwise_or.at(every, star, flags)
    good = (flags & int(SPOILED_OR_BLENDED)) == 0
    good &= np.isfinite(mag) & np.isfinite(err) & (err > 0)
    order = np.flatnonzero(good)[np.lexsort((err[good], star[good]))]
    own, n = star[order], np.bincount(star[good], minlength=n_stars)
    starts = np.append(0, np.cumsum(n)).astype(np.intp)
    median = np.asarray(group_medians(mag[order], starts))
    off = np.asarray(group_medians(np.abs(mag[order] - median[own]), starts))
    with np.errstate(invalid="ignore", divide="ignore"):
        stated = np.sqrt(group_sums(err[order] ** 2, starts) / n)
        factor = np.sqrt(np.where(n > 2, _MEDIAN_VARIANCE, 1.0) / n)
        error = factor * np.maximum(stated, MAD_TO_SIGMA * off)
    best = np.full(n_stars, -1, np.int64)
    best[n > 0] = frame_id[order][starts[:-1][n > 0]]
    return NightMedians(
        median,
        error,
        np.bincount(star, minlength=n_stars),
        n,
        every,
        np.asarray(group_medians(mjd[order], starts)),
        best,
    )

"""What the measurements of a star on one night share: noise that does not average down within the night.

A star falls on other pixels on another night, or the haze has another colour; such offsets show in the means of nights
and not in the scatter of single measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.robust import intrinsic_scatter

Floats = npt.NDArray[np.float64]

#: A star whose offsets are larger than by this chance scatters by itself.
_CHANCE = 1e-4


@dataclass(frozen=True, slots=True)
class NightScatter:
    """Offsets that stars have from night to night.

    Attributes
    ----------
    scatter : float
        Their standard deviation beyond the noise of single measurements, in magnitudes.
    error : ndarray, shape (n_stars,)
        What they bring to the error of the mean of a star.
    most : ndarray, shape (n_stars,)
        Variance of its measurements, beyond what they bring on average, that a star may owe to them.
    """

    scatter: float
    error: Floats
    most: Floats


def night_scatter(
    star: npt.NDArray[np.int32],
    night: npt.NDArray[np.int32],
    residuals: npt.NDArray[np.floating[Any]],
    precisions: npt.NDArray[np.floating[Any]],
    n_stars: int,
) -> NightScatter:
    """Measure the offsets of stars from night to night.

    Parameters
    ----------
    star, night : ndarray of int, shape (n,)
        Of each measurement.
    residuals : ndarray, shape (n,)
        From the mean of the star; those without weight may be NaN.
    precisions : ndarray, shape (n,)
        Inverse variances of single measurements; 0 for those that do not count.
    n_stars : int
    """
    from scipy.stats import chi2

    used = np.flatnonzero(precisions > 0.0)
    n_nights = int(night.max(initial=0)) + 1
    keys, group = np.unique(star[used].astype(np.int64) * n_nights + night[used], return_inverse=True)
    of_star = keys // n_nights
    weight = np.bincount(group, precisions[used], len(keys))
    mean = np.bincount(group, precisions[used] * residuals[used], len(keys)) / weight
    nights = np.bincount(of_star, minlength=n_stars)
    again = nights[of_star] > 1
    lost = int(np.count_nonzero(nights > 1))
    scatter = intrinsic_scatter(mean[again], weight[again] ** -0.5, lost)
    total, squares = (np.bincount(of_star, one, n_stars) for one in (weight, weight**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(total > 0.0, squares / total**2, 0.0)
        largest = np.where(nights > 1, chi2.isf(_CHANCE, nights - 1) / (nights - 1) - 1.0, 0.0)
    return NightScatter(scatter, scatter * np.sqrt(share), scatter**2 * np.maximum(largest, 0.0))

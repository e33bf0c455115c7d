"""Statistics of many light curves at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.curves.statistics_kernels import COLUMNS, fill_statistics

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.integer]

#: Measurements that are no farther apart are a pair for Stetson's J, days.
PAIR_DAYS = 0.02


def curve_statistics(
    time: Floats, mag: Floats, mag_err: Floats, starts: Places, pair_days: float = PAIR_DAYS
) -> dict[str, Floats]:
    """Return statistics of each light curve.

    Parameters
    ----------
    time, mag, mag_err : ndarray, shape (n,)
        Curve after curve, each in the order of time: days, magnitudes, and their random errors. Points of which one is
        NaN, or the error not positive, do not count.
    starts : ndarray of int, shape (n_curves + 1,)
        Where each curve begins, and where the last ends.
    pair_days : float
        Measurements that are no farther apart are a pair for Stetson's J.

    Returns
    -------
    dict of ndarray, shape (n_curves,)
        By name; NaN where there are too few points.

        - ``n_points``: good points.
        - ``mean``, ``median``, ``scatter`` (standard deviation), ``robust_scatter`` (1.4826 times the median absolute
          deviation), ``skewness`` and ``kurtosis`` (excess, unbiased for Gaussian values).
        - ``weighted_mean``, ``weighted_mean_err``, ``chi2`` (reduced, about the weighted mean), ``excess_scatter``
          (beyond errors, by the method of moments of DerSimonian & Laird 1986).
        - ``eta``: mean square of successive differences over the variance; 2 for white noise, less for a curve that is
          smooth (von Neumann 1941, Ann. Math. Stat. 12, 367).
        - ``stetson_j``, ``stetson_k``, ``stetson_l``: Stetson (1996, PASP 108, 851); J is 0 and K 0.798 for noise.
        - ``minimum``, ``percentile_5``, ``percentile_25``, ``percentile_75``, ``percentile_95``, ``maximum``, and
          ``amplitude``, half of the range of percentiles 5 to 95.

    Raises
    ------
    ValueError
        Where `starts` does not end with the last point.
    """
    starts = np.ascontiguousarray(starts, np.intp)
    if len(starts) == 0 or starts[0] != 0 or starts[-1] != len(time) or np.any(np.diff(starts) < 0):
        raise ValueError(f"starts must rise from 0 to the number of points, {len(time)}")
    table = np.full((len(starts) - 1, len(COLUMNS)), np.nan)
    arrays = (np.ascontiguousarray(one, float) for one in (time, mag, mag_err))
    fill_statistics(*arrays, starts, float(pair_days), table)
    return {name: table[:, place] for place, name in enumerate(COLUMNS)}

"""Noise of binned light curves, compiled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.excess_scatter import refined_variance
from skylake.core.jit import kernel
from skylake.core.robust import MAD_TO_SIGMA, REFINED_VARIANCE, SCALE_REFINED_CUT
from skylake.core.sphere import FloatArray

Places = npt.NDArray[np.intp]

#: Less than this number of points beyond one for each bin cannot show the scatter within bins.
_LEAST_FREE = 5
#: Fewer bins cannot show the scatter of bins.
LEAST_BINS = 5


@kernel(error_model="numpy")
def scatter_within(pulls: FloatArray, bins: Places, curves: Places, scales: FloatArray) -> None:
    """Fill in how much larger the scatter of points about their bins is than their errors, for each curve.

    Parameters
    ----------
    pulls : ndarray, shape (n,)
        Residuals of points about the mean of their bin over their errors.
    bins : ndarray of int, shape (n_bins + 1,)
        Where the points of each bin begin.
    curves : ndarray of int, shape (n_curves + 1,)
        Where the bins of each curve begin.
    scales : ndarray, shape (n_curves,)
        Filled; 1 for curves with too few points in their bins.
    """
    for curve in range(len(curves) - 1):
        first, last = bins[curves[curve]], bins[curves[curve + 1]]
        lost = curves[curve + 1] - curves[curve]
        scales[curve] = 1.0
        if last - first >= lost + _LEAST_FREE:
            mine = pulls[first:last]
            start = _middle_square(mine) * (last - first) / (last - first - lost)
            zero = np.zeros(last - first)
            scales[curve] = np.sqrt(
                refined_variance(mine, zero, start, lost, SCALE_REFINED_CUT, REFINED_VARIANCE, 1e-6)
            )


@kernel(error_model="numpy")
def scatter_of_bins(residuals: FloatArray, errors: FloatArray, curves: Places, red: FloatArray) -> None:
    """Fill in the scatter of bins beyond their errors, for each curve; NaN for curves with too few bins.

    Parameters
    ----------
    residuals, errors : ndarray, shape (n_bins,)
        Means of bins about the curve, and their white errors.
    curves : ndarray of int, shape (n_curves + 1,)
    red : ndarray, shape (n_curves,)
    """
    for curve in range(len(curves) - 1):
        mine = slice(curves[curve], curves[curve + 1])
        if curves[curve + 1] - curves[curve] < LEAST_BINS:
            red[curve] = np.nan
            continue
        beyond = _middle_square(residuals[mine]) - np.median(errors[mine]) ** 2
        start = max(beyond, 1e-4 * np.median(errors[mine]) ** 2)
        red[curve] = np.sqrt(
            refined_variance(
                residuals[mine], errors[mine], start, 1, SCALE_REFINED_CUT, REFINED_VARIANCE, 1e-6
            )
        )


@kernel(error_model="numpy")
def _middle_square(values: FloatArray) -> float:
    return (MAD_TO_SIGMA * np.median(np.abs(values))) ** 2

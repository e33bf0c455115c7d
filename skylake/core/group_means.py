"""Robust means of many groups of values at once, compiled.

Each is what :func:`skylake.core.robust.robust_mean` finds with a known scatter; a night has thousands of frames, and
calls for one at a time would take longer than the work itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.core.robust import BIWEIGHT_CUT, FORMAL_WEIGHT, LEAST_LEFT, LEAST_SLOPE
from skylake.core.sphere import FloatArray

Places = npt.NDArray[np.intp]

#: Change of a mean, over its smallest error, with which the iteration ends.
_TOLERANCE = 1e-8
_ITERATIONS = 60
#: Below any scatter that matters; exact data must not divide by zero.
_LEAST_SPREAD = 1e-9


@dataclass(frozen=True, slots=True)
class GroupMeans:
    """Robust means of groups.

    Attributes
    ----------
    means, errors : ndarray, shape (n_groups,)
        The means and their standard errors; NaN for a group without values.
    weights : ndarray, shape (n,)
        Share of its weight that each value kept, 0 to 1.
    """

    means: FloatArray
    errors: FloatArray
    weights: FloatArray


def group_means(values: FloatArray, errors: FloatArray, starts: Places) -> GroupMeans:
    """Return the robust weighted mean of each group of values.

    The iteration begins at the weighted median, goes on with the weights of Tukey's biweight, and the error is that of
    the sandwich formula: see :mod:`skylake.core.robust`.

    Parameters
    ----------
    values, errors : ndarray, shape (n,)
        Finite, group by group. Errors hold all scatter that is expected.
    starts : ndarray of int, shape (n_groups + 1,)
        Where each group begins, and where the last ends.
    """
    n_groups = len(starts) - 1
    means, variances = np.full(n_groups, np.nan), np.full(n_groups, np.nan)
    weights = np.zeros(len(values))
    values = np.ascontiguousarray(values, float)
    spread = np.maximum(np.asarray(errors, float), _LEAST_SPREAD)
    _fill_means(values, spread, np.asarray(starts, np.intp), means, variances, weights)
    return GroupMeans(means, np.sqrt(variances), weights)


def group_sums(values: npt.NDArray[Any], starts: Places) -> FloatArray:
    """Return the sum of each group of values; 0 for one without values.

    Parameters
    ----------
    values, starts
        As in :func:`group_means`.
    """
    total = np.zeros(len(starts) - 1)
    some = np.flatnonzero(np.diff(starts))
    if some.size:
        total[some] = np.add.reduceat(np.asarray(values, float), starts[some])
    return total


@kernel
def finite_medians(values: Any, starts: Any, order: Any) -> Any:
    """Return the medians of :func:`skylake.core.group_medians.group_medians`."""
    medians = np.full(len(starts) - 1, np.nan)
    for group in range(len(medians)):
        rows = order[starts[group] : starts[group + 1]]
        of_group = np.empty(len(rows))
        n = 0
        for row in rows:
            if np.isfinite(values[row]):
                of_group[n] = values[row]
                n += 1
        if n > 0:
            medians[group] = np.median(of_group[:n])
    return medians


@kernel(error_model="numpy")
def weighted_median(values: FloatArray, weight: FloatArray) -> float:
    """Return the value with half of the weight on each side; the middle of two where half is exactly between them.

    Parameters
    ----------
    values, weight : ndarray, shape (n,)
        At least one.
    """
    values, weight = values.copy(), weight.copy()
    low, high, below, half = 0, len(values) - 1, 0.0, 0.5 * weight.sum()
    # Hoare's selection: the part that holds the half is parted again, until nothing is left to part.
    while low < high:
        pivot = values[(low + high) // 2]
        i, j, passed = low, high, below
        while i <= j:
            while values[i] < pivot:
                passed += weight[i]
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                weight[i], weight[j] = weight[j], weight[i]
                passed += weight[i]
                i += 1
                j -= 1
        # Up to j all are at most the pivot, from i on all are at least that; between them it stands alone.
        left = passed - (weight[i - 1] if i - j == 2 else 0.0)
        if left >= half * (1.0 + 1e-12):
            high = j
        elif left >= half * (1.0 - 1e-12):
            return float(0.5 * (values[low : j + 1].max() + values[j + 1 : high + 1].min()))
        elif i - j == 2 and passed >= half * (1.0 - 1e-12):
            if passed > half * (1.0 + 1e-12) or i > high:
                return float(pivot)
            return float(0.5 * (pivot + values[i : high + 1].min()))
        else:
            low, below = i, passed
    return float(values[low])


@kernel(error_model="numpy")
def _fill_means(
    values: FloatArray,
    spread: FloatArray,
    starts: Places,
    means: FloatArray,
    variances: FloatArray,
    weights: FloatArray,
) -> None:
    for group in range(len(starts) - 1):
        mine = slice(starts[group], starts[group + 1])
        if starts[group + 1] > starts[group]:
            means[group] = _mean(values[mine], spread[mine], weights[mine])
            variances[group] = _variance(values[mine] - means[group], spread[mine])


@kernel(error_model="numpy")
def _mean(values: FloatArray, spread: FloatArray, weights: FloatArray) -> float:
    """Return the mean of one group, and write the share that each value keeps of its weight."""
    # Of two values none has a majority.
    mean = weighted_median(values, 1.0 / spread) if len(values) > 2 else values.mean()
    tolerance = _TOLERANCE * spread.min()
    for _ in range(_ITERATIONS):
        kept, total, moment = 0.0, 0.0, 0.0
        for i in range(len(values)):
            off = values[i] - mean
            u = off / spread[i] / BIWEIGHT_CUT
            share = (1.0 - u * u) ** 2 if abs(u) < 1.0 else 0.0
            weights[i] = share
            kept += share
            total += share / spread[i] ** 2
            moment += share / spread[i] ** 2 * off
        if kept < LEAST_LEFT:
            break
        mean += moment / total
        if abs(moment / total) <= tolerance:
            break
    return mean


@kernel(error_model="numpy")
def _variance(residuals: FloatArray, spread: FloatArray) -> float:
    """Return the variance of the mean of one group: the sandwich of :func:`skylake.core.robust.robust_fit`."""
    n = len(residuals)
    kept, slope, n_inside, precision, meat = 0.0, 0.0, 0, 0.0, 0.0
    for i in range(n):
        u = residuals[i] / spread[i]
        square = (u / BIWEIGHT_CUT) ** 2
        if square < 1.0:
            share = (1.0 - square) ** 2
            n_inside += 1
            kept += share
            slope += (1.0 - square) * (1.0 - 5.0 * square)
            precision += share / spread[i] ** 2
            meat += (u * share / spread[i]) ** 2
    if kept < LEAST_LEFT:
        # Values that exclude each other give only how far apart they are.
        apart = n / max(n - 1, 1) * np.mean(residuals**2)
        return 1.0 / np.sum(1.0 / (spread**2 + apart))
    bread = 1.0 / (max(slope / kept, LEAST_SLOPE) * precision)
    free = max(n_inside - 1, 0)
    scattered = bread**2 * meat * n_inside / max(free, 1)
    return (free * scattered + FORMAL_WEIGHT * bread) / (free + FORMAL_WEIGHT)

"""Statistics of many light curves in one pass over flat arrays, compiled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.sphere import FloatArray

Places = npt.NDArray[np.intp]

#: The columns that :func:`fill_statistics` fills, in order.
COLUMNS = (
    "n_points",
    "mean",
    "median",
    "weighted_mean",
    "weighted_mean_err",
    "scatter",
    "robust_scatter",
    "skewness",
    "kurtosis",
    "chi2",
    "eta",
    "stetson_j",
    "stetson_k",
    "stetson_l",
    "excess_scatter",
    "amplitude",
    "minimum",
    "percentile_5",
    "percentile_25",
    "percentile_75",
    "percentile_95",
    "maximum",
)
#: Longest curve that is sorted by insertion, which beats the sort of numpy for few points.
_FEW = 24
#: Tuning constants of the weights of Stetson's mean, and its most rounds.
_STETSON_CUT, _STETSON_ROUNDS = 2.0, 4
#: Of its error: a step of the mean with which the rounds end.
_STETSON_NEAR = 0.01
#: K of Gaussian noise, sqrt(2 / pi).
_GAUSSIAN_K = 0.7978845608028654
_HALF, _TWENTIETH, _QUARTER = 0.5, 0.05, 0.25


@kernel(error_model="numpy")
def fill_statistics(
    time: FloatArray, mag: FloatArray, err: FloatArray, starts: Places, pair_days: float, table: FloatArray
) -> None:
    """Fill `table`, of shape (n_curves, len(COLUMNS)) and full of NaN, from the good points of each curve."""
    longest = 0
    for curve in range(len(starts) - 1):
        longest = max(longest, starts[curve + 1] - starts[curve])
    t, m, inverse = np.empty(longest), np.empty(longest), np.empty(longest)
    ordered, pull = np.empty(longest), np.empty(longest)
    for curve in range(len(starts) - 1):
        n = 0
        for place in range(starts[curve], starts[curve + 1]):
            if np.isfinite(mag[place]) and err[place] > 0.0 and np.isfinite(err[place]):
                t[n], m[n], inverse[n] = time[place], mag[place], 1.0 / err[place]
                n += 1
        row = table[curve]
        row[0] = n
        if n > 0:
            _moments(m[:n], row)
            _weighted(m[:n], inverse[:n], row)
            _order(m[:n], ordered[:n], row)
        if n > 1:
            _pairs(t[:n], m[:n], inverse[:n], pull[:n], pair_days, row)


@kernel(error_model="numpy")
def _moments(m: FloatArray, row: FloatArray) -> None:
    """Mean, standard deviation, skewness, excess kurtosis."""
    n, total = len(m), 0.0
    for value in m:
        total += value
    mean = total / n
    second, third, fourth = 0.0, 0.0, 0.0
    for value in m:
        off = value - mean
        square = off * off
        second += square
        third += square * off
        fourth += square * square
    row[1] = mean
    if n > 1:
        row[5] = np.sqrt(second / (n - 1))
    if n > 2 and second > 0.0:
        row[7] = np.sqrt(n * (n - 1.0)) / (n - 2.0) * (third / n) / (second / n) ** 1.5
    if n > 3 and second > 0.0:
        excess = (fourth / n) / (second / n) ** 2 - 3.0
        row[8] = (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * excess + 6.0)


@kernel(error_model="numpy")
def _weighted(m: FloatArray, inverse: FloatArray, row: FloatArray) -> None:
    """Weighted mean, its error, chi-square, and the scatter beyond errors."""
    n, total, weighted, squares = len(m), 0.0, 0.0, 0.0
    for i in range(n):
        weight = inverse[i] * inverse[i]
        total += weight
        weighted += weight * m[i]
        squares += weight * weight
    mean = weighted / total
    chi2 = 0.0
    for i in range(n):
        off = (m[i] - mean) * inverse[i]
        chi2 += off * off
    row[3], row[4] = mean, 1.0 / np.sqrt(total)
    if n > 1:
        row[9] = chi2 / (n - 1)
        # DerSimonian & Laird (1986): the variance beyond errors that brings chi-square to its degrees of freedom.
        row[14] = np.sqrt(max(chi2 - (n - 1.0), 0.0) / (total - squares / total))


@kernel(error_model="numpy")
def _order(m: FloatArray, ordered: FloatArray, row: FloatArray) -> None:
    """Median, percentiles and the robust scatter."""
    n = len(m)
    ordered[:] = m
    _sort(ordered)
    row[2] = median = _quantile(ordered, _HALF)
    row[16], row[21] = ordered[0], ordered[n - 1]
    row[17], row[20] = _quantile(ordered, _TWENTIETH), _quantile(ordered, 1.0 - _TWENTIETH)
    row[18], row[19] = _quantile(ordered, _QUARTER), _quantile(ordered, 1.0 - _QUARTER)
    row[15] = 0.5 * (row[20] - row[17])
    if n > 1:
        # Deviations fall to the median and rise from it: a merge sorts them.
        low, high = n // 2 - 1, n // 2
        before, deviation = 0.0, 0.0
        for _ in range(n // 2 + 1):
            below = median - ordered[low] if low >= 0 else np.inf
            above = ordered[high] - median if high < n else np.inf
            before = deviation
            if below < above:
                deviation, low = below, low - 1
            else:
                deviation, high = above, high + 1
        row[6] = MAD_TO_SIGMA * (deviation if n % 2 else 0.5 * (before + deviation))


@kernel(error_model="numpy")
def _sort(values: FloatArray) -> None:
    if len(values) > _FEW:
        values.sort()
        return
    for i in range(1, len(values)):
        one, j = values[i], i
        while j > 0 and values[j - 1] > one:
            values[j] = values[j - 1]
            j -= 1
        values[j] = one


@kernel(error_model="numpy")
def _quantile(ordered: FloatArray, share: float) -> float:
    """Return a quantile by linear interpolation, as numpy does it."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@kernel(error_model="numpy")
def _pairs(
    t: FloatArray, m: FloatArray, inverse: FloatArray, pull: FloatArray, pair_days: float, row: FloatArray
) -> None:
    """Von Neumann's eta, and J, K and L of Stetson (1996, PASP 108, 851)."""
    n, successive = len(m), 0.0
    for i in range(1, n):
        successive += (m[i] - m[i - 1]) ** 2
    variance = row[5] * row[5]
    if variance > 0.0:
        row[10] = successive / (n - 1) / variance
    mean = _stetson_mean(m, inverse, row[3])
    scale, absolute, square = np.sqrt(n / (n - 1.0)), 0.0, 0.0
    for i in range(n):
        pull[i] = scale * (m[i] - mean) * inverse[i]
        absolute += abs(pull[i])
        square += pull[i] * pull[i]
    total, weights, i = 0.0, 0.0, 0
    while i < n:
        if i + 1 < n and t[i + 1] - t[i] <= pair_days:
            product, weight, step = pull[i] * pull[i + 1], 1.0, 2
        else:
            product, weight, step = pull[i] * pull[i] - 1.0, 0.5, 1
        total += weight * np.sign(product) * np.sqrt(abs(product))
        weights += weight
        i += step
    row[11] = total / weights
    if square > 0.0:
        row[12] = absolute / n / np.sqrt(square / n)
        row[13] = row[11] * row[12] / _GAUSSIAN_K


@kernel(error_model="numpy")
def _stetson_mean(m: FloatArray, inverse: FloatArray, mean: float) -> float:
    """Return the mean whose weights fall with the size of residuals."""
    scale = np.sqrt(len(m) / (len(m) - 1.0)) / _STETSON_CUT
    for _ in range(_STETSON_ROUNDS):
        total, weights = 0.0, 0.0
        for i in range(len(m)):
            off = scale * (m[i] - mean) * inverse[i]
            weight = inverse[i] * inverse[i] / (1.0 + off * off)
            total += weight * (m[i] - mean)
            weights += weight
        mean += total / weights
        if abs(total) <= _STETSON_NEAR * np.sqrt(weights):
            break
    return mean

"""Scatter beyond stated errors, compiled for fits that need it in each iteration.

The method is explained where it is used, in :mod:`skylake.core.robust`.
"""

from __future__ import annotations

import numpy as np

from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray

#: Less than any error; what is divided by it is as good as infinite.
_TINY = float(np.finfo(float).tiny)
#: Relative error of the start, and relative change with which the refinement ends.
_START_TOLERANCE = 1e-10
_REFINED_TOLERANCE = 1e-9
#: Of the refinement; each step gets nearer by half at least.
_REFINEMENTS = 100


@kernel(error_model="numpy")
def mean_rho(residuals: FloatArray, errors: FloatArray, scatter: float, cut: float) -> float:
    """Return the mean of rho(u) / rho(inf) of the biweight, 0 to 1.

    Parameters
    ----------
    residuals, errors : ndarray, shape (n,)
    scatter : float
        Added in quadrature to the errors.
    cut : float
        Standard deviations at which rho has its largest value.
    """
    total = 0.0
    for i in range(len(residuals)):
        left = 1.0 - residuals[i] ** 2 / max(errors[i] ** 2 + scatter**2, _TINY) / cut**2
        total += 1.0 - left * left * left if left > 0.0 else 1.0
    return total / len(residuals)


@kernel(error_model="numpy")
def _root(residuals: FloatArray, errors: FloatArray, level: float, cut: float, near: float) -> float:
    if mean_rho(residuals, errors, 0.0, cut) <= level:
        return 0.0
    low = high = near
    while mean_rho(residuals, errors, high, cut) > level:
        low, high = high, 2.0 * high
    while mean_rho(residuals, errors, low, cut) <= level:
        low, high = 0.5 * low, low
    a, b = high, low
    fa, fb = mean_rho(residuals, errors, a, cut) - level, mean_rho(residuals, errors, b, cut) - level
    share = 0.5
    while True:
        trial = a + share * (b - a)
        excess = mean_rho(residuals, errors, trial, cut) - level
        if (excess > 0.0) == (fa > 0.0):
            c, fc = a, fa
        else:
            c, fc, b, fb = b, fb, a, fa
        a, fa = trial, excess
        best = a if abs(fa) < abs(fb) else b
        least = _START_TOLERANCE * best / abs(b - a)
        if least > 0.5 or fa == 0.0:
            return best
        share = 0.5
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        if phi * phi < xi and (1.0 - phi) ** 2 < 1.0 - xi:
            share = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        share = min(1.0 - least, max(least, share))


def scale_start(residuals: FloatArray, errors: FloatArray, level: float, cut: float) -> float:
    """Return the scatter at which the mean of rho is a level, 0 where the errors alone bring it below.

    The root is found by interpolation within a bracket that never grows (Chandrupatla 1997, Advances in Engineering
    Software 28, 145). The bracket starts in the middle of the residuals: the largest may be off by any power of ten.

    Parameters
    ----------
    residuals, errors : ndarray, shape (n,)
    level : float
        Between 0 and 1.
    cut : float
        As for :func:`mean_rho`.
    """
    sizes, middle = np.abs(residuals), len(residuals) // 2
    # Squares of numbers about 1 neither vanish nor overflow.
    unit = float(np.partition(sizes, middle)[middle]) or 1e-12 * float(sizes.max()) or 1.0
    with np.errstate(over="ignore"):  # errors that are as good as infinite
        return unit * float(_root(residuals / unit, errors / unit, level, cut, 1.0))


@kernel(error_model="numpy")
def refined_variance(
    residuals: FloatArray,
    errors: FloatArray,
    start: float,
    lost: int,
    cut: float,
    expected: float,
    tolerance: float = _REFINED_TOLERANCE,
) -> float:
    """Return the intrinsic variance whose weighted sum of squares is what the weights leave of a Gaussian.

    The weights and the variance are found together; one step of the secant in the reciprocal of the sum, which is
    all but a straight line, goes with each change of the weights.

    Parameters
    ----------
    residuals, errors : ndarray, shape (n,)
    start : float
        The variance to begin with.
    lost : int
        Degrees of freedom that the fit behind the residuals took.
    cut, expected : float
        Standard deviations at which a value has no weight, and the mean square of a standard normal so weighted.
    tolerance : float
        Relative change with which the refinement ends.
    """
    n, best = len(residuals), start
    for _ in range(_REFINEMENTS):
        counted, by_errors, sum_of_squares, slope = 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            square, variance = residuals[i] ** 2, errors[i] ** 2
            total = max(variance + best, _TINY)
            left = 1.0 - square / total / cut**2
            if left > 0.0:
                weight = left * left
                counted += weight
                by_errors += weight * square / max(variance, _TINY)
                sum_of_squares += weight * square / total
                slope += weight * square / total**2
        if counted <= lost + 1.0:
            break
        wanted = expected * counted * (n - lost) / n
        before = best
        if by_errors <= wanted:
            best = 0.0
        else:
            best = max(best + (sum_of_squares / wanted - 1.0) * sum_of_squares / slope, 0.5 * best)
        if abs(best - before) <= tolerance * before:
            break
    return best

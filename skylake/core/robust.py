"""Robust estimates and fits, with errors.

All estimates here are M-estimates with Tukey's biweight: a star that is off by five standard
deviations (a variable, a blend, a wrong match, a saturated core) has no weight at all, one that is off
by two has nearly all of it, and nothing jumps when a star crosses a line. Errors come from the scatter
that is there (the sandwich formula; Huber & Ronchetti 2009, Robust Statistics, sec. 7.6), steadied by
the stated errors where values are few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: From median absolute deviation to standard deviation of a Gaussian.
MAD_TO_SIGMA = 1.482602218505602
#: Tuning constant of the location: 95 % efficient for Gaussian data.
BIWEIGHT_CUT = 4.685
#: Mean weight of Gaussian data under it, and their mean square with these weights.
MEAN_SHARE, SHARED_VARIANCE = 0.9151076, 0.8280730
#: Tuning constant of the scale: withstands one half of arbitrary outliers (Rousseeuw & Yohai 1984).
_SCALE_CUT = 1.5476
#: Expectation of rho(u) / rho(inf) for a standard normal u under that constant.
_SCALE_LEVEL = 0.5
#: How many values the errors stated for them are worth against the scatter that they show.
FORMAL_WEIGHT = 5.0
#: Tuning constant of the weights that refine the scale: one half at 1.9 standard deviations, as efficient for Gaussian
#: data as a cut at 2.5, and with fewer of the outliers that are just beyond.
SCALE_REFINED_CUT = 3.5
#: Mean square of a standard normal under these weights.
REFINED_VARIANCE = 0.7117584
#: With less than this number of values left to a fit there is none: its start stands, and all count for the error.
LEAST_LEFT = 0.5
#: The mean slope of the weighted residuals is 0.83 of their mean weight for Gaussian data; no less than this counts.
LEAST_SLOPE = 0.5
_ITERATIONS = 50
#: Change of the fitted values with which the iteration ends, over the scatter, and over the values, whose digits end.
_TOLERANCE, _ROUNDING = 1e-8, 4.0 * float(np.finfo(float).eps)


@dataclass(frozen=True, slots=True)
class Fit:
    """A robust linear fit.

    Attributes
    ----------
    coefficients : ndarray, shape (p,)
    covariance : ndarray, shape (p, p)
    residuals : ndarray, shape (n,)
        Values minus fit.
    weights : ndarray, shape (n,)
        Share of its weight that each value kept, 0 to 1.
    intrinsic : float
        Scatter beyond the stated errors.
    """

    coefficients: Floats
    covariance: Floats
    residuals: Floats
    weights: Floats
    intrinsic: float

    @property
    def errors(self) -> Floats:
        """Standard errors of the coefficients."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def sigma_mad(values: npt.ArrayLike) -> float:
    """Return 1.4826 times the median absolute deviation; NaN without a finite value."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(finite - np.median(finite))))


def intrinsic_scatter(residuals: Floats, errors: Floats, lost: int = 1) -> float:
    """Return the scatter which, added in quadrature to the errors, explains the residuals.

    A start that half of the values cannot spoil, the M-estimate of scale, is refined with weights that
    fall to zero at 3.5 standard deviations, with what they take from a Gaussian made good. With a quarter of
    outliers the start is up to 50 % too large, the refined value 12 % or less. The weights fall smoothly, or one
    star that crosses a line would let the scatter jump, and with it take in the next.

    Parameters
    ----------
    residuals, errors : ndarray, shape (n,)
    lost : int
        Degrees of freedom that the fit behind the residuals took.

    Returns
    -------
    float
        0 if the stated errors suffice.
    """
    from skylake.core.excess_scatter import refined_variance, scale_start

    n = len(residuals)
    if n <= lost:
        return 0.0
    residuals, errors = (np.ascontiguousarray(values, float) for values in (residuals, errors))
    start = scale_start(residuals, errors, _SCALE_LEVEL * (n - lost) / n, _SCALE_CUT)
    variance = refined_variance(residuals, errors, start**2, lost, SCALE_REFINED_CUT, REFINED_VARIANCE)
    return float(np.sqrt(variance))


def robust_fit(
    design: Floats,
    values: Floats,
    errors: Floats,
    intrinsic: float | None = None,
    prior: tuple[Floats, Floats] | None = None,
) -> Fit:
    """Fit ``values = design @ coefficients`` by iterated reweighting.

    Parameters
    ----------
    design : ndarray, shape (n, p)
    values, errors : ndarray, shape (n,)
        Finite; errors are standard errors and may be zero.
    intrinsic : float or None
        Scatter beyond the errors where it is known; None estimates it from these values.
    prior : (ndarray, ndarray) or None
        Gaussian prior of the coefficients: means and standard deviations (infinite for none, 0 to fix).

    Raises
    ------
    ValueError
        With fewer values than coefficients and no prior.
    """
    n, p = design.shape
    if n < p and prior is None:
        raise ValueError(f"{n} values cannot fix {p} coefficients")
    mean, precision = _prior(prior, p)
    if n == 0:
        return Fit(
            mean.copy(), np.linalg.pinv(np.diag(precision)), np.zeros(0), np.zeros(0), intrinsic or 0.0
        )
    spread = _floor(errors)
    coefficients = _start(design, values, spread, mean, precision)
    scatter = intrinsic if intrinsic is not None else 0.0
    share = np.ones(n)
    least_step = _ROUNDING * float(np.median(np.abs(values)))
    for _ in range(_ITERATIONS):
        residuals = values - design @ coefficients
        if intrinsic is None:
            scatter = intrinsic_scatter(residuals, errors, p)
        spread = _floor(np.hypot(errors, scatter))
        share = biweight(residuals / spread)
        if float(share.sum()) < LEAST_LEFT:
            break
        previous, coefficients = coefficients, _solve(design, values, share / spread**2, mean, precision)
        # Relative to the scatter, so that the units of values and of columns make no difference.
        if np.all(np.abs(design @ (coefficients - previous)) <= least_step + _TOLERANCE * np.median(spread)):
            break
    residuals = values - design @ coefficients
    covariance = _sandwich(design, residuals, spread, precision)
    return Fit(coefficients, covariance, residuals, share, float(scatter))


def robust_mean(values: Floats, errors: Floats, intrinsic: float | None = None) -> Fit:
    """Return the robust weighted mean of values, as a fit with one coefficient."""
    return robust_fit(np.ones((len(values), 1)), values, errors, intrinsic)


def _prior(prior: tuple[Floats, Floats] | None, p: int) -> tuple[Floats, Floats]:
    if prior is None:
        return np.zeros(p), np.zeros(p)
    return np.asarray(prior[0], float), 1.0 / np.maximum(np.asarray(prior[1], float), 1e-7) ** 2


def _floor(errors: Floats) -> Floats:
    """Keep exact data from dividing by zero, far below any scatter that matters."""
    return np.maximum(errors, 1e-9)


def _start(design: Floats, values: Floats, spread: Floats, mean: Floats, precision: Floats) -> Floats:
    """Return a start that outliers cannot pull: least absolute deviations by reweighting."""
    coefficients = _solve(design, values, 1.0 / spread**2, mean, precision)
    for _ in range(_ITERATIONS):
        residuals = np.abs(values - design @ coefficients)
        softening = 1e-3 * max(float(np.median(residuals)), float(np.median(spread)))
        previous, coefficients = (
            coefficients,
            _solve(design, values, 1.0 / (np.maximum(residuals, softening) * spread), mean, precision),
        )
        if np.all(np.abs(design @ (coefficients - previous)) <= softening):
            break
    return coefficients


def _solve(design: Floats, values: Floats, weights: Floats, mean: Floats, precision: Floats) -> Floats:
    weighted = (design * weights[:, None]).T
    normal, right = weighted @ design + np.diag(precision), weighted @ values + precision * mean
    if len(mean) == 1:
        return right / normal[0] if normal[0, 0] > 0.0 else np.zeros(1)
    return np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0])


def biweight(u: Floats, cut: float = BIWEIGHT_CUT) -> Floats:
    """Return the share of its weight that a value off by `u` standard deviations keeps, 1 to 0 at `cut`."""
    return np.asarray(np.where(np.abs(u) < cut, (1.0 - (u / cut) ** 2) ** 2, 0.0))


def _sandwich(design: Floats, residuals: Floats, spread: Floats, precision: Floats) -> Floats:
    """Return A^-1 B A^-1 with the loss of degrees of freedom made good."""
    p = design.shape[1]
    u = residuals / spread
    inside = np.abs(u) < BIWEIGHT_CUT
    share = biweight(u)
    if float(share.sum()) < LEAST_LEFT:
        # Values that exclude each other give only how far apart they are.
        lost = len(residuals) / max(len(residuals) - p, 1)
        scaled = design / np.hypot(spread, np.sqrt(lost * np.mean(residuals**2)))[:, None]
        return np.asarray(np.linalg.pinv(scaled.T @ scaled + np.diag(precision)))
    psi = u * share
    slope = np.where(inside, (1.0 - (u / BIWEIGHT_CUT) ** 2) * (1.0 - 5.0 * (u / BIWEIGHT_CUT) ** 2), 0.0)
    # The slopes of a few values far apart may add up to nothing or less, and the errors to anything.
    steep = max(float(slope.sum()) / max(float(share.sum()), 1e-300), LEAST_SLOPE)
    scaled = design / spread[:, None]
    bread = np.linalg.pinv((scaled * (steep * share)[:, None]).T @ scaled + np.diag(precision))
    n_inside = int(np.count_nonzero(inside))
    free = max(n_inside - p, 0)
    meat = n_inside / max(free, 1) * (scaled * (psi**2)[:, None]).T @ scaled + np.diag(precision)
    covariance = bread @ meat @ bread
    # A few values may agree by chance; what their errors and the intrinsic scatter imply counts as if it
    # came from some more of them.
    return np.asarray((free * covariance + FORMAL_WEIGHT * bread) / (free + FORMAL_WEIGHT))

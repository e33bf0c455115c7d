"""Robust means and polynomials of the rings of growth curves of many stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.robust import biweight

Floats = npt.NDArray[np.float64]

_ITERATIONS = 12
_BISECTIONS = 6
#: The slopes of a few values far apart may add up to nothing; no less than this counts.
_LEAST_SLOPE = 0.5
#: Half of the deviations of a Gaussian are smaller than so many standard deviations.
_PROBABLE = 0.6745


@dataclass(frozen=True, slots=True)
class RingFits:
    """Fits of rings.

    Attributes
    ----------
    coefficients : ndarray, shape (rings, terms)
    influence : ndarray, shape (rings, stars)
        What each star adds to the error of the first coefficient.
    """

    coefficients: Floats
    influence: Floats


def fit_rings(ratio: Floats, noise: Floats, design: Floats, variation: tuple[float, float]) -> RingFits:
    """Fit each ring with a polynomial, by iterated reweighting with Tukey's biweight.

    Stars differ because the point spread function varies over the field, by a share of what the ring
    holds. A dozen stars hardly constrain it, so it is kept within limits: without the upper one, chance
    scatter in an outer ring makes faint stars count like bright ones; without the lower one, a single
    bright star counts for all, and its place in the field for the whole field.

    Parameters
    ----------
    ratio, noise : ndarray, shape (rings, stars)
        Light in each ring, in units of each star's disc, and its standard error; infinite where it is unknown.
    design : ndarray, shape (stars, terms)
        The first column is 1.
    variation : tuple of float
        Least and largest scatter of the stars, as a share of the ring's middle.
    """
    middle = _weighted_medians(ratio, noise)
    spread = _spread(ratio, noise, middle, variation)
    known = np.isfinite(noise)
    values = np.where(known, ratio, 0.0)
    coefficients = np.zeros((len(ratio), design.shape[1]))
    coefficients[:, 0] = middle
    for _ in range(_ITERATIONS):
        residual = values - coefficients @ design.T
        weight = np.where(known, biweight(residual / spread) / spread**2, 0.0)
        inverse = np.linalg.pinv(_normal(weight, design), hermitian=True)
        before, coefficients = coefficients, np.einsum("rij,rj->ri", inverse, (weight * values) @ design)
        if np.all(np.abs(coefficients - before) <= 1e-7 * np.abs(middle)[:, None] + 1e-12):
            break
    residual = values - coefficients @ design.T
    # A star with much of the weight pulls the fit to itself and so hides how far it is off.
    pull = weight * np.einsum("ni,rij,nj->rn", design, inverse, design, optimize=True)
    influence = (inverse[:, 0] @ design.T) * weight * residual / np.maximum(1.0 - pull, 0.1)
    influence /= _steepness(np.where(known, biweight(residual / spread), 0.0))[:, None]
    return RingFits(coefficients, np.where(known, influence, 0.0))


def _steepness(share: Floats) -> Floats:
    """Return the mean slope of the weighted residuals over their mean weight, from the shares of weight kept.

    With z the square of the deviation in units of the cut, the share is (1 - z)^2 and the slope (1 - z)(1 - 5 z).
    """
    root = np.sqrt(share)
    slope = (root * (5.0 * root - 4.0)).sum(axis=1)
    return np.asarray(np.maximum(slope / np.maximum(share.sum(axis=1), 1e-300), _LEAST_SLOPE))


def _normal(weight: Floats, design: Floats) -> Floats:
    pairs = design[:, :, None] * design[:, None, :]
    return np.asarray(np.tensordot(weight, pairs, axes=1))


def _weighted_medians(values: Floats, noise: Floats) -> Floats:
    order = np.argsort(values, axis=1)
    weight = np.take_along_axis(1.0 / np.maximum(noise, np.finfo(float).tiny), order, axis=1).cumsum(axis=1)
    place = np.argmax(weight >= 0.5 * weight[:, -1:], axis=1)
    return np.asarray(values[np.arange(len(values)), order[np.arange(len(values)), place]])


def _spread(ratio: Floats, noise: Floats, middle: Floats, variation: tuple[float, float]) -> Floats:
    """Return noise with the scatter of the stars, within limits, for which half of them are probable."""
    deviation = np.abs(ratio - middle[:, None])
    low, high = (share * np.maximum(np.abs(middle), 1e-9) for share in variation)
    for _ in range(_BISECTIONS):
        trial = 0.5 * (low + high)
        larger = np.median(deviation / np.hypot(noise, trial[:, None]), axis=1) > _PROBABLE
        low, high = np.where(larger, trial, low), np.where(larger, high, trial)
    return np.asarray(np.hypot(noise, 0.5 * (low + high)[:, None]))

"""Where stars are so bright that a camera does not measure them right: saturation, and fluxes that are not linear."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.group_means import group_sums
from skylake.core.group_medians import group_medians

Floats = npt.NDArray[np.float64]

#: The brightest stars are held against the next fainter ones, so many times as many, and this number at least.
_COMPARED, _FEWEST_COMPARED = 2, 20
#: So few stars can be cut, and at most this share of all.
_FEWEST_CUT, _MOST_CUT = 4, 1.0 / 3.0
#: A star counts as off by no more standard deviations than these, and so has this variance if all is well.
_CLIP, _CLIPPED_VARIANCE = 2.5, 0.9776
#: So many measurements, drawn at random, tell as much as more of the same stars.
_ENOUGH = 40_000
#: A star that is measured too bright by so many standard deviations is a false match or a blend.
_FALSE = 5.0
#: Stars depart if their sum is off by so many standard deviations, and their mean by so many magnitudes: catalogs
#: differ by less from bright to faint stars.
_SIGNIFICANT, _LARGE_MAG = 4.5, 0.03


def bright_limit(
    star: npt.NDArray[np.intp], level: Floats, residual: Floats, errors: tuple[Floats, Floats]
) -> float:
    """Return the level above which residuals depart from those of the stars that are a little fainter.

    All measurements of a star count as one, as they share its error in the catalog. The brightest stars, 4 of them to
    a third of all, are compared with the next fainter ones. Where their residuals differ by more than chance would let
    them, the number that differs most clearly is cut, and the rest is looked at again. A star counts as off by 2.5
    standard deviations at most, so that a few variables or false matches cut nothing.

    Parameters
    ----------
    star : ndarray of int, shape (n,)
        Number of the star of each measurement, from 0.
    level : ndarray, shape (n,)
        How bright the star is on the detector, as the catalog predicts it, magnitudes.
    residual : ndarray, shape (n,)
        Predicted minus measured magnitude.
    errors : (ndarray, ndarray), shape (n,)
        Standard errors: of the measurement, and of the star, which all its measurements share.

    Returns
    -------
    float
        Minus infinity if all is well, or stars are too few to tell.
    """
    if len(star) == 0:
        return -np.inf
    if len(star) > _ENOUGH:
        some = np.random.default_rng(len(star)).integers(0, len(star), _ENOUGH)
        star, level, residual, errors = (
            star[some],
            level[some],
            residual[some],
            (errors[0][some], errors[1][some]),
        )
    order = np.argsort(star, kind="stable")
    starts = np.append(np.flatnonzero(np.diff(star[order], prepend=-1)), len(order))
    predicted, residual, own = (group_medians(one[order], starts) for one in (level, residual, errors[1]))
    # Measurements of a star may be false matches; the variance of a median is that of a mean times pi / 2.
    measured = 0.5 * np.pi / group_sums(1.0 / np.maximum(errors[0][order], 1e-6) ** 2, starts)
    spread = np.maximum(np.sqrt(measured + own**2), 1e-6)
    # Bright stars are measured better than catalogs know them. In the order of the catalog those that it makes too
    # bright would have the bright end to themselves; false matches would have it in the order of the measured ones.
    levels = predicted - np.where(residual < _FALSE * spread, residual, 0.0)
    order = np.argsort(levels, kind="stable")
    levels, residual, spread = levels[order], residual[order], spread[order]
    n_cut, most = 0, int(_MOST_CUT * len(order))
    while n_more := _departing(residual[n_cut:], spread[n_cut:], most - n_cut):
        n_cut += n_more
    return float(0.5 * (levels[n_cut - 1] + levels[n_cut])) if n_cut else -np.inf


def _departing(off: Floats, spread: Floats, most: int) -> int:
    """Return how many of the first values depart from those that follow; 0 for none."""
    n = len(off)
    sizes = np.arange(_FEWEST_CUT, most + 1)
    last = sizes + np.maximum(_COMPARED * sizes, _FEWEST_COMPARED)
    sizes, last = sizes[last <= n], last[last <= n]
    if len(sizes) == 0:
        return 0
    clipped = np.clip(off, -_CLIP * spread, _CLIP * spread)
    precision = _sums(1.0 / spread**2)
    moment = _sums(clipped / spread**2)
    compared = precision[last] - precision[sizes]
    level = (moment[last] - moment[sizes]) / compared
    # Sums of (value - level) / spread over the brightest, and how far off chance brings them.
    inverse = _sums(1.0 / spread)[sizes]
    excess = _sums(clipped / spread)[sizes] - level * inverse
    chance = np.sqrt(_CLIPPED_VARIANCE * sizes + inverse**2 / compared)
    large = np.abs(moment[sizes] / precision[sizes] - level) > _LARGE_MAG
    certainty = np.where(large, np.abs(excess) / chance, 0.0)
    best = int(np.argmax(certainty))
    return int(sizes[best]) if certainty[best] > _SIGNIFICANT else 0


def _sums(values: Floats) -> Floats:
    """Return the sum of the first 0, 1, 2 … values."""
    return np.concatenate([[0.0], np.cumsum(values)])

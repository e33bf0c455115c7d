"""Which stars scatter more than others of their magnitude, and how likely noise alone would do that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: A knot of the noise curve has so many stars, and the curve no more than so many knots.
_LEAST_STARS, _MOST_KNOTS = 40, 30
#: Stars beyond this deviate are no part of the curve in the next round.
_UNUSUAL, _ROUNDS = 3.5, 4
#: Quantiles of a normal distribution at which the spread of constant stars is read, with their deviates.
_LOWER, _UPPER = (0.158655254, 1.0), (0.75, 0.6744897501960817)


@dataclass(frozen=True, slots=True)
class ScatterExcess:
    """Scatter of stars against the noise curve; arrays of shape (n_stars,), NaN where it cannot be judged.

    Attributes
    ----------
    expected : ndarray
        Scatter of a constant star of this magnitude.
    excess : ndarray
        What has to be added to it in quadrature to make the scatter of the star; 0 for less scatter.
    significance : ndarray
        Normal deviate: 0 on average and 1 wide for constant stars.
    false_alarm : ndarray
        Chance that a constant star scatters so much or more.
    """

    expected: Floats
    excess: Floats
    significance: Floats
    false_alarm: Floats


def scatter_excess(
    mag: Floats, scatter: Floats, n_points: npt.NDArray[np.int64], predicted: Floats | None = None
) -> ScatterExcess:
    """Hold the scatter of stars against that of others of their magnitude.

    The noise curve is the median over stars by magnitude. A variance has a chi-square distribution, made normal by the
    transformation of Wilson & Hilferty (1931, PNAS 17, 684). Where constant stars differ by more than their numbers of
    points explain (by red noise, or their places on the detector), deviates are divided by that spread, so that the
    chance is that of the stars at hand.

    Parameters
    ----------
    mag : ndarray, shape (n_stars,)
        Levels of stars.
    scatter : ndarray, shape (n_stars,)
        Standard deviation of each, or its ratio to what errors explain.
    n_points : ndarray of int64, shape (n_stars,)
        Measurements of each; those with fewer than 3 are not judged.
    predicted : ndarray, shape (n_stars,)
        What errors explain: the curve is then that of the ratio, which changes less with magnitude.

    Returns
    -------
    ScatterExcess
        NaN throughout if fewer than 40 stars can be judged.
    """
    predicted = np.ones(len(mag)) if predicted is None else np.asarray(predicted, float)
    free = np.asarray(n_points, float) - 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(scatter / predicted)
        known = np.isfinite(mag) & np.isfinite(logs) & (free >= 2)
        # The median of a variance is below its mean.
        logs = logs - 1.5 * np.log(_centre(free))
    nothing = np.full(len(mag), np.nan)
    if known.sum() < _LEAST_STARS:
        return ScatterExcess(nothing, nothing, nothing, nothing)
    usual, significance, expected = known, nothing, nothing
    for _ in range(_ROUNDS):
        knots, curve = _curve(mag[usual], logs[usual], (0.5,))
        expected = np.exp(_interpolated(mag, knots, curve[0])) * predicted
        with np.errstate(invalid="ignore"):
            deviate = _deviate((scatter / expected) ** 2, free)
        knots, tails = _curve(mag[usual], deviate[usual], (_LOWER[0], _UPPER[0]))
        spread = (tails[1] - tails[0]) / (_LOWER[1] + _UPPER[1])
        significance = np.where(known, deviate / np.maximum(np.interp(mag, knots, spread), 1.0), np.nan)
        with np.errstate(invalid="ignore"):
            usual = known & (significance < _UNUSUAL)
    from scipy.special import ndtr

    excess = np.sqrt(np.maximum(scatter**2 - expected**2, 0.0))
    return ScatterExcess(
        np.where(known, expected, np.nan), np.where(known, excess, np.nan), significance, ndtr(-significance)
    )


def _centre(free: Floats) -> Floats:
    """Return the cube root of the median of a chi-square variable over its degrees of freedom."""
    return 1.0 - 2.0 / (9.0 * np.maximum(free, 1.0))


def _deviate(ratio: Floats, free: Floats) -> Floats:
    """Return the normal deviate of a variance, given as a ratio to that expected."""
    return np.asarray((np.cbrt(ratio) - _centre(free)) / np.sqrt(2.0 / (9.0 * np.maximum(free, 1.0))))


def _curve(mag: Floats, values: Floats, quantiles: tuple[float, ...]) -> tuple[Floats, list[Floats]]:
    """Return knots in magnitude, and quantiles of the values of the stars around each."""
    order = np.argsort(mag, kind="stable")
    n_knots = int(np.clip(len(mag) // _LEAST_STARS, 1, _MOST_KNOTS))
    groups = np.array_split(order, n_knots)
    found = np.array([np.quantile(values[one], quantiles) for one in groups])
    return np.array([np.median(mag[one]) for one in groups]), list(found.T)


def _interpolated(mag: Floats, knots: Floats, curve: Floats) -> Floats:
    """Return a curve between its knots, and on in a straight line beyond: the faintest scatter the most."""
    found = np.interp(mag, knots, curve)
    if len(knots) < 2:
        return found
    slopes = np.diff(curve)[[0, -1]] / np.maximum(np.diff(knots)[[0, -1]], 1e-9)
    return np.asarray(
        found + slopes[0] * np.minimum(mag - knots[0], 0.0) + slopes[1] * np.maximum(mag - knots[-1], 0.0)
    )

"""Which stars scatter more than others of their magnitude, and how likely noise alone would do that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: A knot of the noise curve has so many stars, one of how much stars differ more; there are so many knots at most.
_LEAST_STARS, _STARS_OF_SPREAD, _MOST_KNOTS = 40, 160, 30
#: Stars beyond this deviate are no part of the curve in the next round.
_UNUSUAL, _ROUNDS = 3.5, 4
#: Noise that errors lack is looked for between these multiples of the smallest error, in so many steps.
_FLOORS = np.append(0.0, np.geomspace(0.1, 30.0, 60))
#: Deviates over which true scatters are integrated.
_DEVIATES = np.arange(-8.0, 8.01, 0.25)
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

    The noise curve is the median over stars by magnitude. Where errors are given, a noise that all stars have beside
    them is found first: bright stars are few, and a curve of medians would be too low for the brightest. A variance
    has a chi-square distribution, made normal by the transformation of Wilson & Hilferty (1931, PNAS 17, 684). Where
    constant stars differ by more than their numbers of points explain (by red noise, or their places on the
    detector), the true scatter of a star is taken for log-normal about the curve, as wide as the stars at hand show.

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
    # The median of a variance is below its mean.
    typical = _centre(free) ** 1.5
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(scatter / (typical * predicted))
        known = np.isfinite(mag) & np.isfinite(logs) & (free >= 2)
        predicted = np.hypot(predicted, _floor(scatter[known] / typical[known], predicted[known]))
        logs = np.log(scatter / (typical * predicted))
    nothing = np.full(len(mag), np.nan)
    if known.sum() < _LEAST_STARS:
        return ScatterExcess(nothing, nothing, nothing, nothing)
    usual, expected, own = known, nothing, nothing
    for _ in range(_ROUNDS):
        knots, (curve,) = _curve(mag[usual], logs[usual], (0.5,))
        expected = np.exp(_interpolated(mag, knots, curve)) * predicted
        with np.errstate(invalid="ignore"):
            deviate = _deviate((scatter / expected) ** 2, free)
        # Few stars may seem to differ too little; where the curve has a step, only those near it differ.
        own = np.maximum(
            *(_own_spread(mag, deviate, free, usual, n) for n in (_LEAST_STARS, _STARS_OF_SPREAD))
        )
        with np.errstate(invalid="ignore"):
            usual = known & (deviate < _UNUSUAL * np.sqrt(1.0 + 2.0 * free * own**2))
    from scipy.special import ndtri

    chance = np.full(len(mag), np.nan)
    chance[known] = _chance((scatter[known] / expected[known]) ** 2, free[known], own[known])
    significance = -ndtri(np.maximum(chance, np.finfo(float).tiny))
    excess = np.sqrt(np.maximum(scatter**2 - expected**2, 0.0))
    return ScatterExcess(
        np.where(known, expected, np.nan), np.where(known, excess, np.nan), significance, chance
    )


def _floor(scatter: Floats, predicted: Floats) -> float:
    """Return the noise in quadrature to errors that makes the ratios of scatter to both most alike."""
    if len(scatter) < _LEAST_STARS or np.ptp(predicted) == 0.0:
        return 0.0
    floors = _FLOORS * predicted.min()
    logs = np.log(scatter / np.hypot(predicted, floors[:, np.newaxis]))
    spread = np.abs(logs - np.median(logs, axis=1, keepdims=True)).mean(axis=1)
    return float(floors[spread.argmin()])


def _centre(free: Floats) -> Floats:
    """Return the cube root of the median of a chi-square variable over its degrees of freedom."""
    return 1.0 - 2.0 / (9.0 * np.maximum(free, 1.0))


def _deviate(ratio: Floats, free: Floats) -> Floats:
    """Return the normal deviate of a variance, given as a ratio to that expected."""
    return np.asarray((np.cbrt(ratio) - _centre(free)) / np.sqrt(2.0 / (9.0 * np.maximum(free, 1.0))))


def _own_spread(
    mag: Floats, deviate: Floats, free: Floats, usual: npt.NDArray[np.bool_], n_stars: int
) -> Floats:
    """Return the standard deviation of the logarithm of true scatters that makes deviates as wide as they are."""
    knots, (lower, upper) = _curve(mag[usual], deviate[usual], (_LOWER[0], _UPPER[0]), n_stars)
    _, (typical,) = _curve(mag[usual], free[usual], (0.5,), n_stars)
    spread = np.maximum((upper - lower) / (_LOWER[1] + _UPPER[1]), 1.0)
    return np.interp(mag, knots, np.sqrt((spread**2 - 1.0) / (2.0 * typical)))


def _chance(ratio: Floats, free: Floats, own: Floats) -> Floats:
    """Return the chance of such a ratio of variances or a larger one, where true scatter is log-normal.

    Parameters
    ----------
    ratio, free : ndarray, shape (n_stars,)
        Of the variance to that expected, and its degrees of freedom.
    own : ndarray, shape (n_stars,)
        Standard deviation of the logarithm of the true scatter.
    """
    from scipy.special import ndtr

    chance = np.zeros(len(ratio))
    step = _DEVIATES[1] - _DEVIATES[0]
    for deviate in _DEVIATES:
        weight = step * np.exp(-0.5 * deviate**2) / np.sqrt(2.0 * np.pi)
        chance += weight * ndtr(-_deviate(ratio * np.exp(-2.0 * deviate * own), free))
    return chance


def _curve(
    mag: Floats, values: Floats, quantiles: tuple[float, ...], n_stars: int = _LEAST_STARS
) -> tuple[Floats, list[Floats]]:
    """Return knots in magnitude, and quantiles of the values of the stars around each."""
    order = np.argsort(mag, kind="stable")
    n_knots = int(np.clip(len(mag) // n_stars, 1, _MOST_KNOTS))
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

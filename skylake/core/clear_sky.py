"""Magnitudes that clouds can only lower: mixtures of a clear level and an exponential tail below it.

Measured transparencies have one sharp side. On clear frames (or nights) zeropoints scatter about one level by their
errors, and behind clouds they lie below it by anything from a hundredth to several magnitudes. So a deviation r is
drawn from

    (1 - cloudy - stray) N(0, v)  +  cloudy [N(0, v) - Exp(depth)]  +  stray U(-3, 3) mag,

where the last part is for values that are plainly wrong. Both a line through the zeropoints of a night and a level
through those of many nights are fitted with it. The highest value is no such level: it is that of the largest noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Share of values that are plainly wrong, and the range that they come from, mag.
_STRAY, _STRAY_RANGE = 0.01, 6.0
#: Share of clear nights, usual depth of clouds and scatter from clear night to clear night (haze, dew, aperture
#: corrections), mag: what :func:`clear_level` averages over, since few nights tell none of them.
_SHARES = (0.2, 0.5, 0.8)
_DEPTHS = (0.1, 0.3, 1.0)
_SCATTERS = (0.007, 0.015, 0.03)
#: Steps of the clear level, mag, how far below the median night and above the highest it is looked for so, and
#: how far above in steps that grow by so much.
_STEP, _BELOW, _NEAR, _FAR, _GROWTH = 0.004, 0.06, 0.1, 2.0, 1.15
#: Clouds that take less than this, mag, make no difference: nights behind them count as clear.
THIN_MAG = 0.03
_RT2 = np.sqrt(2.0)


def _erfcx_like(u: Floats) -> Floats:
    """Return log(erfc(u)), also where erfc underflows."""
    from scipy.special import log_ndtr

    return np.asarray(log_ndtr(-u * _RT2) + np.log(2.0))


def log_clear(deviation: Floats, sigma: Floats | float) -> Floats:
    """Return the log density of deviations of clear values, normal with standard deviation `sigma`."""
    return np.asarray(-0.5 * (deviation / sigma) ** 2 - np.log(sigma * np.sqrt(2.0 * np.pi)))


def log_cloudy(deviation: Floats, sigma: Floats | float, depth: float) -> Floats:
    """Return the log density of deviations of cloudy values: normal noise less an exponential depth.

    Parameters
    ----------
    deviation, sigma : ndarray, broadcast together
        Value minus clear level, and standard deviation of the noise, mag.
    depth : float
        Mean depth of clouds, mag.
    """
    ratio = sigma / depth
    u = (deviation / sigma + ratio) / _RT2
    return np.asarray(deviation / depth + 0.5 * ratio**2 + _erfcx_like(u) - np.log(2.0 * depth))


def thin_share(deviation: Floats, sigma: Floats | float, depth: float) -> Floats:
    """Return the probability that clouds take less than :data:`THIN_MAG`, given that values are cloudy.

    The posterior of what clouds take is a normal distribution, cut off below 0.

    Parameters
    ----------
    deviation, sigma, depth
        As for :func:`log_cloudy`.
    """
    from scipy.special import log_ndtr

    middle = -deviation - sigma**2 / depth
    beyond = log_ndtr((middle - THIN_MAG) / sigma) - log_ndtr(middle / sigma)
    return np.asarray(-np.expm1(beyond))


def log_stray() -> float:
    """Return the log density of values that are plainly wrong."""
    return float(np.log(1.0 / _STRAY_RANGE))


@dataclass(frozen=True, slots=True)
class Shares:
    """What a deviation is drawn from.

    Attributes
    ----------
    cloudy : float
        Share of values that clouds lower.
    depth : float
        Their mean depth, mag.
    """

    cloudy: float
    depth: float

    def _parts(self, deviation: Floats, sigma: Floats) -> Floats:
        """Return log densities of clear, cloudy and stray values, shape (3, n)."""
        clear = np.log(max(1.0 - self.cloudy - _STRAY, 1e-9)) + log_clear(deviation, sigma)
        cloudy = np.log(max(self.cloudy, 1e-9)) + log_cloudy(deviation, sigma, self.depth)
        return np.stack([clear, cloudy, np.full(len(deviation), np.log(_STRAY) + log_stray())])

    def log_density(self, deviation: Floats, sigma: Floats) -> Floats:
        """Return the log density of deviations with noise of standard deviation `sigma`, shape (n,)."""
        return np.asarray(np.logaddexp.reduce(self._parts(deviation, sigma), axis=0))

    def split(self, deviation: Floats, sigma: Floats) -> tuple[Floats, Floats, float]:
        """Return the probabilities that values are clear and cloudy, shape (n,), and the log likelihood of all."""
        parts = self._parts(deviation, sigma)
        total = np.logaddexp.reduce(parts, axis=0)
        clear, cloudy, _ = np.exp(parts - total)
        return clear, cloudy, float(total.sum())


@dataclass(frozen=True, slots=True)
class ClearLevel:
    """The level of clear nights.

    Attributes
    ----------
    value, error : float
        Mean and standard deviation of its posterior, mag.
    p_clear : ndarray, shape (n,)
        Probability that each night is at the clear level, apart from the usual scatter of clear nights, or that clouds
        take less than :data:`THIN_MAG`.
    scatter : float
        Posterior mean of that scatter, mag.
    """

    value: float
    error: float
    p_clear: Floats
    scatter: float


def clear_level(values: Floats, errors: Floats) -> ClearLevel:
    """Return the level of clear nights around a night, by Bayes' theorem.

    Share of clear nights, depth of clouds and scatter of clear nights are averaged over, as well as the level itself.
    A single night cannot be judged: its probability is that of any night.

    Parameters
    ----------
    values, errors : ndarray, shape (n,)
        Zeropoints at the zenith of nights and their standard errors, mag; at least one, all finite.
    """
    level, width = _levels(values, errors)
    deviation = values[:, None] - level[None, :]
    log_weight, clear, scatters = [], [], []
    for scatter in _SCATTERS:
        sigma = np.hypot(np.maximum(errors, 1e-4), scatter)[:, None]
        of_clear = log_clear(deviation, sigma)
        of_depth = [
            (log_cloudy(deviation, sigma, depth), thin_share(deviation, sigma, depth)) for depth in _DEPTHS
        ]
        for share, (of_cloudy, thin) in product(_SHARES, of_depth):
            one = np.log(share * (1.0 - _STRAY)) + of_clear
            other = np.log((1.0 - share) * (1.0 - _STRAY)) + of_cloudy
            total = np.logaddexp(np.logaddexp(one, other), np.log(_STRAY) + log_stray())
            log_weight.append(total.sum(axis=0))
            clear.append(np.exp(one - total) + thin * np.exp(other - total))
            scatters.append(scatter)
    log_all = np.array(log_weight) + np.log(width)
    weight = np.exp(log_all - log_all.max())
    weight /= weight.sum()
    of_level = weight.sum(axis=0)
    mean = float(np.sum(of_level * level))
    error = float(np.sqrt(np.sum(of_level * (level - mean) ** 2) + _STEP**2 / 12.0))
    p_clear = np.einsum("hl,hnl->n", weight, np.array(clear))
    return ClearLevel(mean, error, p_clear, float(np.sum(weight.sum(axis=1) * np.array(scatters))))


def _levels(values: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Return levels to try, and the width that each stands for.

    Clouds only lower, so the level is hardly below the median night, and far above the highest one only if all nights
    were cloudy.
    """
    low = float(np.median(values)) - _BELOW - 3.0 * float(np.median(errors))
    near = np.arange(low, float(values.max()) + _NEAR, _STEP)
    number = int(np.ceil(np.log(1.0 + _FAR / _STEP * (_GROWTH - 1.0)) / np.log(_GROWTH)))
    steps = _STEP * _GROWTH ** np.arange(1, number + 1)
    level = np.concatenate([near, near[-1] + np.cumsum(steps)])
    return level, np.gradient(level)

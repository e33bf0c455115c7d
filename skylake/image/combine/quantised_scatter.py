"""Scatter of quantised values: whole ADU with noise below one, most of which are equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.robust import sigma_mad

Floats = npt.NDArray[np.float64]

#: Values that are distinguished, as a share of their mean deviation: single precision makes equal ones differ.
_APART = 0.01
#: As many values are looked at, and a value that noise comes back to is there so many times.
_SAMPLE, _FEWEST = 20000, 5
#: Differences of so few steps from the usual value count as noise, however small the noise is.
KEPT_STEPS = 2.5
#: The median deviation gives the scatter of values to a few per cent where the step is below this share of it.
_FINE = 0.2
_CLIP, _CLIPS = 4.0, 4
#: Variance that clipping at four standard deviations leaves of a unit normal distribution.
_KEPT_VARIANCE = 0.998930


def step_of(values: npt.ArrayLike) -> float:
    """Return the step in which values go; 0 where none shows.

    It is the smallest gap between values that are there again and again: outliers are not.

    Parameters
    ----------
    values : array_like
        NaN is left out.
    """
    finite = np.asarray(values, np.float64).reshape(-1)
    finite = finite[np.isfinite(finite)]
    finite = np.sort(finite[:: len(finite) // _SAMPLE + 1])
    if not len(finite):
        return 0.0
    least = _APART * float(np.abs(finite - np.median(finite)).mean())
    first = np.flatnonzero(np.append(True, np.diff(finite) > least))
    last = np.append(first[1:], len(finite)) - 1
    often = last - first + 1 >= _FEWEST
    gaps = finite[first[often]][1:] - finite[last[often]][:-1]
    return float(gaps.min()) if len(gaps) else 0.0


def spread_of(values: npt.ArrayLike) -> float:
    """Return the standard deviation of values without their outliers; NaN without a finite one.

    It is 1.4826 times the median absolute deviation. Where the values are coarse, that is a number of steps, which is
    0 where most values are equal: there it is the root of the variance, clipped at four standard deviations, but never
    nearer than two steps and a half.
    """
    finite = np.asarray(values, np.float64).reshape(-1)
    finite = finite[np.isfinite(finite)]
    sigma = sigma_mad(finite)
    step = step_of(finite)
    if not step > _FINE * sigma:
        return sigma
    away = (finite - np.median(finite)) ** 2
    for _ in range(_CLIPS):
        sigma = float(np.sqrt(away[away <= reach(sigma, step) ** 2].mean()))
    return sigma / float(np.sqrt(_KEPT_VARIANCE if _CLIP * sigma > KEPT_STEPS * step else 1.0))


def reach(sigma: float, step: float) -> float:
    """Return how far values may be from their centre that belong to a noise."""
    return max(_CLIP * sigma, KEPT_STEPS * step)

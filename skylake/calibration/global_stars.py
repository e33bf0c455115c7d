"""What the global solution says of stars: magnitudes, how far they scatter, and which of them vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.calibration.global_kernels import Layout
from skylake.calibration.global_noise import Noise
from skylake.calibration.night_scatter import night_scatter

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]

#: A chance of less than this makes a star with many outliers variable.
_CHANCE = 1e-6
#: Of all stars of a solution so many are called variable by chance as they are off on whole nights.
_BY_NIGHTS = 0.1
#: A star is variable if so much of its variance is its own.
_VARIABLE = 0.3


@dataclass(frozen=True)
class StarSolution:
    """Magnitudes of stars; arrays of shape (n_stars,).

    Attributes
    ----------
    magnitude : ndarray
        In the system of the catalog; NaN for stars without a usable observation, or with a few that exclude each
        other. A star of unknown colour counts as one of the pivot colour.
    error : ndarray
        Random error, for comparisons among stars of one group.
    night_error : ndarray
        The part of it that offsets of the star from night to night bring.
    systematic_error : ndarray
        Error of the tie to the catalog, the colour term and the star's colour; NaN without a tie.
    n_observations, n_used : ndarray of int
        Usable observations, and those with weight.
    chi2 : ndarray
        Reduced chi-square of the observations with weight, the star's own scatter not in their errors.
    scatter : ndarray
        Robust standard deviation of its calibrated magnitudes; NaN with three observations or fewer.
    is_variable : ndarray of bool
        Scatters by more than the noise explains, or has more outliers than chance gives it.
    group : ndarray of int
        Connected group; -1 without a usable observation.
    night_scatter : float
        Standard deviation of the offsets of all stars from night to night.
    """

    magnitude: Floats
    error: Floats
    night_error: Floats
    systematic_error: Floats
    n_observations: npt.NDArray[np.int64]
    n_used: npt.NDArray[np.int64]
    chi2: Floats
    scatter: Floats
    is_variable: npt.NDArray[np.bool_]
    group: Groups
    night_scatter: float


def star_solution(
    noise: Noise,
    residuals: Any,
    by_star: tuple[Any, Any],
    magnitude: Floats,
    errors: tuple[Floats, Floats],
    group: Groups,
) -> StarSolution:
    """Return what a solution says of its stars.

    Parameters
    ----------
    noise : Noise
        With the weights of the observations.
    residuals : ndarray, shape (n,)
    by_star : (ndarray, ndarray)
        Starts and order of the observations of each star.
    magnitude : ndarray, shape (n_stars,)
        In the system of the catalog.
    errors : (ndarray, ndarray), shape (n_stars,)
        Random, without offsets from night to night, and systematic.
    group : ndarray of int, shape (n_stars,)
        Connected group.
    """
    from scipy.stats import poisson

    star, n_stars = noise.layout.star, len(magnitude)
    inside = noise.precisions > 0.0
    n_all, n_used = np.diff(by_star[0]), np.bincount(star, inside, n_stars).astype(np.int64)
    squares = np.where(inside, residuals**2 / noise.variance(of_stars=False), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        chi2 = np.where(n_used > 1, np.bincount(star, squares, n_stars) / (n_used - 1), np.nan)
    outliers, rate = n_all - n_used, 1.0 - n_used.sum() / max(n_all.sum(), 1)
    many = (outliers > 0) & (poisson.sf(outliers - 1, n_all * rate) < _CHANCE)
    many |= outlying_nights(noise.layout, inside, n_stars, rate) < _BY_NIGHTS / max(n_stars, 1)
    scatter = noise.scatter_of(residuals, by_star)
    night = np.repeat(noise.layout.night_of_frame, np.diff(noise.layout.starts))
    nights = night_scatter(star, night, residuals, noise.precisions, n_stars)
    scatters = noise.star_variance > np.maximum(_VARIABLE * np.nan_to_num(scatter) ** 2, nights.most)
    return StarSolution(
        np.where(n_used > 0, magnitude, np.nan),
        np.hypot(errors[0], nights.error),
        nights.error,
        errors[1],
        n_all,
        n_used,
        chi2,
        scatter,
        many | scatters,
        group,
        nights.scatter,
    )


def outlying_nights(layout: Layout, inside: npt.NDArray[np.bool_], n_stars: int, rate: float) -> Floats:
    """Return the chance of each star to be an outlier on as many whole nights as it is, shape (n_stars,).

    What spoils a measurement may spoil all of the same night: a night counts as one, however many frames it has.

    Parameters
    ----------
    layout : Layout
    inside : ndarray of bool, shape (n,)
        Observations with weight.
    n_stars : int
    rate : float
        Share of outliers among all observations.
    """
    from scipy.stats import binom

    chance = np.ones(n_stars)
    some = np.flatnonzero(np.bincount(layout.star, ~inside, n_stars) > 1)
    if len(some) == 0:
        return chance
    number = np.full(n_stars, -1)
    number[some] = np.arange(len(some))
    rows = np.flatnonzero(number[layout.star] >= 0)
    night = np.repeat(layout.night_of_frame, np.diff(layout.starts))[rows]
    n_nights = int(layout.night_of_frame.max()) + 1
    key = number[layout.star[rows]] * n_nights + night
    seen, used = (
        np.bincount(key, weight, len(some) * n_nights).reshape(-1, n_nights)
        for weight in (None, inside[rows])
    )
    nights, off = np.sum(seen > 0, axis=1), np.sum((seen > 0) & (used == 0), axis=1)
    chance[some] = binom.sf(off - 1, nights, rate)
    return chance

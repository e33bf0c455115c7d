"""The picture of how far stars scatter from frame to frame, beside what zeropoints in force say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from skylake.core.robust import MAD_TO_SIGMA
from skylake.report.style import BLUE, GREY, RED, canvas, draw_note, legend_below
from skylake.report.zeropoint_plots import StarZeropoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

#: A star repeats if it has so many measurements.
_MIN_POINTS = 4
#: Magnitudes of a bin of repeatability.
_BIN_MAG = 0.5
#: Fewer stars are in fewer bins.
_FEW_STARS = 100
#: A floor is that of so many stars of the smallest errors, and of others up to so many times these.
_FLOOR_STARS, _FLOOR_ERRORS = 8, 1.5


@dataclass(frozen=True, slots=True)
class StarScatter:
    """Scatter of the measurements of stars about their mean; arrays of shape (n,), one value per star.

    Attributes
    ----------
    mag, scatter : ndarray
        Catalog magnitude, and robust scatter.
    noise, expected : ndarray
        What photons and zeropoints let expect, and what these do with the floor.
    floor : float
        Scatter of bright stars beyond photons and zeropoints, mag.
    is_in_force : bool
        Whether the floor is that of the zeropoints; else it was measured from the stars of the smallest errors.
    """

    mag: Floats
    scatter: Floats
    noise: Floats
    expected: Floats
    floor: float
    is_in_force: bool


def repeatability(stars: StarZeropoint, mag: Floats, floor: Floats, title: str) -> Figure:
    """Draw how far the measurements of each star scatter about their mean, against magnitude, beside the model.

    The model is that of the zeropoints: the random errors of measurements, of which the floor is a part. Where
    zeropoints have no floor yet, it is measured from the bright stars of the picture.

    Parameters
    ----------
    stars : StarZeropoint
    mag : ndarray, shape (n,)
        Magnitude of the star.
    floor : ndarray, shape (n,)
        ``floor_mag`` of the zeropoint of each match, a part of its random error; NaN where there is none.
    title : str
    """
    from matplotlib.ticker import LogFormatter

    with canvas(title) as (figure, axes):
        found = star_scatter(stars, mag, floor)
        if found.mag.size == 0:
            draw_note(axes, f"no star has {_MIN_POINTS} measurements yet")
            return figure
        text = f"{found.mag.size} stars of {_MIN_POINTS} measurements or more"
        axes.plot(
            found.mag, 1000.0 * found.scatter, ".", ms=3, color=BLUE, alpha=0.4, rasterized=True, label=text
        )
        wide = _BIN_MAG if found.mag.size >= _FEW_STARS else 4.0 * _BIN_MAG
        number = np.floor(found.mag / wide).astype(int)
        bins = [one for one in np.unique(number) if np.count_nonzero(number == one) >= 5] or [number[0]]
        rows = [number == one for one in bins]
        middle, median, noise, expected = (
            np.array([float(np.median(values[one])) for one in rows])
            for values in (found.mag, found.scatter, found.noise, found.expected)
        )
        source = "of the zeropoints" if found.is_in_force else "measured here"
        axes.plot(middle, 1000.0 * median, "o", ms=5, color=RED, mec="white", mew=0.6, label="median")
        axes.plot(middle, 1000.0 * noise, "--", lw=1.2, color=GREY, label="errors of fluxes and frames")
        label = f"with a floor of {1000.0 * found.floor:.1f} mmag, {source}"
        axes.plot(middle, 1000.0 * expected, "-", lw=1.4, color=RED, label=label)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        # Between powers of ten only where there are few of them.
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.5)))
        axes.set_xlabel("catalog magnitude [mag]")
        axes.set_ylabel("robust scatter of a star [mmag]")
        legend_below(axes, 2)
        return figure


def star_scatter(stars: StarZeropoint, mag: Floats, floor: Floats) -> StarScatter:
    """Return how far the measurements of each star scatter, of stars that have some.

    Parameters
    ----------
    stars, mag, floor
        As for :func:`repeatability`.
    """
    known = np.isfinite(stars.offset) & np.isfinite(mag) & np.isfinite(stars.random_err)
    _, star, count = np.unique(stars.star[known], return_inverse=True, return_counts=True)
    offset, error, of_frame = stars.offset[known], stars.random_err[known], np.nan_to_num(floor[known])
    order = np.lexsort((offset, star))
    ends = np.cumsum(count)
    pieces = [order[end - many : end] for end, many in zip(ends, count, strict=True) if many >= _MIN_POINTS]
    apart = [np.abs(offset[one] - np.median(offset[one])) for one in pieces]
    scatter = np.array([MAD_TO_SIGMA * float(np.median(one)) / median_share(one.size) for one in apart])
    beside = np.maximum(error**2 - of_frame**2, 0.0)
    noise, expected = (
        np.array([float(np.sqrt(np.mean(values[one]))) for one in pieces]) for values in (beside, error**2)
    )
    of_star = np.array([float(np.median(mag[known][one])) for one in pieces])
    if np.isfinite(floor[known]).any():
        return StarScatter(of_star, scatter, noise, expected, float(np.nanmedian(floor[known])), True)
    level = _floor(scatter, noise) if pieces else 0.0
    return StarScatter(of_star, scatter, noise, np.hypot(noise, level), level, False)


def median_share(n: int) -> float:
    """Return the share of the true scatter that half of all stars show with `n` measurements each.

    The median deviation of few values is too small: it has lost what the median took, and it is skew. Fitted to
    simulated normal values, right to 0.01 from 4 on.
    """
    return float(np.sqrt((n - 1.0) / n) * (1.0 - 0.66 / n - 0.85 / n**2))


def _floor(scatter: Floats, noise: Floats) -> float:
    """Return the scatter of the stars of the smallest errors beyond these."""
    best = np.sort(noise)[min(_FLOOR_STARS, noise.size) - 1]
    bright = noise <= _FLOOR_ERRORS * best
    return float(np.sqrt(max(float(np.median(scatter[bright] ** 2 - noise[bright] ** 2)), 0.0)))

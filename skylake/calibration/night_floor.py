"""The noise floor of a night that is calibrated frame by frame: what its stars scatter beyond the noise of photons."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.group_means import group_sums
from skylake.core.group_medians import group_medians
from skylake.core.robust import sigma_mad

Floats = npt.NDArray[np.float64]

#: Frames on which a star must be seen, and measurements of stars beyond one each, for a floor to be known.
_LEAST_FRAMES, _LEAST_FREE = 3, 30
#: The floor is that of the measurements with the least noise of photons: this share of all.
_BRIGHT_SHARE = 0.25
#: Measurements so many standard deviations from the median of their star are spoiled.
_SPOILED = 5.0
_ROUNDS = 50


def night_floor(star: npt.NDArray[np.int64], residual: Floats, photon_error: Floats) -> float:
    """Return the scatter of bright stars from frame to frame beyond the noise of photons, magnitudes.

    With this scatter added in quadrature to the error of each measurement, deviations from the mean of the star are as
    wide as their errors, by the median absolute deviation: a tenth of variable stars or spoiled measurements does no
    harm.

    Parameters
    ----------
    star : ndarray of int64, shape (n,)
        Number of the star.
    residual : ndarray, shape (n,)
        Magnitude of the star without the zeropoint of the frame; what is NaN does not count.
    photon_error : ndarray, shape (n,)

    Returns
    -------
    float
        At least 0; NaN where too few stars were seen on three frames or more.
    """
    known = np.isfinite(residual) & np.isfinite(photon_error)
    order = np.flatnonzero(known)[np.argsort(star[known], kind="stable")]
    star, residual, noise = star[order], residual[order], photon_error[order]
    starts, number = _by_star(star)
    off = residual - group_medians(residual, starts)[number]
    floor = sigma_mad(off[noise <= np.quantile(noise, _BRIGHT_SHARE)]) if len(noise) else np.nan
    # One spoiled measurement would move the mean of its star, and so all others of the star.
    good = np.abs(off) <= _SPOILED * np.hypot(noise, floor)
    return _floor_of(star[good], residual[good], noise[good])


def _floor_of(star: npt.NDArray[np.int64], residual: Floats, noise: Floats) -> float:
    """Return the floor from measurements in the order of stars."""
    starts, number = _by_star(star)
    count = np.diff(starts)
    off = residual - (group_sums(residual, starts) / count)[number]
    often = count[number] >= _LEAST_FRAMES
    free = 1.0 - 1.0 / count[number][often]
    off, noise = off[often] / np.sqrt(free), noise[often]
    brightest = np.argsort(noise, kind="stable")
    so_many = np.searchsorted(np.cumsum(free[brightest]), max(_BRIGHT_SHARE * free.sum(), _LEAST_FREE)) + 1
    if so_many > len(brightest):
        return float("nan")
    off, noise = off[brightest[:so_many]], noise[brightest[:so_many]]
    low, high = 0.0, sigma_mad(off)
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        is_too_small = sigma_mad(off / np.maximum(np.hypot(noise, middle), 1e-12)) > 1.0
        low, high = (middle, high) if is_too_small else (low, middle)
    return high if low > 0.0 else 0.0


def _by_star(star: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where the measurements of each star begin, and the last end, and the place of each one's star."""
    _, first, number = np.unique(star, return_index=True, return_inverse=True)
    return np.append(first, len(star)), number

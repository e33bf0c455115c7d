"""What verdicts on frames rest on, and how faint they see, for a night that is made without pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from archive.night_plan import Fate, NightPlan

_Array = npt.NDArray[np.float64]

#: Length of the mean ellipticity vector of round stars, and of trailed ones.
_ROUND_ELLIPTICITY, _TRAILED_ELLIPTICITY = 0.02, 0.70
#: Part of the expected stars that is found behind no cloud, and where the WCS is wrong.
_CLEAR_FOUND, _CHANCE_FOUND = 0.97, 0.02
#: The histogram of sources falls to its half at this flux, in units of that of a star of S/N 5; so many tell.
_COUNTS_LIMIT, _COUNTED = 1.15, 50
#: Fewer detections give no width to all 9 cells.
_CELLS, _CELL_STARS = 9, 100


def verdict_columns(
    plan: NightPlan,
    detected: npt.NDArray[np.int64],
    clean: npt.NDArray[np.int64],
    columns: dict[str, Any],
    exposure_s: float,
    random: np.random.Generator,
) -> dict[str, Any]:
    """Return metrics of frames beyond those of their sources, and limits.

    Parameters
    ----------
    plan : NightPlan
    detected, clean : ndarray of int, shape (frames,)
        Detections of each frame, and those without a flag.
    columns : dict
        Columns of ``frames`` that are known already: sky, width of stars and aperture corrections.
    exposure_s : float
        Seconds.
    random : numpy.random.Generator
    """
    count, noise = len(plan), random.standard_normal((5, len(plan)))
    trailed = plan.fate == Fate.TRAILED
    expected = np.full(count, min(plan.camera.clear_sky.stars, int(detected.max(initial=0))))
    found = _CLEAR_FOUND * np.minimum(detected / np.maximum(expected, 1), 1.0) - 0.005 * np.abs(noise[0])
    found = np.where(plan.fate == Fate.WRONG_WCS, _CHANCE_FOUND, np.maximum(found, 0.0))
    limit = _flux_limit(plan, columns, exposure_s)
    level = np.asarray(columns["saturation_adu"], float)
    round_stars = _ROUND_ELLIPTICITY + 0.004 * np.abs(noise[1])
    return {
        "n_expected": expected,
        "found_fraction": np.where(expected > 0, found, np.nan),
        "sky_saturation": np.asarray(columns["sky_adu"], float) / level,
        "mean_ellipticity": np.where(trailed, _TRAILED_ELLIPTICITY, round_stars),
        "n_streaks": np.zeros(count, np.int64),
        "streak_length_px": np.zeros(count),
        "n_streak_sources": np.zeros(count, np.int64),
        "flux_limit": limit,
        "flux_limit_counts": np.where(
            clean >= _COUNTED, limit * _COUNTS_LIMIT * (1.0 + 0.05 * noise[2]), np.nan
        ),
    } | _cells(plan, detected, columns, random)


def _flux_limit(plan: NightPlan, columns: dict[str, Any], exposure_s: float) -> _Array:
    """Return the total flux of a star at five times its error, the noise of its photons and of the sky."""
    apertures, gain = plan.camera.apertures, plan.camera.detector.gain_e_per_adu
    radius = apertures.calibrated_radius_px
    factor = columns[f"apcor_{apertures.calibrated_circle}"]
    photons = 25.0 / gain
    sky = 25.0 * np.pi * radius**2 * np.asarray(columns["sky_rms_adu"], float) ** 2
    return np.asarray(0.5 * (photons + np.sqrt(photons**2 + 4.0 * sky)) * factor / exposure_s)


def _cells(
    plan: NightPlan, detected: npt.NDArray[np.int64], columns: dict[str, Any], random: np.random.Generator
) -> dict[str, Any]:
    """Return width and ellipticity of stars in 3 x 3 cells: corners are a little worse than the middle."""
    noise = random.standard_normal((2, _CELLS, len(plan)))
    corner = np.array([1.0, 0.5, 1.0, 0.5, 0.0, 0.5, 1.0, 0.5, 1.0])[:, None]
    known = detected >= _CELL_STARS
    fwhm = np.asarray(columns["fwhm_px"], float) * (0.99 + 0.02 * corner + 0.005 * noise[0])
    length = np.where(plan.fate == Fate.TRAILED, _TRAILED_ELLIPTICITY, _ROUND_ELLIPTICITY * (1.0 + corner))
    length = length + 0.003 * np.abs(noise[1])
    cells: dict[str, Any] = {}
    for name, values in (("fwhm_cell{}_px", fwhm), ("ellipticity_cell{}", length)):
        for number, one in enumerate(values, start=1):
            cells[name.format(number)] = np.where(known, one, np.nan)
    return cells | {"n_uneven_cells": np.zeros(len(plan), np.int64)}

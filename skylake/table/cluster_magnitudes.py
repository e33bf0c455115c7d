"""Mean magnitudes of groups of detections, with their errors, scatter and chi-square."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.calibration.calibrated_matches import Photometry
from skylake.table.star_statistics import StarPoints, stands_alone

Floats = npt.NDArray[np.float64]


def good_magnitudes(
    photometry: Photometry,
    is_clean: npt.NDArray[np.bool_],
    mjd: Floats,
    group: npt.NDArray[np.int64],
    n_groups: int,
) -> dict[str, npt.NDArray[Any]]:
    """Return means of the clean magnitudes of each group, without outliers that stand alone in the night.

    Parameters
    ----------
    photometry : Photometry
        Of n detections of a night.
    is_clean : ndarray of bool, shape (n,)
        Which of them count.
    mjd : ndarray, shape (n,)
    group : ndarray of int64, shape (n,)
        The group of each, from 0.
    n_groups : int

    Returns
    -------
    dict of ndarray, shape (n_groups,)
        Columns of ``clusters``; NaN without a magnitude. The mean is weighted by random errors, which its own random
        error follows from; the systematic error is the mean of those of the detections.
    """
    with np.errstate(invalid="ignore"):
        err = np.sqrt(np.maximum(photometry.mag_err**2 - photometry.zp_systematic_err**2, 0.0))
    good = np.flatnonzero(is_clean & np.isfinite(photometry.mag) & (err > 0))
    good = good[np.lexsort((mjd[good], group[good]))]
    starts = np.searchsorted(group[good], np.arange(n_groups + 1)).astype(np.intp)
    points = StarPoints(good, mjd[good], photometry.mag[good], err[good], starts)
    points = points.of(~stands_alone(points))
    weight = points.err**-2.0
    total, count = points.sums(weight), np.diff(points.starts)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = points.sums(weight * points.mag) / total
        chi2 = points.sums(weight * (points.mag - mean[points.star]) ** 2)
        scatter = np.sqrt(chi2 / total * count / (count - 1))
        systematic = points.sums(weight * photometry.zp_systematic_err[points.row]) / total
        random_err = 1.0 / np.sqrt(total)
    version = np.full(n_groups, np.nan)
    version[points.star] = photometry.version[points.row]
    some = count > 0
    return {
        "version": version,
        "n_good": count.astype(np.int64),
        "mag_mean": mean,
        "mag_random_err": np.where(some, random_err, np.nan),
        "mag_systematic_err": systematic,
        "mag_chi2": np.where(some, chi2, np.nan),
        "mag_scatter": np.where(count > 1, scatter, np.nan),
    }

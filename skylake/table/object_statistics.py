"""Statistics of objects that grow by those of a cluster or of another object, without the detections behind them.

Means and scatters are merged by the formulas of Chan, Golub & LeVeque (1983, American Statistician 37, 242).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.table.band_statistics import bands_of, in_band, main_band, of_band

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, npt.NDArray[Any]]

#: Columns that add up.
COUNTS = (
    "n_detections",
    "n_matched",
    "n_switched",
    "n_frames",
    "n_place",
    "n_blended",
    "n_saturated",
    "n_edge",
    "n_streak",
)
#: Means over detections.
_MEANS = ("fwhm_px", "width_ratio", "elongation", "snr")
_MAGNITUDES = (
    "n_good_nights",
    "mag_mean",
    "mag_random_err",
    "mag_systematic_err",
    "mag_chi2",
    "mag_chi2_nights",
    "mag_scatter",
)


def merged_statistics(one: Columns, other: Columns, apart_arcsec: Floats) -> dict[str, npt.NDArray[Any]]:
    """Return the statistics of both.

    Parameters
    ----------
    one, other : mapping of ndarray, shape (n,)
        Columns of ``objects`` or ``clusters``, of the same bands as :mod:`skylake.table.band_statistics` has them; NaN
        for null.
    apart_arcsec : ndarray, shape (n,)
        Distance between both mean places.

    Returns
    -------
    dict of ndarray, shape (n,)
    """
    merged: dict[str, npt.NDArray[Any]] = {name: one[name] + other[name] for name in COUNTS}
    merged |= {name: _mean(one, other, name, "n_detections") for name in _MEANS}
    n, m = one["n_place"].astype(float), other["n_place"].astype(float)
    # Both axes of a place have the same scatter: two degrees of freedom each.
    squares = _squares(one["scatter_arcsec"], 2.0 * (n - 1)) + _squares(
        other["scatter_arcsec"], 2.0 * (m - 1)
    )
    merged["scatter_arcsec"] = _scatter(squares + n * m / (n + m) * apart_arcsec**2, 2.0 * (n + m - 1))
    merged |= _rates(one, other)
    for band in bands_of(one):
        first, second = of_band(one, band), of_band(other, band)
        made = _fluxes(first, second) | _magnitudes(first, second)
        merged |= {in_band(name, band): values for name, values in made.items()}
    merged["band"] = main_band(merged | {"band": one["band"]})
    return merged


def _mean(one: Columns, other: Columns, name: str, count: str) -> Floats:
    """Return the mean of two means, weighted by a count; what is unknown does not count."""
    weights = [np.where(np.isfinite(rows[name]), rows[count], 0.0) for rows in (one, other)]
    total = weights[0] + weights[1]
    with np.errstate(invalid="ignore"):
        first, second = (
            np.where(weight > 0, weight * rows[name], 0.0)
            for weight, rows in zip(weights, (one, other), strict=True)
        )
        return np.asarray((first + second) / total)


def _squares(scatter: Floats, freedom: Floats) -> Floats:
    """Return the sum of squares behind a scatter; 0 where there is none."""
    return np.where(freedom > 0, np.nan_to_num(scatter) ** 2 * freedom, 0.0)


def _scatter(squares: Floats, freedom: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(freedom > 0, np.sqrt(squares / freedom), np.nan)


def _rates(one: Columns, other: Columns) -> dict[str, Floats]:
    """Return the mean motions within nights, weighted by their errors."""
    weights = [np.nan_to_num(rows["rate_err_arcsec_d"] ** -2.0) for rows in (one, other)]
    total = weights[0] + weights[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = {
            name: sum(w * np.nan_to_num(r[name]) for w, r in zip(weights, (one, other), strict=True)) / total
            for name in ("rate_ra_arcsec_d", "rate_dec_arcsec_d")
        }
        return rates | {"rate_err_arcsec_d": np.where(total > 0, total**-0.5, np.nan)}


def _fluxes(one: Columns, other: Columns) -> dict[str, npt.NDArray[Any]]:
    """Return the statistics of fluxes of one band."""
    n, m = one["n_flux"].astype(float), other["n_flux"].astype(float)
    step = np.where((n > 0) & (m > 0), other["flux_adu_per_s"] - one["flux_adu_per_s"], 0.0)
    squares = _squares(one["flux_scatter"], n - 1) + _squares(other["flux_scatter"], m - 1)
    squares += n * m / np.maximum(n + m, 1) * step**2
    return {
        "n_flux": one["n_flux"] + other["n_flux"],
        "flux_adu_per_s": _mean(one, other, "flux_adu_per_s", "n_flux"),
        "flux_scatter": _scatter(squares, n + m - 1),
    }


def _magnitudes(one: Columns, other: Columns) -> dict[str, npt.NDArray[Any]]:
    """Return the statistics of magnitudes of one band."""
    has, more = one["n_good"] > 0, other["n_good"] > 0
    fresh, both = ~has & more, has & more
    merged = {name: np.where(fresh, other[name], one[name]) for name in ("version", "n_good", *_MAGNITUDES)}
    merged["version"] = np.where(both, other["version"], merged["version"])
    with np.errstate(divide="ignore", invalid="ignore"):
        weight, added = (_excess(rows) / rows["mag_random_err"] ** 2 for rows in (one, other))
        total = weight + added
        step = other["mag_mean"] - one["mag_mean"]
        count = one["n_good"] + other["n_good"]
        apart = weight * added / total * step**2
        chi2 = one["mag_chi2"] + other["mag_chi2"] + apart
        nights = {
            "n_good_nights": one["n_good_nights"] + other["n_good_nights"],
            "mag_chi2_nights": one["mag_chi2_nights"] + other["mag_chi2_nights"] + apart,
        }
        shared = (weight * one["mag_systematic_err"] + added * other["mag_systematic_err"]) / total
        values = nights | {
            "n_good": count,
            "mag_mean": one["mag_mean"] + added / total * step,
            "mag_random_err": np.sqrt(_excess(nights) / total),
            "mag_systematic_err": shared,
            "mag_chi2": chi2,
            "mag_scatter": np.sqrt(chi2 / total * count / (count - 1)),
        }
    return merged | {name: np.where(both, new, merged[name]) for name, new in values.items()}


def _excess(rows: Columns) -> Floats:
    """Return by how much means of nights differ beyond random errors, as a factor on variances; at least 1.

    Birge (1932, Phys. Rev. 40, 207): so is the error of the mean honest where a star falls on other pixels each night.
    """
    free = rows["n_good_nights"] - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(free > 0, np.maximum(np.nan_to_num(rows["mag_chi2_nights"]) / free, 1.0), 1.0)

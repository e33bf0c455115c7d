"""Zeropoints of a night that is made without pixels, from its own matches.

What a robust fit would find is found in one step: the outliers are those that differ from the truth, and
the colour term is off the truth by what its error says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from archive.frame_rows import FrameRows
from archive.night_plan import NightPlan
from archive.scenario import ArchiveScenario
from archive.season import season
from skylake.core.camera import Camera
from skylake.core.flags import NO_STANDARD
from skylake.simulate.observatory import Observatory
from skylake.simulate.random_streams import generator

_Array = npt.NDArray[np.float64]
_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
#: Matches farther from the truth than this, in their errors, are outliers.
_OUTLIER_SIGMA = 4.0
#: Scatter of stars beyond their errors: blends, unknown variables.
_INTRINSIC_MAG = 0.01


@dataclass(frozen=True, slots=True)
class MatchedLight:
    """Matches that may enter a fit; arrays of shape (n,).

    Attributes
    ----------
    frame : ndarray of int
        Frame in the night.
    n_matched : ndarray of int, shape (largest frame + 1,)
        All matches of each frame.
    n_stars : int
        Different stars among those that may enter a fit.
    difference, error, photon_error : ndarray
        Catalog magnitude minus -2.5 log10 of the flux in the aperture of calibrations, its error, and the part of that
        which is the flux's.
    colour : ndarray
        Relative to the pivot; 0 where the band has none.
    """

    frame: npt.NDArray[np.intp]
    n_matched: npt.NDArray[np.int64]
    n_stars: int
    difference: _Array
    error: _Array
    photon_error: _Array
    colour: _Array

    @classmethod
    def of(
        cls, frame: npt.NDArray[np.intp], columns: dict[str, Any], place: Observatory, camera: Camera
    ) -> MatchedLight:
        """Return the usable ones among the matches of a night."""
        name = camera.apertures.flux
        flux, error = (columns[f"flux_{name}{suffix}"] for suffix in ("", "_err"))
        limits, band = camera.calibration, place.filter_band
        mag, crowding = columns["ref_mag"], columns["crowding"]
        usable = (columns["flags"] & int(NO_STANDARD)) == 0
        usable &= (crowding <= limits.max_crowding) & (flux > 0)
        # Errors hold little but noise of the sky where they matter, so this prefers no lucky star.
        usable &= error * np.float32(_MAG_PER_RELATIVE) <= limits.max_mag_err * flux
        usable &= (mag >= limits.mag_range[0]) & (mag <= limits.mag_range[1])
        if band.colour is not None:
            colours = columns["ref_colour"]
            usable &= (colours >= limits.colour_range[0]) & (colours <= limits.colour_range[1])
        rows = np.flatnonzero(usable)
        flux, share = flux[rows].astype(float), crowding[rows].astype(float)
        relative = columns[f"apcor_rel_{name}"][rows].astype(float) if f"apcor_rel_{name}" in columns else 1.0
        photon_error = _MAG_PER_RELATIVE * error[rows].astype(float) / flux
        colour = np.zeros(rows.size)
        if band.colour is not None:
            colour = columns["ref_colour"][rows].astype(float) - band.pivot_colour
        return cls(
            frame[rows],
            np.bincount(frame, minlength=1),
            # Matches come star by star.
            int(np.count_nonzero(np.diff(columns["_healpix_29"][rows], prepend=-1))),
            mag[rows].astype(float) + 2.5 * np.log10(flux * relative / (1.0 + share)),
            np.hypot(photon_error, columns["ref_mag_err"][rows]),
            photon_error,
            colour,
        )


@dataclass(frozen=True, slots=True)
class Zeropoints:
    """Zeropoints of the frames of a night; arrays of shape (frames,), NaN where there is none.

    ``colour_term`` and its error are those of the night; ``reason`` is None for frames with a zeropoint.
    """

    zp: _Array
    zp_err: _Array
    zp_fit_err: _Array
    zp_random_err: _Array
    mean_colour: _Array
    colour_spread: _Array
    n_matched: npt.NDArray[np.int64]
    n_used: npt.NDArray[np.int64]
    rms: _Array
    chi2: _Array
    reason: list[str | None]
    colour_term: float
    colour_term_err: float
    intrinsic_mag: float


def fit_zeropoints(
    scenario: ArchiveScenario, plan: NightPlan, rows: FrameRows, light: MatchedLight
) -> Zeropoints:
    """Return the zeropoint of each frame, the weighted mean of its usable matches."""
    count, band = len(plan), season(scenario).observatory.filter_band
    flux = plan.camera.apertures.flux
    random = generator(scenario.seed, "zeropoints", plan.night)
    truth, term_err = scenario.atmosphere.colour_term, _term_error(light)
    term = truth + term_err * float(random.standard_normal()) if band.colour is not None else 0.0
    scintillation = _MAG_PER_RELATIVE * float(np.median(plan.scintillation))
    intrinsic = float(np.hypot(_INTRINSIC_MAG, scintillation))
    error = np.hypot(light.error, intrinsic)
    values = light.difference + 2.5 * np.log10(rows.apcor[flux])[light.frame] - term * light.colour
    kept = np.abs(values - plan.zeropoint[light.frame]) < _OUTLIER_SIGMA * error
    frame, values, error, colour = light.frame[kept], values[kept], error[kept], light.colour[kept]
    weight, own = error**-2, light.photon_error[kept] ** 2 + scintillation**2

    def summed(each: npt.ArrayLike) -> _Array:
        return np.asarray(np.bincount(frame, each, count), float)

    with np.errstate(divide="ignore", invalid="ignore"):
        total, n_used = summed(weight), np.bincount(frame, minlength=count)
        zp, mean_colour = summed(weight * values) / total, summed(weight * colour) / total
        spread = np.sqrt(summed((colour - mean_colour[frame]) ** 2) / n_used)
        residual = values - zp[frame]
        rms = np.sqrt(summed(residual**2) / (n_used - 1))
        chi2 = summed(weight * residual**2) / (n_used - 1)
        fit_err, random_err = np.sqrt(1.0 / total), np.sqrt(summed(weight**2 * own)) / total
        aperture = _MAG_PER_RELATIVE * rows.apcor_err[flux] / rows.apcor[flux]
    n_matched = np.zeros(count, np.int64)
    n_matched[: light.n_matched.size] = light.n_matched
    reason = _reasons(n_matched, n_used, plan.camera.calibration.min_stars)
    none = np.array([one is not None for one in reason])

    def solved(each: _Array) -> _Array:
        return np.where(none, np.nan, each)

    return Zeropoints(
        zp=solved(zp),
        zp_err=solved(np.hypot(np.hypot(fit_err, term_err * mean_colour), aperture)),
        zp_fit_err=solved(fit_err),
        zp_random_err=solved(random_err),
        mean_colour=solved(mean_colour),
        colour_spread=solved(spread),
        n_matched=n_matched,
        n_used=np.where(none, 0, n_used),
        rms=solved(rms),
        chi2=solved(chi2),
        reason=reason,
        colour_term=term,
        colour_term_err=term_err,
        intrinsic_mag=intrinsic,
    )


def _term_error(light: MatchedLight) -> float:
    """Return the error of the night's colour term: that of its stars, not of their many measurements."""
    if light.n_stars < 3 or not np.any(light.colour):
        return 0.0
    stars = np.sqrt(light.n_stars) * np.std(light.colour)
    return float(np.hypot(np.median(light.error), _INTRINSIC_MAG) / stars)


def _reasons(
    n_matched: npt.NDArray[np.int64], n_used: npt.NDArray[np.int64], min_stars: int
) -> list[str | None]:
    few = ["too_few_stars" if used < min_stars else None for used in n_used.tolist()]
    return ["no_matches" if n == 0 else reason for n, reason in zip(n_matched.tolist(), few, strict=True)]


def zeropoint_columns(
    scenario: ArchiveScenario, plan: NightPlan, fitted: Zeropoints, flux_limit: _Array
) -> dict[str, Any]:
    """Return the columns of ``zeropoints`` that the fit fills."""
    band, count = season(scenario).observatory.filter_band, len(plan)
    columns: dict[str, Any] = {
        "band": [band.band] * count,
        "flux": [plan.camera.apertures.flux] * count,
        "zp": fitted.zp,
        "zp_err": fitted.zp_err,
        "zp_fit_err": fitted.zp_fit_err,
        "zp_random_err": fitted.zp_random_err,
        "mag_limit": fitted.zp - 2.5 * np.log10(np.asarray(flux_limit, float)),
        "n_matched": fitted.n_matched,
        "n_used": fitted.n_used,
        "rms": fitted.rms,
        "chi2": fitted.chi2,
        "intrinsic_mag": np.full(count, fitted.intrinsic_mag),
    }
    if band.colour is not None:
        columns |= {
            "colour": [band.colour] * count,
            "pivot_colour": np.full(count, band.pivot_colour),
            "colour_term": np.full(count, fitted.colour_term),
            "colour_term_err": np.full(count, fitted.colour_term_err),
            "mean_colour": fitted.mean_colour + band.pivot_colour,
            "colour_spread": fitted.colour_spread,
        }
    columns["reason"] = pa.array(fitted.reason, pa.string())
    return columns

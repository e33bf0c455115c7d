"""Zeropoints of the frames of a night under the terms that the night has in common, with their errors.

Each frame has a robust mean of its stars, or where stars show that it differs over the frame
(:mod:`skylake.calibration.frame_gradients`) the mean over the frame of a polynomial.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.calibration.frame_gradients import MOST_DEGREE, FrameGradients, fit_gradients
from skylake.calibration.match_selection import Matches, places_of
from skylake.calibration.night_terms import ColourTerm, numbers_of
from skylake.calibration.star_lists import unshared_variance
from skylake.core.group_means import group_means, group_sums
from skylake.core.robust import MEAN_SHARE, SHARED_VARIANCE

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Why a frame has no zeropoint.
TOO_FEW_STARS, NO_MATCHES = "too_few_stars", "no_matches"
#: So many stars must keep half of their weight: two or three of a few may agree by chance.
_FEWEST_USED = 5
#: What neighbours bring as a whole is known up to this share of it, as simulated fields of all sorts tell.
_NEIGHBOURS_ERROR = 0.018
#: What a frame without a zeropoint has no value of either.
_VALUES = (
    "zp",
    "zp_fit_err",
    "zp_random_err",
    "zp_err",
    "mean_colour",
    "colour_spread",
    "mean_airmass",
    "rms",
    "chi2",
)


@dataclass(frozen=True, slots=True)
class FrameZeropoints:
    """Zeropoints of frames; arrays of shape (n_frames,), NaN where there is none, and the reason (else None)."""

    zp: Floats
    zp_fit_err: Floats
    zp_random_err: Floats
    zp_err: Floats
    mean_colour: Floats
    colour_spread: Floats
    mean_airmass: Floats
    n_matched: npt.NDArray[np.int64]
    n_used: npt.NDArray[np.int64]
    rms: Floats
    chi2: Floats
    reason: npt.NDArray[np.object_]
    gradients: FrameGradients

    def without(self, lacking: npt.NDArray[np.bool_]) -> FrameZeropoints:
        """Return zeropoints without the values of some frames, of which the number of matches is left."""
        changed: dict[str, Any] = {name: np.where(lacking, np.nan, getattr(self, name)) for name in _VALUES}
        return replace(self, **changed, n_used=np.where(lacking, 0, self.n_used))


class _Stars(NamedTuple):
    """The usable matches frame by frame, arrays of shape (n,), and where frames begin."""

    data: Matches
    rows: Places
    starts: Places
    frame: Places
    photon: Floats
    catalog: Floats
    spread: Floats

    def sums(self, values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> Floats:
        """Return the sum of each frame."""
        return group_sums(values, self.starts)


class _Fit(NamedTuple):
    """Zeropoints and errors of frames, and of each star what is left of it.

    ``share`` is that of its weight which a star kept, ``weight`` its share in a plain mean of the frame, and ``pull``
    by how much the zeropoint follows it.
    """

    zp: Floats
    error: Floats
    gradients: FrameGradients
    residual: Floats
    share: Floats
    weight: Floats
    pull: Floats


def fit_frames(
    data: Matches,
    place: tuple[Floats, Floats],
    frame_id: npt.NDArray[np.int64],
    term: ColourTerm,
    min_stars: int,
) -> FrameZeropoints:
    """Fit the zeropoints of frames, all at once, under the night's colour term.

    From fewer stars than `min_stars`, or fewer than five that agree, a zeropoint has the reason ``too_few_stars``
    beside what they give.

    Parameters
    ----------
    data : Matches
    place : (ndarray, ndarray), shape (n,)
        Where matches lie on their frames, from -1 to 1; NaN where that is not known.
    frame_id : ndarray of int64, shape (n_frames,)
        All frames that have matches, and others, each once.
    term : ColourTerm
    min_stars : int
    """
    n = len(frame_id)
    rows, starts = data.by_frame(frame_id)
    size, photon, catalog = (
        np.diff(starts),
        data.photon_error[rows],
        data.catalog_variance(rows, term.value),
    )
    spread = np.maximum(np.sqrt(photon**2 + catalog + term.intrinsic**2), 1e-9)
    stars = _Stars(data, rows, starts, np.repeat(np.arange(n), size), photon, catalog, spread)
    fit = _fit(stars, (place[0][rows], place[1][rows]), term)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_colour, beyond, sky_light, neighbours = (
            np.where(size > 0, stars.sums(fit.pull * part[rows]), np.nan)
            for part in (data.colour, data.airmass, data.sky_light, data.neighbours)
        )
        rms, chi2 = _scatter(stars, fit)
    n_used = stars.sums(fit.share >= 0.5).astype(np.int64)
    of_terms = np.hypot(term.error * mean_colour, np.nan_to_num(term.extinction_err) * beyond)
    # What is wrong with either moves the stars of all frames of the night, and so is none of the frame's own.
    of_blends = np.hypot(term.sky_light_err * sky_light, _NEIGHBOURS_ERROR * neighbours)
    n_matched = np.bincount(places_of(frame_id, data.frame), minlength=n)
    reason = np.full(n, None, object)
    reason[(size < max(min_stars, 1)) | (n_used < min(min_stars, _FEWEST_USED))] = TOO_FEW_STARS
    reason[n_matched == 0] = NO_MATCHES
    return FrameZeropoints(
        zp=fit.zp,
        zp_fit_err=np.hypot(fit.error, of_blends),
        zp_random_err=fit.error * _random_part(stars, fit, term),
        zp_err=np.sqrt(fit.error**2 + of_blends**2 + of_terms**2),
        mean_colour=mean_colour,
        colour_spread=_colour_spread(stars, fit, mean_colour, n_used),
        mean_airmass=1.0 + beyond if np.isfinite(term.extinction) else np.full(n, np.nan),
        n_matched=n_matched,
        n_used=n_used,
        rms=rms,
        chi2=chi2,
        reason=reason,
        gradients=fit.gradients,
    )


def _fit(stars: _Stars, place: tuple[Floats, Floats], term: ColourTerm) -> _Fit:
    """Fit means, and offsets over those frames that show some."""
    values, starts, frame = term.at_pivot(stars.data, stars.rows), stars.starts, stars.frame
    fit = group_means(values, stars.spread, starts)
    # Of a frame that sees degrees of altitude, all but a gradient looks like extinction.
    most_degree = MOST_DEGREE if np.isnan(term.extinction) else 1
    gradients = fit_gradients(values, stars.spread, place, starts, fit.means, most_degree)
    sloped = gradients.degree > 0
    zp, error = np.where(sloped, gradients.zp, fit.means), np.where(sloped, gradients.zp_err, fit.errors)
    residual, share = values - zp[frame], fit.weights
    if sloped.any():
        residual -= gradients.offset(frame, *place)
        share = np.where(sloped[frame], gradients.share, share)
    # Stars that exclude each other have no weight, and the fit is its start: then all count.
    counted = np.where((stars.sums(share) > 0.0)[frame], share, 1.0)
    weight = counted / stars.spread**2
    weight /= stars.sums(weight)[frame]
    pull = np.where(sloped[frame], gradients.pull, weight) if sloped.any() else weight
    return _Fit(zp, error, gradients, residual, share, weight, pull)


def _random_part(stars: _Stars, fit: _Fit, term: ColourTerm) -> Floats:
    """Return the share of the error of each frame that frames of the same stars do not have in common.

    What the stars have in the catalog, they have in common.
    """
    own = stars.photon**2 + term.random**2
    shared = stars.catalog + max(term.intrinsic**2 - term.random**2, 0.0)
    random = stars.sums(fit.weight**2 * own)
    random += unshared_variance(numbers_of(stars.data.star[stars.rows]), stars.starts, fit.weight, shared)
    stated = np.maximum(stars.sums(fit.weight**2 * stars.spread**2), np.finfo(float).tiny)
    return np.asarray(np.sqrt(np.minimum(random / stated, 1.0)))


def _colour_spread(stars: _Stars, fit: _Fit, mean: Floats, n_used: npt.NDArray[np.int64]) -> Floats:
    """Return the standard deviation of the colours of the stars of each frame that were used."""
    counted = np.where((n_used > 0)[stars.frame], fit.share >= 0.5, fit.weight > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = (stars.data.colour[stars.rows] - mean[stars.frame]) ** 2
        return np.asarray(np.sqrt(stars.sums(counted * off) / stars.sums(counted)))


def _scatter(stars: _Stars, fit: _Fit) -> tuple[Floats, Floats]:
    """Return the scatter of the stars of each frame about its zeropoint, and its square over that of their errors.

    All stars count, with the share of their weight that they kept, so that nothing jumps when one gains or loses some;
    of a Gaussian that share leaves a known part.
    """
    kept = stars.sums(fit.share)
    number, squares = kept / MEAN_SHARE, fit.share * fit.residual**2
    free = number - fit.gradients.n_coefficients
    scale = number / np.where(free > 0.0, free, np.nan) / (SHARED_VARIANCE * kept)
    return np.sqrt(scale * stars.sums(squares)), scale * stars.sums(squares / stars.spread**2)

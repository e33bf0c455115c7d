"""What the matches of a night have in common: colour term, extinction, light that the sky took off, and scatter.

The model is that of :mod:`skylake.calibration.zeropoints`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.match_selection import Matches
from skylake.core.camera import Calibration
from skylake.core.group_means import group_sums
from skylake.core.group_medians import group_medians
from skylake.core.jit import kernel
from skylake.core.robust import BIWEIGHT_CUT, Fit, intrinsic_scatter, robust_fit

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

_ROUNDS = 8
#: Extinction per airmass before any star has told, magnitudes: that of dry and of hazy sites in all bands.
_EXTINCTION = (0.25, 0.25)
#: Scale of the light that the sky takes off, less 1, before any star has told: where it is taken off depends on what
#: was detected, and that on noise.
_SKY_LIGHT = (0.0, 0.15)
#: So many residuals, drawn at random, know the scatter to 0.5 %; the stars of a night, which are fewer, know it less.
_ENOUGH = 20_000
#: Weights of the rounds before the last need it to 1 %.
_ENOUGH_FOR_WEIGHTS = 5_000
#: The errors of colours may be up to this share of the variance of the colours: where they are more, a colour term is
#: corrected no further.
_MOST_NOISE = 0.5


@dataclass(frozen=True, slots=True)
class ColourTerm:
    """The colour term of a night, with its error, and the intrinsic scatter of the night's stars.

    ``random`` is the part of that scatter by which the measurements of one star differ from frame to frame,
    ``extinction`` that per airmass, NaN where frames see degrees, and ``sky_light`` the scale of the light that the
    sky took off, less 1.
    """

    value: float
    error: float
    intrinsic: float
    random: float = 0.0
    extinction: float = float("nan")
    extinction_err: float = float("nan")
    sky_light: float = 0.0
    sky_light_err: float = 0.0

    def at_pivot(self, data: Matches, rows: npt.NDArray[np.intp]) -> Floats:
        """Return the differences that matches would have at the pivot colour and the zenith; shape as `rows`."""
        moved = data.difference[rows] - self.value * data.colour[rows]
        moved += np.nan_to_num(self.extinction) * data.airmass[rows]
        return np.asarray(moved + self.sky_light * data.sky_light[rows])


class _Errors(NamedTuple):
    """Errors of matches; arrays of shape (n,).

    ``photon`` is that of the measurement. The catalog brings the variance ``magnitude`` of its magnitude, ``colour``
    of its colour, and ``covariance`` of the two.
    """

    photon: Floats
    magnitude: Floats
    colour: Floats
    covariance: Floats

    def catalog(self, colour_term: float) -> Floats:
        """Return the variance that the catalog brings to a magnitude at the pivot colour."""
        shared = 2.0 * colour_term * self.covariance
        return np.asarray(np.maximum(self.magnitude + colour_term**2 * self.colour - shared, 0.0))


class _Groups(NamedTuple):
    """The numbers of the frame and of the star of each match, from 0, arrays of shape (n,), and where frames begin."""

    frame: Places
    star: Places
    starts: Places

    def means(self, values: Floats, weight: Floats) -> Floats:
        """Return the weighted means of the frames."""
        total = group_sums(weight, self.starts)
        return np.asarray(group_sums(weight * values, self.starts) / np.where(total > 0, total, 1.0))


def fit_colour_term(data: Matches, calibration: Calibration) -> ColourTerm:
    """Fit the colour term and the extinction of a night, and the intrinsic scatter of its stars.

    The frames' zeropoints are eliminated by taking means within each frame, and the many measurements
    of one star are averaged before the fit: they share the star's error in the catalog, so a hundred
    frames of twenty stars know the colour term no better than twenty stars do.
    """
    rows = np.flatnonzero(data.usable)
    rows = rows[np.argsort(data.frame[rows], kind="stable")]
    # A term that is nought for all stars is none: that of a band without colour, or of frames that see degrees.
    columns = (data.colour, -data.airmass, -data.sky_light)
    wanted = np.array([np.any(np.nan_to_num(column)) for column in columns])
    prior = calibration.colour_term_prior, calibration.colour_term_prior_err
    priors = np.array([prior, _EXTINCTION, _SKY_LIGHT]).T
    if rows.size < 3:
        wanted[0] = True
        return _night_term(priors[:, wanted], wanted, 0.0, 0.0)
    frame, difference = numbers_of(data.frame[rows]), data.difference[rows]
    groups = _Groups(frame, numbers_of(data.star[rows]), np.searchsorted(frame, np.arange(frame[-1] + 2)))
    errors = _errors(data, rows)
    wanted &= [bool(column[rows].any()) for column in columns]
    chosen = [column[rows] for column, is_wanted in zip(columns, wanted, strict=True) if is_wanted]
    terms, priors = np.array(chosen).reshape(len(chosen), len(rows)).T, priors[:, wanted]
    slopes, slope_errs, intrinsic = priors[0], priors[1], 0.0
    zero = group_medians(difference - terms @ slopes, groups.starts)
    n_fitted = len(groups.starts) - 1 + len(slopes)
    for _ in range(_ROUNDS):
        residual = difference - terms @ slopes - zero[frame]
        catalog = errors.catalog(_first(slopes, wanted))
        variance = errors.photon**2 + catalog
        intrinsic = _intrinsic(residual, variance, n_fitted, _ENOUGH_FOR_WEIGHTS)
        if not len(slopes):
            break
        variance += intrinsic**2
        weight, own, previous = _weights(residual, variance), (catalog, intrinsic), slopes
        slopes, slope_errs = _slopes(difference, terms, errors, own, weight, groups, priors, wanted)
        zero = groups.means(difference - terms @ slopes, weight)
        if np.abs(slopes - previous).max() < 1e-5:
            break
    residual = difference - terms @ slopes - zero[frame]
    catalog = errors.catalog(_first(slopes, wanted))
    intrinsic = _intrinsic(residual, errors.photon**2 + catalog, n_fitted)
    random = _random_scatter(residual, (errors.photon, catalog), intrinsic, frame, groups.star)
    return _night_term(np.array([slopes, slope_errs]), wanted, intrinsic, random)


def numbers_of(keys: npt.NDArray[np.int64]) -> Places:
    """Return a number from 0 for each key, the same for the same keys, in the order of their first appearance."""
    return np.asarray(pa.array(keys).dictionary_encode().indices.to_numpy(), np.intp)


def _errors(data: Matches, rows: Places) -> _Errors:
    catalog, colour = data.catalog_error[rows], data.colour_error[rows]
    return _Errors(data.photon_error[rows], catalog**2, colour**2, data.colour_covariance[rows])


def _first(slopes: Floats, wanted: npt.NDArray[np.bool_]) -> float:
    """Return the colour term among the slopes that are wanted; 0 where it is not."""
    return float(slopes[0]) if wanted[0] else 0.0


def _intrinsic(residual: Floats, variance: Floats, n_fitted: int, enough: int = _ENOUGH) -> float:
    """Return the scatter beyond what the variance tells, of a sample of the residuals where they are very many."""
    n = len(residual)
    if n > enough:
        some = np.random.default_rng(n).integers(0, n, enough)
        residual, variance, n_fitted = residual[some], variance[some], n_fitted * enough // n
    return intrinsic_scatter(residual, np.sqrt(variance), n_fitted)


def _night_term(fitted: Floats, wanted: npt.NDArray[np.bool_], intrinsic: float, random: float) -> ColourTerm:
    """Return the terms of a night, of which those that are wanted are given with their errors, shape (2, terms)."""
    values = np.array([[0.0, np.nan, 0.0], [0.0, np.nan, 0.0]])
    values[:, wanted] = fitted
    (colour, extinction, sky_light), errors = values.tolist()[0], values.tolist()[1]
    return ColourTerm(colour, errors[0], intrinsic, random, extinction, errors[1], sky_light, errors[2])


def _random_scatter(
    residual: Floats,
    errors: tuple[Floats, Floats],
    intrinsic: float,
    frame: npt.NDArray[np.intp],
    star: npt.NDArray[np.intp],
) -> float:
    """Return by how much the measurements of a star differ from frame to frame beyond their photon errors.

    What else is in the intrinsic scatter, the star has on all frames. Stars that are outliers are left out, and so are
    those on one frame only; without any other nothing is known of it, and 0 is returned.
    """
    # The error of the measurement, and the variance that the catalog brings.
    photon, catalog = np.maximum(errors[0], 1e-6) ** 2, errors[1]
    total = photon + catalog + intrinsic**2
    share = _weights(residual, total) * total
    weight = share / photon
    # The mean of a star follows each measurement by as much as that weighs in it.
    own = weight / np.maximum(np.bincount(star, weight), 1e-300)[star]
    used = (share > 0.0) & (own < 1.0 - 1e-6)
    if not used.any():
        return 0.0
    deviation = (residual - _group_means(residual, weight, star)[star])[used] / np.sqrt(1.0 - own[used])
    n_frames = int(np.count_nonzero(np.bincount(frame[used])))
    return min(_intrinsic(deviation, photon[used], n_frames), intrinsic)


def _slopes(
    difference: Floats,
    terms: Floats,
    errors: _Errors,
    own: tuple[Floats, float],
    weight: Floats,
    groups: _Groups,
    priors: Floats,
    wanted: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """Regress the stars' mean offsets on their mean colours and airmasses, all relative to their frames.

    Of shape (n, p) are `terms`; of (2, p) `priors`, means and standard deviations; `own` are the variance of
    stars in the catalog, shape (n,), and their intrinsic scatter. Returned are slopes and their errors.
    """
    star = groups.star
    in_star = np.bincount(star, weight)
    kept = in_star > 0

    def means(values: Floats) -> Floats:
        return np.asarray(_star_sums(star, weight, values, len(kept))[kept] / in_star[kept])

    # The photon noise averages down over frames; what is the star's own does not.
    averaged = 1.0 / np.maximum(np.bincount(star, 1.0 / np.maximum(errors.photon, 1e-6) ** 2), 1e-12)
    design = np.column_stack([means(_relative(one, weight, groups.starts)) for one in terms.T])
    spread = np.sqrt(averaged[kept] + means(own[0]) + own[1] ** 2)
    offsets = means(_relative(difference, weight, groups.starts))
    fit = robust_fit(design, offsets, spread, prior=(priors[0], priors[1]))
    if not wanted[0] or not errors.colour.any():
        return fit.coefficients, fit.errors
    # A star is a part of the mean of its frame, and its error with it.
    beside = 1.0 - weight / np.maximum(group_sums(weight, groups.starts), 1e-300)[groups.frame]
    noise = means(errors.colour * beside), means(errors.covariance * beside)
    return _without_noise(fit, design, spread, priors, noise)


def _without_noise(
    fit: Fit, design: Floats, spread: Floats, priors: Floats, noise: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Return slopes and their errors without the bias that errors of the colours bring.

    A slope against colours that are uncertain is too flat, and one against colours that have the error of the
    magnitude in them is off by their covariance (Fuller 1987, Measurement Error Models, sec. 2.2).

    Parameters
    ----------
    fit : Fit
        Of the stars, the colour first among its columns.
    design, spread, priors
        As they went into the fit.
    noise : (ndarray, ndarray), shape (n_stars,)
        Variance of the colour of each star, and its covariance with the magnitude.
    """
    weight = fit.weights / (spread**2 + fit.intrinsic**2)
    precision = 1.0 / np.maximum(priors[1], 1e-7) ** 2
    data = (design * weight[:, None]).T @ design
    normal = data + np.diag(precision)
    of_colour = min(float(weight @ noise[0]), _MOST_NOISE * float(data[0, 0]))
    shift = normal @ fit.coefficients
    shift[0] -= float(weight @ noise[1])
    clean = normal.copy()
    clean[0, 0] -= of_colour
    larger = np.linalg.solve(clean, normal)
    covariance = larger @ fit.covariance @ larger.T
    return np.asarray(np.linalg.solve(clean, shift)), np.asarray(np.sqrt(np.diag(covariance)))


@kernel(error_model="numpy")
def _weights(residual: Floats, variance: Floats) -> Floats:
    """Return inverse variances, brought to zero for outliers."""
    weight = np.zeros(len(residual))
    for i in range(len(residual)):
        total = max(variance[i], 1e-12)
        left = 1.0 - residual[i] ** 2 / total / BIWEIGHT_CUT**2
        if left > 0.0:
            weight[i] = left * left / total
    return weight


@kernel(error_model="numpy")
def _relative(values: Floats, weight: Floats, starts: Places) -> Floats:
    """Return values relative to the weighted means of their frames."""
    relative = np.empty(len(values))
    for frame in range(len(starts) - 1):
        total, moment = 0.0, 0.0
        for i in range(starts[frame], starts[frame + 1]):
            total += weight[i]
            moment += weight[i] * values[i]
        mean = moment / total if total > 0.0 else 0.0
        for i in range(starts[frame], starts[frame + 1]):
            relative[i] = values[i] - mean
    return relative


@kernel(error_model="numpy")
def _star_sums(star: Places, weight: Floats, values: Floats, n_stars: int) -> Floats:
    """Return the weighted sums of the values of each star."""
    sums = np.zeros(n_stars)
    for i in range(len(star)):
        sums[star[i]] += weight[i] * values[i]
    return sums


def _group_means(values: Floats, weight: Floats, group: npt.NDArray[np.intp]) -> Floats:
    total = np.bincount(group, weight)
    return np.asarray(np.bincount(group, weight * values) / np.where(total > 0, total, 1.0))

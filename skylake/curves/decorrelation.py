"""External parameter decorrelation (EPD) of many stars at once, with or without a signal beside it.

Magnitudes are fitted by terms of external parameters by robust least squares. Alone, such a fit takes part of a real
signal for an effect of position or airmass. So the shape of the signal is fitted with the terms, and only the terms
are taken off. Nothing is smoothed or interpolated in time, so gaps need no care. A Gaussian prior on the terms
(ridge regression) holds those that a short curve cannot tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from skylake.core.robust import MEAN_SHARE, SHARED_VARIANCE
from skylake.curves.curve_block import CurveBlock, outlier_weights, row_medians, star_chunks
from skylake.curves.external_parameters import ExternalParameters, parameter_terms
from skylake.curves.red_noise import red_noise_factor
from skylake.curves.signals import Harmonics, Signal

Floats = npt.NDArray[np.float64]

MOST_TERMS = 32
#: The terms of a few stars stay in the cache.
_CACHE_BYTES = 1 << 22
#: Standard deviations from the level of a star at which a measurement has no weight in the first fit.
_START_CUT = 30.0
#: A signal of which the frames show less than this weight, in 1/mag^2, has no amplitude.
_LEAST_SEEN = 1e-6
#: Of the biweight for Gaussian values: its coefficients scatter by so much more than those of least squares.
_EFFICIENCY = 0.95


@dataclass(frozen=True, slots=True)
class DecorrelationOptions:
    """How curves are decorrelated.

    Attributes
    ----------
    prior_mag : float
        Standard deviation that a term is expected to bring to the curve of a star, magnitudes.
    least_points : int
        Stars with fewer measurements are not decorrelated.
    rounds : int
        Fits of each star; outliers lose their weight from one to the next.
    """

    prior_mag: float = 0.05
    least_points: int = 100
    rounds: int = 4


@dataclass(frozen=True, slots=True)
class Decorrelated:
    """Decorrelated light curves.

    Attributes
    ----------
    mag : ndarray, shape (n_stars, n_frames)
        Magnitudes less what the terms explain, with the signal; NaN where there was no measurement, and for stars with
        too few.
    residual : ndarray, shape (n_stars, n_frames)
        The same less the constant and the signal.
    signal : ndarray, shape (n_stars, n_columns)
        Coefficients of the shapes of the signal; NaN for a star without one, or if no frame shows it.
    signal_err : ndarray, shape (n_stars, n_columns)
        Their standard errors, from the scatter about the fit and its correlation from frame to frame.
    covariance : ndarray, shape (n_stars, n_columns, n_columns)
        Of the coefficients, with these errors; NaN where they are.
    n_points : ndarray of int64, shape (n_stars,)
    n_lost : ndarray, shape (n_stars,)
        Degrees of freedom that constant, terms and signal took; the prior makes them fewer than there are terms.
    chi2 : ndarray, shape (n_stars,)
        Reduced chi-square of the fit.
    """

    mag: Floats
    residual: Floats
    signal: Floats
    signal_err: Floats
    covariance: Floats
    n_points: npt.NDArray[np.int64]
    n_lost: Floats
    chi2: Floats
    terms: list[str] = field(default_factory=list)

    #: Fields that are arrays with a row for each star, in order.
    PER_STAR: ClassVar = (
        "mag",
        "residual",
        "signal",
        "signal_err",
        "covariance",
        "n_points",
        "n_lost",
        "chi2",
    )

    def of(self, stars: slice) -> Decorrelated:
        """Return some of the stars."""
        arrays: dict[str, Any] = {name: getattr(self, name)[stars] for name in self.PER_STAR}
        return replace(self, **arrays)


def decorrelate(
    curves: CurveBlock,
    parameters: ExternalParameters,
    signal: Signal | None = None,
    options: DecorrelationOptions | None = None,
) -> Decorrelated:
    """Return light curves without what external parameters explain.

    Parameters
    ----------
    curves : CurveBlock
        Best after the light that all stars lose alike has been taken off (:mod:`skylake.curves.ensemble`).
    parameters : ExternalParameters
    signal : Harmonics, Boxes or FoundSignals
        Fitted with the terms and kept in the curve; without one a real signal loses some of its amplitude.
    options : DecorrelationOptions
    """
    options = options or DecorrelationOptions()
    n_stars, n_frames = curves.mag.shape
    parts = []
    for stars in star_chunks(n_stars, 8 * n_frames * MOST_TERMS, _CACHE_BYTES):
        shapes = (
            np.zeros((stars.stop - stars.start, 0, n_frames))
            if signal is None
            else signal.columns(curves.time, stars)
        )
        parts.append(_of_stars(curves.of(stars), parameters.of(stars), shapes, options))
    if not parts:
        empty = np.zeros((0, n_frames))
        none = np.zeros(0)
        bare = empty[:, :0]
        return Decorrelated(empty, empty, bare, bare, bare[:, None], none.astype(np.int64), none, none)
    joined = {name: np.concatenate([getattr(one, name) for one in parts]) for name in Decorrelated.PER_STAR}
    return Decorrelated(**joined, terms=parts[0].terms)


def _of_stars(
    curves: CurveBlock, parameters: ExternalParameters, shapes: Floats, options: DecorrelationOptions
) -> Decorrelated:
    """Decorrelate so many stars as fit into memory."""
    good, weight = curves.is_good, curves.weight
    names, terms = parameter_terms(parameters, weight)
    n_terms, n_shapes = len(names), shapes.shape[1]
    design = np.concatenate([terms, shapes, np.ones((len(weight), 1, weight.shape[1]))], axis=1)
    precision = precision_of(n_terms, n_shapes, options)
    level = row_medians(np.where(good, curves.mag, np.nan))[:, None]
    values = np.where(good, curves.mag - level, np.nan)
    errors = np.where(good, curves.mag_err, np.nan)
    # A dip is no outlier before it is fitted.
    kept = outlier_weights(values, errors, cut=_START_CUT)
    for _ in range(options.rounds):
        fit = held_fit(design, np.nan_to_num(values), kept * weight, precision)
        residual = values - of_terms(design, fit.coefficients)
        kept = outlier_weights(residual, errors)
    chi2 = _chi2(residual / errors, kept, fit.n_lost)
    mine = slice(n_terms, n_terms + n_shapes)
    shared = fit.covariance[:, mine, mine] * chi2[:, None, None] * MEAN_SHARE / _EFFICIENCY
    if n_shapes:
        influence = (fit.inverse[:, mine] @ design) * np.nan_to_num(kept / errors)[:, None, :]
        pulls = np.nan_to_num(kept * residual / errors)
        red = red_noise_factor(curves.time, influence, pulls, _orthonormal(fit, design, kept * weight))
        shared = shared * red[:, :, None] * red[:, None, :]
    off = of_terms(design[:, :n_terms], fit.coefficients[:, :n_terms])
    enough = (good.sum(axis=1) >= options.least_points)[:, None]
    is_seen = enough & (fit.information[:, mine] > _LEAST_SEEN)
    return Decorrelated(
        np.where(good & enough, curves.mag - off, np.nan),
        np.where(enough, residual, np.nan),
        np.where(is_seen, fit.coefficients[:, mine], np.nan),
        np.where(is_seen, np.sqrt(np.maximum(np.einsum("sii->si", shared), 0.0)), np.nan),
        np.where(is_seen[:, :, None] & is_seen[:, None, :], shared, np.nan),
        good.sum(axis=1).astype(np.int64),
        fit.n_lost,
        np.where(enough[:, 0], chi2, np.nan),
        names,
    )


def _chi2(pulls: Floats, kept: Floats, n_lost: Floats) -> Floats:
    """Return the reduced chi-square, with what weights take from Gaussian values made good."""
    count = np.isfinite(pulls).sum(axis=1)
    square = np.nansum(kept * pulls**2, axis=1) / SHARED_VARIANCE / np.maximum(kept.sum(axis=1), 1e-300)
    return np.asarray(square * count / np.maximum(count - n_lost, 1.0))


def signal_range(curves: CurveBlock, signal: Signal, fit: Decorrelated) -> tuple[Floats, Floats]:
    """Return how much fainter stars are where a fitted signal is faintest than where it is brightest, and its error.

    That is the full amplitude of a wave, of whatever shape, and the depth of a box.

    Returns
    -------
    size, size_err : ndarray, shape (n_stars,)
        Magnitudes; NaN for stars without a signal. The error follows from the covariance of all coefficients. What
        noise adds to the range of several harmonics is taken off, but for half an error where two minima are alike; of
        a sinusoid it is about the square of the error over the range.
    """
    seen = np.isfinite(fit.signal)
    coefficients, shared = np.where(seen, fit.signal, 0.0), np.nan_to_num(fit.covariance)
    contrast = np.nan_to_num(signal.contrasts(curves.time, curves.is_good, coefficients))
    has = signal.has_signal & seen.any(axis=1)
    size = np.einsum("sk,sk->s", contrast, coefficients)
    if isinstance(signal, Harmonics):
        size = np.maximum(size - signal.range_excess(curves.time, curves.is_good, coefficients, shared), 0.0)
    variance = np.einsum("sj,sjk,sk->s", contrast, shared, contrast)
    return np.where(has, size, np.nan), np.where(has, np.sqrt(np.maximum(variance, 0.0)), np.nan)


@dataclass(frozen=True, slots=True)
class HeldFits:
    """Fits of stars: coefficients, of shape (n_stars, n_columns), their covariances, and what they come from."""

    coefficients: Floats
    covariance: Floats
    n_lost: Floats
    inverse: Floats
    information: Floats


def precision_of(n_terms: int, n_shapes: int, options: DecorrelationOptions) -> Floats:
    """Return the inverse variances of the prior of terms, shapes of a signal and the constant: only terms have one."""
    return np.append(np.full(n_terms, options.prior_mag**-2), np.full(n_shapes + 1, 1e-12))


def held_fit(design: Floats, values: Floats, weight: Floats, precision: Floats) -> HeldFits:
    """Fit all stars by weighted least squares with a prior of mean 0."""
    weighted = design * weight[:, None, :]
    normal = weighted @ np.swapaxes(design, 1, 2)
    held = normal + np.diag(precision)
    diagonal = np.einsum("sii->si", held)
    scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-9))
    inverse = np.linalg.inv(held * scale[:, :, None] * scale[:, None, :] + 1e-12 * np.eye(len(precision)))
    inverse = inverse * scale[:, :, None] * scale[:, None, :]
    coefficients = (inverse @ (weighted @ values[:, :, None]))[:, :, 0]
    n_lost = np.einsum("sij,sji->s", inverse, normal)
    return HeldFits(coefficients, inverse @ normal @ inverse, n_lost, inverse, np.einsum("sii->si", normal))


def _orthonormal(fit: HeldFits, design: Floats, weight: Floats) -> Floats:
    """Return the fitted shapes in units of pulls, orthonormal over each curve."""
    values, vectors = np.linalg.eigh(fit.inverse)
    mixed = np.swapaxes(vectors, 1, 2) * np.sqrt(np.maximum(values, 0.0))[:, :, None]
    return np.asarray((mixed @ design) * np.sqrt(weight)[:, None, :])


def of_terms(design: Floats, coefficients: Floats) -> Floats:
    """Return the values of fits, of shape (n_stars, n_frames)."""
    return np.asarray((coefficients[:, None, :] @ design)[:, 0])

"""The extinction of a night: zeropoints of frames against airmass, below which clouds push them.

The model of a frame f in a field g is

    zp_f = zenith - k (airmass_f - 1) + offset_g - cloud_f + noise,

with what catalog stars of the field have in common as its offset, and clouds that are never negative. It is fitted by
expectation and maximisation of the mixture of :mod:`skylake.core.clear_sky`, with a prior of the extinction k from the
extinction that sites have in the band. The errors allow for deviations that frames shortly after each other share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.core.bands import BANDS
from skylake.core.clear_sky import Shares, thin_share

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]

#: Haze that the typical extinction of good sites lacks, and how far sites and nights differ, mag per airmass.
_HAZE, _SITES, _SITES_SHARE = 0.05, 0.10, 0.3
#: Extinction in an unknown band or without filter, and its error.
_ANY_BAND = (0.20, 0.15)
#: Scatter of clear frames beyond their stated errors: where the fit starts, and as how many frames that counts.
_SCATTER, _SCATTER_FRAMES = 0.006, 2.0
#: With a larger scatter, mag, the frames of a night do not lie on one line.
MOST_SCATTER = 0.02
#: Share of cloudy frames: pseudo-counts of cloudy and of clear frames.
_CLOUDY_FRAMES, _CLEAR_FRAMES = 0.5, 1.5
_DEPTH, _DEPTH_FRAMES, _DEPTHS = 0.3, 1.0, (0.03, 2.0)
_ROUNDS = 200
#: Quantiles of the zeropoints at which fits start, and how far apart two fits are that are not the same.
_STARTS, _SAME = (0.5, 0.8, 0.97), 0.002
#: Frames within this time of each other may deviate together, d.
_SHARED_TIME = 1.0 / 48.0
#: As many blocks of time as the errors stated count for, beside the scatter between blocks.
_FORMAL_BLOCKS = 5.0
#: Clouds over less than this share of the frames of a night are no more than stray ones.
_FEW_FRAMES = 0.05
#: Share of nights whose frames all lie on one line, before any frame is seen.
_STEADY_NIGHTS = 0.7


@dataclass(frozen=True, slots=True)
class NightFrames:
    """Zeropoints of the frames of a night in one band; arrays of shape (n,), finite.

    Attributes
    ----------
    zp, error : ndarray
        Zeropoint and the random part of its error, mag.
    shared : ndarray
        Error that frames of one field share, mag.
    beyond : ndarray
        Airmass less 1; 0 where the zeropoint is that of the zenith already.
    mjd : ndarray
    field : ndarray of int
        Number of the field, from 0.
    """

    zp: Floats
    error: Floats
    shared: Floats
    beyond: Floats
    mjd: Floats
    field: Integers


@dataclass(frozen=True, slots=True)
class ExtinctionLine:
    """The line through clear frames of a night.

    Attributes
    ----------
    zenith, zenith_err : float
        Zeropoint of clear frames at the zenith, mag: the mean of the fields, each as precise as what its frames share.
    extinction, extinction_err : float
        Mag per airmass.
    mean_airmass : float
        Airmass at which the errors of zeropoint and extinction have nothing to do with each other.
    scatter : float
        Of clear frames about the line beyond their errors, mag.
    n_cloudy : float
        Expected number of frames that clouds push below the line.
    depth : float
        How far the median frame lies below the line and the offset of its field, mag.
    p_steady : float
        Probability that all frames but a few lie on one line: that clouds push fewer than one in twenty below it by
        0.03 mag or more.
    """

    zenith: float
    zenith_err: float
    extinction: float
    extinction_err: float
    mean_airmass: float
    scatter: float
    n_cloudy: float
    depth: float
    p_steady: float


def extinction_prior(band: str | None) -> tuple[float, float]:
    """Return the extinction that sites have in a band and its standard deviation, mag per airmass.

    The mean is the published one of good sites (:class:`skylake.core.bands.Band`) and some haze. The deviation is
    wide: it covers sites from sea level to 4 km, and nights from clean to dusty air.
    """
    known = BANDS.get(band or "")
    if known is None:
        return _ANY_BAND
    return known.extinction + _HAZE, float(np.hypot(_SITES, _SITES_SHARE * known.extinction))


def fit_line(frames: NightFrames, prior: tuple[float, float]) -> ExtinctionLine:
    """Fit the line of a night.

    Parameters
    ----------
    frames : NightFrames
        At least one.
    prior : (float, float)
        Mean and standard deviation of the extinction; a deviation of 0 fixes it.
    """
    model = _Line(frames, prior)
    steady = model.fitted(None)
    cloudy = _different([model.fitted(quantile) for quantile in _STARTS])
    p_steady = _p_steady(steady, cloudy[0], len(frames.zp))
    fits = [steady, *cloudy]
    spreads = [model.covariance(fit, fit is not steady) for fit in fits]
    share = _shares_of_fits(cloudy, spreads[1:])
    share = np.array([p_steady, *(1.0 - p_steady) * share])
    terms = np.array([fit.terms for fit in fits])
    mean = share @ terms
    apart = terms - mean
    covariance = np.einsum("i,ijk->jk", share, np.array(spreads)) + (apart * share[:, None]).T @ apart
    n_cloudy = float(share @ [fit.cloudy.sum() for fit in fits])
    covariance = _less_sure(covariance, model.precision, 1.0 - n_cloudy / len(frames.zp))
    offsets = share @ np.array([fit.offsets for fit in fits])
    below = -model.deviations(mean, offsets)
    has_extinction = prior[1] > 0.0
    return ExtinctionLine(
        zenith=float(mean[0]),
        zenith_err=float(np.sqrt(covariance[0, 0])),
        extinction=float(mean[1]),
        extinction_err=float(np.sqrt(covariance[1, 1])) if has_extinction else 0.0,
        mean_airmass=1.0 + float(covariance[0, 1] / covariance[1, 1]) if has_extinction else 1.0,
        scatter=float(share @ [fit.scatter for fit in fits]),
        n_cloudy=n_cloudy,
        depth=float(np.median(below)),
        p_steady=p_steady + float(share[1:] @ [model.p_few(fit) for fit in cloudy]),
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    """A stage of the fit: zenith and extinction, scatter, shares, and the probabilities of the frames."""

    terms: Floats
    scatter: float
    shares: Shares
    clear: Floats
    cloudy: Floats
    offsets: Floats
    log_likelihood: float


class _Line:
    """The steps of the fit of one night."""

    def __init__(self, frames: NightFrames, prior: tuple[float, float]) -> None:
        self.frames, self.prior = frames, prior
        self.design = np.column_stack([np.ones(len(frames.zp)), -frames.beyond])
        self.n_fields = int(frames.field.max()) + 1
        counts = np.maximum(np.bincount(frames.field), 1)
        shared = np.bincount(frames.field, frames.shared) / counts
        self.field_precision = 1.0 / np.maximum(shared, 1e-4) ** 2
        self.precision = np.array([0.0, 1.0 / max(prior[1], 1e-6) ** 2])

    def at(self, terms: Floats) -> Floats:
        """Return the zeropoints of clear frames, without the offsets of fields."""
        return np.asarray(self.design @ terms)

    def deviations(self, terms: Floats, offsets: Floats) -> Floats:
        """Return by how much frames lie above the line and the offset of their field."""
        return np.asarray(self.frames.zp - self.at(terms) - offsets[self.frames.field])

    def fitted(self, quantile: float | None) -> _Fit:
        """Return the fit that starts at a quantile of the zeropoints; without any, that of a night without clouds."""
        frames = self.frames
        start = np.array([0.0, self.prior[0]])
        rest = frames.zp - self.at(start)
        start[0] = np.quantile(rest, 0.5 if quantile is None else quantile)
        nothing = np.zeros(len(rest))
        shares = Shares(0.0, _DEPTH) if quantile is None else Shares(0.3, _DEPTH)
        fit = _Fit(start, _SCATTER, shares, nothing + 1.0, nothing, np.zeros(self.n_fields), -np.inf)
        for _ in range(_ROUNDS):
            previous, fit = fit, self._improved(fit, quantile is not None)
            if abs(fit.log_likelihood - previous.log_likelihood) < 1e-3:
                break
        return fit

    def _improved(self, fit: _Fit, has_clouds: bool) -> _Fit:
        frames = self.frames
        variance = frames.error**2 + fit.scatter**2
        deviation = self.deviations(fit.terms, fit.offsets)
        clear, cloudy, likelihood = fit.shares.split(deviation, np.sqrt(variance))
        log_prior = -0.5 * float(np.sum(self.precision * (fit.terms - [0.0, self.prior[0]]) ** 2))
        log_prior -= 0.5 * float(np.sum(self.field_precision * fit.offsets**2))
        log_prior -= 0.5 * _SCATTER_FRAMES * (_SCATTER / max(fit.scatter, 1e-4)) ** 2
        log_prior -= _SCATTER_FRAMES * np.log(max(fit.scatter, 1e-4) / _SCATTER)
        terms, offsets = self._solved(clear / variance)
        deviation = self.deviations(terms, offsets)
        # The scatter as a hidden deviation of each clear frame, which is known as far as its error allows.
        share = fit.scatter**2 / variance
        hidden = float(np.sum(clear * ((share * deviation) ** 2 + share * frames.error**2)))
        square = (_SCATTER_FRAMES * _SCATTER**2 + hidden) / (
            _SCATTER_FRAMES + max(float(clear.sum()) - 2.0, 0.0)
        )
        shares = fit.shares
        if has_clouds:
            many = float(cloudy.sum())
            total = _CLOUDY_FRAMES + _CLEAR_FRAMES + len(clear)
            deep = float(np.sum(cloudy * np.maximum(-deviation, 0.0)))
            depth = (deep + _DEPTH_FRAMES * _DEPTH) / (many + _DEPTH_FRAMES)
            shares = Shares((many + _CLOUDY_FRAMES) / total, float(np.clip(depth, *_DEPTHS)))
        return replace(
            fit,
            terms=terms,
            scatter=min(float(np.sqrt(square)), MOST_SCATTER),
            shares=shares,
            clear=clear,
            cloudy=cloudy,
            offsets=offsets,
            log_likelihood=likelihood + log_prior,
        )

    def p_few(self, fit: _Fit) -> float:
        """Return the probability that fewer frames than one in twenty are behind clouds that matter."""
        deviation = self.deviations(fit.terms, fit.offsets)
        sigma = np.hypot(self.frames.error, fit.scatter)
        pushed = fit.cloudy * (1.0 - thin_share(deviation, sigma, fit.shares.depth))
        most = int(np.ceil(_FEW_FRAMES * len(pushed)))
        # Of the numbers of frames up to that, 0 first.
        number = np.zeros(most)
        number[0] = 1.0
        for one in pushed:
            number[1:] = (1.0 - one) * number[1:] + one * number[:-1]
            number[0] *= 1.0 - one
        return float(number.sum())

    def _solved(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return zenith and extinction of a weighted fit, and the offsets of fields."""
        frames, columns = self.frames, self.design.T
        inverse = 1.0 / (np.bincount(frames.field, weight, self.n_fields) + self.field_precision)
        sums = np.column_stack([np.bincount(frames.field, weight * one, self.n_fields) for one in columns])
        value = np.bincount(frames.field, weight * frames.zp, self.n_fields)
        normal = (
            (columns * weight) @ self.design - (sums * inverse[:, None]).T @ sums + np.diag(self.precision)
        )
        right = columns @ (weight * frames.zp) - sums.T @ (inverse * value)
        right += self.precision * [0.0, self.prior[0]]
        terms = np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0])
        return terms, inverse * (value - sums @ terms)

    def covariance(self, fit: _Fit, has_clouds: bool) -> Floats:
        """Return the covariance of zenith and extinction, shape (2, 2).

        It is the inverse of the second derivatives of the logarithm of the posterior in zenith, extinction, scatter,
        and with clouds their share and depth, where the scatter between blocks of time is no larger than frames
        that have nothing to do with each other let expect.
        """
        frames = self.frames
        deviation = self.deviations(fit.terms, fit.offsets)
        first, second = _derivatives(deviation, frames.error, fit, has_clouds)
        # The deviation falls as the terms grow.
        n_more = len(first) - 1
        columns = [-one for one in self.design.T]
        score = np.column_stack([first[0] * one for one in columns] + list(first[1:]))
        curvature = np.zeros((2 + n_more, 2 + n_more))
        weight = -second[0, 0]
        curvature[:2, :2] = (self.design * weight[:, None]).T @ self.design
        for i in range(n_more):
            curvature[:2, 2 + i] = curvature[2 + i, :2] = [
                np.sum(second[0, 1 + i] * one) for one in self.design.T
            ]
            for j in range(n_more):
                curvature[2 + i, 2 + j] = -np.sum(second[1 + i, 1 + j])
        prior = np.diag([*self.precision, 2.0 * _SCATTER_FRAMES, *[0.5] * (n_more - 1)])
        # The offsets of fields are taken out.
        mixed = np.column_stack(
            [np.bincount(frames.field, weight * one, self.n_fields) for one in self.design.T]
            + [np.bincount(frames.field, second[0, 1 + i], self.n_fields) for i in range(n_more)]
        )
        of_fields = np.bincount(frames.field, weight, self.n_fields) + self.field_precision
        share = mixed / np.maximum(of_fields, 0.5 * self.field_precision)[:, None]
        normal = curvature + prior - mixed.T @ share
        bread = _inverse(normal, prior)
        # A frame moves the terms by what the offset of its field leaves of it.
        score = score + first[0][:, None] * share[frames.field]
        block = np.floor((frames.mjd - frames.mjd.min()) / _SHARED_TIME).astype(int)
        n_blocks = len(np.unique(block[fit.clear > 0.5]))
        blocks = np.column_stack([np.bincount(block, column) for column in score.T])
        free = max(n_blocks - 2, 0)
        lost = n_blocks / max(free, 1)
        spread = (share * self.field_precision[:, None]).T @ share
        sandwich = bread @ (lost * blocks.T @ blocks + prior + spread) @ bread
        return np.asarray((free * sandwich + _FORMAL_BLOCKS * bread) / (free + _FORMAL_BLOCKS))[:2, :2]


def _inverse(normal: Floats, prior: Floats) -> Floats:
    """Return the inverse of second derivatives, with no direction that is known worse than the prior has it."""
    values, vectors = np.linalg.eigh(normal)
    least = np.einsum("ij,ik,kj->j", vectors, prior, vectors)
    return np.asarray((vectors / np.maximum(values, np.maximum(least, 1.0))) @ vectors.T)


def _derivatives(deviation: Floats, error: Floats, fit: _Fit, has_clouds: bool) -> tuple[Floats, Floats]:
    """Return first and second derivatives of the log density of each frame, shapes (p, n) and (p, p, n).

    They are those in the deviation, the logarithm of the scatter, and with clouds the logit of their share and the
    logarithm of their depth; by differences.
    """
    steps = np.array([2e-4, 0.02, 0.05, 0.02])[: 4 if has_clouds else 2]
    n = len(steps)

    def density(*moved: float) -> Floats:
        by = [*moved, 0.0, 0.0][:4]
        sigma = np.hypot(error, fit.scatter * np.exp(by[1]))
        odds = fit.shares.cloudy / (1.0 - fit.shares.cloudy) * np.exp(by[2])
        shares = Shares(odds / (1.0 + odds), fit.shares.depth * np.exp(by[3]))
        return shares.log_density(deviation + by[0], sigma)

    unit = np.diag(steps)
    middle = density(*np.zeros(n))
    up, down = [density(*one) for one in unit], [density(*-one) for one in unit]
    first = np.array([(a - b) / (2.0 * step) for a, b, step in zip(up, down, steps, strict=True)])
    second = np.empty((n, n, len(deviation)))
    for i in range(n):
        second[i, i] = (up[i] - 2.0 * middle + down[i]) / steps[i] ** 2
        for j in range(i):
            both = density(*(unit[i] + unit[j])) - density(*(unit[i] - unit[j]))
            both -= density(*(unit[j] - unit[i])) - density(*(-unit[i] - unit[j]))
            second[i, j] = second[j, i] = both / (4.0 * steps[i] * steps[j])
    return first, second


def _less_sure(covariance: Floats, precision: Floats, clear: float) -> Floats:
    """Return the covariance of terms with the information of frames times the share of clear ones.

    Clouds need not be as deep as the model has it, and where most frames are cloudy all rests on that.
    """
    told = np.linalg.pinv(covariance + 1e-12 * np.eye(2)) - np.diag(precision)
    values, vectors = np.linalg.eigh(told)
    less = (vectors * (max(clear, 1e-3) * np.maximum(values, 0.0))) @ vectors.T
    return np.asarray(np.linalg.pinv(less + np.diag(precision), rcond=1e-14))


def _different(fits: list[_Fit]) -> list[_Fit]:
    """Return fits that do not lie at the same place, the most likely first."""
    found: list[_Fit] = []
    for fit in sorted(fits, key=lambda one: -one.log_likelihood):
        if all(np.abs(fit.terms - one.terms).max() > _SAME for one in found):
            found.append(fit)
    return found


def _shares_of_fits(fits: list[_Fit], spreads: list[Floats]) -> Floats:
    """Return the probability of each fit: that of its place in the posterior, which is taken for a Gaussian there."""
    volume = [0.5 * np.linalg.slogdet(one + 1e-12 * np.eye(2))[1] for one in spreads]
    log_share = np.array([fit.log_likelihood for fit in fits]) + volume
    share = np.exp(log_share - log_share.max())
    return np.asarray(share / share.sum())


def _p_steady(steady: _Fit, cloudy: _Fit, n: int) -> float:
    """Return the probability that a night has no clouds of its own, by the criterion of Schwarz (1978)."""
    penalty = np.log(max(n, 2))
    gain = np.clip(cloudy.log_likelihood - penalty - steady.log_likelihood, -50.0, 50.0)
    odds = (1.0 - _STEADY_NIGHTS) / _STEADY_NIGHTS * np.exp(gain)
    return float(1.0 / (1.0 + odds))

"""Photon transfer: gain, read noise and linearity of a detector from pairs of flats and of bias frames.

The noise of light grows with its root, so the variance of the difference of two flats shows how many electrons an ADU
is (Janesick 2001, Scientific Charge-Coupled Devices, ch. 2). Differences are free of the response of single pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.frame import Pixels
from skylake.core.robust import Fit, robust_fit, robust_mean
from skylake.image.combine.quantised_scatter import reach, step_of

Floats = npt.NDArray[np.float64]

_TILE = 64
#: Fewer good pixels of a tile give no variance.
_LEAST_PIXELS = 200
_CLIP = 4.0
#: Variance that clipping at four standard deviations leaves of a unit normal distribution.
_KEPT_VARIANCE = 0.998930
_CLIPS = 3
#: A gain that is known worse than to a third is none.
_LEAST_SIGNIFICANCE = 3.0
#: Exposures that have to be there for the response against signal, each of them twice or more.
_LEAST_EXPOSURES = 3
#: Groups of tiles of like level in which the curve of a photon transfer is kept.
_GROUPS = 48
#: The light is not steady if rates of one exposure differ by this many errors, or all go one way by this many.
_UNSTEADY = 4.0
_DRIFT = 5.0


@dataclass(frozen=True, slots=True)
class PairTiles:
    """Measurements in the tiles of a pair of frames; arrays of shape (n,), ADU and ADU^2.

    Attributes
    ----------
    level : ndarray
        Mean of the first frame, above bias.
    ratio : ndarray
        That over the mean of the second one.
    variance, variance_err : ndarray
        Variance of first - ratio * second.
    """

    level: Floats
    ratio: Floats
    variance: Floats
    variance_err: Floats


@dataclass(frozen=True, slots=True)
class MeanVariance:
    """How the variance of a pixel grows with its signal; arrays of shape (n,), in the order of level, ADU and ADU^2.

    Attributes
    ----------
    level : ndarray
        Mean signal of some tiles of like level.
    variance, variance_err : ndarray
        Variance of a single frame there, and its standard error.
    fitted : ndarray
        What gain, read noise and response make of it.
    """

    level: Floats
    variance: Floats
    variance_err: Floats
    fitted: Floats


@dataclass(frozen=True, slots=True)
class PhotonTransfer:
    """Gain and read noise with their standard errors, and the curve that they come from.

    Attributes
    ----------
    gain, gain_err : float
        Electrons per ADU.
    read_noise, read_noise_err : float
        Electrons, rms; NaN without pairs of bias frames.
    levels, variances : ndarray, shape (n pairs,)
        Level of each pair of flats, ADU, and variance of a single frame, ADU^2.
    curve : MeanVariance
        Of all tiles, those of like level together.
    """

    gain: float
    gain_err: float
    read_noise: float
    read_noise_err: float
    levels: Floats
    variances: Floats
    curve: MeanVariance


@dataclass(frozen=True, slots=True)
class Linearity:
    """The response of a detector against its signal.

    Attributes
    ----------
    levels, ratios, errors, fitted : ndarray, shape (n,)
        Signal in ADU, and ADU per second over that of a faint signal; `fitted` is what the coefficient makes of it.
    coefficient, coefficient_err : float
        c2 of the linear signal x + c2 x^2, per ADU, for detector.linearity of a profile.
    """

    levels: Floats
    ratios: Floats
    errors: Floats
    fitted: Floats
    coefficient: float
    coefficient_err: float


def pair_tiles(first: Pixels, second: Pixels, match_levels: bool = True) -> PairTiles:
    """Return what the tiles of a pair of frames show.

    Parameters
    ----------
    first, second : ndarray of float32, shape (height, width)
        Above bias, ADU; NaN where a pixel says nothing.
    match_levels : bool
        Whether the second frame is scaled to the level of the first: flats, but not bias frames.
    """
    rows = []
    height, width = first.shape
    for y in range(0, height - _TILE // 2, _TILE):
        for x in range(0, width - _TILE // 2, _TILE):
            here = slice(y, y + _TILE), slice(x, x + _TILE)
            tile = _tile(np.asarray(first[here], float), np.asarray(second[here], float), match_levels)
            if tile is not None:
                rows.append(tile)
    return PairTiles(*np.array(rows, float).reshape(-1, 4).T)


def _tile(first: Floats, second: Floats, match_levels: bool) -> tuple[float, float, float, float] | None:
    good = np.isfinite(first) & np.isfinite(second)
    a, b = first[good], second[good]
    if len(a) < _LEAST_PIXELS:
        return None
    if match_levels and not (np.median(a) > 0.0 and np.median(b) > 0.0):
        return None
    ratio = float(np.median(a) / np.median(b)) if match_levels else 1.0
    difference = a - ratio * b
    y, x = np.nonzero(good)
    # Noise below one ADU leaves most of the differences equal; what is one ADU off is noise for all that.
    step = _step(difference, y)
    # Twilight changes its gradient from one flat to the next.
    design = np.column_stack([np.ones(len(a)), x - x.mean(), y - y.mean()])
    middle = float(np.median(difference))
    furthest = reach(1.4826 * float(np.median(np.abs(difference - middle))), step)
    # A few cosmic rays would else move all pixels by more than their noise.
    clipped = np.clip(difference, middle - furthest, middle + furthest)
    difference -= design @ np.linalg.lstsq(design, clipped, rcond=None)[0]
    # Noise that a whole row shares, such as that of its overscan, is not noise of pixels.
    spread = 1.4826 * float(np.median(np.abs(difference - np.median(difference))))
    counts = np.bincount(y)
    rows = [piece for piece in np.split(difference, np.cumsum(counts)[:-1]) if piece.size]
    furthest = reach(spread, step)
    centres = [np.clip(row, -furthest, furthest).mean() for row in rows]
    difference -= np.repeat(centres, counts[counts > 0])
    lost = 2 + int(np.count_nonzero(counts))
    return float(a.mean()), ratio, *_variance(difference, spread, step, lost)


def _step(difference: Floats, row: npt.NDArray[np.intp]) -> float:
    """Return the step in which differences go; each row may have a zero level of its own."""
    first = np.flatnonzero(np.diff(row, prepend=-1))
    middle = np.array([np.sort(part)[len(part) // 2] for part in np.split(difference, first[1:])])
    return step_of(difference - np.repeat(middle, np.diff(np.append(first, len(row)))))


def _variance(difference: Floats, spread: float, step: float, lost: int) -> tuple[float, float]:
    """Return the clipped variance of differences without their outliers, and its error."""
    variance, share, error = spread**2, _KEPT_VARIANCE, 0.0
    for _ in range(_CLIPS):
        furthest = reach(spread, step)
        square = difference[np.abs(difference) <= furthest] ** 2
        share = _KEPT_VARIANCE if furthest <= _CLIP * spread else 1.0
        count = max(len(square) - lost, 1)
        variance = float(square.sum()) / count / share
        # Few steps off the usual value scatter more than the many small deviations of a normal distribution do.
        excess = max(float(np.mean(square**2)) - variance**2, 0.0) if share == 1.0 and len(square) else 0.0
        error = float(np.sqrt(max(2.0 * variance**2, excess) / count))
        spread = float(np.sqrt(variance))
    return variance, error


def photon_transfer(
    flats: Sequence[tuple[Pixels, Pixels]],
    biases: Sequence[tuple[Pixels, Pixels]] = (),
    read_variance: tuple[float, float] | None = None,
    curvature: tuple[float, float] = (0.0, 0.0),
) -> PhotonTransfer | None:
    """Measure gain and read noise.

    The variance of first - ratio * second is R (1 + ratio^2) + level (1 + ratio) / gain, R being the square of the
    read noise in ADU; a robust fit over all tiles gives both, with what the bias frames say about R. Where the linear
    signal is x + c2 x^2, the second term is (1 + c2 x) / (1 + 2 c2 x)^2 times that: a response that is short by 1 %
    would make the gain 3 % too large.

    Parameters
    ----------
    flats, biases : sequence of (ndarray, ndarray)
        Pairs of flats above bias, and of bias frames.
    read_variance : tuple of float or None
        Square of the read noise and its error, ADU^2, where there are no bias frames and it is known even so.
    curvature : tuple of float
        c2 of the linear signal x + c2 x^2, per ADU, and its error. Flats of different levels give it as well; what
        they leave open is in the error of the gain.

    Returns
    -------
    PhotonTransfer or None
        None if no pair of flats can be used.
    """
    pairs = [tiles for tiles in (pair_tiles(*pair) for pair in flats) if len(tiles.level)]
    if not pairs:
        return None
    read, read_err = bias_variance(biases)
    if not np.isfinite(read) and read_variance is not None:
        read, read_err = read_variance
    level, ratio, variance, error = (
        np.concatenate([getattr(measured, name) for measured in pairs])
        for name in ("level", "ratio", "variance", "variance_err")
    )
    if not np.isfinite(read) and len(level) < 2:
        return None
    fit = _fit(level, ratio, (variance, error), (read, read_err), curvature)
    slope, slope_err = float(fit.coefficients[1]), float(fit.errors[1])
    if not slope > _LEAST_SIGNIFICANCE * slope_err:
        return None
    gain, gain_err = 1.0 / slope, slope_err / slope**2
    noise, noise_err = _read_noise((read, read_err), (gain, gain_err))
    singles = np.array([np.median(measured.variance / (1.0 + measured.ratio)) for measured in pairs])
    levels = np.array([np.median(measured.level) for measured in pairs])
    curve = _mean_variance(level, ratio, variance, error, variance - fit.residuals)
    return PhotonTransfer(gain, gain_err, noise, noise_err, levels, singles, curve)


def _read_noise(variance: tuple[float, float], gain: tuple[float, float]) -> tuple[float, float]:
    """Return the read noise in electrons and its error; NaN where the variance, ADU^2, is not known."""
    read, read_err = variance
    noise = float(np.sqrt(read)) * gain[0] if np.isfinite(read) else float("nan")
    if not noise > 0.0:
        return noise, float("nan")
    return noise, noise * float(np.hypot(0.5 * read_err / read, gain[1] / gain[0]))


def _mean_variance(
    level: Floats, ratio: Floats, variance: Floats, error: Floats, fitted: Floats
) -> MeanVariance:
    """Return the robust mean of what tiles of like level show, some groups of as many tiles each."""
    # Differences have 1 + ratio times the noise of light of a single frame.
    variance, error, fitted = (values / (1.0 + ratio) for values in (variance, error, fitted))
    pieces = np.array_split(np.argsort(level, kind="stable"), min(_GROUPS, len(level)))
    rows = []
    for some in pieces:
        # Tiles of a group differ in level, so the mean is that of what they have beyond the fit.
        beyond, mean = robust_mean(variance[some] - fitted[some], error[some]), float(fitted[some].mean())
        rows.append((level[some].mean(), mean + beyond.coefficients[0], beyond.errors[0], mean))
    return MeanVariance(*np.array(rows, float).T)


def _fit(
    level: Floats,
    ratio: Floats,
    variances: tuple[Floats, Floats],
    read: tuple[float, float],
    curvature: tuple[float, float],
) -> Fit:
    """Fit R and 1/gain, in this order, to variances of tiles, by what is known of read noise and response."""
    c2, c2_err = curvature
    light = level * (1.0 + ratio) * (1.0 + c2 * level) / (1.0 + 2.0 * c2 * level) ** 2
    design, prior_values = np.column_stack([1.0 + ratio**2, light]), np.array([read[0], 0.0])
    known = np.array([read[1], np.inf]) if np.isfinite(read[0]) else np.full(2, np.inf)
    prior = (np.nan_to_num(prior_values), known) if np.isfinite(read[0]) else None
    fit = robust_fit(design, *variances, prior=prior)
    if c2_err > 0.0:
        # To first order a further curvature of k changes the noise of light by the factor 1 - 3 k level.
        brightest = float(level.max())
        design = np.column_stack([design, -3.0 * level / brightest * light])
        known = np.append(known, c2_err * brightest * max(float(fit.coefficients[1]), 0.0))
        fit = robust_fit(design, *variances, prior=(np.append(np.nan_to_num(prior_values), 0.0), known))
    return fit


def bias_variance(biases: Sequence[tuple[Pixels, Pixels]]) -> tuple[float, float]:
    """Return the variance of a pixel of a bias frame and its error, ADU^2, by pairs; NaN without frames."""
    tiles = [pair_tiles(*pair, match_levels=False) for pair in biases]
    values = np.concatenate([0.5 * tile.variance for tile in tiles]) if tiles else np.zeros(0)
    errors = np.concatenate([0.5 * tile.variance_err for tile in tiles]) if tiles else np.zeros(0)
    if not len(values):
        return float("nan"), float("nan")
    fit = robust_mean(values, errors)
    return float(fit.coefficients[0]), float(fit.errors[0])


def _is_steady(level: Floats, time: Floats, error: Floats) -> bool:
    """Return whether flats of equal exposures show equal light."""
    rate, share = np.log(level / time), error / level
    _, exposure = np.unique(np.round(time, 6), return_inverse=True)
    sets = [np.flatnonzero(exposure == number) for number in range(exposure.max() + 1)]
    first = np.concatenate([some[:-1] for some in sets])
    later = np.concatenate([some[1:] for some in sets])
    if sum(len(some) > 1 for some in sets) < _LEAST_EXPOSURES:
        return False
    change, apart = rate[later] - rate[first], (later - first).astype(float)
    if np.any(np.abs(change) > _UNSTEADY * np.hypot(share[later], share[first])):
        return False
    # What goes the same way in all of them is a drift, which adds up from the first flat to the last.
    drift = float(change @ apart / (apart @ apart))
    scatter = np.sqrt(np.sum((change - drift * apart) ** 2) / (len(change) - 1) / (apart @ apart))
    whole = abs(drift) * (len(level) - 1)
    return bool(abs(drift) <= _DRIFT * scatter or whole <= float(np.median(share)))


def linearity(
    levels: npt.ArrayLike,
    exposures_s: npt.ArrayLike,
    errors: npt.ArrayLike,
    higher: tuple[float, ...] = (),
) -> Linearity | None:
    """Measure how the response depends on the signal, from flats of a steady lamp and different exposures.

    Twilight, whose exposures follow its light, would show a curvature that is none: only exposures that were taken
    again, and then gave the same light, show that it was steady.

    Parameters
    ----------
    levels, errors : array_like, shape (n,)
        Median signal of each flat above bias and dark, ADU, and its error; in the order of time.
    exposures_s : array_like, shape (n,)
    higher : tuple of float
        c3 and on of the linear signal x + c2 x^2 + c3 x^3 …, where they are known.

    Returns
    -------
    Linearity or None
        None if there are fewer than three exposures, all are alike, fewer than three were taken twice or more, or
        the light was not steady.
    """
    level: Floats = np.asarray(levels, np.float64)
    time, error = np.asarray(exposures_s, np.float64), np.asarray(errors, np.float64)
    if level.min() <= 0.0 or level.max() < 1.5 * level.min() or not _is_steady(level, time, error):
        return None
    rate, rate_err = level / time, error / time
    # level (1 + c3 level^2 …) + c2 level^2 = R time, so 1/rate = (1 + …)/R + c2/R level, which is linear.
    inverse, inverse_err = 1.0 / rate, rate_err / rate**2
    known = np.polynomial.Polynomial([1.0, 0.0, *higher])(level)
    fit = robust_fit(np.column_stack([known, level]), inverse, inverse_err)
    faint, slope = (float(coefficient) for coefficient in fit.coefficients)
    gradient = np.array([-slope / faint**2, 1.0 / faint])
    coefficient_err = float(np.sqrt(gradient @ fit.covariance @ gradient))
    errors = np.hypot(inverse_err, fit.intrinsic) * rate**2 * faint
    fitted = 1.0 / (known + slope / faint * level)
    return Linearity(level, rate * faint, errors, fitted, slope / faint, coefficient_err)

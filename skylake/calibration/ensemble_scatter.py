"""How well stars repeat from frame to frame in each of several fluxes, and which flux is best at which magnitude.

Frames differ in zeropoint, so for each flux the offsets of all frames and the means of all stars are solved together
(as in Honeycutt 1992, PASP 104, 435, "inhomogeneous ensemble photometry"), with Tukey's biweight against variables and
spoiled measurements. What is left is the scatter of each star. It needs no catalog.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.core.group_medians import medians_of
from skylake.core.robust import MAD_TO_SIGMA, REFINED_VARIANCE, SCALE_REFINED_CUT

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: A star needs so many measurements to have a scatter, and a bin so many stars to prefer a flux.
LEAST_POINTS, LEAST_STARS = 5, 4
#: A flux is preferred to the default where its scatter is smaller by this share, and by more than chance brings in all
#: but one of so many bins.
_WORTHWHILE, _CHANCE = 0.05, 1e-3
#: Of fluxes whose scatter differs by no more than this share the first is taken.
ALIKE = 0.03
#: Tukey's tuning constant of offsets and means; differences of fluxes count with no more than so many sigma.
_CUT, _MOST = 4.685, 4.0
_ROUNDS = 8
#: A residual that has less than a tenth of its freedom left is not used.
_MOST_LOST = 0.9
#: Noise that no star is without, magnitudes: brightest stars would else decide the offsets alone.
_LEAST_FLOOR = 0.001
#: Of the scatter of the stars of a bin.
PERCENTILES = (2, 25, 75, 98)
#: A median is this much less certain than a mean of Gaussian values.
_MEDIAN_LOSS = float(np.sqrt(np.pi / 2.0))


@dataclass(frozen=True, slots=True)
class Repeats:
    """Measurements of stars on many frames of one camera and band.

    Attributes
    ----------
    star, frame : ndarray of int64, shape (n,)
        Numbers from 0.
    star_magnitude : ndarray, shape (n_stars,)
        By which stars are put into bins.
    magnitude, error : dict of ndarray, shape (n,)
        By name of the flux: magnitudes with any zeropoint, and their photon errors. NaN is not measured, or spoiled.
    """

    star: Integers
    frame: Integers
    star_magnitude: Floats
    magnitude: Mapping[str, Floats]
    error: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class FluxScatter:
    """How the stars repeat in one flux.

    Attributes
    ----------
    offset, offset_err : ndarray, shape (n_frames,)
        Zeropoint of each frame relative to the mean of all, magnitudes: what a star is too faint by. NaN for frames
        without stars that repeat.
    n_points : ndarray of int64, shape (n_stars,)
    scatter : ndarray, shape (n_stars,)
        Standard deviation of a star about its mean, with the degrees of freedom that means and offsets took; NaN with
        less than :data:`LEAST_POINTS` points on frames whose offset other stars decide too.
    predicted : ndarray, shape (n_stars,)
        Root mean square of its photon errors.
    photon_scale, photon_scale_err, floor, floor_err : float
        Of the model scatter^2 = (photon_scale x predicted)^2 + floor^2; NaN with too few stars.
    """

    offset: Floats
    offset_err: Floats
    n_points: Integers
    scatter: Floats
    predicted: Floats
    photon_scale: float = float("nan")
    photon_scale_err: float = float("nan")
    floor: float = float("nan")
    floor_err: float = float("nan")


@dataclass(frozen=True, slots=True)
class ScatterBin:
    """Stars of some magnitudes in one flux.

    Attributes
    ----------
    flux : str
    mag_low, mag_high : float
    n_stars, n_points : int
    scatter, scatter_err : float
        Median over the stars, and its standard error.
    percentiles : tuple of float
        Of the scatter of the stars: those of :data:`PERCENTILES`.
    predicted : float
        Median of what photons explain.
    tie : float
        Standard deviation of the offsets of frames from those in the default flux: how well a zeropoint that was found
        in the default flux holds for this one, from frame to frame.
    ratio, ratio_err : float
        Median over the stars of the scatter as a share of that in the default flux, with its error: the same stars on
        the same frames, so it is better known than the scatter itself. With `tie` it is that of calibrated curves.
    is_recommended : bool
        Whether this flux is the one to use: the default, or one whose scatter is significantly smaller.
    """

    flux: str
    mag_low: float
    mag_high: float
    n_stars: int
    n_points: int
    scatter: float
    scatter_err: float
    predicted: float
    tie: float
    ratio: float
    ratio_err: float
    percentiles: tuple[float, ...]
    is_recommended: bool = False


def flux_scatters(repeats: Repeats) -> dict[str, FluxScatter]:
    """Return how stars repeat in each flux."""
    n_stars = len(repeats.star_magnitude)
    n_frames = int(repeats.frame.max(initial=-1)) + 1
    found = {}
    for name, magnitude in repeats.magnitude.items():
        error = repeats.error[name]
        good = np.flatnonzero(np.isfinite(magnitude) & (error > 0))
        counts = np.bincount(repeats.star[good], minlength=n_stars)
        # What is seen a few times gives its frames nothing.
        good = good[counts[repeats.star[good]] >= LEAST_POINTS]
        star, frame = repeats.star[good], repeats.frame[good]
        found[name] = _scatter_of(star, frame, magnitude[good], error[good], (n_stars, n_frames))
    return found


def _scatter_of(
    star: Integers, frame: Integers, magnitude: Floats, error: Floats, shape: tuple[int, int]
) -> FluxScatter:
    """Return the scatter of the stars in one flux: offsets are solved, then weights follow what stars show."""
    n_stars, n_frames = shape
    counts = np.bincount(star, minlength=n_stars)
    predicted = _root_mean(error**2, star, n_stars)
    result = FluxScatter(
        np.full(n_frames, np.nan), np.full(n_frames, np.nan), counts, np.full(n_stars, np.nan), predicted
    )
    if len(star) == 0:
        return result
    noise, kept = np.hypot(error, _LEAST_FLOOR), np.ones(len(star))
    mean, offset = np.full(n_stars, np.median(magnitude)), np.zeros(n_frames)
    for _ in range(_ROUNDS):
        mean, offset = _solve(star, frame, magnitude, kept / noise**2, mean, offset)
        residual = magnitude - mean[star] - offset[frame]
        # A star that varies, or is blended, has a scatter of its own: it counts for less, not for nothing.
        beyond = np.maximum(_group_sigma(residual, star, n_stars) ** 2 - predicted**2, 0.0)
        noise = np.sqrt(error**2 + _LEAST_FLOOR**2 + beyond[star])
        pull = residual / noise / _CUT
        kept = np.where(np.abs(pull) < 1.0, (1.0 - pull**2) ** 2, 0.0)
    weight = kept / noise**2
    of_frame = np.bincount(frame, weight, n_frames)
    lost = weight / of_frame[frame] + 1.0 / counts[star]
    # Where a star alone decides the offset of a frame, its residual is zero whatever its noise.
    free = np.flatnonzero(lost < _MOST_LOST)
    scatter = _group_scatter(residual[free] / np.sqrt(1.0 - lost[free]), star[free], n_stars)
    n_free = np.bincount(star[free], minlength=n_stars)
    with np.errstate(divide="ignore", invalid="ignore"):
        result = replace(
            result,
            offset=np.where(of_frame > 0, offset, np.nan),
            offset_err=np.where(of_frame > 0, of_frame**-0.5, np.nan),
            scatter=np.where(n_free >= LEAST_POINTS, scatter, np.nan),
        )
    return _with_model(result)


def _solve(
    star: Integers, frame: Integers, magnitude: Floats, weight: Floats, mean: Floats, offset: Floats
) -> tuple[Floats, Floats]:
    """Return means of stars and offsets of frames by weighted least squares, given some near them.

    The mean offset is 0.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import lsmr

    n_stars, n_frames = len(mean), len(offset)
    rows, root = np.arange(len(star)), np.sqrt(weight)
    of_star, of_frame = np.bincount(star, weight, n_stars), np.bincount(frame, weight, n_frames)
    # Columns of length 1 make the solver quick whatever the weights.
    scale = np.concatenate([of_star, of_frame])
    scale = np.where(scale > 0, 1.0 / np.sqrt(np.where(scale > 0, scale, 1.0)), 0.0)
    # Only what is still missing is looked for.
    missing = root * (magnitude - mean[star] - offset[frame])
    columns = np.concatenate([star, n_stars + frame])
    values = np.concatenate([root, root]) * scale[columns]
    design = coo_array(
        (values, (np.concatenate([rows, rows]), columns)), shape=(len(star), n_stars + n_frames)
    )
    solution = scale * lsmr(design.tocsr(), missing, atol=1e-10, btol=1e-10, maxiter=2000)[0]
    mean, offset = mean + solution[:n_stars], offset + solution[n_stars:]
    shift = float(np.mean(offset[of_frame > 0]))
    return mean + shift, offset - shift


def _group_sigma(values: Floats, group: Integers, n: int) -> Floats:
    """Return 1.48 times the median absolute value of each group; NaN for none."""
    return np.asarray(MAD_TO_SIGMA * medians_of(np.abs(values), group, n))


def _group_scatter(values: Floats, group: Integers, n: int) -> Floats:
    """Return the standard deviation of each group about 0 without outliers, as in :mod:`skylake.core.robust`."""
    variance = _group_sigma(values, group, n) ** 2
    for _ in range(_ROUNDS):
        share = values**2 / np.maximum(SCALE_REFINED_CUT**2 * variance, 1e-24)[group]
        weight = np.where(share < 1.0, (1.0 - share) ** 2, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            total = np.bincount(group, weight, n)
            variance = np.bincount(group, weight * values**2, n) / total / REFINED_VARIANCE
    return np.asarray(np.sqrt(variance))


def _root_mean(squares: Floats, group: Integers, n: int) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(np.bincount(group, squares, n) / np.bincount(group, minlength=n)))


def _with_model(found: FluxScatter) -> FluxScatter:
    """Return the same with the model of the scatter fitted to the stars, in logarithms and robustly."""
    from scipy.optimize import least_squares

    some = np.flatnonzero(np.isfinite(found.scatter) & (found.scatter > 0) & (found.predicted > 0))
    if some.size < LEAST_STARS:
        return found
    scatter, predicted = found.scatter[some], found.predicted[some]
    expected = np.sqrt(0.5 / np.maximum(found.n_points[some] - 1.0, 1.0))

    def off(logs: Floats) -> Floats:
        model = np.hypot(np.exp(logs[0]) * predicted, np.exp(logs[1]))
        return np.asarray((np.log(model) - np.log(scatter)) / spread)

    spread, start = expected, np.log([1.0, max(0.5 * float(np.median(scatter)), 1e-5)])
    limits = np.log([[0.3, 1e-6], [10.0, 1.0]])
    for _ in range(3):
        fit = least_squares(off, np.clip(start, *limits), bounds=limits, loss="soft_l1")
        start = fit.x
        # Stars differ by more than their few points explain: blends, places on the detector, variables.
        more = max(float(MAD_TO_SIGMA * np.median(np.abs(fit.fun))), 1.0)
        spread = spread * more
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac)
    scale, floor = np.exp(fit.x)
    errors = np.sqrt(np.diag(covariance)) * (scale, floor)
    return replace(
        found,
        photon_scale=float(scale),
        photon_scale_err=float(errors[0]),
        floor=float(floor),
        floor_err=float(errors[1]),
    )


def scatter_bins(
    star_magnitude: Floats, scatters: Mapping[str, FluxScatter], default: str, width_mag: float = 1.0
) -> list[ScatterBin]:
    """Return the scatter of stars by flux and magnitude, with the flux that is recommended in each bin.

    The default flux is recommended unless another one's scatter is smaller by 5 %, and by more than chance brings once
    in a thousand bins.
    Of several such the one with the smallest scatter is recommended; where they differ by less than 3 %, the first in
    the order of `scatters`. All bins have a recommended flux.

    Parameters
    ----------
    star_magnitude : ndarray, shape (n_stars,)
    scatters : mapping
        As :func:`flux_scatters` gives it.
    default : str
        Name of one of the fluxes.
    width_mag : float
        Of the bins, whose edges are its multiples.
    """
    # Stars alone on their frames scatter not at all.
    known = (scatters[default].scatter > 0.0) & np.isfinite(star_magnitude)
    number = np.floor(np.where(known, star_magnitude, 0.0) / width_mag).astype(np.int64)
    bins: list[ScatterBin] = []
    for place in np.unique(number[known]):
        inside = known & (number == place)
        low, high = float(place * width_mag), float((place + 1) * width_mag)
        row = [
            _bin(name, found, scatters[default], inside, (low, high))
            for name, found in scatters.items()
            if (found.scatter[inside] > 0.0).any()
        ]
        best = _best(row, default)
        bins += [replace(one, is_recommended=one.flux == best) for one in row]
    return bins


def _bin(
    name: str,
    found: FluxScatter,
    default: FluxScatter,
    inside: npt.NDArray[np.bool_],
    span: tuple[float, float],
) -> ScatterBin:
    some = np.flatnonzero(inside & (found.scatter > 0.0))
    scatter, points = found.scatter[some], found.n_points[some]
    middle, error = _median_of_logs(scatter, points)
    tie = _tie(found.offset - default.offset)
    # The same frames: the noise of both is the same in part, and the ratio better known than either.
    ratio, ratio_err = _median_of_logs(np.hypot(scatter, tie) / default.scatter[some], points)
    return ScatterBin(
        name,
        *span,
        some.size,
        int(points.sum()),
        middle,
        middle * error,
        float(np.median(found.predicted[some])),
        tie,
        ratio,
        ratio * ratio_err,
        tuple(float(one) for one in np.percentile(scatter, PERCENTILES)),
    )


def _tie(differences: Floats) -> float:
    """Return the standard deviation of differences, of which none counts with more than some sigma."""
    known = differences[np.isfinite(differences)]
    if known.size < 2:
        return 0.0
    off = np.abs(known - np.median(known))
    return float(np.sqrt(np.mean(np.minimum(off, _MOST * MAD_TO_SIGMA * np.median(off)) ** 2)))


def _median_of_logs(values: Floats, points: Integers) -> tuple[float, float]:
    """Return the median of positive values, and its relative error by the spread of the stars."""
    if len(values) == 0:
        return float("nan"), float("nan")
    logs = np.log(values)
    middle = float(np.median(logs))
    if len(values) < LEAST_STARS:
        # So few stars say nothing of their spread, but their points do.
        spread = float(np.sqrt(np.mean(0.5 / np.maximum(points - 1.0, 1.0))))
    else:
        spread = float(np.std(logs, ddof=1))
    return float(np.exp(middle)), _MEDIAN_LOSS * spread / np.sqrt(len(values))


def _best(row: list[ScatterBin], default: str) -> str:
    """Return the flux to use in a bin: of those that are about as good as the best one, the first."""
    usual = next(one for one in row if one.flux == default)
    better = [
        one
        for one in row
        if one.n_stars >= LEAST_STARS
        # A flux that fails for some of the stars is not better for the others.
        and one.n_stars == usual.n_stars
        and is_better(one.ratio, one.ratio_err, one.n_stars - 1)
    ]
    if not better:
        return default
    least = min(one.ratio for one in better)
    return next(one.flux for one in better if one.ratio <= (1.0 + ALIKE) * least)


def is_better(ratio: float, error: float, n_free: int) -> bool:
    """Return whether a flux with this share of the scatter of the default one is to be preferred to it.

    Parameters
    ----------
    ratio, error : float
    n_free : int
        Degrees of freedom of the error: few stars may agree by chance (Student's distribution).
    """
    # scipy.stats has Student's distribution too, and takes half a second to load.
    from scipy.special import stdtrit

    return ratio < 1.0 - max(-float(stdtrit(max(n_free, 1), _CHANCE)) * error, _WORTHWHILE)

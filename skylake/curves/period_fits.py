"""Waves and transits fitted to light curves at the period that a search has found: refined, with standard errors.

Errors are those of white noise with the scatter that curves show about the fit (Montgomery & O'Donoghue 1999, Delta
Scuti Star Newsletter 13, 28, for regular times). That the period is an alias of the true one is not in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.curves.curve_block import CurveBlock
from skylake.curves.periods import LEAST_POINTS, Transits
from skylake.curves.signals import Boxes

Floats = npt.NDArray[np.float64]

_STEPS = 6
#: Largest change of a frequency in a step, of the width of a peak.
_LONGEST_STEP = 0.3
#: Share of the duration of a transit in which light falls and rises: what boxes do in a moment takes stars a while.
_INGRESS = 0.2
#: Lengths of a day; a frequency may be an alias of a cycle that is this near at most, cycles per day.
_DAYS = {"solar day": 1.0, "sidereal day": 0.99726957}
_ALIAS_WIDTH = 0.05
_MOST_CYCLES = 40


@dataclass(frozen=True, slots=True)
class FittedSignals:
    """Signals of stars; arrays of shape (n_stars,), NaN for a star without one.

    Attributes
    ----------
    period, period_err : ndarray
        Days.
    epoch, epoch_err : ndarray
        Time of greatest brightness or of mid-transit near the middle of the curve, days.
    depth, depth_err : ndarray
        Full amplitude of a wave, depth of a transit; magnitudes.
    duration : ndarray
        Of a transit, days; NaN for a wave.
    mean : ndarray
        Magnitude of the middle of a wave, or out of transit.
    """

    period: Floats
    period_err: Floats
    epoch: Floats
    epoch_err: Floats
    depth: Floats
    depth_err: Floats
    duration: Floats
    mean: Floats

    @classmethod
    def empty(cls, n_stars: int) -> FittedSignals:
        """Return no signals."""
        return cls(*np.full((8, n_stars), np.nan))


def fit_waves(curves: CurveBlock, period: Floats, time: Floats | None = None) -> FittedSignals:
    """Fit a sinusoid to each star, its period too.

    Parameters
    ----------
    curves : CurveBlock
        Without outliers.
    period : ndarray, shape (n_stars,)
        Where the fit begins, days; NaN for a star without one.
    time : ndarray, shape (n_stars, n_frames)
        Time of each measurement, where stars have times of their own; NaN in gaps.
    """
    found = FittedSignals.empty(len(curves.mag))
    rows = np.flatnonzero(np.isfinite(period) & (curves.is_good.sum(axis=1) >= LEAST_POINTS))
    if rows.size == 0:
        return found
    some = curves.of(rows)
    weight = some.weight
    times = np.broadcast_to(curves.time, weight.shape) if time is None else time[rows]
    times = np.where(weight > 0, times, 0.0)
    middle = (weight * times).sum(axis=1) / weight.sum(axis=1)
    away = np.where(weight > 0, times - middle[:, None], 0.0)
    width = 1.0 / np.maximum(np.ptp(away, axis=1), 1e-9)
    mag, first = np.where(weight > 0, some.mag, 0.0), 1.0 / period[rows]
    frequency = first.copy()
    for step in range(_STEPS):
        fit = _wave(mag, weight, away, frequency)
        if step < _STEPS - 1:
            change = np.clip(fit.change, -_LONGEST_STEP * width, _LONGEST_STEP * width)
            frequency = np.clip(frequency + change, first - width, first + width)
    _fill_waves(found, rows, fit, frequency, middle)
    return found


@dataclass(frozen=True, slots=True)
class _Waves:
    """Coefficients (constant, cosine, sine) of waves, the change of frequency that fits better, and covariances."""

    coefficients: Floats
    change: Floats
    covariance: Floats


def _wave(mag: Floats, weight: Floats, away: Floats, frequency: Floats) -> _Waves:
    """Fit the constant and both waves at given frequencies, then all with the frequency."""
    angle = 2.0 * np.pi * frequency[:, None] * away
    plain = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1)
    linear, _ = _least_squares(plain, mag, weight)
    slope = 2.0 * np.pi * away * (linear[:, 2:3] * plain[:, 1] - linear[:, 1:2] * plain[:, 2])
    design = np.concatenate([plain, slope[:, None]], axis=1)
    coefficients, inverse = _least_squares(design, mag, weight)
    off = mag - np.einsum("sk,skt->st", coefficients, design)
    free = np.maximum((weight > 0).sum(axis=1) - 4.0, 1.0)
    scale = (weight * off**2).sum(axis=1) / free
    return _Waves(linear, coefficients[:, 3], inverse * scale[:, None, None])


def _least_squares(design: Floats, mag: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return coefficients, of shape (n_stars, n_columns), and the inverse of the normal matrix."""
    weighted = design * weight[:, None, :]
    normal = weighted @ np.swapaxes(design, 1, 2)
    size = np.sqrt(np.maximum(np.einsum("sii->si", normal), 1e-300))
    scaled = normal / size[:, :, None] / size[:, None, :] + 1e-12 * np.eye(design.shape[1])
    inverse = np.linalg.inv(scaled) / size[:, :, None] / size[:, None, :]
    return (inverse @ (weighted @ mag[:, :, None]))[:, :, 0], inverse


def _fill_waves(
    found: FittedSignals, rows: npt.NDArray[np.intp], fit: _Waves, frequency: Floats, middle: Floats
) -> None:
    """Turn coefficients into amplitudes, periods and epochs with errors."""
    _, cosine, sine = fit.coefficients.T
    amplitude = np.maximum(np.hypot(cosine, sine), 1e-300)
    # Magnitudes are least half a turn from the maximum of the wave.
    phase = np.arctan2(-sine, -cosine)
    later = phase / (2.0 * np.pi * frequency)
    zero = np.zeros_like(cosine)
    of_amplitude = np.stack([zero, cosine / amplitude, sine / amplitude, zero], axis=1)
    turn = np.stack([zero, -sine / amplitude**2, cosine / amplitude**2, zero], axis=1)
    of_epoch = turn / (2.0 * np.pi * frequency[:, None])
    of_epoch[:, 3] = -later / frequency

    def error(gradient: Floats) -> Floats:
        return np.asarray(
            np.sqrt(np.maximum(np.einsum("si,sij,sj->s", gradient, fit.covariance, gradient), 0.0))
        )

    found.period[rows] = 1.0 / frequency
    found.period_err[rows] = np.sqrt(np.maximum(fit.covariance[:, 3, 3], 0.0)) / frequency**2
    found.epoch[rows], found.epoch_err[rows] = middle + later, error(of_epoch)
    found.depth[rows], found.depth_err[rows] = 2.0 * amplitude, 2.0 * error(of_amplitude)
    found.mean[rows] = fit.coefficients[:, 0]


def fit_transits(curves: CurveBlock, boxes: Transits, time: Floats | None = None) -> FittedSignals:
    """Fit a transit with ingress and egress to each star, its period, time, depth and duration too.

    Parameters
    ----------
    curves : CurveBlock
    boxes : Transits
        Where fits begin.
    time : ndarray, shape (n_stars, n_frames)
        Time of each measurement, where stars have times of their own; NaN in gaps.
    """
    found, good = FittedSignals.empty(len(curves.mag)), curves.is_good
    for star in np.flatnonzero(np.isfinite(boxes.period) & np.isfinite(boxes.depth)):
        kept = good[star]
        times = (curves.time if time is None else time[star])[kept]
        start = (boxes.depth[star], boxes.middle[star], boxes.period[star], boxes.duration[star])
        made = _transit(times, curves.mag[star, kept], curves.mag_err[star, kept], start)
        for name, value in made.items():
            getattr(found, name)[star] = value
    return found


def _transit(
    time: Floats, mag: Floats, mag_err: Floats, start: tuple[float, float, float, float]
) -> dict[str, float]:
    """Fit one star; the epoch is that of the transit nearest to the middle of the curve."""
    from scipy.optimize import least_squares

    depth, middle, period, duration = start
    middle += period * np.round((float(np.average(time, weights=mag_err**-2.0)) - middle) / period)
    level = float(np.median(mag))
    # Shifts that move ingress by a small part of itself, at the ends of the curve too.
    small = 0.05 * _INGRESS * duration
    turns = max(float(np.abs(time - middle).max()) / period, 1.0)
    steps = np.array([1e-4, 1e-4, small, small / turns, small])

    def pulls(values: Floats) -> Floats:
        constant, deep, when, turn, long = np.array([level, depth, middle, period, duration]) + values * steps
        shape = Boxes(np.array([turn]), np.array([when]), np.array([abs(long)]), _INGRESS)
        return np.asarray((mag - constant - deep * shape.columns(time, slice(0, 1))[0, 0]) / mag_err)

    fit = least_squares(pulls, np.zeros(5), jac=lambda at: _slopes(pulls, at), loss="soft_l1")
    slopes = _slopes(pulls, fit.x)
    off = pulls(fit.x)
    scale = float(np.median(np.abs(off)) * 1.4826) ** 2
    normal = slopes.T @ slopes + 1e-12 * np.eye(5)
    errors = np.sqrt(np.diag(np.linalg.inv(normal)) * scale) * steps
    values = np.array([level, depth, middle, period, abs(duration)]) + fit.x * steps
    names = ("mean", "depth", "epoch", "period", "duration")
    found = dict(zip(names, values.tolist(), strict=True))
    return found | {"depth_err": errors[1], "epoch_err": errors[2], "period_err": errors[3]}


def _slopes(pulls: Callable[[Floats], Floats], at: Floats) -> Floats:
    """Return the slopes of pulls, by steps that are wide enough to cross measurements."""
    unit = np.eye(len(at))
    return np.stack([0.5 * (pulls(at + one) - pulls(at - one)) for one in unit], axis=1)


def aliases(period: Floats, baseline: Floats) -> list[str | None]:
    """Return of which cycle of the nights each period may be an alias, such as ``1/2 solar day``; None for none.

    Ground-based curves have a gap each day, so slow trends and gaps make peaks at whole and half numbers of cycles
    per solar or sidereal day. A frequency is flagged within the width of a peak, 1 / baseline, at most 0.05 per day.

    Parameters
    ----------
    period, baseline : ndarray, shape (n_stars,)
        Days; NaN has no alias.
    """
    halves = np.arange(1, 2 * _MOST_CYCLES + 1)
    names, places = [], []
    for name, length in _DAYS.items():
        for half in halves.tolist():
            of, into = (1, half // 2) if half % 2 == 0 else (2, half)
            names.append(f"{of} {name}" if into == 1 and of == 1 else f"{of}/{into} {name}")
            if into == 1 and of == 2:
                names[-1] = f"2 {name}s"
            places.append(0.5 * half / length)
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.abs(1.0 / np.asarray(period)[:, None] - np.array(places))
        width = np.minimum(1.0 / np.asarray(baseline), _ALIAS_WIDTH)
    nearest = np.argmin(np.nan_to_num(away, nan=np.inf), axis=1)
    near = away[np.arange(len(nearest)), nearest] < width
    return [names[one] if is_near else None for one, is_near in zip(nearest, near, strict=True)]

"""The signal of each star that noise has not: a sinusoid, or a box that returns or was seen once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.curves.box_search import FoundBoxes, find_boxes
from skylake.curves.curve_block import CurveBlock, row_sigmas
from skylake.curves.decorrelation import Decorrelated, DecorrelationOptions, decorrelate
from skylake.curves.external_parameters import ExternalParameters
from skylake.curves.period_fits import fit_transits
from skylake.curves.periods import Transits, lomb_scargle
from skylake.curves.signals import Boxes, FoundSignals, Harmonics, Signal

Floats = npt.NDArray[np.float64]

#: Durations of dips that are tried, days.
DURATIONS_DAYS = (1.0 / 24.0, 2.0 / 24.0, 4.0 / 24.0)
#: Share of the duration of a transit in which light falls and rises.
_INGRESS = 0.2
#: Residuals that count in a choice between two signals, in standard deviations: some are outliers.
_CUT = 5.0
#: A fit may change the duration of a box by this factor; the boxes that are tried are a factor of two apart.
_MOST_LONGER = 2.5


@dataclass(frozen=True, slots=True)
class SignalOptions:
    """Which signals are looked for.

    Attributes
    ----------
    shortest_days, longest_days : float
        Periods; those of boxes are five times their duration at least.
    durations_days : tuple of float
        Durations of boxes, from first to last contact; none for sinusoids alone.
    false_alarm : float
        A signal is fitted where noise alone has it with less than this chance. A fit of one that is not there costs
        a few degrees of freedom and no more, so this may be large.
    least_nights : int
        With fewer nights the depths of transits are nearer to the truth in ensemble magnitudes. In simulations
        (20 mmag, 60 frames a night, trends of each star of 3 mmag) depths err there by 35 to 50 %, and after a joint
        fit by 79, 49, 34 and 18 % with 2, 4, 5 and 6 nights.
    """

    shortest_days: float = 0.1
    longest_days: float = 20.0
    durations_days: tuple[float, ...] = DURATIONS_DAYS
    false_alarm: float = 1e-3
    least_nights: int = 5


def found_signals(
    ensemble: CurveBlock,
    parameters: ExternalParameters,
    alone: Decorrelated,
    options: SignalOptions,
    decorrelation: DecorrelationOptions,
) -> FoundSignals:
    """Return the best signal of each star, NaN where noise alone has one as good.

    Sinusoids are looked for in the decorrelated curves, boxes together with the external parameters. Of a star that
    has both, the one that leaves less is taken.

    Parameters
    ----------
    ensemble : CurveBlock
    parameters : ExternalParameters
    alone : Decorrelated
        Without a signal; stars whose rows are NaN are not searched.
    options : SignalOptions
    decorrelation : DecorrelationOptions
    """
    curves = CurveBlock(ensemble.time, alone.mag, ensemble.mag_err)
    found = lomb_scargle(curves, options.shortest_days, options.longest_days)
    waves = Harmonics(_likely(found.period, found.false_alarm, options))
    boxes = _no_boxes(len(curves.mag))
    if options.durations_days:
        durations = np.asarray(options.durations_days)
        dips = find_boxes(
            ensemble, parameters, alone.residual, durations, options.longest_days, decorrelation
        )
        likely = ~np.isnan(_likely(dips.period, dips.false_alarm, options))
        # A dip of a few nights may pass for a wave before it does for a box.
        likely |= waves.has_signal & np.isfinite(dips.middle)
        boxes = _refined(ensemble, parameters, dips, np.flatnonzero(likely), decorrelation)
    both = np.flatnonzero(waves.has_signal & boxes.has_signal)
    if both.size:
        some = ensemble.of(both), parameters.of(both), decorrelation
        wave = _residual(*some, Harmonics(waves.period[both]))
        box = _residual(*some, Boxes(boxes.period[both], boxes.middle[both], boxes.duration[both], _INGRESS))
        is_wave = _cost(wave, wave, box) <= _cost(box, wave, box)
        waves.period[both[~is_wave]] = np.nan
        for one in (boxes.period, boxes.middle, boxes.duration):
            one[both[is_wave]] = np.nan
    return FoundSignals(waves, boxes)


def _no_boxes(n_stars: int) -> Boxes:
    return Boxes(np.full(n_stars, np.nan), np.full(n_stars, np.nan), np.full(n_stars, np.nan), _INGRESS)


def _likely(period: Floats, false_alarm: Floats, options: SignalOptions) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.where(false_alarm < options.false_alarm, period, np.nan)


def _refined(
    ensemble: CurveBlock,
    parameters: ExternalParameters,
    dips: FoundBoxes,
    rows: npt.NDArray[np.intp],
    decorrelation: DecorrelationOptions,
) -> Boxes:
    """Return the boxes of some stars with period, time and duration fitted; NaN for the other stars."""
    period, middle, duration = np.full((3, len(dips.period)), np.nan)
    if rows.size == 0:
        return Boxes(period, middle, duration, _INGRESS)
    start = Boxes(dips.period[rows], dips.middle[rows], dips.duration[rows], _INGRESS)
    some = ensemble.of(rows)
    coarse = decorrelate(some, parameters.of(rows), start, decorrelation)
    depth, depth_err = coarse.signal[:, 0], coarse.signal_err[:, 0]
    # The next transit of a dip that was seen once lies beyond the curve.
    once = np.isinf(start.period)
    far = np.where(once, 10.0 * np.ptp(ensemble.time) + 1.0, start.period)
    guess = Transits(far, start.middle, start.duration, depth, depth_err, np.zeros(len(rows)))
    fit = fit_transits(CurveBlock(ensemble.time, coarse.mag, some.mag_err), guess)
    with np.errstate(invalid="ignore"):
        near = (
            np.abs(fit.epoch - start.middle - far * np.round((fit.epoch - start.middle) / far))
            < start.duration
        )
        alike = np.abs(np.log(fit.duration / start.duration)) < np.log(_MOST_LONGER)
    better = near & alike
    period[rows] = np.where(once, np.inf, np.where(better, fit.period, start.period))
    middle[rows] = np.where(better, fit.epoch, start.middle)
    duration[rows] = np.where(better, fit.duration, start.duration)
    return Boxes(period, middle, duration, _INGRESS)


def _residual(
    curves: CurveBlock, parameters: ExternalParameters, decorrelation: DecorrelationOptions, signal: Signal
) -> Floats:
    """Return residuals over errors after a fit."""
    return np.asarray(decorrelate(curves, parameters, signal, decorrelation).residual / curves.mag_err)


def _cost(pulls: Floats, *others: Floats) -> Floats:
    """Return the sum of squares of pulls, clipped at some times the smallest scatter that a signal leaves."""
    sigma = np.min([row_sigmas(one) for one in others], axis=0)[:, None]
    return np.asarray(np.nansum(np.minimum((pulls / sigma) ** 2, _CUT**2), axis=1))

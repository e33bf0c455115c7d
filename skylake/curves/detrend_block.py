"""All detrended magnitudes of the stars of a camera and band side by side: none replaces another."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from skylake.curves.common_effects import remove_common_effects
from skylake.curves.curve_block import CurveBlock
from skylake.curves.decorrelation import Decorrelated, DecorrelationOptions, decorrelate
from skylake.curves.ensemble import ensemble_magnitudes
from skylake.curves.external_parameters import ExternalParameters
from skylake.curves.periods import box_least_squares, lomb_scargle
from skylake.curves.signals import Boxes, Harmonics
from skylake.curves.trend_filtering import Templates, choose_templates, filter_trends

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stars:
    """Where the stars of curves are; arrays of shape (n_stars,).

    Attributes
    ----------
    x, y : ndarray
        Mean position on the detector or on the sky, in any unit.
    colour : ndarray or None
        Magnitudes; NaN where unknown.
    """

    x: Floats
    y: Floats
    colour: Floats | None = None


@dataclass(frozen=True, slots=True)
class DetrendOptions:
    """How curves are detrended.

    Attributes
    ----------
    degree : int
        Of the polynomial of position that the offset of a frame is.
    decorrelation : DecorrelationOptions
    shortest_days, longest_days : float
        Periods of signals that are looked for if none are given; transits are shorter than the shortest.
    durations_days : tuple of float
        Durations of transits: with any, boxes are looked for, else sinusoids. That takes a tenth of a second or more
        for each star.
    false_alarm : float
        A signal is fitted where noise alone has it with less than this chance. A fit of one that is not there costs
        two degrees of freedom and no more, so this may be large.
    n_templates, exclusion, seed
        Of trend filtering: how many stars, how far from the star itself in the unit of positions, and by which dice;
        0 templates for none.
    n_effects : int
        That SysRem takes off; 0 for none.
    """

    degree: int = 2
    decorrelation: DecorrelationOptions = field(default_factory=DecorrelationOptions)
    shortest_days: float = 0.1
    longest_days: float = 20.0
    durations_days: tuple[float, ...] = ()
    false_alarm: float = 1e-3
    n_templates: int = 0
    exclusion: float = 20.0
    seed: int = 1
    n_effects: int = 0


@dataclass(frozen=True, slots=True)
class Detrended:
    """Magnitudes of stars by method; arrays of shape (n_stars, n_frames), NaN where there are none.

    Attributes
    ----------
    raw, ensemble : ndarray
        As they came, and without what all stars of a frame lose alike.
    alone : Decorrelated
        Ensemble magnitudes decorrelated without a signal.
    joint : Decorrelated
        The same with the signal of each star fitted too: those to use.
    signal : Harmonics or Boxes
        That was fitted.
    trend_filtered, without_effects : ndarray or None
        Ensemble magnitudes after trend filtering, and after SysRem; None if not asked for.
    templates : Templates or None
    """

    raw: Floats
    ensemble: Floats
    alone: Decorrelated
    joint: Decorrelated
    signal: Harmonics | Boxes
    trend_filtered: Floats | None = None
    without_effects: Floats | None = None
    templates: Templates | None = None


def detrend_block(
    curves: CurveBlock,
    parameters: ExternalParameters,
    stars: Stars,
    signal: Harmonics | Boxes | None = None,
    options: DetrendOptions | None = None,
) -> Detrended:
    """Detrend the light curves of the stars of a camera and band that share frames.

    Parameters
    ----------
    curves : CurveBlock
    parameters : ExternalParameters
    stars : Stars
    signal : Harmonics or Boxes
        Fitted beside the external parameters. Without one, the best sinusoid or box of each star is, where noise
        alone has none as good.
    options : DetrendOptions
    """
    options = options or DetrendOptions()
    ensemble = _ensemble(curves, parameters, stars, options)
    alone = decorrelate(ensemble, parameters, None, options.decorrelation)
    decorrelated = CurveBlock(curves.time, alone.mag, curves.mag_err)
    signal = signal or found_signal(decorrelated, options)
    joint = decorrelate(ensemble, parameters, signal, options.decorrelation)
    templates, filtered, without = None, None, None
    if options.n_templates or options.n_effects:
        count = options.n_templates or len(curves.mag)
        templates = choose_templates(
            ensemble, stars.x, stars.y, count, options.seed, options.exclusion, decorrelated
        )
    if templates is not None and options.n_templates:
        field_of = (stars.x, stars.y)
        filtered = filter_trends(ensemble, templates, *field_of, field_of, options.exclusion).mag
    if templates is not None and options.n_effects:
        is_constant = np.isin(np.arange(len(curves.mag)), templates.star)
        without = remove_common_effects(ensemble, options.n_effects, is_constant).mag
    return Detrended(curves.mag, ensemble.mag, alone, joint, signal, filtered, without, templates)


def found_signal(curves: CurveBlock, options: DetrendOptions) -> Harmonics | Boxes:
    """Return the best signal of each star of decorrelated curves; NaN where noise alone has one as good."""
    span = (options.shortest_days, options.longest_days)
    if not options.durations_days:
        waves = lomb_scargle(curves, *span)
        return Harmonics(_likely(waves.period, waves.false_alarm, options))
    boxes = box_least_squares(curves, *span, np.asarray(options.durations_days))
    return Boxes(_likely(boxes.period, boxes.false_alarm, options), boxes.middle, boxes.duration)


def _likely(period: Floats, false_alarm: Floats, options: DetrendOptions) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.where(false_alarm < options.false_alarm, period, np.nan)


def _ensemble(
    curves: CurveBlock, parameters: ExternalParameters, stars: Stars, options: DetrendOptions
) -> CurveBlock:
    """Return ensemble magnitudes, whose offsets stars have shown that were decorrelated first."""
    place = (stars.x, stars.y, stars.colour, options.degree)
    first = ensemble_magnitudes(curves, *place)
    shown = decorrelate(
        CurveBlock(curves.time, first.mag, curves.mag_err), parameters, None, options.decorrelation
    )
    # Stars that are not decorrelated have no say; where none is, the first offsets stand.
    if not np.isfinite(shown.mag).any():
        return CurveBlock(curves.time, first.mag, curves.mag_err)
    own = curves.mag - (first.mag - shown.mag)
    offset = ensemble_magnitudes(CurveBlock(curves.time, own, curves.mag_err), *place).offset
    return CurveBlock(curves.time, curves.mag - offset, curves.mag_err)

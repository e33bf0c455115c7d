"""All detrended magnitudes of the stars of a camera and band side by side: none replaces another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.curves.common_effects import remove_common_effects
from skylake.curves.curve_block import CurveBlock
from skylake.curves.decorrelation import Decorrelated, DecorrelationOptions, decorrelate
from skylake.curves.ensemble import ensemble_magnitudes
from skylake.curves.external_parameters import ExternalParameters
from skylake.curves.found_signals import SignalOptions, found_signals
from skylake.curves.red_noise import runs_of_frames
from skylake.curves.signals import Harmonics, Signal
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
    signals : SignalOptions
        Which signals are looked for if none is given.
    n_templates, exclusion, seed
        Of trend filtering: how many stars, how far from the star itself in the unit of positions, and by which dice;
        0 templates for none.
    n_effects : int
        That SysRem takes off; 0 for none.
    """

    degree: int = 2
    decorrelation: DecorrelationOptions = field(default_factory=DecorrelationOptions)
    signals: SignalOptions = field(default_factory=SignalOptions)
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
        The same with the signal of each star fitted too: those to use. Its magnitudes are those of the ensemble where
        `is_joint` is not true.
    signal : Harmonics, Boxes or FoundSignals
        That was fitted.
    n_nights : ndarray of int64, shape (n_stars,)
        With measurements of a star.
    is_joint : ndarray of bool, shape (n_stars,)
        Where the joint fit stands: of a signal that was given, if frames show enough of a wave, or of one that was
        looked for in enough nights.
    trend_filtered, without_effects : ndarray or None
        Ensemble magnitudes after trend filtering, and after SysRem; None if not asked for.
    templates : Templates or None
    """

    raw: Floats
    ensemble: Floats
    alone: Decorrelated
    joint: Decorrelated
    signal: Signal
    n_nights: npt.NDArray[np.int64]
    is_joint: npt.NDArray[np.bool_]
    trend_filtered: Floats | None = None
    without_effects: Floats | None = None
    templates: Templates | None = None


def detrend_block(
    curves: CurveBlock,
    parameters: ExternalParameters,
    stars: Stars,
    signal: Signal | None = None,
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
        alone has none as good; stars that were seen in too few nights for that keep their ensemble magnitudes.
    options : DetrendOptions
    """
    options = options or DetrendOptions()
    ensemble = _ensemble(curves, parameters, stars, options)
    alone = decorrelate(ensemble, parameters, None, options.decorrelation)
    decorrelated = CurveBlock(curves.time, alone.mag, curves.mag_err)
    fitted = joint_fit(ensemble, parameters, alone, signal, options)
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
    shown = (fitted.joint, fitted.signal, fitted.n_nights, fitted.is_joint)
    return Detrended(curves.mag, ensemble.mag, alone, *shown, filtered, without, templates)


@dataclass(frozen=True, slots=True)
class JointFit:
    """Stars decorrelated with their signals; see :class:`Detrended`."""

    joint: Decorrelated
    signal: Signal
    n_nights: npt.NDArray[np.int64]
    is_joint: npt.NDArray[np.bool_]


def joint_fit(
    ensemble: CurveBlock,
    parameters: ExternalParameters,
    alone: Decorrelated,
    signal: Signal | None,
    options: DetrendOptions,
) -> JointFit:
    """Decorrelate ensemble magnitudes with a signal: the one that is given, or the best of each star.

    Parameters
    ----------
    ensemble : CurveBlock
    parameters : ExternalParameters
    alone : Decorrelated
        The same stars without a signal.
    signal : Harmonics, Boxes, FoundSignals or None
    options : DetrendOptions
    """
    n_nights = nights_of(ensemble)
    known, enough = signal is not None, n_nights >= options.signals.least_nights
    if signal is None:
        residual = np.where(enough[:, None], alone.residual, np.nan)
        searched = replace(alone, mag=np.where(enough[:, None], alone.mag, np.nan), residual=residual)
        signal = found_signals(ensemble, parameters, searched, options.signals, options.decorrelation)
    joint = decorrelate(ensemble, parameters, signal, options.decorrelation)
    is_joint = (enough | known) & np.isfinite(joint.chi2)
    if isinstance(signal, Harmonics):
        is_joint &= signal.is_covered(ensemble.time, ensemble.is_good)
    off = ~is_joint
    unknown: dict[str, Any] = {
        name: np.where(off, np.nan, getattr(joint, name)) for name in ("n_lost", "chi2")
    }
    joint = replace(joint, mag=np.where(off[:, None], ensemble.mag, joint.mag), **unknown)
    return JointFit(joint, signal, n_nights, is_joint)


def nights_of(curves: CurveBlock) -> npt.NDArray[np.int64]:
    """Return the number of nights in which each star was measured, of shape (n_stars,)."""
    run = runs_of_frames(curves.time)
    if not len(run):
        return np.zeros(len(curves.mag), np.int64)
    starts = np.flatnonzero(np.diff(run, prepend=-1))
    return np.asarray(np.logical_or.reduceat(curves.is_good, starts, axis=1).sum(axis=1), np.int64)


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

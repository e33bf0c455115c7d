"""Effects that all stars share with strengths of their own: SysRem (Tamuz, Mazeh & Zucker 2005, MNRAS 356, 1466).

Effects are learned from constant stars alone, so that a large variable does not become one. As trend filtering they
take a part of real signals too, and their magnitudes stand beside others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.curves.curve_block import CurveBlock, outlier_weights, row_medians

Floats = npt.NDArray[np.float64]

_TURNS = 30
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class CommonEffects:
    """Light curves without common effects.

    Attributes
    ----------
    mag : ndarray, shape (n_stars, n_frames)
    effect : ndarray, shape (n_effects, n_frames)
        Of variance 1; 0 on frames without measurements.
    strength : ndarray, shape (n_stars, n_effects)
        Magnitudes.
    """

    mag: Floats
    effect: Floats
    strength: Floats


def remove_common_effects(
    curves: CurveBlock, count: int, is_constant: npt.NDArray[np.bool_] | None = None
) -> CommonEffects:
    """Take effects that all stars share off their curves, one after another.

    Parameters
    ----------
    curves : CurveBlock
    count : int
        How many effects.
    is_constant : ndarray of bool, shape (n_stars,)
        Stars that effects are learned from; all, if it is not given.
    """
    good = curves.is_good
    mag = np.where(good, curves.mag, np.nan)
    level = row_medians(mag)[:, None]
    left = mag - level
    learned = np.flatnonzero(good.any(axis=1) if is_constant is None else is_constant & good.any(axis=1))
    effects = np.zeros((count, mag.shape[1]))
    strengths = np.zeros((len(mag), count))
    for number in range(count):
        kept = outlier_weights(left, np.where(good, curves.mag_err, np.nan))
        weight = kept * curves.weight
        values = np.nan_to_num(left)
        effect = _effect(values[learned], weight[learned])
        strength = _divided((weight * values) @ effect, weight @ effect**2)
        effects[number], strengths[:, number] = effect, strength
        left = left - strength[:, None] * effect
    return CommonEffects(left + level, effects, strengths)


def _effect(values: Floats, weight: Floats) -> Floats:
    """Return the effect that explains most of the variance, of variance 1, by turns of strengths and effect."""
    # The frame means are a start that does not depend on chance.
    effect = _unit(_divided((weight * values).sum(axis=0), weight.sum(axis=0)))
    weighted = weight * values
    for _ in range(_TURNS):
        strength = _divided(weighted @ effect, weight @ effect**2)
        before, effect = effect, _unit(_divided(strength @ weighted, strength**2 @ weight))
        if np.sqrt(np.mean((effect - before) ** 2)) < _TOLERANCE:
            break
    return effect


def _unit(effect: Floats) -> Floats:
    size = float(np.sqrt(np.mean(effect**2)))
    return effect / size if size > 0 else effect


def _divided(upper: Floats, lower: Floats) -> Floats:
    return np.where(lower > 0, upper / np.where(lower > 0, lower, 1.0), 0.0)

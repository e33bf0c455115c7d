"""Light curves of the simulated variable stars.

All are achromatic. Phases count from the epoch (BJD, TDB): the maximum of a sinusoid, the middle of the
primary eclipse, the maximum of an RR Lyrae star, the middle of a transit, the peak of the transient.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float64]

#: Duration of an eclipse and of a transit, from first to last contact, in units of the period.
ECLIPSE_DURATION = 0.14
TRANSIT_DURATION = 0.10
#: Part of an eclipse or a transit that is ingress; egress is as long.
_ECLIPSE_INGRESS, _TRANSIT_INGRESS = 0.4, 0.15
#: Depth of the secondary eclipse in units of that of the primary.
SECONDARY_DEPTH = 0.45

#: Fourier series in sines of a typical RR Lyrae star of type ab (Simon & Teays 1982, ApJ 261, 586).
_RRAB_AMPLITUDES = np.array([1.0, 0.47, 0.34, 0.22, 0.13, 0.08])
_RRAB_PHASES = np.array([0.0, 2.4, 5.0, 1.4, 4.1, 0.5])


class Kind(IntEnum):
    """How a star varies."""

    CONSTANT = 0
    SINUSOID = 1
    ECLIPSING = 2
    RR_LYRAE = 3
    TRANSIT = 4
    TRANSIENT = 5


#: Names of the kinds in the truth tables; null for constant stars.
KIND_NAMES: dict[Kind, str] = {
    Kind.SINUSOID: "sinusoid",
    Kind.ECLIPSING: "eclipsing",
    Kind.RR_LYRAE: "rr_lyrae_ab",
    Kind.TRANSIT: "transit",
    Kind.TRANSIENT: "transient",
}


def magnitude_change(
    kind: npt.ArrayLike,
    period_d: npt.ArrayLike,
    amplitude_mag: npt.ArrayLike,
    epoch_bjd: npt.ArrayLike,
    bjd_tdb: npt.ArrayLike,
) -> _Array:
    """Return how much fainter than their catalog magnitude stars are at an instant.

    Parameters
    ----------
    kind : array_like of int
        Members of :class:`Kind`.
    period_d, epoch_bjd : array_like
        Period and epoch. For the transient the period is the time of its decay by a factor e; it rises
        linearly over a third of that.
    amplitude_mag : array_like
        From brightest to faintest; for eclipsing stars the depth of the primary eclipse. Unused for the
        transient.
    bjd_tdb : array_like
        When.

    Returns
    -------
    ndarray
        Magnitudes to be added to the mean; inf for a transient that is not there yet.
    """
    kind, period, amplitude, epoch, time = np.broadcast_arrays(
        kind, period_d, amplitude_mag, epoch_bjd, bjd_tdb
    )
    change = np.zeros(kind.shape)
    for one, shape in (
        (Kind.SINUSOID, _sinusoid),
        (Kind.ECLIPSING, _eclipses),
        (Kind.RR_LYRAE, _rr_lyrae),
        (Kind.TRANSIT, _transit),
    ):
        chosen = kind == one
        phase = (time[chosen] - epoch[chosen]) / period[chosen] % 1.0
        change[chosen] = amplitude[chosen] * shape(phase)
    chosen = kind == Kind.TRANSIENT
    change[chosen] = _transient((time[chosen] - epoch[chosen]) / period[chosen])
    return change


def _sinusoid(phase: _Array) -> _Array:
    return np.asarray(-0.5 * np.cos(2.0 * np.pi * phase))


def _dip(phase: _Array, centre: float, duration: float, ingress: float) -> _Array:
    """Return 1 in the flat middle of a dip, 0 outside, with smooth sides."""
    distance = np.abs((phase - centre + 0.5) % 1.0 - 0.5) * 2.0 / duration
    depth = np.clip((1.0 - distance) / ingress, 0.0, 1.0)
    return np.asarray(depth * depth * (3.0 - 2.0 * depth))


def _eclipses(phase: _Array) -> _Array:
    primary = _dip(phase, 0.0, ECLIPSE_DURATION, _ECLIPSE_INGRESS)
    return primary + SECONDARY_DEPTH * _dip(phase, 0.5, ECLIPSE_DURATION, _ECLIPSE_INGRESS)


def _transit(phase: _Array) -> _Array:
    return _dip(phase, 0.0, TRANSIT_DURATION, _TRANSIT_INGRESS)


def _series(phase: _Array) -> _Array:
    order = np.arange(1, _RRAB_AMPLITUDES.size + 1)
    angles = 2.0 * np.pi * phase[..., None] * order + _RRAB_PHASES
    return np.asarray(np.sum(_RRAB_AMPLITUDES * np.sin(angles), axis=-1))


_CYCLE = np.linspace(0.0, 1.0, 4001)
_RRAB_RANGE = float(np.ptp(_series(_CYCLE)))
_RRAB_MAXIMUM = float(_CYCLE[np.argmin(_series(_CYCLE))])


def _rr_lyrae(phase: _Array) -> _Array:
    """Return a light curve of range 1 whose mean magnitude is 0."""
    return _series(phase + _RRAB_MAXIMUM) / _RRAB_RANGE


def _transient(decay_times: _Array) -> _Array:
    rise = np.clip(1.0 + 3.0 * decay_times, 0.0, 1.0)
    flux = np.where(decay_times < 0.0, rise, np.exp(-np.maximum(decay_times, 0.0)))
    with np.errstate(divide="ignore"):
        return np.asarray(-2.5 * np.log10(flux))

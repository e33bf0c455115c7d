"""Shapes of signals that are fitted together with what is to be taken off a light curve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
Kind = Literal["wave", "box", "dip"]
#: A wave that looks like a trend cannot be fitted: measurements span so many periods at least, and this share of the
#: phases, counted in so many bins.
LEAST_TURNS, _LEAST_PHASES, _PHASE_BINS = 1.25, 0.5, 20
#: Noisy shapes of which a range is corrected for noise.
_DRAWS = 100


@dataclass(frozen=True, slots=True)
class Harmonics:
    """A signal with a period and any smooth shape.

    Attributes
    ----------
    period : ndarray, shape (n_stars,)
        Days; NaN for a star without a signal.
    n_harmonics : int
        The sines and cosines: 1 is a sinusoid.
    """

    period: Floats
    n_harmonics: int = 1

    def columns(self, time: Floats, stars: slice) -> Floats:
        """Return the shapes, of shape (n_stars, 2 n_harmonics, n_frames); 0 for a star without a signal."""
        period = self.period[stars, None]
        is_known = np.isfinite(period) & (period > 0)
        phase = 2.0 * np.pi * (time - time[:1]) / np.where(is_known, period, 1.0)
        waves = [
            shape(number * phase) for number in range(1, self.n_harmonics + 1) for shape in (np.sin, np.cos)
        ]
        return np.stack(waves, axis=1) * is_known[:, None]

    @property
    def has_signal(self) -> Truths:
        """Which stars have one, of shape (n_stars,)."""
        return np.asarray(np.isfinite(self.period))

    def is_covered(self, time: Floats, good: Truths) -> Truths:
        """Return which stars were measured long enough and over half of the phases; true without a signal.

        In a part of a turn several harmonics follow any trend.

        Parameters
        ----------
        time : ndarray, shape (n_frames,)
        good : ndarray of bool, shape (n_stars, n_frames)

        Returns
        -------
        ndarray of bool, shape (n_stars,)
        """
        first, last = (
            np.where(good, sign * time, np.inf).min(axis=1, initial=np.inf) for sign in (1.0, -1.0)
        )
        period = np.where(self.has_signal & good.any(axis=1), self.period, np.nan)
        star, frame = np.nonzero(good & np.isfinite(period)[:, None])
        seen = np.zeros((len(good), _PHASE_BINS), bool)
        seen[star, (_PHASE_BINS * (time[frame] / period[star] % 1.0)).astype(int) % _PHASE_BINS] = True
        is_enough = (-last - first > LEAST_TURNS * period) & (seen.mean(axis=1) >= _LEAST_PHASES)
        return np.asarray(is_enough | ~self.has_signal)

    def contrasts(self, time: Floats, good: Truths, coefficients: Floats) -> Floats:
        """Return the shapes where stars are faintest less those where they are brightest.

        Parameters
        ----------
        time : ndarray, shape (n_frames,)
        good : ndarray of bool, shape (n_stars, n_frames)
            Where stars were measured: of several harmonics only phases that frames show count, since gaps say nothing.
        coefficients : ndarray, shape (n_stars, 2 n_harmonics)

        Returns
        -------
        ndarray, shape (n_stars, 2 n_harmonics)
        """
        if self.n_harmonics == 1:
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray(2.0 * coefficients / np.hypot(*coefficients.T)[:, None])
        shapes = self.columns(time, slice(0, len(self.period)))
        values = np.einsum("sk,skt->st", np.nan_to_num(coefficients), shapes)
        rows = np.arange(len(values))
        faint, bright = (
            shapes[rows, :, np.argmax(np.where(good, sign * values, -np.inf), axis=1)] for sign in (1.0, -1.0)
        )
        return np.asarray(faint - bright)

    def range_excess(self, time: Floats, good: Truths, coefficients: Floats, covariance: Floats) -> Floats:
        """Return by how much noise makes the range of shapes with several extremes larger, by a parametric bootstrap.

        Parameters
        ----------
        time, good, coefficients
            As :meth:`contrasts` takes them.
        covariance : ndarray, shape (n_stars, 2 n_harmonics, 2 n_harmonics)

        Returns
        -------
        ndarray, shape (n_stars,)
            Magnitudes.
        """
        excess = np.zeros(len(self.period))
        if self.n_harmonics == 1:
            return excess
        normal = np.random.default_rng(1).standard_normal((_DRAWS, 2 * self.n_harmonics))
        for star in np.flatnonzero(self.has_signal & good.any(axis=1)):
            shapes = self.columns(time, slice(star, star + 1))[0][:, good[star]]
            values, vectors = np.linalg.eigh(covariance[star])
            noise = normal * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
            fitted = np.ptp(coefficients[star] @ shapes)
            excess[star] = np.ptp((coefficients[star] + noise) @ shapes, axis=1).mean() - fitted
        return excess


@dataclass(frozen=True, slots=True)
class Boxes:
    """A dip that returns: the shape of box least squares (Kovács, Zucker & Mazeh 2002, A&A 391, 369).

    Attributes
    ----------
    period, middle, duration : ndarray, shape (n_stars,)
        Days; `middle` is the time of one mid-transit. NaN for a star without a signal; a period that is infinite is
        that of a dip which does not return.
    ingress : ndarray, shape (n_stars,) or float
        How long the light takes to fall and to rise, as a share of the duration: 0 is a box, 1 a triangle.
    """

    period: Floats
    middle: Floats
    duration: Floats
    ingress: Floats | float = field(default=0.0)

    def columns(self, time: Floats, stars: slice) -> Floats:
        """Return the shape, of shape (n_stars, 1, n_frames): 1 in transit, so its coefficient is the depth."""
        period, middle, duration = (one[stars, None] for one in (self.period, self.middle, self.duration))
        ingress = np.broadcast_to(np.asarray(self.ingress, float), self.period.shape)[stars, None]
        with np.errstate(invalid="ignore"):
            is_known = np.isfinite(middle + duration) & (period > 0) & (duration > 0)
            period, middle, duration = (np.where(is_known, one, 1.0) for one in (period, middle, duration))
            away = time - middle
            turns = np.round(away / period)
            away = np.abs(
                away - np.where(turns == 0.0, 0.0, turns * np.where(np.isfinite(period), period, 0.0))
            )
            # Half of the light is lost half a duration from the middle, so the area is that of the box.
            fall = np.maximum(0.5 * ingress * duration, 1e-9 * duration)
            shape = np.clip(0.5 + (0.5 * duration - away) / fall * 0.5, 0.0, 1.0)
        return np.asarray((shape * is_known)[:, None])

    @property
    def has_signal(self) -> Truths:
        """Which stars have one, of shape (n_stars,)."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.isfinite(self.middle + self.duration) & (self.period > 0))

    def contrasts(self, time: Floats, good: Truths, coefficients: Floats) -> Floats:
        """Return 1: the coefficient of a box is its depth; see :meth:`Harmonics.contrasts`."""
        return np.ones_like(coefficients)


@dataclass(frozen=True, slots=True)
class FoundSignals:
    """The signals that a search has found: a sinusoid or a box for each star, or neither."""

    waves: Harmonics
    boxes: Boxes

    def columns(self, time: Floats, stars: slice) -> Floats:
        """Return the shapes of both, of shape (n_stars, 3, n_frames); 0 for what a star has not."""
        return np.concatenate([one.columns(time, stars) for one in (self.waves, self.boxes)], axis=1)

    @property
    def has_signal(self) -> Truths:
        """Which stars have one, of shape (n_stars,)."""
        return self.waves.has_signal | self.boxes.has_signal

    def contrasts(self, time: Floats, good: Truths, coefficients: Floats) -> Floats:
        """Return the shapes where stars are faintest less those where they are brightest, of shape (n_stars, 3)."""
        wave = self.waves.contrasts(time, good, coefficients[:, :2])
        is_box = self.boxes.has_signal[:, None]
        return np.where(is_box, [0.0, 0.0, 1.0], np.append(wave, np.zeros_like(wave[:, :1]), axis=1))


Signal = Harmonics | Boxes | FoundSignals


@dataclass(frozen=True, slots=True)
class SignalFigures:
    """What is said of the signals of stars; arrays of shape (n_stars,), NaN or None where there is none.

    Attributes
    ----------
    kind : list of {'wave', 'box', 'dip', None}
        A dip is a box that was seen once.
    period, middle, duration : ndarray
        Days; no period of a dip, neither middle nor duration of a wave.
    """

    kind: list[Kind | None]
    period: Floats
    middle: Floats
    duration: Floats


def figures_of(signal: Signal) -> SignalFigures:
    """Return kind, period, time and duration of the signals of stars."""
    if isinstance(signal, Harmonics):
        none = np.full(len(signal.period), np.nan)
        return SignalFigures(
            ["wave" if one else None for one in signal.has_signal], signal.period, none, none
        )
    if isinstance(signal, Boxes):
        once = np.isinf(signal.period)
        kinds: list[Kind | None] = [
            ("dip" if one else "box") if has else None
            for one, has in zip(once, signal.has_signal, strict=True)
        ]
        return SignalFigures(kinds, np.where(once, np.nan, signal.period), signal.middle, signal.duration)
    waves, boxes = figures_of(signal.waves), figures_of(signal.boxes)
    return SignalFigures(
        [first or second for first, second in zip(waves.kind, boxes.kind, strict=True)],
        np.where(np.isfinite(waves.period), waves.period, boxes.period),
        boxes.middle,
        boxes.duration,
    )

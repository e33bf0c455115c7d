"""Shapes of signals that are fitted together with what is to be taken off a light curve."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


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


@dataclass(frozen=True, slots=True)
class Boxes:
    """A dip that returns: the shape of box least squares (Kovács, Zucker & Mazeh 2002, A&A 391, 369).

    Attributes
    ----------
    period, middle, duration : ndarray, shape (n_stars,)
        Days; `middle` is the time of one mid-transit. NaN for a star without a signal.
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
            is_known = np.isfinite(period + middle + duration) & (period > 0) & (duration > 0)
            period, middle, duration = (np.where(is_known, one, 1.0) for one in (period, middle, duration))
            away = np.abs((time - middle + 0.5 * period) % period - 0.5 * period)
            # Half of the light is lost half a duration from the middle, so the area is that of the box.
            fall = np.maximum(0.5 * ingress * duration, 1e-9 * duration)
            shape = np.clip(0.5 + (0.5 * duration - away) / fall * 0.5, 0.0, 1.0)
        return np.asarray((shape * is_known)[:, None])

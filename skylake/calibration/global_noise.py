"""The noise of observations as their repeats show it, and the robust weights that follow from it.

The variance of an observation is (photon_scale x photon error)^2 + floor^2, plus what its frame has beyond that (a
cloud that no low-order gradient describes), plus what its star has (a variable). Frame and star get theirs only where
the likelihood demands it: an excess that chance explains would make all errors a little too large.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.calibration.global_kernels import Layout, excess_variances, weigh

Floats = npt.NDArray[np.float64]

#: Standard deviations at which an observation has no weight, as in :mod:`skylake.core.robust`.
CUT = 4.685
#: What these weights cost a Gaussian: the variance of a mean is this much larger than that of the plain mean.
EFFICIENCY_LOSS = 1.0526
#: The robust scale, as in :mod:`skylake.core.robust`: its cut, and the mean square of a standard normal under it.
_SCALE_CUT, _SCALE_VARIANCE = 3.5, 0.7117584
#: Twice the gain in log likelihood from which an excess of a frame or star counts: three and four standard deviations.
_FRAME_GAIN, _STAR_GAIN = 9.0, 16.0
#: The noise model is found from so many observations at most, in so many bins of so many at least.
_SAMPLE, _BINS, _PER_BIN = 150_000, 24, 60
#: Prior of photon_scale^2, for observations whose errors differ too little to tell scale from floor: mean and error.
_SCALE_PRIOR = (1.0, 0.5)
_ITERATIONS = 3
#: Floor to begin with, magnitudes.
_FIRST_FLOOR = 0.005


@dataclass
class Noise:
    """The noise model of some observations, and the weights that it gives them.

    Attributes
    ----------
    layout : Layout
    errors : ndarray, shape (n,)
        Photon errors, magnitudes.
    scale_square, floor_square : float
    frame_variance, star_variance : ndarray, shape (n_frames,), (n_stars,)
    weights, precisions : ndarray of float32, shape (n,)
        Robust weights, and inverse variances of the observations within the cut.
    """

    layout: Layout
    errors: Any
    frame_variance: Floats
    star_variance: Floats
    scale_square: float = 1.0
    floor_square: float = _FIRST_FLOOR**2
    weights: Any = field(init=False)
    precisions: Any = field(init=False)

    def __post_init__(self) -> None:
        self.weights = np.zeros(len(self.errors), np.float32)
        self.precisions = np.zeros(len(self.errors), np.float32)

    def variance(self, of_frames: bool = True, of_stars: bool = True) -> Any:
        """Return the variance of each observation, shape (n,), with or without the excess of frames and stars."""
        total = np.float32(self.scale_square) * self.errors**2 + np.float32(self.floor_square)
        if of_frames:
            total += np.repeat(self.frame_variance.astype(np.float32), np.diff(self.layout.starts))
        if of_stars:
            total += self.star_variance.astype(np.float32)[self.layout.star]
        return total

    def weigh(self, residuals: Any) -> None:
        """Renew the weights."""
        weigh(
            self.layout,
            residuals,
            self.errors,
            (self.scale_square, self.floor_square),
            self.frame_variance,
            self.star_variance,
            CUT,
            self.weights,
            self.precisions,
        )

    def update_frames(self, residuals: Any, lost: int) -> None:
        """Renew the excess of frames, from which a fit took `lost` degrees of freedom each."""
        order = np.arange(len(residuals), dtype=np.int32)
        sigma = np.sqrt(self.variance(of_frames=False))
        excess, gain = excess_variances(
            self.layout.starts, order, residuals, sigma, lost, _SCALE_CUT, _SCALE_VARIANCE
        )
        self.frame_variance = np.where(gain > _FRAME_GAIN, np.nan_to_num(excess), 0.0)

    def update_stars(self, residuals: Any, by_star: tuple[Any, Any]) -> None:
        """Renew the excess of stars.

        Parameters
        ----------
        residuals : ndarray, shape (n,)
        by_star : (ndarray, ndarray)
            Starts and order of the observations of each star.
        """
        sigma = np.sqrt(self.variance(of_stars=False))
        excess, gain = excess_variances(*by_star, residuals, sigma, 1, _SCALE_CUT, _SCALE_VARIANCE)
        self.star_variance = np.where(gain > _STAR_GAIN, np.nan_to_num(excess), 0.0)

    def scatter_of(self, residuals: Any, groups: tuple[Any, Any]) -> Floats:
        """Return the robust standard deviation of the residuals of each group, shape (n_groups,)."""
        nothing = np.zeros(len(residuals), np.float32)
        return np.asarray(
            np.sqrt(excess_variances(*groups, residuals, nothing, 1, _SCALE_CUT, _SCALE_VARIANCE)[0])
        )

    def update_model(self, residuals: Any, free: npt.NDArray[np.int64]) -> None:
        """Renew photon scale and floor from frames and stars without an excess of their own.

        Parameters
        ----------
        residuals : ndarray, shape (n,)
        free : ndarray, shape (n_frames,)
            Coefficients fitted to each frame.
        """
        frame = np.repeat(np.arange(len(self.frame_variance), dtype=np.int32), np.diff(self.layout.starts))
        star = self.layout.star
        quiet = (self.frame_variance[frame] == 0.0) & (self.star_variance[star] == 0.0)
        if np.count_nonzero(quiet) < 0.3 * len(quiet):
            quiet[:] = True
        by_star = np.bincount(star, self.precisions, len(self.star_variance))
        by_frame = np.bincount(frame, self.precisions, len(self.frame_variance))
        rows = np.flatnonzero(quiet)
        rows = rows[:: 1 + len(rows) // _SAMPLE]
        # What a fit took from the residuals of an observation: its share in the mean of its star and of its frame.
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 1.0 / self.variance()[rows] * (1.0 / by_star[star[rows]] + (free / by_frame)[frame[rows]])
        known = share < 0.8
        rows, share = rows[known], share[known]
        if len(rows) >= _PER_BIN:
            values = residuals[rows] / np.sqrt(1.0 - share)
            self.scale_square, self.floor_square = noise_model(
                values, self.errors[rows].astype(float), (self.scale_square, self.floor_square)
            )


def noise_model(values: Floats, errors: Floats, first: tuple[float, float]) -> tuple[float, float]:
    """Return the square of the photon scale and of the floor which explain the scatter of values about zero.

    The variance of values, binned by error, is a straight line in the square of the error. Within a bin, values are
    divided by the errors of the last model, since their errors differ.

    Parameters
    ----------
    values, errors : ndarray, shape (n,)
        Residuals, freed of what the fit took, and photon errors, both magnitudes.
    first : (float, float)
        To start from.
    """
    from scipy.optimize import nnls

    order = np.argsort(errors)
    values, squares = values[order], errors[order] ** 2
    n_bins = int(np.clip(len(values) // _PER_BIN, 1, _BINS))
    starts = np.linspace(0, len(values), n_bins + 1).astype(np.int64)
    rows, nothing = np.arange(len(values), dtype=np.int32), np.zeros(len(values))
    middle = np.add.reduceat(squares, starts[:-1]) / np.diff(starts)
    model = np.array(first)
    for _ in range(_ITERATIONS):
        scaled = values / np.sqrt(model[0] * squares + model[1])
        ratio = excess_variances(starts, rows, scaled, nothing, 0, _SCALE_CUT, _SCALE_VARIANCE)[0]
        expected = model[0] * middle + model[1]
        weight = np.sqrt(np.diff(starts) / 2.0) / expected
        design = np.vstack(
            [np.column_stack([middle, np.ones(n_bins)]) * weight[:, None], [1 / _SCALE_PRIOR[1], 0]]
        )
        wanted = np.append(ratio * expected * weight, _SCALE_PRIOR[0] / _SCALE_PRIOR[1])
        model = nnls(design, wanted)[0]
        model[0] = max(model[0], 1e-3)
    return float(model[0]), float(model[1])

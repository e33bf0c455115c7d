"""Whether zeropoints differ over a frame, as behind clouds: position terms of each frame, chosen by cross-validation.

The zeropoint of a frame at a place is its mean over the frame plus a polynomial of degree 0, 1 or 2 (see
:mod:`skylake.core.position_terms`). The polynomials are fitted with the weights of Tukey's biweight, and each star is
predicted from the others; a higher degree must predict the stars clearly better than a lower one. Most frames need
none, so a frame is looked at only if a single step from its mean promises a gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.core.position_terms import n_position_terms, position_offset, term_mean_squares
from skylake.core.robust import BIWEIGHT_CUT, FORMAL_WEIGHT, LEAST_SLOPE

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Largest degree. Stars of one frame tell no more against a catalog, and clouds drift while it is exposed.
MOST_DEGREE = 2
#: Cross-validation must gain so much chi-square for a higher degree, which chance brings to one frame in fifty, and so
#: much for each star, as in :mod:`skylake.calibration.frame_solution`.
_GAIN, _GAIN_PER_STAR = 4.0, 0.01
#: A frame is looked at if the first step gains half of that beyond what the number of terms explains.
_PROMISE = 0.5 * _GAIN
#: A frame needs so many stars for each coefficient.
_STARS_PER_TERM = 5
#: Prior error of each coefficient about 0, magnitudes; it keeps terms small that no star fixes.
_PRIOR_MAG = 0.2
#: Tuning constant of Huber's weights, with which fits start: what is beyond loses weight slowly, wherever it is.
_HUBER_CUT = 1.345
_HUBER_ROUNDS, _ROUNDS, _TOLERANCE = 10, 40, 1e-5
_SIZE = 1 + n_position_terms(MOST_DEGREE)


@dataclass(frozen=True, slots=True)
class FrameGradients:
    """Position terms of frames; arrays of shape (n_frames, …).

    Attributes
    ----------
    degree : ndarray of int, shape (n_frames,)
        0 for a frame without terms of its own; what follows is then without meaning.
    zp, zp_err : ndarray, shape (n_frames,)
        Mean over the frame, and its standard error.
    terms : ndarray, shape (n_frames, n_terms)
        Coefficients, 0 above the degree.
    error : ndarray, shape (n_frames,)
        Standard error of the offset, rms over the frame.
    share : ndarray, shape (n,)
        Share of its weight that each star kept, 0 to 1.
    pull : ndarray, shape (n,)
        By how much the zeropoint follows each star; these add up to 1 in each frame.
    """

    degree: npt.NDArray[np.int64]
    zp: Floats
    zp_err: Floats
    terms: Floats
    error: Floats
    share: Floats
    pull: Floats

    @property
    def n_coefficients(self) -> npt.NDArray[np.int64]:
        """How many coefficients each frame has, with its mean."""
        return np.asarray(1 + self.degree * (self.degree + 3) // 2)

    def offset(self, frame: Places, u: Floats, v: Floats) -> Floats:
        """Return the offsets at places on frames, shape as `frame`; 0 on frames without terms."""
        found = np.zeros(len(frame))
        some = self.degree[frame] > 0
        if some.any():
            found[some] = position_offset(self.terms[frame[some]], u[some], v[some])
        return found


def fit_gradients(
    values: Floats,
    spread: Floats,
    places: tuple[Floats, Floats],
    starts: Places,
    means: Floats,
    most_degree: int = MOST_DEGREE,
) -> FrameGradients:
    """Fit the position terms of frames.

    Parameters
    ----------
    values, spread : ndarray, shape (n,)
        Zeropoint that each star shows, frame by frame, and its standard error; finite.
    places : (ndarray, ndarray), shape (n,)
        Of the stars on their frames, u and v of :func:`skylake.core.position_terms.field_coordinates`. A frame with a
        star whose place is NaN has no terms.
    starts : ndarray of int, shape (n_frames + 1,)
        Where each frame begins, and where the last ends.
    means : ndarray, shape (n_frames,)
        Robust means of the values of frames.
    most_degree : int
        Largest degree; 0 for no terms.
    """
    n_frames, n = len(starts) - 1, len(values)
    found = FrameGradients(
        np.zeros(n_frames, np.int64),
        np.full(n_frames, np.nan),
        np.full(n_frames, np.nan),
        np.zeros((n_frames, _SIZE - 1)),
        np.full(n_frames, np.nan),
        np.zeros(n),
        np.zeros(n),
    )
    if n == 0 or most_degree == 0:
        return found
    sizes = 1 + np.array([n_position_terms(degree) for degree in range(min(most_degree, MOST_DEGREE) + 1)])
    squares = term_mean_squares(MOST_DEGREE)
    filled = found.degree, found.zp, found.zp_err, found.terms, found.error, found.share, found.pull
    _fill(values, spread, places, starts, means, sizes, squares, filled)
    return found


@kernel(error_model="numpy")
def _fill(
    values: Floats,
    spread: Floats,
    places: tuple[Floats, Floats],
    starts: Places,
    middle: Floats,
    sizes: Places,
    squares: Floats,
    filled: tuple[npt.NDArray[np.int64], Floats, Floats, Floats, Floats, Floats, Floats],
) -> None:
    """Write what :class:`FrameGradients` holds, in the order of its attributes."""
    (u, v), (degree, zp, zp_err, terms, error, share, pull) = places, filled
    for frame in range(len(starts) - 1):
        low, high = starts[frame], starts[frame + 1]
        if high - low < _STARS_PER_TERM * sizes[1] or np.isnan(u[low:high].sum() + v[low:high].sum()):
            continue
        mine, spreads, design = values[low:high], spread[low:high], _design(u[low:high], v[low:high])
        if not _promises(mine, spreads, design, middle[frame], sizes):
            continue
        least = np.inf
        for trial in range(len(sizes)):
            k = sizes[trial]
            if high - low < _STARS_PER_TERM * k:
                break
            left, weight = np.empty(high - low), np.empty(high - low)
            fit = _robust(mine, spreads, design, k, middle[frame], left, weight)
            loss = _left_out_loss(left, design, k, spreads, weight)
            if trial > 0 and loss >= least - _GAIN - _GAIN_PER_STAR * (high - low):
                continue
            least = loss
            if trial > 0:
                variances = _variances(left, design, k, spreads, weight)
                degree[frame], zp[frame] = trial, middle[frame] + fit[0]
                zp_err[frame], terms[frame, : k - 1] = np.sqrt(variances[0]), fit[1:]
                error[frame] = np.sqrt(np.sum(variances[1:] * squares[: k - 1]))
                share[low:high] = weight * spreads**2
                inverse = _inverse(_normal(design, weight, k), k)
                for i in range(high - low):
                    pull[low + i] = 0.0
                    for a in range(k):
                        pull[low + i] += inverse[0, a] * design[i, a] * weight[i]


@kernel(error_model="numpy")
def _design(u: Floats, v: Floats) -> Floats:
    """Return 1 and :func:`skylake.core.position_terms.position_basis` of degree 2, shape (n, 6)."""
    design = np.ones((len(u), _SIZE))
    for i in range(len(u)):
        x, y = min(max(u[i], -1.0), 1.0), min(max(v[i], -1.0), 1.0)
        design[i, 1], design[i, 2], design[i, 4] = x, y, x * y
        design[i, 3], design[i, 5] = 1.5 * x * x - 0.5, 1.5 * y * y - 0.5
    return design


@kernel(error_model="numpy")
def _promises(values: Floats, spread: Floats, design: Floats, middle: float, sizes: Places) -> bool:
    """Tell whether a step from the mean gains more for one of the degrees than its number of terms explains."""
    n, size = design.shape
    weight, sums = np.empty(n), np.zeros(size)
    for i in range(n):
        u = abs(values[i] - middle) / spread[i]
        weight[i] = (1.0 if u < _HUBER_CUT else _HUBER_CUT / u) / spread[i] ** 2
        for a in range(size):
            sums[a] += weight[i] * design[i, a] * (values[i] - middle)
    normal = _normal(design, weight, size)
    for k in sizes[1:]:
        inverse = _inverse(normal, k)
        gain = -(sums[0] ** 2) / normal[0, 0]
        for a in range(k):
            for b in range(k):
                gain += sums[a] * inverse[a, b] * sums[b]
        if gain > 2.0 * (k - 1) + _PROMISE:
            return True
    return False


@kernel(error_model="numpy")
def _normal(design: Floats, weight: Floats, k: int) -> Floats:
    """Return the normal matrix of the first k coefficients, with the prior of the terms."""
    normal = np.zeros((k, k))
    for i in range(len(weight)):
        for a in range(k):
            weighted = weight[i] * design[i, a]
            for b in range(a + 1):
                normal[a, b] += weighted * design[i, b]
    for a in range(k):
        for b in range(a):
            normal[b, a] = normal[a, b]
        normal[a, a] += 1.0 / _PRIOR_MAG**2 if a > 0 else 0.0
    return normal


@kernel(error_model="numpy")
def _inverse(normal: Floats, k: int) -> Floats:
    """Return the inverse of the first k rows and columns of a normal matrix, by Gauss and Jordan."""
    inverse = normal[:k, :k].copy()
    for pivot in range(k):
        scale = 1.0 / inverse[pivot, pivot]
        inverse[pivot, pivot] = 1.0
        for b in range(k):
            inverse[pivot, b] *= scale
        for a in range(k):
            if a != pivot:
                factor = inverse[a, pivot]
                inverse[a, pivot] = 0.0
                for b in range(k):
                    inverse[a, b] -= factor * inverse[pivot, b]
    return inverse


@kernel(error_model="numpy")
def _robust(
    values: Floats, spread: Floats, design: Floats, k: int, middle: float, left: Floats, weight: Floats
) -> Floats:
    """Return coefficients relative to the middle; write what is left of each value, and the weight that it keeps."""
    n = len(values)
    fit, step = np.zeros(k), np.zeros(k)
    for number in range(_HUBER_ROUNDS + _ROUNDS):
        sums, kept = np.zeros(k), 0.0
        for i in range(n):
            left[i] = values[i] - middle
            for a in range(k):
                left[i] -= design[i, a] * fit[a]
            u = abs(left[i]) / spread[i]
            if number < _HUBER_ROUNDS:
                share = 1.0 if u < _HUBER_CUT else _HUBER_CUT / u
            else:
                share = (1.0 - (u / BIWEIGHT_CUT) ** 2) ** 2 if u < BIWEIGHT_CUT else 0.0
            kept += share
            weight[i] = share / spread[i] ** 2
            for a in range(k):
                sums[a] += weight[i] * design[i, a] * (values[i] - middle)
        if kept < k or (number > _HUBER_ROUNDS and np.abs(step).max() < _TOLERANCE):
            break
        inverse = _inverse(_normal(design, weight, k), k)
        for a in range(k):
            renewed = 0.0
            for b in range(k):
                renewed += inverse[a, b] * sums[b]
            step[a], fit[a] = renewed - fit[a], renewed
    return fit


@kernel(error_model="numpy")
def _left_out_loss(left: Floats, design: Floats, k: int, spread: Floats, weight: Floats) -> float:
    """Return the sum of the biweight's loss of stars that are predicted from the others; chi-square of small ones."""
    n = len(left)
    if np.sum(weight * spread**2) < k:
        # Stars that exclude each other predict nothing.
        return n * BIWEIGHT_CUT**2 / 3.0
    inverse, loss = _inverse(_normal(design, weight, k), k), 0.0
    for i in range(n):
        leverage = 0.0
        for a in range(k):
            for b in range(k):
                leverage += design[i, a] * inverse[a, b] * design[i, b]
        square = (left[i] / max(1.0 - weight[i] * leverage, 1e-3) / spread[i] / BIWEIGHT_CUT) ** 2
        loss += 1.0 - (1.0 - square) ** 3 if square < 1.0 else 1.0
    return loss * BIWEIGHT_CUT**2 / 3.0


@kernel(error_model="numpy")
def _variances(left: Floats, design: Floats, k: int, spread: Floats, weight: Floats) -> Floats:
    """Return the variances of the coefficients: the sandwich of :func:`skylake.core.robust.robust_fit`."""
    slope, kept, n_inside = 0.0, 0.0, 0
    for i in range(len(left)):
        square = (left[i] / spread[i] / BIWEIGHT_CUT) ** 2
        if square < 1.0:
            slope += (1.0 - square) * (1.0 - 5.0 * square)
            kept += (1.0 - square) ** 2
            n_inside += 1
    bread = _inverse(_normal(design, max(slope / kept, LEAST_SLOPE) * weight, k), k)
    free = max(n_inside - k, 0)
    meat = _normal(design, (weight * left) ** 2 * n_inside / max(free, 1), k)
    variances = np.empty(k)
    for t in range(k):
        scattered = 0.0
        for a in range(k):
            for b in range(k):
                scattered += bread[t, a] * meat[a, b] * bread[b, t]
        variances[t] = (free * scattered + FORMAL_WEIGHT * bread[t, t]) / (free + FORMAL_WEIGHT)
    return variances

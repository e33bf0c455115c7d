"""Robust fits of a lens to stars, with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.robust import biweight, intrinsic_scatter
from skylake.image.wcs.crossvalidation import inverse
from skylake.image.wcs.lens import NAMES, Lens

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: What lenses do: shares of the half diagonal by which each parameter may move a corner, one standard deviation.
_DEFAULT_SIGMA = {4: 0.1, 5: 0.1, 6: 0.3, 7: 0.2, 8: 0.1, 9: 0.03, 10: 0.03, 11: 0.02, 12: 0.02}
#: Half of the squared residuals in two coordinates, in variances of one, are below this.
MEDIAN_SQUARE = 2.0 * math.log(2.0)
#: Residuals of so many standard deviations of a coordinate have no weight.
CUT = 5.0
#: How far off a star is that the lens does not show.
_FAR_PX = 1e6
_ITERATIONS = 30
_HALVINGS = 6
#: A step that moves stars no farther than this, root mean square, is the last.
STILL_PX = 1e-4
#: Errors are given for so many places along each side of an image.
_GRID = 12
#: How many values the errors stated for stars are worth against what is left of them.
_FORMAL_WEIGHT = 5.0
#: No star is known better.
_LEAST_SIGMA_PX = 1e-4


@dataclass(frozen=True, slots=True)
class StarPairs:
    """Stars and where they were found.

    Attributes
    ----------
    vectors : ndarray, shape (n, 3)
        Unit vectors.
    x, y, sigma : ndarray, shape (n,)
        0-based pixels, and the standard deviation of each coordinate.
    """

    vectors: Floats
    x: Floats
    y: Floats
    sigma: Floats

    def taken(self, which: npt.NDArray[np.intp] | Mask) -> StarPairs:
        """Return some of the pairs."""
        return StarPairs(self.vectors[which], self.x[which], self.y[which], self.sigma[which])


@dataclass(frozen=True, slots=True)
class LensPrior:
    """Prior knowledge of a lens, before its stars are used.

    Attributes
    ----------
    values, sigma : ndarray, shape (13,)
        What parameters are, and standard deviations by which those that are fitted may differ.
    covariance : ndarray, shape (13, 13), or None
        Of the values of those that are not fitted; None takes them for exact.
    """

    values: Floats
    sigma: Floats
    covariance: Floats | None = None

    @classmethod
    def default(cls, lens: Lens, shape: tuple[int, int]) -> LensPrior:
        """Return what is expected of any lens: its centre near that of the image, some distortion.

        Where parameters do the same to a field, as the centre and the attitude of a narrow one, this keeps them
        finite; parameters that the stars constrain are not affected.
        """
        half = 0.5 * math.hypot(*shape)
        reach = half / lens.focal_px
        units = np.array(
            [1, 1, 1, 1, half, half, reach**-2, reach**-4, reach**-6, 1 / reach, 1 / reach, 1, 1]
        )
        sigma = np.full(len(NAMES), np.inf)
        sigma[list(_DEFAULT_SIGMA)] = units[list(_DEFAULT_SIGMA)] * list(_DEFAULT_SIGMA.values())
        values = np.zeros(len(NAMES))
        values[4:6] = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
        return cls(values, sigma)


@dataclass(frozen=True, slots=True)
class LensFit:
    """A lens and how well it is known.

    Attributes
    ----------
    lens : Lens
    freed : ndarray of int
        The parameters that the stars ask for, indices into :data:`~skylake.image.wcs.lens.NAMES`.
    covariance : ndarray, shape (13, 13)
        Of a step of :meth:`Lens.moved`; 0 where a parameter was not fitted.
    residuals : ndarray, shape (2, n)
        Measured minus predicted, pixels; NaN where the lens does not show the star.
    weights : ndarray, shape (n,)
        Share of its weight that each star kept, 0 to 1.
    scatter_px : float
        Scatter of each coordinate beyond the stated errors.
    fitted : ndarray of int
        All parameters that moved: those that are not freed stay near what is expected, but count for the errors.
    expected : LensPrior
        What was known of them before.
    """

    lens: Lens
    freed: npt.NDArray[np.intp]
    covariance: Floats
    residuals: Floats
    weights: Floats
    scatter_px: float
    fitted: npt.NDArray[np.intp]
    expected: LensPrior

    def uncertainty(self, x: Floats, y: Floats) -> Floats:
        """Return the standard deviations of both coordinates of places on the image, shape (2, n), pixels.

        NaN where the lens shows nothing.
        """
        return self.uncertainty_of(self.lens.to_vectors(x, y))

    def uncertainty_of(self, vectors: Floats) -> Floats:
        """Return the same for where directions, shape (n, 3), are seen."""
        derivatives = self.lens.derivatives(vectors)[1]
        # Without libraries that would wake further threads for it.
        weighted = np.einsum("ij,jcn->icn", self.covariance, derivatives)
        spread = np.einsum("icn,icn->cn", weighted, derivatives)
        return np.asarray(np.sqrt(np.maximum(spread, 0.0)))

    def err_px(self, shape: tuple[int, int]) -> float:
        """Return the standard deviation of places, root mean square over an image, both coordinates together."""
        y, x = (
            axis.ravel()
            for axis in np.meshgrid(
                *((np.arange(_GRID) + 0.5) * n / _GRID - 0.5 for n in shape), indexing="ij"
            )
        )
        return math.sqrt(float(np.nanmean(np.sum(self.uncertainty(x, y) ** 2, axis=0))))


def fit_lens(
    start: Lens, pairs: StarPairs, freed: npt.ArrayLike, expected: LensPrior, still_px: float = STILL_PX
) -> LensFit:
    """Fit some parameters of a lens to stars by Gauss-Newton steps with Tukey's biweight.

    Parameters
    ----------
    start : Lens
        Near enough that each pair is one star.
    pairs : StarPairs
    freed : array_like of int
        Which parameters to fit.
    expected : LensPrior
        What is known of them before.
    still_px : float
        A step that moves stars no farther than this, root mean square, is the last.
    """
    problem = _Problem(pairs, np.asarray(freed, np.intp), expected)
    lens, residuals, derivatives = start, *differences(start, pairs)
    scatter, weights = _weigh(residuals, pairs.sigma)
    for _ in range(_ITERATIONS):
        weighing = weights * precision(pairs, scatter)
        spread, gradient = problem.normal(lens, residuals, derivatives, weighing)
        step = np.zeros(len(NAMES))
        step[problem.which] = spread @ gradient
        moved = np.tensordot(step, derivatives, axes=1)
        lens, residuals, derivatives = problem.stepped(lens, step, residuals, weighing)
        scatter, weights = _weigh(residuals, pairs.sigma)
        if not np.sqrt(np.mean(moved**2)) > still_px:
            break
    return problem.concluded(lens, residuals, derivatives)


def differences(lens: Lens, pairs: StarPairs) -> tuple[Floats, Floats]:
    """Return residuals (NaN where the lens does not show a star) and derivatives (0 there)."""
    places, derivatives = lens.derivatives(pairs.vectors)
    return np.array([pairs.x, pairs.y]) - places, np.where(np.isfinite(places).all(axis=0), derivatives, 0.0)


def known_or(instead: float, values: Floats) -> Floats:
    """Return values with another one in place of NaN."""
    return np.where(np.isnan(values), instead, values)


def precision(pairs: StarPairs, scatter: float) -> Floats:
    """Return the weight of each coordinate of the stars: one over its variance, with a scatter beyond the errors."""
    return np.asarray(1.0 / (np.maximum(pairs.sigma, _LEAST_SIGMA_PX) ** 2 + scatter**2))


def _weigh(residuals: Floats, sigma: Floats) -> tuple[float, Floats]:
    """Return the scatter beyond the stated errors, by the median, and the weights that follow."""
    squares = known_or(np.inf, np.sum(residuals**2, axis=0))
    variance = np.maximum(sigma, _LEAST_SIGMA_PX) ** 2
    scatter = max(float(np.median(squares - MEDIAN_SQUARE * variance)) / MEDIAN_SQUARE, 0.0)
    scatter = scatter if math.isfinite(scatter) else float(np.max(squares[np.isfinite(squares)], initial=1.0))
    return math.sqrt(scatter), biweight(np.sqrt(squares / (variance + scatter)), CUT)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Stars, the parameters to fit to them, and what is known of these before."""

    pairs: StarPairs
    which: npt.NDArray[np.intp]
    expected: LensPrior

    def normal(
        self, lens: Lens, residuals: Floats, derivatives: Floats, weighing: Floats
    ) -> tuple[Floats, Floats]:
        """Return the inverse of the normal matrix, and the gradient; `weighing` has the shape (n,)."""
        mine = derivatives[self.which]
        weighted = mine * weighing
        matrix = np.tensordot(weighted, mine, axes=([1, 2], [1, 2]))
        gradient = np.tensordot(weighted, known_or(0.0, residuals), axes=([1, 2], [0, 1]))
        prior = self.expected.sigma[self.which] ** -2.0
        off = np.where(prior > 0.0, self.expected.values[self.which] - lens.parameters()[self.which], 0.0)
        return inverse(matrix + np.diag(prior)), gradient + prior * off

    def stepped(
        self, lens: Lens, step: Floats, residuals: Floats, weighing: Floats
    ) -> tuple[Lens, Floats, Floats]:
        """Take a step, or a part of it if the whole would lead uphill."""
        before, share = self._cost(lens, residuals, weighing), 1.0
        for _ in range(_HALVINGS):
            trial = lens.moved(share * step)
            left, derivatives = differences(trial, self.pairs)
            if self._cost(trial, left, weighing) <= before * (1.0 + 1e-9):
                break
            share *= 0.5
        return trial, left, derivatives

    def _cost(self, lens: Lens, residuals: Floats, weighing: Floats) -> float:
        squares = np.minimum(known_or(np.inf, np.sum(residuals**2, axis=0)), _FAR_PX**2)
        off = np.where(np.isfinite(self.expected.sigma), lens.parameters() - self.expected.values, 0.0)
        return float(weighing @ squares + np.sum((off / self.expected.sigma) ** 2))

    def concluded(self, lens: Lens, residuals: Floats, derivatives: Floats) -> LensFit:
        """Return the fit with its covariance: that of an M-estimate (Huber & Ronchetti 2009, sec. 7.6)."""
        seen: Mask = np.asarray(np.isfinite(residuals).all(axis=0))
        errors = np.maximum(self.pairs.sigma, _LEAST_SIGMA_PX)
        lost = self._lost(lens, derivatives, seen)
        scatter = intrinsic_scatter(residuals[:, seen].ravel(), np.tile(errors[seen], 2), round(lost))
        weighing = precision(self.pairs, scatter)
        squares = known_or(np.inf, np.sum(residuals**2, axis=0) * weighing)
        weights = biweight(np.sqrt(squares), CUT)
        spread, _ = self.normal(lens, residuals, derivatives, seen * weighing)
        covariance = np.zeros((len(NAMES), len(NAMES)))
        covariance[np.ix_(self.which, self.which)] = spread / _efficiency(squares[seen], weights[seen], lost)
        if self.expected.covariance is not None:
            covariance += self._of_the_others(spread, derivatives, seen * weighing)
        return LensFit(lens, self.which, covariance, residuals, weights, scatter, self.which, self.expected)

    def _of_the_others(self, spread: Floats, derivatives: Floats, weighing: Floats) -> Floats:
        """Return the covariance that comes of parameters that are not fitted; those that are follow them."""
        others = np.setdiff1d(np.arange(len(NAMES)), self.which)
        weighted = derivatives[self.which] * weighing
        across = np.tensordot(weighted, derivatives[others], axes=([1, 2], [1, 2]))
        follows = np.zeros((len(NAMES), len(others)))
        follows[others, np.arange(len(others))] = 1.0
        follows[self.which] = -spread @ across
        assert self.expected.covariance is not None
        return np.asarray(follows @ self.expected.covariance[np.ix_(others, others)] @ follows.T)

    def _lost(self, lens: Lens, derivatives: Floats, seen: Mask) -> float:
        """Return the degrees of freedom that the fit takes from the stars: what is known before takes none."""
        weighing = seen * precision(self.pairs, 0.0)
        spread, _ = self.normal(lens, np.zeros((2, len(seen))), derivatives, weighing)
        prior = self.expected.sigma[self.which] ** -2.0
        return len(self.which) - float(np.diag(spread) @ prior)


def _efficiency(squares: Floats, weights: Floats, lost: float) -> float:
    """Return the information that the weights leave, as a share of that of Gaussian residuals of unit variance.

    The residuals are smaller than the errors by what the fit has taken, `lost` degrees of freedom.
    """
    if squares.size == 0:
        return 1.0
    inner = np.clip(1.0 - squares / CUT**2, 0.0, 1.0)
    # The mean slope of the weighted residual over the directions in the plane.
    slope = float(np.mean(weights - 2.0 * inner * squares / CUT**2))
    # Where few are left to give the scatter, the errors stated for the stars do.
    freedom = max(2.0 * len(squares) - lost, 0.0)
    sum_of_squares = float(np.sum(weights**2 * np.minimum(squares, CUT**2))) + _FORMAL_WEIGHT
    mean_square = sum_of_squares / (freedom + _FORMAL_WEIGHT)
    return max(slope, 0.5 * float(weights.mean()), 1e-3) ** 2 / max(mean_square, 1e-3)

"""The sparse least-squares problem of the global solution, solved by LSMR without a matrix.

LSMR (Fong & Saunders 2011, SIAM J. Sci. Comput. 33, 2950) needs products with the matrix and its transpose only.
Columns are scaled: stars, extinction and colour term each by their norm, the terms of a frame and those of the
illumination together by the Cholesky factor of their block of the normal matrix.

Repeats leave some combinations of parameters open, which the catalog alone fixes, a thousand times more weakly: the
magnitudes of a connected group moved together with its zeropoints, or a slope of the illumination that slopes of
magnitudes over the sky make good. LSMR finds such combinations last. They are therefore given to it as further
unknowns (:class:`Weak`), each scaled to what the catalog knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.calibration.global_kernels import Layout, gather_back, normal_blocks, predict
from skylake.core.position_terms import degree_of

Floats = npt.NDArray[np.float64]
#: The illumination's scale needs no more than so many observations.
_ENOUGH = 400_000
#: Terms of an illumination: what flat fields usually leave, magnitudes, the factor by which cameras differ, and the
#: smallest size to be considered.
_USUAL_SIZE, _SIZE_FACTOR, _SMALLEST_SIZE = 0.015, 3.0, 0.001


@dataclass(frozen=True)
class Parameters:
    """All unknowns in one vector, with views of its pieces.

    Attributes
    ----------
    vector : ndarray, shape (p,)
    sizes : (int, int, int, int, int)
        Numbers of stars, frames, coefficients of a frame (its zeropoint included), terms of the illumination,
        and nights.
    """

    sizes: tuple[int, int, int, int, int]
    vector: Floats
    star: Floats = field(init=False)
    frame: Floats = field(init=False)
    illumination: Floats = field(init=False)
    extinction: Floats = field(init=False)
    colour: Floats = field(init=False)

    def __post_init__(self) -> None:
        stars, frames, own, terms, nights = self.sizes
        ends = np.cumsum([stars, frames * own, terms, nights, 1])
        pieces = np.split(self.vector, ends[:-1])
        pieces[1] = pieces[1].reshape(frames, own)
        for name, piece in zip(
            ("star", "frame", "illumination", "extinction", "colour"), pieces, strict=True
        ):
            object.__setattr__(self, name, piece)

    @classmethod
    def zeros(cls, stars: int, frames: int, own: int, terms: int, nights: int) -> Parameters:
        """Return parameters that are all zero."""
        return cls((stars, frames, own, terms, nights), np.zeros(stars + frames * own + terms + nights + 1))

    def like(self, vector: Floats) -> Parameters:
        """Return another vector with the same pieces."""
        return Parameters(self.sizes, vector)

    def predicted(self, layout: Layout, out: Any) -> None:
        """Write the instrumental magnitude of each observation."""
        degree = degree_of(len(self.illumination))
        predict(layout, self.star, self.frame, self.illumination, self.extinction, degree, out)


@dataclass(frozen=True)
class Tie:
    """Stars that the catalog has: the equations natural magnitude + colour term x colour = catalog magnitude.

    Attributes
    ----------
    star, group : ndarray of int, shape (n_tied,)
    magnitude, colour, weight : ndarray, shape (n_tied,)
    """

    star: npt.NDArray[np.int64]
    group: npt.NDArray[np.int64]
    magnitude: Floats
    colour: Floats
    weight: Floats

    def residuals(self, at: Parameters) -> Floats:
        """Return catalog minus model, shape (n_tied,)."""
        return np.asarray(self.magnitude - at.star[self.star] - at.colour[0] * self.colour)


@dataclass(frozen=True)
class Weak:
    """Combinations of parameters that repeats leave open, or nearly so.

    Attributes
    ----------
    star_group, frame_group : ndarray of int, shape (n_stars,), (n_frames,)
        Connected group, whose magnitudes and zeropoints may move together; -1 for none.
    n_groups : int
    patterns : ndarray, shape (n_patterns, p)
        Terms of the illumination with what stars and frames best make good of them.
    measured : ndarray, shape (n_patterns, n_patterns)
        Their normal matrix, without the prior of the illumination.
    precision : float
        Of that prior: 1 / variance of each term.
    """

    star_group: npt.NDArray[np.int64]
    frame_group: npt.NDArray[np.int64]
    n_groups: int
    patterns: Floats
    measured: Floats
    precision: float = 0.0

    @property
    def information(self) -> Floats:
        """Their normal matrix with the prior, shape (n_patterns, n_patterns)."""
        return np.asarray(self.measured + self.precision * np.eye(len(self.measured)))

    @cached_property
    def scaled(self) -> Floats:
        """The patterns as combinations that are independent, each of the size of its error."""
        if len(self.patterns) == 0:
            return self.patterns
        return np.asarray(np.linalg.solve(np.linalg.cholesky(self.information), self.patterns))

    @property
    def covariance(self) -> Floats:
        """Covariance of the illumination, shape (n_patterns, n_patterns)."""
        return np.asarray(np.linalg.inv(self.information))


class System:
    """The weighted equations around some parameters.

    Parameters
    ----------
    layout : Layout
    weights : ndarray, shape (n,)
        Of the observations.
    tie : Tie
    prior : Parameters
        Precisions (1 / variance) of priors; infinite for what stays fixed.
    weak : Weak
    """

    def __init__(self, layout: Layout, weights: Any, tie: Tie, prior: Parameters, weak: Weak) -> None:
        self.layout, self.tie, self.prior, self.weak = layout, tie, prior, weak
        self.roots = np.sqrt(weights)
        self.tie_roots = np.sqrt(tie.weight)
        self.free = np.isfinite(prior.vector)
        self.prior_roots = np.sqrt(np.where(self.free, prior.vector, 0.0))
        self.degree = degree_of(len(prior.illumination))
        self._scale(weights)

    def _scale(self, weights: Any) -> None:
        """Find the scale of each column, of frames and illumination as triangular matrices."""
        prior, layout, tie = self.prior, self.layout, self.tie
        own = prior.sizes[2]
        blocks = np.zeros((len(layout.starts) - 1, own + 1, own + 1))
        normal_blocks(layout, weights, degree_of(own - 1), 1, blocks)
        self.frame_scale = inverse_factors(blocks[:, :own, :own], prior.frame)
        norms = prior.like(prior.vector.copy())
        norms.star[:] += np.bincount(layout.star, weights, len(norms.star))
        norms.star[:] += np.bincount(tie.star, tie.weight, len(norms.star))
        norms.extinction[:] += np.bincount(layout.night_of_frame, blocks[:, own, own], len(norms.extinction))
        norms.colour[:] += tie.weight @ tie.colour**2
        by_group = np.bincount(tie.group, tie.weight, self.weak.n_groups)
        with np.errstate(divide="ignore"):
            self.scale = np.where(norms.vector > 0.0, 1.0 / np.sqrt(norms.vector), 0.0)
            self.shift_scale = np.where(by_group > 0.0, 1.0 / np.sqrt(by_group), 0.0)
        self.scale[~self.free] = 0.0
        terms = 1 + len(prior.illumination)
        step = 1 + len(weights) // _ENOUGH
        total = np.zeros((1, terms + 1, terms + 1))
        normal_blocks(layout, weights, self.degree, step, total)
        self.illumination_scale = inverse_factors(step * total[:, 1:-1, 1:-1], prior.illumination[None])[0]

    def unscaled(self, scaled: Floats) -> Floats:
        """Return the parameters that scaled ones, with those of the weak combinations after them, stand for."""
        p, weak = len(self.scale), self.weak
        found = self.prior.like(scaled[:p] * self.scale)
        given = self.prior.like(scaled[:p])
        found.frame[:] = np.einsum("fij,fj->fi", self.frame_scale, given.frame)
        found.illumination[:] = self.illumination_scale @ given.illumination
        # The group -1 takes the last value, 0.
        shift = np.append(self.shift_scale * scaled[p : p + weak.n_groups], 0.0)
        found.star[:] += shift[weak.star_group]
        found.frame[:, 0] += shift[weak.frame_group]
        found.vector[:] += scaled[p + weak.n_groups :] @ weak.scaled
        return found.vector

    def _scaled_back(self, sums: Parameters) -> Floats:
        weak = self.weak
        found = self.prior.like(sums.vector * self.scale)
        found.frame[:] = np.einsum("fij,fi->fj", self.frame_scale, sums.frame)
        found.illumination[:] = self.illumination_scale.T @ sums.illumination
        shift = np.bincount(weak.star_group + 1, sums.star, weak.n_groups + 1)[1:]
        shift += np.bincount(weak.frame_group + 1, sums.frame[:, 0], weak.n_groups + 1)[1:]
        return np.concatenate([found.vector, self.shift_scale * shift, weak.scaled @ sums.vector])

    def rows_of(self, vector: Floats) -> Floats:
        """Return the weighted rows that parameters predict: of observations, ties and priors."""
        at = self.prior.like(vector)
        n, tied = len(self.roots), len(self.tie_roots)
        out = np.empty(n + tied + len(at.vector))
        at.predicted(self.layout, out[:n])
        out[:n] *= self.roots
        out[n : n + tied] = self.tie_roots * (at.star[self.tie.star] + at.colour[0] * self.tie.colour)
        out[n + tied :] = self.prior_roots * at.vector
        return out

    def gradient(self, rows: Floats) -> Parameters:
        """Return the transpose of :meth:`rows_of` times rows."""
        n, tied = len(self.roots), len(self.tie_roots)
        sums = self.prior.like(self.prior_roots * rows[n + tied :])
        gather_back(
            self.layout,
            rows[:n] * self.roots,
            self.degree,
            sums.star,
            sums.frame,
            sums.illumination,
            sums.extinction,
        )
        by_tie = self.tie_roots * rows[n : n + tied]
        sums.star[:] += np.bincount(self.tie.star, by_tie, len(sums.star))
        sums.colour[:] += by_tie @ self.tie.colour
        return sums

    def solve(self, rows: Floats, accuracy: float, max_iterations: int) -> tuple[Floats, int]:
        """Return the parameters whose products come nearest to the right-hand sides, and the iterations.

        Parameters
        ----------
        rows : ndarray, shape (n + n_tied + p,)
            Weighted right-hand sides of observations, ties and priors.
        accuracy : float
            Of the gradient, relative to the norms of matrix and residuals.
        max_iterations : int
        """
        from scipy.sparse.linalg import LinearOperator, lsmr

        operator = LinearOperator(
            (len(rows), len(self.scale) + self.weak.n_groups + len(self.weak.patterns)),
            matvec=lambda scaled: self.rows_of(self.unscaled(scaled.ravel())),
            rmatvec=lambda given: self._scaled_back(self.gradient(given.ravel())),
            dtype=float,
        )
        found, _, iterations, *_ = lsmr(
            operator, rows, atol=accuracy, btol=0.0, conlim=0.0, maxiter=max_iterations
        )
        return self.unscaled(found), int(iterations)

    def right_hand(self, residuals: Any, at: Parameters, mean: Parameters) -> Floats:
        """Return the weighted rows that correct `at`: observed minus predicted, and priors of mean `mean`."""
        return np.concatenate(
            [
                self.roots * residuals.astype(float),
                self.tie_roots * self.tie.residuals(at),
                self.prior_roots * (mean.vector - at.vector),
            ]
        )


def weak_combinations(system: System, accuracy: float, max_iterations: int) -> tuple[Weak, int]:
    """Find for each term of the illumination what stars and frames can make good of it.

    Parameters
    ----------
    system : System
        With groups and without patterns.
    accuracy, max_iterations
        As for :meth:`System.solve`.

    Returns
    -------
    Weak
        With patterns, and the normal matrix of the illumination when all others are fitted with it; without a prior of
        the illumination.
    int
        Iterations of LSMR.
    """
    prior, tie, groups = system.prior, system.tie, system.weak
    rest = prior.like(prior.vector.copy())
    rest.illumination[:] = np.inf
    nobody = replace(
        tie,
        star=tie.star[:0],
        group=tie.group[:0],
        magnitude=tie.magnitude[:0],
        colour=tie.colour[:0],
        weight=tie.weight[:0],
    )
    others = System(system.layout, system.roots**2, nobody, rest, groups)
    patterns = np.empty((len(prior.illumination), len(prior.vector)))
    spent = 0
    for term, pattern in enumerate(patterns):
        alone = prior.like(np.zeros_like(prior.vector))
        alone.illumination[term] = 1.0
        vector, iterations = others.solve(-others.rows_of(alone.vector), accuracy, max_iterations)
        spent += iterations
        pattern[:] = alone.vector + vector
        _without_mean(prior.like(pattern), tie, groups)
    products = np.array([patterns @ system.gradient(system.rows_of(pattern)).vector for pattern in patterns])
    measured = 0.5 * (products + products.T) - np.diag(prior.illumination)
    return replace(groups, patterns=patterns, measured=measured), spent


def size_of_terms(measured: Floats, terms: Floats, largest: float) -> float:
    """Return how large the terms of an illumination are, as those which are measured well show it.

    The terms are taken for draws from a normal distribution about 0, whose width has a broad prior. The result is the
    root mean square of that width: large enough that the errors of terms which are not measured are right in the mean.

    Parameters
    ----------
    measured : ndarray, shape (k, k)
        Normal matrix of the terms without any prior.
    terms : ndarray, shape (k,)
        The right-hand sides that belong to it.
    largest : float
        Largest size, magnitudes.
    """
    precision, ways = np.linalg.eigh(measured)
    precision = np.maximum(precision, 0.0)
    size = np.geomspace(_SMALLEST_SIZE, largest, 200) if largest > _SMALLEST_SIZE else np.array([largest])
    grown = 1.0 + size[:, None] ** 2 * precision
    squares = (ways.T @ terms) ** 2 * size[:, None] ** 2 / grown
    chance = 0.5 * np.sum(squares - np.log(grown), axis=1)
    chance -= 0.5 * (np.log(size / _USUAL_SIZE) / np.log(_SIZE_FACTOR)) ** 2
    share = np.exp(chance - chance.max())
    return float(np.sqrt(share @ size**2 / share.sum()))


def _without_mean(pattern: Parameters, tie: Tie, groups: Weak) -> None:
    """Take off the shift of each group that the catalog would."""
    weight = np.bincount(tie.group, tie.weight, groups.n_groups)
    mean = np.bincount(tie.group, tie.weight * pattern.star[tie.star], groups.n_groups)
    shift = np.append(mean / np.where(weight > 0.0, weight, 1.0), 0.0)
    pattern.star[:] -= shift[groups.star_group]
    pattern.frame[:, 0] -= shift[groups.frame_group]


def inverse_factors(blocks: Floats, precisions: Floats) -> Floats:
    """Return the upper triangular inverse of the transposed Cholesky factor of each block; 0 for what stays fixed.

    Parameters
    ----------
    blocks : ndarray, shape (m, k, k)
    precisions : ndarray, shape (m, k)
        Of the priors; infinite for what stays fixed.
    """
    fixed = ~np.isfinite(precisions)
    size = blocks.shape[-1]
    matrix = np.where(fixed[:, :, None] | fixed[:, None, :], 0.0, blocks)
    diagonal = np.arange(size)
    matrix[:, diagonal, diagonal] += np.where(fixed, 1.0, precisions)
    # What no observation and no prior fixes, as a frame without stars, stays as it is; and a block that is all but
    # singular gets a Cholesky factor. The scale of columns does not change the solution.
    largest = np.max(matrix[:, diagonal, diagonal], axis=1, keepdims=True, initial=0.0)
    matrix[:, diagonal, diagonal] += 1e-6 * largest + (largest == 0.0)
    factors = np.linalg.inv(np.linalg.cholesky(matrix)).transpose(0, 2, 1)
    return np.asarray(np.where(fixed[:, :, None] | (largest == 0.0)[:, :, None], 0.0, factors))

"""Cross-validation of linear fits: which groups of parameters predict held-out values better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FOLDS = 5
#: A group is kept if unseen stars are off by so many variances more without it, for each of its parameters.
_SIGNIFICANT = 4.0
#: Mean square of Gaussian residuals in two coordinates under the weights of the fit, as a share of that without them.
_WEIGHTED_SQUARE = 0.8424
#: Eigenvalues of a normal matrix below this share of the largest are rounding.
_NEGLIGIBLE = 1e-13


@dataclass(frozen=True, slots=True)
class CrossValidationRms:
    """How far stars are from where the others predict them, root mean square, pixels; NaN with too few stars.

    Attributes
    ----------
    px : float
        Of all stars, each counting alike, as in the distance from the fit itself.
    weighted_px : float
        Under the weights of the fit, by which fits are compared: what is no star does not count.
    """

    px: float = math.nan
    weighted_px: float = math.nan


@dataclass(frozen=True, slots=True)
class LinearProblem:
    """Residuals of stars after a fit, and their change with a further step of the parameters.

    Attributes
    ----------
    derivatives : ndarray, shape (p, 2, n)
    residuals : ndarray, shape (2, n)
        Pixels.
    weights : ndarray, shape (n,)
        Of each coordinate, one over its variance, times the share that the fit left it.
    fold : ndarray of int, shape (n,)
        The part of each star; its stars are predicted from those of the other parts.
    prior : ndarray, shape (p,)
        One over the variance with which a parameter is known before; 0 for not at all.
    off : ndarray, shape (p,)
        The step to what is known before.
    """

    derivatives: Floats
    residuals: Floats
    weights: Floats
    fold: npt.NDArray[np.intp]
    prior: Floats
    off: Floats

    def chosen(
        self, always: Sequence[int], groups: Mapping[str, Sequence[int]], order: Sequence[Sequence[str]]
    ) -> tuple[list[str], CrossValidationRms]:
        """Return the groups with which unseen stars are predicted well with few parameters.

        From all groups the least useful is left out again and again, and to none the most useful is added, as long as
        each step pays; the better end is taken. One way alone may end where groups that do nearly the same hold each
        other.

        Parameters
        ----------
        always : sequence of int
            Parameters that are always fitted.
        groups : mapping of str to sequence of int
        order : sequence of sequences of str
            Groups of which each is of use only with those before it, as the powers of a polynomial.

        Returns
        -------
        kept : list of str
        distance : CrossValidationRms
            Of stars from where the others predict them.
        """
        normal, known = self._normal(), dict[frozenset[str], Floats]()

        def squares(names: frozenset[str]) -> Floats:
            if names not in known:
                which = sorted([*always, *(number for name in names for number in groups[name])])
                known[names] = self._deviations(which, *normal)
            return known[names]

        def score(names: frozenset[str]) -> float:
            return float(self.weights @ squares(names)) + _SIGNIFICANT * sum(
                len(groups[name]) for name in names
            )

        ends = [
            _descended(frozenset(groups), lambda now: [now - {name} for name in _last(now, order)], score),
            _descended(frozenset(), lambda now: [now | {name} for name in _next(now, groups, order)], score),
        ]
        best = min(ends, key=score)
        left = squares(best)
        weighted = math.sqrt(float(np.average(left, weights=self.weights)) / _WEIGHTED_SQUARE)
        return [name for name in groups if name in best], CrossValidationRms(
            math.sqrt(float(left.mean())), weighted
        )

    def _normal(self) -> tuple[Floats, Floats]:
        """Return the normal matrix and the gradient of each part, shapes (parts, p, p) and (parts, p)."""
        matrices, gradients = [], []
        for part in range(int(self.fold.max()) + 1):
            mine = self.fold == part
            derivatives = self.derivatives[..., mine]
            weighted = derivatives * self.weights[mine]
            matrices.append(np.tensordot(weighted, derivatives, axes=([1, 2], [1, 2])))
            gradients.append(np.tensordot(weighted, self.residuals[:, mine], axes=([1, 2], [0, 1])))
        return np.array(matrices), np.array(gradients)

    def _deviations(self, which: Sequence[int], matrices: Floats, gradients: Floats) -> Floats:
        """Return the squared distances left after these parameters were fitted to the other parts, the rest known."""
        fixed = np.setdiff1d(np.arange(len(self.prior)), which)
        steps = np.zeros_like(gradients)
        steps[:, fixed] = self.off[fixed]
        others = matrices.sum(axis=0) - matrices
        wanted = (
            gradients.sum(axis=0) - gradients + self.prior * self.off - (others @ steps[..., None])[..., 0]
        )
        free = others[:, which][:, :, which] + np.diag(self.prior[which])
        steps[:, which] = (inverse(free) @ wanted[:, which, None])[..., 0]
        left = self.residuals - np.einsum("np,pcn->cn", steps[self.fold], self.derivatives)
        return np.asarray(np.sum(left**2, axis=0))


def inverse(matrix: Floats) -> Floats:
    """Return the inverse of normal matrices, shape (..., p, p), whose parameters have very different units."""
    size = np.sqrt(np.maximum(np.diagonal(matrix, axis1=-2, axis2=-1), np.finfo(float).tiny))
    units = size[..., :, None] * size[..., None, :]
    values, vectors = np.linalg.eigh(matrix / units)
    # The pseudo-inverse of numpy, without the order and the signs of singular values: this is asked for in every step.
    known = np.abs(values) > _NEGLIGIBLE * np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    share = np.divide(1.0, values, out=np.zeros_like(values), where=known)
    return np.asarray((vectors * share[..., None, :]) @ np.swapaxes(vectors, -1, -2) / units)


def _descended(
    start: frozenset[str],
    steps: Callable[[frozenset[str]], list[frozenset[str]]],
    score: Callable[[frozenset[str]], float],
) -> frozenset[str]:
    """Take the best step again and again, as long as the score falls."""
    now = start
    while options := steps(now):
        best = min(options, key=score)
        if score(best) >= score(now):
            break
        now = best
    return now


def _last(names: frozenset[str], order: Sequence[Sequence[str]]) -> list[str]:
    """Return the groups on which no other depends."""
    needed = {name for chain in order for name in [name for name in chain if name in names][:-1]}
    return sorted(names - needed)


def _next(
    names: frozenset[str], groups: Mapping[str, Sequence[int]], order: Sequence[Sequence[str]]
) -> list[str]:
    """Return the groups that may be added."""
    early = {name for chain in order for name in [name for name in chain if name not in names][1:]}
    return sorted(set(groups) - names - early)

"""Which groups of parameters a linear fit needs: those without which unseen values are predicted worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FOLDS = 5
#: A group is kept if unseen stars are off by so many variances more without it, for each of its parameters.
_SIGNIFICANT = 4.0
#: Mean square of Gaussian residuals in two coordinates under the weights of the fit, as a share of that without them.
_WEIGHTED_SQUARE = 0.8424


@dataclass(frozen=True, slots=True)
class LinearProblem:
    """What is left of stars after a fit, and how it changes with a further step of the parameters.

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

    def eliminated(
        self, always: Sequence[int], groups: Mapping[str, Sequence[int]], order: Sequence[Sequence[str]]
    ) -> tuple[list[str], float]:
        """Leave out the least useful group again and again, as long as nothing is missed significantly.

        Parameters
        ----------
        always : sequence of int
            Parameters that are always fitted.
        groups : mapping of str to sequence of int
        order : sequence of sequences of str
            Groups that may go only from the last to the first, as the powers of a polynomial.

        Returns
        -------
        kept : list of str
        distance : float
            Of stars from where the others predict them, root mean square under the weights.
        """
        normal = self._normal()

        def losses(names: Sequence[str]) -> Floats:
            which = sorted([*always, *(number for name in names for number in groups[name])])
            return self._deviations(which, *normal)

        kept = list(groups)
        now = losses(kept)
        while kept:
            options = []
            for group in self._outermost(kept, order):
                found = losses([other for other in kept if other != group])
                missed = float(np.sum(self.weights * (found - now))) / len(groups[group])
                options.append((missed, group, found))
            missed, group, found = min(options, key=lambda option: option[0])
            if missed > _SIGNIFICANT:
                break
            kept.remove(group)
            now = found
        return kept, math.sqrt(float(np.average(now, weights=self.weights)) / _WEIGHTED_SQUARE)

    @staticmethod
    def _outermost(kept: Sequence[str], order: Sequence[Sequence[str]]) -> list[str]:
        held = {name for chain in order for name in [name for name in chain if name in kept][:-1]}
        return [name for name in kept if name not in held]

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
        whole, slope = matrices.sum(axis=0), gradients.sum(axis=0)
        squares = np.empty(len(self.fold))
        for part in range(len(matrices)):
            step = np.zeros(len(self.prior))
            step[fixed] = self.off[fixed]
            matrix = whole - matrices[part]
            wanted = slope - gradients[part] + self.prior * self.off - matrix @ step
            step[which] = inverse(matrix[np.ix_(which, which)] + np.diag(self.prior[which])) @ wanted[which]
            mine = self.fold == part
            left = self.residuals[:, mine] - np.tensordot(step, self.derivatives[..., mine], axes=1)
            squares[mine] = np.sum(left**2, axis=0)
        return squares


def inverse(matrix: Floats) -> Floats:
    """Return the inverse of a normal matrix whose parameters have very different units."""
    size = np.sqrt(np.maximum(np.diag(matrix), np.finfo(float).tiny))
    units = np.outer(size, size)
    return np.asarray(np.linalg.pinv(matrix / units, rcond=1e-13, hermitian=True) / units)

"""How many parameters a lens gets: as many as predict stars that the fit has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.image.lens import NAMES, Lens
from skylake.image.lensfit import Expected, LensFit, Pairs, fit_lens, inverse, precision

Floats = npt.NDArray[np.float64]

#: What belongs together and is freed together. Attitude and focal length always are.
GROUPS = {
    "k1": (6,),
    "centre": (4, 5),
    "stretch": (11, 12),
    "decentring": (9, 10),
    "k2": (7,),
    "k3": (8,),
}
BASIC = (0, 1, 2, 3)
#: Stars that it takes to free so many groups, in that order: each fit keeps some coordinates for each parameter.
_STARS_FOR_GROUPS = (8, 14, 24, 32, 40, 48)
_FOLDS = 5
#: A group is kept if unseen stars are off by so many variances more without it, for each of its parameters.
_SIGNIFICANT = 4.0


def affordable(n_stars: int) -> list[str]:
    """Return the groups of parameters that so many stars can carry."""
    return [group for group, needed in zip(GROUPS, _STARS_FOR_GROUPS, strict=True) if n_stars >= needed]


def indices(groups: list[str]) -> list[int]:
    """Return the parameters of groups, and those that are always free."""
    return sorted([*BASIC, *(number for group in groups for number in GROUPS[group])])


def choose_groups(
    fit: LensFit, pairs: Pairs, groups: list[str], expected: Expected
) -> tuple[list[str], float]:
    """Return the groups without which stars that a fit has not seen are predicted worse.

    From all groups the least useful is left out again and again, as long as nothing is missed significantly. Around
    the fit with all of them pixels are linear in the parameters, so each trial is a small linear fit.

    Parameters
    ----------
    fit : LensFit
        With all groups freed.
    pairs : Pairs
    groups : list of str
    expected : Expected

    Returns
    -------
    groups : list of str
    held_out_px : float
        Distance of stars from where the others predict them, root mean square under the weights of the fit.
    """
    trial = _Folds.of(fit, pairs, expected)
    kept, losses = list(groups), trial.losses(indices(groups))
    while kept:
        options = []
        for group in kept:
            # A higher power of the radius stays only above the lower ones.
            if group in ("k1", "k2") and f"k{int(group[1]) + 1}" in kept:
                continue
            found = trial.losses(indices([other for other in kept if other != group]))
            excess = float(np.sum(found - losses)) / len(GROUPS[group])
            options.append((excess - _SIGNIFICANT, group, found))
        missed, group, found = min(options, key=lambda option: option[0])
        if missed > 0.0:
            break
        kept.remove(group)
        losses = found
    return kept, trial.distance(indices(kept))


@dataclass(frozen=True, slots=True)
class _Folds:
    """The linear problem around a fit, cut into parts that are predicted from the others."""

    derivatives: Floats
    residuals: Floats
    weights: Floats
    fold: npt.NDArray[np.intp]
    normal: Floats
    gradient: Floats
    prior: Floats
    off: Floats

    @classmethod
    def of(cls, fit: LensFit, pairs: Pairs, expected: Expected) -> _Folds:
        """Cut the stars that the fit uses into folds."""
        used = np.flatnonzero(fit.weights > 0.0)
        derivatives = fit.lens.derivatives(pairs.vectors[used])[1]
        weights = fit.weights[used] * precision(pairs.taken(used), fit.scatter_px)
        fold = np.random.default_rng(len(used)).permutation(np.arange(len(used)) % min(_FOLDS, len(used)))
        weighted, residuals = derivatives * weights, fit.residuals[:, used]
        parts = [fold == part for part in range(int(fold.max()) + 1)]
        normal = [np.tensordot(weighted[..., p], derivatives[..., p], axes=([1, 2], [1, 2])) for p in parts]
        gradient = [np.tensordot(weighted[..., p], residuals[..., p], axes=([1, 2], [0, 1])) for p in parts]
        prior = expected.sigma**-2.0
        off = np.where(prior > 0.0, expected.values - fit.lens.parameters(), 0.0)
        return cls(derivatives, residuals, weights, fold, np.array(normal), np.array(gradient), prior, off)

    def losses(self, which: list[int]) -> Floats:
        """Return the squared deviations of each star from what the others predict, in variances."""
        return np.asarray(self.weights * np.sum(self._deviations(which) ** 2, axis=0))

    def distance(self, which: list[int]) -> float:
        """Return the root mean square of these deviations, pixels."""
        squares = np.sum(self._deviations(which) ** 2, axis=0)
        return math.sqrt(float(np.average(squares, weights=self.weights)))

    def _deviations(self, which: list[int]) -> Floats:
        """Return residuals after the rest is set to what is expected and these are fitted to the other folds."""
        fixed = np.setdiff1d(np.arange(len(NAMES)), which)
        total_normal, total_gradient = self.normal.sum(axis=0), self.gradient.sum(axis=0)
        deviations = np.empty_like(self.residuals)
        for part in range(len(self.normal)):
            step = np.zeros(len(NAMES))
            step[fixed] = self.off[fixed]
            normal, gradient = total_normal - self.normal[part], total_gradient - self.gradient[part]
            wanted = gradient + self.prior * self.off - normal @ step
            matrix = normal[np.ix_(which, which)] + np.diag(self.prior[which])
            step[which] = inverse(matrix) @ wanted[which]
            mine = self.fold == part
            deviations[:, mine] = self.residuals[:, mine] - np.tensordot(
                step, self.derivatives[..., mine], axes=1
            )
        return deviations


def simplified(lens: Lens, groups: list[str], expected: Expected) -> Lens:
    """Return the lens with what is expected for the parameters of all other groups."""
    values = lens.parameters()
    held = [number for group in GROUPS if group not in groups for number in GROUPS[group]]
    values[held] = expected.values[held]
    return Lens.from_parameters(values, lens.projection, lens.mirrored)


def fit_best_lens(
    start: Lens, pairs: Pairs, shape: tuple[int, int], expected: Expected | None = None
) -> tuple[LensFit, float]:
    """Fit a lens with the parameters that predict unseen stars, and tell how far off these are (pixels)."""
    known = Expected.usual(start, shape) if expected is None else expected
    groups = affordable(len(pairs.x))
    full = fit_lens(start, pairs, indices(groups), known)
    if not groups or np.count_nonzero(full.weights > 0.0) < _STARS_FOR_GROUPS[0]:
        return full, float("nan")
    kept, held_out = choose_groups(full, pairs, groups, known)
    if kept == groups:
        return full, held_out
    # Beyond the first few all distances are small, so the fit with all is a good start.
    return fit_lens(simplified(full.lens, kept, known), pairs, indices(kept), known), held_out


def with_projection(lens: Lens, projection: str) -> Lens:
    """Return an ideal lens of another projection that looks the same way."""
    return replace(
        lens, projection=projection, radial=(0.0, 0.0, 0.0), decentring=(0.0, 0.0), stretch=(0.0, 0.0)
    )

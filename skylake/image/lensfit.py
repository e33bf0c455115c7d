"""Fits a lens to stars: robust, with as many parameters as predict stars that the fit has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.core.robust import biweight, intrinsic_scatter
from skylake.image.lens import NAMES, Lens

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

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
#: What lenses do: shares of the half diagonal by which each parameter may move a corner, one standard deviation.
_USUAL = {4: 0.1, 5: 0.1, 6: 0.3, 7: 0.2, 8: 0.1, 9: 0.03, 10: 0.03, 11: 0.02, 12: 0.02}
#: Half of the squared residuals in two coordinates, in variances of one, are below this.
_MEDIAN_SQUARE = 2.0 * math.log(2.0)
#: Residuals of so many standard deviations of a coordinate have no weight.
_CUT = 5.0
_ITERATIONS = 30
_HALVINGS = 6
#: A step that moves no star farther than this (pixels, root mean square) is the last.
_STILL_PX = 1e-6
#: No star is known better.
_LEAST_SIGMA_PX = 1e-4
_FOLDS = 5
#: A group is kept if unseen stars are off by so many variances more without it, for each of its parameters.
_SIGNIFICANT = 4.0


@dataclass(frozen=True, slots=True)
class Pairs:
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

    def taken(self, which: npt.NDArray[np.intp] | Mask) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.vectors[which], self.x[which], self.y[which], self.sigma[which])


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a lens before its stars are seen: values and standard deviations, shape (13,) each."""

    values: Floats
    sigma: Floats

    @classmethod
    def usual(cls, lens: Lens, shape: tuple[int, int]) -> Expected:
        """Return what is expected of any lens: its centre near that of the image, some distortion.

        Where parameters do the same to a field, as the centre and the attitude of a narrow one, this keeps them
        finite; it does not matter for what the stars tell.
        """
        half = 0.5 * math.hypot(*shape)
        reach = half / lens.focal_px
        units = np.array([1, 1, 1, 1, half, half, reach**-2, reach**-4, reach**-6, 1 / reach, 1 / reach, 1, 1])
        sigma = np.full(len(NAMES), np.inf)
        sigma[list(_USUAL)] = units[list(_USUAL)] * list(_USUAL.values())
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
        The parameters that were fitted, indices into :data:`~skylake.image.lens.NAMES`.
    covariance : ndarray, shape (13, 13)
        Of a step of :meth:`Lens.moved`; 0 where a parameter was not fitted.
    residuals : ndarray, shape (2, n)
        Measured minus predicted, pixels; NaN where the lens does not show the star.
    weights : ndarray, shape (n,)
        Share of its weight that each star kept, 0 to 1.
    scatter_px : float
        Scatter of each coordinate beyond the stated errors.
    """

    lens: Lens
    freed: npt.NDArray[np.intp]
    covariance: Floats
    residuals: Floats
    weights: Floats
    scatter_px: float

    def uncertainty(self, x: Floats, y: Floats) -> Floats:
        """Return the standard deviations of both coordinates of places on the image, shape (2, n), pixels."""
        derivatives = self.lens.derivatives(self.lens.to_vectors(x, y))[1]
        return np.sqrt(np.einsum("icn,ij,jcn->cn", derivatives, self.covariance, derivatives))


def fit_lens(start: Lens, pairs: Pairs, freed: npt.ArrayLike, expected: Expected) -> LensFit:
    """Fit some parameters of a lens to stars by Gauss-Newton steps with Tukey's biweight.

    Parameters
    ----------
    start : Lens
        Near enough that each pair is one star.
    pairs : Pairs
    freed : array_like of int
        Which parameters to fit.
    expected : Expected
        What is known of them before.
    """
    which = np.asarray(freed, np.intp)
    lens, residuals, derivatives = start, *_differences(start, pairs)
    scatter, weights = _weigh(residuals, pairs.sigma)
    for _ in range(_ITERATIONS):
        inverse, gradient = _normal(lens, residuals, derivatives[which], weights, scatter, pairs, which, expected)
        step = np.zeros(len(NAMES))
        step[which] = inverse @ gradient
        moved = np.tensordot(step, derivatives, axes=1)
        lens, residuals, derivatives = _stepped(lens, step, pairs, weights, scatter, residuals, expected)
        scatter, weights = _weigh(residuals, pairs.sigma)
        if not np.sqrt(np.mean(moved**2)) > _STILL_PX:
            break
    return _concluded(lens, residuals, derivatives, pairs, which, expected)


def _differences(lens: Lens, pairs: Pairs) -> tuple[Floats, Floats]:
    """Return residuals (NaN where the lens does not show a star) and derivatives (0 there)."""
    places, derivatives = lens.derivatives(pairs.vectors)
    return np.array([pairs.x, pairs.y]) - places, np.where(np.isfinite(places).all(axis=0), derivatives, 0.0)


def _weigh(residuals: Floats, sigma: Floats) -> tuple[float, Floats]:
    """Return the scatter beyond the stated errors, by the median, and the weights that follow."""
    squares = np.nan_to_num(np.sum(residuals**2, axis=0), nan=np.inf)
    variance = np.maximum(sigma, _LEAST_SIGMA_PX) ** 2
    scatter = max(float(np.median(squares - _MEDIAN_SQUARE * variance)) / _MEDIAN_SQUARE, 0.0)
    scatter = scatter if math.isfinite(scatter) else float(np.max(squares[np.isfinite(squares)], initial=1.0))
    return math.sqrt(scatter), np.asarray(biweight(np.sqrt(squares / (variance + scatter)), _CUT))


def _precision(pairs: Pairs, scatter: float) -> Floats:
    return np.asarray(1.0 / (np.maximum(pairs.sigma, _LEAST_SIGMA_PX) ** 2 + scatter**2))


def _normal(
    lens: Lens,
    residuals: Floats,
    derivatives: Floats,
    weights: Floats,
    scatter: float,
    pairs: Pairs,
    which: npt.NDArray[np.intp],
    expected: Expected,
) -> tuple[Floats, Floats]:
    """Return the inverse of the normal matrix and the gradient."""
    weighted = derivatives * (weights * _precision(pairs, scatter))
    matrix = np.tensordot(weighted, derivatives, axes=([1, 2], [1, 2]))
    gradient = np.tensordot(weighted, np.nan_to_num(residuals), axes=([1, 2], [0, 1]))
    prior = expected.sigma[which] ** -2.0
    off = np.where(prior > 0.0, expected.values[which] - lens.parameters()[which], 0.0)
    return _inverse(matrix + np.diag(prior)), gradient + prior * off


def _inverse(matrix: Floats) -> Floats:
    """Return the inverse of a normal matrix whose parameters have very different units."""
    size = np.sqrt(np.maximum(np.diag(matrix), np.finfo(float).tiny))
    return np.asarray(np.linalg.pinv(matrix / np.outer(size, size), rcond=1e-13, hermitian=True) / np.outer(size, size))


def _stepped(
    lens: Lens,
    step: Floats,
    pairs: Pairs,
    weights: Floats,
    scatter: float,
    residuals: Floats,
    expected: Expected,
) -> tuple[Lens, Floats, Floats]:
    """Take a step, or a part of it if the whole would lead uphill."""

    def cost(trial: Lens, differences: Floats) -> float:
        squares = np.sum(differences**2, axis=0) * _precision(pairs, scatter)
        # A star that the lens does not show is as far off as any.
        capped = np.minimum(np.nan_to_num(squares, nan=np.inf), 1e12)
        prior = np.where(np.isfinite(expected.sigma), (trial.parameters() - expected.values) / expected.sigma, 0.0)
        return float(weights @ capped + np.sum(prior**2))

    before, share = cost(lens, residuals), 1.0
    for _ in range(_HALVINGS):
        trial = lens.moved(share * step)
        found, derivatives = _differences(trial, pairs)
        if cost(trial, found) <= before * (1.0 + 1e-9):
            break
        share *= 0.5
    return trial, found, derivatives


def _concluded(
    lens: Lens,
    residuals: Floats,
    derivatives: Floats,
    pairs: Pairs,
    which: npt.NDArray[np.intp],
    expected: Expected,
) -> LensFit:
    """Return the fit with its covariance: that of an M-estimate (Huber & Ronchetti 2009, sec. 7.6)."""
    seen = np.isfinite(residuals).all(axis=0)
    errors = np.maximum(pairs.sigma, _LEAST_SIGMA_PX)
    scatter = intrinsic_scatter(residuals[:, seen].ravel(), np.tile(errors[seen], 2), len(which))
    squares = np.nan_to_num(np.sum(residuals**2, axis=0) * _precision(pairs, scatter), nan=np.inf)
    weights = np.asarray(biweight(np.sqrt(squares), _CUT))
    inverse, _ = _normal(lens, residuals, derivatives[which], seen * 1.0, scatter, pairs, which, expected)
    efficiency = _efficiency(squares[seen], weights[seen])
    covariance = np.zeros((len(NAMES), len(NAMES)))
    covariance[np.ix_(which, which)] = inverse / efficiency
    return LensFit(lens, which, covariance, residuals, weights, scatter)


def _efficiency(squares: Floats, weights: Floats) -> float:
    """Return the information that the weights leave, as a share of that of Gaussian residuals of unit variance."""
    if squares.size == 0:
        return 1.0
    inner = np.clip(1.0 - squares / _CUT**2, 0.0, 1.0)
    # The mean slope of the weighted residual over the directions in the plane.
    slope = float(np.mean(weights - 2.0 * inner * squares / _CUT**2))
    mean_square = float(np.mean(weights**2 * np.minimum(squares, _CUT**2))) / 2.0
    return max(slope, 0.5 * float(weights.mean()), 1e-3) ** 2 / max(mean_square, 1e-3)


def affordable(n_stars: int) -> list[str]:
    """Return the groups of parameters that so many stars can carry."""
    return [group for group, needed in zip(GROUPS, _STARS_FOR_GROUPS, strict=True) if n_stars >= needed]


def indices(groups: list[str]) -> list[int]:
    """Return the parameters of groups, and those that are always free."""
    return sorted([*BASIC, *(number for group in groups for number in GROUPS[group])])


def choose_groups(fit: LensFit, pairs: Pairs, groups: list[str], expected: Expected) -> tuple[list[str], float]:
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
        weights = fit.weights[used] * _precision(pairs.taken(used), fit.scatter_px)
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
            step[which] = _inverse(matrix) @ wanted[which]
            mine = self.fold == part
            deviations[:, mine] = self.residuals[:, mine] - np.tensordot(step, self.derivatives[..., mine], axes=1)
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

"""Choice of the parameters of a lens: as many as predict held-out stars.

A parameter that the stars do not require is not known to be zero. So all parameters are fitted, each under a prior
whose width is learned: a Cauchy distribution about the expected value, as narrow as real lenses are, which lets
parameters go where the stars put them. Those that held-out stars do not need are kept as near to the expected value as
the stars allow (automatic relevance determination; MacKay 1992, Neural Computation 4, 415), and are part of the error
that is given.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from skylake.image.wcs.crossvalidation import FOLDS, CrossValidationRms, LinearProblem, inverse
from skylake.image.wcs.lens import NAMES, Lens
from skylake.image.wcs.lens_fit import LensFit, LensPrior, StarPairs, fit_lens, precision

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
#: Half of all lenses are as near to the expected values, as a share of how far any is.
_CORE = 0.1
#: Many stars that show no distortion are wrong in so many cases: the share of the variance of what is held.
_UNSEEN = 0.2
#: How often the widths of priors are learned from what they leave: more would forget what the stars do not constrain,
#: above all of a lens that shows some distortion, and so is likely to have more.
_ROUNDS, _ROUNDS_DISTORTED = 2, 1
#: To begin with fits need not be nearer than that; nor when parameters are chosen.
_NEAR_PX, _STILL_PX = 1e-2, 1e-3
#: A power of the radius is used only with the lower ones.
POWERS = (("k1", "k2", "k3"),)


def affordable(n_stars: int, allowed: list[str] | None = None) -> list[str]:
    """Return the groups of parameters, of those allowed, that so many stars can carry."""
    groups = [group for group in GROUPS if allowed is None or group in allowed]
    return groups[: sum(n_stars >= needed for needed in _STARS_FOR_GROUPS)]


def indices(groups: list[str]) -> list[int]:
    """Return the parameters of groups, and those that are always free."""
    return sorted([*BASIC, *(number for group in groups for number in GROUPS[group])])


def choose_groups(
    fit: LensFit, pairs: StarPairs, groups: list[str], expected: LensPrior
) -> tuple[list[str], CrossValidationRms]:
    """Return the groups without which stars that a fit has not seen are predicted worse.

    Around the fit with all of them pixels are linear in the parameters, so each trial is a small linear fit.

    Parameters
    ----------
    fit : LensFit
        With all groups freed.
    pairs : StarPairs
    groups : list of str
    expected : LensPrior

    Returns
    -------
    groups : list of str
    held_out : CrossValidationRms
        Distance of stars from where the others predict them.
    """
    # Stars without weight say nothing about the others, but are themselves predicted.
    seen = np.flatnonzero(np.isfinite(fit.residuals).all(axis=0))
    used = fit.weights[seen] > 0.0
    prior = expected.sigma**-2.0
    problem = LinearProblem(
        fit.lens.derivatives(pairs.vectors[seen])[1],
        fit.residuals[:, seen],
        fit.weights[seen] * precision(pairs.taken(seen), fit.scatter_px),
        _parts(used),
        prior,
        np.where(prior > 0.0, expected.values - fit.lens.parameters(), 0.0),
    )
    return problem.chosen(BASIC, {group: GROUPS[group] for group in groups}, POWERS)


def _parts(used: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the part of each star: those that are used are spread evenly, and so are the others."""
    number = int(np.count_nonzero(used))
    parts = np.empty(len(used), np.intp)
    parts[used] = np.random.default_rng(number).permutation(np.arange(number) % min(FOLDS, number))
    parts[~used] = np.arange(len(used) - number) % min(FOLDS, number)
    return parts


def fit_best_lens(
    start: Lens, pairs: StarPairs, known: LensPrior, allowed: list[str] | None = None
) -> tuple[LensFit, CrossValidationRms]:
    """Fit a lens with the parameters that predict unseen stars, and return how far off these are.

    Parameters
    ----------
    start : Lens
    pairs : StarPairs
    known : LensPrior
        Parameters that are not fitted have these values.
    allowed : list of str, optional
        Of these groups; by default of all.

    Returns
    -------
    fit : LensFit
        Of all groups that are allowed. Freed are those that unseen stars ask for.
    held_out : CrossValidationRms
        NaN with too few stars to leave some out.
    """
    groups = [group for group in GROUPS if allowed is None or group in allowed]
    which = indices(groups)
    core = fit_lens(start, pairs, which, core_prior(known), _NEAR_PX)
    full = fit_lens(core.lens, pairs, which, loosened(core, known), _STILL_PX)
    needed, held_out = list[str](), CrossValidationRms()
    if np.count_nonzero(full.weights > 0.0) >= _STARS_FOR_GROUPS[0]:
        needed, held_out = choose_groups(full, pairs, groups, full.expected)
    if needed == groups:
        return full, held_out
    # Beyond the first few all distances are small, so the fit with all is a good start.
    chosen = replace(full, freed=np.array(indices(needed), np.intp), expected=_held(full, pairs, needed))
    return fitted_again(chosen, pairs), held_out


def fitted_again(fit: LensFit, pairs: StarPairs) -> LensFit:
    """Fit the parameters that were chosen to other pairs.

    Where the stars are enough for all groups and ask for none, all are what is expected, so that a lens without
    distortion is one. That they may be more is part of its errors, with a share that holds over lenses with distortion
    of any size, from none to some that is seen, and for those with none.
    """
    wide = fit_lens(fit.lens, pairs, fit.fitted, fit.expected)
    held = np.setdiff1d(fit.fitted, BASIC)
    # Of a camera whose distortion was learned there is no such choice: its stretch is that of each frame.
    asked = fit.freed.size > len(BASIC) or fit.fitted.size < len(NAMES)
    if asked or len(pairs.x) < _STARS_FOR_GROUPS[-1]:
        return replace(wide, freed=fit.freed)
    values = wide.lens.parameters()
    values[held] = fit.expected.values[held]
    plain = Lens.from_parameters(values, wide.lens.projection, wide.lens.mirrored)
    simple = fit_lens(plain, pairs, fit.freed, fit.expected)
    covariance = (1.0 - _UNSEEN) * simple.covariance + _UNSEEN * wide.covariance
    return replace(simple, covariance=covariance, fitted=fit.fitted)


def core_prior(known: LensPrior) -> LensPrior:
    """Return what is expected of most lenses."""
    return replace(known, sigma=_CORE * known.sigma)


def loosened(fit: LensFit, known: LensPrior) -> LensPrior:
    """Return what is expected once a fit has shown how far parameters are from what they mostly are.

    A Cauchy distribution is one of Gaussian ones of many widths; this is the mean precision of those that explain
    the parameter as it was found, with its error.
    """
    away = _second_moment(fit.lens.parameters() - known.values, np.diag(fit.covariance), known)
    return replace(known, sigma=np.sqrt(0.5 * ((_CORE * known.sigma) ** 2 + away)))


def _held(full: LensFit, pairs: StarPairs, needed: list[str]) -> LensPrior:
    """Return what is expected if all groups but some are no larger than the stars make likely."""
    which, loose = full.fitted, np.array([number for group in needed for number in GROUPS[group]], int)
    known = full.expected
    held = np.setdiff1d(which[np.isfinite(known.sigma[which])], loose)
    seen = np.isfinite(full.residuals).all(axis=0)
    derivatives = np.where(seen, np.nan_to_num(full.lens.derivatives(pairs.vectors)[1]), 0.0)[which]
    weighing = full.weights * precision(pairs, full.scatter_px)
    matrix = np.tensordot(derivatives * weighing, derivatives, axes=([1, 2], [1, 2]))
    gradient = np.tensordot(derivatives * weighing, np.nan_to_num(full.residuals), axes=([1, 2], [0, 1]))
    off = np.where(np.isfinite(known.sigma), known.values - full.lens.parameters(), 0.0)[which]
    sigma = known.sigma.copy()
    for _ in range(_ROUNDS_DISTORTED if needed else _ROUNDS):
        prior = sigma[which] ** -2.0
        spread = inverse(matrix + np.diag(prior))
        step = np.zeros(len(sigma))
        step[which] = spread @ (gradient + prior * off) - off
        variance = np.zeros(len(sigma))
        variance[which] = np.diag(spread)
        sigma[held] = np.sqrt(_second_moment(step, variance, known)[held])
    return replace(known, sigma=sigma)


def _second_moment(away: Floats, variance: Floats, known: LensPrior) -> Floats:
    """Return the mean square distance of parameters from what is expected; infinite where nothing is."""
    return np.where(np.isfinite(known.sigma), away**2 + variance, np.inf)


def with_projection(lens: Lens, projection: str) -> Lens:
    """Return an ideal lens of another projection that looks the same way."""
    return replace(
        lens, projection=projection, radial=(0.0, 0.0, 0.0), decentring=(0.0, 0.0), stretch=(0.0, 0.0)
    )

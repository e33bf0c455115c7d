"""How many parameters a lens gets: as many as predict stars that the fit has not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from skylake.image.crossvalidation import FOLDS, LinearProblem, Unseen
from skylake.image.lens import Lens
from skylake.image.lensfit import Expected, LensFit, Pairs, fit_lens, precision

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
#: A power of the radius stands upon the lower ones.
POWERS = (("k1", "k2", "k3"),)


def affordable(n_stars: int, allowed: list[str] | None = None) -> list[str]:
    """Return the groups of parameters, of those allowed, that so many stars can carry."""
    groups = [group for group in GROUPS if allowed is None or group in allowed]
    return groups[: sum(n_stars >= needed for needed in _STARS_FOR_GROUPS)]


def indices(groups: list[str]) -> list[int]:
    """Return the parameters of groups, and those that are always free."""
    return sorted([*BASIC, *(number for group in groups for number in GROUPS[group])])


def choose_groups(
    fit: LensFit, pairs: Pairs, groups: list[str], expected: Expected
) -> tuple[list[str], Unseen]:
    """Return the groups without which stars that a fit has not seen are predicted worse.

    Around the fit with all of them pixels are linear in the parameters, so each trial is a small linear fit.

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
    held_out : Unseen
        Distance of stars from where the others predict them.
    """
    # Stars without weight tell nothing of the others, but are themselves predicted.
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


def simplified(lens: Lens, groups: list[str], expected: Expected) -> Lens:
    """Return the lens with what is expected for the parameters of all other groups."""
    values = lens.parameters()
    held = [number for group in GROUPS if group not in groups for number in GROUPS[group]]
    values[held] = expected.values[held]
    return Lens.from_parameters(values, lens.projection, lens.mirrored)


def fit_best_lens(
    start: Lens, pairs: Pairs, known: Expected, allowed: list[str] | None = None
) -> tuple[LensFit, Unseen]:
    """Fit a lens with the parameters that predict unseen stars, and tell how far off these are.

    Parameters
    ----------
    start : Lens
    pairs : Pairs
    known : Expected
        Parameters that are not fitted have these values.
    allowed : list of str, optional
        Of these groups; by default of all.

    Returns
    -------
    fit : LensFit
    held_out : Unseen
        NaN with too few stars to leave some out.
    """
    groups = affordable(len(pairs.x), allowed)
    full = fit_lens(start, pairs, indices(groups), known)
    if np.count_nonzero(full.weights > 0.0) < _STARS_FOR_GROUPS[0]:
        return full, Unseen()
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

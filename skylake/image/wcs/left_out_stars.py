"""Cross-validation of a lens: how far stars are from where a fit to the others puts them.

Each part of the stars is left out once. The others alone give what outliers are, how far places scatter, how wide the
priors of the parameters are, and the parameters. Only where it is linearised does such a lens know of the one that was
fitted to all.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.robust import biweight
from skylake.image.wcs.crossvalidation import FOLDS, inverse
from skylake.image.wcs.lens_fit import CUT, MEDIAN_SQUARE, LensFit, LensPrior, StarPairs, differences

Floats = npt.NDArray[np.float64]

#: Rounds in which outliers, scatter and priors are found together.
_ROUNDS = 6
#: Fewer stars are not distinguished from what is known before.
LEAST_STARS = 8


def held_out_px(fit: LensFit, pairs: StarPairs, core: LensPrior) -> float:
    """Return the root mean square distance of stars from where the others predict them, pixels.

    Parameters
    ----------
    fit : LensFit
        To all of them.
    pairs : StarPairs
        Matched widely: a circle that follows a lens that has seen the stars would choose those that fit it.
    core : LensPrior
        What is expected of the parameters of most lenses.

    Returns
    -------
    float
        Both coordinates together, each star counting alike, outliers too; NaN with fewer than eight stars.
    """
    residuals, derivatives = differences(fit.lens, pairs)
    seen = np.flatnonzero(np.isfinite(residuals).all(axis=0))
    if seen.size < LEAST_STARS:
        return math.nan
    derivatives, residuals = derivatives[fit.fitted][..., seen], residuals[:, seen]
    part = np.random.default_rng(seen.size).permutation(np.arange(seen.size) % FOLDS)
    others = part != np.arange(FOLDS)[:, None]
    off = np.where(np.isfinite(core.sigma), core.values - fit.lens.parameters(), 0.0)[fit.fitted]
    steps = _steps(derivatives, residuals, pairs.sigma[seen], others, off, core.sigma[fit.fitted])
    left = residuals - np.einsum("np,pcn->cn", steps[part], derivatives)
    return math.sqrt(float(np.mean(np.sum(left**2, axis=0))))


def _steps(
    derivatives: Floats,
    residuals: Floats,
    sigma: Floats,
    others: npt.NDArray[np.bool_],
    off: Floats,
    core: Floats,
) -> Floats:
    """Return the step of the parameters by each choice of stars, shape (parts, p); `others` has (parts, n)."""
    n_parameters, _, n_stars = derivatives.shape
    # One row for each star, so that all choices of stars are weighted by one product of matrices.
    products = np.einsum("icn,jcn->nij", derivatives, derivatives).reshape(n_stars, -1)
    slopes = np.einsum("icn,cn->ni", derivatives, residuals)
    known = np.isfinite(core)
    width = np.broadcast_to(core, (len(others), n_parameters))
    steps = np.zeros((len(others), n_parameters))
    for number in range(_ROUNDS):
        left = residuals[:, None] - np.einsum("kp,pcn->ckn", steps, derivatives)
        weights = _weights(np.sum(left**2, axis=0), sigma, others, robust=number > 0)
        matrices = np.einsum("kn,np->kp", weights, products).reshape(-1, n_parameters, n_parameters)
        spread = inverse(matrices + np.eye(n_parameters) * (width**-2.0)[:, None])
        wanted = np.einsum("kn,np->kp", weights, slopes) + width**-2.0 * off
        steps = (spread @ wanted[..., None])[..., 0]
        # The widths are those of the fit to all stars: at first half a Cauchy distribution, then what is left.
        moment = (steps - off) ** 2 + np.diagonal(spread, axis1=1, axis2=2)
        learned = np.sqrt(0.5 * (core**2 + moment)) if number < _ROUNDS // 2 else np.sqrt(moment)
        width = np.where(known, learned, np.inf)
    return steps


def _weights(squares: Floats, sigma: Floats, others: npt.NDArray[np.bool_], robust: bool) -> Floats:
    """Return the weights of stars, one over variances, for each choice of them; 0 for the stars that it leaves out."""
    beyond = np.where(others, squares - MEDIAN_SQUARE * sigma**2, np.nan)
    scatter = np.maximum(np.nanmedian(beyond, axis=1) / MEDIAN_SQUARE, 0.0)
    variance = sigma**2 + scatter[:, None]
    shares = biweight(np.sqrt(squares / variance), CUT) if robust else 1.0
    return np.asarray(others * shares / variance)

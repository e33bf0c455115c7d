"""How well the geometry of a camera of the whole sky is known, from the stars that it was fitted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from skylake.image.allsky_fit import CUT, prior_precision, spread_of
from skylake.image.allsky_refine import Detected, Refined
from skylake.image.lens import NAMES, Lens

Floats = npt.NDArray[np.float64]


def covariance_of(frames: Sequence[tuple[Refined, Detected]]) -> Floats:
    """Return the covariance of the lens that frames have in common, of a step of :meth:`Lens.moved`.

    Residuals of one star in many frames are not independent: its catalog position, its neighbours and the lens where
    it passes are the same. So each star counts as one (a sandwich over clusters; Liang and Zeger 1986, Biometrika 73,
    13). All parameters are free under the prior of the fit, those too that the stars did not ask for.

    Returns
    -------
    ndarray, shape (13, 13)
    """
    lens = frames[0][0].lens
    prior = np.diag(prior_precision(lens))
    bread, scores, stars = prior.copy(), [], []
    for refined, seen in frames:
        pairs = refined.pairs
        if len(pairs.star) == 0:
            continue
        off = refined.residuals.T
        slopes = lens.derivatives(refined.stars.directions[pairs.star])[1]
        size = np.hypot(*off)
        spread = spread_of(size, seen.errors[pairs.detection])
        u = np.minimum(size / (CUT * spread), 1.0) ** 2
        # The biweight's mean slope in two dimensions.
        bread += np.einsum("icn,jcn,n->ij", slopes, slopes, (1.0 - u) * (1.0 - 3.0 * u) / spread**2)
        scores.append(np.einsum("icn,cn,n->ni", slopes, off, (1.0 - u) ** 2 / spread**2))
        stars.append(refined.stars.numbers[pairs.star])
    number, which = np.unique(np.concatenate(stars), return_inverse=True)
    each = np.zeros((number.size, len(NAMES)))
    np.add.at(each, which, np.concatenate(scores))
    inverse = np.linalg.inv(bread)
    # Two coordinates to each star; what the fit took away from their scatter is made good.
    freedom = max(2.0 * number.size - frames[0][0].order, 1.0)
    return np.asarray(inverse @ (each.T @ each * (2.0 * number.size / freedom) + prior) @ inverse)


def mean_square_matrix(lens: Lens, directions: Floats) -> Floats:
    """Return the mean square, over directions, of the way (pixels) of a step of the lens, shape (13, 13).

    To be multiplied with a step from both sides; the trace of its product with a covariance is a mean variance.
    """
    slopes = lens.derivatives(directions)[1]
    shown = np.isfinite(slopes).all(axis=(0, 1))
    return np.asarray(
        np.einsum("icn,jcn->ij", slopes[:, :, shown], slopes[:, :, shown]) / max(shown.sum(), 1)
    )

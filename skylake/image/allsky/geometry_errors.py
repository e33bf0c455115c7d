"""Errors of the geometry of a camera of the whole sky, and of the pointing of one frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from skylake.image.allsky.refine_geometry import LEAST_ALTITUDE_DEG, TURNS, DetectedPlaces, Refined
from skylake.image.allsky.star_fit import CUT, free, prior_precision, spread_of
from skylake.image.wcs.lens import NAMES, Lens

Floats = npt.NDArray[np.float64]

#: The share of the variance in which parameters count that the stars did not ask for.
_UNSEEN = 0.2
#: Errors are given for so many places along each side of an image.
_GRID = 24


def covariance_of(frames: Sequence[tuple[Refined, DetectedPlaces]]) -> Floats:
    """Return the covariance of the lens that frames have in common, of a step of :meth:`Lens.moved`.

    Residuals of one star in many frames are not independent: its catalog position, its neighbours and the lens where
    it passes are the same. So each star counts as one (a sandwich over clusters; Liang and Zeger 1986, Biometrika 73,
    13). What stars that were held out did not ask for is nought in the lens, and in a fifth of the variance it is free
    under the prior of the fit: that holds for lenses of fisheyes as they are drawn.

    Returns
    -------
    ndarray, shape (13, 13)
    """
    lens = frames[0][0].lens
    prior = np.diag(prior_precision(lens))
    slope, scatter = _information(frames)
    covariance = np.zeros_like(prior)
    for freed, share in ((free(frames[0][0].order), 1.0 - _UNSEEN), (free(len(NAMES)), _UNSEEN)):
        some = np.ix_(freed, freed)
        inverse = np.linalg.inv((slope + prior)[some])
        covariance[some] += share * (inverse @ (scatter + prior)[some] @ inverse)
    return covariance


def turned_covariance(refined: Refined, seen: DetectedPlaces, known: Floats) -> Floats:
    """Return the covariance of a geometry that was turned to the stars of a frame, of a step of :meth:`Lens.moved`.

    The turn takes what it can of the errors of the geometry; its own come from the stars of the frame.

    Parameters
    ----------
    refined : Refined
    seen : DetectedPlaces
    known : ndarray, shape (13, 13)
        The covariance of the geometry.

    Returns
    -------
    ndarray, shape (13, 13)
    """
    slope, scatter = _information([(refined, seen)])
    inverse = np.linalg.inv(slope[np.ix_(TURNS, TURNS)])
    follows = np.diag(np.where(TURNS, 0.0, 1.0))
    follows[np.ix_(TURNS, ~TURNS)] = -inverse @ slope[np.ix_(TURNS, ~TURNS)]
    covariance = np.asarray(follows @ known @ follows.T)
    covariance[np.ix_(TURNS, TURNS)] += inverse @ scatter[np.ix_(TURNS, TURNS)] @ inverse
    return covariance


def view_err_px(lens: Lens, shape: tuple[int, int], covariance: Floats) -> float:
    """Return the standard error of places, root mean square over the image as far as it shows the sky, pixels.

    Both coordinates together. Below five degrees, where no star takes part, there is none; NaN if no pixel is higher.
    """
    y, x = (
        axis.ravel()
        for axis in np.meshgrid(*((np.arange(_GRID) + 0.5) * n / _GRID - 0.5 for n in shape), indexing="ij")
    )
    directions = lens.to_vectors(x, y)
    high = directions[directions[:, 2] > np.sin(np.radians(LEAST_ALTITUDE_DEG))]
    if not len(high):
        return float("nan")
    return float(np.sqrt(max(float(np.trace(mean_square_matrix(lens, high) @ covariance)), 0.0)))


def _information(frames: Sequence[tuple[Refined, DetectedPlaces]]) -> tuple[Floats, Floats]:
    """Return the information of the stars: the slope of their gradient with the lens and its scatter, (13, 13)."""
    lens = frames[0][0].lens
    bread, scores, stars = np.zeros((len(NAMES), len(NAMES))), [], []
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
    # Two coordinates to each star; what the fit took away from their scatter is made good.
    freedom = max(2.0 * number.size - frames[0][0].order, 1.0)
    return bread, np.asarray(each.T @ each * (2.0 * number.size / freedom))


def mean_square_matrix(lens: Lens, directions: Floats) -> Floats:
    """Return the mean square, over directions, of the way (pixels) of a step of the lens, shape (13, 13).

    To be multiplied with a step from both sides; the trace of its product with a covariance is a mean variance.
    """
    slopes = lens.derivatives(directions)[1]
    shown = np.isfinite(slopes).all(axis=(0, 1))
    return np.asarray(
        np.einsum("icn,jcn->ij", slopes[:, :, shown], slopes[:, :, shown]) / max(shown.sum(), 1)
    )

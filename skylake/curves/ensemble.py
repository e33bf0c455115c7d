"""What all stars of a frame lose alike: ensemble magnitudes.

Each frame has an offset that depends smoothly on the position on the detector and on the colour of the star, as in the
magnitude fit of HATNet (Bakos et al. 2010, ApJ 710, 1724) and in Honeycutt (1992, PASP 104, 435). Levels of stars and
offsets of frames are found by turns, with Tukey's biweight against variables and spoiled measurements.

Where calibrated frames are right to a millimagnitude and the stars are faint, what these say of a frame is mostly
noise, which a bright star would get. So terms of frames are drawn towards zero by as much as their spread over the
frames says that they are noise (empirical Bayes; Efron & Morris 1973, JASA 68, 117); a frame that is off by far more
keeps its terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.curves.curve_block import CurveBlock, outlier_weights, row_medians, row_sigmas

Floats = npt.NDArray[np.float64]

#: Noise that no star is without, magnitudes: the brightest would else decide the offsets alone.
_LEAST_FLOOR = 0.001
_ROUNDS = 4
#: A frame with fewer stars for each of its terms has no offset.
_STARS_PER_TERM = 3
#: What a term of a frame has beyond so many sigma is no noise.
_CERTAIN = 2.0
#: Of a squared normal deviate.
_MEDIAN_OF_SQUARE = 0.4549
#: Columns of which less than this share is left beside the others say nothing.
_DEGENERATE = 1e-6
#: A star that alone decides a term of a frame keeps a share of its measurement in it.
_MOST_OWN = 0.9


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Magnitudes without what all stars of a frame lose alike.

    Attributes
    ----------
    mag : ndarray, shape (n_stars, n_frames)
        NaN also on frames with too few stars.
    offset : ndarray, shape (n_stars, n_frames)
        What was taken off; NaN on frames with too few stars.
    scatter : ndarray, shape (n_stars,)
        Robust scatter of each star beyond its errors, magnitudes.
    """

    mag: Floats
    offset: Floats
    scatter: Floats


def ensemble_magnitudes(
    curves: CurveBlock, x: Floats, y: Floats, colour: Floats | None = None, degree: int = 2
) -> Ensemble:
    """Return magnitudes of stars without what all stars of a frame lose alike.

    Parameters
    ----------
    curves : CurveBlock
    x, y : ndarray, shape (n_stars,)
        Mean position of each star on the detector, in any unit.
    colour : ndarray, shape (n_stars,)
        NaN counts as the mean.
    degree : int
        Of the polynomial of position.
    """
    good = curves.is_good
    mag = np.where(good, curves.mag, np.nan)
    error = np.where(good, curves.mag_err, np.nan)
    basis = _independent(_basis(x, y, colour, degree), 1.0 / (row_medians(error) ** 2 + _LEAST_FLOOR**2))
    level, scatter = row_medians(mag), np.zeros(len(mag))
    kept, enough = good.astype(float), good.sum(axis=0) >= _STARS_PER_TERM * basis.shape[1]
    for _ in range(_ROUNDS):
        noise = np.sqrt(np.where(good, error, 1.0) ** 2 + _LEAST_FLOOR**2 + scatter[:, None] ** 2)
        off = np.where(good, mag - level[:, None], 0.0)
        fit = _fit(basis, off, kept / noise**2, enough)
        level = row_medians(np.where(enough, mag - fit.offset, np.nan))
        residual = mag - level[:, None] - fit.offset
        beyond = row_sigmas(residual) ** 2 - row_medians(error) ** 2
        scatter = np.sqrt(np.maximum(np.nan_to_num(beyond), 0.0))
        kept = outlier_weights(residual, noise)
    # A star that has a say in its own offset would lose as much of its signal.
    offset = np.where(good, (fit.offset - fit.own * off) / (1.0 - fit.own), fit.offset)
    # The mean offset of a star is its own level, not that of the frames.
    counted = enough & (good | ~good.any(axis=1, keepdims=True))
    offset = offset - row_medians(np.where(counted, offset, np.nan))[:, None]
    offset = np.where(enough, offset, np.nan)
    return Ensemble(mag - offset, offset, scatter)


@dataclass(frozen=True, slots=True)
class _Offsets:
    """Offsets of frames at all stars, and the share that each star has in its own; shape (n_stars, n_frames)."""

    offset: Floats
    own: Floats


def _fit(basis: Floats, off: Floats, weight: Floats, enough: npt.NDArray[np.bool_]) -> _Offsets:
    """Fit the terms of all frames to what stars are off from their levels."""
    n_terms = basis.shape[1]
    products = np.einsum("si,sj->sij", basis, basis).reshape(len(basis), -1)
    normal = (weight.T @ products).reshape(-1, n_terms, n_terms)
    # A prior too weak to change a fit; frames whose terms are degenerate have a solution with it.
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(n_terms)
    normal[~enough] = np.eye(n_terms)
    inverse, right = np.linalg.inv(normal), ((weight * off).T @ basis)[:, :, None]
    variance = _variance((inverse @ right)[:, :, 0], np.diagonal(inverse, axis1=1, axis2=2), enough)
    normal[enough] += np.eye(n_terms) / variance[enough][:, None, :]
    inverse = np.linalg.inv(normal)
    terms = (inverse @ right)[:, :, 0]
    own = weight * (products @ inverse.reshape(len(inverse), -1).T)
    return _Offsets(basis @ terms.T, np.minimum(own, _MOST_OWN))


def _variance(terms: Floats, noise: Floats, enough: npt.NDArray[np.bool_]) -> Floats:
    """Return the variance that each term of each frame has beyond noise; shape (n_frames, n_terms)."""
    if not enough.any():
        return np.ones_like(terms)
    usual = np.median(terms[enough] ** 2, axis=0) / _MEDIAN_OF_SQUARE - np.median(noise[enough], axis=0)
    # A cloud makes some frames unlike the others.
    own = terms**2 - _CERTAIN**2 * noise
    return np.maximum(np.maximum(usual, own), 1e-4 * noise)


def _independent(basis: Floats, weight: Floats) -> Floats:
    """Return the columns of a basis made orthogonal one by one, the constant first, without those that say nothing."""
    root = np.sqrt(np.nan_to_num(weight))[:, None]
    if not root.any():
        return basis
    length = np.linalg.norm(basis * root, axis=0)
    left = np.abs(np.diagonal(np.linalg.qr(basis * root, mode="r")))
    basis = basis[:, : len(left)][:, left > _DEGENERATE * np.maximum(length[: len(left)], length[0])]
    triangle = np.asarray(np.linalg.qr(basis * root, mode="r"), np.float64)
    return np.asarray(np.linalg.solve(triangle.T, basis.T).T)


def _basis(x: Floats, y: Floats, colour: Floats | None, degree: int) -> Floats:
    """Return products of powers of scaled positions, and the colour; shape (n_stars, n_terms)."""
    u, v = (_scaled(one) for one in (x, y))
    columns = [u**i * v ** (total - i) for total in range(degree + 1) for i in range(total, -1, -1)]
    if colour is not None and np.isfinite(colour).any():
        columns.append(_scaled(colour))
    return np.stack(columns, axis=1)


def _scaled(values: Floats) -> Floats:
    values = np.asarray(values, float)
    spread = float(np.nanstd(values))
    return np.nan_to_num((values - np.nanmean(values)) / (spread if spread > 0 else 1.0))

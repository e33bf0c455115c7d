"""Relative photometry by hand: what an observer makes of the fluxes of a night without zeropoints."""

from __future__ import annotations

import numpy as np

#: Comparison stars of the ensemble that is made by hand, and the share of the frames that they are to be on.
N_COMPARISONS, PRESENT = 12, 0.95
_ROUNDS = 60


def typical(values: np.ndarray) -> np.ndarray:
    """Return the median of each column, NaN for one without values."""
    known = np.isfinite(values).any(axis=0)
    middle = np.full(values.shape[1], np.nan)
    middle[known] = np.nanmedian(values[:, known], axis=0)
    return middle


def by_hand(magnitude: np.ndarray, error: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Return curves relative to the mean of a dozen bright stars that nearly all frames show.

    Parameters
    ----------
    magnitude, error : ndarray, shape (frames, stars)
        NaN where a star is not measured.
    left_out : ndarray of bool, shape (stars,)
        Stars that are known to vary.
    """
    present = np.mean(np.isfinite(magnitude), axis=0) >= PRESENT
    level = np.where(present & ~left_out, typical(error), np.inf)
    chosen = np.argsort(level)[:N_COMPARISONS]
    chosen = chosen[np.isfinite(level[chosen])]
    if chosen.size == 0:
        return np.full_like(magnitude, np.nan)
    relative = magnitude[:, chosen] - np.nanmean(magnitude[:, chosen], axis=0)
    return np.asarray(magnitude - np.nanmean(relative, axis=1)[:, None])


def by_likelihood(magnitude: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return curves relative to the ensemble of all stars, as PyTICS makes them (2025, RASTI, rzaf021).

    Offsets of frames and means of stars are those of the largest likelihood; so are a variance of each star and one of
    each frame beyond the errors, and variable stars and bad frames get little weight by them.

    Parameters
    ----------
    magnitude, error : ndarray, shape (frames, stars)
        NaN where a star is not measured.
    """
    known = np.isfinite(magnitude) & np.isfinite(error)
    values, square = np.where(known, magnitude, 0.0), np.where(known, error**2, 1.0)
    of_star = np.full(magnitude.shape[1], 1e-5)
    of_frame = np.full(magnitude.shape[0], 1e-6)
    offset = np.zeros(magnitude.shape[0])
    mean = typical(np.where(known, magnitude, np.nan))
    for _ in range(_ROUNDS):
        inverse = known / (square + of_star + of_frame[:, None])
        total = inverse.sum(axis=1)
        offset = np.sum(inverse * (values - np.nan_to_num(mean)), axis=1) / np.where(total > 0, total, 1.0)
        offset -= np.mean(offset)
        mean = np.sum(inverse * (values - offset[:, None]), axis=0) / np.maximum(inverse.sum(axis=0), 1e-30)
        squares = (inverse * (values - offset[:, None] - mean)) ** 2
        # The fixed point of these steps is where the likelihood has no slope.
        of_star = np.clip(of_star * squares.sum(axis=0) / np.maximum(inverse.sum(axis=0), 1e-30), 1e-8, 1.0)
        of_frame = np.clip(of_frame * squares.sum(axis=1) / np.where(total > 0, total, 1.0), 1e-8, 1.0)
    return np.asarray(np.where(known, magnitude - offset[:, None], np.nan))

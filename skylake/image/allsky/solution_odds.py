"""Odds of a solution of an image of the whole sky against chance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Detections are counted within so many match radii to estimate how many are there by chance.
_NEIGHBOURHOOD = 15.0
#: Shares of stars that are seen, and scatters of their places (in match radii), that are tried.
_SHARES = np.linspace(0.05, 0.95, 10)
_SCATTERS = np.array([0.1, 0.2, 0.4])


def log_odds(stars: Floats, places: Floats, radius_px: float) -> float:
    """Return the logarithm of the odds that detections are where stars should be, against chance.

    Each star has been seen, with a scatter of its place, or it has not; then a detection is near it only as chance
    has it, which depends on how dense detections are about it. The share of stars seen and the scatter are unknown,
    and averaged over.

    Parameters
    ----------
    stars : ndarray, shape (n, 2)
        Where stars should be, pixels. They must not have taken part in finding the geometry.
    places : ndarray, shape (m, 2)
        Detections.
    radius_px : float
        Detections farther away are not those of a star.
    """
    from scipy.spatial import cKDTree
    from scipy.special import logsumexp

    if len(stars) == 0 or len(places) == 0:
        return 0.0
    tree = cKDTree(places)
    distance, nearest = tree.query(stars, distance_upper_bound=radius_px)
    # One detection speaks for one star only.
    order = np.lexsort((distance, nearest))
    again = np.zeros(len(stars), bool)
    again[order[1:]] = (np.diff(nearest[order]) == 0) & np.isfinite(distance[order[1:]])
    hit = np.isfinite(distance) & ~again
    reach = _NEIGHBOURHOOD * radius_px
    near = tree.query_ball_point(stars, reach, return_length=True)
    density = np.maximum(near, 1.0) / (np.pi * reach**2)
    counted = ~again
    d = np.where(hit, distance, radius_px)[counted]
    terms = []
    for spread in _SCATTERS * radius_px:
        beyond = np.exp(-0.5 * (d / spread) ** 2)
        seen = np.where(hit[counted], beyond / (spread**2 * 2.0 * np.pi * density[counted]) + beyond, beyond)
        terms += [float(np.sum(np.log(share * seen + 1.0 - share))) for share in _SHARES]
    return float(logsumexp(terms) - np.log(len(terms)))

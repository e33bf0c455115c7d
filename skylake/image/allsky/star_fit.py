"""Matching of stars with detections, and the fit of a lens to the matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.robust import biweight
from skylake.image.wcs.lens import NAMES, Lens

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Parameters that are freed one group after another; each number is that of all so far.
_ORDER = ("w3", "focal_px", "x0", "y0", "w1", "w2", "k1", "p1", "p2", "k2", "k3", "a1", "a2")
#: How far each may go from where a fit begins, before many stars say otherwise; x0 and y0 in focal lengths.
_FREEDOM = {
    "w1": 0.3,
    "w2": 0.3,
    "w3": 1.0,
    "focal_px": 0.3,
    "x0": 0.3,
    "y0": 0.3,
    "k1": 0.1,
    "k2": 0.05,
    "k3": 0.03,
    "p1": 0.02,
    "p2": 0.02,
    "a1": 0.01,
    "a2": 0.01,
}
_ROUNDS = 8
#: While the pairs still change.
_QUICK_ROUNDS = 2
#: Residuals beyond so many standard deviations have no weight.
CUT = 5.0
#: The scatter is taken to be no less, pixels.
_LEAST_SCATTER_PX = 0.02


@dataclass(frozen=True, slots=True)
class StarMatches:
    """Which star is which detection, and how far apart they are in the image.

    Attributes
    ----------
    star, detection : ndarray of int, shape (n,)
    distance : ndarray, shape (n,)
        Pixels.
    """

    star: Indices
    detection: Indices
    distance: Floats


def pair(lens: Lens, stars: Floats, places: Floats, radius_px: float) -> StarMatches:
    """Pair stars with detections that are each other's nearest.

    Parameters
    ----------
    lens : Lens
    stars : ndarray, shape (n, 3)
        Directions.
    places : ndarray, shape (m, 2)
        Detections, 0-based pixels.
    radius_px : float
    """
    from scipy.spatial import cKDTree

    wanted = np.stack(lens.to_pixels(stars), axis=1)
    shown = np.flatnonzero(np.isfinite(wanted).all(axis=1))
    if shown.size == 0 or len(places) == 0:
        none = np.zeros(0, np.intp)
        return StarMatches(none, none, np.zeros(0))
    distance, nearest = cKDTree(places).query(wanted[shown], distance_upper_bound=radius_px)
    near = np.isfinite(distance)
    star, detection, distance = shown[near], nearest[near], distance[near]
    # Of the stars that have one detection in common, the nearest keeps it.
    order = np.lexsort((distance, detection))
    first = np.ones(len(order), bool)
    first[1:] = np.diff(detection[order]) > 0
    chosen = np.sort(order[first])
    return StarMatches(star[chosen], detection[chosen], distance[chosen])


def free(number: int) -> npt.NDArray[np.bool_]:
    """Return which parameters a fit of that many changes."""
    return np.array([name in _ORDER[:number] for name in NAMES])


def fit(
    lens: Lens,
    stars: Floats,
    places: Floats,
    freed: npt.NDArray[np.bool_],
    rounds: int = _ROUNDS,
    errors: Floats | None = None,
) -> Lens:
    """Return the lens that leads stars to places best, by Tukey's biweight.

    Parameters
    ----------
    lens : Lens
        Where to start; parameters stay near it unless the pairs say otherwise.
    stars, places : ndarray, shapes (n, 3) and (n, 2)
        Pairs, of which some may be wrong.
    freed : ndarray of bool, shape (13,)
    rounds : int
    errors : ndarray, shape (n,), or None
        Of places, pixels, from their noise alone; what the pairs scatter beyond is added.
    """
    precision = prior_precision(lens)[freed]
    gone = np.zeros(int(freed.sum()))
    for _ in range(rounds):
        pixels, slopes = lens.derivatives(stars)
        off = places.T - pixels
        shown = np.isfinite(off).all(axis=0)
        size = np.hypot(*off[:, shown])
        if len(size) <= len(gone) // 2:
            return lens
        # The median of a Rayleigh distribution is 1.177 of its parameter.
        scatter = max(float(np.median(size)) / 1.1774, _LEAST_SCATTER_PX)
        spread = np.full(len(size), scatter) if errors is None else spread_of(size, errors[shown])
        share = biweight(size / spread, CUT) * (scatter / spread) ** 2
        weights = np.repeat(share[None], 2, axis=0).ravel()
        design = slopes[freed][:, :, shown].reshape(len(gone), -1)
        weighted = design * weights
        normal = weighted @ design.T + np.diag(precision) * scatter**2
        wanted = weighted @ off[:, shown].ravel() - precision * scatter**2 * gone
        step = np.linalg.solve(normal, wanted)
        gone += step
        full = np.zeros(len(NAMES))
        full[freed] = step
        lens = lens.moved(full)
        if np.abs(np.einsum("kn,k->n", design, step)).max(initial=0.0) < 1e-4:
            break
    return lens


def prior_precision(lens: Lens) -> Floats:
    """Return the inverse variances of the parameters, shape (13,), before any star says something."""
    length = np.array([lens.focal_px if name in ("x0", "y0") else 1.0 for name in NAMES])
    return np.asarray((np.array([_FREEDOM[name] for name in NAMES]) * length) ** -2.0)


def spread_of(size: Floats, errors: Floats) -> Floats:
    """Return the scatter of each pair: its own error, and what the half with the smaller errors shows beyond."""
    sharp = errors <= np.median(errors)
    shown = float(np.median(size[sharp])) / 1.1774
    beyond = max(shown**2 - float(np.median(errors[sharp])) ** 2, (0.3 * shown) ** 2, _LEAST_SCATTER_PX**2)
    return np.asarray(np.sqrt(beyond + errors**2))


def anneal(
    lens: Lens, stars: Floats, places: Floats, schedule: tuple[tuple[float, int], ...]
) -> tuple[Lens, StarMatches]:
    """Match and fit in turn, within ever smaller radii and with ever more parameters.

    Parameters
    ----------
    lens : Lens
    stars, places : ndarray, shapes (n, 3) and (m, 2)
    schedule : tuple of (float, int)
        Match radius (pixels), and number of parameters that are free.

    Returns
    -------
    Lens
    Pairs
        Within the last radius, after the last fit.
    """
    radius = schedule[-1][0]
    for radius, number in schedule:
        pairs = pair(lens, stars, places, radius)
        if len(pairs.star) < number:
            return lens, pair(lens, stars, places, schedule[-1][0])
        lens = fit(lens, stars[pairs.star], places[pairs.detection], free(number), _QUICK_ROUNDS)
    return lens, pair(lens, stars, places, radius)


def scatter(pairs: StarMatches) -> float:
    """Return the robust standard deviation of one coordinate, pixels; NaN without pairs."""
    if len(pairs.distance) == 0:
        return float("nan")
    return float(np.median(pairs.distance)) / 1.1774

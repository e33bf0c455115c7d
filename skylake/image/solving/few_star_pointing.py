"""A frame with few stars, placed by the lens of its neighbours: three of them give its attitude."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.image.distortion.camera_motion import turn_metric
from skylake.image.wcs.lens import NAMES, Lens
from skylake.image.wcs.lens_fit import StarPairs
from skylake.image.wcs.star_matching import Sources, on_image

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: So many of the brightest sources are used, and stars for each of them.
_MOST_SOURCES = 30
_STARS_PER_SOURCE = 3
_FEWEST_STARS_WANTED = 20
#: How far stars may be from their sources after the whole is shifted, and after it is turned as well (pixels).
_SHIFTED_PX, _TURNED_PX = 2.0, 1.5
_LEAST_STARS = 3
#: The chance that so many sources are near a star if they lie anywhere.
_MOST_CHANCE = 1e-4
#: No centroid is better; the lens of the neighbours is not either.
_LEAST_SIGMA_PX = 0.05
_ROUNDS = 4
#: Where a star is put that the lens does not show.
_FAR_PX = 1e6


@dataclass(frozen=True, slots=True)
class FewStars:
    """A lens whose attitude comes from few stars.

    Attributes
    ----------
    lens : Lens
    pairs : StarPairs
        The stars.
    err_px : float
        Standard deviation of places, root mean square over the image, both coordinates together.
    rms_px : float
        Root mean square distance of the stars from where the lens puts them.
    """

    lens: Lens
    pairs: StarPairs
    err_px: float
    rms_px: float


def place_by_few_stars(
    start: Lens,
    vectors: Floats,
    mag: Floats,
    sources: Sources,
    shape: tuple[int, int],
    radius_px: float,
    err_px: float | None = None,
) -> FewStars | None:
    """Find the attitude of a frame near where it should be, from three stars on.

    Parameters
    ----------
    start : Lens
        Right except for its attitude.
    vectors : ndarray, shape (n, 3)
        Unit vectors of catalog stars at the epoch of the frame.
    mag : ndarray, shape (n,)
        To rank them by; NaN leaves a star out.
    sources : Sources
    shape : tuple of int
        Height and width of the image.
    radius_px : float
        How far off the start may be.
    err_px : float or None
        Error of the start, root mean square over the image, if it is known: the start then counts as much as stars
        that would give it this error.

    Returns
    -------
    FewStars or None
        None if less than three sources are stars, or as many would be near one by chance.
    """
    measured = np.column_stack([sources.x, sources.y])[:_MOST_SOURCES]
    places, which = _brightest(start, vectors, mag, shape, len(measured))
    enough = min(len(measured), which.size) >= _LEAST_STARS
    shift = _best_shift(places, measured, radius_px) if enough else None
    if shift is None:
        return None
    star, source = _nearest(places + shift, measured, _SHIFTED_PX)
    for _ in range(2):
        if star.size < _LEAST_STARS:
            return None
        sigma = np.maximum(sources.sigma[source], _LEAST_SIGMA_PX)
        pairs = StarPairs(vectors[which[star]], measured[source, 0], measured[source, 1], sigma)
        found = _fitted(start, pairs, shape, err_px)
        predicted = np.nan_to_num(np.column_stack(found.lens.to_pixels(vectors[which])), nan=-_FAR_PX)
        star, source = _nearest(predicted, measured, _TURNED_PX)
    chance = _chance(star.size, len(measured), which.size, shape, radius_px)
    return None if star.size < len(pairs.x) or chance > _MOST_CHANCE else found


def _brightest(
    lens: Lens, vectors: Floats, mag: Floats, shape: tuple[int, int], n_sources: int
) -> tuple[Floats, Indices]:
    """Return where the brightest stars on the image are, shape (n, 2), and which they are."""
    x, y = lens.to_pixels(vectors)
    shown = np.flatnonzero(on_image(x, y, shape) & np.isfinite(mag))
    number = max(_FEWEST_STARS_WANTED, _STARS_PER_SOURCE * n_sources)
    which = shown[np.argsort(mag[shown], kind="stable")[:number]]
    return np.column_stack([x[which], y[which]]), which


def _best_shift(stars: Floats, sources: Floats, radius_px: float) -> Floats | None:
    """Return the shift that brings most sources to a star; None if no source is near any."""
    from scipy.spatial import cKDTree

    shifts = (sources[:, None] - stars[None]).reshape(-1, 2)
    shifts = shifts[np.hypot(shifts[:, 0], shifts[:, 1]) <= radius_px]
    if not len(shifts):
        return None
    distance, _ = cKDTree(stars).query(sources[None] - shifts[:, None])
    # The most sources, and of equals the nearest.
    score = np.maximum(0.0, 1.0 - (distance / _SHIFTED_PX) ** 2).sum(axis=1)
    best = shifts[np.argmax(score)]
    return np.asarray(best)


def _nearest(stars: Floats, sources: Floats, radius_px: float) -> tuple[Indices, Indices]:
    """Return stars and sources that are each other's nearest."""
    from scipy.spatial import cKDTree

    distance, source = cKDTree(sources).query(stars)
    _, star = cKDTree(stars).query(sources)
    mutual = np.flatnonzero((distance <= radius_px) & (star[source] == np.arange(len(stars))))
    return mutual, np.asarray(source[mutual], np.intp)


def _fitted(start: Lens, pairs: StarPairs, shape: tuple[int, int], err_px: float | None) -> FewStars:
    """Turn a lens so that it fits stars, and what is known of its attitude; no outliers are among so few."""
    metric = turn_metric(start, shape)
    # The mean variance of a place is the trace of the metric times the covariance: three of such numbers.
    known = np.zeros((3, 3)) if err_px is None else 3.0 * metric / max(err_px, _LEAST_SIGMA_PX) ** 2
    weights, lens, turned = pairs.sigma**-2.0, start, np.zeros(3)
    for _ in range(_ROUNDS):
        places, derivatives = lens.derivatives(pairs.vectors)
        residuals, slopes = (
            np.nan_to_num(np.array([pairs.x, pairs.y]) - places),
            np.nan_to_num(derivatives[:3]),
        )
        matrix = np.einsum("icn,jcn,n->ij", slopes, slopes, weights) + known
        step = np.linalg.solve(matrix, np.einsum("icn,cn,n->i", slopes, residuals, weights) - known @ turned)
        turned = turned + step
        lens = lens.moved(np.concatenate([step, np.zeros(len(NAMES) - 3)]))
    squares = float(np.sum(residuals**2 * weights) + turned @ known @ turned)
    freedom = 2 * len(pairs.x) - (3 if err_px is None else 0)
    covariance = np.linalg.inv(matrix) * max(1.0, squares / freedom)
    rms = math.sqrt(float(np.mean(np.sum(residuals**2, axis=0))))
    return FewStars(lens, pairs, math.sqrt(float(np.trace(metric @ covariance))), rms)


def _chance(n: int, n_sources: int, n_stars: int, shape: tuple[int, int], radius_px: float) -> float:
    """Return how many shifts would bring so many sources near stars if they lay anywhere."""
    density = math.pi * n_stars / (shape[0] * shape[1])
    first = min(1.0, density * radius_px**2)
    near = min(1.0, density * _TURNED_PX**2)
    return math.comb(n_sources, n) * n_stars * first * near ** (n - 1)

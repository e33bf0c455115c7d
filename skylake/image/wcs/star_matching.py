"""Matching of catalog stars with sources, given a lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.image.wcs.lens import Lens

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: So few sources are used that one is near a wrong place with this probability.
_CHANCE = 0.15
_SOURCES_PER_STAR = 2
#: Another one within so many times the distance makes a match ambiguous.
_RIVAL = 2.0
_LEAST_STARS = 20
#: So many stars are looked for at most.
MOST_STARS = 800
#: The standard deviation of a source that does not give its own, where none does.
_DEFAULT_SIGMA_PX = 0.2


@dataclass(frozen=True, slots=True)
class Sources:
    """Sources of a frame, brightest first: 0-based pixels and the standard deviation of each coordinate; shape (n,).

    ``number`` is the row of each in the list that was ranked.
    """

    x: Floats
    y: Floats
    sigma: Floats
    number: Indices

    @classmethod
    def ranked(cls, x: Floats, y: Floats, sigma: Floats, flux: Floats) -> Sources:
        """Return sources with finite places and flux; a standard deviation that is unknown is that of the median."""
        good = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & np.isfinite(flux))
        order = good[np.argsort(-flux[good], kind="stable")]
        known = np.isfinite(sigma) & (sigma > 0.0)
        median_sigma = float(np.median(sigma[known])) if known.any() else _DEFAULT_SIGMA_PX
        return cls(x[order], y[order], np.where(known, sigma, median_sigma)[order], order)


@dataclass(frozen=True, slots=True)
class RankedStars:
    """Catalog stars, brightest first: unit vectors of shape (n, 3), and which row of the catalog each is."""

    vectors: Floats
    number: Indices

    @classmethod
    def ranked(cls, vectors: Floats, mag: Floats) -> RankedStars:
        """Return the stars with a magnitude."""
        order = np.argsort(mag, kind="stable")
        order = order[np.isfinite(mag[order])]
        return cls(vectors[order], order)


def match(
    lens: Lens, stars: RankedStars, sources: Sources, shape: tuple[int, int], radius_px: float | Floats
) -> tuple[Indices, Indices]:
    """Match stars and sources that are each other's nearest, and have no rival.

    The wider the circle, the brighter the stars that are looked for, so that few sources lie in it by chance. An array
    of radii, shape (n,), gives each star a circle of its own: corners of an image are known less well than its middle.

    Returns
    -------
    stars, sources : ndarray of int, shape (n,)
        Places in the ranked lists.
    """
    from scipy.spatial import cKDTree

    reach = np.broadcast_to(np.asarray(radius_px, float), len(stars.number))
    x, y = lens.to_pixels(stars.vectors)
    star = np.flatnonzero(on_image(x, y, shape))
    n_sources, n_stars = _crowd(shape, float(np.median(reach[star])) if star.size else 0.0)
    star = star[:n_stars]
    # Where many catalog stars have no source, as in the light of the Moon, sources are fewer: they bound the stars.
    star = star[: max(_LEAST_STARS, _SOURCES_PER_STAR * len(sources.x))]
    n_sources = min(n_sources, len(sources.x))
    if star.size == 0 or n_sources == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    predicted = np.column_stack([x[star], y[star]])
    measured = np.column_stack([sources.x[:n_sources], sources.y[:n_sources]])
    distance, nearest = cKDTree(measured).query(predicted, k=2)
    back, nearest_star = cKDTree(predicted).query(measured, k=2)
    source = np.minimum(nearest[:, 0], n_sources - 1)
    mutual = (distance[:, 0] <= reach[star]) & (nearest_star[source, 0] == np.arange(star.size))
    rival = np.minimum(_RIVAL * distance[:, 0], reach[star])
    good = mutual & (distance[:, 1] > rival) & (back[source, 1] > rival)
    return star[good], source[good]


def _crowd(shape: tuple[int, int], radius_px: float) -> tuple[int, int]:
    """Return how many sources and stars may be used."""
    sources = _CHANCE * shape[0] * shape[1] / (math.pi * max(radius_px, 1e-3) ** 2)
    number = int(np.clip(sources, _SOURCES_PER_STAR * _LEAST_STARS, _SOURCES_PER_STAR * MOST_STARS))
    return number, number // _SOURCES_PER_STAR


def on_image(x: Floats, y: Floats, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return which 0-based places are on an image; NaN is not."""
    return np.asarray((x > -0.5) & (x < shape[1] - 0.5) & (y > -0.5) & (y < shape[0] - 0.5))

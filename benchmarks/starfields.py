"""Lists of sources of pictures all over the sky, drawn from a catalog, and how far solutions are from the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from skylake.core.sphere import unit_vectors

Floats = np.ndarray

SIDE = 1024
HALF = SIDE * 0.5**0.5
MISSING, SPURIOUS, MAGNITUDE_NOISE, CENTROID_NOISE, DISTORTION = 0.3, 0.3, 0.3, 0.15, 0.02
MOST_STARS = 200


@dataclass(frozen=True, slots=True)
class List:
    """Sources of a square picture, 0-based pixels, and the truth: width in degrees, focal length, attitude, lens."""

    x: Floats
    y: Floats
    flux: Floats
    width_deg: float
    focal_px: float
    rotation: Floats
    parity: int
    distortion: float
    n_stars: int

    @property
    def scale_arcsec(self) -> float:
        """Arcsec per pixel at the centre."""
        return float(np.degrees(1.0 / self.focal_px) * 3600.0)

    def error_px(self, to_sky: Callable[[Floats, Floats], tuple[Floats, Floats]]) -> float:
        """Return the median distance, over the picture, between where a solution puts pixels and where they are."""
        grid = np.linspace(0.0, SIDE - 1.0, 5)
        x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
        with np.errstate(invalid="ignore", divide="ignore"):
            true_x, true_y = place(self, unit_vectors(*to_sky(x, y)))
        return float(np.median(np.nan_to_num(np.hypot(true_x - x, true_y - y), nan=1e9)))


def place(truth: List, vectors: Floats) -> tuple[Floats, Floats]:
    """Return the 0-based pixels of stars; NaN behind the camera."""
    camera = vectors @ truth.rotation.T
    depth = np.where(camera[:, 2] > 0.05, camera[:, 2], np.nan)
    plane = camera[:, :2] / depth[:, None] * truth.focal_px
    plane = plane * (1.0 + truth.distortion * (plane**2).sum(axis=1) / HALF**2)[:, None]
    return truth.parity * plane[:, 0] + 0.5 * (SIDE - 1), plane[:, 1] + 0.5 * (SIDE - 1)


class Sky:
    """Stars of a catalog, from which lists are drawn."""

    def __init__(self, vectors: Floats, magnitudes: Floats) -> None:
        self.vectors, self.magnitudes = vectors, magnitudes
        self.tree = cKDTree(vectors)

    def draw(self, seed: int, narrowest_deg: float = 0.7, widest_deg: float = 40.0) -> List:
        """Draw a list: the width of the picture evenly in its logarithm, attitude and parity at random."""
        random = np.random.default_rng(seed)
        width = float(np.exp(random.uniform(np.log(narrowest_deg), np.log(widest_deg))))
        rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
        rotation *= np.sign(np.linalg.det(rotation))
        focal = 0.5 * SIDE / np.tan(np.radians(0.5 * width))
        parity, distortion = int(random.choice([-1, 1])), float(random.choice([-1, 1]) * DISTORTION)
        empty = np.zeros(0)
        truth = List(empty, empty, empty, width, focal, rotation, parity, distortion, 0)
        near = self.tree.query_ball_point(rotation[2], 2.0 * np.sin(0.5 * 1.1 * np.arctan(HALF / focal)))
        x, y = place(truth, self.vectors[near])
        inside = (np.abs(x - 0.5 * (SIDE - 1)) < 0.5 * SIDE) & (np.abs(y - 0.5 * (SIDE - 1)) < 0.5 * SIDE)
        x, y, magnitudes = x[inside], y[inside], self.magnitudes[near][inside]
        magnitudes = magnitudes + random.normal(0.0, MAGNITUDE_NOISE, len(x))
        seen = np.argsort(magnitudes)[:MOST_STARS]
        seen = seen[random.random(len(seen)) > MISSING]
        places = np.column_stack([x[seen], y[seen]]) + random.normal(0.0, CENTROID_NOISE, (len(seen), 2))
        n_spurious = round(SPURIOUS / (1.0 - SPURIOUS) * len(seen))
        spurious = random.uniform(-0.5, SIDE - 0.5, (n_spurious, 2))
        told = magnitudes[seen]
        invented = random.choice(told, n_spurious) if len(told) else np.zeros(n_spurious)
        all_places, all_magnitudes = np.concatenate([places, spurious]), np.concatenate([told, invented])
        return List(
            all_places[:, 0], all_places[:, 1], 10.0 ** (-0.4 * all_magnitudes), width, focal, rotation, parity,
            distortion, len(seen),
        )  # fmt: skip

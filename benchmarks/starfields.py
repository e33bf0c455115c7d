"""Lists of sources of pictures all over the sky, drawn from a catalog, and how far solutions are from the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from skylake.core.sphere import ra_dec, unit_vectors
from skylake.image.wcs.lens import Lens

Floats = np.ndarray

SIDE = 1024
HALF = SIDE * 0.5**0.5
MISSING, SPURIOUS, MAGNITUDE_NOISE, CENTROID_NOISE, DISTORTION = 0.3, 0.3, 0.3, 0.15, 0.02
MOST_STARS = 200
#: How far the optical axis is from the middle of the picture, in half diagonals.
AXIS = 0.05


@dataclass(frozen=True, slots=True)
class List:
    """Sources of a square picture, 0-based pixels, and the truth: width in degrees, lens, number of stars."""

    x: Floats
    y: Floats
    flux: Floats
    width_deg: float
    lens: Lens
    n_stars: int

    @property
    def scale_arcsec(self) -> float:
        """Arcsec per pixel at the axis."""
        return float(np.degrees(1.0 / self.lens.focal_px) * 3600.0)

    @property
    def centre(self) -> tuple[float, float]:
        """Right ascension and declination of the middle of the picture, degrees."""
        ra, dec = ra_dec(self.lens.to_vectors(0.5 * (SIDE - 1), 0.5 * (SIDE - 1)))
        return float(ra), float(dec)

    def error_px(self, to_sky: Callable[[Floats, Floats], tuple[Floats, Floats]]) -> float:
        """Return the median distance, over the picture, between where a solution puts pixels and where they are."""
        grid = np.linspace(0.0, SIDE - 1.0, 5)
        x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
        with np.errstate(invalid="ignore", divide="ignore"):
            true_x, true_y = self.lens.to_pixels(unit_vectors(*to_sky(x, y)))
        return float(np.median(np.nan_to_num(np.hypot(true_x - x, true_y - y), nan=1e9)))


def draw_lens(random: np.random.Generator, width_deg: float) -> Lens:
    """Draw a lens that the solver does not know: distortion of order 5, decentring, an axis beside the middle."""
    focal = 0.5 * SIDE / np.tan(np.radians(0.5 * width_deg))
    corner = HALF / focal
    amount = float(random.choice([-1, 1]) * DISTORTION)
    beside = AXIS * HALF * random.normal(size=2) + 0.5 * (SIDE - 1)
    mirrored = bool(random.integers(2))
    lens = Lens.aimed(random.normal(size=3), random.normal(size=3), focal, tuple(beside), mirrored=mirrored)
    return replace(
        lens,
        radial=(1.6 * amount / corner**2, -0.6 * amount / corner**4, 0.0),
        decentring=(0.02 * amount / corner, -0.01 * amount / corner),
    )


class Sky:
    """Stars of a catalog, from which lists are drawn."""

    def __init__(self, vectors: Floats, magnitudes: Floats) -> None:
        self.vectors, self.magnitudes = vectors, magnitudes
        self.tree = cKDTree(vectors)

    def brightest(self, axis: Floats, radius: float, most: int) -> np.ndarray:
        """Return which stars are the brightest so many within a radius, radians, of a direction."""
        near = np.array(self.tree.query_ball_point(axis, 2.0 * np.sin(0.5 * radius)), np.intp)
        return near[np.argsort(self.magnitudes[near])[:most]]

    def draw(self, seed: int, narrowest_deg: float = 0.7, widest_deg: float = 40.0) -> List:
        """Draw a list: the width of the picture evenly in its logarithm, attitude and parity at random."""
        random = np.random.default_rng(seed)
        width = float(np.exp(random.uniform(np.log(narrowest_deg), np.log(widest_deg))))
        lens = draw_lens(random, width)
        middle = lens.to_vectors(0.5 * (SIDE - 1), 0.5 * (SIDE - 1))
        reach = 1.15 * np.arctan(HALF / lens.focal_px)
        near = self.tree.query_ball_point(middle, 2.0 * np.sin(0.5 * reach))
        x, y = lens.to_pixels(self.vectors[near])
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
        flux = 10.0 ** (-0.4 * all_magnitudes)
        return List(all_places[:, 0], all_places[:, 1], flux, width, lens, len(seen))

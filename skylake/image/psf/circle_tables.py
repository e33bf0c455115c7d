"""Tables of circular apertures, and the mean light of stars that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from skylake.image.psf.forced_aperture_kernels import CircleTables, aperture_table
from skylake.image.psf.psf_model import N_BASIS, FramePsf

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

#: Apertures are centred to a fraction of a pixel, small ones, which feel it, to a smaller one.
_PHASES = (32, 16)
_SMALL_PX = 4.0
#: Places within a pixel, along each axis, over which the light that an aperture holds is averaged.
_PLACES = 4


@dataclass(frozen=True, slots=True)
class Circles:
    """Circles around stars.

    Attributes
    ----------
    tables : ndarray of float32
        Parts of pixels within each circle, one circle after the other; see
        :func:`~skylake.image.psf.forced_aperture_kernels.aperture_table`.
    phases, halves : ndarray of int, shape (circles,)
        Their phases, and half sizes of their stamps.
    main : int
        The one that is looked at for bad pixels.
    means : tuple
        Of each circle offsets of pixels in x and y, and weights.
    """

    tables: Single
    phases: npt.NDArray[np.int64]
    halves: npt.NDArray[np.int64]
    main: int
    means: tuple[tuple[Floats, Floats, Single], ...]

    @classmethod
    def none(cls) -> Circles:
        """Return no circles."""
        return cls(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64), 0, ())

    @classmethod
    def of(cls, radii: tuple[float, ...], main: int) -> Circles:
        """Return circles of some radii, pixels."""
        return _circles(radii, main)

    def with_light(self, psf: FramePsf) -> CircleTables:
        """Return the circles as kernels read them, for stars of a frame."""
        return CircleTables(self.tables, self.phases, self.halves, self.main, self.light(psf))

    def light(self, psf: FramePsf) -> Floats:
        """Return the light that belongs to each coefficient of a star, shape (circles, squares, 26).

        How much of a star a circle holds depends on where in its pixel the star is: by 1e-3 at the radius of a full
        width. The mean over places is what aperture corrections refer to. It is given within squares of half size 0,
        1, 2, ..., up to that of each circle.
        """
        light = np.zeros((len(self.halves), int(self.halves.max(initial=0)) + 1, N_BASIS))
        for circle, (x, y, weights) in enumerate(self.means):
            light[circle, : len(weights)] = np.cumsum(psf.light_of_terms(x, y, weights), axis=0)
        return light


@lru_cache(maxsize=4)
def _circles(radii: tuple[float, ...], main: int) -> Circles:
    halves = [int(np.ceil(radius)) for radius in radii]
    phases = [_PHASES[0] if radius < _SMALL_PX else _PHASES[1] for radius in radii]
    tables = [aperture_table(*circle).reshape(-1) for circle in zip(radii, halves, phases, strict=True)]
    means = tuple(_mean(*circle) for circle in zip(radii, halves, strict=True))
    return Circles(np.concatenate(tables), np.array(phases), np.array(halves), main, means)


def _mean(radius: float, half: int) -> tuple[Floats, Floats, Single]:
    """Return offsets of pixels of some places at even distances within a pixel, and their weights in square rings."""
    side, n = 2 * half + 1, _PLACES
    table = aperture_table(radius, half, n)[:, :, : side * side].reshape(n, n, side, side)
    grid, shift = np.arange(-half, half + 1.0), (np.arange(n) + 0.5) / n - 0.5
    offsets = grid - shift[:, None]
    y, x = np.broadcast_arrays(offsets[:, None, :, None], offsets[None, :, None, :])
    square = np.maximum(np.abs(grid)[:, None], np.abs(grid)[None, :])
    weights = np.stack([table * (square == reach) / n**2 for reach in range(half + 1)])
    flat = weights.reshape(half + 1, -1).astype(np.float32)
    return np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(y).reshape(-1), flat

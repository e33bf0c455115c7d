"""A polygon on the sky, whose edges are arcs of great circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import FloatArray, IntArray, ra_dec, separation_deg, tangent_basis, unit_vectors
from skylake.errors import UsageError
from skylake.sky.pixels import cone_ranges

#: A polygon lies within this of the middle of its vertices, degrees: then one side of it is the inside.
_LARGEST_DEG = 85.0


@dataclass(frozen=True)
class Polygon:
    """A polygon; of the two sides of its edges the smaller one is the inside.

    Parameters
    ----------
    vertices_deg : sequence of (float, float)
        Right ascension and declination of each, in their order around; the last is joined to the first.

    Raises
    ------
    UsageError
        If there are fewer than three, or they are so far apart that either side may be meant.
    """

    vertices_deg: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        if len(set(self.vertices_deg)) < 3:
            raise UsageError("a polygon has three vertices or more; give RA and Dec of each")
        if self._radius_deg > _LARGEST_DEG:
            raise UsageError(
                f"the polygon reaches {self._radius_deg:.0f} degrees from its middle, more than {_LARGEST_DEG:.0f}; "
                "divide it"
            )

    @cached_property
    def _directions(self) -> FloatArray:
        return unit_vectors(*np.asarray(self.vertices_deg, float).T)

    @cached_property
    def _middle_deg(self) -> tuple[float, float]:
        ra, dec = ra_dec(self._directions.sum(axis=0))
        return float(ra), float(dec)

    @property
    def _radius_deg(self) -> float:
        return float(separation_deg(*self._middle_deg, *np.asarray(self.vertices_deg, float).T).max())

    @property
    def ranges(self) -> IntArray:
        """Ranges of the index that cover it."""
        return cone_ranges(*self._middle_deg, self._radius_deg)

    def holds(self, ra_deg: FloatArray, dec_deg: FloatArray) -> npt.NDArray[np.bool_]:
        """Return which positions are in the polygon; a NaN is not.

        Seen from the centre of the sphere great circles are straight lines on a plane (the gnomonic projection), so a
        position is inside if a ray from it crosses an odd number of edges there.
        """
        x, y, in_front = self._on_plane(unit_vectors(ra_deg, dec_deg))
        inside = np.zeros(x.shape, bool)
        x1, y1, _ = self._on_plane(self._directions)
        for left, low, right, high in zip(x1, y1, np.roll(x1, -1), np.roll(y1, -1), strict=True):
            if low != high:
                crossing = (right - left) * (y - low) / (high - low) + left
                inside ^= ((low > y) != (high > y)) & (x < crossing)
        return np.asarray(inside & in_front)

    def _on_plane(self, directions: FloatArray) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
        """Return places on the plane that touches the sphere in the middle, and which are on this side of it."""
        east, north = tangent_basis(*self._middle_deg)
        depth = directions @ unit_vectors(*self._middle_deg)
        scale = np.where(depth > 0.0, depth, np.nan)
        return directions @ east / scale, directions @ north / scale, depth > 0.0

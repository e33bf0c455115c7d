"""The lens model: directions to pixels and back, for fields from a degree to the whole sky.

A direction is turned into the frame of the camera, projected by an ideal lens (:mod:`~skylake.image.wcs.projections`)
to a radius ``rho``, moved along it by an odd polynomial, moved by decentring (Brown 1966, Photogramm. Eng. 32, 444),
stretched and scaled to pixels::

    rho  ->  rho (1 + k1 rho^2 + k2 rho^4 + k3 rho^6)                     radial
    u, v ->  u + p1 (r^2 + 2 u^2) + 2 p2 u v,  v + 2 p1 u v + p2 (r^2 + 2 v^2)   decentring
    u, v ->  (1 + a1) u + a2 v,  a2 u + (1 - a1) v                       stretch
    x, y  =  x0 + f u,  y0 + f v

There is no tilt of the detector: to second order of the radius it is a change of the centre, of the attitude and of
the decentring, all of which are there. The stretch takes what refraction, aberration and pixels that are not square
do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from skylake.core.rotations import rotation_matrix, rotation_vector
from skylake.image.wcs.field_refraction import Bending
from skylake.image.wcs.projections import PROJECTIONS, LensProjection

Floats = npt.NDArray[np.float64]

#: The parameters of a lens in their order.
NAMES = ("w1", "w2", "w3", "focal_px", "x0", "y0", "k1", "k2", "k3", "p1", "p2", "a1", "a2")
#: Rounds of Newton's method: within a cell of the table it doubles the digits each round.
_ROUNDS = 6
_TABLE_POINTS = 1024
#: What Newton's method has not brought this near, in units of the focal length, has no inverse.
_CONVERGED = 1e-11
#: The polynomial is taken to turn where its slope is this small: the inverse needs some.
_LEAST_SLOPE = 1e-3
#: Terms of that slope which are nowhere larger are left out of its roots.
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, slots=True)
class Lens:
    """Where a camera sees which direction. Directions are unit vectors of any frame, ICRS or of the horizon.

    Attributes
    ----------
    rotation : tuple of float
        Rotation vector (rad) from the frame of the directions to that of the camera, whose third axis is the optical
        axis and whose second is that of y.
    focal_px : float
        Focal length in pixels: radians to pixels at the axis.
    x0, y0 : float
        The pixel of the optical axis, 0-based.
    radial, decentring, stretch : tuple of float
        ``(k1, k2, k3)``, ``(p1, p2)`` and ``(a1, a2)`` of the formulae above.
    projection : str
        A key of :data:`~skylake.image.wcs.projections.PROJECTIONS`.
    mirrored : bool
        False if, with y up, the image shows a right-handed frame as from within the sphere: north up, east to the
        left.
    bending : Bending or None
        Refraction of directions before they reach the lens; None for apparent directions.
    """

    rotation: tuple[float, float, float]
    focal_px: float
    x0: float
    y0: float
    radial: tuple[float, float, float] = (0.0, 0.0, 0.0)
    decentring: tuple[float, float] = (0.0, 0.0)
    stretch: tuple[float, float] = (0.0, 0.0)
    projection: str = "rectilinear"
    mirrored: bool = False
    bending: Bending | None = None

    @classmethod
    def aimed(
        cls,
        axis: npt.ArrayLike,
        up: npt.ArrayLike,
        focal_px: float,
        centre: tuple[float, float],
        projection: str = "rectilinear",
        mirrored: bool = False,
    ) -> Lens:
        """Return a lens without distortion whose axis points to one direction, and whose y axis towards another."""
        forward = np.asarray(axis, float) / np.linalg.norm(axis)
        upward = np.asarray(up, float) - forward * float(np.dot(up, forward))
        upward /= np.linalg.norm(upward)
        matrix = np.array([np.cross(upward, forward), upward, forward])
        return cls.of_matrix(matrix, focal_px, centre, projection, mirrored)

    @classmethod
    def of_matrix(
        cls,
        matrix: Floats,
        focal_px: float,
        centre: tuple[float, float],
        projection: str = "rectilinear",
        mirrored: bool = False,
    ) -> Lens:
        """Return a lens without distortion of the rotation matrix that :attr:`matrix` has; shape (3, 3)."""
        return cls(rotation_vector(matrix), focal_px, *centre, projection=projection, mirrored=mirrored)

    @classmethod
    def from_parameters(cls, values: Sequence[float] | Floats, projection: str, mirrored: bool) -> Lens:
        """Return the lens of the numbers that :meth:`parameters` gives."""
        w1, w2, w3, focal, x0, y0, k1, k2, k3, p1, p2, a1, a2 = (float(value) for value in values)
        return cls((w1, w2, w3), focal, x0, y0, (k1, k2, k3), (p1, p2), (a1, a2), projection, mirrored)

    def parameters(self) -> Floats:
        """Return the numbers of the lens in the order of :data:`NAMES`, shape (13,)."""
        numbers = (*self.rotation, self.focal_px, self.x0, self.y0)
        return np.array([*numbers, *self.radial, *self.decentring, *self.stretch])

    @property
    def matrix(self) -> Floats:
        """The rotation from the frame of the directions to that of the camera, shape (3, 3)."""
        return rotation_matrix(self.rotation)

    @property
    def axis(self) -> Floats:
        """The direction of the optical axis, shape (3,)."""
        return np.asarray(self.matrix[2])

    @property
    def rho_limit(self) -> float:
        """The radius up to which the lens maps one direction to one pixel, in focal lengths before distortion."""
        return _rho_limit(self.projection, self.radial)

    @property
    def _kind(self) -> LensProjection:
        return PROJECTIONS[self.projection]

    @property
    def _handed(self) -> float:
        """The sign of x: seen from within a sphere, east and north are left-handed."""
        return 1.0 if self.mirrored else -1.0

    def moved(self, step: Floats) -> Lens:
        """Return the lens a step on, shape (13,): turned about its own axes (rad), its focal length times ``exp``."""
        values = self.parameters() + step
        values[:3] = rotation_vector(rotation_matrix(step[:3]) @ self.matrix)
        values[3] = self.focal_px * math.exp(step[3])
        return replace(self.from_parameters(values, self.projection, self.mirrored), bending=self.bending)

    def turned(self, matrix: Floats) -> Lens:
        """Return the lens for directions of another frame, which a rotation of shape (3, 3) leads to this one."""
        bending = None if self.bending is None else self.bending.turned(matrix)
        return replace(self, rotation=rotation_vector(self.matrix @ matrix), bending=bending)

    def to_pixels(self, vectors: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the 0-based pixels of directions of shape (..., 3); NaN beyond what the lens shows."""
        flat = np.asarray(vectors, float)
        u, v, *_ = self._projected(flat.reshape(-1, 3))
        u, v = self._bent_radially(u, v)
        x, y = self._imaged(*self._decentred(*self._unfolded(u, v)))
        return x.reshape(flat.shape[:-1]), y.reshape(flat.shape[:-1])

    def _projected(self, vectors: Floats) -> tuple[Floats, ...]:
        """Return the ideal image, the directions in the frame of the image, and ratio and slope of the projection."""
        apparent = vectors if self.bending is None else self.bending.apparent(vectors)
        across, upward, depth = self.matrix @ apparent.T
        across = self._handed * across
        sine = np.hypot(across, upward)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio, slope = self._kind.spread(sine, depth)
            shown = (ratio * sine <= self.rho_limit) & (depth >= math.cos(self._kind.limit))
        # Straight behind there is no way to go.
        shown &= (sine > 0.0) | (depth > 0.0)
        ratio = np.where(shown, ratio, np.nan)
        return ratio * across, ratio * upward, across, upward, depth, ratio, slope

    def _bent_radially(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        k1, k2, k3 = self.radial
        square = u * u + v * v
        factor = 1.0 + square * (k1 + square * (k2 + square * k3))
        return factor * u, factor * v

    def _decentred(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        p1, p2 = self.decentring
        square, cross = u * u + v * v, 2.0 * u * v
        return u + p1 * (square + 2.0 * u * u) + p2 * cross, v + p1 * cross + p2 * (square + 2.0 * v * v)

    def _unfolded(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Return places, NaN where decentring folds the image over: where its Jacobian is not positive.

        That is symmetric and grows in proportion to the place, so the places where it is positive are a convex part
        of the plane, in which no two come to the same.
        """
        if self.decentring == (0.0, 0.0):
            return u, v
        whole = _positive(self._decentring_slopes(u, v))
        return np.where(whole, u, np.nan), np.where(whole, v, np.nan)

    def _imaged(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        a1, a2 = self.stretch
        x = self.x0 + self.focal_px * ((1.0 + a1) * u + a2 * v)
        return x, self.y0 + self.focal_px * (a2 * u + (1.0 - a1) * v)

    def derivatives(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Return pixels of directions, and how they move with a step of :meth:`moved`.

        Parameters
        ----------
        vectors : ndarray, shape (n, 3)

        Returns
        -------
        pixels : ndarray, shape (2, n)
            0-based; NaN beyond what the lens shows.
        derivatives : ndarray, shape (13, 2, n)
        """
        # What only looks at lenses does without the compiler.
        from skylake.image.wcs.lens_kernels import derive

        u, v, *directions = self._projected(vectors)
        ideal = np.stack([u, v, *directions], axis=-1)
        bent = np.array(self._unfolded(*self._bent_radially(u, v)))
        place = np.array(self._decentred(bent[0], bent[1]))
        terms = np.array([*self.radial, *self.decentring, *self.stretch])
        derivatives = np.empty((len(NAMES), *place.shape))
        derive(ideal, bent, place, terms, self.focal_px, self._handed, derivatives)
        return np.array(self._imaged(place[0], place[1])), derivatives

    def _decentring_slopes(self, u: Floats, v: Floats) -> Floats:
        """Return the derivatives of the decentring with the place, shape (2, 2, n)."""
        p1, p2 = self.decentring
        across = 2.0 * (p1 * v + p2 * u)
        return np.array(
            [[1.0 + 6.0 * p1 * u + 2.0 * p2 * v, across], [across, 1.0 + 2.0 * p1 * u + 6.0 * p2 * v]]
        )

    def to_vectors(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
        """Return the directions of 0-based pixels, shape (..., 3); NaN where the lens shows nothing."""
        wide, high = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        u, v, rho, radius = self._ideal(wide.reshape(-1), high.reshape(-1))
        theta = self._kind.angle(rho)
        # At the axis any direction across has length 0.
        share = self._handed / np.where(radius > 0.0, radius, 1.0)
        sine = np.sin(theta)
        camera = np.stack([sine * u * share, sine * v * share * self._handed, np.cos(theta)])
        apparent = np.asarray((self.matrix.T @ camera).T.reshape(*wide.shape, 3))
        return apparent if self.bending is None else self.bending.true(apparent)

    def solid_angle(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
        """Return the solid angle (sr) of pixels around 0-based places, from the Jacobian there."""
        wide, high = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        u, v, rho, _ = self._ideal(wide.reshape(-1), high.reshape(-1))
        theta = self._kind.angle(rho)
        safe = np.where(rho > 0.0, rho, 1.0)
        sphere = np.where(rho > 0.0, np.sin(theta) / safe, 1.0 + 0.0 * theta) / self._kind.slope(theta)
        length, slope = self._radial(rho)
        a1, a2 = self.stretch
        (along_u, across), (_, along_v) = self._decentring_slopes(u, v)
        bent = along_u * along_v - across * across
        plane = np.where(rho > 0.0, length / safe, 1.0) * slope * bent * (1.0 - a1 * a1 - a2 * a2)
        return np.asarray((sphere / plane / self.focal_px**2).reshape(wide.shape))

    def _radial(self, rho: Floats) -> tuple[Floats, Floats]:
        """Return the radius after the polynomial, and its slope."""
        k1, k2, k3 = self.radial
        square = rho * rho
        slope = 1.0 + square * (3.0 * k1 + square * (5.0 * k2 + square * 7.0 * k3))
        return rho * (1.0 + square * (k1 + square * (k2 + square * k3))), slope

    def _ideal(self, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the image before decentring, the radius before the polynomial, and that after it."""
        a1, a2 = self.stretch
        determinant = self.focal_px * (1.0 - a1 * a1 - a2 * a2)
        wide, high = (x - self.x0) / determinant, (y - self.y0) / determinant
        u, v = self._centred((1.0 - a1) * wide - a2 * high, (1.0 + a1) * high - a2 * wide)
        radius = np.hypot(u, v)
        return u, v, self._undone(radius), radius

    def _centred(self, wide: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Undo the decentring by Newton's method; NaN where it does not converge."""
        if self.decentring == (0.0, 0.0):
            return wide, high
        u, v = wide, high
        with np.errstate(all="ignore"):
            for _ in range(_ROUNDS):
                moved_u, moved_v = self._decentred(u, v)
                off_u, off_v = moved_u - wide, moved_v - high
                slopes = self._decentring_slopes(u, v)
                (along_u, across), (_, along_v) = slopes
                determinant = along_u * along_v - across * across
                u = u - (along_v * off_u - across * off_v) / determinant
                v = v - (along_u * off_v - across * off_u) / determinant
            lost = ~(np.hypot(off_u, off_v) <= _CONVERGED * (1.0 + np.hypot(wide, high))) | ~_positive(slopes)
        return np.where(lost, np.nan, u), np.where(lost, np.nan, v)

    def _undone(self, radius: Floats) -> Floats:
        """Undo the polynomial: a table brackets the root, Newton's method finds it; NaN beyond the largest radius."""
        if self.radial == (0.0, 0.0, 0.0):
            return np.where(radius <= self.rho_limit, radius, np.nan)
        grid = np.linspace(0.0, 1.0, _TABLE_POINTS) * self._reach(radius)
        table = self._radial(grid)[0]
        outside = ~(radius <= table[-1])
        wanted = np.where(outside, 0.0, radius)
        rho = np.interp(wanted, table, grid)
        cell = np.clip(np.searchsorted(table, wanted, side="right") - 1, 0, _TABLE_POINTS - 2)
        low, high = grid[cell], grid[cell + 1]
        for _ in range(_ROUNDS):
            length, slope = self._radial(rho)
            rho = np.clip(rho - (length - wanted) / slope, low, high)
        return np.where(outside, np.nan, rho)

    def _reach(self, radius: Floats) -> float:
        """Return a radius before the polynomial that is no less than needed, so that the table is fine there."""
        largest = float(np.max(radius, initial=0.0, where=np.isfinite(radius)))
        reach = limit = self.rho_limit
        while float(self._radial(np.array(0.5 * reach))[0]) > largest and reach > 1e-9 * limit:
            reach *= 0.5
        return reach


def _positive(slopes: Floats) -> npt.NDArray[np.bool_]:
    """Return which symmetric matrices, shape (2, 2, n), have positive eigenvalues alone; NaN has not."""
    (first, across), (_, second) = slopes
    return np.asarray((first * second > across * across) & (first + second > 0.0))


@lru_cache(maxsize=256)
def _rho_limit(projection: str, radial: tuple[float, ...]) -> float:
    """Return where the polynomial turns back; a fit asks for it again and again."""
    kind = PROJECTIONS[projection]
    largest = float(kind.radius(kind.limit))
    # In units of the largest radius, so that what is nothing there is seen to be nothing.
    terms = [(2 * n + 1) * k * largest ** (2 * n) for n, k in enumerate((1.0, *radial))]
    terms[0] -= _LEAST_SLOPE
    roots = largest**2 * np.roots([term if abs(term) > _NEGLIGIBLE else 0.0 for term in reversed(terms)])
    turns = roots.real[(np.abs(roots.imag) <= 1e-9 * np.abs(roots.real)) & (roots.real > 0)]
    return min(largest, math.sqrt(turns.min())) if turns.size else largest

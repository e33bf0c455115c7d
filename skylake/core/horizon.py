"""Horizon coordinates of a site at an instant: directions above the horizon to ICRS and back.

Horizontal directions are unit vectors whose components point east, north and up; ICRS ones are as
:mod:`skylake.core.sphere` has them. Between them lie the rotation of the Earth, the aberration by its motion, and
refraction. The bending by the Sun and polar motion (below half a second of arc) are left out, and UT1 is taken as UTC
unless its difference is given (at most 0.9 s, 14 arcsec along the parallel).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Site
from skylake.core.ephemeris import horizon_axes, observer_velocity
from skylake.core.refraction import Air, Refraction
from skylake.core.sphere import FloatArray


@dataclass(frozen=True, slots=True)
class Horizon:
    """The horizon of a site at an instant.

    Attributes
    ----------
    axes : ndarray, shape (3, 3)
        East, north and up in the ICRS, as rows.
    velocity : ndarray, shape (3,)
        Of the observer about the barycentre of the solar system, in units of that of light.
    refraction : Refraction
    """

    axes: FloatArray
    velocity: FloatArray
    refraction: Refraction

    @classmethod
    def of(cls, mjd_utc: float, site: Site, air: Air | None = None, ut1_utc_s: float = 0.0) -> Horizon:
        """Return the horizon of a site.

        Parameters
        ----------
        mjd_utc : float
        site : Site
        air : Air or None
            None takes :meth:`~skylake.core.refraction.Air.above` of the site, in green light.
        ut1_utc_s : float
            UT1 - UTC, seconds.

        Raises
        ------
        ValueError
            If the site has no longitude or latitude.
        """
        up, north, east = horizon_axes(mjd_utc + ut1_utc_s / 86400.0, site)
        refraction = Refraction.of(Air.above(site) if air is None else air)
        return cls(np.stack([east, north, up]), observer_velocity(mjd_utc, site), refraction)

    def to_horizon(self, icrs: npt.ArrayLike) -> FloatArray:
        """Return where stars appear; unit vectors of shape (..., 3) both."""
        return self._lifted(_aberrated(np.asarray(icrs, float), self.velocity) @ self.axes.T, up=True)

    def to_icrs(self, apparent: npt.ArrayLike) -> FloatArray:
        """Return the directions of stars that appear somewhere; unit vectors of shape (..., 3) both."""
        true = self._lifted(np.asarray(apparent, float), up=False)
        return _aberrated(true @ self.axes, -self.velocity)

    def _lifted(self, vectors: FloatArray, up: bool) -> FloatArray:
        across = np.hypot(vectors[..., 0], vectors[..., 1])
        before = np.arctan2(vectors[..., 2], across)
        after = self.refraction.apparent(before) if up else before - self.refraction.lifts(before)
        share = np.cos(after) / np.where(across > 0.0, across, 1.0)
        return np.stack([vectors[..., 0] * share, vectors[..., 1] * share, np.sin(after)], axis=-1)


def _aberrated(vectors: FloatArray, velocity: FloatArray) -> FloatArray:
    """Return directions as one sees them who moves; the opposite velocity undoes it (Einstein 1905)."""
    along = vectors @ velocity
    contraction = np.sqrt(1.0 - velocity @ velocity)
    forward = (1.0 + along / (1.0 + contraction))[..., None] * velocity
    return np.asarray((contraction * vectors + forward) / (1.0 + along)[..., None])


def altitude_azimuth(vectors: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return altitude, and azimuth from north through east in [0, 360), of horizontal directions; degrees."""
    east, north, up = np.moveaxis(np.asarray(vectors, float), -1, 0)
    return np.degrees(np.arctan2(up, np.hypot(east, north))), np.degrees(np.arctan2(east, north)) % 360.0


def horizontal_vectors(altitude_deg: npt.ArrayLike, azimuth_deg: npt.ArrayLike) -> FloatArray:
    """Return unit vectors, shape (..., 3), of altitudes and azimuths in degrees."""
    altitude, azimuth = (
        np.radians(np.asarray(altitude_deg, float)),
        np.radians(np.asarray(azimuth_deg, float)),
    )
    across = np.cos(altitude)
    return np.stack(
        [across * np.sin(azimuth), across * np.cos(azimuth), np.sin(altitude) + 0.0 * azimuth], axis=-1
    )

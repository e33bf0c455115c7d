"""Differential refraction over a field: the air bends the light of lower stars more.

The lens of an ordinary camera leads from the ICRS to pixels. Refraction as a whole is a turn, which its attitude
takes; what is left, a compression towards the zenith that grows with the distance from it, belongs to the air and not
to the camera. It is taken off the stars before a lens is fitted, so that the lens is the same at any altitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera
from skylake.core.ephemeris import horizon_axes
from skylake.core.refraction import Air, Refraction
from skylake.core.sphere import unit_vectors

Floats = npt.NDArray[np.float64]
Triple = tuple[float, float, float]

#: Why a frame is fitted without refraction, and that it is fitted with it.
APPLIED, OFF, NO_SITE, NO_TIME, BELOW = "applied", "off", "no_site", "no_time", "below_horizon"


@dataclass(frozen=True, slots=True)
class Bending:
    """Refraction over a field, without the turn that it is in the middle.

    Attributes
    ----------
    zenith, centre : tuple of float
        Unit vectors of the zenith and of the middle of the field; of any frame, the same as of the directions.
    air : Air
    """

    zenith: Triple
    centre: Triple
    air: Air

    def apparent(self, vectors: npt.ArrayLike) -> Floats:
        """Return where stars appear beside the middle of the field, which stays; unit vectors, shape (..., 3)."""
        return np.asarray(self._lifted(np.asarray(vectors, float), up=True) @ self._back().T)

    def true(self, vectors: npt.ArrayLike) -> Floats:
        """Return the directions of stars that appear somewhere: the inverse of :meth:`apparent`."""
        return self._lifted(np.asarray(vectors, float) @ self._back(), up=False)

    def turned(self, matrix: Floats) -> Bending:
        """Return the same for directions of another frame, which a rotation of shape (3, 3) leads to this one."""
        zenith, centre = (_triple(np.array(direction) @ matrix) for direction in (self.zenith, self.centre))
        return replace(self, zenith=zenith, centre=centre)

    def _lifted(self, vectors: Floats, up: bool) -> Floats:
        zenith = np.array(self.zenith)
        sine = np.asarray(vectors @ zenith)
        level = vectors - sine[..., None] * zenith
        cosine = np.linalg.norm(level, axis=-1)
        refraction, before = Refraction.of(self.air), np.arctan2(sine, cosine)
        after = refraction.apparent(before) if up else before - refraction.lifts(before)
        # At the zenith itself nothing is lifted.
        share = np.cos(after) / np.where(cosine > 0.0, cosine, 1.0)
        return np.asarray(level * share[..., None] + np.sin(after)[..., None] * zenith)

    def _back(self) -> Floats:
        """Return the rotation that brings the middle of the field back to where it is without air, shape (3, 3)."""
        from skylake.core.rotations import rotation_matrix

        centre = np.array(self.centre)
        seen = self._lifted(centre, up=True)
        across = np.cross(seen, centre)
        sine = float(np.linalg.norm(across))
        angle = math.atan2(sine, float(seen @ centre))
        return rotation_matrix(across * (angle / sine)) if sine > 0.0 else np.eye(3)

    def values(self) -> dict[str, Any]:
        """Return it as numbers with names, which :meth:`from_values` reads."""
        air = self.air
        return {
            "zenith": list(self.zenith),
            "centre": list(self.centre),
            "pressure_hpa": air.pressure_hpa,
            "temperature_c": air.temperature_c,
            "wavelength_um": air.wavelength_um,
            "height_m": air.height_m,
        }

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Bending:
        """Return what :meth:`values` describes; raise KeyError, TypeError or ValueError for anything else."""
        air = Air(
            *(float(values[name]) for name in ("pressure_hpa", "temperature_c", "wavelength_um", "height_m"))
        )
        return cls(_triple(values["zenith"]), _triple(values["centre"]), air)


def bending_of(
    camera: Camera, band: str | None, mjd: float | None, ra_deg: float, dec_deg: float
) -> tuple[Bending | None, str]:
    """Return the refraction over a field, or None and why it cannot be determined.

    Parameters
    ----------
    camera : Camera
        Whose site gives the air: the standard atmosphere at its height where the profile has no better numbers.
    band : str or None
        Whose wavelength refraction is that of; 0.55 micrometres if it is not known.
    mjd : float or None
        Middle of the exposure, UTC.
    ra_deg, dec_deg : float
        Middle of the field.

    Returns
    -------
    bending : Bending or None
    word : str
        What ``frames.astrom_refraction`` holds.
    """
    if not camera.astrometry.refraction:
        return None, OFF
    if not camera.site.known:
        return None, NO_SITE
    if mjd is None:
        return None, NO_TIME
    zenith, centre = horizon_axes(mjd, camera.site)[0], unit_vectors(ra_deg, dec_deg)
    if not float(zenith @ centre) > 0.0:
        return None, BELOW
    return Bending(_triple(zenith), _triple(centre), Air.above(camera.site, band)), APPLIED


def _triple(vector: npt.ArrayLike) -> Triple:
    x, y, z = (float(value) for value in np.asarray(vector, float))
    return x, y, z

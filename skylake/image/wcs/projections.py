"""Ideal lens projections: radius in the image as a function of the angle from the axis.

A radius ``rho`` is in units of the focal length, and ``rho = theta`` near the axis. Formulae: Ray (2002), Applied
Photographic Optics, ch. 28; the same projections of FITS are those of Calabretta & Greisen (2002, A&A 395, 1077).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Below this sine of the angle from the axis, its ratio to the angle is a series.
_SMALL = 1e-3


@dataclass(frozen=True, slots=True)
class LensProjection:
    """An ideal lens.

    Attributes
    ----------
    name : str
    code : str
        The projection of FITS that it is.
    limit : float
        The largest angle from the axis that it can show, rad.
    """

    name: str
    code: str
    limit: float

    def radius(self, theta: npt.ArrayLike) -> Floats:
        """Return the radius of angles from the axis (rad)."""
        angle = np.asarray(theta, float)
        match self.name:
            case "rectilinear":
                return np.asarray(np.tan(angle))
            case "stereographic":
                return np.asarray(2.0 * np.tan(0.5 * angle))
            case "equisolid":
                return np.asarray(2.0 * np.sin(0.5 * angle))
            case "orthographic":
                return np.asarray(np.sin(angle))
        return angle

    def angle(self, rho: npt.ArrayLike) -> Floats:
        """Return the angle from the axis (rad) of radii; NaN beyond the largest."""
        radius = np.asarray(rho, float)
        with np.errstate(invalid="ignore"):
            match self.name:
                case "rectilinear":
                    return np.asarray(np.arctan(radius))
                case "stereographic":
                    return np.asarray(2.0 * np.arctan(0.5 * radius))
                case "equisolid":
                    return np.asarray(2.0 * np.arcsin(0.5 * radius))
                case "orthographic":
                    return np.asarray(np.arcsin(radius))
        return radius

    def slope(self, theta: npt.ArrayLike) -> Floats:
        """Return the derivative of the radius with the angle from the axis (rad)."""
        angle = np.asarray(theta, float)
        match self.name:
            case "rectilinear":
                return np.asarray(1.0 / np.cos(angle) ** 2)
            case "stereographic":
                return np.asarray(1.0 / np.cos(0.5 * angle) ** 2)
            case "equisolid":
                return np.asarray(np.cos(0.5 * angle))
            case "orthographic":
                return np.asarray(np.cos(angle))
        return np.ones_like(angle)

    def spread(self, sine: Floats, depth: Floats) -> tuple[Floats, Floats]:
        """Return radius over sine of the angle from the axis, and its derivative with the depth (the cosine).

        Parameters
        ----------
        sine, depth : ndarray, shape (n,)
            Length of a unit vector across the axis, and along it.
        """
        match self.name:
            case "rectilinear":
                return 1.0 / depth, -1.0 / depth**2
            case "stereographic":
                ratio = 2.0 / (1.0 + depth)
                return ratio, -0.5 * ratio**2
            case "equisolid":
                ratio = np.sqrt(2.0 / (1.0 + depth))
                return ratio, -0.25 * ratio**3
            case "orthographic":
                return np.ones_like(depth), np.zeros_like(depth)
        near = (sine < _SMALL) & (depth > 0)
        safe, short = np.where(near, 1.0, sine), np.where(near, 0.5 * sine * sine, 0.0)
        # 1 - depth loses digits near the axis; of its series two terms are left there.
        short += 0.5 * short * short
        ratio = np.where(near, 1.0 + short / 3.0 + 2.0 * short**2 / 15.0, np.arctan2(sine, depth) / safe)
        slope = np.where(near, -1.0 / 3.0 - 4.0 * short / 15.0, (depth * ratio - 1.0) / safe**2)
        return ratio, slope


#: No lens shows a plane to ninety degrees: the corner would be infinitely far.
_PLANE_LIMIT = math.radians(85.0)
PROJECTIONS = {
    kind.name: kind
    for kind in (
        LensProjection("rectilinear", "TAN", _PLANE_LIMIT),
        LensProjection("stereographic", "STG", math.radians(175.0)),
        LensProjection("equidistant", "ARC", math.pi),
        LensProjection("equisolid", "ZEA", math.pi),
        LensProjection("orthographic", "SIN", 0.5 * math.pi),
    )
}

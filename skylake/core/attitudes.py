"""Attitudes: rotations from the sky to a focal plane, and from there to the image of a detector.

The third axis of a focal plane is that of the telescope, its second the y axis of the plane; at a position angle
of 0 its first points to the east. The axes of an image are the same of its centre.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import ARCSEC_PER_RADIAN, ra_dec, tangent_basis, unit_vectors

Floats = npt.NDArray[np.float64]


def attitude_of(ra_deg: float, dec_deg: float, angle_deg: float) -> Floats:
    """Return the rotation from ICRS to a plane with a position angle of its y axis, shape (3, 3)."""
    east, north = tangent_basis(ra_deg, dec_deg)
    angle = math.radians(angle_deg)
    return _axes(unit_vectors(ra_deg, dec_deg), math.cos(angle) * north + math.sin(angle) * east)


def pointing_of_attitude(matrix: Floats) -> tuple[float, float, float]:
    """Return right ascension and declination of the axis, and the position angle of y, degrees."""
    ra, dec = (float(value) for value in ra_dec(matrix[2]))
    east, north = tangent_basis(ra, dec)
    return ra, dec, math.degrees(math.atan2(matrix[1] @ east, matrix[1] @ north)) % 360.0


def matrix_of_place(x_arcsec: float, y_arcsec: float, angle_deg: float) -> Floats:
    """Return the rotation from a focal plane to an image with its centre at a place of it, shape (3, 3).

    x runs to the west at a position angle of 0, and the angle is that of the image's y axis then; lengths are on
    the plane that touches the sky at the axis.
    """
    forward = np.array([-x_arcsec, y_arcsec, ARCSEC_PER_RADIAN])
    angle = math.radians(angle_deg)
    return _axes(forward / np.linalg.norm(forward), np.array([math.sin(angle), math.cos(angle), 0.0]))


def place_of_matrix(matrix: Floats) -> tuple[float, float, float]:
    """Return what :func:`matrix_of_place` was given: x and y in arcsec, and the angle in degrees."""
    forward, upward = matrix[2], matrix[1]
    x, y = -forward[0] / forward[2] * ARCSEC_PER_RADIAN, forward[1] / forward[2] * ARCSEC_PER_RADIAN
    along = upward - forward * (upward[2] / forward[2])
    return float(x), float(y), math.degrees(math.atan2(along[0], along[1]))


def _axes(forward: Floats, towards: Floats) -> Floats:
    upward = towards - forward * float(towards @ forward)
    upward = upward / np.linalg.norm(upward)
    return np.array([np.cross(upward, forward), upward, forward])

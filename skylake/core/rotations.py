"""Rotations of directions as vectors and as matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def rotation_matrix(vector: Sequence[float] | Floats) -> Floats:
    """Return the matrix of a rotation vector (rad), shape (3, 3) (Rodrigues 1840)."""
    turn = np.asarray(vector, float)
    angle = float(np.linalg.norm(turn))
    x, y, z = turn
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    # Near zero the quotients tend to 1 and 1/2.
    first = math.sin(angle) / angle if angle > 1e-9 else 1.0
    second = 2.0 * (math.sin(0.5 * angle) / angle) ** 2 if angle > 1e-9 else 0.5
    return np.asarray(np.eye(3) + first * cross + second * cross @ cross)


def rotation_vector(matrix: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the rotation vector (rad, at most pi long) of a rotation matrix, by way of its quaternion."""
    m = np.asarray(matrix, float)
    # The squares of the quaternion's parts, times four; the largest leads, so that none is lost (Shepperd 1978).
    squares = 1.0 + np.array([m[0, 0] + m[1, 1] + m[2, 2], *(2.0 * np.diag(m) - np.trace(m))])
    rows = np.array(
        [
            [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], squares[1], m[0, 1] + m[1, 0], m[2, 0] + m[0, 2]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], squares[2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[2, 0] + m[0, 2], m[1, 2] + m[2, 1], squares[3]],
        ]
    )
    quaternion = rows[int(np.argmax(squares))]
    quaternion = quaternion / np.linalg.norm(quaternion)
    if quaternion[0] < 0.0:
        quaternion = -quaternion
    sine = float(np.linalg.norm(quaternion[1:]))
    angle = 2.0 * math.atan2(sine, float(quaternion[0]))
    x, y, z = quaternion[1:] * (angle / sine if sine > 0.0 else 2.0)
    return float(x), float(y), float(z)

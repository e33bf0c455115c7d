"""Kernels that place catalog stars in a picture, given a guess of where it points.

A guess is an attitude (a rotation from the sky to the camera, whose third row is the optical axis) and a lens: focal
length in pixels, and two coefficients of radial distortion. With X, Y the gnomonic coordinates of a star, R its
distance f sqrt(X^2 + Y^2) from the axis in units of half the diagonal of the picture, and p the parity,

    x = p f X g,   y = f Y g,   g = 1 + k1 R^2 + k2 R^4,

in pixels from the centre of the picture.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray

#: Parameters of a guess: three turns, logarithm of the focal length, two distortions.
N_PARAMETERS = 6
#: Stars that are this cosine of an angle from the axis have no place in a plane.
_BEHIND = 0.05


class Picture(NamedTuple):
    """The chosen sources of a picture.

    Attributes
    ----------
    x, y : ndarray, shape (n,)
        Pixels from the centre of the picture.
    magnitudes : ndarray, shape (n,)
        Instrumental, of any zeropoint.
    nearest : ndarray of int32, shape (g, g)
        Source nearest to the middle of each cell of a grid, [row, column].
    width, height : float
        Pixels.
    """

    x: FloatArray
    y: FloatArray
    magnitudes: FloatArray
    nearest: npt.NDArray[np.int32]
    width: float
    height: float


class Guess(NamedTuple):
    """Where a picture may point.

    Attributes
    ----------
    rotation : ndarray, shape (3, 3)
        From the sky to the camera.
    lens : ndarray, shape (3,)
        Focal length in pixels, k1, k2.
    parity : int
        1, or -1 for a mirrored picture.
    """

    rotation: FloatArray
    lens: FloatArray
    parity: int


@kernel
def fill_nearest(
    x: FloatArray, y: FloatArray, width: float, height: float, nearest: npt.NDArray[np.int32]
) -> None:
    """Fill the grid of nearest sources."""
    rows, columns = nearest.shape
    for row in range(rows):
        cy = ((row + 0.5) / rows - 0.5) * height
        for column in range(columns):
            cx = ((column + 0.5) / columns - 0.5) * width
            best, found = 1e30, 0
            for i in range(x.size):
                square = (x[i] - cx) ** 2 + (y[i] - cy) ** 2
                if square < best:
                    best, found = square, i
            nearest[row, column] = found


@kernel
def place_star(guess: Guess, half: float, vector: npt.NDArray[np.float32], place: FloatArray) -> bool:
    """Write pixel x, y and gnomonic X, Y of a star to `place`; return whether it is before the camera."""
    r = guess.rotation
    depth = r[2, 0] * vector[0] + r[2, 1] * vector[1] + r[2, 2] * vector[2]
    if depth < _BEHIND:
        return False
    gx = (r[0, 0] * vector[0] + r[0, 1] * vector[1] + r[0, 2] * vector[2]) / depth
    gy = (r[1, 0] * vector[0] + r[1, 1] * vector[1] + r[1, 2] * vector[2]) / depth
    focal = guess.lens[0]
    square = (gx * gx + gy * gy) * (focal / half) ** 2
    g = 1.0 + guess.lens[1] * square + guess.lens[2] * square * square
    place[0], place[1], place[2], place[3] = guess.parity * focal * gx * g, focal * gy * g, gx, gy
    return g > 0.5


@kernel
def derive(guess: Guess, half: float, place: FloatArray, slopes: FloatArray) -> None:
    """Write the derivatives of pixel x and y by the parameters, shape (2, 6)."""
    gx, gy, focal, p = place[2], place[3], guess.lens[0], guess.parity
    unit = (focal / half) ** 2
    square = (gx * gx + gy * gy) * unit
    g = 1.0 + guess.lens[1] * square + guess.lens[2] * square * square
    slope = (guess.lens[1] + 2.0 * guess.lens[2] * square) * unit
    xx, xy, yy = (
        focal * (g + 2.0 * gx * gx * slope),
        focal * 2.0 * gx * gy * slope,
        focal * (g + 2.0 * gy * gy * slope),
    )
    dx = (-gx * gy, 1.0 + gx * gx, -gy)
    dy = (-1.0 - gy * gy, gx * gy, gx)
    for k in range(3):
        slopes[0, k] = p * (xx * dx[k] + xy * dy[k])
        slopes[1, k] = xy * dx[k] + yy * dy[k]
    stretch = g + 2.0 * (gx * gx + gy * gy) * slope
    for row, value in ((0, p * focal * gx), (1, focal * gy)):
        slopes[row, 3] = value * stretch
        slopes[row, 4] = value * square
        slopes[row, 5] = value * square * square


@kernel
def inside(picture: Picture, place: FloatArray) -> bool:
    """Return whether a place is in the picture."""
    return abs(place[0]) < 0.5 * picture.width and abs(place[1]) < 0.5 * picture.height


@kernel
def nearest_source(picture: Picture, place: FloatArray) -> int:
    """Return the source that is nearest to a place in the picture."""
    rows, columns = picture.nearest.shape
    row = min(int((place[1] / picture.height + 0.5) * rows), rows - 1)
    column = min(int((place[0] / picture.width + 0.5) * columns), columns - 1)
    return picture.nearest[max(row, 0), max(column, 0)]


@kernel
def view_radius(guess: Guess, half: float) -> float:
    """Return the angle from the axis to a corner of the picture, radians, with something to spare."""
    return min(math.atan(half / guess.lens[0]) * 1.08, 1.5)

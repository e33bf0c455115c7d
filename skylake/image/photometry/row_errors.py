"""Errors of fluxes from noise that the pixels of a row share.

An error of variance v that each pixel has for itself gives a sum with weights f the variance v sum(f^2), one that a
row has in common v times the sum over rows of the square of sum(f). What follows is the second less the first, for
v = 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def beyond_ellipses(a: npt.ArrayLike, b: npt.ArrayLike, theta: npt.ArrayLike) -> Floats:
    """Return what ellipses have beyond the errors of single pixels; a circle has two equal half axes.

    A row cuts an ellipse of half height h in a chord of 2 a b / h sqrt(1 - (y / h)^2), whose square is integrated.

    Parameters
    ----------
    a, b : array_like
        Half axes, pixels.
    theta : array_like
        Angle of the first from x towards y, radians.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    height = np.maximum(np.hypot(a * np.sin(theta), b * np.cos(theta)), 1e-9)
    return np.asarray(np.maximum(16.0 / 3.0 * (a * b) ** 2 / height - np.pi * a * b, 0.0), float)

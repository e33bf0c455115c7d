"""Settings for errors of the response that neighbouring pixels share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gradient:
    """Random gradient of the mean of some flats: variances and covariance of its two slopes.

    Slopes are parts of the response from the middle of the image to its edge, along x and along y.
    """

    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    def variance(self, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Floats:
        """Return the square of the relative error of the response at places, which run from -1 to 1 over the image."""
        return np.asarray(np.maximum(self.xx * x**2 + 2.0 * self.xy * x * y + self.yy * y**2, 0.0), float)


@dataclass(frozen=True, slots=True)
class ResponseError:
    """The error of a flat that stars cannot distinguish from light: neighbouring pixels have it in common.

    It is no noise of the sky, which is as smooth, and so no part of the variances of pixels; fluxes have it in full.

    Attributes
    ----------
    gradient : Gradient
    offset : tuple of float
        Raw pixel (x, y) of the first pixel of the flat.
    shape : tuple of int
        Its height and width.
    """

    gradient: Gradient
    offset: tuple[float, float]
    shape: tuple[int, int]

    def variance(self, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Floats:
        """Return the square of the relative error at raw pixels."""
        across, down = (
            2.0 * (np.asarray(place, float) - start) / max(size - 1, 1) - 1.0
            for place, start, size in zip((x, y), self.offset, self.shape[::-1], strict=True)
        )
        return self.gradient.variance(across, down)

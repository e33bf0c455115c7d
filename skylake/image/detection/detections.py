"""Detected sources, as every detection engine returns them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: When too many pixels exceed the threshold it is raised by this factor, once.
RAISE = 2.0


@dataclass(frozen=True, slots=True)
class Detections:
    """Sources found on an image; arrays of shape (n,), in any order.

    Attributes
    ----------
    x, y : ndarray
        Isophotal centroids, 0-based pixels.
    x_err, y_err : ndarray
        Their errors.
    a, b : ndarray
        Half axes of the footprint: the square roots of its second moments, pixels.
    theta : ndarray
        Angle of the long axis from x towards y, radians, within -pi/2 to pi/2.
    n_pixels : ndarray of int32
        Pixels of the footprint.
    flux, peak : ndarray
        Sum and largest pixel within the footprint, ADU.
    segments : ndarray of int32
        For each pixel the number of its detection plus one, or 0.
    flags : ndarray of int32, shape (n,)
        Bits of :class:`~skylake.core.flags.SourceFlag`.
    threshold_sigma : float
        Threshold that was used, in the unit of its engine.
    raised : bool
        Whether the threshold had to be raised.
    star_fwhm : float or None
        Full width at half maximum of sharp peaks, pixels; None where none is bright enough, or the engine knows none.
    """

    x: Floats
    y: Floats
    x_err: Floats
    y_err: Floats
    a: Floats
    b: Floats
    theta: Floats
    n_pixels: npt.NDArray[np.int32]
    flux: Floats
    peak: Floats
    segments: npt.NDArray[np.int32]
    flags: npt.NDArray[np.int32]
    threshold_sigma: float
    raised: bool
    star_fwhm: float | None = None

    def __len__(self) -> int:
        return len(self.x)

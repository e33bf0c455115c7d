"""Bias of fluxes by centroids: places found in the noise raise the flux measured there.

A centroid walks to where the noise is bright. Against the flux at the true place an aperture then gains twice what it
loses by standing beside the star, so that on average faint sources are too bright, by up to their error over their
signal-to-noise ratio (Portillo, Speagle & Finkbeiner 2020, AJ 159, 165).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Exponent of the Moffat profile of a star (Trujillo et al. 2001, MNRAS 328, 977).
_BETA = 3.5
#: The series ends after the square of the error of the place; beyond this share of the flux it says nothing more.
_LARGEST_SHARE = 0.15


def place_bias(radius: float | Floats, width: Floats, x_err: Floats, y_err: Floats) -> Floats:
    """Return by which share of itself the flux in a circle around a fitted place is too large on average.

    To second order in the error of the place an aperture loses ``-1/2 Laplacian(S) s^2`` of the light S within it,
    with s the error of one coordinate, and gains twice as much, since the gradient of its noise and the error of the
    place are the same noise. By Gauss's theorem the Laplacian of S is the gradient of the profile summed along the
    circle, here that of a Moffat profile.

    Parameters
    ----------
    radius : float or ndarray, shape (n,)
        Radius of the circle, pixels.
    width : ndarray, shape (n,)
        Full width at half maximum of each source in the image, pixels.
    x_err, y_err : ndarray, shape (n,)
        Standard errors of the place, pixels.

    Returns
    -------
    ndarray, shape (n,)
        Between 0 and 0.15; 0 where anything is NaN.
    """
    alpha = 0.5 * width / np.sqrt(2.0 ** (1.0 / _BETA) - 1.0)
    square = (radius / alpha) ** 2
    held = 1.0 - (1.0 + square) ** (1.0 - _BETA)
    # pi r |psi'(r)| for a profile psi of unit flux.
    slope = 2.0 * _BETA * (_BETA - 1.0) * square / alpha**2 * (1.0 + square) ** (-1.0 - _BETA)
    share = slope * 0.5 * (x_err**2 + y_err**2) / held
    return np.asarray(np.clip(np.nan_to_num(share, nan=0.0, posinf=np.inf), 0.0, _LARGEST_SHARE))

"""Shapes of stars as elliptical Gaussians."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.floating]
_Single = npt.NDArray[np.float32]

#: Full width at half maximum of a Gaussian in standard deviations.
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
#: Bits of the mantissa, of 23, that are far below the errors of shapes.
_SPARE_BITS = 11


def shape_terms(fwhm: _Array, a: _Array, b: _Array, theta_deg: _Array) -> tuple[_Single, _Single, _Single]:
    """Return S, D and K of the elliptical Gaussians ``exp(-(S (x^2 + y^2) + D (x^2 - y^2) + 2 K x y) / 2)``.

    S is large where stars are sharp, and D and K vanish where they are round (Pal 2009, PhD thesis, Eotvos
    University, section 2.4). Unlike axes and angles they vary smoothly over the field, also where stars are round. The
    size is that of the full width at half maximum; axes of a footprint, which ends where the noise begins, give only
    the ratio and direction.

    Parameters
    ----------
    fwhm : ndarray, shape (n,)
        Full width at half maximum, pixels.
    a, b : ndarray, shape (n,)
        Half axes in any unit, a >= b.
    theta_deg : ndarray, shape (n,)
        Direction of the long axis from +x towards +y, degrees.

    Returns
    -------
    s, d, k : ndarray of float32, shape (n,)
        Per square pixel, float32 rounded to one part in 8,000, which halves what they take on disk; NaN where the
        width or an axis is not known or not positive.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.asarray(FWHM_PER_SIGMA**2, fwhm.dtype) / (fwhm * fwhm)
        size = np.where((fwhm > 0) & (a > 0) & (b > 0), size, np.nan)
        # The inverse variances along the axes are size x b / a and size x a / b.
        longer, shorter = 0.5 * size * (b / a), 0.5 * size * (a / b)
    angle = (2.0 * np.pi / 180.0) * theta_deg
    difference = longer - shorter
    terms = longer + shorter, difference * np.cos(angle), difference * np.sin(angle)
    return _rounded(terms[0]), _rounded(terms[1]), _rounded(terms[2])


def _rounded(values: _Array) -> _Single:
    """Return values with the bits of the mantissa that mean something; the others are zero."""
    bits = values.astype(np.float32).view(np.int32)
    return np.asarray(((bits + (1 << (_SPARE_BITS - 1))) & -(1 << _SPARE_BITS)).view(np.float32))

"""The WCS of a solved picture as cards of a FITS header: TAN with the SIP polynomials of Shupe et al. (2005)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skylake.core.sphere import FloatArray, tangent_basis
from skylake.image.solving.image_asterisms import rays_of
from skylake.image.solving.solve_stars import Solution

#: From pixels to the plane, the inverse of the lens is expanded to this odd power of the radius.
_ORDER = 7
_BACK_ORDER = 5
_SAMPLES = 200


def wcs_header(solution: Solution) -> Any:
    """Return the header of a solution.

    Pixels of FITS begin at 1. From the sky to pixels (AP, BP) the polynomials are those of the solution; the way back
    (A, B) is fitted to them over the picture.

    Returns
    -------
    astropy.io.fits.Header
    """
    from astropy.io import fits

    height, width = solution.shape
    ra, dec = solution.centre
    header = fits.Header()
    header["WCSAXES"] = 2
    header["RADESYS"] = "ICRS"
    for axis, (kind, value, size) in enumerate(
        [("RA---TAN-SIP", ra, width), ("DEC--TAN-SIP", dec, height)], 1
    ):
        header[f"CTYPE{axis}"] = kind
        header[f"CUNIT{axis}"] = "deg"
        header[f"CRVAL{axis}"] = value
        header[f"CRPIX{axis}"] = 0.5 * (size - 1) + 1.0
    for row, direction in enumerate(tangent_basis(ra, dec), 1):
        for column, sign in ((1, solution.parity), (2, 1)):
            along = float(solution.rotation[column - 1] @ direction)
            header[f"CD{row}_{column}"] = math.degrees(sign * along / solution.focal_px)
    half = 0.5 * math.hypot(width, height)
    _write_radial(header, ("A", "B"), _ORDER, inverse_terms(solution) / half ** np.arange(2, _ORDER, 2))
    _write_radial(
        header,
        ("AP", "BP"),
        _BACK_ORDER,
        np.array(solution.distortion) / half ** np.arange(2, _BACK_ORDER, 2),
    )
    return header


def inverse_terms(solution: Solution) -> FloatArray:
    """Return the coefficients of R^2, R^4, R^6 that take the distortion from pixels, R in half diagonals."""
    half = 0.5 * math.hypot(*solution.shape)
    # Chebyshev's nodes, so that the error is even.
    seen = np.cos(np.pi * (np.arange(_SAMPLES) + 0.5) / (2 * _SAMPLES))
    rays = rays_of(seen * half, np.zeros(_SAMPLES), solution.focal_px, half, np.array(solution.distortion))
    true = rays[:, 0] / rays[:, 2] * solution.focal_px / half
    powers = seen[:, None] ** np.arange(3, _ORDER + 1, 2)
    return np.asarray(np.linalg.lstsq(powers, true - seen, rcond=None)[0])


def _write_radial(header: Any, names: tuple[str, str], order: int, terms: FloatArray) -> None:
    """Write u (t1 r^2 + t2 r^4 + …), and the same with v, as polynomials of u and v."""
    for name in names:
        header[f"{name}_ORDER"] = order
    for power, term in enumerate(terms, 1):
        for k in range(power + 1):
            factor = math.comb(power, k) * float(term)
            header[f"{names[0]}_{2 * (power - k) + 1}_{2 * k}"] = factor
            header[f"{names[1]}_{2 * k}_{2 * (power - k) + 1}"] = factor

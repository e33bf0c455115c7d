"""Ellipses in which Kron fluxes are summed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Apertures

Floats = npt.NDArray[np.float64]

#: Stars that give the usual ellipse of a frame have this S/N; so many are needed.
_BRIGHT_SNR = 50.0
_FEWEST_STARS = 5
#: Noise scatters the logarithm of the radius of an ellipse by so much over the S/N …
_SPREAD = 3.0
#: … and so many times that is taken for noise.
_TRUSTED = 2.0


def plain_snr(flux: Floats, radius: float, rms: Floats, gain: float) -> Floats:
    """Return signal-to-noise ratios of fluxes in a circle, in the noise of the sky and of the light itself.

    Variance planes take no part: which ellipse a source has does not depend on there being one.

    Parameters
    ----------
    flux : ndarray, shape (n,)
        ADU.
    radius : float
        Pixels.
    rms : ndarray, shape (n,)
        Noise of the sky in a pixel, ADU.
    gain : float
        Electrons per ADU.
    """
    variance = np.pi * radius**2 * rms**2 + np.maximum(flux, 0.0) / gain
    return np.asarray(flux / np.sqrt(np.maximum(variance, np.finfo(float).tiny)))


def kron_ellipses(
    a: Floats, b: Floats, kron: Floats, snr: Floats, clean: npt.NDArray[np.bool_], apertures: Apertures
) -> tuple[Floats, Floats]:
    """Return the half axes of the ellipses in which Kron fluxes are summed.

    An ellipse that follows the noise of a faint source holds more light than it should: a fifth of the error of the
    flux at a S/N of 10. So the mean radius and the axes are drawn towards those of the bright stars of the
    frame as far as noise can explain the difference (the positive part of James & Stein 1961), and a source that is
    like a star has the ellipse of a star; its correction to total flux is then right at any magnitude.

    Parameters
    ----------
    a, b : ndarray, shape (n,)
        Half axes of the footprints, pixels.
    kron : ndarray, shape (n,)
        Kron radii in units of these; NaN where there is none.
    snr : ndarray, shape (n,)
        Signal-to-noise ratios; NaN for unknown ones, which count as 0.
    clean : ndarray of bool, shape (n,)
        Sources that may be stars to go by.
    apertures : Apertures

    Returns
    -------
    a, b : ndarray, shape (n,)
        Pixels. Where too few stars are bright enough nothing is drawn to them.
    """
    scale = np.maximum(apertures.kron_factor * np.nan_to_num(kron), apertures.kron_minimum)
    bright = clean & (snr > _BRIGHT_SNR) & np.isfinite(kron)
    if np.count_nonzero(bright) < _FEWEST_STARS:
        return a * scale, b * scale
    radius, shape = np.log(np.sqrt(a * b) * scale), 0.5 * np.log(a / b)
    median_radius = float(np.median(radius[bright]))
    noise = _TRUSTED * _SPREAD / np.maximum(np.nan_to_num(snr), 1e-3)
    off = np.maximum(np.hypot(radius - median_radius, shape - np.median(shape[bright])), 1e-9)
    share = np.maximum(0.0, 1.0 - (noise / off) ** 2)
    radius = median_radius + share * (radius - median_radius)
    return np.exp(radius + share * shape), np.exp(radius - share * shape)

"""What errors of the places of stars do to fluxes that are fitted at these places.

To lonely stars almost nothing; but a star that is fitted beside its place leaves light there, which the fit gives to a
near neighbour.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.image.psf.psf_fit import core_half_size
from skylake.image.psf.psf_model import FramePsf

Floats = npt.NDArray[np.float64]

#: Error of a place along each axis, pixels: what catalogs and WCS of good frames are right to.
PLACE_ERROR_PX = 0.03
#: Neighbours farther away than so many full widths do not count, and overlaps are computed in steps of so many pixels.
_REACH_WIDTHS, _STEP_PX = 2.5, 0.25
#: How the light in a circle falls as a star leaves it: as a Gaussian integral of this width, in full widths.
_EDGE_WIDTHS = 0.5
#: Overlaps are no larger: nearer pairs are not to be separated in any case.
_MOST_OVERLAP = 0.99


def place_variances(
    flux: Floats, x: Floats, y: Floats, psf: FramePsf, radii_px: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Return the variances that errors of places bring to fitted fluxes, and to apertures without their neighbours.

    Two stars of profile P at a distance d overlap by r(d), the integral of P(x) P(x - d) over that of P^2. If the star
    of flux F is fitted at a place that is wrong by e along the line between both, what it leaves is e F dP/dx. The fit
    makes e F r'/(1 - r^2) of its neighbour's flux of that, and r times as much of its own.

    Parameters
    ----------
    flux : ndarray, shape (n,)
        Fitted fluxes, ADU; NaN counts as 0.
    x, y : ndarray, shape (n,)
        Pixels.
    psf : FramePsf
    radii_px : tuple of float
        Of the apertures.

    Returns
    -------
    fitted : ndarray, shape (n,)
        ADU^2.
    apertures : ndarray, shape (n, len(radii_px))
        Those of the fluxes of neighbours as far as they lie in the aperture of the star, and of what crosses its edge,
        ADU^2.
    """
    from scipy.spatial import cKDTree
    from scipy.special import erfc

    fitted, apertures = np.zeros(len(x)), np.zeros((len(x), len(radii_px)))
    places = np.column_stack([x, y])
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    pairs = cKDTree(places[known]).query_pairs(_REACH_WIDTHS * psf.fwhm_px, output_type="ndarray")
    if len(pairs) == 0:
        return fitted, apertures
    first, second = known[pairs].T
    distance = np.hypot(*(places[first] - places[second]).T)
    overlap, slope = _overlaps(psf, distance)
    gain = (PLACE_ERROR_PX * slope / (1.0 - overlap**2)) ** 2
    light = np.nan_to_num(flux) ** 2
    for one, other in ((first, second), (second, first)):
        fitted += np.bincount(one, gain * (light[other] + overlap**2 * light[one]), len(x))
    for one, other in ((first, second), (second, first)):
        for number, radius in enumerate(radii_px):
            beyond = (distance - radius) / (_EDGE_WIDTHS * psf.fwhm_px)
            held = 0.5 * erfc(beyond / np.sqrt(2.0))
            # What leaves or enters the aperture when the neighbour is moved.
            crossing = (
                PLACE_ERROR_PX
                * np.exp(-0.5 * beyond**2)
                / (np.sqrt(2.0 * np.pi) * _EDGE_WIDTHS * psf.fwhm_px)
            )
            of_flux = held**2 * gain * (light[one] + overlap**2 * light[other])
            apertures[:, number] += np.bincount(one, of_flux + crossing**2 * light[other], len(x))
    return fitted, apertures


def _overlaps(psf: FramePsf, distance: Floats) -> tuple[Floats, Floats]:
    """Return by how much stars at distances overlap, 1 for one place, and how that changes with the distance."""
    half = core_half_size(psf.fwhm_px)
    steps = np.arange(0.0, _REACH_WIDTHS * psf.fwhm_px + 2.0 * _STEP_PX, _STEP_PX)
    height, width = psf.model.size
    middle = psf.coefficients(np.array([0.5 * (width - 1)]), np.array([0.5 * (height - 1)]))
    grid = np.arange(-half - np.ceil(steps[-1]), half + np.ceil(steps[-1]) + 1.0)
    y, x = (axis.reshape(-1) for axis in np.meshgrid(grid, grid, indexing="ij"))
    star = np.asarray(psf.values(middle, x, y), float)
    table = np.zeros(len(steps))
    for across, down in ((1.0, 0.0), (0.0, 1.0)):
        for number, step in enumerate(steps):
            moved = np.asarray(psf.values(middle, x - across * step, y - down * step), float)
            table[number] += 0.5 * float(star @ moved) / float(np.sqrt((star @ star) * (moved @ moved)))
    slope = np.gradient(table, steps)
    overlap = np.minimum(np.interp(distance, steps, table), _MOST_OVERLAP)
    return overlap, np.interp(distance, steps, slope)

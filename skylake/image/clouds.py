"""Which of the stars that a clear frame shows were found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.camera import ClearSky
from skylake.core.sphere import arcsec_of_chord, unit_vectors
from skylake.image.astrometry import Pointing, Stars, stars_inside

Floats = npt.NDArray[np.float64]

#: So many times more sources than stars are searched for them: bands differ, and colours.
_SOURCES_PER_STAR = 4
#: A star counts for no more than so many of the faintest, or a single one would decide.
_LARGEST_WEIGHT = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """How many stars were expected, and the share of them that was found."""

    n_expected: int
    fraction: float


def count_found(
    pointing: Pointing,
    shape: tuple[int, int],
    x: Floats,
    y: Floats,
    flux: Floats,
    stars: Stars,
    radius_arcsec: float,
    clear: ClearSky,
) -> Found:
    """Look for the stars that a clear frame shows.

    A bright star that is missing is surely behind a cloud, a faint one may be lost in the noise; so each counts by the
    square root of its flux, in which the noise of its photons is the same for all.

    Parameters
    ----------
    pointing : Pointing
    shape : tuple of int
        Height and width of the image.
    x, y, flux : ndarray, shape (n,)
        Sources: 0-based pixels, and any flux to rank them by.
    stars : Stars
    radius_arcsec : float
        Distance within which a star counts as found.
    clear : ClearSky

    Returns
    -------
    Found
        The share is NaN if no star is expected.
    """
    from scipy.spatial import cKDTree

    inside = stars_inside(pointing, shape, stars)
    inside = inside[(stars.mag[inside] >= clear.mag_range[0]) & (stars.mag[inside] <= clear.mag_range[1])]
    wanted = inside[np.argsort(stars.mag[inside], kind="stable")][: clear.stars]
    if wanted.size == 0:
        return Found(0, float("nan"))
    weight = 10.0 ** (-0.2 * (stars.mag[wanted] - stars.mag[wanted[-1]]))
    weight = np.minimum(weight, _LARGEST_WEIGHT)
    ranked = np.argsort(-np.nan_to_num(flux), kind="stable")[: _SOURCES_PER_STAR * wanted.size]
    sources = unit_vectors(*pointing.to_sky(x[ranked], y[ranked])).reshape(-1, 3)
    sources = sources[np.isfinite(sources).all(axis=1)]
    if len(sources) == 0:
        return Found(int(wanted.size), 0.0)
    places = unit_vectors(stars.ra_deg[wanted], stars.dec_deg[wanted])
    distance, _ = cKDTree(sources).query(places)
    found = arcsec_of_chord(np.minimum(distance, 2.0)) <= radius_arcsec
    return Found(int(wanted.size), float(weight[found].sum() / weight.sum()))

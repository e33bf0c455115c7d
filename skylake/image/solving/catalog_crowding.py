"""Light that neighbours of a source bring into its aperture, as a catalog has them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.aperture_crowding import crowding_by_magnitude
from skylake.core.sphere import chord, unit_vectors
from skylake.image.wcs.header_wcs import CatalogStars, Pointing

Floats = npt.NDArray[np.float64]


def catalog_crowding(
    pointing: Pointing,
    x: Floats,
    y: Floats,
    stars: CatalogStars,
    match_px: float,
    radius_px: float,
    width_px: float,
) -> Floats:
    """Return, for each source, the light that neighbours of its catalog star bring into an aperture.

    Parameters
    ----------
    pointing : Pointing
    x, y : ndarray, shape (n,)
        Sources: 0-based pixels.
    stars : CatalogStars
    match_px, radius_px, width_px : float
        How near a star must be to a source to be it; radius of the aperture; full width of stars.

    Returns
    -------
    ndarray, shape (n,)
        As a share of the star's own light; 0 for sources that no catalog star is near.
    """
    from scipy.spatial import cKDTree

    share = np.zeros(len(x))
    if len(stars.mag) == 0 or len(x) == 0:
        return share
    places = unit_vectors(stars.ra_deg, stars.dec_deg)
    scale = pointing.pixel_scale_arcsec
    sources = unit_vectors(*pointing.to_sky(x, y))
    on_sky = np.flatnonzero(np.isfinite(sources).all(axis=1))
    distance, star = cKDTree(places).query(sources[on_sky])
    near = distance <= chord(match_px * scale)
    matched, star = on_sky[near], star[near]
    if matched.size == 0:
        return share
    detected, inverse = np.unique(star, return_inverse=True)
    found = crowding_by_magnitude(
        places, stars.mag, chord(radius_px * scale), chord(width_px * scale), detected
    )
    share[matched] = np.nan_to_num(found)[inverse.reshape(-1)]
    return share

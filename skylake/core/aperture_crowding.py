"""Light of neighbours in the aperture of a star."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Stars fainter than this percentile of the detected ones count as not detected.
_DETECTED_PERCENTILE = 85.0


def crowding(
    points: Floats, flux: Floats, radius: float, width: float, wanted: npt.NDArray[np.intp]
) -> Floats:
    """Return the flux that neighbours bring into an aperture as a share of the star's own.

    A neighbour well inside the aperture counts wholly, one on its edge by half, one a full width beyond
    not at all.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        Places, in pixels or as unit vectors; `radius` and `width` are in the same unit.
    flux : ndarray, shape (n,)
        In any unit; stars without a positive one do not count as neighbours, and have no share.
    radius, width : float
        Radius of the aperture, and full width of the stars.
    wanted : ndarray of int, shape (m,)
        The stars whose share is wanted.

    Returns
    -------
    ndarray, shape (m,)
    """
    from scipy.spatial import cKDTree

    share = np.zeros(len(wanted))
    shining = np.flatnonzero(flux > 0)
    if len(wanted) == 0 or len(shining) == 0:
        return share
    pairs = cKDTree(points[wanted]).sparse_distance_matrix(
        cKDTree(points[shining]), radius + width, output_type="ndarray"
    )
    star, neighbour = wanted[pairs["i"]], shining[pairs["j"]]
    held = np.clip((radius + width - pairs["v"]) / (2.0 * width), 0.0, 1.0)
    own = np.where(flux[star] > 0, flux[star], np.inf)
    part = np.where(star == neighbour, 0.0, held * flux[neighbour] / own)
    return np.asarray(np.bincount(pairs["i"], part, len(wanted)))


def crowding_by_magnitude(
    points: Floats, mag: Floats, radius: float, width: float, detected: npt.NDArray[np.intp]
) -> Floats:
    """Return the crowding of detected stars of a catalog by all that are bright enough to be detected.

    The light of fainter ones is part of the mean background, which is taken off everywhere.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        Places of the catalog's stars.
    mag : ndarray, shape (n,)
        Their magnitudes; NaN for none.
    radius, width : float
        As in :func:`crowding`.
    detected : ndarray of int, shape (m,)
        The stars whose share is wanted; NaN is given for those without magnitude.
    """
    known = mag[detected][np.isfinite(mag[detected])]
    if known.size == 0:
        return np.full(len(detected), np.nan)
    shining = mag <= np.percentile(known, _DETECTED_PERCENTILE)
    shining[detected] = np.isfinite(mag[detected])
    flux = np.where(shining, 10.0 ** (-0.4 * (np.nan_to_num(mag) - known.min())), 0.0)
    share = crowding(points, flux, radius, width, detected)
    return np.where(np.isfinite(mag[detected]), share, np.nan)

"""Detections of stars that the catalog has, but that are too faint to be wanted as targets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import chord
from skylake.table.targets import CatalogStars, Clusters

#: A detection of which the catalog's stars explain less light than this share is something else.
_LEAST_SHARE = 0.25


def are_fainter_stars(
    clusters: Clusters, wanted: CatalogStars, fainter: CatalogStars, match_arcsec: float
) -> npt.NDArray[np.bool_]:
    """Tell which clusters are stars that the catalog has, and that are not wanted.

    The place alone does not tell it, as a deep catalog has a star everywhere: what is much brighter than the catalog
    has it, such as a nova, is no such star. How bright detections are in magnitudes of the catalog is told by the
    brightest star at the place of each.

    Parameters
    ----------
    clusters : Clusters
    wanted, fainter : CatalogStars
        Stars that become targets anyway, and the others with a magnitude.
    match_arcsec : float
        Distance within which a detection is a star.
    """
    from scipy.spatial import cKDTree

    nothing = np.zeros(len(clusters), bool)
    if len(clusters) == 0 or len(fainter.ref_id) == 0:
        return nothing
    places = cKDTree(clusters.vectors)
    reach, flux = chord(match_arcsec), clusters.flux / np.maximum(clusters.n_detections, 1)
    brightest = np.full(len(clusters), np.inf)
    near = []
    for stars in (wanted, fainter):
        pairs = places.sparse_distance_matrix(
            cKDTree(stars.at_time_of(clusters)), reach, output_type="ndarray"
        )
        mag = stars.mag[pairs["j"]]
        np.fmin.at(brightest, pairs["i"], mag)
        near.append((pairs["i"], mag))
    taken = np.isin(np.arange(len(clusters)), near[0][0])
    judged = np.isfinite(brightest) & (flux > 0.0)
    if not judged.any():
        return nothing
    zero = float(np.median(brightest[judged] + 2.5 * np.log10(flux[judged])))
    light = np.bincount(near[1][0], 10.0 ** (-0.4 * (near[1][1] - zero)), len(clusters))
    return np.asarray(~taken & (light > 0.0) & (light >= _LEAST_SHARE * flux))

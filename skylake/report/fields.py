"""Group the pixels of maps into fields, and choose the fields that get plots of their own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import arcsec_of_chord

Integers = npt.NDArray[np.int64]

#: Pixels no farther apart than so many of their sides belong to one field.
_REACH_SIDES = 4.0
#: So many fields have pictures of their own at most.
MOST_FIELDS = 6
#: Fields that fill a larger share of the map of them all are seen well enough in it.
_WELL_SEEN = 0.25


def separate_fields(pixels: Integers, order: int) -> list[Integers]:
    """Return the rows of the pixels of each field, from north to south; one list of all where the map shows them well.

    Parameters
    ----------
    pixels : ndarray of int64, shape (n,)
        NESTED.
    order : int
    """
    import healpy
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    whole = [np.arange(len(pixels))]
    vectors = np.column_stack(healpy.pix2vec(2**order, pixels, nest=True))
    side_deg = 58.6323 / 2**order
    reach = 2.0 * np.sin(0.5 * np.radians(min(_REACH_SIDES * side_deg, 180.0)))
    near = cKDTree(vectors).sparse_distance_matrix(cKDTree(vectors), reach)
    count, number = connected_components(near, directed=False)
    if not 1 < count <= MOST_FIELDS:
        return whole
    fields = [np.flatnonzero(number == one) for one in range(count)]
    sizes = np.array([_extent_deg(vectors[rows]) + side_deg for rows in fields])
    if float(np.sum(sizes**2)) > _WELL_SEEN * (_extent_deg(vectors) + side_deg) ** 2:
        return whole
    return sorted(fields, key=lambda rows: -float(vectors[rows, 2].mean()))


def _extent_deg(vectors: npt.NDArray[np.float64]) -> float:
    """Return twice the largest distance of places from their middle."""
    middle = vectors.mean(axis=0)
    middle /= max(float(np.linalg.norm(middle)), 1e-9)
    chord = np.linalg.norm(vectors - middle, axis=1).max()
    return float(2.0 * arcsec_of_chord(np.minimum(chord, 2.0)) / 3600.0)

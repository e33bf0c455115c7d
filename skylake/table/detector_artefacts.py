"""Which of the places that are detected again and again are pixels of the detector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import chord
from skylake.table.targets import Clusters

Floats = npt.NDArray[np.float64]

#: Where more than this share of the detections of a place are narrower than stars, it is no star.
_MOST_SHARP = 0.5
#: A place that wanders less than that on the sky stands still, pixels (rms).
_STILL_PX = 0.15
#: What moves on the image by less than this share of its variance on the sky is part of the detector.
_FIXED_SHARE = 0.1
#: Clusters of so many detections tell whether stars move on the detector, and so many of them around a place do.
_MIN_MOVING, _NEIGHBOURS = 3, 64
#: Places that are judged at a time.
_JUDGED = 65_536


def are_artefacts(clusters: Clusters, scale_arcsec: float, field_deg: float = 180.0) -> npt.NDArray[np.bool_]:
    """Tell which clusters are pixels of the detector rather than places on the sky.

    A hot pixel is narrower than a star. And while the field drifts over the detector it stays where it is, so it
    moves on the sky by more than it moves on the image. That tells something only where stars do the opposite: where
    frames have no right WCS, but are well guided, stars stay on their pixels too. A camera may guide one field and
    let another drift, so each place is judged by those around it.

    Parameters
    ----------
    clusters : Clusters
    scale_arcsec : float
        Of a pixel.
    field_deg : float
        Radius within which places are on the same frames.
    """
    n = np.maximum(clusters.n_detections, 1)
    narrow = clusters.n_sharp > _MOST_SHARP * n
    mean = clusters.total / n[:, None]
    on_sky = (1.0 - np.sum(mean**2, axis=1)) * np.degrees(3600.0) ** 2 / scale_arcsec**2
    x, y, square = clusters.pixels.T / n
    on_image = np.maximum(square - x * x - y * y, 0.0)
    stay = np.flatnonzero((on_sky > _STILL_PX**2) & (on_image < _FIXED_SHARE * on_sky))
    moving = clusters.n_detections >= _MIN_MOVING
    drift = _medians_around(
        clusters.vectors[moving],
        (on_image - on_sky)[moving],
        clusters.vectors[stay],
        chord(3600.0 * field_deg),
    )
    narrow[stay] |= drift > 0.0
    return narrow


def _medians_around(places: Floats, values: Floats, where: Floats, reach: float) -> Floats:
    """Return the medians of values at the places nearest to some, within reach; NaN where there are none."""
    from scipy.spatial import cKDTree

    medians = np.full(len(where), np.nan)
    if len(places) == 0:
        return medians
    tree, padded = cKDTree(places), np.append(values, np.nan)
    for start in range(0, len(where), _JUDGED):
        some = slice(start, start + _JUDGED)
        _, near = tree.query(where[some], k=np.arange(1, _NEIGHBOURS + 1), distance_upper_bound=reach)
        ordered = np.sort(padded[near], axis=1)
        count = np.isfinite(ordered).sum(axis=1, keepdims=True)
        middle = [
            np.take_along_axis(ordered, np.maximum(count - odd, 0) // 2, axis=1)[:, 0] for odd in (0, 1)
        ]
        medians[some] = np.where(count[:, 0] > 0, 0.5 * (middle[0] + middle[1]), np.nan)
    return medians

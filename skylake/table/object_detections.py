"""Which detections are of which object: those of its camera about its place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.calibrated_matches import column_floats
from skylake.core.sphere import arcsec_of_chord, chord, unit_vectors
from skylake.table.clusters import link_arcsec

Places = npt.NDArray[np.intp]
#: Detections of an object are so many standard deviations from its place at most, or half of the width of stars.
_REACH_SIGMA = 5.0


def detections_of_objects(seen: pa.Table, objects: pa.Table, frames: pa.Table) -> tuple[Places, Places]:
    """Return which detections are of objects, and of which: on each frame the one that is nearest to it.

    Parameters
    ----------
    seen : pyarrow.Table
        Detections: camera, frame_id, ra_deg and dec_deg.
    objects : pyarrow.Table
        camera, ra_deg, dec_deg and scatter_arcsec.
    frames : pyarrow.Table
        Of the detections: camera, fwhm_px and pixel_scale_arcsec.

    Returns
    -------
    ndarray of int, shape (n,)
        Rows of the detections.
    ndarray of int, shape (n,)
        Rows of their objects.
    """
    from scipy.spatial import cKDTree

    cameras = np.asarray(objects["camera"].to_pylist(), object)
    of_camera = np.asarray(seen["camera"].to_pylist(), object)
    taken = np.asarray(frames["camera"].to_pylist(), object)
    towards = [
        unit_vectors(*(rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))) for rows in (seen, objects)
    ]
    reach = np.fmax(_REACH_SIGMA * column_floats(objects, "scatter_arcsec"), 0.0)
    place, owner, away = [], [], []
    for camera in sorted(set(cameras)):
        some, mine = np.flatnonzero(of_camera == camera), np.flatnonzero(cameras == camera)
        widest = np.fmax(reach[mine], link_arcsec(frames.filter(pa.array(taken == camera))))
        distance, nearest = cKDTree(towards[1][mine]).query(
            towards[0][some], distance_upper_bound=chord(float(widest.max()))
        )
        found = np.flatnonzero(np.isfinite(distance))
        found = found[arcsec_of_chord(distance[found]) <= widest[nearest[found]]]
        place.append(some[found])
        owner.append(mine[nearest[found]])
        away.append(distance[found])
    places, owners, distances = (np.concatenate(one) for one in (place, owner, away))
    frame = seen["frame_id"].to_numpy()[places]
    order = np.lexsort((distances, frame, owners))
    is_first = np.append(True, (np.diff(owners[order]) != 0) | (np.diff(frame[order]) != 0))[: len(order)]
    return places[order[is_first]], owners[order[is_first]]

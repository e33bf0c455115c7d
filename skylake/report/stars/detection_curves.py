"""Light curves of stars that no catalog has, from their detections on calibrated frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import FRAME_COLUMNS, calibrate_matches
from skylake.calibration.unlisted_stars import as_matches
from skylake.core.sphere import offset, separation_deg, tangent_basis, unit_vectors
from skylake.lake import Snapshot
from skylake.lake.access.calibration_rows import calibration_rows
from skylake.lake.access.curve_rows import Measured
from skylake.lake.access.rows_in import stored_rows
from skylake.lake.cameras.camera_sites import sites_of
from skylake.report.stars.seen_objects import SeenObject
from skylake.schema import empty_table, load
from skylake.sky.pixels import cone_ranges
from skylake.table.lightcurves import lightcurves_table

Floats = npt.NDArray[np.float64]
_PLACES = ("frame_id", "source_no", "camera", "night", "ra_deg", "dec_deg", "fwhm_px")
_TARGETS = "forced_lightcurves"
_MATCHED = ("frame_id", "source_no", "catalog", "ref_id", "ra_deg", "dec_deg")
#: Detections belong to one star if a chain of neighbours no farther apart than this part of the FWHM joins them.
_LINK_FWHM = 0.5
_LEAST_LINK_ARCSEC = 1.0
#: Fewer detections away from the place that was asked for are taken for a star only where there is no other.
_LEAST_DETECTIONS = 3
#: Matches are stored at the place of their star, up to so many FWHM from the detection.
_MATCH_FWHM = 4.0


@dataclass(frozen=True, slots=True)
class DetectedStar:
    """A star as detections show it.

    Attributes
    ----------
    ra_deg, dec_deg : float
        Median of its detections.
    distance_arcsec : float
        From the position that was asked for.
    radius_arcsec : float
        Its detections are within this distance of it.
    listed : pyarrow.Table or None
        Where most of its detections are matched with a star of a catalog, that star: object_id, catalog, ra_deg and
        dec_deg, one row.
    n_others : int
        How many other stars the detections within reach show.
    link_arcsec : float
        Another star is farther away than this.
    """

    ra_deg: float
    dec_deg: float
    distance_arcsec: float
    radius_arcsec: float
    listed: pa.Table | None = None
    n_others: int = 0
    link_arcsec: float = _LEAST_LINK_ARCSEC


def detected_star(
    snapshot: Snapshot, ra_deg: float, dec_deg: float, reach_arcsec: float
) -> DetectedStar | None:
    """Return the star whose detections are nearest to a position; None without any within reach."""
    seen = snapshot.cone("sources", ra_deg, dec_deg, reach_arcsec / 3600.0, _PLACES)
    if seen.num_rows == 0:
        return None
    fwhm = _fwhm_arcsec(snapshot, seen)
    east, north = _on_plane(seen, ra_deg, dec_deg)
    link = max(_LINK_FWHM * fwhm, _LEAST_LINK_ARCSEC)
    group = _groups(east, north, link)
    centres = [
        (np.median(east[group == one]), np.median(north[group == one])) for one in range(group.max() + 1)
    ]
    distance = np.array([np.hypot(*centre) for centre in centres])
    # A blip of noise is nearer than a star only if it is at the very place.
    likely = (np.bincount(group) >= _LEAST_DETECTIONS) | (distance <= fwhm)
    nearest = int(np.where(likely | ~likely.any(), distance, np.inf).argmin())
    mine = group == nearest
    away = np.hypot(east[mine] - centres[nearest][0], north[mine] - centres[nearest][1])
    ra, dec = _from_plane(centres[nearest], ra_deg, dec_deg)
    listed = _listed(snapshot, seen.filter(pa.array(mine)), ra, dec, _MATCH_FWHM * fwhm + reach_arcsec)
    n_others = int(np.count_nonzero(likely)) - int(likely[nearest])
    return DetectedStar(ra, dec, float(distance[nearest]), float(away.max()) + 0.01, listed, n_others, link)


def _fwhm_arcsec(snapshot: Snapshot, seen: pa.Table) -> float:
    """Return the width of stars, from some frames that show the place."""
    first = seen.slice(0, 1).select(["frame_id", "camera", "night"])
    frames, _ = calibration_rows(snapshot, first, ("pixel_scale_arcsec",))
    scale = pc.mean(frames["pixel_scale_arcsec"]).as_py() or 1.0
    widths = seen["fwhm_px"].to_numpy().astype(float)
    width = float(np.nanmedian(widths)) if np.isfinite(widths).any() else 2.0
    return float(scale) * width


def _on_plane(rows: pa.Table, ra_deg: float, dec_deg: float) -> tuple[Floats, Floats]:
    """Return positions east and north of a place on its tangent plane, arcseconds."""
    east, north = tangent_basis(ra_deg, dec_deg)
    towards = unit_vectors(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    return np.degrees(towards @ east) * 3600.0, np.degrees(towards @ north) * 3600.0


def _from_plane(place: tuple[float, float], ra_deg: float, dec_deg: float) -> tuple[float, float]:
    east, north = place
    angle = float(np.degrees(np.arctan2(east, north)))
    ra, dec = offset(ra_deg, dec_deg, float(np.hypot(east, north)) / 3600.0, angle)
    return float(ra) % 360.0, float(dec)


def _groups(east: Floats, north: Floats, link: float) -> npt.NDArray[np.intp]:
    """Return the number of the group of each point: chains of points at most `link` apart."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    # Points of a cell half as wide as the link are joined at once, or a thousand nights would make a million pairs.
    cell = np.floor(np.column_stack([east, north]) / (0.5 * link)).astype(np.int64)
    cells, number = np.unique(cell, axis=0, return_inverse=True)
    number = number.reshape(-1)
    counts = np.bincount(number)
    middle = np.column_stack([np.bincount(number, weights=values) / counts for values in (east, north)])
    pairs = cKDTree(middle).query_pairs(link, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(cells), len(cells)))
    return np.asarray(connected_components(graph, directed=False)[1][number], np.intp)


def _listed(
    snapshot: Snapshot, rows: pa.Table, ra_deg: float, dec_deg: float, reach_arcsec: float
) -> pa.Table | None:
    """Return the star of a catalog with which most of some detections are matched; None if most are not."""
    near = snapshot.cone("matches", ra_deg, dec_deg, reach_arcsec / 3600.0, list(_MATCHED))
    near = near.join(rows.select(["frame_id", "source_no"]), ["frame_id", "source_no"], join_type="inner")
    counts = near.group_by(["catalog", "ref_id"]).aggregate([("frame_id", "count")])
    if 2 * near.num_rows <= rows.num_rows or counts.num_rows == 0:
        return None
    first = (
        counts.sort_by([("frame_id_count", "descending"), ("catalog", "ascending")])
        .slice(0, 1)
        .to_pylist()[0]
    )
    mine = pc.and_(pc.equal(near["ref_id"], first["ref_id"]), pc.equal(near["catalog"], first["catalog"]))
    star = near.filter(mine).slice(0, 1).rename_columns({"ref_id": "object_id"})
    return star.select(["object_id", "catalog", "ra_deg", "dec_deg"])


def detection_curve(
    snapshot: Snapshot,
    star: DetectedStar,
    flux: str | None = None,
    version: int | None = None,
    measured: Measured | None = "detected",
) -> pa.Table:
    """Return the light curves, one for each band, of a star that no catalog has.

    Its magnitudes assume the pivot colour; the shared part of their errors has how far colours of the stars of each
    frame are from it.

    Parameters
    ----------
    snapshot : Snapshot
    star : DetectedStar
    flux : str or None
        An aperture, as ``aper1``; None takes that of the zeropoints.
    version : int or None
        Of the calibration; None takes the one in force.
    measured : {'detected'} or None
        None leaves out cameras that measure the star as a target: that is another light curve.

    Returns
    -------
    pyarrow.Table
        As ``lightcurves``; no rows if no frame is calibrated. The identifier is the HEALPix index of the position, and
        the catalog :data:`skylake.calibration.unlisted_stars.DETECTIONS`.
    """
    rows = snapshot.cone("sources", star.ra_deg, star.dec_deg, star.radius_arcsec / 3600.0)
    rows = _one_per_frame(rows, star)
    if measured is None:
        rows = _of_no_target(snapshot, rows, star)
    if rows.num_rows == 0:
        return empty_table(load("lightcurves"))
    frames, zeropoints = calibration_rows(snapshot, rows, FRAME_COLUMNS, version=version)
    ra, dec = (np.full(rows.num_rows, one) for one in (star.ra_deg, star.dec_deg))
    rows = as_matches(rows, ra, dec, zeropoints)
    return lightcurves_table(
        rows,
        calibrate_matches(rows, frames, zeropoints, flux),
        sites_of(snapshot.layout, rows["camera"].to_pylist()),
    )


def _of_no_target(snapshot: Snapshot, rows: pa.Table, star: DetectedStar) -> pa.Table:
    """Return the detections of a star by cameras that do not measure it as a target.

    Targets of a camera are looked for where its own detections are: its positions agree with each other better than
    with those of others.
    """
    if not snapshot.n_rows(_TARGETS):
        return rows
    reach = (star.radius_arcsec + star.link_arcsec) / 3600.0
    ranges = cone_ranges(star.ra_deg, star.dec_deg, reach)
    near = stored_rows(snapshot, _TARGETS, ranges, ["camera", "ra_deg", "dec_deg"])
    of_camera, ra, dec = (
        near[name].to_numpy(zero_copy_only=False) for name in ("camera", "ra_deg", "dec_deg")
    )
    cameras = np.asarray(rows["camera"].to_pylist(), object)
    left = np.ones(rows.num_rows, bool)
    for camera in sorted(set(of_camera) & set(cameras)):
        mine, targets = cameras == camera, of_camera == camera
        place = _middle(rows.filter(pa.array(mine)))
        away = separation_deg(*place, ra[targets], dec[targets]) * 3600.0
        left[mine] = away.min() > star.link_arcsec
    return rows.filter(pa.array(left))


def _middle(rows: pa.Table) -> tuple[float, float]:
    """Return the median place of detections that are near each other."""
    ra, dec = (float(rows[name][0].as_py()) for name in ("ra_deg", "dec_deg"))
    east, north = _on_plane(rows, ra, dec)
    return _from_plane((float(np.median(east)), float(np.median(north))), ra, dec)


def object_rows(
    snapshot: Snapshot, seen: SeenObject, measured: Measured | None = None, flux: str | None = None
) -> pa.Table:
    """Return the light curves, one for each band, of an object that no catalog has.

    The table is that of :func:`detection_curve`, and so is what `measured` and `flux` mean. It has no rows if the
    detections turn out to be of a star of a catalog, or no calibrated frame shows it.
    """
    star = detected_star(snapshot, seen.ra_deg, seen.dec_deg, seen.reach_arcsec)
    if star is None or star.listed is not None or not snapshot.n_rows("zeropoints"):
        return empty_table(load("lightcurves"))
    rows = detection_curve(snapshot, star, flux, measured=measured)
    numbers = pa.array([seen.object_id] * rows.num_rows, pa.int64())
    place = rows.schema.get_field_index("object_id")
    return rows.set_column(place, rows.schema.field(place), numbers)


def _one_per_frame(rows: pa.Table, star: DetectedStar) -> pa.Table:
    """Return of each frame the detection that is nearest to the star."""
    ra, dec = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    order = np.argsort(separation_deg(star.ra_deg, star.dec_deg, ra, dec), kind="stable")
    first = np.unique(rows["frame_id"].to_numpy()[order], return_index=True)[1]
    return rows.take(pa.array(order[first]))

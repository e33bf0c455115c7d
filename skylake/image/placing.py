"""Where the targets of a camera fall on a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.flags import SPOILED, SourceFlag
from skylake.core.sphere import separation_deg
from skylake.image.astrometry import Pointing
from skylake.image.measure import Measurements

Floats = npt.NDArray[np.float64]

#: Beyond this angle from the centre of a frame a tangent plane has no place.
_MAX_PLANE_DEG = 85.0
#: Brightest detections from which the shift of a frame is taken, at most.
_MAX_STARS = 1000
#: Distances within which a detection belongs to a target, one round after the other, pixels.
_ROUNDS_PX = (5.0, 2.5, 1.5, 1.5)
#: With fewer matches, or a smaller share of the detections, the frame does not show the targets.
_MIN_MATCHED = 5
_MIN_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class TargetStars:
    """Targets near a field.

    Attributes
    ----------
    star_id : ndarray of int64, shape (n,)
    ra_deg, dec_deg : ndarray, shape (n,)
        Positions as the list has them, ICRS.
    ra_now_deg, dec_now_deg : ndarray, shape (n,)
        Positions at the time of the frame.
    version : int
        Of the list.
    """

    star_id: npt.NDArray[np.int64]
    ra_deg: Floats
    dec_deg: Floats
    ra_now_deg: Floats
    dec_now_deg: Floats
    version: int

    def __len__(self) -> int:
        return len(self.star_id)

    def take(self, which: npt.NDArray[np.intp]) -> TargetStars:
        """Return some of the targets."""
        return TargetStars(
            self.star_id[which], self.ra_deg[which], self.dec_deg[which], self.ra_now_deg[which],
            self.dec_now_deg[which], self.version,
        )  # fmt: skip


#: Returns the targets within a radius (degrees) of a position, at a time (MJD).
TargetFinder = Callable[[float, float, float, float], TargetStars]


def sky_to_pixels(pointing: Pointing, ra_deg: Floats, dec_deg: Floats) -> tuple[Floats, Floats]:
    """Return 0-based pixels of ICRS positions; NaN for those far from the field or outside the projection."""
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    x, y = np.full(len(ra_deg), np.nan), np.full(len(ra_deg), np.nan)
    distance = separation_deg(pointing.ra_deg, pointing.dec_deg, ra_deg, dec_deg)
    near = np.flatnonzero(distance <= min(1.1 * pointing.radius_deg + 0.01, _MAX_PLANE_DEG))
    if near.size == 0:
        return x, y
    frame = wcs_to_celestial_frame(pointing.wcs)
    longitude, latitude = ra_deg[near], dec_deg[near]
    if frame.name != "icrs":
        sky = SkyCoord(longitude, latitude, unit="deg").transform_to(frame)
        longitude, latitude = np.asarray(sky.spherical.lon.deg), np.asarray(sky.spherical.lat.deg)
    world = [longitude, latitude] if pointing.wcs.wcs.lng == 0 else [latitude, longitude]
    with np.errstate(invalid="ignore", over="ignore"):
        found = pointing.wcs.all_world2pix(*world, 0, quiet=True)
    x[near], y[near] = found[0], found[1]
    return x, y


def shift_to_targets(x: Floats, y: Floats, measured: Measurements) -> tuple[float, float, int] | None:
    """Return by how much the stars of a frame lie beside where its WCS puts the targets.

    One shift for all: a centroid of each star by itself would wander with noise and neighbours.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Where the WCS puts targets on the image.
    measured : Measurements

    Returns
    -------
    dx, dy : float
        To be added to `x` and `y`.
    n_matched : int
        Detections behind them. None is returned where so few detections are near targets that the frame cannot show
        them.
    """
    from scipy.spatial import cKDTree

    # Where its stars are a rejected frame shows as well as any other.
    clean = np.flatnonzero((measured.flags & int(SPOILED & ~SourceFlag.FRAME_REJECTED)) == 0)
    flux = np.nan_to_num(measured.flux["aper1"][clean])
    clean = clean[np.argsort(-flux, kind="stable")[:_MAX_STARS]]
    if len(x) == 0 or clean.size == 0:
        return None
    tree = cKDTree(np.column_stack([x, y]))
    places = np.column_stack([measured.x[clean], measured.y[clean]])
    shift = np.zeros(2)
    near = np.zeros(clean.size, bool)
    for reach in _ROUNDS_PX:
        distance, target = tree.query(places - shift)
        near = distance <= reach
        if near.sum() < min(_MIN_MATCHED, len(x)):
            return None
        matched = np.column_stack([x[target[near]], y[target[near]]])
        shift = np.median(places[near] - matched, axis=0)
    if near.sum() < _MIN_SHARE * min(clean.size, len(x)):
        return None
    return float(shift[0]), float(shift[1]), int(near.sum())

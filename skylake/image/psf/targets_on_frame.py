"""Pixel positions of targets on a frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.flags import NO_STANDARD, SourceFlag
from skylake.core.sphere import unit_vectors, within
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.wcs.header_wcs import CatalogStars, Pointing, stars_inside
from skylake.image.wcs.sky_view import SkyView

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
#: Fewer give the shift if as many would lie at detections by chance on fewer frames than this.
_MAX_CHANCE = 0.01


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
            self.star_id[which],
            self.ra_deg[which],
            self.dec_deg[which],
            self.ra_now_deg[which],
            self.dec_now_deg[which],
            self.version,
        )


#: Returns the targets within a radius (degrees) of a position, at a time (MJD).
TargetFinder = Callable[[float, float, float, float], TargetStars]


def sky_to_pixels(pointing: Pointing, ra_deg: Floats, dec_deg: Floats) -> tuple[Floats, Floats]:
    """Return 0-based pixels of ICRS positions; NaN for those far from the field or outside the projection."""
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    x, y = np.full(len(ra_deg), np.nan), np.full(len(ra_deg), np.nan)
    # A view knows what it does not show; a lens and a plane know no horizon.
    most = 180.0 if isinstance(pointing.lens, SkyView) else _MAX_PLANE_DEG
    reach = min(1.1 * pointing.radius_deg + 0.01, most)
    near = np.flatnonzero(within(pointing.ra_deg, pointing.dec_deg, reach, ra_deg, dec_deg))
    if near.size == 0:
        return x, y
    if pointing.lens is not None:
        x[near], y[near] = pointing.lens.to_pixels(unit_vectors(ra_deg[near], dec_deg[near]))
        return x, y
    frame = wcs_to_celestial_frame(pointing.wcs)
    longitude, latitude = ra_deg[near], dec_deg[near]
    if frame.name != "icrs":
        sky = SkyCoord(longitude, latitude, unit="deg").transform_to(frame)
        longitude, latitude = np.asarray(sky.spherical.lon.deg), np.asarray(sky.spherical.lat.deg)
    world = [longitude, latitude] if pointing.wcs.wcs.lng == 0 else [latitude, longitude]
    with np.errstate(invalid="ignore", over="ignore"):
        pixels = pointing.wcs.all_world2pix(*world, 0, quiet=True)
    x[near], y[near] = pixels[0], pixels[1]
    return x, y


def stars_on_image(pointing: Pointing, stars: CatalogStars, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return 0-based pixels of the brightest stars of a catalog on an image."""
    inside = stars_inside(pointing, shape, stars)
    brightest = inside[np.argsort(stars.mag[inside], kind="stable")[:_MAX_STARS]]
    x, y = sky_to_pixels(pointing, stars.ra_deg[brightest], stars.dec_deg[brightest])
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]


def find_shift(
    x: Floats,
    y: Floats,
    measured: Measurements,
    shape: tuple[int, ...],
    catalog: Callable[[], tuple[Floats, Floats]] | None,
) -> tuple[float, float] | None:
    """Return by how much targets lie beside where the WCS of a frame puts them.

    Targets give it themselves where enough of them are detected. Few targets, or such as are hidden, cannot: what is
    near one of them may be a stranger, and nothing need be there. Then the stars of the catalog that confirmed the
    WCS give it; without a catalog a few targets do, if their agreement with detections is unlikely to be chance.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Where the WCS puts targets on the image.
    measured : Measurements
    shape : tuple of int
        Height and width of the image.
    catalog : callable or None
        Gives where the WCS puts the bright stars of a catalog, if it was found to be right; it is asked only if the
        targets do not suffice.

    Returns
    -------
    tuple of float or None
        To be added to `x` and `y`; NaN where it is not known and the WCS must do. None where the frame does not show
        targets of which some should be seen.
    """
    if len(x) == 0:
        return None
    shift = shift_to_targets(x, y, measured)
    if shift is None and catalog is not None:
        shift = shift_to_targets(*catalog(), measured)
        return (np.nan, np.nan) if shift is None else shift[:2]
    if shift is None:
        shift = _shift_to_few(x, y, measured, shape)
    if shift is not None:
        return shift[:2]
    return (np.nan, np.nan) if len(x) < _MIN_MATCHED else None


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
        Detections behind them. None is returned where so few detections are near targets that they may be others.
    """
    clean = _bright_detections(measured)
    shift = _match(x, y, measured, clean, _MIN_MATCHED)
    return None if shift is None or shift[2] < _MIN_SHARE * min(clean.size, len(x)) else shift


def _shift_to_few(
    x: Floats, y: Floats, measured: Measurements, shape: tuple[int, ...]
) -> tuple[float, float, int] | None:
    """Return the shift that fewer targets give; None where as many might lie at detections by chance."""
    clean = _bright_detections(measured)
    shift = _match(x, y, measured, clean, 1)
    if shift is None or shift[2] < _MIN_SHARE * min(clean.size, len(x)):
        return None
    first, last = (
        np.pi * reach**2 * clean.size / math.prod(shape) for reach in (_ROUNDS_PX[0], _ROUNDS_PX[-1])
    )
    chance = math.comb(len(x), shift[2]) * first * last ** (shift[2] - 1)
    return shift if chance < _MAX_CHANCE else None


def _bright_detections(measured: Measurements) -> npt.NDArray[np.intp]:
    """Return the brightest of the detections whose place is to be trusted."""
    # Where its stars are a rejected frame shows as well as any other.
    clean = np.flatnonzero((measured.flags & int(NO_STANDARD & ~SourceFlag.FRAME_REJECTED)) == 0)
    flux = np.nan_to_num(measured.flux["aper1"][clean])
    return clean[np.argsort(-flux, kind="stable")[:_MAX_STARS]]


def _match(
    x: Floats, y: Floats, measured: Measurements, clean: npt.NDArray[np.intp], least: int
) -> tuple[float, float, int] | None:
    """Return the median shift of detections from targets, and how many agree; None with fewer than `least`."""
    from scipy.spatial import cKDTree

    if len(x) == 0 or clean.size == 0:
        return None
    # It is asked for a few thousand places: building it is what takes time.
    tree = cKDTree(np.column_stack([x, y]), balanced_tree=False, compact_nodes=False)
    places = np.column_stack([measured.x[clean], measured.y[clean]])
    shift = np.zeros(2)
    near = np.zeros(clean.size, bool)
    for reach in _ROUNDS_PX:
        distance, target = tree.query(places - shift)
        near = distance <= reach
        if near.sum() < least:
            return None
        matched = np.column_stack([x[target[near]], y[target[near]]])
        shift = np.median(places[near] - matched, axis=0)
    return float(shift[0]), float(shift[1]), int(near.sum())

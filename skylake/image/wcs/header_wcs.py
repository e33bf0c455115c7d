"""WCS of headers: reading it, and the pointing, scale and rotation of an image."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera
from skylake.core.corrections import correction, corrections_of
from skylake.core.reasons import Reason
from skylake.core.sphere import ra_dec, separation_deg, tangent_basis, unit_vectors, within
from skylake.errors import FrameRejected
from skylake.image.detrend.bayer_planes import moved_wcs
from skylake.image.wcs.agreed_cards import agreed_cards
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.sky_view import SkyView
from skylake.image.wcs.wcs_cards import (
    SOLVE_FIRST,
    degrees_of,
    refuse_no_scale,
    refuse_odd_orders,
    why_no_wcs,
)

Floats = npt.NDArray[np.float64]

#: Points per edge of the outline of an image; more than corners, since wide fields have curved edges.
_EDGE_POINTS = 4
#: Farther from the centre there is no tangent plane.
_MAX_PLANE_DEG = 85.0
#: Lower stars of an image of the whole sky may be behind trees, or lost in haze.
_LOWEST_DEG = 15.0
#: Characters of the words of a library that a sentence shows.
_MAX_SHOWN = 150
#: Axes of an image that enclose a smaller angle than this are one axis.
_MIN_SINE = 1e-6
#: Cards of the scale and rotation of a WCS.
_LINEAR_CARD = re.compile(r"(CD|PC)[12]_[12]\Z|CDELT[12]\Z")
#: Logarithm of the ratio of scales up to which a WCS may be that of the camera.
_SCALE_TOLERANCE = 0.25
#: No camera without adaptive optics has a finer scale, arcsec per pixel: the best seeing is 0.3 arcsec.
_LEAST_SCALE_ARCSEC = 0.1
_LATITUDE_AXIS = re.compile(r"(DEC|GLAT)(-|\Z)")
#: Ecliptic, helioecliptic, supergalactic, terrestrial and planetary axes.
_OTHER_AXIS = re.compile(r"([A-FH-Z]L(ON|AT)|[A-Z]{2}L[NT])(-|\Z)")


@dataclass(frozen=True, slots=True)
class CatalogStars:
    """Catalog stars at the epoch of a frame: positions in degrees, and magnitudes to rank them by."""

    ra_deg: Floats
    dec_deg: Floats
    mag: Floats


#: Steps in which the inverse of a distortion is found; each makes the error smaller by the distortion itself.
_INVERSE_STEPS = 4

#: Returns the catalog stars within a radius (degrees) of a position, at an epoch (MJD).
StarFinder = Callable[[float, float, float, float], CatalogStars]


@dataclass(frozen=True, slots=True)
class Pointing:
    """The WCS of a trimmed image and what follows from it; angles in degrees, ICRS.

    ``radius_deg`` reaches the farthest corner, and is 180 where the outline of the image leaves the sky,
    as that of a fisheye lens does; then ``s_region`` is None.
    """

    wcs: Any
    ra_deg: float
    dec_deg: float
    radius_deg: float
    pixel_scale_arcsec: float
    rotation_deg: float
    mirrored: bool
    s_region: str | None
    lens: Lens | SkyView | None = None
    """The geometry that the WCS was made from, if it was fitted to stars; a view for cameras of the whole sky."""

    def to_sky(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return ICRS positions of 0-based pixels."""
        if self.lens is not None:
            return ra_dec(self.lens.to_vectors(x, y))
        return _to_icrs(self.wcs, np.asarray(x, float), np.asarray(y, float))


def header_pointing(
    header: Any, camera: Camera, shape: tuple[int, int], offset: tuple[float, float], raw_step: int = 1
) -> Pointing:
    """Return the pointing that a header gives.

    Parameters
    ----------
    header : astropy.io.fits.Header
    camera : Camera
    shape : tuple of int
        Height and width after trimming.
    offset : tuple of float
        Raw pixel (x, y) of the first pixel after trimming; the WCS is moved by it.
    raw_step : int
        Raw pixels from one pixel to the next, as in a colour plane of a Bayer mosaic; the WCS is scaled by it.

    Raises
    ------
    FrameRejected
        ``no_wcs`` if the header has no celestial WCS, one that cannot be evaluated or that contradicts itself, or one
        of a scale that no camera has; ``bad_wcs`` if its scale is not that of the camera.
    """
    if camera.header.wcs == "none":
        raise FrameRejected(
            Reason.NO_WCS,
            "header.wcs = 'none' in the profile says that headers of this camera have no usable WCS",
        )
    header, doubts = agreed_cards(header)
    for doubt in doubts:
        if doubt.reason is not None:
            raise FrameRejected(doubt.reason, f"{doubt.sentence}{SOLVE_FIRST}")
    _refuse_odd_axes(header)
    refuse_no_scale(header)
    refuse_odd_orders(header)
    wcs = _read_wcs(header)
    if wcs is None:
        raise FrameRejected(Reason.NO_WCS, f"{why_no_wcs(header)}{SOLVE_FIRST}")
    if raw_step != 1:
        wcs = moved_wcs(wcs, offset, raw_step)
    elif offset != (0, 0):
        wcs = wcs[int(offset[1]) :, int(offset[0]) :]
    pointing = _usable_pointing(wcs, shape)
    _refuse_other_scale(pointing, camera, raw_step)
    return pointing


def _usable_pointing(wcs: Any, shape: tuple[int, int]) -> Pointing:
    """Return the pointing of the WCS of a header; raise FrameRejected if it cannot be evaluated."""
    height, width = shape
    try:
        # Numbers beyond all measure, as of an equinox, become infinite or NaN, and are found below.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            pointing = describe_pointing(wcs, height, width)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        why = " ".join(str(error).split())[:_MAX_SHOWN]
        raise FrameRejected(
            Reason.NO_WCS, f"the WCS of the header cannot be used ({why}){SOLVE_FIRST}"
        ) from error
    if not np.isfinite([pointing.ra_deg, pointing.dec_deg, pointing.pixel_scale_arcsec]).all():
        raise FrameRejected(Reason.NO_WCS, f"the WCS of the header gives no finite position{SOLVE_FIRST}")
    return pointing


def _refuse_other_scale(pointing: Pointing, camera: Camera, raw_step: int) -> None:
    """Refuse a frame of another scale than the camera's: two cameras may have images of the same size."""
    raw = camera.optics.pixel_scale_arcsec
    known = None if raw is None else raw * raw_step
    if known is None and pointing.pixel_scale_arcsec < _LEAST_SCALE_ARCSEC:
        raise FrameRejected(
            Reason.NO_WCS,
            f"the WCS of the header has {pointing.pixel_scale_arcsec:.4g} arcsec per pixel, and images that the air "
            f"blurs have at least {_LEAST_SCALE_ARCSEC:g}; correct its cards, or give optics.pixel_scale_arcsec in "
            f"the profile if the scale is right{SOLVE_FIRST}",
        )
    if known is not None and abs(np.log(pointing.pixel_scale_arcsec / known)) > _SCALE_TOLERANCE:
        values = corrections_of({"optics.pixel_scale_arcsec": pointing.pixel_scale_arcsec / raw_step})
        raise FrameRejected(
            Reason.BAD_WCS,
            f"the WCS of the header has {pointing.pixel_scale_arcsec:.4g} arcsec per pixel and {camera.name} "
            f"{known:.4g}; use the profile of its camera, or {correction(values)}{SOLVE_FIRST}",
            values,
        )


@contextlib.contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep what astropy logs of a header, such as a CTYPE without -SIP, from standard error."""
    from astropy import log

    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _read_wcs(header: Any) -> Any:
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning
    from astropy.wcs import WCS
    from astropy.wcs import WcsError as AnyWcsError

    with warnings.catch_warnings(), _quiet_log():
        # Deprecated cards that wcslib translates, such as RADECSYS; their meaning is not in doubt.
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            wcs = WCS(header, naxis=2)
        except (
            ValueError,
            TypeError,
            LookupError,
            ArithmeticError,
            AttributeError,
            AssertionError,
            MemoryError,
            fits.VerifyError,
            AnyWcsError,
        ):
            return None
    return wcs if wcs.has_celestial and _numbers_only(header) else None


def _numbers_only(header: Any) -> bool:
    """Return whether the cards of a linear WCS are numbers; astropy takes those that are not for 0 or 1."""
    wanted = [header.get(name) for name in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")]
    wanted += [value for name, value in header.items() if _LINEAR_CARD.match(name)]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in wanted)


def _refuse_odd_axes(header: Any) -> None:
    """Raise for axes that are no longitude and latitude of a frame that can be turned to ICRS."""
    for axis in (1, 2):
        kind = str(header.get(f"CTYPE{axis}", "")).strip().upper()
        if _OTHER_AXIS.match(kind):
            raise FrameRejected(
                Reason.NO_WCS,
                f"CTYPE{axis} = {kind[:8]!r} is neither equatorial nor galactic{SOLVE_FIRST}",
            )
        value, unit = header.get(f"CRVAL{axis}"), degrees_of(header.get(f"CUNIT{axis}", "deg"))
        if unit is None or not _LATITUDE_AXIS.match(kind) or not isinstance(value, int | float):
            continue
        if not abs(value) * unit <= 90.0:
            raise FrameRejected(Reason.NO_WCS, f"CRVAL{axis} = {value:g} is no latitude{SOLVE_FIRST}")


def _to_icrs(wcs: Any, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    world = wcs.all_pix2world(x, y, 0)
    # Either axis may be the longitude.
    lon, lat = world[wcs.wcs.lng], world[wcs.wcs.lat]
    frame = wcs_to_celestial_frame(wcs)
    if frame.name == "icrs":
        # Twice, since the remainder of a tiny negative angle is 360.
        return np.asarray(lon, float) % 360.0 % 360.0, np.asarray(lat, float)
    sky = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
    return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)


def describe_pointing(wcs: Any, height: int, width: int) -> Pointing:
    """Return what follows from the WCS of an image; raise ValueError if its axes are one."""
    return _described(partial(_to_icrs, wcs), height, width, wcs)


def view_pointing(view: SkyView) -> Pointing:
    """Return the pointing of an image of the whole sky; raise FrameRejected if its middle shows no sky."""
    pointing = _described(view.pixels_to_icrs, *view.shape, view.wcs())
    if not np.isfinite([pointing.ra_deg, pointing.pixel_scale_arcsec]).all():
        raise FrameRejected(Reason.NO_WCS, "the middle of the image shows no sky; trim it about the sky")
    return replace(pointing, lens=view)


def _described(
    to_icrs: Callable[[Floats, Floats], tuple[Floats, Floats]], height: int, width: int, wcs: Any
) -> Pointing:
    x0, y0 = 0.5 * (width - 1), 0.5 * (height - 1)
    ra, dec = to_icrs(np.array([x0, x0 + 0.5, x0 - 0.5, x0, x0]), np.array([y0, y0, y0, y0 + 0.5, y0 - 0.5]))
    vectors = unit_vectors(ra, dec)
    east, north = tangent_basis(ra[0], dec[0])
    along_x, along_y = vectors[1] - vectors[2], vectors[3] - vectors[4]
    x_east, x_north, y_east, y_north = along_x @ east, along_x @ north, along_y @ east, along_y @ north
    determinant = x_east * y_north - x_north * y_east
    if abs(determinant) <= _MIN_SINE * np.linalg.norm(along_x) * np.linalg.norm(along_y):
        raise ValueError("both axes point the same way on the sky")
    outline_ra, outline_dec = to_icrs(*_outline(height, width))
    distance = separation_deg(ra[0], dec[0], outline_ra, outline_dec)
    on_sky = bool(np.isfinite(distance).all())
    return Pointing(
        wcs=wcs,
        ra_deg=float(ra[0]),
        dec_deg=float(dec[0]),
        radius_deg=float(np.max(distance)) if on_sky else 180.0,
        pixel_scale_arcsec=float(np.degrees(np.sqrt(abs(determinant))) * 3600.0),
        rotation_deg=float(np.degrees(np.arctan2(y_east, y_north)) % 360.0 % 360.0),
        # With north up, east is to the left on the sky: x then runs west and the determinant is negative.
        mirrored=bool(determinant > 0.0),
        s_region=_polygon(outline_ra, outline_dec) if on_sky else None,
    )


def _outline(height: int, width: int) -> tuple[Floats, Floats]:
    """Return points along the outer edge of the image, counter-clockwise in pixels."""
    step = np.arange(_EDGE_POINTS) / _EDGE_POINTS
    zeros, ones = np.zeros(_EDGE_POINTS), np.ones(_EDGE_POINTS)
    x = np.concatenate([step, ones, 1 - step, zeros]) * width - 0.5
    y = np.concatenate([zeros, step, ones, 1 - step]) * height - 0.5
    return x, y


def _polygon(ra: Floats, dec: Floats) -> str:
    """Return an outline as an STC-S polygon, as ObsCore's s_region."""
    numbers = " ".join(f"{a:.6f} {d:.6f}" for a, d in zip(ra, dec, strict=True))
    return f"POLYGON ICRS {numbers}"


def stars_inside(pointing: Pointing, shape: tuple[int, int], stars: CatalogStars) -> npt.NDArray[np.intp]:
    """Return the indices of stars with a magnitude that fall on the image, not too near the horizon."""
    if isinstance(pointing.lens, SkyView):
        return _stars_in_view(pointing.lens, stars)
    reach = min(pointing.radius_deg, _MAX_PLANE_DEG)
    around = within(pointing.ra_deg, pointing.dec_deg, reach, stars.ra_deg, stars.dec_deg)
    near = np.flatnonzero(around & np.isfinite(stars.mag))
    if near.size == 0:
        return near
    # The linear part is enough to find which are inside, and always defined, unlike the inverse of SIP.
    height, width = shape
    x, y = _linear_pixels(pointing, stars.ra_deg[near], stars.dec_deg[near], height, width)
    return near[(x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)]


def stars_to_pixels(pointing: Pointing, shape: tuple[int, int], stars: CatalogStars) -> Floats:
    """Return the places of stars near an image, shape (n, 2), 0-based pixels.

    Distortion by SIP polynomials, whose inverse is not defined everywhere, is found by steps from the linear part; NaN
    for stars that are not shown, or too far from the image.
    """
    if pointing.lens is not None:
        return np.stack(pointing.lens.to_pixels(unit_vectors(stars.ra_deg, stars.dec_deg)), axis=1)
    places = np.full((len(stars.mag), 2), np.nan)
    around = within(pointing.ra_deg, pointing.dec_deg, _MAX_PLANE_DEG, stars.ra_deg, stars.dec_deg)
    near = np.flatnonzero(around)
    wanted = np.stack(_linear_pixels(pointing, stars.ra_deg[near], stars.dec_deg[near], *shape), axis=1)
    inside = (np.abs(wanted / np.array(shape)[::-1] - 0.5) < 1.0).all(axis=1)
    near, wanted = near[inside], wanted[inside]
    found = wanted
    for _ in range(_INVERSE_STEPS):
        there = np.stack(_linear_pixels(pointing, *pointing.to_sky(*found.T), *shape), axis=1)
        found = found + (wanted - there)
    places[near] = found
    return places


def _stars_in_view(view: SkyView, stars: CatalogStars) -> npt.NDArray[np.intp]:
    x, y = replace(view, lowest_deg=_LOWEST_DEG).icrs_to_pixels(stars.ra_deg, stars.dec_deg)
    height, width = view.shape
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    return np.flatnonzero(inside & np.isfinite(stars.mag))


def _linear_pixels(
    pointing: Pointing, ra: Floats, dec: Floats, height: int, width: int
) -> tuple[Floats, Floats]:
    """Return approximate pixels from the tangent plane at the centre of the image."""
    east, north = tangent_basis(pointing.ra_deg, pointing.dec_deg)
    centre = unit_vectors(pointing.ra_deg, pointing.dec_deg)
    vectors = unit_vectors(ra, dec)
    depth = vectors @ centre
    xi, eta = np.degrees(vectors @ east / depth), np.degrees(vectors @ north / depth)
    x0, y0 = 0.5 * (width - 1), 0.5 * (height - 1)
    corner_ra, corner_dec = pointing.to_sky([x0 + 1, x0], [y0, y0 + 1])
    steps = unit_vectors(corner_ra, corner_dec) - centre
    matrix = np.degrees(np.array([[steps[0] @ east, steps[1] @ east], [steps[0] @ north, steps[1] @ north]]))
    dx, dy = np.linalg.solve(matrix, np.vstack([xi, eta]))
    return x0 + dx, y0 + dy

"""Pointing of a frame of the whole sky: by the known geometry of its camera, or by its own stars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera
from skylake.core.flags import SourceFlag
from skylake.core.horizon import Horizon
from skylake.core.reasons import Reason
from skylake.core.refraction import Air
from skylake.core.sphere import ARCSEC_PER_RADIAN, unit_vectors
from skylake.errors import FrameRejected
from skylake.image.allsky.geometry_epochs import CHANGED_PX, Geometry, in_force
from skylake.image.allsky.geometry_errors import covariance_of, turned_covariance, view_err_px
from skylake.image.allsky.horizon_search import SkyStars
from skylake.image.allsky.refine_geometry import DetectedPlaces, Refined, apart_px, follow, refine
from skylake.image.allsky.solve_allsky import solve_all_sky
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.wcs.field_refraction import APPLIED, OFF
from skylake.image.wcs.header_wcs import CatalogStars, StarFinder
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import view_text
from skylake.image.wcs.sky_view import SkyView

Floats = npt.NDArray[np.float64]

#: Centroids that mean nothing: of what is cut off, spoilt, or too crowded to have one.
NO_PLACE = int(SourceFlag.CENTROID_FAILED | SourceFlag.EDGE | SourceFlag.BAD_PIXEL)
NO_SITE = (
    "the profile has no site, which the whole sky needs; set longitude_deg and latitude_deg under [site]"
)
#: Width that is taken where no source gives one, pixels.
USUAL_FWHM_PX = 2.5
#: What wcs_source says of a frame whose stars said nothing about where it points.
GEOMETRY = "geometry"
#: So many stars give a geometry of their own.
_MANY = 60


@dataclass(frozen=True, slots=True)
class SkyScene:
    """The stars of a frame of the whole sky and of its catalog.

    Attributes
    ----------
    detected : DetectedPlaces
    fwhm_px : float
    shape : tuple of int
        Height and width.
    mjd : float
        Middle of the exposure, UTC.
    horizon : Horizon
    stars : CatalogStars
        Of the whole sky, at the epoch of the frame.
    """

    detected: DetectedPlaces
    fwhm_px: float
    shape: tuple[int, int]
    mjd: float
    horizon: Horizon
    stars: CatalogStars

    @classmethod
    def of(
        cls,
        measured: Measurements,
        shape: tuple[int, int],
        mjd: float,
        camera: Camera,
        band: str | None,
        find_stars: StarFinder,
    ) -> SkyScene:
        """Gather the scene of a frame; raise FrameRejected if its site is unknown.

        Stars stand where the air above the site of the camera lifts them, at the wavelength of the band, unless the
        profile says that refraction is left to the lens.
        """
        site = camera.site
        if not site.known:
            raise FrameRejected(Reason.NO_WCS, NO_SITE)
        detected = detected_of(
            measured.x, measured.y, measured.x_err, measured.y_err, measured.flux["aper1"], measured.flags
        )
        width = measured.fwhm[np.isfinite(measured.fwhm) & ((measured.flags & NO_PLACE) == 0)]
        fwhm = float(np.median(width)) if width.size else USUAL_FWHM_PX
        stars = find_stars(0.0, 90.0, 180.0, mjd)
        horizon = Horizon.of(mjd, site, Air.of_camera(camera, band))
        return cls(detected, fwhm, shape, mjd, horizon, stars)

    @property
    def above(self) -> SkyStars:
        """The stars above the horizon."""
        directions = self.horizon.to_horizon(
            unit_vectors(self.stars.ra_deg, self.stars.dec_deg).reshape(-1, 3)
        )
        up = (directions[:, 2] > 0.0) & np.isfinite(self.stars.mag)
        # A catalog gives the stars of the whole sky in the same order for every frame.
        return SkyStars(directions[up], self.stars.mag[up], np.flatnonzero(up))


def detected_of(x: Any, y: Any, x_err: Any, y_err: Any, flux: Any, flags: Any) -> DetectedPlaces:
    """Return the sources that have their places; arrays of shape (n,)."""
    clear = ((flags & NO_PLACE) == 0) & (flux > 0.0) & np.isfinite(x_err) & np.isfinite(y_err)
    errors = np.hypot(x_err, y_err) / np.sqrt(2.0)
    return DetectedPlaces(np.stack([x, y], axis=1)[clear], errors[clear], flux[clear])


def refraction_word(horizon: Horizon) -> str:
    """Return the value of ``frames.astrom_refraction`` for a frame of the whole sky."""
    return APPLIED if horizon.refraction.bends else OFF


@dataclass(frozen=True, slots=True)
class SkyPlace:
    """Where a frame of the whole sky points.

    Attributes
    ----------
    view : SkyView
    geometry : str or None
        Name of the geometry that it was placed with; None for one of its own.
    row : dict
        Columns of ``frames``.
    by_stars : bool
        Whether stars of the frame gave it, or confirmed it.
    """

    view: SkyView
    geometry: str | None
    row: dict[str, Any]
    by_stars: bool = True


def place_by_geometry(scene: SkyScene, geometries: Sequence[Geometry]) -> SkyPlace | None:
    """Place a frame with the geometry in force, turned to its stars; None without a geometry of its size.

    A frame that shows no star has the geometry as it is, and ``wcs_source`` says so. One whose stars want
    another geometry gets one of its own.
    """
    known = in_force([version for version in geometries if version.shape == scene.shape], scene.mjd)
    if known is None:
        return None
    above = scene.above
    held = follow(known.lens, scene.detected, above, scene.shape, scene.fwhm_px)
    if held is None:
        return _placed(scene, known.lens, None, known.name, known.covariance)
    own = refine(held.lens, [(scene.detected, above)], scene.shape, scene.fwhm_px)
    many = own is not None and len(own[0].pairs.star) >= _MANY
    if own is not None and many and apart_px(held.lens, own[0], scene.detected) > CHANGED_PX:
        return _placed(scene, own[0].lens, own[0], None, covariance_of([(own[0], scene.detected)]))
    covariance = known.covariance
    if covariance.any():
        covariance = turned_covariance(held, scene.detected, covariance)
    return _placed(scene, held.lens, held, known.name, covariance)


def _placed(
    scene: SkyScene, lens: Lens, refined: Refined | None, geometry: str | None, covariance: Floats
) -> SkyPlace:
    view = SkyView(lens, scene.horizon, scene.shape)
    row: dict[str, Any] = {
        "wcs_source": GEOMETRY,
        "wcs_geometry": geometry,
        "wcs_lens": view_text(view),
        "wcs_err_px": _err_px(view, covariance),
    }
    if refined is not None:
        row |= {"wcs_source": "refined"} | _numbers(scene, refined)
    return SkyPlace(view, geometry, row, refined is not None)


def place_by_stars(scene: SkyScene) -> SkyPlace:
    """Place a frame by its stars, site and time alone.

    Raises
    ------
    FrameRejected
        ``no_wcs`` if no geometry is sure; the sentence says why.
    """
    solution = solve_all_sky(scene.detected, scene.shape, scene.fwhm_px, scene.stars, scene.horizon)
    numbers = _numbers(scene, solution.refined) | {"astrom_rms_arcsec": solution.rms_arcsec}
    source = {"wcs_source": "solved", "wcs_geometry": None, "wcs_log_odds": solution.log_odds}
    covariance = covariance_of([(solution.refined, scene.detected)])
    view = {"wcs_lens": view_text(solution.view), "wcs_err_px": _err_px(solution.view, covariance)}
    return SkyPlace(solution.view, None, source | view | numbers)


def _err_px(view: SkyView, covariance: Floats) -> float | None:
    """Return the value of ``wcs_err_px``; None of a geometry whose errors are not known, as older ones."""
    if not covariance.any():
        return None
    err = view_err_px(view.lens, view.shape, covariance)
    return err if np.isfinite(err) else None


def _numbers(scene: SkyScene, refined: Refined) -> dict[str, Any]:
    return {
        "astrom_n": len(refined.pairs.star),
        "astrom_rms_px": refined.rms_px,
        "astrom_rms_arcsec": refined.rms_px * ARCSEC_PER_RADIAN / refined.lens.focal_px,
        "astrom_held_out_px": refined.held_out_px if np.isfinite(refined.held_out_px) else None,
        "astrom_parameters": refined.order,
        "astrom_refraction": refraction_word(scene.horizon),
        **refined.numbers(scene.detected, scene.shape),
    }

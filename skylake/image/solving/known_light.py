"""What a catalog knows of the light of a frame, so that growth curves can do without their neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.aperture_light import StarProfile
from skylake.core.bands import BANDS
from skylake.core.camera import Camera
from skylake.core.ephemeris import airmass
from skylake.core.flags import NO_STANDARD
from skylake.core.frame import Pixels
from skylake.core.sphere import unit_vectors
from skylake.image.detection.background import CELL_MESHES, Background, mean_between_stars
from skylake.image.detection.background_mesh import mesh_edges, shift_by_cells
from skylake.image.detection.detect_sources import Detections
from skylake.image.photometry.cutouts import Cutouts
from skylake.image.photometry.growth_curves import ApertureCorrections, KnownLight
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.photometry.sky_light import draw_stars
from skylake.image.wcs.header_wcs import CatalogStars, Pointing, stars_to_pixels
from skylake.image.wcs.sky_view import SkyView

Floats = npt.NDArray[np.float64]

#: A star is that of a source if it is nearer than that, full widths.
_SAME_WIDTHS = 0.5
#: So many of the brightest sources, of so large a signal to noise, tell how bright the stars of the catalog are.
_BRIGHTEST, _MIN_SNR = 60, 30.0


def known_light(
    pointing: Pointing,
    stars: CatalogStars,
    measured: Measurements,
    corrections: ApertureCorrections,
    detections: Detections,
    background: Background,
    camera: Camera,
    exposure_s: float,
) -> KnownLight | None:
    """Draw the stars of a catalog as a frame shows them, less what its sky took off of them.

    Parameters
    ----------
    pointing : Pointing
    stars : CatalogStars
        Around the field.
    measured : Measurements
    corrections : ApertureCorrections
        Those that are known so far; the profile of the stars follows from them.
    detections : Detections
    background : Background
    camera : Camera
    exposure_s : float

    Returns
    -------
    KnownLight or None
        None where no source is a star of the catalog, or has a width.
    """
    shape = background.level.shape
    places = stars_to_pixels(pointing, (shape[0], shape[1]), stars)
    places[~np.isfinite(stars.mag)] = np.nan
    widths = measured.fwhm[np.isfinite(measured.fwhm)]
    if widths.size == 0:
        return None
    apertures, fwhm = camera.apertures, float(np.median(widths))
    circles = zip(apertures.circles, apertures.radii_px, strict=True)
    growth = {radius: (corrections.factor[name], corrections.error[name]) for name, radius in circles}
    profile = StarProfile.of_growth(fwhm, growth)
    source, star = _same(measured, places, _SAME_WIDTHS * fwhm)
    if source.size == 0:
        return None
    mag = stars.mag + _lost(pointing, stars, camera)
    known = np.nan_to_num(10.0 ** (-0.4 * (mag - np.median(mag[star]))))
    light = draw_stars(shape, places, known, profile)
    edges = mesh_edges(shape, CELL_MESHES * camera.extraction.background_mesh_px)
    cells = mean_between_stars(light, np.zeros(shape, np.uint8), background.rms, detections, edges)
    shift_by_cells(np.zeros_like(light), light, cells, edges)
    scale = _scale(light, measured, source, camera, exposure_s)
    if not scale > 0.0:
        return None
    own = np.zeros(len(measured))
    own[source] = scale * known[star]
    where = np.zeros((len(measured), 2))
    where[source] = places[star]
    return KnownLight(np.float32(scale) * light, own, where, profile)


def _lost(pointing: Pointing, stars: CatalogStars, camera: Camera) -> Floats | float:
    """Return what the air usually takes from stars of a camera that sees the whole sky, beyond that of the zenith."""
    band = camera.filter_band(camera.default_filter)
    if not isinstance(pointing.lens, SkyView) or band is None or band.band not in BANDS:
        return 0.0
    up = unit_vectors(stars.ra_deg, stars.dec_deg) @ pointing.lens.horizon.axes[2]
    return BANDS[band.band].extinction * (airmass(np.degrees(np.arcsin(np.clip(up, -1.0, 1.0)))) - 1.0)


def _scale(
    light: Pixels, measured: Measurements, source: npt.NDArray[np.intp], camera: Camera, exposure_s: float
) -> float:
    """Return by what to multiply drawn stars so that apertures hold what was measured; NaN if that is not known.

    The brightest tell it, with all that neighbours bring them.
    """
    apertures = camera.apertures
    name, radius = apertures.calibrated_circle, apertures.calibrated_radius_px
    flux, error = (exposure_s * values[name][source] for values in (measured.flux, measured.flux_err))
    clean = (flux > _MIN_SNR * error) & ((measured.flags[source] & int(NO_STANDARD)) == 0)
    chosen = np.flatnonzero(clean)[np.argsort(-flux[clean], kind="stable")[:_BRIGHTEST]]
    x, y = measured.x[source[chosen]], measured.y[source[chosen]]
    reach = int(np.ceil(radius)) + 1
    pieces = Cutouts.around(x, y, reach, (light.shape[0], light.shape[1]))
    steps = np.arange(-reach, reach + 1)
    across = pieces.column[:, None] + steps - x[:, None]
    down = pieces.row[:, None] + steps - y[:, None]
    held = np.clip(radius + 0.5 - np.hypot(across[:, None, :], down[:, :, None]), 0.0, 1.0)
    drawn = (pieces.cut(light) * held).sum(axis=(1, 2))
    ratio = flux[chosen][drawn > 0.0] / drawn[drawn > 0.0]
    return float(np.median(ratio)) if ratio.size else float("nan")


def _same(
    measured: Measurements, places: Floats, reach: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return sources and their nearest stars within reach."""
    from scipy.spatial import cKDTree

    shown = np.flatnonzero(np.isfinite(places).all(axis=1))
    if shown.size == 0:
        return shown, shown
    distance, nearest = cKDTree(places[shown]).query(np.column_stack([measured.x, measured.y]))
    source = np.flatnonzero(distance <= reach)
    return source, shown[nearest[source]]

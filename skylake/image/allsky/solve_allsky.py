"""Blind solution of a frame of the whole sky, and the numbers by which it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import thread_time

import numpy as np
import numpy.typing as npt

from skylake.core.horizon import Horizon, altitude_azimuth
from skylake.core.reasons import Reason
from skylake.core.sphere import ARCSEC_PER_RADIAN, unit_vectors
from skylake.errors import FrameRejected
from skylake.image.allsky.horizon_search import SearchParams, SkyStars, search, tilt_deg
from skylake.image.allsky.refine_geometry import DetectedPlaces, Refined, refine, visible
from skylake.image.allsky.star_fit import pair
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.sky_view import SkyView

Floats = npt.NDArray[np.float64]

#: The brightest stars by which completeness is given, and how near one must be found, pixels.
_BRIGHTEST = 300
_NEAR_PX = 2.0


@dataclass(frozen=True, slots=True)
class Residuals:
    """Fitted stars, arrays of shape (n,).

    ``x``, ``y`` are the places of detections, ``dx_px``, ``dy_px`` lead there from where the geometry has the stars;
    ``arcsec`` is the distance on the sky.
    """

    x: Floats
    y: Floats
    dx_px: Floats
    dy_px: Floats
    arcsec: Floats
    altitude_deg: Floats
    azimuth_deg: Floats
    mag: Floats


@dataclass(frozen=True, slots=True)
class AllSkySolution:
    """The geometry of a camera that sees the whole sky.

    Attributes
    ----------
    view : SkyView
        Lens and horizon: pixels to the sky and back.
    log_odds : float
        Natural logarithm, by stars held out of the search; NaN where there was none, the geometry being known.
    order : int
        Number of parameters that stars held out asked for.
    held_out_px, rms_px, rms_arcsec : float
        Root mean square distances: of stars held out of the fit, and of those in it.
    n_expected, n_found : int
        The brightest stars above the least altitude of the search, and how many have a detection within two pixels.
    tilt_deg : float
        From the zenith to the optical axis.
    seconds, refine_seconds : float
        Of the processor: of the search, 0 where the geometry was known, and of the fit to all stars.
    residuals : Residuals
    refined : Refined
        The fit that it comes from.
    """

    view: SkyView
    log_odds: float
    order: int
    held_out_px: float
    rms_px: float
    rms_arcsec: float
    n_expected: int
    n_found: int
    tilt_deg: float
    seconds: float
    refine_seconds: float
    residuals: Residuals = field(repr=False)
    refined: Refined = field(repr=False)

    def report(self) -> dict[str, float | int | str]:
        """Return the figures of the solution and the parameters of the lens, ready for a table or JSON."""
        lens = self.view.lens
        names = (
            "log_odds",
            "order",
            "held_out_px",
            "rms_px",
            "rms_arcsec",
            "n_expected",
            "n_found",
            "tilt_deg",
            "seconds",
            "refine_seconds",
        )
        figures: dict[str, float | int | str] = {name: getattr(self, name) for name in names}
        figures.update(n_matched=len(self.residuals.x), projection=lens.projection)
        figures.update(mirrored=int(lens.mirrored), focal_px=lens.focal_px, x0=lens.x0, y0=lens.y0)
        return figures


def solve_all_sky(
    detected: DetectedPlaces,
    shape: tuple[int, int],
    fwhm_px: float,
    stars: CatalogStars,
    horizon: Horizon,
    params: SearchParams | None = None,
    known: Lens | None = None,
) -> AllSkySolution:
    """Find the geometry of a frame of the whole sky.

    Parameters
    ----------
    detected : DetectedPlaces
    shape : tuple of int
        Height and width of the image.
    fwhm_px : float
        Full width at half maximum of stars.
    stars : CatalogStars
        Of the whole sky, at the epoch of the frame, somewhat deeper than the frame.
    horizon : Horizon
        Of the site, at the middle of the exposure.
    params : SearchParams or None
    known : Lens or None
        A geometry that is right to some pixels; None searches for one.

    Raises
    ------
    FrameRejected
        ``no_wcs`` if no geometry is sure; the sentence says why.
    """
    params = params or SearchParams()
    above = SkyStars(horizon.to_horizon(unit_vectors(stars.ra_deg, stars.dec_deg)), stars.mag)
    above = above[(above.directions[:, 2] > 0.0) & np.isfinite(above.mag)]
    odds, seconds = float("nan"), 0.0
    if known is None:
        known, odds, seconds = _searched(detected, shape, above, params)
    began = thread_time()
    refined = _refined(known, detected, above, shape, fwhm_px)
    lens = refined.lens
    bright = visible(lens, above, shape, params.min_altitude_deg, _BRIGHTEST)
    n_found = len(pair(lens, bright.directions, detected.places, _NEAR_PX).star)
    residuals = _residuals(refined, detected)
    rms_arcsec = float(np.sqrt(np.mean(residuals.arcsec**2)))
    return AllSkySolution(
        SkyView(lens, horizon, shape),
        odds,
        refined.order,
        refined.held_out_px,
        refined.rms_px,
        rms_arcsec,
        len(bright),
        n_found,
        tilt_deg(lens),
        seconds,
        thread_time() - began,
        residuals,
        refined,
    )


def _searched(
    detected: DetectedPlaces, shape: tuple[int, int], above: SkyStars, params: SearchParams
) -> tuple[Lens, float, float]:
    """Return the lens that a search finds, its log odds, and the seconds that it took."""
    result = search(detected.places, detected.flux, shape, above, params)
    if result.lens is None:
        raise FrameRejected(Reason.NO_WCS, f"the whole sky was not recognised: {result.reason}")
    return result.lens, result.log_odds, result.seconds


def _refined(
    known: Lens, detected: DetectedPlaces, above: SkyStars, shape: tuple[int, int], fwhm_px: float
) -> Refined:
    frames = refine(known, [(detected, above)], shape, fwhm_px)
    if frames is None:
        raise FrameRejected(
            Reason.NO_WCS, "too few stars are where the geometry puts them; clouds, or it moved"
        )
    return frames[0]


def _residuals(refined: Refined, detected: DetectedPlaces) -> Residuals:
    star, x, y = refined.pairs.star, *detected.places[refined.pairs.detection].T
    wanted = refined.stars.directions[star]
    chords = np.linalg.norm(refined.lens.to_vectors(x, y) - wanted, axis=1)
    altitude, azimuth = altitude_azimuth(wanted)
    dx, dy = refined.residuals.T
    arcsec = 2.0 * np.arcsin(0.5 * chords) * ARCSEC_PER_RADIAN
    return Residuals(x, y, dx, dy, arcsec, altitude, azimuth, refined.stars.mag[star])

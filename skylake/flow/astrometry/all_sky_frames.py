"""Find the geometry of a camera from frames of the whole sky: files in, solutions out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skylake.cameras import Profile, read_header
from skylake.core.camera import Camera
from skylake.core.horizon import Horizon
from skylake.core.reasons import Reason
from skylake.core.refraction import Air
from skylake.errors import ConfigurationError, FrameFailed, FrameSkipped
from skylake.image.allsky.allsky_pointing import NO_PLACE, USUAL_FWHM_PX, detected_of
from skylake.image.allsky.horizon_search import SearchParams
from skylake.image.allsky.refine_geometry import DetectedPlaces
from skylake.image.allsky.solve_allsky import AllSkySolution, solve_all_sky
from skylake.image.detection.background import estimate_background, refine_background
from skylake.image.detection.detect_sources import detect_sources
from skylake.image.detrend.detrend_chain import detrend_image
from skylake.image.detrend.frame_conditions import conditions_of
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.masters.master_library import Library
from skylake.image.photometry.measure_sources import measure_sources
from skylake.image.wcs.header_wcs import StarFinder
from skylake.image.wcs.lens import Lens


@dataclass(frozen=True, slots=True)
class AllSkyFrame:
    """The sources of a frame of the whole sky, and when and where it was taken.

    Attributes
    ----------
    detected : DetectedPlaces
    fwhm_px : float
        Median of the sources.
    shape : tuple of int
        Height and width.
    mjd_mid : float
        UTC.
    camera : Camera
    band : str or None
        Of its filter.
    """

    detected: DetectedPlaces
    fwhm_px: float
    shape: tuple[int, int]
    mjd_mid: float
    camera: Camera
    band: str | None = None

    @property
    def horizon(self) -> Horizon:
        """The horizon of the site at the middle of the exposure, under its air if the profile accounts for it."""
        return Horizon.of(self.mjd_mid, self.camera.site, Air.of_camera(self.camera, self.band))


def solve_all_sky_file(
    path: Path,
    profile: Profile,
    find_stars: StarFinder,
    params: SearchParams | None = None,
    known: Lens | None = None,
    library: Library | None = None,
) -> AllSkySolution:
    """Find the geometry of a frame of the whole sky from its site and time.

    Parameters
    ----------
    path : Path
    profile : Profile
        Must name the site.
    find_stars : callable
        Gives the stars of the whole sky: it is asked for 180 degrees about the pole.
    params : SearchParams or None
    known : Lens or None
        A geometry that is right to some pixels; None searches for one.
    library : Library or None

    Raises
    ------
    FrameError
        If the frame cannot be read or not be solved; the sentence says why.
    ConfigurationError
        If the profile has no site.
    """
    if not profile.base.site.known:
        raise ConfigurationError(f"{profile.source}: [site] has no longitude_deg and latitude_deg; give them")
    frame = measure_sky_frame(path, profile, library)
    stars = find_stars(0.0, 90.0, 180.0, frame.mjd_mid)
    return solve_all_sky(frame.detected, frame.shape, frame.fwhm_px, stars, frame.horizon, params, known)


def measure_sky_frame(path: Path, profile: Profile, library: Library | None = None) -> AllSkyFrame:
    """Detect and measure the sources of a frame, whatever its header says of where they are.

    Raises
    ------
    FrameError
        If the frame cannot be read, is no frame of the sky, or shows no source.
    """
    raw = open_stored(read_file(path), profile.base.header.extension)
    reading = read_header(raw.header, profile, path.name)
    if reading.problem is not None:
        reason, message = reading.problem
        raise (FrameSkipped if reason == Reason.NOT_SCIENCE else FrameFailed)(reason, message)
    assert reading.mjd_mid is not None
    conditions, _ = conditions_of(raw, reading, library, None, str(path))
    camera = reading.camera
    image = detrend_image(raw, camera, conditions)
    background = estimate_background(image, camera.extraction)
    signal = image.pixels - background.level
    detections = detect_sources(
        signal, background.rms, image.mask, camera.extraction, reading.image_gain, image.variance
    )
    background = refine_background(image, background, detections, camera.extraction, signal)
    measured = measure_sources(
        image, background, signal, detections, camera, reading.image_gain, reading.exposure_s
    )
    found_stars = detected_of(
        measured.x, measured.y, measured.x_err, measured.y_err, measured.flux["aper1"], measured.flags
    )
    fwhm = measured.fwhm[((measured.flags & NO_PLACE) == 0) & np.isfinite(measured.fwhm)]
    return AllSkyFrame(
        found_stars,
        float(np.median(fwhm)) if fwhm.size else USUAL_FWHM_PX,
        (image.pixels.shape[0], image.pixels.shape[1]),
        reading.mjd_mid,
        camera,
        reading.band,
    )

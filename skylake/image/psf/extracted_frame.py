"""A frame with its measured sources, as forced photometry takes it."""

from __future__ import annotations

from dataclasses import dataclass

from skylake.core.camera import Camera
from skylake.core.frame import Image, Pixels
from skylake.core.frame_row import FrameRow
from skylake.image.detection.background import Background
from skylake.image.detection.detect_sources import Detections
from skylake.image.photometry.growth_curves import ApertureCorrections
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.streaks.trails import Trail
from skylake.image.wcs.header_wcs import CatalogStars, Pointing


@dataclass(frozen=True, slots=True)
class Extracted:
    """What is known of a frame when its sources are measured and its WCS, if it needs one, is found to be right.

    Attributes
    ----------
    row : FrameRow
        The row of ``frames`` so far.
    camera : Camera
    gain : float
        Electrons per ADU of a pixel of the image, which may be the mean of two raw ones.
    exposure_s : float
    image : Image
        Mask and variances; its pixels with the sky are gone by then, and those of the signal in their place.
    background : Background
    signal : ndarray of float32
        Image minus background, ADU.
    detections : Detections
    measured : Measurements
    corrections : ApertureCorrections
    pointing : Pointing or None
        None only where that does not matter, as for the point spread function.
    trails : tuple of Trail
        Trails of satellites and aircraft.
    stars : CatalogStars or None
        Catalog stars around the field, if they are where the WCS puts them.
    """

    row: FrameRow
    camera: Camera
    gain: float
    exposure_s: float
    image: Image
    background: Background
    signal: Pixels
    detections: Detections
    measured: Measurements
    corrections: ApertureCorrections
    pointing: Pointing | None
    trails: tuple[Trail, ...] = ()
    stars: CatalogStars | None = None

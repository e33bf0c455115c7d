"""The sources of a frame that is to be solved: quickly found, by nothing but its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from skylake.core.camera import Camera
from skylake.core.frame import StoredImage
from skylake.core.sphere import FloatArray
from skylake.image.detection.background import estimate_background
from skylake.image.detection.detect_sources import detect_sources
from skylake.image.detrend.detrend_chain import detrend_image
from skylake.image.photometry.aperture_photometry import make_scene
from skylake.image.photometry.centroids import windowed_centroids

#: A source with more of its light in one pixel is a hot pixel or a hit by a particle.
_POINT = 0.8


@dataclass(frozen=True, slots=True)
class StarList:
    """Sources of a frame.

    Attributes
    ----------
    x, y : ndarray, shape (n,)
        0-based pixels of the file.
    flux : ndarray, shape (n,)
        ADU.
    sigma : ndarray, shape (n,)
        Standard deviation of each coordinate, pixels of the file.
    shape : tuple of int
        Height and width of the picture in the file.
    image_shape : tuple of int
        Those of the image after trimming and binning; 0 where there is none.
    offset : tuple of int
        Where that begins in the file, x and y.
    step : int
        Pixels of the file from one pixel of it to the next.
    """

    x: FloatArray
    y: FloatArray
    flux: FloatArray
    sigma: FloatArray
    shape: tuple[int, int]
    image_shape: tuple[int, int] = (0, 0)
    offset: tuple[float, float] = (0, 0)
    step: int = 1


def star_list(raw: StoredImage, camera: Camera) -> StarList:
    """Find the sources of a frame as the detector gave it, without masters.

    Raises
    ------
    FrameError
        If it has no valid pixels, another size than the camera, or no sources.
    """
    steps = camera.reduction.steps
    image = detrend_image(raw, camera, None, steps[0] if steps else None)
    background = estimate_background(image, camera.extraction)
    signal = image.pixels - background.level
    found = detect_sources(signal, background.rms, image.mask, camera.extraction, 1.0, image.variance)
    star = np.flatnonzero((found.flux > 0) & (found.peak <= _POINT * found.flux)).astype(np.int32)
    # Centroids of footprints, which noise cuts, would be worse by a tenth to a half.
    scene = make_scene(image, background, signal, found.segments, 1.0)
    x, y, x_err, y_err, _ = windowed_centroids(scene, found, star)
    return StarList(
        x * image.raw_step + image.offset[0],
        y * image.raw_step + image.offset[1],
        np.asarray(found.flux[star], float),
        np.hypot(x_err, y_err) / math.sqrt(2.0) * image.raw_step,
        raw.shape,
        (image.pixels.shape[0], image.pixels.shape[1]),
        image.offset,
        image.raw_step,
    )

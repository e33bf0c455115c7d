"""The sources of a frame that is to be solved: quickly found, by nothing but its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skylake.core.camera import Camera
from skylake.core.frame import StoredImage
from skylake.core.sphere import FloatArray
from skylake.image.background import estimate_background
from skylake.image.calibrate import calibrate
from skylake.image.detect import detect_sources

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
    shape : tuple of int
        Height and width of the picture in the file.
    """

    x: FloatArray
    y: FloatArray
    flux: FloatArray
    shape: tuple[int, int]


def star_list(raw: StoredImage, camera: Camera) -> StarList:
    """Find the sources of a frame as the detector gave it, without masters.

    Raises
    ------
    FrameError
        If it has no valid pixels, another size than the camera, or no sources.
    """
    steps = camera.reduction.steps
    image = calibrate(raw, camera, None, steps[0] if steps else None)
    background = estimate_background(image, camera.extraction)
    found = detect_sources(
        image.pixels - background.level, background.rms, image.mask, camera.extraction, 1.0, image.variance
    )
    star = np.flatnonzero((found.flux > 0) & (found.peak <= _POINT * found.flux))
    return StarList(
        found.x[star] * image.raw_step + image.offset[0],
        found.y[star] * image.raw_step + image.offset[1],
        np.asarray(found.flux[star], float),
        raw.shape,
    )

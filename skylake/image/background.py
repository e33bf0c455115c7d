"""The smooth background and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep

from skylake.core.camera import Extraction
from skylake.core.frame import Image, Pixels


@dataclass(frozen=True, slots=True)
class Background:
    """Background of an image.

    Attributes
    ----------
    level, rms : ndarray of float32
        Level and noise per pixel, ADU, of the shape of the image.
    median_level, median_rms : float
        Their representative values.
    """

    level: Pixels
    rms: Pixels
    median_level: float
    median_rms: float


def estimate_background(image: Image, parameters: Extraction) -> Background:
    """Estimate the background on a mesh of clipped modes, median-filtered and splined.

    The estimator of each mesh cell is that of SExtractor (Bertin & Arnouts 1996, A&AS 117, 393):
    clipped to convergence, then 2.5 median - 1.5 mean where the cell is not crowded. Masked and
    saturated pixels take no part.
    """
    height, width = image.pixels.shape
    mesh = parameters.background_mesh_px
    background = sep.Background(
        image.pixels,
        mask=image.masked | image.saturated,
        bw=min(mesh, width),
        bh=min(mesh, height),
        fw=parameters.background_filter,
        fh=parameters.background_filter,
    )
    level = np.asarray(background.back(dtype=np.float32))
    rms = np.asarray(background.rms(dtype=np.float32))
    return Background(level, rms, float(background.globalback), float(background.globalrms))

"""Frames whose stars are darker than the sky: pixels that were negated, or inverted as on a photographic plate."""

from __future__ import annotations

import numpy as np

from skylake.core.camera import Extraction
from skylake.core.frame import MaskPlane, Pixels
from skylake.core.reasons import Reason
from skylake.errors import FrameRejected
from skylake.image.detection.background import Background
from skylake.image.detection.detect_sources import detect_sources

#: A frame on which more is found has stars. Fewer holes may be dust.
_FEW, _FEWEST_HOLES = 100, 30
#: So many times more holes than sources are no matter of noise.
_MORE = 10
#: The brightest twentieth of the stars of a field are so many times brighter than half of them, and are ten times as a
#: rule; dead pixels, which clouds leave alone, are as deep as each other, and too much dark makes a factor of four.
_SPREAD = 5.0


def refuse_inverted(
    signal: Pixels, background: Background, mask: MaskPlane, parameters: Extraction, n_found: int
) -> None:
    """Raise for a frame with many holes of the form of stars and hardly a star.

    Parameters
    ----------
    signal : ndarray of float32
        Image minus background, ADU.
    background : Background
    mask : ndarray of uint8
        The mask plane of the image.
    parameters : Extraction
    n_found : int
        Sources that are brighter than the sky.

    Raises
    ------
    FrameRejected
        ``inverted``.
    """
    if n_found >= _FEW or not background.rms.max() > 0:
        return
    try:
        depths = detect_sources(-signal, background.rms, mask, parameters).flux
    except FrameRejected:
        return
    n_holes = len(depths)
    if n_holes < max(_FEWEST_HOLES, _MORE * n_found):
        return
    if np.percentile(depths, 95.0) > _SPREAD * np.median(depths):
        raise FrameRejected(
            Reason.INVERTED,
            f"{n_holes} stars are darker than the sky and {n_found} brighter, so the pixels are negated or inverted; "
            "write the file anew from its origin, or correct its BSCALE and BZERO",
        )

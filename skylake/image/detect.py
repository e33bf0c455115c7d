"""Detection of sources above the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sep

from skylake.core.camera import Extraction
from skylake.core.flags import SourceFlag
from skylake.core.frame import Mask, Pixels
from skylake.core.reasons import Reason
from skylake.errors import FrameRejected

Floats = npt.NDArray[np.float64]

_PYRAMID = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
#: When too many pixels exceed the threshold it is raised by this factor, once.
_RAISE = 2.0
#: Pieces into which one detection may be deblended. sep's own limit of 1,024 fails the whole frame.
_SUB_OBJECTS = 65536


@dataclass(frozen=True, slots=True)
class Detections:
    """Sources found on an image; arrays of shape (n,), in any order.

    Attributes
    ----------
    x, y : ndarray
        Isophotal centroids, 0-based pixels.
    x_err, y_err : ndarray
        Their errors.
    a, b : ndarray
        Half axes of the footprint: the square roots of its second moments, pixels.
    theta : ndarray
        Angle of the long axis from x towards y, radians, within -pi/2 to pi/2.
    n_pixels : ndarray of int32
        Pixels of the footprint.
    flux, peak : ndarray
        Sum and largest pixel within the footprint, ADU.
    segments : ndarray of int32
        For each pixel the number of its detection plus one, or 0.
    flags : ndarray of int32, shape (n,)
        Bits of :class:`~skylake.core.flags.SourceFlag`.
    threshold_sigma : float
        Threshold that was used.
    raised : bool
        Whether the threshold had to be raised.
    """

    x: Floats
    y: Floats
    x_err: Floats
    y_err: Floats
    a: Floats
    b: Floats
    theta: Floats
    n_pixels: npt.NDArray[np.int32]
    flux: Floats
    peak: Floats
    segments: npt.NDArray[np.int32]
    flags: npt.NDArray[np.int32]
    threshold_sigma: float
    raised: bool

    def __len__(self) -> int:
        return len(self.x)


def detect_sources(signal: Pixels, rms: Pixels, masked: Mask, parameters: Extraction) -> Detections:
    """Find groups of connected pixels above a multiple of the noise, and deblend them.

    Parameters
    ----------
    signal : ndarray of float32
        Image minus background.
    rms : ndarray of float32
        Noise per pixel.
    masked : ndarray of bool
        Pixels that cannot be detected.

    Raises
    ------
    FrameRejected
        ``detection_overflow`` if too many pixels exceed even the raised threshold, ``no_sources`` if
        nothing is found.
    """
    if not np.any(rms > 0):
        raise FrameRejected(
            Reason.NO_SOURCES, "the image has no noise and no sources; the shutter was closed?"
        )
    threshold, raised = _threshold(signal, rms, masked, parameters)
    sep.set_extract_pixstack(parameters.max_pixels)
    sep.set_sub_object_limit(_SUB_OBJECTS)
    objects, segments = sep.extract(
        signal,
        threshold,
        err=rms,
        mask=masked,
        minarea=parameters.min_area_px,
        filter_kernel=_PYRAMID if parameters.kernel == "pyramid" else None,
        filter_type="conv",
        deblend_nthresh=parameters.deblend_levels,
        deblend_cont=parameters.deblend_contrast,
        clean=parameters.clean,
        clean_param=parameters.clean_parameter,
        segmentation_map=True,
    )
    if len(objects) == 0:
        raise FrameRejected(
            Reason.NO_SOURCES, f"no source above {threshold:g} sigma; clouds, a closed dome or a dark frame"
        )
    names = ("x", "y", "a", "b", "theta", "flux", "peak")
    return Detections(
        **{name: objects[name].astype(float) for name in names},
        x_err=np.sqrt(np.maximum(objects["errx2"], 0.0)),
        y_err=np.sqrt(np.maximum(objects["erry2"], 0.0)),
        n_pixels=objects["npix"].astype(np.int32),
        segments=segments,
        flags=_flags(objects["flag"]),
        threshold_sigma=threshold,
        raised=raised,
    )


def _threshold(signal: Pixels, rms: Pixels, masked: Mask, parameters: Extraction) -> tuple[float, bool]:
    """Return the threshold under which detection fits its buffers, and whether it was raised."""
    detected = np.where(masked, np.float32(0.0), signal)
    if parameters.kernel == "pyramid":
        detected = _smoothed(detected)
    for factor in (1.0, _RAISE):
        threshold = parameters.threshold_sigma * factor
        n_pixels = np.count_nonzero(detected > threshold * rms)
        if n_pixels < parameters.max_pixels:
            return threshold, factor != 1.0
    raise FrameRejected(
        Reason.DETECTION_OVERFLOW,
        f"{n_pixels} pixels exceed {threshold:g} sigma; the background is wrong (bright twilight, clouds by "
        "moonlight) or extraction.max_pixels of the profile is too small",
    )


def _smoothed(pixels: Pixels) -> Pixels:
    """Return pixels as detection sees them: one that is hot makes nine that exceed the threshold."""
    wide = np.pad(pixels, 1)
    rows = wide[:-2] + 2.0 * wide[1:-1] + wide[2:]
    return np.asarray((rows[:, :-2] + 2.0 * rows[:, 1:-1] + rows[:, 2:]) / _PYRAMID.sum(), np.float32)


def _flags(flag: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    flags = np.zeros(flag.shape, np.int32)
    flags[(flag & sep.OBJ_MERGED) != 0] |= SourceFlag.BLENDED
    flags[(flag & sep.OBJ_TRUNC) != 0] |= SourceFlag.EDGE
    flags[(flag & sep.OBJ_DOVERFLOW) != 0] |= SourceFlag.DETECTION_OVERFLOW
    return flags

"""Detection of sources above the background."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import sep

from skylake.core.camera import Extraction
from skylake.core.flags import UNUSABLE_PIXEL, SourceFlag
from skylake.core.frame import Mask, MaskPlane, Pixels
from skylake.core.reasons import Reason
from skylake.errors import FrameRejected
from skylake.image.detection.detections import RAISE, Detections
from skylake.image.detection.matched_filter import Noise, find_peaks

__all__ = ["Detections", "detect_sources"]

_PYRAMID = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
#: Pieces into which one detection may be deblended. sep's own limit of 1,024 fails the whole frame.
_SUB_OBJECTS = 65536


def detect_sources(
    signal: Pixels,
    rms: Pixels,
    mask: Mask | MaskPlane,
    parameters: Extraction,
    gain: float = np.inf,
    variance: Pixels | None = None,
    read_variance: float | None = None,
) -> Detections:
    """Find sources and separate those that touch, by the engine of the profile.

    Parameters
    ----------
    signal : ndarray of float32
        Image minus background.
    rms : ndarray of float32
        Noise per pixel.
    mask : ndarray of bool or of uint8
        Pixels that cannot be detected, or the mask plane of the image, which shows saturation too.
    parameters : Extraction
    gain : float
        Electrons per ADU. The engine 'skylake' adds the photon noise of sources to the errors of their
        centroids; infinity leaves it out.
    variance : ndarray of float32 or None
        Variance of each pixel with the photons of its light, ADU^2, if it is known. The engine 'skylake' lets pixels
        count less that are noisier than the sky about them.
    read_variance : float or None
        What read noise has of it, ADU^2; None where the gain is not known.

    Raises
    ------
    FrameRejected
        ``detection_overflow`` if too many pixels exceed even the raised threshold, ``no_sources`` if
        nothing is found.
    """
    if not rms.max() > 0:
        raise FrameRejected(
            Reason.NO_SOURCES,
            "the image has no noise and no sources, its pixels being alike; the shutter was closed, or nothing was "
            "read out: leave the file out, or name another HDU in header.extension of the profile",
        )
    # A mask of bool is one of INVALID pixels, the first bit.
    plane = mask.view(np.uint8)
    if parameters.engine == "skylake":
        return find_peaks(signal, Noise(rms, gain, variance, read_variance), plane, parameters)
    return _find_connected(signal, rms, np.asarray(plane & np.uint8(UNUSABLE_PIXEL), bool), parameters)


def _find_connected(signal: Pixels, rms: Pixels, masked: Mask, parameters: Extraction) -> Detections:
    """Find groups of connected pixels above a multiple of the noise, and deblend them."""
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
    for factor in (1.0, RAISE):
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

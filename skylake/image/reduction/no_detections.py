"""A frame on which nothing is detected: its targets are measured even so, as non-detections are data."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from skylake.cameras import HeaderReading
from skylake.core.flags import FrameFlag
from skylake.core.frame import Image, Pixels
from skylake.image.detection.background import Background
from skylake.image.detection.detections import Detections
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.psf.default_growth import UsualCorrections
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.solving.neighbour_frames import Prior
from skylake.image.solving.neighbour_pointing import pointing_of_lens


def extracted_nothing(
    row: dict[str, Any],
    image: Image,
    background: Background,
    signal: Pixels,
    reading: HeaderReading,
    prior: Prior | None,
    usual: UsualCorrections | None = None,
) -> Extracted | None:
    """Return what is known of a frame without detections, if its neighbours tell where it points.

    Parameters
    ----------
    row : dict
        The row of ``frames``, with its status.
    image, background, signal, reading
        As for a frame with detections.
    prior : Prior or None
        What the neighbours tell.
    usual : callable or None
        Gives the aperture corrections of a frame, those of its night where its own stars are too few.

    Returns
    -------
    Extracted or None
        None for a frame that nobody places, on which detection failed otherwise, or whose image has no noise, as that
        of a closed shutter.
    """
    placed = row["flags"] & FrameFlag.WCS_INTERPOLATED and row.get("n_detected") == 0
    if prior is None or prior.between is None or not placed or not (row.get("sky_rms_adu") or 0.0) > 0.0:
        return None
    camera, shape = reading.camera, (signal.shape[0], signal.shape[1])
    detections, measured = _no_detections(shape), _no_sources(camera.apertures.fluxes)
    corrections = aperture_corrections(image, background, signal, detections, measured, camera.apertures)
    nothing = Extracted(
        row, camera, reading.image_gain, reading.exposure_s, replace(image, pixels=signal), background, signal,
        detections, measured, corrections, pointing_of_lens(prior.between.lens, shape),
    )  # fmt: skip
    return nothing if usual is None else replace(nothing, corrections=usual(nothing))


def _no_detections(shape: tuple[int, int]) -> Detections:
    none, whole = np.zeros(0), np.zeros(0, np.int32)
    return Detections(
        none, none, none, none, none, none, none, whole, none, none, np.zeros(shape, np.int32), whole, float("nan"),
        False,
    )  # fmt: skip


def _no_sources(fluxes: tuple[str, ...]) -> Measurements:
    values: dict[str, Any] = {item.name: np.zeros(0) for item in fields(Measurements)}
    values |= {name: np.zeros(0, np.int32) for name in ("n_pixels", "flags", "number")}
    values |= {name: {one: np.zeros(0) for one in fluxes} for name in ("flux", "flux_err", "apcor")}
    return Measurements(**values)

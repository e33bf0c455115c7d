"""Statuses and reason codes of frames.

Every frame given to skylake ends as one row of ``frames`` with one of four statuses. The reason is a
code that scripts can rely on; the sentence beside it, in ``frames.message``, is for people.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """How a frame ended."""

    OK = "ok"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a frame did not end as ``ok``, or did not give all that was asked of it."""

    # failed: cannot be read or understood
    UNREADABLE = "unreadable"
    EMPTY_FILE = "empty_file"
    TRUNCATED = "truncated"
    NOT_FITS = "not_fits"
    CORRUPT = "corrupt"
    NO_IMAGE = "no_image"
    NO_TIME = "no_time"
    AMBIGUOUS_HEADER = "ambiguous_header"
    BAD_HEADER = "bad_header"
    WRONG_SIZE = "wrong_size"
    NO_VALID_PIXELS = "no_valid_pixels"
    NO_MASTER = "no_master"
    BAD_MASTER = "bad_master"
    NO_SKY_FRAME = "no_sky_frame"
    BAD_CALIBRATION = "bad_calibration"
    WORKER_LOST = "worker_lost"
    ERROR = "error"

    # skipped: nothing to do
    NOT_SCIENCE = "not_science"

    # rejected: readable, but not good enough
    NO_SOURCES = "no_sources"
    TOO_FEW_SOURCES = "too_few_sources"
    DETECTION_OVERFLOW = "detection_overflow"
    TRAILED = "trailed"
    DEFOCUSED = "defocused"
    TOO_BRIGHT = "too_bright"
    TWILIGHT = "twilight"
    SKY_TOO_BRIGHT = "sky_too_bright"
    SKY_SATURATED = "sky_saturated"
    CLOUDY = "cloudy"
    INVERTED = "inverted"
    NO_WCS = "no_wcs"
    BAD_WCS = "bad_wcs"

    # ok, and its detections too; but its targets are missing
    TARGETS_FAILED = "targets_failed"


def is_worse_for_no_fault(held: str | None, status: str) -> bool:
    """Return whether a frame that is good in a lake fails now for what is not its own fault.

    A failure says nothing about a frame that could be used before: its file may be gone or damaged now, a
    master or the frames around it may be missing, a worker may have died, or the profile may read its header in
    another way. Only a verdict on the frame itself, that it is not good enough or not of the sky, can replace it.

    Parameters
    ----------
    held : str or None
        Reason that the frame has in the lake.
    status : str
        What became of it now.
    """
    return held in (None, Reason.TARGETS_FAILED) and status == Status.FAILED


#: The reason under which a frame is filed when a gate on this metric rejects it.
GATE_REASONS: dict[str, Reason] = {
    "n_sources": Reason.TOO_FEW_SOURCES,
    "elongation": Reason.TRAILED,
    "elongation_max": Reason.TRAILED,
    "theta_kurtosis": Reason.TRAILED,
    "mean_ellipticity": Reason.TRAILED,
    "fwhm_px": Reason.DEFOCUSED,
    "flux_max": Reason.TOO_BRIGHT,
    "sun_altitude_deg": Reason.TWILIGHT,
    "sky_adu": Reason.SKY_TOO_BRIGHT,
    "sky_rms_adu": Reason.SKY_TOO_BRIGHT,
    "sky_saturation": Reason.SKY_SATURATED,
    "found_fraction": Reason.CLOUDY,
    "astrom_rms_px": Reason.BAD_WCS,
    "astrom_completeness": Reason.BAD_WCS,
}

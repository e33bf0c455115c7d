"""Flag bits of detections and of frames.

The names and numbers here are repeated, with their texts, in ``schemas/flags.yaml``; loading the
schemas compares the two, so neither can drift. A bit, once given, keeps its meaning for ever.
"""

from __future__ import annotations

from enum import IntFlag


class SourceFlag(IntFlag):
    """Bits of ``sources.flags``."""

    SATURATED = 1 << 0
    NEAR_SATURATED = 1 << 1
    BLENDED = 1 << 2
    EDGE = 1 << 3
    BAD_PIXEL = 1 << 4
    DETECTION_OVERFLOW = 1 << 5
    CENTROID_FAILED = 1 << 6
    KRON_FAILED = 1 << 7
    LOCAL_SKY_FAILED = 1 << 8
    FRAME_REJECTED = 1 << 9
    STREAK = 1 << 10
    WCS_INTERPOLATED = 1 << 15
    FIT_FAILED = 1 << 16


class FrameFlag(IntFlag):
    """Bits of ``frames.flags``."""

    EXPOSURE_ASSUMED = 1 << 0
    GAIN_ASSUMED = 1 << 1
    READ_NOISE_ASSUMED = 1 << 2
    FILTER_ASSUMED = 1 << 3
    TIME_FROM_NAME = 1 << 4
    SITE_UNKNOWN = 1 << 5
    NAN_PIXELS = 1 << 6
    THRESHOLD_RAISED = 1 << 7
    GATE_WARNING = 1 << 8
    APCOR_ASSUMED = 1 << 9
    WCS_UNCHECKED = 1 << 10
    FILTER_UNKNOWN = 1 << 11
    MORE_IMAGES = 1 << 12
    SKY_ONE_SIDED = 1 << 13
    UNEVEN_IMAGES = 1 << 14
    WCS_INTERPOLATED = 1 << 15
    MANY_COSMIC_RAYS = 1 << 16
    SKY_BELOW_ZERO = 1 << 17
    HEADER_DOUBTED = 1 << 18


class PixelFlag(IntFlag):
    """Bits of the mask plane of an image, one byte for each pixel."""

    INVALID = 1 << 0
    """No valid number: not finite, beyond all measure, or not read out."""
    SATURATED = 1 << 1
    NEAR_SATURATED = 1 << 2
    HOT = 1 << 3
    DEAD = 1 << 4
    UNSTABLE = 1 << 5
    COSMIC_RAY = 1 << 6
    REPAIRED = 1 << 7
    """The value was made up from the neighbours; with no other bit, the sky that was taken off was."""


#: The value of a pixel with any of these bits says nothing of the sky.
UNUSABLE_PIXEL = (
    PixelFlag.INVALID | PixelFlag.HOT | PixelFlag.DEAD | PixelFlag.UNSTABLE | PixelFlag.COSMIC_RAY
)

#: The photometry of a measurement with any of these bits is not to be trusted. Where a centroid fails the place is
#: wrong by several times the usual error, and so is the flux about it; most are blends, cosmic rays or noise. A pixel
#: above the linear range alone spoils no light curve: where pixels lose 2 % at saturation, stars lose about 1 mmag
#: (tests/image/photometry/test_near_saturation.py).
SPOILED = (
    SourceFlag.SATURATED
    | SourceFlag.EDGE
    | SourceFlag.BAD_PIXEL
    | SourceFlag.DETECTION_OVERFLOW
    | SourceFlag.CENTROID_FAILED
    | SourceFlag.FRAME_REJECTED
    | SourceFlag.STREAK
    | SourceFlag.FIT_FAILED
)

#: A measurement with any of these bits says nothing of how its star varies: what a blend measures changes with seeing.
SPOILED_OR_BLENDED = SPOILED | SourceFlag.BLENDED

#: A detection with any of these bits is no standard for its frame, as for zeropoints: what bright stars miss
#: would be missing everywhere.
NO_STANDARD = SPOILED | SourceFlag.NEAR_SATURATED

#: A detection with any of these bits is not a clean point source. A bright star that was separated from
#: a faint neighbour is not one either, but its photometry may be good: see the column ``crowding``.
UNCLEAN = NO_STANDARD | SourceFlag.BLENDED

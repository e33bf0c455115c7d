"""The sky of a near-infrared frame, from frames taken shortly before and after it.

The sky is so bright, and changes so fast, that it is measured by the telescope itself, which moves a little between
exposures: a pixel that holds a star now holds sky in most other frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from skylake.core.flags import PixelFlag
from skylake.core.frame import Image, Mask, Pixels, SkyPlane
from skylake.core.reasons import Reason
from skylake.core.reduction_settings import SkyFrames
from skylake.core.robust import sigma_mad
from skylake.errors import FrameFailed
from skylake.image.combine.combine_frames import Combined, CombineOptions, combine_in_blocks, own_noise
from skylake.image.combine.make_masters import median_level
from skylake.image.detrend.repair_pixels import repair
from skylake.image.fitsio.memory_maps import give_back

_SMOOTH_PX = 3
_STRIDE = 5
#: Part of the nine pixels around and including one that has to be bright as well.
_LEAST_COMPANY = 0.4
#: A frame whose sky is fainter than this share of that of the others says nothing of its pattern.
_LEAST_LEVEL = 0.2
#: A pixel differs from the mean of its four neighbours by so much, in units of what pixels differ by.
_MADE_UP = 1.25**0.5


def combined_sky(frames: Sequence[Pixels], levels: Sequence[float], masked: bool = True) -> Combined:
    """Return the mean sky of frames over their level, with its error; NaN where all are masked.

    Memory does not grow with the number of frames if these are memory maps. Frames whose sources are not masked have
    outliers on one side only, so the mode is where to begin.

    Parameters
    ----------
    frames : sequence of ndarray, shape (height, width)
        ADU; NaN where something is in the way of the sky.
    levels : sequence of float
        Level of the sky in each, ADU.
    masked : bool
        Whether sources are masked.
    """

    def read(start: int, end: int) -> Pixels:
        return np.stack(
            [
                np.asarray(frame[start:end]) / np.float32(level)
                for frame, level in zip(frames, levels, strict=True)
            ]
        )

    shape = (frames[0].shape[0], frames[0].shape[1])
    options = CombineOptions() if masked else CombineOptions(threshold=2.5, start="mode")
    return combine_in_blocks(read, len(frames), shape, options)


def source_mask(pixels: Pixels, sky: Pixels, params: SkyFrames) -> Mask:
    """Return the pixels of a frame on which there are sources.

    Parameters
    ----------
    pixels : ndarray of float32
        The frame, ADU.
    sky : ndarray of float32
        The sky that is expected in it, ADU.
    params : SkyFrames
    """
    from scipy.ndimage import binary_dilation, uniform_filter

    signal = np.nan_to_num(pixels - sky, nan=0.0)
    signal -= median_level(signal)
    smooth = uniform_filter(signal, _SMOOTH_PX, mode="nearest")
    noise = sigma_mad(smooth[::_STRIDE])
    sources = smooth > params.source_sigma * noise if noise > 0.0 else np.zeros(smooth.shape, bool)
    # A pixel alone is noise; a source has more of them.
    sources &= uniform_filter(sources.astype(np.float32), _SMOOTH_PX, mode="nearest") > _LEAST_COMPANY
    if params.grow_px:
        sources = binary_dilation(sources, np.ones((3, 3), bool), iterations=params.grow_px)
    return np.asarray(sources, bool)


def without_sources(pixels: Pixels, sky: Pixels, params: SkyFrames) -> Pixels:
    """Return a frame with NaN in place of sources; `sky` is that of a unit level."""
    scaled = sky * np.float32(sky_level(pixels, sky))
    return np.where(source_mask(pixels, scaled, params), np.float32(np.nan), pixels).astype(np.float32)


def sky_level(pixels: Pixels, sky: Pixels) -> float:
    """Return by what a sky of unit level has to be multiplied to be that of a frame."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return median_level(pixels / sky)


def above_zero(levels: Sequence[float]) -> list[bool]:
    """Return which levels of a sky are far enough above zero for a pattern to be in proportion to them."""
    positive = [level for level in levels if level > 0.0]
    least = _LEAST_LEVEL * float(np.median(positive)) if positive else np.inf
    return [level > 0.0 and level >= least for level in levels]


class UnitSky(Protocol):
    """A sky of unit level and its error, ndarrays of float32; NaN where it is not known."""

    @property
    def mean(self) -> Pixels: ...  # noqa: D102
    @property
    def error(self) -> Pixels: ...  # noqa: D102


def subtracted_sky(image: Image, sky: UnitSky, one_sided: bool = False) -> SkyPlane:
    """Return what is to be subtracted from a frame; pixels without a sky take that of their neighbourhood.

    These are known, and the error of their sky is what single pixels of a sky differ by.

    Parameters
    ----------
    image : Image
    sky : UnitSky
    one_sided : bool
        Whether the frames of the sky lie on one side of the frame in time.

    Raises
    ------
    FrameFailed
        ``no_sky_frame`` if the frame has no level above zero.
    """
    level = _level_of_good(image, sky.mean)
    if not level > 0.0:
        raise FrameFailed(
            Reason.NO_SKY_FRAME,
            f"the frame has a level of {level:.3g} ADU before the step sky, which takes a sky above zero; see whether "
            "bias and dark take off too much",
        )
    unknown, middle = ~(np.isfinite(sky.mean) & np.isfinite(sky.error)), median_level(sky.mean)
    made_up = _MADE_UP * own_noise(sky.mean)
    pixels = np.where(unknown, np.float32(middle), sky.mean)
    # Of the planes of a file no two are in memory at a time.
    give_back(sky.mean)
    repair(pixels, unknown * np.uint8(PixelFlag.INVALID), PixelFlag.INVALID)
    pixels *= np.float32(level)
    error = np.where(unknown, np.float32(made_up), sky.error)
    give_back(sky.error)
    error *= np.float32(level)
    return SkyPlane(pixels, error, unknown, level * middle, one_sided)


def _level_of_good(image: Image, sky: Pixels) -> float:
    """Return :func:`sky_level` of the pixels that show the sky."""
    ratio = np.where(image.masked, np.float32(np.nan), image.pixels)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio /= sky
    return median_level(ratio)

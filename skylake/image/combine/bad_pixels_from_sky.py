"""Bad pixels from frames of the sky, for cameras without darks and flats: stars move on, bad pixels do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from skylake.core.flags import PixelFlag
from skylake.core.frame import Mask, MaskPlane, Pixels
from skylake.core.reduction_settings import BadPixels
from skylake.core.robust import sigma_mad
from skylake.image.combine.bad_pixels import unstable_pixels
from skylake.image.combine.combine_frames import Combined
from skylake.image.detrend.bayer_planes import colour_planes

#: Of the threshold for darks, hot_sigma: the mean of many frames between which the sky moves on has no long tails.
_OF_HOT_SIGMA = 0.75
#: Half width of the window whose median is what is around a pixel.
_NEAR_PX, _SIDE_PX = 2, 5
#: Side of the squares in which the noise of single pixels is measured.
_TILE_PX = 32
#: What has at least this part of its peak in the two faintest of the four neighbours is no bad pixel but a star that
#: hardly moves, as near the pole, or a lamp: bad pixels have sharp edges, be it columns or clusters.
_OF_PEAK = 0.08
#: Where stars pass slowly pixels change too, and so do others within so many pixels, by this part at least.
_BESIDE_PX, _ALIKE = 2, 0.4
#: Its light is in medians so far beyond it, and their window.
_WING_PX = 5
#: Light that changes within a few pixels by this part of itself, and by so many times its noise, has a step.
_STEP, _STEP_SIGMA = 0.1, 10.0
#: Stars of a single frame are judged that are so many standard deviations of its noise high.
_STAR_SIGMA = 8.0
#: A star stands still if this part of it is in the mean, and all do if this part of them does; of fewer stars than the
#: last number is unknown.
_LEFT, _STANDING, _FEWEST_STARS = 0.5, 0.3, 5


@dataclass(frozen=True, slots=True)
class SkyMask:
    """A mask of the bits HOT, DEAD and UNSTABLE, and what part of the stars of a frame stand still; NaN for none."""

    mask: MaskPlane
    standing: float

    @property
    def is_of_moving_stars(self) -> bool:
        """Whether stars move between the frames, so that none of them passes for bad pixels."""
        return not self.standing > _STANDING


def high_passed(pixels: Pixels, is_bayer: bool) -> Pixels:
    """Return by how much pixels exceed the median of the 25 about them, of their colour; NaN stays.

    Parameters
    ----------
    pixels : ndarray of float32, shape (height, width)
        ADU.
    is_bayer : bool
        Whether pixels are a Bayer mosaic in cells of two by two.
    """
    made = np.empty(pixels.shape, np.float32)
    for here in colour_planes(is_bayer):
        made[here] = pixels[here] - _around(pixels[here])
    return made


def steep_places(frames: Iterable[Pixels], is_bayer: bool) -> Mask:
    """Return the pixels about which the light has a step in each of some frames, as at a roof or a lamp.

    Parameters
    ----------
    frames : iterable of ndarray of float32, shape (height, width)
        ADU, as for :func:`high_passed`. Stars that are at another place in each of them do not count.
    is_bayer : bool
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    steep: Mask | None = None
    for frame in frames:
        here = np.zeros(frame.shape, bool)
        for plane in colour_planes(is_bayer):
            level = _around(frame[plane])
            differs = maximum_filter(level, _SIDE_PX) - minimum_filter(level, _SIDE_PX)
            # Medians of so many pixels have a quarter of their noise.
            noise = 0.25 * sigma_mad((frame[plane] - level)[np.isfinite(frame[plane])])
            here[plane] = differs > np.maximum(_STEP * np.abs(level), _STEP_SIGMA * noise)
        steep = here if steep is None else steep & here
    assert steep is not None
    return steep


def sky_mask(
    combined: Combined, reference: Pixels, steep: Mask, n_frames: int, limits: BadPixels, is_bayer: bool
) -> SkyMask:
    """Return the bad pixels that the mean of frames of the sky shows.

    Hot and dead is what is far above or below the pixels about it, in units of what these scatter by; a pixel that
    is saturated or invalid in half of the frames is hot.

    Parameters
    ----------
    combined : Combined
        The mean of frames as :func:`high_passed` gives them.
    reference : ndarray of float32
        One of these, which shows whether stars move.
    steep : ndarray of bool
        What :func:`steep_places` gives; there nothing is given but what is saturated.
    n_frames : int
        Frames behind the mean.
    limits : BadPixels
    is_bayer : bool
    """
    above, limit = np.empty(combined.mean.shape, np.float32), np.empty(combined.mean.shape, np.float32)
    for here in colour_planes(is_bayer):
        # In such units light of other colours looks alike, so that stars are soft on a mosaic too.
        typical_error = np.float32(np.nanmedian(combined.error[here]) or 1.0)
        above[here] = (combined.mean[here] - _around(combined.mean[here])) / typical_error
        limit[here] = _noise(above[here], combined.error[here] / typical_error)
    limit *= np.float32(_OF_HOT_SIGMA * limits.hot_sigma)
    reach = _WING_PX + _NEAR_PX * (2 if is_bayer else 1)
    trusted = ~steep & ~_grown(_soft(above, above > limit), reach)
    jumps = combined.scatter / np.maximum(combined.expected, np.float32(1e-9)) - np.float32(1.0)
    unstable = trusted & _alone(np.asarray(jumps, np.float32), unstable_pixels(combined, limits) != 0)
    mask = np.zeros(above.shape, np.uint8)
    mask[(trusted & (above > limit)) | (2 * combined.n_present < n_frames)] |= np.uint8(PixelFlag.HOT)
    mask[trusted & (above < -limit)] |= np.uint8(PixelFlag.DEAD)
    mask[unstable] |= np.uint8(PixelFlag.UNSTABLE)
    return SkyMask(mask, _standing(combined.mean, reference, is_bayer))


def _standing(mean: Pixels, reference: Pixels, is_bayer: bool) -> float:
    """Return which part of the stars of a frame is in the mean of all; NaN for too few stars."""
    height = np.empty(reference.shape, np.float32)
    for here in colour_planes(is_bayer):
        height[here] = reference[here] / np.float32(
            sigma_mad(reference[here][np.isfinite(reference[here])]) or 1.0
        )
    peaks = [place for _, _, place in _soft_peaks(height, height > _STAR_SIGMA)]
    left = [bool(mean[place] > _LEFT * reference[place]) for place in peaks]
    return float(np.mean(left)) if len(left) >= _FEWEST_STARS else float("nan")


def _around(pixels: Pixels) -> Pixels:
    """Return the median of the pixels about each; what is NaN counts as the median of all."""
    from astroscrappy.utils import medfilt5

    known = np.isfinite(pixels)
    level = np.float32(np.median(pixels[known])) if known.any() else np.float32(0.0)
    # At the border the filter leaves pixels as they are.
    padded = np.pad(np.where(known, pixels, level), _NEAR_PX, mode="symmetric")
    inner = slice(_NEAR_PX, -_NEAR_PX)
    return np.asarray(medfilt5(np.ascontiguousarray(padded, np.float32)), np.float32)[inner, inner]


def _noise(above: Pixels, error: Pixels) -> Pixels:
    """Return what single pixels scatter by about each: in its square, in most about that, and by their errors."""
    from scipy.ndimage import median_filter

    height, width = above.shape
    tiles = np.array(
        [
            [sigma_mad(above[y : y + _TILE_PX, x : x + _TILE_PX].ravel()) for x in range(0, width, _TILE_PX)]
            for y in range(0, height, _TILE_PX)
        ]
    )
    tile_noise = np.maximum(tiles, median_filter(tiles, 3, mode="nearest")).astype(np.float32)
    spread = np.repeat(np.repeat(tile_noise, _TILE_PX, axis=0), _TILE_PX, axis=1)[:height, :width]
    # A hot pixel has much noise itself, so that of the pixels about it counts.
    return np.asarray(np.maximum(spread, _around(error)), np.float32)


def _groups(mask: Mask) -> Iterator[tuple[tuple[slice, ...], Mask]]:
    """Yield the window of each group of pixels that touch, and which pixels of it belong to the group."""
    from scipy.ndimage import find_objects, label

    numbers, _ = label(mask, np.ones((3, 3), int))
    for number, window in enumerate(find_objects(numbers), start=1):
        if window is not None:
            yield window, numbers[window] == number


def _soft_peaks(pixels: Pixels, mask: Mask) -> list[tuple[tuple[slice, ...], Mask, tuple[int, int]]]:
    """Return those groups of pixels whose peak has light on at least three sides, with the place of the peak."""
    soft = []
    for window, members in _groups(mask):
        inside = np.where(members, pixels[window], -np.inf)
        y, x = (int(index) for index in np.unravel_index(int(np.argmax(inside)), inside.shape))
        y, x = y + window[0].start, x + window[1].start
        around = [
            pixels[y + dy, x + dx]
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
            if 0 <= y + dy < pixels.shape[0] and 0 <= x + dx < pixels.shape[1]
        ]
        if float(np.mean(np.sort(np.nan_to_num(around))[:2])) > _OF_PEAK * float(pixels[y, x]):
            soft.append((window, members, (y, x)))
    return soft


def _soft(pixels: Pixels, mask: Mask) -> Mask:
    """Return the groups that are as soft as the image of a star."""
    soft = np.zeros(mask.shape, bool)
    for window, members, _ in _soft_peaks(pixels, mask):
        soft[window] |= members
    return soft


def _alone(jumps: Pixels, unstable: Mask) -> Mask:
    """Return those of some pixels beside which no other one changes nearly as much."""
    y, x = np.nonzero(unstable)
    side = 2 * _BESIDE_PX + 1
    dy, dx = (np.delete(offsets.ravel(), side * side // 2) for offsets in np.mgrid[:side, :side])
    around = np.pad(np.nan_to_num(jumps), _BESIDE_PX)[y[:, None] + dy, x[:, None] + dx]
    alone = np.zeros(unstable.shape, bool)
    alone[y, x] = around.max(axis=1, initial=0.0) < _ALIKE * jumps[y, x]
    return alone


def _grown(mask: Mask, reach: int) -> Mask:
    from scipy.ndimage import maximum_filter

    return np.asarray(maximum_filter(mask, 2 * reach + 1))

"""Bad pixels of masters: hot, dead and unstable ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skylake.core.flags import PixelFlag
from skylake.core.frame import Mask, MaskPlane, Pixels
from skylake.core.reduction_settings import BadPixels
from skylake.core.robust import sigma_mad
from skylake.image.combine.combine_frames import Combined
from skylake.image.combine.running_median_kernels import running_medians
from skylake.image.detrend.repair_kernels import fill_from_neighbours

#: Fewer frames say nothing about how stable a pixel is.
_STABLE_FRAMES = 5
_MEDIAN_PX = 5
_STRIDE = 7
#: Pixels on either side in a line, with which those of a cluster are compared: clusters may be as wide. The wider
#: window gives what is smooth, such as the glow of an amplifier.
_NEAR_PX, _WIDE_PX = 12, 25
#: The same for larger areas, which have to end abruptly: vignetting is as wide.
_AREA_NEAR_PX, _AREA_WIDE_PX = 64, 128
#: Pixels on either side of the border of an area that show how abruptly it ends.
_BORDER_PX = 2
#: How much of what is smooth is let pass.
_SMOOTH = 2.0
_PASSES = 3


def hot_pixels(dark: Pixels, limits: BadPixels, error: Pixels | None = None) -> MaskPlane:
    """Return the bit HOT where a master dark exceeds its surroundings by far, or is NaN.

    Each pixel is compared with the median of the 25 around it, and with those of 25 along its row and its column,
    which see columns, rows and clusters of up to twelve pixels across. There what wider windows show to be smooth
    does not count.

    Parameters
    ----------
    dark : ndarray of float32
        Master dark, in ADU.
    limits : BadPixels
    error : ndarray of float32 or None
        Standard error of each pixel, ADU: the glow of an amplifier has more noise than the rest. That of the pixels
        around counts, since a hot pixel has much noise itself.
    """
    noise = _noise_of(dark, error)

    def excess(lines: Pixels, near: Pixels, noise: Pixels) -> Pixels:
        above = lines - near
        scatter = np.float32(sigma_mad(above[::_STRIDE]))
        return np.asarray(above - limits.hot_sigma * np.maximum(noise, scatter), np.float32)

    bad = _beside_others(dark, excess, noise)
    above = dark - _surroundings(dark, bad)
    return _bits(bad | ~(above <= limits.hot_sigma * noise), PixelFlag.HOT)


def _noise_of(dark: Pixels, error: Pixels | None) -> Pixels:
    """Return the noise of each pixel: its error, and the pattern that quiet pixels have beyond theirs."""
    left = dark - _surroundings(dark, ~np.isfinite(dark))
    if error is None:
        return np.full(dark.shape, sigma_mad(left[::_STRIDE]) or 1e-6, np.float32)
    surrounding = _surroundings(error, ~np.isfinite(error))
    quiet = surrounding[::_STRIDE] <= np.median(surrounding[::_STRIDE])
    shown = sigma_mad(left[::_STRIDE][quiet]) ** 2 - float(np.median(surrounding[::_STRIDE][quiet])) ** 2
    return np.asarray(np.sqrt(surrounding**2 + np.float32(max(shown, 1e-12))), np.float32)


def dead_pixels(flat: Pixels, limits: BadPixels) -> MaskPlane:
    """Return the bit DEAD where a master flat is far from its surroundings, those of :func:`hot_pixels`, or NaN.

    So it is where the flat is below a part of its median: areas that see no light may be larger than any surroundings.
    Areas of up to 64 pixels across, compared with 129 pixels along rows and columns, are dead where they end abruptly.
    """
    least = np.float32(limits.dead_response)

    def excess(lines: Pixels, near: Pixels, _: Pixels) -> Pixels:
        return np.asarray(np.maximum(least * near - lines, lines - near / least), np.float32)

    unlit = flat < limits.least_response * np.nanmedian(flat[::_STRIDE])
    bad = unlit | _beside_others(np.where(unlit, np.float32(np.nan), flat), excess, flat)
    bad |= _dead_areas(np.where(bad, np.float32(np.nan), flat), excess, least)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flat / _surroundings(flat, bad)
    alive = (ratio >= limits.dead_response) & (ratio <= 1.0 / limits.dead_response) & (flat > 0.0)
    return _bits(bad | ~alive, PixelFlag.DEAD)


def _dead_areas(flat: Pixels, excess: Callable[[Pixels, Pixels, Pixels], Pixels], least: np.float32) -> Mask:
    """Return areas that are darker than what is farther around, and whose border is a step; not what is NaN."""
    from scipy.ndimage import label, maximum_filter, median, minimum_filter

    known = np.isfinite(flat)
    dead = known & _beside_others(flat, excess, flat, (_AREA_NEAR_PX, _AREA_WIDE_PX))
    areas, n = label(dead)
    if n == 0:
        return dead
    side, numbers = 2 * _BORDER_PX + 1, np.arange(1, n + 1)
    beyond = np.where(known & ~dead, maximum_filter(areas, side), 0)
    rim = np.where(minimum_filter(areas, side) == 0, areas, 0)
    within, around = (np.asarray(median(flat, ring, numbers), float) for ring in (rim, beyond))
    abrupt = np.append(False, np.isfinite(around) & (within < least * around))
    return np.asarray(abrupt[areas])


def unstable_pixels(combined: Combined, limits: BadPixels) -> MaskPlane:
    """Return the bit UNSTABLE where pixels scatter from frame to frame far beyond what is expected from their level.

    The lowest and the highest values are put aside, so that a cosmic ray does not count; pixels that are seen on fewer
    than five frames pass.
    """
    judged = combined.n_present >= _STABLE_FRAMES
    scattered = combined.scatter > limits.unstable_ratio * combined.expected
    return _bits(judged & scattered, PixelFlag.UNSTABLE)


def _beside_others(
    pixels: Pixels,
    excess: Callable[[Pixels, Pixels, Pixels], Pixels],
    noise: Pixels,
    halves: tuple[int, int] = (_NEAR_PX, _WIDE_PX),
) -> Mask:
    """Return pixels that are NaN, or far from the good ones in their row or their column.

    Parameters
    ----------
    pixels : ndarray of float32
    excess : callable
        Gives from lines of pixels, the medians about them and their noise by how much each is farther than it may be.
    noise : ndarray of float32
    halves : tuple of int
        Pixels on either side in a line, with which each is compared, and those that give what is smooth.
    """
    bad = ~np.isfinite(pixels)
    for _ in range(_PASSES):
        # Bad pixels found so far no longer hide their neighbours.
        outlying = _in_lines(pixels, bad, excess, noise, halves)
        outlying |= _in_lines(pixels.T, bad.T, excess, noise.T, halves).T
        if not np.any(outlying & ~bad):
            break
        bad |= outlying
    return bad


def _in_lines(
    pixels: Pixels,
    bad: Mask,
    excess: Callable[[Pixels, Pixels, Pixels], Pixels],
    noise: Pixels,
    halves: tuple[int, int],
) -> Mask:
    lines, left_out = np.ascontiguousarray(pixels), np.ascontiguousarray(bad)
    near = _medians(lines, left_out, halves[0])
    beyond = excess(lines, near, noise)
    some = np.flatnonzero(np.any(beyond > 0.0, axis=1))
    smooth = np.abs(near[some] - _medians(lines[some], left_out[some], halves[1]))
    outlying = np.zeros(lines.shape, bool)
    outlying[some] = beyond[some] > _SMOOTH * smooth
    return outlying


def _medians(lines: Pixels, left_out: Mask, half: int) -> Pixels:
    medians = np.empty(lines.shape, np.float32)
    running_medians(lines, left_out, half, medians)
    return medians


def _surroundings(pixels: Pixels, bad: Mask) -> Pixels:
    """Return the median of the pixels around each; for bad ones counts what is expected from their neighbours."""
    from scipy.ndimage import median_filter

    filled = pixels.astype(np.float32)
    y, x = np.nonzero(bad)
    values = np.empty(len(x), np.float32)
    fill_from_neighbours(filled, bad.astype(np.uint8), x, y, values)
    far = np.isnan(values)
    if far.any():
        values[far] = np.median(pixels[~bad]) if not bad.all() else 0.0
    filled[y, x] = values
    return np.asarray(median_filter(filled, _MEDIAN_PX, mode="nearest"))


def _bits(where: np.ndarray, bit: PixelFlag) -> MaskPlane:
    return np.asarray(where, np.uint8) * np.uint8(bit)

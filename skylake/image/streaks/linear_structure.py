"""Straight structures that are no trails: columns, rows, amplifier steps and spikes of bright stars.

A trail is as wide as a star across its line, and about as bright all along it. What the detector makes has borders
between pixels, what belongs to a star fades with the distance from it, and the glow along a horizon or the rim of a
fisheye is wider than stars.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from skylake.core.flags import UNUSABLE_PIXEL, PixelFlag
from skylake.core.frame import Mask, MaskPlane, Pixels
from skylake.image.streaks.line_kernels import read_strip

Floats = npt.NDArray[np.float64]
Ends = tuple[float, float, float, float]
"""Both ends of a line: x and y of the first and of the second, 0-based pixels."""

#: What leaves its column or row by less than so many pixels between its ends may belong to it.
_ALIGNED_PX = 2.5
#: What leaves it by less, or by less than so many standard deviations, and reaches both edges of the image within so
#: many pixels, does: one trail of some thousands runs like that.
_EXACT_PX, _EXACT_SIGMA, _EDGE_PX = (0.15, 0.5), 2.0, 33.0
#: It is seen in so many parts, within so many full widths.
_PARTS, _PLACE = 3, 1.2
#: What is steeper across than stars by so much, as a share of the peak, and by so many standard deviations has
#: borders; so has what is nearer to a step than to a star.
_STEEPER, _STEEPER_SIGMA = 0.1, 3.0
#: The core of a line, what may be its borders, and where the sky beside it begins and ends, in full widths of stars.
_CORE, _BORDERS, _SKY = 0.8, 2.0, (2.0, 4.0)
#: A line that is above the brighter of its sides by less than this share of what it is above their mean is a step.
_STEP = 0.5
#: Pieces in which it is seen whether a line fades, pixels, and how many are needed.
_PIECE_PX, _FEWEST_PIECES = 8, 4
#: A star from which a line may come lies on it or so many pieces beyond its end, and is so many times as bright.
_BEYOND_PIECES, _BRIGHT = 6, 20.0
#: A line fades if the nearer half is so many times as bright as the farther, by so many standard deviations.
_FADING, _FADING_SIGMA = 1.5, 4.0
#: Light is wider than twice a star if between these distances from its middle, in full widths, it is brighter than so
#: much of its core, by so many standard deviations; the sky is farther out, as what is wide reaches farther.
_SHOULDER, _OUTER_SKY, _WIDE, _WIDE_SIGMA = (1.0, 2.0), (2.5, 4.5), 0.36, 3.0
#: The middle is looked for in parts of so many pixels, within so many full widths: what is wide may be bent. Where a
#: larger share of the pixels there is masked, the core is saturated, and how high it would be is not seen.
_PART_PX, _BENT, _MASKED = 32, 1.5, 0.1
_SIGMA_PER_FWHM = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
#: Narrower stars than that are as wide as a pixel.
_NARROWEST = 1.0
_BAD = np.uint8(UNUSABLE_PIXEL | PixelFlag.SATURATED)
_NONE = np.uint8(0)


def is_structure(ends: Ends, signal: Pixels, mask: MaskPlane, noise: float, fwhm: float) -> bool:
    """Return whether a line of light is made by the detector, or by a star that is on it.

    Parameters
    ----------
    ends : tuple of float
        Where it begins and ends.
    signal : ndarray of float32, shape (height, width)
        Image minus background, ADU.
    mask : ndarray of uint8, shape (height, width)
    noise : float
        Standard deviation of the sky in a pixel, ADU.
    fwhm : float
        Full width at half maximum of stars, pixels.

    Returns
    -------
    bool
        True for what has borders between pixels, or runs exactly along a column or row from edge to edge; for a step
        from one level of sky to another; for what is wider than twice a star; and for what fades with the distance
        from a bright star.
    """
    width = max(fwhm, _NARROWEST)
    if abs(_drift(ends)) >= _ALIGNED_PX:
        strip = _strip(ends, signal, mask, _BAD, int(np.ceil(_SKY[1] * width)))
    else:
        strip = _strip(_straight(ends), signal, mask, _BAD, int(np.ceil(_SKY[1] * width)))
        if _has_borders(strip, noise, width) or (
            _from_edge_to_edge(ends, signal.shape) and _is_exact(strip, noise, width)
        ):
            return True
    if _is_step(_profile(strip), width) or _fades(ends, signal, mask, noise, width):
        return True
    reach = int(np.ceil((_OUTER_SKY[1] + _BENT) * width))
    return _is_wide(_strip(ends, signal, mask, _BAD, reach), noise, width)


def _drift(ends: Ends) -> float:
    """Return by how much a line leaves the column or row that it is nearest to, pixels."""
    run_x, run_y = ends[2] - ends[0], ends[3] - ends[1]
    return run_x if abs(run_x) < abs(run_y) else run_y


def _straight(ends: Ends) -> Ends:
    """Return the line in the middle of the column or row that it is nearest to, so that each pixel is read once."""
    x0, y0, x1, y1 = ends
    middle_x, middle_y = np.rint(0.5 * (x0 + x1)), np.rint(0.5 * (y0 + y1))
    return (middle_x, y0, middle_x, y1) if abs(x1 - x0) < abs(y1 - y0) else (x0, middle_y, x1, middle_y)


def _strip(
    ends: Ends, signal: Pixels, mask: MaskPlane, bad: np.uint8, half: int, beyond: float = 0.0
) -> Floats:
    """Return the pixels along a line, and so many pixels beyond its ends; shape (2 half + 1, pixels)."""
    x0, y0, x1, y1 = ends
    length = max(float(np.hypot(x1 - x0, y1 - y0)), 1.0)
    along = np.arange(-np.floor(beyond), length + beyond) + 0.5
    line = x0, y0, (x1 - x0) / length, (y1 - y0) / length
    return np.asarray(read_strip(signal, mask, bad, along, half, line))


def _mean(values: Floats | tuple[float, float]) -> float:
    """Return the mean of the values that are known; NaN without any."""
    some = np.asarray(values)
    some = some[np.isfinite(some)]
    return float(some.mean()) if some.size else float("nan")


def _across(half: int) -> Floats:
    return np.asarray(np.abs(np.arange(-half, half + 1.0)))


def _profile(strip: Floats) -> Floats:
    """Return the light across a line, medians along it, ADU; NaN where all is masked."""
    profile, known = np.full(len(strip), np.nan), np.isfinite(strip).any(axis=1)
    profile[known] = np.nanmedian(strip[known], axis=1)
    return profile


def _sides(profile: Floats, width: float) -> tuple[float, float]:
    """Return the level of the sky on either side; NaN where it is not seen."""
    half = len(profile) // 2
    beside = _across(half) > _SKY[0] * width
    sides = [
        side[np.isfinite(side)]
        for side in (profile[:half][beside[:half]], profile[half + 1 :][beside[half + 1 :]])
    ]
    first, second = (float(np.median(side)) if side.size else float("nan") for side in sides)
    return first, second


def _has_borders(strip: Floats, noise: float, width: float) -> bool:
    """Return whether the light changes from pixel to pixel as that of no star can."""
    profile = _profile(strip)
    light = (profile - _mean(_sides(profile, width)))[_across(len(profile) // 2) <= _BORDERS * width]
    steps = np.abs(np.diff(light))
    if not np.isfinite(steps).any():
        return False
    peak, expected = float(np.nanmax(light)), _steepest(round(width, 2))
    error = 1.25 * noise * np.sqrt(2.0 / strip.shape[1]) / max(peak, 1e-12)
    most = min(0.5 * (1.0 + expected), expected + _STEEPER + _STEEPER_SIGMA * error)
    return bool(np.nanmax(steps) > most * peak)


@lru_cache(maxsize=64)
def _steepest(width: float) -> float:
    """Return the largest difference of neighbouring pixels across a trail as wide as stars, as a share of the peak."""
    from scipy.special import ndtr

    # What stars are wide in the image they are with the pixel.
    sigma = np.sqrt(max((width * _SIGMA_PER_FWHM) ** 2 - 1.0 / 12.0, 0.1))
    place = np.arange(-8.0, 9.0) - np.linspace(0.0, 0.5, 11)[:, None]
    light = ndtr((place + 0.5) / sigma) - ndtr((place - 0.5) / sigma)
    return float((np.abs(np.diff(light, axis=1)).max(axis=1) / light.max(axis=1)).max())


def _from_edge_to_edge(ends: Ends, shape: tuple[int, ...]) -> bool:
    """Return whether a line along a column or row goes through the whole image."""
    low, high, size = min(ends[0], ends[2]), max(ends[0], ends[2]), shape[1]
    if abs(ends[3] - ends[1]) > high - low:
        low, high, size = min(ends[1], ends[3]), max(ends[1], ends[3]), shape[0]
    return low <= _EDGE_PX and high >= size - 1.0 - _EDGE_PX


def _is_exact(strip: Floats, noise: float, width: float) -> bool:
    """Return whether the light is in the same place across the line all along it, as exactly as can be seen."""
    half = len(strip) // 2
    place, near = np.arange(-half, half + 1.0), _across(half) <= max(_PLACE * width, 1.0)
    parts = np.array_split(strip, _PARTS, axis=1)
    profiles = [np.nan_to_num(_profile(part) - _mean(_sides(_profile(part), width)))[near] for part in parts]
    light = np.array([profile.sum() for profile in profiles])
    if (light <= 0.0).any():
        return False
    centres = np.array([profile @ place[near] for profile in profiles]) / light
    # Pixels around the middle of a part lie between its ends.
    drift = (centres[-1] - centres[0]) * _PARTS / (_PARTS - 1)
    spread = np.sqrt(np.sum(place[near] ** 2) * _PARTS / strip.shape[1])
    error = 1.25 * np.sqrt(2.0) * noise * spread / float(np.median(light)) * _PARTS / (_PARTS - 1)
    return bool(abs(drift) < np.clip(_EXACT_SIGMA * error, *_EXACT_PX))


def _is_step(profile: Floats, width: float) -> bool:
    """Return whether a line of light is no more than the border between two levels of sky."""
    sides = np.array(_sides(profile, width))
    if not np.isfinite(sides).all():
        return False
    core = profile[_across(len(profile) // 2) <= max(_CORE * width, 1.0)]
    light = _mean(core)
    return bool(light - sides.max() < _STEP * (light - sides.mean()))


def _is_wide(strip: Floats, noise: float, width: float) -> bool:
    """Return whether light is more than twice as wide across the line as stars, in the mean over parts of the line."""
    parts = np.array_split(strip, max(1, strip.shape[1] // _PART_PX), axis=1)
    known = [
        light for light in (_core_and_shoulder(part, width) for part in parts) if np.isfinite(light).all()
    ]
    if not known:
        return False
    core, shoulder = np.mean(known, axis=0)
    n_core, n_shoulder = 1.0 + 2.0 * (width // 2.0), 2.0 * max(width * (_SHOULDER[1] - _SHOULDER[0]), 1.0)
    # Of medians along the line.
    error = 1.25 * noise * np.sqrt((_WIDE**2 / n_core + 1.0 / n_shoulder) / strip.shape[1])
    return bool(shoulder - _WIDE * core > _WIDE_SIGMA * error)


def _core_and_shoulder(part: Floats, width: float) -> tuple[float, float]:
    """Return the light in the core and beside it above the darker of the two sides, ADU; NaN where it is not seen."""
    profile, half = _profile(part), len(part) // 2
    near = _across(half) <= max(_BENT * width, 1.0)
    if (np.isnan(part[near]).mean(axis=1) > _MASKED).any():
        return float("nan"), float("nan")
    smooth = np.where(near, np.convolve(np.nan_to_num(profile), np.ones(3) / 3.0, "same"), -np.inf)
    place = np.arange(-half, half + 1.0) - (float(np.argmax(smooth)) - half)
    sides = [
        _mean(profile[(side > _OUTER_SKY[0] * width) & (side <= _OUTER_SKY[1] * width)])
        for side in (place, -place)
    ]
    sky, distance = min((side for side in sides if np.isfinite(side)), default=np.nan), np.abs(place)
    core = _mean(profile[distance <= 0.5 * width]) - sky
    return core, _mean(profile[(distance > _SHOULDER[0] * width) & (distance <= _SHOULDER[1] * width)]) - sky


def _fades(ends: Ends, signal: Pixels, mask: MaskPlane, noise: float, width: float) -> bool:
    """Return whether a line comes from a bright star, on it or near its end, and fades with the distance from that."""
    half, beyond = int(np.ceil(_SKY[1] * width)), float(_BEYOND_PIECES * _PIECE_PX)
    near = _across(half) <= max(_CORE * width, 1.0)
    middle, value = _pieces(_strip(ends, signal, mask, _BAD, half), near, _across(half) > _SKY[0] * width)
    if len(middle) < _FEWEST_PIECES:
        return False
    # Saturated stars are the brightest of all.
    brightness = np.nan_to_num(_strip(ends, signal, mask, _NONE, half, beyond)[near].max(axis=0))
    star = int(np.argmax(brightness))
    if brightness[star] < _BRIGHT * np.median(value):
        return False
    distance = np.abs(middle - (star + 0.5 - beyond))
    nearer = distance <= np.median(distance)
    n_nearer, n_farther = np.count_nonzero(nearer), np.count_nonzero(~nearer)
    if n_farther == 0:
        return False
    first, second = float(np.median(value[nearer])), float(np.median(value[~nearer]))
    # Of a median of medians.
    error = (
        1.25**2
        * noise
        / np.sqrt(np.count_nonzero(near) * _PIECE_PX)
        * np.hypot(n_nearer**-0.5, n_farther**-0.5)
    )
    return bool(first > _FADING * second and first - second > _FADING_SIGMA * error)


def _pieces(strip: Floats, near: Mask, beside: Mask) -> tuple[Floats, Floats]:
    """Return the middles of the pieces of a strip that are seen, and the light of each above the sky beside it."""
    n_pieces = strip.shape[1] // _PIECE_PX
    pieces = strip[:, : n_pieces * _PIECE_PX].reshape(len(strip), n_pieces, _PIECE_PX)
    core = pieces[near].mean(axis=0)
    known = np.isfinite(core).any(axis=1) & np.isfinite(pieces[beside]).any(axis=(0, 2))
    sky = np.nanmedian(pieces[beside][:, known], axis=(0, 2))
    middle = (np.flatnonzero(known) + 0.5) * _PIECE_PX
    light: Floats = np.asarray(np.nanmedian(core[known], axis=1) - sky, np.float64)
    return np.asarray(middle, np.float64), light

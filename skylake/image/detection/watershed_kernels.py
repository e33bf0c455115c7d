"""Kernels of the watershed that divides significant pixels into sources.

Every listed pixel belongs to the peak that the steepest way up leads to (a watershed: Beucher & Lantuejoul
1979). Peaks that are hardly higher than the pass to a higher one are then joined with it, from the highest
pass to the lowest, so that what is compared is always a whole mountain.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Pixels = npt.NDArray[np.float32]
Plane = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

#: Values of the filtered image that are too low to be listed, in standard deviations.
_UNLISTED = 1.0
#: The light of a star explains another peak only if the star is so many times higher.
_BRIGHTER = 2.0
#: Basins are of one body if the pass is this share of the higher peak.
_BODY = 0.5
#: Samples on a circle: at most, and at least.
_SAMPLES = 48
_FEWEST_SAMPLES = 6


class Significant(NamedTuple):
    """The list of significant pixels.

    Attributes
    ----------
    place : ndarray of int32, shape (n,)
        Index of each in the image, ascending.
    value, light : ndarray of float32, shape (n,)
        The filtered image in standard deviations, and the signal.
    uphill : ndarray of int32, shape (n,)
        Place in the list of the highest of the pixel and its eight neighbours; of equals the first. Later its basin.
    """

    place: Places
    value: Pixels
    light: Pixels
    uphill: Places


class Passes(NamedTuple):
    """Where basins touch, for each pair of neighbouring pixels.

    Attributes
    ----------
    first, second : ndarray of int32, shape (p,)
        Both basins.
    height : ndarray of float32, shape (p,)
        Height of the lower pixel; infinite between two saturated ones.
    spot : ndarray of int32, shape (p,)
        Index of that pixel in the image.
    """

    first: Places
    second: Places
    height: Pixels
    spot: Places


@kernel
def number_basins(uphill: Places) -> Places:
    """Replace the ways up by numbers of basins, in place, and return the place of the peak of each.

    Parameters
    ----------
    uphill : ndarray of int32, shape (n,)
        For each listed pixel the place of the highest of itself and its neighbours. Written: its basin.

    Returns
    -------
    ndarray of int32, shape (m,)
        In the order of the list.
    """
    n = uphill.size
    peaks = 0
    for k in range(n):
        top = k
        while uphill[top] != top:
            uphill[top] = uphill[uphill[top]]
            top = uphill[top]
        uphill[k] = top
        peaks += top == k
    peak = np.empty(peaks, np.int32)
    basin = np.empty(n, np.int32)
    peaks = 0
    for k in range(n):
        if uphill[k] == k:
            peak[peaks], basin[k] = k, peaks
            peaks += 1
    for k in range(n):
        uphill[k] = basin[uphill[k]]
    return peak


@kernel
def list_passes(listed: Significant, mask: Plane, saturated: np.uint8) -> Passes:
    """Return where basins touch, for each pair of neighbouring pixels.

    Two saturated pixels touch at infinite height: a plateau or a trail of charge is of one source.

    Parameters
    ----------
    listed : Significant
        With basins.
    mask : ndarray of uint8, shape (height, width)
    saturated : uint8
        Its bit of saturated pixels.
    """
    place, value, _, basin = listed
    width = mask.shape[1]
    bits = mask.ravel()
    size = 4 * place.size
    first, second, spot = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32)
    height = np.empty(size, np.float32)
    n, below = 0, 0
    for k in range(place.size):
        here = place[k]
        x = here % width
        while below < place.size and place[below] < here + width - 1:
            below += 1
        for i in range(4):
            # The three pixels of the next row, then that to the right, as far as they are listed.
            other = k + 1 if i == 3 else below + i
            if other >= place.size or basin[other] == basin[k]:
                continue
            step = place[other] - here
            if i == 3:
                near = step == 1 and x < width - 1
            else:
                near = step <= width + 1 and (step > width - 1 or x > 0) and (step <= width or x < width - 1)
            if near:
                lower = k if value[k] <= value[other] else other
                first[n], second[n], height[n], spot[n] = basin[k], basin[other], value[lower], place[lower]
                if (bits[here] & bits[place[other]] & saturated) != 0:
                    height[n] = np.inf
                n += 1
    return Passes(first[:n], second[:n], height[:n], spot[:n])


@kernel
def join_basins(
    passes: Passes,
    order: npt.NDArray[np.int64],
    listed: Significant,
    peak: Places,
    shape: tuple[int, int],
    least: np.float32,
    clear: Pixels,
) -> tuple[Places, Plane, Places, Places]:
    """Join basins whose peak is not significantly higher than the pass to a higher one.

    A star on the flank of a much brighter one hardly rises above the pass between them, which is lit by
    the other; so where a rise is small for the height, the light of the brighter one is taken off both.
    Not so on a ridge, such as a trail, whose bumps are of one height.

    Parameters
    ----------
    passes : Passes
        As from :func:`list_passes`.
    order : ndarray of int64, shape (p,)
        Passes from high to low.
    listed : Significant
    peak : ndarray of int32, shape (m,)
        Peaks of the basins in that list.
    shape : tuple of int
        Height and width of the image.
    least : float32
        What a peak must rise above the pass.
    clear : ndarray of float32, shape (m,)
        What it must rise when the light of a much brighter one is taken off; at least `least`.

    Returns
    -------
    joined : ndarray of int32, shape (m,)
        The basin that each was joined with, itself for those that stand.
    body : ndarray of uint8, shape (m,)
        1 where the pass is as high as half the higher peak: both are of one body, and not a bump beside it.
    rival, highest : ndarray of int32, shape (m,)
        The higher basins that one touches: that with the highest pass, and that with the highest peak; -1
        for none.
    """
    place, value = listed.place, listed.value
    joined, body = np.arange(peak.size).astype(np.int32), np.ones(peak.size, np.uint8)
    rival, highest = np.full(peak.size, -1, np.int32), np.full(peak.size, -1, np.int32)
    height = value[peak]
    samples = np.empty(_SAMPLES, np.float64)
    for i in range(order.size):
        k = order[i]
        high, low = summit(joined, body, passes.first[k]), summit(joined, body, passes.second[k])
        if high == low:
            continue
        if height[high] < height[low] or (height[high] == height[low] and high > low):
            high, low = low, high
        if rival[low] < 0:
            above = height[low] - passes.height[k]
            if least <= above < clear[low] and height[high] > _BRIGHTER * height[low]:
                middle = place[peak[high]]
                above += _light(place, value, middle, passes.spot[k], shape, samples)[0]
                above -= _light(place, value, middle, place[peak[low]], shape, samples)[0]
            if above < clear[low]:
                joined[low], body[low] = high, passes.height[k] >= _BODY * height[high]
                continue
            rival[low] = high
        if highest[low] < 0 or height[high] > height[highest[low]]:
            highest[low] = high
    return joined, body, rival, highest


@kernel
def summit(joined: Places, body: Plane, basin: int) -> int:
    """Return the basin with which one was joined in the end, and shorten the way to it."""
    while joined[basin] != basin:
        body[basin] &= body[joined[basin]]
        joined[basin] = joined[joined[basin]]
        basin = joined[basin]
    return basin


@kernel
def summits(joined: Places, body: Plane) -> Places:
    """Return the basin with which each was joined in the end; `body` holds of the whole way then."""
    top = np.empty_like(joined)
    for basin in range(joined.size):
        top[basin] = summit(joined, body, basin)
    return top


@kernel
def join_wings(
    joined: Places,
    body: Plane,
    rivals: Places,
    listed: Significant,
    peak: Places,
    shape: tuple[int, int],
    least: np.float32,
) -> None:
    """Join peaks with a higher neighbour whose own light explains them, in place.

    What stands out from the light of the neighbour must be as high as any source, and three times the
    scatter around it: the wings of bright stars are neither round nor free of photon noise.

    Parameters
    ----------
    joined, body : ndarray, shape (m,)
        As from :func:`join_basins`. Written.
    rivals : ndarray of int32, shape (m,)
        The neighbour that each basin is held against; -1 for none.
    listed, peak, shape
        As for :func:`join_basins`.
    least : float32
        The smallest peak of a source, in standard deviations of the filtered image.
    """
    place, value = listed.place, listed.value
    samples = np.empty(_SAMPLES, np.float64)
    for low in range(peak.size):
        if joined[low] != low or rivals[low] < 0 or value[peak[low]] < least:
            continue
        high = summit(joined, body, rivals[low])
        if value[peak[high]] <= _BRIGHTER * value[peak[low]]:
            continue
        light, scatter = _light(place, value, place[peak[high]], place[peak[low]], shape, samples)
        if value[peak[low]] - light < max(least, 3.0 * scatter):
            joined[low], body[low] = high, 0


@kernel
def _light(
    place: Places, value: Pixels, middle: int, point: int, shape: tuple[int, int], samples: Floats
) -> tuple[float, float]:
    """Return the light of a star at some distance, and its scatter around the star.

    It is the median of the filtered image on the circle that goes through a point, but for the
    neighbourhood of the point. Other stars on the circle lie above it, so the scatter is that below.
    """
    height, width = shape
    middle_y, middle_x = divmod(middle, width)
    y, x = divmod(point, width)
    dy, dx = float(y - middle_y), float(x - middle_x)
    count = min(max(int(4.0 * np.hypot(dx, dy)), 12), samples.size)
    n = 0
    for i in range(2, count - 1):
        angle = 2.0 * np.pi * i / count
        cosine, sine = np.cos(angle), np.sin(angle)
        row, column = middle_y + sine * dx + cosine * dy, middle_x + cosine * dx - sine * dy
        if 0.0 <= row <= height - 1 and 0.0 <= column <= width - 1:
            samples[n] = _between(place, value, row, column, width)
            n += 1
    if n < _FEWEST_SAMPLES:
        return 0.0, 0.0
    ordered = np.sort(samples[:n])
    light = ordered[n // 2]
    return light, 1.4826 * (light - ordered[n // 4])


@kernel
def _between(place: Places, value: Pixels, row: float, column: float, width: int) -> float:
    """Return the filtered image between pixels, interpolated linearly."""
    y, x = int(row), int(column)
    total = 0.0
    for i in range(y, y + 2):
        k = np.searchsorted(place, i * width + x)
        for j in range(x, x + 2):
            weight = (1.0 - abs(row - i)) * (1.0 - abs(column - j))
            listed = k < place.size and place[k] == i * width + j
            total += weight * (value[k] if listed else _UNLISTED)
            k += listed
    return total


@kernel
def mark_touching(
    passes: Passes,
    joined: Places,
    body: Plane,
    number: Places,
    height: Pixels,
    least: np.float32,
    share: np.float32,
) -> Plane:
    """Return 1 for basins that touch another source at a height that matters to them, else 0.

    Parameters
    ----------
    passes, joined, body
        As from :func:`list_passes` and :func:`join_basins`.
    number : ndarray of int32, shape (m,)
        Number of the source of each basin, -1 for none.
    height : ndarray of float32, shape (m,)
        Peaks of the basins, in standard deviations of the filtered image.
    least, share : float32
        A pass matters from this height on, and from this share of the height of the peak on.
    """
    touching = np.zeros(number.size, np.uint8)
    for k in range(passes.first.size):
        if passes.height[k] < least:
            continue
        top = summit(joined, body, passes.first[k])
        other = summit(joined, body, passes.second[k])
        if top != other and number[top] >= 0 and number[other] >= 0:
            for basin in (top, other):
                if passes.height[k] >= share * height[basin]:
                    touching[basin] = 1
    return touching

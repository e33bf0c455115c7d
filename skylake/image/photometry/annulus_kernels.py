"""Kernels of clipped means in annuli, and of masks made wider."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: The quantiles of a Gaussian one standard deviation below and above the median.
_LOW, _HIGH = 0.158655, 0.841345
#: A Gaussian that is cut at three sigma has this part of its standard deviation.
_CLIPPED_SHARE = 0.98658
_CLIP_SIGMA = 3.0
_CLIP_ROUNDS = 2


@kernel
def _select(values: Pixels, first: int, last: int, wanted: int) -> float:
    """Return the value of a rank, and bring all smaller ones before it (Hoare 1961, CACM 4, 321)."""
    while first < last:
        pivot, left, right = values[(first + last) // 2], first, last
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if wanted <= right:
            last = right
        elif wanted >= left:
            first = left
        else:
            break
    return values[wanted]


@kernel
def _clipped(values: Pixels, number: int) -> tuple[float, float]:
    """Return mean and standard error of the first `number` values, which are put into another order."""
    top = number - 1
    upper = _select(values, 0, top, (top + 1) // 2)
    centre = 0.5 * (upper + _select(values, 0, top, top // 2))
    low = _select(values, 0, top, round(_LOW * top))
    high = _select(values, 0, top, round(_HIGH * top))
    sigma, mean, left = min(centre - low, high - centre), 0.0, 1
    for _ in range(_CLIP_ROUNDS):
        total, squares, left = 0.0, 0.0, 0
        for k in range(number):
            value = values[k] - centre
            if abs(value - mean) <= _CLIP_SIGMA * sigma:
                total += value
                squares += value * value
                left += 1
        mean = total / max(left, 1)
        sigma = math.sqrt(max(squares / max(left, 1) - mean * mean, 0.0)) / _CLIPPED_SHARE
    return centre + mean, sigma / math.sqrt(max(left, 1))


@kernel
def annulus_means(
    signal: Pixels, clean: Mask, x: Floats, y: Floats, inner: float, outer: float, sky: Floats
) -> None:
    """Set `sky`, shape (3, n), to clipped mean, standard error and number of clean pixels; 0 where there is none."""
    height, width = signal.shape
    values = np.empty((2 * math.ceil(outer) + 3) ** 2, np.float32)
    for source in range(len(x)):
        number = 0
        px, py = x[source], y[source]
        for row in range(max(0, math.ceil(py - outer)), min(height, math.floor(py + outer) + 1)):
            dy = row - py
            for column in range(max(0, math.ceil(px - outer)), min(width, math.floor(px + outer) + 1)):
                distance = math.hypot(column - px, dy)
                if inner <= distance < outer and clean[row, column]:
                    values[number] = signal[row, column]
                    number += 1
        sky[:, source] = 0.0
        sky[2, source] = number
        if number:
            sky[0, source], sky[1, source] = _clipped(values, number)


@kernel
def clear_of_discs(clear: Mask, discs: Floats) -> None:
    """Unset `clear` where the centre of a pixel lies within a disc; `discs` has x, y and radius, shape (3, n)."""
    height = clear.shape[0]
    for disc in range(discs.shape[1]):
        x, y, radius = discs[:, disc]
        for row in range(max(0, math.ceil(y - radius)), min(height, math.floor(y + radius) + 1)):
            half = math.sqrt(max(radius * radius - (row - y) ** 2, 0.0))
            clear[row, max(0, math.ceil(x - half)) : max(0, math.floor(x + half) + 1)] = False


@kernel
def annulus_averages(
    light: Pixels, clear: Mask, places: Floats, inner: float, outer: float, mean: Floats
) -> None:
    """Set `mean`, shape (m,), to that of the clear pixels in annuli about places, shape (m, 2); NaN where none is."""
    height, width = light.shape
    for k in range(len(places)):
        px, py = places[k, 0], places[k, 1]
        total, number = 0.0, 0
        for row in range(max(0, math.ceil(py - outer)), min(height, math.floor(py + outer) + 1)):
            dy = row - py
            for column in range(max(0, math.ceil(px - outer)), min(width, math.floor(px + outer) + 1)):
                distance = math.hypot(column - px, dy)
                if inner <= distance < outer and clear[row, column]:
                    total += light[row, column]
                    number += 1
        mean[k] = total / number if number else math.nan


@kernel
def clear_of_sources(
    segments: npt.NDArray[np.int32], mask: Bytes, unusable: int, reach: int, clear: Mask
) -> None:
    """Set `clear` where no segment is within `reach` pixels in x and y, and the pixel itself is usable."""
    height, width = segments.shape
    near = np.zeros((height, width), np.uint8)
    for row in range(height):
        since = reach + 1
        for column in range(width):
            since = 0 if segments[row, column] > 0 else since + 1
            near[row, column] = since <= reach
        since = reach + 1
        for column in range(width - 1, -1, -1):
            since = 0 if segments[row, column] > 0 else since + 1
            near[row, column] |= np.uint8(since <= reach)
    for row in range(height):
        for column in range(width):
            clear[row, column] = (mask[row, column] & unusable) == 0
        for other in range(max(0, row - reach), min(height, row + reach + 1)):
            for column in range(width):
                clear[row, column] &= near[other, column] == 0

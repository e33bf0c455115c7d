"""Matched filter, significant pixels and the way up from each: compiled kernels, and nothing else.

The image is filtered row by row, and what is significant is listed at once, so that the filtered image
never exists as a whole. A listed pixel is known by its place in the list, in the order of rows.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Plane = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int32]

#: Pixels that are looked at together, since most hold nothing.
_BLOCK = 16


@numba.njit(cache=True, nogil=True)
def list_significant(
    signal: Pixels, rms: Pixels, mask: Plane, excluded: np.uint8, kernel: Pixels, least: np.float32,
    numbers: Places, place: Places, value: Pixels, uphill: Places,
) -> int:  # fmt: skip
    """List the pixels of the filtered image above a limit, and the highest neighbour of each.

    The filter is the product of a symmetric row and column. For white noise it is the matched filter of a
    star of its shape, and the standard deviation of what it gives is rms * sum(kernel^2).

    Parameters
    ----------
    signal, rms : ndarray of float32, shape (height, width)
        Finite; beyond the edges there is nothing.
    mask : ndarray of uint8, shape (height, width)
    excluded : uint8
        Pixels with any of these bits count as 0 and are never listed.
    kernel : ndarray of float32, shape (m + 1,)
        Weights of the middle and of its neighbours on one side.
    least : float32
        Limit, in standard deviations of the filtered image.
    numbers : ndarray of int32, shape (height, width)
        Zeros. Written: place in the list plus one.
    place, value, uphill : ndarray, shape (capacity,)
        Written: index of the pixel in the image, filtered image in standard deviations, and place in the
        list of the highest of the pixel and its eight neighbours; of equals the first.

    Returns
    -------
    int
        Pixels of the list, or -1 if there are more than it can hold.
    """
    height, width = signal.shape
    half = kernel.size - 1
    ring = np.zeros((2 * half + 1, width), np.float32)
    rows = np.zeros((3, width + 2), np.float32)
    padded = np.zeros(width + 2 * half, np.float32)
    norm = kernel[0] ** 2 + 2.0 * np.sum(kernel[1:] ** 2)
    started = np.zeros(height + 1, np.int64)
    found = 0
    for y in range(-half, height + 1):
        ahead = y + half
        if ahead < height:
            _smooth_along(signal[ahead], mask[ahead], excluded, kernel, padded, ring[ahead % ring.shape[0]])
        elif half > 0:
            ring[ahead % ring.shape[0]] = 0.0
        if y < 0:
            continue
        row = rows[y % 3]
        row[:] = 0.0
        if y < height:
            _smooth_across(ring, y, kernel, row)
            _in_sigma(row, rms[y], mask[y], excluded, np.float32(1.0 / norm))
            started[y] = found
            found = _list_row(row, least, y, numbers, place, value, found)
            if found < 0:
                return -1
            started[y + 1] = found
        if y > 0:
            _climb(rows, y - 1, started, numbers, place, uphill)
    return found


@numba.njit(cache=True, nogil=True)
def _smooth_along(
    row: Pixels, mask: Plane, excluded: np.uint8, kernel: Pixels, padded: Pixels, out: Pixels
) -> None:
    half, width = kernel.size - 1, row.size
    for x in range(width):
        padded[x + half] = row[x] if (mask[x] & excluded) == 0 else np.float32(0.0)
    if half == 3:
        a, b, c, d = kernel[0], kernel[1], kernel[2], kernel[3]
        for x in range(width):
            pairs = b * (padded[x + 2] + padded[x + 4]) + c * (padded[x + 1] + padded[x + 5])
            out[x] = a * padded[x + 3] + pairs + d * (padded[x] + padded[x + 6])
        return
    for x in range(width):
        out[x] = kernel[0] * padded[x + half]
    for t in range(1, half + 1):
        weight, left, right = kernel[t], padded[half - t :], padded[half + t :]
        for x in range(width):
            out[x] += weight * (left[x] + right[x])


@numba.njit(cache=True, nogil=True)
def _smooth_across(ring: Pixels, y: int, kernel: Pixels, row: Pixels) -> None:
    half, size, width = kernel.size - 1, ring.shape[0], ring.shape[1]
    middle = ring[y % size]
    for x in range(width):
        row[x + 1] = kernel[0] * middle[x]
    for t in range(1, half + 1):
        weight, above, below = kernel[t], ring[(y - t) % size], ring[(y + t) % size]
        for x in range(width):
            row[x + 1] += weight * (above[x] + below[x])


@numba.njit(cache=True, nogil=True)
def _in_sigma(row: Pixels, rms: Pixels, mask: Plane, excluded: np.uint8, scale: np.float32) -> None:
    for x in range(rms.size):
        usable = (mask[x] & excluded) == 0 and rms[x] > np.float32(0.0)
        noise = rms[x] if usable else np.float32(1.0)
        row[x + 1] = scale * row[x + 1] / noise if usable else np.float32(0.0)


@numba.njit(cache=True, nogil=True)
def _list_row(
    row: Pixels, least: np.float32, y: int, numbers: Places, place: Places, value: Pixels, found: int
) -> int:
    width = numbers.shape[1]
    for start in range(0, width, _BLOCK):
        stop = min(start + _BLOCK, width)
        some = np.int32(0)
        for x in range(start, stop):
            some += np.int32(row[x + 1] > least)
        if some == 0:
            continue
        if found + some > place.size:
            return -1
        for x in range(start, stop):
            if row[x + 1] > least:
                place[found], value[found] = y * width + x, row[x + 1]
                found += 1
                numbers[y, x] = found
    return found


@numba.njit(cache=True, nogil=True)
def _climb(
    rows: Pixels, y: int, started: npt.NDArray[np.int64], numbers: Places, place: Places, uphill: Places
) -> None:
    """Find the highest neighbour of the listed pixels of a row, once the next row is filtered."""
    width = numbers.shape[1]
    for k in range(started[y], started[y + 1]):
        x = place[k] - y * width
        best, best_y, best_x = np.float32(-1.0), 0, 0
        for step in range(-1, 2):
            near = rows[(y + step) % 3]
            for column in range(x, x + 3):
                if near[column] > best:
                    best, best_y, best_x = near[column], y + step, column - 1
        uphill[k] = numbers[best_y, best_x] - 1


@numba.njit(cache=True, nogil=True)
def star_curvatures(
    signal: Pixels, rms: Pixels, mask: Plane, excluded: np.uint8, sigma: np.float32, step: int, every: int
) -> npt.NDArray[np.float64]:
    """Return how sharp bright peaks are: the squares of the widths of Gaussians through three pixels.

    The logarithm of a Gaussian is a parabola, whose curvature does not depend on where its middle is
    between the pixels.

    Parameters
    ----------
    signal, rms, mask, excluded
        As for :func:`list_significant`.
    sigma : float32
        Peaks are higher than so many standard deviations of a pixel.
    step : int
        Distance of the pixels on both sides of the peak.
    every : int
        Rows of which one is looked at.

    Returns
    -------
    ndarray of float64, shape (n,)
        Squares of standard deviations, pixels^2, means of that along x and along y.
    """
    height, width = signal.shape
    squares = np.empty(4096, np.float64)
    n = 0
    for y in range(step, height - step, every):
        for x in range(step, width - step):
            peak = signal[y, x]
            if peak <= sigma * rms[y, x] or not _is_peak(signal, mask, excluded, y, x):
                continue
            total = 0.0
            for pair in ((signal[y, x - step], signal[y, x + step]), (signal[y - step, x], signal[y + step, x])):
                low = 3.0 * rms[y, x]
                if pair[0] <= low or pair[1] <= low:
                    total = np.inf
                    break
                total += np.log(peak / pair[0]) + np.log(peak / pair[1])
            if 0.0 < total < np.inf:
                squares[n] = 2.0 * step**2 / total
                n += 1
                if n == squares.size:
                    return squares
    return squares[:n]


@numba.njit(cache=True, nogil=True)
def _is_peak(signal: Pixels, mask: Plane, excluded: np.uint8, y: int, x: int) -> bool:
    for row in range(y - 1, y + 2):
        for column in range(x - 1, x + 2):
            if signal[row, column] > signal[y, x] or (mask[row, column] & excluded) != 0:
                return False
    return True

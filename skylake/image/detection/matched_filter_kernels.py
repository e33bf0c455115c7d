"""Kernels of the matched filter: significant pixels and the highest neighbour of each.

The image is filtered row by row, and what is significant is listed at once, so that the filtered image
never exists as a whole. A listed pixel is known by its place in the list, in the order of rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.detection.watershed_kernels import Significant

Pixels = npt.NDArray[np.float32]
Plane = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int32]

#: Nothing is more significant; noise next to nothing would make infinities.
_MOST = np.float32(1e8)
#: A pixel counts less if its variance is larger by this factor than sky and light leads one to expect: the photons
#: of the pixel are given by itself, and so by its noise.
_DOUBTFUL = np.float32(1.5)
#: What is left of the weights about a pixel, at least; of a pixel amidst bad ones nothing is known.
_LEAST_TRUST = np.float32(0.05)
#: Noise is not so many standard deviations below the background, hardly even that of noisy columns.
_DEAD = np.float32(-10.0)


class Trust(NamedTuple):
    """What is known of the variance of single pixels.

    Attributes
    ----------
    variance : ndarray of float32
        With the photons of the light of each pixel, of the shape of the image; or of shape (0, 0) if it is not known.
    scale, excess : float32
        The factor and the summand that make it agree with the noise of the background.
    photons : float32
        The variance which a unit of signal adds.
    """

    variance: Pixels
    scale: np.float32
    excess: np.float32
    photons: np.float32


class Limit(NamedTuple):
    """Above what the filtered image is significant.

    Attributes
    ----------
    sigma : float32
        Standard deviations of the filtered image.
    noise : float32
        Standard deviation of the filtered image in units of that for white noise.
    """

    sigma: np.float32
    noise: np.float32


@kernel
def list_significant(
    signal: Pixels,
    rms: Pixels,
    mask: Plane,
    excluded: np.uint8,
    kernel: Pixels,
    limit: Limit,
    trust: Trust,
    listed: Significant,
) -> int:
    """List the pixels of the filtered image above a limit, and the highest neighbour of each.

    The filter is the product of a symmetric row and column. For white noise it is the matched filter of a
    star of its shape, and the standard deviation of what it gives is rms * sum(kernel^2). Where single pixels are
    noisier than those about them, the matched filter weights each with the inverse of its variance.

    Parameters
    ----------
    signal, rms : ndarray of float32, shape (height, width)
        Finite; beyond the edges there is nothing.
    mask : ndarray of uint8, shape (height, width)
    excluded : uint8
        Pixels with any of these bits count as 0 and are never listed.
    kernel : ndarray of float32, shape (m + 1,)
        Weights of the middle and of its neighbours on one side.
    limit : Limit
    trust : Trust
    listed : Significant
        With room for so many pixels. Written.

    Returns
    -------
    int
        Pixels of the list, or -1 if there are more than it can hold.
    """
    height, width = signal.shape
    half = kernel.size - 1
    ring = np.zeros((2 * half + 1, width), np.float32)
    rows = np.zeros((3, width + 2), np.float32)
    numbers = np.zeros((3, width), np.int32)
    padded = np.zeros(width + 2 * half, np.float32)
    above = np.zeros((width + 7) // 8 * 8, np.uint8)
    scale = _white(kernel) / limit.noise
    squared, share = kernel**2, _white(kernel) ** 2
    weighed, lost, doubts = np.empty(width, np.float32), np.zeros((2, width), np.float32), np.zeros_like(ring)
    doubtful = np.zeros(ring.shape[0], np.uint8)
    before, start, n = 0, 0, 0
    for y in range(-half, height + 1):
        ahead = y + half
        here = ahead % ring.shape[0]
        doubtful[here] = 0
        if ahead < height:
            line, bits = signal[ahead], mask[ahead]
            if trust.variance.shape[0] > 0 and _weigh(line, rms[ahead], trust, ahead, weighed, lost[0]):
                doubtful[here], line = 1, weighed
                _smooth_along(lost[0], bits, excluded, squared, padded, doubts[here])
            _smooth_along(line, bits, excluded, kernel, padded, ring[here])
        elif half > 0:
            ring[here] = 0.0
        if y < 0:
            continue
        row = rows[y % 3]
        row[:] = 0.0
        before, start = start, n
        if y < height:
            line = row[1 : width + 1]
            _smooth_across(ring, y, kernel, line)
            _in_sigma(line, rms[y], mask[y], excluded, scale)
            if _any(doubtful):
                _sum_doubts(doubts, doubtful, y, squared, lost[1])
                _trusted(line, lost[1], share)
            n = _list_row(line, signal[y], limit.sigma, y, above, numbers[y % 3], listed, n)
            if n < 0:
                return -1
        if y > 0:
            _climb(rows, numbers, y - 1, listed.place, listed.uphill, before, start)
    return n


@kernel
def _white(kernel: Pixels) -> np.float32:
    """Return one over the standard deviation of what the filter makes of white noise of unit variance."""
    return np.float32(1.0 / (kernel[0] ** 2 + 2.0 * np.sum(kernel[1:] ** 2)))


@kernel
def _any(flags: Plane) -> bool:
    some = 0
    for k in range(flags.size):
        some |= flags[k]
    return some != 0


@kernel
def _weigh(
    row: Pixels,
    rms: Pixels,
    trust: Trust,
    y: int,
    weighed: Pixels,
    lost: Pixels,
) -> bool:
    """Weight the pixels of a row by what their variance is to be over what it is; return whether it matters for any.

    `lost` gets what is missing of each weight.
    """
    variance, scale, excess, photons = trust.variance[y], trust.scale, trust.excess, trust.photons
    none, full = np.float32(0.0), np.float32(1.0)
    some = 0
    for x in range(row.size):
        light = row[x] if row[x] > none else none
        wanted = _DOUBTFUL * (rms[x] * rms[x] + photons * light)
        some |= scale * variance[x] + excess > wanted
    if some == 0:
        return False
    for x in range(row.size):
        light = row[x] if row[x] > none else none
        wanted, stated = rms[x] * rms[x] + photons * light, scale * variance[x] + excess
        weight = wanted / stated if stated > _DOUBTFUL * wanted else full
        weighed[x], lost[x] = weight * row[x], full - weight
    return True


@kernel
def _sum_doubts(doubts: Pixels, doubtful: Plane, y: int, squared: Pixels, out: Pixels) -> None:
    """Sum across rows what is missing of the weights; rows of which nothing is missing are left out."""
    half, size = squared.size - 1, doubts.shape[0]
    out[:] = np.float32(0.0)
    for t in range(-half, half + 1):
        if doubtful[(y + t) % size] != 0:
            row, weight = doubts[(y + t) % size], squared[abs(t)]
            for x in range(out.size):
                out[x] += weight * row[x]


@kernel
def _trusted(row: Pixels, lost: Pixels, share: np.float32) -> None:
    """Scale a filtered row to the noise that is left where some pixels count less."""
    for x in range(row.size):
        left = np.float32(1.0) - share * lost[x]
        row[x] /= np.sqrt(left if left > _LEAST_TRUST else _LEAST_TRUST)


@kernel
def sample_filtered(
    signal: Pixels, rms: Pixels, mask: Plane, excluded: np.uint8, kernel: Pixels, every: int
) -> Pixels:
    """Return the filtered image in some rows, in standard deviations for white noise.

    Parameters
    ----------
    signal, rms, mask, excluded, kernel
        As for :func:`list_significant`.
    every : int
        One of so many rows is taken, and in it one of three pixels.

    Returns
    -------
    ndarray of float32, shape (n,)
        Of pixels that are not excluded. What is further below the background than noise reaches is taken for dead,
        and counts as background.
    """
    height, width = signal.shape
    half = kernel.size - 1
    ring = np.zeros((2 * half + 1, width), np.float32)
    padded, row = np.zeros(width + 2 * half, np.float32), np.empty(width, np.float32)
    sampled = np.empty(-(-height // every) * -(-width // 3), np.float32)
    alive = np.empty(width, np.float32)
    n = 0
    for y in range(0, height, every):
        for near in range(y - half, y + half + 1):
            if 0 <= near < height:
                for x in range(width):
                    dead = signal[near, x] < _DEAD * rms[near, x]
                    alive[x] = np.float32(0.0) if dead else signal[near, x]
                _smooth_along(alive, mask[near], excluded, kernel, padded, ring[near % ring.shape[0]])
            else:
                ring[near % ring.shape[0]] = 0.0
        _smooth_across(ring, y, kernel, row)
        _in_sigma(row, rms[y], mask[y], excluded, _white(kernel))
        for x in range(0, width, 3):
            if (mask[y, x] & excluded) == 0:
                sampled[n] = row[x]
                n += 1
    return sampled[:n]


@kernel
def _smooth_along(
    row: Pixels, mask: Plane, excluded: np.uint8, kernel: Pixels, padded: Pixels, out: Pixels
) -> None:
    half, width = kernel.size - 1, row.size
    middle = padded[half : half + width]
    for x in range(width):
        middle[x] = row[x] if (mask[x] & excluded) == 0 else np.float32(0.0)
    first = kernel[0]
    for x in range(width):
        out[x] = first * middle[x]
    # Three pairs at a time: fewer ways to memory and back.
    for t in range(1, half + 1, 3):
        a, b, c = _three(kernel, t)
        left_a, right_a = padded[half - t : half - t + width], padded[half + t : half + t + width]
        u = min(t + 1, half)
        left_b, right_b = padded[half - u : half - u + width], padded[half + u : half + u + width]
        v = min(t + 2, half)
        left_c, right_c = padded[half - v : half - v + width], padded[half + v : half + v + width]
        for x in range(width):
            out[x] += (
                a * (left_a[x] + right_a[x]) + b * (left_b[x] + right_b[x]) + c * (left_c[x] + right_c[x])
            )


@kernel
def _three(kernel: Pixels, t: int) -> tuple[np.float32, np.float32, np.float32]:
    """Return three weights of the kernel, 0 beyond its end."""
    none = np.float32(0.0)
    b = kernel[t + 1] if t + 1 < kernel.size else none
    c = kernel[t + 2] if t + 2 < kernel.size else none
    return kernel[t], b, c


@kernel
def _smooth_across(ring: Pixels, y: int, kernel: Pixels, row: Pixels) -> None:
    half, size, width = kernel.size - 1, ring.shape[0], ring.shape[1]
    middle, first = ring[y % size], kernel[0]
    for x in range(width):
        row[x] = first * middle[x]
    for t in range(1, half + 1, 3):
        a, b, c = _three(kernel, t)
        u, v = min(t + 1, half), min(t + 2, half)
        left_a, right_a = ring[(y - t) % size], ring[(y + t) % size]
        left_b, right_b = ring[(y - u) % size], ring[(y + u) % size]
        left_c, right_c = ring[(y - v) % size], ring[(y + v) % size]
        for x in range(width):
            row[x] += (
                a * (left_a[x] + right_a[x]) + b * (left_b[x] + right_b[x]) + c * (left_c[x] + right_c[x])
            )


@kernel
def _in_sigma(row: Pixels, rms: Pixels, mask: Plane, excluded: np.uint8, scale: np.float32) -> None:
    none, most = np.float32(0.0), _MOST
    for x in range(rms.size):
        usable = ((mask[x] & excluded) == 0) & (rms[x] > none)
        ratio = scale * row[x] / rms[x] if usable else none
        row[x] = ratio if ratio < most else most


@kernel
def _list_row(
    row: Pixels,
    signal: Pixels,
    least: np.float32,
    y: int,
    above: Plane,
    numbers: Places,
    listed: Significant,
    n: int,
) -> int:
    """Add the pixels of a row to the list; `above` is scratch of whole eights of pixels."""
    place, value, light, _ = listed
    width = row.size
    for x in range(width):
        above[x] = row[x] > least
    eights = above.view(np.uint64)
    for block in range(eights.size):
        if eights[block] == 0:
            continue
        if n + 8 > place.size:
            room = place.size - n
            for x in range(8 * block, 8 * block + 8):
                room -= above[x]
            if room < 0:
                return -1
        for x in range(8 * block, min(8 * block + 8, width)):
            if above[x] != 0:
                place[n], value[n], light[n] = y * width + x, row[x], signal[x]
                numbers[x] = n
                n += 1
    return n


@kernel
def _climb(
    rows: Pixels, numbers: Places, y: int, place: Places, uphill: Places, start: int, stop: int
) -> None:
    """Find the highest neighbour of the listed pixels of a row, once the next row is filtered."""
    width = numbers.shape[1]
    for k in range(start, stop):
        x = place[k] - y * width
        best, best_y, best_x = np.float32(-1.0), 0, 0
        for step in range(-1, 2):
            near = rows[(y + step) % 3]
            for column in range(x, x + 3):
                if near[column] > best:
                    best, best_y, best_x = near[column], (y + step) % 3, column - 1
        uphill[k] = numbers[best_y, best_x]

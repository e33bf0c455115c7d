"""Kernels of the simultaneous fit of all stars of a frame; :mod:`skylake.image.psffit` puts them in order.

Stamps are those of :mod:`skylake.image.kernels.shapes`, each around the pixel (column, row) of its star. ``good`` is 1
for pixels that take part and 0 for the others.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from skylake.image.kernels.shapes import STEP, Single, draw, grid

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_ZERO = np.float32(0.0)


@numba.njit(cache=True, nogil=True)
def _cut_inside(
    image: npt.NDArray[np.generic], column: int, row: int, half: int, wide: int, out: Single
) -> None:
    """Copy the pixels under a stamp that lies inside; unsigned numbers spare a check of each index."""
    side = 2 * half + 1
    flat = image.reshape(-1)
    start = (row - half) * image.shape[1] + column - half
    count = np.uintp(wide)
    for line in range(side):
        source, target = np.uintp(start + line * image.shape[1]), np.uintp(line * side)
        for place in range(count):
            out[target + place] = flat[source + place]


@numba.njit(cache=True, nogil=True)
def cut(image: npt.NDArray[np.generic], column: int, row: int, half: int, out: Single) -> None:
    """Copy the pixels under a stamp; those beyond the edge of the image stay as they are.

    Each row is copied some pixels too far, so that it takes whole steps of the processor; the next one goes over them,
    and behind the last one is padding, which holds anything then.
    """
    side = 2 * half + 1
    height, width = image.shape
    left, top = column - half, row - half
    wide = -(-side // STEP) * STEP
    if left >= 0 and left + wide <= width and top >= 0 and top + side <= height:
        _cut_inside(image, column, row, half, wide, out)
        return
    first, last = max(0, -left), min(side, width - left)
    for line in range(max(0, -top), min(side, height - top)):
        source = image[top + line, left + first : left + last]
        target = out[line * side + first : line * side + last]
        for place in range(len(source)):
            target[place] = source[place]


@numba.njit(cache=True, nogil=True)
def crosses(column: int, row: int, half: int, shape: tuple[int, int]) -> bool:
    """Tell whether a stamp reaches beyond the edge of the image."""
    return column < half or row < half or column + half >= shape[1] or row + half >= shape[0]


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _sums(stamp: Single, light: Single, use: Single) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    product, square, total, count = _ZERO, _ZERO, _ZERO, _ZERO
    for k in range(len(stamp)):
        part = stamp[k] * use[k]
        product += part * light[k]
        square += part * part
        total += part
        count += use[k]
    return product, square, total, count


@numba.njit(cache=True, nogil=True)
def project(
    stamps: Single, half: int, columns: Places, rows: Places, image: Single, good: Bytes, clean: bool
) -> tuple[Doubles, Doubles, Doubles, Places]:
    """Return of each star the sums of stamp x image, stamp^2 and stamp over good pixels, and their number.

    `clean` tells that all pixels of the image are good.
    """
    n = len(columns)
    products, squares, sums = np.zeros(n), np.zeros(n), np.zeros(n)
    counts = np.zeros(n, np.int64)
    light, use = np.zeros(stamps.shape[1], np.float32), np.zeros(stamps.shape[1], np.float32)
    whole = np.zeros(stamps.shape[1], np.float32)
    whole[: (2 * half + 1) ** 2] = np.float32(1.0)
    for star in range(n):
        edge = crosses(columns[star], rows[star], half, image.shape)
        if edge:
            light[:] = _ZERO
            use[:] = _ZERO
        cut(image, columns[star], rows[star], half, light)
        if clean and not edge:
            products[star], squares[star], sums[star], count = _sums(stamps[star], light, whole)
            counts[star] = np.int64(count)
            continue
        cut(good, columns[star], rows[star], half, use)
        products[star], squares[star], sums[star], count = _sums(stamps[star], light, use)
        counts[star] = np.int64(count)
    return products, squares, sums, counts


@numba.njit(cache=True, nogil=True)
def _near(i: int, j: int, columns: Places, rows: Places, reach: int) -> bool:
    return bool(abs(columns[i] - columns[j]) <= reach and abs(rows[i] - rows[j]) <= reach)


@numba.njit(cache=True, nogil=True)
def count_pairs(columns: Places, rows: Places, starts: Places, across: int, cells: Places, reach: int) -> int:
    """Return how many pairs of stars, sorted by cell, are no farther apart than `reach` in column and row.

    Cell c holds the stars from ``starts[c]`` to ``starts[c + 1]``; there are `across` cells in a row of cells, with
    an empty one at each edge.
    """
    count = 0
    for i in range(len(columns)):
        for j in range(i + 1, starts[cells[i] + 2]):
            count += _near(i, j, columns, rows, reach)
        below = cells[i] + across
        for j in range(starts[below - 1], starts[below + 2]):
            count += _near(i, j, columns, rows, reach)
    return count


@numba.njit(cache=True, nogil=True)
def list_pairs(
    columns: Places, rows: Places, starts: Places, across: int, cells: Places, reach: int, n_pairs: int
) -> tuple[Places, Places]:
    """Return the pairs that :func:`count_pairs` counts."""
    first, second = np.empty(n_pairs, np.int64), np.empty(n_pairs, np.int64)
    count = 0
    for i in range(len(columns)):
        below = cells[i] + across
        for start, end in ((i + 1, starts[cells[i] + 2]), (starts[below - 1], starts[below + 2])):
            for j in range(start, end):
                if _near(i, j, columns, rows, reach):
                    first[count], second[count] = i, j
                    count += 1
    return first, second


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def overlaps(
    first: Places, second: Places, stamps: Single, half: int, columns: Places, rows: Places, good: Bytes
) -> Doubles:
    """Return the sums of the products of the stamps of pairs of stars over good pixels."""
    side = 2 * half + 1
    height, width = good.shape
    found = np.zeros(len(first))
    for pair in range(len(first)):
        i, j = first[pair], second[pair]
        left = max(columns[i], columns[j]) - half
        start, end = max(left, 0), min(min(columns[i], columns[j]) + half + 1, width)
        top = max(max(rows[i], rows[j]) - half, 0)
        bottom = min(min(rows[i], rows[j]) + half + 1, height)
        length = end - start
        if length <= 0:
            continue
        for y in range(top, bottom):
            one = (y - rows[i] + half) * side + start - columns[i] + half
            two = (y - rows[j] + half) * side + start - columns[j] + half
            here, there = stamps[i, one : one + length], stamps[j, two : two + length]
            use = good[y, start:end]
            total = _ZERO
            for k in range(length):
                total += here[k] * there[k] * np.float32(use[k])
            found[pair] += total
    return found


@numba.njit(cache=True, nogil=True)
def conjugate_gradients(
    diagonal: Doubles, first: Places, second: Places, values: Doubles, right: Doubles, start: Doubles,
    tolerance: float, most: int,
) -> tuple[Doubles, int]:  # fmt: skip
    """Solve a symmetric sparse system, preconditioned by its diagonal (Hestenes & Stiefel 1952).

    Returns
    -------
    solution : ndarray
    steps : int
        Steps that were taken; `most` where it did not converge.
    """
    n = len(diagonal)
    solution = start.copy()
    left = right - diagonal * solution
    for pair in range(len(first)):
        left[first[pair]] -= values[pair] * solution[second[pair]]
        left[second[pair]] -= values[pair] * solution[first[pair]]
    towards = left / diagonal
    direction = towards.copy()
    power = np.dot(left, towards)
    enough = tolerance * tolerance * np.dot(right, right / diagonal)
    image = np.empty(n)
    for step in range(most):
        if power <= enough:
            return solution, step
        for k in range(n):
            image[k] = diagonal[k] * direction[k]
        for pair in range(len(first)):
            image[first[pair]] += values[pair] * direction[second[pair]]
            image[second[pair]] += values[pair] * direction[first[pair]]
        length = power / np.dot(direction, image)
        before, power = power, 0.0
        for k in range(n):
            solution[k] += length * direction[k]
            left[k] -= length * image[k]
            towards[k] = left[k] / diagonal[k]
            power += left[k] * towards[k]
        ratio = power / before
        for k in range(n):
            direction[k] = towards[k] + ratio * direction[k]
    return solution, most


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def subtract(image: Single, stamps: Single, half: int, columns: Places, rows: Places, flux: Single) -> None:
    """Subtract stars from an image, as far as their stamps reach."""
    side = 2 * half + 1
    height, width = image.shape
    for star in range(len(columns)):
        left = columns[star] - half
        first, last = max(0, -left), min(side, width - left)
        amount = flux[star]
        for row in range(side):
            y = rows[star] - half + row
            if y < 0 or y >= height or first >= last:
                continue
            here = stamps[star, row * side + first : row * side + last]
            line = image[y, left + first : left + last]
            for k in range(last - first):
                line[k] -= amount * here[k]


@numba.njit(cache=True, nogil=True)
def subtract_wings(
    image: Single, half: int, core: int, columns: Places, rows: Places, dx: Single, dy: Single, inverse: Single,
    coefficients: Single, flux: Single,
) -> None:  # fmt: skip
    """Subtract stars from an image outside the square of half size `core` and inside that of `half`."""
    side = 2 * half + 1
    height, width = image.shape
    across, down = grid(half)
    stamp, work = np.empty(len(across), np.float32), np.empty((3, len(across)), np.float32)
    for star in range(len(columns)):
        draw(stamp, work, across, down, dx[star], dy[star], inverse, coefficients[star])
        for row in range(side):
            y = rows[star] - half + row
            if y < 0 or y >= height:
                continue
            for column in range(side):
                x = columns[star] - half + column
                outside = abs(row - half) > core or abs(column - half) > core
                if outside and 0 <= x < width:
                    image[y, x] -= flux[star] * stamp[row * side + column]


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
def _rest(
    stamp: Single,
    light: Single,
    left: Single,
    use: Single,
    variance: np.float32,
    sky: np.float32,
    gain: np.float32,
) -> tuple[np.float32, np.float32]:
    noise, chi2 = _ZERO, _ZERO
    for k in range(len(stamp)):
        photons = max(light[k] - left[k], _ZERO) * gain
        rest = left[k] - sky
        noise += use[k] * stamp[k] * stamp[k] * photons
        chi2 += use[k] * rest * rest / (variance + photons)
    return noise, chi2


@numba.njit(cache=True, nogil=True)
def spread(
    stamps: Single, half: int, columns: Places, rows: Places, signal: Single, left: Single, good: Bytes,
    clean: bool, rms: Single, sky: Single, gain: float,
) -> tuple[Doubles, Doubles]:  # fmt: skip
    """Return of each star the sum of stamp^2 x photon noise, and the chi-square of the residuals of its pixels.

    `left` is what is left of the signal when all stars are subtracted; the light that was subtracted has the photon
    noise.
    """
    n = len(columns)
    noise, chi2 = np.zeros(n), np.zeros(n)
    light, rest = np.zeros(stamps.shape[1], np.float32), np.zeros(stamps.shape[1], np.float32)
    use, inverse = np.zeros(stamps.shape[1], np.float32), np.float32(1.0 / gain)
    whole = np.zeros(stamps.shape[1], np.float32)
    whole[: (2 * half + 1) ** 2] = np.float32(1.0)
    for star in range(n):
        edge = crosses(columns[star], rows[star], half, signal.shape)
        if edge:
            use[:] = _ZERO
        cut(signal, columns[star], rows[star], half, light)
        cut(left, columns[star], rows[star], half, rest)
        variance = rms[star] * rms[star]
        if clean and not edge:
            noise[star], chi2[star] = _rest(stamps[star], light, rest, whole, variance, sky[star], inverse)
            continue
        cut(good, columns[star], rows[star], half, use)
        noise[star], chi2[star] = _rest(stamps[star], light, rest, use, variance, sky[star], inverse)
    return noise, chi2


@numba.njit(cache=True, nogil=True)
def block_means(
    image: Single, good: Bytes, size: int, step: int, noise: float, clip: float
) -> tuple[Doubles, Places]:
    """Return the mean of every `step`-th good pixel of square blocks, and their number.

    Pixels farther than `clip` times the noise from zero, then from the mean, take no part.
    """
    height, width = image.shape
    down, across = max(1, round(height / size)), max(1, round(width / size))
    means, counts = np.zeros((down, across)), np.zeros((down, across), np.int64)
    for i in range(down):
        top, bottom = i * height // down, (i + 1) * height // down
        for j in range(across):
            start, end = j * width // across, (j + 1) * width // across
            for _ in range(2):
                total, count = 0.0, 0
                for y in range(top, bottom, step):
                    for x in range(start, end, step):
                        value = image[y, x]
                        if good[y, x] and abs(value - means[i, j]) <= clip * noise:
                            total += value
                            count += 1
                counts[i, j] = count
                if count:
                    means[i, j] = total / count
    return means, counts

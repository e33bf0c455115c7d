"""Kernels that draw stars, compare them with an image and subtract them.

The order of the steps is that of :mod:`skylake.image.psf.psf_fit`. Stamps are those of
:mod:`skylake.image.psf.psf_kernels`, each around the pixel (column, row) of its star. ``good`` is 1 for pixels that
take part and 0 for the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.psf.psf_kernels import Single, draw, grid

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_ZERO = np.float32(0.0)
#: Pixels of a row that come from memory together, and rows that are asked for together.
_LINE = 16
_BAND = 12


class PlacedStars(NamedTuple):
    """Where n stars are, and what they look like.

    Attributes
    ----------
    columns, rows : ndarray of int, shape (n,)
        The pixel in which each star is.
    dx, dy : ndarray of float32, shape (n,)
        Its place from the middle of that pixel.
    coefficients : ndarray of float32, shape (n, 26)
    inverse : ndarray of float32, shape (2, 2)
        As :func:`~skylake.image.psf.psf_kernels.draw` takes them.
    """

    columns: Places
    rows: Places
    dx: Single
    dy: Single
    coefficients: Single
    inverse: Single

    def taken(self, which: npt.NDArray[np.intp]) -> PlacedStars:
        """Return some of the stars."""
        return PlacedStars(
            self.columns[which],
            self.rows[which],
            self.dx[which],
            self.dy[which],
            self.coefficients[which],
            self.inverse,
        )


class Stamps(NamedTuple):
    """Stars of flux 1 on squares of 2 `half` + 1 pixels, in `values` of shape (n, padded size)."""

    columns: Places
    rows: Places
    values: Single
    half: int


class SubtractedImage(NamedTuple):
    """An image before and after its stars are subtracted.

    Attributes
    ----------
    signal, left : ndarray of float32, shape (height, width)
        With the stars, and without them.
    good : ndarray of uint8, shape (height, width)
        1 for pixels that take part.
    clean : bool
        Whether all pixels are good.
    gain : float
        Electrons per ADU.
    plane : ndarray of float32
        Variances of pixels, to be multiplied by `scale`; or empty, for the photons of what was subtracted.
    scale : float
    """

    signal: Single
    left: Single
    good: Bytes
    clean: bool
    gain: float
    plane: Single
    scale: float


@kernel
def cut(image: npt.NDArray[np.generic], column: int, row: int, half: int, out: Single) -> None:
    """Copy the pixels under a stamp; those beyond the edge of the image stay as they are."""
    side, left, top = 2 * half + 1, column - half, row - half
    first, last = max(0, -left), min(side, image.shape[1] - left)
    for line in range(max(0, -top), min(side, image.shape[0] - top)):
        y, start = np.uint64(top + line), line * side
        for place in range(first, last):
            out[np.uint64(start + place)] = image[y, np.uint64(left + place)]


@kernel
def read_ahead(image: Single, done: int, row: int, sink: Single) -> int:
    """Bring the next rows of an image near the processor when a stamp ends in one beyond `done`; return the last.

    Memory is several times faster in its own order than in that of stars. What is read is left in `sink`, or the
    compiler would not read it.
    """
    if row < done:
        return done
    height, width = image.shape
    total = _ZERO
    for y in range(max(done, row - 2 * _BAND), min(row + _BAND, height)):
        for x in range(0, width, _LINE):
            total += image[np.uint64(y), np.uint64(x)]
    sink[0] = total
    return row + _BAND


@kernel
def copy_ahead(image: Single, copy: Single, done: int, row: int) -> int:
    """Copy the next rows of an image when a stamp ends in one beyond `done`; return the last.

    It brings them near the processor as :func:`read_ahead` does, and to copy the image takes no look of its own at it.
    """
    if row < done:
        return done
    height, width = image.shape
    end = max(done, min(row + _BAND, height))
    for y in range(done, end):
        for x in range(width):
            copy[np.uint64(y), np.uint64(x)] = image[np.uint64(y), np.uint64(x)]
    return end


@kernel
def crosses(column: int, row: int, half: int, shape: tuple[int, int]) -> bool:
    """Return whether a stamp reaches beyond the edge of the image."""
    return column < half or row < half or column + half >= shape[1] or row + half >= shape[0]


@kernel
def misses(good: Bytes, column: int, row: int, half: int) -> bool:
    """Return whether a stamp that lies within the image has a pixel that is not good."""
    for y in range(row - half, row + half + 1):
        line, bits = good[y, column - half : column + half + 1], np.uint8(1)
        for x in range(line.size):
            bits = np.uint8(bits & line[x])
        if bits == 0:
            return True
    return False


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _sums(stamp: Single, light: Single, use: Single) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    product, square, total, count = _ZERO, _ZERO, _ZERO, _ZERO
    for k in range(len(stamp)):
        part = stamp[k] * use[k]
        product += part * light[k]
        square += part * part
        total += part
        count += use[k]
    return product, square, total, count


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _product(stamp: Single, light: Single) -> np.float32:
    product = _ZERO
    for k in range(len(stamp)):
        product += stamp[k] * light[k]
    return product


@kernel
def _draw_star(stamp: Single, across: Single, down: Single, stars: PlacedStars, star: int) -> None:
    draw(stamp, across, down, stars.dx[star], stars.dy[star], stars.inverse, stars.coefficients[star])


@kernel
def draw_and_project(
    stars: PlacedStars, half: int, image: Single, good: Bytes, clean: bool, copy: Single
) -> tuple[Single, Doubles, Doubles, Doubles, Places]:
    """Draw stars of flux 1, and return their stamps and what :func:`project` needs of the image below them.

    `clean` says that all pixels of the image are good. Stamps are 0 beyond their last pixel. `copy` is set to the
    image.

    Returns
    -------
    stamps : ndarray of float32, shape (n, padded size)
    products, squares, sums : ndarray, shape (n,)
        Sums of stamp x image, stamp^2 and stamp over good pixels.
    counts : ndarray of int, shape (n,)
        Good pixels.
    """
    columns, rows = stars.columns, stars.rows
    n = len(columns)
    across, down = grid(half)
    size, pixels = len(across), (2 * half + 1) ** 2
    stamps = np.empty((n, size), np.float32)
    products, squares, sums = np.zeros(n), np.zeros(n), np.zeros(n)
    counts = np.zeros(n, np.int64)
    light, use, whole = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    whole[:pixels] = np.float32(1.0)
    ahead = 0
    for star in range(n):
        ahead = copy_ahead(image, copy, ahead, rows[star] + half)
        _draw_star(stamps[star], across, down, stars, star)
        stamps[star, pixels:] = _ZERO
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
    copy_ahead(image, copy, ahead, image.shape[0])
    return stamps, products, squares, sums, counts


@kernel
def project(stamps: Stamps, image: Single, good: Bytes, clean: bool) -> Doubles:
    """Return of each star the sum of stamp x image over good pixels."""
    columns, rows, half, values = stamps.columns, stamps.rows, stamps.half, stamps.values
    n = len(columns)
    products, ahead, sink = np.zeros(n), 0, np.empty(1, np.float32)
    light, use = np.zeros(values.shape[1], np.float32), np.zeros(values.shape[1], np.float32)
    for star in range(n):
        ahead = read_ahead(image, ahead, rows[star] + half, sink)
        edge = crosses(columns[star], rows[star], half, image.shape)
        if edge:
            light[:] = _ZERO
            use[:] = _ZERO
        cut(image, columns[star], rows[star], half, light)
        if clean and not edge:
            products[star] = _product(values[star], light)
            continue
        cut(good, columns[star], rows[star], half, use)
        products[star] = _sums(values[star], light, use)[0]
    return products


@kernel(fastmath={"contract", "reassoc", "nsz"})
def subtract(image: Single, stamps: Stamps, flux: Single) -> None:
    """Subtract stars from an image, as far as their stamps reach."""
    columns, rows, half, values = stamps.columns, stamps.rows, stamps.half, stamps.values
    side = 2 * half + 1
    height, width = image.shape
    ahead, sink = 0, np.empty(1, np.float32)
    for star in range(len(columns)):
        ahead = read_ahead(image, ahead, rows[star] + half, sink)
        left, top, amount = columns[star] - half, rows[star] - half, flux[star]
        first, last = max(0, -left), min(side, width - left)
        for row in range(max(0, -top), min(side, height - top)):
            y, start = np.uint64(top + row), row * side
            for column in range(first, last):
                image[y, np.uint64(left + column)] -= (
                    amount * values[np.uint64(star), np.uint64(start + column)]
                )


@kernel
def subtract_wings(image: Single, half: int, core: int, stars: PlacedStars, flux: Single) -> None:
    """Subtract stars from an image outside the square of half size `core` and inside that of `half`."""
    columns, rows = stars.columns, stars.rows
    side, height, width = 2 * half + 1, image.shape[0], image.shape[1]
    across, down = grid(half)
    stamp = np.empty(len(across), np.float32)
    for star in range(len(columns)):
        _draw_star(stamp, across, down, stars, star)
        left, top, amount = columns[star] - half, rows[star] - half, flux[star]
        first, last = max(0, -left), min(side, width - left)
        for row in range(max(0, -top), min(side, height - top)):
            y, start = np.uint64(top + row), row * side
            inside = abs(row - half) <= core
            for column in range(first, min(half - core, last) if inside else last):
                image[y, np.uint64(left + column)] -= amount * stamp[np.uint64(start + column)]
            for column in range(max(half + core + 1, first) if inside else last, last):
                image[y, np.uint64(left + column)] -= amount * stamp[np.uint64(start + column)]


@kernel(fastmath={"contract", "reassoc", "nsz"})
def _add_line(
    image: Single,
    good: Bytes,
    clean: bool,
    row: int,
    start: int,
    end: int,
    middle: np.float32,
    reach: np.float32,
) -> tuple[np.float32, np.float32]:
    """Return the sum of the good values of a row within `reach` of a middle, and their number."""
    total, count, y = _ZERO, _ZERO, np.uint64(row)
    if clean:
        for x in range(start, end):
            value = image[y, np.uint64(x)]
            near = np.float32(abs(value - middle) <= reach)
            total += near * value
            count += near
    else:
        for x in range(start, end):
            value = image[y, np.uint64(x)]
            near = np.float32(abs(value - middle) <= reach) * np.float32(good[y, np.uint64(x)])
            total += near * value
            count += near
    return total, count


@kernel
def block_means(
    image: Single, good: Bytes, clean: bool, size: int, step: int, noise: float, clip: float
) -> tuple[Doubles, Places]:
    """Return the mean of the good pixels in every `step`-th row of square blocks, and their number.

    Pixels farther than `clip` times the noise from zero, then from the mean, take no part.
    """
    height, width = image.shape
    down, across = max(1, round(height / size)), max(1, round(width / size))
    means, counts = np.zeros((down, across)), np.zeros((down, across), np.int64)
    reach = np.float32(clip * noise)
    for i in range(down):
        for j in range(across):
            start, end = j * width // across, (j + 1) * width // across
            for _ in range(2):
                total, count, middle = 0.0, 0, np.float32(means[i, j])
                for y in range(i * height // down, (i + 1) * height // down, step):
                    more, number = _add_line(image, good, clean, y, start, end, middle, reach)
                    total += more
                    count += int(number)
                counts[i, j] = count
                if count:
                    means[i, j] = total / count
    return means, counts

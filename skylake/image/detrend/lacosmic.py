"""Piecewise search for cosmic rays with the Laplacian, to save memory.

What is found is what astroscrappy finds on the whole. From one pass over the image to the next only the pixels that
were hit change, so that they are remembered and nothing else, and later passes look only at what is near those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.frame import Image, Mask, Pixels
from skylake.core.reduction_settings import CosmicRays
from skylake.image.detrend.median_kernels import medians_of_five, medians_of_nine, medians_of_seven

#: Sides of the pieces of the first pass and of later ones.
_FIRST_PX, _LATER_PX = 256, 128
#: How far off the value of a pixel matters in one pass is 12: medians of the noise (3), the stars (3) and what these
#: stand on (4), and two times the neighbours of what was found. The rest is to spare.
_REACH_PX = 16
#: Side of the profile of stars, pixels.
_PROFILE_PX = 7
#: Variance, electrons squared, and fine structure, in units of the noise, are no less than this.
_LEAST_VARIANCE, _LEAST_STRUCTURE = 1e-5, 0.01
#: Half width of the square whose median takes the place of a pixel that was hit; at the border there is none.
_FILL_PX = 2
#: Pixels that are filled at a time.
_CHUNK = 20_000
#: The widest median of the method, in pixels; on images that are narrower it writes beyond the end of its memory.
_LEAST_SIDE = 7
_MEDIANS = {5: medians_of_five, 7: medians_of_seven, 9: medians_of_nine}

Places = npt.NDArray[np.int64]
Piece = tuple[slice, slice]


class _FilledPixels(NamedTuple):
    """Pixels that were hit, in the order of rows, and what stands in their place, ADU and ADU^2."""

    y: Places
    x: Places
    pixels: Pixels
    variance: Pixels | None

    def within(self, window: Piece) -> tuple[Piece, npt.NDArray[np.intp]]:
        """Return the places of those in a window, counted from its corner, and their numbers."""
        rows, columns = window
        first, last = np.searchsorted(self.y, (rows.start, rows.stop))
        column = self.x[first:last]
        number = first + np.flatnonzero((column >= columns.start) & (column < columns.stop))
        return (self.y[number] - rows.start, self.x[number] - columns.start), number


def search(
    image: Image, left_out: Mask, params: CosmicRays, gain: float, read_noise: float, excess: float
) -> Mask:
    """Return the pixels that the Laplacian of an image shows to be hit.

    Parameters
    ----------
    image : Image
        In ADU, finite everywhere. One of fewer than seven rows or columns has no hits.
    left_out : ndarray of bool, shape (height, width)
        Pixels that are no hits, whatever they hold; neither are their neighbours.
    params : CosmicRays
    gain, read_noise : float
        Electrons per ADU, and electrons.
    excess : float
        Variance of a pixel in excess of the stated one, electrons squared.
    """
    shape = (image.pixels.shape[0], image.pixels.shape[1])
    hits = np.zeros(shape, bool)
    if min(shape) < _LEAST_SIDE:
        return hits
    detector = _CosmicRaySearch(image, left_out, params, gain, read_noise, excess)
    filled = detector.fill(hits)
    pieces = list(_pieces(shape, _FIRST_PX))
    for _ in range(params.iterations):
        for piece in pieces:
            hits[piece] |= detector.hits_in(piece, filled)
        before, filled = filled, detector.fill(hits)
        y, x = _changed(before, filled, shape[1])
        if y.size == 0:
            break
        pieces = _near(y, x, shape)
    hits[left_out] = False
    return hits


class _CosmicRaySearch:
    """The search on pieces of one image.

    It is put together from the filters of astroscrappy, since its ``detect_cosmics`` (1.3.0) never gives back some of
    its memory, as much as a mask in each call.
    """

    def __init__(
        self, image: Image, left_out: Mask, params: CosmicRays, gain: float, read_noise: float, excess: float
    ) -> None:
        from astroscrappy import gausskernel
        from astroscrappy.utils import dilate3

        self._image, self._params, self._gain, self._excess = image, params, gain, excess
        self._read_variance = np.float32(np.sqrt(read_noise**2 + excess)) ** 2
        self._masked: Mask = dilate3(left_out.view(np.uint8))
        width = params.psf_fwhm_px
        self._profile = (
            None if width is None else np.ascontiguousarray(gausskernel(width, _PROFILE_PX)[::-1, ::-1])
        )
        self._levels: tuple[float, float] | None = None

    def hits_in(self, piece: Piece, filled: _FilledPixels) -> Mask:
        """Return which pixels of a piece are hit, in one pass over the image with what was filled."""
        image = self._image
        window, inner = _with_margin(piece, image.pixels.shape)
        masked = self._masked[window]
        if masked.all():
            return np.zeros(image.pixels[piece].shape, bool)
        place, number = filled.within(window)
        pixels = image.pixels[window] * np.float32(self._gain)
        pixels[place] = filled.pixels[number] * np.float32(self._gain)
        if image.variance is None or filled.variance is None:
            variance = pixels + self._read_variance
        else:
            variance = self._electron_variance(image.variance[window])
            variance[place] = self._electron_variance(filled.variance[number])
        return self._hits(pixels, variance, ~masked)[inner]

    def _hits(self, pixels: Pixels, variance: Pixels, good: Mask) -> Mask:
        """Return what is sharper than stars, in electrons: its Laplacian stands out from noise and fine structure."""
        from astroscrappy.utils import dilate3, laplaceconvolve, rebin, subsample

        params = self._params
        noise = np.sqrt(np.maximum(separable_medians(variance, 7), np.float32(_LEAST_VARIANCE)))
        # Of each pixel four are made, so that the ones beside a peak do not take from it.
        sharp = rebin(np.maximum(laplaceconvolve(subsample(pixels)), np.float32(0.0)))
        sharp /= 2.0 * noise
        sharp -= separable_medians(sharp, 7)
        hits = (sharp > params.sigma) & good
        if not hits.any():
            return np.asarray(hits)
        hits &= sharp / self._fine_structure(pixels, noise) > params.object_limit
        for limit in (params.sigma, params.neighbour_fraction * params.sigma):
            hits = dilate3(hits) & good & (sharp > np.float32(limit))
        return np.asarray(hits)

    def _fine_structure(self, pixels: Pixels, noise: Pixels) -> Pixels:
        """Return what stars give the image, in units of the noise."""
        from astroscrappy.utils import convolve

        if self._profile is None:
            stars = separable_medians(pixels, 5)
        else:
            stars = convolve(pixels / noise / noise, self._profile)
            stars = stars / convolve(1.0 / noise / noise, self._profile)
        above = (stars - separable_medians(stars, 9)) / noise
        return np.asarray(np.maximum(above, np.float32(_LEAST_STRUCTURE)))

    def _electron_variance(self, variance: Pixels) -> Pixels:
        """Return variances in electrons squared, with the excess."""
        variance_e = variance * np.float32(self._gain * self._gain)
        return np.asarray(np.maximum(variance_e + np.float32(self._excess), np.float32(1e-6)))

    def fill(self, hits: Mask) -> _FilledPixels:
        """Return the medians of the good pixels about those that were hit."""
        image, (y, x) = self._image, np.nonzero(hits)
        pixels = image.pixels[y, x]
        variance = None if image.variance is None else image.variance[y, x]
        height, width = image.pixels.shape
        within = (y >= _FILL_PX) & (y < height - _FILL_PX) & (x >= _FILL_PX) & (x < width - _FILL_PX)
        some = np.flatnonzero(within)
        dy, dx = (offsets.ravel() for offsets in np.mgrid[-_FILL_PX : _FILL_PX + 1, -_FILL_PX : _FILL_PX + 1])
        for start in range(0, some.size, _CHUNK):
            chosen = some[start : start + _CHUNK]
            around = y[chosen, None] + dy, x[chosen, None] + dx
            bad = self._masked[around] | hits[around]
            pixels[chosen] = self._medians(image.pixels[around], bad, 0)
            if variance is not None and image.variance is not None:
                variance[chosen] = self._medians(image.variance[around], bad, 1)
        return _FilledPixels(y, x, pixels, variance)

    def _medians(self, values: Pixels, bad: Mask, plane: int) -> Pixels:
        """Return the lower median of each row without what is bad, or that of the whole image where all is."""
        ordered, count = np.sort(np.where(bad, np.float32(np.inf), values), axis=1), (~bad).sum(axis=1)
        medians = np.take_along_axis(ordered, np.maximum(count - 1, 0)[:, None] // 2, axis=1)[:, 0]
        if not count.all():
            medians[count == 0] = self._level(plane)
        return np.asarray(medians)

    def _level(self, plane: int) -> float:
        """Return the lower median of the good pixels, or of their variance; it is hardly ever asked for."""
        if self._levels is None:
            good = ~self._masked
            planes = self._image.pixels, self._image.variance
            levels = (np.nan if values is None else _lower_median(values[good]) for values in planes)
            self._levels = next(levels), next(levels)
        return self._levels[plane]


def separable_medians(image: Pixels, width: int) -> Pixels:
    """Return the medians along rows, and of these along columns; pixels that are near the border stay as they are.

    The same as the filters of astroscrappy, ten times as fast.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        Finite, its rows one after the other.
    width : int
        Pixels in a row or column that a median is taken of: 5, 7 or 9.
    """
    along, near = _MEDIANS[width], width // 2
    of_rows, medians = np.empty_like(image), image.copy()
    # Rows that run into each other are wrong at their ends alone, which are given back.
    along(image.ravel(), 1, of_rows.ravel())
    along(of_rows.ravel(), image.shape[1], medians.ravel())
    medians[:, :near], medians[:, -near:] = image[:, :near], image[:, -near:]
    return medians


def _lower_median(values: Pixels) -> float:
    middle = (values.size - 1) // 2
    values.partition(middle)
    return float(values[middle])


def _changed(before: _FilledPixels, filled: _FilledPixels, width: int) -> tuple[Places, Places]:
    """Return the pixels whose value in the next pass is another than in the last."""
    y, x = filled.y, filled.x
    known = np.isin(y * width + x, before.y * width + before.x, assume_unique=True)
    changed = ~known
    changed[known] = before.pixels != filled.pixels[known]
    if before.variance is not None and filled.variance is not None:
        changed[known] |= before.variance != filled.variance[known]
    return y[changed], x[changed]


def _pieces(shape: tuple[int, int], side: int) -> Iterator[Piece]:
    """Yield the squares that make up an image."""
    for y in range(0, shape[0], side):
        for x in range(0, shape[1], side):
            yield slice(y, min(y + side, shape[0])), slice(x, min(x + side, shape[1]))


def _near(y: Places, x: Places, shape: tuple[int, int]) -> list[Piece]:
    """Return the squares of an image that some pixels matter to."""
    side = _LATER_PX
    near = np.zeros((-(-shape[0] // side), -(-shape[1] // side)), bool)
    for dy in (-_REACH_PX, _REACH_PX):
        for dx in (-_REACH_PX, _REACH_PX):
            row, column = np.clip(y + dy, 0, shape[0] - 1), np.clip(x + dx, 0, shape[1] - 1)
            near[row // side, column // side] = True
    return [piece for piece, is_near in zip(_pieces(shape, side), near.ravel(), strict=True) if is_near]


def _with_margin(piece: Piece, shape: Sequence[int]) -> tuple[Piece, Piece]:
    """Return a piece with what its pixels are judged by, and where in this it lies."""
    first = [max(0, span.start - _REACH_PX) for span in piece]
    last = [min(size, span.stop + _REACH_PX) for span, size in zip(piece, shape, strict=True)]
    rows, columns = (slice(start, end) for start, end in zip(first, last, strict=True))
    inner = [slice(span.start - start, span.stop - start) for span, start in zip(piece, first, strict=True)]
    return (rows, columns), (inner[0], inner[1])

"""The pixel tree of a HATS table: which HEALPix pixel holds which rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import (
    ARCSEC_PER_RADIAN,
    INDEX_ORDER,
    FloatArray,
    IntArray,
    healpix_centre,
    healpix_index,
    offset,
    unit_vectors,
)
from skylake.sky.match import pairs_within

Pixel = tuple[int, int]
"""Order and NESTED number."""

#: Directions in which the surroundings of a row are probed for neighbouring pixels.
_PROBES = 16
#: Rows that are probed together; memory for all their probes is some tens of megabytes.
_BLOCK = 8192
#: Side of a pixel of order 0.
_BASE_SIZE_DEG = 58.6
#: Largest distance from the centre of a pixel to a corner, times 2**order; the limit of fine pixels.
_BASE_REACH_DEG = 61.3
#: Pixels narrower than so many margins may slip between two probes.
_PROBED_MARGINS = 4.0
#: From this radius on a cone is most of the sky.
_WIDE_DEG = 90.0
#: Cells are so many margins wide; their shapes vary over the sky by less than a factor of two.
_CELL_MARGINS = 6.0
#: Cells of the ring around a pixel are at least so many margins wide, and at most so many orders finer than the pixel.
_RING_MARGINS = 3.0
_RING_DEPTH = 8
#: Cells that cover a box are divided until there are more than so many, or they have this order.
_BOX_CELLS = 2000
_FINEST_BOX = 18
#: Side of a cell of order 0, arcseconds, where it is narrowest.
_NARROWEST_ARCSEC = 140_000.0


def pixel_range(order: int, pixel: int) -> tuple[int, int]:
    """Return the half-open range of order-29 indices that a pixel covers."""
    shift = 2 * (INDEX_ORDER - order)
    return pixel << shift, (pixel + 1) << shift


@dataclass(frozen=True, slots=True)
class PixelTree:
    """A division of the whole sky into pixels of one or several orders.

    Attributes
    ----------
    pixels : tuple of (order, pixel)
        In the order of the sky's space-filling curve.
    starts : ndarray of int64
        First order-29 index of each.
    """

    pixels: tuple[Pixel, ...]
    starts: IntArray

    @classmethod
    def uniform(cls, order: int) -> PixelTree:
        """Return the division into all pixels of one order."""
        return cls.of((order, pixel) for pixel in range(12 * 4**order))

    @classmethod
    def of(cls, pixels: Iterable[Pixel]) -> PixelTree:
        """Return the tree of the given pixels.

        Raises
        ------
        ValueError
            If they overlap or leave a gap.
        """
        ordered = tuple(sorted(pixels, key=lambda pixel: pixel_range(*pixel)))
        ranges = [pixel_range(*one) for one in ordered]
        ends = [0, *(end for _, end in ranges)]
        if [start for start, _ in ranges] != ends[:-1] or ends[-1] != 12 << (2 * INDEX_ORDER):
            raise ValueError("the pixels of a tree must cover the sky once")
        return cls(ordered, np.array([start for start, _ in ranges], np.int64))

    @classmethod
    def completed(cls, pixels: Iterable[Pixel], order: int) -> PixelTree:
        """Return the tree of given pixels, with the rest of the sky in the largest others of at least an order.

        Raises
        ------
        ValueError
            If the given pixels overlap.
        """
        return _completed(tuple(sorted(pixels)), order)

    def assign(self, index: IntArray) -> npt.NDArray[np.intp]:
        """Return, for order-29 indices, the position in `pixels` of the pixel that holds each."""
        return np.asarray(np.searchsorted(self.starts, index, side="right") - 1)

    def margins(
        self, ra_deg: npt.NDArray[np.float64], dec_deg: npt.NDArray[np.float64], radius_arcsec: float
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return which rows lie within a radius of which pixels that are not their own.

        The surroundings are probed on a circle of twice the radius, so no corner of a pixel slips
        between two probes; some rows at up to twice the radius come along. Pixels that are not much wider
        than the radius are found by the distance of their centres, with rows at up to four times the radius.

        Returns
        -------
        rows, pixels : ndarray
            Indices of rows, and positions in `pixels`.
        """
        if len(ra_deg) == 0:
            nothing = np.zeros(0, np.intp)
            return nothing, nothing
        index = healpix_index(ra_deg, dec_deg)
        own = self.assign(index)
        near = np.flatnonzero(self._may_be_near_edge(index, own, radius_arcsec))
        distance = np.repeat([radius_arcsec / 3600.0, 2.0 * radius_arcsec / 3600.0], _PROBES)[:, None]
        angle = np.tile(np.arange(_PROBES) * 360.0 / _PROBES, 2)[:, None]
        pairs = [self._near_small_pixels(ra_deg, dec_deg, own, radius_arcsec)]
        for start in range(0, len(near), _BLOCK):
            rows = near[start : start + _BLOCK]
            ra, dec = offset(ra_deg[rows], dec_deg[rows], distance, angle)
            pixel = self.assign(healpix_index(ra.ravel(), dec.ravel())).reshape(ra.shape)
            probe, row = np.nonzero(pixel != own[rows])
            pairs.append(np.unique(np.column_stack([rows[row], pixel[probe, row]]), axis=0))
        unique = np.unique(np.concatenate(pairs), axis=0)
        return unique[:, 0], unique[:, 1]

    def _near_small_pixels(
        self,
        ra_deg: npt.NDArray[np.float64],
        dec_deg: npt.NDArray[np.float64],
        own: npt.NDArray[np.intp],
        radius_arcsec: float,
    ) -> npt.NDArray[np.intp]:
        """Return rows and those pixels, too small to be probed for, that may be within the radius; shape (n, 2)."""
        orders = np.array([order for order, _ in self.pixels], np.int64)
        pairs = [np.zeros((0, 2), np.intp)]
        vectors = unit_vectors(ra_deg, dec_deg)
        for order in np.unique(orders):
            if _BASE_SIZE_DEG * 3600.0 / 2**order >= _PROBED_MARGINS * radius_arcsec:
                continue
            pixels = np.flatnonzero(orders == order)
            centres = unit_vectors(*healpix_centre([self.pixels[place][1] for place in pixels], int(order)))
            reach = min(radius_arcsec + _BASE_REACH_DEG * 3600.0 / 2**order, np.pi * ARCSEC_PER_RADIAN)
            row, near, _ = pairs_within(vectors, centres, reach)
            other = pixels[near] != own[row]
            pairs.append(np.column_stack([row[other], pixels[near][other]]))
        return np.concatenate(pairs)

    def _may_be_near_edge(
        self, index: IntArray, own: npt.NDArray[np.intp], radius_arcsec: float
    ) -> npt.NDArray[np.bool_]:
        """Return which rows lie in the outermost cells of their pixel, cells being wider than the margin.

        The bits of a NESTED number alternate between the two coordinates in the pixel; a cell is
        outermost where one coordinate is all zeros or all ones.
        """
        cell_order = int(np.floor(np.log2(_BASE_SIZE_DEG / (_CELL_MARGINS * radius_arcsec / 3600.0))))
        orders = np.array([order for order, _ in self.pixels], np.int64)[own]
        depth = np.maximum(min(cell_order, INDEX_ORDER) - orders, 0)
        inside = (index >> (2 * (INDEX_ORDER - orders - depth))) & ((1 << (2 * depth)) - 1)
        edge = np.zeros(len(index), bool)
        for bits in (0x5555555555555555, 0xAAAAAAAAAAAAAAA):
            every = bits & ((1 << (2 * depth)) - 1)
            edge |= ((inside & every) == 0) | ((inside & every) == every)
        return edge


@lru_cache(maxsize=16)
def _completed(pixels: tuple[Pixel, ...], order: int) -> PixelTree:
    """Return a completed tree; every commit wants the one that the commit before it had."""
    whole = 12 << (2 * INDEX_ORDER)
    ordered = sorted((pixel_range(*pixel), pixel) for pixel in pixels)
    completed: list[Pixel] = []
    position = 0
    for (start, end), pixel in [*ordered, ((whole, whole), None)]:
        while position < start:
            position = _fill(completed, position, start, order)
        if position > start:
            raise ValueError(f"pixels overlap at order {pixel and pixel[0]}")
        if pixel is not None:
            completed.append(pixel)
        position = end
    return PixelTree.of(completed)


def _fill(pixels: list[Pixel], position: int, end: int, order: int) -> int:
    """Add the largest pixel that begins at a position and fits before an end; return where it ends."""
    for child_order in range(order, INDEX_ORDER + 1):
        size = 1 << (2 * (INDEX_ORDER - child_order))
        if position % size == 0 and position + size <= end:
            pixels.append((child_order, position // size))
            return position + size
    raise ValueError(f"no pixel begins at {position}")


def overlaps(pixel: Pixel, others: Iterable[Pixel]) -> bool:
    """Return whether a pixel overlaps one of others without being it."""
    start, end = pixel_range(*pixel)
    ranges = (pixel_range(*other) for other in others if other != pixel)
    return any(start < high and low < end for low, high in ranges)


def cone_ranges(ra_deg: float, dec_deg: float, radius_deg: float) -> IntArray:
    """Return ranges of order-29 indices, shape (n, 2), half open and sorted, that cover a cone."""
    import astropy.units as u
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix import nested

    if radius_deg >= _WIDE_DEG:
        # cdshealpix leaves cells out of cones between 140 and 180 degrees.
        return np.array([[0, 12 << (2 * INDEX_ORDER)]], np.int64)
    # Cells of about a quarter of the radius; finer ones prune little more and cost more.
    size = np.degrees(np.sqrt(4 * np.pi / 12)) / max(radius_deg / 4.0, 1e-7)
    order = int(np.clip(np.ceil(np.log2(size)), 0, 20))
    cells, orders, _ = nested.cone_search(
        Longitude(ra_deg % 360.0, u.deg), Latitude(dec_deg, u.deg), radius_deg * u.deg, order
    )
    return merge_ranges(_ranges_of_cells(cells, orders))


def box_ranges(west_deg: float, width_deg: float, south_deg: float, north_deg: float) -> IntArray:
    """Return ranges of order-29 indices, as :func:`cone_ranges` does, that cover a box from a western limit on."""
    order, cells = 0, np.arange(12, dtype=np.int64)
    while True:
        ra, dec = healpix_centre(cells, order)
        reach = _BASE_REACH_DEG / 2**order
        near = (dec >= south_deg - reach) & (dec <= north_deg + reach)
        # Near a pole the surroundings of a centre have every right ascension.
        sine = math.sin(math.radians(min(reach, 90.0))) / np.maximum(np.cos(np.radians(dec)), 1e-12)
        wide = np.where(np.abs(dec) + reach < 90.0, np.degrees(np.arcsin(np.minimum(sine, 1.0))), 180.0)
        cells = cells[near & ((ra - west_deg + wide) % 360.0 <= width_deg + 2.0 * wide)]
        if order == _FINEST_BOX or len(cells) > _BOX_CELLS:
            return merge_ranges(_ranges_of_cells(cells, order))
        order, cells = order + 1, (4 * cells[:, None] + np.arange(4)).ravel()


def grown_ranges(pixel: Pixel, radius_arcsec: float) -> IntArray:
    """Return ranges of order-29 indices, as :func:`cone_ranges` does, that cover a pixel and a margin around it.

    Rows farther away than the radius may come along: the margin is a ring of whole cells that are wider than it.
    """
    from cdshealpix import nested

    order, number = pixel
    finest = math.floor(math.log2(_BASE_SIZE_DEG * 3600.0 / (_RING_MARGINS * max(radius_arcsec, 1e-3))))
    depth = min(finest - order, _RING_DEPTH, INDEX_ORDER - order)
    if depth < 0:
        (ra,), (dec,) = healpix_centre([number], order)
        reach = _BASE_REACH_DEG / 2**order + radius_arcsec / 3600.0
        return cone_ranges(float(ra), float(dec), min(reach, 180.0))
    borders, corners = nested.external_neighbours(np.array([number]), order, depth)
    cells = np.concatenate([np.ravel(borders), np.ravel(corners)]).astype(np.int64)
    ring = _ranges_of_cells(cells[cells >= 0], np.int64(order + depth))
    return merge_ranges(np.concatenate([ring, [pixel_range(*pixel)]]))


def _ranges_of_cells(cells: npt.NDArray[Any], orders: Any) -> IntArray:
    shift = 2 * (INDEX_ORDER - np.asarray(orders).astype(np.int64))
    starts = cells.astype(np.int64) << shift
    return np.column_stack([starts, (cells.astype(np.int64) + 1) << shift])


def refined(pixels: Iterable[Pixel], others: Iterable[Pixel]) -> list[Pixel]:
    """Return pixels, each divided where pixels of another division lie in it; sorted by the space-filling curve.

    Raises
    ------
    ValueError
        If the others overlap.
    """
    tree = PixelTree.completed(others, 0)
    divided: list[Pixel] = []
    for pixel in sorted(pixels, key=lambda one: pixel_range(*one)):
        start, end = pixel_range(*pixel)
        first, last = tree.assign(np.array([start, end - 1]))
        divided += [pixel] if first == last else tree.pixels[first : last + 1]
    return divided


def merge_ranges(ranges: IntArray) -> IntArray:
    """Return sorted ranges with touching ones joined."""
    if len(ranges) == 0:
        return ranges
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    fresh = np.concatenate([[True], ranges[1:, 0] > np.maximum.accumulate(ranges[:, 1])[:-1]])
    starts = ranges[fresh, 0]
    ends = np.maximum.reduceat(ranges[:, 1], np.flatnonzero(fresh))
    return np.column_stack([starts, ends])


def ranges_around(ra_deg: FloatArray, dec_deg: FloatArray, margin_arcsec: float, finest: int) -> IntArray:
    """Return ranges of indices that cover all places within a margin of some positions.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray, shape (n,)
        A NaN is no position.
    margin_arcsec : float
    finest : int
        Order of the cells, if these are wider than the margin; fewer ranges come of a smaller one.

    Returns
    -------
    ndarray of int64, shape (m, 2)
        Half open, sorted, of order 29.
    """
    from cdshealpix import nested

    order = int(np.clip(np.floor(np.log2(_NARROWEST_ARCSEC / margin_arcsec)), 0, finest))
    shift = 2 * (INDEX_ORDER - order)
    known = np.isfinite(ra_deg) & np.isfinite(dec_deg)
    cells = np.unique(healpix_index(ra_deg[known], dec_deg[known]) >> shift)
    if not len(cells):
        return np.zeros((0, 2), np.int64)
    # A cell is wider than the margin, so what is within that of it lies in it or in one of its neighbours.
    near = np.asarray(nested.neighbours(cells.astype(np.uint64), order)).astype(np.int64)
    every = np.unique(near[near >= 0])
    return merge_ranges(np.column_stack([every << shift, (every + 1) << shift]))

"""Cosmic-ray detection with the Laplacian of the image (van Dokkum 2001, PASP 113, 1420).

On undersampled images the cores of stars are as sharp as cosmic rays. What the method finds at the very peak of
something that is wider than a cosmic ray and as symmetric as a star is given back.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from skylake.core.flags import PixelFlag
from skylake.core.frame import Image, Mask, Pixels
from skylake.core.reduction_settings import CosmicRays
from skylake.image.detrend.bayer_planes import colour_planes
from skylake.image.detrend.lacosmic import search

#: Masked pixels are left out of the search; a saturated star has no fine structure by which to recognise it.
_LEFT_OUT = (
    PixelFlag.INVALID
    | PixelFlag.HOT
    | PixelFlag.DEAD
    | PixelFlag.UNSTABLE
    | PixelFlag.SATURATED
    | PixelFlag.NEAR_SATURATED
)
Places = npt.NDArray[np.int64]

#: A star has at least this part of its peak in the faintest of the four neighbours, and this in their mean.
_LEAST_NEIGHBOUR, _MEAN_NEIGHBOUR = 0.03, 0.12
#: Groups of more pixels than this are tracks, which are no stars.
_LARGEST_CORE = 40
#: Half width of the window whose median is the sky about a group.
_SKY_PX = 8
#: Side of the squares in which noise is measured, and of how many rows one is read for it.
_SQUARE_PX, _STRIDE = 64, 4


def find_cosmic_rays(image: Image, params: CosmicRays, gain: float, read_noise: float) -> Mask:
    """Return the pixels that cosmic rays have hit.

    Parameters
    ----------
    image : Image
        In ADU, with the sky still in it unless it carries a variance; finite everywhere. One of fewer than seven rows
        or columns has nothing to distinguish a hit from a star by, and none is found.
    params : CosmicRays
    gain, read_noise : float
        Electrons per ADU, and electrons. A header may be wrong by much, and where the noise is larger than stated
        all of it would pass for cosmic rays: what the measured noise exceeds the stated one by is added, and what it
        lacks is taken off the read noise.
    """
    left_out = image.having(_LEFT_OUT)
    read_noise = max(read_noise, 1e-3)
    excess = max(_excess(image, gain, read_noise, left_out), 1e-6 - read_noise**2)
    hits = search(image, left_out, params, gain, read_noise, excess)
    _spare_cores(image.pixels, hits)
    return hits


def find_in_bayer(image: Image, params: CosmicRays, gain: float, read_noise: float) -> Mask:
    """Return the pixels that cosmic rays have hit in a Bayer mosaic, whose cells are of two by two pixels.

    Each of the four planes is searched alone: the steps from one colour to the next are sharper than any cosmic ray,
    and would pass for noise. Lengths, as that of the width of stars, are in pixels of a plane.

    Parameters
    ----------
    image, params, gain, read_noise
        As for :func:`find_cosmic_rays`.
    """
    hits = np.zeros(image.pixels.shape, bool)
    for here in colour_planes(is_bayer=True):
        variance = None if image.variance is None else np.ascontiguousarray(image.variance[here])
        plane = replace(
            image,
            pixels=np.ascontiguousarray(image.pixels[here]),
            mask=np.ascontiguousarray(image.mask[here]),
            variance=variance,
        )
        hits[here] = find_cosmic_rays(plane, params, gain, read_noise)
    return hits


def _excess(image: Image, gain: float, read_noise: float, left_out: Mask) -> float:
    """Return what the variance of pixels is above the stated one, in the middle of squares of the image.

    In electrons squared. It is measured by second differences along rows, which gradients and wide stars do not get
    into.
    """
    side, excesses = _SQUARE_PX, []
    for y in range(0, image.pixels.shape[0], side):
        rows = slice(y, y + side, _STRIDE)
        lines, hidden = image.pixels[rows] * np.float32(gain), left_out[rows]
        middle = lines[:, 1:-1]
        if image.variance is None:
            stated = middle + np.float32(read_noise**2)
        else:
            stated = image.variance[rows, 1:-1] * np.float32(gain * gain)
        differences = np.abs(2.0 * middle - lines[:, :-2] - lines[:, 2:])
        seen = ~(hidden[:, 1:-1] | hidden[:, :-2] | hidden[:, 2:])
        for x in range(0, middle.shape[1], side):
            columns = slice(x, x + side)
            chosen = seen[:, columns]
            if np.count_nonzero(chosen) >= side:
                noise = 1.4826 * float(np.median(differences[:, columns][chosen])) / np.sqrt(6.0)
                excesses.append(noise**2 - float(np.median(stated[:, columns][chosen])))
    return float(np.median(excesses)) if excesses else 0.0


def _spare_cores(pixels: Pixels, hits: Mask) -> None:
    """Take off hits, in place, those that are the core of something round: light falls off on all four sides."""
    y, x = np.nonzero(hits)
    group = _groups(y, x, hits.shape[1])
    order = np.argsort(group, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if 0 < members.size <= _LARGEST_CORE:
            brightest = members[np.argmax(pixels[y[members], x[members]])]
            if _is_round(pixels, int(y[brightest]), int(x[brightest])):
                hits[y[members], x[members]] = False


def _groups(y: Places, x: Places, width: int) -> npt.NDArray[np.int32]:
    """Return the number of the group of each pixel, in the order of rows; those that touch are of one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # With a column to spare the last pixel of a row does not touch the first of the next.
    place = y * (width + 1) + x
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for step in (1, width, width + 1, width + 2):
        at = np.searchsorted(place, place + step)
        touching = np.flatnonzero(place[np.minimum(at, place.size - 1)] == place + step)
        first.append(touching)
        second.append(at[touching])
    pair = np.concatenate(first), np.concatenate(second)
    links = coo_array((np.ones(pair[0].size, np.int8), pair), shape=(place.size, place.size))
    return np.asarray(connected_components(links, directed=False)[1])


def _is_round(pixels: Pixels, y: int, x: int) -> bool:
    """Return whether the brightest pixel of a group has light on all four sides."""
    if not (0 < y < pixels.shape[0] - 1 and 0 < x < pixels.shape[1] - 1):
        return False
    window = pixels[max(0, y - _SKY_PX) : y + _SKY_PX + 1, max(0, x - _SKY_PX) : x + _SKY_PX + 1]
    sky = float(np.median(window))
    noise = 1.4826 * float(np.median(np.abs(window - sky)))
    peak = float(pixels[y, x]) - sky
    around = np.array([pixels[y - 1, x], pixels[y + 1, x], pixels[y, x - 1], pixels[y, x + 1]]) - sky
    # What noise adds to a neighbour makes no star of a cosmic ray.
    least = max(_LEAST_NEIGHBOUR * peak, 2.0 * noise)
    return bool(around.min() >= least and around.mean() >= _MEAN_NEIGHBOUR * peak)

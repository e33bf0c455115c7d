"""Cosmic rays, by the Laplacian of the image (van Dokkum 2001, PASP 113, 1420), with stars guarded.

On undersampled images the cores of stars are as sharp as cosmic rays. What the method finds at the very peak of
something that is wider than a cosmic ray and as symmetric as a star is given back.
"""

from __future__ import annotations

import numpy as np

from skylake.core.flags import PixelFlag
from skylake.core.frame import Image, Mask, Pixels
from skylake.core.reduction import CosmicRays

#: Masked pixels are left out of the search; a saturated star has no fine structure to tell it by.
_LEFT_OUT = (
    PixelFlag.INVALID | PixelFlag.HOT | PixelFlag.DEAD | PixelFlag.UNSTABLE | PixelFlag.SATURATED
    | PixelFlag.NEAR_SATURATED
)  # fmt: skip
#: A star has at least this part of its peak in the faintest of the four neighbours, and this in their mean.
_LEAST_NEIGHBOUR, _MEAN_NEIGHBOUR = 0.03, 0.12
#: Groups of more pixels than this are tracks, which are no stars.
_LARGEST_CORE = 40
#: Half width of the window whose median is the sky about a group.
_SKY_PX = 8
#: Side of the squares in which noise is measured, and of how many rows one is read for it.
_SQUARE_PX, _STRIDE = 64, 4
#: The widest median of the method, in pixels; on images that are narrower it writes beyond the end of its memory.
_LEAST_SIDE = 7


def find_cosmic_rays(image: Image, params: CosmicRays, gain: float, read_noise: float) -> Mask:
    """Return the pixels that cosmic rays have hit.

    Parameters
    ----------
    image : Image
        In ADU, with the sky still in it unless it carries a variance; finite everywhere. One of fewer than seven rows
        or columns has nothing to tell a hit from a star by, and none is found.
    params : CosmicRays
    gain, read_noise : float
        Electrons per ADU, and electrons. A header may be wrong by much, and where the noise is larger than told all of
        it would pass for cosmic rays: what the measured noise exceeds the told one by is added, and what it lacks is
        taken off the read noise.
    """
    if min(image.pixels.shape) < _LEAST_SIDE:
        return np.zeros(image.pixels.shape, bool)
    from astroscrappy import detect_cosmics

    electrons = image.pixels * np.float32(gain)
    left_out = image.having(_LEFT_OUT)
    by_width = params.psf_fwhm_px is not None
    read_noise = max(read_noise, 1e-3)
    told = electrons + np.float32(read_noise**2)
    if image.variance is not None:
        told = image.variance * np.float32(gain * gain)
    excess = max(_excess(electrons, told, left_out), 1e-6 - read_noise**2)
    hits, _ = detect_cosmics(
        electrons,
        inmask=left_out,
        invar=None if image.variance is None else np.maximum(told + np.float32(excess), np.float32(1e-6)),
        gain=1.0,
        readnoise=float(np.sqrt(read_noise**2 + excess)),
        sigclip=params.sigma,
        sigfrac=params.neighbour_fraction,
        objlim=params.object_limit,
        satlevel=np.inf,
        niter=params.iterations,
        cleantype="medmask",
        fsmode="convolve" if by_width else "median",
        psfmodel="gauss",
        psffwhm=params.psf_fwhm_px or 2.5,
        psfsize=7,
        verbose=False,
    )
    hits = np.asarray(hits, bool) & ~left_out
    return hits & ~_cores_of_stars(image.pixels, hits)


def _excess(electrons: Pixels, told: Pixels, left_out: Mask) -> float:
    """Return what the variance of pixels is above the one that is told, in the middle of squares of the image.

    It is measured by second differences along rows, which gradients and wide stars do not get into.
    """
    rows, side = slice(None, None, _STRIDE), _SQUARE_PX
    middle, lines, told = electrons[rows, 1:-1], electrons[rows], told[rows, 1:-1]
    differences = np.abs(2.0 * middle - lines[:, :-2] - lines[:, 2:])
    hidden = left_out[rows, 1:-1] | left_out[rows, :-2] | left_out[rows, 2:]
    found = []
    for y in range(0, lines.shape[0], side // _STRIDE):
        for x in range(0, middle.shape[1], side):
            square = slice(y, y + side // _STRIDE), slice(x, x + side)
            seen = differences[square][~hidden[square]]
            if seen.size >= side:
                noise = 1.4826 * float(np.median(seen)) / np.sqrt(6.0)
                found.append(noise**2 - float(np.median(told[square][~hidden[square]])))
    return float(np.median(found)) if found else 0.0


def _cores_of_stars(pixels: Pixels, hits: Mask) -> Mask:
    """Return those hits that are the core of something as round as a star: light falls off on all four sides."""
    from scipy.ndimage import find_objects, label

    groups, _ = label(hits, np.ones((3, 3)))
    cores = np.zeros(hits.shape, bool)
    for number, place in enumerate(find_objects(groups), start=1):
        members = groups[place] == number
        if np.count_nonzero(members) <= _LARGEST_CORE and _is_round(pixels, place, members):
            cores[place] |= members
    return cores


def _is_round(pixels: Pixels, place: tuple[slice, slice], members: Mask) -> bool:
    """Tell whether the brightest pixel of a group has light on all four sides."""
    row, column = np.unravel_index(int(np.argmax(np.where(members, pixels[place], -np.inf))), members.shape)
    y, x = int(row) + place[0].start, int(column) + place[1].start
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

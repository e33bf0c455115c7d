"""Cosmic rays, by the Laplacian of the image (van Dokkum 2001, PASP 113, 1420), with stars guarded.

On undersampled images the cores of stars are as sharp as cosmic rays. What the method finds at the very peak of
something that is wider than a cosmic ray and as symmetric as a star is given back.
"""

from __future__ import annotations

import numpy as np

from skylake.core.camera import CosmicRays
from skylake.core.flags import PixelFlag
from skylake.core.frame import Image, Mask

#: Masked pixels are left out of the search; a saturated star has no fine structure to tell it by.
_LEFT_OUT = (
    PixelFlag.INVALID | PixelFlag.HOT | PixelFlag.DEAD | PixelFlag.UNSTABLE | PixelFlag.SATURATED
    | PixelFlag.NEAR_SATURATED
)  # fmt: skip
#: A star has at least this part of its peak in the faintest of the four neighbours, and this in their mean.
_LEAST_NEIGHBOUR, _MEAN_NEIGHBOUR = 0.10, 0.20
#: Groups of more pixels than this are tracks, which are no stars.
_LARGEST_CORE = 9


def find_cosmic_rays(image: Image, params: CosmicRays, gain: float, read_noise: float) -> Mask:
    """Return the pixels that cosmic rays have hit.

    Parameters
    ----------
    image : Image
        In ADU, with the sky still in it unless it carries a variance; finite everywhere.
    params : CosmicRays
    gain, read_noise : float
        Electrons per ADU, and electrons.
    """
    from astroscrappy import detect_cosmics

    electrons = image.pixels * np.float32(gain)
    left_out = image.having(_LEFT_OUT)
    by_width = params.psf_fwhm_px is not None
    hits, _ = detect_cosmics(
        electrons,
        inmask=left_out,
        invar=None if image.variance is None else image.variance * np.float32(gain * gain),
        gain=1.0,
        readnoise=max(read_noise, 1e-3),
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


def _cores_of_stars(pixels: np.ndarray, hits: Mask) -> Mask:
    """Return those hits that are the core of something as round as a star: light falls off on all four sides."""
    from scipy.ndimage import find_objects, label, median_filter

    groups, count = label(hits, np.ones((3, 3)))
    cores = np.zeros(hits.shape, bool)
    if count == 0:
        return cores
    sky = median_filter(pixels, 11, mode="nearest")
    height, width = pixels.shape
    for number, place in enumerate(find_objects(groups), start=1):
        members = groups[place] == number
        if np.count_nonzero(members) > _LARGEST_CORE:
            continue
        signal = np.where(members, pixels[place] - sky[place], -np.inf)
        row, column = np.unravel_index(int(np.argmax(signal)), signal.shape)
        y, x = int(row) + place[0].start, int(column) + place[1].start
        if not (0 < y < height - 1 and 0 < x < width - 1):
            continue
        peak = pixels[y, x] - sky[y, x]
        around = (
            np.array([pixels[y - 1, x], pixels[y + 1, x], pixels[y, x - 1], pixels[y, x + 1]]) - sky[y, x]
        )
        if around.min() >= _LEAST_NEIGHBOUR * peak and around.mean() >= _MEAN_NEIGHBOUR * peak:
            cores[place] |= members
    return cores

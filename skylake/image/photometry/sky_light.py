"""The light of stars that the local sky takes off: known where a catalog has the stars.

The sky is estimated between the stars. There it holds the light of all stars that were not detected, and the wings of
those that were. Apertures lose as much, so a catalog that adds up all neighbours in an aperture has to take it off
again. Here the stars of a catalog are drawn without noise and their light is averaged where that of the frame was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.aperture_light import PIXEL_WIDTH_SQUARE, StarProfile
from skylake.core.frame import Pixels
from skylake.image.detection.background import CELL_MESHES, mean_between_stars
from skylake.image.detection.background_mesh import mesh_edges, values_of_cells
from skylake.image.photometry.annulus_kernels import annulus_averages, clear_of_discs
from skylake.image.photometry.cutouts import Cutouts

Floats = npt.NDArray[np.float64]

#: Larger images are drawn with pixels so much larger that they have no more along a side.
_LONGEST_SIDE = 1024
#: Stars are drawn out to so many full widths.
_REACH_WIDTHS = 12.0
#: What is taken off the width of stars, because drawing adds it, leaves at least this share of it.
_NARROWEST = 0.3
#: Around the footprint of a detection so many pixels are no clean sky for an annulus, nor are pixels so many standard
#: deviations above it.
_WIDEN_PX = 2.0
_CLIP_SIGMA = 3.0


@dataclass(frozen=True, slots=True)
class FrameSky:
    """How the sky of a frame was estimated.

    Attributes
    ----------
    shape : tuple of int
        Height and width of the image, pixels.
    x, y : ndarray, shape (n,)
        Detections, pixels.
    n_pixels : ndarray of int32, shape (n,)
        Of their footprints.
    noise : float
        Of a pixel, in units of flux.
    mesh_px : int
        Mesh of the background.
    annulus_px : tuple of float or None
        Inner and outer radius of the local sky, if there is one.
    """

    shape: tuple[int, int]
    x: Floats
    y: Floats
    n_pixels: npt.NDArray[np.int32]
    noise: float
    mesh_px: int
    annulus_px: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Discs:
    """Footprints of detections, in larger pixels."""

    x: Floats
    y: Floats
    n_pixels: npt.NDArray[np.int32]


def sky_light(sky: FrameSky, places: Floats, flux: Floats, profile: StarProfile, wanted: Floats) -> Floats:
    """Return the light of stars in the local sky at some places.

    Parameters
    ----------
    sky : FrameSky
    places : ndarray, shape (n, 2)
        Stars, x and y in pixels; what is NaN or far outside the image is left out.
    flux : ndarray, shape (n,)
        In the unit of the noise; not NaN.
    profile : StarProfile
    wanted : ndarray, shape (m, 2)
        Where it is wanted; outside the image that of its edge.

    Returns
    -------
    ndarray, shape (m,)
        Flux per pixel.
    """
    step = max(1, int(np.ceil(max(sky.shape) / _LONGEST_SIDE)))
    stars, found, at = (
        _in_steps(part, step) for part in (places, np.column_stack([sky.x, sky.y]), np.nan_to_num(wanted))
    )
    light = draw_stars(tuple(-(-side // step) for side in sky.shape), stars, flux, profile, step)
    noise = np.full(light.shape, sky.noise * step, np.float32)
    edges = mesh_edges(light.shape, max(1, round(CELL_MESHES * sky.mesh_px / step)))
    discs = _Discs(found[:, 0], found[:, 1], sky.n_pixels)
    cells = mean_between_stars(light, np.zeros(light.shape, np.uint8), noise, discs, edges, step)
    level = values_of_cells(cells, edges, at[:, 0], at[:, 1])
    if sky.annulus_px is not None:
        clear = light <= cells.mean() + _CLIP_SIGMA * noise
        radii = (np.sqrt(sky.n_pixels / np.pi) + _WIDEN_PX) / step
        clear_of_discs(clear, np.stack([found[:, 0], found[:, 1], radii]))
        mean = np.empty(len(at))
        annulus_averages(light, clear, at, *(radius / step for radius in sky.annulus_px), mean)
        level = np.where(np.isfinite(mean), mean, level)
    return np.asarray(level / step**2)


def _in_steps(places: Floats, step: int) -> Floats:
    """Return places in pixels that are larger; the centre of the first pixel is (0, 0) in both."""
    return np.ascontiguousarray((places + 0.5) / step - 0.5)


def draw_stars(
    shape: tuple[int, ...], places: Floats, flux: Floats, profile: StarProfile, step: int = 1
) -> Pixels:
    """Return the image of stars without noise: divided among the four pixels around each, and then spread.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    places : ndarray, shape (n, 2)
        x and y, pixels of the image; stars with NaN or far outside are left out.
    flux : ndarray, shape (n,)
    profile : StarProfile
        In pixels of which `step` are one of the image.
    step : int
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    kernel = star_kernel(profile, step)
    half = len(kernel) // 2
    height, width = (side + 2 * half for side in shape)
    last = np.array(shape)[::-1] + half - 1
    shown = (np.isfinite(places) & (places > -half) & (places < last)).all(axis=1)
    corner = np.floor(places[shown]).astype(np.intp) + half
    right, down = (places[shown] + half - corner).T
    first = corner[:, 1] * width + corner[:, 0]
    light = np.zeros(height * width)
    for below, share_down in ((0, 1.0 - down), (1, down)):
        for beside, share_right in ((0, 1.0 - right), (1, right)):
            weight = flux[shown] * share_down * share_right
            light += np.bincount(first + below * width + beside, weight, height * width)
    size = [next_fast_len(side + 2 * half, real=True) for side in (height, width)]
    drawn = light.reshape(height, width).astype(np.float32)
    spread = irfft2(rfft2(drawn, size) * rfft2(kernel, size), size)
    first_pixel = 2 * half
    return np.ascontiguousarray(
        spread[first_pixel : first_pixel + shape[0], first_pixel : first_pixel + shape[1]], np.float32
    )


def star_kernel(profile: StarProfile, step: int = 1) -> Pixels:
    """Return the image into which :func:`draw_stars` spreads each of the four pixels around a star."""
    half = int(np.ceil(_REACH_WIDTHS * profile.fwhm / step))
    # Circles that cut pixels add to the width once, and the division among four pixels does so twice.
    added = PIXEL_WIDTH_SQUARE * (1.0 + 2.0 * step**2)
    narrow = np.sqrt(max(profile.fwhm**2 - added, (_NARROWEST * profile.fwhm) ** 2))
    return StarProfile(narrow, profile.beta).stamp(half, step)


def star_stamps(profile: StarProfile, stamps: Cutouts, places: Floats) -> Pixels:
    """Return single stars of flux 1 as :func:`draw_stars` draws them, in cutouts around them, shape (n, side, side).

    Parameters
    ----------
    profile : StarProfile
    stamps : Cutouts
        Of n stars.
    places : ndarray, shape (n, 2)
        x and y, pixels.
    """
    kernel = np.pad(star_kernel(profile), 1)
    half, steps = len(kernel) // 2, np.arange(-stamps.reach, stamps.reach + 1)
    drawn = np.zeros((len(places), len(steps), len(steps)), np.float32)
    corner = np.floor(places).astype(np.intp)
    right, down = (places - corner).T
    # What is beyond the kernel is in its empty rim.
    rows, columns = (
        start[:, None] + steps - low[:, None] + half
        for start, low in ((stamps.row, corner[:, 1]), (stamps.column, corner[:, 0]))
    )
    for below, share_down in ((0, 1.0 - down), (1, down)):
        for beside, share_right in ((0, 1.0 - right), (1, right)):
            row, column = (np.clip(at, 0, len(kernel) - 1) for at in (rows - below, columns - beside))
            weight = (share_down * share_right)[:, None, None]
            drawn += weight * kernel[row[:, :, None], column[:, None, :]]
    return drawn

"""Windowed centroids of sources, with errors from the noise of the pixels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.flags import NO_STANDARD, SourceFlag
from skylake.image.detection.detect_sources import Detections
from skylake.image.photometry import centroid_kernels as kernel
from skylake.image.photometry.aperture_photometry import (
    PhotometryScene,
    circular_fluxes,
    nearest_pixel,
    radial_profiles,
)

Floats = npt.NDArray[np.float64]

#: A windowed centroid this far from the isophotal one has walked to a neighbour.
_MAX_WALK_PX = 2.0
#: The window of the frame is that of so many of its clear detections.
_SAMPLE = 200
#: Detections whose flux exceeds that of their noise by the first factor are clear; where there are none, as through
#: clouds, those by the next, or all.
_CLEAR_SNR = (30.0, 10.0, 0.0)
#: So many of them that touch no other are enough; what touches another and is as elongated may be a piece of a trail.
_FEWEST_LONELY = 5
_ELONGATED = 2.0
#: Light of these detections is looked for within so many of their axes.
_REACH_AXES = 4.0
#: The window is no smaller than that.
_MIN_SIGMA_PX = 0.5
#: … and no larger than so many times the width of the sharp peaks of the frame.
_WIDEST = 2.5
#: From the half-light radius of a Gaussian to its standard deviation.
_SIGMA_PER_HALF_LIGHT = 2.0 / 2.3548
_RINGS_PX = (0.75, 1.25, 1.75, 2.25, 2.75, 3.5, 4.5, 6.0, 8.0)


def windowed_centroids(
    scene: PhotometryScene, detections: Detections, order: npt.NDArray[np.int32]
) -> tuple[Floats, Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """Return windowed centroids of detections, as SExtractor's XWIN_IMAGE, in another order.

    The window is a Gaussian as wide as the stars of the frame, and wider for what is extended or saturated: one
    window for all does not follow the noise of faint sources. A centroid that does not converge, leaves the
    footprint for that of another detection or walks away falls back to the isophotal one.

    Returns
    -------
    x, y, x_err, y_err : ndarray, shape (n,)
        Pixels. Errors are those which the noise of each pixel, weighted by the window, gives to the place where
        the window's first moment vanishes.
    failed : ndarray of bool, shape (n,)
        Where they are the isophotal ones.
    """
    x, y = detections.x[order], detections.y[order]
    a, b = detections.a[order], detections.b[order]
    leash = np.minimum(_MAX_WALK_PX, np.maximum(a, 0.7))
    width = min(_frame_window(scene, detections), _widest_window(detections))
    sigma = np.maximum(width, np.maximum(0.5 * np.sqrt(a * b), _MIN_SIGMA_PX))
    windowed = window_places(scene, x, y, sigma, leash, width)
    failed = ~np.isfinite(windowed).all(axis=0)
    failed |= _left_footprint(detections.segments, order, (x, y), np.where(failed, (x, y), windowed[:2]))
    isophotal = np.array([x, y, detections.x_err[order], detections.y_err[order]])
    x, y, x_err, y_err = np.where(failed, isophotal, windowed)
    return x, y, x_err, y_err, failed


def window_places(
    scene: PhotometryScene, x: Floats, y: Floats, sigma: Floats, leash: Floats, common: float
) -> Floats:
    """Return centroids under Gaussian windows, and their errors.

    Parameters
    ----------
    scene : PhotometryScene
    x, y : ndarray, shape (n,)
        Where to start, 0-based pixels.
    sigma, leash : ndarray, shape (n,)
        Standard deviation of each window, and how far a centroid may go, pixels.
    common : float
        Windows no larger than this are done together, which is faster.

    Returns
    -------
    ndarray, shape (4, n)
        x, y and their errors; NaN where there is none.
    """
    centroids = np.empty((len(x), 4))
    half = math.ceil(kernel.REACH * common + 0.5)
    starts = kernel.Starts(x, y, sigma, leash)
    kernel.windowed_centroids(scene.planes(), scene.noise_at(x, y), starts, half, centroids)
    return centroids.T


def _frame_window(scene: PhotometryScene, detections: Detections) -> float:
    """Return the standard deviation of a window of the median half-light radius of the stars."""
    noise = scene.rms_at(detections.x, detections.y) * np.sqrt(detections.n_pixels)
    whole = (detections.flags & int(NO_STANDARD)) == 0
    clear = [whole & (detections.flux > least * noise) for least in _CLEAR_SNR]
    chosen = _likely_stars(detections, next((bright for bright in clear if bright.any()), whole))
    if chosen.size == 0:
        return _MIN_SIGMA_PX
    chosen = chosen[np.argsort(-detections.flux[chosen], kind="stable")]
    # Neither the brightest, which may be saturated, nor those near the limit.
    chosen = chosen[:: max(1, chosen.size // _SAMPLE)]
    x, y = detections.x[chosen], detections.y[chosen]
    reach = _REACH_AXES * max(0.5, float(np.median(detections.a[chosen])))
    total, _, _ = circular_fluxes(scene, x, y, (reach,))
    _, half_light = radial_profiles(scene, x, y, total[0], np.full(len(x), reach), _RINGS_PX)
    known = half_light[np.isfinite(half_light)]
    return (
        max(_MIN_SIGMA_PX, _SIGMA_PER_HALF_LIGHT * float(np.median(known))) if known.size else _MIN_SIGMA_PX
    )


def _widest_window(detections: Detections) -> float:
    """Return the standard deviation that the window of a frame does not exceed, by how sharp its peaks are.

    Where much of what is detected is no star but pieces of an uneven sky, as around the Moon, in twilight and between
    clouds, half of the light gives the width of these, and centroids of stars under such a window walk away.
    """
    if detections.star_fwhm is None:
        return math.inf
    return max(_MIN_SIGMA_PX, _WIDEST * detections.star_fwhm / 2.3548)


def _likely_stars(detections: Detections, clear: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the clear detections that are most likely stars, whatever stars of this frame look like.

    Detection cuts the trail of a satellite into pieces that touch each other, often more of them than there are bright
    stars; so those that touch no other come first. Where there are too few of them, as in crowded fields, what is both
    elongated and touching is left out, as long as anything is left.
    """
    touching = (detections.flags & int(SourceFlag.BLENDED)) != 0
    piece = touching & (detections.a > _ELONGATED * detections.b)
    for likely, fewest in ((clear & ~touching, _FEWEST_LONELY), (clear & ~piece, 1)):
        if np.count_nonzero(likely) >= fewest:
            return np.flatnonzero(likely)
    return np.flatnonzero(clear)


def _left_footprint(
    segments: npt.NDArray[np.int32],
    order: npt.NDArray[np.int32],
    before: tuple[Floats, Floats],
    after: Floats,
) -> npt.NDArray[np.bool_]:
    """Return which places moved from a detection's own footprint to that of another."""
    height, width = segments.shape

    def owner(x: Floats, y: Floats) -> npt.NDArray[np.int32]:
        return np.asarray(segments[nearest_pixel(y, height), nearest_pixel(x, width)])

    now = owner(after[0], after[1])
    return np.asarray((owner(*before) == order + 1) & (now > 0) & (now != order + 1))

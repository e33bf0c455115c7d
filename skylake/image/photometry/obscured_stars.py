"""Photometry of stars with bad pixels, which are filled with the profile of the other stars of the frame.

The share of the area that is obscured does not give the share of the light: one pixel of the core of a star holds a
tenth of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.flags import PixelFlag
from skylake.image.photometry.aperture_photometry import UNUSABLE, PhotometryScene, bits_in_circles
from skylake.image.photometry.filled_pixels import Filled
from skylake.image.photometry.obscured_star_kernels import Profile, fill_circles

Floats = npt.NDArray[np.float64]

#: Stars from which the profile is made, at most and at least, and their signal to noise.
_MAX_STARS, _MIN_STARS = 60, 5
_MIN_SNR = 30.0
#: Steps of the radii between which pixels are taken together, and up to which radius; farther out they are wider.
_FINE_PX, _FINE_END_PX, _COARSE_PX = 0.25, 3.0, 0.5
#: Steps in which the profile is held.
_STEP_PX = 0.05
#: Pixels within so many half widths at half maximum give the brightness of a star, or within so many pixels.
_REACH_HALF_WIDTHS, _MIN_REACH_PX = 2.0, 2.0
#: By this share of what it stands in for a profile may be wrong.
_WRONG = 0.05
#: Exponent of the Moffat profile that stands in where no star is bright enough (Trujillo et al. 2001).
_BETA = 3.5


def fill_obscured(
    scene: PhotometryScene,
    places: Floats,
    flux: Floats,
    error: Floats,
    obscured: npt.NDArray[np.bool_],
    clean: npt.NDArray[np.bool_],
    width_px: float,
    radii: tuple[float, ...],
) -> Filled | None:
    """Fill the obscured parts of circles with a profile.

    The profile is the median of bright stars of the frame, as a function of the radius. Its brightness in each star
    follows from the pixels about the centre; the place too, where one of them is obscured, since a window without it
    would be drawn to the other side.

    Parameters
    ----------
    scene : PhotometryScene
    places : ndarray, shape (4, n)
        x, y and their errors; changed where they are found anew.
    flux, error : ndarray, shape (radii, n)
        Changed where something is obscured. The error holds that of what stands in.
    obscured : ndarray of bool, shape (radii, n)
        Where a circle holds an unusable pixel; the others stay as they are, unless the place is another.
    clean : ndarray of bool, shape (n,)
        Sources that are no blends and at no edge.
    width_px : float
        Full width of the Moffat profile that is taken where too few stars are bright.
    radii : tuple of float

    Returns
    -------
    Filled or None
        What stands in for the pixels themselves; None where nothing is obscured.
    """
    some = np.flatnonzero(obscured.any(axis=0))
    if some.size == 0:
        return None
    table = _radial_profile(
        scene, places, flux[0], error[0], clean & ~obscured.any(axis=0), width_px, max(radii)
    )
    half = _STEP_PX * float(np.argmax(table < 0.5 * table[0]))
    reach = max(_MIN_REACH_PX, _REACH_HALF_WIDTHS * half)
    profile = Profile(table, _STEP_PX, reach, _WRONG)
    here, values = np.ascontiguousarray(places[:, some].T), np.stack([flux[:, some], error[:, some]])
    strength = np.full((some.size, 3), np.nan)
    fill_circles(
        scene.planes(),
        scene.noise_at(*here.T[:2]),
        profile,
        np.array(radii, float),
        np.ascontiguousarray(obscured[:, some]),
        here,
        values,
        strength,
    )
    places[:, some], flux[:, some], error[:, some] = here.T, *values
    return Filled.of(scene, some, here.T[:2], strength, profile)


def _radial_profile(
    scene: PhotometryScene,
    places: Floats,
    flux: Floats,
    error: Floats,
    clean: npt.NDArray[np.bool_],
    width_px: float,
    outer: float,
) -> Floats:
    """Return the brightness of a star at radii in steps, to the corners of pixels about the largest circle."""
    radii = np.arange(0.0, outer + 2.0, _STEP_PX)
    chosen = np.flatnonzero(clean & (flux > _MIN_SNR * error))
    chosen = chosen[np.argsort(-flux[chosen], kind="stable")]
    spoiled = UNUSABLE | int(PixelFlag.SATURATED | PixelFlag.NEAR_SATURATED)
    bits = bits_in_circles(scene, places[0, chosen], places[1, chosen], outer + 2.0)
    chosen = chosen[(bits & np.uint8(spoiled)) == 0][:_MAX_STARS]
    if chosen.size < _MIN_STARS:
        alpha = 0.5 * width_px / np.sqrt(2.0 ** (1.0 / _BETA) - 1.0)
        return np.asarray((1.0 + (radii / alpha) ** 2) ** -_BETA)
    distance, brightness = _pixels_of(scene, places[:, chosen], flux[chosen], outer + 2.0)
    edges = np.concatenate(
        [np.arange(0.0, _FINE_END_PX, _FINE_PX), np.arange(_FINE_END_PX, outer + 2.0, _COARSE_PX)]
    )
    ring = np.digitize(distance, edges)
    known = [inside for inside in (ring == k for k in range(1, len(edges) + 1)) if inside.sum() >= _MIN_STARS]
    middles = [float(np.median(distance[inside])) for inside in known]
    values = [float(np.median(brightness[inside])) for inside in known]
    return np.asarray(np.interp(radii, middles, values), float)


def _pixels_of(scene: PhotometryScene, places: Floats, flux: Floats, reach: float) -> tuple[Floats, Floats]:
    """Return distances of pixels from the centres of stars, and their signal as a share of the flux."""
    half = int(np.ceil(reach))
    height, width = scene.signal.shape
    x, y = places[0], places[1]
    columns = np.rint(x).astype(np.intp)[:, None] + np.arange(-half, half + 1)
    rows = np.rint(y).astype(np.intp)[:, None] + np.arange(-half, half + 1)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    light = scene.signal[np.clip(rows, 0, height - 1)[:, :, None], np.clip(columns, 0, width - 1)[:, None, :]]
    distance = np.hypot((columns - x[:, None])[:, None, :], (rows - y[:, None])[:, :, None])
    return distance[inside], (light / flux[:, None, None])[inside]

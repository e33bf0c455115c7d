"""Local sky of sources: a clipped mean of the clean pixels of an annulus."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from skylake.core.flags import UNUSABLE_PIXEL
from skylake.core.frame import Mask, MaskPlane, Pixels
from skylake.image.photometry.annulus_kernels import annulus_means, clear_of_sources

Floats = npt.NDArray[np.float64]

#: Part of the area of an annulus that has to be clean for it to give the sky.
_MIN_CLEAN_SKY = 0.25


@dataclass(frozen=True, slots=True)
class LocalSky:
    """The sky at sources; arrays of shape (n,).

    Attributes
    ----------
    level, error : ndarray
        ADU per pixel.
    known : ndarray of bool
        False where the annulus has too few clean pixels.
    """

    level: Floats
    error: Floats
    known: npt.NDArray[np.bool_]

    @classmethod
    def of_blocks(cls, level: Floats) -> LocalSky:
        """Return a sky that no annulus was asked for."""
        return cls(level, np.zeros(len(level)), np.ones(len(level), bool))


def local_sky(
    signal: Pixels, clean: Mask, x: Floats, y: Floats, radii: tuple[float, float], else_level: Floats
) -> LocalSky:
    """Return the sky in an annulus around each source.

    Parameters
    ----------
    signal : ndarray of float32, shape (height, width)
    clean : ndarray of bool, shape (height, width)
        Pixels that are sky.
    x, y : ndarray, shape (n,)
        0-based pixels.
    radii : tuple of float
        Inner and outer radius, pixels.
    else_level : ndarray, shape (n,)
        The level, of error 0, where less than a quarter of the annulus is clean.
    """
    inner, outer = radii
    level, error, number = annulus_sky(signal, clean, x, y, inner, outer)
    known = number >= _MIN_CLEAN_SKY * np.pi * (outer**2 - inner**2)
    return LocalSky(np.where(known, level, else_level), np.where(known, error, 0.0), known)


@lru_cache(maxsize=4)
def common_parts(inner: float, outer: float, step: float) -> Floats:
    """Return the part of its area that an annulus has in common with one as large some distance away.

    Where noise is that of the pixels, it is the correlation of the skies in the two.

    Parameters
    ----------
    inner, outer : float
        Radii, pixels.
    step : float
        Distances are 0, 1, 2, ... times this many pixels, as far as annuli touch.
    """
    distance = np.arange(0.0, 2.0 * outer, step)
    shared = (
        _lens(distance, outer, outer) + _lens(distance, inner, inner) - 2.0 * _lens(distance, inner, outer)
    )
    return np.asarray(shared / (np.pi * (outer**2 - inner**2)))


def _lens(distance: Floats, radius: float, other: float) -> Floats:
    """Return the area that two circles have in common."""
    away = np.clip(distance, abs(other - radius), radius + other)
    # Where one circle is empty, or lies in the middle of the other.
    across = np.maximum(away, 1e-12)
    first = np.clip((away**2 + radius**2 - other**2) / (2.0 * across * max(radius, 1e-12)), -1.0, 1.0)
    second = np.clip((away**2 + other**2 - radius**2) / (2.0 * across * max(other, 1e-12)), -1.0, 1.0)
    kite = np.sqrt(
        np.maximum((radius + other) ** 2 - away**2, 0.0) * np.maximum(away**2 - (radius - other) ** 2, 0.0)
    )
    return np.asarray(radius**2 * np.arccos(first) + other**2 * np.arccos(second) - 0.5 * kite)


def annulus_sky(
    signal: Pixels, clean: Mask, x: Floats, y: Floats, inner: float, outer: float
) -> tuple[Floats, Floats, Floats]:
    """Return the mean of the clean pixels in annuli, clipped twice at three sigma.

    The first clip is about the median with the width of the narrower side, so that a bright trail does not
    widen it; the second about the mean of what is left. A pixel belongs to an annulus if its centre does.

    Parameters
    ----------
    signal : ndarray of float32, shape (height, width)
    clean : ndarray of bool, shape (height, width)
        Pixels that are sky.
    x, y : ndarray, shape (n,)
        Centres, 0-based pixels.
    inner, outer : float
        Radii, pixels.

    Returns
    -------
    level, error, number : ndarray, shape (n,)
        Mean, its standard error from the scatter of the pixels that are left, and how many pixels were
        clean before clipping; level and error are 0 where none was.
    """
    sky = np.zeros((3, len(x)))
    annulus_means(
        signal, clean, np.ascontiguousarray(x, float), np.ascontiguousarray(y, float), inner, outer, sky
    )
    return sky[0], sky[1], sky[2]


def starless(segments: npt.NDArray[np.int32], mask: MaskPlane, reach_px: int) -> Mask:
    """Return the usable pixels that are farther than `reach_px` in x or y from every footprint of a detection."""
    clear = np.empty(segments.shape, bool)
    clear_of_sources(np.ascontiguousarray(segments, np.int32), mask, int(UNUSABLE_PIXEL), reach_px, clear)
    return clear

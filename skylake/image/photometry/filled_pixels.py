"""Bad pixels filled with the profile of the stars of the frame, for ellipses and radial profiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.image.photometry.aperture_photometry import UNUSABLE, PhotometryScene, elliptical_sums, fluxes_of
from skylake.image.photometry.obscured_star_kernels import Profile
from skylake.image.photometry.pixel_sum_kernels import FLUX, OBSCURED

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Filled:
    """What stands in for the bad pixels of some sources.

    Attributes
    ----------
    some : ndarray of int, shape (n,)
        The sources.
    strength : ndarray, shape (n, 3)
        Factor of the profile of each, ADU, its variance, and its covariance with the sum of the pixels that give it;
        NaN where these are too few.
    rows, columns, values : ndarray, shape (pixels,)
        The pixels, and the light of the stars in them.
    wrong : float
        By this share of what it stands in for a profile may be wrong.
    """

    some: Places
    strength: Floats
    rows: Places
    columns: Places
    values: npt.NDArray[np.float32]
    wrong: float

    @classmethod
    def of(
        cls, scene: PhotometryScene, some: Places, places: Floats, strength: Floats, profile: Profile
    ) -> Filled:
        """Return what stands in for the bad pixels of sources at places, shape (2, n)."""
        table, step = profile.table, profile.step
        reach = step * (len(table) - 1)
        known = np.flatnonzero(np.isfinite(strength[:, 0]))
        star, rows, columns = _bad_around(scene, places[0, known], places[1, known], int(np.ceil(reach)))
        distance = np.hypot(columns - places[0, known[star]], rows - places[1, known[star]])
        light = strength[known[star], 0] * np.interp(distance, step * np.arange(len(table)), table)
        near, width = distance <= reach, scene.mask.shape[1]
        pixel, which = np.unique((rows * width + columns)[near], return_inverse=True)
        values = np.bincount(which, light[near], pixel.size).astype(np.float32)
        return cls(some, strength, pixel // width, pixel % width, values, profile.wrong)

    @contextmanager
    def shown(self, scene: PhotometryScene) -> Iterator[None]:
        """Give a scene the light of the stars in these pixels within a context; no image is copied."""
        here = self.rows, self.columns
        before = scene.signal[here], scene.mask[here]
        scene.signal[here], scene.mask[here] = self.values, before[1] & np.uint8(~UNUSABLE & 255)
        try:
            yield
        finally:
            scene.signal[here], scene.mask[here] = before

    def ellipses(
        self, scene: PhotometryScene, x: Floats, y: Floats, a: Floats, b: Floats, theta: Floats
    ) -> tuple[Floats, Floats]:
        """Return fluxes and errors of the sources in ellipses; arguments are those of all sources.

        What stands in depends on the pixels that give the brightness of the star, and may be wrong by a share.
        """
        x, y, a, b, theta = (part[self.some] for part in (x, y, a, b, theta))
        scale = np.ones(len(self.some))
        sums = elliptical_sums(scene, x, y, a, b, theta, scale)
        plain = fluxes_of(scene, sums, x, y)
        with self.shown(scene):
            whole = elliptical_sums(scene, x, y, a, b, theta, scale)
            flux, _ = fluxes_of(scene, whole, x, y)
        made = whole[:, FLUX] - sums[:, FLUX]
        sums[:, OBSCURED] = 0.0
        _, seen = fluxes_of(scene, sums, x, y)
        factor, variance, common = self.strength.T
        part = made / factor
        error = np.sqrt(
            np.maximum(seen**2 + 2.0 * part * common + part**2 * variance, 0.0) + (self.wrong * made) ** 2
        )
        known = np.isfinite(part)
        return np.where(known, flux, plain[0]), np.where(known, error, plain[1])


def _bad_around(scene: PhotometryScene, x: Floats, y: Floats, half: int) -> tuple[Places, Places, Places]:
    """Return unusable pixels in squares around places: which place, row and column."""
    height, width = scene.mask.shape
    around = np.arange(-half, half + 1)
    columns = np.rint(x).astype(np.intp)[:, None] + around
    rows = np.rint(y).astype(np.intp)[:, None] + around
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    mask = scene.mask[np.clip(rows, 0, height - 1)[:, :, None], np.clip(columns, 0, width - 1)[:, None, :]]
    place, row, column = np.nonzero(((mask & np.uint8(UNUSABLE)) != 0) & inside)
    return place, rows[place, row], columns[place, column]

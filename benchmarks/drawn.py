"""Frames of isolated stars by two renderers, skylake's own and GalSim, and the bounds that their noise sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import galsim
import numpy as np
import sep

from skylake.simulate import Moffat, render

GAIN, READ_NOISE_E, SKY_E, PEDESTAL, SATURATION = 1.5, 8.0, 800.0, 300.0, 60000.0
FWHM, BETA = 2.5, 3.5
#: Distance of stars from each other, how far each lies from its place in the grid, and from the edge, pixels.
STEP, SHAKE, EDGE = 64, 8.0, 32.0
#: Total flux of the faintest and of the brightest star, ADU: a S/N of 1, and what does not saturate.
FLUXES = (79.0, 4e5)
ZEROPOINT = 25.0
_STAMP = 64

#: Draws stars: shape, x, y and total flux, 0-based pixels and ADU.
Renderer = Callable[[tuple[int, int], np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A frame and what is true of it.

    Attributes
    ----------
    pixels : ndarray of float32
        ADU, whole numbers.
    light : tuple of ndarray of float32
        What the stars bring, without noise: every fourth star in a plane of its own, so that they are alone.
    plane : ndarray of int, shape (n,)
        In which of these each star is.
    x, y, flux : ndarray, shape (n,)
        Places and total fluxes.
    """

    pixels: np.ndarray
    light: tuple[np.ndarray, ...]
    plane: np.ndarray
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray

    @property
    def magnitude(self) -> np.ndarray:
        """Magnitudes of the stars."""
        return np.asarray(ZEROPOINT - 2.5 * np.log10(self.flux))

    def held(self, star: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
        """Return the light of some stars alone in circles."""
        sums = [sep.sum_circle(light, x, y, radius, subpix=0)[0] for light in self.light]
        return np.choose(self.plane[star], sums)

    def held_by(self, star: np.ndarray, ellipse: np.ndarray) -> np.ndarray:
        """Return the light of some stars alone in ellipses: x, y, half axes, angle in radians, shape (5, n)."""
        x, y, a, b, theta = ellipse
        theta = (theta + np.pi / 2) % np.pi - np.pi / 2
        sums = [sep.sum_ellipse(light, x, y, a, b, theta, 1.0, subpix=11)[0] for light in self.light]
        return np.choose(self.plane[star], sums)


def own(shape: tuple[int, int], x: np.ndarray, y: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Draw with the simulator of skylake: round Moffat profiles."""
    return np.ascontiguousarray(render(shape, x, y, flux, Moffat(FWHM, beta=BETA)))


def by_galsim(profile: galsim.GSObject) -> Renderer:
    """Return what draws stars with GalSim, integrated over pixels."""

    def draw(shape: tuple[int, int], x: np.ndarray, y: np.ndarray, flux: np.ndarray) -> np.ndarray:
        whole = galsim.ImageF(shape[1], shape[0], xmin=0, ymin=0, scale=1.0)
        for star in zip(x, y, flux, strict=True):
            place = galsim.PositionD(float(star[0]), float(star[1]))
            stamp = (profile * float(star[2])).drawImage(nx=_STAMP, ny=_STAMP, scale=1.0, center=place)
            common = stamp.bounds & whole.bounds
            if common.isDefined():
                whole[common] += stamp[common]
        return np.ascontiguousarray(whole.array, np.float32)

    return draw


def renderers() -> dict[str, Renderer]:
    """Return what draws the frames, by name."""
    sharp = galsim.GSParams(folding_threshold=1e-3, kvalue_accuracy=1e-6)
    moffat = galsim.Moffat(beta=BETA, fwhm=FWHM, gsparams=sharp)
    seeing = galsim.Kolmogorov(fwhm=3.0, gsparams=sharp).shear(g1=0.03, g2=0.02)
    return {
        "simulator, Moffat": own,
        "GalSim, Moffat": by_galsim(moffat),
        "GalSim, Kolmogorov": by_galsim(seeing),
    }


def draw(renderer: Renderer, size: int, seed: int) -> Drawn:
    """Draw one frame: stars on a shaken grid, a sky with a gradient, noise of photons and of reading."""
    random = np.random.default_rng(seed)
    axis = np.arange(EDGE, size - EDGE, STEP)
    y, x = (values.ravel() for values in np.meshgrid(axis, axis, indexing="ij"))
    x, y = np.array([x, y]) + random.uniform(-SHAKE, SHAKE, (2, x.size))
    # As many stars in each magnitude, in any order.
    flux = np.exp(random.permutation(np.linspace(*np.log(FLUXES), x.size)))
    row, column = np.divmod(np.arange(x.size), len(axis))
    plane = 2 * (row % 2) + column % 2
    light = tuple(renderer((size, size), *(values[plane == k] for values in (x, y, flux))) for k in range(4))
    row, column = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    electrons = random.poisson(sum(light) * GAIN + SKY_E * (1.0 + 0.1 * column + 0.05 * row))
    stored = (electrons + random.normal(0.0, READ_NOISE_E, (size, size))) / GAIN + PEDESTAL
    pixels = np.clip(np.rint(stored), 0, 65535).astype(np.float32)
    return Drawn(pixels, light, plane, x, y, flux)


def bounds(renderer: Renderer, flux: np.ndarray, phases: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return the least scatter of a coordinate, and the best S/N, of stars of some fluxes.

    The Cramer-Rao bound: the inverse of Fisher's information of place and flux in independent noise, the mean over
    places of the star within a pixel (Rao 1945, Bull. Calcutta Math. Soc. 37, 81).
    """
    random = np.random.default_rng(7)
    scatter, snr = np.zeros(flux.size), np.zeros(flux.size)
    for x, y in 30.0 + random.uniform(-0.5, 0.5, (phases, 2)):
        star, slopes = _slopes(renderer, x, y)
        for number, one in enumerate(flux):
            variance = (SKY_E + READ_NOISE_E**2 + one * star * GAIN) / GAIN**2 + 1.0 / 12.0
            known = np.stack([one * slopes[0], one * slopes[1], star])
            covariance = np.linalg.inv((known / variance) @ known.T)
            scatter[number] += 0.5 * (covariance[0, 0] + covariance[1, 1]) / phases
            snr[number] += one / np.sqrt(covariance[2, 2]) / phases
    return np.sqrt(scatter), snr


def _slopes(
    renderer: Renderer, x: float, y: float, step: float = 0.02
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a star of flux 1, and how its pixels change with its place."""

    def star(dx: float, dy: float) -> np.ndarray:
        # Large enough for 32 bits and no limit of stamps.
        return renderer((61, 61), *np.array([[x + dx], [y + dy], [1e6]])).ravel().astype(float) / 1e6

    ways = ((step, 0.0), (0.0, step))
    return star(0.0, 0.0), [(star(*way) - star(-way[0], -way[1])) / (2.0 * step) for way in ways]


def many(renderer: Renderer, size: int, frames: int, seed: int) -> Iterator[Drawn]:
    """Yield frames."""
    for number in range(frames):
        yield draw(renderer, size, seed + number)

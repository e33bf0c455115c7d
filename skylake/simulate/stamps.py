"""Stars to pixels: elliptical Moffat profiles, integrated over pixels, thousands at a time.

Stars are grouped by the size of their stamps, so that every step works on one block of shape (stars,
side, side). A stamp ends where what lies outside is negligible: against the noise of the frame if that
is given, else against the star's own flux.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
_Array = npt.NDArray[np.float64]

#: Half sizes of stamps, pixels; each about a fifth larger than the one before.
_HALF_SIZES = np.array(
    [3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 103, 124, 149, 179, 215]
)
#: Pixels this near to the centre are integrated by nine points, the others by their middle and curvature.
_CORE = 3
#: A block of this many pixels stays in the cache of the processor.
_BLOCK_PIXELS = 1 << 16
#: Without noise, this fraction of the flux may lie outside the stamp.
_LOST_FRACTION = 1e-4
#: With noise: flux outside, in standard errors of the star's flux; and the step at the edge of the
#: stamp, in standard deviations of a pixel.
_LOST_SIGMA = 0.05
_STEP_SIGMA = 0.02

_GAUSS_POINTS = np.array([-np.sqrt(0.6), 0.0, np.sqrt(0.6)]) / 2.0
_GAUSS_WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18.0


@dataclass(frozen=True, slots=True)
class Moffat:
    """Point spread functions of stars: I(r) proportional to (1 + (r / alpha)^2)^-beta (Moffat 1969).

    Attributes
    ----------
    fwhm_px : float or ndarray
        Full width at half maximum, the geometric mean of that along both axes.
    ellipticity : float or ndarray
        1 - b / a.
    angle_deg : float or ndarray
        Direction of the major axis, from +x towards +y.
    beta : float
        Steepness of the wings; larger than 1.
    """

    fwhm_px: npt.ArrayLike
    ellipticity: npt.ArrayLike = 0.0
    angle_deg: npt.ArrayLike = 0.0
    beta: float = 3.5

    @property
    def alpha_px(self) -> _Array:
        """Scale radius, geometric mean of both axes."""
        return np.asarray(np.asarray(self.fwhm_px, float) / (2.0 * np.sqrt(2.0 ** (1.0 / self.beta) - 1.0)))

    @property
    def peak(self) -> _Array:
        """Central surface brightness of a star of flux 1, per pixel."""
        return np.asarray((self.beta - 1.0) / (np.pi * self.alpha_px**2))

    @property
    def noise_pixels(self) -> _Array:
        """Number of pixels whose sky noise enters an optimally weighted flux (King 1983, PASP 95, 163)."""
        return np.asarray((2.0 * self.beta - 1.0) / (self.beta - 1.0) / self.peak)


@dataclass(frozen=True, slots=True)
class _CanvasStars:
    """Stars on the padded canvas, one block's worth or all."""

    column: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    dx: npt.NDArray[np.float32]
    dy: npt.NDArray[np.float32]
    peak: npt.NDArray[np.float32]
    xx: npt.NDArray[np.float32]
    xy: npt.NDArray[np.float32]
    yy: npt.NDArray[np.float32]

    def take(self, which: npt.NDArray[np.int64]) -> _CanvasStars:
        """Return some of the stars."""
        return _CanvasStars(*(getattr(self, name)[which] for name in self.__slots__))


def render(
    shape: tuple[int, int],
    x_px: npt.ArrayLike,
    y_px: npt.ArrayLike,
    flux_adu: npt.ArrayLike,
    psf: Moffat,
    noise_adu: float = 0.0,
    gain_e_per_adu: float = 1.0,
) -> Image:
    """Render stars into an empty image.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    x_px, y_px : array_like, shape (n,)
        Centres; 0-based, the centre of the first pixel is (0, 0). Stars outside light the image as far
        as their stamps reach into it.
    flux_adu : array_like, shape (n,)
        Flux of the infinite profile; not NaN, may be negative or 0.
    psf : Moffat
        Profiles, one for all stars or one for each.
    noise_adu : float
        Standard deviation of the noise of an empty pixel, to which stamps are cut; 0 cuts them where
        1e-4 of the flux is outside.
    gain_e_per_adu : float
        Gain, for the photon noise of the stars themselves.

    Returns
    -------
    ndarray of float32, shape (height, width)
        Flux per pixel. Integration over pixels is better than 1e-4 of the flux for FWHM of 2 px or more.

    Notes
    -----
    A pixel's integral is its middle value plus Laplacian / 24, the next term of the midpoint rule; in
    the core of the star it is a 3 x 3 Gauss-Legendre sum.
    """
    flux = np.atleast_1d(np.asarray(flux_adu, float))
    x, y = np.atleast_1d(np.asarray(x_px, float)), np.atleast_1d(np.asarray(y_px, float))
    half = stamp_half_size(flux, psf, noise_adu, gain_e_per_adu)
    seen = (x > -half - 0.5) & (x < shape[1] - 0.5 + half) & (y > -half - 0.5) & (y < shape[0] - 0.5 + half)
    seen &= flux != 0.0
    pad = int(half[seen].max(initial=1)) * 2 + 1
    canvas = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad), np.float32)
    stars = _place(x, y, flux, psf, pad)
    for size in np.unique(half[seen]):
        members = np.flatnonzero(seen & (half == size))
        # By row, so that a block writes to one region of the canvas after the other.
        members = members[np.argsort(stars.row[members], kind="stable")]
        at_once = max(1, _BLOCK_PIXELS // int(2 * size + 1) ** 2)
        for first in range(0, members.size, at_once):
            _add_block(canvas, stars.take(members[first : first + at_once]), int(size), psf.beta)
    return canvas[pad : pad + shape[0], pad : pad + shape[1]]


def stamp_half_size(
    flux_adu: npt.ArrayLike, psf: Moffat, noise_adu: float = 0.0, gain_e_per_adu: float = 1.0
) -> npt.NDArray[np.int64]:
    """Return the half sizes of the stamps of stars, pixels; a stamp is 2 half + 1 pixels wide."""
    flux = np.abs(np.atleast_1d(np.asarray(flux_adu, float)))
    lost, edge = np.full(flux.shape, _LOST_FRACTION), np.zeros(flux.shape)
    if noise_adu > 0.0:
        flux_noise = np.sqrt(flux / gain_e_per_adu + psf.noise_pixels * noise_adu**2)
        bright = np.maximum(flux, 1e-9 * noise_adu)
        lost = np.minimum(_LOST_SIGMA * flux_noise / bright, 0.5)
        step = np.minimum(_STEP_SIGMA * noise_adu / (bright * psf.peak), 1.0)
        edge = np.sqrt(step ** (-1.0 / psf.beta) - 1.0)
    reach = np.maximum(np.sqrt(lost ** (-1.0 / (psf.beta - 1.0)) - 1.0), edge)
    long_axis = psf.alpha_px / np.sqrt(1.0 - np.asarray(psf.ellipticity, float))
    place = np.searchsorted(_HALF_SIZES, np.ceil(reach * long_axis))
    return np.asarray(_HALF_SIZES[np.minimum(place, _HALF_SIZES.size - 1)])


def _place(x: _Array, y: _Array, flux: _Array, psf: Moffat, pad: int) -> _CanvasStars:
    """Split positions into pixel and rest, and profiles into the coefficients of (r / alpha)^2."""
    column, row = np.rint(x), np.rint(y)
    alpha, angle = psf.alpha_px, np.radians(np.asarray(psf.angle_deg, float))
    ratio = 1.0 - np.asarray(psf.ellipticity, float)
    along, across = ratio / alpha**2, 1.0 / (ratio * alpha**2)
    cosine, sine = np.cos(angle), np.sin(angle)

    def single(values: _Array) -> npt.NDArray[np.float32]:
        return np.broadcast_to(values, x.shape).astype(np.float32)

    return _CanvasStars(
        column.astype(np.int64) + pad,
        row.astype(np.int64) + pad,
        single(x - column),
        single(y - row),
        single(flux * psf.peak),
        single(along * cosine**2 + across * sine**2),
        single((along - across) * cosine * sine),
        single(along * sine**2 + across * cosine**2),
    )


def _add_block(canvas: Image, stars: _CanvasStars, half: int, beta: float) -> None:
    offsets = np.arange(-half, half + 1)
    dx = offsets.astype(np.float32)[None, None, :] - stars.dx[:, None, None]
    dy = offsets.astype(np.float32)[None, :, None] - stars.dy[:, None, None]
    xx, xy, yy = (values[:, None, None] for values in (stars.xx, stars.xy, stars.yy))
    slope_x, slope_y = xx * dx + xy * dy, xy * dx + yy * dy
    inverse = 1.0 / (1.0 + (dx * slope_x + dy * slope_y))
    values = np.exp(np.float32(beta) * np.log(inverse))
    curvature = slope_x**2 + slope_y**2
    curvature *= inverse
    curvature *= np.float32(2.0 * (beta + 1.0))
    curvature -= xx + yy
    curvature *= inverse
    curvature *= np.float32(beta / 12.0)
    curvature += np.float32(1.0)
    values *= curvature
    core = slice(half - _CORE, half + _CORE + 1)
    values[:, core, core] = _core(stars, beta)
    values *= stars.peak[:, None, None]
    index = (stars.row[:, None] + offsets)[:, :, None] * canvas.shape[1] + (stars.column[:, None] + offsets)[
        :, None, :
    ]
    np.add.at(canvas.reshape(-1), index.reshape(-1), values.reshape(-1))


def _core(stars: _CanvasStars, beta: float) -> npt.NDArray[np.float32]:
    """Return the integrals over the pixels of the core, shape (n, 2 core + 1, 2 core + 1)."""
    pixels = np.arange(-_CORE, _CORE + 1)
    points = (pixels[:, None] + _GAUSS_POINTS).astype(np.float32).reshape(-1)
    dx = points[None, None, :] - stars.dx[:, None, None]
    dy = points[None, :, None] - stars.dy[:, None, None]
    xx, xy, yy = (values[:, None, None] for values in (stars.xx, stars.xy, stars.yy))
    squared = dx * (xx * dx + 2.0 * xy * dy) + yy * dy**2
    values = np.exp(np.float32(-beta) * np.log1p(squared))
    weights = _GAUSS_WEIGHTS.astype(np.float32)
    cells = values.reshape(-1, pixels.size, 3, pixels.size, 3)
    return np.asarray(np.einsum("nyaxb,a,b->nyx", cells, weights, weights, optimize=True))

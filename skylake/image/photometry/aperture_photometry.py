"""Aperture photometry in circles and ellipses, with errors and mask bits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.core.flags import UNUSABLE_PIXEL
from skylake.core.frame import Image, MaskPlane, Pixels
from skylake.image.detection.background import Background
from skylake.image.detection.mask_bits import circle_bits, footprint_bits, tile_bits
from skylake.image.detection.variance_plane import Agreement, agreement_of
from skylake.image.photometry import ellipse_kernels
from skylake.image.photometry import pixel_sum_kernels as columns
from skylake.image.photometry.aperture_kernels import circle_sums, profiles
from skylake.image.photometry.ellipse_kernels import Ellipses
from skylake.image.photometry.pixel_sum_kernels import PixelNoise, Planes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

#: Side of the squares for which is known whether any of their pixels has a bit.
TILE_PX = 16
#: No circle is quieter than this share of the variance of the sky about it, whatever a variance plane says.
_LEAST_NOISE = 0.25

#: Rings that are summed together for all sources, and for those that are not done then.
_INNER_RINGS, _OUTER_RINGS = 4, 9
#: Ellipses no larger than that are summed many at a time.
_LARGEST_PX = 16
_NO_PLANE = np.empty((0, 0), np.float32)

UNUSABLE = int(UNUSABLE_PIXEL)


@dataclass(frozen=True, slots=True)
class PhotometryScene:
    """What is measured: the signal of an image with its mask and noise.

    Attributes
    ----------
    signal : ndarray of float32, shape (height, width)
        Image minus background, ADU.
    mask : ndarray of uint8, shape (height, width)
        Bits of :class:`~skylake.core.flags.PixelFlag`.
    rms : ndarray of float32, shape (height, width)
        Noise of the background.
    variance : ndarray of float32
        Variance of each pixel with the photons of the stars, of the shape of the image; or empty.
    agreement : Agreement
        What makes the variance plane agree with the noise of the background.
    gain : float
        Electrons per ADU, for photons where there is no variance plane.
    tiles : ndarray of uint8
        Bits of squares of the mask.
    row_variance : float
        What the pixels of a row have in common of their variance, ADU^2.
    """

    signal: Pixels
    mask: MaskPlane
    rms: Pixels
    variance: Pixels
    agreement: Agreement
    gain: float
    tiles: MaskPlane
    row_variance: float = 0.0

    @property
    def scale(self) -> float:
        """Factor of the variance plane."""
        return self.agreement.scale

    def excess_at(self, x: Floats, y: Floats) -> Floats:
        """Return what is added to the variance plane at places, ADU^2."""
        return self.agreement.excess(x, y, self.rms_at(x, y))

    def rms_at(self, x: Floats, y: Floats) -> Floats:
        """Return the noise of the background at places."""
        height, width = self.rms.shape
        return np.asarray(self.rms[nearest_pixel(y, height), nearest_pixel(x, width)], float)

    def planes(self) -> Planes:
        """Return the image as kernels read it."""
        return Planes(self.signal, self.mask, self.variance, self.tiles, TILE_PX, UNUSABLE)

    def noise_at(self, x: Floats, y: Floats) -> PixelNoise:
        """Return what the variance of pixels at places is made of."""
        return PixelNoise(self.rms_at(x, y), 1.0 / self.gain, self.scale, self.excess_at(x, y))


def make_scene(
    image: Image, background: Background, signal: Pixels, segments: npt.NDArray[np.int32], gain: float
) -> PhotometryScene:
    """Return what is measured of an image.

    A variance plane is made to agree with the measured noise of the background, so that a wrong read noise, or a gain
    that is not known, does not make errors wrong; see :func:`~skylake.image.detection.variance_plane.agree`.

    Parameters
    ----------
    image : Image
    background : Background
    signal : ndarray of float32
        Image minus background.
    segments : ndarray of int32
        Positive where a detection is.
    gain : float
        Electrons per ADU.
    """
    mask = np.ascontiguousarray(image.mask)
    variance = _NO_PLANE if image.variance is None else np.ascontiguousarray(image.variance, np.float32)
    agreement = agreement_of(image, background.rms, segments)
    return PhotometryScene(
        np.ascontiguousarray(signal, np.float32),
        mask,
        background.rms,
        variance,
        agreement,
        gain,
        tiles_of(mask),
        image.row_variance,
    )


def tiles_of(mask: MaskPlane) -> MaskPlane:
    """Return the bits that occur in squares of a mask."""
    height, width = mask.shape
    tiles = np.zeros((-(-height // TILE_PX), -(-width // TILE_PX)), np.uint8)
    tile_bits(mask, TILE_PX, tiles)
    return tiles


def nearest_pixel(position: Floats, size: int) -> npt.NDArray[np.intp]:
    """Return the pixel that each position is in, or the nearest of the image."""
    return np.clip(np.rint(position), 0, size - 1).astype(np.intp)


def circular_fluxes(
    scene: PhotometryScene, x: Floats, y: Floats, radii: tuple[float, ...]
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Return fluxes in circles, with the exact overlap of circle and pixel.

    Unusable pixels are left out and the flux is scaled up by their share of the area; what lies outside the
    image is missing. A sum with overlaps f has the variance sum(f^2 variance): that of the variance plane with what
    makes it agree with the sky, else ``sum(f^2) rms^2 + sum(f^2 signal) / gain`` with the noise of the background at
    the source.

    Parameters
    ----------
    scene : PhotometryScene
    x, y : ndarray, shape (n,)
        Centres, 0-based pixels.
    radii : tuple of float
        Radii, pixels.

    Returns
    -------
    flux, error : ndarray, shape (radii, n)
        ADU; NaN where all pixels are unusable.
    obscured : ndarray of bool, shape (radii, n)
        Whether a circle holds an unusable pixel.
    """
    sums = _circle_sums(scene, x, y, radii)
    flux, error = fluxes_of(scene, sums.transpose(1, 0, 2), x, y)
    return flux, error, np.asarray((sums[..., columns.OBSCURED] > 0.0).T)


def elliptical_fluxes(
    scene: PhotometryScene, x: Floats, y: Floats, a: Floats, b: Floats, theta: Floats, scale: Floats
) -> tuple[Floats, Floats]:
    """Return fluxes and errors in ellipses of `scale` times the half axes, cut into five slices of each row.

    Parameters
    ----------
    scene : PhotometryScene
    x, y, a, b : ndarray, shape (n,)
        Centres and half axes, pixels.
    theta : ndarray, shape (n,)
        Angle of the long axis from x towards y, radians.
    scale : ndarray, shape (n,)
    """
    return fluxes_of(scene, elliptical_sums(scene, x, y, a, b, theta, scale), x, y)


def elliptical_sums(
    scene: PhotometryScene, x: Floats, y: Floats, a: Floats, b: Floats, theta: Floats, scale: Floats
) -> Floats:
    """Return the sums in ellipses from which fluxes follow, shape (n, 6)."""
    sums = np.zeros((len(x), columns.N_SUMS))
    reach = scale * np.maximum(a, b)
    largest = min(_LARGEST_PX, (min(scene.signal.shape) - 1) // 2)
    ellipses = Ellipses(_plain(x), _plain(y), _plain(a), _plain(b), _plain(theta))
    order = np.argsort(np.ceil(reach), kind="stable")
    ellipse_kernels.ellipse_sums(scene.planes(), ellipses, _plain(scale), order, largest, sums)
    return sums


def kron_radii(
    scene: PhotometryScene, x: Floats, y: Floats, a: Floats, b: Floats, theta: Floats, reach: float
) -> Floats:
    """Return the mean radius of the light within `reach`, in units of a and b (Kron 1980, ApJS 43, 305).

    Returns
    -------
    ndarray, shape (n,)
        NaN where the light, or its mean radius, is negative or beyond `reach`.
    """
    radii = np.empty(len(x))
    ellipses = Ellipses(_plain(x), _plain(y), _plain(a), _plain(b), _plain(theta))
    ellipse_kernels.kron_radii(scene.planes(), ellipses, reach, radii)
    return radii


def radial_profiles(
    scene: PhotometryScene, x: Floats, y: Floats, total: Floats, reach: Floats, edges: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Return the square of the full width at half maximum, and the radius that holds half of the light.

    The brightness in rings is interpolated as a Gaussian, its logarithm linear in the square of the radius,
    towards the centre too: a pixel is not small against the core of a star.

    Parameters
    ----------
    scene : PhotometryScene
    x, y : ndarray, shape (n,)
        Centres, 0-based pixels.
    total : ndarray, shape (n,)
        All light of each source, ADU.
    reach : ndarray, shape (n,)
        Where that light ends, pixels; rings beyond are not asked for it, but for the first few.
    edges : tuple of float
        Outer edges of the rings, pixels.

    Returns
    -------
    squares, half_light : ndarray, shape (n,)
        Pixels squared, with what pixels add; and pixels. NaN where noise hides them.
    """
    squares, half_light = np.full(len(x), np.nan), np.full(len(x), np.nan)
    some, bare = np.arange(len(x)), replace(scene, variance=_NO_PLANE)
    # Most sources are done in the first rings.
    for n in (_INNER_RINGS, _OUTER_RINGS):
        rings = np.array(edges if n == _OUTER_RINGS else edges[:n], float)
        here = x[some], y[some]
        sums = _circle_sums(bare, *here, edges[:n])
        widths = np.empty((2, len(some)))
        places = (_plain(position) for position in here)
        profiles(bare.planes(), *places, _plain(total[some]), _plain(reach[some]), rings, sums, widths)
        squares[some], half_light[some] = widths
        some = some[np.isnan(widths).any(axis=0)]
    return squares, half_light


def bits_in_circles(scene: PhotometryScene, x: Floats, y: Floats, radius: float) -> npt.NDArray[np.uint8]:
    """Return the bits of the pixels whose centres are within a radius of each place."""
    bits = np.zeros(len(x), np.uint8)
    circle_bits(scene.mask, scene.tiles, TILE_PX, _plain(x), _plain(y), radius, bits)
    return bits


def bits_in_footprints(
    scene: PhotometryScene, segments: npt.NDArray[np.int32], n: int, bits: int
) -> npt.NDArray[np.uint8]:
    """Return, of some bits, those of the pixels of each of n footprints."""
    held = np.zeros(n + 1, np.uint8)
    if (scene.tiles & np.uint8(bits)).any():
        footprint_bits(scene.mask, scene.tiles, TILE_PX, bits, np.ascontiguousarray(segments, np.int32), held)
    return held[1:]


def _circle_sums(scene: PhotometryScene, x: Floats, y: Floats, radii: tuple[float, ...]) -> Floats:
    sums = np.zeros((len(x), len(radii), columns.N_SUMS))
    circle_sums(scene.planes(), _plain(x), _plain(y), np.array(radii, float), sums)
    return sums


def fluxes_of(scene: PhotometryScene, sums: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return flux and error from sums of shape (…, n, 6), scaled up by the area that is obscured."""
    sky = sums[..., columns.SQUARES] * scene.rms_at(x, y) ** 2
    seen, obscured = sums[..., columns.AREA], sums[..., columns.OBSCURED]
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(obscured > 0.0, np.where(seen > 0.0, 1.0 + obscured / seen, np.nan), 1.0)
    if scene.variance.size:
        variance = scene.scale * sums[..., columns.NOISE]
        if scene.agreement.squares is not None:
            variance = variance + scene.excess_at(x, y) * sums[..., columns.SQUARES]
            variance = np.maximum(variance, _LEAST_NOISE * sky)
    else:
        variance = sky + np.maximum(sums[..., columns.LIGHT], 0.0) / scene.gain
    return factor * sums[..., columns.FLUX], factor * np.sqrt(np.maximum(variance, 0.0))


def _plain(values: Floats) -> Floats:
    """Return values as kernels take them."""
    return np.ascontiguousarray(values, float)

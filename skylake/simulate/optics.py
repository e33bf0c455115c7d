"""Where a camera puts a star, and how it blurs it.

The projection is gnomonic. Seen from pixel to sky, the distance to the centre of the image grows by a
cubic term, R = r (1 + k r^2); this is a TAN-SIP header with four coefficients, exactly (Shupe et al.
2005, ASP Conf. Ser. 347, 491). Pixels are 0-based.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import ra_dec, tangent_basis, unit_vectors
from skylake.simulate.scenario import OpticsParams
from skylake.simulate.stamps import Moffat

_Array = npt.NDArray[np.float64]
_NEWTON_STEPS = 6


@dataclass(frozen=True, slots=True)
class SimulatedPointing:
    """The astrometric solution of a frame.

    Attributes
    ----------
    ra_deg, dec_deg : float
        What the centre of the image points at, ICRS.
    rotation_deg : float
        Position angle of +y, east of north.
    scale_arcsec : float
        Pixel scale at the centre.
    shape : tuple of int
        Height and width of the image.
    distortion : float
        k r^2 in the corners.
    mirrored : bool
        Whether east is to the right where north is up.
    """

    ra_deg: float
    dec_deg: float
    rotation_deg: float
    scale_arcsec: float
    shape: tuple[int, int]
    distortion: float = 0.0
    mirrored: bool = False

    @property
    def centre_px(self) -> tuple[float, float]:
        """X and y of the centre of the image."""
        return (self.shape[1] - 1) / 2.0, (self.shape[0] - 1) / 2.0

    @property
    def half_diagonal_px(self) -> float:
        """Distance from the centre to the corners."""
        return float(np.hypot(*self.centre_px))

    @property
    def cubic(self) -> float:
        """The coefficient k, per square pixel."""
        return self.distortion / self.half_diagonal_px**2

    @property
    def matrix(self) -> _Array:
        """CD matrix: from pixels to east and north on the tangent plane, degrees."""
        angle, side = np.radians(self.rotation_deg), 1.0 if self.mirrored else -1.0
        cosine, sine = np.cos(angle), np.sin(angle)
        return np.array([[side * cosine, sine], [-side * sine, cosine]]) * self.scale_arcsec / 3600.0

    def sky_to_pixel(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> tuple[_Array, _Array]:
        """Return x and y of positions; NaN for those more than 80 degrees from the centre."""
        stars = unit_vectors(ra_deg, dec_deg)
        east, north = tangent_basis(self.ra_deg, self.dec_deg)
        depth = stars @ unit_vectors(self.ra_deg, self.dec_deg)
        depth = np.where(depth > np.cos(np.radians(80.0)), depth, np.nan)
        plane = np.degrees(np.stack([stars @ east, stars @ north]) / depth)
        u, v = np.tensordot(np.linalg.inv(self.matrix), plane, axes=1)
        factor = self._undistorted(u * u + v * v)
        return u * factor + self.centre_px[0], v * factor + self.centre_px[1]

    def _undistorted(self, squared: _Array) -> _Array:
        """Solve r (1 + k r^2) = R for the ratio r / R by Newton's method."""
        strength = self.cubic * squared
        ratio = np.ones_like(squared)
        for _ in range(_NEWTON_STEPS):
            excess = ratio * (1.0 + strength * ratio**2) - 1.0
            ratio -= excess / np.maximum(1.0 + 3.0 * strength * ratio**2, 0.1)
        return ratio

    def pixel_to_sky(self, x_px: npt.ArrayLike, y_px: npt.ArrayLike) -> tuple[_Array, _Array]:
        """Return right ascension and declination of pixels, degrees."""
        u, v = np.asarray(x_px, float) - self.centre_px[0], np.asarray(y_px, float) - self.centre_px[1]
        factor = 1.0 + self.cubic * (u * u + v * v)
        xi, eta = np.radians(np.tensordot(self.matrix, np.stack([u * factor, v * factor]), axes=1))
        east, north = tangent_basis(self.ra_deg, self.dec_deg)
        centre = unit_vectors(self.ra_deg, self.dec_deg)
        return ra_dec(centre + xi[..., None] * east + eta[..., None] * north)

    def cards(self, origin_px: tuple[int, int] = (0, 0)) -> list[tuple[str, object, str]]:
        """Return the WCS cards; `origin_px` is where the image begins in the stored array, x and y."""
        kind = "TAN-SIP" if self.distortion else "TAN"
        matrix = self.matrix
        cards: list[tuple[str, object, str]] = [
            ("CTYPE1", f"RA---{kind}", "gnomonic projection"),
            ("CTYPE2", f"DEC--{kind}", "gnomonic projection"),
            ("CUNIT1", "deg", ""),
            ("CUNIT2", "deg", ""),
            ("CRVAL1", self.ra_deg % 360.0, "right ascension at the reference pixel"),
            ("CRVAL2", self.dec_deg, "declination at the reference pixel"),
            ("CRPIX1", self.centre_px[0] + 1.0 + origin_px[0], "reference pixel, x"),
            ("CRPIX2", self.centre_px[1] + 1.0 + origin_px[1], "reference pixel, y"),
        ]
        cards += [(f"CD{i + 1}_{j + 1}", float(matrix[i, j]), "") for i in range(2) for j in range(2)]
        # The default of LONPOLE is another one exactly at the pole.
        cards += [("LONPOLE", 180.0, ""), ("RADESYS", "ICRS", ""), ("EQUINOX", 2000.0, "")]
        if self.distortion:
            cards += [("A_ORDER", 3, ""), ("B_ORDER", 3, "")]
            cards += [(name, self.cubic, "") for name in ("A_3_0", "A_1_2", "B_0_3", "B_2_1")]
        return cards


def field_radius(shape: tuple[int, int]) -> tuple[_Array, _Array, _Array]:
    """Return x, y and squared distance from the centre, in half diagonals; shapes broadcast to `shape`."""
    half_y, half_x = (shape[0] - 1) / 2.0, (shape[1] - 1) / 2.0
    diagonal = np.hypot(half_x, half_y)
    x, y = (np.arange(shape[1]) - half_x) / diagonal, (np.arange(shape[0]) - half_y) / diagonal
    return x[None, :], y[:, None], x[None, :] ** 2 + y[:, None] ** 2


def point_spread(
    params: OpticsParams, fwhm_px: float, shape: tuple[int, int], x_px: npt.ArrayLike, y_px: npt.ArrayLike
) -> Moffat:
    """Return the point spread functions at places of an image.

    Parameters
    ----------
    params : OpticsParams
        How they vary over the field.
    fwhm_px : float
        Full width at half maximum at the centre of this frame.
    shape : tuple of int
        Height and width of the image.
    x_px, y_px : array_like
        The places; ones outside the image are taken to its edge.

    Notes
    -----
    The elongation is the sum, as spin-2 quantities, of a radial one that grows with the square of the
    radius and a constant one along +x.
    """
    half_y, half_x = (shape[0] - 1) / 2.0, (shape[1] - 1) / 2.0
    diagonal = np.hypot(half_x, half_y)
    x = (np.clip(np.asarray(x_px, float), 0.0, 2.0 * half_x) - half_x) / diagonal
    y = (np.clip(np.asarray(y_px, float), 0.0, 2.0 * half_y) - half_y) / diagonal
    width = 1.0 + params.fwhm_edge * (x * x + y * y) + params.fwhm_tilt * (x + 0.5 * y)
    along = params.ellipticity_edge * (x * x - y * y) + params.ellipticity_tilt
    across = params.ellipticity_edge * 2.0 * x * y
    ellipticity, angle = np.hypot(along, across), np.degrees(0.5 * np.arctan2(across, along))
    return Moffat(fwhm_px * width, ellipticity, angle, params.beta)

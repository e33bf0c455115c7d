"""View of the sky from a camera that stands on the ground: pixels to the sky and back.

The lens knows directions above the horizon, which stay; the horizon knows where the stars are for it, which pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.horizon import Horizon, altitude_azimuth, horizontal_vectors
from skylake.core.sphere import FloatArray, ra_dec, unit_vectors
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.sip import SipHeader, to_sip


@dataclass(frozen=True, slots=True)
class SkyView:
    """A lens that knows apparent directions (east, north, up), and the horizon at an instant.

    All methods are vectorised. Positions are degrees, ICRS or apparent altitude and azimuth (from north through east);
    pixels are 0-based. Places that the lens does not show are NaN.

    Attributes
    ----------
    lens : Lens
    horizon : Horizon
    shape : tuple of int
        Height and width of the image.
    lowest_deg : float
        Lower altitudes count as not shown: there is no sky.
    """

    lens: Lens
    horizon: Horizon
    shape: tuple[int, int]
    lowest_deg: float = -1.0

    def at(self, horizon: Horizon) -> SkyView:
        """Return the view of the same camera at another instant."""
        return replace(self, horizon=horizon)

    def alt_az_to_pixels(
        self, altitude_deg: npt.ArrayLike, azimuth_deg: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """Return the pixels of apparent altitudes and azimuths."""
        return self.lens.to_pixels(self._above(horizontal_vectors(altitude_deg, azimuth_deg)))

    def pixels_to_alt_az(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the apparent altitudes and azimuths of pixels."""
        return altitude_azimuth(self._above(self.lens.to_vectors(x, y)))

    def icrs_to_pixels(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the pixels of positions."""
        return self.to_pixels(unit_vectors(ra_deg, dec_deg))

    def pixels_to_icrs(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the positions of pixels."""
        return ra_dec(self.to_vectors(x, y))

    def to_pixels(self, vectors: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the pixels of ICRS unit vectors of shape (..., 3)."""
        return self.lens.to_pixels(self._above(self.horizon.to_horizon(vectors)))

    def to_vectors(self, x: npt.ArrayLike, y: npt.ArrayLike) -> FloatArray:
        """Return ICRS unit vectors, shape (..., 3), of pixels."""
        return self.horizon.to_icrs(self._above(self.lens.to_vectors(x, y)))

    def _above(self, apparent: FloatArray) -> FloatArray:
        low = apparent[..., 2] < np.sin(np.radians(self.lowest_deg))
        return np.where(low[..., None], np.nan, apparent)

    @property
    def axis(self) -> FloatArray:
        """The ICRS direction of the optical axis, shape (3,)."""
        return self.to_vectors(self.lens.x0, self.lens.y0)

    @property
    def x0(self) -> float:
        """The pixel of the optical axis."""
        return self.lens.x0

    @property
    def y0(self) -> float:
        """The pixel of the optical axis."""
        return self.lens.y0

    @property
    def projection(self) -> str:
        """The ideal lens that this one is near to."""
        return self.lens.projection

    def header(self, tolerance_px: float = 0.05, lowest_deg: float = 5.0) -> SipHeader:
        """Return the view as a zenithal projection with SIP polynomials, and how well that represents it.

        Polynomials follow the sky above `lowest_deg` only: towards the horizon refraction grows too fast for them.
        """
        return to_sip(replace(self, lowest_deg=lowest_deg), self.shape, tolerance_px)

    def wcs(self) -> Any:
        """Return the view as a WCS that astropy takes (APE 14): high level, pixels to and from SkyCoord."""
        from astropy.wcs.wcsapi import HighLevelWCSWrapper

        from skylake.image.wcs.ape14 import ViewWCS

        return HighLevelWCSWrapper(ViewWCS(self))

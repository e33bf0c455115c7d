"""Where a frame points, and what the catalog says of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.errors import FrameRejected
from skylake.image.quality.cloud_cover import Found
from skylake.image.solving.wcs_check import WcsCheck
from skylake.image.wcs.header_wcs import CatalogStars, Pointing

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """A pointing as the catalog sees it.

    Attributes
    ----------
    pointing : Pointing
    stars : CatalogStars
        Around the field.
    check : WcsCheck
    found : Found
    radius_arcsec : float
        Within which a source is a star.
    """

    pointing: Pointing
    stars: CatalogStars
    check: WcsCheck
    found: Found
    radius_arcsec: float

    @property
    def wrong(self) -> bool:
        """Whether there are enough stars to say that they are not where the WCS puts them."""
        return self.check.decisive and not self.check.passed

    @property
    def offset_px(self) -> float:
        """Median distance of stars and their sources; NaN if none is found."""
        return self.check.offset_arcsec / self.pointing.pixel_scale_arcsec


@dataclass(frozen=True, slots=True)
class Located:
    """Where a frame points.

    Attributes
    ----------
    pointing : Pointing or None
    lost : FrameRejected or None
        Why there is no pointing, or why it is wrong.
    crowding : ndarray or None
        Light that neighbours bring into the apertures of sources, where the catalog confirms the pointing.
    stars : CatalogStars or None
        Catalog stars, if it does.
    found : Found or None
        Which of the stars that a clear frame shows are there, if it does.
    """

    pointing: Pointing | None
    lost: FrameRejected | None = None
    crowding: Floats | None = None
    stars: CatalogStars | None = None
    found: Found | None = None

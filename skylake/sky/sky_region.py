"""A part of the sky: a cone, or a coverage map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import INDEX_ORDER, IntArray, healpix_index, within
from skylake.errors import UsageError
from skylake.sky.pixels import Pixel, cone_ranges, pixel_range


@dataclass(frozen=True, slots=True)
class SkyRegion:
    """A part of the sky.

    Attributes
    ----------
    ranges : ndarray of int64, shape (n, 2)
        Half-open ranges of the HEALPix index, order 29, that cover it.
    cone : tuple of float or None
        Right ascension, declination and radius, degrees, of a cone; the ranges are all of any other region.
    """

    ranges: IntArray
    cone: tuple[float, float, float] | None = None

    @classmethod
    def of_cone(cls, ra_deg: float, dec_deg: float, radius_deg: float) -> SkyRegion:
        """Return a cone."""
        return cls(cone_ranges(ra_deg, dec_deg, radius_deg), (ra_deg, dec_deg, radius_deg))

    @classmethod
    def whole(cls) -> SkyRegion:
        """Return the whole sky."""
        return cls(np.array([[0, 12 << (2 * INDEX_ORDER)]], np.int64))

    @classmethod
    def of_moc(cls, path: Path) -> SkyRegion:
        """Return the region of a multi-order coverage map: a file of FITS, JSON or text.

        Raises
        ------
        UsageError
            If the file cannot be read as one.
        """
        from mocpy import MOC

        form = {".json": "json", ".txt": "ascii"}.get(path.suffix.lower(), "fits")
        try:
            ranges = MOC.load(path, format=form).to_depth29_ranges
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(f"{path}: this is no coverage map ({error}); name a MOC") from error
        return cls(np.asarray(ranges, np.int64).reshape(-1, 2))

    @classmethod
    def of_moc_text(cls, text: str) -> SkyRegion:
        """Return the region of a multi-order coverage map in the text form of the standard, as ``6/3-5 7/40``.

        Raises
        ------
        ValueError
            If it is none.
        """
        from mocpy import MOC

        return cls(np.asarray(MOC.from_string(text).to_depth29_ranges, np.int64).reshape(-1, 2))

    @property
    def moc_text(self) -> str:
        """The region as a multi-order coverage map in the text form of the standard."""
        from mocpy import MOC

        return str(MOC.from_depth29_ranges(INDEX_ORDER, self.ranges.astype(np.uint64)).to_string()).strip()

    def holds(self, ra_deg: Any, dec_deg: Any) -> npt.NDArray[np.bool_]:
        """Return which positions are in the region."""
        if self.cone is not None:
            return np.asarray(within(*self.cone, ra_deg, dec_deg))
        index = healpix_index(ra_deg, dec_deg)
        place = np.minimum(np.searchsorted(self.ranges[:, 1], index, side="right"), len(self.ranges) - 1)
        return np.asarray((self.ranges[place, 0] <= index) & (index < self.ranges[place, 1]))

    def inside(self, pixel: Pixel) -> IntArray:
        """Return the ranges of the region within a pixel."""
        inside = np.clip(self.ranges, *pixel_range(*pixel))
        return np.asarray(inside[inside[:, 0] < inside[:, 1]])

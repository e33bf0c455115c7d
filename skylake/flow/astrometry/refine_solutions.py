"""Refine the solution of a frame with the stars of a catalog."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from skylake.core.camera import Camera
from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.solving.refined_wcs import RefinedPointing, refine_known
from skylake.image.solving.solve_stars import Solution
from skylake.image.solving.source_list import StarList
from skylake.image.wcs.field_refraction import OFF, bending_of
from skylake.image.wcs.header_wcs import CatalogStars, Pointing, describe_pointing
from skylake.image.wcs.star_matching import Sources
from skylake.sky.lake_catalogs import ReferenceCatalog, StarField

#: A solution is right to so many pixels all over the frame: its lens has few terms.
_ROUGH_PX = 20.0
#: Stars are taken so much fainter than the faintest source, magnitudes: bands differ.
_MARGIN = 0.5


@dataclass(frozen=True, slots=True)
class RefinedFrame:
    """A frame with a lens fitted to its stars, and the columns of its row on that."""

    pointing: RefinedPointing
    stars: CatalogStars
    seconds: float
    epoch: Epoch | None = None
    refraction: str = "off"

    def row(self) -> dict[str, Any]:
        """Return what is reported of it; numbers that are not known are None."""
        refinement, better = self.pointing.refinement, self.pointing.pointing
        values = {
            "rms_px": refinement.rms_px,
            "rms_arcsec": refinement.rms_arcsec,
            "held_out_px": refinement.held_out_px,
            "err_px": refinement.err_px,
            "completeness": refinement.completeness,
            "wcs_px": self.pointing.written.residual_px,
        }
        return {
            "ra_deg": better.ra_deg,
            "dec_deg": better.dec_deg,
            "scale_arcsec": better.pixel_scale_arcsec,
            "rotation_deg": better.rotation_deg,
            "mirrored": better.mirrored,
            "n_matched": len(refinement.stars),
            "refined": True,
            **{name: value if math.isfinite(value) else None for name, value in values.items()},
            "projection": refinement.lens.projection,
            "n_parameters": len(refinement.fit.freed),
            "sip_order": self.pointing.written.order,
            "geometry": None if self.epoch is None else self.epoch.name,
            "refraction": self.refraction,
            "refine_seconds": self.seconds,
        }


class Refiner:
    """Refines frames by the stars of a catalog; fields that overlap are read once.

    Parameters
    ----------
    catalog : ReferenceCatalog
    band : str or None
        Band that stars are ranked by; the first of the catalog by default.
    """

    def __init__(self, catalog: ReferenceCatalog, band: str | None = None) -> None:
        self._field = StarField(catalog, band)
        # Without the time of a frame stars stay where the catalog has them.
        self._usual_mjd = 51544.5 + 365.25 * (catalog.epoch - 2000.0)

    def refine(
        self,
        header: Any,
        star_list: StarList,
        mjd: float | None,
        solution: Solution | None = None,
        epoch: Epoch | None = None,
        camera: Camera | None = None,
        band: str | None = None,
    ) -> RefinedFrame | None:
        """Fit a lens to the stars of a frame.

        Parameters
        ----------
        header : astropy.io.fits.Header
            A WCS that is right to some pixels.
        star_list : StarList
        mjd : float or None
            Of the exposure.
        solution : Solution, optional
            Whose stars show how deep the frame is; without it the catalog is read as deep as it goes.
        epoch : Epoch, optional
            What was learned of the distortion of the camera, as the lake has it.
        camera : Camera, optional
            Whose site gives refraction.
        band : str, optional
            That the frame was taken in, for refraction; without it that of 0.55 micrometres.

        Returns
        -------
        RefinedFrame or None
            None if no more stars match than by chance.
        """
        from astropy.wcs import WCS

        rough = describe_pointing(WCS(header), *star_list.shape)
        faintest = math.inf if solution is None else depth_of(star_list, solution)
        stars = self._stars(rough, self._usual_mjd if mjd is None else mjd, faintest)
        sources = Sources.ranked(star_list.x, star_list.y, star_list.sigma, star_list.flux)
        began = time.thread_time()
        known = None if epoch is None else epoch.in_file(star_list.offset, star_list.step, star_list.shape)
        bending, word = None, OFF
        if camera is not None:
            bending, word = bending_of(camera, band, mjd, rough.ra_deg, rough.dec_deg)
        better, used = refine_known(rough, stars, sources, star_list.shape, _ROUGH_PX, known, bending)
        if better is None:
            return None
        seconds = time.thread_time() - began
        return RefinedFrame(better, stars, seconds, None if used is None else epoch, word)

    def _stars(self, pointing: Pointing, mjd: float, faintest: float) -> CatalogStars:
        return CatalogStars(
            *self._field.at(pointing.ra_deg, pointing.dec_deg, pointing.radius_deg, mjd, faintest)
        )


def depth_of(star_list: StarList, solution: Solution) -> float:
    """Return how faint stars may be that a frame shows, magnitudes of the index."""
    measured = -2.5 * np.log10(star_list.flux)
    zeropoint = float(np.median(solution.magnitudes - measured[solution.sources]))
    return zeropoint + float(measured.max()) + _MARGIN

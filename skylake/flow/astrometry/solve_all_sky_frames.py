"""Solve frames of cameras that see the whole sky, with the stars of a catalog of the lake."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from skylake.cameras import Profile
from skylake.errors import ConfigurationError, FrameError
from skylake.flow.astrometry.all_sky_frames import solve_all_sky_file
from skylake.flow.astrometry.solve_frames import SolvedFrame
from skylake.image.allsky.allsky_pointing import refraction_word
from skylake.image.allsky.solve_allsky import AllSkySolution
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.lake import Snapshot
from skylake.sky.lake_catalogs import ReferenceCatalog, StarField


class AllSkySolver:
    """Solves frames by the site of their camera and their time.

    Parameters
    ----------
    snapshot : Snapshot
    name : str
        Catalog.
    profile : Profile

    Raises
    ------
    ConfigurationError
        If the profile has no site.
    """

    def __init__(self, snapshot: Snapshot, name: str, profile: Profile) -> None:
        if not profile.base.site.known:
            raise ConfigurationError(
                f"{profile.source}: [site] has no longitude_deg and latitude_deg, which --all-sky needs"
            )
        bands = [one.band for one in profile.base.filters.values()]
        self._field = StarField(ReferenceCatalog.open(snapshot.catalog(name)), bands[0] if bands else None)
        self._profile, self._catalog = profile, name

    def __call__(self, path: Path) -> SolvedFrame:
        """Solve a frame; one that cannot be has the reason in its row."""
        row: dict[str, Any] = {
            "file": str(path),
            "status": "unsolved",
            "reason": None,
            "message": None,
            "catalog": self._catalog,
            "solver": "skylake",
        }
        try:
            solution = solve_all_sky_file(path, self._profile, self._stars)
        except FrameError as error:
            return SolvedFrame(row | {"reason": error.reason, "message": str(error)})
        solved = row | {"status": "solved"} | described(solution)
        try:
            written = solution.view.header()
        except ValueError as error:
            # Too little of the image shows sky for polynomials; the figures are reported without a WCS.
            return SolvedFrame(solved | {"message": str(error)}, all_sky=solution)
        return SolvedFrame(solved | {"wcs_px": written.residual_px}, written.header, all_sky=solution)

    def _stars(self, ra_deg: float, dec_deg: float, radius_deg: float, mjd: float) -> CatalogStars:
        return CatalogStars(
            *self._field.at(ra_deg, dec_deg, radius_deg, mjd, self._profile.base.astrometry.all_sky_mag)
        )


def described(solution: AllSkySolution) -> dict[str, Any]:
    """Return what is reported of a solution; numbers that are not known are None.

    ``ra_deg`` and ``dec_deg`` are those of the middle of the image, as for every other frame, here and in ``frames``;
    ``x0`` and ``y0`` say where the optical axis is.
    """
    height, width = solution.view.shape
    ra, dec = solution.view.pixels_to_icrs(0.5 * (width - 1), 0.5 * (height - 1))
    values = solution.report() | {
        "ra_deg": float(ra),
        "dec_deg": float(dec),
        "mirrored": solution.view.lens.mirrored,
        "completeness": solution.refined.completeness,
        "refraction": refraction_word(solution.view.horizon),
    }
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }

"""Measured sources beside the stars of the catalog: where a frame points, and what the catalog says of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from skylake.cameras import HeaderReading
from skylake.core.camera import Camera
from skylake.core.ephemeris import airmass, alt_az, sun_and_moon
from skylake.core.flags import FrameFlag, SourceFlag
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import RowPart, Step
from skylake.core.reasons import Reason
from skylake.core.sphere import ra_dec, separation_deg
from skylake.errors import Corrections, FrameRejected
from skylake.image.distortion.distortion_epochs import Epoch, epoch_at
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.quality.cloud_cover import ExpectedStars, FoundStars, count_found, is_cloudy
from skylake.image.quality.frame_verdicts import check_radius_arcsec, clear_sky_of, rejection_of, time_of
from skylake.image.solving.catalog_crowding import catalog_crowding
from skylake.image.solving.expected_pointing import Guide
from skylake.image.solving.refined_wcs import RefinedPointing, refine_known
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, Unsolved
from skylake.image.solving.wcs_check import WcsCheck, check_pointing
from skylake.image.wcs.field_refraction import Bending, bending_of
from skylake.image.wcs.header_wcs import CatalogStars, Pointing, StarFinder, stars_inside
from skylake.image.wcs.lens_text import lens_text
from skylake.image.wcs.star_matching import Sources

Floats = npt.NDArray[np.float64]

#: Finds where an image points, from 0-based sources with fluxes, and its height and width.
Solver = Callable[[Floats, Floats, Floats, tuple[int, int], SolveParams], Solution | Unsolved]

#: What helps where the profile keeps the stars from being asked.
ASK_STARS = "with astrometry.solve = true in the profile its stars show where it points"
#: Places of these are not those of stars.
_MISPLACED = SourceFlag.STREAK | SourceFlag.BAD_PIXEL | SourceFlag.CENTROID_FAILED
#: A source with more of its light in one pixel is a hot pixel or a hit by a particle.
_POINT = 0.8
#: A solution is right to so many pixels all over the image: its lens has two terms.
_SOLVED_PX = 20.0


@dataclass(frozen=True, slots=True)
class HeaderPointing:
    """Where the header of a frame puts it: the pointing, or why there is none."""

    pointing: Pointing | None
    lost: FrameRejected | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A pointing as the catalog sees it.

    Attributes
    ----------
    pointing : Pointing
    stars : CatalogStars
        Around the field.
    check : WcsCheck
    found : FoundStars
    radius_arcsec : float
        Within which a source is a star.
    columns : FrameRow
        How it was found, as columns of ``frames``.
    corrections : mapping
        Keys of the profile that the message in `columns` wants to have other values, and these values.
    """

    pointing: Pointing
    stars: CatalogStars
    check: WcsCheck
    found: FoundStars
    radius_arcsec: float
    columns: FrameRow = field(default_factory=FrameRow)
    corrections: Corrections = field(default_factory=dict)

    @property
    def wrong(self) -> bool:
        """Whether there are enough stars to say that they are not where the WCS puts them."""
        return self.check.decisive and not self.check.passed

    @property
    def offset_px(self) -> float:
        """Median distance of stars and their sources; NaN if none is found."""
        return self.check.offset_arcsec / self.pointing.pixel_scale_arcsec

    @property
    def found_columns(self) -> FrameRow:
        """How many of the stars that a clear frame shows are there."""
        return {"n_expected": self.found.n_expected, "found_fraction": self.found.fraction}


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
    found : FoundStars or None
        Which of the stars that a clear frame shows are there, if it does.
    cards : Pointing or None
        About where the telescope cards put a frame without a pointing.
    """

    pointing: Pointing | None
    lost: FrameRejected | None = None
    crowding: Floats | None = None
    stars: CatalogStars | None = None
    found: FoundStars | None = None
    cards: Pointing | None = None


def require_right(located: Located, row: FrameRow, camera: Camera) -> Pointing:
    """Return where a frame points; raise if that is not known, or if its stars are not there.

    Raises
    ------
    FrameRejected
        With the verdict of the gates, as ``cloudy``, if clouds explain it; else ``no_wcs`` or ``bad_wcs``.
    """
    if located.lost is not None:
        if located.pointing is not None and is_cloudy(row, camera):
            raise rejection_of(row)
        raise located.lost
    if located.pointing is None:
        raise FrameRejected(Reason.NO_WCS, "the frame has no WCS")
    return located.pointing


def pointing_row(pointing: Pointing) -> FrameRow:
    """Return the columns of ``frames`` that a pointing fills, except where it came from."""
    return {
        "ra_deg": pointing.ra_deg,
        "dec_deg": pointing.dec_deg,
        "pixel_scale_arcsec": pointing.pixel_scale_arcsec,
        "rotation_deg": pointing.rotation_deg,
        "mirrored": pointing.mirrored,
        "s_region": pointing.s_region,
    }


def refined_row(refined: RefinedPointing, shape: tuple[int, int], refraction: str) -> FrameRow:
    """Return what a refinement says as columns of ``frames``; `refraction` is the word for whether it was applied."""
    lens: FrameRow = {"wcs_lens": lens_text(refined.lens), "astrom_refraction": refraction}
    return cast("FrameRow", refined.numbers(shape)) | lens


def sky_row(reading: HeaderReading, pointing: Pointing | None) -> FrameRow:
    """Return where Sun, Moon and the frame stand above the horizon of the site."""
    assert reading.mjd_mid is not None
    site = reading.camera.site
    state = sun_and_moon(reading.mjd_mid, site)
    row: FrameRow = {"moon_phase": float(state.moon_phase)}
    if site.known:
        row["sun_altitude_deg"] = float(state.sun_altitude_deg)
        row["moon_altitude_deg"] = float(state.moon_altitude_deg)
    if pointing is not None:
        moon_ra, moon_dec = ra_dec(state.moon)
        row["moon_separation_deg"] = float(
            separation_deg(moon_ra, moon_dec, pointing.ra_deg, pointing.dec_deg)
        )
        if site.known:
            altitude, azimuth = alt_az(pointing.ra_deg, pointing.dec_deg, reading.mjd_mid, site)
            row["altitude_deg"] = float(altitude)
            row["azimuth_deg"] = float(azimuth)
            row["airmass"] = float(airmass(altitude))
    return row


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference data of a lake: stars, a solver by their patterns, the distortion of the camera, expected pointings.

    Attributes
    ----------
    find_stars : callable
        Gives the stars of the catalog to check pointings with.
    solver : callable or None
        Finds where a frame points whose header does not say it, or is wrong.
    epochs : sequence of Epoch
        The known distortion of the camera.
    guide : Guide
        Where the detector is in the focal plane, and where its siblings point.
    catalog : str or None
        Name of the catalog.
    """

    find_stars: StarFinder
    solver: Solver | None = None
    epochs: Sequence[Epoch] = ()
    guide: Guide = field(default_factory=Guide)
    catalog: str | None = None


@dataclass(frozen=True, slots=True)
class MeasuredField:
    """A frame whose sources are measured, with the sky that it may show.

    Attributes
    ----------
    row : FrameRow
        The row of ``frames`` so far.
    camera : Camera
    exposure_s : float
        Seconds.
    shape : tuple of int
        Height and width of the image.
    measured : Measurements
    reference : Reference
    raw_step : int
        Raw pixels from one pixel to the next.
    """

    row: FrameRow
    camera: Camera
    exposure_s: float
    shape: tuple[int, int]
    measured: Measurements
    reference: Reference
    raw_step: int

    @property
    def mjd(self) -> float:
        """Middle of the exposure, MJD (UTC)."""
        return time_of(self.row)

    @property
    def epoch(self) -> Epoch | None:
        """The known distortion of the camera at the time of the frame."""
        return epoch_at(self.reference.epochs, self.mjd, self.shape)

    def judge(self, pointing: Pointing) -> Judged:
        """Look for catalog stars where a pointing puts them."""
        where = pointing.ra_deg, pointing.dec_deg, pointing.radius_deg
        stars = self.reference.find_stars(*where, self.mjd)
        radius = check_radius_arcsec(self.camera, pointing.pixel_scale_arcsec)
        places = self.measured.x, self.measured.y, self.measured.flux["aper1"]
        inside, clear = stars_inside(pointing, self.shape, stars), clear_sky_of(self.row, self.camera)
        check = check_pointing(pointing, self.shape, *places, stars, radius, inside)
        counted = count_found(ExpectedStars(pointing, self.shape, stars, clear, inside), *places, radius)
        return Judged(pointing, stars, check, counted, radius)

    def cloudy(self, judged: Judged) -> bool:
        """Return whether clouds explain that stars are not found."""
        count: FrameRow = {"n_detected": len(self.measured)}
        return is_cloudy(self.row | judged.found_columns | count, self.camera)

    def stars(self) -> npt.NDArray[np.intp]:
        """Return the sources that may be stars, and have their places."""
        found = self.measured
        sharp = found.flux_max > _POINT * found.flux["aper1"] * self.exposure_s
        return np.flatnonzero(((found.flags & int(_MISPLACED)) == 0) & ~sharp)

    def sources(self) -> Sources:
        """Return these sources, brightest first."""
        found, stars = self.measured, self.stars()
        return Sources.ranked(found.x[stars], found.y[stars], found.x_err[stars], found.flux["aper1"][stars])

    def refine(self, judged: Judged, source: str) -> Judged:
        """Fit a lens to the stars of the frame; a pointing that cannot be refined is returned unchanged."""
        radius = max(_SOLVED_PX, judged.radius_arcsec / judged.pointing.pixel_scale_arcsec)
        bending, word = self.refraction(judged.pointing)
        better, known = refine_known(
            judged.pointing, judged.stars, self.sources(), self.shape, radius, self.epoch, bending
        )
        if better is None:
            return replace(judged, columns={"wcs_source": source if source == "solved" else "header"})
        columns: FrameRow = {"wcs_source": source, "wcs_geometry": None if known is None else known.name}
        refined = self.judge(replace(better.pointing, lens=better.lens))
        return replace(refined, columns=refined_row(better, self.shape, word) | columns)

    def refraction(self, pointing: Pointing) -> tuple[Bending | None, str]:
        """Return the refraction over the field, and the word for whether it is known."""
        place = pointing.ra_deg, pointing.dec_deg
        return bending_of(self.camera, self.row.get("band"), self.mjd, *place)

    def located(self, judged: Judged, lost: FrameRejected | None) -> Step[Located]:
        """Return where the frame points by what the catalog says of a pointing.

        Parameters
        ----------
        judged : Judged
        lost : FrameRejected or None
            Why the header does not say it, or a search of the stars did not find it.
        """
        check = judged.check
        columns: FrameRow = {
            "wcs_expected": check.n_expected,
            "wcs_matched": check.n_matched,
            "wcs_offset_arcsec": check.offset_arcsec,
        }
        columns = judged.columns | columns | judged.found_columns | pointing_row(judged.pointing)
        columns["flags"] = FrameFlag(0) if check.decisive else FrameFlag.WCS_UNCHECKED
        part = RowPart(columns, corrections=judged.corrections)
        if not check.passed:
            return Step(Located(judged.pointing, _refusal(judged, lost)), part)
        match_px = judged.radius_arcsec / judged.pointing.pixel_scale_arcsec
        reach, found = self.camera.apertures.total_radius_px, self.measured
        crowding = catalog_crowding(
            judged.pointing, found.x, found.y, judged.stars, match_px, reach, 0.25 * reach
        )
        return Step(Located(judged.pointing, None, crowding, judged.stars, judged.found), part)


def _refusal(judged: Judged, lost: FrameRejected | None) -> FrameRejected | None:
    """Return why a frame whose stars are not where its WCS puts them is refused; None if it is not."""
    if not judged.wrong:
        return None
    check = judged.check
    found = f"{check.n_matched} of the {check.n_expected} brightest catalog stars are where the WCS puts them"
    said = f"only {found}" if check.confirmed else f"{found}, no more than by chance"
    if lost is None:
        return FrameRejected(Reason.BAD_WCS, f"{said}; {ASK_STARS}")
    return FrameRejected(Reason.BAD_WCS, f"{said}; {lost}", lost.corrections)

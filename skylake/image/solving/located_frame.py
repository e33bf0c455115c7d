"""Where a frame points, what the catalog says of that, and the columns of ``frames`` that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from skylake.cameras import HeaderReading
from skylake.core.camera import Camera
from skylake.core.ephemeris import airmass, alt_az, sun_and_moon
from skylake.core.frame_row import FrameRow
from skylake.core.reasons import Reason
from skylake.core.sphere import ra_dec, separation_deg
from skylake.errors import Corrections, FrameRejected
from skylake.image.quality.cloud_cover import Found
from skylake.image.quality.frame_verdicts import is_cloudy
from skylake.image.solving.refined_wcs import RefinedPointing
from skylake.image.solving.wcs_check import WcsCheck
from skylake.image.wcs.header_wcs import Pointing, Stars
from skylake.image.wcs.lens_text import lens_text

Floats = npt.NDArray[np.float64]


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
    stars : Stars
        Around the field.
    check : WcsCheck
    found : Found
    radius_arcsec : float
        Within which a source is a star.
    columns : FrameRow
        How it was found, as columns of ``frames``.
    corrections : mapping
        Keys of the profile that the message in `columns` wants to have other values, and these values.
    """

    pointing: Pointing
    stars: Stars
    check: WcsCheck
    found: Found
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
    stars : Stars or None
        Catalog stars, if it does.
    found : Found or None
        Which of the stars that a clear frame shows are there, if it does.
    """

    pointing: Pointing | None
    lost: FrameRejected | None = None
    crowding: Floats | None = None
    stars: Stars | None = None
    found: Found | None = None


def require_right(located: Located, row: FrameRow, camera: Camera) -> Pointing:
    """Return where a frame points; raise if that is not known, or if its stars are not there.

    Raises
    ------
    FrameRejected
        ``cloudy`` if clouds explain it; else ``no_wcs`` or ``bad_wcs``.
    """
    if located.lost is not None:
        if located.pointing is not None and is_cloudy(row, camera):
            raise FrameRejected(Reason.CLOUDY, str(row["message"]))
        raise located.lost
    if located.pointing is None:
        raise FrameRejected(Reason.NO_WCS, "the frame has no WCS")
    return located.pointing


def pointing_row(pointing: Pointing) -> FrameRow:
    """Return the columns of ``frames`` that a pointing fills, besides where it came from."""
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

"""Astrometry settings of a camera profile: the section ``[astrometry]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Astrometry:
    """How it is found out where frames point. Nothing here needs to be known."""

    all_sky: bool = False
    """Whether the camera stands still and sees the whole sky: site and time then give where its frames point, once its
    geometry is known, and its first frames give that."""
    all_sky_mag: float = 8.5
    """Fainter stars of the catalog are looked for neither where such frames are placed nor where they are calibrated:
    pixels of such cameras are so large that they are lost among each other."""
    solve: bool = True
    """Whether a frame is solved by the patterns of its stars if its header has no usable WCS, or a wrong one."""
    refine: Literal["never", "needed", "always"] = "needed"
    """Whether a lens is fitted to the stars of a frame whose header is right: 'needed' does so where stars lie
    farther than refine_above_px from where the header puts them. Frames that were solved are always refined."""
    refine_above_px: float = 0.5
    """Median distance of bright stars from where the header puts them."""
    refraction: bool = True
    """Whether what differs in refraction over the image is taken off the stars before a lens is fitted; needs the
    site."""
    ra: tuple[str, ...] = ()
    dec: tuple[str, ...] = ()
    """Cards of the direction of the telescope, in order of preference: degrees, or text such as 05:35:17.3, whose
    right ascension is in hours. They only say where to look first."""
    equinox: Literal["cards", "icrs", "J2000", "B1950", "date"] = "cards"
    """What these cards refer to: ICRS, a mean equator and equinox, or those of the date of the frame. 'cards' takes
    RADESYS or RADECSYS and EQUINOX or EPOCH of the header, and ICRS where they say nothing."""
    radius_deg: float = 5.0
    """How far from there a frame may point."""
    rotation: tuple[str, ...] = ()
    """Cards of the rotation of the focal plane, in order of preference. With the direction of the telescope they give
    where each detector points; stars are looked for there before anywhere else."""
    rotation_unit: Literal["deg", "arcmin", "arcsec", "rad", "hour"] = "deg"
    rotation_sign: Literal[1, -1] = 1
    """-1 where the cards count from north to west, or give how the instrument turns against the sky."""
    rotation_zero_deg: float = 0.0
    """Position angle of the focal plane's y axis, east of north, where the cards say 0."""
    rotation_deg: float | None = None
    """The position angle itself, in place of what cards say."""
    pointing_arcsec: float = 120.0
    """How well the telescope points: stars are looked for so far from where its cards put them."""
    rotation_error_deg: float = 1.0
    """How far off the rotation may be."""
    mirrored: bool | None = None
    """Whether east is to the right where north is up; None tries both."""
    seconds: float = 1.5
    """Time of the processor after which a frame is given up."""
    neighbours: Literal["never", "solved", "all"] = "solved"
    """Which frames before and after give the pointing of a frame that has none of its own: those with a lens of their
    own, or those too whose header is right."""
    interpolated_targets: float = 0.1
    """Targets are measured on a frame that was placed by interpolation where the error of its places is at most this
    share of the radius of the aperture of calibrations."""

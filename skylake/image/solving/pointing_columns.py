"""Columns of ``frames`` that tell where a frame points, and how well its stars agree."""

from __future__ import annotations

from typing import Any

from skylake.cameras import HeaderReading
from skylake.core.ephemeris import airmass, alt_az, sun_and_moon
from skylake.core.sphere import ra_dec, separation_deg
from skylake.image.solving.refined_wcs import RefinedPointing
from skylake.image.wcs.header_wcs import Pointing
from skylake.image.wcs.lens_text import lens_text


def pointing_row(pointing: Pointing) -> dict[str, Any]:
    """Return the columns of ``frames`` that a pointing fills, besides where it came from."""
    return {
        "ra_deg": pointing.ra_deg,
        "dec_deg": pointing.dec_deg,
        "pixel_scale_arcsec": pointing.pixel_scale_arcsec,
        "rotation_deg": pointing.rotation_deg,
        "mirrored": pointing.mirrored,
        "s_region": pointing.s_region,
    }


def refined_row(refined: RefinedPointing, shape: tuple[int, int], refraction: str) -> dict[str, Any]:
    """Return what a refinement tells as columns of ``frames``; `refraction` is the word for whether it was heeded."""
    return refined.numbers(shape) | {"wcs_lens": lens_text(refined.lens), "astrom_refraction": refraction}


def sky_row(reading: HeaderReading, pointing: Pointing | None) -> dict[str, Any]:
    """Return where Sun, Moon and the frame stand above the horizon of the site."""
    assert reading.mjd_mid is not None
    site = reading.camera.site
    state = sun_and_moon(reading.mjd_mid, site)
    row: dict[str, Any] = {"moon_phase": float(state.moon_phase)}
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
            row.update(
                altitude_deg=float(altitude), azimuth_deg=float(azimuth), airmass=float(airmass(altitude))
            )
    return row

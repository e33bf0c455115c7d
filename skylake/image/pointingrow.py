"""Columns of ``frames`` that tell where a frame points, and how well its stars agree."""

from __future__ import annotations

from typing import Any

from skylake.image.astrometry import Pointing
from skylake.image.lenstext import lens_text
from skylake.image.refined import RefinedPointing


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

"""A frame that its neighbours place: the columns of its row, and its pointing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skylake.core.flags import FrameFlag
from skylake.core.frame_row import FrameRow
from skylake.core.sphere import ARCSEC_PER_RADIAN, unit_vectors
from skylake.image.distortion.camera_motion import InterpolatedLens
from skylake.image.solving.few_star_pointing import FewStars, place_by_few_stars
from skylake.image.solving.neighbour_frames import Prior
from skylake.image.wcs.header_wcs import CatalogStars, Pointing, describe_pointing
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import lens_text
from skylake.image.wcs.sip import to_sip
from skylake.image.wcs.star_matching import Sources

#: What wcs_source says of such frames.
NEIGHBOURS, INTERPOLATED = "neighbours", "interpolated"


def pointing_of_lens(lens: Lens, shape: tuple[int, int]) -> Pointing:
    """Return the pointing of an image of some height and width that a lens makes."""
    from astropy.wcs import WCS

    return replace(describe_pointing(WCS(to_sip(lens, shape).header), *shape), lens=lens)


def few_stars(
    prior: Prior, number: int, stars: CatalogStars, sources: Sources, shape: tuple[int, int]
) -> FewStars | None:
    """Look for the stars of a frame where one of the hints of its neighbours puts them.

    Parameters
    ----------
    prior : Prior
    number : int
        Which of its hints.
    stars : CatalogStars
        Catalog stars around the field.
    sources : Sources
    shape : tuple of int
        Height and width of the image.
    """
    lens, radius = prior.hints[number]
    err = None if prior.between is None else prior.between.err_px
    vectors = unit_vectors(stars.ra_deg, stars.dec_deg).reshape(-1, 3)
    return place_by_few_stars(lens, vectors, np.asarray(stars.mag, float), sources, shape, radius, err)


def few_stars_row(found: FewStars) -> FrameRow:
    """Return the columns of ``frames`` of a frame that few stars placed."""
    return {
        "wcs_source": NEIGHBOURS,
        "wcs_err_px": found.err_px,
        "wcs_lens": lens_text(found.lens),
        "astrom_n": len(found.pairs.x),
        "astrom_rms_px": found.rms_px,
        "astrom_rms_arcsec": found.rms_px * ARCSEC_PER_RADIAN / found.lens.focal_px,
        "astrom_parameters": 3,
    }


def interpolated_row(between: InterpolatedLens) -> FrameRow:
    """Return the columns of ``frames`` that say that the place of a frame is an interpolation."""
    return {
        "wcs_source": INTERPOLATED,
        "wcs_err_px": between.err_px,
        "wcs_lens": lens_text(between.lens),
        "flags": FrameFlag.WCS_INTERPOLATED,
    }

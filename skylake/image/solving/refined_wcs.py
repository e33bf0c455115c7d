"""A pointing made better: from a WCS that is roughly right to a lens fitted to the stars, and a WCS of that."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import unit_vectors
from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.distortion.distortion_model import Distortion
from skylake.image.wcs.field_refraction import Bending
from skylake.image.wcs.header_wcs import CatalogStars, Pointing, describe_pointing
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.refine_lens import Refinement, lens_of, refine
from skylake.image.wcs.sip import SipHeader, to_sip
from skylake.image.wcs.star_matching import Sources, on_image

Floats = npt.NDArray[np.float64]

#: With fewer stars a lens proves nothing.
_LEAST_STARS = 6
#: Matches are so many times more than chance would give.
_ABOVE_CHANCE = 3.0
#: Sources in the neighbourhood of a place from which their density there is taken, on the mean.
_NEIGHBOURS = 8.0


@dataclass(frozen=True, slots=True)
class RefinedPointing:
    """A pointing by the stars of the frame itself.

    Attributes
    ----------
    pointing : Pointing
    refinement : Refinement
        The lens, its stars and how well they fit.
        The lens leads from where stars appear to pixels, if refraction is known.
    written : SipHeader
        The WCS as cards, and how well it represents the lens.
    lens : Lens
        From the ICRS to pixels.
    """

    pointing: Pointing
    refinement: Refinement
    written: SipHeader
    lens: Lens

    def numbers(self, shape: tuple[int, int]) -> dict[str, Any]:
        """Return what is worth keeping of a frame, as columns of ``frames``; NaN is None."""
        found = self.refinement
        figures: dict[str, float] = {
            "astrom_rms_px": found.rms_px,
            "astrom_rms_arcsec": found.rms_arcsec,
            "astrom_held_out_px": found.held_out_px,
            "astrom_completeness": found.completeness,
            "astrom_wcs_px": self.written.residual_px,
            "wcs_err_px": found.err_px,
            **found.rings(shape),
        }
        return {
            **{name: value if math.isfinite(value) else None for name, value in figures.items()},
            "astrom_n": len(found.stars),
            "astrom_parameters": len(found.fit.freed),
            "astrom_field": found.residual_field(shape).text(),
        }


def refine_pointing(
    pointing: Pointing,
    stars: CatalogStars,
    sources: Sources,
    shape: tuple[int, int],
    radius_px: float = 20.0,
    distortion: Distortion | None = None,
    bending: Bending | None = None,
) -> RefinedPointing | None:
    """Fit a lens to the catalog stars of a frame, and make its WCS.

    Parameters
    ----------
    pointing : Pointing
        Right to `radius_px`.
    stars : CatalogStars
        At the epoch of the frame.
    sources : Sources
    shape : tuple of int
        Height and width of the image.
    radius_px : float
    distortion : Distortion, optional
        That of the camera, if it was learned: then only attitude, focal length and, where stars require it, the
        stretch are fitted.
    bending : Bending, optional
        Refraction over the field, taken off the stars before the lens is fitted.

    Returns
    -------
    RefinedPointing or None
        None if no more stars match than by chance.
    """
    from astropy.wcs import WCS

    def to_sky(x: Floats, y: Floats) -> Floats:
        there = unit_vectors(*pointing.to_sky(x, y))
        return there if bending is None else bending.apparent(there)

    start = lens_of(to_sky, shape)
    if start is None:
        return None
    vectors = unit_vectors(stars.ra_deg, stars.dec_deg)
    if bending is not None:
        vectors = bending.apparent(vectors)
    found = _refinement(start, vectors, stars.mag, sources, shape, radius_px, distortion)
    if found is None or not _is_above_chance(found, vectors, sources, shape):
        return None
    lens = replace(found.lens, bending=bending)
    written = to_sip(lens, shape)
    return RefinedPointing(describe_pointing(WCS(written.header), *shape), found, written, lens)


def refine_known(
    pointing: Pointing,
    stars: CatalogStars,
    sources: Sources,
    shape: tuple[int, int],
    radius_px: float = 20.0,
    epoch: Epoch | None = None,
    bending: Bending | None = None,
) -> tuple[RefinedPointing | None, Epoch | None]:
    """Fit a lens with the distortion that a camera has, unless the stars of the frame contradict it.

    Parameters
    ----------
    pointing, stars, sources, shape, radius_px, bending
        As for :func:`refine_pointing`.
    epoch : Epoch or None
        The learned distortion of the camera, if any.

    Returns
    -------
    refined : RefinedPointing or None
        None if no more stars match than by chance.
    epoch : Epoch or None
        That of the lens; None for a lens that was fitted to the stars of the frame alone.
    """
    if epoch is not None and epoch.fits(shape, pointing.mirrored):
        held = refine_pointing(pointing, stars, sources, shape, radius_px, epoch.distortion, bending)
        if held is not None and not epoch.contradicted(held.refinement):
            return held, epoch
    return refine_pointing(pointing, stars, sources, shape, radius_px, bending=bending), None


def _refinement(
    start: Lens,
    vectors: Floats,
    mag: Floats,
    sources: Sources,
    shape: tuple[int, int],
    radius_px: float,
    distortion: Distortion | None,
) -> Refinement | None:
    if distortion is None:
        return refine(start, vectors, mag, sources, shape, radius_px)
    applied, known = distortion.applied(start), distortion.expected_with_errors(shape)
    return refine(applied, vectors, mag, sources, shape, radius_px, known, ["stretch"])


def _is_above_chance(found: Refinement, vectors: Floats, sources: Sources, shape: tuple[int, int]) -> bool:
    by_chance = _by_chance(found, vectors, sources, shape)
    return len(found.stars) >= max(_LEAST_STARS, _ABOVE_CHANCE * by_chance)


def _by_chance(found: Refinement, vectors: Floats, sources: Sources, shape: tuple[int, int]) -> float:
    """Return how many stars would have a source within the radius by chance.

    Sources are taken to lie anywhere, but as densely as they do around each star, whose own is left out: clumps of
    stars on clumps of something else have many neighbours.
    """
    from scipy.spatial import cKDTree

    x, y = found.lens.to_pixels(vectors)
    shown = on_image(x, y, shape)
    n_stars, n_sources = int(np.count_nonzero(shown)), len(sources.x)
    if min(n_stars, n_sources) == 0:
        return 0.0
    usual = n_sources / (shape[0] * shape[1])
    reach = max(math.sqrt(_NEIGHBOURS / (math.pi * usual)), 3.0 * found.radius_px)
    places = cKDTree(np.column_stack([sources.x, sources.y]))
    stars = np.column_stack([x[shown], y[shown]])
    near = places.query_ball_point(stars, reach, return_length=True)
    near = near - places.query_ball_point(stars, found.radius_px, return_length=True)
    density = np.maximum(near / (math.pi * (reach**2 - found.radius_px**2)), usual)
    return min(n_stars, n_sources) * float(np.mean(-np.expm1(-density * math.pi * found.radius_px**2)))

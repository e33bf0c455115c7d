"""From where a frame should point to where its stars are: shift, turn, and a lens fitted to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from skylake.core.attitudes import attitude_of
from skylake.core.frame_row import FrameRow
from skylake.core.sphere import ARCSEC_PER_RADIAN, ra_dec, unit_vectors
from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.solving.expected_pointing import Seed, frame_matrix
from skylake.image.solving.pointing_offset import find_shift
from skylake.image.solving.refined_wcs import RefinedPointing, refine_known
from skylake.image.wcs.field_refraction import Bending
from skylake.image.wcs.header_wcs import Pointing, StarFinder, describe_pointing
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.sip import to_sip
from skylake.image.wcs.star_matching import Sources

#: A lens is fitted from so near.
_NEAR_PX = 20.0


@dataclass(frozen=True, slots=True)
class Sought:
    """A pointing by a seed, the fit to its stars, None if they are too few, and the distortion that was held in it."""

    pointing: Pointing
    refined: RefinedPointing | None
    geometry: str | None = None


def seek(
    seed: Seed,
    find_stars: StarFinder,
    sources: Sources,
    shape: tuple[int, int],
    mjd: float,
    epoch: Epoch | None = None,
    bend: Callable[[Pointing], Bending | None] = lambda _: None,
) -> Sought | None:
    """Look for the stars of a frame near where it should point, and fit a lens to them.

    Parameters
    ----------
    seed : Seed
    find_stars : callable
    sources : Sources
    shape : tuple of int
        Height and width of the image.
    mjd : float
        Epoch of the stars.
    epoch : Epoch or None
        The learned distortion of the camera.
    bend : callable, optional
        Returns the refraction over a field.

    Returns
    -------
    Sought or None
        None if the stars are not found, unless the pointing is trusted without them.
    """
    half_px = 0.5 * math.hypot(*shape)
    x, y = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
    ra, dec = ra_dec(seed.lens.to_vectors(x, y))
    reach = math.degrees((half_px + seed.radius_px) / seed.lens.focal_px)
    stars = find_stars(float(ra), float(dec), min(1.05 * reach, 180.0), mjd)
    vectors = unit_vectors(stars.ra_deg, stars.dec_deg)
    lens = seed.lens
    if max(seed.radius_px, math.radians(seed.turn_deg) * half_px) > _NEAR_PX:
        moved = find_shift(lens, vectors, stars.mag, sources, shape, seed.radius_px, seed.turn_deg)
        if moved is None:
            return None
        lens = moved[0]
    rough = pointing_of(lens, shape)
    refined, known = refine_known(rough, stars, sources, shape, _NEAR_PX, epoch, bend(rough))
    if refined is not None:
        found = replace(refined.pointing, lens=refined.lens)
        return Sought(found, refined, None if known is None else known.name)
    return Sought(rough, None) if seed.trusted else None


def pointing_of(lens: Lens, shape: tuple[int, int]) -> Pointing:
    """Return the pointing of an image by its lens."""
    from astropy.wcs import WCS

    return replace(describe_pointing(WCS(to_sip(lens, shape).header), *shape), lens=lens)


def telescope_row(pointing: Pointing, right: bool, seeds: Sequence[Seed], shape: tuple[int, int]) -> FrameRow:
    """Return how far a frame is from where the cards of the telescope put it: columns of ``frames``."""
    expected = next((seed.lens for seed in seeds if not seed.trusted), None)
    if expected is None or not right:
        return {}
    found = attitude_of(pointing.ra_deg, pointing.dec_deg, pointing.rotation_deg)
    wanted = frame_matrix(expected, shape)
    apart = 2.0 * math.asin(min(0.5 * float(np.linalg.norm(found[2] - wanted[2])), 1.0))
    # The turn about the axis, whatever the tilt between them: the twist of the rotation.
    turn = found @ wanted.T
    return {
        "telescope_offset_arcsec": apart * ARCSEC_PER_RADIAN,
        "telescope_rotation_deg": math.degrees(math.atan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])),
    }

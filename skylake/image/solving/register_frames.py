"""Frames that no star catalog places: a rough lens from the cards of the telescope, and registration to one another.

Registration compares the brightest sources of two frames of one camera. The scale is known, so two pairs of sources
that are equally far apart give a rotation and a shift. Each is judged by how many other sources then agree; the odds
against chance, divided by the number of guesses, must be overwhelming, as when a frame is solved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera
from skylake.core.frame_row import FrameRow
from skylake.core.rotations import rotation_vector
from skylake.core.sphere import ARCSEC_PER_RADIAN, tangent_basis, unit_vectors
from skylake.image.solving.pointing_hints import hinted_centre
from skylake.image.solving.unsolved_reasons import WIDEST_DEG
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import lens_text

Floats = npt.NDArray[np.float64]

#: What wcs_source says of a frame at the place of its cards, and of one that was registered to such a frame.
CARDS, REGISTERED = "cards", "registered"
#: What messages of such frames say.
KEPT_BY_CARDS = (
    "its sources are kept about where the telescope cards put the frame, for relative photometry only"
)
KEPT_REGISTERED = "its sources are kept on the places of those of frame {}, for relative photometry only"
#: The brightest sources of each frame that make pairs: a few first, since most frames of a field hardly differ.
_LEADING = (10, 25)
#: Sources that confirm a guess, at most.
_MOST_SOURCES = 150
#: Pairs are equally long, and sources at one place, within so many pixels.
_SAME_PX = 2.0
#: A pair gives a rotation if it is as long as this share of the shorter side.
_SHORTEST_PAIR = 0.1
#: Natural logarithm of the odds against chance that a registration needs.
_LEAST_LOG_ODDS = 12.0
#: Guesses that are judged together, which bounds the memory.
_BLOCK = 500
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Registration:
    """How a frame lies on another one.

    Attributes
    ----------
    lens : Lens
        Of the frame, on the sky of the other.
    n_matched : int
        Sources that both frames have.
    rms_px : float
        Root mean square distance of these, both coordinates together.
    log_odds : float
        Natural logarithm of the odds against chance.
    """

    lens: Lens
    n_matched: int
    rms_px: float
    log_odds: float

    @property
    def columns(self) -> FrameRow:
        """Columns of ``frames``."""
        return {
            "wcs_source": REGISTERED,
            "wcs_lens": lens_text(self.lens),
            "wcs_log_odds": self.log_odds,
            "astrom_n": self.n_matched,
            "astrom_rms_px": self.rms_px,
            "astrom_rms_arcsec": self.rms_px * ARCSEC_PER_RADIAN / self.lens.focal_px,
            "astrom_parameters": 3,
        }


def lens_of_cards(
    header: Any, camera: Camera, shape: tuple[int, int], raw_step: int, mjd: float
) -> Lens | None:
    """Return the lens of a frame as its telescope cards and its profile have it, north up where nothing is known.

    Parameters
    ----------
    header : astropy.io.fits.Header
    camera : Camera
    shape : tuple of int
        Height and width of the image.
    raw_step : int
        Raw pixels from one pixel to the next.
    mjd : float
        Of the exposure, UTC.

    Returns
    -------
    Lens or None
        None without cards or without the scale of the camera, and for images too wide for a plane.
    """
    centre, scale = hinted_centre(header, camera, mjd), camera.optics.pixel_scale_arcsec
    if centre is None or scale is None or scale * raw_step * max(shape) / 3600.0 > WIDEST_DEG:
        return None
    angle = math.radians(camera.astrometry.rotation_deg or 0.0)
    axis = unit_vectors(*centre)
    east, north = tangent_basis(*centre)
    return Lens.aimed(
        axis,
        math.cos(angle) * north + math.sin(angle) * east,
        ARCSEC_PER_RADIAN / (scale * raw_step),
        (0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)),
        mirrored=bool(camera.astrometry.mirrored),
    )


def cards_row(lens: Lens, camera: Camera) -> FrameRow:
    """Return the columns of ``frames`` of a frame that is kept at the place of its cards."""
    err_px = camera.astrometry.radius_deg * 3600.0 * lens.focal_px / ARCSEC_PER_RADIAN
    return {"wcs_source": CARDS, "wcs_lens": lens_text(lens), "wcs_err_px": err_px}


def register_frame(lens: Lens, base: Floats, sources: Floats, shape: tuple[int, int]) -> Registration | None:
    """Find how a frame lies on another frame of the same camera and field.

    Parameters
    ----------
    lens : Lens
        Of the other frame.
    base, sources : ndarray, shape (n, 2)
        Sources of the other frame and of this one, 0-based pixels, the brightest first.
    shape : tuple of int
        Height and width of the images.

    Returns
    -------
    Registration or None
        None if too few sources agree to rule out chance.
    """
    base, sources = base[:_MOST_SOURCES], sources[:_MOST_SOURCES]
    n_guesses = 0
    for n in _LEADING:
        turns, shifts = _guesses(base[:n], sources[:n], shape)
        n_guesses += len(turns)
        best = _most_confirmed(turns, shifts, base, sources)
        if best is not None:
            moved = base @ best[0].T + best[1]
            found = _refined(lens, base, sources, moved, shape, n_guesses)
            if found is not None:
                return found
        if n >= max(len(base), len(sources)):
            break
    return None


def _guesses(base: Floats, sources: Floats, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return rotations, shape (n, 2, 2), and shifts, shape (n, 2), that bring pairs of one frame onto the other."""
    shortest = _SHORTEST_PAIR * min(shape)
    first, second = (_pairs(places, shortest) for places in (base, sources))
    order = np.argsort(second.length, kind="stable")
    length = second.length[order]
    low, high = (np.searchsorted(length, first.length + step) for step in (-_SAME_PX, _SAME_PX))
    number = np.repeat(np.arange(len(low)), high - low)
    of_run = np.arange(len(number)) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
    other = order[low[number] + of_run]
    # Either end of one pair may be either end of the other.
    angle = second.angle[other] - first.angle[number]
    angle = np.concatenate([angle, angle + math.pi])
    number, other = np.tile(number, 2), np.tile(other, 2)
    cosine, sine = np.cos(angle), np.sin(angle)
    turns = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], axis=1)
    shifts = second.middle[other] - np.einsum("nij,nj->ni", turns, first.middle[number])
    return turns, shifts


@dataclass(frozen=True, slots=True)
class _Pairs:
    length: Floats
    angle: Floats
    middle: Floats


def _pairs(places: Floats, shortest: float) -> _Pairs:
    first, second = np.triu_indices(len(places), 1)
    along = places[second] - places[first]
    length = np.hypot(*along.T)
    long = length >= shortest
    along, middle = along[long], 0.5 * (places[first] + places[second])[long]
    return _Pairs(length[long], np.arctan2(along[:, 1], along[:, 0]), middle)


def _most_confirmed(
    turns: Floats, shifts: Floats, base: Floats, sources: Floats
) -> tuple[Floats, Floats] | None:
    """Return the rotation and shift that bring the most sources of one frame onto sources of the other."""
    from scipy.spatial import cKDTree

    # Without sources there are no guesses either.
    tree = cKDTree(sources)
    best, most = None, 2
    for start in range(0, len(turns), _BLOCK):
        some = slice(start, start + _BLOCK)
        moved = np.einsum("nij,mj->nmi", turns[some], base) + shifts[some, None]
        distance, _ = tree.query(moved, distance_upper_bound=_SAME_PX)
        count = np.isfinite(distance).sum(axis=1)
        place = int(np.argmax(count))
        if count[place] > most:
            best, most = (turns[some][place], shifts[some][place]), int(count[place])
    return best


def _refined(
    lens: Lens, base: Floats, sources: Floats, moved: Floats, shape: tuple[int, int], n_guesses: int
) -> Registration | None:
    """Turn the lens so that the sources of the other frame, which lie at `moved`, are where those of the frame are."""
    sky = lens.to_vectors(*base.T)
    level = replace(lens, rotation=(0.0, 0.0, 0.0), bending=None)
    found: tuple[Lens, npt.NDArray[np.intp], npt.NDArray[np.intp]] | None = None
    for _ in range(_ROUNDS):
        one, two = _mutual(moved, sources)
        if len(one) < 3:
            return None
        turned = replace(lens, rotation=_rotation(sky[one], level.to_vectors(*sources[two].T)))
        moved = np.stack(turned.to_pixels(sky), axis=1)
        found = turned, one, two
    assert found is not None
    one, two = _mutual(moved, sources)
    odds = _log_odds(moved, len(one), len(sources), shape, n_guesses)
    if odds < _LEAST_LOG_ODDS:
        return None
    rms = math.sqrt(float(np.mean(np.sum((moved[one] - sources[two]) ** 2, axis=1))))
    return Registration(found[0], len(one), rms, odds)


def _mutual(moved: Floats, sources: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return places in both lists of sources that are each other's nearest, and near."""
    from scipy.spatial import cKDTree

    there = np.where(np.isfinite(moved), moved, -1e6)
    distance, nearest = cKDTree(sources).query(there)
    _, back = cKDTree(there).query(sources)
    one = np.flatnonzero((distance <= _SAME_PX) & (back[nearest] == np.arange(len(there))))
    return one, np.asarray(nearest[one], np.intp)


def _rotation(sky: Floats, camera: Floats) -> tuple[float, float, float]:
    """Return the rotation from directions of the sky to those of a camera (Kabsch 1976, Acta Cryst. A32, 922)."""
    left, _, right = np.linalg.svd(camera.T @ sky)
    sign = np.sign(np.linalg.det(left @ right))
    return rotation_vector(left @ np.diag([1.0, 1.0, sign]) @ right)


def _log_odds(moved: Floats, n_matched: int, n_sources: int, shape: tuple[int, int], n_guesses: int) -> float:
    """Return the odds against so many agreements by chance: those of a binomial distribution, over all guesses."""
    from scipy.special import betainc

    height, width = shape
    inside = ((moved > -0.5) & (moved < np.array([width, height]) - 0.5)).all(axis=1)
    # Two sources are there because the guess was made of them.
    further, places = n_matched - 2, max(int(inside.sum()), n_matched) - 2
    if further < 1:
        return -math.inf
    chance = min(n_sources * math.pi * _SAME_PX**2 / (height * width), 0.5)
    tail = max(float(betainc(further, places - further + 1, chance)), 1e-300)
    return -math.log(tail) - math.log(n_guesses)

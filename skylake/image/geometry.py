"""The geometry of a camera that stands still, over the time in which nobody touched it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.cameras.clock import iso_of_mjd
from skylake.core.sphere import ARCSEC_PER_RADIAN
from skylake.image.allsky import SkyStars
from skylake.image.allsky_fit import fit
from skylake.image.allsky_refine import TURNS, Detected, Refined, refine
from skylake.image.lens import Lens

Floats = npt.NDArray[np.float64]

#: Directions above this altitude tell whether a camera was moved, and how many there are.
_JUDGED_DEG, _DIRECTIONS = 15.0, 400
#: A geometry that is off by more is another one, pixels (root mean square).
CHANGED_PX = 0.3


@dataclass(frozen=True, slots=True)
class Geometry:
    """A lens of horizontal directions, and when it was so.

    Attributes
    ----------
    lens : Lens
    shape : tuple of int
        Height and width of the image.
    first_mjd, last_mjd : float
        Middle of the first and last frame that showed it, UTC.
    n_frames, n_stars : int
        What it was fitted to; a star counts once for each frame.
    rms_px, held_out_px : float
        Root mean square distance of stars in the fit, and of those held out of it.
    """

    lens: Lens
    shape: tuple[int, int]
    first_mjd: float
    last_mjd: float
    n_frames: int
    n_stars: int
    rms_px: float
    held_out_px: float

    @property
    def name(self) -> str:
        """Its first day and a checksum: what a frame names that was placed with it."""
        numbers = [f"{value:.9e}" for value in self.lens.parameters()]
        content = " ".join([self.lens.projection, str(self.lens.mirrored), *map(str, self.shape), *numbers])
        return f"{iso_of_mjd(self.first_mjd)[:10]}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def distance_px(self, lens: Lens) -> float:
        """Return how far another lens shows the sky from where this one does, root mean square over the image."""
        directions = _directions()
        here, there = np.array(self.lens.to_pixels(directions)), np.array(lens.to_pixels(directions))
        height, width = self.shape
        inside = (here[0] > -0.5) & (here[0] < width - 0.5) & (here[1] > -0.5) & (here[1] < height - 0.5)
        off = np.hypot(*(there - here)[:, inside])
        return float(np.sqrt(np.mean(off**2))) if np.isfinite(off).all() else float("inf")


@dataclass(frozen=True, slots=True)
class Night:
    """The geometry of the frames of a night, and how each of them was turned against it.

    Attributes
    ----------
    geometry : Geometry
    turns_arcsec : ndarray, shape (n, 3)
        About the image's x and y axes and the optical axis, for each frame; a clock that is wrong, wind, or a mount
        that gives way.
    frames : tuple of Refined
    """

    geometry: Geometry
    turns_arcsec: Floats
    frames: tuple[Refined, ...]


def _directions() -> Floats:
    """Return directions all over the sky above some altitude, evenly (Fibonacci's spiral)."""
    low = np.sin(np.radians(_JUDGED_DEG))
    number = np.arange(_DIRECTIONS) + 0.5
    up = 1.0 - (1.0 - low) * number / _DIRECTIONS
    angle = np.pi * (1.0 + 5.0**0.5) * number
    across = np.sqrt(1.0 - up * up)
    return np.stack([across * np.cos(angle), across * np.sin(angle), up], axis=1)


def night_geometry(
    lens: Lens,
    frames: Sequence[tuple[float, Detected, SkyStars]],
    shape: tuple[int, int],
    fwhm_px: float,
) -> Night | None:
    """Fit one lens to the stars of all frames of a night; None if hardly any star is found.

    Parameters
    ----------
    lens : Lens
        Right to some pixels, such as that of one of the frames.
    frames : sequence of (float, Detected, SkyStars)
        Middle of the exposure (MJD, UTC), what the frame shows, and the stars above the horizon then.
    shape : tuple of int
    fwhm_px : float
    """
    refined = refine(lens, [(seen, stars) for _, seen, stars in frames], shape, fwhm_px)
    if refined is None:
        return None
    times = [mjd for mjd, _, _ in frames]
    squares = np.concatenate([np.sum(one.residuals**2, axis=1) for one in refined])
    geometry = Geometry(
        refined[0].lens,
        shape,
        min(times),
        max(times),
        len(refined),
        len(squares),
        float(np.sqrt(np.mean(squares))),
        refined[0].held_out_px,
    )
    turns = [_turn(one, seen) for one, (_, seen, _) in zip(refined, frames, strict=True)]
    return Night(geometry, np.array(turns), tuple(refined))


def _turn(refined: Refined, seen: Detected) -> Floats:
    """Return how a frame is turned against the geometry, arcsec about its axes; NaN with too few stars."""
    pairs = refined.pairs
    if len(pairs.star) < 5:
        return np.full(3, np.nan)
    own = fit(
        refined.lens,
        refined.stars.directions[pairs.star],
        seen.places[pairs.detection],
        TURNS,
        errors=seen.errors[pairs.detection],
    )
    matrix = own.matrix @ refined.lens.matrix.T
    turn = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    return np.asarray(0.5 * turn * ARCSEC_PER_RADIAN)


def recorded(epochs: Sequence[Geometry], new: Geometry) -> tuple[Geometry, ...]:
    """Return the epochs of a camera with a new geometry among them, in order of time.

    It belongs to the epoch before or after it if that shows the sky where it does; then the one with more stars stands
    for both. Else an epoch of its own begins.
    """
    ordered = sorted(epochs, key=lambda one: one.first_mjd)
    before = [n for n, one in enumerate(ordered) if one.first_mjd <= new.last_mjd]
    after = [n for n, one in enumerate(ordered) if one.first_mjd > new.last_mjd]
    for n in (*before[-1:], *after[:1]):
        old = ordered[n]
        if old.shape == new.shape and old.distance_px(new.lens) <= CHANGED_PX:
            better = max(old, new, key=lambda one: one.n_stars)
            ordered[n] = replace(
                better, first_mjd=min(old.first_mjd, new.first_mjd), last_mjd=max(old.last_mjd, new.last_mjd)
            )
            return tuple(ordered)
    return tuple(sorted([*ordered, new], key=lambda one: one.first_mjd))


def in_force(epochs: Sequence[Geometry], mjd: float) -> Geometry | None:
    """Return the geometry of an instant: of the epoch that holds it, else of the nearest one; None without any."""
    if not epochs:
        return None
    return min(epochs, key=lambda one: max(one.first_mjd - mjd, mjd - one.last_mjd, 0.0))
